//! What a manifest may say.
//!
//! The same check serves two readers: the author of a run's TOML, whom it tells which setting to change and to what,
//! and every peer, which refuses a run whose first entry does not pass. What a setting means is described where it is
//! declared; this file has only the bounds.

use super::{
    Aggregation, Base, Deadlines, Manifest, Payment, Privacy, RevenueSplit, SettlementChain,
    Training, UpdateCodec, Weights,
};
use crate::adapter::AdapterError;
use crate::codec;
use crate::entry::is_name;
use crate::filing::EvmAddress;
use crate::id::{MicroOpen, Ppb};
use crate::limits;

/// Share of a round's tokens that a rule can be asked to withstand: with half of them liars, there is
/// no telling who is honest.
const MAX_TOLERATED: Ppb = Ppb(499_999_999);

/// Members of the smallest cohort: of two, each knows the other's update from the sum.
const MIN_COHORT: u32 = 3;

/// Why a run cannot be opened with these settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A number outside of its bounds.
    #[error(
        "`{field}` is {found}, but must lie between {min} and {max}; change it in the run's file"
    )]
    Range {
        /// The setting, as the run's file names it.
        field: &'static str,
        /// What it is.
        found: u128,
        /// Least allowed.
        min: u128,
        /// Most allowed.
        max: u128,
    },
    /// A name that is empty, too long, or would disturb a terminal.
    #[error(
        "`{field}` must have 1 to {max} bytes, not all blank, and only characters that show; shorten or retype it",
        max = limits::MAX_NAME_BYTES
    )]
    Name {
        /// The setting.
        field: &'static str,
    },
    /// The adapter's shape.
    #[error("`adapter`: {0}; choose another rank, alpha or set of modules")]
    Adapter(#[from] AdapterError),
    /// An update codec that another setting rules out.
    #[error(
        "`codec.feedback` is {found} billionths, but at most one billion (all of it) can be kept"
    )]
    Feedback {
        /// What it is.
        found: u32,
    },
    /// The evaluators' keys.
    #[error(
        "`evaluators` must be ordered by key and name each key once; sort the list and drop repeats"
    )]
    Evaluators,
    /// More contributions asked for than one round may hold or members may send.
    #[error(
        "`min_contributions` is {found}, but the genesis waits for {members} members only; raise \
         `min_members` or ask for fewer contributions, or the first round may never close"
    )]
    MinContributions {
        /// What it is.
        found: u32,
        /// `min_members`.
        members: u32,
    },
    /// More contributions asked for than members are drawn to send.
    #[error(
        "`min_contributions` is {found}, but only {participants} members are drawn for a round; raise \
         `participants` or ask for fewer contributions, or no round could ever close"
    )]
    Participants {
        /// What it is.
        found: u32,
        /// `participants`.
        participants: u32,
    },
    /// Parts of a whole that are not the whole.
    #[error(
        "the parts of `revenue` add up to {sum} billionths, but must add up to 1000000000; change one \
         of contributors, base_author, server, committee, stakers by {}",
        (1_000_000_000i64 - *.sum as i64)
    )]
    Revenue {
        /// What they add up to.
        sum: u64,
    },
    /// Parts of a round's pay that are not the whole.
    #[error(
        "the parts of `round_split` add up to {sum} billionths, but must add up to 1000000000; change one of contributors, \
         evaluators, members by {}",
        (1_000_000_000i64 - *.sum as i64)
    )]
    RoundSplit {
        /// What they add up to.
        sum: u64,
    },
    /// A base author paid nowhere.
    #[error(
        "`base_account` is the first or the last address there is, and belongs to nobody; name an account, or none"
    )]
    BaseAccount,
    /// Terms of settlement in which nobody deposits.
    #[error("`settlement.sponsor` is address 0; name the account that deposits")]
    Sponsor,
    /// Bonded members, and something that does not go with them; or money on a real chain without them.
    #[error("`{field}`: {why}; {remedy}")]
    Bonded {
        /// The setting at fault.
        field: &'static str,
        /// Why it cannot be.
        why: &'static str,
        /// What to change.
        remedy: &'static str,
    },
    /// Masked updates, and something that has to look at single ones.
    #[error("`privacy` is masked, but {why}; {remedy}, or leave updates open")]
    Masked {
        /// The setting that cannot go with it.
        field: &'static str,
        /// Why it cannot.
        why: &'static str,
        /// What to change.
        remedy: &'static str,
    },
    /// Settings that fit each other and that this version cannot run.
    #[error("`privacy` is masked, which this version cannot aggregate; leave updates open")]
    Unbuilt,
    /// All settings together.
    #[error(
        "the manifest takes {found} bytes, but at most {max} fit into one signed block; adapt fewer \
         modules",
        max = limits::MAX_MANIFEST_BYTES
    )]
    TooLong {
        /// Encoded size.
        found: usize,
    },
}

impl ManifestError {
    /// The setting at fault.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Range { field, .. } | Self::Name { field } => field,
            Self::Adapter(_) => "adapter",
            Self::Feedback { .. } => "codec.feedback",
            Self::Evaluators => "evaluators",
            Self::MinContributions { .. } | Self::Participants { .. } => "min_contributions",
            Self::Revenue { .. } => "revenue",
            Self::RoundSplit { .. } => "round_split",
            Self::BaseAccount => "base_account",
            Self::Sponsor => "settlement.sponsor",
            Self::Masked { field, .. } | Self::Bonded { field, .. } => field,
            Self::Unbuilt => "privacy",
            Self::TooLong { .. } => "manifest",
        }
    }
}

pub(super) fn range(
    field: &'static str,
    found: impl Into<u128>,
    min: impl Into<u128>,
    max: impl Into<u128>,
) -> Result<(), ManifestError> {
    let (found, min, max) = (found.into(), min.into(), max.into());
    if (min..=max).contains(&found) {
        Ok(())
    } else {
        Err(ManifestError::Range {
            field,
            found,
            min,
            max,
        })
    }
}

fn name(field: &'static str, text: &str) -> Result<(), ManifestError> {
    if is_name(text) {
        Ok(())
    } else {
        Err(ManifestError::Name { field })
    }
}

impl Manifest {
    /// Checks every bound.
    ///
    /// # Errors
    /// [`ManifestError`] names the first setting that is refused and what to do about it.
    pub fn check(&self) -> Result<(), ManifestError> {
        name("name", &self.name)?;
        self.model.base.check()?;
        name("datanet", &self.datanet)?;
        self.model.adapter.check()?;
        range("rounds", self.plan.rounds, 1u8, limits::MAX_ROUNDS)?;
        self.training.check()?;
        self.updates.codec.check()?;
        match self.updates.aggregation {
            Aggregation::Mean | Aggregation::ClippedMean => {}
            Aggregation::MultiKrum { tolerate }
            | Aggregation::CentredClip { tolerate }
            | Aggregation::GeometricMedian { tolerate }
            | Aggregation::Agreement { tolerate } => {
                range("aggregation.tolerate", tolerate.0, 0u8, MAX_TOLERATED.0)?;
            }
        }
        if let Weights::Own { full } = self.updates.weights {
            range("weights.full", full, 1u8, limits::MAX_TOKENS)?;
        }
        self.check_bonded()?;
        let evaluators = self.scoring.evaluators.len() as u64;
        range("evaluators", evaluators, 0u8, limits::MAX_EVALUATORS as u64)?;
        if self.scoring.evaluators.windows(2).any(|w| w[0] >= w[1]) {
            return Err(ManifestError::Evaluators);
        }
        let windows = limits::MAX_SCORE_WINDOWS;
        range("score_windows", self.scoring.windows, 1u8, windows)?;
        let committee = limits::MAX_COMMITTEE as u64;
        range("committee", self.membership.committee, 1u8, committee)?;
        // The genesis admits all of them at once.
        let members = limits::MAX_CHANGES_PER_ROUND as u64;
        range("min_members", self.membership.min_members, 1u8, members)?;
        let least = self.plan.min_contributions;
        let included = limits::MAX_INCLUDED as u64;
        range("min_contributions", least, 1u8, included)?;
        range("participants", self.plan.participants, 1u8, included)?;
        if least > self.membership.min_members {
            return Err(ManifestError::MinContributions {
                found: least,
                members: self.membership.min_members,
            });
        }
        if least > self.plan.participants {
            return Err(ManifestError::Participants {
                found: least,
                participants: self.plan.participants,
            });
        }
        self.plan.deadlines.check()?;
        self.payment.check()?;
        self.check_privacy()?;
        match codec::encode(self).len() {
            0..=limits::MAX_MANIFEST_BYTES => Ok(()),
            found => Err(ManifestError::TooLong { found }),
        }
    }
}

impl Manifest {
    /// Refuses what cannot go with bonded members, or without them.
    fn check_bonded(&self) -> Result<(), ManifestError> {
        let chain = self.payment.settlement.map(|settlement| settlement.chain);
        let is_real = matches!(chain, Some(SettlementChain::Evm { .. }));
        let Weights::Stake { least } = self.updates.weights else {
            range("evaluator_seats", self.scoring.seats, 0u8, 0u8)?;
            return match is_real {
                true => Err(ManifestError::Bonded {
                    field: "settlement.chain",
                    why: "on a real chain names are free and money is not",
                    remedy: "weigh by stake: `weights = \"stake\"`",
                }),
                false => Ok(()),
            };
        };
        let refused = [
            (
                !self.scoring.evaluators.is_empty(),
                "evaluators",
                "where members are bonded, evaluators are drawn and not named",
                "name none, and say how many seats are drawn: `evaluator_seats`",
            ),
            (
                chain.is_none(),
                "settlement",
                "stake is put up on a chain, and this run has none",
                "name a chain",
            ),
            (
                chain == Some(SettlementChain::Test) && least > 0,
                "least_stake",
                "on the test chain members bond after they were admitted",
                "set it to 0",
            ),
        ];
        let mut refused = refused.into_iter().filter(|(is_refused, ..)| *is_refused);
        if let Some((_, field, why, remedy)) = refused.next() {
            return Err(ManifestError::Bonded { field, why, remedy });
        }
        let most = limits::MAX_EVALUATORS as u64;
        range("evaluator_seats", self.scoring.seats, 0u8, most)?;
        range("least_stake", least, u8::from(is_real), limits::MAX_STAKE)
    }

    /// Refuses what cannot go with masked updates: everything that looks at a single one.
    fn check_privacy(&self) -> Result<(), ManifestError> {
        let Privacy::Masked { cohort } = self.updates.privacy else {
            return Ok(());
        };
        let most = limits::MAX_INCLUDED as u64;
        range("privacy.cohort", cohort, MIN_COHORT, most)?;
        let refused = [
            (
                cohort > self.plan.min_contributions,
                "min_contributions",
                "a round could close with fewer contributions than its cohort",
                "ask for at least as many contributions",
            ),
            (
                self.updates.aggregation != Aggregation::Mean,
                "aggregation",
                "every rule but the mean compares single updates",
                "aggregate by `mean`",
            ),
            (
                matches!(self.updates.codec, UpdateCodec::Sparse { .. }),
                "codec",
                "sparse updates name positions of their own, where masks do not cancel",
                "use a dense codec",
            ),
            (
                !self.scoring.evaluators.is_empty(),
                "evaluators",
                "evaluators score single contributions",
                "name no evaluators",
            ),
            (
                self.payment.budget_per_round > MicroOpen(0),
                "budget_per_round",
                "rounds are paid by scores of single contributions",
                "set it to 0",
            ),
            (
                self.payment.revenue.contributors > Ppb(0),
                "revenue.contributors",
                "shares of an answer rest on single contributions",
                "set it to 0",
            ),
        ];
        match refused.into_iter().find(|(is_refused, ..)| *is_refused) {
            Some((_, field, why, remedy)) => Err(ManifestError::Masked { field, why, remedy }),
            None => Err(ManifestError::Unbuilt),
        }
    }
}

impl Base {
    fn check(&self) -> Result<(), ManifestError> {
        name("base.name", &self.name)?;
        let listing = self.files.map_or(1, |files| files.size);
        range("base.files", listing, 1u8, limits::MAX_LISTING_BYTES as u64)
    }
}

impl Payment {
    fn check(&self) -> Result<(), ManifestError> {
        let budget = self.budget_per_round.0;
        range(
            "budget_per_round",
            budget,
            0u8,
            limits::MAX_BUDGET_MICRO_OPEN,
        )?;
        // A budget that no gain reaches would be a promise of nothing.
        let least = u128::from(budget > 0);
        let price = self.price_per_nat.0;
        range("price_per_nat", price, least, limits::MAX_PRICE_MICRO_OPEN)?;
        self.round.check()?;
        self.revenue.check()?;
        // Nobody's account, and the one that ends every list of accounts.
        let ends = [EvmAddress::default(), EvmAddress([0xff; 20])];
        if self.base_account.is_some_and(|at| ends.contains(&at)) {
            return Err(ManifestError::BaseAccount);
        }
        if let Some(settlement) = &self.settlement {
            settlement.check()?;
        }
        Ok(())
    }
}

impl Training {
    fn check(&self) -> Result<(), ManifestError> {
        let steps = self.local_steps;
        range("training.local_steps", steps, 1u8, limits::MAX_LOCAL_STEPS)?;
        range("training.batch", self.batch, 1u8, limits::MAX_BATCH)?;
        // A window of one token predicts nothing.
        range("training.context", self.context, 2u8, limits::MAX_CONTEXT)?;
        range(
            "training.learning_rate",
            self.learning_rate.0,
            1u8,
            Ppb::ONE.0,
        )
    }
}

impl UpdateCodec {
    fn check(&self) -> Result<(), ManifestError> {
        match self {
            Self::DenseF32 | Self::DenseInt8 => Ok(()),
            Self::Sparse { top, feedback } => {
                range("codec.top", *top, 1u8, 4096u16)?;
                if *feedback > Ppb::ONE {
                    return Err(ManifestError::Feedback { found: feedback.0 });
                }
                Ok(())
            }
        }
    }
}

impl Deadlines {
    fn check(&self) -> Result<(), ManifestError> {
        let fields = [
            ("deadlines.round_ms", self.round_ms),
            ("deadlines.grace_ms", self.grace_ms),
            ("deadlines.propose_ms", self.propose_ms),
            ("deadlines.vote_ms", self.vote_ms),
        ];
        (fields.into_iter()).try_for_each(|(at, ms)| range(at, ms, 1u8, limits::MAX_DEADLINE_MS))
    }
}

impl RevenueSplit {
    fn check(&self) -> Result<(), ManifestError> {
        let parts = [
            self.contributors,
            self.base_author,
            self.server,
            self.committee,
            self.stakers,
        ];
        let sum: u64 = parts.iter().map(|part| u64::from(part.0)).sum();
        if sum == u64::from(Ppb::ONE.0) {
            Ok(())
        } else {
            Err(ManifestError::Revenue { sum })
        }
    }
}

#[cfg(test)]
mod tests;
