//! The routes, the token check, and the life of the listener. What each route does is in `server/routes.rs`.

pub(super) mod routes;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::ApiHandler;
use super::control::{Control, ControlError};
use crate::problem::{Code, Problem};

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

/// Serves `handler` on `addr` and tells clients in `file` how to get there.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve<H: ApiHandler>(
    handler: Arc<H>,
    addr: SocketAddr,
    file: &Path,
) -> Result<Server, ServeError> {
    if !addr.ip().is_loopback() {
        return Err(ServeError::NotLoopback(addr));
    }
    let bind = |source| ServeError::Bind { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(bind)?;
    let control = Control::new(listener.local_addr().map_err(bind)?);
    let router = router(handler, &control.token);
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
pub(super) fn router<H: ApiHandler>(handler: Arc<H>, token: &str) -> Router {
    let expected = format!("Bearer {token}");
    Router::new()
        .route("/v1/status", get(routes::status::<H>))
        .route("/v1/runs", get(routes::runs::<H>).post(routes::create::<H>))
        .route("/v1/runs/{id}", get(routes::run::<H>))
        .route("/v1/runs/{id}/books", get(routes::books::<H>))
        .route("/v1/runs/{id}/join", post(routes::join::<H>))
        .route("/v1/runs/{id}/leave", post(routes::leave::<H>))
        .route(
            "/v1/runs/{id}/disputes",
            get(routes::disputes::<H>).post(routes::dispute::<H>),
        )
        .route(
            "/v1/runs/{id}/disputes/{dispute}/appeal",
            post(routes::appeal::<H>),
        )
        .route(
            "/v1/runs/{id}/base",
            get(routes::base::<H>).post(routes::fetch_base::<H>),
        )
        .route("/v1/reach", get(routes::reach::<H>))
        .route(
            "/v1/invitations",
            get(routes::invitations::<H>).post(routes::invite::<H>),
        )
        .route("/v1/invitations/{id}/revoke", post(routes::revoke::<H>))
        .route("/v1/tickets", post(routes::ticket::<H>))
        .route("/v1/events", get(routes::events::<H>))
        .route("/v1/adapters", get(routes::adapters::<H>))
        .route("/v1/adapters/export", post(routes::export::<H>))
        .route("/v1/adapters/fetch", post(routes::fetch::<H>))
        .route("/v1/ledger/verify", get(routes::verify::<H>))
        .route("/v1/ledger/statement", get(routes::statement::<H>))
        .route("/v1/ledger/explain", post(routes::explain::<H>))
        .route("/v1/ledger/proof", post(routes::proof::<H>))
        .route("/v1/ledger/prove-holdout", post(routes::prove_holdout::<H>))
        .route("/v1/ledger/check-holdout", post(routes::check_holdout::<H>))
        .route("/v1/why", post(routes::why::<H>))
        .route("/v1/stop", post(routes::stop::<H>))
        .route("/metrics", get(routes::metrics::<H>))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(middleware::from_fn(move |request, next| {
            authorise(expected.clone(), request, next)
        }))
        .with_state(handler)
}

async fn unknown() -> Problem {
    Problem::new(Code::UnknownRoute, "there is no such route")
        .hint("check the path; where it is right, client and daemon differ in version: restart the daemon")
}

async fn authorise(expected: String, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION);
    if given.is_some_and(|given| given.as_bytes().ct_eq(expected.as_bytes()).into()) {
        next.run(request).await
    } else {
        Problem::new(
            Code::Unauthorised,
            "the bearer token of control.json is missing or wrong",
        )
        .into_response()
    }
}

/// The HTTP status that goes with a code.
fn status_of(code: Code) -> StatusCode {
    match code {
        Code::Malformed | Code::AmbiguousId => StatusCode::BAD_REQUEST,
        Code::Unauthorised => StatusCode::UNAUTHORIZED,
        Code::UnknownRoute | Code::UnknownId | Code::NotFollowed | Code::NoAdapter => {
            StatusCode::NOT_FOUND
        }
        Code::Refused | Code::BeyondBounds | Code::NoUpdates => StatusCode::CONFLICT,
        Code::TooManyReaders => StatusCode::TOO_MANY_REQUESTS,
        Code::CheckFailed => StatusCode::UNPROCESSABLE_ENTITY,
        Code::Unreachable => StatusCode::GATEWAY_TIMEOUT,
        Code::Stopped | Code::NotRunning => StatusCode::SERVICE_UNAVAILABLE,
        Code::NotUnderstood | Code::Misconduct | Code::Interrupted | Code::Environment => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (status_of(self.code), axum::Json(self)).into_response()
    }
}
