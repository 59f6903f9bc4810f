//! What a round costs the node itself: how long `handle` takes, and what memory a round needs.
//!
//! ```text
//! cargo bench -p tributary-protocol --profile dev --bench round -- [members] [parameters] [rounds] [alternate|both]
//! ```
//! Members on a perfect network in one thread, with an adapter of so many numbers and sparse updates, 64 of 4,096. The
//! first member's arithmetic is its own; the others take its outcome of each step, hold nothing in the place of adapters,
//! and send updates made by the codec from numbers of their own. What is timed is every `handle` of every member. What is
//! counted, by the operating system, is the memory of one member beyond that of a run of the same members over a tiny
//! adapter. There are no evaluators. Times are those of the processor.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use tributary_protocol::adapter::{Adapter, AdapterShape, Module};
use tributary_protocol::aggregate::Layout;
use tributary_protocol::entry::{Join, Role};
use tributary_protocol::event::{
    Command, Effect, Input, Notice, Record, Timer, TrainTask, Trained,
};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{Blob, BlobHash, BlobRef, MerkleRoot, NetworkId, PeerId, Ppb, RunId};
use tributary_protocol::manifest::{Aggregation, FactorSchedule, Manifest, UpdateCodec};
use tributary_protocol::node::{Node, NodeConfig, Resources};
use tributary_protocol::outbox::Outbox;
use tributary_protocol::state::{StepKey, Stepped};
use tributary_protocol::test_utils::net;
use tributary_protocol::time::{Instant, Now, Timestamp};
use tributary_protocol::update;
use tributary_protocol::work::{Computed, Outcome, Prepared, Task, Work};

const LATENCY_MS: u64 = 5;
const CODEC: UpdateCodec = UpdateCodec::Sparse {
    top: 64,
    feedback: Ppb(950_000_000),
};

enum Due {
    Input(usize, Input),
    Timer(usize, Timer, u64),
    Train(usize, Box<TrainTask>),
}

struct Members {
    nodes: Vec<Node>,
    ids: Vec<PeerId>,
    blobs: VecDeque<(BlobHash, Bytes)>,
    steps: BTreeMap<StepKey, Stepped>,
    /// What the others hold in the place of adapters.
    nothing: Arc<Adapter>,
    timers: Vec<BTreeMap<Timer, u64>>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    due: BTreeMap<u64, Due>,
    serial: u64,
    now_ms: u64,
    finished: usize,
    /// Milliseconds of every `handle`, by kind of input.
    handled: BTreeMap<&'static str, Vec<f64>>,
    /// Seconds of every step and encoding.
    computed: BTreeMap<&'static str, Vec<f64>>,
}

impl Members {
    fn schedule(&mut self, at_ms: u64, due: Due) {
        self.serial += 1;
        self.queue.push(Reverse((at_ms, self.serial)));
        self.due.insert(self.serial, due);
    }

    fn now(&self) -> Now {
        Now {
            monotonic: Instant(self.now_ms),
            wall: Timestamp(1_790_000_000_000 + self.now_ms),
        }
    }

    fn input(&mut self, node: usize, input: Input) {
        let kind = kind(&input);
        let now = self.now();
        let start = busy();
        let effects = self.nodes[node].handle(input, now);
        let took = (busy() - start) * 1e3;
        self.handled.entry(kind).or_default().push(took);
        let mut work = Vec::new();
        let mut outbox = Outbox::default();
        let mut commits = 0;
        let (blobs, kept) = (&mut self.blobs, self.ids.len());
        outbox.push(
            effects,
            |records| {
                commits += 1;
                for record in records {
                    if let Record::Blob { hash, bytes } = record
                        && bytes.len() < 1 << 23
                    {
                        // Updates of rounds that are over lie on a disk.
                        blobs.retain(|(known, _)| *known != hash);
                        blobs.push_back((hash, bytes));
                        if blobs.len() > kept {
                            blobs.pop_front();
                        }
                    }
                }
            },
            |asked| work.push(asked),
        );
        (0..commits).for_each(|_| outbox.durable());
        for asked in work {
            let computed = self.compute(node, *asked);
            self.input(node, Input::Computed(Box::new(computed)));
        }
        while let Some(effect) = outbox.pop() {
            self.carry_out(node, effect);
        }
    }

    fn compute(&mut self, node: usize, work: Work) -> Computed {
        let (run, start) = (work.run, busy());
        match work.task {
            Task::Step(step) => {
                let key = step.key().clone();
                if let Some(known) = self.steps.get(&key) {
                    let outcome = Outcome::Step(key, Ok(known.clone()));
                    return Computed { run, outcome };
                }
                let first = self.nodes[0].run(&run).expect("it follows");
                let step = match first.adapter() {
                    Some((_, adapter)) => step.starting_at(Arc::clone(adapter)),
                    None => step,
                };
                let stepped = step.foresee().expect("honest updates");
                self.steps.insert(key.clone(), stepped.clone());
                self.took("step", start);
                let outcome = Outcome::Step(key, Ok(stepped));
                Computed { run, outcome }
            }
            Task::Advance(advance) if node > 0 => {
                let (round, blob) = (advance.round, advance.stepped.blob);
                let outcome = Outcome::Advance(round, blob, Ok(Arc::clone(&self.nothing)));
                Computed { run, outcome }
            }
            Task::Feedback(feedback, changes) if node > 0 => {
                let prepared = changes.into_iter().filter_map(|change| match change {
                    tributary_protocol::work::Change::Prepare {
                        trained, layout, ..
                    } => Some(prepared(node, trained, &layout)),
                    _ => None,
                });
                let outcome = Outcome::Feedback(feedback, prepared.collect());
                Computed { run, outcome }
            }
            task => {
                let what = match task {
                    Task::Feedback(..) => "encoding",
                    _ => "adapter",
                };
                let computed = Work { run, task }.run();
                self.took(what, start);
                computed
            }
        }
    }

    fn took(&mut self, what: &'static str, start: f64) {
        let took = busy() - start;
        self.computed.entry(what).or_default().push(took);
    }

    fn carry_out(&mut self, node: usize, effect: Effect) {
        let soon = self.now_ms + LATENCY_MS;
        match effect {
            Effect::Gossip { bytes, .. } => {
                let from = self.ids[node];
                for other in (0..self.nodes.len()).filter(|other| *other != node) {
                    let (id, bytes) = (self.serial, bytes.clone());
                    self.schedule(soon, Due::Input(other, Input::Gossip { from, id, bytes }));
                }
            }
            Effect::Send { to, bytes } => {
                let from = self.ids[node];
                if let Some(other) = self.ids.iter().position(|id| *id == to) {
                    self.schedule(soon, Due::Input(other, Input::Direct { from, bytes }));
                }
            }
            Effect::FetchBlob { blob, .. } => {
                let found = self.blobs.iter().find(|(hash, _)| *hash == blob.hash);
                let input = match found {
                    Some((_, bytes)) => Input::Blob(Blob::of(bytes.clone())),
                    None => Input::BlobFailed(blob.hash),
                };
                self.schedule(soon, Due::Input(node, input));
            }
            Effect::Train(task) => {
                // When all have settled the round before: they share its adapter here.
                self.schedule(self.now_ms + 500 + node as u64, Due::Train(node, task));
            }
            Effect::SetTimer { timer, at } => {
                let serial = self.serial + 1;
                self.timers[node].insert(timer, serial);
                self.schedule(at.0.max(self.now_ms), Due::Timer(node, timer, serial));
            }
            Effect::Notify(Notice::Finished(_)) => self.finished += 1,
            _ => {}
        }
    }

    /// Until everybody has finished the run; says at what time of the run each step was.
    fn run(&mut self) {
        while self.finished < self.nodes.len() {
            let Reverse((at, serial)) = self.queue.pop().expect("a run that goes on");
            self.now_ms = at;
            match self.due.remove(&serial) {
                Some(Due::Input(node, input)) => self.input(node, input),
                Some(Due::Train(node, task)) => {
                    if node == 0 {
                        // Updates of the round before lie on a disk by now.
                        self.blobs.clear();
                        self.steps.clear();
                    }
                    let trained = train(node, &task);
                    drop(task);
                    self.input(node, Input::Trained(trained));
                }
                Some(Due::Timer(node, timer, set))
                    if self.timers[node].get(&timer) == Some(&set) =>
                {
                    self.timers[node].remove(&timer);
                    self.input(node, Input::Timer(timer));
                }
                _ => {}
            }
        }
    }
}

/// Seconds that this thread had a processor: others may use the machine as well.
fn busy() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn kind(input: &Input) -> &'static str {
    match input {
        Input::Timer(_) => "timer",
        Input::Direct { .. } | Input::Gossip { .. } => "message",
        Input::Blob(_) | Input::BlobFailed(_) => "blob",
        Input::Trained(_) => "trained",
        Input::Computed(_) => "computed",
        _ => "other",
    }
}

/// Some numbers, different for each member and round.
fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut number = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state as f32 / u32::MAX as f32 - 0.5) * 1e-3
    };
    (0..count).map(|_| number()).collect()
}

fn train(node: usize, task: &TrainTask) -> Trained {
    let parameters = task.adapter.shape().parameters();
    let delta = match node {
        0 => numbers(task.round.0, parameters),
        _ => Vec::new(),
    };
    Trained {
        run: task.run,
        round: task.round,
        base: task.base,
        delta,
        tokens: 8,
    }
}

fn prepared(node: usize, trained: Trained, layout: &Layout) -> Prepared {
    // One chunk's codes serve all chunks: what is measured does not look at them.
    let seed = node as u32 + 1000 * trained.round.0;
    let chunk = update::encode(&numbers(seed, update::CHUNK), CODEC).expect("in range");
    let (whole, rest) = (layout.len() / update::CHUNK, layout.len() % update::CHUNK);
    let mut bytes = chunk.repeat(whole);
    if rest > 0 {
        bytes.extend(update::encode(&numbers(seed, rest), CODEC).expect("in range"));
    }
    let blob = BlobRef::of(&bytes);
    Prepared {
        trained,
        update: Ok((bytes.into(), blob)),
    }
}

fn shape(parameters: usize) -> AdapterShape {
    let (modules, rank) = (28, 16);
    let width = (parameters / modules / rank / 2) as u32;
    let module = |at: usize| Module {
        name: format!("layer.{at}"),
        inputs: width,
        outputs: width,
    };
    AdapterShape {
        rank: rank as u32,
        alpha: rank as u32,
        modules: (0..modules).map(module).collect(),
    }
}

fn manifest(
    creator: PeerId,
    members: usize,
    parameters: usize,
    rounds: u32,
    schedule: FactorSchedule,
) -> Manifest {
    let mut manifest = net::manifest(creator, Vec::new(), members as u32, rounds);
    manifest.model.adapter = shape(parameters);
    manifest.training.schedule = schedule;
    manifest.updates.codec = CODEC;
    manifest.updates.aggregation = Aggregation::Agreement {
        tolerate: Ppb(200_000_000),
    };
    manifest.membership.committee = 64;
    manifest.plan.min_contributions = members as u32;
    manifest.plan.deadlines.round_ms = 60_000;
    manifest.plan.deadlines.grace_ms = 10_000;
    manifest.plan.deadlines.propose_ms = 5_000;
    manifest.plan.deadlines.vote_ms = 3_000;
    manifest
}

fn members(count: usize) -> Members {
    let config = |index: usize| {
        let mut seed = [7; 32];
        seed[0] = index as u8;
        NodeConfig {
            network: NetworkId(9),
            seed,
            archive: false,
            resources: Resources::default(),
            tick_ms: 2_000,
        }
    };
    let nodes: Vec<Node> = (0..count)
        .map(|index| Node::new(config(index), 1))
        .collect();
    Members {
        ids: nodes.iter().map(Node::peer_id).collect(),
        nodes,
        blobs: VecDeque::new(),
        steps: BTreeMap::new(),
        nothing: Arc::new(Adapter::init(
            Arc::new(shape(28 * 16 * 2)),
            &Digest::default(),
        )),
        timers: vec![BTreeMap::new(); count],
        queue: BinaryHeap::new(),
        due: BTreeMap::new(),
        serial: 0,
        now_ms: 1_000,
        finished: 0,
        handled: BTreeMap::new(),
        computed: BTreeMap::new(),
    }
}

/// A line of `/proc/self/status`, in bytes.
fn status(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find(|line| line.starts_with(key))
        .expect("it is there");
    let kib = line
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse::<f64>().ok());
    kib.expect("a number") * 1024.0
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * q).round() as usize]
}

/// A run from its manifest to its closing height.
fn whole_run(count: usize, parameters: usize, rounds: u32, schedule: FactorSchedule) -> Members {
    let mut members = members(count);
    let manifest = manifest(members.ids[0], count, parameters, rounds, schedule);
    let run: RunId = manifest.run_id();
    for node in 0..count {
        for other in (0..count).filter(|other| *other != node) {
            let other = members.ids[other];
            members.input(node, Input::Connected(other));
        }
    }
    members.input(0, Input::Command(Command::Create(Box::new(manifest))));
    for node in 0..count {
        let join = Join {
            name: format!("member-{node}"),
            role: Role::Contributor,
            root: MerkleRoot(Digest::from_bytes([node as u8 + 1; 32])),
            tokens: 1_000,
            fingerprints: None,
            beacon: Digest::default(),
            sketch: None,
            bind: None,
        };
        let join = Some(join.into());
        members.input(node, Input::Command(Command::Follow { run, join }));
    }
    members.run();
    members
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let numbers: Vec<usize> = words.iter().filter_map(|a| a.parse().ok()).collect();
    let count = numbers.first().copied().unwrap_or(64).clamp(2, 64);
    let parameters = numbers.get(1).copied().unwrap_or(40_000_000);
    let rounds = numbers.get(2).copied().unwrap_or(3) as u32;
    let schedule = match words.iter().any(|word| word == "both") {
        true => FactorSchedule::Both,
        false => FactorSchedule::Alternate,
    };
    // What logs and messages take, whatever the adapter.
    drop(whole_run(count, 28 * 16 * 2, rounds, schedule));
    let before = status("VmHWM");
    let mut members = whole_run(count, parameters, rounds, schedule);
    let parameters = parameters / (28 * 16 * 2) * (28 * 16 * 2);
    let peak = (status("VmHWM") - before) / (4.0 * parameters as f64);
    println!("{count} members, {parameters} parameters, {rounds} rounds, {schedule:?}");
    println!("peak memory: {peak:.2} adapters in f32");
    let mut all: Vec<f64> = Vec::new();
    for (kind, times) in &mut members.handled {
        times.sort_by(f64::total_cmp);
        let (high, most) = (quantile(times, 0.999), times[times.len() - 1]);
        println!(
            "handle {kind}: {} times, p99.9 {high:.3} ms, most {most:.3} ms",
            times.len()
        );
        all.extend(times.iter());
    }
    all.sort_by(f64::total_cmp);
    let (high, most) = (quantile(&all, 0.999), all[all.len() - 1]);
    println!(
        "handle: {} times, p99.9 {high:.3} ms, most {most:.3} ms",
        all.len()
    );
    for (what, times) in &mut members.computed {
        times.sort_by(f64::total_cmp);
        println!(
            "{what}: {} times, median {:.2} s",
            times.len(),
            quantile(times, 0.5)
        );
    }
}
