//! An adapter as the engine computes with it: `y += B (scale A x)` for single rows, in bf16.
//!
//! Every row of a step may have another adapter, so the pairs are laid out for one row: `A` as it is, each of its rows
//! padded to whole panels, and `B` as `[panel of outputs][rank][64]`. Both sums run in a fixed order, as those of the
//! base do. A merged copy of the base is never made.

use tributary_protocol::adapter::Adapter;
use tributary_protocol::hash::Digest;

use crate::config::Config;
use crate::lora::{LoraError, places};
use crate::model::vector::fast;
use crate::panel::{Lanes, PANEL, add_widened, narrowed, panels, total};

/// Products of `A` that one task makes.
pub(crate) const RANKS: usize = 8;

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
    inputs: usize,
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
        let mut halves = Vec::new();
        let mut pair = |module: usize| {
            let (a, b) = (&segments[2 * module], &segments[2 * module + 1]);
            let pair = Pair {
                a: halves.len(),
                b: halves.len() + rank * panels(a.cols) * PANEL,
                inputs: panels(a.cols),
            };
            for row in adapter.segment(a).chunks_exact(a.cols) {
                halves.extend(row.iter().map(|value| narrowed(*value)));
                halves.resize(halves.len().next_multiple_of(PANEL), 0);
            }
            let values = adapter.segment(b);
            for panel in 0..panels(b.rows) {
                for at in 0..rank {
                    let lane = |lane: usize| values.get((panel * PANEL + lane) * rank + at);
                    let half = |value: Option<&f32>| value.map_or(0, |value| narrowed(*value));
                    halves.extend((0..PANEL).map(|l| half(lane(l))));
                }
            }
            pair
        };
        let pairs = places.into_iter().map(|place| place.map(&mut pair));
        Ok(Self {
            content,
            scale: adapter.shape().scale(),
            rank,
            pairs: pairs.collect(),
            halves,
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

    /// `scale A x` from product `first` on, for row `row` of `x` `[panel][rows][64]`. What the linear does not adapt is
    /// zero.
    pub(crate) fn narrow(&self, linear: usize, x: &[f32], rows: usize, row: usize, part: Part) {
        let Part { first, out } = part;
        let Some(pair) = self.pairs[linear] else {
            out.fill(0.0);
            return;
        };
        let length = pair.inputs * PANEL;
        for (at, out) in out.iter_mut().enumerate() {
            let at = first + at;
            if at >= self.rank {
                *out = 0.0;
                continue;
            }
            let a = &self.halves[pair.a + at * length..][..length];
            *out = self.scale
                * fast(
                    #[inline(always)]
                    || dot(a, x, rows, row),
                );
        }
    }

    /// `out += B narrow` for one panel of a linear's outputs.
    pub(crate) fn widen(&self, linear: usize, panel: usize, narrow: &[f32], out: &mut Lanes) {
        if let Some(pair) = self.pairs[linear] {
            let size = self.rank * PANEL;
            let b = &self.halves[pair.b + panel * size..][..size];
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
fn dot(a: &[u16], x: &[f32], rows: usize, row: usize) -> f32 {
    let mut sums = [0.0f32; PANEL];
    for (panel, a) in a.as_chunks::<PANEL>().0.iter().enumerate() {
        let x: &Lanes = x[(panel * rows + row) * PANEL..][..PANEL]
            .try_into()
            .expect("a panel");
        add_widened(&mut sums, a, |lane| x[lane]);
    }
    total(sums)
}

#[inline(always)]
fn widen(b: &[u16], narrow: &[f32], out: &mut Lanes) {
    let mut sums = *out;
    for (b, factor) in b.as_chunks::<PANEL>().0.iter().zip(narrow) {
        add_widened(&mut sums, b, |_| *factor);
    }
    *out = sums;
}
