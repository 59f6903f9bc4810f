//! The run file: what a person writes to open a run, and the manifest that comes of it.
//!
//! Four keys are needed (`name`, `base`, `datanet`, `rounds`); every other setting of the manifest has
//! a documented default. Unknown keys are refused with the key that was probably meant, because a
//! misspelt deadline would otherwise silently be the default one. Reading the base model belongs to the
//! trainer; this file is handed its hash and its modules.

mod chain;
mod facts;
mod keys;
mod money;
mod names;
mod pay;

use std::path::Path;
use std::sync::OnceLock;

use serde::Deserialize;
use tributary_protocol::adapter::AdapterShape;
use tributary_protocol::id::{PeerId, Ppb};
use tributary_protocol::limits;
use tributary_protocol::manifest::{
    Aggregation, Base, Deadlines, FactorSchedule, Manifest, Membership, Model, Payment, Privacy,
    RoundPlan, Scoring, Training, UpdateCodec, Updates, Version, Weights,
};

pub use chain::SettlementTable;
pub use facts::BaseFacts;
pub use money::parse_open;
pub use names::{AggregationName, ChainName, CodecName, ScheduleName, WeightsName};
pub use pay::{RevenueTable, RoundSplitTable};
use tributary_trainer::input;

/// Why a run file does not give a manifest.
#[derive(Debug, thiserror::Error)]
pub enum RunFileError {
    /// The file cannot be read.
    #[error(
        "cannot read the run file {path}: {source}. Check the path; `examples/run.toml` is a start"
    )]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("{path} is not valid TOML: {why}")]
    Syntax {
        /// The file.
        path: String,
        /// Where and why.
        why: String,
    },
    /// A key that no run file has.
    #[error("{path}: unknown key `{key}`. {hint}")]
    UnknownKey {
        /// The file.
        path: String,
        /// The key, with its table.
        key: String,
        /// What was probably meant.
        hint: String,
    },
    /// A value of the wrong kind, or a needed key is missing.
    #[error("{path}: {why}")]
    Value {
        /// The file.
        path: String,
        /// Which and why.
        why: String,
    },
    /// A value out of its bounds.
    #[error("run file: `{key}` {why}")]
    Bound {
        /// The key.
        key: &'static str,
        /// Why, and what is allowed.
        why: String,
    },
}

/// Budgets of a round that a nat is worth unless the run file says otherwise: 20 millinats pay the whole budget, which is
/// what a good round of the demo gains.
pub const BUDGETS_PER_NAT: u128 = 50;

/// A run file, every default filled in.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// Name for people.
    pub name: String,
    /// `brook`, or a folder in Hugging Face layout.
    pub base: String,
    /// The Datanet that shards belong to.
    pub datanet: String,
    /// Training rounds.
    pub rounds: u32,
    /// Whether members may hand the base on to those who lack it, which its licence has to allow.
    #[serde(default)]
    pub share_base: bool,
    /// Peer ids of the evaluators; `self` is the peer that creates the run. None: that one, and where members are bonded
    /// nobody.
    pub evaluators: Option<Vec<String>>,
    /// Where members are bonded: seats of the panel that is drawn for each round. None: [`EVALUATOR_SEATS`].
    pub evaluator_seats: Option<u32>,
    /// Hold-out windows that each evaluator scores a round on.
    #[serde(default = "default_score_windows")]
    pub score_windows: u32,
    /// Seats that decide a round where more than 64 members vote.
    #[serde(default = "default_committee")]
    pub committee: u32,
    /// Members that the start waits for.
    #[serde(default = "default_min_members")]
    pub min_members: u32,
    /// Contributions that a round needs.
    #[serde(default = "default_min_contributions")]
    pub min_contributions: u32,
    /// Contributors drawn for each round.
    #[serde(default = "default_participants")]
    pub participants: u32,
    /// The most that a round pays in OPEN, split by credit.
    #[serde(default = "default_budget")]
    pub budget_per_round_open: toml::Value,
    /// OPEN for each nat per token that a round gains; zero: [`BUDGETS_PER_NAT`] budgets.
    #[serde(default = "default_price")]
    pub price_per_nat_open: toml::Value,
    /// How updates are combined.
    #[serde(default)]
    pub aggregation: AggregationName,
    /// What an update weighs.
    #[serde(default)]
    pub weights: WeightsName,
    /// Where members are bonded on a real chain: what each has to have put up, in OPEN. None: one.
    pub least_stake_open: Option<toml::Value>,
    /// Own tokens of full weight; zero: as many as a member can train on in all rounds.
    #[serde(default)]
    pub full_weight_tokens: u64,
    /// Share of a round's tokens that may lie, for the robust rules.
    #[serde(default = "default_tolerate")]
    pub tolerate: f64,
    /// Rank and scale.
    #[serde(default)]
    pub adapter: AdapterTable,
    /// How a member trains.
    #[serde(default)]
    pub training: TrainingTable,
    /// How an update is encoded.
    #[serde(default)]
    pub codec: CodecTable,
    /// Deadlines of a round.
    #[serde(default)]
    pub deadlines: DeadlineTable,
    /// How what a round pays is split.
    #[serde(default)]
    pub round_split: RoundSplitTable,
    /// How usage fees are split.
    #[serde(default)]
    pub revenue: RevenueTable,
    /// The account that the base model's author is paid at; empty: none.
    #[serde(default)]
    pub base_account: String,
    /// Where the run's money lies.
    #[serde(default)]
    pub chain: ChainName,
    /// The real chain, with `chain = "evm"`.
    pub settlement: Option<SettlementTable>,
}

/// Seats of a panel where the run's file says nothing: a median of seven stands against two liars.
pub const EVALUATOR_SEATS: u32 = 7;

fn default_tolerate() -> f64 {
    0.25
}
fn default_score_windows() -> u32 {
    16
}
fn default_committee() -> u32 {
    64
}
fn default_min_members() -> u32 {
    3
}
fn default_min_contributions() -> u32 {
    2
}
fn default_participants() -> u32 {
    limits::MAX_INCLUDED as u32
}
fn default_budget() -> toml::Value {
    toml::Value::Integer(1)
}
fn default_price() -> toml::Value {
    toml::Value::Integer(0)
}

/// `[adapter]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdapterTable {
    /// LoRA rank.
    pub rank: u32,
    /// LoRA alpha.
    pub alpha: u32,
}

impl Default for AdapterTable {
    fn default() -> Self {
        Self { rank: 8, alpha: 16 }
    }
}

/// `[training]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingTable {
    /// Optimizer steps a round.
    pub local_steps: u32,
    /// Windows a step.
    pub batch: u32,
    /// Tokens a window.
    pub context: u32,
    /// Step size of AdamW.
    pub learning_rate: f64,
    /// Which factors move in which round.
    pub schedule: ScheduleName,
}

impl Default for TrainingTable {
    fn default() -> Self {
        Self {
            local_steps: 20,
            batch: 4,
            context: 128,
            learning_rate: 2e-3,
            schedule: ScheduleName::Both,
        }
    }
}

/// `[codec]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CodecTable {
    /// `sparse`, `dense-int8` or `dense-f32`.
    pub kind: CodecName,
    /// Values kept of each 4,096 (sparse).
    pub top: u16,
    /// Share of the residual kept (sparse).
    pub feedback: f64,
}

impl Default for CodecTable {
    fn default() -> Self {
        Self {
            kind: CodecName::Sparse,
            top: 64,
            feedback: 0.95,
        }
    }
}

/// `[deadlines]`, milliseconds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeadlineTable {
    /// A round closes without late contributions after this.
    pub round_ms: u32,
    /// After the minimum arrived, how long to wait for more.
    pub grace_ms: u32,
    /// How long to wait for a proposal.
    pub propose_ms: u32,
    /// How long to wait for votes.
    pub vote_ms: u32,
}

impl Default for DeadlineTable {
    fn default() -> Self {
        Self {
            round_ms: 600_000,
            grace_ms: 30_000,
            propose_ms: 4_000,
            vote_ms: 2_000,
        }
    }
}

impl RunFile {
    /// Reads a run file.
    ///
    /// # Errors
    /// See [`RunFileError`]; each names the file, the key and the mend.
    pub fn read(path: &Path) -> Result<Self, RunFileError> {
        let name = path.display().to_string();
        let text = input::text(path).map_err(|source| RunFileError::Read {
            path: name.clone(),
            source,
        })?;
        Self::parse(&text, &name)
    }

    /// Reads a run file's text; `path` is for messages.
    ///
    /// # Errors
    /// As [`RunFile::read`].
    pub fn parse(text: &str, path: &str) -> Result<Self, RunFileError> {
        let table: toml::Table =
            text.parse()
                .map_err(|e: toml::de::Error| RunFileError::Syntax {
                    path: path.to_owned(),
                    why: e.to_string(),
                })?;
        keys::check(&table, path)?;
        // From the text, not from the table: errors then point at the line.
        toml::from_str(text).map_err(|e| RunFileError::Value {
            path: path.to_owned(),
            why: e.to_string().trim_end().to_owned(),
        })
    }

    /// The manifest that `creator` would publish for this file.
    ///
    /// # Errors
    /// [`RunFileError::Bound`] names the key that is out of bounds.
    pub fn manifest(
        &self,
        creator: PeerId,
        nonce: u64,
        base: &BaseFacts,
    ) -> Result<Manifest, RunFileError> {
        self.check_counts()?;
        self.check_chain()?;
        Ok(Manifest {
            version: Version::V1,
            name: self.name.clone(),
            creator,
            nonce,
            datanet: self.datanet.clone(),
            training: self.training()?,
            model: Model {
                base: Base {
                    name: base.name.clone(),
                    hash: base.hash,
                    files: base.files.filter(|_| self.share_base),
                },
                adapter: self.shape(base)?,
            },
            plan: RoundPlan {
                rounds: self.rounds,
                min_contributions: self.min_contributions,
                participants: self.participants,
                deadlines: Deadlines {
                    round_ms: self.deadlines.round_ms,
                    grace_ms: self.deadlines.grace_ms,
                    propose_ms: self.deadlines.propose_ms,
                    vote_ms: self.deadlines.vote_ms,
                },
            },
            updates: Updates {
                codec: self.codec()?,
                aggregation: self.aggregation()?,
                weights: self.weights()?,
                privacy: Privacy::Open,
            },
            scoring: Scoring {
                evaluators: self.evaluators(creator)?,
                windows: self.score_windows,
                seats: self.evaluator_seats()?,
            },
            membership: Membership {
                committee: self.committee,
                min_members: self.min_members,
            },
            payment: Payment {
                budget_per_round: self.budget()?,
                price_per_nat: self.price()?,
                round: self.round_split()?,
                revenue: self.revenue()?,
                base_account: self.base_account()?,
                settlement: None,
            },
        })
    }

    fn check_counts(&self) -> Result<(), RunFileError> {
        let counts = [
            ("rounds", self.rounds),
            ("score_windows", self.score_windows),
            ("committee", self.committee),
            ("min_members", self.min_members),
            ("min_contributions", self.min_contributions),
            ("participants", self.participants),
            ("training.local_steps", self.training.local_steps),
            ("training.batch", self.training.batch),
        ];
        for (key, value) in counts {
            if value == 0 {
                return Err(bound(key, "must be at least 1"));
            }
        }
        if self.training.context < 2 {
            return Err(bound(
                "training.context",
                "must be at least 2: the first token of a window is not predicted",
            ));
        }
        Ok(())
    }

    fn shape(&self, base: &BaseFacts) -> Result<AdapterShape, RunFileError> {
        let shape = AdapterShape {
            rank: self.adapter.rank,
            alpha: self.adapter.alpha,
            modules: base.modules.clone(),
        };
        for (key, value, most) in [
            ("adapter.rank", shape.rank, limits::MAX_RANK),
            ("adapter.alpha", shape.alpha, limits::MAX_ALPHA),
        ] {
            if !(1..=most).contains(&value) {
                return Err(bound(key, &format!("must be between 1 and {most}")));
            }
        }
        (shape.check()).map_err(|e| bound("adapter", &format!("does not fit the base: {e}")))?;
        Ok(shape)
    }

    fn training(&self) -> Result<Training, RunFileError> {
        let rate = self.training.learning_rate;
        if !(1e-9..=1.0).contains(&rate) {
            return Err(bound(
                "training.learning_rate",
                "must be above 0 and at most 1",
            ));
        }
        Ok(Training {
            local_steps: self.training.local_steps,
            batch: self.training.batch,
            context: self.training.context,
            learning_rate: ppb(rate),
            schedule: match self.training.schedule {
                ScheduleName::Alternate => FactorSchedule::Alternate,
                ScheduleName::Both => FactorSchedule::Both,
                ScheduleName::FreezeA => FactorSchedule::FreezeA,
            },
        })
    }

    fn aggregation(&self) -> Result<Aggregation, RunFileError> {
        if !(0.0..0.5).contains(&self.tolerate) {
            return Err(bound("tolerate", "must be 0 or more and below 0.5"));
        }
        let tolerate = ppb(self.tolerate);
        Ok(match self.aggregation {
            AggregationName::Mean => Aggregation::Mean,
            AggregationName::ClippedMean => Aggregation::ClippedMean,
            AggregationName::MultiKrum => Aggregation::MultiKrum { tolerate },
            AggregationName::CentredClip => Aggregation::CentredClip { tolerate },
            AggregationName::GeometricMedian => Aggregation::GeometricMedian { tolerate },
            AggregationName::Agreement => Aggregation::Agreement { tolerate },
        })
    }

    fn weights(&self) -> Result<Weights, RunFileError> {
        let training = &self.training;
        let round = u64::from(training.local_steps) * u64::from(training.batch);
        let all = (round.saturating_mul(u64::from(training.context)))
            .saturating_mul(u64::from(self.rounds));
        match (self.weights, self.full_weight_tokens) {
            (WeightsName::Trained, 0) => Ok(Weights::Trained),
            (WeightsName::Stake, 0) => Ok(Weights::Stake {
                least: u64::try_from(self.least_stake()?.0).unwrap_or(u64::MAX),
            }),
            (WeightsName::Trained | WeightsName::Stake, _) => Err(bound(
                "full_weight_tokens",
                "means something only with `weights = \"own\"`; remove one of them",
            )),
            (WeightsName::Own, 0) => Ok(Weights::Own {
                full: all.min(limits::MAX_TOKENS),
            }),
            (WeightsName::Own, 1..=limits::MAX_TOKENS) => Ok(Weights::Own {
                full: self.full_weight_tokens,
            }),
            (WeightsName::Own, _) => Err(bound("full_weight_tokens", "must be at most 2^48")),
        }
    }

    fn codec(&self) -> Result<UpdateCodec, RunFileError> {
        Ok(match self.codec.kind {
            CodecName::DenseF32 => UpdateCodec::DenseF32,
            CodecName::DenseInt8 => UpdateCodec::DenseInt8,
            CodecName::Sparse => {
                if !(1..=4096).contains(&self.codec.top) {
                    return Err(bound("codec.top", "must be between 1 and 4096"));
                }
                if !(0.0..=1.0).contains(&self.codec.feedback) {
                    return Err(bound("codec.feedback", "must be between 0 and 1"));
                }
                UpdateCodec::Sparse {
                    top: self.codec.top,
                    feedback: ppb(self.codec.feedback),
                }
            }
        })
    }

    fn is_bonded(&self) -> bool {
        self.weights == WeightsName::Stake
    }

    fn evaluator_seats(&self) -> Result<u32, RunFileError> {
        let most = limits::MAX_EVALUATORS as u32;
        match (self.is_bonded(), self.evaluator_seats) {
            (false, None) => Ok(0),
            (false, Some(_)) => Err(bound(
                "evaluator_seats",
                "means something only with `weights = \"stake\"`, where evaluators are drawn; name them in `evaluators`",
            )),
            (true, None) => Ok(EVALUATOR_SEATS),
            (true, Some(seats)) if (1..=most).contains(&seats) => Ok(seats),
            (true, Some(_)) => Err(bound(
                "evaluator_seats",
                &format!("must be between 1 and {most}"),
            )),
        }
    }

    fn evaluators(&self, creator: PeerId) -> Result<Vec<PeerId>, RunFileError> {
        let default = || match self.is_bonded() {
            true => Vec::new(),
            false => vec!["self".to_owned()],
        };
        let named = self.evaluators.clone().unwrap_or_else(default);
        if self.is_bonded() && !named.is_empty() {
            return Err(bound(
                "evaluators",
                "cannot be named with `weights = \"stake\"`: panels are drawn by stake among those who join as \
                 evaluators; remove the key, and say how many seats are drawn with `evaluator_seats`",
            ));
        }
        let mut peers = Vec::new();
        for text in &named {
            let peer = if text == "self" {
                creator
            } else {
                text.parse().map_err(|_| {
                    bound(
                        "evaluators",
                        &format!(
                            "holds `{text}`, which is no peer id (64 hexadecimal digits, as `tributary \
                             status` prints it) and not `self`"
                        ),
                    )
                })?
            };
            peers.push(peer);
        }
        peers.sort_unstable();
        peers.dedup();
        Ok(peers)
    }
}

fn bound(key: &'static str, why: &str) -> RunFileError {
    RunFileError::Bound {
        key,
        why: why.to_owned(),
    }
}

fn ppb(fraction: f64) -> Ppb {
    Ppb((fraction * 1e9).round() as u32)
}

/// The run file that the README shows, with every key at its default.
pub fn example() -> &'static str {
    static TEXT: OnceLock<&'static str> = OnceLock::new();
    TEXT.get_or_init(|| include_str!("../../examples/run.toml"))
}

#[cfg(test)]
mod tests;
