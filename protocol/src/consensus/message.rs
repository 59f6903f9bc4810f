//! What committee members say to each other: proposals and votes, signed.
//!
//! A signature binds network, run, round and attempt: run and round stand in the signed bytes (a
//! proposal carries them inside its value), the network and the kind of statement in the signature's
//! domain. Anybody may pass on anybody's message; who sent it does not matter.

use bincode::{Decode, Encode};

use crate::codec;
use crate::committee::Committee;
use crate::hash::Domain;
use crate::id::{NetworkId, PeerId, Round, RunId, ValueId};
use crate::limits;
use crate::reject::Rejection;
use crate::round::RoundValue;
use crate::sign::{self, SecretKey, Signature};

/// Which of the two votes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum VoteKind {
    /// The value was proposed and is valid here.
    Prevote,
    /// A quorum of prevotes for the value was seen.
    Precommit,
}

/// One member's vote in one attempt at a height.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Vote {
    /// The run.
    pub run: RunId,
    /// The height.
    pub round: Round,
    /// The attempt within the height, from 0.
    pub attempt: u32,
    /// Prevote or precommit.
    pub kind: VoteKind,
    /// The value voted for; `None` votes that this attempt comes to nothing.
    pub value: Option<ValueId>,
    /// The voter.
    pub author: PeerId,
}

/// Proof that a quorum prevoted for a value in an earlier attempt.
///
/// It carries the votes themselves. A member that voted twice is counted for one vote by some and for the other by the
/// rest; without the proof each would insist on what it counted forever.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Polka {
    /// The earlier attempt.
    pub attempt: u32,
    /// Prevotes for the value, ordered by member.
    pub prevotes: Vec<(PeerId, Signature)>,
}

/// What the proposer of an attempt sends.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Proposal {
    /// The attempt within the height, from 0.
    pub attempt: u32,
    /// The newest quorum of prevotes for this value, if it is proposed again.
    pub polka: Option<Polka>,
    /// The value; it names run and round.
    pub value: RoundValue,
    /// The proposer.
    pub author: PeerId,
}

/// A statement with its author's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Signed<T> {
    /// The statement.
    pub body: T,
    /// Its author's signature.
    pub signature: Signature,
}

impl Signed<Vote> {
    /// Signs a vote.
    pub fn vote(body: Vote, network: NetworkId, key: &SecretKey) -> Self {
        let signature = key.sign(network, Domain::Vote, &codec::encode(&body));
        Self { body, signature }
    }

    /// Checks the author's signature.
    ///
    /// # Errors
    /// [`Rejection::Signature`].
    pub fn verify(&self, network: NetworkId) -> Result<(), Rejection> {
        let bytes = codec::encode(&self.body);
        sign::verify(
            self.body.author,
            network,
            Domain::Vote,
            &bytes,
            &self.signature,
        )
    }
}

impl Signed<Proposal> {
    /// Signs a proposal.
    pub fn proposal(body: Proposal, network: NetworkId, key: &SecretKey) -> Self {
        let signature = key.sign(network, Domain::Proposal, &codec::encode(&body));
        Self { body, signature }
    }

    /// Checks the author's signature.
    ///
    /// # Errors
    /// [`Rejection::Signature`].
    pub fn verify(&self, network: NetworkId) -> Result<(), Rejection> {
        let bytes = codec::encode(&self.body);
        let author = self.body.author;
        sign::verify(author, network, Domain::Proposal, &bytes, &self.signature)
    }
}

impl Proposal {
    /// Checks the proof that comes with a value that is proposed again.
    ///
    /// # Errors
    /// [`Rejection::Certificate`] when it is not a quorum of `committee` or not of an earlier attempt,
    /// [`Rejection::Signature`] when a vote does not verify.
    pub fn verify_polka(&self, committee: &Committee, network: NetworkId) -> Result<(), Rejection> {
        let Some(polka) = &self.polka else {
            return Ok(());
        };
        if polka.attempt >= self.attempt {
            return Err(Rejection::Certificate("a polka of a later attempt"));
        }
        let body = Vote {
            run: self.value.run,
            round: self.value.round,
            attempt: polka.attempt,
            kind: VoteKind::Prevote,
            value: Some(self.value.id()),
            author: self.author,
        };
        verify_quorum(body, &polka.prevotes, committee, network)
    }
}

/// Checks that a quorum of `committee` cast `body`, each in its own name, ordered by member.
///
/// # Errors
/// [`Rejection::Certificate`] for a signer without a seat, out of order or too few;
/// [`Rejection::Signature`] when one does not verify.
pub(crate) fn verify_quorum(
    body: Vote,
    votes: &[(PeerId, Signature)],
    committee: &Committee,
    network: NetworkId,
) -> Result<(), Rejection> {
    let refuse = |why| Err(Rejection::Certificate(why));
    if votes.windows(2).any(|w| w[0].0 >= w[1].0) {
        return refuse("signers out of order");
    }
    if votes.iter().any(|(peer, _)| !committee.contains(peer)) {
        return refuse("a signer has no seat in the committee");
    }
    if committee.votes_of(votes.iter().map(|(peer, _)| *peer)) < committee.quorum() {
        return refuse("fewer votes than a quorum of the committee");
    }
    for (author, signature) in votes {
        let body = Vote {
            author: *author,
            ..body
        };
        let signature = *signature;
        Signed { body, signature }.verify(network)?;
    }
    Ok(())
}

/// A message of the committee, on the wire inside `wire::Message::Consensus`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ConsensusMessage {
    /// A value is proposed.
    Proposal(Signed<Proposal>),
    /// A vote is cast.
    Vote(Signed<Vote>),
}

impl ConsensusMessage {
    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads canonical bytes of at most `limits::MAX_CONSENSUS_BYTES`. The signature is not checked:
    /// [`super::Height::receive`] does that, after it knows that the author has a seat.
    ///
    /// # Errors
    /// [`Rejection::Codec`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        Ok(codec::decode::<_, { limits::MAX_CONSENSUS_BYTES }>(bytes)?)
    }

    /// The run it is about.
    pub fn run(&self) -> RunId {
        match self {
            Self::Proposal(proposal) => proposal.body.value.run,
            Self::Vote(vote) => vote.body.run,
        }
    }

    /// The height it is about.
    pub fn round(&self) -> Round {
        match self {
            Self::Proposal(proposal) => proposal.body.value.round,
            Self::Vote(vote) => vote.body.round,
        }
    }

    /// The attempt it is about.
    pub fn attempt(&self) -> u32 {
        match self {
            Self::Proposal(proposal) => proposal.body.attempt,
            Self::Vote(vote) => vote.body.attempt,
        }
    }

    /// The author.
    pub fn author(&self) -> PeerId {
        match self {
            Self::Proposal(proposal) => proposal.body.author,
            Self::Vote(vote) => vote.body.author,
        }
    }

    /// Refuses what can never be right under `committee`, before a signature is checked: authors without
    /// a seat, proposals out of turn.
    ///
    /// # Errors
    /// [`Rejection::Unauthorised`].
    pub fn admit(&self, committee: &Committee) -> Result<(), Rejection> {
        let author = self.author();
        let in_turn = match self {
            Self::Proposal(proposal) => {
                let (body, made) = (&proposal.body, proposal.body.value.attempt);
                let is_first = match &body.polka {
                    None => made == body.attempt,
                    Some(polka) => made <= polka.attempt,
                };
                is_first && author == committee.proposer(body.attempt)
            }
            Self::Vote(_) => committee.contains(&author),
        };
        in_turn.then_some(()).ok_or(Rejection::Unauthorised)
    }

    /// Checks the author's signature.
    ///
    /// # Errors
    /// [`Rejection::Signature`].
    pub fn verify(&self, network: NetworkId) -> Result<(), Rejection> {
        match self {
            Self::Proposal(proposal) => proposal.verify(network),
            Self::Vote(vote) => vote.verify(network),
        }
    }

    /// Checks every signature in the message. With [`ConsensusMessage::admit`] it is what a member asks of
    /// a message, and so what anybody asks who passes it on to members.
    ///
    /// # Errors
    /// [`Rejection::Signature`] and [`Rejection::Certificate`].
    pub fn check(&self, committee: &Committee, network: NetworkId) -> Result<(), Rejection> {
        self.verify(network)?;
        match self {
            Self::Proposal(proposal) => proposal.body.verify_polka(committee, network),
            Self::Vote(_) => Ok(()),
        }
    }
}
