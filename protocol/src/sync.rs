//! What to send and what to ask for, given one's own ledger and what another peer says of its own.
//!
//! Synchronisation has two stateless steps, so that a lost message costs a repetition and nothing else:
//! 1. **Find the authors that differ.** A [`RangeDigest`] hashes the heads of a range of authors.
//!    [`refine`] answers a digest that differs with finer ones, and with the heads themselves once a
//!    range is small. Equal ledgers cost one digest; otherwise the cost is in changed authors times
//!    the logarithm of all authors, never in entries.
//! 2. **Ship exact suffixes.** [`compare`] reads a [`HeadList`] and picks the blocks that its sender lacks. Forks
//!    spread the same way: a [`ForkMark`] stands for a proof, and a peer that has a lower or plainer proof sends both
//!    of its blocks.
//!
//! Small ledgers may skip step 1 and send [`heads`] at once. When to sync, and with whom, is left to
//! the node.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

use bincode::{Decode, Encode};

use crate::codec;
use crate::hash::{Digest, Domain, Hasher};
use crate::id::{PeerId, Seq};
use crate::limits;
use crate::log::{LogHead, SignedBlock};
use crate::logset::{EquivocationProof, ForkMark, LogSet};

/// Authors of a range below which heads are cheaper than finer digests.
const SMALL_RANGE: usize = 16;
/// Parts that a larger range is cut into.
const FAN_OUT: usize = 16;
/// Bytes that the length of one block takes at most in a list.
const LENGTH_BYTES: usize = 5;
/// Bytes of blocks that fit one direct message beside its other fields.
pub const MAX_ANSWER_BYTES: usize = limits::MAX_DIRECT_BYTES - 64;

/// Authors from one id up to, and without, another (`None`: to the end).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct AuthorRange {
    /// The first author.
    pub from: PeerId,
    /// The first author beyond.
    pub until: Option<PeerId>,
}

impl AuthorRange {
    /// Every author.
    pub const ALL: Self = Self {
        from: PeerId(Digest::from_bytes([0; 32])),
        until: None,
    };

    /// Whether the range can hold anybody.
    pub fn is_proper(&self) -> bool {
        self.until.is_none_or(|until| self.from < until)
    }

    /// Whether every author of `self` comes before every author of `other`.
    pub fn precedes(&self, other: &Self) -> bool {
        self.until.is_some_and(|until| until <= other.from)
    }
}

impl RangeBounds<PeerId> for AuthorRange {
    fn start_bound(&self) -> Bound<&PeerId> {
        Bound::Included(&self.from)
    }

    fn end_bound(&self) -> Bound<&PeerId> {
        self.until
            .as_ref()
            .map_or(Bound::Unbounded, Bound::Excluded)
    }
}

/// What a peer holds of a range of authors, as a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RangeDigest {
    /// The authors.
    pub range: AuthorRange,
    /// Hash of their heads and forks.
    pub digest: Digest,
}

/// What a peer holds of a range of authors. Authors that it leaves out have nothing there.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct HeadList {
    /// The authors.
    pub range: AuthorRange,
    /// The last counted block of each, ordered by author.
    pub heads: Vec<LogHead>,
    /// Proven equivocations, ordered by author.
    pub forks: Vec<ForkMark>,
}

impl HeadList {
    /// Whether ranges are proper, lists ordered and inside the range.
    pub fn is_proper(&self) -> bool {
        self.range.is_proper()
            && self.heads.windows(2).all(|w| w[0].author < w[1].author)
            && self.forks.windows(2).all(|w| w[0].author < w[1].author)
            && self.heads.iter().all(|h| self.range.contains(&h.author))
            && self.forks.iter().all(|f| self.range.contains(&f.author))
    }
}

/// The hash of everything held: what a peer opens an exchange with.
pub fn open(mine: &LogSet) -> Vec<RangeDigest> {
    vec![digest(mine, AuthorRange::ALL)]
}

/// Everything held of a range, as a hash.
pub fn digest(mine: &LogSet, range: AuthorRange) -> RangeDigest {
    let list = list(mine, range);
    let mut hasher = Hasher::new(Domain::Heads);
    hasher.update(&codec::encode(&list));
    RangeDigest {
        range,
        digest: hasher.finalize(),
    }
}

/// Everything held of a range.
pub fn list(mine: &LogSet, range: AuthorRange) -> HeadList {
    let logs = || mine.logs_in(range).map(|(_, log)| log);
    HeadList {
        range,
        heads: logs().filter_map(|log| Some(log.last()?.head())).collect(),
        forks: logs().filter_map(|log| Some(log.proof()?.mark())).collect(),
    }
}

/// Everything held, in lists that each fit one message.
pub fn heads(mine: &LogSet) -> Vec<HeadList> {
    cut(mine, AuthorRange::ALL, limits::MAX_HEADS_PER_MESSAGE)
        .into_iter()
        .map(|range| list(mine, range))
        .collect()
}

/// Cuts a range into parts of at most `size` authors of one's own; the parts cover the range.
fn cut(mine: &LogSet, range: AuthorRange, size: usize) -> Vec<AuthorRange> {
    let authors = mine.logs_in(range).map(|(author, _)| *author);
    let starts: Vec<PeerId> = authors.step_by(size.max(1)).skip(1).collect();
    let froms = [range.from].into_iter().chain(starts.iter().copied());
    let untils = starts.iter().copied().map(Some).chain([range.until]);
    froms
        .zip(untils)
        .map(|(from, until)| AuthorRange { from, until })
        .collect()
}

/// The answer to digests of another peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refined {
    /// Finer digests of large ranges that differ.
    pub ranges: Vec<RangeDigest>,
    /// Heads of small ranges that differ.
    pub lists: Vec<HeadList>,
}

/// Compares digests and narrows down where the ledgers differ. Both lists are empty when they do not.
///
/// The answer fits one message; what is cut off is found by the next exchange.
pub fn refine(mine: &LogSet, theirs: &[RangeDigest]) -> Refined {
    let mut refined = Refined::default();
    for their in theirs.iter().filter(|d| d.range.is_proper()) {
        if refined.ranges.len() + FAN_OUT > limits::MAX_RANGES
            || (refined.lists.len() + 1) * SMALL_RANGE > limits::MAX_HEADS_PER_MESSAGE
        {
            break;
        }
        if digest(mine, their.range).digest == their.digest {
            continue;
        }
        let authors = mine.logs_in(their.range).count();
        if authors <= SMALL_RANGE {
            refined.lists.push(list(mine, their.range));
        } else {
            let parts = cut(mine, their.range, authors.div_ceil(FAN_OUT));
            (refined.ranges).extend(parts.into_iter().map(|range| digest(mine, range)));
        }
    }
    refined
}

/// The answer to heads of another peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Blocks that the other peer lacks, as received, oldest first within a log.
    pub blocks: Vec<Vec<u8>>,
    /// Whether the other peer has blocks that are missing here.
    pub behind: bool,
    /// If so, what is held here of the same ranges: sent back, it asks for the missing blocks. Fits
    /// one message; what is cut off is found by the next exchange.
    pub ask: Vec<HeadList>,
}

/// Compares heads; the blocks take at most `max_bytes` with their lengths
/// ([`MAX_ANSWER_BYTES`] at most, and at least one block's worth to get anywhere).
pub fn compare(mine: &LogSet, theirs: &[HeadList], max_bytes: usize) -> Plan {
    let mut budget = SizeLimit::new(max_bytes);
    let mut behind = false;
    for list in theirs {
        let heads: BTreeMap<PeerId, &LogHead> = list.heads.iter().map(|h| (h.author, h)).collect();
        let forks: BTreeMap<PeerId, &ForkMark> = list.forks.iter().map(|f| (f.author, f)).collect();
        let mut authors: Vec<PeerId> = (mine.logs_in(list.range).map(|(author, _)| *author))
            .chain(heads.keys().copied())
            .chain(forks.keys().copied())
            .collect();
        authors.sort_unstable();
        authors.dedup();
        for author in authors {
            let (head, fork) = (heads.get(&author).copied(), forks.get(&author).copied());
            behind |= compare_log(mine, author, head, fork, &mut budget);
        }
    }
    let ask = if behind {
        answer(mine, theirs.iter().map(|list| list.range))
    } else {
        Vec::new()
    };
    Plan {
        blocks: budget.blocks,
        behind,
        ask,
    }
}

/// What is held of some ranges, cut to one message.
fn answer(mine: &LogSet, ranges: impl Iterator<Item = AuthorRange>) -> Vec<HeadList> {
    let parts = ranges.flat_map(|range| cut(mine, range, limits::MAX_HEADS_PER_MESSAGE));
    let mut room = limits::MAX_HEADS_PER_MESSAGE;
    let mut lists = Vec::new();
    for part in parts.take(limits::MAX_RANGES) {
        let list = list(mine, part);
        let Some(left) = room.checked_sub(list.heads.len().max(list.forks.len())) else {
            break;
        };
        room = left;
        lists.push(list);
    }
    lists
}

/// Compares one log; `true` when something of it is missing here.
fn compare_log(
    mine: &LogSet,
    author: PeerId,
    head: Option<&LogHead>,
    fork: Option<&ForkMark>,
    budget: &mut SizeLimit,
) -> bool {
    let Some(log) = mine.log(author) else {
        // What is in the pool becomes part of the ledger by a certificate, not by asking for it.
        return head.is_some_and(|head| !mine.knows(head)) || fork.is_some();
    };
    let proof = log.proof();
    let behind_on_fork = match (proof, fork) {
        (None, None) => false,
        (None, Some(_)) => true,
        (Some(proof), theirs) => {
            if theirs
                .is_none_or(|t| proof.at() < t.at || (proof.at() == t.at && proof.mark() != *t))
            {
                send_proof(proof, budget);
            }
            theirs.is_some_and(|t| t.at < proof.at() || (t.at == proof.at() && proof.mark() != *t))
        }
    };
    // Nothing at or behind a fork that either side knows of is of any use.
    let end = |at: Option<Seq>| at.map_or(u64::MAX, |at| at.0);
    let mine_end = end(proof.map(EquivocationProof::at));
    let their_end = end(fork.map(|f| f.at));
    let have = log.chain_from(Seq(0)).len() as u64;
    let Some(head) = head else {
        send(log.chain_from(Seq(0)), their_end, budget);
        return behind_on_fork;
    };
    match log.counted(head.seq) {
        Some(block) if block.id() == head.block => {
            send(log.chain_from(Seq(head.seq.0 + 1)), their_end, budget);
            behind_on_fork
        }
        Some(_) => {
            // Two histories, and neither side has seen where they part: show this one, newest first.
            let shown = &log.chain_from(Seq(0))[..=head.seq.0 as usize];
            for block in shown.iter().rev() {
                if !budget.push(block) {
                    break;
                }
            }
            true
        }
        None => behind_on_fork || (have < mine_end && have <= head.seq.0),
    }
}

fn send_proof(proof: &EquivocationProof, budget: &mut SizeLimit) {
    for block in proof.blocks() {
        budget.push(block);
    }
}

fn send(blocks: &[SignedBlock], end: u64, budget: &mut SizeLimit) {
    for block in blocks {
        if block.block().seq.0 >= end || !budget.push(block) {
            return;
        }
    }
}

/// Blocks of one answer, up to a number of bytes.
pub(crate) struct SizeLimit {
    left: usize,
    pub(crate) blocks: Vec<Vec<u8>>,
}

impl SizeLimit {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            left: max_bytes,
            blocks: Vec::new(),
        }
    }

    /// Takes the block along if there is room.
    pub(crate) fn push(&mut self, block: &SignedBlock) -> bool {
        let cost = block.bytes().len() + LENGTH_BYTES;
        if cost > self.left || self.blocks.len() >= limits::MAX_BLOCKS_PER_MESSAGE {
            return false;
        }
        self.left -= cost;
        self.blocks.push(block.bytes().to_vec());
        true
    }
}

#[cfg(test)]
mod tests;
