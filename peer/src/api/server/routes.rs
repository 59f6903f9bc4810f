//! What each route asks of the handler, with its line of the contract.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use tributary_ledger::Report;
use tributary_ledger::holdout::{HoldoutProof, HoldoutReport};
use tributary_ledger::view::books::BooksView;
use tributary_ledger::view::disputes::DisputesView;
use tributary_ledger::view::explain::Explanation;
use tributary_ledger::view::{AdapterView, ProofView, StatementView};

use crate::api::types::base::BaseView;
use crate::api::types::event::EventView;
use crate::api::types::reach::{
    InvitationView, InviteRequest, OfferView, ReachView, TicketRequest, TicketView,
};
use crate::api::types::{
    BooksRequest, CreateRequest, DisputeRequest, EventsRequest, ExplainRequest, ExportRequest,
    FetchRequest, JoinRequest, ProveRequest, RunBrief, RunView, StatementRequest, StatusView,
    Stopping,
};
use crate::api::{Answer, ApiHandler, KEEP_ALIVE};
use crate::problem::{Code, Problem};
use crate::why::{Question, Why};

/// A JSON body; what cannot be read is refused in the shape of every refusal.
pub(in crate::api) struct Body<T>(T);

/// A query string, likewise.
pub(in crate::api) struct Query<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Answer<Self> {
        let read = Json::from_request(request, state).await;
        let Json(value) = read.map_err(|why| malformed(why.body_text()))?;
        Ok(Self(value))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let read = axum::extract::Query::from_request_parts(parts, state).await;
        let axum::extract::Query(value) = read.map_err(|why| malformed(why.body_text()))?;
        Ok(Self(value))
    }
}

fn malformed(why: String) -> Problem {
    Problem::new(Code::Malformed, why)
}

fn json<T>(answer: Answer<T>) -> Answer<Json<T>> {
    answer.map(Json)
}

/// How the peer is.
#[utoipa::path(
    get,
    path = "/v1/status",
    tag = "peer",
    responses((status = 200, body = StatusView, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn status<H: ApiHandler>(
    State(handler): State<Arc<H>>,
) -> Answer<Json<StatusView>> {
    json(handler.status().await)
}

/// Runs that the peer follows, and those that its neighbours follow.
#[utoipa::path(
    get,
    path = "/v1/runs",
    tag = "runs",
    responses((status = 200, body = Vec<RunBrief>, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn runs<H: ApiHandler>(
    State(handler): State<Arc<H>>,
) -> Answer<Json<Vec<RunBrief>>> {
    json(handler.runs().await)
}

/// One run: settings, members, rounds, credits.
#[utoipa::path(
    get,
    path = "/v1/runs/{id}",
    tag = "runs",
    params(("id" = String, Path, description = "The run, in full or by its first digits")),
    responses((status = 200, body = RunView, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn run<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Path(id): Path<String>,
) -> Answer<Json<RunView>> {
    json(handler.run(&id).await)
}

/// A run's books, for whoever settles it on a chain: its manifest, roots with their signatures, and what a root pays.
#[utoipa::path(
    get,
    path = "/v1/runs/{id}/books",
    tag = "ledger",
    params(("id" = String, Path, description = "The run, in full or by its first digits"), BooksRequest),
    responses((status = 200, body = BooksView, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn books<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Path(id): Path<String>,
    Query(request): Query<BooksRequest>,
) -> Answer<Json<BooksView>> {
    json(handler.books(&id, request).await)
}

/// Opens a run. Answered once that is durable.
#[utoipa::path(
    post,
    path = "/v1/runs",
    tag = "runs",
    request_body = CreateRequest,
    responses((status = 200, body = RunBrief, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn create<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Body(request): Body<CreateRequest>,
) -> Answer<Json<RunBrief>> {
    json(handler.create(request).await)
}

/// Asks for membership. Answered once the wish is durable; members join at the next round.
#[utoipa::path(
    post,
    path = "/v1/runs/{id}/join",
    tag = "runs",
    request_body = JoinRequest,
    params(("id" = String, Path, description = "The run, in full or by its first digits")),
    responses((status = 200, body = RunBrief, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn join<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Path(id): Path<String>,
    Body(request): Body<JoinRequest>,
) -> Answer<Json<RunBrief>> {
    json(handler.join(&id, request).await)
}

/// Whether the base model of a run is on this machine, and how far it is fetched from peers.
#[utoipa::path(
    get,
    path = "/v1/runs/{id}/base",
    tag = "runs",
    params(("id" = String, Path, description = "The run, in full or by its first digits")),
    responses((status = 200, body = BaseView, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn base<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Path(id): Path<String>,
) -> Answer<Json<BaseView>> {
    json(handler.base(&id).await)
}

/// Fetches the base model of a run from peers, unless it is here. Answered once it is whole and loads; a request that is
/// given up or refused leaves what came, and the next one goes on with that.
#[utoipa::path(
    post,
    path = "/v1/runs/{id}/base",
    tag = "runs",
    params(("id" = String, Path, description = "The run, in full or by its first digits")),
    responses((status = 200, body = BaseView, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn fetch_base<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Path(id): Path<String>,
) -> Answer<Json<BaseView>> {
    json(handler.fetch_base(&id).await)
}

/// Asks to leave. Answered once the wish is durable; members leave at the next round.
#[utoipa::path(
    post,
    path = "/v1/runs/{id}/leave",
    tag = "runs",
    params(("id" = String, Path, description = "The run, in full or by its first digits")),
    responses((status = 200, body = RunBrief, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn leave<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Path(id): Path<String>,
) -> Answer<Json<RunBrief>> {
    json(handler.leave(&id).await)
}

/// A run's disputes about score sheets, and which sheets can be disputed.
#[utoipa::path(
    get,
    path = "/v1/runs/{id}/disputes",
    tag = "ledger",
    params(("id" = String, Path, description = "The run, in full or by its first digits")),
    responses((status = 200, body = DisputesView, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn disputes<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Path(id): Path<String>,
) -> Answer<Json<DisputesView>> {
    json(handler.disputes(&id).await)
}

/// Disputes a score, at a bond out of this peer's stake. Answered once that is durable.
#[utoipa::path(
    post,
    path = "/v1/runs/{id}/disputes",
    tag = "ledger",
    params(("id" = String, Path, description = "The run, in full or by its first digits")),
    request_body = DisputeRequest,
    responses((status = 200, body = DisputesView, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn dispute<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Path(id): Path<String>,
    Body(request): Body<DisputeRequest>,
) -> Answer<Json<DisputesView>> {
    json(handler.dispute(&id, request).await)
}

/// Appeals, as who lost a dispute before its first jury. Answered once that is durable.
#[utoipa::path(
    post,
    path = "/v1/runs/{id}/disputes/{dispute}/appeal",
    tag = "ledger",
    params(
        ("id" = String, Path, description = "The run, in full or by its first digits"),
        ("dispute" = String, Path, description = "The dispute, in full or by its first digits"),
    ),
    responses((status = 200, body = DisputesView, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn appeal<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Path((id, dispute)): Path<(String, String)>,
) -> Answer<Json<DisputesView>> {
    json(handler.appeal(&id, &dispute).await)
}

/// How the peer reaches others, and they it.
#[utoipa::path(
    get,
    path = "/v1/reach",
    tag = "network",
    responses((status = 200, body = ReachView, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn reach<H: ApiHandler>(
    State(handler): State<Arc<H>>,
) -> Answer<Json<ReachView>> {
    json(handler.reach().await)
}

/// Makes a ticket to a run.
#[utoipa::path(
    post,
    path = "/v1/invitations",
    tag = "network",
    request_body = InviteRequest,
    responses((status = 200, body = TicketView, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn invite<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Body(request): Body<InviteRequest>,
) -> Answer<Json<TicketView>> {
    json(handler.invite(request).await)
}

/// Tickets that this peer gave out.
#[utoipa::path(
    get,
    path = "/v1/invitations",
    tag = "network",
    responses((status = 200, body = Vec<InvitationView>, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn invitations<H: ApiHandler>(
    State(handler): State<Arc<H>>,
) -> Answer<Json<Vec<InvitationView>>> {
    json(handler.invitations().await)
}

/// Takes a ticket back: this peer's relay refuses it from now on.
#[utoipa::path(
    post,
    path = "/v1/invitations/{id}/revoke",
    tag = "network",
    params(("id" = String, Path, description = "The invitation")),
    responses((status = 200, body = Vec<InvitationView>, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn revoke<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Path(id): Path<String>,
) -> Answer<Json<Vec<InvitationView>>> {
    json(handler.revoke(&id).await)
}

/// Takes a ticket: connects to the peers that it names and learns what the run is. Joins nothing.
#[utoipa::path(
    post,
    path = "/v1/tickets",
    tag = "network",
    request_body = TicketRequest,
    responses((status = 200, body = OfferView, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn ticket<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Body(request): Body<TicketRequest>,
) -> Answer<Json<OfferView>> {
    json(handler.ticket(request).await)
}

/// Certified adapters of the home.
#[utoipa::path(
    get,
    path = "/v1/adapters",
    tag = "adapters",
    responses((status = 200, body = Vec<AdapterView>, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn adapters<H: ApiHandler>(
    State(handler): State<Arc<H>>,
) -> Answer<Json<Vec<AdapterView>>> {
    json(handler.adapters().await)
}

/// Writes a certified adapter of the home as a PEFT folder.
#[utoipa::path(
    post,
    path = "/v1/adapters/export",
    tag = "adapters",
    request_body = ExportRequest,
    responses((status = 200, body = AdapterView, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn export<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Body(request): Body<ExportRequest>,
) -> Answer<Json<AdapterView>> {
    json(handler.export(request).await)
}

/// Fetches an adapter from the network, checks it against its certificates and writes it as a PEFT folder.
#[utoipa::path(
    post,
    path = "/v1/adapters/fetch",
    tag = "adapters",
    request_body = FetchRequest,
    responses((status = 200, body = AdapterView, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn fetch<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Body(request): Body<FetchRequest>,
) -> Answer<Json<AdapterView>> {
    json(handler.fetch(request).await)
}

/// Checks everything that the home relies on.
#[utoipa::path(
    get,
    path = "/v1/ledger/verify",
    tag = "ledger",
    responses((status = 200, body = Report, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn verify<H: ApiHandler>(
    State(handler): State<Arc<H>>,
) -> Answer<Json<Report>> {
    json(handler.verify().await)
}

/// What the peer did and earned.
#[utoipa::path(
    get,
    path = "/v1/ledger/statement",
    tag = "ledger",
    params(StatementRequest),
    responses((status = 200, body = StatementView, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn statement<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Query(request): Query<StatementRequest>,
) -> Answer<Json<StatementView>> {
    json(handler.statement(request).await)
}

/// Why a contribution was paid what it was.
#[utoipa::path(
    post,
    path = "/v1/ledger/explain",
    tag = "ledger",
    request_body = ExplainRequest,
    responses((status = 200, body = Explanation, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn explain<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Body(request): Body<ExplainRequest>,
) -> Answer<Json<Explanation>> {
    json(handler.explain(request).await)
}

/// What a contribution was paid, with everything that proves it.
#[utoipa::path(
    post,
    path = "/v1/ledger/proof",
    tag = "ledger",
    request_body = ExplainRequest,
    responses((status = 200, body = ProofView, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn proof<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Body(request): Body<ExplainRequest>,
) -> Answer<Json<ProofView>> {
    json(handler.proof(request).await)
}

/// Which hold-out windows this evaluator scored a round on, and that it had committed to them.
#[utoipa::path(
    post,
    path = "/v1/ledger/prove-holdout",
    tag = "ledger",
    request_body = ProveRequest,
    responses((status = 200, body = HoldoutProof, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn prove_holdout<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Body(request): Body<ProveRequest>,
) -> Answer<Json<HoldoutProof>> {
    json(handler.prove_holdout(request).await)
}

/// Whether such a proof of an evaluator holds.
#[utoipa::path(
    post,
    path = "/v1/ledger/check-holdout",
    tag = "ledger",
    request_body = HoldoutProof,
    responses((status = 200, body = HoldoutReport, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn check_holdout<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Body(request): Body<HoldoutProof>,
) -> Answer<Json<HoldoutReport>> {
    json(handler.check_holdout(request).await)
}

/// Who shaped an answer of an adapter.
#[utoipa::path(
    post,
    path = "/v1/why",
    tag = "ledger",
    request_body = Question,
    responses((status = 200, body = Why, description = "OK"), (status = "default", body = Problem, description = "Why not")),
)]
pub(in crate::api) async fn why<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Body(request): Body<Question>,
) -> Answer<Json<Why>> {
    json(handler.why(request).await)
}

/// A stream of server-sent events: the phase of each run now, and then what happens. A reader that falls
/// 4,096 events behind is told how many it missed.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "peer",
    params(EventsRequest),
    responses(
        (
            status = 200,
            body = EventView,
            content_type = "text/event-stream",
            description = "One event each: its name is the `kind`, its data the JSON"
        ),
        (status = "default", body = Problem, description = "Why not"),
    ),
)]
pub(in crate::api) async fn events<H: ApiHandler>(
    State(handler): State<Arc<H>>,
    Query(request): Query<EventsRequest>,
) -> Answer<Response> {
    let events = handler.events(request).await?;
    let frames = events.map(|event| Event::default().event(event.kind()).json_data(&event));
    Ok(Sse::new(frames)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response())
}

/// Stops the daemon.
#[utoipa::path(
    post,
    path = "/v1/stop",
    tag = "peer",
    responses(
        (status = 200, body = Stopping, description = "OK"),
        (status = "default", body = Problem, description = "Why not"),
    ),
)]
pub(in crate::api) async fn stop<H: ApiHandler>(State(handler): State<Arc<H>>) -> Json<Stopping> {
    handler.stop();
    Json(Stopping { stopping: true })
}

/// Counters of the daemon as Prometheus text.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "peer",
    responses(
        (status = 200, body = String, content_type = "text/plain", description = "OK"),
        (status = "default", body = Problem, description = "Why not"),
    ),
)]
pub(in crate::api) async fn metrics<H: ApiHandler>(State(handler): State<Arc<H>>) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
    ([(header::CONTENT_TYPE, kind)], handler.metrics()).into_response()
}
