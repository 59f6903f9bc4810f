//! From text to batches of token windows.

use crate::model::{Batch, NO_TARGET};

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
    let targets = |window: &[i32]| {
        let mut targets = window[1..].to_vec();
        targets.push(NO_TARGET);
        targets
    };
    let tokens: Vec<i32> = tokens.iter().map(|t| *t as i32).collect();
    Ok(Batch {
        targets: tokens.chunks_exact(context).flat_map(targets).collect(),
        tokens,
        windows,
        context,
    })
}

/// Every id is a row of the token table.
pub(crate) fn check_ids(tokens: &[u32], vocab: usize) -> Result<(), BatchError> {
    match tokens.iter().find(|id| **id as usize >= vocab) {
        Some(id) => Err(BatchError::Vocabulary { id: *id, vocab }),
        None => Ok(()),
    }
}
