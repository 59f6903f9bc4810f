//! RMSNorm in one pass over each row.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::record::{Matrix, Pull, apply};
use crate::model::vector::{add, dot, fast, rows_per_task};

#[derive(Clone, Debug)]
struct State {
    x: Matrix,
    gain: Matrix,
    /// `1 / sqrt(mean(x^2) + eps)` of each row.
    inverse: Vec<f32>,
}

/// `x / sqrt(mean(x^2) + eps) * gain`, per row of `[rows, width]`.
pub(crate) fn rms_norm(x: Tensor<2>, gain: Tensor<1>, eps: f64) -> Tensor<2> {
    apply([x, gain.unsqueeze()], |[x, gain], _| {
        let (rows, width) = (x.rows(), x.cols());
        let mut output = vec![0.0; rows * width];
        let mut inverse = vec![0.0; rows];
        let task = rows_per_task(width);
        (output.par_chunks_mut(task * width))
            .zip(inverse.par_chunks_mut(task))
            .zip(x.values().par_chunks(task * width))
            .for_each(|((output, inverse), x)| {
                fast(
                    #[inline(always)]
                    || forward(output, inverse, x, gain.values(), eps as f32),
                );
            });
        let state = State {
            x: x.clone(),
            gain: gain.clone(),
            inverse,
        };
        (Matrix::new(output, rows, width), state)
    })
}

#[inline(always)]
fn forward(output: &mut [f32], inverse: &mut [f32], x: &[f32], gain: &[f32], eps: f32) {
    let width = gain.len();
    let rows = output.chunks_exact_mut(width).zip(x.chunks_exact(width));
    for ((output, x), inverse) in rows.zip(inverse) {
        *inverse = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
        for ((output, x), gain) in output.iter_mut().zip(x).zip(gain) {
            *output = x * *inverse * gain;
        }
    }
}

impl Pull<2> for State {
    fn pull(self, upstream: Matrix, wanted: [bool; 2]) -> [Option<Matrix>; 2] {
        let (rows, width) = (upstream.rows(), upstream.cols());
        let task = rows_per_task(width);
        let mut dx = vec![0.0; rows * width];
        // One partial gain gradient per task, added in order below.
        let partial: Vec<Vec<f32>> = (dx.par_chunks_mut(task * width))
            .zip(self.x.values().par_chunks(task * width))
            .zip(upstream.values().par_chunks(task * width))
            .zip(self.inverse.par_chunks(task))
            .map(|(((dx, x), upstream), inverse)| {
                let mut dgain = vec![0.0; if wanted[1] { width } else { 0 }];
                fast(
                    #[inline(always)]
                    || backward(dx, &mut dgain, x, upstream, inverse, self.gain.values()),
                );
                dgain
            })
            .collect();
        let dgain = wanted[1].then(|| {
            let mut total = vec![0.0; width];
            partial.iter().for_each(|part| add(&mut total, part));
            Matrix::new(total, 1, width)
        });
        [wanted[0].then(|| Matrix::new(dx, rows, width)), dgain]
    }
}

/// With `y = x i g` and `i = (mean(x^2) + eps)^(-1/2)`:
/// `dx = i (g dy) - x i^3 / width * sum(g dy x)`, `dg = sum over rows of dy x i`.
#[inline(always)]
fn backward(
    dx: &mut [f32],
    dgain: &mut [f32],
    x: &[f32],
    upstream: &[f32],
    inverse: &[f32],
    gain: &[f32],
) {
    let width = gain.len();
    let rows = (dx.chunks_exact_mut(width))
        .zip(x.chunks_exact(width))
        .zip(upstream.chunks_exact(width));
    for (((dx, x), upstream), inverse) in rows.zip(inverse) {
        for ((dx, upstream), gain) in dx.iter_mut().zip(upstream).zip(gain) {
            *dx = upstream * gain;
        }
        let along = dot(dx, x) * inverse * inverse * inverse / width as f32;
        for (dx, x) in dx.iter_mut().zip(x) {
            *dx = *dx * inverse - x * along;
        }
        for ((dgain, x), upstream) in dgain.iter_mut().zip(x).zip(upstream) {
            *dgain = (upstream * x).mul_add(*inverse, *dgain);
        }
    }
}
