//! What a person is told while the demo runs: events of nine peers in, a few lines out.
//!
//! Every peer reports the same phases; a line is told once, when the first peer gets there, and always
//! says what is waited for. Pure: no clock, no terminal.

use std::collections::{BTreeMap, BTreeSet};

use tributary_protocol::event::{Notice, Phase};
use tributary_protocol::id::{PeerId, Round, StateHash};

use crate::event::Event;
use crate::terminal::output::duration;

/// One of the demo's peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoPeer {
    /// Its id.
    pub peer: PeerId,
    /// Its name.
    pub name: String,
    /// Whether it trains.
    pub trains: bool,
}

/// What to show after an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Show {
    /// A line that stays.
    Line(String),
    /// What is waited for right now; replaces the one before.
    Waiting(String),
    /// How much of the whole is done, 0 to 1.
    Done(f64),
}

/// A certified round as one peer saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its state.
    pub state: StateHash,
    /// Contributions in it.
    pub included: u32,
    /// Milliseconds since the certificate before.
    pub took_ms: u64,
}

/// Turns the events of the demo's peers into a few lines for a person.
#[derive(Debug)]
pub struct Narrator {
    actors: Vec<DemoPeer>,
    rounds: u32,
    steps: u32,
    said: BTreeSet<(Round, Phase)>,
    arrived: BTreeMap<Round, BTreeSet<PeerId>>,
    /// Steps done in the open round, by contributor.
    trained: BTreeMap<(Round, usize), u32>,
    certified: BTreeMap<Round, BTreeMap<usize, Seen>>,
    finished: BTreeSet<usize>,
    warned: BTreeSet<String>,
}

impl Narrator {
    /// Of a run of `rounds` rounds in which every contributor makes `steps` steps a round.
    pub fn new(actors: Vec<DemoPeer>, rounds: u32, steps: u32) -> Self {
        Self {
            actors,
            rounds,
            steps,
            said: BTreeSet::new(),
            arrived: BTreeMap::new(),
            trained: BTreeMap::new(),
            certified: BTreeMap::new(),
            finished: BTreeSet::new(),
            warned: BTreeSet::new(),
        }
    }

    /// Whether every peer has the finished run.
    pub fn is_finished(&self) -> bool {
        self.finished.len() == self.actors.len()
    }

    /// What the peers saw of a round.
    pub fn seen(&self, round: Round) -> impl Iterator<Item = (usize, Seen)> {
        let seen = self.certified.get(&round);
        seen.into_iter()
            .flatten()
            .map(|(actor, seen)| (*actor, *seen))
    }

    /// `actor` has the finished run and everything behind it.
    pub fn finish(&mut self, actor: usize) {
        self.finished.insert(actor);
    }

    /// An event of one of the peers.
    pub fn on(&mut self, actor: usize, event: &Event) -> Vec<Show> {
        match event {
            Event::Training {
                round, progress, ..
            } => {
                self.trained.insert((*round, actor), progress.step);
                vec![
                    Show::Waiting(self.training_line(*round)),
                    Show::Done(self.done()),
                ]
            }
            Event::Notice(notice) => self.on_notice(actor, notice),
        }
    }

    fn on_notice(&mut self, actor: usize, notice: &Notice) -> Vec<Show> {
        match notice {
            Notice::Phase { round, phase, .. } => self.on_phase(actor, *round, *phase),
            Notice::Contributed { round, peer, .. } => {
                let new = self.arrived.entry(*round).or_default().insert(*peer);
                if new && !self.certified.contains_key(round) {
                    vec![Show::Waiting(self.collect_line(*round))]
                } else {
                    vec![]
                }
            }
            Notice::Certified {
                round,
                state,
                included,
                took_ms,
                ..
            } => {
                let seen = Seen {
                    state: *state,
                    included: *included,
                    took_ms: *took_ms,
                };
                self.on_certified(actor, *round, seen)
            }
            // Whether a peer has everything shows when it is looked at.
            Notice::Finished(_) => vec![Show::Done(self.done())],
            Notice::Equivocation { author, .. } => self.warn(format!(
                "{} said two different things at one place of its log; from there on it counts no more",
                self.name(author)
            )),
            Notice::Refuted { round, why, .. } => self.warn(format!(
                "{} does not follow what was certified for round {round}: {why}",
                self.actors[actor].name
            )),
            Notice::Declined { excess, .. } => {
                self.warn(format!("{}: {excess}", self.actors[actor].name))
            }
            Notice::CommandFailed { why, .. } => {
                self.warn(format!("{}: {why}", self.actors[actor].name))
            }
            // The node has dealt with it; the log file has the details.
            Notice::Refused { .. } | Notice::Following(_) => vec![],
        }
    }

    fn on_phase(&mut self, actor: usize, round: Round, phase: Phase) -> Vec<Show> {
        // An evaluator collects from the start of a training round; that is no news of the whole.
        let training = round.0 >= 1 && round.0 <= self.rounds;
        if phase == Phase::Collect && training && !self.actors[actor].trains {
            return vec![];
        }
        if self.certified.contains_key(&round) || !self.said.insert((round, phase)) {
            return vec![];
        }
        let line = match phase {
            Phase::Gather => format!(
                "gather: waiting for {} members to join the run",
                self.actors.len()
            ),
            Phase::Train => self.training_line(round),
            Phase::Collect => self.collect_line(round),
            Phase::Agree => format!(
                "{} agree: waiting for the committee's certificate",
                self.label(round)
            ),
            // Single peers catch up all the time; that is no phase of the whole.
            Phase::CatchUp | Phase::Stopped | Phase::Finished => return vec![],
        };
        // A line that stays is a certificate: a run may have many rounds.
        match phase {
            Phase::Gather => vec![Show::Line(line.clone()), Show::Waiting(line)],
            _ => vec![Show::Waiting(line)],
        }
    }

    fn on_certified(&mut self, actor: usize, round: Round, seen: Seen) -> Vec<Show> {
        let first = !self.certified.contains_key(&round);
        self.certified.entry(round).or_default().insert(actor, seen);
        if !first {
            return vec![];
        }
        let took = duration(seen.took_ms);
        let line = if round.0 == 0 {
            format!("start certified in {took}: {} members", self.actors.len())
        } else if round.0 > self.rounds + 1 {
            format!("{} certified in {took}", self.label(round))
        } else if round.0 > self.rounds {
            format!("closing certified in {took}: the last round's scores are final")
        } else {
            format!(
                "{} certified in {took}: {} contributions, state {}",
                self.label(round),
                seen.included,
                seen.state.short()
            )
        };
        vec![Show::Line(line), Show::Done(self.done())]
    }

    fn warn(&mut self, line: String) -> Vec<Show> {
        if self.warned.insert(line.clone()) {
            vec![Show::Line(format!("warning: {line}"))]
        } else {
            vec![]
        }
    }

    fn label(&self, round: Round) -> String {
        if round.0 == 0 {
            "start".to_owned()
        } else if round.0 > self.rounds + 1 {
            format!("epoch {}", round.0 - self.rounds - 1)
        } else if round.0 > self.rounds {
            "closing".to_owned()
        } else {
            format!("round {round}/{}", self.rounds)
        }
    }

    fn contributors(&self) -> impl Iterator<Item = (usize, &DemoPeer)> {
        self.actors.iter().enumerate().filter(|(_, a)| a.trains)
    }

    fn training_line(&self, round: Round) -> String {
        let all = self.contributors().count() as u32 * self.steps;
        let done: u32 = self.steps_done(round);
        format!(
            "{} train: waiting for {} contributors, {done} of {all} steps made",
            self.label(round),
            self.contributors().count(),
        )
    }

    fn steps_done(&self, round: Round) -> u32 {
        let here = self.trained.range((round, 0)..=(round, usize::MAX));
        here.map(|(_, steps)| (*steps).min(self.steps)).sum()
    }

    fn collect_line(&self, round: Round) -> String {
        if round.0 > self.rounds || round.0 == 0 {
            return format!("{} collect: waiting for score sheets", self.label(round));
        }
        let none = BTreeSet::new();
        let arrived = self.arrived.get(&round).unwrap_or(&none);
        let missing: Vec<&str> = (self.contributors())
            .filter(|(_, a)| !arrived.contains(&a.peer))
            .map(|(_, a)| a.name.as_str())
            .collect();
        let all = self.contributors().count();
        let have = all - missing.len();
        if missing.is_empty() {
            format!("{} collect: all {all} updates are here", self.label(round))
        } else {
            format!(
                "{} collect: {have} of {all} updates here, waiting for {}",
                self.label(round),
                missing.join(", ")
            )
        }
    }

    fn name(&self, peer: &PeerId) -> String {
        let actor = self.actors.iter().find(|a| a.peer == *peer);
        actor.map_or_else(|| peer.short(), |a| a.name.clone())
    }

    /// Rounds weigh one each, start and closing a fifth together; steps count within a round.
    fn done(&self) -> f64 {
        if self.is_finished() {
            return 1.0;
        }
        let certified = self.certified.keys().next_back();
        let rounds = f64::from(self.rounds);
        let whole = certified.map_or(0.0, |r| f64::from(r.0.min(self.rounds)));
        let next = certified.map_or(Round(1), |r| r.next());
        let steps = (self.contributors().count() as u32 * self.steps).max(1);
        let part = 0.9 * f64::from(self.steps_done(next)) / f64::from(steps);
        ((whole + part.min(0.9)) / (rounds + 0.2)).min(0.999)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Progress;
    use tributary_protocol::hash::{Domain, digest};
    use tributary_protocol::id::RunId;

    fn peer(name: &str) -> PeerId {
        PeerId(digest(Domain::Simulation, name.as_bytes()))
    }

    fn narrator() -> Narrator {
        let actor = |name: &str, trains| DemoPeer {
            peer: peer(name),
            name: name.to_owned(),
            trains,
        };
        Narrator::new(
            vec![actor("amy", true), actor("bo", true), actor("eve", false)],
            2,
            10,
        )
    }

    fn phase(round: u32, phase: Phase) -> Event {
        Event::Notice(Notice::Phase {
            run: RunId::default(),
            round: Round(round),
            phase,
        })
    }

    fn contributed(round: u32, name: &str) -> Event {
        Event::Notice(Notice::Contributed {
            run: RunId::default(),
            round: Round(round),
            peer: peer(name),
            arrived: 1,
            expected: 2,
        })
    }

    fn certified(round: u32) -> Event {
        Event::Notice(Notice::Certified {
            run: RunId::default(),
            round: Round(round),
            state: StateHash(digest(Domain::State, &round.to_le_bytes())),
            included: 2,
            took_ms: 1500,
        })
    }

    fn lines(shows: &[Show]) -> Vec<&str> {
        fn line(show: &Show) -> Option<&str> {
            match show {
                Show::Line(line) => Some(line),
                _ => None,
            }
        }
        shows.iter().filter_map(line).collect()
    }

    #[test]
    fn a_phase_is_told_once_and_says_what_it_waits_for() {
        let mut narrator = narrator();
        let first = narrator.on(0, &phase(1, Phase::Collect));
        let waiting = "round 1/2 collect: 0 of 2 updates here, waiting for amy, bo";
        assert_eq!(first, [Show::Waiting(waiting.to_owned())]);
        assert_eq!(narrator.on(1, &phase(1, Phase::Collect)), []);
        assert_eq!(
            narrator.on(2, &contributed(1, "amy")),
            [Show::Waiting(
                "round 1/2 collect: 1 of 2 updates here, waiting for bo".to_owned()
            )]
        );
        assert_eq!(narrator.on(0, &contributed(1, "amy")), [], "told twice");
    }

    #[test]
    fn a_late_phase_of_a_certified_round_is_not_told() {
        let mut narrator = narrator();
        assert_eq!(lines(&narrator.on(0, &certified(1))).len(), 1);
        assert_eq!(lines(&narrator.on(1, &certified(1))).len(), 0);
        assert_eq!(narrator.on(2, &phase(1, Phase::Agree)), []);
        assert_eq!(narrator.seen(Round(1)).count(), 2);
    }

    #[test]
    fn progress_only_grows_and_the_end_is_when_every_peer_has_all() {
        let mut narrator = narrator();
        let mut last = 0.0;
        let training = |step| Event::Training {
            run: RunId::default(),
            round: Round(1),
            progress: Progress {
                step,
                steps: 10,
                loss: 3.0,
                tokens: 1,
            },
        };
        let mut events = vec![(0, certified(0))];
        events.extend((1..=10).flat_map(|s| [(0, training(s)), (1, training(s))]));
        events.extend([(0, certified(1)), (0, certified(2)), (0, certified(3))]);
        for (actor, event) in events {
            for show in narrator.on(actor, &event) {
                if let Show::Done(done) = show {
                    assert!(done >= last, "{done} after {last}");
                    last = done;
                }
            }
        }
        assert!(last > 0.9 && !narrator.is_finished());
        (0..3).for_each(|actor| narrator.finish(actor));
        assert!(narrator.is_finished());
    }

    #[test]
    fn start_and_closing_have_names_of_their_own() {
        let mut narrator = narrator();
        let start = narrator.on(0, &certified(0));
        assert_eq!(lines(&start), ["start certified in 1.5 s: 3 members"]);
        let sheets = narrator.on(0, &phase(3, Phase::Collect));
        let waiting = "closing collect: waiting for score sheets";
        assert_eq!(sheets, [Show::Waiting(waiting.to_owned())]);
    }
}
