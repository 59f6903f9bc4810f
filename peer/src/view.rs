//! What people and programs are shown of a peer: plain data for JSON and for tables.
//!
//! The control API answers with these, the command line prints them. Ids are written in full, so that
//! every view can be fed to the next command; tables shorten them.

pub mod book;
pub mod explain;
pub(crate) mod tables;

use serde::{Deserialize, Serialize};
use tributary_protocol::event::{Notice, Phase};
use tributary_protocol::id::{PeerId, Round, RunId};
use tributary_protocol::reject::Rejection;

/// A running peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// The peer's id.
    pub peer: String,
    /// Name for people.
    pub name: String,
    /// Its folder.
    pub home: String,
    /// Version of the program.
    pub version: String,
    /// What others pass to `--bootstrap`.
    pub addresses: Vec<String>,
    /// Ids of connected peers.
    pub connected: Vec<String>,
    /// Bytes sent to other peers since the daemon started, both planes.
    pub bytes_up: u64,
    /// Bytes received.
    pub bytes_down: u64,
    /// What is degraded, each with what to do.
    pub warnings: Vec<String>,
    /// Runs it follows.
    pub runs: Vec<RunBrief>,
}

/// A run in one line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunBrief {
    /// The run's id.
    pub run: String,
    /// Name for people.
    pub name: String,
    /// Its Datanet.
    pub datanet: String,
    /// Its base model.
    pub base: String,
    /// Last certified round; `None` before the genesis.
    pub certified: Option<u32>,
    /// Training rounds in all.
    pub rounds: u32,
    /// What it is doing.
    pub phase: String,
    /// Members.
    pub members: u32,
    /// Whether the closing height is certified.
    pub finished: bool,
}

/// A run in full.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// In one line.
    #[serde(flatten)]
    pub brief: RunBrief,
    /// Who opened it.
    pub creator: String,
    /// Who scores it.
    pub evaluators: Vec<String>,
    /// The most that a round pays in OPEN, in millionths.
    pub budget_micro_open: u64,
    /// OPEN for each nat that a round gains, in millionths.
    #[serde(default)]
    pub price_per_nat_micro_open: u64,
    /// Its members.
    pub roster: Vec<MemberView>,
    /// Certified rounds, the genesis first.
    pub history: Vec<RoundView>,
    /// Contributors' credits so far.
    pub credits: Vec<CreditView>,
    /// The adapter after the last certified round.
    pub adapter: Option<AdapterView>,
}

/// A member of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// And after it.
    pub loss_after: Option<f64>,
}

/// What a contributor earned in a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CreditView {
    /// Its id.
    pub peer: String,
    /// Name for people.
    pub name: String,
    /// Sum of its final scores.
    pub score_nanonats: i64,
    /// Lower end of the sum's interval.
    pub low_nanonats: i64,
    /// Upper end.
    pub high_nanonats: i64,
    /// Standard deviation of the sum were signs drawn by lot.
    pub luck_nanonats: u64,
    /// Whether the sum is beyond luck: its positive scores count from then on.
    pub beyond_luck: bool,
    /// Credits: its part of what was given out, in billionths of a round.
    pub credit: u64,
    /// Earned, in millionths of an OPEN.
    pub micro_open: u64,
}

/// An adapter that some round certified.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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

/// What a peer did and earned, run by run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatementView {
    /// Whose.
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunStatementView {
    /// The run.
    pub run: String,
    /// Its name.
    pub name: String,
    /// One line per round that the peer was scored in.
    pub lines: Vec<LineView>,
    /// The final rounds in parts of equal length, each compared with the one before.
    pub periods: Vec<PeriodView>,
    /// Rounds that nobody scored in time.
    pub unscored: Vec<u32>,
    /// The peer's accounts in this run.
    pub accounts: Vec<AccountView>,
}

/// One round's line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LineView {
    /// The round.
    pub round: u32,
    /// The receipt that it is paid for, as `ledger explain` takes it.
    pub receipt: String,
    /// The final score.
    pub score_nanonats: i64,
    /// Lower end of its interval.
    pub low_nanonats: i64,
    /// Upper end.
    pub high_nanonats: i64,
    /// Standard deviation of the score were signs drawn by lot.
    pub luck_nanonats: i64,
    /// Whether the peer's scores up to this round are beyond luck; before, none counts.
    pub beyond_luck: bool,
    /// Part of the round, billionths.
    pub credit: u64,
    /// What that paid.
    pub micro_open: u64,
}

/// Some consecutive rounds of a statement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChangeView {
    /// Earned now minus earned before.
    pub micro_open: i64,
    /// What each cause did to it; they add up to it.
    pub causes: Vec<CauseView>,
}

/// One cause of a change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CauseView {
    /// length, unscored, no-gain, not-beyond-luck, absent, own-score, others-scores, worth.
    pub cause: String,
    /// What it did.
    pub micro_open: i64,
}

/// One account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AccountView {
    /// sponsor, contributor, ...
    pub capacity: String,
    /// Millionths of an OPEN.
    pub micro_open: i64,
}

/// A shard on this machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardView {
    /// Its Datanet.
    pub datanet: String,
    /// Files in it.
    pub files: Vec<String>,
    /// Bytes of text.
    pub bytes: u64,
}

/// Something that happened, as `run watch` streams it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventView {
    /// following, phase, contributed, certified, finished, refused, equivocation, failed.
    pub kind: String,
    /// The run, when it is about one.
    pub run: Option<String>,
    /// The round, when it is about one.
    pub round: Option<u32>,
    /// For people.
    pub line: String,
}

/// A phase in one word, and what is waited for in it.
pub fn phase_words(phase: Phase) -> (&'static str, &'static str) {
    match phase {
        Phase::Gather => ("gather", "waiting for enough members to join"),
        Phase::Train => ("train", "training on this machine's shard"),
        Phase::Collect => ("collect", "waiting for the updates of other members"),
        Phase::Agree => ("agree", "waiting for the committee's certificate"),
        Phase::CatchUp => ("catch up", "fetching what the certified state needs"),
        Phase::Stopped => (
            "stopped",
            "a certified value does not follow from the evidence held here; the committee is not to be trusted",
        ),
        Phase::Finished => ("finished", "nothing more will happen"),
    }
}

/// A notice for people and programs.
pub fn event(notice: &Notice) -> EventView {
    let (kind, run, round) = match notice {
        Notice::Following(run) => ("following", Some(*run), None),
        Notice::Phase { run, round, .. } => ("phase", Some(*run), Some(*round)),
        Notice::Contributed { run, round, .. } => ("contributed", Some(*run), Some(*round)),
        Notice::Certified { run, round, .. } => ("certified", Some(*run), Some(*round)),
        Notice::Finished(run) => ("finished", Some(*run), None),
        Notice::Refuted { run, round, .. } => ("refuted", Some(*run), Some(*round)),
        Notice::Refused { .. } => ("refused", None, None),
        Notice::Equivocation { run, .. } => ("equivocation", Some(*run), None),
        Notice::Declined { run, .. } => ("declined", Some(*run), None),
        Notice::CommandFailed { run, .. } => ("failed", *run, None),
    };
    EventView {
        kind: kind.to_owned(),
        run: run.map(|run| run.to_string()),
        round: round.map(|round| round.0),
        line: line(notice),
    }
}

/// What the owner hears when a certified value does not follow.
pub fn refuted_words(run: &RunId, round: &Round, why: &Rejection) -> String {
    format!(
        "run {} round {round}: this peer does not follow what the committee certified: {why}; its home keeps the \
         evidence, compare it with other members before you go on",
        run.short()
    )
}

/// A notice as a sentence.
fn line(notice: &Notice) -> String {
    match notice {
        Notice::Following(run) => format!("run {} is known and followed", run.short()),
        Notice::Phase { round, phase, .. } => {
            let (word, waits) = phase_words(*phase);
            format!("round {round} {word}: {waits}")
        }
        Notice::Contributed {
            round,
            peer,
            arrived,
            expected,
            ..
        } => format!(
            "round {round}: update of {} is here, {arrived} of {expected}",
            peer.short()
        ),
        Notice::Certified {
            round,
            state,
            included,
            took_ms,
            ..
        } => format!(
            "round {round} certified: state {}, {included} contributions, {}",
            state.short(),
            crate::terminal::output::duration(*took_ms)
        ),
        Notice::Finished(run) => format!("run {} is finished", run.short()),
        Notice::Refuted { run, round, why } => refuted_words(run, round, why),
        Notice::Refused { from, why } => format!("refused a message of {}: {why}", from.short()),
        Notice::Equivocation { author, .. } => format!(
            "{} said two different things at one place: proof is kept, nothing it says from there on \
             counts",
            author.short()
        ),
        Notice::Declined { run, excess } => crate::settings::declined_words(run, excess),
        Notice::CommandFailed { why, .. } => why.clone(),
    }
}

/// The first ten digits of an id, for tables.
pub fn short(id: &str) -> String {
    id.chars().take(10).collect()
}
