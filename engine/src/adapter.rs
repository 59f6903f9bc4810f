//! An adapter as the engine computes with it: `y += B (scale A x)` for single rows, in bf16.
//!
//! Every row of a step may have another adapter, so the pairs are laid out for one row: `A` as `[four ranks][panel of
//! inputs][4][64]`, `B` as `[panel of outputs][rank][64]`. The factors `A` of linears that share their inputs lie side by
//! side, and their factors `B` behind them: whoever works on one row reads one stretch of memory from its beginning to its
//! end. Both sums run in a fixed order, as those of the base do, and what an adapter adds is summed up before it is
//! added. A merged copy of the base is never made.

use tributary_protocol::adapter::{Adapter, Segment};
use tributary_protocol::hash::Digest;

use crate::config::Config;
use crate::kernel::{RANKS, fetch_ahead, halves_products, in_large_pages};
use crate::lora::{LoraError, places};
use crate::model::vector::fast;
use crate::panel::{Lanes, PANEL, add_widened, narrowed, panels, total};

/// Linears of a layer that share their inputs, in the order of a layer's weights.
const GROUPS: [std::ops::Range<usize>; 4] = [0..3, 3..4, 4..6, 6..7];
/// Linears of a layer.
const LINEARS: usize = 7;
/// Columns of `B` that are packed together: a line of the cache of each row.
const COLUMNS: usize = 16;

/// An adapter in memory, named by its content.
#[derive(Debug)]
pub struct LoadedAdapter {
    content: Digest,
    scale: f32,
    rank: usize,
    halves: Vec<u16>,
    /// `layer * 7 + linear`.
    pairs: Vec<Option<Pair>>,
}

/// Where the factors of one linear lie.
#[derive(Clone, Copy, Debug)]
struct Pair {
    a: usize,
    b: usize,
    /// Panels.
    inputs: usize,
    /// Panels.
    outputs: usize,
}

/// Factors that are packed one behind the other.
struct Packed<'a> {
    adapter: &'a Adapter,
    segments: &'a [Segment],
    halves: Vec<u16>,
}

/// Halves of an adapter that is packed.
fn packed_length(adapter: &Adapter) -> usize {
    let segments = adapter.shape().segments();
    let pairs = segments.as_chunks::<2>().0.iter();
    let rows = |a: &Segment, b: &Segment| {
        let narrow = a.rows.next_multiple_of(RANKS) * panels(a.cols);
        PANEL * (narrow + b.cols * panels(b.rows))
    };
    pairs.map(|[a, b]| rows(a, b)).sum()
}

impl Packed<'_> {
    /// Packs factor `A` of a module, its ranks filled up to whole fours with zeros.
    fn narrowing(&mut self, module: usize) -> usize {
        let start = self.halves.len();
        let segment = &self.segments[2 * module];
        let rows: Vec<&[f32]> = (self.adapter.segment(segment))
            .chunks_exact(segment.cols)
            .collect();
        for four in rows.chunks(RANKS) {
            for panel in 0..panels(segment.cols) {
                for rank in 0..RANKS {
                    let row = four.get(rank).map_or(&[][..], |row| &row[panel * PANEL..]);
                    let mut halves = [0; PANEL];
                    narrow_all(row, &mut halves);
                    self.halves.extend_from_slice(&halves);
                }
            }
        }
        start
    }

    /// Packs factor `B` of a module.
    fn widening(&mut self, module: usize) -> usize {
        let start = self.halves.len();
        let segment = &self.segments[2 * module + 1];
        for rows in self.adapter.segment(segment).chunks(PANEL * segment.cols) {
            self.turn(rows, segment.cols);
        }
        start
    }

    /// Packs up to a panel of rows of `B`: `[rank][64]`, zeros for rows that there are not.
    fn turn(&mut self, rows: &[f32], rank: usize) {
        let mut block = [[0.0; COLUMNS]; PANEL];
        let mut halves = [[0; PANEL]; COLUMNS];
        for first in (0..rank).step_by(COLUMNS) {
            let columns = COLUMNS.min(rank - first);
            for (to, row) in block.iter_mut().zip(rows.chunks_exact(rank)) {
                to[..columns].copy_from_slice(&row[first..first + columns]);
            }
            turn_all(&block, &mut halves);
            self.halves
                .extend_from_slice(halves[..columns].as_flattened());
        }
    }
}

/// Narrows as many numbers as both have.
fn narrow_all(values: &[f32], halves: &mut [u16; PANEL]) {
    fast(
        #[inline(always)]
        || {
            for (half, value) in halves.iter_mut().zip(values) {
                *half = narrowed(*value);
            }
        },
    );
}

/// Narrows rows into columns.
fn turn_all(rows: &[[f32; COLUMNS]; PANEL], columns: &mut [[u16; PANEL]; COLUMNS]) {
    fast(
        #[inline(always)]
        || {
            for (at, column) in columns.iter_mut().enumerate() {
                for (half, row) in column.iter_mut().zip(rows) {
                    *half = narrowed(row[at]);
                }
            }
        },
    );
}

impl LoadedAdapter {
    /// Lays out `adapter`, whose content hash is `content`, for a base of `config`.
    ///
    /// # Errors
    /// When it does not fit the base.
    pub fn new(config: &Config, adapter: &Adapter, content: Digest) -> Result<Self, LoraError> {
        let places = places(config, adapter.shape())?;
        let segments = adapter.shape().segments();
        let rank = adapter.shape().rank as usize;
        let mut packed = Packed {
            adapter,
            segments: &segments,
            halves: in_large_pages(packed_length(adapter)),
        };
        let mut pairs = vec![None; places.len()];
        for layer in (0..places.len()).step_by(LINEARS) {
            for group in GROUPS.map(|g| layer + g.start..layer + g.end) {
                let found = group.filter_map(|linear| Some((linear, places[linear]?)));
                let found: Vec<(usize, usize)> = found.collect();
                let first = found.iter().map(|(_, module)| packed.narrowing(*module));
                let first: Vec<usize> = first.collect();
                for ((linear, module), a) in found.into_iter().zip(first) {
                    let (a_shape, b_shape) = (&segments[2 * module], &segments[2 * module + 1]);
                    pairs[linear] = Some(Pair {
                        a,
                        b: packed.widening(module),
                        inputs: panels(a_shape.cols),
                        outputs: panels(b_shape.rows),
                    });
                }
            }
        }
        Ok(Self {
            content,
            scale: adapter.shape().scale(),
            rank,
            pairs,
            halves: packed.halves,
        })
    }

    /// As [`LoadedAdapter::new`], with the content hash taken on a thread beside.
    ///
    /// # Errors
    /// When it does not fit the base.
    pub fn hashed(config: &Config, adapter: &Adapter) -> Result<Self, LoraError> {
        std::thread::scope(|scope| {
            let content = scope.spawn(|| adapter.content());
            let mut loaded = Self::new(config, adapter, Digest::default())?;
            loaded.content = content.join().expect("hashing ends");
            Ok(loaded)
        })
    }

    /// Hash of what it is.
    pub fn content(&self) -> Digest {
        self.content
    }

    /// Bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        2 * self.halves.len()
    }

    /// Products of `A` with one row.
    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    /// Whether it changes a linear.
    pub(crate) fn adapts(&self, linear: usize) -> bool {
        self.pairs[linear].is_some()
    }

    /// `scale A x` from product `first` on, a multiple of four, for row `row` of `x` `[panel][rows][64]`. What the linear
    /// does not adapt is zero.
    pub(crate) fn narrow(&self, linear: usize, x: &[f32], rows: usize, row: usize, part: Part) {
        let Part { first, out } = part;
        let Some(pair) = self.pairs[linear] else {
            out.fill(0.0);
            return;
        };
        let length = RANKS * pair.inputs * PANEL;
        let x: &[Lanes] = x.as_chunks().0;
        for (at, out) in out.chunks_mut(RANKS).enumerate() {
            let at = first + at * RANKS;
            if at >= self.rank {
                out.fill(0.0);
                continue;
            }
            let a = &self.halves[pair.a + at / RANKS * length..][..length];
            let sums = halves_products(a.as_chunks().0, x, row, rows);
            fast(
                #[inline(always)]
                || {
                    for (out, sums) in out.iter_mut().zip(sums) {
                        *out = self.scale * total(sums);
                    }
                },
            );
        }
    }

    /// `B narrow` for the outputs of a linear from panel `first` on, `[panel][64]`; what it does not adapt stays as it is.
    pub(crate) fn widen(&self, linear: usize, first: usize, narrow: &[f32], out: &mut [f32]) {
        if let Some(pair) = self.pairs[linear] {
            let size = self.rank * PANEL;
            let b = &self.halves[pair.b..][first * size..pair.outputs * size];
            fast(
                #[inline(always)]
                || widen(b, &narrow[..self.rank], out),
            );
        }
    }
}

/// Some products of `A`.
pub(crate) struct Part<'a> {
    pub(crate) first: usize,
    pub(crate) out: &'a mut [f32],
}

#[inline(always)]
fn widen(b: &[u16], narrow: &[f32], out: &mut [f32]) {
    let b: &[[u16; PANEL]] = b.as_chunks().0;
    let out: &mut [Lanes] = out.as_chunks_mut().0;
    for (out, b) in out.iter_mut().zip(b.chunks_exact(narrow.len())) {
        let mut sums = [0.0; PANEL];
        for (b, factor) in b.iter().zip(narrow) {
            fetch_ahead(b, PANEL);
            add_widened(&mut sums, b, |_| *factor);
        }
        *out = sums;
    }
}
