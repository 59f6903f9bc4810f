//! Who lies, and the turns in which they do.

use std::collections::BTreeSet;

use rand::seq::index::sample;
use tributary_protocol::event::{Effect, Input};
use tributary_protocol::id::PeerId;
use tributary_protocol::sign::SecretKey;

use super::{Event, World, stream};
use crate::behave::{Acts, Liar, LiarView, MakeKey, RunRole};
use crate::clock::ms;
use crate::learner::Learner;
use crate::machine::Machine;
use crate::scenario::Scenario;

/// Draws the liars among the contributors that are there from the start, the creator left out but for the kind that
/// needs its place. Returns every name that one of them goes by.
pub(super) fn cast(
    scenario: &Scenario,
    seed: u64,
    learner: &dyn Learner,
    machines: &mut [Machine],
) -> BTreeSet<PeerId> {
    let first = 1 + scenario.evaluators;
    let present = scenario.present_at_start();
    // Names of one owner have the last places, which are drawn for nobody else.
    let candidates = present.saturating_sub(first + scenario.names());
    let attacks: Vec<_> = (scenario.liars.iter())
        .flat_map(|liars| {
            let attack = scenario.catalogue.attacks.get(&liars.behaviour);
            let attack = attack.expect("the scenario's names were checked");
            std::iter::repeat_n(attack, liars.among(scenario.peers))
        })
        .collect();
    let mut rng = stream(seed, "liars");
    let chosen = sample(&mut rng, candidates, attacks.len().min(candidates)).into_vec();
    let mut names = BTreeSet::new();
    for (nth, entry) in attacks.into_iter().enumerate() {
        let attack = &*entry.thing;
        // Whoever has a place of its own needs no contributor's.
        let at = chosen.get(nth).copied();
        let place = place(attack.place(), scenario, machines).or(at.map(|at| first + at));
        let Some(place) = place else { continue };
        let at = at.unwrap_or(candidates + nth);
        if let Some(make) = attack.key() {
            choose_key(make, scenario, seed, learner, machines, place);
        }
        let machine = &mut machines[place];
        let key = SecretKey::from_seed(machine.seed);
        let liar = Liar::new(
            &entry.name,
            attack,
            key,
            stream(seed, &format!("liar {at}")),
        );
        names.extend(liar.names());
        machine.liar = Some(liar);
    }
    names
}

/// Where an attack can do more than elsewhere, while nobody else lies there.
fn place(place: RunRole, scenario: &Scenario, machines: &[Machine]) -> Option<usize> {
    let is_free = |at: &usize| machines[*at].liar.is_none();
    match place {
        RunRole::Creator => Some(0).filter(is_free),
        // As many evaluators as scores bear.
        RunRole::Evaluator => (1..=scenario.evaluators.saturating_sub(1) / 3).find(is_free),
        RunRole::Signer => (1..=scenario.evaluators).find(is_free),
        RunRole::Name => (0..scenario.present_at_start()).rev().find(is_free),
        RunRole::Contributor => None,
    }
}

/// Gives a machine a key that was chosen by what is known before the run begins. The run's name does not depend on it:
/// the manifest names creator and evaluators only.
fn choose_key(
    make: MakeKey,
    scenario: &Scenario,
    seed: u64,
    learner: &dyn Learner,
    machines: &mut [Machine],
    place: usize,
) {
    let run = super::cast::manifest(scenario, seed, machines, learner).run_id();
    let everybody = machines.iter().enumerate();
    let others: Vec<PeerId> = everybody
        .filter(|(at, _)| *at != place)
        .map(|(_, machine)| machine.id)
        .collect();
    let machine = &mut machines[place];
    machine.seed = make(&run, &machine.seed, &others);
    machine.id = SecretKey::from_seed(machine.seed).peer_id();
}

/// The keys of the machines that lie.
pub(super) fn keys(machines: &[Machine]) -> Vec<SecretKey> {
    let liars = machines.iter().filter(|machine| machine.liar.is_some());
    liars.map(|m| SecretKey::from_seed(m.seed)).collect()
}

impl World {
    /// What of an input the node of a machine gets to see: all of it, unless a liar stands before it.
    pub(super) fn tempt(&mut self, at: usize, input: Input) -> Option<Input> {
        if !self.machines[at].is_up() {
            return None;
        }
        let Some(mut liar) = self.machines[at].liar.take() else {
            return Some(input);
        };
        let (input, acts) = liar.input(&self.view(at), input);
        self.machines[at].liar = Some(liar);
        self.act(at, acts);
        input
    }

    /// What a node wants done, or what the liar in its place makes of it.
    pub(super) fn want(&mut self, at: usize, effects: Vec<Effect>) {
        let acts = match self.machines[at].liar.take() {
            None => Acts {
                effects,
                whispers: Vec::new(),
            },
            Some(mut liar) => {
                let acts = liar.effects(&self.view(at), effects);
                self.machines[at].liar = Some(liar);
                acts
            }
        };
        self.act(at, acts);
    }

    /// What its node asked for takes a machine its time, whatever waits for its disk.
    fn begin_computing(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let takes = ms(self.scenario.learner.compute_ms) * machine.slowness / 1_000;
        let boot = machine.boot;
        for work in std::mem::take(&mut machine.asked) {
            let done = Event::Computed { to: at, boot, work };
            self.schedule(self.now + takes, done);
        }
    }

    fn act(&mut self, at: usize, acts: Acts) {
        self.machines[at].enqueue(acts.effects);
        self.begin_computing(at);
        self.carry_out(at);
        for whisper in acts.whispers {
            self.hand(at, whisper);
        }
    }

    fn view(&self, at: usize) -> LiarView<'_> {
        let machine = &self.machines[at];
        LiarView {
            node: machine.node.as_ref(),
            store: &machine.store,
            manifest: &self.manifest,
            run: self.run,
            peers: &self.everyone,
            friends: &self.friends,
            now: machine.clock.now(self.now),
            books: self.ledgers.of(at),
        }
    }
}
