//! The operations a forward pass is made of, in the fastest form the device has.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::lora::Pair;

pub(crate) use crate::model::plain::{attention, cross_entropy_sum, rms_norm, swiglu};

/// Token ids on `device`.
pub(crate) fn int_tensor(ids: &[i32], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(ids.to_vec(), [ids.len()]), device)
}

/// `x W^T`, plus `scale (x A^T) B^T` where there is a pair.
///
/// # Shapes
/// `x` `[rows, inputs]`, `weight` `[outputs, inputs]`, output `[rows, outputs]`.
pub(crate) fn linear(x: Tensor<2>, weight: Tensor<2>, pair: Option<&Pair>) -> Tensor<2> {
    let Some(pair) = pair else {
        return x.matmul(weight.transpose());
    };
    // Scaling the narrow product is cheaper than scaling the wide one.
    let narrow = x.clone().matmul(pair.a.clone().transpose()) * pair.scale;
    x.matmul(weight.transpose()) + narrow.matmul(pair.b.clone().transpose())
}
