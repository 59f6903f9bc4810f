//! From the updates of a round to the step of the model, the same bits on every peer.
//!
//! [`combine`] turns each update into its **contribution vector**, which includes weights and clip factors; [`step`]
//! adds the vectors to the adapter. Whatever a rule does, the step is a sum of one vector per peer, so that credit is
//! a matter of arithmetic later. Peers are processed in the order of their ids and every sum is sequential, so neither
//! the order of arrival nor threads can change a bit.
//!
//! In a run, updates stay as they travelled and contribution vectors are an update with a coefficient ([`vectors`],
//! [`advance`]): nothing of the adapter's length is made but the adapter. Research works on plain vectors ([`combine`],
//! [`step`]). Both give the same bits.

mod agreement;
mod clip;
mod gram;
#[cfg(test)]
mod reference;
mod robust;
mod rule;
mod score;
mod vector;

use crate::id::PeerId;
use crate::manifest::Aggregation;
use crate::update::Packed;

pub use gram::Gram;

pub use rule::{Rule, Updates, combine_by};
pub use score::{final_score, final_scores, middle, needed};
pub use vector::{ContributionVector, Layout, advance, foresee, vectors};

/// What a rule asks of an update.
pub trait Numbers {
    /// How many numbers it stands for.
    fn count(&self) -> usize;
    /// Euclidean length; squares added one after the other in f64.
    fn norm(&self) -> f64;
    /// Inner products of all pairs; of one length each.
    fn products(updates: &[&Self]) -> Gram;
}

impl Numbers for Vec<f32> {
    fn count(&self) -> usize {
        self.len()
    }

    fn norm(&self) -> f64 {
        let mut sum = 0.0;
        for value in self {
            sum += f64::from(*value) * f64::from(*value);
        }
        sum.sqrt()
    }

    fn products(updates: &[&Self]) -> Gram {
        let views: Vec<&[f32]> = updates.iter().map(|update| update.as_slice()).collect();
        Gram::of(&views)
    }
}

/// Of updates that were checked.
impl Numbers for Packed {
    fn count(&self) -> usize {
        self.len()
    }

    fn norm(&self) -> f64 {
        Packed::norm(self).expect("it was checked")
    }

    fn products(updates: &[&Self]) -> Gram {
        Gram::of_packed(updates)
    }
}

/// One peer's update and its weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighted<U = Vec<f32>> {
    /// The contributor.
    pub peer: PeerId,
    /// What it weighs against the others ([`crate::state::weigh`]). Positive.
    pub weight: u64,
    /// The numbers; of one length for all peers, finite.
    pub update: U,
}

/// Contribution vectors, ordered by peer: `c_i = a_i * u_i`, with the [`coefficients`] `a_i`. The product
/// with each number is rounded to f32 once.
///
/// # Panics
/// As [`coefficients`].
pub fn combine(rule: Aggregation, updates: &[Weighted]) -> Vec<(PeerId, Vec<f32>)> {
    let sorted = sorted(updates);
    (sorted.iter().zip(of_sorted(rule, &sorted)))
        .map(|(weighted, (_, coefficient))| {
            let scaled = weighted.update.iter();
            let scaled = scaled
                .map(|v| (coefficient * f64::from(*v)) as f32)
                .collect();
            (weighted.peer, scaled)
        })
        .collect()
}

/// What each update is multiplied by, ordered by peer: its share of the weight, and the coefficient `a_i`
/// that the rule makes of it. That is the share itself for [`Aggregation::Mean`], the share times the clip
/// factor for [`Aggregation::ClippedMean`], and what `robust` makes of the inner products for the others.
///
/// # Panics
/// If two updates are of one peer or of different lengths, or the weights of all sum to zero or beyond
/// 64 bits. [`crate::state`] and the decoder have refused such input.
pub fn coefficients<U: Numbers>(
    rule: Aggregation,
    updates: &[Weighted<U>],
) -> Vec<(PeerId, f64, f64)> {
    let sorted = sorted(updates);
    (sorted.iter().zip(of_sorted(rule, &sorted)))
        .map(|(weighted, (share, coefficient))| (weighted.peer, share, coefficient))
        .collect()
}

fn sorted<U: Numbers>(updates: &[Weighted<U>]) -> Vec<&Weighted<U>> {
    let mut sorted: Vec<&Weighted<U>> = updates.iter().collect();
    sorted.sort_unstable_by_key(|weighted| weighted.peer);
    let same_length = |pair: &[&Weighted<U>]| pair[0].update.count() == pair[1].update.count();
    assert!(
        (sorted.windows(2)).all(|w| w[0].peer < w[1].peer && same_length(w)),
        "one update per peer, all of one length"
    );
    sorted
}

/// Share of the weight and coefficient of each.
fn of_sorted<U: Numbers>(rule: Aggregation, sorted: &[&Weighted<U>]) -> Vec<(f64, f64)> {
    let weight: u64 = sorted.iter().map(|w| w.weight).sum();
    assert!(weight > 0 || sorted.is_empty(), "updates without weight");
    let shares: Vec<f64> = (sorted.iter())
        .map(|weighted| weighted.weight as f64 / weight as f64)
        .collect();
    let updates: Vec<&U> = sorted.iter().map(|weighted| &weighted.update).collect();
    let coefficients = robust::coefficients(rule, &shares, || U::products(&updates));
    let coefficients = coefficients.unwrap_or_else(|| match rule {
        Aggregation::ClippedMean => (shares.iter().zip(clip::factors(sorted)))
            .map(|(share, factor)| share * factor)
            .collect(),
        _ => shares.clone(),
    });
    shares.into_iter().zip(coefficients).collect()
}

/// The adapter after the step: each number plus the contributions to it, added up in f64 in the order
/// of peers and rounded to f32 once.
///
/// What is exact: the same contributions give the same bits everywhere, and `after - before` differs
/// from the real sum of contributions by at most half a unit in the last place of `after` (f64 keeps
/// the error of the inner sum some 2^29 times smaller than that).
///
/// # Panics
/// If a contribution has another length than `before`.
pub fn step(before: &[f32], contributions: &[(PeerId, Vec<f32>)]) -> Vec<f32> {
    let mut sum: Vec<f64> = before.iter().map(|v| f64::from(*v)).collect();
    for (_, contribution) in contributions {
        assert_eq!(contribution.len(), before.len(), "contribution's length");
        for (sum, value) in sum.iter_mut().zip(contribution) {
            *sum += f64::from(*value);
        }
    }
    sum.into_iter().map(|v| v as f32).collect()
}

#[cfg(test)]
mod tests;
