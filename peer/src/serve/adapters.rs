//! Adapters by their aliases: loaded from PEFT folders, kept until they are unloaded.
//!
//! A request keeps the adapter that its alias meant when it came; unloading or loading anew changes what later requests
//! get and waits for nobody.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tributary_engine::LoadedAdapter;
use tributary_protocol::hash::{Digest, Domain, Hasher};

use super::head::now;
use crate::model;

/// Most adapters that are loaded.
const MOST_LOADED: usize = 64;
/// Longest alias, in bytes.
const MOST_ALIAS_BYTES: usize = 128;

/// Why an adapter cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// No such alias.
    #[error("no adapter is loaded as `{0}`; GET /v1/models lists those that are")]
    Unknown(String),
    /// Another has the alias.
    #[error("an adapter is loaded as `{0}` already; unload it first, or take another name")]
    Taken(String),
    /// The alias cannot be one.
    #[error("`{0}` cannot be the name of an adapter: {1}")]
    Name(String, &'static str),
    /// No more are taken.
    #[error("{MOST_LOADED} adapters are loaded, and no more are taken; unload one")]
    Full,
    /// The folder holds no adapter of this base.
    #[error("cannot load the adapter {folder}: {why}")]
    Load {
        /// The folder.
        folder: PathBuf,
        /// Why, and what to do.
        why: String,
    },
}

impl AdapterError {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "model_not_found",
            Self::Taken(_) => "adapter_exists",
            Self::Name(..) => "adapter_name",
            Self::Full => "too_many_adapters",
            Self::Load { .. } => "adapter_unusable",
        }
    }
}

/// An alias, and what it means now.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The alias.
    pub name: String,
    /// Hash of what it is.
    pub content: Digest,
    /// Seconds since 1970 when it was loaded.
    pub loaded: u64,
}

/// The adapters of one base.
#[derive(Debug)]
pub struct Adapters {
    /// The name that stands for the base itself.
    base: String,
    /// `brook` or a folder.
    source: String,
    loaded: Mutex<BTreeMap<String, (Arc<LoadedAdapter>, u64)>>,
}

impl Adapters {
    /// None yet, for the base called `base` that comes from `source`.
    pub fn new(base: &str, source: &str) -> Self {
        Self {
            base: base.to_owned(),
            source: source.to_owned(),
            loaded: Mutex::default(),
        }
    }

    /// What a model's name means now: an adapter, or None for the base itself.
    ///
    /// # Errors
    /// When it means nothing.
    pub fn get(&self, model: &str) -> Result<Option<Arc<LoadedAdapter>>, AdapterError> {
        if model == self.base {
            return Ok(None);
        }
        let loaded = self.loaded.lock();
        let found = loaded.get(model).map(|(adapter, _)| Some(adapter.clone()));
        found.ok_or_else(|| AdapterError::Unknown(model.to_owned()))
    }

    /// Loads a PEFT folder under an alias. Reads files: not for a thread that waits.
    ///
    /// # Errors
    /// See [`AdapterError`].
    pub fn load(&self, name: &str, folder: &Path) -> Result<(), AdapterError> {
        self.check(name)?;
        let failed = |why: String| AdapterError::Load {
            folder: folder.to_owned(),
            why,
        };
        let base = model::open(&self.source).map_err(|e| failed(e.to_string()))?;
        let adapter = tributary_trainer::import_peft(folder, &base);
        let adapter = adapter.map_err(|e| failed(e.to_string()))?;
        let mut hasher = Hasher::new(Domain::State);
        for module in &adapter.shape().modules {
            hasher.update(module.name.as_bytes()).update(&[0]);
        }
        hasher.update(&adapter.shape().rank.to_le_bytes());
        hasher.update(&adapter.shape().alpha.to_le_bytes());
        hasher.update(adapter.as_bytes());
        let adapter = LoadedAdapter::new(base.config(), &adapter, hasher.finalize());
        let adapter = adapter.map_err(|e| failed(e.to_string()))?;
        self.check(name)?;
        (self.loaded.lock()).insert(name.to_owned(), (Arc::new(adapter), now()));
        Ok(())
    }

    fn check(&self, name: &str) -> Result<(), AdapterError> {
        let wrong = |why| AdapterError::Name(super::refusal::shown(name), why);
        if name.is_empty() || name.len() > MOST_ALIAS_BYTES {
            return Err(wrong("it must have from 1 to 128 bytes"));
        }
        if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(wrong("it must hold no blanks and no control characters"));
        }
        let loaded = self.loaded.lock();
        if name == self.base || loaded.contains_key(name) {
            return Err(AdapterError::Taken(name.to_owned()));
        }
        match loaded.len() >= MOST_LOADED {
            true => Err(AdapterError::Full),
            false => Ok(()),
        }
    }

    /// Forgets an alias. Requests that began with it go on.
    ///
    /// # Errors
    /// [`AdapterError::Unknown`].
    pub fn unload(&self, name: &str) -> Result<(), AdapterError> {
        let gone = self.loaded.lock().remove(name);
        gone.map(drop)
            .ok_or_else(|| AdapterError::Unknown(super::refusal::shown(name)))
    }

    /// Every alias, in order.
    pub fn list(&self) -> Vec<Listed> {
        let loaded = self.loaded.lock();
        let listed = loaded.iter().map(|(name, (adapter, loaded))| Listed {
            name: name.clone(),
            content: adapter.content(),
            loaded: *loaded,
        });
        listed.collect()
    }
}
