//! The value that a committee certifies for one round, and the state that follows from it.

use bincode::{Decode, Encode};

use crate::anchor::Anchor;
use crate::codec;
use crate::entry::Role;
use crate::hash::{self, Digest, Domain, Hasher};
use crate::id::{
    BlobRef, BlockId, MerkleRoot, NanoNats, PeerId, Round, RunId, Seq, StateHash, ValueId,
};

/// Where an entry stands: its author's block and its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct EntryRef {
    /// The log's author.
    pub author: PeerId,
    /// The block's position in the author's log of the run.
    pub seq: Seq,
    /// The block.
    pub block: BlockId,
    /// Index within the block.
    pub index: u8,
}

/// What 2f+1 precommits make final.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct RoundValue {
    /// The run.
    pub run: RunId,
    /// The round; 0 is the genesis, `rounds + 1` the closing height, what follows are epochs.
    pub round: Round,
    /// The state before (all zero for the genesis).
    pub previous: StateHash,
    /// The state after.
    pub state: StateHash,
    /// The adapter after, as a blob of `Adapter::to_bytes`.
    pub adapter: BlobRef,
    /// The attempt in which the value was first proposed; it tells which member made it.
    pub attempt: u32,
    /// That member's link for this height ([`crate::beacon`]).
    pub link: Digest,
    /// The beacon after.
    pub beacon: Digest,
    /// Contributions that make up the step, ordered by author. Empty in genesis and closing.
    pub included: Vec<Included>,
    /// Receipts of the drawn that were committed to in time and whose updates did not come, ordered by author. What
    /// they weigh is not paid for.
    pub missed: Vec<Missed>,
    /// New members, ordered by author.
    pub joins: Vec<Joined>,
    /// The creator's last call for openings; only in the genesis, where own text weighs.
    pub call: Option<EntryRef>,
    /// Members whose sketches are open from here on, ordered by author.
    pub openings: Vec<Opened>,
    /// Members that leave, ordered.
    pub leaves: Vec<EntryRef>,
    /// Score sheets of the round before, ordered by author.
    pub sheets: Vec<EntryRef>,
    /// Their seals, in the same order.
    pub seals: Vec<EntryRef>,
    /// Final scores of the round before: per contributor the median over `sheets`, ordered by peer
    /// ([`crate::aggregate::final_scores`]). Empty without more than two thirds of the evaluators' sheets.
    pub scores: Vec<FinalScore>,
    /// What is filed for the books ([`crate::filing`]), ordered.
    pub filings: Vec<EntryRef>,
    /// What the chain of the run's money said; only where members are bonded.
    pub anchor: Option<Anchor>,
}

/// One included contribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Included {
    /// The receipt.
    pub receipt: EntryRef,
    /// The update, as the receipt names it.
    pub update: BlobRef,
    /// Tokens it was trained on, as the receipt names them.
    pub tokens: u64,
    /// What it weighs among the others of its round ([`crate::state::weigh`]).
    pub weight: u64,
}

/// One contribution that was committed to and did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Missed {
    /// The receipt.
    pub receipt: EntryRef,
    /// Tokens it was trained on, as the receipt names them.
    pub tokens: u64,
    /// What it would have weighed.
    pub weight: u64,
}

/// One admitted member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Joined {
    /// The join entry.
    pub entry: EntryRef,
    /// What the member does.
    pub role: Role,
    /// Root of its shard or hold-out.
    pub root: MerkleRoot,
    /// Tokens behind the root.
    pub tokens: u64,
    /// How many of them count as its own: none of a text whose sketch is not open yet.
    pub own_tokens: u64,
    /// What its links are checked against.
    pub beacon: Digest,
}

/// One member whose sketch was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Opened {
    /// The entry with the sketch.
    pub entry: EntryRef,
    /// How many of the member's tokens count as its own.
    pub own_tokens: u64,
}

/// A contribution's score, final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct FinalScore {
    /// The contributor.
    pub peer: PeerId,
    /// Median over the evaluators.
    pub score: NanoNats,
    /// Lower end: the least of the evaluators' lower ends that the median keeps.
    pub low: NanoNats,
    /// Upper end of its interval, a median as well.
    pub high: NanoNats,
    /// Median of the evaluators' luck: the standard deviation that the score would have with random signs.
    pub luck: NanoNats,
}

impl EntryRef {
    /// Where it stands in its author's log.
    pub fn position(&self) -> (Seq, u8) {
        (self.seq, self.index)
    }
}

impl RoundValue {
    /// Hash of the canonical bytes; what precommits sign.
    pub fn id(&self) -> ValueId {
        ValueId(hash::digest(Domain::RoundValue, &codec::encode(self)))
    }

    /// Draws the hold-out windows that evaluators score this round on. Follows from the beacon alone: anybody that
    /// chose what the value holds did not choose them.
    pub fn score_seed(&self) -> Digest {
        hash::digest(Domain::ScoreSeed, self.beacon.as_bytes())
    }
}

/// The certified state's name.
pub fn state_hash(
    run: RunId,
    round: Round,
    adapter: BlobRef,
    roster: Digest,
    beacon: Digest,
) -> StateHash {
    let mut hasher = Hasher::new(Domain::State);
    hasher.update(run.as_bytes());
    hasher.update(&round.0.to_le_bytes());
    hasher.update(adapter.hash.as_bytes());
    hasher.update(&adapter.size.to_le_bytes());
    hasher.update(roster.as_bytes());
    hasher.update(beacon.as_bytes());
    StateHash(hasher.finalize())
}
