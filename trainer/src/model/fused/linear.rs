//! A linear with an optional low-rank pair, in one operation.
//!
//! `y = x W^T + (scale x A^T) B^T`. The base product is one matrix product; the low-rank part is added
//! to its result row by row while the row is in cache, so the wide intermediate of a second product
//! never exists. Gradients of frozen matrices are never computed.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::record::{Matrix, Pull, apply};
use crate::lora::Pair;
use crate::model::vector::{add, add_scaled, fast, rows_per_task};

/// `x W^T`, plus `scale (x A^T) B^T` where there is a pair.
///
/// # Shapes
/// `x` `[rows, inputs]`, `weight` `[outputs, inputs]`, output `[rows, outputs]`.
pub(crate) fn linear(x: Tensor<2>, weight: Tensor<2>, pair: Option<&Pair>) -> Tensor<2> {
    let Some(pair) = pair else {
        return apply([x, weight], |[x, weight], tracked| {
            let state = Dense {
                x: tracked[1].then(|| x.clone()),
                weight: weight.clone(),
            };
            (x.times_transposed(weight), state)
        });
    };
    let inputs = [x, weight, pair.a.clone(), pair.b.clone()];
    apply(inputs, |[x, weight, a, b], tracked| {
        let mut narrow = x.times_transposed(a);
        narrow
            .values_mut()
            .iter_mut()
            .for_each(|v| *v *= pair.scale);
        let mut output = x.times_transposed(weight);
        add_low_rank_transposed(&mut output, &narrow, b);
        let state = LowRank {
            x: (tracked[1] || tracked[2]).then(|| x.clone()),
            weight: weight.clone(),
            a: a.clone(),
            b: b.clone(),
            narrow,
            scale: pair.scale,
        };
        (output, state)
    })
}

/// `to += narrow * b^T`, with `narrow` `[rows, rank]` and `b` `[cols, rank]`.
fn add_low_rank_transposed(to: &mut Matrix, narrow: &Matrix, b: &Matrix) {
    match to.rows() {
        // Turning `b` over pays only when many rows use it.
        1 => add(to.values_mut(), narrow.times_transposed(b).values()),
        _ => add_low_rank(to, narrow, &transposed(b)),
    }
}

/// `to += narrow * wide`, with `narrow` `[rows, rank]` and `wide` `[rank, cols]`.
fn add_low_rank(to: &mut Matrix, narrow: &Matrix, wide: &Matrix) {
    let (cols, rank) = (to.cols(), narrow.cols());
    let task = rows_per_task(cols);
    (to.values_mut().par_chunks_mut(task * cols))
        .zip(narrow.values().par_chunks(task * rank))
        .for_each(|(to, narrow)| {
            fast(
                #[inline(always)]
                || add_rows(to, narrow, wide.values(), cols),
            )
        });
}

#[inline(always)]
fn add_rows(to: &mut [f32], narrow: &[f32], wide: &[f32], cols: usize) {
    let rank = wide.len() / cols;
    for (to, narrow) in to.chunks_exact_mut(cols).zip(narrow.chunks_exact(rank)) {
        let mut narrow = narrow.chunks_exact(4);
        let mut wide = wide.chunks_exact(4 * cols);
        // Four rows of `wide` per pass: a quarter of the loads and stores of `to`.
        for (n, w) in (&mut narrow).zip(&mut wide) {
            let (w0, w) = w.split_at(cols);
            let (w1, w) = w.split_at(cols);
            let (w2, w3) = w.split_at(cols);
            for ((((to, w0), w1), w2), w3) in to.iter_mut().zip(w0).zip(w1).zip(w2).zip(w3) {
                let sum = n[0].mul_add(*w0, *to);
                let sum = n[1].mul_add(*w1, sum);
                let sum = n[2].mul_add(*w2, sum);
                *to = n[3].mul_add(*w3, sum);
            }
        }
        let rest = wide.remainder().chunks_exact(cols);
        for (n, w) in narrow.remainder().iter().zip(rest) {
            add_scaled(to, *n, w);
        }
    }
}

fn transposed(matrix: &Matrix) -> Matrix {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let values = matrix.values();
    let mut out = Vec::with_capacity(values.len());
    for col in 0..cols {
        out.extend((0..rows).map(|row| values[row * cols + col]));
    }
    Matrix::new(out, cols, rows)
}

/// State without a pair.
#[derive(Clone, Debug)]
struct Dense {
    x: Option<Matrix>,
    weight: Matrix,
}

impl Pull<2> for Dense {
    fn pull(self, upstream: Matrix, wanted: [bool; 2]) -> [Option<Matrix>; 2] {
        let dx = wanted[0].then(|| upstream.times(&self.weight));
        let x = self.x.filter(|_| wanted[1]);
        [dx, x.map(|x| upstream.transposed_times(&x))]
    }
}

/// State with a pair.
#[derive(Clone, Debug)]
struct LowRank {
    x: Option<Matrix>,
    weight: Matrix,
    a: Matrix,
    b: Matrix,
    /// `scale x A^T`
    narrow: Matrix,
    scale: f32,
}

impl Pull<4> for LowRank {
    /// With upstream `g`: `dn = scale g B`, `dx = g W + dn A`, `dA = dn^T x`, `dB = g^T (scale x A^T)`.
    fn pull(self, upstream: Matrix, wanted: [bool; 4]) -> [Option<Matrix>; 4] {
        let mut dnarrow = upstream.times(&self.b);
        dnarrow
            .values_mut()
            .iter_mut()
            .for_each(|v| *v *= self.scale);
        let dx = wanted[0].then(|| {
            let mut dx = upstream.times(&self.weight);
            add_low_rank(&mut dx, &dnarrow, &self.a);
            dx
        });
        let x = self.x.as_ref();
        [
            dx,
            x.filter(|_| wanted[1])
                .map(|x| upstream.transposed_times(x)),
            x.filter(|_| wanted[2]).map(|x| dnarrow.transposed_times(x)),
            wanted[3].then(|| upstream.transposed_times(&self.narrow)),
        ]
    }
}
