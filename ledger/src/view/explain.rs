//! `explain/1`: one payout walked back to the data behind it, as plain data.
//!
//! Ids in full, amounts in millionths of an OPEN, scores in nanonats a predicted token. `steps` says of
//! each station of the walk how it was checked, or what is missing.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Name and version of this layout.
pub const SCHEMA: &str = "explain/1";

/// A payout and what stands behind it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// Name and version of this layout.
    pub schema: String,
    /// The run.
    pub run: String,
    /// Its name.
    pub run_name: String,
    /// The training round.
    pub round: u32,
    /// The contributor.
    pub peer: String,
    /// The name it gave itself.
    pub name: String,
    /// What the round paid for it.
    pub payout: PayoutPart,
    /// What the round is worth over all contributors, ordered by peer.
    pub split: Vec<SplitPart>,
    /// Sum of the positive scores: the denominator of every credit.
    pub positive_nanonats: u64,
    /// The final score and the sheets it is the median of.
    pub score: ScorePart,
    /// The certificate of the round.
    pub certificate: CertificatePart,
    /// The certificate of its scores, one height later.
    pub scored_by: CertificatePart,
    /// What it added to the adapter; `None` where the round's updates are not at hand.
    pub vector: Option<VectorPart>,
    /// What the contributor signed.
    pub receipt: ReceiptPart,
    /// What it had committed to.
    pub shard: ShardPart,
    /// The walk, station by station.
    pub steps: Vec<StepPart>,
}

/// A payout line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PayoutPart {
    /// paid, no-gain, not-beyond-luck or unscored.
    pub outcome: String,
    /// What the contribution earned.
    pub micro_open: u64,
    /// Sum of all scores of the round.
    pub gain_nanonats: i64,
    /// What a nat of gain pays.
    pub price_per_nat_micro_open: u64,
    /// The most that the round pays.
    pub budget_micro_open: u64,
    /// Billionths of the committed weight that arrived in time: so much of the rest is paid.
    pub arrived_ppb: u32,
    /// What its gain is worth at that price, within the budget, in the part that arrived: paid in by the sponsor.
    pub worth_micro_open: u64,
    /// What of it waits unallocated.
    pub waiting_micro_open: u64,
    /// The contributor's account of the run before the round.
    pub account_before_micro_open: i64,
    /// The account after the round.
    pub account_after_micro_open: i64,
}

/// One contributor's part of what the round is worth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SplitPart {
    /// The peer.
    pub peer: String,
    /// Its name.
    pub name: String,
    /// The final score.
    pub score_nanonats: i64,
    /// Its standard deviation were signs drawn by lot.
    pub luck_nanonats: i64,
    /// Sum of the contributor's final scores up to this round.
    pub shown_nanonats: i64,
    /// What that sum has to exceed: three times the luck of all these rounds.
    pub bar_nanonats: u64,
    /// Whether it does. If not, the score does not count yet.
    pub beyond_luck: bool,
    /// Part of the round, billionths.
    pub credit: u64,
    /// Whether the credit was rounded up: its remainder was among the largest.
    pub credit_rounded_up: bool,
    /// What that pays.
    pub micro_open: u64,
    /// Whether the amount was rounded up.
    pub micro_open_rounded_up: bool,
}

/// A final score.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScorePart {
    /// The median; `None` when too few sheets came.
    pub score_nanonats: Option<i64>,
    /// Evaluators that may judge: all that the manifest names, but not the contributor itself.
    pub evaluators: u32,
    /// Sheets that a final score needs.
    pub needed: u32,
    /// Sheets of these that were certified, by rising score.
    pub sheets: Vec<SheetPart>,
}

/// One evaluator's line about the contribution.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SheetPart {
    /// The evaluator.
    pub evaluator: String,
    /// Its name.
    pub name: String,
    /// The path integral.
    pub score_nanonats: i64,
    /// Lower end of its interval.
    pub low_nanonats: i64,
    /// Upper end of that interval.
    pub high_nanonats: i64,
    /// Standard deviation of the score were signs drawn by lot.
    pub luck_nanonats: i64,
    /// Whether the median rests on it.
    pub middle: bool,
    /// Tokens it predicted.
    pub predicted: u64,
    /// The block that carries the sheet.
    pub block: String,
    /// The block's place in the evaluator's log.
    pub sequence: u64,
}

/// A certificate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CertificatePart {
    /// Its height.
    pub round: u32,
    /// What was signed.
    pub value: String,
    /// The state that follows.
    pub state: String,
    /// The attempt in which it was decided.
    pub attempt: u32,
    /// Signatures that are enough.
    pub quorum: u32,
    /// The committee, drawn anew from the roster before; who signed.
    pub committee: Vec<SeatPart>,
}

/// A seat of a committee.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SeatPart {
    /// The peer.
    pub peer: String,
    /// Its name.
    pub name: String,
    /// Whether its precommit is in the certificate.
    pub signed: bool,
}

/// A contribution vector: the coefficient times the update.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VectorPart {
    /// The run's rule.
    pub rule: String,
    /// Contributions in the round.
    pub included: u32,
    /// Part of the round's weight, before the rule.
    pub token_share: f64,
    /// What the rule left of that weight: clipping, turning away.
    pub factor: f64,
    /// Their product, which the update was multiplied by.
    pub coefficient: f64,
    /// Euclidean length of the update.
    pub update_norm: f64,
    /// Euclidean length of the contribution vector.
    pub vector_norm: f64,
    /// Numbers that it moved.
    pub moved: u64,
    /// Numbers of the adapter.
    pub parameters: u64,
}

/// A receipt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReceiptPart {
    /// The block that carries it: its id.
    pub block: String,
    /// The block's place in the contributor's log.
    pub sequence: u64,
    /// Place within the block.
    pub index: u8,
    /// The state that was trained from.
    pub base_state: String,
    /// Hash of the encoded update.
    pub update: String,
    /// Its bytes.
    pub update_bytes: u64,
    /// Tokens trained on.
    pub tokens: u64,
}

/// What stands behind the receipt's shard root.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ShardPart {
    /// The Merkle root.
    pub root: String,
    /// contributor or both.
    pub role: String,
    /// Tokens that the join named.
    pub tokens: u64,
    /// How many of them count as its own.
    pub own_tokens: u64,
    /// The block that carries the join.
    pub block: String,
    /// The block's place in the contributor's log.
    pub sequence: u64,
    /// The first round of the membership.
    pub since: u32,
}

/// How far one station was checked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepPart {
    /// payout, split, score, certificate, vector, receipt, shard.
    pub station: String,
    /// Whether it was recomputed just now and found as certified.
    pub checked: bool,
    /// From what it was recomputed, or what is missing.
    pub how: String,
    /// Where to get what is missing.
    pub mend: Option<String>,
}
