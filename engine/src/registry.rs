//! Which adapters are served under which names, and which of them are in memory.
//!
//! A name stands for a content hash, and content never changes: a reload points the name to other content, and requests
//! that began with the old one keep it through their [`Arc`]. Adapters that were not used for longest leave memory when
//! others need the room, and come back from where they were when somebody asks; under one name they come back with the
//! same content or not at all. Several requests for one adapter wait for one load.
//!
//! ```text
//!  name ──▶ source (folder, id)                     [`Registry::get`]   Ready | Load: fetch it | Wait
//!    └────▶ content hash ──▶ adapter in memory      [`Registry::finish`]  what a load came to, and who waited for it
//! ```
//!
//! A pure machine: it reads no file and no clock. Its caller loads what [`Lookup::Load`] names and reports back.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use tributary_protocol::hash::Digest;

use crate::adapter::LoadedAdapter;
use crate::request::Micros;

mod error;
#[cfg(test)]
mod tests;

pub use error::{AdapterError, LoadFailure};

/// Longest name, in bytes: two parts of a hub name with 96 each, and a version.
pub const MAX_NAME_BYTES: usize = 256;
/// Most requests that wait for one load; the queue of the engine is shorter.
pub const MAX_WAITING: usize = 1024;
/// How long a failed load is not tried again, at first: a flood of requests for a broken adapter costs one load in it.
const FIRST_BACK_OFF: Micros = Micros(250_000);
/// Doublings of [`FIRST_BACK_OFF`]: a broken adapter is looked at every 8 seconds at least, as its owner mends it.
const MAX_DOUBLINGS: u32 = 5;

/// What a registry may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistryLimits {
    /// Most names.
    pub most_names: usize,
    /// Bytes of adapters in memory. Requests that run keep theirs beyond that, one each at most.
    pub most_bytes: usize,
}

impl Default for RegistryLimits {
    /// Ten thousand names take some megabytes; a gibibyte holds a hundred adapters of rank 16 of a model with 135
    /// million parameters in bf16.
    fn default() -> Self {
        Self {
            most_names: 10_000,
            most_bytes: 1 << 30,
        }
    }
}

/// A load in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What a request for a name comes to.
#[derive(Debug)]
pub enum Lookup<S> {
    /// In memory.
    Ready(Arc<LoadedAdapter>),
    /// To be loaded from there by the caller, who reports with [`Registry::finish`]. The waiter is told then.
    Load(Ticket, S),
    /// Somebody loads it already. The waiter is told then.
    Wait,
}

/// A load is over: what it came to, for each of those that waited.
#[derive(Debug)]
#[must_use = "those that waited must be told"]
pub struct Finished<W> {
    /// Those that waited.
    pub waiters: Vec<W>,
    /// What they wait for.
    pub outcome: Result<Arc<LoadedAdapter>, AdapterError>,
}

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a, S> {
    /// The name.
    pub name: &'a str,
    /// Where it is loaded from.
    pub source: &'a S,
    /// What it stands for; None before the first load.
    pub content: Option<Digest>,
    /// Bytes in memory; None when it would have to be loaded.
    pub bytes: Option<usize>,
    /// Whether it stays in memory.
    pub pinned: bool,
    /// When it came to stand for that; None before the first load.
    pub loaded: Option<Micros>,
    /// Whether a load is in progress.
    pub loading: bool,
    /// Why the last load failed, until one succeeds.
    pub failure: Option<&'a AdapterError>,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that found their adapter in memory.
    pub hits: u64,
    /// Requests that had to wait.
    pub misses: u64,
    /// Loads that succeeded.
    pub loads: u64,
    /// Loads that failed.
    pub failures: u64,
    /// Adapters that left memory for others.
    pub evictions: u64,
}

/// A load, and who waits for it.
struct Loading<W> {
    ticket: Ticket,
    pin: bool,
    /// Whether the name takes whatever content comes.
    replaces: bool,
    /// Whether the name came with this load, and goes with its failure.
    is_new: bool,
    waiters: Vec<W>,
}

struct Failure {
    error: AdapterError,
    times: u32,
    until: Micros,
}

struct Alias<S, W> {
    source: S,
    content: Option<Digest>,
    loaded: Option<Micros>,
    pinned: bool,
    loading: Option<Loading<W>>,
    failure: Option<Failure>,
}

struct Resident {
    adapter: Arc<LoadedAdapter>,
    bytes: usize,
    used: u64,
}

/// Names, and adapters in memory. `S` is where an adapter is loaded from, `W` what tells somebody that waits.
pub struct Registry<S, W> {
    limits: RegistryLimits,
    names: BTreeMap<String, Alias<S, W>>,
    resident: BTreeMap<Digest, Resident>,
    /// Evicted, and perhaps still held by requests: found here, an adapter is neither loaded nor kept twice.
    evicted: BTreeMap<Digest, Weak<LoadedAdapter>>,
    bytes: usize,
    uses: u64,
    tickets: u64,
    counts: Counts,
}

impl<S: Clone, W> Registry<S, W> {
    /// Without names.
    pub fn new(limits: RegistryLimits) -> Self {
        Self {
            limits,
            names: BTreeMap::new(),
            resident: BTreeMap::new(),
            evicted: BTreeMap::new(),
            bytes: 0,
            uses: 0,
            tickets: 0,
            counts: Counts::default(),
        }
    }

    /// Gives `source` a name without loading it: the first request does.
    ///
    /// # Errors
    /// When the name is taken or cannot be one, or there are too many.
    pub fn register(&mut self, name: &str, source: S) -> Result<(), AdapterError> {
        if self.names.contains_key(name) {
            return Err(AdapterError::NameTaken { name: name.into() });
        }
        self.alias(name, source).map(|_| ())
    }

    /// The adapter of a name, or what to do to get it. `wait` makes what is told when it is there, unless it is.
    ///
    /// # Errors
    /// When the name is unknown, too many wait, or the last load failed a moment ago.
    pub fn get(
        &mut self,
        name: &str,
        now: Micros,
        wait: impl FnOnce() -> W,
    ) -> Result<Lookup<S>, AdapterError> {
        let alias = (self.names.get(name)).ok_or_else(|| AdapterError::unknown(name))?;
        if let Some(content) = alias.content
            && let Some(adapter) = self.at_hand(content)
        {
            self.counts.hits += 1;
            return Ok(Lookup::Ready(adapter));
        }
        let ticket = Ticket(self.tickets);
        let alias = self.names.get_mut(name).expect("it was found above");
        if let Some(loading) = &mut alias.loading {
            if loading.waiters.len() >= MAX_WAITING {
                return Err(AdapterError::Busy { name: name.into() });
            }
            loading.waiters.push(wait());
            self.counts.misses += 1;
            return Ok(Lookup::Wait);
        }
        if let Some(failure) = alias.failure.as_ref().filter(|f| now < f.until) {
            return Err(failure.error.clone());
        }
        let source = alias.source.clone();
        alias.loading = Some(Loading {
            ticket,
            pin: alias.pinned,
            replaces: alias.content.is_none(),
            is_new: false,
            waiters: vec![wait()],
        });
        self.tickets += 1;
        self.counts.misses += 1;
        Ok(Lookup::Load(ticket, source))
    }

    /// Begins to load `source` under a name, new or not; the name keeps what it stands for until the load has
    /// succeeded. An earlier load of the name that is not over is given up, and whoever waits for it waits for this one.
    ///
    /// # Errors
    /// When the name cannot be one, there are too many, or too many wait for it.
    pub fn load(
        &mut self,
        name: &str,
        source: S,
        pin: bool,
        waiter: W,
    ) -> Result<Ticket, AdapterError> {
        let ticket = Ticket(self.tickets);
        let earlier = self.names.get(name).and_then(|a| a.loading.as_ref());
        if earlier.is_some_and(|l| l.waiters.len() >= MAX_WAITING) {
            return Err(AdapterError::Busy { name: name.into() });
        }
        let is_known = self.names.contains_key(name);
        let alias = match is_known {
            true => self.names.get_mut(name).expect("it is there"),
            false => self.alias(name, source)?,
        };
        let earlier = alias.loading.take();
        let is_new = !is_known || earlier.as_ref().is_some_and(|l| l.is_new);
        let mut waiters = earlier.map_or_else(Vec::new, |l| l.waiters);
        waiters.push(waiter);
        alias.loading = Some(Loading {
            ticket,
            pin,
            replaces: true,
            is_new,
            waiters,
        });
        self.tickets += 1;
        Ok(ticket)
    }

    /// Forgets a name. Requests that run keep their adapter; those that wait for it are told that it is gone.
    ///
    /// # Errors
    /// When the name is unknown.
    pub fn unload(&mut self, name: &str) -> Result<Finished<W>, AdapterError> {
        let alias = (self.names.remove(name)).ok_or_else(|| AdapterError::unknown(name))?;
        if let Some(content) = alias.content {
            self.drop_unnamed(content);
        }
        self.check();
        Ok(Finished {
            waiters: alias.loading.map_or_else(Vec::new, |l| l.waiters),
            outcome: Err(AdapterError::unknown(name)),
        })
    }

    /// Takes what a load came to: the adapter, and where to load it from another time. None when nobody waits any more
    /// because the name was unloaded, or another load of it has begun.
    pub fn finish(
        &mut self,
        ticket: Ticket,
        outcome: Result<(Arc<LoadedAdapter>, S), LoadFailure>,
        now: Micros,
    ) -> Option<Finished<W>> {
        let is_it =
            |alias: &Alias<S, W>| alias.loading.as_ref().is_some_and(|l| l.ticket == ticket);
        let name =
            (self.names.iter()).find_map(|(name, alias)| is_it(alias).then(|| name.clone()))?;
        let alias = self.names.get_mut(&name).expect("it was found above");
        let loading = alias.loading.take().expect("it was found by it");
        let taken = match outcome {
            Ok((adapter, source)) => self.take(&name, &loading, (adapter, source), now),
            Err(failure) => Err(AdapterError::Load {
                name: name.clone(),
                failure,
            }),
        };
        match &taken {
            Ok(_) => self.counts.loads += 1,
            Err(error) => self.note(&name, &loading, error, now),
        }
        self.check();
        Some(Finished {
            waiters: loading.waiters,
            outcome: taken,
        })
    }

    /// What is known of each name, by name.
    pub fn list(&self) -> impl Iterator<Item = Entry<'_, S>> {
        self.names.iter().map(|(name, alias)| {
            let resident = alias.content.and_then(|c| self.resident.get(&c));
            Entry {
                name,
                source: &alias.source,
                content: alias.content,
                bytes: resident.map(|r| r.bytes),
                pinned: alias.pinned,
                loaded: alias.loaded,
                loading: alias.loading.is_some(),
                failure: alias.failure.as_ref().map(|f| &f.error),
            }
        })
    }

    /// Whether there is such a name.
    pub fn knows(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Bytes of adapters in memory, without those that only running requests hold.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn alias(&mut self, name: &str, source: S) -> Result<&mut Alias<S, W>, AdapterError> {
        error::check_name(name)?;
        let most = self.limits.most_names;
        if self.names.len() >= most {
            return Err(AdapterError::TooManyNames { most });
        }
        let alias = Alias {
            source,
            content: None,
            loaded: None,
            pinned: false,
            loading: None,
            failure: None,
        };
        Ok(self.names.entry(name.to_owned()).or_insert(alias))
    }

    /// An adapter that needs no loading: in memory, or evicted and still held by some request.
    fn at_hand(&mut self, content: Digest) -> Option<Arc<LoadedAdapter>> {
        self.uses += 1;
        if let Some(resident) = self.resident.get_mut(&content) {
            resident.used = self.uses;
            return Some(resident.adapter.clone());
        }
        let adapter = self.evicted.get(&content)?.upgrade()?;
        // Where the others are pinned it serves this request and stays out.
        let _ = self.admit(&adapter, None);
        Some(adapter)
    }

    /// Points a name to what was loaded for it.
    fn take(
        &mut self,
        name: &str,
        loading: &Loading<W>,
        (adapter, source): (Arc<LoadedAdapter>, S),
        now: Micros,
    ) -> Result<Arc<LoadedAdapter>, AdapterError> {
        let (content, was) = (adapter.content(), self.names[name].content);
        if let Some(was) = was.filter(|was| *was != content && !loading.replaces) {
            let (name, is) = (name.into(), content);
            return Err(AdapterError::Changed { name, was, is });
        }
        // One copy of equal content, whichever name brought it.
        let adapter = match self.at_hand(content) {
            Some(here) => here,
            None => adapter,
        };
        self.admit(&adapter, loading.pin.then_some(name))?;
        let alias = self.names.get_mut(name).expect("it is being loaded");
        if was != Some(content) {
            alias.loaded = Some(now);
        }
        (alias.content, alias.source) = (Some(content), source);
        (alias.pinned, alias.failure) = (loading.pin, None);
        if let Some(was) = was.filter(|was| *was != content) {
            self.drop_unnamed(was);
        }
        Ok(adapter)
    }

    /// Keeps an adapter in memory, and evicts what it takes. Without room beside pinned ones, an adapter is left to its
    /// request, or refused where it is to be pinned under the name `pin`, whose earlier content does not count.
    fn admit(
        &mut self,
        adapter: &Arc<LoadedAdapter>,
        pin: Option<&str>,
    ) -> Result<(), AdapterError> {
        let (content, bytes, most) = (adapter.content(), adapter.bytes(), self.limits.most_bytes);
        if bytes > most {
            return Err(AdapterError::TooLarge { bytes, most });
        }
        if self.resident.contains_key(&content) {
            return Ok(());
        }
        let pinned: Vec<Digest> = (self.names.iter())
            .filter(|(name, alias)| alias.pinned && Some(name.as_str()) != pin)
            .filter_map(|(_, alias)| alias.content)
            .collect();
        let mut idle: Vec<(u64, Digest)> = (self.resident.iter())
            .filter(|(content, _)| !pinned.contains(content))
            .map(|(content, resident)| (resident.used, *content))
            .collect();
        let free: usize = idle.iter().map(|(_, c)| self.resident[c].bytes).sum();
        let held = self.bytes - free;
        if held + bytes > most {
            return match pin {
                Some(_) => Err(AdapterError::Pinned { held, bytes, most }),
                None => {
                    self.evicted.insert(content, Arc::downgrade(adapter));
                    Ok(())
                }
            };
        }
        idle.sort_unstable();
        for (_, oldest) in idle {
            if self.bytes + bytes <= most {
                break;
            }
            self.evict(oldest);
        }
        self.uses += 1;
        self.bytes += bytes;
        self.evicted.remove(&content);
        self.resident.insert(
            content,
            Resident {
                adapter: adapter.clone(),
                bytes,
                used: self.uses,
            },
        );
        Ok(())
    }

    fn evict(&mut self, content: Digest) {
        let resident = self
            .resident
            .remove(&content)
            .expect("only residents are evicted");
        self.bytes -= resident.bytes;
        self.counts.evictions += 1;
        self.evicted.retain(|_, adapter| adapter.strong_count() > 0);
        (self.evicted).insert(content, Arc::downgrade(&resident.adapter));
    }

    /// Frees content that no name stands for any more.
    fn drop_unnamed(&mut self, content: Digest) {
        if self
            .names
            .values()
            .any(|alias| alias.content == Some(content))
        {
            return;
        }
        if let Some(resident) = self.resident.remove(&content) {
            self.bytes -= resident.bytes;
        }
    }

    /// Remembers a failure, so that not each of many requests tries again at once. What a name stood for before stays
    /// as good as it was.
    fn note(&mut self, name: &str, loading: &Loading<W>, error: &AdapterError, now: Micros) {
        self.counts.failures += 1;
        if loading.is_new {
            self.names.remove(name);
            return;
        }
        let alias = self.names.get_mut(name).expect("it is being loaded");
        if loading.replaces && alias.content.is_some() {
            return;
        }
        let times = alias.failure.as_ref().map_or(0, |f| f.times);
        let wait = FIRST_BACK_OFF.0 << times.min(MAX_DOUBLINGS);
        alias.failure = Some(Failure {
            error: error.clone(),
            times: times + 1,
            until: Micros(now.0.saturating_add(wait)),
        });
    }

    /// What always holds.
    fn check(&self) {
        let sum: usize = self.resident.values().map(|r| r.bytes).sum();
        assert_eq!(sum, self.bytes, "bytes in memory are counted wrong");
        assert!(
            self.bytes <= self.limits.most_bytes,
            "adapters exceed their memory"
        );
        assert!(
            self.names.len() <= self.limits.most_names,
            "names exceed their number"
        );
    }
}
