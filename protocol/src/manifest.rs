//! A run's manifest: everything that members must agree on before the first round.
//!
//! Its hash is the [`RunId`]. The creator publishes it as the first entry of its log in the run's
//! scope. Nothing in it changes during the run.

use bincode::{Decode, Encode};

use crate::adapter::{AdapterShape, Trainable};
use crate::codec;
use crate::filing::EvmAddress;
use crate::hash::{self, Digest, Domain};
use crate::id::{BlobRef, MicroOpen, PeerId, Ppb, Round, RunId};

/// Everything that members of a run agree on before its first round.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Manifest {
    /// What the fields behind it mean. Bytes of a version that this program does not know cannot be read.
    pub version: Version,
    /// Name for people.
    pub name: String,
    /// The peer that certifies round 0 and pays the budget.
    pub creator: PeerId,
    /// Drawn by the creator: two runs with equal settings are two runs.
    pub nonce: u64,
    /// The Datanet that shards belong to.
    pub datanet: String,
    /// What is trained.
    pub model: Model,
    /// Who is let in, and who decides.
    pub membership: Membership,
    /// How many rounds there are, and when one is over.
    pub plan: RoundPlan,
    /// How a member trains.
    pub training: Training,
    /// How updates travel and are combined.
    pub updates: Updates,
    /// Who scores rounds, and on how much.
    pub scoring: Scoring,
    /// What rounds and answers pay.
    pub payment: Payment,
}

/// The meaning of a manifest's fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Version {
    /// The first.
    #[default]
    V1,
}

/// What a run trains.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Model {
    /// The model that is adapted.
    pub base: Base,
    /// The shape of the adapter.
    pub adapter: AdapterShape,
}

/// Who is let into a run, and who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Membership {
    /// Joins that the genesis waits for.
    pub min_members: u32,
    /// Seats that decide a round where more than [`crate::limits::MAX_COMMITTEE`] members vote; up to so many all decide.
    pub committee: u32,
}

/// How many rounds a run has, and when one is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RoundPlan {
    /// Training rounds after the genesis; one closing height follows.
    pub rounds: u32,
    /// Contributors drawn for each round (all of them while there are fewer), so that a round costs each
    /// member the same however many there are.
    pub participants: u32,
    /// Contributions that a round needs at least, whatever the time.
    pub min_contributions: u32,
    /// Deadlines of a round.
    pub deadlines: Deadlines,
}

/// How updates travel and are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Updates {
    /// How an update is encoded.
    pub codec: UpdateCodec,
    /// How updates are combined.
    pub aggregation: Aggregation,
    /// What an update weighs.
    pub weights: Weights,
    /// Who may look at a single update.
    pub privacy: Privacy,
}

/// Who may look at a single update.
///
/// What is not masked is not private: members read each other's updates, and text can be guessed from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Privacy {
    /// Every member. A round's result names what each contributor added, which scores, shares of answers and audits
    /// rest on.
    Open,
    /// Nobody: a round's result is the sum over a cohort ([`crate::state::RoundResult`]). No aggregation of this kind is
    /// built yet, so [`Manifest::check`] refuses every such run, after what could never go with it.
    Masked {
        /// Members whose updates are summed up at least.
        cohort: u32,
    },
}

/// Who scores rounds, and on how much.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Scoring {
    /// The peers that score rounds. Each commits the Merkle root of its sealed hold-out when it joins. Nobody where
    /// members are bonded.
    pub evaluators: Vec<PeerId>,
    /// Where members are bonded: seats of the panel that is drawn for each round, by stake, among those who joined as
    /// evaluators. Else 0.
    pub seats: u32,
    /// Hold-out windows that each evaluator scores a round on.
    pub windows: u32,
}

/// What rounds and answers pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Payment {
    /// The most that a round pays, out of the creator's deposit.
    pub budget_per_round: MicroOpen,
    /// What a round pays for each nat (per predicted token) that its final scores add up to, within the budget.
    pub price_per_nat: MicroOpen,
    /// How what a round pays is split.
    pub round: RoundSplit,
    /// How usage fees are split.
    pub revenue: RevenueSplit,
    /// Where the author of the base model is paid. None: nobody is, and the part is split by the run's credits.
    pub base_account: Option<EvmAddress>,
    /// Where the money lies. None: nothing is deposited, and no round is funded.
    pub settlement: Option<Settlement>,
}

/// The base model of a run.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Base {
    /// Name for people: `brook`, or a Hugging Face id.
    pub name: String,
    /// Hash of the folder's config, weights and tokenizer.
    pub hash: Digest,
    /// The [listing](crate::listing::Listing) of its files, where members may hand it on. None: they may not, or need
    /// not because the base is in every program.
    pub files: Option<BlobRef>,
}

/// How a member trains between two certificates.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Training {
    /// Optimizer steps a round (`H`).
    pub local_steps: u32,
    /// Windows per step.
    pub batch: u32,
    /// Tokens per window.
    pub context: u32,
    /// Step size of the inner optimizer (AdamW), in billionths.
    pub learning_rate: Ppb,
    /// Which factors move in which round.
    pub schedule: FactorSchedule,
}

/// Which factors move in which round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum FactorSchedule {
    /// `B` in odd rounds, `A` in even rounds: the sum of updates is exactly the update of the product.
    Alternate,
    /// Both factors every round (FedIT).
    Both,
    /// `A` stays as initialised (FFA-LoRA).
    FreezeA,
}

impl FactorSchedule {
    /// The factors that `round` trains. Round 0 trains nothing; it is given as round 1 would be.
    pub fn trainable(self, round: Round) -> Trainable {
        match self {
            Self::Both => Trainable::Both,
            Self::FreezeA => Trainable::B,
            Self::Alternate if round.0.is_multiple_of(2) && round.0 > 0 => Trainable::A,
            Self::Alternate => Trainable::B,
        }
    }

    /// The last rounds before `round` that trained one of its factors, oldest first: what they included was public when it
    /// began, and its contributions are held against that.
    pub fn turns_before(self, round: Round) -> Vec<Round> {
        let trains = |at: &Round| self.trainable(*at).overlaps(self.trainable(round));
        let before = (1..round.0).rev().map(Round).filter(trains);
        let mut found: Vec<Round> = before.take(crate::limits::PUBLIC_TURNS).collect();
        found.reverse();
        assert!(
            found.iter().all(|at| *at < round) && found.is_sorted(),
            "public is what came before, oldest first"
        );
        found
    }
}

/// How an update travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum UpdateCodec {
    /// Every number as f32.
    DenseF32,
    /// Every number as int8 with one f32 scale per chunk of 4,096.
    DenseInt8,
    /// The `top` largest of each chunk of 4,096, 12-bit index and 2-bit value (SparseLoCo), the rest
    /// kept as error feedback that decays by `feedback`.
    Sparse {
        /// Values kept per full chunk, 1 to 4,096.
        top: u16,
        /// Share of the residual kept from round to round.
        feedback: Ppb,
    },
}

impl UpdateCodec {
    /// This codec and its thinner variants, densest first: half of the values of a sparse one, a quarter
    /// and so on. A member behind a slow link may use any of them; what it leaves out stays in its error
    /// feedback.
    pub fn densities(self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self), |codec| match codec {
            Self::Sparse { top, feedback } if *top > 1 => Some(Self::Sparse {
                top: top / 2,
                feedback: *feedback,
            }),
            _ => None,
        })
    }
}

/// How updates are combined. Every rule is deterministic and gives one contribution vector a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Aggregation {
    /// Mean weighted by tokens.
    Mean,
    /// Each update clipped to the median norm, then the weighted mean.
    ClippedMean,
    /// Clipped, mixed with their nearest neighbours, then the mean of the updates that lie closest to
    /// the others (Multi-Krum).
    MultiKrum {
        /// Share of the round's tokens that may lie; below half.
        tolerate: Ppb,
    },
    /// Clipped and mixed, then centred clipping.
    CentredClip {
        /// Share of the round's tokens that may lie; below half.
        tolerate: Ppb,
    },
    /// Clipped and mixed, then the geometric median.
    GeometricMedian {
        /// Share of the round's tokens that may lie; below half.
        tolerate: Ppb,
    },
    /// Clipped, without those whose direction opposes the others, then the weighted mean.
    Agreement {
        /// Share of the round's tokens that may lie; below half.
        tolerate: Ppb,
    },
}

/// What an update weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Weights {
    /// The tokens it was trained on, whether or not others hold the same text.
    Trained,
    /// The same, in proportion to the member's own tokens ([`crate::sketch`]): text that a member committed before
    /// counts for nobody else. So an owner weighs the same under one name and under many.
    Own {
        /// Own tokens of full weight. More of them weigh no more.
        full: u64,
    },
    /// The same, in proportion to the member's stake ([`crate::anchor`]), by which seats and panels are drawn as well. So
    /// an owner weighs the same under one name and under many.
    Stake {
        /// Stake without which nobody is admitted and nobody counts, micro-OPEN. 0 on the test chain alone, where
        /// members bond after they were admitted.
        least: u64,
    },
}

/// Deadlines in milliseconds of the local monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Deadlines {
    /// From a certificate until a round is closed without the contributions still missing, provided
    /// that [`RoundPlan::min_contributions`] arrived.
    pub round_ms: u32,
    /// After the minimum committed: how long to wait for more receipts. Then, for the updates behind them.
    pub grace_ms: u32,
    /// How long a committee member waits for a proposal before it votes nil (grows each attempt).
    pub propose_ms: u32,
    /// How long it waits for late votes (grows each attempt).
    pub vote_ms: u32,
}

impl Deadlines {
    /// How long updates stay sealed after the clock closed the receipts: members start their clocks at
    /// different times, by what the network takes to carry a receipt. A quarter of the grace window, which is
    /// there to even out the same.
    pub fn seal_ms(&self) -> u64 {
        u64::from(self.grace_ms / 4)
    }
}

/// How a usage fee is split. Must add up to one billion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RevenueSplit {
    /// Contributors, by their share in the answer.
    pub contributors: Ppb,
    /// Author of the base model.
    pub base_author: Ppb,
    /// The peer that served the answer.
    pub server: Ppb,
    /// Committee members.
    pub committee: Ppb,
    /// Stakers.
    pub stakers: Ppb,
}

mod check;
mod settlement;

pub use check::ManifestError;
pub use settlement::{RoundSplit, Settlement, SettlementChain};

impl Manifest {
    /// The run's name: hash of the canonical bytes.
    pub fn run_id(&self) -> RunId {
        RunId(hash::digest(Domain::Manifest, &codec::encode(self)))
    }

    /// Whether members show sketches of their text: updates weigh by own text.
    pub fn opens_sketches(&self) -> bool {
        matches!(self.updates.weights, Weights::Own { .. })
    }

    /// Whether members are bonded: admitted, drawn and weighed by stake.
    pub fn is_bonded(&self) -> bool {
        matches!(self.updates.weights, Weights::Stake { .. })
    }

    /// Whether a peer may join as an evaluator: it is named, or evaluators are drawn.
    pub fn may_evaluate(&self, peer: &PeerId) -> bool {
        self.is_bonded() || self.scoring.evaluators.binary_search(peer).is_ok()
    }

    /// The height after the last training round; it carries the last round's score sheets. The heights behind it are
    /// **epochs**: they put filings in order, and change nothing else.
    pub fn closing_round(&self) -> Round {
        Round(self.plan.rounds + 1)
    }
}
