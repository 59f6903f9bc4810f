//! The adapters that are served: names, where each is loaded from, and what of them is in memory.
//!
//! What is decided is the [`Registry`]'s; this file carries it out: it reads folders and fetches what is not here, off the
//! threads that answer, and tells everybody that waits. A load belongs to nobody: it goes on when the request that began
//! it is given up.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Semaphore, oneshot};
use tributary_engine::LoadedAdapter;
use tributary_engine::config::Config;
use tributary_engine::registry::{Counts, Finished, Lookup, Registry, RegistryLimits, Ticket};
use tributary_engine::request::Micros;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::RunId;
use utoipa::ToSchema;

use super::head::now;

mod bring;
#[cfg(test)]
mod tests;

pub use bring::{Fetch, Source};
pub use tributary_engine::registry::{AdapterError, LoadFailure};

/// Folders that are read at the same time; each keeps a processor busy that answers need as well.
const READS_AT_ONCE: usize = 2;
/// Adapters that are fetched at the same time; further ones wait.
const FETCHES_AT_ONCE: usize = 4;
/// How long the failure to fetch an id that nobody had named answers further requests for it.
const FORGET_MISS: Duration = Duration::from_secs(10);
/// Failures that are remembered so.
const MAX_MISSES: usize = 256;
/// Ids of certified adapters that are remembered: more than there may be names.
const MAX_CERTIFIED: usize = 16_384;

/// The base that adapters adapt.
#[derive(Clone, Debug)]
pub struct ServedBase {
    /// Its name among the models.
    pub name: String,
    /// Hash of its files.
    pub hash: Digest,
    /// Its shape.
    pub config: Config,
}

/// The run that an adapter comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The run.
    pub run: RunId,
    /// The adapter's id, as the run certified it.
    pub adapter: Digest,
}

/// How adapters are kept.
#[derive(Clone, Debug)]
pub struct AdapterOptions {
    /// How many names, and how much memory.
    pub limits: RegistryLimits,
    /// Folder that fetched adapters are written to.
    pub cache: PathBuf,
    /// Whether a model that nobody named is fetched when it is an adapter's full id.
    pub fetch_unnamed: bool,
    /// How long to try to fetch, in seconds.
    pub fetch_timeout_s: u64,
}

/// A model that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ServedModel {
    /// Its name.
    pub id: String,
    /// The base that it adapts; null for the base itself.
    pub parent: Option<String>,
    /// Identity of what it computes: an adapter's shape and numbers, a base's files. Null before the first load.
    pub content: Option<String>,
    /// Where it is loaded from; null for the base.
    pub source: Option<String>,
    /// Bytes in memory; null when a request has to wait for it. Of the base, which always is there, null as well.
    pub bytes_in_memory: Option<u64>,
    /// Whether it stays in memory.
    pub pinned: bool,
    /// Seconds since 1970 when it came to be what it is; of one that was not loaded yet, when the server began.
    pub created: u64,
    /// Whether it is being loaded.
    pub loading: bool,
    /// Why it could not be loaded.
    pub failure: Option<String>,
}

type Outcome = Result<Arc<LoadedAdapter>, AdapterError>;
type Waiter = oneshot::Sender<Outcome>;

struct Inner {
    base: ServedBase,
    options: AdapterOptions,
    fetch: Fetch,
    registry: Mutex<Registry<Source, Waiter>>,
    /// Ids that nobody had named and that could not be fetched, with the reason.
    misses: Mutex<VecDeque<(String, Instant, AdapterError)>>,
    /// Adapters whose folder says that a run certified them, by content.
    certified: Mutex<BTreeMap<Digest, Origin>>,
    reads: Semaphore,
    fetches: Semaphore,
    began: Instant,
    /// The same in seconds since 1970.
    began_s: u64,
}

/// The adapters of one base. Cloning shares them.
#[derive(Clone)]
pub struct Adapters(Arc<Inner>);

impl Adapters {
    /// None yet, beside `base`.
    pub fn new(base: ServedBase, options: AdapterOptions, fetch: Fetch) -> Self {
        Self(Arc::new(Inner {
            registry: Mutex::new(Registry::new(options.limits)),
            misses: Mutex::default(),
            certified: Mutex::default(),
            reads: Semaphore::new(READS_AT_ONCE),
            fetches: Semaphore::new(FETCHES_AT_ONCE),
            began: Instant::now(),
            began_s: now(),
            base,
            options,
            fetch,
        }))
    }

    /// What a request for `model` is answered with: nothing beside the base for the base's own name, else the adapter,
    /// which is loaded first where it is not in memory.
    ///
    /// # Errors
    /// When no model has the name, or it cannot be loaded.
    pub async fn get(&self, model: &str) -> Result<Option<Arc<LoadedAdapter>>, AdapterError> {
        if model == self.0.base.name {
            return Ok(None);
        }
        let (tell, told) = oneshot::channel();
        let looked = {
            let mut registry = self.0.registry.lock();
            match registry.knows(model) {
                true => registry.get(model, self.0.now(), || tell),
                false => self.0.miss(&mut registry, model, tell),
            }
        };
        match looked? {
            Lookup::Ready(adapter) => return Ok(Some(adapter)),
            Lookup::Load(ticket, source) => self.begin(ticket, source, model),
            Lookup::Wait => {}
        }
        self.0.told(told, model).await.map(Some)
    }

    /// Loads an adapter under a name: a PEFT folder, or the id of an adapter or run. A name that is taken stands for the
    /// new one from when it is there; until then, and where that fails, for the old one.
    ///
    /// # Errors
    /// When the name cannot be one, or the adapter cannot be loaded.
    pub async fn load(
        &self,
        name: &str,
        path_or_id: &str,
        pin: bool,
    ) -> Result<ServedModel, AdapterError> {
        self.0.free(name)?;
        let source = Source::of(path_or_id);
        let (tell, told) = oneshot::channel();
        let ticket = (self.0.registry.lock()).load(name, source.clone(), pin, tell)?;
        self.begin(ticket, source, name);
        let adapter = self.0.told(told, name).await?;
        let found = self.list().into_iter().find(|model| model.id == name);
        // Where it was unloaded or loaded anew meanwhile, this was still done.
        Ok(found.unwrap_or_else(|| ServedModel {
            content: Some(adapter.content().to_string()),
            ..self.0.model(name)
        }))
    }

    /// Names an adapter that the first request for it loads.
    ///
    /// # Errors
    /// When the name is taken or cannot be one.
    pub fn register(&self, name: &str, path_or_id: &str) -> Result<(), AdapterError> {
        self.0.free(name)?;
        (self.0.registry.lock()).register(name, Source::of(path_or_id))
    }

    /// Whether a model has the name.
    pub fn knows(&self, name: &str) -> bool {
        name == self.0.base.name || self.0.registry.lock().knows(name)
    }

    /// Forgets a name. Requests that run keep their adapter.
    ///
    /// # Errors
    /// When no adapter has the name.
    pub fn unload(&self, name: &str) -> Result<(), AdapterError> {
        let finished = self.0.registry.lock().unload(name)?;
        tell(finished);
        Ok(())
    }

    /// The id of the adapter of that content, where its folder says that a run certified it and somebody can be asked
    /// whether that is so.
    pub fn certified(&self, content: Digest) -> Option<String> {
        match self.0.fetch {
            Fetch::Nobody => None,
            Fetch::Home(_) | Fetch::Daemon(_) => {
                self.origin(content).map(|of| of.adapter.to_string())
            }
        }
    }

    /// Which run's adapter has that content, as its folder says, where it says so.
    pub fn origin(&self, content: Digest) -> Option<Origin> {
        self.0.certified.lock().get(&content).copied()
    }

    /// Who fetches what is not here.
    pub fn fetch(&self) -> &Fetch {
        &self.0.fetch
    }

    /// Every model by name, the base first.
    pub fn list(&self) -> Vec<ServedModel> {
        let base = ServedModel {
            parent: None,
            content: Some(self.0.base.hash.to_string()),
            pinned: true,
            ..self.0.model(&self.0.base.name)
        };
        let registry = self.0.registry.lock();
        let adapters = registry.list().map(|entry| ServedModel {
            content: entry.content.map(|content| content.to_string()),
            source: Some(entry.source.to_string()),
            bytes_in_memory: entry.bytes.map(|bytes| bytes as u64),
            pinned: entry.pinned,
            created: self.0.began_s + entry.loaded.map_or(0, |at| at.0 / 1_000_000),
            loading: entry.loading,
            failure: entry.failure.map(ToString::to_string),
            ..self.0.model(entry.name)
        });
        std::iter::once(base).chain(adapters).collect()
    }

    /// Bytes of adapters in memory, and what happened so far.
    pub fn usage(&self) -> (usize, Counts) {
        let registry = self.0.registry.lock();
        (registry.bytes(), registry.counts())
    }

    /// Loads on a task of its own and tells those that wait.
    fn begin(&self, ticket: Ticket, source: Source, name: &str) {
        let (inner, name) = (self.0.clone(), name.to_owned());
        tokio::spawn(async move {
            let bringing = tokio::spawn(bring::bring(inner.clone(), source.clone()));
            // A panic has to reach those that wait as well.
            let outcome = bringing.await.unwrap_or_else(|e| Err(bring::broken(&e)));
            let is_id = matches!(source, Source::Id(_));
            match &outcome {
                Ok((adapter, _)) => tracing::info!(
                    adapter = name,
                    content = adapter.content().short(),
                    bytes = adapter.bytes(),
                    "adapter loaded"
                ),
                Err(failure) => {
                    // Those that asked are told.
                    tracing::debug!(adapter = name, code = failure.code, "{}", failure.text)
                }
            }
            let now = inner.now();
            let finished = inner.registry.lock().finish(ticket, outcome, now);
            if let Some(finished) = finished {
                if let (Err(error), true) = (&finished.outcome, is_id) {
                    inner.note_miss(&name, error);
                }
                tell(finished);
            }
        });
    }
}

fn tell(finished: Finished<Waiter>) {
    for waiter in finished.waiters {
        // One that has gone needs no answer.
        let _ = waiter.send(finished.outcome.clone());
    }
}

impl Inner {
    fn now(&self) -> Micros {
        Micros(self.began.elapsed().as_micros() as u64)
    }

    /// A model of which nothing else is known.
    fn model(&self, name: &str) -> ServedModel {
        ServedModel {
            id: name.to_owned(),
            parent: Some(self.base.name.clone()),
            content: None,
            source: None,
            bytes_in_memory: None,
            pinned: false,
            created: self.began_s,
            loading: false,
            failure: None,
        }
    }

    fn free(&self, name: &str) -> Result<(), AdapterError> {
        match name == self.base.name {
            true => Err(AdapterError::NameTaken { name: name.into() }),
            false => Ok(()),
        }
    }

    /// What becomes of a request for a model that nobody named.
    fn miss(
        &self,
        registry: &mut Registry<Source, Waiter>,
        model: &str,
        tell: Waiter,
    ) -> Result<Lookup<Source>, AdapterError> {
        if !(self.options.fetch_unnamed && bring::is_full_id(model)) {
            // The registry words it.
            return registry.get(model, self.now(), || tell);
        }
        let mut misses = self.misses.lock();
        misses.retain(|(_, at, _)| at.elapsed() < FORGET_MISS);
        if let Some((_, _, error)) = misses.iter().find(|(id, ..)| id == model) {
            return Err(error.clone());
        }
        let source = Source::Id(model.to_owned());
        let ticket = registry.load(model, source.clone(), false, tell)?;
        Ok(Lookup::Load(ticket, source))
    }

    fn note_certified(&self, content: Digest, of: Origin) {
        let mut certified = self.certified.lock();
        if certified.len() >= MAX_CERTIFIED {
            certified.pop_first();
        }
        certified.insert(content, of);
    }

    fn note_miss(&self, name: &str, error: &AdapterError) {
        let mut misses = self.misses.lock();
        if misses.len() >= MAX_MISSES {
            misses.pop_front();
        }
        misses.push_back((name.to_owned(), Instant::now(), error.clone()));
    }

    async fn told(&self, told: oneshot::Receiver<Outcome>, name: &str) -> Outcome {
        // Every waiter is told; only a server that ends drops them.
        told.await.unwrap_or_else(|_| {
            let (name, failure) = (name.to_owned(), bring::closing());
            Err(AdapterError::Load { name, failure })
        })
    }
}
