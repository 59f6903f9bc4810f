//! The decoder's operations for the CPU, each fused in one pass with a backward pass of its own.
//!
//! Whole-tensor arithmetic spends most of its time moving intermediate results through memory. Here
//! each operation reads its inputs once, keeps only what its gradient needs, and skips what the
//! causal mask or a frozen weight makes unnecessary. `plain` holds the slow twin of each, and tests
//! compare outputs and gradients of the two.

mod attention;
mod gate;
mod head;
mod linear;
mod norm;
mod record;

pub(crate) use attention::attention;
pub(crate) use gate::swiglu;
pub(crate) use head::cross_entropy_sum;
pub(crate) use linear::linear;
pub(crate) use norm::rms_norm;

use burn::tensor::Tensor;

/// Whether these operations can take `tensor`: they read host memory of the CPU back end.
pub(crate) fn supports(tensor: &Tensor<2>) -> bool {
    record::on_cpu(tensor)
}

#[cfg(test)]
mod tests;
