//! What people and programs are shown of a peer: plain data for JSON and for tables.
//!
//! The control API answers with these, the command line prints them. Ids are written in full, so that
//! every view can be fed to the next command; tables shorten them.

pub(crate) mod tables;

use serde::{Deserialize, Serialize};
use tributary_ledger::view::{AdapterView, CreditView, MemberView, RoundView};
use tributary_protocol::event::{Notice, Phase};
use tributary_protocol::id::{Round, RunId};
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
