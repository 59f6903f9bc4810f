//! Aggregation rules as a trait, so that a rule outside the protocol can be studied.
//!
//! The rules that a run can certify are those of [`Aggregation`], whose names are signed bytes of the manifest. A study
//! without votes may combine updates by any [`Rule`]; it sees what the protocol's own rules see: shares of the weight and
//! inner products.

use std::cell::OnceCell;

use super::gram::Gram;
use super::{Weighted, of_sorted, sorted};
use crate::id::PeerId;
use crate::manifest::Aggregation;

/// Turns the updates of a round into one coefficient each.
pub trait Rule: Send + Sync {
    /// What each update is multiplied by before all are added, in the order of `updates`.
    fn coefficients(&self, updates: &Updates<'_>) -> Vec<f64>;
}

/// The updates of one round as a rule sees them, ordered by peer.
pub struct Updates<'a> {
    sorted: &'a [&'a Weighted],
    shares: Vec<f64>,
    gram: OnceCell<Gram>,
}

impl<'a> Updates<'a> {
    fn new(sorted: &'a [&'a Weighted]) -> Self {
        let weight: u64 = sorted.iter().map(|update| update.weight).sum();
        Self {
            sorted,
            shares: (sorted
                .iter()
                .map(|update| update.weight as f64 / weight as f64))
            .collect(),
            gram: OnceCell::new(),
        }
    }

    /// Number of updates.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether nobody sent any.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// Each update's share of the weight; all together are one.
    pub fn shares(&self) -> &[f64] {
        &self.shares
    }

    /// Inner product of two updates. The first call multiplies all pairs.
    pub fn product(&self, one: usize, other: usize) -> f64 {
        self.gram().at(one, other)
    }

    /// Euclidean length of an update.
    pub fn length(&self, at: usize) -> f64 {
        self.product(at, at).sqrt()
    }

    /// Euclidean distance of two updates.
    pub fn distance(&self, one: usize, other: usize) -> f64 {
        self.gram().distance(one, other)
    }

    fn gram(&self) -> &Gram {
        self.gram.get_or_init(|| {
            let numbers: Vec<&[f32]> = self.sorted.iter().map(|w| w.update.as_slice()).collect();
            Gram::of(&numbers)
        })
    }
}

impl Rule for Aggregation {
    fn coefficients(&self, updates: &Updates<'_>) -> Vec<f64> {
        let all = of_sorted(*self, updates.sorted);
        all.into_iter()
            .map(|(_, coefficient)| coefficient)
            .collect()
    }
}

/// Contribution vectors by any rule, ordered by peer; for a rule of the protocol the same bits as
/// [`combine`](super::combine).
///
/// # Panics
/// As [`coefficients`](super::coefficients), and if the rule gives another number of coefficients than there are
/// updates.
pub fn combine_by(rule: &dyn Rule, updates: &[Weighted]) -> Vec<(PeerId, Vec<f32>)> {
    let sorted = sorted(updates);
    let coefficients = rule.coefficients(&Updates::new(&sorted));
    assert_eq!(
        coefficients.len(),
        sorted.len(),
        "one coefficient an update"
    );
    let scaled = |coefficient: f64, update: &[f32]| {
        let numbers = update.iter();
        numbers
            .map(|v| (coefficient * f64::from(*v)) as f32)
            .collect()
    };
    (sorted.iter().zip(coefficients))
        .map(|(weighted, coefficient)| (weighted.peer, scaled(coefficient, &weighted.update)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::combine;
    use crate::hash::Digest;
    use crate::id::Ppb;

    fn updates() -> Vec<Weighted> {
        let numbers = [
            [1.0, 0.5, -0.25],
            [0.9, 0.4, 0.1],
            [-3.0, 2.0, 9.0],
            [1.1, 0.6, -0.2],
        ];
        (numbers.iter().zip([10, 30, 20, 40]).enumerate())
            .map(|(at, (update, weight))| Weighted {
                peer: PeerId(Digest::from_bytes([9 - at as u8; 32])),
                weight,
                update: update.to_vec(),
            })
            .collect()
    }

    #[test]
    fn the_protocols_rules_give_the_same_bits_by_the_trait() {
        let tolerate = Ppb(340_000_000);
        for rule in [
            Aggregation::Mean,
            Aggregation::ClippedMean,
            Aggregation::MultiKrum { tolerate },
            Aggregation::CentredClip { tolerate },
            Aggregation::GeometricMedian { tolerate },
            Aggregation::Agreement { tolerate },
        ] {
            assert_eq!(combine_by(&rule, &updates()), combine(rule, &updates()));
        }
    }

    /// Hears only the longest update.
    struct Longest;

    impl Rule for Longest {
        fn coefficients(&self, updates: &Updates<'_>) -> Vec<f64> {
            let longest =
                (0..updates.len()).max_by(|a, b| updates.length(*a).total_cmp(&updates.length(*b)));
            (0..updates.len())
                .map(|at| f64::from(u8::from(Some(at) == longest)))
                .collect()
        }
    }

    #[test]
    fn a_rule_of_ones_own_sees_shares_and_inner_products_in_the_order_of_peers() {
        let found = combine_by(&Longest, &updates());
        assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let moved: Vec<f32> = found.iter().map(|(_, vector)| vector[2]).collect();
        assert_eq!(moved, [0.0, 9.0, 0.0, 0.0]);
        let all = updates();
        let sorted = sorted(&all);
        let seen = Updates::new(&sorted);
        assert_eq!(seen.shares(), [0.4, 0.2, 0.3, 0.1]);
        assert!((seen.distance(0, 2) - seen.distance(2, 0)).abs() < 1e-12);
    }
}
