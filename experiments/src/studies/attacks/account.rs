//! What attackers earn and how much of their influence honest members keep, summed over rounds.

use tributary_attribution::credit::{self, Offer, Outcome, Served};
use tributary_attribution::significance::Significance;
use tributary_protocol::entry::ScoreSheet;
use tributary_protocol::id::{MicroOpen, PeerId};
use tributary_protocol::limits;
use tributary_protocol::round::FinalScore;
use tributary_simulations::federation::{Closed, Sent, peer};

/// Only credits are looked at.
const ANY_GAIN: Offer = Offer {
    budget: MicroOpen(1),
    price_per_nat: MicroOpen(limits::MAX_PRICE_MICRO_OPEN),
    ..Offer::WHOLE
};
/// Credits and voices, summed over rounds.
pub(super) struct Account {
    members: usize,
    attackers: usize,
    significance: Significance,
    /// Sum of the attackers' credits, in rounds.
    earned: f64,
    pub(super) paid_rounds: u32,
    pub(super) refused: u32,
    rounds: u32,
    /// By member: sum of coefficients, each as a part of its share of tokens.
    voices: Vec<f64>,
}

impl Account {
    pub(super) fn new(members: usize, attackers: usize) -> Self {
        Self {
            members,
            attackers,
            significance: Significance::default(),
            earned: 0.0,
            paid_rounds: 0,
            refused: 0,
            rounds: 0,
            voices: vec![0.0; members],
        }
    }

    fn honest(&self) -> usize {
        self.members - self.attackers
    }

    pub(super) fn round(
        &mut self,
        closed: &Closed,
        sent: &[Sent],
        updates: &[Option<Vec<f32>>],
        sheet: &ScoreSheet,
    ) {
        self.rounds += 1;
        self.refused += closed.refused.len() as u32;
        let honest = self.honest();
        let is_attacker = |id: &PeerId| (honest..self.members).any(|member| peer(member) == *id);
        let scores: Vec<FinalScore> = (sheet.scores.iter())
            .map(|line| FinalScore {
                peer: line.peer,
                score: line.score,
                low: line.low,
                high: line.high,
                luck: line.luck,
            })
            .collect();
        let tested = self.significance.round(&scores);
        let credits = credit::assign(&tested, &ANY_GAIN, &Served::default())
            .expect("a sheet in order of peers");
        if credits.outcome == Outcome::Paid {
            self.paid_rounds += 1;
            let theirs = credits
                .lines
                .iter()
                .filter(|line| is_attacker(&line.peer()));
            self.earned += theirs.map(|line| line.credit.as_f64()).sum::<f64>();
        }
        let included = || {
            sent.iter()
                .zip(updates)
                .filter(|(_, update)| update.is_some())
        };
        let tokens: u64 = included().map(|(sent, _)| sent.tokens).sum();
        for (sent, update) in included() {
            let update = update.as_ref().expect("it is included");
            let length = |v: &[f32]| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            let found = closed
                .contributions
                .iter()
                .find(|(id, _)| *id == peer(sent.member));
            if let (Some((_, contribution)), long @ 1e-30..) = (found, length(update)) {
                let share = sent.tokens as f64 / tokens as f64;
                self.voices[sent.member] += length(contribution) / long / share;
            }
        }
    }

    /// What attackers earned of what their number would make fair.
    pub(super) fn credit(&self) -> Option<f64> {
        let fair = self.attackers as f64 / self.members as f64 * f64::from(self.paid_rounds);
        (fair > 0.0).then(|| self.earned / fair)
    }

    pub(super) fn least_voice(&self) -> f64 {
        let voices = self.voices[..self.honest()].iter().copied();
        voices.fold(f64::INFINITY, f64::min) / f64::from(self.rounds)
    }
}
