//! Cross entropy fused with the output head.
//!
//! Logits of a whole batch would be the largest array of the program. They are made, turned into
//! losses and gradients, and thrown away, a slice of rows at a time. The gradients are computed in
//! the forward pass, while the probabilities are at hand; the backward pass only scales them
//! (the method of Liger Kernel, arXiv 2410.10989).

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::record::{Matrix, Pull, apply};
use crate::model::NO_TARGET;
use crate::model::vector::{add, exp, fast, max};

/// Rows whose logits exist at the same time: 8 MB at a vocabulary of 4,096.
const SLICE: usize = 512;

#[derive(Clone, Debug)]
struct State {
    dhidden: Option<Matrix>,
    dhead: Option<Matrix>,
}

/// Sum over the targets of `-log softmax(hidden head^T)[target]`, shape `[1]`.
///
/// # Shapes
/// `hidden` `[rows, width]`, `head` `[vocab, width]`, one target per row.
pub(crate) fn cross_entropy_sum(hidden: Tensor<2>, head: Tensor<2>, targets: &[i32]) -> Tensor<1> {
    let sum = apply([hidden, head], |[hidden, head], tracked| {
        let width = hidden.cols();
        let (picked, wanted) = pick(hidden, targets);
        let mut dpicked = vec![0.0; if tracked[0] { picked.len() } else { 0 }];
        let mut dhead = tracked[1].then(|| Matrix::zeros(head.rows(), width));
        let mut total = 0.0f64;
        for (index, wanted) in wanted.chunks(SLICE).enumerate() {
            let start = index * SLICE * width;
            let range = start..start + wanted.len() * width;
            let rows = Matrix::new(picked[range.clone()].to_vec(), wanted.len(), width);
            let mut logits = rows.times_transposed(head);
            let differentiate = tracked[0] || tracked[1];
            total += losses(&mut logits, wanted, differentiate);
            if tracked[0] {
                dpicked[range].copy_from_slice(logits.times(head).values());
            }
            if let Some(dhead) = &mut dhead {
                add(dhead.values_mut(), logits.transposed_times(&rows).values());
            }
        }
        let state = State {
            dhidden: tracked[0].then(|| unpick(&dpicked, targets, width)),
            dhead,
        };
        (Matrix::new(vec![total as f32], 1, 1), state)
    });
    sum.reshape([1])
}

/// The rows that have a target, and their targets.
fn pick(hidden: &Matrix, targets: &[i32]) -> (Vec<f32>, Vec<usize>) {
    let with_target = || targets.iter().enumerate().filter(|(_, t)| **t != NO_TARGET);
    let width = hidden.cols();
    let mut rows = Vec::with_capacity(hidden.values().len());
    for (row, _) in with_target() {
        rows.extend_from_slice(&hidden.values()[row * width..(row + 1) * width]);
    }
    (rows, with_target().map(|(_, t)| *t as usize).collect())
}

/// Puts the gradients of picked rows back in place; the others are zero.
fn unpick(picked: &[f32], targets: &[i32], width: usize) -> Matrix {
    let mut out = vec![0.0; targets.len() * width];
    let mut picked = picked.chunks_exact(width);
    for (row, target) in out.chunks_exact_mut(width).zip(targets) {
        if let Some(values) = (*target != NO_TARGET).then(|| picked.next()).flatten() {
            row.copy_from_slice(values);
        }
    }
    Matrix::new(out, targets.len(), width)
}

/// Sum of the rows' losses; turns logits into `softmax - onehot` when `differentiate`.
fn losses(logits: &mut Matrix, targets: &[usize], differentiate: bool) -> f64 {
    let vocab = logits.cols();
    let each: Vec<f64> = (logits.values_mut().par_chunks_mut(vocab))
        .zip(targets.par_iter())
        .map(|(logits, target)| {
            fast(
                #[inline(always)]
                || loss(logits, *target, differentiate),
            )
        })
        .collect();
    each.iter().sum()
}

#[inline(always)]
fn loss(logits: &mut [f32], target: usize, differentiate: bool) -> f64 {
    let largest = max(logits);
    let at_target = logits[target] - largest;
    for logit in logits.iter_mut() {
        *logit = exp(*logit - largest);
    }
    // In f64: this sum's rounding is the error of every loss that is compared or paid for.
    let mut lanes = [0.0f64; 16];
    for chunk in logits.chunks(16) {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(*value);
        }
    }
    let total: f64 = lanes.iter().sum();
    if differentiate {
        let inverse = (1.0 / total) as f32;
        for logit in logits.iter_mut() {
            *logit *= inverse;
        }
        logits[target] -= 1.0;
    }
    total.ln() - f64::from(at_target)
}

impl Pull<2> for State {
    fn pull(self, upstream: Matrix, _: [bool; 2]) -> [Option<Matrix>; 2] {
        let factor = upstream.values()[0];
        [self.dhidden, self.dhead].map(|gradient| {
            gradient.map(|mut gradient| {
                let values = gradient.values_mut();
                fast(
                    #[inline(always)]
                    || values.iter_mut().for_each(|v| *v *= factor),
                );
                gradient
            })
        })
    }
}
