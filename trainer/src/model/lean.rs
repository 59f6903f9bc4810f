//! The decoder on the CPU as one hand-written pass: loss, and the gradient of an adapter.
//!
//! Only an adapter's factors are ever trained here, so a step needs no graph: the forward pass keeps
//! exactly what the backward pass reads, layer after layer, and the backward pass walks back. The
//! layout (`panels`) makes one matrix kernel (`product`) serve every product of both directions on the
//! weights as they lie in memory, and everything else is arithmetic on 32 positions side by side.
//!
//! ```text
//! embed -> [ layer: norm, linear, rotate, attention, linear, norm, linear, gate, linear ] -> norm -> head
//!                                                                                  one pass: loss and gradient
//! flat gradient <- [ layer backward, last to first ] <-------------------------------------+
//! ```
//!
//! Its slow twin is the same decoder as tensors with autodiff (`Model::loss_sum`), which also trains all
//! weights, serves other devices and generates.

mod attention;
mod contract;
mod head;
mod layer;
mod linear;
mod norm;
mod panels;
mod product;
mod rotate;
mod weights;

use tributary_protocol::adapter::{Adapter, Trainable};

use crate::config::Config;
use crate::lora::LoraError;
use crate::model::{Batch, Model};
use layer::{Layer, Pass};
pub(crate) use panels::LANES;
use panels::{Memory, Panels, Plan, rows_mut};
use rayon::prelude::*;
use rotate::Turns;
use weights::{Factors, Weights};

/// Positions whose logits exist at the same time.
pub(crate) const LOGIT_ROWS: usize = head::SLICE * LANES;

/// A model whose weights lie in host memory, and the buffers of its passes.
#[derive(Debug)]
pub(crate) struct Lean {
    config: Config,
    weights: Weights,
    memory: Memory,
}

impl Lean {
    /// Shares the weights of `model`; None when it lives on another device.
    pub(crate) fn of(model: &Model) -> Option<Self> {
        Some(Self {
            weights: Weights::of(model)?,
            config: model.config().clone(),
            memory: Memory::default(),
        })
    }

    /// Sum of the batch's losses in nats.
    ///
    /// # Errors
    /// When the adapter does not fit the model.
    pub(crate) fn loss_sum(
        &self,
        adapter: Option<&Adapter>,
        batch: &Batch,
    ) -> Result<f64, LoraError> {
        let factors = Factors::new(&self.config, adapter, None)?;
        let (sum, _) = inside_the_pool(|| self.run(&factors, batch, 0));
        Ok(sum)
    }

    /// Sum of the batch's losses in nats, and the gradient of their mean in the adapter's flat layout,
    /// zero on factors that `trainable` leaves out.
    ///
    /// # Errors
    /// When the adapter does not fit the model.
    pub(crate) fn loss_and_gradient(
        &self,
        adapter: &Adapter,
        trainable: Trainable,
        batch: &Batch,
    ) -> Result<(f64, Vec<f32>), LoraError> {
        let factors = Factors::new(&self.config, Some(adapter), Some(trainable))?;
        let parameters = adapter.values().len();
        Ok(inside_the_pool(|| self.run(&factors, batch, parameters)))
    }

    /// One pass; backwards too when the factors are trained.
    fn run(&self, factors: &Factors, batch: &Batch, parameters: usize) -> (f64, Vec<f32>) {
        let (config, weights) = (&self.config, &self.weights);
        let plan = Plan::new(batch);
        self.memory.begin(plan.panels);
        let turns = Turns::new(config, plan.per_window);
        let pass = Pass {
            config,
            plan: &plan,
            turns: &turns,
            factors,
        };
        let layer = |(index, weights)| Layer {
            index,
            weights,
            pass: &pass,
        };
        let layers = weights.layers.iter().enumerate().map(layer);
        let mut x = self.embed(&plan);
        let mut saved = Vec::new();
        for layer in layers.clone() {
            let (out, kept) = layer.forward(x);
            if factors.trainable.is_some() {
                saved.push(kept);
            }
            x = out;
        }
        let gain = weights.norm.values();
        let normed = norm::rms_norm(&x, gain, config.norm_eps);
        let weight = (factors.trainable).map(|_| 1.0 / batch.predicted().max(1) as f32);
        let (sum, gradient) = head::losses(&normed, weights.head.values(), &plan, weight);
        drop(normed);
        let mut flat = vec![0.0; parameters];
        if let Some(dnormed) = gradient {
            let mut d = x.zeros_beside(config.hidden);
            norm::rms_norm_backward(&mut d, &dnormed, &x, gain, config.norm_eps);
            drop((x, dnormed));
            for (layer, saved) in layers.rev().zip(saved.into_iter().rev()) {
                layer.backward(&mut d, saved, layer.index == 0, &mut flat);
            }
        }
        (sum, flat)
    }

    /// Rows of the token table as panels.
    fn embed(&self, plan: &Plan) -> Panels {
        let (table, width) = (self.weights.embedding.values(), self.config.hidden);
        let mut out = self.memory.panels(plan.panels, width);
        (out.par_panels_mut())
            .zip(plan.tokens.par_chunks_exact(LANES))
            .for_each(|(panel, tokens)| {
                for (lane, token) in tokens.iter().enumerate() {
                    let values = &table[*token as usize * width..][..width];
                    for (row, value) in rows_mut(panel).zip(values) {
                        row[lane] = *value;
                    }
                }
            });
        out
    }
}

/// Every parallel loop of a pass then starts on a thread of the pool, instead of waking it.
fn inside_the_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

/// Best speed of the pass's matrix product in `runs` runs, `[rows, inner] x [outputs, inner]^T` of
/// random numbers, in 10^9 operations per second.
pub fn product_gflops(rows: usize, inner: usize, outputs: usize, runs: usize) -> f64 {
    let panels = rows.div_ceil(LANES);
    let memory = Memory::default();
    let mut right = memory.panels(panels, inner);
    let number = |index: usize| (index * 7 % 31) as f32 / 31.0 - 0.5;
    (right.values_mut().iter_mut().enumerate()).for_each(|(index, value)| *value = number(index));
    let weights: Vec<f32> = (0..inner * outputs).map(number).collect();
    let mut out = memory.panels(panels, outputs);
    let mut best = f64::INFINITY;
    for _ in 0..runs {
        let start = std::time::Instant::now();
        inside_the_pool(|| product::multiply_one(&weights, &right, &mut out));
        best = best.min(start.elapsed().as_secs_f64());
    }
    2e-9 * (rows * inner * outputs) as f64 / best
}

#[cfg(test)]
mod tests;
