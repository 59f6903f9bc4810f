//! Causal grouped-query attention on panels.
//!
//! A task is one window and one key head; it takes 32 queries of one query head at a time, against
//! the keys from the first that any of them may look at up to their own. Scores are `[keys][LANES]`:
//! softmax is the same arithmetic for 32 queries side by side. Only the logarithm of each query's
//! normaliser is kept; the backward pass computes the probabilities again (FlashAttention, arXiv
//! 2205.14135), so memory does not grow with the square of the context.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::panels::{LANES, Lanes, Panels, Plan, rows, rows_mut};
use super::product::{Left, STRIP, Small, Strips};
use crate::config::Config;
use crate::model::vector::{dispatch, exp};

/// As good as minus infinity before an exponential.
const HIDDEN: f32 = -1e30;

/// What attention reads: rotated queries (scaled) and keys, and values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attended<'a> {
    pub(super) q: &'a Panels,
    pub(super) k: &'a Panels,
    pub(super) v: &'a Panels,
}

/// One window and one key head.
#[derive(Clone, Copy)]
struct Place<'a> {
    input: Attended<'a>,
    plan: &'a Plan,
    window: usize,
    group: usize,
    /// Query heads that share the key head.
    heads: usize,
    dim: usize,
}

impl<'a> Place<'a> {
    /// Every place, key head after key head.
    fn all(input: Attended<'a>, plan: &'a Plan, config: &Config) -> Vec<Self> {
        let windows = plan.panels / plan.per_window;
        let (heads, dim) = (config.heads / config.kv_heads, config.head_dim);
        let place = |group, window| Self {
            input,
            plan,
            window,
            group,
            heads,
            dim,
        };
        let groups = 0..config.kv_heads;
        groups
            .flat_map(|group| (0..windows).map(move |window| place(group, window)))
            .collect()
    }

    fn panel(self, panel: usize) -> usize {
        self.window * self.plan.per_window + panel
    }

    /// Queries of a head, `[dim][LANES]`, from anything laid out as they are.
    fn head(self, from: &'a Panels, panel: usize, head: usize) -> &'a [f32] {
        let size = self.dim * LANES;
        let at = (self.group * self.heads + head) * size;
        &from.panel(self.panel(panel))[at..at + size]
    }

    /// All keys (or values) of the window, `[dim][positions]`.
    fn gather(self, from: &Panels) -> Vec<f32> {
        let mut out = vec![0.0; self.dim * self.plan.per_window * LANES];
        let width = self.plan.per_window * LANES;
        for panel in 0..self.plan.per_window {
            let at = self.group * self.dim * LANES;
            let values = &from.panel(self.panel(panel))[at..at + self.dim * LANES];
            for (row, values) in rows(values).enumerate() {
                out[row * width + panel * LANES..][..LANES].copy_from_slice(values);
            }
        }
        out
    }

    /// The keys that queries of a panel look at: from the first that any may see to the last.
    fn keys(self, panel: usize) -> std::ops::Range<usize> {
        let firsts = self.plan.firsts(self.panel(panel));
        let lowest = firsts.and_then(|f| f.iter().min()).copied().unwrap_or(0);
        lowest as usize / LANES * LANES..(panel + 1) * LANES
    }

    /// Overwrites what queries may not look at in `[keys][LANES]`.
    #[inline(always)]
    fn hide(self, panel: usize, scores: &mut [f32], value: f32) {
        let (from, own) = (self.keys(panel).start, panel * LANES);
        for (key, row) in rows_mut(&mut scores[(own - from) * LANES..]).enumerate() {
            row[..key].fill(value);
        }
        if let Some(firsts) = self.plan.firsts(self.panel(panel)) {
            let last = firsts.iter().max().map_or(0, |first| *first as usize);
            for (key, row) in (from..last).zip(rows_mut(scores)) {
                for (score, first) in row.iter_mut().zip(firsts) {
                    if key < *first as usize {
                        *score = value;
                    }
                }
            }
        }
    }
}

fn strips(left: Left) -> Strips {
    let mut strips = Strips::default();
    strips.pack(left);
    strips
}

/// `out = left[keys, ..] * right` for the keys of a range that starts at a whole panel.
#[inline(always)]
fn scores<S: Simd>(
    simd: S,
    left: &Strips,
    keys: std::ops::Range<usize>,
    right: &[f32],
    out: &mut Vec<f32>,
) {
    // Strips do not end where panels do: begin with the strip that holds the first key.
    let skipped = keys.start % STRIP;
    let first = keys.start - skipped;
    out.resize((keys.end - first) * LANES, 0.0);
    Small {
        left,
        first: first / STRIP,
        from: 0,
        to: right.len() / LANES,
        right,
        out,
        add: false,
    }
    .run(simd);
    out.drain(..skipped * LANES);
}

/// Attention's output, as the queries are laid out, and for each query head the logarithm of the
/// normaliser.
pub(super) fn forward(input: Attended, plan: &Plan, config: &Config) -> (Panels, Panels) {
    let mut mixed = input.q.beside(input.q.features());
    let mut normalisers = input.q.beside(config.heads);
    let per_group = config.heads / config.kv_heads;
    let outs = mixed.split_places(per_group * config.head_dim, plan.per_window);
    let logs = normalisers.split_places(per_group, plan.per_window);
    let places = Place::all(input, plan, config).into_par_iter();
    places
        .zip(outs)
        .zip(logs)
        .with_max_len(1)
        .for_each(|((place, mixed), logs)| {
            dispatch(Forward { place, mixed, logs });
        });
    (mixed, normalisers)
}

struct Forward<'a> {
    place: Place<'a>,
    mixed: Vec<&'a mut [f32]>,
    logs: Vec<&'a mut [f32]>,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { place, mixed, logs } = self;
        let (dim, width) = (place.dim, place.plan.per_window * LANES);
        let keys = place.gather(place.input.k);
        let keys = strips(Left::new(&keys, width).transposed());
        let values = place.gather(place.input.v);
        let values = strips(Left::new(&values, width));
        let mut probabilities = Vec::new();
        for (panel, (mixed, logs)) in mixed.into_iter().zip(logs).enumerate() {
            let seen = place.keys(panel);
            let outs = mixed.chunks_exact_mut(dim * LANES).zip(rows_mut(logs));
            for (head, (out, log)) in outs.enumerate() {
                let q = place.head(place.input.q, panel, head);
                scores(simd, &keys, seen.clone(), q, &mut probabilities);
                place.hide(panel, &mut probabilities, HIDDEN);
                let (largest, sum) = exponentials(&mut probabilities);
                place.hide(panel, &mut probabilities, 0.0);
                Small {
                    left: &values,
                    first: 0,
                    from: seen.start,
                    to: seen.end,
                    right: &probabilities,
                    out,
                    add: false,
                }
                .run(simd);
                let inverse = sum.map(|sum| 1.0 / sum);
                for out in rows_mut(out) {
                    out.iter_mut()
                        .zip(inverse)
                        .for_each(|(out, inverse)| *out *= inverse);
                }
                for (log, (largest, sum)) in log.iter_mut().zip(largest.into_iter().zip(sum)) {
                    *log = largest + sum.ln();
                }
            }
        }
    }
}

/// `e^(score - largest)` in place; the largest score and the sum of the exponentials of each lane.
#[inline(always)]
fn exponentials(scores: &mut [f32]) -> (Lanes, Lanes) {
    let mut largest = [HIDDEN; LANES];
    for row in rows(scores) {
        for (largest, score) in largest.iter_mut().zip(row) {
            *largest = if *score > *largest { *score } else { *largest };
        }
    }
    let mut sum = [0.0; LANES];
    for row in rows_mut(scores) {
        for ((score, sum), largest) in row.iter_mut().zip(&mut sum).zip(largest) {
            *score = exp(*score - largest);
            *sum += *score;
        }
    }
    (largest, sum)
}

/// What the backward pass needs besides the inputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mixed<'a> {
    /// The output.
    pub(super) out: &'a Panels,
    /// What [`forward`] returned with it.
    pub(super) normalisers: &'a Panels,
    /// The output's gradient.
    pub(super) upstream: &'a Panels,
}

/// Gradients of the rotated, scaled queries, of the rotated keys and of the values.
pub(super) fn backward(input: Attended, mixed: Mixed, plan: &Plan, config: &Config) -> [Panels; 3] {
    let mut gradients = [input.q, input.k, input.v].map(|x| x.zeros_beside(x.features()));
    let [dq, dk, dv] = &mut gradients;
    let per_group = config.heads / config.kv_heads;
    let dq = dq.split_places(per_group * config.head_dim, plan.per_window);
    let dk = dk.split_places(config.head_dim, plan.per_window);
    let dv = dv.split_places(config.head_dim, plan.per_window);
    let places = Place::all(input, plan, config).into_par_iter();
    places
        .zip(dq)
        .zip(dk)
        .zip(dv)
        .with_max_len(1)
        .for_each(|(((place, dq), dk), dv)| {
            dispatch(Backward {
                place,
                mixed,
                dq,
                dk,
                dv,
            });
        });
    gradients
}

struct Backward<'a> {
    place: Place<'a>,
    mixed: Mixed<'a>,
    dq: Vec<&'a mut [f32]>,
    dk: Vec<&'a mut [f32]>,
    dv: Vec<&'a mut [f32]>,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    /// With `P = softmax(Q K^T)` and `O = P V`: `dV = P^T dO`, `dP = dO V^T`,
    /// `dS = P (dP - rowsum(dO O))`, `dQ = dS K`, `dK = dS^T Q`.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            place,
            mixed,
            dq,
            mut dk,
            mut dv,
        } = self;
        let (dim, width) = (place.dim, place.plan.per_window * LANES);
        let (keys, values) = (place.gather(place.input.k), place.gather(place.input.v));
        let key_columns = strips(Left::new(&keys, width));
        let keys = strips(Left::new(&keys, width).transposed());
        let values = strips(Left::new(&values, width).transposed());
        let mut blocks = Blocks::default();
        for (panel, dq) in dq.into_iter().enumerate() {
            let seen = place.keys(panel);
            for (head, dq) in dq.chunks_exact_mut(dim * LANES).enumerate() {
                let q = place.head(place.input.q, panel, head);
                let dout = place.head(mixed.upstream, panel, head);
                let out = place.head(mixed.out, panel, head);
                let logs = mixed.normalisers.panel(place.panel(panel));
                let log = &logs[(place.group * place.heads + head) * LANES..][..LANES];
                let Blocks { p, ds, .. } = &mut blocks;
                scores(simd, &keys, seen.clone(), q, p);
                probabilities(p, log);
                place.hide(panel, p, 0.0);
                scores(simd, &values, seen.clone(), dout, ds);
                softmax_backward(ds, p, out, dout);
                Small {
                    left: &key_columns,
                    first: 0,
                    from: seen.start,
                    to: seen.end,
                    right: ds,
                    out: dq,
                    add: false,
                }
                .run(simd);
                let from = seen.start / LANES;
                blocks.turn_over(simd, q, dout, &mut dk[from..=panel], &mut dv[from..=panel]);
            }
        }
    }
}

/// Scratch of one task.
#[derive(Default)]
struct Blocks {
    /// Probabilities, `[keys][LANES]`.
    p: Vec<f32>,
    /// Gradients of the scores, the same.
    ds: Vec<f32>,
    q: Strips,
    dout: Strips,
}

impl Blocks {
    /// Adds to the gradients of keys and values, whose lanes are keys: the blocks of `p` and `ds` are
    /// turned over, queries then being the inner length.
    #[inline(always)]
    fn turn_over<S: Simd>(
        &mut self,
        simd: S,
        q: &[f32],
        dout: &[f32],
        dk: &mut [&mut [f32]],
        dv: &mut [&mut [f32]],
    ) {
        self.q.pack(Left::new(q, LANES));
        self.dout.pack(Left::new(dout, LANES));
        let blocks = |values| <[f32]>::chunks_exact(values, LANES * LANES);
        let blocks = blocks(&self.p).zip(blocks(&self.ds));
        let mut turned = [0.0; LANES * LANES];
        for ((p, ds), (dk, dv)) in blocks.zip(dk.iter_mut().zip(dv)) {
            let products: [(_, _, &mut [f32]); 2] = [(&self.q, ds, dk), (&self.dout, p, dv)];
            for (left, block, out) in products {
                transpose(block, &mut turned);
                Small {
                    left,
                    first: 0,
                    from: 0,
                    to: LANES,
                    right: &turned,
                    out,
                    add: true,
                }
                .run(simd);
            }
        }
    }
}

#[inline(always)]
fn probabilities(scores: &mut [f32], log: &[f32]) {
    for row in rows_mut(scores) {
        for (score, log) in row.iter_mut().zip(log) {
            *score = exp(*score - log);
        }
    }
}

/// `dS = P (dP - sum over features of dO O)`, in place of `dP`.
#[inline(always)]
fn softmax_backward(dp: &mut [f32], p: &[f32], out: &[f32], dout: &[f32]) {
    let mut along = [0.0; LANES];
    for (out, dout) in rows(out).zip(rows(dout)) {
        for ((along, out), dout) in along.iter_mut().zip(out).zip(dout) {
            *along = out.mul_add(*dout, *along);
        }
    }
    for (dp, p) in rows_mut(dp).zip(rows(p)) {
        for ((dp, p), along) in dp.iter_mut().zip(p).zip(along) {
            *dp = p * (*dp - along);
        }
    }
}

/// A square block turned over, in squares of four, which compile to shuffles.
#[inline(always)]
fn transpose(from: &[f32], to: &mut [f32; LANES * LANES]) {
    for row in (0..LANES).step_by(4) {
        for column in (0..LANES).step_by(4) {
            let square: [[f32; 4]; 4] = std::array::from_fn(|r| {
                std::array::from_fn(|c| from[(row + r) * LANES + column + c])
            });
            for c in 0..4 {
                to[(column + c) * LANES + row..][..4].copy_from_slice(&square.map(|row| row[c]));
            }
        }
    }
}
