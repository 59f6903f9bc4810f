//! Bringing an adapter from where it is into memory.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tributary_engine::LoadedAdapter;
use tributary_ledger::view::AdapterView;
use tributary_protocol::hash;
use tributary_trainer::peft::{ImportError, import_for};

use super::{Inner, LoadFailure, Origin, ServedBase};
use crate::api::handler::DaemonHandler;
use crate::api::local::Local;
use crate::api::types::{ExportRequest, FetchRequest};
use crate::api::{ApiHandler, Reader};
use crate::home::disk;
use crate::model::card::Card;
use crate::problem::{Code, Problem};

/// Digits of an id.
const ID_DIGITS: usize = 64;
/// Fewest digits that are taken for the beginning of an id, and not for the name of a folder.
const MIN_DIGITS: usize = 8;

/// Where an adapter is loaded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A PEFT folder of this machine.
    Folder(PathBuf),
    /// An adapter or a run, by its id or the first digits of it.
    Id(String),
}

impl Source {
    /// The folder of that path, or else what has that id.
    pub fn of(path_or_id: &str) -> Self {
        let digits = path_or_id.len() >= MIN_DIGITS && path_or_id.len() <= ID_DIGITS;
        let is_id = digits && path_or_id.bytes().all(|b| b.is_ascii_hexdigit());
        match is_id && !Path::new(path_or_id).exists() {
            true => Self::Id(path_or_id.to_ascii_lowercase()),
            false => Self::Folder(PathBuf::from(path_or_id)),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Id(id) => f.write_str(id),
        }
    }
}

/// Who fetches what is not on this machine.
#[derive(Clone)]
pub enum Fetch {
    /// Nobody.
    Nobody,
    /// The daemon of a home, where one runs; else only what the home holds.
    Home(PathBuf),
    /// The daemon of this process.
    Daemon(Arc<DaemonHandler>),
}

/// Whether a model's name is the whole id of an adapter.
pub(super) fn is_full_id(model: &str) -> bool {
    model.len() == ID_DIGITS
        && model
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn failure(code: &'static str, text: impl Into<String>) -> LoadFailure {
    let text = text.into();
    LoadFailure { code, text }
}

/// The load itself came to an end that it does not know.
pub(super) fn broken(error: &tokio::task::JoinError) -> LoadFailure {
    let text = format!("loading stopped by a defect of this program ({error}); please report it");
    failure("adapter_unreadable", text)
}

/// Nobody loads any more.
pub(super) fn closing() -> LoadFailure {
    failure("server_closing", "the server is closing; ask another one")
}

/// The adapter in memory, and the folder that has it from now on.
pub(super) async fn bring(
    inner: Arc<Inner>,
    source: Source,
) -> Result<(Arc<LoadedAdapter>, Source), LoadFailure> {
    let folder = match source {
        Source::Folder(folder) => folder,
        Source::Id(id) => fetched(&inner, &id).await?,
    };
    let turn = inner.reads.acquire().await;
    let _turn = turn.map_err(|_| closing())?;
    let (base, from) = (inner.base.clone(), folder.clone());
    let reading = spawn_blocking(move || read(&from, &base));
    let (adapter, origin) = reading.await.map_err(|e| broken(&e))??;
    if let Some(origin) = origin {
        inner.note_certified(adapter.content(), origin);
    }
    Ok((Arc::new(adapter), Source::Folder(folder)))
}

/// The folder of a fetched adapter, which is named by the adapter's id and written once.
async fn fetched(inner: &Inner, id: &str) -> Result<PathBuf, LoadFailure> {
    let cache = &inner.options.cache;
    let known = cache.join(id);
    if is_full_id(id) && Card::read(&known).is_some_and(|card| card.adapter == id) {
        return Ok(known);
    }
    if matches!(inner.fetch, Fetch::Nobody) {
        return Err(refused(&nobody(id)));
    }
    let turn = inner.fetches.acquire().await;
    let _turn = turn.map_err(|_| closing())?;
    let unwritable = |e: std::io::Error| {
        let text = format!(
            "cannot write to {}: {e}; check the path and the free space",
            cache.display()
        );
        failure("adapter_unreadable", text)
    };
    disk::make_folder(cache).map_err(unwritable)?;
    let making = tempfile::Builder::new().prefix(".fetch-").tempdir_in(cache);
    let making = making.map_err(unwritable)?;
    let fresh = making.path().join("adapter");
    let view = ask(inner, id, &fresh).await.map_err(|e| refused(&e))?;
    let folder = cache.join(&view.id);
    if !folder.exists() {
        disk::rename(&fresh, &folder).map_err(unwritable)?;
    }
    Ok(folder)
}

fn nobody(id: &str) -> Problem {
    let text = format!("no folder is named {id}, and this server fetches nothing");
    let hint = "give a folder, or start the server on a home whose daemon runs";
    Problem::new(Code::UnknownId, text).hint(hint)
}

async fn ask(inner: &Inner, id: &str, dir: &Path) -> Result<AdapterView, Problem> {
    let fetch = FetchRequest {
        id: id.to_owned(),
        dir: dir.to_owned(),
        bootstrap: Vec::new(),
        timeout_s: inner.options.fetch_timeout_s,
    };
    match &inner.fetch {
        Fetch::Nobody => Err(nobody(id)),
        Fetch::Daemon(handler) => handler.fetch(fetch).await,
        Fetch::Home(home) => match Local::of(home).await? {
            Local::Running(client) => client.fetch(&fetch).await,
            Local::Stopped(stopped) => {
                let (id, dir) = (fetch.id, fetch.dir);
                let exporting = spawn_blocking(move || {
                    Handle::current().block_on(stopped.export(ExportRequest { id, dir }))
                });
                let exported = exporting.await;
                exported.map_err(|e| Problem::new(Code::Environment, e.to_string()))?
            }
        },
    }
}

/// Why nothing was fetched.
fn refused(problem: &Problem) -> LoadFailure {
    let code = match problem.code {
        Code::UnknownId | Code::NoAdapter | Code::NotFollowed => "adapter_not_found",
        Code::AmbiguousId => "adapter_ambiguous",
        Code::BeyondBounds => "adapter_beyond_bounds",
        Code::Unreachable | Code::NotRunning | Code::Stopped => "adapter_unreachable",
        _ => "adapter_unreadable",
    };
    failure(code, problem.to_string())
}

/// Reads a folder, which takes a moment: the adapter, and where it comes from if the folder says that a run certified it.
pub(super) fn read(
    folder: &Path,
    base: &ServedBase,
) -> Result<(LoadedAdapter, Option<Origin>), LoadFailure> {
    if !folder.is_dir() {
        let text = format!(
            "there is no folder {}; give a PEFT folder, or the id of an adapter",
            folder.display()
        );
        return Err(failure("adapter_not_found", text));
    }
    let card = Card::read(folder);
    if let Some(card) = &card
        && card.base_hash != base.hash.to_string()
    {
        let text = format!(
            "{} adapts {} (hash {}), and {} (hash {}) is served; serve its own base",
            folder.display(),
            card.base,
            card.base_hash.get(..10).unwrap_or(&card.base_hash),
            base.name,
            base.hash.short()
        );
        return Err(failure("adapter_of_another_base", text));
    }
    let imported = import_for(folder, &base.name, &base.config);
    let adapter = imported.map_err(|e| failure(code_of(&e), e.to_string()))?;
    let (loaded, id) = std::thread::scope(|scope| {
        // Both pass over all numbers.
        let id = (card.as_ref()).map(|_| scope.spawn(|| hash::blob(adapter.as_bytes())));
        let loaded = LoadedAdapter::hashed(&base.config, &adapter);
        (loaded, id.map(|id| id.join().expect("hashing ends")))
    });
    if let (Some(card), Some(id)) = (&card, id)
        && card.adapter != id.to_string()
    {
        let text = format!(
            "{} says that it holds the adapter {} and its numbers are another's ({}); fetch it again, or delete \
             tributary.json if you changed it on purpose",
            folder.display(),
            card.adapter.get(..10).unwrap_or(&card.adapter),
            id.short()
        );
        return Err(failure("adapter_damaged", text));
    }
    let loaded = loaded.map_err(|e| failure("adapter_of_another_base", e.to_string()))?;
    let run = card.and_then(|card| card.run.parse().ok());
    let origin = (run.zip(id)).map(|(run, adapter)| Origin { run, adapter });
    Ok((loaded, origin))
}

fn code_of(error: &ImportError) -> &'static str {
    match error {
        ImportError::NoTarget { .. }
        | ImportError::Unmatched { .. }
        | ImportError::Shape { .. }
        | ImportError::Lora(_) => "adapter_of_another_base",
        ImportError::TooLarge { .. } => "adapter_too_large",
        ImportError::Unsupported { .. }
        | ImportError::Pattern { .. }
        | ImportError::Pickle { .. } => "adapter_unsupported",
        ImportError::NoEffect | ImportError::NoChange => "adapter_without_effect",
        _ => "adapter_unreadable",
    }
}
