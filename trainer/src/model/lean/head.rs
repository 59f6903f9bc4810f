//! The output head, cross entropy and their gradient in one pass.
//!
//! Logits of a whole batch would be the largest array of the program. They are made for a few panels at
//! a time, turned into losses and gradients while they are at hand, and thrown away. Panels in which
//! nothing is predicted are left out.

use rayon::prelude::*;

use super::panels::{LANES, Lanes, Panels, Plan, rows, rows_mut};
use super::product::{Job, Left, Term, multiply};
use crate::model::NO_TARGET;
use crate::model::vector::{exp, fast};

/// Panels whose logits exist at the same time: 50 MB at a vocabulary of 49,152.
pub(super) const SLICE: usize = 8;
/// Exponentials that are added in f32 before they go to an f64 sum.
const RUN: usize = 64;

/// What the head says of a batch.
pub(super) struct Losses {
    /// Of all positions, nats.
    pub(super) sum: f64,
    /// Of each padded position, nats; zero where nothing is predicted.
    pub(super) each: Vec<f64>,
    /// By the hidden values, where it was asked for.
    pub(super) gradient: Option<Panels>,
}

/// Losses of the batch, and, with `weight`, the gradient of `weight` times their sum by `hidden`.
pub(super) fn losses(hidden: &Panels, head: &[f32], plan: &Plan, weight: Option<f32>) -> Losses {
    let width = hidden.features();
    let head = Left::new(head, width);
    let mut gradient = weight.map(|_| hidden.zeros_beside(width));
    let predicts = |panel: &usize| targets(plan, *panel).iter().any(|t| *t != NO_TARGET);
    let chosen: Vec<usize> = (0..hidden.panels()).filter(predicts).collect();
    let mut sum = 0.0;
    let mut each = vec![0.0; plan.targets.len()];
    for chosen in chosen.chunks(SLICE) {
        let picked = hidden.pick(chosen);
        let mut logits = picked.beside(head.rows);
        multiply(vec![Job {
            terms: vec![Term {
                left: head,
                right: &picked,
            }],
            out: &mut logits,
            add: false,
        }]);
        let found: Vec<[f64; LANES]> = (logits.par_panels_mut())
            .zip(chosen)
            .map(|(logits, panel)| {
                fast(
                    #[inline(always)]
                    || panel_losses(logits, targets(plan, *panel), weight),
                )
            })
            .collect();
        // Panel by panel: the order fixes the rounding of every score.
        let panels = found.iter().map(|panel| panel.iter().sum::<f64>());
        sum += panels.sum::<f64>();
        for (panel, found) in chosen.iter().zip(found) {
            each[panel * LANES..][..LANES].copy_from_slice(&found);
        }
        if let Some(gradient) = &mut gradient {
            let mut out = picked;
            multiply(vec![Job {
                terms: vec![Term {
                    left: head.transposed(),
                    right: &logits,
                }],
                out: &mut out,
                add: false,
            }]);
            gradient.put(chosen, &out);
        }
    }
    Losses {
        sum,
        each,
        gradient,
    }
}

fn targets(plan: &Plan, panel: usize) -> &[i32] {
    &plan.targets[panel * LANES..(panel + 1) * LANES]
}

/// Losses of a panel; turns logits into `weight (softmax - onehot)` where there is a weight.
#[inline(always)]
fn panel_losses(logits: &mut [f32], targets: &[i32], weight: Option<f32>) -> [f64; LANES] {
    let mut at_target = [0.0; LANES];
    for (lane, target) in targets.iter().enumerate() {
        if *target != NO_TARGET {
            at_target[lane] = logits[*target as usize * LANES + lane];
        }
    }
    let mut largest = [f32::NEG_INFINITY; LANES];
    for row in rows(logits) {
        for (largest, logit) in largest.iter_mut().zip(row) {
            *largest = if *logit > *largest { *logit } else { *largest };
        }
    }
    // In f64: this sum's rounding is the error of every loss that is compared or paid for.
    let mut totals = [0.0f64; LANES];
    for run in logits.chunks_mut(RUN * LANES) {
        let mut sum: Lanes = [0.0; LANES];
        for row in rows_mut(run) {
            for ((logit, sum), largest) in row.iter_mut().zip(&mut sum).zip(&largest) {
                *logit = exp(*logit - largest);
                *sum += *logit;
            }
        }
        for (total, sum) in totals.iter_mut().zip(sum) {
            *total += f64::from(sum);
        }
    }
    if let Some(weight) = weight {
        differentiate(logits, targets, &totals, weight);
    }
    let mut losses = [0.0; LANES];
    for (lane, target) in targets.iter().enumerate() {
        if *target != NO_TARGET {
            losses[lane] = totals[lane].ln() - f64::from(at_target[lane] - largest[lane]);
        }
    }
    losses
}

#[inline(always)]
fn differentiate(exponentials: &mut [f32], targets: &[i32], totals: &[f64; LANES], weight: f32) {
    let mut factors: Lanes = [0.0; LANES];
    for ((factor, total), target) in factors.iter_mut().zip(totals).zip(targets) {
        if *target != NO_TARGET {
            *factor = (f64::from(weight) / total) as f32;
        }
    }
    for row in rows_mut(exponentials) {
        for (value, factor) in row.iter_mut().zip(factors) {
            *value *= factor;
        }
    }
    for (lane, target) in targets.iter().enumerate() {
        if *target != NO_TARGET {
            exponentials[*target as usize * LANES + lane] -= weight;
        }
    }
}
