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
use head::Losses;
use layer::{Layer, Pass, Saved};
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

/// What to differentiate.
#[derive(Clone, Copy)]
struct Back {
    /// What the sum of the losses is multiplied by.
    weight: f32,
    /// Numbers of the adapter.
    parameters: usize,
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
        Ok(inside_the_pool(|| self.run(&factors, batch, None)).0.sum)
    }

    /// Loss of each position of a batch of one window in nats, zero where nothing is predicted.
    ///
    /// # Errors
    /// When the adapter does not fit the model.
    pub(crate) fn losses(
        &self,
        adapter: Option<&Adapter>,
        batch: &Batch,
    ) -> Result<Vec<f64>, LoraError> {
        assert_eq!(batch.windows, 1, "padding lies behind the only window");
        let factors = Factors::new(&self.config, adapter, None)?;
        let mut each = inside_the_pool(|| self.run(&factors, batch, None)).0.each;
        each.truncate(batch.context);
        Ok(each)
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
        let back = Back {
            weight: 1.0 / batch.predicted().max(1) as f32,
            parameters: adapter.values().len(),
        };
        let (losses, gradient) = inside_the_pool(|| self.run(&factors, batch, Some(back)));
        Ok((losses.sum, gradient))
    }

    /// Gradients of the *sum* of the losses of each of `parts`, by both factors, from one forward pass over
    /// `whole`: batches of one window, of which each part is a beginning of the whole with targets of its own.
    ///
    /// # Errors
    /// When the adapter does not fit the model.
    pub(crate) fn gradients_of_parts(
        &self,
        adapter: &Adapter,
        whole: &Batch,
        parts: &[Batch],
    ) -> Result<Vec<Vec<f32>>, LoraError> {
        let begins = |part: &Batch| part.windows == 1 && whole.tokens.starts_with(&part.tokens);
        assert!(
            whole.windows == 1 && parts.iter().all(begins),
            "parts are beginnings"
        );
        let factors = Factors::new(&self.config, Some(adapter), Some(Trainable::Both))?;
        let back = Back {
            weight: 1.0,
            parameters: adapter.values().len(),
        };
        Ok(inside_the_pool(|| {
            let plan = Plan::new(whole);
            self.memory.begin(plan.panels);
            let (x, saved) = self.forward(&self.pass(&plan, &factors));
            let gradient = |part: &Batch| {
                let plan = Plan::new(part);
                let saved = saved.iter().map(|layer| layer.first(plan.panels));
                let x = x.first(plan.panels);
                self.backward(&self.pass(&plan, &factors), x, saved, Some(back))
                    .1
            };
            parts.iter().map(gradient).collect()
        }))
    }

    /// One pass; backwards too with `back`, and the gradient is empty without.
    fn run(&self, factors: &Factors, batch: &Batch, back: Option<Back>) -> (Losses, Vec<f32>) {
        let plan = Plan::new(batch);
        self.memory.begin(plan.panels);
        let pass = self.pass(&plan, factors);
        let (x, saved) = self.forward(&pass);
        self.backward(&pass, x, saved.into_iter(), back)
    }

    fn pass<'a>(&'a self, plan: &'a Plan, factors: &'a Factors<'a>) -> Pass<'a> {
        Pass {
            config: &self.config,
            turns: Turns::new(&self.config, plan.per_window),
            plan,
            factors,
        }
    }

    fn layers<'a>(
        &'a self,
        pass: &'a Pass<'a>,
    ) -> impl DoubleEndedIterator<Item = Layer<'a>> + ExactSizeIterator {
        let layers = self.weights.layers.iter().enumerate();
        layers.map(move |(index, weights)| Layer {
            index,
            weights,
            pass,
        })
    }

    /// What the last layer gives, and, where factors are trained, what each layer keeps.
    fn forward(&self, pass: &Pass) -> (Panels, Vec<Saved>) {
        let mut x = self.embed(pass.plan);
        let mut saved = Vec::new();
        for layer in self.layers(pass) {
            let (out, kept) = layer.forward(x);
            if pass.factors.trainable.is_some() {
                saved.push(kept);
            }
            x = out;
        }
        (x, saved)
    }

    /// The losses of what [`Lean::forward`] gave, and with `back` their gradient in the flat layout.
    fn backward(
        &self,
        pass: &Pass,
        x: Panels,
        saved: impl DoubleEndedIterator<Item = Saved>,
        back: Option<Back>,
    ) -> (Losses, Vec<f32>) {
        let (config, gain) = (&self.config, self.weights.norm.values());
        let normed = norm::rms_norm(&x, gain, config.norm_eps);
        let head = self.weights.head.values();
        let mut losses = head::losses(&normed, head, pass.plan, back.map(|back| back.weight));
        drop(normed);
        let mut flat = vec![0.0; back.map_or(0, |back| back.parameters)];
        if let Some(dnormed) = losses.gradient.take() {
            let mut d = x.zeros_beside(config.hidden);
            norm::rms_norm_backward(&mut d, &dnormed, &x, gain, config.norm_eps);
            drop((x, dnormed));
            for (layer, saved) in self.layers(pass).rev().zip(saved.rev()) {
                layer.backward(&mut d, saved, layer.index == 0, &mut flat);
            }
        }
        (losses, flat)
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
