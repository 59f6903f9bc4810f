//! The operations a forward pass is made of: fused on the CPU back end, plain anywhere else.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::config::Config;
use crate::lora::Pair;
use crate::model::rope::RopeTable;
use crate::model::{Batch, fused, plain, sliced};

#[cfg(test)]
thread_local! {
    /// Turns the fused operations off, so that both forms of a whole model are compared on one device.
    pub(crate) static PLAIN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether the fused operations take `x`.
fn fuses(x: &Tensor<2>) -> bool {
    #[cfg(test)]
    if PLAIN.get() {
        return false;
    }
    fused::supports(x)
}

/// Token ids on `device`.
pub(crate) fn int_tensor(ids: &[i32], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(ids.to_vec(), [ids.len()]), device)
}

/// `x / sqrt(mean(x^2) + eps) * gain`, per row of `[rows, width]`.
pub(crate) fn rms_norm(x: Tensor<2>, gain: Tensor<1>, eps: f64) -> Tensor<2> {
    match fuses(&x) {
        true => fused::rms_norm(x, gain, eps),
        false => plain::rms_norm(x, gain, eps),
    }
}

/// `silu(gate) * up`, element by element.
pub(crate) fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    match fuses(&gate) {
        true => fused::swiglu(gate, up),
        false => plain::swiglu(gate, up),
    }
}

/// `x W^T`, plus `scale (x A^T) B^T` where there is a pair.
///
/// # Shapes
/// `x` `[rows, inputs]`, `weight` `[outputs, inputs]`, output `[rows, outputs]`.
pub(crate) fn linear(x: Tensor<2>, weight: Tensor<2>, pair: Option<&Pair>) -> Tensor<2> {
    match fuses(&x) {
        true => fused::linear(x, weight, pair),
        false => plain::linear(x, weight, pair),
    }
}

/// Causal grouped-query attention with rotary positions inside each window of `batch`, from the
/// first position that each row may attend to.
///
/// # Shapes
/// `q` `[rows, heads * head_dim]`, `k` and `v` `[rows, kv_heads * head_dim]`, output as `q`;
/// `rows = windows * context`.
pub(crate) fn attention(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    table: &Arc<RopeTable>,
    config: &Config,
    batch: &Batch,
) -> Tensor<2> {
    match fuses(&q) {
        true => fused::attention(q, k, v, table, config, batch),
        false => plain::attention(q, k, v, table, config, batch),
    }
}

/// Sum over the targets of `-log softmax(hidden head^T)[target]`, shape `[1]`.
///
/// # Shapes
/// `hidden` `[rows, width]`, `head` `[vocab, width]`, one target per row.
pub(crate) fn cross_entropy_sum(hidden: Tensor<2>, head: Tensor<2>, targets: &[i32]) -> Tensor<1> {
    match fuses(&hidden) {
        true => fused::cross_entropy_sum(hidden, head, targets),
        false => sliced::cross_entropy_sum(hidden, head, targets),
    }
}
