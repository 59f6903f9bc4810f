//! The words of one shard, indexed for questions.
//!
//! Hashes of all leaves would take as much memory as the text several times over. So the shard keeps only the roots of
//! blocks of leaves, and a proof hashes the two blocks at its ends again.

use std::ops::Range;

use tributary_protocol::fingerprint::{self, Secret, Shingle, Span};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::MerkleRoot;
use tributary_protocol::limits::{BLOCK_WORDS, MAX_SPANS, MIN_SPAN_WORDS};
use tributary_protocol::merkle;

use super::matching::{Match, matches};

/// Words of the largest shard: some 400 MB of English text, and an index of 128 MiB while a question is answered.
pub const MAX_SHARD_WORDS: usize = 1 << 26;
/// Leaves under one root that is kept: complete subtrees of the Merkle tree, so a power of two.
const SUBTREE: usize = 256;

/// The text has more words than can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the shard has more than {MAX_SHARD_WORDS} words, so that it cannot be asked for evidence; split it over \
     several peers"
)]
pub struct TooLong;

/// The words of one shard, with the roots of their blocks and an index of whole blocks.
#[derive(Debug)]
pub struct Shard {
    secret: Secret,
    /// All words, one behind the other, and where each ends.
    text: String,
    ends: Vec<u32>,
    /// Roots of [`SUBTREE`] leaves each, of the last the rest.
    subtrees: Vec<Digest>,
    /// Where each whole block stands, by the first bytes of its shingle.
    index: Vec<(u64, u32)>,
}

impl Shard {
    /// The words of `text`. Holds 6 bytes a word beside the letters.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn new(text: &str, secret: Secret) -> Result<Self, TooLong> {
        let mut shard = Self::without_index(text, secret)?;
        let places = (0..(shard.words() + 1).saturating_sub(BLOCK_WORDS)).step_by(BLOCK_WORDS);
        shard.index = places
            .map(|at| (shard.shingle(at).key(), at as u32))
            .collect();
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
            subtrees: Vec::new(),
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
        let firsts = (0..shard.words()).step_by(SUBTREE);
        shard.subtrees = firsts
            .map(|first| shard.hash(first..(first + SUBTREE).min(shard.words())))
            .collect();
        Ok(shard)
    }

    /// Number of words.
    pub fn words(&self) -> usize {
        self.ends.len()
    }

    /// What a join commits to.
    pub fn root(&self) -> MerkleRoot {
        merkle::root(&self.subtrees)
    }

    fn word(&self, at: usize) -> &str {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[at] as usize]
    }

    /// The shingle that starts at a word; there must be enough words behind it.
    pub(super) fn shingle(&self, at: usize) -> Shingle {
        Shingle::of((at..at + BLOCK_WORDS).map(|at| self.word(at)))
    }

    /// Whether a shingle stands at a word.
    pub(super) fn has(&self, shingle: &Shingle, at: usize) -> bool {
        at + BLOCK_WORDS <= self.words() && self.shingle(at) == *shingle
    }

    /// The first `most` blocks that are a shingle, in order.
    pub(super) fn places(&self, shingle: &Shingle, most: usize) -> impl Iterator<Item = usize> {
        let key = shingle.key();
        let first = self.index.partition_point(|(other, _)| *other < key);
        let same = self.index[first..]
            .iter()
            .take_while(move |(k, _)| *k == key);
        let places = same.take(most).map(|(_, at)| *at as usize);
        places.filter(move |at| self.has(shingle, *at))
    }

    /// The root over some leaves, hashed anew.
    fn hash(&self, range: Range<usize>) -> Digest {
        let leaf = |at| self.secret.blinding(at as u64).leaf(self.word(at));
        let leaves: Vec<Digest> = range.map(leaf).collect();
        merkle::root(&leaves).0
    }

    /// The root over a part of the tree: of many leaves, over subtrees.
    fn subtree(&self, part: Range<u64>) -> Digest {
        let part = part.start as usize..part.end as usize;
        match part.len() <= SUBTREE {
            true => self.hash(part),
            false => {
                let subtrees = part.start / SUBTREE..part.end.div_ceil(SUBTREE);
                merkle::root(&self.subtrees[subtrees]).0
            }
        }
    }

    /// What an answer's words and the shard have in common, proven: for the owner, who may see all of it. What others
    /// are told goes through [`super::Allowance`].
    pub fn spans(&self, words: &[String]) -> Vec<Span> {
        self.prove(&self.matches(words))
    }

    /// The longest runs of blocks that `words` and the shard have in common, in their order.
    pub(super) fn matches(&self, words: &[String]) -> Vec<Match> {
        let shingles: Vec<Shingle> = fingerprint::shingles(words).collect();
        let mut found = matches(&shingles, self);
        found.sort_by_key(|span| (std::cmp::Reverse(span.words), span.from));
        found.truncate(MAX_SPANS);
        found.sort_by_key(|span| span.from);
        found
    }

    /// Proves matches; of too many the first.
    pub(super) fn prove(&self, found: &[Match]) -> Vec<Span> {
        let found = found.iter().take(MAX_SPANS);
        found.filter_map(|span| self.prove_one(span)).collect()
    }

    fn prove_one(&self, span: &Match) -> Option<Span> {
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
