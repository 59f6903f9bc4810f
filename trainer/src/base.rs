//! A base model: configuration, weights and tokenizer, loaded once and shared.
//!
//! Every run names the base it adapts by [`BaseModel::hash`], which covers the exact bytes of the
//! three files, so that two peers never train on different models under one name.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use tributary_protocol::adapter::AdapterShape;
use tributary_protocol::hash::{Digest, Domain, Hasher};

use crate::brook;
use crate::config::{Config, ConfigError};
use crate::lora;
use crate::model::Model;
use crate::model::files::{self, WeightsError};
use crate::tokenizer::{MAX_TOKENIZER_BYTES, Tokenizer, TokenizerError};

/// Largest `config.json` that is read, in bytes; published ones have a few thousand.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Largest `model.safetensors` that is read, in bytes: 8 billion weights in f32.
const MAX_WEIGHTS_BYTES: u64 = 32 << 30;

/// Why a base model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
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

#[derive(Debug)]
struct Inner {
    name: String,
    hash: Digest,
    model: Model,
    tokenizer: Tokenizer,
}

/// A base model. Cloning shares it; all threads may use it at once.
#[derive(Clone, Debug)]
pub struct BaseModel(Arc<Inner>);

impl BaseModel {
    /// Loads a Hugging Face folder; its last component becomes the model's name.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub fn from_dir(folder: &Path) -> Result<Self, BaseError> {
        let config = read(&folder.join("config.json"), MAX_CONFIG_BYTES)?;
        let model = read(&folder.join("model.safetensors"), MAX_WEIGHTS_BYTES)?;
        let tokenizer = read(&folder.join("tokenizer.json"), MAX_TOKENIZER_BYTES)?;
        let name = folder.canonicalize().ok();
        let name = name.as_deref().unwrap_or(folder).file_name();
        let name = name.map_or("base".into(), |n| n.to_string_lossy().into_owned());
        Self::from_bytes(&name, &config, &model, &tokenizer)
    }

    /// The embedded model, loaded once per process.
    ///
    /// # Errors
    /// Only if the embedded files were changed.
    pub fn brook() -> Result<Self, BaseError> {
        static LOADED: OnceLock<BaseModel> = OnceLock::new();
        if let Some(base) = LOADED.get() {
            return Ok(base.clone());
        }
        let base = brook::load()?;
        Ok(LOADED.get_or_init(|| base).clone())
    }

    /// The embedded model for the word `brook`, otherwise a folder.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub fn open(name_or_folder: &str) -> Result<Self, BaseError> {
        match name_or_folder {
            brook::NAME => Self::brook(),
            folder => Self::from_dir(Path::new(folder)),
        }
    }

    /// Loads the three files from memory under a name of the caller's choice.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub fn from_bytes(
        name: &str,
        config: &[u8],
        model: &[u8],
        tokenizer: &[u8],
    ) -> Result<Self, BaseError> {
        let mut hasher = Hasher::new(Domain::BaseModel);
        for part in [config, model, tokenizer] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let config = Config::from_json(config)?;
        let parameters = files::read_bytes(model, "model.safetensors", &config)?;
        let tokenizer = Tokenizer::from_bytes(tokenizer)?;
        if tokenizer.vocab_size() > config.vocab {
            return Err(BaseError::Vocabulary {
                tokens: tokenizer.vocab_size(),
                rows: config.vocab,
            });
        }
        let choice = crate::device::choose();
        tracing::debug!(name, reason = choice.reason, "loading a base model");
        Ok(Self(Arc::new(Inner {
            name: name.into(),
            hash: hasher.finalize(),
            model: Model::new(config, parameters, &choice.device),
            tokenizer,
        })))
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Identity of the exact bytes of configuration, weights and tokenizer.
    pub fn hash(&self) -> Digest {
        self.0.hash
    }

    /// Shape and constants.
    pub fn config(&self) -> &Config {
        self.0.model.config()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// Text to token ids, without special tokens.
    ///
    /// # Errors
    /// When the vocabulary cannot express the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.0.tokenizer.encode(text)
    }

    /// Token ids to text, special tokens left out.
    ///
    /// # Errors
    /// When the ids are not of this vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.0.tokenizer.decode(ids)
    }

    /// The shape of an adapter on all seven linears of every layer. Bounds are checked by
    /// [`AdapterShape::check`].
    pub fn adapter_shape(&self, rank: u32, alpha: u32) -> AdapterShape {
        lora::full_shape(self.config(), rank, alpha)
    }

    /// Tokens that end a generation: the configuration's and the tokenizer's.
    pub fn end_tokens(&self) -> Vec<u32> {
        let mut ids = self.config().eos.clone();
        ids.extend_from_slice(self.0.tokenizer.eos_ids());
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    pub(crate) fn model(&self) -> &Model {
        &self.0.model
    }
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, BaseError> {
    let error = |source| BaseError::Read {
        path: path.display().to_string(),
        source,
    };
    let bytes = std::fs::metadata(path).map_err(error)?.len();
    if bytes > limit {
        return Err(BaseError::TooLarge {
            path: path.display().to_string(),
            bytes,
            limit,
        });
    }
    std::fs::read(path).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn hash_covers_every_file_and_their_borders() {
        let [config, model, tokenizer] = testing::tiny_files();
        let load = |config: &[u8], tokenizer: &[u8]| {
            BaseModel::from_bytes("x", config, &model, tokenizer)
                .unwrap()
                .hash()
        };
        let hash = load(&config, &tokenizer);
        assert_eq!(hash, load(&config, &tokenizer));
        let spaced = |bytes: &[u8]| [bytes, b" "].concat();
        assert_ne!(hash, load(&spaced(&config), &tokenizer));
        assert_ne!(hash, load(&config, &spaced(&tokenizer)));
    }

    #[test]
    fn folders_load_and_missing_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["config.json", "model.safetensors", "tokenizer.json"];
        for (name, bytes) in names.iter().zip(testing::tiny_files()) {
            let error = BaseModel::from_dir(folder.path()).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let base = BaseModel::from_dir(folder.path()).unwrap();
        assert_eq!(base.hash(), testing::tiny_base().hash());
        let text = "abba";
        assert_eq!(base.decode(&base.encode(text).unwrap()).unwrap(), text);
    }

    #[test]
    fn models_and_sessions_can_move_between_threads() {
        fn check<T: Send>() {}
        check::<BaseModel>();
        check::<&BaseModel>();
        check::<crate::session::Session>();
    }

    #[test]
    fn the_embedded_model_is_loaded_once_and_found_by_name() {
        let (one, two) = (
            BaseModel::brook().unwrap(),
            BaseModel::open("brook").unwrap(),
        );
        assert!(Arc::ptr_eq(&one.0, &two.0));
        assert_eq!(one.name(), "brook");
    }

    #[test]
    fn a_tokenizer_of_another_model_is_refused() {
        let [_, _, tokenizer] = testing::tiny_files();
        let config = Config {
            vocab: 8,
            ..testing::tiny_config()
        };
        let model = testing::encoded(&crate::model::parameters::initialise(&config, 1));
        let loaded = BaseModel::from_bytes("x", config.to_json().as_bytes(), &model, &tokenizer);
        assert!(matches!(loaded, Err(BaseError::Vocabulary { .. })));
    }
}
