//! One simulated machine: a node, its disk, its clocks, and the effects that wait for the disk.
//!
//! Effects leave strictly in order. A `Persist` takes a sync; everything after it waits. A crash in between keeps a
//! prefix of the persists under way and nothing of what waited.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tributary_protocol::entry::Role;
use tributary_protocol::event::{Effect, Record, Timer, TrainTask};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{BlobHash, PeerId, RunId};
use tributary_protocol::node::Node;
use tributary_protocol::outbox::Outbox;
use tributary_protocol::work::Work;

use crate::behave::Liar;
use crate::clock::{Clock, Micros, ms};
use crate::store::Store;

/// How long the gossip layer remembers a message; the daemon's duplicate cache keeps it as long.
const REMEMBER_MS: u64 = 15_000;

/// How a machine treats what it was asked to keep. Anything but `Honest` breaks promises by itself; it
/// is there to show that the oracle notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// What is synced is there after a crash.
    Honest,
    /// Says that a sync is over before it has begun.
    SyncsLater,
    /// A crash takes what was said in undecided heights.
    ForgetsVotes,
    /// A crash takes the newest block of the own log.
    ForgetsLastBlock,
}

/// One simulated machine, running or crashed.
pub struct Machine {
    /// Seed of its key.
    pub seed: [u8; 32],
    /// Its name in the protocol.
    pub id: PeerId,
    /// What it does in the run.
    pub role: Role,
    /// How much longer than an ordinary peer it trains, in thousandths.
    pub slowness: u64,
    /// Millionths by which its monotonic clock is fast.
    pub drift_ppm: i64,
    /// Milliseconds by which its wall clock is off.
    pub skew_ms: i64,
    /// Grows with each boot; events of an earlier boot are void.
    pub boot: u32,
    /// The running process, if it runs.
    pub node: Option<Node>,
    /// Its clocks since the boot.
    pub clock: Clock,
    /// Its disk.
    pub store: Store,
    /// How honest the disk is.
    pub disk: Disk,
    /// How it lies, if it does.
    pub liar: Option<Liar>,
    /// Whether its owner asked it to take part.
    pub invited: bool,
    /// Whether its owner asked it to leave.
    pub leaving: bool,
    /// Topics it hears.
    pub topics: BTreeSet<RunId>,
    /// Flooded messages seen lately, as the gossip layer remembers them, with the time of forgetting.
    pub recent: BTreeMap<Digest, Micros>,
    /// Blobs that others may fetch.
    pub offered: BTreeSet<BlobHash>,
    /// Timers that are set, each with the token of its latest setting.
    pub timers: BTreeMap<Timer, u64>,
    /// The training under way.
    pub training: Option<Training>,
    /// Crash after so many more effects.
    pub fuse: Option<u32>,
    /// What the node asked to have computed and was not begun.
    pub asked: Vec<Box<Work>>,
    outbox: Outbox,
    /// Records of barriers on their way to the disk, in order.
    unsynced: VecDeque<Vec<Record>>,
    /// Barriers that the sync under way makes durable.
    syncing: usize,
}

/// A training under way.
pub struct Training {
    /// Its end is void unless it carries this.
    pub token: u64,
    /// What it trains.
    pub task: Box<TrainTask>,
    /// When it began.
    pub since: Micros,
    /// When it ends.
    pub until: Micros,
}

/// What the front of the queue asks for.
pub enum Next {
    /// Carry this out.
    Do(Effect),
    /// Start a sync now.
    Sync,
    /// Nothing until something else happens.
    Wait,
}

impl Machine {
    /// A machine that is switched off.
    pub fn new(seed: [u8; 32], id: PeerId, role: Role) -> Self {
        Self {
            seed,
            id,
            role,
            slowness: 1_000,
            drift_ppm: 0,
            skew_ms: 0,
            boot: 0,
            node: None,
            clock: Clock::new(0, 0, 0, 0),
            store: Store::default(),
            disk: Disk::Honest,
            liar: None,
            invited: false,
            leaving: false,
            topics: BTreeSet::new(),
            recent: BTreeMap::new(),
            offered: BTreeSet::new(),
            timers: BTreeMap::new(),
            training: None,
            fuse: None,
            asked: Vec::new(),
            outbox: Outbox::default(),
            unsynced: VecDeque::new(),
            syncing: 0,
        }
    }

    /// Whether the process runs.
    pub fn is_up(&self) -> bool {
        self.node.is_some()
    }

    /// Starts the clocks of a new boot.
    pub fn power_on(&mut self, at: Micros, origin_ms: u64) {
        self.clock = Clock::new(at, origin_ms, self.drift_ppm, self.skew_ms);
    }

    /// Whether a flooded message is new to this machine's gossip layer, which remembers it from now
    /// on. What it has seen lately it neither hands to the node nor sends again.
    pub fn meets(&mut self, message: Digest, at: Micros) -> bool {
        if self.recent.len() > 4_096 {
            self.recent.retain(|_, until| *until > at);
        }
        let until = self.recent.entry(message).or_insert(0);
        let new = *until <= at;
        if new {
            *until = at + ms(REMEMBER_MS);
        }
        new
    }

    /// Appends what the node wants done.
    pub fn enqueue(&mut self, effects: Vec<Effect>) {
        let (unsynced, asked) = (&mut self.unsynced, &mut self.asked);
        self.outbox.push(
            effects,
            |records| unsynced.push_back(records),
            |work| asked.push(work),
        );
        if self.disk == Disk::SyncsLater {
            // It says so, and has written nothing.
            self.unsynced.drain(..).for_each(|_| self.outbox.durable());
        }
    }

    /// Effects that wait.
    pub fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// What to do next.
    pub fn next_effect(&mut self) -> Next {
        match self.outbox.pop() {
            Some(effect) => Next::Do(effect),
            None if self.outbox.is_empty() || self.syncing > 0 => Next::Wait,
            None => {
                // Group commit: every barrier in the queue rides on one sync.
                self.syncing = self.unsynced.len();
                Next::Sync
            }
        }
    }

    /// The sync is over: its records are durable, and what waited for them may go on. Returns them.
    pub fn synced(&mut self) -> Vec<Record> {
        let synced = self.unsynced.drain(..std::mem::take(&mut self.syncing));
        let synced: Vec<Vec<Record>> = synced.collect();
        synced.iter().for_each(|_| self.outbox.durable());
        let out = synced.concat();
        out.iter().cloned().for_each(|r| self.store.put(r));
        out
    }

    /// The process dies. Of the persists under way a random number becomes durable, in order; nothing
    /// else survives. Returns how many survived and how many effects were lost.
    pub fn crash(&mut self, rng: &mut ChaCha8Rng) -> (usize, usize) {
        let survive = rng.random_range(0..=self.syncing);
        let lost = self.outbox.len() - survive;
        let durable = self.unsynced.drain(..survive).flatten();
        durable.for_each(|record| self.store.put(record));
        self.unsynced.clear();
        self.asked.clear();
        self.outbox = Outbox::default();
        match self.disk {
            Disk::ForgetsVotes => self.store.forget_votes(),
            Disk::ForgetsLastBlock => self.store.forget_last_block_of(&self.id),
            Disk::Honest | Disk::SyncsLater => {}
        }
        self.node = None;
        self.boot += 1;
        self.syncing = 0;
        self.topics.clear();
        self.recent.clear();
        self.offered.clear();
        self.timers.clear();
        self.training = None;
        self.fuse = None;
        (survive, lost)
    }
}
