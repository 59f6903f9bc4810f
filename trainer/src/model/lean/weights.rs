//! A model's weights and an adapter's factors as they lie in host memory.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use tributary_protocol::adapter::{Adapter, Factor, Trainable};

use crate::config::Config;
use crate::lora::{self, LoraError};
use crate::model::{Layer, Model};

/// A tensor's numbers, shared with it.
#[derive(Clone, Debug)]
pub(super) struct Host(FlexTensor);

impl Host {
    /// None when the tensor lives on another device.
    pub(super) fn of<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        let inner = tensor.clone().without_autodiff();
        let tensor = inner.try_into_primitive::<Flex>().ok()?;
        Some(Self(tensor.to_contiguous()))
    }

    /// Row-major.
    pub(super) fn values(&self) -> &[f32] {
        self.0.as_slice().expect("weights are contiguous f32")
    }
}

/// The weights of one layer.
#[derive(Debug)]
pub(super) struct LayerWeights {
    /// Before attention, and before the feed-forward block.
    pub(super) norms: [Host; 2],
    /// Gains of the heads of queries and keys.
    pub(super) head_norms: Option<[Host; 2]>,
    /// In the order of `parameters::LINEARS`, each `[outputs, inputs]`.
    pub(super) linears: [Host; 7],
    pub(super) biases: [Option<Host>; 7],
}

impl LayerWeights {
    fn of(layer: &Layer) -> Option<Self> {
        let linears = layer.linears.each_ref().map(Host::of);
        let head_norms = layer.head_norms.as_ref();
        let head_norms = head_norms.map(|gains| all(gains.each_ref().map(Host::of)));
        Some(Self {
            norms: [Host::of(&layer.input_norm)?, Host::of(&layer.post_norm)?],
            head_norms: match head_norms {
                Some(gains) => Some(gains?),
                None => None,
            },
            linears: all(linears)?,
            biases: (layer.biases.each_ref()).map(|bias| bias.as_ref().and_then(Host::of)),
        })
    }
}

fn all<const N: usize>(hosts: [Option<Host>; N]) -> Option<[Host; N]> {
    let hosts: Vec<Host> = hosts.into_iter().collect::<Option<_>>()?;
    hosts.try_into().ok()
}

/// All weights of a model.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) embedding: Host,
    pub(super) layers: Vec<LayerWeights>,
    pub(super) norm: Host,
    pub(super) head: Host,
}

impl Weights {
    /// None when the model lives on another device.
    pub(super) fn of(model: &Model) -> Option<Self> {
        let embedding = Host::of(&model.embedding)?;
        Some(Self {
            layers: (model.layers.iter().map(LayerWeights::of)).collect::<Option<_>>()?,
            norm: Host::of(&model.norm)?,
            head: match &model.head {
                Some(head) => Host::of(head)?,
                None => embedding.clone(),
            },
            embedding,
        })
    }
}

/// The low-rank pair of one linear.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    /// `[rank, inputs]`
    pub(super) a: &'a [f32],
    /// `[outputs, rank]`
    pub(super) b: &'a [f32],
    pub(super) rank: usize,
    /// Where each factor begins in the flat layout.
    pub(super) starts: [usize; 2],
}

/// An adapter, found by layer and linear.
#[derive(Debug)]
pub(super) struct Factors<'a> {
    pub(super) scale: f32,
    pairs: Vec<Option<Pair<'a>>>,
    /// Which factors a gradient is wanted of.
    pub(super) trainable: Option<Trainable>,
}

impl<'a> Factors<'a> {
    /// # Errors
    /// See [`LoraError`].
    pub(super) fn new(
        config: &Config,
        adapter: Option<&'a Adapter>,
        trainable: Option<Trainable>,
    ) -> Result<Self, LoraError> {
        let Some(adapter) = adapter else {
            return Ok(Self {
                scale: 1.0,
                pairs: vec![None; config.layers * 7],
                trainable: None,
            });
        };
        let segments = adapter.shape().segments();
        let pair = |module: usize| {
            // Both factors of a module lie one after the other.
            let (a, b) = (&segments[2 * module], &segments[2 * module + 1]);
            Pair {
                a: adapter.segment(a),
                b: adapter.segment(b),
                rank: a.rows,
                starts: [a.range().start, b.range().start],
            }
        };
        let places = lora::places(config, adapter.shape())?;
        Ok(Self {
            scale: adapter.shape().scale(),
            pairs: places.into_iter().map(|place| place.map(pair)).collect(),
            trainable,
        })
    }

    /// The pair of a layer's linear, if it is adapted.
    pub(super) fn pair(&self, layer: usize, which: usize) -> Option<Pair<'a>> {
        self.pairs[layer * 7 + which]
    }

    /// Whether a gradient of `factor` is wanted.
    pub(super) fn trains(&self, factor: Factor) -> bool {
        self.trainable.is_some_and(|which| which.includes(factor))
    }
}
