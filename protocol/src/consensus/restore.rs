//! Brings a height back to where it was before a crash.

use super::message::ConsensusMessage;
use super::steps::{self, LoggedStep};
use super::{Height, Output, ReceivedProposal, Setting, Slot, VoteKind, context};
use crate::codec::CodecError;
use crate::reject::Rejection;
use crate::sign::SecretKey;

use arc_malachitebft_core_driver as driver;

/// The record of a height cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The key has no seat in this committee.
    #[error("this peer has no seat in the height's committee")]
    NoSeat,
    /// A batch of steps is damaged.
    #[error(
        "step batch {at} of the height's record is damaged ({why}); take no part in this height, \
         another vote could contradict a forgotten one"
    )]
    Damaged {
        /// Position among the batches.
        at: usize,
        /// What is wrong with it.
        why: CodecError,
    },
    /// The record is not of this height, or not in an order that can have happened.
    #[error("the height's record does not fit the height; take no part in it")]
    Misfit,
}

impl From<Rejection> for RestoreError {
    fn from(_: Rejection) -> Self {
        Self::NoSeat
    }
}

impl Height {
    /// Replays the batches of [`Output::Persist`], in order, and says what is to be done now: repeat
    /// what was said, set the timers of the current attempt, ask for what is outstanding.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn restore(
        setting: Setting,
        key: SecretKey,
        batches: &[Vec<u8>],
    ) -> Result<(Self, Vec<Output>), RestoreError> {
        let mut height = Self::new(setting, key)?;
        let mut steps = Vec::new();
        for (at, bytes) in batches.iter().enumerate() {
            let damaged = |why| RestoreError::Damaged { at, why };
            steps.extend(steps::decode(bytes).map_err(damaged)?);
        }
        height.recall(&steps)?;
        height.replaying = true;
        for step in steps {
            height.replay(step)?;
        }
        height.replaying = false;
        height.out.retain(|o| matches!(o, Output::Equivocation(_)));
        height.resume();
        let outputs = height.finish();
        Ok((height, outputs))
    }

    /// Takes what we said out of the record, before anything could be said anew.
    fn recall(&mut self, steps: &[LoggedStep]) -> Result<(), RestoreError> {
        for step in steps {
            let LoggedStep::Said(message) = step else {
                continue;
            };
            if message.author() != self.me || self.admit(message).is_err() {
                return Err(RestoreError::Misfit);
            }
            let slot = match message {
                ConsensusMessage::Proposal(_) => Slot::Proposal,
                ConsensusMessage::Vote(vote) => match vote.body.kind {
                    VoteKind::Prevote => Slot::Prevote,
                    VoteKind::Precommit => Slot::Precommit,
                },
            };
            self.sent.insert((message.attempt(), slot), message.clone());
        }
        Ok(())
    }

    fn replay(&mut self, step: LoggedStep) -> Result<(), RestoreError> {
        if self.started == matches!(step, LoggedStep::Started) {
            return Err(RestoreError::Misfit);
        }
        if self.decided.is_some() {
            return Ok(());
        }
        match step {
            LoggedStep::Started => {
                self.started = true;
                self.enter(context::Attempt::ZERO);
            }
            LoggedStep::Heard(vote) => {
                let (author, attempt) = (vote.body.author, vote.body.attempt);
                (self.admit(&ConsensusMessage::Vote(vote))).map_err(|_| RestoreError::Misfit)?;
                let furthest = self.furthest.entry(author).or_insert(attempt);
                *furthest = attempt.max(*furthest);
                self.drive(driver::Input::Vote(context::ballot(&vote)));
            }
            LoggedStep::Judged(proposal, valid) => {
                let message = ConsensusMessage::Proposal(proposal.clone());
                self.admit(&message).map_err(|_| RestoreError::Misfit)?;
                let id = proposal.body.value.id();
                self.verdicts.insert(id, valid);
                let heard = ReceivedProposal {
                    message: proposal.clone(),
                    judged: true,
                };
                self.proposals.insert((proposal.body.attempt, id), heard);
                self.judge(proposal, valid);
            }
            LoggedStep::TimedOut { attempt, step } if attempt == self.attempt() => {
                self.timers.remove(&step);
                self.time_out(attempt, step);
            }
            LoggedStep::Skipped(target) if target > self.attempt() => self.skip(target),
            LoggedStep::TimedOut { .. } | LoggedStep::Skipped(_) => {
                return Err(RestoreError::Misfit);
            }
            // A value built by us is the one thing that only our own words tell.
            LoggedStep::Said(ConsensusMessage::Proposal(said)) if said.body.polka.is_none() => {
                if self.awaits_value.take() == Some(said.body.attempt) {
                    self.offer_value(said.body.attempt, said.body.value);
                }
            }
            LoggedStep::Said(_) => {}
        }
        Ok(())
    }

    /// Says where the replayed height stands.
    fn resume(&mut self) {
        if let Some(certificate) = self.decided.clone() {
            self.out.push(Output::Decided(certificate));
            return;
        }
        if !self.started {
            return;
        }
        let repeated = self.rebroadcast().into_iter().map(Output::Broadcast);
        self.out.extend(repeated);
        let attempt = self.attempt();
        for step in self.timers.clone() {
            let timer = self.timer(attempt, step);
            self.out.push(timer);
        }
        if let Some(attempt) = self.awaits_value {
            self.out.push(Output::NeedValue { attempt });
        }
    }
}
