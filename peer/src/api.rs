//! The control API: how this machine's own commands reach its daemon.
//!
//! HTTP with JSON on a loopback address. Whoever may read `control.json` in the home (mode 0600) has
//! the bearer token and is the owner; nobody else gets an answer. The routes ask a [`Host`], so that
//! this room knows nothing of networks and stores, and a test needs neither. Anything for other
//! machines is not served here.
//!
//! | route | what |
//! |---|---|
//! | `GET /v1/status` | [`StatusView`] |
//! | `GET /v1/runs`, `GET /v1/runs/{id}` | [`RunBrief`]s, a [`RunView`] |
//! | `POST /v1/runs` | open a run: [`CreateRequest`] |
//! | `POST /v1/runs/{id}/join`, `/leave` | [`JoinRequest`] |
//! | `GET /v1/runs/{id}/watch` | one [`EventView`] a line, until the run is finished |
//! | `GET /v1/adapters`, `POST /v1/adapters/export`, `/get` | [`AdapterView`]s, [`FolderRequest`] |
//! | `GET /v1/ledger/verify`, `/v1/ledger/statement?run=ID&by=ROUNDS` | the reports that the commands print |
//! | `POST /v1/ledger/explain` | [`ExplainRequest`] to [`Explanation`] |
//! | `POST /v1/ledger/prove-holdout`, `/check-holdout` | [`ProveRequest`] to [`HoldoutProof`] to [`HoldoutReport`] |
//! | `POST /v1/why` | [`Question`] to [`Why`] |
//! | `POST /v1/stop` | stops the daemon |
//! | `GET /metrics` | Prometheus text |

pub mod client;
pub mod control;
pub mod office;

mod server;

use std::path::PathBuf;

use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tributary_ledger::holdout::{HoldoutProof, HoldoutReport};
use tributary_ledger::view::explain::Explanation;
use tributary_ledger::view::{AdapterView, StatementView};

use crate::view::{EventView, RunBrief, RunView, StatusView};
use crate::why::{Question, Why};

pub use server::{ServeError, Server, serve};

/// Opens a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreateRequest {
    /// Canonical bytes of the manifest, hexadecimal.
    pub manifest: String,
    /// Folder of the base model, when it is not `brook`.
    pub base: Option<PathBuf>,
    /// Membership asked for at once.
    pub join: Option<JoinRequest>,
}

/// Asks for membership.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// contributor, evaluator or both.
    pub role: String,
    /// The shard, when it is not named as the run's Datanet.
    pub datanet: Option<String>,
    /// Text to score on; empty takes a part of the shard that is then not trained on.
    pub holdout: Vec<PathBuf>,
    /// Folder of the base model, when it is not `brook`.
    pub base: Option<PathBuf>,
}

/// An adapter and the folder to write it to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FolderRequest {
    /// Adapter or run, in full or the first digits.
    pub id: String,
    /// Absolute path of the folder.
    pub dir: PathBuf,
    /// Peers to ask (only for `get`).
    #[serde(default)]
    pub bootstrap: Vec<String>,
    /// How long to try (only for `get`).
    #[serde(default)]
    pub timeout_s: u64,
}

/// Which statement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementRequest {
    /// Only this run, in full or by its first digits.
    pub run: Option<String>,
    /// Rounds of the periods that are compared; a quarter of each run unless given.
    pub by: Option<u32>,
}

impl StatementRequest {
    /// The route that asks for it.
    pub fn path(&self) -> String {
        let run = self.run.iter().map(|run| format!("run={run}"));
        let by = self.by.iter().map(|by| format!("by={by}"));
        let query: Vec<String> = run.chain(by).collect();
        format!("/v1/ledger/statement?{}", query.join("&"))
    }
}

/// Which payout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// The receipt by the first digits of its id, or RUN/ROUND/PEER.
    pub receipt: String,
}

/// Which hold-out windows to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProveRequest {
    /// The run, in full or by its first digits.
    pub run: String,
    /// The scored round.
    pub round: u32,
}

/// What a request came to, when it came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No such run or adapter.
    #[error("{0}")]
    Unknown(String),
    /// The request makes no sense, or not now.
    #[error("{0}")]
    Refused(String),
    /// The daemon could not.
    #[error("{0}")]
    Failed(String),
}

/// What the API needs of a daemon. Every answer is one of the views.
pub trait Host: Send + Sync + 'static {
    /// How the peer is.
    fn status(&self) -> impl Future<Output = Result<StatusView, HostError>> + Send;
    /// Runs it knows.
    fn runs(&self) -> impl Future<Output = Result<Vec<RunBrief>, HostError>> + Send;
    /// One run; `id` may be its first digits.
    fn run(&self, id: &str) -> impl Future<Output = Result<RunView, HostError>> + Send;
    /// Opens a run and answers its id.
    fn create(
        &self,
        request: CreateRequest,
    ) -> impl Future<Output = Result<RunBrief, HostError>> + Send;
    /// Asks for membership.
    fn join(
        &self,
        id: &str,
        request: JoinRequest,
    ) -> impl Future<Output = Result<RunBrief, HostError>> + Send;
    /// Asks to leave.
    fn leave(&self, id: &str) -> impl Future<Output = Result<RunBrief, HostError>> + Send;
    /// Events of a run, from now on.
    fn watch(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<BoxStream<'static, EventView>, HostError>> + Send;
    /// Adapters it has.
    fn adapters(&self) -> impl Future<Output = Result<Vec<AdapterView>, HostError>> + Send;
    /// Writes one as a PEFT folder.
    fn export(
        &self,
        request: FolderRequest,
    ) -> impl Future<Output = Result<AdapterView, HostError>> + Send;
    /// Fetches one from the network, checks it, writes it.
    fn get(
        &self,
        request: FolderRequest,
    ) -> impl Future<Output = Result<AdapterView, HostError>> + Send;
    /// The report of `ledger verify`.
    fn verify(&self) -> impl Future<Output = Result<serde_json::Value, HostError>> + Send;
    /// The report of `ledger statement`.
    fn statement(
        &self,
        wanted: StatementRequest,
    ) -> impl Future<Output = Result<StatementView, HostError>> + Send;
    /// Why a contribution was paid what it was.
    fn explain(
        &self,
        wanted: ExplainRequest,
    ) -> impl Future<Output = Result<Explanation, HostError>> + Send;
    /// Which hold-out windows this evaluator scored a round on.
    fn prove_holdout(
        &self,
        wanted: ProveRequest,
    ) -> impl Future<Output = Result<HoldoutProof, HostError>> + Send;
    /// Whether another's proof of them holds.
    fn check_holdout(
        &self,
        proof: HoldoutProof,
    ) -> impl Future<Output = Result<HoldoutReport, HostError>> + Send;
    /// Who shaped an answer.
    fn why(&self, question: Question) -> impl Future<Output = Result<Why, HostError>> + Send;
    /// The owner asks the daemon to stop.
    fn stop(&self);
    /// Prometheus text.
    fn metrics(&self) -> String;
}

#[cfg(test)]
mod tests;
