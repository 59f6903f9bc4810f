//! Rules that withstand liars, as weights on the updates.
//!
//! A pipeline of three steps, each on the matrix of inner products alone:
//! 1. **clip** every update to the weighted median length, so that none dominates;
//! 2. **mix** each with its nearest neighbours (nearest-neighbour mixing, Allouah et al. 2023,
//!    "Fixing by mixing"): honest peers with different data move together before anything is cut off;
//! 3. combine by the rule: Multi-Krum (Blanchard et al. 2017), centred clipping (Karimireddy et al.
//!    2021) or the geometric median (Weiszfeld's iteration, as in RFA of Pillutla et al. 2019).
//!
//! Papers count peers; here every peer counts with its share of the round's tokens, fractions
//! included. One peer that splits into two with half of the tokens each changes nothing, so there is
//! nothing to gain from names. `tolerate` is the share of weight that may lie.
//!
//! A rule of another kind, by directions instead of distances, is in `agreement`.
//!
//! The outcome is one coefficient a peer, zero or more, that add up to one: the step stays a sum of
//! contribution vectors.

use super::agreement;
use super::gram::Gram;
use crate::id::Ppb;
use crate::manifest::Aggregation;

/// Rounds of centred clipping; the paper uses one to three from the centre of the round before, and
/// there is none here.
const CENTRING: usize = 8;
/// Rounds of Weiszfeld's iteration: from a mean, each halves the error at least.
const WEISZFELD: usize = 32;
/// Distance below which an update counts as the median itself, as a share of the median distance.
const TOUCHING: f64 = 1e-6;
/// A share of weight that counts as none: rounding of the sum of weights must not let one more update
/// in, whose distance then would be the median.
pub(super) const NO_WEIGHT: f64 = 1e-9;
/// Values that differ by less than this share of the largest are equal. Two updates often are equally
/// far from a third, and neither rounding nor a name may decide between them.
const EQUAL: f64 = 1e-6;

/// One coefficient per update for `rule`, clip factors inside. `weights` add up to one. `None` for the
/// rules that need no neighbours.
pub(super) fn coefficients(
    rule: Aggregation,
    weights: &[f64],
    gram: impl FnOnce() -> Gram,
) -> Option<Vec<f64>> {
    let (combine, tolerate): (fn(&Cloud<'_>) -> Vec<f64>, _) = match rule {
        Aggregation::Mean | Aggregation::ClippedMean => return None,
        Aggregation::Agreement { tolerate } => {
            return Some(agreement::coefficients(weights, gram(), part(tolerate)));
        }
        Aggregation::MultiKrum { tolerate } => (multi_krum, tolerate),
        Aggregation::CentredClip { tolerate } => (centred_clip, tolerate),
        Aggregation::GeometricMedian { tolerate } => (geometric_median, tolerate),
    };
    let keep = 1.0 - part(tolerate);
    let gram = gram();
    let clip = clip_factors(&gram, weights);
    let gram = gram.scaled(&clip);
    let mix = mix(&gram, weights, keep);
    let cloud = Cloud {
        gram: &gram.mixed(&mix),
        weights,
        keep,
    };
    let over_mixed = combine(&cloud);
    let mut out = vec![0.0; weights.len()];
    for (coefficient, row) in over_mixed.iter().zip(&mix) {
        for (out, share) in out.iter_mut().zip(row) {
            *out += coefficient * share;
        }
    }
    for (out, clip) in out.iter_mut().zip(&clip) {
        *out *= clip;
    }
    Some(out)
}

fn part(tolerate: Ppb) -> f64 {
    f64::from(tolerate.0) / 1e9
}

/// Vectors known by their inner products, each with a weight.
struct Cloud<'a> {
    gram: &'a Gram,
    weights: &'a [f64],
    /// Share of the weight that is taken to be honest.
    keep: f64,
}

/// `min(1, median length / length)`, the median by weight.
pub(super) fn clip_factors(gram: &Gram, weights: &[f64]) -> Vec<f64> {
    let lengths: Vec<f64> = (0..gram.size()).map(|i| gram.at(i, i).sqrt()).collect();
    let limit = weighted_median(&lengths, weights);
    let factor = |length: &f64| if *length > limit { limit / length } else { 1.0 };
    lengths.iter().map(factor).collect()
}

/// The smallest value that, with all smaller ones, has half of the weight.
pub(super) fn weighted_median(values: &[f64], weights: &[f64]) -> f64 {
    let taken = nearest(values, weights, 0.5);
    (taken.iter().map(|(at, _)| values[*at])).fold(0.0, f64::max)
}

/// The places of the smallest `values` with the weight that each adds until `share` is reached. Where
/// equal values together would add more than what is left, each adds the same part of its weight.
fn nearest(values: &[f64], weights: &[f64], share: f64) -> Vec<(usize, f64)> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]).then(a.cmp(b)));
    let slack = EQUAL * order.last().map_or(0.0, |last| values[*last]);
    let mut left = share;
    let mut out = Vec::new();
    let mut rest = order.as_slice();
    while let (Some(first), true) = (rest.first(), left > NO_WEIGHT) {
        let bound = values[*first] + slack;
        let equal = rest.iter().take_while(|at| values[**at] <= bound).count();
        let (group, others) = rest.split_at(equal);
        let weight: f64 = group.iter().map(|at| weights[*at]).sum();
        let part = (left / weight).min(1.0);
        out.extend(group.iter().map(|at| (*at, weights[*at] * part)));
        left -= weight * part;
        rest = others;
    }
    out
}

/// Row `i`: what of each update goes into the mixed update `i`. Rows add up to one.
fn mix(gram: &Gram, weights: &[f64], keep: f64) -> Vec<Vec<f64>> {
    let size = gram.size();
    (0..size)
        .map(|i| {
            let distances: Vec<f64> = (0..size).map(|j| gram.distance(i, j)).collect();
            shares(&nearest(&distances, weights, keep), size)
        })
        .collect()
}

/// Weights as shares of their sum, zero elsewhere.
fn shares(taken: &[(usize, f64)], size: usize) -> Vec<f64> {
    let sum: f64 = taken.iter().map(|(_, weight)| weight).sum();
    let mut out = vec![0.0; size];
    for (at, weight) in taken {
        out[*at] = weight / sum;
    }
    out
}

/// The score of an update is the mean squared distance of its nearest ones; the best scores are
/// averaged.
fn multi_krum(cloud: &Cloud<'_>) -> Vec<f64> {
    let size = cloud.gram.size();
    let scores: Vec<f64> = (0..size)
        .map(|i| {
            let distances: Vec<f64> = (0..size).map(|j| cloud.gram.distance(i, j)).collect();
            let near = nearest(&distances, cloud.weights, cloud.keep);
            (near.iter()).fold(0.0, |sum, (j, weight)| {
                sum + weight * distances[*j] * distances[*j]
            })
        })
        .collect();
    shares(&nearest(&scores, cloud.weights, cloud.keep), size)
}

/// Moves the centre by the mean of differences, each cut to the weighted median distance.
fn centred_clip(cloud: &Cloud<'_>) -> Vec<f64> {
    let mut centre = cloud.weights.to_vec();
    for _ in 0..CENTRING {
        let distances = cloud.gram.distances(&centre);
        let limit = weighted_median(&distances, cloud.weights);
        let pulls: Vec<f64> = (distances.iter().zip(cloud.weights))
            .map(|(distance, weight)| match *distance > limit {
                true => weight * (limit / distance),
                false => *weight,
            })
            .collect();
        let pulled: f64 = pulls.iter().sum();
        for (centre, pull) in centre.iter_mut().zip(&pulls) {
            *centre = *centre * (1.0 - pulled) + pull;
        }
    }
    centre
}

/// The point whose weighted sum of distances is smallest.
fn geometric_median(cloud: &Cloud<'_>) -> Vec<f64> {
    let mut centre = cloud.weights.to_vec();
    for _ in 0..WEISZFELD {
        let distances = cloud.gram.distances(&centre);
        let least = TOUCHING * weighted_median(&distances, cloud.weights);
        if least <= 0.0 {
            // More than half of the weight lies on one point, which is the median.
            break;
        }
        let pulls: Vec<f64> = (distances.iter().zip(cloud.weights))
            .map(|(distance, weight)| weight / distance.max(least))
            .collect();
        let sum: f64 = pulls.iter().sum();
        centre = pulls.into_iter().map(|pull| pull / sum).collect();
    }
    centre
}

#[cfg(test)]
mod tests;
