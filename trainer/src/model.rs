//! The Llama decoder as tensors.
//!
//! ```text
//! tokens -> embedding -> [ norm -> attention -> + -> norm -> SwiGLU -> + ] x layers -> norm -> head
//! ```
//! Activations are `[rows, width]` with `rows = batch * context`, so every linear is one matrix
//! product. The same code trains all weights (their tensors are tracked), trains a LoRA adapter (only
//! its factors are tracked and autodiff skips the gradients of the base) and evaluates (nothing is).
//! What a batch is made of belongs to `data`, how weights move to `optimizer`.

pub mod files;
pub mod parameters;

pub(crate) mod decode;
mod fused;
pub(crate) mod ops;
pub(crate) mod plain;
pub(crate) mod rope;
pub(crate) mod vector;

use std::sync::Arc;

use burn::tensor::{Device, Gradients, Tensor, TensorData};

use crate::config::Config;
use crate::lora::{Factors, Pair};
use crate::model::parameters::Parameter;
use crate::model::rope::RopeTable;

/// Marks a position that nothing is predicted from.
pub(crate) const NO_TARGET: i32 = -1;

/// Windows of equal length, padded at their ends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Batch {
    /// Token ids, `[rows]`, window after window.
    pub(crate) tokens: Vec<i32>,
    /// The token to predict from each position, or [`NO_TARGET`].
    pub(crate) targets: Vec<i32>,
    /// Number of windows.
    pub(crate) windows: usize,
    /// Tokens of each window.
    pub(crate) context: usize,
}

impl Batch {
    /// How many tokens are predicted.
    pub(crate) fn predicted(&self) -> usize {
        self.targets.iter().filter(|t| **t != NO_TARGET).count()
    }
}

/// The tensors of one decoder layer.
#[derive(Clone, Debug)]
struct Layer {
    input_norm: Tensor<1>,
    post_norm: Tensor<1>,
    /// In the order of [`parameters::LINEARS`], each `[outputs, inputs]`.
    linears: [Tensor<2>; 7],
}

/// A Llama model on a device. Cloning shares the numbers.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    config: Config,
    device: Device,
    embedding: Tensor<2>,
    layers: Vec<Layer>,
    norm: Tensor<1>,
    /// None when the head is the embedding table.
    head: Option<Tensor<2>>,
}

/// A tensor of `shape` from host numbers.
pub(crate) fn upload<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// A tensor's numbers in row-major order.
pub(crate) fn download<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data();
    data.try_into_vec()
        .expect("every tensor of this crate is f32")
}

impl Model {
    /// Builds the tensors from `parameters` in canonical order, which `files` and `initialise` give.
    ///
    /// # Panics
    /// If `parameters` are not those of `config`.
    pub(crate) fn new(config: Config, parameters: Vec<Parameter>, device: &Device) -> Self {
        let mut parameters = parameters.into_iter();
        let mut next = || parameters.next().expect("one parameter for every slot");
        let matrix = |p: Parameter| upload(p.values, [p.shape[0], p.shape[1]], device);
        let vector = |p: Parameter| upload(p.values, [p.shape[0]], device);
        Self {
            embedding: matrix(next()),
            layers: (0..config.layers)
                .map(|_| Layer {
                    input_norm: vector(next()),
                    post_norm: vector(next()),
                    linears: std::array::from_fn(|_| matrix(next())),
                })
                .collect(),
            norm: vector(next()),
            head: (!config.tied).then(|| matrix(next())),
            device: device.clone(),
            config,
        }
    }

    /// The same numbers, recorded by autodiff as constants.
    pub(crate) fn tracked(&self) -> Self {
        self.map(&mut |t| t.autodiff(), &mut |t| t.autodiff())
    }

    /// The same numbers as leaves whose gradients are kept.
    pub(crate) fn trainable(&self) -> Self {
        self.map(&mut |t| t.autodiff().require_grad(), &mut |t| {
            t.autodiff().require_grad()
        })
    }

    fn map(
        &self,
        matrix: &mut dyn FnMut(Tensor<2>) -> Tensor<2>,
        vector: &mut dyn FnMut(Tensor<1>) -> Tensor<1>,
    ) -> Self {
        let layer = |layer: &Layer| Layer {
            input_norm: vector(layer.input_norm.clone()),
            post_norm: vector(layer.post_norm.clone()),
            linears: layer.linears.clone().map(&mut *matrix),
        };
        Self {
            layers: self.layers.iter().map(layer).collect(),
            embedding: matrix(self.embedding.clone()),
            norm: vector(self.norm.clone()),
            head: self.head.clone().map(matrix),
            device: self.device.clone().autodiff(),
            config: self.config.clone(),
        }
    }

    /// Every weight, in the canonical order of `parameters`.
    pub(crate) fn weights(&self) -> Vec<Weight<'_>> {
        let mut out = vec![Weight::Matrix(&self.embedding)];
        for layer in &self.layers {
            out.push(Weight::Vector(&layer.input_norm));
            out.push(Weight::Vector(&layer.post_norm));
            out.extend(layer.linears.iter().map(Weight::Matrix));
        }
        out.push(Weight::Vector(&self.norm));
        out.extend(self.head.iter().map(Weight::Matrix));
        out
    }

    /// The configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Where the tensors live.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// Sum of the negative log likelihoods of the batch's targets, in nats, shape `[1]`.
    pub(crate) fn loss_sum(&self, adapter: Option<&Factors>, batch: &Batch) -> Tensor<1> {
        let hidden = self.hidden(adapter, batch);
        ops::cross_entropy_sum(hidden, self.head_matrix(), &batch.targets)
    }

    /// The last norm's output, `[rows, hidden]`.
    pub(crate) fn hidden(&self, adapter: Option<&Factors>, batch: &Batch) -> Tensor<2> {
        let table = Arc::new(RopeTable::new(&self.config, batch.context));
        let mut x = self.embed(&batch.tokens);
        for (index, layer) in self.layers.iter().enumerate() {
            let linear = |which: usize, x: Tensor<2>| {
                let pair = adapter.and_then(|a| a.pair(index, which));
                self.linear(layer, which, x, pair)
            };
            let normed = self.normed(x.clone(), &layer.input_norm);
            let (q, k) = (linear(0, normed.clone()), linear(1, normed.clone()));
            let mixed =
                ops::attention(q, k, linear(2, normed), &table, &self.config, batch.windows);
            x = x + linear(3, mixed);
            let normed = self.normed(x.clone(), &layer.post_norm);
            let (gate, up) = (linear(4, normed.clone()), linear(5, normed));
            x = x + linear(6, ops::swiglu(gate, up));
        }
        self.normed(x, &self.norm)
    }

    /// Rows of the token table.
    pub(crate) fn embed(&self, tokens: &[i32]) -> Tensor<2> {
        let ids = ops::int_tensor(tokens, &self.device);
        self.embedding.clone().select(0, ids)
    }

    /// RMSNorm with this model's epsilon.
    pub(crate) fn normed(&self, x: Tensor<2>, gain: &Tensor<1>) -> Tensor<2> {
        ops::rms_norm(x, gain.clone(), self.config.norm_eps)
    }

    /// `x W^T`, plus `scale (x A^T) B^T` where the adapter has a pair for this linear.
    fn linear(&self, layer: &Layer, which: usize, x: Tensor<2>, pair: Option<&Pair>) -> Tensor<2> {
        ops::linear(x, layer.linears[which].clone(), pair)
    }

    /// The output head, `[vocab, hidden]`.
    pub(crate) fn head_matrix(&self) -> Tensor<2> {
        self.head.clone().unwrap_or_else(|| self.embedding.clone())
    }
}

/// One weight of a model.
pub(crate) enum Weight<'a> {
    /// A table or a linear.
    Matrix(&'a Tensor<2>),
    /// The gain of a norm.
    Vector(&'a Tensor<1>),
}

impl Weight<'_> {
    /// Takes the weight's gradient out, row-major; None when it took no part.
    pub(crate) fn gradient(&self, gradients: &mut Gradients) -> Option<Vec<f32>> {
        match self {
            Self::Matrix(tensor) => tensor.grad_remove(gradients).map(download),
            Self::Vector(tensor) => tensor.grad_remove(gradients).map(download),
        }
    }
}

#[cfg(test)]
mod tests;
