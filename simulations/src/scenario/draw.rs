//! A family of scenarios: what the seed decides about one of its members.
//!
//! Thousands of seeds of one scenario explore the corners of one federation. Here the seed also draws how many peers
//! take part, how bad the network is, which peers crash and which lie, so that the seeds reach the corners of all
//! these federations.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tributary_protocol::hash::{Domain, Hasher};
use tributary_protocol::limits;

use super::{Change, Kill, Liars, Partition, Scenario};
use crate::behave;

/// Ranges that a seed draws from: least, most.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DrawPlan {
    /// All peers, liars included.
    pub peers: [usize; 2],
    /// Training rounds; the scenario's own when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<[u32; 2]>,
    /// Contributors drawn for a round; as many as there are when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participants: Option<[usize; 2]>,
    /// How many of them score.
    pub evaluators: [usize; 2],
    /// How many come late.
    pub late: [usize; 2],
    /// How many leave early.
    pub leavers: [usize; 2],
    /// How many lie; never more than the first committee can bear and decide.
    pub liars: [usize; 2],
    /// What they may do; every built-in attack when empty.
    #[serde(default)]
    pub behaviours: Vec<String>,
    /// Share of messages lost.
    pub loss: [f64; 2],
    /// Share of messages delivered twice.
    pub duplicate: [f64; 2],
    /// Share of messages held back.
    pub reorder: [f64; 2],
    /// Share of messages replayed.
    pub replay: [f64; 2],
    /// Share of the peers that crash in a round.
    pub churn: [f64; 2],
    /// Splits of the network, one way or both.
    pub partitions: [usize; 2],
    /// How often a half of the peers is killed at once.
    pub kills: [usize; 2],
}

/// Latest time at which drawn splits and kills begin: within the first rounds.
const LATEST_FAULT_MS: u64 = 40_000;
/// Splits or mass kills of one run: more would leave no round without.
const MAX_FAULTS: usize = 1_000;
/// Longest drawn split.
const LONGEST_SPLIT_MS: u64 = 15_000;

impl DrawPlan {
    pub(super) fn describe(&self) -> String {
        let percent = |[a, b]: [f64; 2]| format!("{:.0} to {:.0} %", a * 100.0, b * 100.0);
        format!(
            "drawn by the seed: {} to {} peers with {} to {} liars; loss {}, duplicates {}, held back {}, \
             replayed {}; {} of the peers crash each round; up to {} split(s) and {} kill(s) of half of \
             them; up to {} late and {} leaving",
            self.peers[0],
            self.peers[1],
            self.liars[0],
            self.liars[1],
            percent(self.loss),
            percent(self.duplicate),
            percent(self.reorder),
            percent(self.replay),
            percent(self.churn),
            self.partitions[1],
            self.kills[1],
            self.late[1],
            self.leavers[1],
        )
    }

    /// Checks the ends of the ranges.
    fn check_bounds(&self) -> Result<(), String> {
        for (key, most, bound) in [
            // The genesis waits for every honest peer, and admits so many at once.
            ("peers", self.peers[1], limits::MAX_CHANGES_PER_ROUND),
            ("evaluators", self.evaluators[1], limits::MAX_EVALUATORS),
            ("late", self.late[1], limits::MAX_CHANGES_PER_ROUND),
            ("leavers", self.leavers[1], limits::MAX_CHANGES_PER_ROUND),
            (
                "participants",
                self.participants.map_or(1, |range| range[1]),
                limits::MAX_INCLUDED,
            ),
            (
                "rounds",
                self.rounds.map_or(1, |range| range[1] as usize),
                limits::MAX_ROUNDS as usize,
            ),
            ("partitions", self.partitions[1], MAX_FAULTS),
            ("kills", self.kills[1], MAX_FAULTS),
        ] {
            if most > bound {
                return Err(format!(
                    "`draw.{key}` goes up to {most}, but {bound} is the most"
                ));
            }
        }
        if self.participants.is_some_and(|[least, _]| least == 0) {
            return Err("`draw.participants` begins at 0; a round needs at least one".into());
        }
        Ok(())
    }

    /// Checks the ranges; the message names key, value and remedy.
    pub(super) fn check(&self) -> Result<(), String> {
        for (key, [least, most]) in [
            ("peers", self.peers),
            ("evaluators", self.evaluators),
            ("late", self.late),
            ("leavers", self.leavers),
            ("liars", self.liars),
            ("partitions", self.partitions),
            ("kills", self.kills),
            ("participants", self.participants.unwrap_or_default()),
            (
                "rounds",
                self.rounds.unwrap_or_default().map(|n| n as usize),
            ),
        ] {
            if least > most {
                return Err(format!(
                    "`draw.{key}` is [{least}, {most}]; write the smaller number first"
                ));
            }
        }
        for (key, [least, most]) in [
            ("loss", self.loss),
            ("duplicate", self.duplicate),
            ("reorder", self.reorder),
            ("replay", self.replay),
            ("churn", self.churn),
        ] {
            if !(0.0 <= least && least <= most && most <= 1.0) {
                return Err(format!(
                    "`draw.{key}` is [{least}, {most}]; write two shares from 0 to 1, the smaller first"
                ));
            }
        }
        self.check_bounds()?;
        let needed = 2 + self.evaluators[1] + self.late[1] + self.leavers[1];
        if self.peers[0] < needed {
            return Err(format!(
                "`draw.peers` starts at {}, but creator, evaluators, late and leaving peers alone may be \
                 {needed}; raise it",
                self.peers[0]
            ));
        }
        Ok(())
    }
}

impl Scenario {
    /// The member of the family that a seed stands for; the scenario itself when it is not a family.
    pub fn drawn(&self, seed: u64) -> Self {
        let mut out = self.clone();
        let Some(draw) = out.draw.take() else {
            return out;
        };
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"draw").update(&seed.to_le_bytes());
        let rng = &mut ChaCha8Rng::from_seed(*hasher.finalize().as_bytes());
        out.draw_people(&draw, rng);
        out.draw_faults(&draw, rng);
        out
    }

    fn draw_people(&mut self, draw: &DrawPlan, rng: &mut ChaCha8Rng) {
        let within =
            |[least, most]: [usize; 2], rng: &mut ChaCha8Rng| rng.random_range(least..=most);
        if let Some([least, most]) = draw.rounds {
            self.rounds = rng.random_range(least.max(1)..=most.max(1));
        }
        self.peers = within(draw.peers, rng);
        self.evaluators = within(draw.evaluators, rng);
        let (late, leavers) = (within(draw.late, rng), within(draw.leavers, rng));
        self.joins = changes(late, self.rounds, rng);
        self.leaves = changes(leavers, self.rounds, rng);
        let present = self.present_at_start();
        let free = self.peers - (1 + self.evaluators + late + leavers);
        let mut liars = within(draw.liars, rng).min(free);
        // The genesis waits for every honest peer, and not for liars, who need not come. Of the fewest voters
        // that can follow, liars must not be a third.
        while liars > borne(present - leavers - liars) {
            liars -= 1;
        }
        self.run.min_members = (present - liars) as u32;
        let attacks: Vec<&str> = match draw.behaviours.as_slice() {
            [] => behave::BUILT_IN.to_vec(),
            some => some.iter().map(String::as_str).collect(),
        };
        self.liars = (0..liars)
            .filter_map(|_| attacks.choose(rng))
            .map(|attack| Liars {
                behaviour: (*attack).to_owned(),
                count: 1,
                share: 0.0,
            })
            .collect();
        let mut least = (present - self.evaluators - liars - leavers) / 2;
        if let Some(range) = draw.participants {
            let participants = within(range, rng);
            self.run.participants = participants as u32;
            least = least.min(participants / 2);
        }
        self.run.min_contributions = least.max(1) as u32;
    }

    fn draw_faults(&mut self, draw: &DrawPlan, rng: &mut ChaCha8Rng) {
        let share = |[least, most]: [f64; 2], rng: &mut ChaCha8Rng| {
            // In hundredths, so that a drawn scenario reads well as TOML.
            (rng.random_range(least..=most) * 100.0).round() / 100.0
        };
        self.link.loss = share(draw.loss, rng);
        self.link.duplicate = share(draw.duplicate, rng);
        self.link.reorder = share(draw.reorder, rng);
        self.link.replay = share(draw.replay, rng);
        self.churn.per_round = share(draw.churn, rng);
        let splits = rng.random_range(draw.partitions[0]..=draw.partitions[1]);
        self.partitions = (0..splits)
            .map(|_| Partition {
                at_ms: rng.random_range(0..LATEST_FAULT_MS),
                for_ms: rng.random_range(1_000..LONGEST_SPLIT_MS),
                split: share([0.1, 0.5], rng),
                one_way: rng.random(),
            })
            .collect();
        let kills = rng.random_range(draw.kills[0]..=draw.kills[1]);
        self.kills = (0..kills)
            .map(|_| Kill {
                at_ms: rng.random_range(0..LATEST_FAULT_MS),
                share: 0.5,
            })
            .collect();
    }
}

/// How many silent or lying members so many voters bear and still decide.
fn borne(voters: usize) -> usize {
    voters - (voters * 2 / 3 + 1)
}

/// `count` changes at random rounds before the last.
fn changes(count: usize, rounds: u32, rng: &mut ChaCha8Rng) -> Vec<Change> {
    let at = |rng: &mut ChaCha8Rng| rng.random_range(0..rounds.max(1));
    (0..count)
        .map(|_| Change {
            round: at(rng),
            count: 1,
        })
        .collect()
}
