//! What a peer without a seat passes on of a committee's words, and what it learns from them.
//!
//! It keeps no votes and decides nothing. It remembers hashes by member, attempt and kind, so that a
//! repetition costs no signature check, a member cannot make the network carry more than it could have
//! to say, and two different words in one place are seen to contradict each other.

use std::collections::{BTreeMap, BTreeSet};

use super::NodeContext;
use super::certified::Certified;
use super::height::OpenHeight;
use crate::committee::Committee;
use crate::consensus::{ConsensusMessage, VoteKind};
use crate::event::{Notice, Verdict};
use crate::hash::{self, Digest};
use crate::id::PeerId;
use crate::limits;
use crate::reject::Rejection;

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
pub(super) struct RelayOutcome {
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
    ) -> RelayOutcome {
        let author = message.author();
        assert!(committee.contains(&author), "only members were checked");
        let furthest = self.furthest.entry(author).or_default();
        *furthest = message.attempt().max(*furthest);
        if !self.is_near(message, committee) {
            return RelayOutcome::default();
        }
        let said = self.said.entry(slot(message)).or_default();
        said.insert(hash::blob(bytes));
        RelayOutcome {
            is_near: true,
            contradicts: said.len() > 1 && self.exposed.insert(author),
        }
    }

    /// Whether nothing was passed on.
    pub(super) fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// Asserts that memory is bounded, and nobody is exposed by what it has not said.
    pub(super) fn assert_invariants(&self) {
        let mut said = self.said.iter();
        assert!(
            said.all(|((author, attempt, _), said)| {
                said.len() <= limits::MAX_RELAYED_PER_SLOT
                    && self.furthest.get(author) >= Some(attempt)
            }),
            "what was passed on is bounded, and of attempts that its author has reached"
        );
        let mut exposed = self.exposed.iter();
        assert!(
            exposed.all(|peer| self.furthest.contains_key(peer)),
            "only a member that was heard contradicts itself"
        );
    }
}

impl OpenHeight {
    /// Without a seat: passes on what a member of the committee would take.
    pub(super) fn relay(
        &mut self,
        cx: &mut NodeContext,
        certified: &Certified,
        message: &ConsensusMessage,
        bytes: &[u8],
    ) -> Result<Verdict, Rejection> {
        assert!(self.seat.is_none(), "a seat hears for itself");
        let (run, author) = (certified.id, message.author());
        let committee = self.committee.get_or_init(|| certified.draw_committee());
        message.admit(committee)?;
        if !self.relay.is_worth_a_check(message, bytes, committee) {
            return Ok(Verdict::Ignore);
        }
        message.check(committee, cx.config.network)?;
        let heard = self.relay.hear(message, bytes, committee);
        if heard.contradicts {
            cx.notify(Notice::Equivocation { run, author });
        }
        Ok(match heard.is_near {
            true => Verdict::Accept,
            false => Verdict::Ignore,
        })
    }
}
