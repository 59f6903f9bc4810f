//! The proof that a round is final: its value under more than two thirds of the committee.
//!
//! A certificate is checked with nothing but the committee, which follows from the certificate before
//! it; a chain of certificates therefore proves a run from its manifest on. Two certificates with
//! different values for one round expose every member that signed both, more than a third.

use bincode::{Decode, Encode};

use crate::codec;
use crate::committee::Committee;
use crate::consensus::{Vote, VoteKind, verify_quorum};
use crate::id::{NetworkId, PeerId, Round, RunId};
use crate::limits;
use crate::reject::Rejection;
use crate::round::RoundValue;
use crate::sign::Signature;

/// A round value, signed by more than two thirds of its committee's votes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Certificate {
    /// What is final.
    pub value: RoundValue,
    /// The attempt in which it was decided; part of what the precommits sign.
    pub attempt: u32,
    /// Precommits for the value, ordered by member.
    pub precommits: Vec<(PeerId, Signature)>,
}

impl Certificate {
    /// The run.
    pub fn run(&self) -> RunId {
        self.value.run
    }

    /// The round.
    pub fn round(&self) -> Round {
        self.value.round
    }

    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads canonical bytes of at most `limits::MAX_CERTIFICATE_BYTES`. Proves nothing until
    /// [`Certificate::verify`].
    ///
    /// # Errors
    /// [`Rejection::Codec`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        Ok(codec::decode::<_, { limits::MAX_CERTIFICATE_BYTES }>(
            bytes,
        )?)
    }

    /// Checks that a quorum of `committee` precommitted this value. Whether the value follows from
    /// the state before is for [`crate::state`] to say.
    ///
    /// # Errors
    /// [`Rejection::Certificate`] for a signer without a seat, out of order or too few;
    /// [`Rejection::Signature`] when one does not verify.
    pub fn verify(&self, committee: &Committee, network: NetworkId) -> Result<(), Rejection> {
        if self.value.attempt > self.attempt {
            return Err(Rejection::Certificate("decided before it was put up"));
        }
        let body = Vote {
            run: self.value.run,
            round: self.value.round,
            attempt: self.attempt,
            kind: VoteKind::Precommit,
            value: Some(self.value.id()),
            author: PeerId::default(),
        };
        verify_quorum(body, &self.precommits, committee, network)
    }
}

#[cfg(test)]
mod tests;
