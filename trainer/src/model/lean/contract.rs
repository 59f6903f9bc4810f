//! Sums over positions: what the gradients of factors are made of.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::panels::{LANES, Panels};
use crate::model::vector::dispatch;

/// `out[i][j] = sum over positions of wide[i] * narrow[j]`: what the gradient of a factor is made of.
#[derive(Debug)]
pub(super) struct Contraction<'a> {
    pub(super) wide: &'a Panels,
    pub(super) narrow: &'a Panels,
    /// `[wide.features, narrow.features]`
    pub(super) out: Vec<f32>,
}

impl<'a> Contraction<'a> {
    pub(super) fn new(wide: &'a Panels, narrow: &'a Panels) -> Self {
        let out = vec![0.0; wide.features() * narrow.features()];
        Self { wide, narrow, out }
    }
}

/// Rows of `wide` in one task of a contraction.
const CONTRACTED: usize = 96;

/// Does all contractions, in parallel.
pub(super) fn contract(jobs: &mut [Contraction]) {
    let tasks: Vec<_> = (jobs.iter_mut())
        .flat_map(|job| {
            let (wide, narrow) = (job.wide, job.narrow);
            let size = CONTRACTED * narrow.features();
            let blocks = job.out.chunks_mut(size).enumerate();
            blocks.map(move |(index, out)| Contract {
                wide,
                narrow,
                first: index * CONTRACTED,
                out,
            })
        })
        .collect();
    tasks.into_par_iter().with_max_len(1).for_each(|task| {
        dispatch(task);
    });
}

struct Contract<'a> {
    wide: &'a Panels,
    narrow: &'a Panels,
    first: usize,
    out: &'a mut [f32],
}

impl WithSimd for Contract<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As many sums as leave registers for their operands: 32 with AVX-512, else 16.
        match S::F32_LANES {
            16 => self.sum::<S, 4, 4>(simd),
            _ => self.sum::<S, 3, 4>(simd),
        }
    }
}

impl Contract<'_> {
    /// Sums `ROWS` rows of `wide` with `COLUMNS` of `narrow` at a time in registers.
    #[inline(always)]
    fn sum<S: Simd, const ROWS: usize, const COLUMNS: usize>(self, simd: S) {
        let columns = self.narrow.features();
        let rows = self.out.len() / columns;
        for row in (0..rows).step_by(ROWS) {
            for column in (0..columns).step_by(COLUMNS) {
                // Beyond the edge the last row is summed again and not written.
                let wide: [usize; ROWS] =
                    std::array::from_fn(|i| self.first + (row + i).min(rows - 1));
                let narrow: [usize; COLUMNS] =
                    std::array::from_fn(|j| (column + j).min(columns - 1));
                let mut sums = [[simd.splat_f32s(0.0); COLUMNS]; ROWS];
                for panel in 0..self.wide.panels() {
                    let left = self.wide.panel(panel).as_chunks::<LANES>().0;
                    let right = self.narrow.panel(panel).as_chunks::<LANES>().0;
                    let left: [&[f32; LANES]; ROWS] = std::array::from_fn(|i| &left[wide[i]]);
                    let right: [&[f32; LANES]; COLUMNS] =
                        std::array::from_fn(|j| &right[narrow[j]]);
                    for at in (0..LANES / S::F32_LANES).map(|vector| vector * S::F32_LANES) {
                        let right: [S::f32s; COLUMNS] =
                            std::array::from_fn(|j| vector::<S>(right[j], at));
                        for i in 0..ROWS {
                            let left = vector::<S>(left[i], at);
                            for j in 0..COLUMNS {
                                sums[i][j] = simd.mul_add_f32s(left, right[j], sums[i][j]);
                            }
                        }
                    }
                }
                for (i, sums) in sums.into_iter().enumerate().take(rows - row) {
                    for (j, sum) in sums.into_iter().enumerate().take(columns - column) {
                        self.out[(row + i) * columns + column + j] = simd.reduce_sum_f32s(sum);
                    }
                }
            }
        }
    }
}

/// The vector that begins at `at`.
#[inline(always)]
fn vector<S: Simd>(from: &[f32; LANES], at: usize) -> S::f32s {
    S::as_simd_f32s(&from[at..at + S::F32_LANES]).0[0]
}
