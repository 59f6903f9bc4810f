//! Clipping to the median norm.
//!
//! An update longer than the median update is scaled down to the median's length. Half of the peers
//! would have to collude to move the median, and one peer, however large its numbers, pulls the model
//! at most as far as a typical one. Sparse updates overlap in few places, which breaks coordinate-wise
//! medians; lengths do not have that problem.

use super::{Numbers, Weighted};

/// One factor per update, in order: `min(1, median norm / norm)`.
pub(super) fn factors<U: Numbers>(updates: &[&Weighted<U>]) -> Vec<f64> {
    let norms: Vec<f64> = updates.iter().map(|w| w.update.norm()).collect();
    let limit = median(&norms);
    let factor = |norm: &f64| if *norm > limit { limit / norm } else { 1.0 };
    norms.iter().map(factor).collect()
}

/// The middle one; of an even count the smaller of the two in the middle, so that the limit is always
/// the length of an update that somebody sent.
fn median(norms: &[f64]) -> f64 {
    let mut sorted = norms.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n => sorted[(n - 1) / 2],
    }
}
