//! What happens to the numbers of each row alone: norms, gates, rotations, and the inputs of products.

use crate::attend::{self, TILE};
use crate::config::Config;
use crate::engine::Precision;
use crate::kernel::Team;
use crate::model::rope::RopeTable;
use crate::model::vector::{exp, fast};
use crate::panel::{Lanes, PANEL, panels, total};
use crate::weights::{Inputs, quantise};

/// Inputs of a product: `[panel][row][64]`, and the same quantised where weights are.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) x: Vec<f32>,
    pub(super) quantised: Vec<i8>,
    /// For each panel and row, the scale and the sum of the quantised numbers.
    pub(super) scales: Vec<f32>,
}

impl Rows {
    pub(super) fn grow(&mut self, rows: usize, width: usize, precision: Precision) {
        let length = rows * width * PANEL;
        self.x.resize(length, 0.0);
        if precision == Precision::Int8 {
            self.quantised.resize(length, 0);
            self.scales.resize(2 * rows * width, 0.0);
        }
    }

    pub(super) fn inputs(&self, rows: usize) -> Inputs<'_> {
        Inputs {
            rows,
            x: &self.x,
            quantised: &self.quantised,
            scales: &self.scales,
        }
    }

    /// Fills `panels` panels of `rows` rows and quantises them.
    pub(super) fn fill(
        &mut self,
        team: &mut Team,
        size: (usize, usize),
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let (rows, panels) = size;
        let floats = [
            (&mut self.x[..panels * rows * PANEL], rows * PANEL),
            (&mut self.scales[..], 2 * rows),
        ];
        let bytes = (&mut self.quantised[..], rows * PANEL);
        team.parts(floats, bytes, |panel, [out, scales], bytes| {
            fill(panel, out);
            if !bytes.is_empty() {
                quantise(out, bytes, scales);
            }
        });
    }
}

/// RMSNorm of every row of `x`, quantised too where `out` is.
pub(super) fn norm(
    team: &mut Team,
    x: &[f32],
    factors: &mut [f32],
    gain: &[f32],
    config: &Config,
    out: &mut Rows,
) {
    let rows = factors.len();
    let width = panels(config.hidden);
    team.parts([(&mut *factors, TILE)], (&mut [], 1), |index, [out], _| {
        for (at, factor) in out.iter_mut().enumerate() {
            let row = index * TILE + at;
            let squares = fast(
                #[inline(always)]
                || squares(x, rows, row),
            );
            let mean = squares / config.hidden as f32;
            *factor = 1.0 / (mean + config.norm_eps as f32).sqrt();
        }
    });
    let factors = &*factors;
    out.fill(team, (rows, width), |panel, out| {
        let x = &x[panel * rows * PANEL..][..rows * PANEL];
        let gain = &gain[panel * PANEL..][..PANEL];
        fast(
            #[inline(always)]
            || scaled(out, x, factors, gain),
        );
    });
}

#[inline(always)]
pub(super) fn squares(x: &[f32], rows: usize, row: usize) -> f32 {
    let mut sums = [0.0; PANEL];
    for x in x.as_chunks::<PANEL>().0.iter().skip(row).step_by(rows) {
        for lane in 0..PANEL {
            sums[lane] = x[lane].mul_add(x[lane], sums[lane]);
        }
    }
    total(sums)
}

#[inline(always)]
pub(super) fn scaled(out: &mut [f32], x: &[f32], factors: &[f32], gain: &[f32]) {
    let gain: &Lanes = gain.try_into().expect("a panel");
    let rows = out.as_chunks_mut::<PANEL>().0.iter_mut();
    for ((out, x), factor) in rows.zip(x.as_chunks::<PANEL>().0).zip(factors) {
        for lane in 0..PANEL {
            out[lane] = x[lane] * factor * gain[lane];
        }
    }
}

#[inline(always)]
pub(super) fn gated(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp(-*gate)) * up;
    }
}

/// Takes the features from `from` on out of a row.
pub(super) fn gather(panels: &[f32], rows: usize, row: usize, from: usize, out: &mut [f32]) {
    let mut done = 0;
    while done < out.len() {
        let (panel, lane) = ((from + done) / PANEL, (from + done) % PANEL);
        let count = (PANEL - lane).min(out.len() - done);
        let at = (panel * rows + row) * PANEL + lane;
        out[done..done + count].copy_from_slice(&panels[at..at + count]);
        done += count;
    }
}

/// Norms a head where the model does, turns it and scales it.
pub(super) fn turn(
    head: &mut [f32],
    gain: Option<&Vec<f32>>,
    config: &Config,
    table: &RopeTable,
    position: usize,
    scale: f32,
) {
    if let Some(gain) = gain {
        let mean = head.iter().fold(0.0f32, |sum, x| x.mul_add(*x, sum)) / head.len() as f32;
        let factor = 1.0 / (mean + config.norm_eps as f32).sqrt();
        head.iter_mut()
            .zip(gain)
            .for_each(|(x, g)| *x = *x * factor * g);
    }
    attend::rotate(head, table, position, scale);
}
