//! The peer's whole brain: [`Node::handle`] takes one input and a time and returns effects.
//!
//! The node owns the runs it follows ([`run::Run`] each) and routes inputs to them. It does no IO, has
//! no clock and draws no randomness of its own: the same inputs at the same times give the same
//! effects, which is what lets a simulation replay a federation from a seed. Everything a crash may
//! not lose leaves as an [`Effect::Persist`] *before* the effects that depend on it, and
//! [`Node::restore`] takes those records back.
//!
//! A contribution is followed top to bottom through `publish` (made, published), `exchange` (received), `collect`
//! (collected), `close` (closed), `agree` (agreed) and `settle` (settled). What is known at any moment is in `known` and
//! `certified`, what belongs to the open height in `height`; `run` says what follows what.

mod agree;
mod anchors;
mod bounds;
mod certified;
mod close;
mod collect;
mod exchange;
mod forget;
mod height;
mod invariants;
mod known;
mod membership;
mod phase;
mod public;
mod publish;
mod refute;
mod relay;
mod restore;
mod run;
mod score;
mod settle;
mod steps;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Command, Effect, Input, Notice, Record, Timer, Verdict};
use crate::hash::{Domain, Hasher, Stream};
use crate::id::{Blob, NetworkId, PeerId, RunId};
use crate::log::Unverified;
use crate::manifest::Manifest;
use crate::reject::Rejection;
use crate::sign::SecretKey;
use crate::time::Now;
use crate::wire::Message;

pub use bounds::{Bounds, Excess, Resource};
pub use forget::{Forgetting, forgotten};
pub use refute::Refutation;
pub use restore::{RestoreError, Saved};
pub use run::Run;
pub use view::RunView;

/// What a node needs to know before its first input.
#[derive(Clone)]
pub struct NodeConfig {
    /// The network whose signatures it understands.
    pub network: NetworkId,
    /// Seed of the peer's one key.
    pub seed: [u8; 32],
    /// Whether to fetch the updates of rounds it did not take part in, so that it can re-check the
    /// whole run from bytes. Costs one fetch per included contribution. Without effect in a run that
    /// draws only some of its contributors for a round.
    pub archive: bool,
    /// What the machine can give.
    pub resources: Resources,
    /// How often heads are compared and unheard messages repeated, in milliseconds.
    pub tick_ms: u64,
}

/// What a machine can give. By default whatever a run asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Bytes a second that updates may take of the uplink; None: as many as they need. Sparse updates are made
    /// thinner until one reaches every member within the grace window.
    pub upload_rate: Option<u64>,
    /// Components of adapters that are trained, the first ones, where the run's have more; None: all. Each costs
    /// memory and time.
    pub rank: Option<u32>,
    /// The most that a run may take; None: what the protocol allows. A run that asks for more is declined before
    /// anything of it is allocated or fetched.
    pub bounds: Option<Bounds>,
}

impl Resources {
    /// Whether the machine can follow a run.
    fn admit(&self, manifest: &Manifest) -> Result<(), Excess> {
        self.bounds.map_or(Ok(()), |bounds| bounds.admit(manifest))
    }
}

/// One peer's state machine: the runs it follows, and the effects it wants carried out.
pub struct Node {
    cx: NodeContext,
    runs: BTreeMap<RunId, Run>,
    /// Runs that the owner had removed: of each, what this peer signed in it.
    forgotten: BTreeMap<RunId, Run>,
}

/// What every run works with: the key, the neighbours, the seed of draws, and the way out.
struct NodeContext {
    config: NodeConfig,
    key: SecretKey,
    me: PeerId,
    connected: BTreeSet<PeerId>,
    draws: Stream,
    now: Now,
    out: Vec<Effect>,
}

impl NodeContext {
    fn emit(&mut self, effect: Effect) {
        self.out.push(effect);
    }

    fn notify(&mut self, notice: Notice) {
        self.out.push(Effect::Notify(notice));
    }

    fn persist(&mut self, records: Vec<Record>) {
        self.out.push(Effect::Persist(records));
    }

    fn send(&mut self, to: PeerId, message: &Message) {
        if to != self.me {
            self.out.push(Effect::Send {
                to,
                bytes: message.encode(),
            });
        }
    }

    /// Floods a message; one that is too large for gossip goes to each neighbour by itself.
    fn gossip(&mut self, run: RunId, message: &Message) {
        let bytes = message.encode();
        if bytes.len() <= crate::limits::MAX_GOSSIP_BYTES {
            self.out.push(Effect::Gossip { run, bytes });
            return;
        }
        for to in self.draw_neighbours(crate::limits::MAX_COMMITTEE) {
            self.out.push(Effect::Send {
                to,
                bytes: bytes.clone(),
            });
        }
    }

    /// Up to `count` different neighbours, drawn.
    fn draw_neighbours(&mut self, count: usize) -> Vec<PeerId> {
        let mut pool: Vec<PeerId> = self.connected.iter().copied().collect();
        let count = count.min(pool.len());
        for at in 0..count {
            let other = at + self.draws.below((pool.len() - at) as u64) as usize;
            pool.swap(at, other);
        }
        pool.truncate(count);
        assert!(!pool.contains(&self.me), "nobody is its own neighbour");
        pool
    }
}

impl Node {
    /// A node that follows nothing yet. `draw_seed` makes its choice of neighbours repeatable.
    pub fn new(config: NodeConfig, draw_seed: u64) -> Self {
        let key = SecretKey::from_seed(config.seed);
        let me = key.peer_id();
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher
            .update(me.as_bytes())
            .update(&draw_seed.to_le_bytes());
        let cx = NodeContext {
            config,
            key,
            me,
            connected: BTreeSet::new(),
            draws: hasher.finalize_xof(),
            now: Now::default(),
            out: Vec::new(),
        };
        Self {
            cx,
            runs: BTreeMap::new(),
            forgotten: BTreeMap::new(),
        }
    }

    /// This peer.
    pub fn peer_id(&self) -> PeerId {
        self.cx.me
    }

    /// The runs this node follows.
    pub fn runs(&self) -> impl Iterator<Item = RunView<'_>> {
        self.runs.values().map(Run::view)
    }

    /// One run, if followed.
    pub fn run(&self, id: &RunId) -> Option<RunView<'_>> {
        self.runs.get(id).map(Run::view)
    }

    /// Whether this peer would follow a run of this manifest.
    ///
    /// # Errors
    /// What the manifest asks for beyond the peer's means.
    pub fn admit(&self, manifest: &Manifest) -> Result<(), Excess> {
        self.cx.config.resources.admit(manifest)
    }

    /// The only entrance. Effects are to be carried out in order; see [`crate::event`].
    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Effect> {
        assert!(
            self.cx.out.is_empty(),
            "effects are handed out with their input"
        );
        self.cx.now = now;
        match input {
            Input::Timer(timer) => self.on_timer(timer),
            Input::Direct { from, bytes } => {
                if let Err(why) = self.on_message(from, &bytes) {
                    self.refuse(from, why);
                }
            }
            Input::Gossip { from, id, bytes } => self.on_gossip(from, id, &bytes),
            Input::Connected(peer) => {
                self.cx.connected.insert(peer);
                for run in self.runs.values_mut() {
                    run.open_exchange(&mut self.cx, peer);
                }
            }
            Input::Disconnected(peer) => {
                self.cx.connected.remove(&peer);
            }
            Input::Blob(blob) => self.on_blob(&blob),
            Input::BlobFailed(hash) => {
                for run in self.runs.values_mut() {
                    run.on_blob_failed(&mut self.cx, &hash);
                }
            }
            Input::Trained(trained) => {
                if let Some(run) = self.runs.get_mut(&trained.run) {
                    // Where an update comes of it, the run goes on once that is encoded.
                    if !run.on_trained(&mut self.cx, trained) {
                        run.advance(&mut self.cx);
                    }
                }
            }
            Input::Computed(computed) => {
                if let Some(run) = self.runs.get_mut(&computed.run)
                    && run.on_computed(&mut self.cx, computed.outcome)
                {
                    run.advance(&mut self.cx);
                }
            }
            Input::Scored { run, sheet } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.on_scored(&mut self.cx, sheet);
                    run.advance(&mut self.cx);
                }
            }
            Input::Chain { run, facts } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.on_chain(facts);
                    run.advance(&mut self.cx);
                }
            }
            Input::Command(command) => self.on_command(command),
        }
        if cfg!(debug_assertions) {
            self.assert_effects();
        }
        std::mem::take(&mut self.cx.out)
    }

    /// Computes what these effects ask for at once, and puts what follows from it in its place: for a world in which
    /// computing takes no time.
    pub fn complete(&mut self, effects: Vec<Effect>, now: Now) -> Vec<Effect> {
        let mut out = Vec::with_capacity(effects.len());
        for effect in effects {
            match effect {
                Effect::Compute(work) => {
                    let computed = Input::Computed(Box::new(work.run()));
                    let more = self.handle(computed, now);
                    out.extend(self.complete(more, now));
                }
                other => out.push(other),
            }
        }
        out
    }

    fn on_timer(&mut self, timer: Timer) {
        let run = match timer {
            Timer::RoundDeadline(run, _) | Timer::Grace(run, _) => run,
            Timer::Tick(run) | Timer::Fetch(run) => run,
            Timer::Consensus { run, .. } => run,
        };
        if let Some(run) = self.runs.get_mut(&run) {
            run.on_timer(&mut self.cx, timer);
            run.advance(&mut self.cx);
        }
    }

    fn on_gossip(&mut self, from: PeerId, id: u64, bytes: &[u8]) {
        // The verdict goes out after what the message caused, so that a block is durable here before
        // it is handed on.
        let verdict = match self.on_message(from, bytes) {
            Ok(verdict) => verdict,
            Err(why) => {
                let verdict = blame(&why);
                self.refuse(from, why);
                verdict
            }
        };
        self.cx.emit(Effect::Verdict { id, verdict });
    }

    fn refuse(&mut self, from: PeerId, why: Rejection) {
        self.cx.notify(Notice::Refused { from, why });
    }

    fn on_message(&mut self, from: PeerId, bytes: &[u8]) -> Result<Verdict, Rejection> {
        let message = Message::decode(bytes)?;
        let Some(id) = run_of(&message, self.cx.config.network)? else {
            return Ok(Verdict::Ignore);
        };
        let Some(run) = self.runs.get_mut(&id.0) else {
            return Ok(Verdict::Ignore);
        };
        if run.declined().is_some() {
            return Ok(Verdict::Ignore);
        }
        let before = run.ledger.changes_seen;
        let verdict = run.on_message(&mut self.cx, from, message, id.1);
        if run.ledger.changes_seen != before {
            run.advance(&mut self.cx);
        }
        verdict
    }

    fn on_blob(&mut self, blob: &Blob) {
        for run in self.runs.values_mut() {
            if run.on_blob(&mut self.cx, blob) {
                run.advance(&mut self.cx);
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        let (run, outcome) = match command {
            Command::Create(manifest) => (manifest.run_id(), self.create(*manifest)),
            Command::Follow { run, join } => (run, self.follow(run, join)),
            Command::Leave(run) => (run, self.leave(run)),
            Command::File { run, filings } => (run, self.file(run, filings)),
        };
        if let Err(why) = outcome {
            self.cx.notify(Notice::CommandFailed {
                run: Some(run),
                why,
            });
        }
        if let Some(run) = self.runs.get_mut(&run) {
            run.advance(&mut self.cx);
        }
    }
}

/// Which run a message is about, with the decoded block when it carries one.
fn run_of(
    message: &Message,
    network: NetworkId,
) -> Result<Option<(RunId, Option<Unverified>)>, Rejection> {
    exchange::run_of(message, network)
}

/// Whether a refusal proves that the neighbour which handed the message on misbehaved: it checks the
/// same things before it forwards.
fn blame(why: &Rejection) -> Verdict {
    if why.exposes_sender() {
        Verdict::Reject
    } else {
        Verdict::Ignore
    }
}
