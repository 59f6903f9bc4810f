//! One forward pass over rows of many texts at once.
//!
//! A step is a list of [`Span`]s: for each text the tokens to read, where they stand, the pages that hold what was read
//! before, and an adapter or none. Rows of all spans go through each weight together, so it is read from memory once;
//! each row's adapter and attention are its own. **What a row comes to does not depend on the others**: every sum runs
//! in an order that follows from its own position (`panel`, `attend`).
//!
//! ```text
//! embed -> [ norm -> q k v -> store -> attend -> join -> o + -> norm -> silu(gate) up -> down + ] x layers -> head
//! ```
//! Each arrow is one task of the team (`kernel`). Buffers grow to the largest step and stay.

mod linears;
mod rows;

use std::cell::RefCell;

use crate::adapter::LoadedAdapter;
use crate::attend::{self, Attention, BLOCK, Heads, Scratch, Stretches, TILE};
use crate::base::BaseInfo;
use crate::config::Config;
use crate::engine::Precision;
use crate::kernel::Team;
use crate::model::rope::RopeTable;
use crate::model::vector::fast;
use crate::panel::{PANEL, panels};
use crate::weights::{PackedParameter, Weights};
use linears::{Adapters, Linears};
use rows::{Rows, gated, gather, norm, turn};

/// Rows of a text up to which its blocks of positions are separate tasks: with more, there are enough tasks without.
const FEW_ROWS: usize = 4;
/// Rows up to which work on each number alone is done by the caller: handing it out would take as long.
const SMALL: usize = 1 << 13;

/// Some tokens of one text.
#[derive(Clone, Copy)]
pub(crate) struct Span<'a> {
    /// What to read; at least one.
    pub(crate) tokens: &'a [u32],
    /// Position of the first.
    pub(crate) position: usize,
    /// The text's pages, up to the last of `tokens`.
    pub(crate) pages: &'a [u32],
    pub(crate) adapter: Option<&'a LoadedAdapter>,
    /// Behind how many of the last tokens logits are wanted.
    pub(crate) logits: usize,
}

/// What the latest step came to.
#[derive(Clone, Copy)]
pub(crate) struct Logits<'a> {
    all: &'a [f32],
    vocab: usize,
}

impl<'a> Logits<'a> {
    /// Those of the `nth` row that asked for them, in the order of spans.
    pub(crate) fn of(self, nth: usize) -> &'a [f32] {
        &self.all[nth * self.vocab..][..self.vocab]
    }
}

/// A task of attention: some rows of one text and some blocks of positions.
struct Unit {
    span: usize,
    /// The first row, counted through the step.
    row: usize,
    rows: usize,
    position: usize,
    blocks: std::ops::Range<usize>,
}

/// A model that reads, and the keys and values of what it has read.
pub(crate) struct Forward {
    config: Config,
    heads: Heads,
    precision: Precision,
    weights: Weights,
    table: RopeTable,
    /// For each layer `[head][page][halves]`.
    cache: Vec<Vec<u16>>,
    pages: usize,
    buffers: Buffers,
    team: Team,
    /// For work that is too small to hand out.
    alone: Team,
}

#[derive(Default)]
struct Buffers {
    x: Vec<f32>,
    y: Vec<f32>,
    /// Inputs as wide as the residual stream.
    normed: Rows,
    /// Inputs as wide as attention or the feed-forward block.
    wide: Rows,
    factors: Vec<f32>,
    qkv: Vec<f32>,
    /// What adapters make of the inputs of some linears.
    added: Vec<f32>,
    results: Vec<f32>,
    rows: Vec<f32>,
    logits: Vec<f32>,
    cuts: Vec<usize>,
    head_cuts: Vec<usize>,
    stretches: Vec<Stretches>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Forward {
    /// Takes a base, whose parameters come in canonical order. Texts may have up to `positions` tokens, and share `pages` pages.
    pub(crate) fn new(
        info: &BaseInfo,
        parameters: impl Iterator<Item = PackedParameter>,
        precision: Precision,
        threads: usize,
        (positions, pages): (usize, usize),
    ) -> Self {
        let config = info.config.clone();
        let heads = Heads::new(&config);
        let layer = heads.kv * pages * heads.page();
        Self {
            weights: Weights::new(&config, parameters),
            table: RopeTable::new(&config, positions),
            cache: (0..config.layers).map(|_| vec![0; layer]).collect(),
            pages,
            buffers: Buffers::default(),
            team: Team::new(threads),
            alone: Team::new(1),
            heads,
            precision,
            config,
        }
    }

    /// Tokens that a row has logits of.
    pub(crate) fn vocab(&self) -> usize {
        self.config.vocab
    }

    /// Bytes of weights that a step reads.
    pub(crate) fn weight_bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// The logits of the `nth` row that asked for them in the latest step, in the order of spans.
    pub(crate) fn logits(&self, nth: usize) -> &[f32] {
        let logits = Logits {
            all: &self.buffers.logits,
            vocab: self.config.vocab,
        };
        logits.of(nth)
    }

    /// Calls `work` with every item on the team's threads; it may look at the logits of the latest step.
    pub(crate) fn each<T: Send>(
        &mut self,
        items: &mut [T],
        work: impl Fn(Logits<'_>, &mut T) + Sync,
    ) {
        let logits = Logits {
            all: &self.buffers.logits,
            vocab: self.config.vocab,
        };
        let cuts: Vec<usize> = (0..=items.len()).collect();
        (self.team).cut(items, &cuts, |_, items| {
            items.iter_mut().for_each(|item| work(logits, item));
        });
    }

    /// Reads the tokens of all spans.
    ///
    /// # Panics
    /// When a span has no page for one of its tokens, or a token is not in the vocabulary.
    pub(crate) fn step(&mut self, spans: &[Span]) {
        let rows: usize = spans.iter().map(|span| span.tokens.len()).sum();
        if rows == 0 {
            return;
        }
        let adapters = Adapters::of(spans);
        let units = self.plan(spans);
        self.grow(rows);
        self.embed(spans, rows);
        for layer in 0..self.config.layers {
            self.queries_keys_values(layer, rows, &adapters);
            self.store(layer, spans, rows);
            self.attend(layer, spans, &units, rows);
            self.joined(rows);
            self.residual(layer, 3, rows, &adapters);
            self.feed_forward(layer, rows, &adapters);
            self.residual(layer, 6, rows, &adapters);
        }
        self.head(spans, rows);
    }

    /// Tasks of attention, and where each row finds its results.
    fn plan(&mut self, spans: &[Span]) -> Vec<Unit> {
        let Buffers {
            stretches, cuts, ..
        } = &mut self.buffers;
        let result = self.heads.result();
        let mut units = Vec::new();
        stretches.clear();
        cuts.clear();
        cuts.push(0);
        let (mut row, mut at) = (0, 0);
        for (index, span) in spans.iter().enumerate() {
            let length = span.tokens.len();
            assert!(span.pages.len() * attend::PAGE >= span.position + length);
            let few = length <= FEW_ROWS;
            for first in (0..length).step_by(TILE) {
                let rows = TILE.min(length - first);
                let position = span.position + first;
                let blocks = (position + rows).div_ceil(BLOCK);
                stretches.extend((0..rows).map(|r| Stretches {
                    first: at + r * result,
                    step: rows * result,
                    count: if few { (position + r) / BLOCK + 1 } else { 1 },
                }));
                let tasks = if few { blocks } else { 1 };
                for task in 0..tasks {
                    let blocks = if few { task..task + 1 } else { 0..blocks };
                    units.push(Unit {
                        span: index,
                        row: row + first,
                        rows,
                        position,
                        blocks,
                    });
                    at += rows * result;
                    cuts.push(at);
                }
            }
            row += length;
        }
        // The same for every head of keys.
        let one = cuts.len();
        for head in 1..self.heads.kv {
            for index in 1..one {
                cuts.push(head * at + cuts[index]);
            }
        }
        self.buffers.results.resize(self.heads.kv * at, 0.0);
        units
    }

    fn grow(&mut self, rows: usize) {
        let config = &self.config;
        let [hidden, query, kv, ffn] = [
            config.hidden,
            config.query_width(),
            config.kv_width(),
            config.ffn,
        ]
        .map(panels);
        let b = &mut self.buffers;
        b.x.resize(rows * hidden * PANEL, 0.0);
        b.y.resize(rows * hidden.max(ffn) * PANEL, 0.0);
        b.normed.grow(rows, hidden, self.precision);
        b.wide.grow(rows, query.max(ffn), self.precision);
        b.factors.resize(rows, 0.0);
        b.qkv.resize(rows * (query + 2 * kv) * PANEL, 0.0);
        let head = self.pages * self.heads.page();
        b.head_cuts.clear();
        b.head_cuts.extend((0..=self.heads.kv).map(|at| at * head));
    }

    fn embed(&mut self, spans: &[Span], rows: usize) {
        let count = panels(self.config.hidden);
        let mut row = vec![[0.0; PANEL]; count];
        let tokens = spans.iter().flat_map(|span| span.tokens);
        for (at, token) in tokens.enumerate() {
            self.weights.embedding.row(*token as usize, &mut row);
            for (panel, values) in row.iter().enumerate() {
                let to = (panel * rows + at) * PANEL;
                self.buffers.x[to..to + PANEL].copy_from_slice(values);
            }
        }
    }

    /// The norm of the residual stream as the next inputs.
    fn norm(&mut self, layer: usize, which: usize, rows: usize) {
        let gain = &self.weights.layers[layer].norms[which];
        let (b, config) = (&mut self.buffers, &self.config);
        let small = rows * config.hidden < SMALL;
        let team = if small {
            &mut self.alone
        } else {
            &mut self.team
        };
        norm(team, &b.x, &mut b.factors, gain, config, &mut b.normed);
    }

    fn queries_keys_values(&mut self, layer: usize, rows: usize, adapters: &Adapters<'_>) {
        self.norm(layer, 0, rows);
        let (b, weights) = (&mut self.buffers, &self.weights.layers[layer]);
        let inputs = b.normed.inputs(rows);
        let place = (weights, layer);
        let buffer = &mut b.added;
        let linears = Linears::new(&mut self.team, place, 0..3, inputs, adapters, buffer);
        let counts = [0, 1, 2].map(|which| panels(weights.linears[which].outputs));
        let out = (&mut b.qkv[..], rows * PANEL);
        self.team.parts([out], (&mut [], 1), |index, [out], _| {
            let (which, panel) = match index {
                at if at < counts[0] => (0, at),
                at if at < counts[0] + counts[1] => (1, at - counts[0]),
                at => (2, at - counts[0] - counts[1]),
            };
            linears.apply(which, panel, out);
        });
    }

    /// Writes keys and values into the pages.
    fn store(&mut self, layer: usize, spans: &[Span], rows: usize) {
        let (heads, config) = (self.heads, &self.config);
        let b = &self.buffers;
        let gain = self.weights.layers[layer]
            .head_norms
            .as_ref()
            .map(|g| &g[1]);
        let from = panels(config.query_width()) * PANEL;
        let values = from + panels(config.kv_width()) * PANEL;
        let qkv = &b.qkv;
        let cache = &mut self.cache[layer];
        self.team.cut(cache, &b.head_cuts, |head, cache| {
            SCRATCH.with_borrow_mut(|scratch| {
                let pair = &mut scratch.queries;
                pair.resize(2 * heads.dim, 0.0);
                let (key, value) = pair[..2 * heads.dim].split_at_mut(heads.dim);
                let mut row = 0;
                for span in spans {
                    for at in 0..span.tokens.len() {
                        let position = span.position + at;
                        gather(qkv, rows, row, from + head * heads.dim, key);
                        gather(qkv, rows, row, values + head * heads.dim, value);
                        turn(key, gain, config, &self.table, position, 1.0);
                        let page = span.pages[position / attend::PAGE] as usize;
                        let page = &mut cache[page * heads.page()..][..heads.page()];
                        attend::store(page, heads, position % attend::PAGE, key, value);
                        row += 1;
                    }
                }
            });
        });
    }

    fn attend(&mut self, layer: usize, spans: &[Span], units: &[Unit], rows: usize) {
        let (heads, config) = (self.heads, &self.config);
        let gain = self.weights.layers[layer]
            .head_norms
            .as_ref()
            .map(|g| &g[0]);
        let scale = 1.0 / (heads.dim as f32).sqrt();
        let Buffers {
            qkv, results, cuts, ..
        } = &mut self.buffers;
        let (cache, table) = (&self.cache[layer], &self.table);
        let of_head = self.pages * heads.page();
        self.team.cut(results, cuts, |index, out| {
            let (head, unit) = (index / units.len(), &units[index % units.len()]);
            SCRATCH.with_borrow_mut(|scratch| {
                let pairs = unit.rows * heads.group;
                let mut queries = std::mem::take(&mut scratch.queries);
                queries.clear();
                queries.resize(panels(heads.dim) * pairs * PANEL + heads.dim, 0.0);
                let (queries, one) = queries.split_at_mut(panels(heads.dim) * pairs * PANEL);
                for pair in 0..pairs {
                    let (row, query) = (pair / heads.group, pair % heads.group);
                    let at = (head * heads.group + query) * heads.dim;
                    gather(qkv, rows, unit.row + row, at, one);
                    turn(one, gain, config, table, unit.position + row, scale);
                    for (panel, part) in one.chunks(PANEL).enumerate() {
                        let to = (panel * pairs + pair) * PANEL;
                        queries[to..to + part.len()].copy_from_slice(part);
                    }
                }
                let attention = Attention {
                    heads,
                    cache: &cache[head * of_head..][..of_head],
                    table: spans[unit.span].pages,
                    position: unit.position,
                    blocks: unit.blocks.clone(),
                    queries,
                    rows: unit.rows,
                };
                attention.run(scratch, out);
            });
        });
    }

    /// Joins the results of attention as the inputs of the next product.
    fn joined(&mut self, rows: usize) {
        let heads = self.heads;
        let width = self.config.query_width();
        let small = rows * width < SMALL;
        let team = if small {
            &mut self.alone
        } else {
            &mut self.team
        };
        let b = &mut self.buffers;
        let (results, stretches) = (&b.results, &b.stretches);
        let of_head = results.len() / heads.kv;
        b.wide.fill(team, (rows, panels(width)), |panel, out| {
            for (row, out) in out.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
                *out = [0.0; PANEL];
                let mut feature = panel * PANEL;
                while feature < width.min((panel + 1) * PANEL) {
                    let (query, within) = (feature / heads.dim, feature % heads.dim);
                    let (head, query) = (query / heads.group, query % heads.group);
                    let results = &results[head * of_head..][..of_head];
                    let part = within / PANEL;
                    let found = attend::finished(results, stretches[row], heads, query, part);
                    // As far as the panels of both and the head go.
                    let (from, to) = (within % PANEL, feature % PANEL);
                    let count = (PANEL - from).min(PANEL - to).min(heads.dim - within);
                    out[to..to + count].copy_from_slice(&found[from..from + count]);
                    feature += count;
                }
            }
        });
    }

    /// Adds a linear of the wide inputs to the residual stream.
    fn residual(&mut self, layer: usize, which: usize, rows: usize, adapters: &Adapters<'_>) {
        let (b, weights) = (&mut self.buffers, &self.weights.layers[layer]);
        let inputs = b.wide.inputs(rows);
        let place = (weights, layer);
        let (one, buffer) = (which..which + 1, &mut b.added);
        let linears = Linears::new(&mut self.team, place, one, inputs, adapters, buffer);
        let length = b.x.len();
        let floats = [
            (&mut b.x[..], rows * PANEL),
            (&mut b.y[..length], rows * PANEL),
        ];
        self.team.parts(floats, (&mut [], 1), |panel, [x, y], _| {
            linears.apply(which, panel, y);
            fast(
                #[inline(always)]
                || x.iter_mut().zip(&*y).for_each(|(x, y)| *x += y),
            );
        });
    }

    /// `silu(gate x) * up x` as the wide inputs.
    fn feed_forward(&mut self, layer: usize, rows: usize, adapters: &Adapters<'_>) {
        self.norm(layer, 1, rows);
        let (b, weights) = (&mut self.buffers, &self.weights.layers[layer]);
        let inputs = b.normed.inputs(rows);
        let place = (weights, layer);
        let buffer = &mut b.added;
        let linears = Linears::new(&mut self.team, place, 4..6, inputs, adapters, buffer);
        let size = (rows, panels(self.config.ffn));
        b.wide.fill(&mut self.team, size, |panel, gate| {
            SCRATCH.with_borrow_mut(|scratch| {
                let up = &mut scratch.queries;
                up.resize(rows * PANEL, 0.0);
                let up = &mut up[..rows * PANEL];
                linears.apply(4, panel, gate);
                linears.apply(5, panel, up);
                fast(
                    #[inline(always)]
                    || gated(gate, up),
                );
            });
        });
    }

    /// Logits of the rows that want them.
    fn head(&mut self, spans: &[Span], rows: usize) {
        let mut wanted = Vec::new();
        let mut row = 0;
        for span in spans {
            row += span.tokens.len();
            wanted.extend(row - span.logits.min(span.tokens.len())..row);
        }
        let count = wanted.len();
        let (b, vocab) = (&mut self.buffers, self.config.vocab);
        b.logits.resize(count * vocab, 0.0);
        if count == 0 {
            return;
        }
        let hidden = panels(self.config.hidden);
        for panel in 0..hidden {
            for (at, row) in wanted.iter().enumerate() {
                let from = (panel * rows + row) * PANEL;
                let to = (panel * count + at) * PANEL;
                b.y[to..to + PANEL].copy_from_slice(&b.x[from..from + PANEL]);
            }
        }
        b.normed.grow(count, hidden, self.precision);
        b.factors.resize(count, 0.0);
        let x = &b.y[..hidden * count * PANEL];
        let gain = &self.weights.norm;
        let config = &self.config;
        norm(
            &mut self.team,
            x,
            &mut b.factors,
            gain,
            config,
            &mut b.normed,
        );
        let (head, inputs) = (self.weights.head(), b.normed.inputs(count));
        b.rows.resize(panels(vocab) * count * PANEL, 0.0);
        let out = (&mut b.rows[..], count * PANEL);
        self.team.parts([out], (&mut [], 1), |panel, [out], _| {
            head.multiply(panel, inputs, out);
        });
        let found = &b.rows;
        let out = (&mut b.logits[..], vocab);
        self.team.parts([out], (&mut [], 1), |row, [out], _| {
            for (panel, out) in out.chunks_mut(PANEL).enumerate() {
                let from = &found[(panel * count + row) * PANEL..];
                out.copy_from_slice(&from[..out.len()]);
            }
        });
    }
}

#[cfg(test)]
mod tests;
