//! A federation in virtual time: an event heap, machines, a network, a learner and an oracle.
//!
//! Everything is drawn from the seed, one stream of draws per purpose; nothing depends on real time,
//! threads or addresses, so a seed names one history. Each event touches one machine: it is fed, its
//! effects are carried out as far as its disk allows, and the oracle looks at it.

mod carry;
mod cast;
mod disputes;
mod faults;
mod lies;
mod membership;
mod modelled;
mod serving;
mod settle;
mod told;

pub use faults::Strike;
pub use settle::{Settlement, Worth};

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tributary_protocol::event::{Input, ScoreTask, Timer};
use tributary_protocol::hash::{self, Domain, Hasher};
use tributary_protocol::id::{PeerId, Round, RunId};
use tributary_protocol::log;
use tributary_protocol::manifest::Manifest;
use tributary_protocol::node::{Node, NodeConfig, Resources, RestoreError};
use tributary_protocol::sign::{self, SecretKey};
use tributary_protocol::work::Work;

use crate::clock::{Micros, ms};
use crate::guard;
use crate::learner::Learner;
use crate::link::Link;
use crate::machine::{Disk, Machine};
use crate::network::NETWORK;
use crate::oracle::{Heard, Oracle, Violation};
use crate::record::{History, Moment, Plane, Sink, Trace, What, ending};
use crate::scenario::{MAX_EVENTS, Scenario};
use crate::watch::Progress;

/// Messages under way at once before it counts as a storm: a thousand for each of the largest committee's members.
const MAX_UNDER_WAY: usize = 2_000_000;

/// Within so long members are asked to take part.
const INVITED_MS: u64 = 3_000;

/// Something that is going to happen.
enum Event {
    /// A message or a command arrives at whatever process runs there by then.
    Arrive { to: usize, input: Box<Input> },
    /// A gossip message arrives.
    Flood {
        to: usize,
        from: PeerId,
        id: u64,
        run: RunId,
        bytes: Arc<[u8]>,
        hash: hash::Digest,
        /// A duplicate that slips past the memory of the gossip layer.
        again: bool,
    },
    /// An answer to a process; void if it has died since.
    Answer {
        to: usize,
        boot: u32,
        input: Box<Input>,
    },
    /// A timer goes off, if it was not set again.
    Alarm {
        to: usize,
        boot: u32,
        timer: Timer,
        token: u64,
    },
    /// Training ends, if it was not superseded.
    Trained { to: usize, boot: u32, token: u64 },
    /// What a node asked to have computed is.
    Computed {
        to: usize,
        boot: u32,
        work: Box<Work>,
    },
    /// Scoring ends.
    Scored {
        to: usize,
        boot: u32,
        task: Box<ScoreTask>,
    },
    /// A sync ends.
    Synced { to: usize, boot: u32 },
    /// Whether two neighbours are connected may have changed.
    Line { between: (usize, usize) },
    /// A fault begins or ends.
    Fault(faults::Fault),
}

struct Scheduled {
    at: Micros,
    sequence: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    /// The earliest is the greatest, so that the heap gives it first; equal times in order of
    /// scheduling.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Hash of every event, every effect and all final states.
    pub digest: hash::Digest,
    /// Training rounds certified on every peer.
    pub rounds_certified: u32,
    /// Broken promises, at most one for each kind and peer.
    pub violations: Vec<Violation>,
    /// Events handled.
    pub events: u64,
    /// Virtual time passed.
    pub virtual_us: Micros,
    /// Crashes carried out.
    pub crashes: u32,
    /// Common loss of the first and the last certified adapter.
    pub loss: Option<(f64, f64)>,
    /// The first height in whose committee liars could stop it, if there was one. From there on the run
    /// need not finish.
    pub overrun: Option<Round>,
    /// Where the money lay, in a scenario that settles.
    pub settlement: Option<Settlement>,
    /// What a recorded run leaves behind.
    pub history: Option<Box<History>>,
}

/// One simulated federation: its machines, its network, its events and everything that watches them.
pub struct World {
    scenario: Scenario,
    now: Micros,
    sequence: u64,
    events: u64,
    heap: BinaryHeap<Scheduled>,
    machines: Vec<Machine>,
    index: BTreeMap<PeerId, usize>,
    everyone: Arc<[PeerId]>,
    /// Keys of those that lie.
    friends: Vec<SecretKey>,
    link: Link,
    learner: Box<dyn Learner>,
    manifest: Manifest,
    run: RunId,
    oracle: Oracle,
    trace: Trace,
    faults: faults::Faults,
    /// Draws of the network, of disks, and of everything else that happens to machines.
    link_rng: ChaCha8Rng,
    disk_rng: ChaCha8Rng,
    gossip_id: u64,
    token: u64,
    ledgers: settle::Ledgers,
    reading: modelled::Reading,
    computed: disputes::Computed,
    /// Where somebody reads how far it is.
    progress: Option<Progress>,
}

impl World {
    /// Sets a federation up; nothing has happened yet. `sink` hears the timeline.
    pub fn new(scenario: &Scenario, seed: u64, sink: Option<Sink>) -> Self {
        let scenario = scenario.drawn(seed);
        let mut rng = stream(seed, "machines");
        let mut machines = cast::machines(&scenario, seed, &mut rng);
        let checked = "the scenario's names were checked";
        let learner = scenario.make_learner(seed).expect(checked);
        let liars = lies::cast(&scenario, seed, &*learner, &mut machines);
        let manifest = cast::manifest(&scenario, seed, &machines, &*learner);
        let run = manifest.run_id();
        let mut world = Self {
            now: 0,
            sequence: 0,
            events: 0,
            heap: BinaryHeap::new(),
            index: machines
                .iter()
                .enumerate()
                .map(|(i, m)| (m.id, i))
                .collect(),
            link: scenario.make_link().expect(checked),
            learner,
            oracle: Oracle::new(
                seed,
                manifest.clone(),
                machines.iter().map(|m| m.id).collect(),
                liars,
            ),
            everyone: machines.iter().map(|m| m.id).collect(),
            friends: lies::keys(&machines),
            manifest,
            run,
            trace: Trace::new(sink),
            faults: faults::Faults::new(&scenario, stream(seed, "faults")),
            link_rng: stream(seed, "link"),
            disk_rng: stream(seed, "disk"),
            gossip_id: 0,
            token: 0,
            ledgers: settle::Ledgers::default(),
            reading: modelled::Reading::default(),
            computed: disputes::Computed::default(),
            progress: None,
            scenario,
            machines,
        };
        world.cast_server();
        world.start();
        world
    }

    /// Runs to the end: until every peer has finished the run, or a promise is broken for good.
    pub fn run(mut self) -> Outcome {
        // Every machine checks what every other has checked: the same function of the same bytes.
        sign::remember_checks(true);
        log::share_blocks(true);
        while let Some(Scheduled { at, event, .. }) = self.heap.pop() {
            self.now = at;
            self.events += 1;
            self.tell_progress(&event);
            self.happen(event);
            let storm = self.events > MAX_EVENTS || self.heap.len() > MAX_UNDER_WAY;
            if storm {
                let under_way = self.heap.len();
                self.oracle.storm(at, self.events, under_way);
            }
            if storm || self.oracle.is_hopeless() || self.is_over() {
                break;
            }
        }
        sign::remember_checks(false);
        log::share_blocks(false);
        self.conclude()
    }

    /// Keeps a [`History`] of the run, for reports.
    pub fn recorded(mut self) -> Self {
        let participants = ending::participants(&self.machines);
        let names = ending::names(&self.machines);
        self.trace.remember(participants, names);
        self
    }

    /// Crashes one machine at a persist point of choice.
    pub fn with_strike(mut self, strike: Strike) -> Self {
        self.faults.strike = Some(strike);
        self
    }

    /// Gives every machine a disk that does not keep its word.
    pub fn with_disks(mut self, disk: Disk) -> Self {
        self.machines.iter_mut().for_each(|m| m.disk = disk);
        self
    }

    /// Has the oracle take everybody for honest, to show that it notices what nobody honest does.
    pub fn with_trust(mut self) -> Self {
        let names = self.machines.iter().map(|m| m.id).collect();
        let (seed, manifest) = (self.oracle.seed(), self.manifest.clone());
        self.oracle = Oracle::new(seed, manifest, names, BTreeSet::new());
        self
    }

    fn start(&mut self) {
        for at in 0..self.machines.len() {
            self.power_on(at);
        }
        let present = self.scenario.present_at_start();
        let surplus = self.scenario.surplus_names();
        for at in 0..present {
            let when = ms(self.faults.rng.random_range(0..INVITED_MS));
            let when = match at {
                0 => 0,
                // The genesis is that of the run in which an owner has one name; its other names join behind.
                _ if at + surplus >= present => ms(INVITED_MS) + when,
                _ => when,
            };
            self.schedule(when, Event::Fault(faults::Fault::Invite(at)));
        }
        self.plan_faults();
    }

    fn schedule(&mut self, at: Micros, event: Event) {
        self.sequence += 1;
        let sequence = self.sequence;
        self.heap.push(Scheduled {
            at,
            sequence,
            event,
        });
    }

    fn happen(&mut self, event: Event) {
        let is_current = |world: &Self, to: usize, boot| world.machines[to].boot == boot;
        match event {
            Event::Arrive { to, input } => self.feed(to, *input),
            Event::Flood {
                to,
                from,
                id,
                run,
                bytes,
                hash,
                again,
            } => {
                let machine = &mut self.machines[to];
                let hears = machine.is_up() && machine.topics.contains(&run);
                if hears {
                    self.trace.received(to, Plane::Control, bytes.len());
                }
                if hears && (machine.meets(hash, self.now) || again) {
                    let bytes = bytes.to_vec();
                    self.feed(to, Input::Gossip { from, id, bytes });
                }
            }
            Event::Answer { to, boot, input } if is_current(self, to, boot) => {
                self.feed(to, *input);
            }
            Event::Alarm {
                to,
                boot,
                timer,
                token,
            } if is_current(self, to, boot)
                && self.machines[to].timers.get(&timer) == Some(&token) =>
            {
                self.machines[to].timers.remove(&timer);
                self.feed(to, Input::Timer(timer));
            }
            Event::Trained { to, boot, token } if is_current(self, to, boot) => {
                self.trained(to, token);
            }
            Event::Computed { to, boot, work } if is_current(self, to, boot) => {
                self.hand(to, Input::Computed(Box::new(work.run())));
            }
            Event::Scored { to, boot, task } if is_current(self, to, boot) => {
                let sheet = self.learner.score(to, &task);
                self.computed.keep(self.machines[to].id, &sheet);
                self.feed(
                    to,
                    Input::Scored {
                        run: task.run,
                        sheet,
                    },
                );
            }
            Event::Synced { to, boot } if is_current(self, to, boot) => {
                let records = self.machines[to].synced();
                self.trace.mark(self.now, to, "synced");
                self.oracle.durable(self.now, to, &records);
                self.carry_out(to);
            }
            Event::Line { between } => self.reconcile(between),
            Event::Fault(fault) => self.carry_fault(fault),
            // Meant for a process that has died since.
            _ => {}
        }
    }

    /// The training of this token is over, unless another took its place.
    fn trained(&mut self, to: usize, token: u64) {
        let training = (self.machines[to].training).take_if(|training| training.token == token);
        if let Some(training) = training {
            let trained = self.learner.train(to, &training.task);
            self.feed(to, Input::Trained(trained));
        }
    }

    /// A message reaches a machine.
    fn reaches(&mut self, to: usize, input: &Input) {
        if let Input::Direct { bytes, .. } = input
            && self.machines[to].is_up()
        {
            self.trace.received(to, Plane::Control, bytes.len());
        }
    }

    /// Hands an input to a machine, unless the liar there keeps it from its node.
    fn feed(&mut self, to: usize, input: Input) {
        self.reaches(to, &input);
        if let Some(input) = self.tempt(to, input) {
            self.hand(to, input);
        }
    }

    /// Hands an input to a machine's node, if it runs, and carries out what the node wants.
    fn hand(&mut self, to: usize, input: Input) {
        let machine = &mut self.machines[to];
        let Some(node) = &mut machine.node else {
            return;
        };
        self.trace.input(self.now, to, &input);
        let gossip = Heard::of(&input);
        let kind = crate::record::input_kind(&input);
        let now = machine.clock.now(self.now);
        let at_once = self.scenario.learner.compute_ms == 0;
        let computed = || {
            let effects = node.handle(input, now);
            match at_once {
                true => node.complete(effects, now),
                false => effects,
            }
        };
        match guard::catch(computed) {
            Ok(effects) => {
                self.oracle.answered(self.now, to, gossip, &effects);
                self.want(to, effects);
            }
            Err(panic) => {
                self.oracle.panicked(self.now, to, kind, &panic);
                machine.node = None;
            }
        }
    }

    /// Looks at a machine after its effects were carried out as far as possible.
    fn inspect(&mut self, at: usize) {
        let machine = &self.machines[at];
        self.oracle.inspect(self.now, at, machine);
        let view = machine.node.as_ref().and_then(|node| node.run(&self.run));
        let certified = view.and_then(|view| crate::oracle::certified(&view));
        if let Some(round) = certified {
            self.reached(round);
        }
        self.keep_books(at);
        self.read_chain(at);
    }

    fn is_over(&mut self) -> bool {
        self.faults.is_calm()
            && (self.oracle.is_stalled()
                || self.oracle.all_finished(&self.machines) && self.has_settled())
    }

    fn conclude(mut self) -> Outcome {
        self.check_anchors();
        self.oracle.conclude(self.now, &self.machines);
        for (at, machine) in self.machines.iter().enumerate() {
            let state = crate::oracle::final_state(machine, &self.run);
            self.trace.mark(self.now, at, &state);
        }
        let loss = (self.oracle.adapters(&self.machines))
            .map(|(first, last)| (self.learner.loss(&first), self.learner.loss(&last)));
        let history = self.history();
        let settlement = self.settlement();
        Outcome {
            seed: self.oracle.seed(),
            digest: self.trace.digest(),
            rounds_certified: self.oracle.rounds_certified(&self.machines),
            overrun: self.oracle.overrun(),
            violations: self.oracle.into_violations(),
            events: self.events,
            virtual_us: self.now,
            crashes: self.faults.crashes,
            loss,
            settlement,
            history,
        }
    }

    /// What was recorded, with what the finished world adds to it.
    fn history(&mut self) -> Option<Box<History>> {
        let mut history = Box::new(self.trace.take_history()?);
        let loss = |values: &[f32]| self.learner.loss(values);
        history.rounds = ending::rounds(&self.machines, &self.run, &loss);
        for violation in self.oracle.violations() {
            history.push(Moment {
                at: violation.at,
                peer: violation.peer,
                what: What::Broken(format!("{}: {}", violation.promise, violation.what)),
            });
        }
        Some(history)
    }
}

/// A separate stream of random draws for every purpose.
fn stream(seed: u64, purpose: &str) -> ChaCha8Rng {
    let mut hasher = Hasher::new(Domain::Simulation);
    hasher
        .update(&seed.to_le_bytes())
        .update(purpose.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

impl World {
    /// Boots a machine: a new node on an empty disk, else one restored from its records.
    fn power_on(&mut self, at: usize) {
        let origin_ms = self.disk_rng.random_range(0..1 << 32);
        let machine = &mut self.machines[at];
        machine.power_on(self.now, origin_ms);
        let config = NodeConfig {
            network: NETWORK,
            seed: machine.seed,
            // Every other peer keeps what an audit needs.
            archive: at.is_multiple_of(2),
            resources: Resources {
                upload_rate: (self.scenario.link.adapt)
                    .then_some(self.scenario.link.bandwidth_kib_s * 1024),
                rank: None,
                bounds: None,
            },
            tick_ms: self.scenario.run.tick_ms,
        };
        if machine.store.is_empty() {
            machine.node = Some(Node::new(config, at as u64));
            self.oracle.restored(self.now, at, machine);
            return;
        }
        let now = machine.clock.now(self.now);
        let saved = machine.store.saved();
        let at_once = self.scenario.learner.compute_ms == 0;
        let restore = || {
            let (mut node, effects) = Node::restore(config, at as u64, saved, now)?;
            let effects = match at_once {
                true => node.complete(effects, now),
                false => effects,
            };
            Ok((node, effects))
        };
        match guard::catch(restore) {
            Ok(Ok((node, effects))) => {
                machine.node = Some(node);
                self.oracle.restored(self.now, at, machine);
                self.want(at, effects);
            }
            Ok(Err(why)) => {
                let why: RestoreError = why;
                self.oracle.not_restored(self.now, at, why.to_string());
            }
            Err(panic) => self.oracle.panicked(self.now, at, "restore", &panic),
        }
    }

    fn carry_out(&mut self, at: usize) {
        carry::carry_out(self, at);
        self.inspect(at);
    }
}
