//! One height of a run's committee: Tendermint, without IO.
//!
//! [`Height`] wraps malachite's driver, which knows the algorithm (arXiv:1807.04938) and nothing else. What it leaves
//! to its caller is here: signing and checking signatures, membership, limits on what one member may make us remember,
//! the write-ahead record that keeps a restarted member from contradicting itself, and repeating messages over links
//! that lose them. Judging and building values is left to the node, and so are clocks.
//!
//! ```text
//!  start, receive, validated, propose, timeout ──► Height ──► Vec<Output>
//! ```
//! Outputs are carried out in order. [`Output::Persist`] must be durable before what follows it.

mod context;
mod drive;
mod message;
mod repeat;
mod restore;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use arc_malachitebft_core_driver::{Driver, ThresholdParams};

use crate::certificate::Certificate;
use crate::committee::Committee;
use crate::event::ConsensusStep;
use crate::id::{NetworkId, PeerId, Round, RunId, ValueId};
use crate::limits;
use crate::manifest::Deadlines;
use crate::reject::Rejection;
use crate::round::RoundValue;
use crate::sign::SecretKey;

use context::{Attempt, Bft, Seats};
use steps::LoggedStep;

pub(crate) use message::verify_quorum;
pub use message::{ConsensusMessage, Polka, Proposal, Signed, Vote, VoteKind};
pub use restore::RestoreError;

/// What a height is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The network whose signatures count.
    pub network: NetworkId,
    /// The run.
    pub run: RunId,
    /// The round to be decided.
    pub round: Round,
    /// The members that decide it.
    pub committee: Committee,
    /// How long each step waits.
    pub deadlines: Deadlines,
}

/// Something to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Append to the height's record and make durable before anything that follows.
    Persist(Vec<u8>),
    /// Send to every other member; the bytes of a [`ConsensusMessage`].
    Broadcast(Vec<u8>),
    /// Call [`Height::timeout`] after `ms`.
    SetTimer {
        /// The attempt it belongs to.
        attempt: u32,
        /// The step it belongs to.
        step: ConsensusStep,
        /// From now.
        ms: u64,
    },
    /// It is our turn: call [`Height::propose`] with a value for this attempt.
    NeedValue {
        /// The attempt.
        attempt: u32,
    },
    /// Call [`Height::validated`] for this value once it is known whether it is valid. Until then its
    /// proposal waits; nothing else does.
    Validate(RoundValue),
    /// The round is final. Nothing more comes from this height.
    Decided(Certificate),
    /// Two messages of this member contradict each other. Said once per member.
    Equivocation(PeerId),
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// New, valid and near: worth passing on. False for repetitions, for what is out of bounds, and for
    /// attempts so far ahead that only who says it could know of them.
    pub fresh: bool,
    /// What follows from it.
    pub outputs: Vec<Output>,
}

/// Which of our own messages of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Proposal,
    Prevote,
    Precommit,
}

/// A proposal that arrived with a good signature, and how far it got.
struct ReceivedProposal {
    message: Signed<Proposal>,
    /// Given to the driver, with its value's validity.
    judged: bool,
}

/// One height of the committee, as one of its members sees it.
pub struct Height {
    setting: Setting,
    key: SecretKey,
    me: PeerId,
    driver: Driver<Bft>,
    started: bool,
    /// Proposals by attempt and value, of others and our own.
    proposals: BTreeMap<(u32, ValueId), ReceivedProposal>,
    /// The node's answers.
    verdicts: BTreeMap<ValueId, bool>,
    /// Our own messages; never two for one slot.
    sent: BTreeMap<(u32, Slot), ConsensusMessage>,
    /// The highest attempt that each other member was heard in.
    furthest: BTreeMap<PeerId, u32>,
    /// Verified messages from before the start.
    early: BTreeMap<PeerId, Vec<ConsensusMessage>>,
    /// Steps not yet handed out to be persisted.
    unwritten: Vec<LoggedStep>,
    unwritten_bytes: usize,
    /// Timers of the current attempt that have not gone off.
    timers: BTreeSet<ConsensusStep>,
    /// The attempt that waits for [`Height::propose`].
    awaits_value: Option<u32>,
    exposed: BTreeSet<PeerId>,
    decided: Option<Certificate>,
    /// While the record is replayed nothing is recorded again and nobody runs ahead of it.
    replaying: bool,
    out: Vec<Output>,
}

impl Height {
    /// A height that has not started. Messages are taken from now on.
    ///
    /// # Errors
    /// [`Rejection::Unauthorised`] when the key has no seat in the committee.
    pub fn new(setting: Setting, key: SecretKey) -> Result<Self, Rejection> {
        let me = key.peer_id();
        if !setting.committee.contains(&me) {
            return Err(Rejection::Unauthorised);
        }
        let seats = Seats::of(&setting.committee);
        let quorums = ThresholdParams::default();
        Ok(Self {
            driver: Driver::new(Bft, setting.round, seats, me, quorums),
            setting,
            key,
            me,
            started: false,
            proposals: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            sent: BTreeMap::new(),
            furthest: BTreeMap::new(),
            early: BTreeMap::new(),
            unwritten: Vec::new(),
            unwritten_bytes: 0,
            timers: BTreeSet::new(),
            awaits_value: None,
            exposed: BTreeSet::new(),
            decided: None,
            replaying: false,
            out: Vec::new(),
        })
    }

    /// What it is about.
    pub fn setting(&self) -> &Setting {
        &self.setting
    }

    /// Whether [`Height::start`] was called.
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// Whether others spoke before we started: they have closed their collection.
    pub fn has_heard(&self) -> bool {
        !self.early.is_empty()
    }

    /// Members that were heard at this height, and this one.
    pub fn heard(&self) -> impl Iterator<Item = &PeerId> {
        let others = self.furthest.keys().chain(self.early.keys());
        others.chain([&self.me])
    }

    /// The attempt we are in.
    pub fn attempt(&self) -> u32 {
        self.driver.round().as_u32().unwrap_or(0)
    }

    /// The outcome, once there is one.
    pub fn decided(&self) -> Option<&Certificate> {
        self.decided.as_ref()
    }

    /// The attempt for which [`Output::NeedValue`] is unanswered.
    pub fn wants_value(&self) -> Option<u32> {
        self.awaits_value
    }

    /// Members that put this value up: they hold what it rests on.
    pub fn proposers_of(&self, id: ValueId) -> BTreeSet<PeerId> {
        let heard = self.proposals.iter().filter(|((_, value), _)| *value == id);
        heard.map(|(_, heard)| heard.message.body.author).collect()
    }

    /// Whether a quorum prevoted for a value in some attempt: members may be locked on it. Either the votes were heard here, or
    /// whoever put the value up again has shown them.
    pub fn has_polka(&self, id: ValueId) -> bool {
        let heard = self.proposals.iter();
        let mut heard = heard.filter(|((_, value), _)| *value == id);
        if heard.any(|(_, heard)| heard.message.body.polka.is_some()) {
            return true;
        }
        let prevotes = |attempt: u32| {
            let votes = self.driver.votes().per_round(Attempt::new(attempt));
            let votes = votes
                .into_iter()
                .flat_map(|votes| votes.received_votes().iter());
            let votes = votes.map(|vote| context::vote(self.setting.run, vote));
            let of = votes.filter(|vote| vote.kind == VoteKind::Prevote && vote.value == Some(id));
            of.map(|vote| vote.author).collect::<BTreeSet<PeerId>>()
        };
        let committee = &self.setting.committee;
        let heard = self.proposals.keys().filter(|(_, value)| *value == id);
        let mut attempts = heard.map(|(attempt, _)| *attempt);
        attempts.any(|attempt| committee.votes_of(prevotes(attempt)) >= committee.quorum())
    }

    /// Begins to vote. Called when the round is ready to be decided; again has no effect.
    pub fn start(&mut self) -> Vec<Output> {
        if !self.started {
            self.started = true;
            self.record(LoggedStep::Started, 1);
            self.enter(Attempt::ZERO);
            for messages in std::mem::take(&mut self.early).into_values() {
                for message in messages {
                    self.take(message);
                }
            }
        }
        self.finish()
    }

    /// Takes a message of another member.
    ///
    /// # Errors
    /// [`Rejection`] when the message can never be right: another height, no seat, not the proposer, a bad signature.
    /// Repetitions and floods are not errors; they are only not fresh.
    pub fn receive(&mut self, message: ConsensusMessage) -> Result<Received, Rejection> {
        self.admit(&message)?;
        let ignored = Ok(Received {
            fresh: false,
            outputs: Vec::new(),
        });
        if message.author() == self.me || self.decided.is_some() || self.is_needless(&message) {
            return ignored;
        }
        message.check(&self.setting.committee, self.setting.network)?;
        let author = message.author();
        if !self.started {
            let waiting = self.early.entry(author).or_default();
            if waiting.len() < limits::MAX_EARLY_MESSAGES && !waiting.contains(&message) {
                waiting.push(message);
                return Ok(Received {
                    fresh: true,
                    outputs: Vec::new(),
                });
            }
            return ignored;
        }
        let fresh = self.take(message);
        Ok(Received {
            fresh,
            outputs: self.finish(),
        })
    }

    /// The node's answer to [`Output::Validate`]. The first answer for a value stands.
    pub fn validated(&mut self, id: ValueId, valid: bool) -> Vec<Output> {
        let valid = *self.verdicts.entry(id).or_insert(valid);
        let waiting: Vec<Signed<Proposal>> = (self.proposals.iter_mut())
            .filter(|((_, value), heard)| *value == id && !heard.judged)
            .map(|(_, heard)| {
                heard.judged = true;
                heard.message.clone()
            })
            .collect();
        for proposal in waiting {
            self.judge(proposal, valid);
        }
        self.finish()
    }

    /// The node's answer to [`Output::NeedValue`]. Ignored when the attempt is over.
    ///
    /// # Panics
    /// If the value is of another run or round.
    pub fn propose(&mut self, attempt: u32, value: RoundValue) -> Vec<Output> {
        let fits = value.run == self.setting.run && value.round == self.setting.round;
        assert!(fits, "a value of another height was proposed");
        if self.awaits_value == Some(attempt) && self.decided.is_none() {
            self.awaits_value = None;
            self.offer_value(attempt, value);
        }
        self.finish()
    }

    /// A timer of [`Output::SetTimer`] went off. Ignored when its attempt is over.
    pub fn timeout(&mut self, attempt: u32, step: ConsensusStep) -> Vec<Output> {
        let current = self.started && attempt == self.attempt();
        if current && self.decided.is_none() && self.timers.remove(&step) {
            self.record(LoggedStep::TimedOut { attempt, step }, 8);
            self.time_out(attempt, step);
        }
        self.finish()
    }

    /// Refuses what can never be right, before a signature is checked.
    fn admit(&self, message: &ConsensusMessage) -> Result<(), Rejection> {
        if message.run() != self.setting.run || message.round() != self.setting.round {
            return Err(Rejection::Contradiction("message of another height"));
        }
        message.admit(&self.setting.committee)
    }

    /// Known already, or more than a member may make us hold.
    fn is_needless(&self, message: &ConsensusMessage) -> bool {
        let votes = self.driver.votes();
        match message {
            ConsensusMessage::Vote(vote) => {
                let ballot = context::ballot(vote);
                let exposed = self.exposed.contains(&vote.body.author);
                let far = self.is_far(vote.body.attempt)
                    && (self.furthest.get(&vote.body.author))
                        .is_some_and(|furthest| *furthest >= vote.body.attempt);
                far || votes.has_vote(&ballot)
                    || (exposed && votes.conflicting_vote(&ballot).is_some())
            }
            ConsensusMessage::Proposal(proposal) => self.is_needless_proposal(proposal),
        }
    }

    /// Too far ahead for its messages to be kept.
    fn is_far(&self, attempt: u32) -> bool {
        attempt > self.attempt().saturating_add(limits::MAX_ATTEMPTS_AHEAD)
    }

    /// At most two proposals of one attempt are kept, which is proof enough against their author,
    /// unless honest members vote for a third.
    fn is_needless_proposal(&self, proposal: &Signed<Proposal>) -> bool {
        let attempt = proposal.body.attempt;
        if self.is_far(attempt) {
            return true;
        }
        let id = proposal.body.value.id();
        if self.proposals.contains_key(&(attempt, id)) {
            return true;
        }
        let known = self.proposals_of(attempt).count();
        known >= 2 && !self.is_backed(attempt, id)
    }

    fn proposals_of(&self, attempt: u32) -> impl Iterator<Item = (&ValueId, &ReceivedProposal)> {
        let least = ValueId::default();
        let next = attempt.saturating_add(1);
        (self.proposals.range((attempt, least)..(next, least))).map(|((_, id), heard)| (id, heard))
    }

    /// Whether an honest member voted for this value in this attempt.
    fn is_backed(&self, attempt: u32, id: ValueId) -> bool {
        let Some(votes) = self.driver.votes().per_round(Attempt::new(attempt)) else {
            return false;
        };
        let backers: BTreeSet<PeerId> = (votes.received_votes().iter())
            .map(|vote| context::vote(self.setting.run, vote))
            .filter(|vote| vote.value == Some(id))
            .map(|vote| vote.author)
            .collect();
        let committee = &self.setting.committee;
        committee.votes_of(backers) >= committee.honest()
    }
}

#[cfg(test)]
mod tests;
