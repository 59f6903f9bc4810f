//! Ways of paying a round: today's, its parts, and what could be added so that gaming does not pay.

use tributary_attribution::novelty::Public;
use tributary_attribution::path::Lowered;
use tributary_attribution::significance::Significance;
use tributary_protocol::id::{NanoNats, PeerId};
use tributary_protocol::round::FinalScore;

use tributary_simulations::federation::Closed;

/// Contributions whose cosine is above this are one.
const ALIKE: f64 = 0.9;

/// Scores of what is new in two turns of a factor, counted once their author is beyond luck.
pub(super) const TODAY: &str = "updates, 4 rounds + evidence";

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
pub(super) struct PaymentRule {
    pub(super) name: &'static str,
    reach: Reach,
    /// Whether a score counts only once its author's are beyond luck.
    significance: bool,
    /// Whether contributions that are alike earn together what one would.
    alike: bool,
}

const fn rule(name: &'static str, reach: Reach) -> PaymentRule {
    PaymentRule {
        name,
        reach,
        significance: false,
        alike: false,
    }
}

/// The first is what everything is compared with; [`TODAY`] is what evaluators and the ledger do.
pub(super) const PAYMENT_RULES: [PaymentRule; 8] = [
    rule("none", Reach::Nothing),
    rule("steps, 2 rounds", Reach::Steps(2)),
    rule("updates, 2 rounds", Reach::Updates(2)),
    rule("updates, 4 rounds", Reach::Updates(4)),
    rule("updates, all rounds", Reach::Updates(usize::MAX)),
    PaymentRule {
        significance: true,
        ..rule("updates, 2 rounds + evidence", Reach::Updates(2))
    },
    PaymentRule {
        significance: true,
        ..rule(TODAY, Reach::Updates(4))
    },
    PaymentRule {
        significance: true,
        alike: true,
        ..rule("updates, 4 rounds + evidence, alike", Reach::Updates(4))
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

impl PaymentRule {
    /// What counts of each contribution to a round, in their order. `evidence` has the rounds before.
    pub(super) fn scores(&self, round: &Round<'_>, significance: &mut Significance) -> Vec<f64> {
        let public = Public::new(self.public(round.history));
        let contributions = &round.closed.contributions;
        let lowered: Vec<(PeerId, Lowered)> = (contributions.iter())
            .map(|(peer, c)| (*peer, Lowered::of(round.slope, &public.new_part(c))))
            .collect();
        let certified: Vec<FinalScore> = lowered.iter().map(certified).collect();
        let tested = significance.round(&certified).into_iter();
        let counts = (tested.zip(&lowered)).map(|(tested, (_, lowered))| {
            match self.significance && tested.is_held_back() {
                true => 0.0,
                false => lowered.score,
            }
        });
        counts
            .zip(contributions)
            .map(|(score, (_, contribution))| match self.alike {
                true => score / f64::from(alike(contribution, contributions)),
                false => score,
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

/// As the ledger would hold it.
fn certified((peer, lowered): &(PeerId, Lowered)) -> FinalScore {
    let score = NanoNats::from_nats(lowered.score);
    FinalScore {
        peer: *peer,
        score,
        low: score,
        high: score,
        luck: NanoNats::from_nats(lowered.luck),
    }
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
