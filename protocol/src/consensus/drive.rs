//! Feeds the driver and carries out what it says.
//!
//! Everything that changes the driver passes through [`Height::drive`], which also feeds back what the
//! driver makes us say, so that when it returns there is nothing left to do.

use std::collections::VecDeque;

use arc_malachitebft_core_driver as driver;
use arc_malachitebft_core_types as malachite;
use malachite::{NilOrVal, Timeout, TimeoutKind, Validity, VoteType};

use super::context::{self, Attempt, Ballot, Bft, Candidate, Offer};
use super::message::{ConsensusMessage, Polka, Proposal, Signed, VoteKind};
use super::steps::{self, LoggedStep};
use super::{Height, Output, ReceivedProposal, Slot};
use crate::certificate::Certificate;
use crate::event::ConsensusStep;
use crate::id::{PeerId, ValueId};
use crate::limits;
use crate::round::RoundValue;

impl Height {
    /// Takes a verified message of another member after the start. False when it is dropped.
    pub(super) fn take(&mut self, message: ConsensusMessage) -> bool {
        if self.decided.is_some() || self.is_needless(&message) {
            return false;
        }
        let (author, attempt) = (message.author(), message.attempt());
        let furthest = self.furthest.entry(author).or_insert(attempt);
        *furthest = attempt.max(*furthest);
        let near = !self.is_far(attempt);
        if near {
            match message {
                ConsensusMessage::Vote(vote) => {
                    self.record(LoggedStep::Heard(vote), 256);
                    self.drive(driver::Input::Vote(context::ballot(&vote)));
                }
                ConsensusMessage::Proposal(proposal) => self.hear_proposal(proposal),
            }
        }
        self.keep_up();
        near
    }

    fn hear_proposal(&mut self, message: Signed<Proposal>) {
        let id = message.body.value.id();
        let attempt = message.body.attempt;
        if self.proposals_of(attempt).next().is_some() {
            self.expose(message.body.author);
        }
        let verdict = self.verdicts.get(&id).copied();
        let asked = self.proposals.keys().any(|(_, value)| *value == id);
        let heard = ReceivedProposal {
            message: message.clone(),
            judged: verdict.is_some(),
        };
        self.proposals.insert((attempt, id), heard);
        match verdict {
            Some(valid) => self.judge(message, valid),
            None if asked => {}
            None => self.out.push(Output::Validate(message.body.value)),
        }
    }

    /// Gives the driver a proposal whose value the node has judged.
    pub(super) fn judge(&mut self, proposal: Signed<Proposal>, valid: bool) {
        let offer = context::offer(&proposal);
        let polka = context::polka(&proposal.body);
        self.record(
            LoggedStep::Judged(proposal, valid),
            limits::MAX_CONSENSUS_BYTES,
        );
        if let Some(polka) = polka {
            self.drive(driver::Input::PolkaCertificate(polka));
        }
        self.drive(driver::Input::Proposal(offer, Validity::from_bool(valid)));
    }

    pub(super) fn offer_value(&mut self, attempt: u32, value: RoundValue) {
        let input = driver::Input::ProposeValue(Attempt::new(attempt), Candidate::new(value));
        self.drive(input);
    }

    pub(super) fn time_out(&mut self, attempt: u32, step: ConsensusStep) {
        let kind = match step {
            ConsensusStep::Propose => {
                self.awaits_value = None;
                TimeoutKind::Propose
            }
            ConsensusStep::Prevote => TimeoutKind::Prevote,
            ConsensusStep::Precommit => TimeoutKind::Precommit,
        };
        let timeout = Timeout::new(Attempt::new(attempt), kind);
        self.drive(driver::Input::TimeoutElapsed(timeout));
    }

    /// Enters an attempt.
    pub(super) fn enter(&mut self, attempt: Attempt) {
        let input = self.entry(attempt);
        self.drive(input);
    }

    fn entry(&mut self, attempt: Attempt) -> driver::Input<Bft> {
        self.timers.clear();
        self.awaits_value = None;
        let number = context::number(attempt);
        let proposer = self.setting.committee.proposer(number);
        driver::Input::NewRound(self.setting.round, attempt, proposer)
    }

    /// Goes to the attempt that at least one honest member has reached, if it is ahead.
    ///
    /// The paper's rule (line 55) counts members in one and the same later attempt, which the driver
    /// does. Where messages were lost every member may sit in an attempt of its own; counting those in
    /// an attempt *or later* brings them together. Entering an attempt early is always safe: votes
    /// depend on locks and quorums, never on how an attempt was entered.
    fn keep_up(&mut self) {
        if self.replaying || self.decided.is_some() {
            return;
        }
        let furthest = self.furthest.iter().map(|(peer, at)| (*peer, *at));
        let Some(target) = self.setting.committee.reached(furthest) else {
            return;
        };
        if target > self.attempt() {
            self.record(LoggedStep::Skipped(target), 8);
            self.skip(target);
        }
    }

    /// Leaves the current attempt as if its precommit timer had gone off, and enters `target`.
    pub(super) fn skip(&mut self, target: u32) {
        let timeout = Timeout::precommit(self.driver.round());
        let outputs = self.process(driver::Input::TimeoutElapsed(timeout));
        let leaves = |o: &driver::Output<Bft>| matches!(o, driver::Output::NewRound(..));
        assert!(
            outputs.len() == 1 && outputs.iter().all(leaves),
            "an undecided attempt ends with its precommit timer"
        );
        self.enter(Attempt::new(target));
    }

    fn process(&mut self, input: driver::Input<Bft>) -> Vec<driver::Output<Bft>> {
        // The driver refuses other heights and strangers, which `admit` has refused before.
        (self.driver.process(input)).unwrap_or_else(|error| panic!("consensus driver: {error}"))
    }

    /// Feeds the driver, and back to it whatever it makes us say.
    pub(super) fn drive(&mut self, input: driver::Input<Bft>) {
        let mut queue = VecDeque::from([input]);
        while let Some(input) = queue.pop_front() {
            for output in self.process(input) {
                match output {
                    driver::Output::NewRound(_, attempt) => queue.push_back(self.entry(attempt)),
                    driver::Output::Propose(offer) => queue.push_back(self.say_proposal(&offer)),
                    driver::Output::Vote(ballot) => queue.push_back(self.say_vote(&ballot)),
                    driver::Output::Decide(_, offer) => self.decide(&offer),
                    driver::Output::ScheduleTimeout(timeout) => self.set_timer(timeout),
                    driver::Output::GetValue(_, attempt, _) => {
                        let attempt = context::number(attempt);
                        self.awaits_value = Some(attempt);
                        self.out.push(Output::NeedValue { attempt });
                    }
                }
            }
            self.collect_evidence();
        }
    }

    fn say_proposal(&mut self, offer: &Offer) -> driver::Input<Bft> {
        let slot = (context::number(offer.attempt), Slot::Proposal);
        let said = match self.sent.get(&slot) {
            Some(ConsensusMessage::Proposal(said)) => said.clone(),
            _ => {
                let body = Proposal {
                    attempt: slot.0,
                    polka: offer
                        .polka
                        .as_u32()
                        .map(|at| self.polka(at, offer.value.id())),
                    value: offer.value.value().clone(),
                    author: self.me,
                };
                let said = Signed::<Proposal>::proposal(body, self.setting.network, &self.key);
                let size = limits::MAX_CONSENSUS_BYTES;
                self.say(slot, ConsensusMessage::Proposal(said.clone()), size);
                said
            }
        };
        let id = said.body.value.id();
        self.verdicts.insert(id, true);
        let heard = ReceivedProposal {
            message: said.clone(),
            judged: true,
        };
        self.proposals.insert((slot.0, id), heard);
        driver::Input::Proposal(context::offer(&said), Validity::Valid)
    }

    /// The quorum of prevotes that made us hold a value valid.
    fn polka(&self, attempt: u32, id: ValueId) -> Polka {
        let at = Attempt::new(attempt);
        let heard = self.driver.votes().per_round(at);
        let mut prevotes: Vec<_> = (heard.iter().flat_map(|votes| votes.received_votes()))
            .filter(|v| v.message.kind == VoteType::Prevote)
            .filter(|v| v.message.value == NilOrVal::Val(id))
            .map(|vote| (vote.message.author, vote.signature))
            .collect();
        let committee = &self.setting.committee;
        if committee.votes_of(prevotes.iter().map(|(peer, _)| *peer)) < committee.quorum() {
            // Some of its votes we count otherwise: then somebody's proof of it convinced us.
            let proof = self.driver.polka_certificate(at, &id);
            let proof = proof.expect("a value is valid by a quorum heard or proven");
            let signed = proof.polka_signatures.iter();
            prevotes = signed.map(|s| (s.address, s.signature)).collect();
        }
        prevotes.sort_unstable();
        Polka { attempt, prevotes }
    }

    fn say_vote(&mut self, ballot: &Ballot) -> driver::Input<Bft> {
        let body = context::vote(self.setting.run, ballot);
        let slot = match body.kind {
            VoteKind::Prevote => (body.attempt, Slot::Prevote),
            VoteKind::Precommit => (body.attempt, Slot::Precommit),
        };
        let said = match self.sent.get(&slot) {
            Some(ConsensusMessage::Vote(said)) => *said,
            _ => {
                let said = Signed::vote(body, self.setting.network, &self.key);
                self.say(slot, ConsensusMessage::Vote(said), 256);
                said
            }
        };
        driver::Input::Vote(context::ballot(&said))
    }

    /// Keeps, records and sends one of our own messages. Never called twice for one slot.
    fn say(&mut self, slot: (u32, Slot), message: ConsensusMessage, size: usize) {
        self.out.push(Output::Broadcast(message.encode()));
        self.unwritten.push(LoggedStep::Said(message.clone()));
        self.unwritten_bytes += size;
        let before = self.sent.insert(slot, message);
        assert!(before.is_none(), "we spoke twice in one slot");
    }

    fn decide(&mut self, offer: &Offer) {
        let id = offer.value.id();
        let mut precommits: Vec<_> = (self.driver.restore_precommits(offer.attempt, &id).iter())
            .map(|vote| (vote.message.author, vote.signature))
            .collect();
        precommits.sort_unstable();
        let certificate = Certificate {
            value: offer.value.value().clone(),
            attempt: context::number(offer.attempt),
            precommits,
        };
        self.timers.clear();
        self.awaits_value = None;
        self.decided = Some(certificate.clone());
        self.out.push(Output::Decided(certificate));
    }

    fn set_timer(&mut self, timeout: Timeout) {
        let step = match timeout.kind {
            TimeoutKind::Propose => ConsensusStep::Propose,
            TimeoutKind::Prevote => ConsensusStep::Prevote,
            TimeoutKind::Precommit => ConsensusStep::Precommit,
            // Of malachite's upper layer; the driver never asks for them.
            TimeoutKind::Rebroadcast | TimeoutKind::FinalizeHeight(_) => return,
        };
        self.timers.insert(step);
        let timer = self.timer(context::number(timeout.round), step);
        self.out.push(timer);
    }

    /// Waits grow by half of the base each attempt, so that at some attempt they outlast whatever the
    /// network's delay is, up to a minute.
    pub(super) fn timer(&self, attempt: u32, step: ConsensusStep) -> Output {
        let base = u64::from(match step {
            ConsensusStep::Propose => self.setting.deadlines.propose_ms,
            ConsensusStep::Prevote | ConsensusStep::Precommit => self.setting.deadlines.vote_ms,
        });
        let grown = base + base * u64::from(attempt) / 2;
        let ms = grown.min(base.max(limits::MAX_CONSENSUS_WAIT_MS));
        Output::SetTimer { attempt, step, ms }
    }

    fn collect_evidence(&mut self) {
        let votes = self.driver.votes();
        if votes.evidence().is_empty() {
            return;
        }
        let authors: Vec<_> = votes.evidence().iter().map(|(who, _)| *who).collect();
        for author in authors {
            self.expose(author);
        }
    }

    fn expose(&mut self, author: PeerId) {
        if self.exposed.insert(author) {
            self.out.push(Output::Equivocation(author));
        }
    }

    /// Notes a step for the record; `size` is at least its encoded size.
    pub(super) fn record(&mut self, step: LoggedStep, size: usize) {
        if !self.replaying {
            self.unwritten.push(step);
            self.unwritten_bytes += size;
        }
    }

    /// Hands the outputs out. What was fed to the driver is written before anything is said, and not
    /// before: a crash in between only forgets what others will repeat.
    pub(super) fn finish(&mut self) -> Vec<Output> {
        let mut outputs = std::mem::take(&mut self.out);
        let speaks = |o: &Output| matches!(o, Output::Broadcast(_) | Output::Decided(_));
        let due = outputs.iter().any(speaks) || self.unwritten_bytes >= steps::FLUSH_BYTES;
        if due && !self.unwritten.is_empty() {
            let batch = std::mem::take(&mut self.unwritten);
            self.unwritten_bytes = 0;
            outputs.insert(0, Output::Persist(steps::encode(&batch)));
        }
        outputs
    }
}
