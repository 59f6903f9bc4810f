//! A base model: configuration, weights and tokenizer, loaded once and shared.
//!
//! Every run names the base it adapts by [`BaseModel::hash`], which covers the exact bytes of its
//! files, so that two peers never train on different models under one name. The files are hashed, each
//! after its length in bytes (u64, little endian), in this order: `config.json`; `model.safetensors`, or
//! for a sharded model `model.safetensors.index.json` and then every shard it lists in ascending order
//! of file names; `tokenizer.json`. What is hashed is what is used: weights pass through the hash as
//! they are read. Loading needs memory for the weights in f32, whatever their precision on disk, and
//! some megabytes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tributary_protocol::adapter::AdapterShape;
use tributary_protocol::hash::{Digest, Domain, Hasher};

use crate::brook;
use crate::config::{Config, ConfigError};
use crate::device::{self, Choice, DeviceError, Request};
use crate::lora;
use crate::model::Model;
use crate::model::files::open::{self, OpenError};
use crate::model::files::stream::{Observer, Seen};
use crate::model::files::{self, WeightsError};
use crate::model::parameters::Parameter;
use crate::tokenizer::{MAX_TOKENIZER_BYTES, Tokenizer, TokenizerError};

/// Largest `config.json` that is read, in bytes; published ones have a few thousand.
pub(crate) const MAX_CONFIG_BYTES: u64 = 1 << 20;

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
    /// The device that was asked for.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A name of the hub, and this program cannot fetch.
    #[error(
        "there is no folder {name}, and this program was built without the feature `hub`; fetch the model \
         with `hf download {name} --local-dir FOLDER` and give the folder"
    )]
    NoHub {
        /// The name.
        name: String,
    },
    /// The hub.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] crate::hub::HubError),
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
    device: Choice,
    /// What `generation_config.json` adds to the configuration's end tokens.
    ends: Vec<u32>,
}

/// A base model. Cloning shares it; all threads may use it at once.
#[derive(Clone, Debug)]
pub struct BaseModel(Arc<Inner>);

impl BaseModel {
    /// Loads a Hugging Face folder on the device of [`Request::from_env`]; the folder's last
    /// component becomes the model's name.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub fn from_dir(folder: &Path) -> Result<Self, BaseError> {
        Self::from_dir_on(folder, Request::from_env()?)
    }

    /// As [`BaseModel::from_dir`], on a device of the caller's choice.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub fn from_dir_on(folder: &Path, request: Request) -> Result<Self, BaseError> {
        let config = read(&folder.join("config.json"), MAX_CONFIG_BYTES)?;
        let tokenizer = read(&folder.join("tokenizer.json"), MAX_TOKENIZER_BYTES)?;
        let name = folder.canonicalize().ok();
        let name = name.as_deref().unwrap_or(folder).file_name();
        let name = name.map_or("base".into(), |n| n.to_string_lossy().into_owned());
        let ends = generation_ends(folder)?;
        Self::assemble(&name, &config, &tokenizer, request, ends, |config, seen| {
            files::read_folder(folder, config, seen)
        })
    }

    /// The files of `folder` to copy for the same model elsewhere, in ascending order: those that loading reads and
    /// [`BaseModel::hash`] covers, and those that tell of the model and its licence.
    ///
    /// # Errors
    /// When the folder, its weights or their index cannot be read.
    pub fn file_names(folder: &Path) -> Result<Vec<String>, BaseError> {
        let unreadable = |source| BaseError::Read {
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

    /// The embedded model on the device of [`Request::from_env`], loaded once per process.
    ///
    /// # Errors
    /// Only if the embedded files were changed, or the device cannot be had.
    pub fn brook() -> Result<Self, BaseError> {
        static LOADED: OnceLock<BaseModel> = OnceLock::new();
        if let Some(base) = LOADED.get() {
            return Ok(base.clone());
        }
        let base = brook::load()?;
        Ok(LOADED.get_or_init(|| base).clone())
    }

    /// The embedded model for the word `brook`, otherwise a folder; a name such as `HuggingFaceTB/SmolLM2-135M` that
    /// is not a folder here is fetched with the feature `hub`.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub fn open(name_or_folder: &str) -> Result<Self, BaseError> {
        match name_or_folder {
            brook::NAME => Self::brook(),
            other => Self::from_dir(&located(other)?),
        }
    }

    /// As [`BaseModel::open`], on a device of the caller's choice. The embedded model is loaded anew.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub fn open_on(name_or_folder: &str, request: Request) -> Result<Self, BaseError> {
        match name_or_folder {
            brook::NAME => brook::load_on(request),
            other => Self::from_dir_on(&located(other)?, request),
        }
    }

    /// Loads the three files from memory under a name of the caller's choice, on the device of
    /// [`Request::from_env`].
    ///
    /// # Errors
    /// See [`BaseError`].
    pub fn from_bytes(
        name: &str,
        config: &[u8],
        model: &[u8],
        tokenizer: &[u8],
    ) -> Result<Self, BaseError> {
        Self::from_bytes_on(name, config, model, tokenizer, Request::from_env()?)
    }

    /// As [`BaseModel::from_bytes`], on a device of the caller's choice.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub(crate) fn from_bytes_on(
        name: &str,
        config: &[u8],
        model: &[u8],
        tokenizer: &[u8],
        request: Request,
    ) -> Result<Self, BaseError> {
        Self::assemble(
            name,
            config,
            tokenizer,
            request,
            Vec::new(),
            |config, seen| files::read_slice(model, "model.safetensors", config, seen),
        )
    }

    /// Checks and hashes the small files before `weights` reads the large ones.
    fn assemble(
        name: &str,
        config_bytes: &[u8],
        tokenizer_bytes: &[u8],
        request: Request,
        ends: Vec<u32>,
        weights: impl FnOnce(&Config, &mut Observer<'_>) -> Result<Vec<Parameter>, WeightsError>,
    ) -> Result<Self, BaseError> {
        let config = Config::from_json(config_bytes)?;
        let tokenizer = Tokenizer::from_bytes(tokenizer_bytes)?;
        if tokenizer.vocab_size() > config.vocab {
            return Err(BaseError::Vocabulary {
                tokens: tokenizer.vocab_size(),
                rows: config.vocab,
            });
        }
        let device = device::choose(request)?;
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
        tracing::info!(model = name, device = device.reason, "base model loaded");
        if let Some(warning) = &device.warning {
            tracing::warn!(code = warning.code(), "{warning}");
        }
        Ok(Self(Arc::new(Inner {
            name: name.into(),
            hash: hasher.finalize(),
            model: Model::new(config, parameters, &device.device),
            tokenizer,
            device,
            ends,
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

    /// What computes with it, and why.
    pub fn device(&self) -> &Choice {
        &self.0.device
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

    /// As [`BaseModel::encode`], of a text that stands at the beginning: the token that the tokenizer puts there
    /// comes first, unless the text spells it out.
    ///
    /// # Errors
    /// When the vocabulary cannot express the text.
    pub fn encode_from_start(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Ok(self.opened(self.encode(text)?))
    }

    /// The tokens of a text that stands at the beginning.
    pub(crate) fn opened(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if let Some(opening) = self
            .0
            .tokenizer
            .opening()
            .filter(|id| ids.first() != Some(id))
        {
            ids.insert(0, opening);
        }
        ids
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

    /// Tokens that end a generation: the configuration's, those of `generation_config.json` (chat models list the end
    /// of a turn only there), and the tokenizer's.
    pub(crate) fn end_tokens(&self) -> Vec<u32> {
        let mut ids = self.config().eos.clone();
        ids.extend_from_slice(&self.0.ends);
        ids.extend_from_slice(self.0.tokenizer.eos_ids());
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    pub(crate) fn model(&self) -> &Model {
        &self.0.model
    }
}

/// The end tokens of a folder's `generation_config.json`, which is no part of the model's identity and may be missing.
fn generation_ends(folder: &Path) -> Result<Vec<u32>, BaseError> {
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
    let generation = generation.map_err(|source| BaseError::Generation {
        path: path.display().to_string(),
        source,
    })?;
    Ok(match generation.eos_token_id {
        None => Vec::new(),
        Some(Ends::One(id)) => vec![id],
        Some(Ends::Many(ids)) => ids,
    })
}

/// The folder that is meant: a path as it is, a name of the hub by fetching it.
fn located(name_or_folder: &str) -> Result<PathBuf, BaseError> {
    let folder = PathBuf::from(name_or_folder);
    match is_hub_name(name_or_folder) && !folder.exists() {
        true => fetched(name_or_folder),
        false => Ok(folder),
    }
}

#[cfg(feature = "hub")]
fn fetched(name: &str) -> Result<PathBuf, BaseError> {
    Ok(crate::hub::Hub::from_env()?.folder(name)?)
}

#[cfg(not(feature = "hub"))]
fn fetched(name: &str) -> Result<PathBuf, BaseError> {
    Err(BaseError::NoHub { name: name.into() })
}

/// `organisation/model`, as the hub names repositories.
pub fn is_hub_name(name: &str) -> bool {
    let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let part = |part: &str| {
        !part.is_empty() && part.chars().all(usual) && !part.starts_with('.') && part.len() <= 96
    };
    name.split_once('/')
        .is_some_and(|(organisation, model)| part(organisation) && part(model))
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, BaseError> {
    open::read(path, limit).map_err(|error| {
        let path = path.display().to_string();
        match error {
            OpenError::Io(source) => BaseError::Read { path, source },
            OpenError::TooLarge { bytes, limit } => BaseError::TooLarge { path, bytes, limit },
        }
    })
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
        let [config, model, tokenizer] = testing::tiny_files();
        for (name, bytes) in [
            ("config.json", config),
            ("tokenizer.json", tokenizer),
            ("model.safetensors", model),
        ] {
            let path = folder.path().join(name);
            let error = BaseModel::from_dir(folder.path()).unwrap_err().to_string();
            let start = format!("cannot read {}", path.display());
            assert!(error.starts_with(&start), "{error}");
            std::fs::write(path, bytes).unwrap();
        }
        let base = BaseModel::from_dir(folder.path()).unwrap();
        assert_eq!(base.hash(), testing::tiny_base().hash());
        let text = "abba";
        assert_eq!(base.decode(&base.encode(text).unwrap()).unwrap(), text);
    }

    #[test]
    fn ends_of_the_generation_configuration_count_and_change_no_identity() {
        let folder = tempfile::tempdir().unwrap();
        let [config, model, tokenizer] = testing::tiny_files();
        let write =
            |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("config.json", &config);
        write("tokenizer.json", &tokenizer);
        write("model.safetensors", &model);
        let plain = BaseModel::from_dir(folder.path()).unwrap();
        assert!(!plain.end_tokens().contains(&17));
        write(
            "generation_config.json",
            br#"{"eos_token_id": [17, 19], "temperature": 0.6}"#,
        );
        let listed = BaseModel::from_dir(folder.path()).unwrap();
        assert!([17, 19].iter().all(|id| listed.end_tokens().contains(id)));
        assert_eq!(listed.hash(), plain.hash());
        write("generation_config.json", b"{\"eos_token_id\": \"x\"}");
        let error = BaseModel::from_dir(folder.path()).unwrap_err().to_string();
        assert!(error.contains("generation_config.json"), "{error}");
    }

    #[test]
    fn the_hash_is_that_of_the_parts_one_after_the_other() {
        let parts = testing::tiny_files();
        let mut hasher = Hasher::new(Domain::BaseModel);
        for part in &parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let [config, model, tokenizer] = parts;
        let base = BaseModel::from_bytes("x", &config, &model, &tokenizer).unwrap();
        assert_eq!(base.hash(), hasher.finalize());
    }

    #[test]
    fn the_hash_of_a_sharded_model_covers_the_index_and_every_shard_in_order() {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
        let folder = cases.join("qwen2-sharded-bf16");
        let mut hasher = Hasher::new(Domain::BaseModel);
        let shards = (1..=4).map(|i| format!("model-0000{i}-of-00004.safetensors"));
        let mut names = vec!["config.json".into(), "model.safetensors.index.json".into()];
        names.extend(shards);
        names.push("tokenizer.json".into());
        for name in names {
            let part = std::fs::read(folder.join(name)).unwrap();
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(&part);
        }
        let base = BaseModel::from_dir(&folder).unwrap();
        assert_eq!(base.hash(), hasher.finalize());
    }

    #[test]
    fn brooks_hash_is_the_one_that_runs_name() {
        let hash = BaseModel::brook().unwrap().hash().to_string();
        assert_eq!(
            hash,
            "217372927169c96d4b0416ae39ac8519b77b1ab59fc1fa0a010f35b26ff38bd6"
        );
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

    #[cfg(not(feature = "hub"))]
    #[test]
    fn a_name_of_the_hub_is_answered_with_the_way_to_fetch_it() {
        let error = BaseModel::open("some-org/Model_1.5B")
            .unwrap_err()
            .to_string();
        assert!(error.contains("hf download some-org/Model_1.5B"), "{error}");
        for folder in ["/no/model", "../no", "a/b/c", "no", "./no", "no/../x"] {
            let error = BaseModel::open(folder).unwrap_err();
            assert!(matches!(error, BaseError::Read { .. }), "{folder}: {error}");
        }
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
