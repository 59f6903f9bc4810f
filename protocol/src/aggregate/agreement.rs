//! Turns away updates that work against the others.
//!
//! Distances tell little about sparse updates: honest ones overlap so rarely that all are about equally far apart, and
//! a short or a colluding lie is *nearer* to everybody than they are to each other. Directions tell more. The
//! **agreement** of an update is the weighted sum of its cosines with all updates, itself among them; the least
//! agreeing is turned away while its agreement is below zero, one after the other and at most `tolerate` of the
//! weight. So no update is turned away where none works against the others, however different the members' data.
//!
//! A cosine counts as at most the weighted median of their magnitudes: liars that all say the same would otherwise
//! vouch for each other. Lengths count for nothing here; what is left is clipped to the median length, as everywhere.

use super::gram::Gram;
use super::robust::{NO_WEIGHT, clip_factors, weighted_median};

/// Agreements that differ by less than this are equal; neither rounding nor a name may decide.
const EQUAL: f64 = 1e-6;

/// One coefficient per update: its weight as a part of the weight that is left, times its clip factor.
pub(super) fn coefficients(weights: &[f64], gram: Gram, tolerate: f64) -> Vec<f64> {
    let clip = clip_factors(&gram, weights);
    let kept = kept(&gram.directions(), weights, tolerate);
    let left: f64 = kept.iter().sum();
    (kept.iter().zip(clip))
        .map(|(weight, clip)| weight / left * clip)
        .collect()
}

/// What is left of each weight.
fn kept(cosines: &Gram, weights: &[f64], tolerate: f64) -> Vec<f64> {
    let cap = cap(cosines, weights);
    let mut kept = weights.to_vec();
    let mut left = tolerate;
    while left > NO_WEIGHT {
        let agreements = agreements(cosines, &kept, cap);
        let open = || (0..kept.len()).filter(|i| kept[*i] > 0.0);
        let least = open().map(|i| agreements[i]).fold(f64::INFINITY, f64::min);
        if least >= -EQUAL || least.is_infinite() {
            break;
        }
        let group: Vec<usize> = open().filter(|i| agreements[*i] <= least + EQUAL).collect();
        let weight: f64 = group.iter().map(|i| kept[*i]).sum();
        // Of equals, each the same part.
        let part = (left / weight).min(1.0);
        for i in group {
            kept[i] *= 1.0 - part;
        }
        left -= weight * part;
    }
    kept
}

fn agreements(cosines: &Gram, kept: &[f64], cap: f64) -> Vec<f64> {
    let of = |i: usize| {
        let terms = kept.iter().enumerate();
        terms.fold(0.0, |sum, (j, weight)| {
            sum + weight * cosines.at(i, j).min(cap)
        })
    };
    (0..kept.len()).map(of).collect()
}

/// The median magnitude of a cosine; each pair weighs as the product of its two weights.
fn cap(cosines: &Gram, weights: &[f64]) -> f64 {
    let pairs = || (0..weights.len()).flat_map(|i| (0..weights.len()).map(move |j| (i, j)));
    let magnitudes: Vec<f64> = pairs().map(|(i, j)| cosines.at(i, j).abs()).collect();
    let weights: Vec<f64> = pairs().map(|(i, j)| weights[i] * weights[j]).collect();
    weighted_median(&magnitudes, &weights)
}

#[cfg(test)]
mod tests;
