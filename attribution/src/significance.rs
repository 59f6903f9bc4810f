//! Which scores count: those of authors whose work, over the run so far, is more than luck.
//!
//! Negative scores earn nothing and cost nothing, so a member that sends random numbers would be paid in the half of
//! the rounds in which they happen to help. What chance gives a vector is known: if the signs of its numbers were
//! random, its score would have the standard deviation `sqrt(sum (g_j c_j)^2)`, its **luck**, which evaluators sign
//! beside the score ([`crate::path::Lowered`]). Scores add up over rounds, luck as squares:
//!
//! ```text
//!   a score of round r counts if   sum over rounds <= r of score  >  BEYOND * sqrt(sum of luck^2)
//! ```
//!
//! Honest work passes within a round or two, because its scores agree in sign; a random walk passes once in hundreds
//! of rounds. The test looks only at certified integers, in the order of rounds, so every peer finds the same. A
//! [`TestedScore`] score carries what decided about it, and can be judged without the rounds before.
//!
//! What was held back is not paid later, once its author passes: it waits unallocated. A member that comes back under
//! a new name begins anew, so it gains nothing by that.

use std::collections::BTreeMap;

use tributary_protocol::id::PeerId;
use tributary_protocol::round::FinalScore;

/// In standard deviations: a walk without direction is this far out in one round of 740.
pub const BEYOND: u128 = 3;

/// What a contributor has shown in the rounds so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CumulativeScore {
    /// Sum of its final scores, in nanonats.
    pub scores: i128,
    /// Sum of the squares of their luck, in square nanonats.
    pub squares: u128,
}

impl CumulativeScore {
    /// With one more round. Saturates far beyond what a sheet may say in as many rounds as a run may have.
    fn and(self, score: &FinalScore) -> Self {
        let luck = u128::from(score.luck.0.unsigned_abs());
        Self {
            scores: self.scores.saturating_add(score.score.0.into()),
            squares: self.squares.saturating_add(luck * luck),
        }
    }

    /// Luck so far: the standard deviation of the sum, in whole nanonats, rounded down.
    pub fn luck(&self) -> u128 {
        self.squares.isqrt()
    }

    /// What the sum has to exceed, in whole nanonats. A whole number is beyond a root exactly if it is beyond
    /// the root rounded down.
    pub fn threshold(&self) -> u128 {
        BEYOND.pow(2).saturating_mul(self.squares).isqrt()
    }

    /// Whether it is more than chance would give.
    pub fn is_beyond_luck(&self) -> bool {
        self.scores > 0 && self.scores.unsigned_abs() > self.threshold()
    }
}

/// A final score, and what its author had shown with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestedScore {
    /// The score.
    pub score: FinalScore,
    /// Of all rounds up to its own.
    pub shown: CumulativeScore,
}

impl TestedScore {
    /// What is paid for, in nanonats: the score, or nothing where it is not positive or its author not yet beyond luck.
    pub fn counts(&self) -> u64 {
        match self.shown.is_beyond_luck() {
            true => self.positive(),
            false => 0,
        }
    }

    /// Whether it would count, were its author beyond luck.
    pub fn is_held_back(&self) -> bool {
        self.positive() > 0 && !self.shown.is_beyond_luck()
    }

    /// What is split by: the score, or nothing where it is not positive.
    pub fn positive(&self) -> u64 {
        self.score.score.0.max(0).unsigned_abs()
    }
}

/// What each contributor of a run has shown in the rounds so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Significance {
    shown: BTreeMap<PeerId, CumulativeScore>,
}

impl Significance {
    /// Adds one round, after all before it, and tests its scores, in the same order.
    pub fn round(&mut self, scores: &[FinalScore]) -> Vec<TestedScore> {
        (scores.iter())
            .map(|score| {
                let shown = self.shown.entry(score.peer).or_default();
                *shown = shown.and(score);
                TestedScore {
                    score: *score,
                    shown: *shown,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tributary_protocol::hash::Digest;
    use tributary_protocol::id::NanoNats;
    use tributary_protocol::limits::{MAX_NANO_NATS, MAX_ROUNDS};

    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId(Digest::from_bytes([n; 32]))
    }

    fn score(n: u8, score: i64, luck: i64) -> FinalScore {
        FinalScore {
            peer: peer(n),
            score: NanoNats(score),
            low: NanoNats(score),
            high: NanoNats(score),
            luck: NanoNats(luck),
        }
    }

    /// What counts of one contributor's scores, round after round.
    fn counts(rounds: &[(i64, i64)]) -> Vec<u64> {
        let mut significance = Significance::default();
        let one = |&(found, luck): &(i64, i64)| significance.round(&[score(1, found, luck)])[0];
        rounds.iter().map(one).map(|t| t.counts()).collect()
    }

    #[test]
    fn steady_work_is_paid_from_the_round_in_which_it_is_beyond_luck() {
        // 1.6 r > 3 sqrt(r) from the fourth round on.
        assert_eq!(counts(&[(16, 10); 5]), [0, 0, 0, 16, 16]);
        // Exactly three standard deviations are not beyond them.
        assert_eq!(counts(&[(30, 10), (1, 0)]), [0, 1]);
        assert_eq!(counts(&[(31, 10)]), [31]);
    }

    #[test]
    fn what_is_not_positive_never_counts_and_is_not_held_back() {
        let mut significance = Significance::default();
        let proven = significance.round(&[score(1, 100, 1), score(2, 0, 0)]);
        assert!(proven[0].shown.is_beyond_luck() && !proven[1].shown.is_beyond_luck());
        for found in [-5, 0] {
            let tested = significance.round(&[score(1, found, 1)])[0];
            assert_eq!((tested.counts(), tested.is_held_back()), (0, false));
        }
        let fallen = significance.round(&[score(1, -96, 1)])[0];
        assert!(!fallen.shown.is_beyond_luck(), "harm stays on record");
        assert!(significance.round(&[score(1, 1, 1)])[0].is_held_back());
    }

    #[test]
    fn nobody_passes_by_the_work_of_another() {
        let mut significance = Significance::default();
        significance.round(&[score(1, 1_000, 1)]);
        let tested = significance.round(&[score(1, 5, 5), score(2, 5, 5)]);
        let counts: Vec<u64> = tested.iter().map(TestedScore::counts).collect();
        assert_eq!(counts, [5, 0]);
    }

    #[test]
    fn the_longest_run_of_the_largest_scores_is_judged_exactly() {
        let rounds = u128::from(MAX_ROUNDS);
        let most = u128::from(MAX_NANO_NATS.unsigned_abs());
        let at = |scores: u128| CumulativeScore {
            scores: scores as i128,
            squares: rounds * most * most,
        };
        let bar = at(0).threshold();
        assert!(bar * bar <= 9 * at(0).squares && (bar + 1) * (bar + 1) > 9 * at(0).squares);
        assert!(!at(bar).is_beyond_luck() && at(bar + 1).is_beyond_luck());
        // A committee that certifies what no sheet may say makes nobody panic.
        let absurd = score(1, i64::MIN, i64::MIN);
        let shown = (0..9).fold(CumulativeScore::default(), |shown, _| shown.and(&absurd));
        assert_eq!((shown.is_beyond_luck(), shown.squares), (false, u128::MAX));
    }

    proptest! {
        #[test]
        fn the_integer_rule_is_that_of_squares_and_of_floats(
            rounds in prop::collection::vec(
                (-MAX_NANO_NATS..=MAX_NANO_NATS, 0..=MAX_NANO_NATS), 1..20,
            ),
            shrink in 0u32..40,
        ) {
            let mut significance = Significance::default();
            let (mut sum, mut squares) = (0.0f64, 0.0f64);
            for (found, luck) in rounds {
                let luck = luck >> shrink;
                let tested = significance.round(&[score(1, found, luck)])[0];
                sum += found as f64;
                squares += (luck as f64).powi(2);
                let shown = tested.shown;
                let exact = shown.scores > 0
                    && shown.scores.unsigned_abs().pow(2) > BEYOND.pow(2) * shown.squares;
                prop_assert_eq!(shown.is_beyond_luck(), exact);
                let bar = BEYOND as f64 * squares.sqrt();
                // Floats cannot tell what lies this close to the bar.
                if (sum - bar).abs() > 1e-9 * bar.max(1.0) {
                    prop_assert_eq!(exact, sum > bar);
                }
                let whole = u64::try_from(found).unwrap_or(0);
                prop_assert_eq!(tested.counts(), if exact { whole } else { 0 });
                prop_assert_eq!(tested.is_held_back(), !exact && found > 0);
            }
        }
    }
}
