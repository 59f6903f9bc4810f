//! What a peer without a seat passes on of a committee's words, and what it learns from them.
//!
//! It keeps no votes and decides nothing. It remembers hashes by member, attempt and kind, so that a
//! repetition costs no signature check, a member cannot make the network carry more than it could have
//! to say, and two different words in one place are seen to contradict each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::committee::Committee;
use crate::consensus::{ConsensusMessage, VoteKind};
use crate::hash::{self, Digest};
use crate::id::PeerId;
use crate::limits;

/// A place in which a member can say one thing only: `None` is a proposal.
type Slot = (PeerId, u32, Option<VoteKind>);

/// The words of the open height that were passed on.
#[derive(Default)]
pub(super) struct Relay {
    said: BTreeMap<Slot, BTreeSet<Digest>>,
    /// The highest attempt each member was heard in.
    furthest: BTreeMap<PeerId, u32>,
    exposed: BTreeSet<PeerId>,
}

/// What a checked message is to those who pass it on.
#[derive(Default)]
pub(super) struct Heard {
    /// Members can use it.
    pub(super) is_near: bool,
    /// It shows, for the first time, that its author contradicts itself.
    pub(super) contradicts: bool,
}

fn slot(message: &ConsensusMessage) -> Slot {
    let kind = match message {
        ConsensusMessage::Proposal(_) => None,
        ConsensusMessage::Vote(vote) => Some(vote.body.kind),
    };
    (message.author(), message.attempt(), kind)
}

impl Relay {
    /// Forgets everything: another height is open.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether a message is new, and neither one too many for its place nor of an attempt that its author
    /// is known to have reached and nobody else.
    pub(super) fn is_worth_a_check(
        &self,
        message: &ConsensusMessage,
        bytes: &[u8],
        committee: &Committee,
    ) -> bool {
        let known = self.said.get(&slot(message));
        let needless = known.is_some_and(|known| {
            known.len() >= limits::MAX_RELAYED_PER_SLOT || known.contains(&hash::blob(bytes))
        });
        let furthest = self.furthest.get(&message.author()).copied();
        let news = furthest.is_none_or(|furthest| message.attempt() > furthest);
        !needless && (news || self.is_near(message, committee))
    }

    /// Whether honest members may care: at least one of them has come close to the attempt.
    fn is_near(&self, message: &ConsensusMessage, committee: &Committee) -> bool {
        let furthest = self.furthest.iter().map(|(peer, at)| (*peer, *at));
        let reached = committee.reached(furthest).unwrap_or(0);
        message.attempt() <= reached.saturating_add(limits::MAX_ATTEMPTS_AHEAD)
    }

    /// Takes a checked message.
    pub(super) fn hear(
        &mut self,
        message: &ConsensusMessage,
        bytes: &[u8],
        committee: &Committee,
    ) -> Heard {
        let author = message.author();
        let furthest = self.furthest.entry(author).or_default();
        *furthest = message.attempt().max(*furthest);
        if !self.is_near(message, committee) {
            return Heard::default();
        }
        let said = self.said.entry(slot(message)).or_default();
        said.insert(hash::blob(bytes));
        Heard {
            is_near: true,
            contradicts: said.len() > 1 && self.exposed.insert(author),
        }
    }
}
