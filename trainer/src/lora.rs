//! LoRA factors as tensors.
//!
//! An [`Adapter`] is one flat vector; a forward pass wants a pair of matrices for each adapted linear.
//! This file goes from one to the other and brings gradients back into the flat layout. The product
//! is never merged into the base: `x W^T + scale (x A^T) B^T`.

use std::sync::Arc;

use burn::tensor::{Device, Gradients, Tensor};

use tributary_protocol::adapter::{Adapter, AdapterShape, Factor, Trainable};

pub use tributary_engine::lora::LoraError;
pub(crate) use tributary_engine::lora::{full_shape, modules, places};

use crate::config::Config;
use crate::model::{download, upload};

/// The low-rank pair of one linear.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    /// `[rank, inputs]`.
    pub(crate) a: Tensor<2>,
    /// `[outputs, rank]`.
    pub(crate) b: Tensor<2>,
    /// `alpha / rank`.
    pub(crate) scale: f32,
}

/// All pairs of an adapter, found by layer and linear.
#[derive(Clone, Debug)]
pub(crate) struct Factors {
    shape: Arc<AdapterShape>,
    /// In the adapter's module order.
    pairs: Vec<Pair>,
    /// `layer * 7 + linear` to a place in `pairs`.
    places: Vec<Option<usize>>,
}

impl Factors {
    /// Uploads `adapter`. The factors that `trainable` includes become leaves whose gradients are
    /// kept; with None nothing is recorded.
    ///
    /// # Errors
    /// See [`LoraError`].
    pub(crate) fn new(
        config: &Config,
        adapter: &Adapter,
        trainable: Option<Trainable>,
        device: &Device,
    ) -> Result<Self, LoraError> {
        let places = places(config, adapter.shape())?;
        let mut tensors = adapter.shape().segments().into_iter().map(|segment| {
            let values = adapter.segment(&segment).to_vec();
            let tensor = upload(values, [segment.rows, segment.cols], device);
            match trainable {
                Some(which) if which.includes(segment.factor) => tensor.autodiff().require_grad(),
                Some(_) => tensor.autodiff(),
                None => tensor,
            }
        });
        let scale = adapter.shape().scale();
        let mut pairs = Vec::new();
        while let (Some(a), Some(b)) = (tensors.next(), tensors.next()) {
            pairs.push(Pair { a, b, scale });
        }
        Ok(Self {
            shape: adapter.shape().clone(),
            pairs,
            places,
        })
    }

    /// The pair of a layer's linear (an index of `LINEARS`), if it is adapted.
    pub(crate) fn pair(&self, layer: usize, which: usize) -> Option<&Pair> {
        self.places[layer * 7 + which].map(|place| &self.pairs[place])
    }

    /// Takes the gradients out, in the flat layout; zero where nothing was trained.
    pub(crate) fn gradient(&self, gradients: &mut Gradients) -> Vec<f32> {
        let mut flat = vec![0.0; self.shape.parameters()];
        for segment in self.shape.segments() {
            let pair = &self.pairs[segment.module];
            let leaf = match segment.factor {
                Factor::A => &pair.a,
                Factor::B => &pair.b,
            };
            if let Some(gradient) = leaf.grad_remove(gradients) {
                flat[segment.range()].copy_from_slice(&download(gradient));
            }
        }
        flat
    }
}

#[cfg(test)]
mod tests;
