//! From text to batches of token windows.
//!
//! Two ways lead here. Runs and scores of a text cut it plainly ([`Windows::from_text`]): encoded whole,
//! without special tokens, in windows of `context` tokens of which the first is not predicted. A
//! fine-tuning or an evaluation reads a [`Dataset`] of any format (`read`), encodes its rows (`document`), learns
//! or scores only the parts that are answers, and packs them so that they do not see each other (`pack`).
//!
//! ```text
//! file -> unpack -> sniff -> read -> Row -> document (chat template) -> Document -> pack -> Windows -> Batch
//!                              \-> RowReport: what was not used, and why
//! ```

mod csv_rows;
mod document;
mod draw;
mod json_rows;
pub mod limits;
mod pack;
#[cfg(feature = "parquet")]
mod parquet_pages;
#[cfg(feature = "parquet")]
mod parquet_rows;
mod read;
mod record;
mod row;
mod sniff;
mod turns;
mod unpack;

use std::sync::Arc;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tributary_protocol::hash::{self, Digest};

use crate::base::BaseModel;
use crate::model::{Batch, NO_TARGET};
use crate::tokenizer::TokenizerError;

pub use crate::chat::{Conversation, Message};
pub use document::{Document, Encoded};
pub(crate) use draw::Draw;
pub use limits::MAX_CONTEXT;
pub use pack::{PackReport, Packing};
pub use read::{Dataset, DatasetError, Format, ReadOptions, UnknownFormat};
pub use row::{BadRow, Place, Record, Row, RowReport};

/// Tokens of a window unless asked otherwise.
pub(crate) const DEFAULT_CONTEXT: usize = 512;

/// Why tokens do not make a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Another number of tokens than windows times context, or a window too short to predict in.
    #[error(
        "{found} tokens are not {windows} windows of {context} (at least 1 window of 2 tokens)"
    )]
    Length {
        /// Tokens given.
        found: usize,
        /// Windows asked for.
        windows: usize,
        /// Tokens of each.
        context: usize,
    },
    /// A token id beyond the vocabulary.
    #[error("token id {id} is beyond the vocabulary of {vocab}; use the model's own tokenizer")]
    Vocabulary {
        /// The id.
        id: u32,
        /// Rows of the token table.
        vocab: usize,
    },
}

/// Why data could not be cut in windows.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The text could not be encoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The windows are too short or too long.
    #[error("a context of {0} tokens is not between 2 and {MAX_CONTEXT}")]
    Context(usize),
    /// A token the model does not know.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Nothing can be predicted.
    #[error("the text holds {tokens} tokens, too few to predict any; add text")]
    Empty {
        /// Tokens found.
        tokens: usize,
    },
}

/// What a window holds besides one text of which everything is learned.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    /// For every token whether it is predicted.
    learned: Vec<bool>,
    /// Where each document begins, ascending from 0.
    starts: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    tokens: Vec<u32>,
    /// None: one document, and all but its first token are predicted.
    parts: Option<Box<Parts>>,
}

impl Window {
    fn plain(tokens: &[u32]) -> Self {
        Self {
            tokens: tokens.to_vec(),
            parts: None,
        }
    }

    fn learns(&self, at: usize) -> bool {
        at > 0 && self.parts.as_ref().is_none_or(|parts| parts.learned[at])
    }

    fn predicted(&self) -> u64 {
        match &self.parts {
            None => self.tokens.len() as u64 - 1,
            Some(parts) => parts.learned.iter().filter(|l| **l).count() as u64,
        }
    }
}

/// Token windows of texts or packed documents, in order. Every window predicts at least one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    context: usize,
    windows: Vec<Window>,
}

impl Windows {
    /// Encodes `text` and cuts it in windows of `context` tokens.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn from_text(base: &BaseModel, text: &str, context: usize) -> Result<Self, DataError> {
        Self::from_documents(base, [text], context)
    }

    /// Cuts each document by itself.
    ///
    /// # Errors
    /// See [`DataError`].
    pub(crate) fn from_documents<'a>(
        base: &BaseModel,
        documents: impl IntoIterator<Item = &'a str>,
        context: usize,
    ) -> Result<Self, DataError> {
        let mut tokens = Vec::new();
        for document in documents {
            tokens.push(base.encode(document)?);
        }
        Self::from_tokens(tokens, context, base.config().vocab)
    }

    /// Cuts documents that are already encoded.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn from_tokens(
        documents: Vec<Vec<u32>>,
        context: usize,
        vocab: usize,
    ) -> Result<Self, DataError> {
        if !(2..=MAX_CONTEXT).contains(&context) {
            return Err(DataError::Context(context));
        }
        let total = documents.iter().map(Vec::len).sum();
        let mut windows = Vec::new();
        for tokens in documents {
            check_ids(&tokens, vocab)?;
            let cut = tokens.chunks(context).filter(|w| w.len() >= 2);
            windows.extend(cut.map(Window::plain));
        }
        match windows.is_empty() {
            true => Err(DataError::Empty { tokens: total }),
            false => Ok(Self { context, windows }),
        }
    }

    /// Number of windows.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// True when there is no window; only a selection can be empty.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Longest window, in tokens.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Tokens of all windows.
    pub fn tokens(&self) -> u64 {
        self.iter().map(|w| w.len() as u64).sum()
    }

    /// Tokens that an evaluation predicts.
    pub fn predicted(&self) -> u64 {
        self.windows.iter().map(Window::predicted).sum()
    }

    /// The windows' tokens.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.windows.iter().map(|w| w.tokens.as_slice())
    }

    /// Tokens of one window.
    pub(crate) fn length_of(&self, at: usize) -> usize {
        self.windows[at].tokens.len()
    }

    /// Identity of the windows: the same tokens, learned parts and borders give the same digest.
    pub fn digest(&self) -> Digest {
        let mut bytes = (self.context as u64).to_le_bytes().to_vec();
        for window in &self.windows {
            let mut window_bytes = (window.tokens.len() as u64).to_le_bytes().to_vec();
            window_bytes.extend(window.tokens.iter().flat_map(|t| t.to_le_bytes()));
            if let Some(parts) = &window.parts {
                window_bytes.extend(parts.learned.iter().map(|l| u8::from(*l)));
                window_bytes.extend(parts.starts.iter().flat_map(|s| s.to_le_bytes()));
            }
            bytes.extend_from_slice(hash::blob(&window_bytes).as_bytes());
        }
        hash::blob(&bytes)
    }

    /// Sets every `every`-th window aside: `(kept, held out)`. With fewer windows than `every`, the
    /// last is held out if another remains.
    pub fn hold_out(self, every: usize) -> (Self, Self) {
        let every = every.clamp(2, self.len().max(2));
        let (mut kept, mut held) = (Vec::new(), Vec::new());
        for (index, window) in self.windows.into_iter().enumerate() {
            match (index + 1).is_multiple_of(every) {
                true => held.push(window),
                false => kept.push(window),
            }
        }
        let context = self.context;
        let wrap = |windows| Self { context, windows };
        (wrap(kept), wrap(held))
    }

    /// At most `count` different windows drawn by `seed`; the same seed draws the same ones.
    pub fn sample(&self, seed: &[u8; 32], count: usize) -> Self {
        self.pick(&Self::draw(seed, self.len(), count))
    }

    /// Places of at most `count` different windows of `of`, drawn by `seed`, rising: what [`Windows::sample`] takes,
    /// for a caller that checks a draw without the windows.
    pub fn draw(seed: &[u8; 32], of: usize, count: usize) -> Vec<usize> {
        let mut rng = ChaCha8Rng::from_seed(*seed);
        let mut order: Vec<usize> = (0..of).collect();
        let (drawn, _) = order.partial_shuffle(&mut rng, count.min(of));
        drawn.sort_unstable();
        drawn.to_vec()
    }

    /// The windows at these places.
    ///
    /// # Panics
    /// If there is no window at one of them.
    pub fn pick(&self, places: &[usize]) -> Self {
        Self {
            context: self.context,
            windows: places.iter().map(|i| self.windows[*i].clone()).collect(),
        }
    }

    /// One window by itself.
    ///
    /// # Panics
    /// If there is no window `at`.
    pub fn only(&self, at: usize) -> Self {
        Self {
            context: self.context,
            windows: vec![self.windows[at].clone()],
        }
    }

    /// Appends the windows of another text.
    pub fn join(&mut self, other: Self) {
        self.context = self.context.max(other.context);
        self.windows.extend(other.windows);
    }

    /// The chosen windows, padded at their ends to the longest of them.
    pub(crate) fn batch(&self, chosen: &[usize]) -> Batch {
        let windows: Vec<&Window> = chosen.iter().map(|i| &self.windows[*i]).collect();
        batch_of(&windows)
    }

    /// All windows in order, in batches of at most `tokens` tokens (and at least one window).
    pub(crate) fn batches(&self, tokens: usize) -> impl Iterator<Item = Batch> {
        let per_batch = (tokens / self.context).max(1);
        (self.windows.chunks(per_batch))
            .map(|windows| batch_of(&windows.iter().collect::<Vec<_>>()))
    }
}

/// Windows padded to the longest, with the parts of each that are learned and may see each other.
fn batch_of(windows: &[&Window]) -> Batch {
    let tokens: Vec<&[u32]> = windows.iter().map(|w| w.tokens.as_slice()).collect();
    let mut batch = padded_batch(&tokens, 1);
    if windows.iter().all(|w| w.parts.is_none()) {
        return batch;
    }
    let context = batch.context;
    let mut firsts = vec![0; windows.len() * context];
    for (index, window) in windows.iter().enumerate() {
        let rows = index * context..(index + 1) * context;
        for (at, target) in batch.targets[rows.clone()].iter_mut().enumerate() {
            if at + 1 < window.tokens.len() && !window.learns(at + 1) {
                *target = NO_TARGET;
            }
        }
        // Padding sees what the last document sees.
        for start in window.parts.iter().flat_map(|parts| &parts.starts) {
            firsts[rows.clone()][*start as usize..].fill(*start);
        }
    }
    if firsts.iter().any(|first| *first > 0) {
        batch.firsts = Some(Arc::from(firsts));
    }
    batch
}

/// Windows of any lengths. Positions before `first` of each window's tokens are not predicted.
pub(crate) fn padded_batch(windows: &[&[u32]], first: usize) -> Batch {
    let context = windows.iter().map(|w| w.len()).max().unwrap_or(0);
    let mut tokens = Vec::with_capacity(windows.len() * context);
    let mut targets = Vec::with_capacity(windows.len() * context);
    for window in windows {
        for position in 0..context {
            // Padding lies after everything real, where the causal mask hides it.
            tokens.push(window.get(position).map_or(0, |t| *t as i32));
            let next = position + 1;
            let target = window.get(next).filter(|_| next >= first);
            targets.push(target.map_or(NO_TARGET, |t| *t as i32));
        }
    }
    Batch {
        tokens,
        targets,
        windows: windows.len(),
        context,
        firsts: None,
    }
}

/// Windows that are all full.
pub(crate) fn dense_batch(
    tokens: &[u32],
    windows: usize,
    context: usize,
    vocab: usize,
) -> Result<Batch, BatchError> {
    if windows == 0 || context < 2 || tokens.len() != windows * context {
        return Err(BatchError::Length {
            found: tokens.len(),
            windows,
            context,
        });
    }
    check_ids(tokens, vocab)?;
    let windows: Vec<&[u32]> = tokens.chunks_exact(context).collect();
    Ok(padded_batch(&windows, 1))
}

/// Every id is a row of the token table.
pub(crate) fn check_ids(tokens: &[u32], vocab: usize) -> Result<(), BatchError> {
    match tokens.iter().find(|id| **id as usize >= vocab) {
        Some(id) => Err(BatchError::Vocabulary { id: *id, vocab }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
