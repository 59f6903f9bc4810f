//! Blobs that a replica asks for, has at hand, and knows to be durable.
//!
//! A blob is asked for until it comes or nobody wants it any more. It is asked for in each size that somebody names it
//! with, so that a liar that names it with another one keeps nobody from it. What nobody gave is asked for again soon, and less
//! and less often: what was named a moment ago is elsewhere a moment later.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::event::{Effect, Record};
use crate::id::{Blob, BlobHash, BlobRef, PeerId};
use crate::time::Instant;

/// Ticks after which a fetch that nothing was heard of is tried again.
const TICKS_OF_SILENCE: u64 = 24;
/// Ticks at most between two attempts for a blob that nobody had.
const TICKS_BETWEEN_FETCHES: u64 = 3;
/// Milliseconds before the second attempt; each further one waits twice as long. What was certified or
/// committed to a moment ago is elsewhere a moment later.
const RETRY_MS: u64 = 250;
/// Failed attempts after which nobody is expected to give a blob: some seconds of asking.
const HOPELESS: u32 = 5;

/// An outstanding fetch.
#[derive(Clone, Debug)]
pub struct PendingFetch {
    providers: Vec<PeerId>,
    /// When it is asked for again.
    due: Instant,
    /// Attempts that failed.
    failures: u32,
}

impl PendingFetch {
    /// Whether somebody was asked and did not give it.
    pub fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// Nobody gave it in some seconds of asking.
    pub fn is_given_up(&self) -> bool {
        self.failures >= HOPELESS
    }
}

/// Blobs of one scope.
pub struct Blobs {
    me: PeerId,
    tick_ms: u64,
    /// Asked for and not here yet.
    fetches: BTreeMap<BlobRef, PendingFetch>,
    /// Durable here.
    durable: BTreeSet<BlobHash>,
    /// In memory.
    at_hand: BTreeMap<BlobHash, Bytes>,
}

impl Blobs {
    pub(super) fn new(me: PeerId, tick_ms: u64) -> Self {
        Self {
            me,
            tick_ms,
            fetches: BTreeMap::new(),
            durable: BTreeSet::new(),
            at_hand: BTreeMap::new(),
        }
    }

    /// When a fetch that was just begun is given up, should nothing be heard of it.
    fn silence(&self, now: Instant) -> Instant {
        now.after_ms(TICKS_OF_SILENCE * self.tick_ms)
    }

    /// Asks for a blob unless it is on its way.
    pub fn want(
        &mut self,
        now: Instant,
        blob: BlobRef,
        mut providers: Vec<PeerId>,
    ) -> Option<Effect> {
        let due = self.silence(now);
        providers.retain(|peer| *peer != self.me);
        if let Some(wanted) = self.fetches.get_mut(&blob) {
            providers.retain(|peer| !wanted.providers.contains(peer));
            let is_news = !providers.is_empty();
            wanted.providers.extend(providers);
            if !is_news || !wanted.has_failed() {
                return None;
            }
            // Before it was named by these, it may have been sealed: that nobody gave it says nothing now.
            (wanted.failures, wanted.due) = (0, due);
            let providers = wanted.providers.clone();
            return Some(Effect::FetchBlob { blob, providers });
        }
        let wanted = PendingFetch {
            providers: providers.clone(),
            due,
            failures: 0,
        };
        self.fetches.insert(blob, wanted);
        Some(Effect::FetchBlob { blob, providers })
    }

    /// Nobody who was asked had it. Returns whether it was wanted.
    pub fn failed(&mut self, now: Instant, hash: &BlobHash) -> bool {
        let most = TICKS_BETWEEN_FETCHES * self.tick_ms;
        let mut was_wanted = false;
        for (_, wanted) in self.fetches.range_mut(sizes_of(hash)) {
            let wait = (RETRY_MS << wanted.failures.min(16)).min(most);
            wanted.failures = wanted.failures.saturating_add(1);
            wanted.due = now.after_ms(wait);
            was_wanted = true;
        }
        was_wanted
    }

    /// When the next attempt for a blob that nobody gave is due.
    pub fn next_due(&self) -> Option<Instant> {
        let failed = self.fetches.values().filter(|wanted| wanted.has_failed());
        failed.map(|wanted| wanted.due).min()
    }

    /// Asks again for what is due: the peers that were named, and after the second failure some neighbours too.
    pub fn again(&mut self, now: Instant, neighbours: &[PeerId]) -> Vec<Effect> {
        let again = self.silence(now);
        let mut out = Vec::new();
        for (blob, wanted) in self.fetches.iter_mut().filter(|(_, w)| now >= w.due) {
            wanted.due = again;
            let mut providers = wanted.providers.clone();
            if wanted.failures != 1 {
                providers.extend(neighbours.iter().filter(|p| !wanted.providers.contains(p)));
            }
            let blob = *blob;
            out.push(Effect::FetchBlob { blob, providers });
        }
        out
    }

    /// A blob arrived, and is not waited for any longer. Returns whether it was asked for in this size.
    pub fn arrived(&mut self, blob: &Blob) -> bool {
        let named = BlobRef {
            hash: blob.hash(),
            size: blob.bytes().len() as u64,
        };
        let was_wanted = self.fetches.contains_key(&named);
        self.forget(&named.hash);
        was_wanted
    }

    /// A blob is to be durable and offered from now on: the effects, none where it is already.
    pub fn keep(&mut self, hash: BlobHash, bytes: impl FnOnce() -> Bytes) -> Option<Effect> {
        let is_new = self.durable.insert(hash);
        is_new.then(|| {
            let bytes = bytes();
            Effect::Persist(vec![Record::Blob { hash, bytes }])
        })
    }

    /// Notes that a blob is durable, or is made so by the caller.
    pub fn note_durable(&mut self, hash: BlobHash) {
        self.durable.insert(hash);
    }

    /// Takes back which blobs are durable.
    pub fn restore(&mut self, durable: &BTreeSet<BlobHash>) {
        self.durable.clone_from(durable);
    }

    /// Whether a blob is durable here.
    pub fn is_durable(&self, hash: &BlobHash) -> bool {
        self.durable.contains(hash)
    }

    /// Takes a blob into memory.
    pub fn insert(&mut self, hash: BlobHash, bytes: Bytes) {
        self.at_hand.insert(hash, bytes);
    }

    /// Takes a blob out of memory.
    pub fn remove(&mut self, hash: &BlobHash) -> Option<Bytes> {
        self.at_hand.remove(hash)
    }

    /// A blob, if it is in memory.
    pub fn get(&self, hash: &BlobHash) -> Option<&Bytes> {
        self.at_hand.get(hash)
    }

    /// Whether a blob is in memory.
    pub fn has(&self, hash: &BlobHash) -> bool {
        self.at_hand.contains_key(hash)
    }

    /// Everything in memory.
    pub fn at_hand(&self) -> &BTreeMap<BlobHash, Bytes> {
        &self.at_hand
    }

    /// Forgets blobs in memory that are not of these.
    pub fn retain(&mut self, is_needed: impl Fn(&BlobHash) -> bool) {
        self.at_hand.retain(|hash, _| is_needed(hash));
    }

    /// An outstanding fetch.
    pub fn wanted(&self, hash: &BlobHash) -> Option<&PendingFetch> {
        self.fetches.range(sizes_of(hash)).map(|(_, w)| w).next()
    }

    /// Blobs that are asked for and have not arrived.
    pub fn outstanding(&self) -> usize {
        self.fetches.len()
    }

    /// Waits for a blob no longer.
    pub fn forget(&mut self, hash: &BlobHash) {
        self.fetches.retain(|blob, _| blob.hash != *hash);
    }

    /// Waits only for blobs that are needed.
    pub fn forget_needless(&mut self, needed: &BTreeSet<BlobHash>) {
        self.fetches.retain(|blob, _| needed.contains(&blob.hash));
    }

    pub(super) fn assert_invariants(&self) {
        let mut wanted = self.fetches.values();
        assert!(
            wanted.all(|wanted| !wanted.providers.contains(&self.me)),
            "nobody asks itself for a blob"
        );
    }
}

/// A blob under every size.
fn sizes_of(hash: &BlobHash) -> RangeInclusive<BlobRef> {
    let sized = |size| BlobRef { hash: *hash, size };
    sized(0)..=sized(u64::MAX)
}
