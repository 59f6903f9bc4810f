//! A base model on a device, loaded once and shared.
//!
//! What a base is, and how it is read and hashed, is the engine's ([`Base`]); this adds what computes with it here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};
use tributary_engine::base::{Base, BaseInfo, LoadError};
use tributary_engine::{Precision, Reader};
use tributary_protocol::adapter::AdapterShape;
use tributary_protocol::hash::Digest;

use crate::brook;
use crate::config::Config;
use crate::device::{self, Choice, DeviceError, Request};
use crate::lora;
use crate::model::Model;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// Why a base model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The model's files.
    #[error(transparent)]
    Load(#[from] LoadError),
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
}

struct Inner {
    info: BaseInfo,
    model: Model,
    device: Choice,
    /// Made when first asked for: the weights packed for reading, in host memory only.
    reader: OnceLock<Option<Mutex<Reader>>>,
}

/// A base model. Cloning shares it; all threads may use it at once.
#[derive(Clone)]
pub struct BaseModel(Arc<Inner>);

impl fmt::Debug for BaseModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BaseModel").field(&self.0.info).finish()
    }
}

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
        Self::on_device(Base::from_dir(folder)?, request)
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
        Self::on_device(Base::from_bytes(name, config, model, tokenizer)?, request)
    }

    fn on_device(base: Base, request: Request) -> Result<Self, BaseError> {
        let device = device::choose(request)?;
        let info = base.info;
        tracing::info!(
            model = info.name,
            device = device.reason,
            "base model loaded"
        );
        if let Some(warning) = &device.warning {
            tracing::warn!(code = warning.code(), "{warning}");
        }
        let model = Model::new(info.config.clone(), base.parameters, &device.device);
        Ok(Self(Arc::new(Inner {
            info,
            model,
            device,
            reader: OnceLock::new(),
        })))
    }

    /// The files of `folder` to copy for the same model elsewhere; see [`Base::file_names`].
    ///
    /// # Errors
    /// When the folder, its weights or their index cannot be read.
    pub fn file_names(folder: &Path) -> Result<Vec<String>, BaseError> {
        Ok(Base::file_names(folder)?)
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.0.info.name
    }

    /// Identity of the exact bytes of configuration, weights and tokenizer.
    pub fn hash(&self) -> Digest {
        self.0.info.hash
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
        &self.0.info.tokenizer
    }

    /// Text to token ids, without special tokens.
    ///
    /// # Errors
    /// When the vocabulary cannot express the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.0.info.tokenizer.encode(text)
    }

    /// As [`BaseModel::encode`], of a text that stands at the beginning: the token that the tokenizer puts there
    /// comes first, unless the text spells it out.
    ///
    /// # Errors
    /// When the vocabulary cannot express the text.
    pub fn encode_from_start(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Ok(self.opened(self.encode(text)?))
    }

    /// Token ids to text, special tokens left out.
    ///
    /// # Errors
    /// When the ids are not of this vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.0.info.tokenizer.decode(ids)
    }

    /// The shape of an adapter on all seven linears of every layer. Bounds are checked by
    /// [`AdapterShape::check`].
    pub fn adapter_shape(&self, rank: u32, alpha: u32) -> AdapterShape {
        lora::full_shape(self.config(), rank, alpha)
    }

    /// The tokens of a text that stands at the beginning.
    pub(crate) fn opened(&self, ids: Vec<u32>) -> Vec<u32> {
        self.0.info.opened(ids)
    }

    /// Tokens that end a generation.
    pub(crate) fn end_tokens(&self) -> Vec<u32> {
        self.0.info.end_tokens()
    }

    /// What the base is, but for its numbers.
    pub fn info(&self) -> &BaseInfo {
        &self.0.info
    }

    /// The engine's form of the model, for texts of up to `positions` tokens, which are the same at every call; None on
    /// another device. It takes as much memory as the weights.
    pub(crate) fn reader(&self, positions: usize) -> Option<MutexGuard<'_, Reader>> {
        let made = self.0.reader.get_or_init(|| {
            let parameters = self.model().parameters()?;
            let threads = rayon::current_num_threads();
            let info = &self.0.info;
            let reader = Reader::new(info, parameters, Precision::F32, threads, positions);
            Some(Mutex::new(reader))
        });
        made.as_ref().map(|reader| reader.lock())
    }

    pub(crate) fn model(&self) -> &Model {
        &self.0.model
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use tributary_protocol::hash::{Domain, Hasher};

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
            assert!(
                matches!(error, BaseError::Load(LoadError::Read { .. })),
                "{folder}: {error}"
            );
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
        assert!(matches!(
            loaded,
            Err(BaseError::Load(LoadError::Vocabulary { .. }))
        ));
    }
}
