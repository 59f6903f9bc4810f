//! One run as attribution methods see it: its rounds, a hold-out, and what is known about its members.
//!
//! A [`Method`] gives every member of a run one score; how well it does is its agreement with the retrained coalitions of
//! the bank. Most methods score round by round ([`Trial::sum_rounds`]).

use tributary_attribution::Coalition;
use tributary_attribution::utility::{LossDrop, Utility as _};
use tributary_protocol::id::PeerId;
use tributary_simulations::federation::{Closed, peer};
use tributary_trainer::Windows;

use super::agreement::{Agreement, mean_of};
use super::bank::Bank;
use super::recipe::{Played, Stage};
use super::tables::CEILING;
use super::{Line, SEEDS};
use crate::learner::Measure;

/// Scores the members of a run by what they did to a hold-out.
pub trait Method: Send + Sync {
    /// One score for each member, in order.
    fn scores(&self, trial: &Trial<'_>) -> Vec<f64>;
}

impl<F: Fn(&Trial<'_>) -> Vec<f64> + Send + Sync> Method for F {
    fn scores(&self, trial: &Trial<'_>) -> Vec<f64> {
        self(trial)
    }
}

/// A run of all members with one seed.
pub struct Trial<'a> {
    pub(super) federation: usize,
    /// Place in [`SEEDS`].
    pub(super) seed: usize,
    pub(super) bank: &'a Bank,
    pub(super) stage: &'a Stage,
    /// The run of all members with this seed.
    pub(super) played: &'a Played,
    /// What the names of wanted methods contain.
    pub(super) only: &'a str,
}

/// Scores by peer.
pub type Scores = Vec<(PeerId, f64)>;

/// One round as methods see it.
pub struct Round<'a> {
    /// The rounds before, oldest first.
    pub before: &'a [Closed],
    /// The adapter before it, the contributions and the step.
    pub closed: &'a Closed,
    /// Losses and gradients on the hold-out windows that the round drew.
    pub measure: Measure<'a>,
    /// For what a method draws.
    pub nth: u64,
}

impl Trial<'_> {
    /// Number of members.
    pub fn members(&self) -> usize {
        self.stage.held.len()
    }

    /// Windows of text that each member holds.
    pub fn held(&self) -> Vec<usize> {
        self.stage.held.iter().map(Windows::len).collect()
    }

    /// All hold-out windows that a round can be scored on.
    pub fn hold_out(&self) -> usize {
        self.stage.learner.scored().len()
    }

    /// The retrained worth of every coalition with this seed, by its bits: the drop of the hold-out loss. Methods that
    /// look at it show what retraining alone would tell.
    pub fn retrained(&self) -> Vec<f64> {
        self.bank.worths(self.federation, self.seed, None)
    }

    /// A method's scores of every round on so many drawn windows, summed, by member.
    ///
    /// # Panics
    /// If the method scores a peer that is not a member.
    pub fn sum_rounds(
        &self,
        windows: usize,
        method: impl Fn(&mut Round<'_>) -> Scores,
    ) -> Vec<f64> {
        let members = self.members();
        let mut sums = vec![0.0; members];
        for (nth, closed) in self.played.rounds.iter().enumerate() {
            let drawn = self.drawn(nth, windows);
            let mut round = Round {
                before: &self.played.rounds[..nth],
                closed,
                measure: (self.stage.learner).measure_round(&closed.contributions, &drawn),
                nth: nth as u64,
            };
            for (who, score) in method(&mut round) {
                let member = (0..members).find(|member| peer(*member) == who);
                sums[member.expect("a member")] += score;
            }
        }
        sums
    }

    pub(super) fn drawn(&self, round: usize, windows: usize) -> Windows {
        self.stage.drawn(&self.played.rounds[round], windows)
    }

    /// Whether a method is asked for; the ceiling always is.
    pub(super) fn wants(&self, method: &str) -> bool {
        method == CEILING || method.contains(self.only)
    }

    /// Shapley values of retraining with this seed.
    pub(super) fn own(&self, query: Option<usize>) -> Vec<f64> {
        self.bank.shapley(self.federation, self.seed, query)
    }

    /// Their mean over the other seeds: the truth that this seed is compared with.
    pub(super) fn others(&self, query: Option<usize>) -> Vec<f64> {
        let others = (0..SEEDS.len()).filter(|seed| *seed != self.seed);
        mean_of(others.map(|seed| self.bank.shapley(self.federation, seed, query)))
    }

    /// Worths of all coalitions, mean over the other seeds.
    pub(super) fn worths(&self, query: Option<usize>) -> Vec<f64> {
        let others = (0..SEEDS.len()).filter(|seed| *seed != self.seed);
        mean_of(others.map(|seed| self.bank.worths(self.federation, seed, query)))
    }

    pub(super) fn line(&self, method: &str, query: Option<usize>, scores: &[f64], ms: f64) -> Line {
        Line {
            method: method.to_owned(),
            federation: self.federation,
            agreement: Agreement::of(scores, &self.others(query), &self.worths(query)),
            ms,
        }
    }
}

impl Round<'_> {
    /// Contributors of the round.
    pub fn players(&self) -> usize {
        self.closed.contributions.len()
    }

    /// A score for each contribution, by its place.
    pub fn scores(&self, score: impl Fn(usize) -> f64) -> Scores {
        (self.closed.contributions.iter().enumerate())
            .map(|(at, (peer, _))| (*peer, score(at)))
            .collect()
    }

    /// Runs `play` with the game of this round: a coalition's worth is the drop of the loss when only its
    /// vectors are added.
    ///
    /// # Panics
    /// If the model computes no loss at a point between the adapters before and after the round.
    pub fn game<R>(&mut self, play: impl FnOnce(&mut dyn FnMut(Coalition) -> f64) -> R) -> R {
        let Self {
            closed, measure, ..
        } = self;
        let mut game = LossDrop::new(closed.before.values(), &closed.contributions, measure)
            .expect("the round was played");
        play(&mut |coalition| game.value(coalition).expect("the round was played"))
    }
}
