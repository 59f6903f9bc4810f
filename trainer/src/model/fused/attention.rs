//! Rotary positions and causal grouped-query attention in one operation.
//!
//! Work is cut in tasks of one window and one key head, and each task in blocks of queries. A block
//! holds the rows of all query heads that share the key head, one head after the other, so keys are
//! never repeated; and it is multiplied only with the keys from the first that any of its rows may
//! look at up to its own end, so what the mask hides is mostly not computed at all. Probabilities are
//! kept for the backward pass.

use std::sync::Arc;

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::record::{Matrix, Pull, apply};
use crate::config::Config;
use crate::model::Batch;
use crate::model::rope::RopeTable;
use crate::model::vector::{dot, exp, fast, max, sum};

/// Query positions of one block. Smaller blocks waste less above the diagonal, larger ones keep the
/// matrix products efficient.
const BLOCK: usize = 64;

/// Sizes of one call.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    windows: usize,
    context: usize,
    groups: usize,
    /// Query heads that share one key head.
    per_group: usize,
    dim: usize,
}

impl Sizes {
    /// `(first position, positions)` of each block.
    fn blocks(self) -> impl Iterator<Item = (usize, usize)> {
        let context = self.context;
        (0..context)
            .step_by(BLOCK)
            .map(move |start| (start, BLOCK.min(context - start)))
    }

    fn query_width(self) -> usize {
        self.groups * self.per_group * self.dim
    }

    fn key_width(self) -> usize {
        self.groups * self.dim
    }
}

/// The first position that each query of one task may look at; None when it is always the window's.
#[derive(Clone, Copy, Debug)]
struct Firsts<'a>(Option<&'a [u32]>);

impl Firsts<'_> {
    fn at(self, position: usize) -> usize {
        self.0.map_or(0, |firsts| firsts[position] as usize)
    }

    /// The first key that any of `count` queries from `start` on may look at.
    fn lowest(self, start: usize, count: usize) -> usize {
        let firsts = self.0.map(|firsts| &firsts[start..start + count]);
        firsts.map_or(0, |f| f.iter().min().map_or(0, |first| *first as usize))
    }
}

/// What a task keeps of one block.
#[derive(Clone, Debug)]
struct Block {
    /// The first of its keys.
    from: usize,
    /// Rotated and scaled queries, `[per_group * positions, dim]`.
    q: Matrix,
    /// `[per_group * positions, keys]`, zero where a query may not look.
    probabilities: Matrix,
}

/// What a task keeps.
#[derive(Clone, Debug)]
struct Task {
    /// Rotated, `[context, dim]`.
    k: Matrix,
    v: Matrix,
    blocks: Vec<Block>,
}

#[derive(Clone, Debug)]
struct State {
    sizes: Sizes,
    table: Arc<RopeTable>,
    tasks: Arc<Vec<Task>>,
}

/// Causal grouped-query attention with rotary positions inside each window of `batch`, from the
/// first position that each row may attend to.
///
/// # Shapes
/// `q` `[rows, heads * head_dim]`, `k` and `v` `[rows, kv_heads * head_dim]`, output as `q`;
/// `rows = windows * context`.
pub(crate) fn attention(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    table: &Arc<RopeTable>,
    config: &Config,
    batch: &Batch,
) -> Tensor<2> {
    let sizes = Sizes {
        windows: batch.windows,
        context: batch.context,
        groups: config.kv_heads,
        per_group: config.heads / config.kv_heads,
        dim: config.head_dim,
    };
    apply([q, k, v], |[q, k, v], tracked| {
        let keep = tracked.contains(&true);
        let (tasks, outputs): (Vec<_>, Vec<_>) = (0..batch.windows * sizes.groups)
            .into_par_iter()
            .map(|task| {
                let at = task / sizes.groups * sizes.context;
                let firsts = batch.firsts.as_ref().map(|f| &f[at..at + sizes.context]);
                forward(sizes, task, [q, k, v], Firsts(firsts), table, keep)
            })
            .unzip();
        let output = scatter(sizes, sizes.per_group, &outputs);
        let state = State {
            sizes,
            table: table.clone(),
            tasks: Arc::new(tasks),
        };
        (output, state)
    })
}

/// One task's output, `[per_group * context, dim]`, block after block.
fn forward(
    sizes: Sizes,
    task: usize,
    [q, k, v]: [&Matrix; 3],
    firsts: Firsts,
    table: &RopeTable,
    keep: bool,
) -> (Task, Vec<f32>) {
    let Sizes { context, dim, .. } = sizes;
    let mut keys = gather(sizes, 1, task, k, 0, context);
    let values = Matrix::new(gather(sizes, 1, task, v, 0, context), context, dim);
    fast(
        #[inline(always)]
        || rotate(&mut keys, table, 0, context, 1.0, 1.0),
    );
    let keys = Matrix::new(keys, context, dim);
    let scale = 1.0 / (dim as f32).sqrt();
    let mut output = Vec::with_capacity(sizes.per_group * context * dim);
    let mut blocks = Vec::new();
    for (start, count) in sizes.blocks() {
        let rows = sizes.per_group * count;
        let mut queries = gather(sizes, sizes.per_group, task, q, start, count);
        fast(
            #[inline(always)]
            || rotate(&mut queries, table, start, count, 1.0, scale),
        );
        let queries = Matrix::new(queries, rows, dim);
        let from = firsts.lowest(start, count);
        let seen = start + count - from;
        let mut scores = queries.times_transposed(&keys.narrow(from, seen));
        fast(
            #[inline(always)]
            || {
                for (row, scores) in scores.values_mut().chunks_exact_mut(seen).enumerate() {
                    let position = start + row % count;
                    let first = firsts.at(position) - from;
                    softmax(scores, first, position + 1 - from);
                }
            },
        );
        output.extend_from_slice(scores.times(&values.narrow(from, seen)).values());
        if keep {
            blocks.push(Block {
                from,
                q: queries,
                probabilities: scores,
            });
        }
    }
    let task = Task {
        k: keys,
        v: values,
        blocks,
    };
    (task, output)
}

/// Softmax of a row over its keys `first..end`; the others become zero.
#[inline(always)]
fn softmax(scores: &mut [f32], first: usize, end: usize) {
    let (seen, after) = scores.split_at_mut(end);
    let (before, seen) = seen.split_at_mut(first);
    let largest = max(seen);
    for score in seen.iter_mut() {
        *score = exp(*score - largest);
    }
    let inverse = 1.0 / sum(seen);
    for score in seen.iter_mut() {
        *score *= inverse;
    }
    before.fill(0.0);
    after.fill(0.0);
}

/// Turns each row `[dim]` by its position's angle times `direction`, and scales it.
#[inline(always)]
fn rotate(
    rows: &mut [f32],
    table: &RopeTable,
    start: usize,
    count: usize,
    direction: f32,
    scale: f32,
) {
    let half = table.half;
    for (row, values) in rows.chunks_exact_mut(2 * half).enumerate() {
        let at = (start + row % count) * half;
        let (first, second) = values.split_at_mut(half);
        let angles = table.cos[at..at + half]
            .iter()
            .zip(&table.sin[at..at + half]);
        for ((first, second), (cos, sin)) in first.iter_mut().zip(second).zip(angles) {
            let (a, b) = (*first * scale, *second * scale);
            let sin = sin * direction;
            *first = a * cos - b * sin;
            *second = b * cos + a * sin;
        }
    }
}

/// Rows of a task's heads for `count` positions: head after head, `[heads * count, dim]`.
fn gather(
    sizes: Sizes,
    heads: usize,
    task: usize,
    from: &Matrix,
    start: usize,
    count: usize,
) -> Vec<f32> {
    let Sizes {
        context,
        groups,
        dim,
        ..
    } = sizes;
    let (window, group) = (task / groups, task % groups);
    let width = groups * heads * dim;
    let mut out = Vec::with_capacity(heads * count * dim);
    for head in 0..heads {
        for position in start..start + count {
            let row = (window * context + position) * width;
            let at = row + (group * heads + head) * dim;
            out.extend_from_slice(&from.values()[at..at + dim]);
        }
    }
    out
}

/// Puts the tasks' rows, block after block and head after head, back in the activation layout.
fn scatter(sizes: Sizes, heads: usize, tasks: &[Vec<f32>]) -> Matrix {
    let Sizes {
        windows,
        context,
        groups,
        dim,
        ..
    } = sizes;
    let width = groups * heads * dim;
    let mut out = vec![0.0; windows * context * width];
    (out.par_chunks_mut(context * width))
        .zip(tasks.par_chunks(groups))
        .for_each(|(out, tasks)| {
            for (group, values) in tasks.iter().enumerate() {
                let mut rows = values.chunks_exact(dim);
                for (start, count) in sizes.blocks() {
                    for head in 0..heads {
                        for position in start..start + count {
                            let at = position * width + (group * heads + head) * dim;
                            let row = rows.next().expect("one row per head and position");
                            out[at..at + dim].copy_from_slice(row);
                        }
                    }
                }
            }
        });
    Matrix::new(out, windows * context, width)
}

impl Pull<3> for State {
    fn pull(self, upstream: Matrix, _: [bool; 3]) -> [Option<Matrix>; 3] {
        let sizes = self.sizes;
        debug_assert_eq!(upstream.cols(), sizes.query_width());
        let pulled: Vec<[Vec<f32>; 3]> = (self.tasks.par_iter().enumerate())
            .map(|(index, task)| backward(sizes, index, task, &upstream, &self.table))
            .collect();
        let (mut dq, mut dk, mut dv) = (Vec::new(), Vec::new(), Vec::new());
        for [q, k, v] in pulled {
            dq.push(q);
            dk.push(k);
            dv.push(v);
        }
        let (dk, dv) = (scatter(sizes, 1, &dk), scatter(sizes, 1, &dv));
        debug_assert_eq!(dk.cols(), sizes.key_width());
        [
            Some(scatter(sizes, sizes.per_group, &dq)),
            Some(dk),
            Some(dv),
        ]
    }
}

/// With `P = softmax(Q K^T)` and `O = P V`: `dV = P^T dO`, `dP = dO V^T`,
/// `dS = P (dP - rowsum(dP P))`, `dQ = dS K`, `dK = dS^T Q`; then the rotations are undone.
fn backward(
    sizes: Sizes,
    index: usize,
    task: &Task,
    upstream: &Matrix,
    table: &RopeTable,
) -> [Vec<f32>; 3] {
    let Sizes {
        context,
        dim,
        per_group,
        ..
    } = sizes;
    let scale = 1.0 / (dim as f32).sqrt();
    let mut dq = Vec::with_capacity(per_group * context * dim);
    let (mut dk, mut dv) = (vec![0.0; context * dim], vec![0.0; context * dim]);
    for ((start, count), block) in sizes.blocks().zip(&task.blocks) {
        let (from, seen) = (block.from, start + count - block.from);
        let dout = gather(sizes, per_group, index, upstream, start, count);
        let dout = Matrix::new(dout, per_group * count, dim);
        let probabilities = &block.probabilities;
        accumulate(
            &mut dv[from * dim..],
            &probabilities.transposed_times(&dout),
        );
        let mut dscores = dout.times_transposed(&task.v.narrow(from, seen));
        fast(
            #[inline(always)]
            || softmax_backward(dscores.values_mut(), probabilities.values(), seen),
        );
        accumulate(&mut dk[from * dim..], &dscores.transposed_times(&block.q));
        let mut queries = dscores.times(&task.k.narrow(from, seen));
        fast(
            #[inline(always)]
            || rotate(queries.values_mut(), table, start, count, -1.0, scale),
        );
        dq.extend_from_slice(queries.values());
    }
    fast(
        #[inline(always)]
        || rotate(&mut dk, table, 0, context, -1.0, 1.0),
    );
    [dq, dk, dv]
}

/// Adds to the first rows of `to`.
fn accumulate(to: &mut [f32], part: &Matrix) {
    crate::model::vector::add(&mut to[..part.values().len()], part.values());
}

#[inline(always)]
fn softmax_backward(dscores: &mut [f32], probabilities: &[f32], keys: usize) {
    let rows = dscores
        .chunks_exact_mut(keys)
        .zip(probabilities.chunks_exact(keys));
    for (dscores, probabilities) in rows {
        let along = dot(dscores, probabilities);
        for (dscore, probability) in dscores.iter_mut().zip(probabilities) {
            *dscore = probability * (*dscore - along);
        }
    }
}
