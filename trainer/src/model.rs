//! The decoder of Llama, Qwen2 and Qwen3 as tensors.
//!
//! ```text
//! tokens -> embedding -> [ norm -> attention -> + -> norm -> SwiGLU -> + ] x layers -> norm -> head
//! ```
//! Activations are `[rows, width]` with `rows = batch * context`, so every linear is one matrix
//! product. The same code trains all weights (their tensors are tracked), trains a LoRA adapter (only
//! its factors are tracked and autodiff skips the gradients of the base) and evaluates (nothing is).
//! What a batch is made of belongs to `data`, how weights move to `optimizer`.
//!
//! Generation on a CPU otherwise reads with the engine's pass (`tributary_engine::Reader`), which packs a copy of the weights.
//!
//! A forward pass has three forms, each with a task that no other does as well (`docs/numbers/forms.md`); tests
//! compare them with each other as whole models (`families`).
//!
//! | form | where | why it is there |
//! |---|---|---|
//! | `lean` | host memory | losses, and gradients of an adapter, with a third to a half less memory than `fused` |
//! | `ops` on `fused` | host memory | what `lean` has no form for: gradients of all weights, logits, generation in f32 throughout |
//! | `ops` on `plain`, `sliced` | any device | all that a GPU computes, and the slow twin of both |

pub use tributary_engine::model::{files, parameters};
pub(crate) use tributary_engine::model::{rope, vector};

pub(crate) mod decode;
mod fused;
pub(crate) mod lean;
pub(crate) mod ops;
pub(crate) mod plain;
mod sliced;

use std::sync::Arc;

use burn::tensor::{Device, Gradients, Tensor, TensorData};

use crate::config::Config;
use crate::lora::Factors;
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
    /// The first position of its window that each row may attend to, for windows that hold several
    /// documents; None when every row sees its window from the beginning.
    ///
    /// Rotary positions are counted through the window: attention only knows their differences.
    pub(crate) firsts: Option<Arc<[u32]>>,
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
    /// Gains `[head_dim]` for the heads of queries and of keys.
    head_norms: Option<[Tensor<1>; 2]>,
    /// In the order of [`parameters::LINEARS`], each `[outputs, inputs]`.
    linears: [Tensor<2>; 7],
    /// What each linear adds to its output, `[outputs]`.
    biases: [Option<Tensor<1>>; 7],
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
    /// Made when first asked for; clones share it.
    lean: Arc<std::sync::OnceLock<Option<lean::Lean>>>,
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
                .map(|_| {
                    let (input_norm, post_norm) = (vector(next()), vector(next()));
                    let head_norms = (config.head_norms).then(|| [vector(next()), vector(next())]);
                    let mut biases = [const { None }; 7];
                    let linears = std::array::from_fn(|which| {
                        let weight = matrix(next());
                        biases[which] = config.biases.of(which).then(|| vector(next()));
                        weight
                    });
                    Layer {
                        input_norm,
                        post_norm,
                        head_norms,
                        linears,
                        biases,
                    }
                })
                .collect(),
            norm: vector(next()),
            head: (!config.tied).then(|| matrix(next())),
            device: device.clone(),
            lean: Arc::default(),
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
            head_norms: (layer.head_norms.clone()).map(|pair| pair.map(&mut *vector)),
            linears: layer.linears.clone().map(&mut *matrix),
            biases: (layer.biases.clone()).map(|bias| bias.map(&mut *vector)),
        };
        Self {
            layers: self.layers.iter().map(layer).collect(),
            embedding: matrix(self.embedding.clone()),
            norm: vector(self.norm.clone()),
            head: self.head.clone().map(matrix),
            device: self.device.clone().autodiff(),
            lean: Arc::default(),
            config: self.config.clone(),
        }
    }

    /// Every weight, in the canonical order of `parameters`.
    pub(crate) fn weights(&self) -> Vec<Weight<'_>> {
        let mut out = vec![Weight::Matrix(&self.embedding)];
        for layer in &self.layers {
            out.push(Weight::Vector(&layer.input_norm));
            out.push(Weight::Vector(&layer.post_norm));
            out.extend(layer.head_norms.iter().flatten().map(Weight::Vector));
            for (weight, bias) in layer.linears.iter().zip(&layer.biases) {
                out.push(Weight::Matrix(weight));
                out.extend(bias.iter().map(Weight::Vector));
            }
        }
        out.push(Weight::Vector(&self.norm));
        out.extend(self.head.iter().map(Weight::Matrix));
        out
    }

    /// Every weight in host memory, in canonical order and one at a time; None when the tensors live elsewhere.
    pub(crate) fn parameters(&self) -> Option<impl Iterator<Item = Parameter> + '_> {
        self.lean()?;
        let slots = parameters::slots(&self.config).into_iter();
        let parameter = |(slot, weight): (parameters::Slot, Weight<'_>)| Parameter {
            name: slot.name,
            shape: slot.shape,
            values: match weight {
                Weight::Matrix(tensor) => download(tensor.clone().without_autodiff()),
                Weight::Vector(tensor) => download(tensor.clone().without_autodiff()),
            },
        };
        Some(slots.zip(self.weights()).map(parameter))
    }

    /// The configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The same weights as one hand-written pass, when they lie in host memory. It keeps the buffers of
    /// its latest pass for the next.
    pub(crate) fn lean(&self) -> Option<&lean::Lean> {
        self.lean.get_or_init(|| lean::Lean::of(self)).as_ref()
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

    /// Negative log likelihood of each of the batch's targets, in nats; zero where nothing is predicted.
    pub(crate) fn losses(&self, adapter: Option<&Factors>, batch: &Batch) -> Vec<f64> {
        let hidden = self.hidden(adapter, batch);
        let found = sliced::cross_entropies(hidden, self.head_matrix(), &batch.targets);
        found.into_iter().map(f64::from).collect()
    }

    /// The last norm's output, `[rows, hidden]`.
    pub(crate) fn hidden(&self, adapter: Option<&Factors>, batch: &Batch) -> Tensor<2> {
        let table = Arc::new(RopeTable::of_system(&self.config, batch.context));
        let mut x = self.embed(&batch.tokens);
        for (index, layer) in self.layers.iter().enumerate() {
            let [q, k, v] = self.queries_keys_values(index, adapter, x.clone());
            let mixed = ops::attention(q, k, v, &table, &self.config, batch);
            x = x + self.linear(index, 3, adapter, mixed);
            x = x.clone() + self.feed_forward(index, adapter, self.normed(x, &layer.post_norm));
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

    /// What a layer's attention works on, not yet rotated: `[rows, query_width]` and twice
    /// `[rows, kv_width]`.
    pub(crate) fn queries_keys_values(
        &self,
        index: usize,
        adapter: Option<&Factors>,
        x: Tensor<2>,
    ) -> [Tensor<2>; 3] {
        let layer = &self.layers[index];
        let normed = self.normed(x, &layer.input_norm);
        let [q, k, v] = [0, 1, 2].map(|which| self.linear(index, which, adapter, normed.clone()));
        match &layer.head_norms {
            Some([q_norm, k_norm]) => [
                self.heads_normed(q, q_norm),
                self.heads_normed(k, k_norm),
                v,
            ],
            None => [q, k, v],
        }
    }

    /// RMSNorm of every head of `[rows, heads * head_dim]`.
    fn heads_normed(&self, x: Tensor<2>, gain: &Tensor<1>) -> Tensor<2> {
        let [rows, width] = x.dims();
        let dim = self.config.head_dim;
        let heads = x.reshape([rows * width / dim, dim]);
        self.normed(heads, gain).reshape([rows, width])
    }

    /// `down(silu(gate x) * up x)` of a layer.
    pub(crate) fn feed_forward(
        &self,
        index: usize,
        adapter: Option<&Factors>,
        x: Tensor<2>,
    ) -> Tensor<2> {
        let gate = self.linear(index, 4, adapter, x.clone());
        let up = self.linear(index, 5, adapter, x);
        self.linear(index, 6, adapter, ops::swiglu(gate, up))
    }

    /// `x W^T`, plus the bias where the model has one, plus `scale (x A^T) B^T` where the adapter
    /// has a pair for this linear.
    pub(crate) fn linear(
        &self,
        index: usize,
        which: usize,
        adapter: Option<&Factors>,
        x: Tensor<2>,
    ) -> Tensor<2> {
        let layer = &self.layers[index];
        let pair = adapter.and_then(|a| a.pair(index, which));
        let y = ops::linear(x, layer.linears[which].clone(), pair);
        match &layer.biases[which] {
            Some(bias) => y + bias.clone().unsqueeze::<2>(),
            None => y,
        }
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
mod families;
#[cfg(test)]
mod tests;
