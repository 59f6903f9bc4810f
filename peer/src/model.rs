//! Base models for the parts of a peer that need one: found by name, folder or hash, loaded once.
//!
//! A manifest names its base by the hash of the exact files. `brook` is in the binary; any other
//! base is a folder that the owner names once or that [`fetch`] brings from peers, and the home remembers where it is
//! (`bases.json`). That file
//! is a hint and nothing relies on it: whatever it leads to is hashed before it is used. Training and
//! scoring with a base belong to [`learner`].

pub mod card;
pub(crate) mod fetch;
pub mod learner;
mod parts;
pub mod share;
pub(crate) mod shelf;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use tributary_protocol::adapter::Adapter;
use tributary_protocol::entry::Role;
use tributary_protocol::hash::Digest;
use tributary_protocol::manifest::{Base, Manifest};
use tributary_trainer::base::is_hub_name;
use tributary_trainer::device::Request;
use tributary_trainer::{BaseModel, Windows, brook};

use crate::config::BaseFacts;
use crate::home::{HomePaths, disk};
use crate::shard::Committed;
use card::Card;

/// The name of the model inside the binary.
pub const BROOK: &str = "brook";

/// Why a base model, or something made with it, cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The name is neither `brook` nor a folder.
    #[error("there is no base model at {0}; give `brook`, or a folder in Hugging Face layout")]
    NoFolder(PathBuf),
    /// The files cannot be used.
    #[error("cannot load the base model {name}: {why}")]
    Load {
        /// Which.
        name: String,
        /// Why, and what to do.
        why: String,
    },
    /// The folder holds another model than the run names.
    #[error(
        "{folder} is not the run's base {name}: its hash is {found} and the run's is {expected}; get \
         exactly the files that the run's creator used"
    )]
    Other {
        /// The folder.
        folder: PathBuf,
        /// The run's name for its base.
        name: String,
        /// First digits.
        found: String,
        /// First digits.
        expected: String,
    },
    /// Nobody said where the base is.
    #[error(
        "the run adapts {name} (hash {hash}), which is not on this machine; name its folder with --base DIR"
    )]
    Unknown {
        /// The run's name for its base.
        name: String,
        /// First digits.
        hash: String,
    },
    /// The run trains on longer windows than its base was made for.
    #[error(
        "the run trains on windows of {asked} tokens and {base} takes {longest} at most, so that no member could train; \
         set `context` under [training] to {longest} or less"
    )]
    Context {
        /// The base.
        base: String,
        /// Tokens of a window.
        asked: u32,
        /// Tokens that the base takes.
        longest: usize,
    },
    /// There is no such folder, and no such model on the hub for this build.
    #[error("there is no folder {name}, and as a model of the hub it cannot be had: {why}")]
    Hub {
        /// What was asked for.
        name: String,
        /// Why not.
        why: String,
    },
    /// Text that gives too few windows.
    #[error("{0}")]
    TooLittle(String),
    /// The adapter cannot be written.
    #[error("cannot write the adapter to {dir}: {why}")]
    Export {
        /// The folder.
        dir: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// `bases.json` cannot be used.
    #[error(
        "could not use {path}: {why}; delete the file and name the folder again with --base DIR"
    )]
    Registry {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// Loaded bases of this process: nine peers of a demo share one.
static LOADED: Mutex<BTreeMap<Digest, BaseModel>> = Mutex::new(BTreeMap::new());

/// `brook`, or the base in a folder.
///
/// # Errors
/// See [`ModelError`].
pub fn open(name: &str) -> Result<BaseModel, ModelError> {
    if name == BROOK {
        return embedded();
    }
    let folder = Path::new(name);
    if !folder.is_dir() {
        return Err(ModelError::NoFolder(folder.to_owned()));
    }
    let base = BaseModel::from_dir(folder).map_err(|e| ModelError::Load {
        name: name.to_owned(),
        why: e.to_string(),
    })?;
    Ok(share(base))
}

/// As [`open`], on a device of the caller's choice and not shared with the rest of the process.
///
/// # Errors
/// See [`ModelError`].
pub fn open_on(name: &str, device: Request) -> Result<BaseModel, ModelError> {
    let from_hub = name != BROOK && !Path::new(name).is_dir();
    if from_hub && (!is_hub_name(name) || Path::new(name).exists()) {
        return Err(ModelError::NoFolder(PathBuf::from(name)));
    }
    BaseModel::open_on(name, device).map_err(|e| {
        let (name, why) = (name.to_owned(), e.to_string());
        match from_hub {
            true => ModelError::Hub { name, why },
            false => ModelError::Load { name, why },
        }
    })
}

fn embedded() -> Result<BaseModel, ModelError> {
    static BROOK_HASH: Mutex<Option<Digest>> = Mutex::new(None);
    let mut hash = BROOK_HASH.lock();
    if let Some(base) = hash.as_ref().and_then(loaded) {
        return Ok(base);
    }
    let [config, weights, tokenizer] = [brook::CONFIG, brook::WEIGHTS, brook::TOKENIZER];
    let loading = BaseModel::from_bytes(brook::NAME, config, weights, tokenizer);
    let base = loading.map_err(|e| ModelError::Load {
        name: BROOK.to_owned(),
        why: e.to_string(),
    })?;
    *hash = Some(base.hash());
    Ok(share(base))
}

/// Whether a base is the model inside the program.
pub fn is_embedded(base: &Base) -> bool {
    embedded().is_ok_and(|brook| brook.hash() == base.hash)
}

fn loaded(hash: &Digest) -> Option<BaseModel> {
    let loaded = LOADED.lock();
    loaded.get(hash).cloned()
}

/// The first of equal bases that was loaded, so that later ones free their memory.
fn share(base: BaseModel) -> BaseModel {
    let mut loaded = LOADED.lock();
    loaded.entry(base.hash()).or_insert(base).clone()
}

/// What a manifest says of a base.
///
/// # Errors
/// As [`open`].
pub fn facts(name: &str) -> Result<BaseFacts, ModelError> {
    let base = open(name)?;
    // Rank and scale come from the run file; only the modules are the base's.
    let modules = base.adapter_shape(1, 1).modules;
    Ok(BaseFacts {
        name: if name == BROOK { BROOK } else { base.name() }.to_owned(),
        hash: base.hash(),
        files: None,
        modules,
    })
}

/// The base of a run: from `folder` when given (and remembered in the home), else `brook`, else where
/// it was the last time.
///
/// # Errors
/// See [`ModelError`].
pub fn provide(
    home: &HomePaths,
    wanted: &Base,
    folder: Option<&Path>,
) -> Result<BaseModel, ModelError> {
    if let Some(folder) = folder {
        let base = open(&folder.to_string_lossy())?;
        check(&base, wanted, folder)?;
        remember(home, wanted, folder)?;
        return Ok(base);
    }
    by_hash(home, &wanted.hash)?.ok_or_else(|| ModelError::Unknown {
        name: wanted.name.clone(),
        hash: wanted.hash.short(),
    })
}

/// Whether a member that has the base could train in the run.
///
/// # Errors
/// [`ModelError::Context`].
pub fn fits(base: &BaseModel, manifest: &Manifest) -> Result<(), ModelError> {
    let (asked, longest) = (manifest.training.context, base.config().max_context);
    match usize::try_from(asked).is_ok_and(|asked| asked <= longest) {
        true => Ok(()),
        false => Err(ModelError::Context {
            base: manifest.model.base.name.clone(),
            asked,
            longest,
        }),
    }
}

/// A base by its hash: loaded already, `brook`, or in a remembered folder.
///
/// # Errors
/// See [`ModelError`].
pub fn by_hash(home: &HomePaths, hash: &Digest) -> Result<Option<BaseModel>, ModelError> {
    if let Some(base) = loaded(hash) {
        return Ok(Some(base));
    }
    let brook = embedded()?;
    if brook.hash() == *hash {
        return Ok(Some(brook));
    }
    let Some(folder) = remembered(home)?.remove(&hash.to_string()) else {
        return Ok(None);
    };
    let base = open(&folder.to_string_lossy())?;
    if base.hash() != *hash {
        return Err(ModelError::Other {
            name: base.name().to_owned(),
            found: base.hash().short(),
            expected: hash.short(),
            folder,
        });
    }
    Ok(Some(base))
}

/// The folder of the base with that hash, where the home remembers one. Nothing is checked.
pub(crate) fn folder_of(home: &HomePaths, hash: &str) -> Option<PathBuf> {
    remembered(home).ok()?.remove(hash)
}

fn check(base: &BaseModel, wanted: &Base, folder: &Path) -> Result<(), ModelError> {
    if base.hash() == wanted.hash {
        return Ok(());
    }
    Err(ModelError::Other {
        folder: folder.to_owned(),
        name: wanted.name.clone(),
        found: base.hash().short(),
        expected: wanted.hash.short(),
    })
}

fn registry(home: &HomePaths) -> PathBuf {
    home.bases()
}

fn remembered(home: &HomePaths) -> Result<BTreeMap<String, PathBuf>, ModelError> {
    let path = registry(home);
    let fault = |why: String| ModelError::Registry {
        path: path.clone(),
        why,
    };
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| fault(e.to_string())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(e) => Err(fault(e.to_string())),
    }
}

/// Forgets bases that were fetched into the home and are there no more.
///
/// # Errors
/// [`ModelError::Registry`].
pub(crate) fn forget_missing(home: &HomePaths) -> Result<(), ModelError> {
    let mut known = remembered(home)?;
    let (before, fetched) = (known.len(), absolute(home, &share::folder(home))?);
    known.retain(|_, folder| !folder.starts_with(&fetched) || folder.exists());
    match known.len() == before {
        true => Ok(()),
        false => write(home, &known),
    }
}

fn remember(home: &HomePaths, wanted: &Base, folder: &Path) -> Result<(), ModelError> {
    let mut known = remembered(home)?;
    known.insert(wanted.hash.to_string(), absolute(home, folder)?);
    write(home, &known)
}

fn absolute(home: &HomePaths, folder: &Path) -> Result<PathBuf, ModelError> {
    std::path::absolute(folder).map_err(|e| ModelError::Registry {
        path: registry(home),
        why: e.to_string(),
    })
}

fn write(home: &HomePaths, known: &BTreeMap<String, PathBuf>) -> Result<(), ModelError> {
    let path = registry(home);
    let text = serde_json::to_vec(known).map_err(io::Error::other);
    let written = text.and_then(|text| disk::write_whole(&path, &text));
    written.map_err(|e| ModelError::Registry {
        path,
        why: e.to_string(),
    })
}

/// Windows of passages, cut from one long text: passages end where paragraphs do, windows anywhere.
///
/// # Errors
/// [`ModelError::TooLittle`] when nothing can be predicted.
pub fn windows(base: &BaseModel, passages: &[String], context: u32) -> Result<Windows, ModelError> {
    Windows::from_text(base, &passages.concat(), context as usize)
        .map_err(|e| ModelError::TooLittle(e.to_string()))
}

/// The windows of a hold-out, as a join commits to them.
///
/// # Errors
/// As [`windows`].
pub fn holdout(
    base: &BaseModel,
    passages: &[String],
    context: u32,
) -> Result<Vec<Vec<u32>>, ModelError> {
    if passages.is_empty() {
        return Ok(Vec::new());
    }
    let windows = windows(base, passages, context)?;
    Ok(windows.iter().map(<[u32]>::to_vec).collect())
}

/// Tokens behind a committed root, after checking that there are enough for the role.
///
/// # Errors
/// [`ModelError::TooLittle`].
pub fn tokens(base: &BaseModel, committed: &Committed, role: Role) -> Result<u64, ModelError> {
    let context = committed.context();
    let mut tokens = 0;
    if role.contributes() {
        tokens = windows(base, &committed.train, context)?.tokens();
    }
    if role.evaluates() {
        let holdout = &committed.holdout;
        if holdout.len() < learner::MIN_WINDOWS {
            return Err(ModelError::TooLittle(format!(
                "the hold-out has {} windows of {context} tokens and scoring needs {}; give a longer \
                 text to score on",
                holdout.len(),
                learner::MIN_WINDOWS
            )));
        }
        if !role.contributes() {
            tokens = holdout.iter().map(|window| window.len() as u64).sum();
        }
    }
    Ok(tokens)
}

/// Writes an adapter of a run as a PEFT folder, with what is known of it. The folder appears whole or not at all.
///
/// # Errors
/// [`ModelError::Export`].
pub fn export(
    dir: &Path,
    manifest: &Manifest,
    adapter: &Adapter,
    card: Option<&Card>,
) -> Result<(), ModelError> {
    let fault = |why: String| ModelError::Export {
        dir: dir.to_owned(),
        why,
    };
    let occupied = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if occupied || dir.is_file() {
        return Err(fault(
            "it exists and is not empty; name a new folder".to_owned(),
        ));
    }
    let write = || -> Result<(), String> {
        let io = |e: std::io::Error| format!("{e}; check the path and the free space");
        let beside = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(beside).map_err(io)?;
        // Under a name that nothing has yet: whatever lies beside it is somebody's. For anybody to read, as a folder
        // that its owner makes.
        let mut folder = tempfile::Builder::new();
        folder.prefix(".tributary-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            folder.permissions(std::fs::Permissions::from_mode(0o777));
        }
        let partial = folder.tempdir_in(beside).map_err(io)?;
        tributary_trainer::export_peft(partial.path(), &manifest.model.base.name, adapter)
            .map_err(|e| e.to_string())?;
        if let Some(card) = card {
            card.write(partial.path()).map_err(io)?;
        }
        if dir.is_dir() {
            // Only an empty one goes.
            std::fs::remove_dir(dir).map_err(io)?;
        }
        disk::rename(partial.path(), dir).map_err(io)?;
        let _ = partial.keep();
        Ok(())
    };
    write().map_err(fault)
}

#[cfg(test)]
mod tests;
