//! How certain the shares of an answer are: a jackknife over stretches of its tokens.
//!
//! A run is divided into stages: what a member moved early lowered the answer's loss where the adapter was then, and
//! not where it ended. Each stage has its own vectors and its own gradient, taken half way through it.
//!
//! An answer is a sample of what the adapter says to such a prompt; other tokens would have given other
//! shares. The answer is cut in stretches, each with a gradient of its own (their sum is the answer's,
//! so nothing is computed twice), and the shares are taken again without one stretch after the other.
//! The interval is the share, plus and minus Student's quantile times the jackknife's standard error
//! (Efron and Stein 1981), cut to zero and one. It covers which tokens were said. It does not cover how
//! far a linear estimate is from retraining.

use std::collections::BTreeMap;

use tributary_protocol::id::{PeerId, Ppb};

use super::store::Stage;
use super::{AnswerShares, Moved, QueryError, TokenLoss, base_part, divide, influences};
use crate::interval::{MIN_BATCHES, t_quantile};

/// Consecutive tokens of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    /// Gradient of the *sum* of the tokens' losses in nats at each stage of the run, flat.
    pub gradients: Vec<Vec<f32>>,
    /// The tokens' losses.
    pub tokens: Vec<TokenLoss>,
}

/// Shares of an answer and how sure they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundedShares {
    /// Shares of the whole answer; influences in nats per token.
    pub shares: AnswerShares,
    /// Lower and upper end of each share's 95 % interval, in the order of the shares.
    pub intervals: Vec<[Ppb; 2]>,
}

/// Shares of the answer that `stretches` make up, as [`super::shares`] gives them, with intervals, from what
/// was moved in each stage of the run. One stretch shows no variation: every interval then is zero to one.
///
/// # Errors
/// See [`QueryError`].
pub fn shares<'a>(
    stretches: &[Stretch],
    stages: impl Iterator<Item = &'a Moved> + Clone,
) -> Result<BoundedShares, QueryError> {
    let found = stretches.iter();
    let found = found.map(|stretch| over_stages(&stretch.gradients, stages.clone()));
    bounded(stretches, found.collect::<Result<_, QueryError>>()?)
}

/// [`shares`] from rows without zeros: the same to the last bit, and much sooner where there are many
/// contributors.
///
/// # Errors
/// See [`QueryError`].
pub fn shares_of_stages(
    stretches: &[Stretch],
    stages: &[&Stage],
) -> Result<BoundedShares, QueryError> {
    if let Some(odd) = (stretches.iter()).find(|s| s.gradients.len() != stages.len()) {
        let (expected, found) = (stages.len(), odd.gradients.len());
        return Err(QueryError::Stages { expected, found });
    }
    let mut sums: BTreeMap<PeerId, Vec<f64>> = BTreeMap::new();
    for (at, stage) in stages.iter().enumerate() {
        let gradients: Vec<&[f32]> = stretches.iter().map(|s| &s.gradients[at][..]).collect();
        for (peer, influences) in stage.influences(&gradients)? {
            let sums = sums
                .entry(peer)
                .or_insert_with(|| vec![0.0; stretches.len()]);
            for (sum, influence) in sums.iter_mut().zip(influences) {
                *sum += influence;
            }
        }
    }
    let of = |at: usize| sums.iter().map(move |(peer, by)| (*peer, by[at])).collect();
    bounded(stretches, (0..stretches.len()).map(of).collect())
}

/// Shares and intervals from the influences of every stretch.
fn bounded(
    stretches: &[Stretch],
    influences: Vec<Vec<(PeerId, f64)>>,
) -> Result<BoundedShares, QueryError> {
    if stretches.is_empty() {
        return Err(QueryError::Empty);
    }
    let parts: Vec<Part> = (stretches.iter().zip(influences))
        .map(|(stretch, influences)| {
            Ok(Part {
                tokens: stretch.tokens.len() as f64,
                base: base_part(&stretch.tokens)? * stretch.tokens.len() as f64,
                influences,
            })
        })
        .collect::<Result<_, QueryError>>()?;
    let shares = together(parts.iter());
    let intervals = intervals(&parts, &shares);
    Ok(BoundedShares { shares, intervals })
}

/// Influences of every peer that moved something, summed over the stages, ordered by peer.
fn over_stages<'a>(
    gradients: &[Vec<f32>],
    stages: impl Iterator<Item = &'a Moved> + Clone,
) -> Result<Vec<(PeerId, f64)>, QueryError> {
    let (expected, found) = (stages.clone().count(), gradients.len());
    if found != expected {
        return Err(QueryError::Stages { expected, found });
    }
    let mut sums = BTreeMap::new();
    for (gradient, moved) in gradients.iter().zip(stages) {
        for (peer, influence) in influences(gradient, moved.iter())? {
            *sums.entry(peer).or_insert(0.0) += influence;
        }
    }
    Ok(sums.into_iter().collect())
}

/// What one stretch adds up to.
struct Part {
    tokens: f64,
    /// Its tokens' parts that the base would have said too.
    base: f64,
    /// Nats.
    influences: Vec<(PeerId, f64)>,
}

/// Shares of some stretches as if they were an answer.
fn together<'a>(parts: impl Iterator<Item = &'a Part>) -> AnswerShares {
    let (mut tokens, mut base) = (0.0, 0.0);
    let mut influences: Vec<(PeerId, f64)> = Vec::new();
    for part in parts {
        tokens += part.tokens;
        base += part.base;
        if influences.is_empty() {
            influences = part.influences.clone();
            continue;
        }
        for ((_, sum), (_, influence)) in influences.iter_mut().zip(&part.influences) {
            *sum += influence;
        }
    }
    (influences.iter_mut()).for_each(|(_, influence)| *influence /= tokens);
    divide(base / tokens, &influences)
}

fn intervals(parts: &[Part], whole: &AnswerShares) -> Vec<[Ppb; 2]> {
    let count = parts.len();
    if count < MIN_BATCHES {
        return vec![[Ppb(0), Ppb::ONE]; whole.shares.len()];
    }
    let without: Vec<AnswerShares> = (0..count)
        .map(|left_out| {
            let others = parts.iter().enumerate();
            let others = others.filter(|(at, _)| *at != left_out);
            together(others.map(|(_, part)| part))
        })
        .collect();
    (whole.shares.iter().enumerate())
        .map(|(at, share)| {
            let found: Vec<f64> = (without.iter())
                .map(|shares| shares.shares[at].share.as_f64())
                .collect();
            let mean = found.iter().sum::<f64>() / count as f64;
            let spread: f64 = found.iter().map(|x| (x - mean).powi(2)).sum();
            let error = ((count - 1) as f64 / count as f64 * spread).sqrt();
            let half = t_quantile(count - 1) * error;
            let share = share.share.as_f64();
            let ppb = |value: f64| Ppb((value.clamp(0.0, 1.0) * 1e9).round() as u32);
            [ppb(share - half), ppb(share + half)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tributary_protocol::hash::Digest;

    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId(Digest::from_bytes([n; 32]))
    }

    fn token(base: f64, adapter: f64) -> TokenLoss {
        TokenLoss { base, adapter }
    }

    fn stretch(gradient: &[f32], tokens: Vec<TokenLoss>) -> Stretch {
        Stretch {
            gradients: vec![gradient.to_vec()],
            tokens,
        }
    }

    fn moved(vectors: &[Vec<f32>]) -> Moved {
        let named = vectors.iter().enumerate();
        let named: Vec<(PeerId, &Vec<f32>)> = named.map(|(n, v)| (peer(n as u8), v)).collect();
        let mut moved = Moved::default();
        moved.add(&named).expect("good input");
        moved
    }

    fn of(stretches: &[Stretch], vectors: &[Vec<f32>]) -> BoundedShares {
        shares(stretches, [moved(vectors)].iter()).expect("good input")
    }

    #[test]
    fn what_was_moved_in_a_stage_is_held_against_that_stages_gradient() {
        // The first peer helped in the first stage only; the second joined for the second.
        let said = Stretch {
            gradients: vec![vec![-3.0, 0.0], vec![0.0, -1.0]],
            tokens: vec![token(9.0, 0.0)],
        };
        let stages = [
            moved(&[vec![1.0, 1.0]]),
            moved(&[vec![1.0, 0.0], vec![1.0, 1.0]]),
        ];
        let found = shares(std::slice::from_ref(&said), stages.iter())
            .expect("good input")
            .shares;
        let influences: Vec<f64> = found.shares.iter().map(|s| s.influence.as_nats()).collect();
        assert_eq!(influences, [3.0, 1.0]);
        let fewer = shares(&[said], stages[..1].iter());
        let (expected, found) = (1, 2);
        assert_eq!(fewer, Err(QueryError::Stages { expected, found }));
    }

    #[test]
    fn stretches_that_agree_leave_no_doubt() {
        let one = stretch(&[-1.0, -0.5], vec![token(3.0, 1.0), token(2.0, 1.0)]);
        let found = of(
            &[one.clone(), one.clone(), one],
            &[vec![1.0, 0.0], vec![0.0, 1.0]],
        );
        for (share, [low, high]) in found.shares.shares.iter().zip(&found.intervals) {
            assert!(low.0.abs_diff(share.share.0) <= 2 && high.0.abs_diff(share.share.0) <= 2);
        }
    }

    #[test]
    fn stretches_that_contradict_each_other_widen_the_interval() {
        let tokens = || vec![token(4.0, 0.5)];
        let moved = [vec![1.0, 0.0], vec![0.0, 1.0]];
        let mixed = [
            stretch(&[-1.0, 0.0], tokens()),
            stretch(&[0.0, -1.0], tokens()),
            stretch(&[-1.0, 0.0], tokens()),
        ];
        let found = of(&mixed, &moved);
        let [low, high] = found.intervals[0];
        assert!(high.0 - low.0 > 500_000_000, "{low:?} {high:?}");
    }

    #[test]
    fn one_stretch_says_nothing_about_doubt() {
        let found = of(&[stretch(&[-1.0], vec![token(2.0, 1.0)])], &[vec![1.0]]);
        assert_eq!(found.intervals, [[Ppb(0), Ppb::ONE]]);
        assert_eq!(shares(&[], [].iter()), Err(QueryError::Empty));
    }

    proptest! {
        #[test]
        fn shares_from_rows_equal_those_from_whole_vectors(
            gradients in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(-1.0f32..1.0, 5), 2), 1..11),
            moved in prop::collection::vec(prop::collection::vec(-2.0f32..2.0, 5), 2..8),
            losses in prop::collection::vec((0.0f64..9.0, 0.0f64..9.0), 11),
        ) {
            let stretches: Vec<Stretch> = (gradients.into_iter().zip(&losses))
                .map(|(gradients, (base, adapter))| Stretch {
                    gradients,
                    tokens: vec![token(*base, *adapter)],
                })
                .collect();
            // The first peer is in both stages, the others in one each.
            let early: Vec<(PeerId, &Vec<f32>)> = vec![(peer(0), &moved[0]), (peer(1), &moved[1])];
            let late = moved.iter().enumerate().filter(|(n, _)| *n != 1);
            let late: Vec<(PeerId, &Vec<f32>)> = late.map(|(n, v)| (peer(n as u8), v)).collect();
            let mut whole = [Moved::default(), Moved::default()];
            let mut rows = [Stage::default(), Stage::default()];
            for (at, round) in [early, late].iter().enumerate() {
                whole[at].add(round).expect("good input");
                rows[at].add(round).expect("good input");
            }
            let slow = shares(&stretches, whole.iter());
            let fast = shares_of_stages(&stretches, &rows.iter().collect::<Vec<_>>());
            prop_assert!(slow.is_ok());
            prop_assert_eq!(fast, slow);
        }

        #[test]
        fn the_shares_are_those_of_the_whole_answer(
            gradients in prop::collection::vec(prop::collection::vec(-1.0f32..1.0, 4), 1..6),
            moved in prop::collection::vec(prop::collection::vec(-2.0f32..2.0, 4), 1..6),
            losses in prop::collection::vec((0.0f64..9.0, 0.0f64..9.0), 12),
        ) {
            let tokens: Vec<TokenLoss> = losses.iter().map(|(b, a)| token(*b, *a)).collect();
            let each = tokens.len() / gradients.len();
            let stretches: Vec<Stretch> = (gradients.iter().enumerate())
                .map(|(n, g)| stretch(g, tokens[n * each..(n + 1) * each].to_vec()))
                .collect();
            let said = &tokens[..each * gradients.len()];
            let mut mean = vec![0.0f32; 4];
            for gradient in &gradients {
                for (mean, g) in mean.iter_mut().zip(gradient) {
                    *mean += g / said.len() as f32;
                }
            }
            let named = (moved.iter().enumerate()).map(|(n, v)| (peer(n as u8), &v[..]));
            let whole = super::super::shares(&mean, named, said).expect("good input");
            let found = of(&stretches, &moved);
            prop_assert!(found.shares.nobody.0.abs_diff(whole.nobody.0) < 1_000);
            for (a, b) in found.shares.shares.iter().zip(&whole.shares) {
                prop_assert!(a.share.0.abs_diff(b.share.0) < 200_000, "{a:?} {b:?}");
            }
            for (share, [low, high]) in found.shares.shares.iter().zip(&found.intervals) {
                prop_assert!(*low <= share.share && share.share <= *high);
            }
        }
    }
}
