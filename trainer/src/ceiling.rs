//! How fast this machine multiplies matrices: what `benches/` compares a training step with.

pub use crate::model::lean::product_gflops;
