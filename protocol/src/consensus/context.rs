//! The types that malachite's driver works with, filled with ours.
//!
//! These are thin wrappers; nothing is decided here. Malachite calls an attempt a "round" and a round of a run a
//! "height"; our words are used everywhere outside this file.

use std::fmt;
use std::sync::Arc;

use arc_malachitebft_core_types as malachite;
use malachite::{LinearTimeouts, NilOrVal, SignedExtension, SigningScheme, VoteType};

use super::message::{Proposal, Signed, Vote, VoteKind};
use crate::committee::Committee;
use crate::id::{PeerId, Round, RunId, ValueId};
use crate::round::RoundValue;
use crate::sign::{SecretKey, Signature};

/// Malachite's word for an attempt; `Nil` before the first.
pub(super) type Attempt = malachite::Round;

/// Names the types.
#[derive(Clone, Debug)]
pub(super) struct Bft;

/// A round value with its id computed once: the driver asks for it often.
#[derive(Clone)]
pub(super) struct Candidate {
    id: ValueId,
    value: Arc<RoundValue>,
}

impl Candidate {
    pub(super) fn new(value: RoundValue) -> Self {
        Self {
            id: value.id(),
            value: Arc::new(value),
        }
    }

    pub(super) fn id(&self) -> ValueId {
        self.id
    }

    pub(super) fn value(&self) -> &RoundValue {
        &self.value
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}
impl Eq for Candidate {}
impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.id.cmp(&other.id)
    }
}
impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Candidate({})", self.id.short())
    }
}
impl malachite::Value for Candidate {
    type Id = ValueId;
    fn id(&self) -> ValueId {
        self.id
    }
}

impl malachite::Address for PeerId {}

impl malachite::Height for Round {
    const ZERO: Self = Round(0);
    const INITIAL: Self = Round(0);

    fn increment_by(&self, n: u64) -> Self {
        let by = u32::try_from(n).unwrap_or(u32::MAX);
        Round(self.0.saturating_add(by))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        let by = u32::try_from(n).ok()?;
        self.0.checked_sub(by).map(Round)
    }

    fn as_u64(&self) -> u64 {
        u64::from(self.0)
    }
}

/// A proposal as the driver sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) height: Round,
    pub(super) attempt: Attempt,
    pub(super) polka: Attempt,
    pub(super) value: Candidate,
    pub(super) author: PeerId,
}

impl malachite::Proposal<Bft> for Offer {
    fn height(&self) -> Round {
        self.height
    }
    fn round(&self) -> Attempt {
        self.attempt
    }
    fn value(&self) -> &Candidate {
        &self.value
    }
    fn take_value(self) -> Candidate {
        self.value
    }
    fn pol_round(&self) -> Attempt {
        self.polka
    }
    fn validator_address(&self) -> &PeerId {
        &self.author
    }
}

/// A vote as the driver sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ballot {
    pub(super) height: Round,
    pub(super) attempt: Attempt,
    pub(super) kind: VoteType,
    pub(super) value: NilOrVal<ValueId>,
    pub(super) author: PeerId,
}

impl malachite::Vote<Bft> for Ballot {
    fn height(&self) -> Round {
        self.height
    }
    fn round(&self) -> Attempt {
        self.attempt
    }
    fn value(&self) -> &NilOrVal<ValueId> {
        &self.value
    }
    fn take_value(self) -> NilOrVal<ValueId> {
        self.value
    }
    fn vote_type(&self) -> VoteType {
        self.kind
    }
    fn validator_address(&self) -> &PeerId {
        &self.author
    }
    fn extension(&self) -> Option<&SignedExtension<Bft>> {
        None
    }
    fn take_extension(&mut self) -> Option<SignedExtension<Bft>> {
        None
    }
    fn extend(self, _: SignedExtension<Bft>) -> Self {
        self
    }
}

/// A committee member: its key is its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    peer: PeerId,
    votes: u64,
}

impl malachite::Validator<Bft> for Seat {
    fn address(&self) -> &PeerId {
        &self.peer
    }
    fn public_key(&self) -> &PeerId {
        &self.peer
    }
    fn voting_power(&self) -> u64 {
        self.votes
    }
}

/// The committee, its members by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seats {
    seats: Vec<Seat>,
    committee: Committee,
}

impl Seats {
    pub(super) fn of(committee: &Committee) -> Self {
        let seat = |peer: &PeerId| Seat {
            peer: *peer,
            votes: committee.votes(peer),
        };
        Self {
            seats: committee.members().iter().map(seat).collect(),
            committee: committee.clone(),
        }
    }

    fn get(&self, peer: &PeerId) -> Option<&Seat> {
        let at = (self.seats).binary_search_by_key(peer, |seat| seat.peer);
        Some(&self.seats[at.ok()?])
    }
}

impl malachite::ValidatorSet<Bft> for Seats {
    fn count(&self) -> usize {
        self.seats.len()
    }
    fn total_voting_power(&self) -> u64 {
        self.committee.total()
    }
    fn get_by_address(&self, address: &PeerId) -> Option<&Seat> {
        self.get(address)
    }
    fn get_by_index(&self, index: usize) -> Option<&Seat> {
        self.seats.get(index)
    }
}

/// Proposals travel whole, never in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoPart;

impl malachite::ProposalPart<Bft> for NoPart {
    fn is_first(&self) -> bool {
        true
    }
    fn is_last(&self) -> bool {
        true
    }
}

/// ed25519 of `sign`. The driver stores signatures and never makes or checks one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ed25519;

impl SigningScheme for Ed25519 {
    type DecodingError = &'static str;
    type Signature = Signature;
    type PublicKey = PeerId;
    type PrivateKey = SecretKey;

    fn decode_signature(bytes: &[u8]) -> Result<Signature, &'static str> {
        let bytes = bytes.try_into().map_err(|_| "a signature has 64 bytes")?;
        Ok(Signature(bytes))
    }
    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.0.to_vec()
    }
    fn decode_public_key(bytes: &[u8]) -> Result<PeerId, &'static str> {
        let bytes = bytes.try_into().map_err(|_| "a public key has 32 bytes")?;
        Ok(PeerId(crate::hash::Digest::from_bytes(bytes)))
    }
    fn encode_public_key(key: &PeerId) -> Vec<u8> {
        key.as_bytes().to_vec()
    }
}

impl malachite::Context for Bft {
    type Address = PeerId;
    type Height = Round;
    type ProposalPart = NoPart;
    type Proposal = Offer;
    type Validator = Seat;
    type ValidatorSet = Seats;
    type Timeouts = LinearTimeouts;
    type Value = Candidate;
    type Vote = Ballot;
    type Extension = ();
    type SigningScheme = Ed25519;

    fn select_proposer<'a>(&self, seats: &'a Seats, _: Round, attempt: Attempt) -> &'a Seat {
        let proposer = seats.committee.proposer(attempt.as_u32().unwrap_or(0));
        seats.get(&proposer).expect("a member proposes")
    }

    fn new_proposal(
        &self,
        height: Round,
        attempt: Attempt,
        value: Candidate,
        polka: Attempt,
        author: PeerId,
    ) -> Offer {
        Offer {
            height,
            attempt,
            polka,
            value,
            author,
        }
    }

    fn new_prevote(
        &self,
        height: Round,
        attempt: Attempt,
        value: NilOrVal<ValueId>,
        author: PeerId,
    ) -> Ballot {
        Ballot {
            height,
            attempt,
            kind: VoteType::Prevote,
            value,
            author,
        }
    }

    fn new_precommit(
        &self,
        height: Round,
        attempt: Attempt,
        value: NilOrVal<ValueId>,
        author: PeerId,
    ) -> Ballot {
        Ballot {
            height,
            attempt,
            kind: VoteType::Precommit,
            value,
            author,
        }
    }
}

impl VoteKind {
    pub(super) fn of(kind: VoteType) -> Self {
        match kind {
            VoteType::Prevote => Self::Prevote,
            VoteType::Precommit => Self::Precommit,
        }
    }

    fn theirs(self) -> VoteType {
        match self {
            Self::Prevote => VoteType::Prevote,
            Self::Precommit => VoteType::Precommit,
        }
    }
}

/// The driver's form of one of our votes.
pub(super) fn ballot(vote: &Signed<Vote>) -> malachite::SignedVote<Bft> {
    let ballot = Ballot {
        height: vote.body.round,
        attempt: Attempt::new(vote.body.attempt),
        kind: vote.body.kind.theirs(),
        value: vote.body.value.map_or(NilOrVal::Nil, NilOrVal::Val),
        author: vote.body.author,
    };
    malachite::SignedVote::new(ballot, vote.signature)
}

/// Our form of one of the driver's votes.
pub(super) fn vote(run: RunId, ballot: &Ballot) -> Vote {
    Vote {
        run,
        round: ballot.height,
        attempt: number(ballot.attempt),
        kind: VoteKind::of(ballot.kind),
        value: match ballot.value {
            NilOrVal::Nil => None,
            NilOrVal::Val(id) => Some(id),
        },
        author: ballot.author,
    }
}

/// The driver's form of one of our proposals.
pub(super) fn offer(proposal: &Signed<Proposal>) -> malachite::SignedProposal<Bft> {
    let body = &proposal.body;
    let offer = Offer {
        height: body.value.round,
        attempt: Attempt::new(body.attempt),
        polka: Attempt::from(body.polka.as_ref().map(|polka| polka.attempt)),
        value: Candidate::new(body.value.clone()),
        author: body.author,
    };
    malachite::SignedProposal::new(offer, proposal.signature)
}

/// The driver's form of the proof that comes with a value that is proposed again.
pub(super) fn polka(proposal: &Proposal) -> Option<malachite::PolkaCertificate<Bft>> {
    let polka = proposal.polka.as_ref()?;
    let signature = |(author, signature): &(PeerId, Signature)| {
        malachite::PolkaSignature::new(*author, *signature)
    };
    Some(malachite::PolkaCertificate {
        height: proposal.value.round,
        round: Attempt::new(polka.attempt),
        value_id: proposal.value.id(),
        polka_signatures: polka.prevotes.iter().map(signature).collect(),
    })
}

/// The attempt of something that belongs to one.
///
/// # Panics
/// If the driver speaks of an attempt before the first.
pub(super) fn number(attempt: Attempt) -> u32 {
    attempt
        .as_u32()
        .expect("votes and proposals name an attempt")
}
