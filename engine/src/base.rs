//! A base model: configuration, weights and tokenizer, loaded once and shared.
//!
//! Every run names the base it adapts by [`BaseInfo::hash`], which covers the exact bytes of its
//! files, so that two peers never train on different models under one name. The files are hashed, each
//! after its length in bytes (u64, little endian), in this order: `config.json`; `model.safetensors`, or
//! for a sharded model `model.safetensors.index.json` and then every shard it lists in ascending order
//! of file names; `tokenizer.json`. What is hashed is what is used: weights pass through the hash as
//! they are read. A [`Base`] needs memory for the weights in f32, whatever their precision on disk, and
//! some megabytes; an engine packs each tensor as soon as it is read.

use std::path::Path;

use tributary_protocol::hash::{Digest, Domain, Hasher};

use crate::brook;
use crate::config::{Config, ConfigError};
use crate::model::files::open::{self, OpenError};
use crate::model::files::stream::{Observer, Seen};
use crate::model::files::{self, WeightsError};
use crate::model::parameters::Parameter;
use crate::tokenizer::{MAX_TOKENIZER_BYTES, Tokenizer, TokenizerError};

/// Largest `config.json` that is read, in bytes; published ones have a few thousand.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Files that belong to a model without being part of its identity: how it ends, how it chats, what it is, under what
/// licence. A name without an ending stands for every file that begins so.
const COMPANIONS: [&str; 9] = [
    "generation_config.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "README.md",
    "LICENSE",
    "LICENCE",
    "NOTICE",
    "COPYING",
];

/// Why a base model's files could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file of the folder could not be read.
    #[error(
        "cannot read {path}: {source}; give a Hugging Face model folder with config.json, \
         model.safetensors and tokenizer.json"
    )]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is larger than any real one.
    #[error(
        "{path} has {bytes} bytes, more than the {limit} allowed; use the model's original file"
    )]
    TooLarge {
        /// The file.
        path: String,
        /// Its size.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// `generation_config.json` cannot be read.
    #[error(
        "{path} is not a generation configuration: {source}; use the model's own file, or remove it"
    )]
    Generation {
        /// The file.
        path: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The tokenizer makes ids that the model has no row for.
    #[error(
        "tokenizer.json knows {tokens} tokens but config.json only {rows}; \
         the two files are not of the same model"
    )]
    Vocabulary {
        /// Tokens of the tokenizer.
        tokens: usize,
        /// Rows of the token table.
        rows: usize,
    },
}

/// What a base model is, but for its numbers.
#[derive(Clone, Debug)]
pub struct BaseInfo {
    /// What people call it.
    pub name: String,
    /// Identity of the exact bytes of configuration, weights and tokenizer.
    pub hash: Digest,
    /// Shape and constants.
    pub config: Config,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// What `generation_config.json` adds to the configuration's end tokens.
    ends: Vec<u32>,
}

/// A base model as its files hold it.
#[derive(Clone, Debug)]
pub struct Base {
    /// What it is.
    pub info: BaseInfo,
    /// Its numbers in canonical order.
    pub parameters: Vec<Parameter>,
}

impl Base {
    /// Reads a Hugging Face folder, whose last component becomes the model's name.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn from_dir(folder: &Path) -> Result<Self, LoadError> {
        let (info, parameters) = read_dir(folder, |parameter| parameter)?;
        Ok(Self { info, parameters })
    }

    /// Reads the three files from memory under a name of the caller's choice.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn from_bytes(
        name: &str,
        config: &[u8],
        model: &[u8],
        tokenizer: &[u8],
    ) -> Result<Self, LoadError> {
        let small = (name, config, tokenizer, Vec::new());
        let (info, parameters) = assemble(small, |config, seen| {
            files::read_slice(model, "model.safetensors", config, seen)
        })?;
        Ok(Self { info, parameters })
    }

    /// The embedded model.
    ///
    /// # Errors
    /// Only if the embedded files were changed.
    pub fn brook() -> Result<Self, LoadError> {
        Self::from_bytes(brook::NAME, brook::CONFIG, brook::WEIGHTS, brook::TOKENIZER)
    }

    /// The files of `folder` to copy for the same model elsewhere, in ascending order: those that loading reads and
    /// [`BaseInfo::hash`] covers, and those that tell of the model and its licence.
    ///
    /// # Errors
    /// When the folder, its weights or their index cannot be read.
    pub fn file_names(folder: &Path) -> Result<Vec<String>, LoadError> {
        let unreadable = |source| LoadError::Read {
            path: folder.display().to_string(),
            source,
        };
        let mut names = files::weight_names(folder)?;
        names.extend(["config.json", "tokenizer.json"].map(str::to_owned));
        let belongs = |name: &str| {
            COMPANIONS
                .iter()
                .any(|companion| match companion.contains('.') {
                    true => name == *companion,
                    false => name.starts_with(companion),
                })
        };
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            let name = name.to_str().filter(|name| belongs(name));
            names.extend(name.map(str::to_owned));
        }
        names.retain(|name| folder.join(name).is_file());
        names.sort();
        names.dedup();
        Ok(names)
    }
}

/// Reads a Hugging Face folder as [`Base::from_dir`] does, and keeps of each parameter what `keep` makes of it.
pub(crate) fn read_dir<T>(
    folder: &Path,
    keep: impl FnMut(Parameter) -> T,
) -> Result<(BaseInfo, Vec<T>), LoadError> {
    let config = read(&folder.join("config.json"), MAX_CONFIG_BYTES)?;
    let tokenizer = read(&folder.join("tokenizer.json"), MAX_TOKENIZER_BYTES)?;
    let name = folder.canonicalize().ok();
    let name = name.as_deref().unwrap_or(folder).file_name();
    let name = name.map_or("base".into(), |n| n.to_string_lossy().into_owned());
    let ends = generation_ends(folder)?;
    assemble((&name, &config, &tokenizer, ends), |config, seen| {
        files::read_folder(folder, config, seen, keep)
    })
}

/// Checks and hashes the small files (name, configuration, tokenizer, end tokens) before `weights` reads the large ones.
fn assemble<T>(
    (name, config_bytes, tokenizer_bytes, ends): (&str, &[u8], &[u8], Vec<u32>),
    weights: impl FnOnce(&Config, &mut Observer<'_>) -> Result<Vec<T>, WeightsError>,
) -> Result<(BaseInfo, Vec<T>), LoadError> {
    let config = Config::from_json(config_bytes)?;
    let tokenizer = Tokenizer::from_bytes(tokenizer_bytes)?;
    if tokenizer.vocab_size() > config.vocab {
        return Err(LoadError::Vocabulary {
            tokens: tokenizer.vocab_size(),
            rows: config.vocab,
        });
    }
    let mut hasher = Hasher::new(Domain::BaseModel);
    let mut hash = |seen: Seen<'_>| match seen {
        Seen::File(bytes) => {
            hasher.update(&bytes.to_le_bytes());
        }
        Seen::Bytes(bytes) => {
            hasher.update(bytes);
        }
    };
    hash(Seen::File(config_bytes.len() as u64));
    hash(Seen::Bytes(config_bytes));
    let parameters = weights(&config, &mut hash)?;
    hash(Seen::File(tokenizer_bytes.len() as u64));
    hash(Seen::Bytes(tokenizer_bytes));
    let info = BaseInfo {
        name: name.into(),
        hash: hasher.finalize(),
        config,
        tokenizer,
        ends,
    };
    Ok((info, parameters))
}

impl BaseInfo {
    /// The tokens of a text that stands at the beginning.
    pub fn opened(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if let Some(opening) = self
            .tokenizer
            .opening()
            .filter(|id| ids.first() != Some(id))
        {
            ids.insert(0, opening);
        }
        ids
    }

    /// Tokens that end a generation: the configuration's, those of `generation_config.json` (chat models list the end
    /// of a turn only there), and the tokenizer's.
    pub fn end_tokens(&self) -> Vec<u32> {
        let mut ids = self.config.eos.clone();
        ids.extend_from_slice(&self.ends);
        ids.extend_from_slice(self.tokenizer.eos_ids());
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// The end tokens of a folder's `generation_config.json`, which is no part of the model's identity and may be missing.
fn generation_ends(folder: &Path) -> Result<Vec<u32>, LoadError> {
    #[derive(serde::Deserialize)]
    struct Generation {
        eos_token_id: Option<Ends>,
    }
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Ends {
        One(u32),
        Many(Vec<u32>),
    }
    let path = folder.join("generation_config.json");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let generation = serde_json::from_slice::<Generation>(&read(&path, MAX_CONFIG_BYTES)?);
    let generation = generation.map_err(|source| LoadError::Generation {
        path: path.display().to_string(),
        source,
    })?;
    Ok(match generation.eos_token_id {
        None => Vec::new(),
        Some(Ends::One(id)) => vec![id],
        Some(Ends::Many(ids)) => ids,
    })
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, LoadError> {
    open::read(path, limit).map_err(|error| {
        let path = path.display().to_string();
        match error {
            OpenError::Io(source) => LoadError::Read { path, source },
            OpenError::TooLarge { bytes, limit } => LoadError::TooLarge { path, bytes, limit },
        }
    })
}
