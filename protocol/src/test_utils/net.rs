//! A handful of nodes on a perfect network in one thread: enough to watch a run from its manifest to
//! its closing height. Faults belong to the simulations crate.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::adapter::{AdapterShape, Module};
use crate::beacon::Chain;
use crate::entry::{Join, Role, Score, ScoreSheet};
use crate::event::{Command, Effect, Input, Notice, Record, ScoreTask, Timer, TrainTask, Trained};
use crate::hash::Digest;
use crate::id::{Blob, BlobHash, MerkleRoot, NanoNats, NetworkId, PeerId, Ppb, Round, RunId};
use crate::manifest::{Manifest, Weights};
use crate::node::{Node, NodeConfig, Resources, Saved};
use crate::outbox::Outbox;
use crate::sign::SecretKey;
use crate::state;
use crate::time::{Instant, Now, Timestamp};

use super::fixture;

/// What waits for its moment.
enum Due {
    /// For this start of the node: what was under way to a process dies with it.
    Input(usize, u64, Input),
    Timer(usize, Timer, u64),
}

/// Nodes, their stores, and the events under way between them.
pub struct Net {
    /// `None` while a node is down.
    pub nodes: Vec<Option<Node>>,
    /// Whom each node is.
    pub ids: Vec<PeerId>,
    /// What each node has on its disk, but for blobs.
    pub records: Vec<Vec<Record>>,
    /// What each node told its owner.
    pub notices: Vec<Vec<Notice>>,
    /// The blobs on each node's disk.
    pub blobs: Vec<BTreeMap<BlobHash, Vec<u8>>>,
    /// What each node serves to others.
    pub offered: Vec<BTreeSet<BlobHash>>,
    /// What was scored: by whom, which round, against how many public vectors.
    pub scored: Vec<(usize, Round, usize)>,
    /// A node that no update reaches.
    pub without_updates: Option<usize>,
    timers: Vec<BTreeMap<Timer, u64>>,
    subscribed: Vec<BTreeSet<RunId>>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    due: BTreeMap<u64, Due>,
    serial: u64,
    boots: Vec<u64>,
    /// The time of all clocks.
    pub now_ms: u64,
}

/// The key of a node.
pub fn key(index: usize) -> SecretKey {
    SecretKey::from_seed(config(index).seed)
}

impl Net {
    /// The link of whoever proposes first at the height that is open at `node`.
    pub fn first_link(&self, node: usize, run: &RunId) -> Digest {
        let node = self.nodes[node].as_ref().expect("running");
        let view = node.run(run).expect("followed");
        let manifest = view.manifest().expect("known");
        let first = state::committee(manifest, run, view.head()).proposer(0);
        let at = self.ids.iter().position(|id| *id == first);
        let chain = Chain::new(&key(at.expect("a node")), run, manifest.closing_round());
        chain.link(state::next_round(view.head()))
    }
}

const LATENCY_MS: u64 = 5;
/// The adapter of [`manifest`]: four factors of rank 2; updates are smaller.
const ADAPTER_BYTES: u64 = 4 * 2 * 2 * (6 + 4);

/// What a node starts with; its index is in its seed.
pub fn config(index: usize) -> NodeConfig {
    let mut seed = [7; 32];
    seed[0] = index as u8;
    NodeConfig {
        network: NetworkId(9),
        seed,
        archive: true,
        resources: Resources::default(),
        tick_ms: 200,
    }
}

/// A join of the node at `index`, without text.
pub fn join(index: usize, role: Role) -> Join {
    Join {
        name: format!("peer-{index}"),
        role,
        root: MerkleRoot(Digest::from_bytes([index as u8 + 1; 32])),
        tokens: 1_000,
        fingerprints: None,
        beacon: Digest::default(),
        sketch: None,
        bind: None,
    }
}

/// A manifest over a tiny adapter, with short deadlines. Tests change what they are about.
pub fn manifest(creator: PeerId, evaluators: Vec<PeerId>, members: u32, rounds: u32) -> Manifest {
    let mut manifest = fixture::manifest();
    manifest.name = "test".into();
    manifest.creator = creator;
    manifest.nonce = 1;
    manifest.model.base.name = "none".into();
    manifest.model.base.hash = Digest::default();
    manifest.model.adapter = shape(2, &["q", "v"], (6, 4));
    manifest.datanet = "test".into();
    manifest.plan.rounds = rounds;
    manifest.training.local_steps = 4;
    manifest.training.batch = 1;
    manifest.training.context = 8;
    manifest.training.learning_rate = Ppb(100_000_000);
    manifest.updates.weights = Weights::Trained;
    manifest.scoring.evaluators = evaluators;
    manifest.scoring.windows = 4;
    manifest.membership.min_members = members;
    manifest.plan.participants = 64;
    manifest.plan.deadlines.round_ms = 4_000;
    manifest.plan.deadlines.grace_ms = 1_000;
    manifest.plan.deadlines.propose_ms = 500;
    manifest.plan.deadlines.vote_ms = 300;
    manifest
}

/// An adapter over modules of one size, (inputs, outputs), with a scale of 2.
pub fn shape(rank: u32, modules: &[&str], (inputs, outputs): (u32, u32)) -> AdapterShape {
    let module = |name: &&str| Module {
        name: (*name).into(),
        inputs,
        outputs,
    };
    AdapterShape {
        rank,
        alpha: 2 * rank,
        modules: modules.iter().map(module).collect(),
    }
}

impl Net {
    /// So many nodes, all connected.
    pub fn new(count: usize) -> Self {
        Self::of((0..count).map(config).collect())
    }

    /// One node for each configuration, all connected.
    pub fn of(configs: Vec<NodeConfig>) -> Self {
        let count = configs.len();
        let nodes: Vec<Option<Node>> = (configs.into_iter())
            .map(|config| Some(Node::new(config, 1)))
            .collect();
        let ids = nodes.iter().flatten().map(Node::peer_id).collect();
        let mut net = Self {
            nodes,
            ids,
            records: vec![Vec::new(); count],
            notices: vec![Vec::new(); count],
            blobs: vec![BTreeMap::new(); count],
            offered: vec![BTreeSet::new(); count],
            scored: Vec::new(),
            without_updates: None,
            timers: vec![BTreeMap::new(); count],
            subscribed: vec![BTreeSet::new(); count],
            queue: BinaryHeap::new(),
            due: BTreeMap::new(),
            serial: 0,
            boots: vec![0; count],
            now_ms: 1_000,
        };
        for a in 0..count {
            net.connect(a);
        }
        net
    }

    fn connect(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            if other != node {
                let (me, them) = (self.ids[node], self.ids[other]);
                let due = self.due_input(node, Input::Connected(them));
                self.schedule(1, due);
                let due = self.due_input(other, Input::Connected(me));
                self.schedule(1, due);
            }
        }
    }

    fn due_input(&self, node: usize, input: Input) -> Due {
        Due::Input(node, self.boots[node], input)
    }

    fn schedule(&mut self, after_ms: u64, due: Due) {
        self.serial += 1;
        self.queue
            .push(Reverse((self.now_ms + after_ms, self.serial)));
        self.due.insert(self.serial, due);
    }

    fn now(&self) -> Now {
        Now {
            monotonic: Instant(self.now_ms),
            wall: Timestamp(1_790_000_000_000 + self.now_ms),
        }
    }

    /// Hands a node a command of its owner.
    pub fn command(&mut self, node: usize, command: Command) {
        self.input(node, Input::Command(command));
    }

    /// Drops everything that is not durable.
    pub fn crash(&mut self, node: usize) {
        self.nodes[node] = None;
        self.boots[node] += 1;
        self.timers[node].clear();
        self.offered[node].clear();
        self.subscribed[node].clear();
        let me = self.ids[node];
        for other in 0..self.nodes.len() {
            self.input(other, Input::Disconnected(me));
        }
    }

    /// Starts a crashed node from its records.
    pub fn restart(&mut self, node: usize) {
        let saved = Saved {
            records: self.records[node].clone(),
            blobs: self.blobs[node].keys().copied().collect(),
        };
        let now = self.now();
        let (mut restored, effects) =
            Node::restore(config(node), 2, saved, now).expect("records read back");
        let effects = restored.complete(effects, now);
        self.nodes[node] = Some(restored);
        self.carry_out(node, effects);
        self.connect(node);
    }

    /// Hands an input to a node at this moment.
    pub fn input(&mut self, node: usize, input: Input) {
        let now = self.now();
        let Some(running) = self.nodes[node].as_mut() else {
            return;
        };
        let effects = running.handle(input, now);
        let effects = running.complete(effects, now);
        self.carry_out(node, effects);
    }

    /// What a node wants done, with its records on the disk.
    fn released(&mut self, node: usize, effects: Vec<Effect>) -> Outbox {
        let mut outbox = Outbox::default();
        let mut commits = Vec::new();
        outbox.push(
            effects,
            |records| commits.push(records),
            |work| panic!("it was computed: {work:?}"),
        );
        for records in commits {
            self.persist(node, records);
            outbox.durable();
        }
        outbox
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        let mut outbox = self.released(node, effects);
        while let Some(effect) = outbox.pop() {
            match effect {
                // A barrier that is passed.
                Effect::Persist(_) => {}
                Effect::Gossip { run, bytes } => self.flood(node, run, &bytes),
                Effect::Send { to, bytes } => {
                    if let Some(other) = self.ids.iter().position(|id| *id == to) {
                        let input = Input::Direct {
                            from: self.ids[node],
                            bytes,
                        };
                        let due = self.due_input(other, input);
                        self.schedule(LATENCY_MS, due);
                    }
                }
                Effect::FetchBlob { blob, .. } => {
                    let is_denied = self.without_updates == Some(node) && blob.size < ADAPTER_BYTES;
                    let gives = |at: usize| !is_denied && self.offered[at].contains(&blob.hash);
                    let held = (0..self.blobs.len()).filter(|at| *at == node || gives(*at));
                    let found = held
                        .filter_map(|at| self.blobs[at].get(&blob.hash).cloned())
                        .next();
                    let input = match found {
                        Some(bytes) => Input::Blob(Blob::of(bytes.into())),
                        None => Input::BlobFailed(blob.hash),
                    };
                    let due = self.due_input(node, input);
                    self.schedule(LATENCY_MS, due);
                }
                Effect::Train(task) => {
                    let input = Input::Trained(self.train(node, &task));
                    let due = self.due_input(node, input);
                    self.schedule(20 + node as u64, due);
                }
                Effect::Score(task) => {
                    self.scored.push((node, task.round, task.public.len()));
                    let input = Input::Scored {
                        run: task.run,
                        sheet: score(&task),
                    };
                    let due = self.due_input(node, input);
                    self.schedule(15, due);
                }
                Effect::SetTimer { timer, at } => {
                    self.serial += 1;
                    self.timers[node].insert(timer, self.serial);
                    self.queue
                        .push(Reverse((at.0.max(self.now_ms), self.serial)));
                    self.due
                        .insert(self.serial, Due::Timer(node, timer, self.serial));
                }
                Effect::Subscribe(run) => {
                    self.subscribed[node].insert(run);
                }
                Effect::Notify(notice) => self.notices[node].push(notice),
                Effect::OfferBlob(hash) => {
                    self.offered[node].insert(hash);
                }
                Effect::Verdict { .. } | Effect::CancelTrain(_) | Effect::FinishTrain(_) => {}
                Effect::Compute(work) => panic!("it was computed: {work:?}"),
            }
        }
    }

    fn persist(&mut self, node: usize, records: Vec<Record>) {
        for record in records {
            match record {
                Record::Blob { hash, bytes } => {
                    self.blobs[node].insert(hash, bytes.to_vec());
                }
                other => self.records[node].push(other),
            }
        }
    }

    fn flood(&mut self, node: usize, run: RunId, bytes: &[u8]) {
        for other in 0..self.nodes.len() {
            if other != node && self.subscribed[other].contains(&run) {
                let from = self.ids[node];
                let input = Input::Gossip {
                    from,
                    id: self.serial,
                    bytes: bytes.to_vec(),
                };
                let due = self.due_input(other, input);
                self.schedule(LATENCY_MS, due);
            }
        }
    }

    /// Moves a tenth of the way to a target of the peer's own on every factor that moves.
    fn train(&self, node: usize, task: &TrainTask) -> Trained {
        let shape = task.adapter.shape().clone();
        let mut delta = vec![0.0; shape.parameters()];
        for segment in shape.trainable_segments(task.trainable) {
            for at in segment.range() {
                let target = (at as f32 * 0.37 + node as f32 * 0.01).sin();
                delta[at] = 0.1 * (target - task.adapter.values()[at]);
            }
        }
        Trained {
            run: task.run,
            round: task.round,
            base: task.base,
            delta,
            tokens: 8,
        }
    }

    /// Runs until `done` or until `limit_ms` of virtual time passed; says whether `done` held.
    pub fn run_until(&mut self, limit_ms: u64, done: impl Fn(&Net) -> bool) -> bool {
        let end = self.now_ms + limit_ms;
        while let Some(Reverse((at, serial))) = self.queue.pop() {
            if at > end {
                self.queue.push(Reverse((at, serial)));
                return done(self);
            }
            self.now_ms = at;
            match self.due.remove(&serial) {
                Some(Due::Input(node, boot, input)) if boot == self.boots[node] => {
                    self.input(node, input);
                }
                Some(Due::Input(..)) => {}
                Some(Due::Timer(node, timer, set))
                    if self.timers[node].get(&timer) == Some(&set) =>
                {
                    self.timers[node].remove(&timer);
                    self.input(node, Input::Timer(timer));
                }
                Some(Due::Timer(..)) | None => {}
            }
            if done(self) {
                return true;
            }
        }
        done(self)
    }
}

/// A sheet whose scores are each contribution's squared length: enough to be a sheet.
fn score(task: &ScoreTask) -> ScoreSheet {
    let scores = task.contributions.iter().map(|(peer, vector)| {
        let mut squared = 0.0;
        vector.visit(|_, value| squared += f64::from(value) * f64::from(value));
        let score = NanoNats::from_nats(squared);
        Score {
            peer: *peer,
            score,
            low: score,
            high: score,
            luck: NanoNats(0),
        }
    });
    ScoreSheet {
        round: task.round,
        state: task.state,
        predicted: 10,
        loss_before: NanoNats::from_nats(2.0),
        loss_after: NanoNats::from_nats(1.9),
        scores: scores.collect(),
    }
}
