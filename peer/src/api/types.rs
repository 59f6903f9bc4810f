//! The requests and the answers of the control API, as plain data.
//!
//! One type each: a running daemon, a stopped home and the command line share them, and `docs/openapi.json`
//! describes them to programs. Ids are written in full, so that every answer can be fed to the next command;
//! amounts are in millionths of an OPEN. What the ledger says (rounds, credits, statements) has its types in
//! [`tributary_ledger::view`]. How an answer is put in words belongs to [`crate::view`].

pub mod base;
pub mod event;
pub mod reach;

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tributary_ledger::view::{AdapterView, CreditView, MemberView, RoundView, SettlementView};
use tributary_protocol::entry::Role;
use tributary_protocol::event::Phase;
use utoipa::{IntoParams, ToSchema};

/// Opens a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CreateRequest {
    /// Canonical bytes of the manifest, hexadecimal.
    pub manifest: String,
    /// Folder of the base model, when it is not `brook`.
    #[schema(value_type = Option<String>)]
    pub base: Option<PathBuf>,
    /// Membership asked for at once.
    pub join: Option<JoinRequest>,
}

/// What a member does.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RoleName {
    /// Trains on its shard.
    #[default]
    Contributor,
    /// Scores rounds on its hold-out.
    Evaluator,
    /// Both.
    Both,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Contributor => Self::Contributor,
            RoleName::Evaluator => Self::Evaluator,
            RoleName::Both => Self::Both,
        }
    }
}

/// Asks for membership.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JoinRequest {
    /// What to do in the run.
    pub role: RoleName,
    /// The shard, when it is not named as the run's Datanet.
    pub datanet: Option<String>,
    /// Text to score on; empty takes a part of the shard that is then not trained on.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub holdout: Vec<PathBuf>,
    /// Folder of the base model, when it is not `brook`.
    #[schema(value_type = Option<String>)]
    pub base: Option<PathBuf>,
}

/// Writes an adapter of this home as a PEFT folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExportRequest {
    /// Adapter or run, in full or the first digits.
    pub id: String,
    /// Absolute path of the folder.
    #[schema(value_type = String)]
    pub dir: PathBuf,
}

/// Fetches an adapter from the network, checks it and writes it as a PEFT folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FetchRequest {
    /// Adapter or run, in full or the first digits.
    pub id: String,
    /// Absolute path of the folder.
    #[schema(value_type = String)]
    pub dir: PathBuf,
    /// Addresses of peers to ask besides those that are connected.
    #[serde(default)]
    pub bootstrap: Vec<String>,
    /// How long to try, in seconds; from 1 to 86,400.
    pub timeout_s: u64,
}

/// Which events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventsRequest {
    /// Only of this run, in full or by its first digits, until it is finished; else of everything, until the
    /// daemon stops.
    pub run: Option<String>,
}

/// The daemon has heard that it is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stopping {
    /// Always true.
    pub stopping: bool,
}

/// Which statement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StatementRequest {
    /// Only this run, in full or by its first digits.
    pub run: Option<String>,
    /// Rounds of the periods that are compared; a quarter of each run unless given.
    pub by: Option<u32>,
}

/// Which part of a run's books.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BooksRequest {
    /// Only the root of this height, with what each account is paid under it.
    pub height: Option<u32>,
}

/// A score that is disputed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DisputeRequest {
    /// The round that the sheet judges.
    pub round: u32,
    /// Who made the sheet, by its id's first digits.
    pub evaluator: String,
    /// Whose score it is, by its id's first digits.
    pub peer: String,
    /// Why: one line, at most 160 bytes.
    pub reason: String,
}

/// Which payout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainRequest {
    /// The receipt by the first digits of its id, or RUN/ROUND/PEER.
    pub receipt: String,
}

/// Which hold-out windows to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProveRequest {
    /// The run, in full or by its first digits.
    pub run: String,
    /// The scored round.
    pub round: u32,
}

/// A peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    /// The peer's id.
    pub peer: String,
    /// Whether its daemon runs. If not, there are no addresses, connections, traffic and warnings.
    pub running: bool,
    /// Name for people.
    pub name: String,
    /// Its folder.
    pub home: String,
    /// Version of the program.
    pub version: String,
    /// The account that this peer is paid at, on every chain for which its settings name no key file.
    #[serde(default)]
    pub account: String,
    /// What others pass to `--bootstrap`.
    pub addresses: Vec<String>,
    /// How far it reaches: `loopback`, `lan` or `wan`.
    #[serde(default)]
    pub reach: String,
    /// Ids of connected peers.
    pub connected: Vec<String>,
    /// How each of them is reached.
    #[serde(default)]
    pub paths: Vec<reach::PathView>,
    /// Bytes sent to other peers since the daemon started, both planes.
    pub bytes_up: u64,
    /// Bytes received.
    pub bytes_down: u64,
    /// What is degraded, each with what to do.
    pub warnings: Vec<String>,
    /// What it answers OpenAI's clients with; nothing unless it was started with `--serve` and is ready.
    #[serde(default)]
    pub serving: Option<ServerView>,
    /// The base URL of its gateway; nothing unless it was started with `--gateway` and is ready.
    #[serde(default)]
    pub gateway: Option<String>,
    /// Runs it follows.
    pub runs: Vec<RunBrief>,
}

/// A server of answers in a daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerView {
    /// What clients call their base URL.
    pub url: String,
    /// Name of the base.
    pub base: String,
    /// Names of the adapters that are in memory.
    pub adapters: Vec<String>,
}

/// What a run is doing on this peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunPhase {
    /// A neighbour follows it, this peer does not.
    Known,
    /// Its manifest has not arrived yet.
    #[default]
    AwaitingManifest,
    /// It asks for more than this peer gives.
    Declined,
    /// This member's text counts for nothing: others had committed to all of it before.
    WithoutOwnText,
    /// Waiting for enough members to join.
    Gather,
    /// Training on this machine's shard.
    Train,
    /// Waiting for the updates of other members.
    Collect,
    /// Waiting for the committee's certificate.
    Agree,
    /// Fetching what the certified state needs.
    CatchUp,
    /// A certified value does not follow from the evidence held here.
    Stopped,
    /// Nothing, because no daemon runs.
    Offline,
    /// The closing height is certified: nothing more will happen.
    Finished,
}

impl From<Phase> for RunPhase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Gather => Self::Gather,
            Phase::Train => Self::Train,
            Phase::Collect => Self::Collect,
            Phase::Agree => Self::Agree,
            Phase::CatchUp => Self::CatchUp,
            Phase::Stopped => Self::Stopped,
            Phase::Finished => Self::Finished,
        }
    }
}

/// A run in one line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
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
    pub phase: RunPhase,
    /// Members.
    pub members: u32,
    /// Whether a peer of the local network follows it.
    #[serde(default)]
    pub nearby: bool,
    /// Whom the open round waits for.
    #[serde(default)]
    pub awaited: Vec<reach::AwaitedView>,
    /// Whether the closing height is certified.
    pub finished: bool,
}

/// A run in full.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
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
    pub price_per_nat_micro_open: u64,
    /// Where its money lies; none of a run that names no chain.
    #[serde(default)]
    pub settlement: Option<SettlementView>,
    /// Its members.
    pub roster: Vec<MemberView>,
    /// Certified rounds, the genesis first.
    pub history: Vec<RoundView>,
    /// Contributors' credits so far.
    pub credits: Vec<CreditView>,
    /// The adapter after the last certified round.
    pub adapter: Option<AdapterView>,
}
