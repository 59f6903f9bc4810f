//! What the ledger says, as plain data for JSON and for tables.
//!
//! Ids are written in full, so that every view can be fed to the next command; tables shorten them. Callers of this
//! crate decide how a view is shown.

pub mod books;
pub mod disputes;
pub mod explain;

use serde::{Deserialize, Serialize};
use tributary_protocol::id::PeerId;
use utoipa::ToSchema;

/// A member of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// Its id.
    pub peer: String,
    /// Name for people.
    pub name: String,
    /// contributor, evaluator or both.
    pub role: String,
    /// Tokens that it committed to.
    pub tokens: u64,
    /// How many of them count as its own.
    pub own_tokens: u64,
}

/// A certified round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RoundView {
    /// The round.
    pub round: u32,
    /// Its certified state.
    pub state_hash: String,
    /// The adapter after it.
    pub adapter: String,
    /// Contributions included.
    pub included: u32,
    /// Median over evaluators of the mean loss before the round, nats per token.
    pub loss_before: Option<f64>,
    /// The same after the round.
    pub loss_after: Option<f64>,
}

/// What a contributor earned in a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CreditView {
    /// Its id.
    pub peer: String,
    /// Name for people.
    pub name: String,
    /// Sum of its final scores.
    pub score_nanonats: i64,
    /// Lower end of the sum's interval.
    pub low_nanonats: i64,
    /// Upper end of that interval.
    pub high_nanonats: i64,
    /// Standard deviation that the sum would have with random signs.
    pub luck_nanonats: u64,
    /// Whether the sum is beyond luck: its positive scores count from then on.
    pub beyond_luck: bool,
    /// Credits: its part of what was given out, in billionths of a round.
    pub credit: u64,
    /// Earned, in millionths of an OPEN.
    pub micro_open: u64,
}

/// An adapter that some round certified.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AdapterView {
    /// BLAKE3 of its canonical bytes: its id.
    pub id: String,
    /// Bytes.
    pub size: u64,
    /// The run.
    pub run: String,
    /// The run's name.
    pub name: String,
    /// The base model it belongs to.
    pub base: String,
    /// The round that certified it.
    pub round: u32,
    /// Whether its bytes are in this home.
    pub here: bool,
}

/// Where a run's money lies, in millionths of an OPEN.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SettlementView {
    /// `test`, or the chain's number (EIP-155).
    pub chain: String,
    /// The settlement contract.
    pub contract: String,
    /// The run's name there: hash of its terms.
    pub key: String,
    /// What the sponsor deposited, as certificates have seen it.
    pub deposited_micro_open: u64,
    /// What answers brought into it.
    pub fees_micro_open: u64,
    /// What the last root promises to accounts, of both.
    pub paid_micro_open: u64,
    /// What was earned by peers that have not said where they are paid, or said it too late.
    pub unbound_micro_open: u64,
    /// What the chain has accepted of that.
    pub accepted_micro_open: u64,
    /// What accounts took.
    pub claimed_micro_open: u64,
    /// What went back to the sponsor.
    pub reclaimed_micro_open: u64,
    /// Of both, what is not promised.
    pub left_micro_open: u64,
    /// Stake of members that counts.
    pub staked_micro_open: u64,
    /// Digest of the last root, as members sign it.
    pub root: String,
    /// Its height.
    pub height: u64,
    /// Height of the root that the chain accepted; 0: none.
    pub accepted_height: u64,
    /// Whether books and chain add up to the last unit. Known of the test chain only.
    pub conserved: bool,
    /// Members that signed another root than follows here: height and peer.
    pub dissent: Vec<String>,
    /// Transactions of the last height that the test chain refused: from which account, and why.
    pub refused: Vec<String>,
}

/// A payout with everything that proves it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProofView {
    /// `ledger-proof/1`.
    pub schema: String,
    /// The run.
    pub run: String,
    /// Who was paid.
    pub peer: String,
    /// For which round.
    pub round: u32,
    /// How much, in millionths of an OPEN.
    pub micro_open: u64,
    /// To which account.
    pub account: String,
    /// Height of the root that has the line.
    pub height: u64,
    /// Line, path, root, terms, signatures and stakes: the bytes of a bundle in hexadecimal digits.
    pub bundle: String,
}

/// What a proof proves by its own bytes, given that its stakes are those of the chain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckedProof {
    /// The run.
    pub run: String,
    /// Who was paid.
    pub peer: String,
    /// For which round.
    pub round: u32,
    /// How much, in millionths of an OPEN.
    pub micro_open: u64,
    /// To which account.
    pub account: String,
    /// Height of the root.
    pub height: u64,
    /// Number of the chain.
    pub chain: String,
    /// The settlement contract there.
    pub contract: String,
    /// Digest of the root.
    pub root: String,
    /// Accounts that signed it.
    pub signers: Vec<String>,
    /// Their stake, OPEN.
    pub signed_open: String,
    /// All stake that the proof lists, OPEN: to be compared with the chain.
    pub staked_open: String,
    /// Bytes of the bundle.
    pub bytes: u64,
}

/// What a peer did and earned, run by run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatementView {
    /// The peer.
    pub peer: String,
    /// Runs that mention it.
    pub runs: Vec<RunStatementView>,
    /// Sum over its accounts, millionths of an OPEN; negative for a sponsor.
    pub total_micro_open: i64,
}

impl StatementView {
    /// Of the runs' parts; those that say nothing are left out.
    pub fn of(peer: PeerId, mut runs: Vec<RunStatementView>) -> Self {
        runs.retain(|run| !run.lines.is_empty() || !run.accounts.is_empty());
        Self {
            peer: peer.to_string(),
            total_micro_open: (runs.iter().flat_map(|r| &r.accounts))
                .map(|a| a.micro_open)
                .sum(),
            runs,
        }
    }
}

/// One run's part of a statement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunStatementView {
    /// The run.
    pub run: String,
    /// Its name.
    pub name: String,
    /// Where its money lies: `test`, a chain's number, or nothing.
    pub chain: String,
    /// One line per round that the peer was scored in.
    pub lines: Vec<LineView>,
    /// The final rounds in parts of equal length, each compared with the one before.
    pub periods: Vec<PeriodView>,
    /// Rounds that nobody scored in time.
    pub unscored: Vec<u32>,
    /// Its part of what had waited, given out when the run closed, millionths of an OPEN.
    pub closing_micro_open: u64,
    /// The peer's accounts in this run.
    pub accounts: Vec<AccountView>,
    /// Every change of them, in the order of rounds.
    pub postings: Vec<PostingView>,
}

/// One change of one of the peer's accounts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PostingView {
    /// When its round was, as the authors of the round's receipts say: milliseconds since 1970.
    pub time_ms: u64,
    /// The round; of what was given out at the end, the closing height.
    pub round: u32,
    /// As what: `contributor`, `evaluator`, `member`, `sponsor`.
    pub capacity: String,
    /// The receipt that it is paid for, where there is one.
    pub receipt: String,
    /// Into the account, or, negative, out of it.
    pub micro_open: i64,
}

/// One round's line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LineView {
    /// The round.
    pub round: u32,
    /// The receipt that it is paid for, as `ledger explain` takes it.
    pub receipt: String,
    /// The final score.
    pub score_nanonats: i64,
    /// Lower end of its interval.
    pub low_nanonats: i64,
    /// Upper end of that interval.
    pub high_nanonats: i64,
    /// Standard deviation of the score were signs drawn by lot.
    pub luck_nanonats: i64,
    /// Whether the peer's scores up to this round are beyond luck; before, none counts.
    pub beyond_luck: bool,
    /// Part of the round, billionths.
    pub credit: u64,
    /// What that paid.
    pub micro_open: u64,
    /// Whether no deposit covers the round: the credit stands, and nothing is paid.
    pub unfunded: bool,
}

/// Some consecutive rounds of a statement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PeriodView {
    /// First round.
    pub first: u32,
    /// Last round that is final.
    pub last: u32,
    /// Rounds that paid, with a contribution of the peer that was not held back.
    pub taken: u32,
    /// Rounds that paid others only.
    pub absent: u32,
    /// Rounds without final scores.
    pub unscored: u32,
    /// Rounds that gained nothing.
    pub without_gain: u32,
    /// Rounds in which a positive score of the peer, or everybody's, was not beyond luck yet.
    pub not_beyond_luck: u32,
    /// What the peer earned.
    pub micro_open: u64,
    /// Its mean score in the rounds it took part in.
    pub score_nanonats: i64,
    /// The others' positive scores in them, together, on average.
    pub others_nanonats: i64,
    /// What changed since the period before; `None` for the first.
    pub change: Option<ChangeView>,
}

/// Why a period paid more or less than the one before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    /// Earned now minus earned before.
    pub micro_open: i64,
    /// What each cause did to it; they add up to it.
    pub causes: Vec<CauseView>,
}

/// One cause of a change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CauseView {
    /// length, unscored, no-gain, not-beyond-luck, absent, own-score, others-scores, worth.
    pub cause: String,
    /// What it did.
    pub micro_open: i64,
}

/// One account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    /// sponsor, contributor, ...
    pub capacity: String,
    /// Millionths of an OPEN.
    pub micro_open: i64,
}

/// The first ten digits of an id, for tables.
pub fn short(id: &str) -> String {
    id.chars().take(10).collect()
}
