//! The proof that a round is final: its value under more than two thirds of the committee.
//!
//! A certificate is checked with nothing but the committee, which follows from the certificate before
//! it; a chain of certificates therefore proves a run from its manifest on. Two certificates with
//! different values for one round expose every member that signed both, more than a third.

use bincode::{Decode, Encode};

use crate::codec;
use crate::committee::Committee;
use crate::consensus::{Signed, Vote, VoteKind};
use crate::id::{NetworkId, PeerId, Round, RunId};
use crate::limits;
use crate::reject::Rejection;
use crate::round::RoundValue;
use crate::sign::Signature;

/// See the module.
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
        let refuse = |why| Err(Rejection::Certificate(why));
        if self.precommits.windows(2).any(|w| w[0].0 >= w[1].0) {
            return refuse("signers out of order");
        }
        if self.precommits.iter().any(|(p, _)| !committee.contains(p)) {
            return refuse("a signer has no seat in the committee");
        }
        if self.precommits.len() < committee.quorum() {
            return refuse("fewer signers than a quorum of the committee");
        }
        let value = Some(self.value.id());
        for (author, signature) in &self.precommits {
            let body = Vote {
                run: self.value.run,
                round: self.value.round,
                attempt: self.attempt,
                kind: VoteKind::Precommit,
                value,
                author: *author,
            };
            let signature = *signature;
            Signed { body, signature }.verify(network)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
