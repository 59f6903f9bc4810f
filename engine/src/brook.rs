//! The embedded base model: a Hugging Face folder compiled into the program.
//!
//! Why it exists: the demo and the tests need a language model on a machine without a network. How it
//! was made, on which text, and what it can do is in `engine/assets/brook/README.md`; the trainer's `pretrain`
//! makes it again.
//!
//! Left to others: computing with it (`base`), which takes these bytes as it takes files.

use std::path::Path;

use crate::config::{Config, ConfigError};
use crate::tokenizer::{Tokenizer, TokenizerError};

/// Its name wherever a base model is named, and the folder name when it is written out.
pub const NAME: &str = "brook";

/// `config.json`.
pub const CONFIG: &[u8] = include_bytes!("../assets/brook/config.json");

/// `model.safetensors`, bf16.
pub const WEIGHTS: &[u8] = include_bytes!("../assets/brook/model.safetensors");

/// `tokenizer.json`.
pub const TOKENIZER: &[u8] = include_bytes!("../assets/brook/tokenizer.json");

/// `tokenizer_config.json`: how transformers opens the tokenizer. Loading here does not need it.
const TOKENIZER_CONFIG: &[u8] = br#"{
  "tokenizer_class": "PreTrainedTokenizerFast",
  "bos_token": "<|endoftext|>",
  "eos_token": "<|endoftext|>",
  "model_max_length": 1024
}
"#;

/// The files of the folder by name.
pub const FILES: [(&str, &[u8]); 4] = [
    ("config.json", CONFIG),
    ("model.safetensors", WEIGHTS),
    ("tokenizer.json", TOKENIZER),
    ("tokenizer_config.json", TOKENIZER_CONFIG),
];

/// Text of brook's kind that it was not trained on, for tests and for `brook` examples: documents
/// between lines of `<|endoftext|>`.
pub const HELD_OUT_SAMPLE: &str = include_str!("../assets/brook/heldout-sample.txt");

/// The checked configuration.
///
/// # Errors
/// Only if the embedded file was changed.
pub fn config() -> Result<Config, ConfigError> {
    Config::from_json(CONFIG)
}

/// The tokenizer.
///
/// # Errors
/// Only if the embedded file was changed.
pub fn tokenizer() -> Result<Tokenizer, TokenizerError> {
    Tokenizer::from_bytes(TOKENIZER)
}

/// Writes the folder, for other programs to load. Files of the same name are replaced.
///
/// # Errors
/// When the folder cannot be made or written.
pub fn write_to(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, bytes) in FILES {
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
