//! The words of one shard, ready to be asked about.
//!
//! Hashes of all leaves would take as much memory as the text several times over. Kept are the roots of blocks
//! of leaves; a proof hashes the two blocks at its ends again.

use std::ops::Range;

use tributary_protocol::fingerprint::{self, Gram, Secret, Span};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::MerkleRoot;
use tributary_protocol::limits::{MAX_SPANS, MIN_SPAN_WORDS};
use tributary_protocol::merkle;

use super::matching::{Match, matches};

/// Words of the largest shard: some 400 MB of English text, and an index of 1 GiB while a question is answered.
pub const MAX_SHARD_WORDS: usize = 1 << 26;
/// Leaves of a block: complete subtrees of the Merkle tree, so a power of two.
const BLOCK: usize = 256;

/// The text has more words than can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the shard has more than {MAX_SHARD_WORDS} words, so that it cannot be asked for evidence; split it over \
     several peers"
)]
pub struct TooLong;

/// See the module.
#[derive(Debug)]
pub struct Shard {
    secret: Secret,
    /// All words, one behind the other, and where each ends.
    text: String,
    ends: Vec<u32>,
    /// Roots of [`BLOCK`] leaves each, of the last the rest.
    blocks: Vec<Digest>,
    /// Where each gram stands, by its first bytes.
    index: Vec<(u64, u32)>,
}

impl Shard {
    /// The words of `text`. Holds 20 bytes a word beside the letters.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn new(text: &str, secret: Secret) -> Result<Self, TooLong> {
        let mut shard = Self::without_index(text, secret)?;
        let places = 0..(shard.words() + 1).saturating_sub(MIN_SPAN_WORDS);
        shard.index = places.map(|at| (shard.gram(at).key(), at as u32)).collect();
        shard.index.sort_unstable();
        Ok(shard)
    }

    /// The root to commit to; `None` when no span fits.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn commit(text: &str, secret: Secret) -> Result<Option<MerkleRoot>, TooLong> {
        let shard = Self::without_index(text, secret)?;
        Ok((shard.words() >= MIN_SPAN_WORDS).then(|| shard.root()))
    }

    fn without_index(text: &str, secret: Secret) -> Result<Self, TooLong> {
        let mut shard = Self {
            secret,
            text: String::new(),
            ends: Vec::new(),
            blocks: Vec::new(),
            index: Vec::new(),
        };
        for (_, word) in fingerprint::words(text) {
            shard.text.push_str(&word);
            let end = u32::try_from(shard.text.len()).map_err(|_| TooLong)?;
            shard.ends.push(end);
            if shard.ends.len() > MAX_SHARD_WORDS {
                return Err(TooLong);
            }
        }
        let firsts = (0..shard.words()).step_by(BLOCK);
        shard.blocks = firsts
            .map(|first| shard.hash(first..(first + BLOCK).min(shard.words())))
            .collect();
        Ok(shard)
    }

    /// Number of words.
    pub fn words(&self) -> usize {
        self.ends.len()
    }

    /// What a join commits to.
    pub fn root(&self) -> MerkleRoot {
        merkle::root(&self.blocks)
    }

    fn word(&self, at: usize) -> &str {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[at] as usize]
    }

    /// The gram that starts at a word; there must be enough words behind it.
    pub(super) fn gram(&self, at: usize) -> Gram {
        Gram::of((at..at + MIN_SPAN_WORDS).map(|at| self.word(at)))
    }

    /// Whether a gram stands at a word.
    pub(super) fn has(&self, gram: &Gram, at: usize) -> bool {
        at + MIN_SPAN_WORDS <= self.words() && self.gram(at) == *gram
    }

    /// The first `most` places of a gram, in order.
    pub(super) fn places(&self, gram: &Gram, most: usize) -> impl Iterator<Item = usize> {
        let key = gram.key();
        let first = self.index.partition_point(|(other, _)| *other < key);
        let same = self.index[first..]
            .iter()
            .take_while(move |(k, _)| *k == key);
        let places = same.take(most).map(|(_, at)| *at as usize);
        places.filter(move |at| self.has(gram, *at))
    }

    /// The root over some leaves, hashed anew.
    fn hash(&self, range: Range<usize>) -> Digest {
        let leaf = |at| self.secret.blinding(at as u64).leaf(self.word(at));
        let leaves: Vec<Digest> = range.map(leaf).collect();
        merkle::root(&leaves).0
    }

    /// The root over a part of the tree: of many leaves, over blocks.
    fn subtree(&self, part: Range<u64>) -> Digest {
        let part = part.start as usize..part.end as usize;
        match part.len() <= BLOCK {
            true => self.hash(part),
            false => merkle::root(&self.blocks[part.start / BLOCK..part.end.div_ceil(BLOCK)]).0,
        }
    }

    /// What a question's grams and the shard have in common, proven: the longest spans, in their order.
    pub fn spans(&self, grams: &[Gram]) -> Vec<Span> {
        let mut found = matches(grams, self);
        found.sort_by_key(|span| (std::cmp::Reverse(span.words), span.from));
        found.truncate(MAX_SPANS);
        found.sort_by_key(|span| span.from);
        found.iter().filter_map(|span| self.prove(span)).collect()
    }

    fn prove(&self, span: &Match) -> Option<Span> {
        let place = span.place as u64..(span.place + span.words) as u64;
        let subtree = |part| self.subtree(part);
        let proof = merkle::prove_range(self.words() as u64, place.clone(), subtree)?;
        Some(Span {
            from: span.from as u32,
            blindings: place.map(|at| self.secret.blinding(at)).collect(),
            proof,
        })
    }
}
