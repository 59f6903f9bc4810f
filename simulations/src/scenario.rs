//! What a scenario file says: which peers take part, how they learn, and which faults there are.
//!
//! A scenario and a seed determine a run completely. Unknown keys are refused with the nearest known
//! one, because a misspelt fault that silently does not happen is worse than an error. Carrying the
//! faults out is the world's work.

pub mod draft;
mod draw;
pub mod grid;
mod load;

pub use draw::DrawPlan;

pub use grid::load_with;
pub use load::{ScenarioError, builtin_names, load, load_from, parse, parse_from, text};

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tributary_protocol::id::Ppb;
use tributary_protocol::limits;
use tributary_protocol::manifest::{Aggregation, FactorSchedule, UpdateCodec, Weights};

use crate::catalogue::Catalogue;
use crate::learner::{Learner, LearnerPlan};
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
    /// How updates travel.
    pub codec: CodecPlan,
    /// How updates are combined.
    pub aggregation: AggregationPlan,
    /// What an update weighs.
    #[serde(default)]
    pub weights: WeightsPlan,
    /// Which factors move when.
    pub schedule: SchedulePlan,
}

/// As many as a round can include.
fn everyone() -> u32 {
    limits::MAX_INCLUDED as u32
}

/// How updates travel.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CodecPlan {
    /// Every number as f32.
    DenseF32,
    /// Every number as int8.
    DenseInt8,
    /// The largest of each chunk.
    Sparse {
        /// Values kept per full chunk.
        top: u16,
        /// Share of the residual kept, 0 to 1.
        feedback: f64,
    },
}

/// A share of one in billionths.
fn ppb(share: f64) -> Ppb {
    Ppb((share * 1e9).round() as u32)
}

impl CodecPlan {
    /// As the manifest says it.
    pub fn codec(self) -> UpdateCodec {
        match self {
            Self::DenseF32 => UpdateCodec::DenseF32,
            Self::DenseInt8 => UpdateCodec::DenseInt8,
            Self::Sparse { top, feedback } => UpdateCodec::Sparse {
                top,
                feedback: ppb(feedback),
            },
        }
    }
}

/// What an update weighs.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum WeightsPlan {
    /// The tokens it was trained on.
    #[default]
    Trained,
    /// In proportion to the member's own tokens.
    Own {
        /// Own tokens of full weight.
        full: u64,
    },
}

impl WeightsPlan {
    /// As the manifest says it.
    pub fn weights(self) -> Weights {
        match self {
            Self::Trained => Weights::Trained,
            Self::Own { full } => Weights::Own { full },
        }
    }
}

/// How updates are combined.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AggregationPlan {
    /// Mean weighted by tokens.
    Mean,
    /// Clipped to the median norm first.
    ClippedMean,
    /// Clipped, mixed with nearest neighbours, then Multi-Krum.
    MultiKrum {
        /// Share of a round's tokens that may lie, below 0.5.
        tolerate: f64,
    },
    /// Clipped, mixed, then centred clipping.
    CentredClip {
        /// Share of a round's tokens that may lie, below 0.5.
        tolerate: f64,
    },
    /// Clipped, mixed, then the geometric median.
    GeometricMedian {
        /// Share of a round's tokens that may lie, below 0.5.
        tolerate: f64,
    },
    /// Clipped, without those whose direction opposes the others, then the mean.
    Agreement {
        /// Share of a round's tokens that may lie, below 0.5.
        tolerate: f64,
    },
}

impl AggregationPlan {
    /// As the manifest says it.
    pub fn aggregation(self) -> Aggregation {
        match self {
            Self::Mean => Aggregation::Mean,
            Self::ClippedMean => Aggregation::ClippedMean,
            Self::MultiKrum { tolerate } => Aggregation::MultiKrum {
                tolerate: ppb(tolerate),
            },
            Self::CentredClip { tolerate } => Aggregation::CentredClip {
                tolerate: ppb(tolerate),
            },
            Self::GeometricMedian { tolerate } => Aggregation::GeometricMedian {
                tolerate: ppb(tolerate),
            },
            Self::Agreement { tolerate } => Aggregation::Agreement {
                tolerate: ppb(tolerate),
            },
        }
    }
}

/// Which factors move when.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SchedulePlan {
    /// `B` in odd rounds, `A` in even rounds.
    Alternate,
    /// Both factors every round.
    Both,
    /// Only `B`.
    FreezeA,
}

impl SchedulePlan {
    /// As the manifest says it.
    pub fn schedule(self) -> FactorSchedule {
        match self {
            Self::Alternate => FactorSchedule::Alternate,
            Self::Both => FactorSchedule::Both,
            Self::FreezeA => FactorSchedule::FreezeA,
        }
    }
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
        self.count + (self.share * peers as f64) as usize
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

impl Scenario {
    /// Dishonest participants, of every kind.
    pub fn liars(&self) -> usize {
        self.liars.iter().map(|l| l.among(self.peers)).sum()
    }

    /// Peers that are there from the start.
    pub fn present_at_start(&self) -> usize {
        self.peers - self.joins.iter().map(|j| j.count).sum::<usize>()
    }

    /// What the peers learn, as drawn by a seed.
    ///
    /// # Errors
    /// What is wrong with the plan, and what to write.
    pub fn make_learner(&self, seed: u64) -> Result<Box<dyn Learner>, String> {
        let learner = self.catalogue.learners.get(&self.learner.kind);
        let learner = learner.map_err(|unknown| unknown.to_string())?;
        (learner.thing)(&self.learner, self.peers, seed)
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
        self.catalogue.learners.get(&self.learner.kind)?;
        self.catalogue.links.get(&self.link.model)?;
        Ok(())
    }

    /// Checks what the types cannot say. The message names the key, the value and the remedy.
    pub(crate) fn check(&self) -> Result<(), String> {
        let share = |key: &str, value: f64| match (0.0..=1.0).contains(&value) {
            true => Ok(()),
            false => Err(format!("`{key}` is {value}; it is a share from 0 to 1")),
        };
        share("link.loss", self.link.loss)?;
        share("link.duplicate", self.link.duplicate)?;
        share("link.reorder", self.link.reorder)?;
        share("link.replay", self.link.replay)?;
        share("churn.per_round", self.churn.per_round)?;
        share("learner.train_spread", self.learner.train_spread)?;
        for partition in &self.partitions {
            share("partitions.split", partition.split)?;
        }
        for kill in &self.kills {
            share("kills.share", kill.share)?;
        }
        for liars in &self.liars {
            share("liars.share", liars.share)?;
        }
        let ordered = |key: &str, [least, most]: [u64; 2]| match least <= most {
            true => Ok(()),
            false => Err(format!(
                "`{key}` is [{least}, {most}]; write the smaller number first"
            )),
        };
        ordered("churn.down_ms", self.churn.down_ms)?;
        ordered("store.sync_ms", self.store.sync_ms)?;
        match &self.draw {
            Some(draw) => draw.check()?,
            None => self.check_people()?,
        }
        if self.learner.dimension < 2 || self.learner.dimension % 2 == 1 {
            return Err("`learner.dimension` must be even and at least 2".into());
        }
        if self.link.bandwidth_kib_s == 0 {
            return Err("`link.bandwidth_kib_s` is 0: no blob would ever arrive".into());
        }
        self.check_names().map_err(|unknown| unknown.to_string())?;
        self.make_link()?;
        self.make_learner(self.seed)?;
        Ok(())
    }

    fn check_people(&self) -> Result<(), String> {
        if self.rounds == 0 {
            return Err("`rounds` is 0; a run needs at least one".into());
        }
        if self.evaluators > limits::MAX_EVALUATORS {
            let most = limits::MAX_EVALUATORS;
            return Err(format!("`evaluators` may be at most {most}"));
        }
        let late: usize = self.joins.iter().map(|j| j.count).sum();
        let gone: usize = self.leaves.iter().map(|l| l.count).sum();
        // The creator and the evaluators stay for the whole run.
        let free = self.peers.saturating_sub(1 + self.evaluators);
        let liars = self.liars();
        if late + gone + liars > free {
            return Err(format!(
                "{late} peers join late, {gone} leave and {liars} lie, but only {free} of {} are neither \
                 creator nor evaluator; raise `peers` or lower the counts",
                self.peers
            ));
        }
        let present = self.present_at_start();
        if self.run.min_members as usize > present {
            return Err(format!(
                "`run.min_members` is {} but only {present} peers are there at the start; the genesis \
                 would wait for ever",
                self.run.min_members
            ));
        }
        if self.calm.after_round > self.rounds {
            return Err("`calm.after_round` lies behind the last round".into());
        }
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
