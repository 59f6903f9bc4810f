//! Linears with their biases and the adapters of each row.

use std::ops::Range;

use super::Span;
use crate::adapter::{LoadedAdapter, Part};
use crate::kernel::{RANKS, Team};
use crate::panel::{PANEL, panels};
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

/// Rows from which on one task does all that a row's adapter adds to some linears: it then reads the adapter's numbers one
/// after the other. With fewer rows there are not enough of these tasks for all threads.
const MANY: usize = 8;

/// Linears of one layer that share their inputs.
pub(super) struct Linears<'a> {
    weights: &'a LayerWeights,
    layer: usize,
    which: Range<usize>,
    inputs: Inputs<'a>,
    adapters: &'a Adapters<'a>,
    added: Added<'a>,
}

/// What the adapters make of the inputs.
#[derive(Clone, Copy)]
enum Added<'a> {
    /// The products of the first factors, `[row][linear][rank]`.
    Narrow(&'a [f32]),
    /// All, `[row]`: the products, then `[panel of all linears][64]`.
    Wide(&'a [f32]),
}

impl<'a> Linears<'a> {
    /// Linears `which` of a layer; `buffer` takes what the adapters make of the inputs.
    pub(super) fn new(
        team: &mut Team,
        (weights, layer): (&'a LayerWeights, usize),
        which: Range<usize>,
        inputs: Inputs<'a>,
        adapters: &'a Adapters<'a>,
        buffer: &'a mut Vec<f32>,
    ) -> Self {
        let mut linears = Self {
            weights,
            layer,
            which,
            inputs,
            adapters,
            added: Added::Narrow(&[]),
        };
        if adapters.width > 0 {
            linears.added = match inputs.rows < MANY {
                true => linears.narrow(team, buffer),
                false => linears.wide(team, buffer),
            };
        }
        linears
    }

    /// One panel of outputs, `[rows][64]`, with bias and adapters.
    pub(super) fn apply(&self, which: usize, panel: usize, out: &mut [f32]) {
        self.weights.linears[which].multiply(panel, self.inputs, out);
        if let Some(bias) = &self.weights.biases[which] {
            let bias = &bias[panel * PANEL..][..PANEL];
            for out in out.chunks_exact_mut(PANEL) {
                add(out, bias);
            }
        }
        let width = self.adapters.width;
        if width == 0 {
            return;
        }
        let linear = self.layer * 7 + which;
        let slot = which - self.which.start;
        let place = self.first_panel(which) + panel;
        let rows = out.as_chunks_mut::<PANEL>().0.iter_mut();
        for ((row, out), adapter) in rows.enumerate().zip(&self.adapters.rows) {
            let Some(adapter) = adapter.filter(|adapter| adapter.adapts(linear)) else {
                continue;
            };
            match self.added {
                Added::Narrow(narrow) => {
                    let at = (row * self.which.len() + slot) * width;
                    let mut added = [0.0; PANEL];
                    adapter.widen(linear, panel, &narrow[at..at + width], &mut added);
                    add(out, &added);
                }
                Added::Wide(wide) => {
                    let at = row * self.record() + self.which.len() * width + place * PANEL;
                    add(out, &wide[at..at + PANEL]);
                }
            }
        }
    }

    /// Panels of the linears before `which`.
    fn first_panel(&self, which: usize) -> usize {
        let before = self.weights.linears[self.which.start..which].iter();
        before.map(|linear| panels(linear.outputs)).sum()
    }

    /// Numbers of a row in [`Added::Wide`].
    fn record(&self) -> usize {
        self.which.len() * self.adapters.width + self.first_panel(self.which.end) * PANEL
    }

    fn narrow(&self, team: &mut Team, buffer: &'a mut Vec<f32>) -> Added<'a> {
        let (width, rows, slots) = (self.adapters.width, self.inputs.rows, self.which.len());
        buffer.resize(rows * slots * width, 0.0);
        team.parts(
            [(&mut buffer[..], RANKS)],
            (&mut [], 1),
            |index, [out], _| {
                let number = index * RANKS;
                let (row, within) = (number / (slots * width), number % (slots * width));
                if let Some(adapter) = self.adapters.rows[row] {
                    let linear = self.layer * 7 + self.which.start + within / width;
                    let part = Part {
                        first: within % width,
                        out,
                    };
                    adapter.narrow(linear, self.inputs.x, rows, row, part);
                }
            },
        );
        Added::Narrow(buffer)
    }

    fn wide(&self, team: &mut Team, buffer: &'a mut Vec<f32>) -> Added<'a> {
        let (width, rows, slots) = (self.adapters.width, self.inputs.rows, self.which.len());
        let record = self.record();
        buffer.resize(rows * record, 0.0);
        team.parts(
            [(&mut buffer[..], record)],
            (&mut [], 1),
            |row, [out], _| {
                let Some(adapter) = self.adapters.rows[row] else {
                    return;
                };
                let first = self.layer * 7 + self.which.start;
                let (narrow, mut wide) = out.split_at_mut(slots * width);
                for (slot, out) in narrow.chunks_exact_mut(width).enumerate() {
                    let part = Part { first: 0, out };
                    adapter.narrow(first + slot, self.inputs.x, rows, row, part);
                }
                for (slot, narrow) in narrow.chunks_exact(width).enumerate() {
                    let count = panels(self.weights.linears[self.which.start + slot].outputs);
                    let (out, rest) = wide.split_at_mut(count * PANEL);
                    adapter.widen(first + slot, 0, narrow, out);
                    wide = rest;
                }
            },
        );
        Added::Wide(buffer)
    }
}

fn add(to: &mut [f32], what: &[f32]) {
    for (to, what) in to.iter_mut().zip(what) {
        *to += what;
    }
}
