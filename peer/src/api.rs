//! The control API: how this machine's own commands and programs reach its peer.
//!
//! HTTP with JSON on a loopback address. Whoever may read `control.json` in the home (mode 0600) has
//! the bearer token and is the owner; nobody else gets an answer. The routes ask an [`ApiHandler`], so that
//! this room knows nothing of networks and stores, and a test needs neither. Anything for other
//! machines is not served here.
//!
//! `docs/openapi.json` is the contract: routes, requests, answers and codes, written from the types by
//! `tributary api openapi`. What only reads is a [`Reader`]. A running daemon, the client that asks it and a stopped
//! home all are one, so that an answer has one shape wherever it comes from:
//!
//! ```text
//!   command line ──▶ local::Local ──▶ client::Client ──HTTP──▶ server ──▶ handler::DaemonHandler   (a daemon runs)
//!                         └─────────▶ stopped::Stopped ──▶ the home's files               (none runs)
//! ```

pub mod client;
pub mod control;
pub mod handler;
pub(crate) mod loader;
pub mod local;
pub mod openapi;
pub mod stopped;
pub mod types;

mod server;

use std::time::Duration;

use futures::stream::BoxStream;
use tributary_ledger::Report;
use tributary_ledger::holdout::{HoldoutProof, HoldoutReport};
use tributary_ledger::view::books::BooksView;
use tributary_ledger::view::disputes::DisputesView;
use tributary_ledger::view::explain::Explanation;
use tributary_ledger::view::{AdapterView, ProofView, StatementView};

use crate::problem::Problem;
use crate::why::{Question, Why};
use types::base::BaseView;
use types::event::EventView;
use types::reach::{
    InvitationView, InviteRequest, OfferView, ReachView, TicketRequest, TicketView,
};
use types::{
    BooksRequest, CreateRequest, DisputeRequest, EventsRequest, ExplainRequest, ExportRequest,
    FetchRequest, JoinRequest, ProveRequest, RunBrief, RunView, StatementRequest, StatusView,
};

pub use server::{ServeError, Server, serve};

/// How often a stream of events says that it is alive when nothing happens.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a question comes to.
pub type Answer<T> = Result<T, Problem>;

/// What can be asked of a peer whether its daemon runs or not. Nothing here changes the home.
pub trait Reader: Send + Sync {
    /// How the peer is.
    fn status(&self) -> impl Future<Output = Answer<StatusView>> + Send;
    /// Runs it knows.
    fn runs(&self) -> impl Future<Output = Answer<Vec<RunBrief>>> + Send;
    /// One run; `id` may be its first digits.
    fn run(&self, id: &str) -> impl Future<Output = Answer<RunView>> + Send;
    /// A run's books: the root of a height with what it pays, else the roots that are kept, and who signed them.
    fn books(
        &self,
        id: &str,
        request: BooksRequest,
    ) -> impl Future<Output = Answer<BooksView>> + Send;
    /// A run's disputes, and which sheets can be disputed.
    fn disputes(&self, id: &str) -> impl Future<Output = Answer<DisputesView>> + Send;
    /// Adapters it has.
    fn adapters(&self) -> impl Future<Output = Answer<Vec<AdapterView>>> + Send;
    /// Writes one as a PEFT folder.
    fn export(&self, request: ExportRequest) -> impl Future<Output = Answer<AdapterView>> + Send;
    /// Checks everything that the home relies on; a stopped home skips what it has checked before.
    fn verify(&self) -> impl Future<Output = Answer<Report>> + Send;
    /// What the peer did and earned.
    fn statement(
        &self,
        request: StatementRequest,
    ) -> impl Future<Output = Answer<StatementView>> + Send;
    /// Why a contribution was paid what it was.
    fn explain(&self, request: ExplainRequest) -> impl Future<Output = Answer<Explanation>> + Send;
    /// What a contribution was paid, with everything that proves it.
    fn proof(&self, request: ExplainRequest) -> impl Future<Output = Answer<ProofView>> + Send;
    /// Which hold-out windows this evaluator scored a round on.
    fn prove_holdout(
        &self,
        request: ProveRequest,
    ) -> impl Future<Output = Answer<HoldoutProof>> + Send;
    /// Whether another's proof of them holds.
    fn check_holdout(
        &self,
        proof: HoldoutProof,
    ) -> impl Future<Output = Answer<HoldoutReport>> + Send;
    /// Who shaped an answer.
    fn why(&self, question: Question) -> impl Future<Output = Answer<Why>> + Send;
}

/// What the API needs of a daemon. A command is answered once the node has taken it and a crash cannot undo it,
/// or with the reason why not.
pub trait ApiHandler: Reader + 'static {
    /// Opens a run.
    fn create(&self, request: CreateRequest) -> impl Future<Output = Answer<RunBrief>> + Send;
    /// Asks for membership.
    fn join(&self, id: &str, request: JoinRequest)
    -> impl Future<Output = Answer<RunBrief>> + Send;
    /// Asks to leave.
    fn leave(&self, id: &str) -> impl Future<Output = Answer<RunBrief>> + Send;
    /// Disputes a score.
    fn dispute(
        &self,
        id: &str,
        request: DisputeRequest,
    ) -> impl Future<Output = Answer<DisputesView>> + Send;
    /// Appeals, as who lost a dispute.
    fn appeal(&self, id: &str, dispute: &str) -> impl Future<Output = Answer<DisputesView>> + Send;
    /// How the peer reaches others, and they it.
    fn reach(&self) -> impl Future<Output = Answer<ReachView>> + Send;
    /// Makes a ticket to a run.
    fn invite(&self, request: InviteRequest) -> impl Future<Output = Answer<TicketView>> + Send;
    /// Tickets that were given out.
    fn invitations(&self) -> impl Future<Output = Answer<Vec<InvitationView>>> + Send;
    /// Takes one back.
    fn revoke(&self, id: &str) -> impl Future<Output = Answer<Vec<InvitationView>>> + Send;
    /// Takes a ticket: connects, and learns what the run is.
    fn ticket(&self, request: TicketRequest) -> impl Future<Output = Answer<OfferView>> + Send;
    /// Whether the base model of a run is here, and how far it is fetched.
    fn base(&self, id: &str) -> impl Future<Output = Answer<BaseView>> + Send;
    /// Fetches the base model of a run from peers, unless it is here.
    fn fetch_base(&self, id: &str) -> impl Future<Output = Answer<BaseView>> + Send;
    /// The phase of each run now, and then what happens.
    fn events(
        &self,
        request: EventsRequest,
    ) -> impl Future<Output = Answer<BoxStream<'static, EventView>>> + Send;
    /// Fetches an adapter from the network, checks it, writes it.
    fn fetch(&self, request: FetchRequest) -> impl Future<Output = Answer<AdapterView>> + Send;
    /// The owner asks the daemon to stop.
    fn stop(&self);
    /// Prometheus text.
    fn metrics(&self) -> String;
}

#[cfg(test)]
mod tests;
