//! A handful of nodes on a perfect network in one thread: enough to watch a run from its manifest to
//! its closing height. Faults belong to the simulations crate.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use tributary_protocol::adapter::{AdapterShape, Module};
use tributary_protocol::beacon::Chain;
use tributary_protocol::entry::{Join, Role, Score, ScoreSheet};
use tributary_protocol::event::{
    Command, Effect, Input, Notice, Record, ScoreTask, Timer, TrainTask, Trained,
};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{
    Blob, BlobHash, MerkleRoot, MicroOpen, NanoNats, NetworkId, PeerId, Ppb, Round, RunId,
};
use tributary_protocol::manifest::{
    Aggregation, Base, Deadlines, FactorSchedule, Manifest, Membership, Model, Payment, Privacy,
    RevenueSplit, RoundPlan, Scoring, Training, UpdateCodec, Updates, Version, Weights,
};
use tributary_protocol::node::{Node, NodeConfig, Resources, Saved};
use tributary_protocol::outbox::Outbox;
use tributary_protocol::sign::SecretKey;
use tributary_protocol::state;
use tributary_protocol::time::{Instant, Now, Timestamp};

/// What waits for its moment.
enum Due {
    /// For this start of the node: what was under way to a process dies with it.
    Input(usize, u64, Input),
    Timer(usize, Timer, u64),
}

/// Nodes, their stores, and the events under way between them.
pub(crate) struct Net {
    pub nodes: Vec<Option<Node>>,
    pub ids: Vec<PeerId>,
    pub records: Vec<Vec<Record>>,
    pub notices: Vec<Vec<Notice>>,
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
    pub now_ms: u64,
}

/// The key of a node.
pub(crate) fn key(index: usize) -> SecretKey {
    SecretKey::from_seed(config(index).seed)
}

impl Net {
    /// The link of whoever proposes first at the height that is open at `node`.
    pub(crate) fn first_link(&self, node: usize, run: &RunId) -> Digest {
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

pub(crate) fn config(index: usize) -> NodeConfig {
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

pub(crate) fn join(index: usize, role: Role) -> Join {
    Join {
        name: format!("peer-{index}"),
        role,
        root: MerkleRoot(Digest::from_bytes([index as u8 + 1; 32])),
        tokens: 1_000,
        fingerprints: None,
        beacon: Digest::default(),
        sketch: None,
    }
}

/// A manifest over a tiny adapter, with short deadlines.
pub(crate) fn manifest(
    creator: PeerId,
    evaluators: Vec<PeerId>,
    members: u32,
    rounds: u32,
) -> Manifest {
    let module = |name: &str| Module {
        name: name.into(),
        inputs: 6,
        outputs: 4,
    };
    Manifest {
        version: Version::V1,
        name: "test".into(),
        creator,
        nonce: 1,
        datanet: "test".into(),
        training: Training {
            local_steps: 4,
            batch: 1,
            context: 8,
            learning_rate: Ppb(100_000_000),
            schedule: FactorSchedule::Alternate,
        },
        model: Model {
            base: Base {
                name: "none".into(),
                hash: Digest::default(),
            },
            adapter: AdapterShape {
                rank: 2,
                alpha: 4,
                modules: vec![module("q"), module("v")],
            },
        },
        plan: RoundPlan {
            rounds,
            min_contributions: 2,
            participants: 64,
            deadlines: Deadlines {
                round_ms: 4_000,
                grace_ms: 1_000,
                propose_ms: 500,
                vote_ms: 300,
            },
        },
        updates: Updates {
            codec: UpdateCodec::Sparse {
                top: 64,
                feedback: Ppb(950_000_000),
            },
            aggregation: Aggregation::ClippedMean,
            weights: Weights::Trained,
            privacy: Privacy::Open,
        },
        scoring: Scoring {
            evaluators,
            windows: 4,
        },
        membership: Membership {
            committee: 4,
            min_members: members,
        },
        payment: Payment {
            budget_per_round: MicroOpen(1_000_000),
            price_per_nat: MicroOpen(50_000_000),
            revenue: RevenueSplit {
                contributors: Ppb(700_000_000),
                base_author: Ppb(100_000_000),
                server: Ppb(100_000_000),
                committee: Ppb(50_000_000),
                stakers: Ppb(50_000_000),
            },
        },
    }
}

impl Net {
    pub(crate) fn new(count: usize) -> Self {
        Self::of((0..count).map(config).collect())
    }

    pub(crate) fn of(configs: Vec<NodeConfig>) -> Self {
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

    pub(crate) fn command(&mut self, node: usize, command: Command) {
        self.input(node, Input::Command(command));
    }

    /// Drops everything that is not durable.
    pub(crate) fn crash(&mut self, node: usize) {
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
    pub(crate) fn restart(&mut self, node: usize) {
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
    pub(crate) fn input(&mut self, node: usize, input: Input) {
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
                Effect::CancelTimer(timer) => {
                    self.timers[node].remove(&timer);
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
    pub(crate) fn run_until(&mut self, limit_ms: u64, done: impl Fn(&Net) -> bool) -> bool {
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
