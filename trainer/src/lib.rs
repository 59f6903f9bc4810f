//! Trainer.

mod tokenizer;

pub use tokenizer::{MAX_TOKENIZER_BYTES, Tokenizer, TokenizerError};
