//! A network of heights in virtual time that loses, repeats and reorders messages, kills members in
//! the middle of their outputs, and houses silent and lying members.

use std::collections::{BTreeMap, BinaryHeap};

use super::*;
use crate::hash::{Hasher, Stream};

/// When loss and crashes stop.
const QUIET_MS: u64 = 8_000;
/// By when every honest member must have decided.
const END_MS: u64 = 90_000;
const TICK_MS: u64 = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    Honest,
    Silent,
    Liar,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Start,
    Tick,
    Message(Vec<u8>),
    Certificate(Vec<u8>),
    Timer(u32, ConsensusStep),
    Build(u32),
    Judge(RoundValue),
    Crash,
    Restart,
}

/// Ordered by time, latest first for the heap; ties by order of creation.
type Scheduled = (std::cmp::Reverse<(u64, u64)>, usize, u32, Event);

struct Member {
    behaviour: Behaviour,
    height: Option<Height>,
    /// Lives; timers and answers of earlier lives are void.
    life: u32,
    record: Vec<Vec<u8>>,
    began: bool,
    certificate: Option<Certificate>,
}

pub(super) struct World {
    seed: u64,
    setting: Setting,
    members: Vec<Member>,
    events: BinaryHeap<Scheduled>,
    count: u64,
    now: u64,
    draws: Stream,
    salt: u64,
    /// What honest members said, by author, attempt and kind.
    spoken: BTreeMap<(usize, u32, u8), Vec<u8>>,
    /// What liars have to play with.
    values: Vec<RoundValue>,
}

impl World {
    pub(super) fn new(behaviours: Vec<Behaviour>, seed: u64) -> Self {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(&seed.to_le_bytes());
        let member = |behaviour: &Behaviour| Member {
            behaviour: *behaviour,
            height: None,
            life: 0,
            record: Vec::new(),
            began: false,
            certificate: None,
        };
        let mut world = Self {
            seed,
            setting: setting(behaviours.len() as u32),
            members: behaviours.iter().map(member).collect(),
            events: BinaryHeap::new(),
            count: 0,
            now: 0,
            draws: hasher.finalize_xof(),
            salt: 0,
            spoken: BTreeMap::new(),
            values: vec![value(1), value(2)],
        };
        for who in 0..behaviours.len() {
            world.live(who);
        }
        world
    }

    pub(super) fn run(mut self) {
        while let Some((at, who, life, event)) = self.events.pop() {
            self.now = at.0.0;
            if self.now > END_MS || self.all_decided() {
                break;
            }
            let lives = life == self.members[who].life;
            if lives || matches!(event, Event::Message(_) | Event::Certificate(_)) {
                self.handle(who, event);
            }
        }
        assert!(
            self.all_decided(),
            "seed {}: undecided at {} ms:\n{}",
            self.seed,
            self.now,
            self.describe()
        );
    }

    fn describe(&self) -> String {
        let line = |m: &Member| match &m.height {
            None => format!("{:?}", m.behaviour),
            Some(h) => format!(
                "{:?} decided {} attempt {} step {:?} timers {:?} wanted {:?} valid {:?}",
                m.behaviour,
                m.certificate.is_some(),
                h.attempt(),
                h.driver.step(),
                h.timers,
                h.awaits_value,
                h.driver.valid_value(),
            ),
        };
        let lines: Vec<String> = self.members.iter().map(line).collect();
        lines.join("\n")
    }

    fn all_decided(&self) -> bool {
        let done = |m: &Member| m.behaviour != Behaviour::Honest || m.certificate.is_some();
        self.members.iter().all(done)
    }

    fn schedule(&mut self, who: usize, delay: u64, event: Event) {
        self.count += 1;
        let at = std::cmp::Reverse((self.now + delay, self.count));
        let life = self.members[who].life;
        self.events.push((at, who, life, event));
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.draws.below(100) < percent
    }

    /// Begins a life: from the record if there is one.
    fn live(&mut self, who: usize) {
        if self.members[who].behaviour == Behaviour::Honest {
            let record = &self.members[who].record;
            let (height, outputs) =
                Height::restore(self.setting.clone(), key(who as u32), record).expect("restores");
            self.members[who].height = Some(height);
            let life = self.members[who].life;
            self.carry_out(who, outputs);
            if self.members[who].life != life {
                return;
            }
            let start = match self.members[who].began {
                true => 1,
                false => self.draws.below(1500),
            };
            self.schedule(who, start, Event::Start);
            if self.now < QUIET_MS {
                let after = 500 + self.draws.below(6000);
                self.schedule(who, after, Event::Crash);
            }
        }
        let after = self.draws.below(TICK_MS);
        self.schedule(who, after, Event::Tick);
    }

    fn crash(&mut self, who: usize) {
        self.members[who].height = None;
        self.members[who].life += 1;
        let after = 50 + self.draws.below(1500);
        self.schedule(who, after, Event::Restart);
    }

    fn handle(&mut self, who: usize, event: Event) {
        match self.members[who].behaviour {
            Behaviour::Silent => {}
            Behaviour::Liar => self.lie(who, event),
            Behaviour::Honest => self.serve(who, event),
        }
    }

    fn serve(&mut self, who: usize, event: Event) {
        if event == Event::Restart {
            self.live(who);
            return;
        }
        if event == Event::Crash {
            if self.now < QUIET_MS {
                self.crash(who);
            }
            return;
        }
        let decided = self.members[who].certificate.clone();
        let Some(height) = self.members[who].height.as_mut() else {
            return;
        };
        let outputs = match event {
            Event::Start => {
                let outputs = height.start();
                self.members[who].began = true;
                outputs
            }
            Event::Message(bytes) => {
                let message = ConsensusMessage::decode(&bytes).expect("members send good bytes");
                if let Some(certificate) = decided {
                    let author = message.author();
                    let to = self.position(author);
                    self.send(to, Event::Certificate(certificate.encode()));
                    return;
                }
                height.receive(message).map_or(vec![], |r| r.outputs)
            }
            Event::Certificate(bytes) => {
                let certificate = Certificate::decode(&bytes).expect("members send good bytes");
                self.certify(who, certificate);
                return;
            }
            Event::Timer(attempt, step) => height.timeout(attempt, step),
            Event::Build(attempt) => {
                self.salt += 2;
                let mut value = value(self.salt * 2 + 1);
                value.attempt = attempt;
                self.values.push(value.clone());
                height.propose(attempt, value)
            }
            Event::Judge(value) => height.validated(value.id(), is_valid(&value)),
            Event::Tick => {
                let outputs = height.rebroadcast().into_iter().map(Output::Broadcast);
                let outputs = outputs.collect();
                self.schedule(who, TICK_MS, Event::Tick);
                outputs
            }
            Event::Crash | Event::Restart => unreachable!("handled above"),
        };
        self.carry_out(who, outputs);
    }

    fn carry_out(&mut self, who: usize, outputs: Vec<Output>) {
        // A crash may hit between any two effects.
        let dies = self.now < QUIET_MS && self.now > 0 && self.chance(2);
        let cut = match dies {
            true => self.draws.below(outputs.len() as u64 + 1) as usize,
            false => outputs.len(),
        };
        for output in outputs.into_iter().take(cut) {
            match output {
                Output::Persist(bytes) => self.members[who].record.push(bytes),
                Output::Broadcast(bytes) => {
                    self.check_spoken(who, &bytes);
                    for to in 0..self.members.len() {
                        if to != who {
                            self.send(to, Event::Message(bytes.clone()));
                        }
                    }
                }
                Output::SetTimer { attempt, step, ms } => {
                    self.schedule(who, ms, Event::Timer(attempt, step));
                }
                Output::NeedValue { attempt } => {
                    let takes = self.draws.below(200);
                    self.schedule(who, takes, Event::Build(attempt));
                }
                Output::Validate(value) => {
                    let takes = self.draws.below(200);
                    self.schedule(who, takes, Event::Judge(value));
                }
                Output::Decided(certificate) => self.certify(who, certificate),
                Output::Equivocation(author) => {
                    let author = self.position(author);
                    let behaviour = self.members[author].behaviour;
                    assert_eq!(behaviour, Behaviour::Liar, "seed {}: slander", self.seed);
                }
            }
        }
        if dies {
            self.crash(who);
        }
    }

    fn send(&mut self, to: usize, event: Event) {
        let noisy = self.now < QUIET_MS;
        if noisy && self.chance(30) {
            return;
        }
        let delay = 1 + self.draws.below(if noisy { 400 } else { 40 });
        if noisy && self.chance(15) {
            let later = delay + self.draws.below(3000);
            self.schedule(to, later, event.clone());
        }
        self.schedule(to, delay, event);
    }

    fn position(&self, peer: PeerId) -> usize {
        (0..self.members.len())
            .find(|who| key(*who as u32).peer_id() == peer)
            .expect("a member")
    }

    /// An honest member says one thing only per attempt and kind, whatever happened to it.
    fn check_spoken(&mut self, who: usize, bytes: &[u8]) {
        let message = ConsensusMessage::decode(bytes).expect("our own bytes");
        if self.position(message.author()) != who {
            return;
        }
        let kind = match &message {
            ConsensusMessage::Proposal(_) => 0,
            ConsensusMessage::Vote(vote) => 1 + vote.body.kind as u8,
        };
        let slot = (who, message.attempt(), kind);
        let first = self.spoken.entry(slot).or_insert_with(|| bytes.to_vec());
        assert_eq!(first, bytes, "seed {}: two words in {slot:?}", self.seed);
    }

    fn certify(&mut self, who: usize, certificate: Certificate) {
        let committee = &self.setting.committee;
        assert_eq!(certificate.verify(committee, NET), Ok(()));
        assert!(is_valid(&certificate.value), "seed {}", self.seed);
        for member in &self.members {
            if let Some(other) = &member.certificate {
                assert_eq!(other.value, certificate.value, "seed {}: fork", self.seed);
            }
        }
        self.members[who].certificate.get_or_insert(certificate);
    }

    /// Answers whatever it hears with contradicting messages, different ones to each member.
    fn lie(&mut self, who: usize, event: Event) {
        let attempt = match &event {
            Event::Message(bytes) => ConsensusMessage::decode(bytes).map_or(0, |m| m.attempt()),
            Event::Tick => {
                self.schedule(who, TICK_MS, Event::Tick);
                let far = [0, 3, 9, 1000, u32::MAX];
                far[self.draws.below(far.len() as u64) as usize]
            }
            _ => return,
        };
        let me = who as u32;
        for to in 0..self.members.len() {
            if to == who || self.chance(60) {
                continue;
            }
            let pick = self.draws.below(self.values.len() as u64) as usize;
            let picked = self.values[pick].clone();
            let id = (!self.chance(20)).then(|| picked.id());
            let kind = if self.chance(50) {
                VoteKind::Prevote
            } else {
                VoteKind::Precommit
            };
            let message = vote(me, attempt, kind, id);
            self.send(to, Event::Message(message.encode()));
            if self.setting.committee.proposer(attempt) == key(me).peer_id() {
                let message = proposal(me, attempt, None, picked);
                self.send(to, Event::Message(message.encode()));
            }
        }
    }
}
