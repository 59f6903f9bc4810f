//! What is worth saying again, because links lose messages and members come late.
//!
//! Three things keep a height alive whatever was lost: everybody hears which attempt everybody is in
//! (our votes of the current attempt), nobody is refused a quorum that existed (our earlier votes, and
//! the whole polka behind the value we hold valid, whoever cast it), and a value that may already be
//! decided stays at hand (its proposal).

use std::collections::BTreeSet;

use arc_malachitebft_core_types::VoteType;

use super::context::{self, Attempt};
use super::message::{ConsensusMessage, Signed, VoteKind};
use super::{Height, Slot};
use crate::limits;

impl Height {
    /// Messages to send again, to every other member, from time to time while the height lasts. Does
    /// not change anything. Empty before the start and after the decision (then the certificate is
    /// what others need).
    pub fn rebroadcast(&self) -> Vec<Vec<u8>> {
        if !self.started || self.decided.is_some() {
            return Vec::new();
        }
        let mut messages = Vec::new();
        self.repeat_own(&mut messages);
        self.repeat_polka(&mut messages);
        let mut seen = BTreeSet::new();
        (messages.iter())
            .map(ConsensusMessage::encode)
            .filter(|bytes| seen.insert(bytes.clone()))
            .collect()
    }

    /// Our messages of this attempt and the last few.
    fn repeat_own(&self, messages: &mut Vec<ConsensusMessage>) {
        let since = self.attempt().saturating_sub(limits::REPEATED_ATTEMPTS);
        for ((attempt, slot), message) in self.own.range((since, Slot::Proposal)..) {
            let current = *attempt == self.attempt();
            if current || *slot != Slot::Proposal {
                messages.push(message.clone());
            }
        }
    }

    /// The newest value that had a quorum of prevotes: its proposal and those prevotes. And the
    /// proposal of this attempt, which its proposer may not live to repeat.
    fn repeat_polka(&self, messages: &mut Vec<ConsensusMessage>) {
        let now = self.proposals_of(self.attempt());
        let now = now.map(|(_, heard)| ConsensusMessage::Proposal(heard.message.clone()));
        messages.extend(now);
        let Some(valid) = self.driver.valid_value() else {
            return;
        };
        let id = valid.value.id();
        let attempt = context::number(valid.round);
        if let Some(heard) = self.proposals.get(&(attempt, id)) {
            messages.push(ConsensusMessage::Proposal(heard.message.clone()));
        }
        let votes = self.driver.votes().per_round(Attempt::new(attempt));
        for vote in votes.iter().flat_map(|votes| votes.received_votes()) {
            let body = context::vote(self.setting.run, vote);
            if vote.message.kind == VoteType::Prevote && body.value == Some(id) {
                debug_assert_eq!(body.kind, VoteKind::Prevote);
                let signature = vote.signature;
                messages.push(ConsensusMessage::Vote(Signed { body, signature }));
            }
        }
    }
}
