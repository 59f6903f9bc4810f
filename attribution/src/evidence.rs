//! Who is paid at all: those whose work, over the run so far, is more than luck.
//!
//! Negative scores earn nothing and cost nothing, so whoever sends random numbers is paid in the half of the
//! rounds in which they happen to help. What chance gives a vector is known: were the signs of its numbers drawn
//! by lot, its score would have the standard deviation `sqrt(sum (g_j c_j)^2)`, its **luck**. Scores add up over
//! rounds, luck as squares:
//!
//! ```text
//!   a score of round r counts if   sum over rounds <= r of score  >  BEYOND * sqrt(sum of luck^2)
//! ```
//!
//! Honest work passes within a round or two, because its scores agree in sign; a random walk passes once in a
//! thousand. A negative score always counts. Who comes back under a new name begins anew, so nothing is gained
//! by it.

use std::collections::BTreeMap;

use tributary_protocol::id::PeerId;

/// In standard deviations: a walk without direction is this far out in one round of 740.
pub const BEYOND: f64 = 3.0;

/// What a contribution lowered the loss by, and what chance would.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lowered {
    /// The score, nats per token.
    pub score: f64,
    /// Its standard deviation were signs drawn by lot.
    pub luck: f64,
}

impl Lowered {
    /// Of a vector, under the mean gradient along a step; equally long.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn of(gradient: &[f64], vector: &[f64]) -> Self {
        assert_eq!(gradient.len(), vector.len(), "of one adapter");
        let terms = gradient.iter().zip(vector).map(|(g, c)| g * c);
        let (sum, squares) = terms.fold((0.0, 0.0), |(sum, squares), term| {
            (sum + term, squares + term * term)
        });
        Self {
            score: -sum,
            luck: squares.sqrt(),
        }
    }
}

/// What each contributor has shown in the rounds so far.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Sum of scores, sum of squares of luck.
    shown: BTreeMap<PeerId, (f64, f64)>,
}

impl Evidence {
    /// Adds one round, after all before it, and returns what of each score counts, in the same order.
    pub fn round(&mut self, lowered: &[(PeerId, Lowered)]) -> Vec<f64> {
        (lowered.iter())
            .map(|(peer, lowered)| {
                let (scores, squares) = self.shown.entry(*peer).or_default();
                *scores += lowered.score;
                *squares += lowered.luck * lowered.luck;
                match *scores > BEYOND * squares.sqrt() {
                    true => lowered.score,
                    false => lowered.score.min(0.0),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tributary_protocol::hash::Digest;

    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId(Digest::from_bytes([n; 32]))
    }

    #[test]
    fn luck_is_what_signs_drawn_by_lot_give() {
        let lowered = Lowered::of(&[1.0, -2.0, 0.0], &[-3.0, 2.0, 5.0]);
        assert_eq!((lowered.score, lowered.luck), (7.0, 5.0));
        // All signs of three terms: the mean of squares is the square of the luck.
        let (mut squares, mut signs) = (0.0, 0);
        for bits in 0..8u32 {
            let vector: Vec<f64> = (0..3)
                .map(|j| (j + 1) as f64 * if bits >> j & 1 == 1 { 1.0 } else { -1.0 })
                .collect();
            squares += Lowered::of(&[1.0, -2.0, 0.5], &vector).score.powi(2);
            signs += 1;
        }
        let luck = Lowered::of(&[1.0, -2.0, 0.5], &[1.0, 2.0, 3.0]).luck;
        assert!((squares / f64::from(signs) - luck * luck).abs() < 1e-9);
    }

    #[test]
    fn steady_work_is_paid_from_the_round_in_which_it_is_beyond_luck() {
        let mut evidence = Evidence::default();
        let lowered = Lowered {
            score: 1.6,
            luck: 1.0,
        };
        let paid: Vec<f64> = (0..5)
            .map(|_| evidence.round(&[(peer(1), lowered)])[0])
            .collect();
        // 1.6 r > 3 sqrt(r) from the fourth round on.
        assert_eq!(paid, [0.0, 0.0, 0.0, 1.6, 1.6]);
    }

    proptest! {
        #[test]
        fn nobody_gains_by_it_and_harm_stays_on_record(
            rounds in prop::collection::vec((-5.0f64..5.0, 0.0f64..5.0), 1..20),
        ) {
            let mut evidence = Evidence::default();
            for (score, luck) in rounds {
                let counts = evidence.round(&[(peer(1), Lowered { score, luck })])[0];
                prop_assert!(counts == score || (score > 0.0 && counts == 0.0));
            }
        }
    }
}
