//! What a dispute is about: a score that somebody disputes, or shares of answers that a certificate drew.

use tributary_protocol::codec;
use tributary_protocol::hash::{Digest, Domain, Hasher};
use tributary_protocol::id::{MicroOpen, PeerId, Round};
use tributary_protocol::round::EntryRef;

/// One in so many answers whose payer agreed to shares is checked.
const CHECKED: u64 = 20;

/// What a jury recomputes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matter {
    /// A score.
    Score(DisputedScore),
    /// Shares of answers that a server was told to be right, and that it computed itself.
    Shares {
        /// The entry that files them; its author is the server.
        answers: EntryRef,
        /// Places in the entry of those that were drawn.
        drawn: Vec<u8>,
    },
}

/// A score that somebody disputes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisputedScore {
    /// The sheet; its author is the evaluator.
    pub sheet: EntryRef,
    /// The round that it judges.
    pub round: Round,
    /// Whose score is disputed.
    pub peer: PeerId,
    /// What the challenger says of it.
    pub reason: String,
    /// Who opened the dispute.
    pub challenger: PeerId,
}

impl Matter {
    /// Whose word is disputed: an evaluator's, or a server's.
    pub fn author(&self) -> PeerId {
        match self {
            Self::Score(score) => score.sheet.author,
            Self::Shares { answers, .. } => answers.author,
        }
    }

    /// Who disputes it. Shares are drawn, and disputed by nobody.
    pub fn challenger(&self) -> Option<PeerId> {
        match self {
            Self::Score(score) => Some(score.challenger),
            Self::Shares { .. } => None,
        }
    }

    /// The score, if it is about one.
    pub fn score(&self) -> Option<&DisputedScore> {
        match self {
            Self::Score(score) => Some(score),
            Self::Shares { .. } => None,
        }
    }

    /// Who takes no part in judging.
    pub(super) fn concerned(&self) -> Vec<PeerId> {
        match self {
            Self::Score(score) => vec![score.challenger, score.sheet.author, score.peer],
            Self::Shares { answers, .. } => vec![answers.author],
        }
    }

    /// Bytes by which its juries are drawn: nothing of them is a challenger's to choose beside which score it disputes.
    pub(super) fn lot(&self) -> Vec<u8> {
        match self {
            Self::Score(score) => codec::encode(&(score.sheet, score.peer)),
            Self::Shares { answers, .. } => codec::encode(answers),
        }
    }
}

/// Of answers with these places and fees, which are checked. One in [`CHECKED`] is, and one whose fee is a larger part of
/// what its server loses by a lie as often as that part says, so that no lie pays. Where nothing can be lost, all are.
pub(super) fn drawn(
    beacon: &Digest,
    answers: &EntryRef,
    (fees, at_stake): (&[(u8, MicroOpen)], MicroOpen),
) -> Vec<u8> {
    let is_drawn = |(place, fee): &&(u8, MicroOpen)| {
        let mut hasher = Hasher::new(Domain::ShareCheck);
        hasher.update(beacon.as_bytes());
        hasher.update(&codec::encode(answers));
        hasher.update(&codec::encode(&u32::from(*place)));
        let digest = hasher.finalize();
        let bytes = digest.as_bytes().first_chunk().expect("32 bytes");
        let lot = u128::from(u64::from_le_bytes(*bytes));
        let usual = u128::from(u64::MAX / CHECKED);
        let owed = (fee.0 << 64).checked_div(at_stake.0);
        owed.is_none_or(|owed| lot < owed.max(usual))
    };
    let drawn = fees.iter().filter(is_drawn);
    drawn.map(|(place, _)| *place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(fee: u128, at_stake: u128) -> usize {
        let fees: Vec<(u8, MicroOpen)> = (0..=255).map(|place| (place, MicroOpen(fee))).collect();
        let entries = (0..40).map(|n| EntryRef {
            index: n,
            ..EntryRef::default()
        });
        let at_stake = MicroOpen(at_stake);
        let drawn = entries.map(|at| drawn(&Digest::default(), &at, (&fees, at_stake)).len());
        drawn.sum()
    }

    #[test]
    fn one_answer_in_twenty_is_checked_and_more_where_a_lie_would_pay() {
        let all = 40 * 256;
        let near = |found: usize, part: f64| {
            let wanted = all as f64 * part;
            assert!(
                (found as f64 - wanted).abs() < 0.15 * wanted,
                "{found} of {all}"
            );
        };
        near(count(10, 1_000_000), 0.05);
        near(count(300_000, 1_000_000), 0.3);
        assert_eq!(count(1_000_000, 1_000_000), all);
        assert_eq!(count(2_000_000, 1_000_000), all);
        assert_eq!(count(1, 0), all, "nothing is at stake");
    }
}
