//! What a scenario file says: which peers take part, how they learn, and which faults there are.
//!
//! A scenario and a seed determine a run completely. Unknown keys are refused with the nearest known
//! one, because a misspelt fault that silently does not happen is worse than an error. Carrying the
//! faults out is the world's work.

mod check;
mod dialect;
pub mod draft;
mod draw;
mod estimate;
pub mod grid;
mod load;
pub(crate) mod manifest;

pub use dialect::{AggregationName, ChainName, CodecName, CodecPlan, ScheduleName, WeightsName};
pub use draw::DrawPlan;
pub use estimate::{Estimate, MAX_EVENTS};

pub use grid::load_with;
pub use load::{ScenarioError, builtin_names, load, load_from, parse, parse_from, text};

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tributary_protocol::limits;

use crate::behave::RunRole;
use crate::catalogue::Catalogue;
use crate::learner::{self, Learner, LearnerPlan, Members};
use crate::link::{Link, LinkPlan};
use crate::named::Unknown;

/// A federation and its world.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name for people.
    pub name: String,
    /// The seed when the command line gives none.
    #[serde(default = "one")]
    pub seed: u64,
    /// All peers, evaluators and late joiners included.
    pub peers: usize,
    /// How many of them score instead of training.
    pub evaluators: usize,
    /// Training rounds.
    pub rounds: u32,
    /// What the manifest asks for.
    pub run: RunPlan,
    /// What is learnt.
    pub learner: LearnerPlan,
    /// How messages and blobs travel.
    pub link: LinkPlan,
    /// When the network splits.
    #[serde(default)]
    pub partitions: Vec<Partition>,
    /// Peers that crash.
    #[serde(default)]
    pub churn: ChurnPlan,
    /// When many are killed at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kills: Vec<Kill>,
    /// Participants that do not follow the protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub liars: Vec<Liars>,
    /// What of all this the seed decides instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draw: Option<DrawPlan>,
    /// How slow the disk is.
    #[serde(default)]
    pub store: StorePlan,
    /// How wrong clocks are.
    #[serde(default)]
    pub clock: ClockPlan,
    /// What a modelled chain is like.
    #[serde(default)]
    pub chain: ChainPlan,
    /// Peers that come later.
    #[serde(default)]
    pub joins: Vec<Change>,
    /// Peers that leave early.
    #[serde(default)]
    pub leaves: Vec<Change>,
    /// When faults stop, and what must happen then.
    pub calm: CalmPlan,
    /// What the command `sweep` varies, see [`grid::Grid`]; nothing else looks at it.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub sweep: toml::Table,
    /// What its names mean; not part of the file.
    #[serde(skip)]
    pub catalogue: Arc<Catalogue>,
}

/// What the manifest asks for.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RunPlan {
    /// Joins that the genesis waits for.
    pub min_members: u32,
    /// Contributions a round needs.
    pub min_contributions: u32,
    /// Contributors drawn for each round.
    #[serde(default = "everyone")]
    pub participants: u32,
    /// Committee members.
    pub committee: u32,
    /// Milliseconds after which a round closes without all receipts.
    pub round_ms: u32,
    /// Milliseconds to wait for the rest once the minimum is there.
    pub grace_ms: u32,
    /// Milliseconds to wait for a proposal.
    pub propose_ms: u32,
    /// Milliseconds to wait for votes.
    pub vote_ms: u32,
    /// How often peers compare ledgers and repeat votes; not part of the manifest.
    #[serde(default = "one_second")]
    pub tick_ms: u64,
    /// The most that a round pays its contributors, micro-OPEN.
    pub budget_per_round: u64,
    /// Micro-OPEN for each nat that a round gains; zero: so many that any gain pays the whole budget.
    #[serde(default)]
    pub price_per_nat: u64,
    /// Where the run's money lies.
    #[serde(default)]
    pub chain: ChainName,
    /// Batches of paid answers that one member serves once the run is closed, a liar that serves where there is one; on the
    /// test chain.
    #[serde(default)]
    pub answers: u32,
    /// The height at which the sponsor deposits: with the genesis where it is 0. Rounds that began before are not paid.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deposit_height: u32,
    /// Whether an honest member disputes scores that their evaluator did not compute; on the test chain.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disputes: bool,
    /// How updates travel.
    pub codec: CodecPlan,
    /// How updates are combined.
    pub aggregation: AggregationName,
    /// Share of a round's tokens that may lie, below 0.5 (the robust rules).
    #[serde(default = "usual_tolerance")]
    pub tolerate: f64,
    /// What an update weighs.
    #[serde(default)]
    pub weights: WeightsName,
    /// Own tokens of full weight (`own`).
    #[serde(default)]
    pub full_weight_tokens: u64,
    /// Seats of the panel that is drawn for each round (`stake`).
    #[serde(default)]
    pub evaluator_seats: u32,
    /// Which factors move when.
    pub schedule: ScheduleName,
}

/// As in run files.
fn usual_tolerance() -> f64 {
    0.25
}

fn is_zero(height: &u32) -> bool {
    *height == 0
}

/// As many as a round can include.
fn everyone() -> u32 {
    limits::MAX_INCLUDED as u32
}

/// The network splits in two.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// When, from the start.
    pub at_ms: u64,
    /// For how long.
    pub for_ms: u64,
    /// Share of the peers on the smaller side.
    pub split: f64,
    /// The smaller side hears the larger one and is not heard by it.
    #[serde(default)]
    pub one_way: bool,
}

/// Many peers are killed at once.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// When, from the start.
    pub at_ms: u64,
    /// Share of the peers.
    pub share: f64,
}

/// Participants that do not follow the protocol, drawn among the contributors that are there from the
/// start. The creator and the evaluators are honest.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Liars {
    /// The name of what they do, see [`Catalogue::attacks`].
    pub behaviour: String,
    /// The number of liars.
    #[serde(default)]
    pub count: usize,
    /// In addition, this share of all peers, rounded down.
    #[serde(default)]
    pub share: f64,
}

impl Liars {
    /// How many among `peers`.
    pub fn among(&self, peers: usize) -> usize {
        self.count
            .saturating_add((self.share * peers as f64) as usize)
    }
}

/// Peers that crash.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ChurnPlan {
    /// Share of the peers that crash once in each round. Half of them at a random moment, half right
    /// behind a random effect.
    pub per_round: f64,
    /// How long they stay away: least, most.
    pub down_ms: [u64; 2],
}

/// How slow the disk is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StorePlan {
    /// Time until a commit is durable: least, most.
    pub sync_ms: [u64; 2],
}

impl Default for StorePlan {
    fn default() -> Self {
        Self { sync_ms: [1, 4] }
    }
}

/// What a modelled chain is like (`run.chain = "modelled"`).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChainPlan {
    /// Milliseconds from block to block.
    pub block_ms: u64,
    /// Share of the members whose stake changes with a block.
    pub moves: f64,
    /// Share of the blocks of which a member's node first says what a reorganisation takes back.
    pub reorgs: f64,
}

impl Default for ChainPlan {
    fn default() -> Self {
        Self {
            block_ms: 4_000,
            moves: 0.05,
            reorgs: 0.1,
        }
    }
}

/// How wrong clocks are.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClockPlan {
    /// Wall clocks are off by up to this, either way.
    pub skew_s: u64,
    /// Monotonic clocks run fast or slow by up to this many millionths.
    pub drift_ppm: u64,
}

/// Peers that come or go once a round is certified.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The round whose certificate triggers it.
    pub round: u32,
    /// How many peers.
    pub count: usize,
}

/// When faults stop, and what must happen then.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CalmPlan {
    /// Faults stop when this round is certified,
    pub after_round: u32,
    /// or at this time, whichever is first.
    pub after_ms: u64,
    /// From then on every missing round must certify within this time, on every peer.
    pub round_within_ms: u64,
}

fn one_second() -> u64 {
    1_000
}

fn one() -> u64 {
    1
}

/// The sum of counts, of which a file may name any.
fn total(counts: impl Iterator<Item = usize>) -> usize {
    counts.fold(0, usize::saturating_add)
}

impl Scenario {
    /// Dishonest participants, of every kind.
    pub fn liars(&self) -> usize {
        total(self.liars.iter().map(|l| l.among(self.peers)))
    }

    /// Names of one owner among the peers, the last of them.
    pub fn names(&self) -> usize {
        let is_name = |liars: &&Liars| {
            let attack = self.catalogue.attacks.get(&liars.behaviour);
            attack.is_ok_and(|attack| attack.thing.place() == RunRole::Name)
        };
        total((self.liars.iter().filter(is_name)).map(|liars| liars.among(self.peers)))
    }

    /// Names beyond the first of an owner.
    pub(crate) fn surplus_names(&self) -> usize {
        self.names().saturating_sub(1)
    }

    /// Peers that are there from the start.
    pub fn present_at_start(&self) -> usize {
        self.peers
            .saturating_sub(total(self.joins.iter().map(|j| j.count)))
    }

    /// What the peers learn, as drawn by a seed.
    ///
    /// # Errors
    /// What is wrong with the plan, and what to write.
    pub fn make_learner(&self, seed: u64) -> Result<Box<dyn Learner>, String> {
        let learner = self.catalogue.learners.get(&self.learner.kind);
        let learner = learner.map_err(|unknown| unknown.to_string())?;
        let members = Members {
            peers: self.peers,
            evaluators: self.evaluators,
            names: self.names(),
        };
        (learner.thing)(&self.learner, members, seed)
    }

    /// The whole network.
    ///
    /// # Errors
    /// What is wrong with the plan, and what to write.
    pub fn make_link(&self) -> Result<Link, String> {
        let model = self.catalogue.links.get(&self.link.model);
        let model = model.map_err(|unknown| unknown.to_string())?;
        (model.thing)(&self.link).map(Link::new)
    }

    /// Whether all names are in the catalogue.
    pub(crate) fn check_names(&self) -> Result<(), Unknown> {
        let drawn = self.draw.iter().flat_map(|draw| &draw.behaviours);
        for attack in self.liars.iter().map(|l| &l.behaviour).chain(drawn) {
            self.catalogue.attacks.get(attack)?;
        }
        self.catalogue
            .learners
            .get(&self.learner.kind)
            .map_err(learner::elsewhere)?;
        self.catalogue.links.get(&self.link.model)?;
        Ok(())
    }
}

impl Scenario {
    /// One line for reports.
    pub fn describe(&self) -> String {
        if let Some(draw) = &self.draw {
            let rounds = match draw.rounds {
                Some([least, most]) => format!("{least} to {most}"),
                None => self.rounds.to_string(),
            };
            return format!("{}: {}, {rounds} rounds", self.name, draw.describe());
        }
        let link = &self.link;
        let percent = |share: f64| (share * 100.0).round();
        let mut out = format!(
            "{}: {} peers, {} evaluators, {} rounds; {} % loss, {} % duplicates, {} % held back up to \
             {} ms; {} partition(s); {} % of the peers crash each round; clocks off by up to {} h",
            self.name,
            self.peers,
            self.evaluators,
            self.rounds,
            percent(link.loss),
            percent(link.duplicate),
            percent(link.reorder),
            link.reorder_ms,
            self.partitions.len(),
            percent(self.churn.per_round),
            self.clock.skew_s / 3600,
        );
        if link.replay > 0.0 {
            let (share, s) = (percent(link.replay), link.replay_ms / 1_000);
            out += &format!("; {share} % replayed within {s} s");
        }
        if !self.kills.is_empty() {
            out += &format!("; {} mass kill(s)", self.kills.len());
        }
        if self.liars() > 0 {
            out += &format!("; {} liars", self.liars());
        }
        out
    }
}
