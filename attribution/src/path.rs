//! The round score: an Aumann-Shapley path integral with two backward passes for any number of peers.
//!
//! The certified step of a round is a sum of contribution vectors, `d = sum c_i`. Walking from the
//! adapter before to the adapter after along the straight line, peer `i` is credited with its part of
//! every piece of descent:
//!
//! ```text
//!   phi_i = - int_0^1 < grad loss(before + s d), c_i > ds        (Aumann and Shapley 1974)
//!   sum phi_i = loss(before) - loss(before + d)
//! ```
//!
//! Two Gauss-Legendre points make the integral exact while the loss is a polynomial of degree four or
//! less along the line; how far it is not shows as [`PathScores::gap`]. The gradients at the two
//! points are averaged first, so that each peer costs one inner product per batch.
//!
//! A contributor is credited with what is *new* in its contribution: the part of `c_i` that lies in the span of
//! what was public before the round ([`crate::novelty`]) is nobody's ([`PathScores::public`]).
//!
//! Beside each score stands its **luck**: the standard deviation that it would have if the signs of the new part's
//! numbers were random, `sqrt(sum_j (g_j c_j)^2)` under the mean gradient `g` over points and batches.
//! [`crate::significance`] compares scores with it.
//!
//! The score is linear in `c_i`: splitting an update over several identities earns the same sum. For quadratic losses
//! it is the exact Shapley value of [`crate::utility::LossDrop`]; with cubic terms the two differ (see the crate's
//! README).

use std::error::Error;

use tributary_protocol::entry::{Score, ScoreSheet};
use tributary_protocol::id::{NanoNats, PeerId, Round, StateHash};

use crate::interval::{self, Interval, MIN_BATCHES};
use crate::measure::{HoldOut, MeasureError, check_contributions, check_public};
use crate::novelty::Public;
use crate::utility::Gradient;
use crate::vector::{self, Vector};

/// Gauss-Legendre points on `[0, 1]`, `1/2 -+ 1/sqrt(12)`; both weigh one half.
pub const NODES: [f64; 2] = [0.211_324_865_405_187_13, 0.788_675_134_594_812_9];

/// Why a round cannot be scored.
#[derive(Debug, thiserror::Error)]
pub enum PathError<E: Error + 'static> {
    /// The hold-out or the contributions cannot be measured.
    #[error(transparent)]
    Measure(#[from] MeasureError<E>),
    /// Without variation between batches there is no interval, and a score without one is not signed.
    #[error(
        "an interval needs at least {MIN_BATCHES} hold-out batches and there is {found}: cut the drawn windows into smaller batches"
    )]
    TooFewBatches {
        /// Batches at hand.
        found: usize,
    },
}

/// Scores of one round by one evaluator.
#[derive(Clone, Debug, PartialEq)]
pub struct PathScores {
    /// Tokens predicted, over all batches.
    pub predicted: u64,
    /// Mean loss before the round, nats per predicted token.
    pub loss_before: f64,
    /// Mean loss after the round, nats per predicted token.
    pub loss_after: f64,
    /// The part of the drop that was public before the round and is nobody's.
    pub public: f64,
    /// One score per contribution, ordered by peer.
    pub scores: Vec<PathScore>,
}

/// What one contribution did to the loss, nats per predicted token; positive lowered it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathScore {
    /// The contributor.
    pub peer: PeerId,
    /// The path integral.
    pub score: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end of its interval.
    pub high: f64,
    /// Standard deviation that the score would have with random signs.
    pub luck: f64,
}

/// What a vector lowers the loss by, and what chance would.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lowered {
    /// The score, nats per token.
    pub score: f64,
    /// The standard deviation that it would have with random signs.
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

/// Scores the step `before -> before + sum of contributions`, whose vectors are flat, as long as
/// `before` and strictly ordered by peer. `public` lists what anyone could have read before the round, flat as
/// well and in a fixed order: the updates of the rounds before. Empty, everything counts.
///
/// Per batch: two losses (before, after) and two gradients. Intervals: Student's 95 % over batches
/// (weighted by predicted tokens), widened by the peer's part of the completeness gap, which is cut
/// up in proportion to the scores' sizes because quadrature does not say whose error it is.
///
/// # Errors
/// See [`PathError`].
pub fn score<G: Gradient, C: Vector + Clone>(
    before: &[f32],
    contributions: &[(PeerId, C)],
    public: &[C],
    source: &mut G,
) -> Result<PathScores, PathError<G::Error>> {
    check_contributions(before.len(), contributions)?;
    check_public(before.len(), public)?;
    let mut hold_out = HoldOut::new(source, before.len())?;
    if hold_out.batches() < MIN_BATCHES {
        let found = hold_out.batches();
        return Err(PathError::TooFewBatches { found });
    }
    let step = vector::sum(before.len(), contributions.iter().map(|(_, c)| c));
    let points = NODES.map(|s| vector::along(before, &step, s));
    let after = vector::along(before, &step, 1.0);

    let public = Public::new(public.iter().cloned());
    let known: Vec<Vec<f64>> = (contributions.iter())
        .map(|(_, contribution)| public.coefficients(contribution))
        .collect();

    let weights = hold_out.weights();
    let (mut loss_before, mut loss_after, mut public_drop) = (0.0, 0.0, 0.0);
    let mut mean_slope = vec![0.0; before.len()];
    // By contribution, then by batch.
    let mut drops = vec![Vec::with_capacity(weights.len()); contributions.len()];
    for (batch, weight) in weights.iter().enumerate() {
        loss_before += weight * hold_out.loss(batch, before)?;
        loss_after += weight * hold_out.loss(batch, &after)?;
        let mut slope = vec![0.0; before.len()];
        for point in &points {
            let gradient = hold_out.gradient(batch, point)?;
            vector::add(&mut slope, 1.0 / NODES.len() as f64, &gradient);
        }
        (mean_slope.iter_mut().zip(&slope)).for_each(|(mean, slope)| *mean += weight * slope);
        let of_public: Vec<f64> = (public.vectors().iter())
            .map(|vector| -vector.dot(&slope))
            .collect();
        for ((drops, known), (_, contribution)) in drops.iter_mut().zip(&known).zip(contributions) {
            let old: f64 = known.iter().zip(&of_public).map(|(a, drop)| a * drop).sum();
            drops.push(-contribution.dot(&slope) - old);
            public_drop += weight * old;
        }
    }
    let luck = (contributions.iter().zip(&known)).map(|((_, contribution), known)| {
        Lowered::of(&mean_slope, &public.without(contribution, known)).luck
    });
    let peers = contributions.iter().map(|(peer, _)| *peer);
    let intervals: Vec<Interval> = drops.iter().map(|d| interval::of(d, &weights)).collect();
    Ok(PathScores {
        predicted: hold_out.predicted(),
        loss_before,
        loss_after,
        public: public_drop,
        scores: lines(
            peers.zip(luck),
            &intervals,
            loss_before - loss_after - public_drop,
        ),
    })
}

/// Scores with their intervals, widened by the part of `drop` that they leave unexplained.
fn lines(
    peers: impl Iterator<Item = (PeerId, f64)>,
    intervals: &[Interval],
    drop: f64,
) -> Vec<PathScore> {
    let sum: f64 = intervals.iter().map(|i| i.mean).sum();
    let size: f64 = intervals.iter().map(|i| i.mean.abs()).sum();
    let gap = (drop - sum).abs();
    (peers.zip(intervals))
        .map(|((peer, luck), found)| {
            let part = if size > 0.0 {
                gap * found.mean.abs() / size
            } else {
                gap
            };
            PathScore {
                peer,
                score: found.mean,
                low: found.mean - found.half - part,
                high: found.mean + found.half + part,
                luck,
            }
        })
        .collect()
}

impl PathScores {
    /// The measured loss drop, nats per predicted token.
    pub fn drop(&self) -> f64 {
        self.loss_before - self.loss_after
    }

    /// What two points leave unexplained: measured drop minus what was public, minus the sum of scores.
    pub fn gap(&self) -> f64 {
        self.drop() - self.public - self.scores.iter().map(|s| s.score).sum::<f64>()
    }

    /// The sheet that an evaluator signs: integers, intervals rounded outwards.
    pub fn sheet(&self, round: Round, state: StateHash) -> ScoreSheet {
        let scores = self.scores.iter().map(PathScore::quantise).collect();
        ScoreSheet {
            round,
            state,
            predicted: self.predicted,
            loss_before: NanoNats::from_nats(self.loss_before),
            loss_after: NanoNats::from_nats(self.loss_after),
            scores,
        }
    }
}

impl PathScore {
    /// In whole billionths of a nat: the score to the nearest, its interval outwards, luck up.
    pub fn quantise(&self) -> Score {
        Score {
            peer: self.peer,
            score: NanoNats::from_nats(self.score),
            low: NanoNats((self.low * 1e9).floor() as i64),
            high: NanoNats((self.high * 1e9).ceil() as i64),
            luck: NanoNats((self.luck * 1e9).ceil() as i64),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tributary_protocol::hash::Digest;

    use super::*;

    #[test]
    fn the_nodes_integrate_cubics_exactly() {
        for (power, known) in [(0, 1.0), (1, 0.5), (2, 1.0 / 3.0), (3, 0.25)] {
            let found: f64 = NODES.iter().map(|s| s.powi(power) / 2.0).sum();
            assert!((found - known).abs() < 1e-15, "s^{power}: {found}");
        }
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

    proptest! {
        #[test]
        fn quantised_intervals_hold_the_score(
            score in -20.0f64..20.0, below in 0.0f64..1.0, above in 0.0f64..1.0, luck in 0.0f64..9.0,
        ) {
            let peer = PeerId(Digest::from_bytes([7; 32]));
            let (low, high) = (score - below, score + above);
            let whole = PathScore { peer, score, low, high, luck }.quantise();
            prop_assert!(whole.low <= whole.score && whole.score <= whole.high);
            prop_assert!(whole.low.as_nats() <= low + 1e-14);
            prop_assert!(whole.high.as_nats() >= high - 1e-14);
            prop_assert!(whole.luck.as_nats() >= luck - 1e-14 && whole.luck.as_nats() <= luck + 1.1e-9);
            prop_assert!((whole.score.as_nats() - score).abs() <= 0.5e-9 + 1e-14);
        }
    }
}
