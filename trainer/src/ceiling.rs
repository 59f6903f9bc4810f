//! How fast this machine multiplies matrices: what `benches/` holds a training step against.

pub use crate::model::lean::product_gflops;
