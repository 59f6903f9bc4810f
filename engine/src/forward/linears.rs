//! Linears with their biases and the adapters of each row.

use std::ops::Range;

use super::Span;
use crate::adapter::{LoadedAdapter, Part, RANKS};
use crate::attend::TILE;
use crate::kernel::Team;
use crate::panel::PANEL;
use crate::weights::{Inputs, LayerWeights};

/// The adapters of a step's rows.
pub(super) struct Adapters<'a> {
    pub(super) rows: Vec<Option<&'a LoadedAdapter>>,
    /// Numbers of `narrow` for one linear of one row.
    pub(super) width: usize,
}

impl<'a> Adapters<'a> {
    pub(super) fn of(spans: &[Span<'a>]) -> Self {
        let each = |span: &Span<'a>| std::iter::repeat_n(span.adapter, span.tokens.len());
        let rows: Vec<_> = spans.iter().flat_map(each).collect();
        let rank = rows.iter().flatten().map(|a| a.rank()).max().unwrap_or(0);
        Self {
            rows,
            width: rank.next_multiple_of(RANKS),
        }
    }
}

/// Linears of one layer that share their inputs.
pub(super) struct Linears<'a> {
    weights: &'a LayerWeights,
    layer: usize,
    which: Range<usize>,
    inputs: Inputs<'a>,
    adapters: &'a Adapters<'a>,
    /// `[row][linear][rank]`
    narrow: &'a [f32],
}

impl<'a> Linears<'a> {
    /// Linears `which` of a layer; `buffer` takes what the adapters' first factors make of the inputs.
    pub(super) fn new(
        team: &mut Team,
        (weights, layer): (&'a LayerWeights, usize),
        which: Range<usize>,
        inputs: Inputs<'a>,
        adapters: &'a Adapters<'a>,
        buffer: &'a mut [f32],
    ) -> Self {
        narrow(team, buffer, inputs, adapters, (layer, which.clone()));
        Self {
            weights,
            layer,
            which,
            inputs,
            adapters,
            narrow: buffer,
        }
    }

    /// One panel of outputs, `[rows][64]`, with bias and adapters.
    pub(super) fn apply(&self, which: usize, panel: usize, out: &mut [f32]) {
        self.weights.linears[which].multiply(panel, self.inputs, out);
        if let Some(bias) = &self.weights.biases[which] {
            let bias = &bias[panel * PANEL..][..PANEL];
            for out in out.chunks_exact_mut(PANEL) {
                out.iter_mut()
                    .zip(bias)
                    .for_each(|(out, bias)| *out += bias);
            }
        }
        let width = self.adapters.width;
        if width == 0 {
            return;
        }
        let linear = self.layer * 7 + which;
        let rows = out.as_chunks_mut::<PANEL>().0.iter_mut();
        for ((row, out), adapter) in rows.enumerate().zip(&self.adapters.rows) {
            if let Some(adapter) = adapter {
                let at = (row * self.which.len() + which - self.which.start) * width;
                adapter.widen(linear, panel, &self.narrow[at..at + width], out);
            }
        }
    }
}

/// What the adapters' first factors make of the inputs of some linears of a layer.
fn narrow(
    team: &mut Team,
    out: &mut [f32],
    inputs: Inputs<'_>,
    adapters: &Adapters<'_>,
    linears: (usize, Range<usize>),
) {
    let (width, rows) = (adapters.width, inputs.rows);
    if width == 0 {
        return;
    }
    let (layer, which) = linears;
    let (first, slots) = (which.start, which.len());
    // With few rows a task is a part of one product, with many a whole row.
    let each = if rows > TILE { slots * width } else { RANKS };
    let out = (&mut out[..rows * slots * width], each);
    team.parts([out], (&mut [], 1), |index, [out], _| {
        for (at, out) in out.chunks_mut(RANKS).enumerate() {
            let number = index * each + at * RANKS;
            let (row, within) = (number / (slots * width), number % (slots * width));
            if let Some(adapter) = adapters.rows[row] {
                let linear = layer * 7 + first + within / width;
                let part = Part {
                    first: within % width,
                    out,
                };
                adapter.narrow(linear, inputs.x, rows, row, part);
            }
        }
    });
}
