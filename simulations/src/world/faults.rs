//! What befalls the machines: invitations, departures, crashes, restarts, splits, broken lines, and
//! the calm at the end.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use tributary_protocol::event::Input;
use tributary_protocol::id::Round;

use super::{Event, World};
use crate::clock::{Micros, ms};
use crate::record::What;
use crate::scenario::Scenario;

/// How long a broken connection goes unnoticed at most.
const DETECTION_MS: u64 = 3_000;
/// Crashes of a round are spread over this, roughly the length of a quiet round.
const CRASH_WINDOW_MS: u64 = 8_000;

/// Something that befalls machines.
pub(super) enum Fault {
    Invite(usize),
    Leave(usize),
    Crash(usize),
    /// Crash behind a random effect to come.
    Fuse(usize),
    Restart(usize),
    /// The scenario's partition of this number begins, ends.
    Split(usize),
    Heal(usize),
    /// This share of the peers is killed at once.
    Kill(f64),
    Calm,
}

/// One crash at a persist point of choice.
#[derive(Clone, Copy, Debug)]
pub struct Strike {
    /// The machines that it hits.
    pub peer: usize,
    /// At which of its syncs, from 0.
    pub sync: u32,
    /// Whether the sync is over by then; otherwise a part of it is lost.
    pub after: bool,
}

/// The state of everything that goes wrong.
pub(super) struct Faults {
    /// The crash to come, if one was asked for.
    pub(super) strike: Option<Strike>,
    /// Syncs begun by the machine that it hits.
    syncs: u32,
    pub(super) rng: ChaCha8Rng,
    /// Crashes carried out.
    pub(super) crashes: u32,
    /// The highest round that some machine knows to be certified.
    reached: Option<Round>,
    calm: bool,
    /// Pairs of machines that keep a connection, and the boots it stands between.
    neighbours: BTreeSet<(usize, usize)>,
    lines: BTreeMap<(usize, usize), (u32, u32)>,
}

impl Faults {
    /// Draws which machines are neighbours: a ring, so that none is alone, and random chords.
    pub(super) fn new(scenario: &Scenario, mut rng: ChaCha8Rng) -> Self {
        let peers = scenario.peers;
        let mut neighbours = BTreeSet::new();
        let mut add = |a: usize, b: usize| {
            if a != b {
                neighbours.insert((a.min(b), a.max(b)));
            }
        };
        for at in 0..peers {
            add(at, (at + 1) % peers);
            for _ in 1..scenario.link.degree {
                add(at, rng.random_range(0..peers));
            }
        }
        Self {
            strike: None,
            syncs: 0,
            rng,
            crashes: 0,
            reached: None,
            calm: false,
            neighbours,
            lines: BTreeMap::new(),
        }
    }

    /// The highest round that some machine knows to be certified.
    pub(super) fn reached(&self) -> Option<Round> {
        self.reached
    }

    pub(super) fn is_calm(&self) -> bool {
        self.calm
    }
}

impl World {
    pub(super) fn plan_faults(&mut self) {
        for (nth, partition) in self.scenario.partitions.clone().into_iter().enumerate() {
            let begins = ms(partition.at_ms);
            self.schedule(begins, Event::Fault(Fault::Split(nth)));
            self.schedule(
                begins + ms(partition.for_ms),
                Event::Fault(Fault::Heal(nth)),
            );
        }
        for kill in self.scenario.kills.clone() {
            self.schedule(ms(kill.at_ms), Event::Fault(Fault::Kill(kill.share)));
        }
        self.schedule(ms(self.scenario.calm.after_ms), Event::Fault(Fault::Calm));
        for between in self.faults.neighbours.clone() {
            let soon = self.faults.rng.random_range(0..ms(500));
            self.schedule(soon, Event::Line { between });
        }
        self.plan_crashes();
    }

    pub(super) fn carry_fault(&mut self, fault: Fault) {
        match fault {
            Fault::Invite(at) => self.invite(at),
            Fault::Leave(at) => self.leave(at),
            Fault::Restart(at) => self.restart(at),
            Fault::Calm => self.calm_down(),
            _ if self.faults.calm => {}
            Fault::Crash(at) => self.crash(at),
            Fault::Fuse(at) => {
                let effects = self.faults.rng.random_range(0..60);
                self.machines[at].fuse = Some(effects);
            }
            Fault::Split(nth) => self.split(nth),
            Fault::Heal(nth) => self.heal(nth),
            Fault::Kill(share) => self.kill(share),
        }
    }

    /// Some machine knows `round` to be certified. The first time, whatever the scenario ties to that
    /// round happens.
    pub(super) fn reached(&mut self, round: Round) {
        if self.faults.reached.is_some_and(|reached| reached >= round) {
            return;
        }
        self.faults.reached = Some(round);
        self.trace
            .tell(self.now, None, What::FirstCertified(round.0));
        let due = |changes: &[crate::scenario::Change]| -> usize {
            changes
                .iter()
                .filter(|c| c.round == round.0)
                .map(|c| c.count)
                .sum()
        };
        let (joins, leaves) = (due(&self.scenario.joins), due(&self.scenario.leaves));
        let newcomers = (0..self.machines.len()).filter(|at| !self.machines[*at].invited);
        let first = self.scenario.present_at_start();
        for at in newcomers
            .filter(|at| *at >= first)
            .take(joins)
            .collect::<Vec<_>>()
        {
            let when = self.now + self.faults.rng.random_range(0..ms(2_000));
            self.schedule(when, Event::Fault(Fault::Invite(at)));
        }
        let stays = 1 + self.scenario.evaluators;
        let free = (stays..first).filter(|at| {
            let machine = &self.machines[*at];
            !machine.leaving && machine.liar.is_none()
        });
        for at in free.take(leaves).collect::<Vec<_>>() {
            let when = self.now + self.faults.rng.random_range(0..ms(2_000));
            self.machines[at].leaving = true;
            self.schedule(when, Event::Fault(Fault::Leave(at)));
        }
        if round.0 >= self.scenario.calm.after_round {
            self.schedule(self.now, Event::Fault(Fault::Calm));
        } else {
            self.plan_crashes();
        }
    }

    /// Draws who crashes in the round that begins now, half at a random moment, half behind a random
    /// effect.
    fn plan_crashes(&mut self) {
        let peers = self.machines.len();
        let exact = self.scenario.churn.per_round * peers as f64;
        let rng = &mut self.faults.rng;
        let count = exact as usize + usize::from(rng.random::<f64>() < exact.fract());
        let chosen = sample(rng, peers, count.min(peers)).into_vec();
        for (nth, at) in chosen.into_iter().enumerate() {
            let when = self.now + self.faults.rng.random_range(0..ms(CRASH_WINDOW_MS));
            let fault = match nth % 2 {
                0 => Fault::Crash(at),
                _ => Fault::Fuse(at),
            };
            self.schedule(when, Event::Fault(fault));
        }
    }

    /// A machine begins a sync that is over at `until`: the moment that a strike may wait for.
    pub(super) fn syncs(&mut self, at: usize, until: Micros) {
        let Some(strike) = self.faults.strike.filter(|strike| strike.peer == at) else {
            return;
        };
        if self.faults.syncs == strike.sync {
            let when = if strike.after { until } else { self.now };
            self.schedule(when, Event::Fault(Fault::Crash(at)));
        }
        self.faults.syncs += 1;
    }

    pub(super) fn crash(&mut self, at: usize) {
        if !self.machines[at].is_up() {
            return;
        }
        let (kept, lost) = self.machines[at].crash(&mut self.disk_rng);
        self.faults.crashes += 1;
        self.trace.mark(self.now, at, "crash");
        self.trace
            .tell(self.now, Some(at), What::Crash { kept, lost });
        let [least, most] = self.scenario.churn.down_ms;
        let back = self.now + self.faults.rng.random_range(ms(least)..=ms(most));
        self.schedule(back, Event::Fault(Fault::Restart(at)));
        self.lines_of(at, ms(DETECTION_MS));
    }

    fn restart(&mut self, at: usize) {
        if self.machines[at].is_up() || self.oracle.has_panicked(at) {
            return;
        }
        self.trace.mark(self.now, at, "restart");
        self.trace.tell(self.now, Some(at), What::Restart);
        self.power_on(at);
        if self.machines[at].invited {
            self.invite(at);
        }
        self.lines_of(at, ms(500));
    }

    /// Draws a share of the machines.
    fn draw(&mut self, share: f64) -> Vec<usize> {
        let peers = self.machines.len();
        let count = (share * peers as f64).round() as usize;
        sample(&mut self.faults.rng, peers, count.min(peers)).into_vec()
    }

    fn split(&mut self, nth: usize) {
        let partition = self.scenario.partitions[nth].clone();
        let mut apart = vec![false; self.machines.len()];
        let chosen = self.draw(partition.split);
        chosen.iter().for_each(|at| apart[*at] = true);
        let split = What::Split {
            nth,
            apart: chosen,
            one_way: partition.one_way,
        };
        self.trace.tell(self.now, None, split);
        self.link.split(nth, apart, partition.one_way);
        self.all_lines(ms(DETECTION_MS));
    }

    fn heal(&mut self, nth: usize) {
        self.trace.tell(self.now, None, What::Heal { nth });
        self.link.heal(nth);
        self.all_lines(ms(1_000));
    }

    fn kill(&mut self, share: f64) {
        let chosen = self.draw(share);
        let what = format_args!("{} peers are killed at once", chosen.len());
        self.trace.say(self.now, None, what);
        chosen.into_iter().for_each(|at| self.crash(at));
    }

    fn calm_down(&mut self) {
        if self.faults.calm {
            return;
        }
        self.faults.calm = true;
        self.link.calm();
        self.trace.tell(self.now, None, What::Calm);
        for at in 0..self.machines.len() {
            self.machines[at].fuse = None;
            if !self.machines[at].is_up() {
                let soon = self.now + self.faults.rng.random_range(0..ms(1_000));
                self.schedule(soon, Event::Fault(Fault::Restart(at)));
            }
            // Whoever was to come later comes now: the run must finish on everybody.
            if !self.machines[at].invited {
                self.schedule(self.now, Event::Fault(Fault::Invite(at)));
            }
        }
        self.all_lines(ms(1_000));
        self.oracle
            .calm(self.now, ms(self.scenario.calm.round_within_ms));
    }

    fn lines_of(&mut self, at: usize, within: Micros) {
        let mine = self
            .faults
            .neighbours
            .iter()
            .filter(|(a, b)| *a == at || *b == at);
        for between in mine.copied().collect::<Vec<_>>() {
            let when = self.now + self.faults.rng.random_range(0..within);
            self.schedule(when, Event::Line { between });
        }
    }

    fn all_lines(&mut self, within: Micros) {
        for between in self.faults.neighbours.clone() {
            let when = self.now + self.faults.rng.random_range(0..within);
            self.schedule(when, Event::Line { between });
        }
    }

    /// Tells two neighbours that their connection is up or gone, if that has changed.
    pub(super) fn reconcile(&mut self, between: (usize, usize)) {
        let (a, b) = between;
        let boots = (self.machines[a].boot, self.machines[b].boot);
        let both_up = self.machines[a].is_up() && self.machines[b].is_up();
        let can = both_up && self.link.reaches(a, b) && self.link.reaches(b, a);
        let (id_a, id_b) = (self.machines[a].id, self.machines[b].id);
        let known = self.faults.lines.get(&between).copied();
        if let Some(old) = known.filter(|old| !can || *old != boots) {
            self.faults.lines.remove(&between);
            if old.0 == boots.0 {
                self.feed(a, Input::Disconnected(id_b));
            }
            if old.1 == boots.1 {
                self.feed(b, Input::Disconnected(id_a));
            }
        }
        if can && !self.faults.lines.contains_key(&between) {
            self.faults.lines.insert(between, boots);
            self.feed(a, Input::Connected(id_b));
            self.feed(b, Input::Connected(id_a));
        }
    }
}
