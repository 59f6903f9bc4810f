//! Keys and values in pages, and attention over them.
//!
//! A page holds 32 positions of one text for every layer, keys turned over (`[dimension][position]`) and values as they
//! are, both bf16. A query's scores and the sum over values are the same panel product as every linear.
//!
//! **The order of sums follows from positions alone**: the positions of a text are cut in blocks of 256; each block gives
//! its largest score, the sum of its weights and its weighted values; blocks are joined from first to last, as online
//! softmax does (arXiv 1805.02867). Whether blocks are joined by one task or computed by several, and which queries are
//! computed together, changes nothing.

use crate::config::Config;
use crate::model::rope::RopeTable;
use crate::model::vector::{exp, fast};
use crate::panel::{Lanes, PANEL, Product, VECTOR, narrowed, panels, total, widen_all, widened};

/// Positions of a page.
pub(crate) const PAGE: usize = crate::pages::PAGE_TOKENS;
/// Positions whose weights are summed before they are joined with those before them.
pub(crate) const BLOCK: usize = 256;
/// Rows of one text that a task attends for when there are many.
pub(crate) const TILE: usize = 16;

/// What attention takes from a configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub(crate) kv: usize,
    /// Queries of each head of keys.
    pub(crate) group: usize,
    pub(crate) dim: usize,
}

impl Heads {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            kv: config.kv_heads,
            group: config.heads / config.kv_heads,
            dim: config.head_dim,
        }
    }

    /// Halves of one page of one head: keys, then values.
    pub(crate) fn page(self) -> usize {
        2 * PAGE * self.dim
    }

    /// Numbers of one result: for each query of the group the values' panels, the largest score and the sum of weights.
    pub(crate) fn result(self) -> usize {
        self.group * (panels(self.dim) * PANEL + 2)
    }
}

/// Writes the keys and values of one position of one head into its page.
pub(crate) fn store(page: &mut [u16], heads: Heads, at: usize, key: &[f32], value: &[f32]) {
    let (keys, values) = page.split_at_mut(PAGE * heads.dim);
    for (row, key) in keys.chunks_exact_mut(PAGE).zip(key) {
        row[at] = narrowed(*key);
    }
    let values = &mut values[at * heads.dim..][..heads.dim];
    values
        .iter_mut()
        .zip(value)
        .for_each(|(to, from)| *to = narrowed(*from));
}

/// Rows of one text, one head of keys, and some blocks.
pub(crate) struct Attention<'a> {
    pub(crate) heads: Heads,
    /// All pages of the head.
    pub(crate) cache: &'a [u16],
    /// The text's pages.
    pub(crate) table: &'a [u32],
    /// Position of the first row.
    pub(crate) position: usize,
    pub(crate) blocks: std::ops::Range<usize>,
    /// Rotated and scaled queries, `[panel of dimensions][row * group + query][64]`.
    pub(crate) queries: &'a [f32],
    pub(crate) rows: usize,
}

/// Buffers of a thread.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    weights: Vec<f32>,
    sums: Vec<f32>,
    states: Vec<State>,
}

/// The largest score and the sum of weights of a query so far.
#[derive(Clone, Copy, Default)]
struct State {
    largest: f32,
    sum: f32,
}

impl Attention<'_> {
    /// Attends; `out` holds a result for each row (see [`Heads::result`]).
    pub(crate) fn run(self, scratch: &mut Scratch, out: &mut [f32]) {
        let Heads { group, dim, .. } = self.heads;
        let pairs = self.rows * group;
        let width = panels(dim) * PANEL;
        for block in self.blocks.clone() {
            let start = block * BLOCK;
            // Positions of the block that the last row sees.
            let seen = (self.position + self.rows).saturating_sub(start).min(BLOCK);
            self.scores(start, seen, scratch);
            let Scratch {
                weights,
                sums,
                states,
                ..
            } = scratch;
            states.resize(pairs, State::default());
            for (pair, state) in states.iter_mut().enumerate() {
                let sees = (self.position + pair / group + 1)
                    .saturating_sub(start)
                    .min(seen);
                fast(
                    #[inline(always)]
                    || *state = soften(weights, pairs, pair, sees, seen),
                );
            }
            sums.clear();
            sums.resize(panels(dim) * pairs * PANEL, 0.0);
            self.sum_values(start, seen, scratch);
            for (pair, state) in scratch.states.iter().enumerate() {
                if self.position + pair / group < start {
                    continue;
                }
                let size = width + 2;
                let result = &mut out[pair * size..][..size];
                let first = block == self.blocks.start;
                join(result, first, *state, |panel| {
                    let at = (panel * pairs + pair) * PANEL;
                    scratch.sums[at..at + PANEL].try_into().expect("a panel")
                });
            }
        }
    }

    /// The half pages of 64 positions from `at` on, or nothing beyond the text.
    fn pages(&self, at: usize) -> [Option<&[u16]>; 2] {
        [at / PAGE, at / PAGE + 1].map(|index| {
            let page = *self.table.get(index)? as usize;
            Some(&self.cache[page * self.heads.page()..][..self.heads.page()])
        })
    }

    /// Fills `weights` `[panel of positions][pair][64]` with scores.
    fn scores(&self, start: usize, seen: usize, scratch: &mut Scratch) {
        let pairs = self.rows * self.heads.group;
        let dim = self.heads.dim;
        scratch.keys.resize(dim * PANEL, 0.0);
        scratch.weights.resize(BLOCK * pairs, 0.0);
        let places = scratch.weights.chunks_exact_mut(pairs * PANEL);
        for (panel, out) in places.take(panels(seen)).enumerate() {
            for (half, page) in self.pages(start + panel * PANEL).into_iter().enumerate() {
                // Positions behind the text come to scores that nobody looks at.
                let Some(page) = page else { continue };
                let keys = page[..PAGE * dim].as_chunks::<PAGE>().0;
                let rows = scratch.keys.as_chunks_mut::<PANEL>().0;
                fast(
                    #[inline(always)]
                    || widen_keys(rows, keys, half),
                );
            }
            let product = Product {
                weights: &scratch.keys,
                inputs: dim,
                x: self.queries,
                x_rows: pairs,
                first: 0,
                out,
                add: false,
            };
            product.run();
        }
    }

    /// Adds the weighted values of a block to `sums` `[panel of dimensions][pair][64]`.
    fn sum_values(&self, start: usize, seen: usize, scratch: &mut Scratch) {
        let Heads { group, dim, .. } = self.heads;
        let pairs = self.rows * group;
        let width = panels(dim) * PANEL;
        scratch.values.resize(PANEL * width, 0.0);
        for panel in 0..panels(seen) {
            // Positions that the text does not have are left out: what lies there is not its own.
            let inputs = (seen - panel * PANEL).min(PANEL);
            for (half, page) in self.pages(start + panel * PANEL).into_iter().enumerate() {
                let Some(page) = page else { continue };
                let values = &page[PAGE * dim..];
                fast(
                    #[inline(always)]
                    || widen_values(&mut scratch.values, values, dim, half),
                );
            }
            let weights = &scratch.weights[panel * pairs * PANEL..][..pairs * PANEL];
            let sums = scratch.sums.chunks_exact_mut(pairs * PANEL);
            for (values, out) in scratch.values.chunks_exact(PANEL * PANEL).zip(sums) {
                let product = Product {
                    weights: values,
                    inputs,
                    x: weights,
                    x_rows: pairs,
                    first: 0,
                    out,
                    add: true,
                };
                product.run();
            }
        }
    }
}

/// Half of the positions of a panel of keys.
#[inline(always)]
fn widen_keys(rows: &mut [Lanes], keys: &[[u16; PAGE]], half: usize) {
    for (to, from) in rows.iter_mut().zip(keys) {
        widen_all(&mut to[half * PAGE..][..PAGE], from);
    }
}

/// Half of the positions of the panels of values, `[panel of dimensions][position][64]`.
#[inline(always)]
fn widen_values(values: &mut [f32], page: &[u16], dim: usize, half: usize) {
    for (at, from) in page.chunks_exact(dim).enumerate() {
        let position = half * PAGE + at;
        for (panel, from) in from.chunks(PANEL).enumerate() {
            let to = &mut values[(panel * PANEL + position) * PANEL..][..PANEL];
            let whole = from.len() / VECTOR * VECTOR;
            widen_all(to, from);
            let rest = to[whole..].iter_mut().zip(&from[whole..]);
            rest.for_each(|(to, from)| *to = widened(*from));
        }
    }
}

/// Turns the scores of one query into weights; those that it does not see become zero.
#[inline(always)]
fn soften(weights: &mut [f32], pairs: usize, pair: usize, sees: usize, seen: usize) -> State {
    let mut largest = f32::NEG_INFINITY;
    for panel in 0..panels(sees) {
        let scores = &weights[(panel * pairs + pair) * PANEL..][..PANEL];
        let count = (sees - panel * PANEL).min(PANEL);
        for score in &scores[..count] {
            largest = if *score > largest { *score } else { largest };
        }
    }
    let mut sums = [0.0f32; PANEL];
    for panel in 0..panels(seen) {
        let scores = &mut weights[(panel * pairs + pair) * PANEL..][..PANEL];
        let scores: &mut Lanes = scores.try_into().expect("a panel");
        let count = sees.saturating_sub(panel * PANEL);
        for (lane, score) in scores.iter_mut().enumerate() {
            let weight = exp(*score - largest);
            *score = if lane < count { weight } else { 0.0 };
        }
        for lane in 0..PANEL {
            sums[lane] += scores[lane];
        }
    }
    State {
        largest,
        sum: total(sums),
    }
}

/// Joins a block with the result of the blocks before it.
fn join<'a>(result: &mut [f32], first: bool, state: State, sums: impl Fn(usize) -> &'a Lanes) {
    let (values, last) = result.split_at_mut(result.len() - 2);
    let values = values.as_chunks_mut::<PANEL>().0;
    if first {
        for (panel, values) in values.iter_mut().enumerate() {
            *values = *sums(panel);
        }
        last.copy_from_slice(&[state.largest, state.sum]);
        return;
    }
    let before = State {
        largest: last[0],
        sum: last[1],
    };
    let (joined, old, new) = joined(before, state);
    for (panel, values) in values.iter_mut().enumerate() {
        let sums = sums(panel);
        fast(
            #[inline(always)]
            || blend(values, old, sums, new),
        );
    }
    last.copy_from_slice(&[joined.largest, joined.sum]);
}

/// The state of two stretches together, and what the values of each are multiplied by.
fn joined(one: State, two: State) -> (State, f32, f32) {
    let largest = if two.largest > one.largest {
        two.largest
    } else {
        one.largest
    };
    let (old, new) = (exp(one.largest - largest), exp(two.largest - largest));
    let sum = one.sum.mul_add(old, two.sum * new);
    (State { largest, sum }, old, new)
}

#[inline(always)]
fn blend(values: &mut Lanes, old: f32, sums: &Lanes, new: f32) {
    for lane in 0..PANEL {
        values[lane] = values[lane].mul_add(old, sums[lane] * new);
    }
}

/// Where the results of a row lie, stretch after stretch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stretches {
    pub(crate) first: usize,
    pub(crate) step: usize,
    pub(crate) count: usize,
}

/// What one query of a row attends to: its results joined from first to last and divided by their sum of weights, the
/// `panel`-th panel of its dimensions.
pub(crate) fn finished(
    results: &[f32],
    stretches: Stretches,
    heads: Heads,
    query: usize,
    panel: usize,
) -> Lanes {
    let size = panels(heads.dim) * PANEL + 2;
    let mut found = [0.0; PANEL];
    let mut state = State::default();
    for block in 0..stretches.count {
        let at = stretches.first + block * stretches.step;
        let result = &results[at + query * size..][..size];
        let values: &Lanes = result[panel * PANEL..][..PANEL]
            .try_into()
            .expect("a panel");
        let next = State {
            largest: result[size - 2],
            sum: result[size - 1],
        };
        if block == 0 {
            (found, state) = (*values, next);
            continue;
        }
        let (together, old, new) = joined(state, next);
        fast(
            #[inline(always)]
            || blend(&mut found, old, values, new),
        );
        state = together;
    }
    found.map(|value| value / state.sum)
}

/// Turns a head at `position` and scales it.
pub(crate) fn rotate(head: &mut [f32], table: &RopeTable, position: usize, scale: f32) {
    let half = table.half;
    let (cos, sin) = (
        &table.cos[position * half..][..half],
        &table.sin[position * half..][..half],
    );
    let (first, second) = head.split_at_mut(half);
    for (pair, (a, b)) in first.iter_mut().zip(second).enumerate() {
        let (cos, sin) = (cos[pair] * scale, sin[pair] * scale);
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}
