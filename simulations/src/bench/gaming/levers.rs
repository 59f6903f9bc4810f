//! Ways of paying a round: today's, and what may be added so that gaming does not pay.

use tributary_attribution::novelty::Public;
use tributary_protocol::id::PeerId;

use crate::federation::Closed;

/// A score counts where it is beyond so many times what signs drawn by lot would give.
const LUCK: f64 = 3.0;
/// Contributions whose cosine is above this are one.
const ALIKE: f64 = 0.9;

/// What counts as public before a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nothing: every part of a contribution counts.
    Nothing,
    /// The steps of so many rounds before.
    Steps(usize),
    /// Every update of so many rounds before.
    Updates(usize),
}

/// A way of paying.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lever {
    pub(super) name: &'static str,
    reach: Reach,
    luck: bool,
    alike: bool,
}

const fn lever(name: &'static str, reach: Reach) -> Lever {
    Lever {
        name,
        reach,
        luck: false,
        alike: false,
    }
}

/// The first is what everything is compared with.
pub(super) const LEVERS: [Lever; 8] = [
    lever("none", Reach::Nothing),
    lever("steps, 2 rounds", Reach::Steps(2)),
    lever("steps, all rounds", Reach::Steps(usize::MAX)),
    lever("updates, 2 rounds", Reach::Updates(2)),
    lever("updates, 4 rounds", Reach::Updates(4)),
    lever("updates, all rounds", Reach::Updates(usize::MAX)),
    Lever {
        luck: true,
        ..lever("updates, 4 rounds; luck", Reach::Updates(4))
    },
    Lever {
        luck: true,
        alike: true,
        ..lever("updates, 4 rounds; luck; alike", Reach::Updates(4))
    },
];

/// What evaluators of a round know.
pub(super) struct Round<'a> {
    pub(super) closed: &'a Closed,
    /// Mean gradient along the step.
    pub(super) slope: &'a [f64],
    /// The rounds before, oldest first.
    pub(super) history: &'a [Closed],
}

impl Lever {
    /// Scores of a round's contributions, in their order.
    pub(super) fn scores(&self, round: &Round<'_>) -> Vec<f64> {
        let public = Public::new(self.public(round.history));
        let contributions = &round.closed.contributions;
        (contributions.iter())
            .map(|(_, contribution)| {
                let new = public.new_part(contribution);
                let (score, by_luck) = score_and_luck(round.slope, &new);
                if self.luck && score <= LUCK * by_luck {
                    return 0.0;
                }
                match self.alike {
                    true => score / f64::from(alike(contribution, contributions)),
                    false => score,
                }
            })
            .collect()
    }

    fn public(&self, history: &[Closed]) -> Vec<Vec<f32>> {
        let last = |rounds: usize| &history[history.len().saturating_sub(rounds)..];
        match self.reach {
            Reach::Nothing => Vec::new(),
            Reach::Steps(rounds) => last(rounds).iter().map(|c| c.step.clone()).collect(),
            Reach::Updates(rounds) => (last(rounds).iter())
                .flat_map(|closed| closed.contributions.iter().map(|(_, c)| c.clone()))
                .collect(),
        }
    }
}

/// What a vector lowers the loss by, and the standard deviation of that were the signs of its numbers drawn by
/// lot: `sqrt(sum (g_j c_j)^2)`.
pub(super) fn score_and_luck(slope: &[f64], vector: &[f64]) -> (f64, f64) {
    let terms = slope.iter().zip(vector).map(|(g, c)| g * c);
    let (sum, squares) = terms.fold((0.0, 0.0), |(sum, squares), term| {
        (sum + term, squares + term * term)
    });
    (-sum, squares.sqrt())
}

/// How many contributions say the same as this one, itself included.
fn alike(one: &[f32], all: &[(PeerId, Vec<f32>)]) -> u32 {
    let same = all.iter().filter(|(_, other)| cosine(one, other) >= ALIKE);
    (same.count() as u32).max(1)
}

/// Zero where one of them has no length.
pub(super) fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    let lengths = (product(one, one) * product(other, other)).sqrt();
    if lengths > 0.0 {
        product(one, other) / lengths
    } else {
        0.0
    }
}
