//! Rotary positions for panels.

use super::panels::{LANES, Lanes, Panels, rows_mut};
use crate::config::Config;
use crate::model::rope::RopeTable;
use crate::model::vector::fast;
use rayon::prelude::*;

/// Cosine and sine of every pair of a head, for each panel of a window.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    /// `[panel of the window][pair]`
    turns: Vec<Vec<(Lanes, Lanes)>>,
}

impl Turns {
    pub(super) fn new(config: &Config, per_window: usize) -> Self {
        let table = RopeTable::of_system(config, per_window * LANES);
        let lanes = |from: &[f32], panel: usize, pair: usize| -> Lanes {
            std::array::from_fn(|lane| from[(panel * LANES + lane) * table.half + pair])
        };
        let turn = |panel, pair| {
            let (cos, sin) = (&table.cos, &table.sin);
            (lanes(cos, panel, pair), lanes(sin, panel, pair))
        };
        let panel = |panel| (0..table.half).map(|pair| turn(panel, pair)).collect();
        Self {
            turns: (0..per_window).map(panel).collect(),
        }
    }

    /// Turns every head by its position's angle times `direction` and scales it.
    pub(super) fn apply(&self, x: &mut Panels, direction: f32, scale: f32) {
        x.par_panels_mut().enumerate().for_each(|(index, panel)| {
            let turns = &self.turns[index % self.turns.len()];
            fast(
                #[inline(always)]
                || turn(panel, turns, direction, scale),
            );
        });
    }
}

#[inline(always)]
fn turn(panel: &mut [f32], turns: &[(Lanes, Lanes)], direction: f32, scale: f32) {
    let half = turns.len();
    for head in panel.chunks_exact_mut(2 * half * LANES) {
        let (first, second) = head.split_at_mut(half * LANES);
        let pairs = rows_mut(first).zip(rows_mut(second)).zip(turns);
        for ((first, second), (cos, sin)) in pairs {
            for lane in 0..LANES {
                let (a, b) = (first[lane] * scale, second[lane] * scale);
                let (cos, sin) = (cos[lane], sin[lane] * direction);
                first[lane] = a * cos - b * sin;
                second[lane] = b * cos + a * sin;
            }
        }
    }
}
