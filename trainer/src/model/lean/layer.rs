//! One decoder layer: forward, keeping what its backward pass needs, and backward.

use rayon::prelude::*;

use super::attention::{self, Attended, Mixed};
use super::linear::{Linears, Narrow};
use super::norm;
use super::panels::{Panels, Plan};
use super::rotate::Turns;
use super::weights::{Factors, LayerWeights};
use crate::config::Config;
use crate::model::vector::{exp, fast};

/// What every layer of one pass shares.
pub(super) struct Pass<'a> {
    pub(super) config: &'a Config,
    pub(super) plan: &'a Plan,
    pub(super) turns: Turns,
    pub(super) factors: &'a Factors<'a>,
}

/// What a layer keeps. Normed values and gates' products are cheap and computed again.
pub(super) struct Saved {
    /// The layer's input.
    x: Panels,
    /// Queries and keys before their heads were normed, where they are.
    raw: Option<[Panels; 2]>,
    /// Rotated and scaled.
    q: Panels,
    /// Rotated.
    k: Panels,
    v: Panels,
    mixed: Panels,
    normalisers: Panels,
    /// Between attention and the feed-forward block.
    middle: Panels,
    gate: Panels,
    up: Panels,
    narrow: Narrow,
}

impl Saved {
    /// What a pass over the first `panels` would have kept: no position depends on those after it.
    pub(super) fn first(&self, panels: usize) -> Self {
        let first = |from: &Panels| from.first(panels);
        Self {
            x: first(&self.x),
            raw: self.raw.as_ref().map(|raw| raw.each_ref().map(first)),
            q: first(&self.q),
            k: first(&self.k),
            v: first(&self.v),
            mixed: first(&self.mixed),
            normalisers: first(&self.normalisers),
            middle: first(&self.middle),
            gate: first(&self.gate),
            up: first(&self.up),
            narrow: (self.narrow.each_ref()).map(|narrow| narrow.as_ref().map(first)),
        }
    }
}

/// A layer in a pass.
pub(super) struct Layer<'a> {
    pub(super) index: usize,
    pub(super) weights: &'a LayerWeights,
    pub(super) pass: &'a Pass<'a>,
}

impl Layer<'_> {
    fn linears(&self, which: std::ops::Range<usize>) -> Linears<'_> {
        Linears {
            layer: self.index,
            which,
            weights: self.weights,
            factors: self.pass.factors,
        }
    }

    fn query_scale(&self) -> f32 {
        1.0 / (self.pass.config.head_dim as f32).sqrt()
    }

    /// The layer's output, and what its backward pass needs.
    pub(super) fn forward(&self, x: Panels) -> (Panels, Saved) {
        let config = self.pass.config;
        let mut narrow = Narrow::default();
        let normed = norm::rms_norm(&x, self.weights.norms[0].values(), config.norm_eps);
        let widths = [config.query_width(), config.kv_width(), config.kv_width()];
        let mut qkv = widths.map(|width| x.beside(width));
        (self.linears(0..3)).forward(&normed, &mut qkv, false, &mut narrow);
        let [mut q, mut k, v] = qkv;
        let raw = self.norm_heads(&mut q, &mut k);
        self.pass.turns.apply(&mut q, 1.0, self.query_scale());
        self.pass.turns.apply(&mut k, 1.0, 1.0);
        let input = Attended {
            q: &q,
            k: &k,
            v: &v,
        };
        let (mixed, normalisers) = attention::forward(input, self.pass.plan, config);
        let mut middle = [x.clone()];
        (self.linears(3..4)).forward(&mixed, &mut middle, true, &mut narrow);
        let [middle] = middle;

        let normed = norm::rms_norm(&middle, self.weights.norms[1].values(), config.norm_eps);
        let mut gate_up = [0; 2].map(|_| normed.beside(config.ffn));
        (self.linears(4..6)).forward(&normed, &mut gate_up, false, &mut narrow);
        let [gate, up] = gate_up;
        let mut out = [middle.clone()];
        (self.linears(6..7)).forward(&gated(&gate, &up), &mut out, true, &mut narrow);
        let [out] = out;
        let saved = Saved {
            x,
            raw,
            q,
            k,
            v,
            mixed,
            normalisers,
            middle,
            gate,
            up,
            narrow,
        };
        (out, saved)
    }

    /// Norms the heads where the model does, returning what they were.
    fn norm_heads(&self, q: &mut Panels, k: &mut Panels) -> Option<[Panels; 2]> {
        let gains = self.weights.head_norms.as_ref()?;
        let raw = [q.clone(), k.clone()];
        for (x, gain) in [q, k].into_iter().zip(gains) {
            x.par_panels_mut().for_each(|panel| {
                fast(
                    #[inline(always)]
                    || norm::heads(panel, gain.values(), self.pass.config.norm_eps),
                );
            });
        }
        Some(raw)
    }

    /// Turns `d`, the gradient of the layer's output, into that of its input, unless `last` says that
    /// nothing before this layer is trained; puts the gradients of the factors in `flat`.
    pub(super) fn backward(&self, d: &mut Panels, saved: Saved, last: bool, flat: &mut [f32]) {
        let eps = self.pass.config.norm_eps;
        let mut dgate = d.beside(self.pass.config.ffn);
        {
            let product = gated(&saved.gate, &saved.up);
            let dx = Some((&mut dgate, false));
            (self.linears(6..7)).backward(&[d], &product, &saved.narrow, dx, flat);
        }
        // Overwrites the upstream gradient and the saved `up`.
        let mut dup = saved.up;
        gated_backward(&mut dgate, &saved.gate, &mut dup);
        drop(saved.gate);
        let gain = self.weights.norms[1].values();
        let normed = norm::rms_norm(&saved.middle, gain, eps);
        let mut dnormed = d.beside(d.features());
        let dx = Some((&mut dnormed, false));
        (self.linears(4..6)).backward(&[&dgate, &dup], &normed, &saved.narrow, dx, flat);
        drop((dgate, dup));
        norm::rms_norm_backward(d, &dnormed, &saved.middle, gain, eps);

        let mut dmixed = d.beside(saved.mixed.features());
        let dx = Some((&mut dmixed, false));
        (self.linears(3..4)).backward(&[d], &saved.mixed, &saved.narrow, dx, flat);
        let mixed = Mixed {
            out: &saved.mixed,
            normalisers: &saved.normalisers,
            upstream: &dmixed,
        };
        let input = Attended {
            q: &saved.q,
            k: &saved.k,
            v: &saved.v,
        };
        let [mut dq, mut dk, dv] =
            attention::backward(input, mixed, self.pass.plan, self.pass.config);
        self.pass.turns.apply(&mut dq, -1.0, self.query_scale());
        self.pass.turns.apply(&mut dk, -1.0, 1.0);
        self.norm_heads_backward([&mut dq, &mut dk], saved.raw);

        let gain = self.weights.norms[0].values();
        let normed = norm::rms_norm(&saved.x, gain, eps);
        let dx = (!last).then_some((&mut dnormed, false));
        (self.linears(0..3)).backward(&[&dq, &dk, &dv], &normed, &saved.narrow, dx, flat);
        if !last {
            norm::rms_norm_backward(d, &dnormed, &saved.x, gain, eps);
        }
    }

    fn norm_heads_backward(&self, d: [&mut Panels; 2], raw: Option<[Panels; 2]>) {
        let (Some(gains), Some(raw)) = (&self.weights.head_norms, raw) else {
            return;
        };
        for ((d, raw), gain) in d.into_iter().zip(raw).zip(gains) {
            d.par_panels_mut()
                .zip(raw.par_panels())
                .for_each(|(d, raw)| {
                    fast(
                        #[inline(always)]
                        || norm::heads_backward(d, raw, gain.values(), self.pass.config.norm_eps),
                    );
                });
        }
    }
}

/// `silu(gate) * up`, element by element.
fn gated(gate: &Panels, up: &Panels) -> Panels {
    let mut out = gate.beside(gate.features());
    (out.par_panels_mut())
        .zip(gate.par_panels())
        .zip(up.par_panels())
        .for_each(|((out, gate), up)| {
            fast(
                #[inline(always)]
                || {
                    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                        *out = gate / (1.0 + exp(-gate)) * up;
                    }
                },
            );
        });
    out
}

/// Turns `d`, the gradient of the product, into that of `gate`, and `up` into its own gradient.
fn gated_backward(d: &mut Panels, gate: &Panels, up: &mut Panels) {
    (d.par_panels_mut())
        .zip(gate.par_panels())
        .zip(up.par_panels_mut())
        .for_each(|((d, gate), up)| {
            fast(
                #[inline(always)]
                || {
                    for ((d, gate), up) in d.iter_mut().zip(gate).zip(up) {
                        let sigmoid = 1.0 / (1.0 + exp(-gate));
                        let silu = gate * sigmoid;
                        let upstream = *d;
                        // d silu = sigmoid (1 + gate (1 - sigmoid))
                        *d = upstream * *up * (sigmoid + silu * (1.0 - sigmoid));
                        *up = upstream * silu;
                    }
                },
            );
        });
}
