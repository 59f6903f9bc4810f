//! Checks the promises after every event.
//!
//! The oracle sees what no peer sees: all peers at once, across their crashes, and which of them lie. It keeps its own
//! copy of the certified chain, of everything that left a peer, and of how far each ledger had grown, and compares. It
//! never repairs and never steers; the first broken promise ends the run. The promises are about honest peers and hold
//! for honest peers; a liar may do what it likes, except make any node panic, its own included.

mod chain;
mod end;
mod judged;
mod kept_out;
mod speech;

pub use judged::Heard;

use std::collections::BTreeSet;

use tributary_protocol::event::{Effect, Notice, Record};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{BlobHash, PeerId, Round, RunId};
use tributary_protocol::limits;
use tributary_protocol::log::LogHead;
use tributary_protocol::manifest::Manifest;
use tributary_protocol::node::RunView;
use tributary_protocol::{state, sync};

use crate::clock::Micros;
use crate::machine::Machine;
use crate::store::Store;
use chain::Chain;
use judged::Judged;
use kept_out::KeptOut;
use speech::{Sender, Speech};

/// Effects that may wait for one sync. A smoke run stays below 200.
const MAX_WAITING_EFFECTS: usize = 10_000;

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed that shows it.
    pub seed: u64,
    /// Virtual time.
    pub at: Micros,
    /// The peer, unless it concerns all.
    pub peer: Option<usize>,
    /// The round that was open.
    pub round: Round,
    /// Which promise.
    pub promise: &'static str,
    /// What was seen.
    pub what: String,
}

impl std::fmt::Display for Violation {
    /// Participant, round and cause first.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = self.at as f64 / 1e6;
        match self.peer {
            Some(peer) => write!(f, "peer-{peer:02}")?,
            None => f.write_str("every participant")?,
        }
        let Self {
            seed,
            round,
            promise,
            what,
            ..
        } = self;
        write!(
            f,
            ", round {round}: broken promise \"{promise}\": {what} (at {at:.3} s, seed {seed})"
        )
    }
}

/// A promise with what was seen instead.
type Broken = (&'static str, String);

/// The promises, and what has been seen that bears on them.
pub struct Oracle {
    seed: u64,
    run: RunId,
    violations: Vec<Violation>,
    chain: Chain,
    speech: Speech,
    judged: Judged,
    kept_out: KeptOut,
    /// The first height that is not known to be decided.
    undecided: Round,
    peers: Vec<Seen>,
    names: Vec<PeerId>,
    /// Which of the peers are honest.
    honest: Vec<bool>,
    /// Every name of every dishonest peer.
    liars: BTreeSet<PeerId>,
    calm: Option<Calm>,
    /// Liars have stopped the run, as enough of them may.
    stalled: bool,
}

/// What the oracle remembers of one machine.
#[derive(Default)]
struct Seen {
    /// Ledger heads at the last look, since the last boot.
    heads: Vec<LogHead>,
    /// What peers compare to see whether their ledgers are the same, at the last look.
    ledger: Option<Digest>,
    /// Something was persisted since the last look. Whatever enters a ledger is.
    may_have_grown: bool,
    /// Certificates of the machine's chain that were compared.
    certified: usize,
    /// Round of the adapter that was compared.
    adapter: Option<Round>,
    /// The height in which it has just spoken.
    speaks: Option<Round>,
    /// Certificates of its disk that were judged.
    judged: end::Judged,
    finished: bool,
    panicked: bool,
}

/// The liveness phase.
struct Calm {
    within: Micros,
    deadline: Micros,
    /// Certificates of the peer that has fewest.
    least: usize,
}

/// The newest round that is certified as far as this peer knows.
pub(crate) fn certified(view: &RunView<'_>) -> Option<Round> {
    view.head().map(|head| head.round)
}

/// A machine's state at the end, as text for the digest.
pub(crate) fn final_state(machine: &Machine, run: &RunId) -> String {
    let view = machine.node.as_ref().and_then(|node| node.run(run));
    let head = view.and_then(|view| view.head());
    let logs = view.map(|view| view.log().heads());
    format!("{:?} {logs:?}", head.map(|head| (head.round, head.hash.0)))
}

impl Oracle {
    /// An oracle of one run. Knows every peer by index and id, and every name that a liar goes by.
    pub fn new(seed: u64, manifest: Manifest, peers: Vec<PeerId>, liars: BTreeSet<PeerId>) -> Self {
        let run = manifest.run_id();
        Self {
            seed,
            run,
            violations: Vec::new(),
            chain: Chain::new(manifest, liars.clone()),
            speech: Speech::default(),
            judged: Judged::default(),
            kept_out: KeptOut::default(),
            undecided: Round(0),
            peers: peers.iter().map(|_| Seen::default()).collect(),
            honest: peers.iter().map(|peer| !liars.contains(peer)).collect(),
            names: peers,
            liars,
            calm: None,
            stalled: false,
        }
    }

    /// The honest peers.
    fn honest_peers(&self) -> impl Iterator<Item = (usize, &Seen)> {
        let all = self.peers.iter().enumerate();
        all.filter(|(peer, _)| self.honest[*peer])
    }

    fn honest_machines<'a>(
        &'a self,
        machines: &'a [Machine],
    ) -> impl Iterator<Item = (usize, &'a Machine)> {
        let all = machines.iter().enumerate();
        all.filter(|(peer, _)| self.honest[*peer])
    }

    /// The first height whose committee had enough liars to stop it.
    pub fn overrun(&self) -> Option<Round> {
        self.chain.overrun()
    }

    /// Whether liars have stopped the run with the weight that they need for it.
    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether it makes no sense to go on.
    pub fn is_hopeless(&self) -> bool {
        !self.violations.is_empty()
    }

    /// Whether a peer's node panicked and must not be started again.
    pub fn has_panicked(&self, peer: usize) -> bool {
        self.peers[peer].panicked
    }

    /// Broken promises so far.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Broken promises.
    pub fn into_violations(self) -> Vec<Violation> {
        self.violations
    }

    /// A certificate took over what no honest member can have read of the run's chain.
    pub fn invented_anchor(&mut self, at: Micros, peer: usize, what: String) {
        let promise = "certificates say of a chain what is there";
        if !self.is_hopeless() && self.overrun().is_none() {
            self.broken(at, Some(peer), (promise, what));
        }
    }

    fn broken(&mut self, at: Micros, peer: Option<usize>, (promise, what): Broken) {
        let known = |v: &Violation| v.promise == promise && v.peer == peer;
        if !self.violations.iter().any(known) {
            let (seed, round) = (self.seed, self.chain.open());
            self.violations.push(Violation {
                seed,
                at,
                peer,
                round,
                promise,
                what,
            });
        }
    }

    fn check(&mut self, at: Micros, peer: usize, outcome: Result<(), Broken>) {
        if let Err(broken) = outcome {
            self.broken(at, Some(peer), broken);
        }
    }

    /// The node panicked on an input of this kind.
    pub fn panicked(&mut self, at: Micros, peer: usize, kind: &str, panic: &str) {
        self.peers[peer].panicked = true;
        self.broken(
            at,
            Some(peer),
            ("no input panics", format!("on {kind}: {panic}")),
        );
    }

    /// The node refused its own records.
    pub fn not_restored(&mut self, at: Micros, peer: usize, why: String) {
        self.peers[peer].panicked = true;
        self.broken(
            at,
            Some(peer),
            ("a crash leaves records that can be read back", why),
        );
    }

    /// The run does not settle down.
    pub fn storm(&mut self, at: Micros, events: u64, under_way: usize) {
        let what = format!("{events} events happened and {under_way} are under way");
        self.broken(at, None, ("traffic is bounded", what));
    }

    /// What the node wants done after an input; a gossip message gets exactly one verdict, and no
    /// honest neighbour is blamed for what it handed on.
    pub fn answered(&mut self, at: Micros, peer: usize, gossip: Option<Heard>, effects: &[Effect]) {
        let persists = |effect: &Effect| matches!(effect, Effect::Persist(_));
        self.peers[peer].may_have_grown |= effects.iter().any(persists);
        if self.honest[peer] {
            let outcome = self.judged.answered(gossip, effects, &self.liars);
            self.check(at, peer, outcome);
            self.peers[peer].speaks = kept_out::speaks(effects, &self.names[peer]);
        }
    }

    /// A message leaves the peer.
    pub fn sent(&mut self, at: Micros, peer: usize, bytes: &[u8], machine: &Machine) {
        if !self.honest[peer] {
            return;
        }
        let creator = self.chain.manifest().creator;
        let sender = Sender {
            machine,
            run: self.run,
            creator,
        };
        let outcome = self.speech.sent(peer, bytes, &sender, &self.liars);
        match outcome {
            Ok(certificates) => {
                for bytes in certificates {
                    self.certificate(at, peer, &bytes);
                }
            }
            Err(broken) => self.broken(at, Some(peer), broken),
        }
    }

    /// A blob is offered to others.
    pub fn offered(&mut self, at: Micros, peer: usize, hash: &BlobHash, store: &Store) {
        if self.honest[peer] && store.blob(hash).is_none() {
            let what = format!("blob {} is offered", hash.short());
            self.broken(
                at,
                Some(peer),
                ("nothing is acknowledged before it is durable", what),
            );
        }
    }

    /// Records became durable.
    pub fn durable(&mut self, at: Micros, peer: usize, records: &[Record]) {
        if !self.honest[peer] {
            return;
        }
        for record in records {
            if let Record::Certificate { bytes, .. } = record {
                self.certificate(at, peer, bytes);
            }
        }
    }

    /// A peer holds this certificate for good.
    fn certificate(&mut self, at: Micros, peer: usize, bytes: &[u8]) {
        let outcome = self.chain.add(bytes);
        self.check(at, peer, outcome);
        while let Some((value, committee)) = self.chain.decided(self.undecided) {
            let outcome = self.kept_out.decided(value, &committee, &self.liars);
            self.undecided = self.undecided.next();
            if let Err(broken) = outcome {
                self.broken(at, None, broken);
            }
        }
    }

    /// The node told its owner something.
    pub fn notice(&mut self, at: Micros, peer: usize, notice: &Notice) {
        if !self.honest[peer] {
            return;
        }
        let broken: Broken = match notice {
            Notice::Certified { round, state, .. } => {
                let outcome = self.chain.compare(*round, state);
                return self.check(at, peer, outcome);
            }
            Notice::Equivocation { author, .. } if !self.liars.contains(author) => (
                "no honest peer is blamed",
                format!("{} is called an equivocator", author.short()),
            ),
            Notice::Refused { from, why } if !self.liars.contains(from) => (
                "no honest peer is blamed",
                format!("refused {}: {why}", from.short()),
            ),
            Notice::CommandFailed { why, .. } => ("commands succeed", why.clone()),
            _ => return,
        };
        self.broken(at, Some(peer), broken);
    }

    /// A node came back from its records: whatever was durable must be known to it again.
    pub fn restored(&mut self, at: Micros, peer: usize, machine: &Machine) {
        self.peers[peer] = Seen {
            may_have_grown: true,
            ..Seen::default()
        };
        if self.honest[peer] {
            let outcome = end::everything_durable_is_back(machine, &self.run, &self.liars);
            self.check(at, peer, outcome);
        }
    }

    /// Looks at a machine after an event.
    pub fn inspect(&mut self, at: Micros, peer: usize, machine: &Machine) {
        if !self.honest[peer] {
            return;
        }
        let spoke = self.peers[peer].speaks.take();
        let Some(view) = machine.node.as_ref().and_then(|node| node.run(&self.run)) else {
            self.peers[peer].finished = false;
            return;
        };
        if let Some(round) = spoke.filter(|round| *round == state::next_round(view.head())) {
            self.kept_out.spoke(machine.id, round, view.timely());
        }
        if self.peers[peer].may_have_grown {
            let outcome = self.inspect_ledger(peer, &view);
            self.check(at, peer, outcome);
            let judged = &mut self.peers[peer].judged;
            let outcome = end::ledger_is_bounded(machine, &view).and_then(|()| {
                end::contradictions_are_kept_once(machine, &view, &self.liars, judged)
            });
            self.check(at, peer, outcome);
        }
        let outcome = self.inspect_chain(peer, &view);
        self.check(at, peer, outcome);
        let outcome = self.inspect_bounds(machine, &view);
        self.check(at, peer, outcome);
        self.peers[peer].finished = view.is_finished() && view.awaited_blobs() == 0;
        self.watch_progress(at);
    }

    /// No honest author's log ever gets shorter or changes.
    fn inspect_ledger(&mut self, peer: usize, view: &RunView<'_>) -> Result<(), Broken> {
        self.peers[peer].may_have_grown = false;
        let mut heads = view.log().heads();
        heads.retain(|head| !self.liars.contains(&head.author));
        let old = std::mem::replace(&mut self.peers[peer].heads, heads);
        self.peers[peer].ledger = sync::open(view.log()).first().map(|all| all.digest);
        let heads = &self.peers[peer].heads;
        let mut at = 0;
        for before in &old {
            while heads
                .get(at)
                .is_some_and(|head| head.author < before.author)
            {
                at += 1;
            }
            let now = heads.get(at).filter(|head| head.author == before.author);
            let kept = now.is_some_and(|now| {
                now.seq > before.seq || (now.seq == before.seq && now.block == before.block)
            });
            if !kept {
                return Err((
                    "ledgers only grow",
                    format!(
                        "the log of {} was {before:?}, is {now:?}",
                        before.author.short()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// What the peer holds for certified is what everybody holds for certified. A certificate counts
    /// from the moment it is durable somewhere or has left its peer; until then a crash may undo it.
    fn inspect_chain(&mut self, peer: usize, view: &RunView<'_>) -> Result<(), Broken> {
        let seen = &mut self.peers[peer];
        let chain = view.chain();
        if chain.len() < seen.certified {
            let what = "the chain of certificates got shorter".into();
            return Err(("ledgers only grow", what));
        }
        while let Some(certificate) = chain.get(seen.certified) {
            if !self.chain.knows(certificate.value.round) {
                return Ok(());
            }
            self.chain.compare_value(&certificate.value)?;
            seen.certified += 1;
        }
        if let Some(head) = view.head() {
            self.chain.compare(head.round, &head.hash)?;
        }
        match view.adapter() {
            Some((round, adapter)) if seen.adapter != Some(*round) => {
                seen.adapter = Some(*round);
                self.chain.compare_adapter(*round, adapter)
            }
            _ => Ok(()),
        }
    }

    fn inspect_bounds(&self, machine: &Machine, view: &RunView<'_>) -> Result<(), Broken> {
        let rounds = self.chain.manifest().plan.rounds as usize + 2;
        for (what, found, most) in [
            (
                "effects that wait for the disk",
                machine.waiting(),
                MAX_WAITING_EFFECTS,
            ),
            (
                "blocks that wait for one before",
                view.log().waiting(),
                limits::MAX_PENDING_IN_SCOPE,
            ),
            (
                "blobs awaited",
                view.awaited_blobs(),
                rounds * (limits::MAX_INCLUDED + 1),
            ),
        ] {
            if found > most {
                return Err((
                    "queues are bounded",
                    format!("{found} {what}, at most {most}"),
                ));
            }
        }
        Ok(())
    }

    /// Faults are over: from now on each missing round must certify within this time.
    pub fn calm(&mut self, at: Micros, within: Micros) {
        let least = self.least_certified();
        self.calm = Some(Calm {
            within,
            deadline: at + within,
            least,
        });
    }

    fn least_certified(&self) -> usize {
        let certified = self.honest_peers().map(|(_, seen)| seen.certified);
        certified.min().unwrap_or(0)
    }

    fn watch_progress(&mut self, at: Micros) {
        let least = self.least_certified();
        let Some(calm) = &mut self.calm else { return };
        if least > calm.least {
            calm.least = least;
            calm.deadline = at + calm.within;
        }
        let (within, deadline) = (calm.within, calm.deadline);
        if at > deadline && !self.chain.is_decidable() {
            self.stalled = true;
        } else if at > deadline {
            let within_s = within / 1_000_000;
            let slow: Vec<usize> = (self.honest_peers())
                .filter(|(_, seen)| !seen.finished)
                .map(|(peer, _)| peer)
                .collect();
            let what = match slow.is_empty() {
                true => format!("ledgers still differ {within_s} s after the end"),
                false => format!(
                    "no progress for {within_s} s after faults stopped: {least} certificates \
                     everywhere, peers {slow:?} have not finished"
                ),
            };
            self.broken(at, None, ("once faults stop, the run finishes", what));
        }
    }

    /// Whether every honest peer runs, has finished the run and holds the same ledger: the same logs of all
    /// authors, and the same proofs against equivocators.
    pub fn all_finished(&self, machines: &[Machine]) -> bool {
        let up = self.honest_machines(machines).all(|(_, m)| m.is_up());
        let finished = up && self.honest_peers().all(|(_, seen)| seen.finished);
        let mut ledgers = (self.honest_peers()).map(|(_, seen)| &seen.ledger);
        let first = ledgers.next();
        finished && ledgers.all(|ledger| Some(ledger) == first)
    }

    /// Training rounds certified on every honest machine.
    pub fn rounds_certified(&self, machines: &[Machine]) -> u32 {
        let of = |machine: &Machine| {
            let view = machine.node.as_ref().and_then(|node| node.run(&self.run));
            view.map_or(0, |view| view.chain().len())
        };
        let heights = self.honest_machines(machines).map(|(_, m)| of(m)).min();
        (heights.unwrap_or(0).saturating_sub(1) as u32).min(self.chain.manifest().plan.rounds)
    }

    /// The first and the last certified adapter's numbers.
    pub fn adapters(&self, machines: &[Machine]) -> Option<(Vec<f32>, Vec<f32>)> {
        let first = self.chain.first_adapter();
        let view = machines.first()?.node.as_ref()?.run(&self.run)?;
        Some((first, view.adapter()?.1.values().to_vec()))
    }

    /// The checks that need everything to be over.
    pub fn conclude(&mut self, at: Micros, machines: &[Machine]) {
        if self.is_hopeless() || self.stalled {
            return;
        }
        if !self.all_finished(machines) {
            let what = "the world ran out of events before every peer had finished".into();
            return self.broken(at, None, ("once faults stop, the run finishes", what));
        }
        let spoken: BTreeSet<_> = self.speech.honest_blocks(&self.liars).collect();
        let forked = self.speech.forked();
        let honest: Vec<_> = self.honest_machines(machines).collect();
        let mut outcomes = Vec::new();
        for (peer, machine) in &honest {
            let here = end::everything_spoken_is_here(machine, &self.run, &spoken);
            outcomes.push((Some(*peer), here));
            let proven = end::equivocators_are_proven(machine, &self.run, &forked, &self.liars);
            outcomes.push((Some(*peer), proven));
            if let Some(view) = machine.node.as_ref().and_then(|node| node.run(&self.run)) {
                let mut all = end::Judged::default();
                let kept = end::contradictions_are_kept_once(machine, &view, &self.liars, &mut all);
                outcomes.push((Some(*peer), kept));
                let scores = end::scores_are_within_honest_ones(&view, &self.liars);
                outcomes.push((Some(*peer), scores));
            }
        }
        outcomes.push((None, end::accounts_agree(&honest, &self.run)));
        for (peer, outcome) in outcomes {
            if let Err(broken) = outcome {
                self.broken(at, peer, broken);
            }
        }
    }
}
