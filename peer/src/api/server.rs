//! The routes, the token check, and the life of the listener.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path as Segment, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::StreamExt;
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tributary_ledger::holdout::HoldoutProof;

use super::control::{Control, ControlError};
use super::{
    CreateRequest, ExplainRequest, FolderRequest, Host, HostError, JoinRequest, ProveRequest,
    StatementRequest,
};
use crate::why::Question;

/// A running API; stops when dropped or told to.
#[derive(Debug)]
pub struct Server {
    control: Control,
    file: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

/// Why the API could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Not a loopback address.
    #[error(
        "the control address {0} can be reached from other machines; use one of 127.0.0.0/8 or [::1]"
    )]
    NotLoopback(SocketAddr),
    /// Somebody else has the port, or the address is not this machine's.
    #[error(
        "cannot listen on {addr} for commands: {source}. Choose another port, or port 0 for a free one"
    )]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The file for clients could not be written.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// Serves `host` on `addr` and tells clients in `file` how to get there.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve<H: Host>(
    host: Arc<H>,
    addr: SocketAddr,
    file: &Path,
) -> Result<Server, ServeError> {
    if !addr.ip().is_loopback() {
        return Err(ServeError::NotLoopback(addr));
    }
    let bind = |source| ServeError::Bind { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(bind)?;
    let control = Control::new(listener.local_addr().map_err(bind)?);
    let router = router(host, &control.token);
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let serving = axum::serve(listener, router).into_future();
        tokio::select! {
            outcome = serving => if let Err(e) = outcome {
                tracing::error!("the control API stopped: {e}; restart the daemon to use commands");
            },
            _ = stopped => {}
        }
    });
    control.write(file)?;
    Ok(Server {
        control,
        file: file.to_owned(),
        stop: Some(stop),
        task,
    })
}

impl Server {
    /// How clients reach it.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Stops listening and removes the file for clients.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        // Already gone is as good; anything else leaves a file that clients recognise as stale.
        let _ = std::fs::remove_file(&self.file);
    }
}

/// All routes behind the token.
pub(super) fn router<H: Host>(host: Arc<H>, token: &str) -> Router {
    let expected = format!("Bearer {token}");
    Router::new()
        .route("/v1/status", get(status::<H>))
        .route("/v1/runs", get(runs::<H>).post(create::<H>))
        .route("/v1/runs/{id}", get(run::<H>))
        .route("/v1/runs/{id}/join", post(join::<H>))
        .route("/v1/runs/{id}/leave", post(leave::<H>))
        .route("/v1/runs/{id}/watch", get(watch::<H>))
        .route("/v1/adapters", get(adapters::<H>))
        .route("/v1/adapters/export", post(export::<H>))
        .route("/v1/adapters/get", post(fetch::<H>))
        .route("/v1/ledger/verify", get(verify::<H>))
        .route("/v1/ledger/statement", get(statement::<H>))
        .route("/v1/ledger/explain", post(explain::<H>))
        .route("/v1/ledger/prove-holdout", post(prove_holdout::<H>))
        .route("/v1/ledger/check-holdout", post(check_holdout::<H>))
        .route("/v1/why", post(why::<H>))
        .route("/v1/stop", post(stop::<H>))
        .route("/metrics", get(metrics::<H>))
        .fallback(|| async {
            refusal(
                StatusCode::NOT_FOUND,
                "no such route; client and daemon differ in version",
            )
        })
        .layer(middleware::from_fn(move |request, next| {
            authorise(expected.clone(), request, next)
        }))
        .with_state(host)
}

async fn authorise(expected: String, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION);
    if given.is_some_and(|given| same(given.as_bytes(), expected.as_bytes())) {
        next.run(request).await
    } else {
        refusal(
            StatusCode::UNAUTHORIZED,
            "the bearer token of control.json is missing or wrong",
        )
    }
}

/// Compares in a time that depends only on the lengths.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

fn refusal(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}

fn answer<T: Serialize>(outcome: Result<T, HostError>) -> Response {
    match outcome {
        Ok(value) => Json(value).into_response(),
        Err(error) => {
            let status = match &error {
                HostError::Unknown(_) => StatusCode::NOT_FOUND,
                HostError::Refused(_) => StatusCode::BAD_REQUEST,
                HostError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            refusal(status, &error.to_string())
        }
    }
}

async fn status<H: Host>(State(host): State<Arc<H>>) -> Response {
    answer(host.status().await)
}

async fn runs<H: Host>(State(host): State<Arc<H>>) -> Response {
    answer(host.runs().await)
}

async fn run<H: Host>(State(host): State<Arc<H>>, Segment(id): Segment<String>) -> Response {
    answer(host.run(&id).await)
}

async fn create<H: Host>(
    State(host): State<Arc<H>>,
    Json(request): Json<CreateRequest>,
) -> Response {
    answer(host.create(request).await)
}

async fn join<H: Host>(
    State(host): State<Arc<H>>,
    Segment(id): Segment<String>,
    Json(request): Json<JoinRequest>,
) -> Response {
    answer(host.join(&id, request).await)
}

async fn leave<H: Host>(State(host): State<Arc<H>>, Segment(id): Segment<String>) -> Response {
    answer(host.leave(&id).await)
}

async fn watch<H: Host>(State(host): State<Arc<H>>, Segment(id): Segment<String>) -> Response {
    let events = match host.watch(&id).await {
        Ok(events) => events,
        Err(error) => return answer::<()>(Err(error)),
    };
    let lines = events.map(|event| {
        let mut line = serde_json::to_vec(&event).map_err(std::io::Error::other)?;
        line.push(b'\n');
        Ok::<_, std::io::Error>(Bytes::from(line))
    });
    let kind = HeaderValue::from_static("application/x-ndjson");
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(lines)).into_response()
}

async fn adapters<H: Host>(State(host): State<Arc<H>>) -> Response {
    answer(host.adapters().await)
}

async fn export<H: Host>(
    State(host): State<Arc<H>>,
    Json(request): Json<FolderRequest>,
) -> Response {
    answer(host.export(request).await)
}

async fn fetch<H: Host>(
    State(host): State<Arc<H>>,
    Json(request): Json<FolderRequest>,
) -> Response {
    answer(host.get(request).await)
}

async fn verify<H: Host>(State(host): State<Arc<H>>) -> Response {
    answer(host.verify().await)
}

async fn statement<H: Host>(
    State(host): State<Arc<H>>,
    Query(request): Query<StatementRequest>,
) -> Response {
    answer(host.statement(request).await)
}

async fn explain<H: Host>(
    State(host): State<Arc<H>>,
    Json(request): Json<ExplainRequest>,
) -> Response {
    answer(host.explain(request).await)
}

async fn prove_holdout<H: Host>(
    State(host): State<Arc<H>>,
    Json(request): Json<ProveRequest>,
) -> Response {
    answer(host.prove_holdout(request).await)
}

async fn check_holdout<H: Host>(
    State(host): State<Arc<H>>,
    Json(proof): Json<HoldoutProof>,
) -> Response {
    answer(host.check_holdout(proof).await)
}

async fn why<H: Host>(State(host): State<Arc<H>>, Json(question): Json<Question>) -> Response {
    answer(host.why(question).await)
}

async fn stop<H: Host>(State(host): State<Arc<H>>) -> Response {
    host.stop();
    Json(json!({ "stopping": true })).into_response()
}

async fn metrics<H: Host>(State(host): State<Arc<H>>) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
    ([(header::CONTENT_TYPE, kind)], host.metrics()).into_response()
}
