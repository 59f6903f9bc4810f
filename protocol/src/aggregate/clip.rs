//! Clipping to the median norm.
//!
//! An update longer than the median update is scaled down to the median's length. Half of the weight
//! would have to collude to move the median, under however many names, and one peer, however large its
//! numbers, pulls the model at most as far as a typical one. Sparse updates overlap in few places, which
//! breaks coordinate-wise medians; lengths do not have that problem.

use super::{Numbers, Weighted};

/// One factor per update, in order: `min(1, median norm / norm)`.
pub(super) fn factors<U: Numbers>(updates: &[&Weighted<U>]) -> Vec<f64> {
    let norm = |w: &&Weighted<U>| (w.update.norm(), w.weight);
    let norms: Vec<(f64, u64)> = updates.iter().map(norm).collect();
    let limit = median(&norms);
    let factor = |norm: f64| if norm > limit { limit / norm } else { 1.0 };
    norms.iter().map(|(norm, _)| factor(*norm)).collect()
}

/// The smallest norm that, with all smaller ones, has half of the weight, so that the limit is always the
/// length of an update that somebody sent.
fn median(norms: &[(f64, u64)]) -> f64 {
    let mut sorted = norms.to_vec();
    sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let all: u128 = sorted.iter().map(|(_, weight)| u128::from(*weight)).sum();
    let mut below = 0;
    let middle = sorted.iter().find(|(_, weight)| {
        below += u128::from(*weight);
        2 * below >= all
    });
    middle.map_or(0.0, |(norm, _)| *norm)
}
