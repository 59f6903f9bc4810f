//! Fingerprints of a shard: a commitment to its words in their order, and questions about them.
//!
//! ```text
//!   text ──words──▶ w0 w1 w2 ..      leaf i = hash(blinding i, w i)      root: in the Join entry
//!   answer ──words, signed──▶ Question ──▶ holder ──▶ Answer: spans, blindings, one range proof each
//! ```
//! A member commits to the root before it trains. Later it can prove that a run of words which somebody else names
//! stands in its text, and the proof shows no other word: each leaf is blinded by bytes of its own that only a proof
//! of that leaf gives away. A question carries the words of one answer in their order, so that the holder can tell
//! what is asked and how much an answer would confirm; hashes would let an asker try as many guesses as fit. The
//! attribution crate finds spans and tells which of them are more than boilerplate.

use std::fmt;
use std::ops::Range;

use bincode::{Decode, Encode};

use crate::codec::{self, CodecError};
use crate::hash::{Digest, Domain, Hasher};
use crate::id::{MerkleRoot, NetworkId, PeerId, RunId};
use crate::limits::{
    BLOCK_WORDS, MAX_EVIDENCE_BYTES, MAX_QUESTION_BYTES, MAX_QUESTION_WORDS, MAX_SPANS,
    MIN_SPAN_WORDS,
};
use crate::merkle::{self, RangeProof};
use crate::reject::Rejection;
use crate::sign::{self, SecretKey, Signature};

/// Layout of questions and answers.
const VERSION: u8 = 2;
/// Bytes of a question beside its words: version, three ids, the number of words, the signature.
const QUESTION_FRAME_BYTES: usize = 1 + 3 * 32 + 9 + SIGNATURE_BYTES;
const SIGNATURE_BYTES: usize = 64;

/// The words of a text with their places in it (bytes): runs of letters and digits, in lower case. A
/// character of a script that writes no spaces is a word of its own.
pub fn words(text: &str) -> impl Iterator<Item = (Range<usize>, String)> {
    let mut rest = text.char_indices().peekable();
    std::iter::from_fn(move || {
        let (start, first) = rest.find(|(_, letter)| letter.is_alphanumeric())?;
        let mut end = start + first.len_utf8();
        let mut word: String = first.to_lowercase().collect();
        let joins = |letter: &char| letter.is_alphanumeric() && !stands_alone(*letter);
        if !stands_alone(first) {
            while let Some((at, letter)) = rest.next_if(|(_, letter)| joins(letter)) {
                end = at + letter.len_utf8();
                word.extend(letter.to_lowercase());
            }
        }
        Some((start..end, word))
    })
}

/// Kana, Han and Thai: blocks of Unicode, which never move.
fn stands_alone(letter: char) -> bool {
    matches!(u32::from(letter), 0x0E00..=0x0E7F | 0x3040..=0x30FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF
        | 0xF900..=0xFAFF | 0x2_0000..=0x3_FFFF)
}

/// Hash of [`BLOCK_WORDS`] words in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Shingle([u8; 16]);

impl Shingle {
    /// Of these words.
    pub fn of<W: AsRef<str>>(words: impl IntoIterator<Item = W>) -> Self {
        let mut hasher = Hasher::new(Domain::Gram);
        for word in words {
            let word = word.as_ref().as_bytes();
            hasher.update(&(word.len() as u64).to_le_bytes());
            hasher.update(word);
        }
        let [short, _] = split_digest(&hasher.finalize());
        Self(short)
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The first eight bytes, to sort and look up by.
    pub fn key(&self) -> u64 {
        self.0
            .iter()
            .take(8)
            .fold(0, |key, byte| key << 8 | u64::from(*byte))
    }
}

/// The shingles of a text's words, one from each word on that has enough behind it.
pub fn shingles(words: &[String]) -> impl Iterator<Item = Shingle> {
    words.windows(BLOCK_WORDS).map(Shingle::of)
}

fn split_digest(digest: &Digest) -> [[u8; 16]; 2] {
    let bytes = digest.as_bytes();
    let half = |at: usize| std::array::from_fn(|n| bytes[at + n]);
    [half(0), half(16)]
}

/// Hides a word until it is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Blinding(pub [u8; 16]);

impl Blinding {
    /// The leaf that commits to `word`.
    pub fn leaf(&self, word: &str) -> Digest {
        merkle::leaf(&[self.0.as_slice(), word.as_bytes()].concat())
    }
}

/// What the blindings of one shard are drawn from. Never leaves its owner.
#[derive(Clone, Copy)]
pub struct Secret(Digest);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// From the owner's salt, for the shard with this root: a blinding that was given away for one
    /// shard says nothing about another.
    pub fn new(salt: &[u8], shard: &MerkleRoot) -> Self {
        let mut hasher = Hasher::new(Domain::Blinding);
        hasher.update(shard.as_bytes()).update(salt);
        Self(hasher.finalize())
    }

    /// Of the word at `place`, from 0.
    pub fn blinding(&self, place: u64) -> Blinding {
        let mut hasher = Hasher::new(Domain::Blinding);
        hasher.update(self.0.as_bytes());
        hasher.update(&place.to_le_bytes());
        let [short, _] = split_digest(&hasher.finalize());
        Blinding(short)
    }
}

/// Asks the holder of a shard for what it holds of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Question {
    version: u8,
    /// The member that asks, and signs.
    pub asker: PeerId,
    /// The run that the shard was committed for.
    pub run: RunId,
    /// The fingerprints of the holder's join.
    pub root: MerkleRoot,
    /// Of the answer, in order.
    pub words: Vec<String>,
    /// The asker's, over everything before it.
    signature: Signature,
}

/// Why no answer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Encode, Decode)]
pub enum Declined {
    /// The owner answers no such questions.
    #[error("its owner answers no such questions")]
    Closed,
    /// Nothing is held here under that root.
    #[error("it says that it no longer holds the shard it committed to")]
    Gone,
    /// The asker never was a member of the run.
    #[error("it knows no membership of this peer in the run, and answers members only")]
    Stranger,
    /// The allowance of its shard is used up.
    #[error("its shard has been asked about as often as one hour allows; ask again later")]
    Spent,
}

/// What a holder says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Answer {
    version: u8,
    /// Spans of the text, in its order; none is a claim that nobody can check.
    pub found: Result<Vec<Span>, Declined>,
}

/// A run of words that stands in a shard, proven.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Span {
    /// Its first word in the text that was asked about.
    pub from: u32,
    /// One for each word.
    pub blindings: Vec<Blinding>,
    /// That the leaves stand in the shard, in this order.
    pub proof: RangeProof,
}

/// Why the spans of an answer are not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanFault {
    /// Longer than an answer may be.
    #[error("it sent {0} spans where at most {MAX_SPANS} are allowed")]
    Many(usize),
    /// Too short to be asked for.
    #[error("it sent a span of {0} words where {MIN_SPAN_WORDS} are the least")]
    Short(usize),
    /// Not a part of the text, or one that was given already.
    #[error("it sent a span that is no part of the text, or overlaps another")]
    Place,
    /// The words do not stand where it says in what it committed to.
    #[error("its proof does not lead to what it committed to")]
    Unproven,
}

impl Question {
    /// About `words`; what is beyond [`MAX_QUESTION_WORDS`] words or [`MAX_QUESTION_BYTES`] is not asked about.
    pub fn new(
        (key, network): (&SecretKey, NetworkId),
        run: RunId,
        root: MerkleRoot,
        words: &[String],
    ) -> Self {
        let mut room = MAX_QUESTION_BYTES - QUESTION_FRAME_BYTES;
        let fits = |word: &&String| {
            // A length takes three bytes where a word could fit at all.
            let left = room.checked_sub(word.len() + 3);
            room = left.unwrap_or(room);
            left.is_some()
        };
        let words = words.iter().take(MAX_QUESTION_WORDS).take_while(fits);
        let mut question = Self {
            version: VERSION,
            asker: key.peer_id(),
            run,
            root,
            words: words.cloned().collect(),
            signature: Signature([0; SIGNATURE_BYTES]),
        };
        let bytes = question.encode();
        question.signature = key.sign(network, Domain::Question, signed_part(&bytes));
        question
    }

    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a stranger's question. [`Question::check`] checks its signature.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        check_version(bytes)?;
        let question: Self = codec::decode::<_, MAX_QUESTION_BYTES>(bytes)?;
        match question.words.len() <= MAX_QUESTION_WORDS {
            true => Ok(question),
            false => Err(CodecError::Malformed),
        }
    }

    /// Checks that its asker signed it.
    ///
    /// # Errors
    /// [`Rejection::Signature`].
    pub fn check(&self, network: NetworkId) -> Result<(), Rejection> {
        let bytes = self.encode();
        let signed = signed_part(&bytes);
        sign::verify(
            self.asker,
            network,
            Domain::Question,
            signed,
            &self.signature,
        )
    }
}

fn signed_part(question: &[u8]) -> &[u8] {
    &question[..question.len() - SIGNATURE_BYTES]
}

impl Answer {
    /// With these spans, or none and a reason.
    pub fn new(found: Result<Vec<Span>, Declined>) -> Self {
        let version = VERSION;
        Self { version, found }
    }

    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a holder's answer. What it says is checked by [`check`].
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        check_version(bytes)?;
        codec::decode::<_, MAX_EVIDENCE_BYTES>(bytes)
    }
}

fn check_version(bytes: &[u8]) -> Result<(), CodecError> {
    match bytes.first() {
        Some(version) if *version != VERSION => Err(CodecError::Version(*version)),
        _ => Ok(()),
    }
}

impl Span {
    /// Its words in the text that was asked about.
    pub fn words(&self) -> Range<usize> {
        let from = self.from as usize;
        from..from.saturating_add(self.blindings.len())
    }

    fn check(&self, root: &MerkleRoot, words: &[String]) -> Result<Range<usize>, SpanFault> {
        let range = self.words();
        if range.len() < MIN_SPAN_WORDS {
            return Err(SpanFault::Short(range.len()));
        }
        let said = words.get(range.clone()).ok_or(SpanFault::Place)?;
        let leaves = self.blindings.iter().zip(said);
        let leaves: Vec<Digest> = leaves.map(|(blinding, word)| blinding.leaf(word)).collect();
        match self.proof.verify(root, &leaves) {
            true => Ok(range),
            false => Err(SpanFault::Unproven),
        }
    }
}

/// The words of a text that `spans` prove to stand in the shard behind `root`, as ranges of `words`.
///
/// # Errors
/// The first [`SpanFault`]: of an answer with one false span nothing is believed.
pub fn check(
    root: &MerkleRoot,
    words: &[String],
    spans: &[Span],
) -> Result<Vec<Range<usize>>, SpanFault> {
    if spans.len() > MAX_SPANS {
        return Err(SpanFault::Many(spans.len()));
    }
    let mut end = 0;
    let mut proven = Vec::with_capacity(spans.len());
    for span in spans {
        let range = span.check(root, words)?;
        if range.start < end {
            return Err(SpanFault::Place);
        }
        end = range.end;
        proven.push(range);
    }
    Ok(proven)
}

#[cfg(test)]
mod tests;
