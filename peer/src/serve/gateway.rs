//! A local `/v1` for this machine's programs: it picks a server, pays it, counts what comes, and goes to another one when a
//! server fails before the first token.
//!
//! ```text
//!   stock client ─▶ gate, connection (as the server's own) ─▶ choice (whom first) ─▶ ask ─▶ server
//!                                                                │ 402: purse (how much) ─▶ voucher ─▶ again
//!                        answer ◀─ count (how many tokens) ◀─────┘
//! ```
//!
//! A server is believed in nothing that costs money: what it can have made at most is counted here, and it gets no voucher
//! beyond that. Vouchers on an allowance go through a channel that is new at each start, so that what an earlier life signed
//! is never signed again; those on a deposit through the channel that holds it, whose last voucher the server has to show.

mod agree;
mod ask;
mod choice;
mod count;
mod offer;
mod purse;
mod relay;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use futures::future::join_all;
use parking_lot::Mutex;
use reqwest::Url;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tributary_attribution::settlement::{Address, EvmKey};
use tributary_engine::tokenizer::Tokenizer;
use tributary_protocol::id::MicroOpen;

use super::Refusal;
use super::connection::{self, MOST_CONNECTIONS};
use super::gate::Gate;
use super::refusal::json as answered;
use super::routes::{BODY_TIME, MOST_BODY_BYTES};
use crate::api::client::plain_http;
use choice::Seen;
use purse::Purse;

/// How long what servers list is believed.
const FRESH: Duration = Duration::from_secs(30);
/// To connect, and to list models.
const SHORT: Duration = Duration::from_secs(5);
/// For a whole answer: what servers allow, and some more.
const LONG: Duration = Duration::from_secs(610);
/// Largest list of models, in bytes.
const MOST_LIST_BYTES: usize = 1 << 20;
/// Models of one server.
const MOST_MODELS: usize = 4096;

/// What a gateway asks, and what it may spend.
pub struct GatewayOptions {
    /// Where to listen: on this machine alone.
    pub listen: SocketAddr,
    /// Servers, and the bearer token of each that wants one: `http://HOST:PORT`, with or without `/v1`.
    pub servers: Vec<(String, Option<String>)>,
    /// The key of the account that pays.
    pub key: EvmKey,
    /// What one request may cost.
    pub most: MicroOpen,
    /// What all requests together may cost until the gateway stops.
    pub budget: MicroOpen,
    /// Of the servers' base, where it is known here.
    pub tokenizer: Option<Tokenizer>,
    /// Whether shares that servers say of paid answers are agreed to.
    pub agrees: bool,
}

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Whoever reaches it spends its owner's money.
    #[error(
        "{0} can be reached from other machines, and whoever asks a gateway spends its owner's money; listen on 127.0.0.1"
    )]
    NotLoopback(SocketAddr),
    /// Of no use.
    #[error(
        "`{0}` is no server's address; write http://HOST:PORT. A server behind https needs a proxy on this machine"
    )]
    Address(String),
    /// The address.
    #[error("cannot listen on {addr}: {source}. Choose another port, or port 0 for a free one")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// No client.
    #[error("cannot make an HTTP client: {0}")]
    Client(reqwest::Error),
}

/// One server.
struct Upstream {
    /// Ends with a slash.
    url: Url,
    token: Option<String>,
}

/// What all requests share.
struct House {
    gate: Gate,
    http: reqwest::Client,
    upstreams: Vec<Upstream>,
    key: EvmKey,
    /// Of the channel to each server that grants an allowance.
    salt: [u8; 32],
    tokenizer: Option<Tokenizer>,
    /// Whether shares that servers say are agreed to.
    agrees: bool,
    began: Instant,
    state: Mutex<State>,
    /// Held while servers are asked what they have.
    listing: tokio::sync::Mutex<Option<Instant>>,
}

struct State {
    purse: Purse,
    seen: Vec<Seen>,
    /// The account that each server named first; another one would be another server's.
    keys: Vec<Option<Address>>,
}

/// A running gateway; it stops when dropped.
pub struct Gateway {
    addr: SocketAddr,
    house: Arc<House>,
    places: Arc<Semaphore>,
    closing: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
}

/// Listens.
///
/// # Errors
/// See [`GatewayError`].
pub async fn start(options: GatewayOptions) -> Result<Gateway, GatewayError> {
    let addr = options.listen;
    if !addr.ip().is_loopback() {
        return Err(GatewayError::NotLoopback(addr));
    }
    let upstreams = options
        .servers
        .into_iter()
        .map(|(url, token)| Upstream::new(url, token));
    let upstreams = upstreams.collect::<Result<Vec<_>, _>>()?;
    let bind = |source| GatewayError::Bind { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(bind)?;
    let addr = listener.local_addr().map_err(bind)?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut salt = [0; 32];
    // Later starts have higher numbers.
    salt[24..].copy_from_slice(&now.map_or(0, |now| now.as_millis() as u64).to_be_bytes());
    let house = Arc::new(House {
        gate: Gate::new(addr, &[], Vec::new()),
        http: (plain_http().timeout(LONG).build()).map_err(GatewayError::Client)?,
        key: options.key,
        salt,
        tokenizer: options.tokenizer,
        agrees: options.agrees,
        began: Instant::now(),
        state: Mutex::new(State {
            purse: Purse::new(options.budget, options.most),
            seen: vec![Seen::default(); upstreams.len()],
            keys: vec![None; upstreams.len()],
        }),
        listing: tokio::sync::Mutex::default(),
        upstreams,
    });
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let (closing, is_closing) = watch::channel(false);
    let answering = house.clone();
    let answer: connection::Answer =
        Arc::new(move |request| Box::pin(answer(answering.clone(), request)));
    let accepting = connection::accept(listener, answer, places.clone(), is_closing);
    Ok(Gateway {
        addr,
        house,
        places,
        closing,
        accepting: tokio::spawn(accepting),
    })
}

impl Upstream {
    fn new(text: String, token: Option<String>) -> Result<Self, GatewayError> {
        let Ok(mut url) = text.parse::<Url>() else {
            return Err(GatewayError::Address(text));
        };
        if url.scheme() != "http"
            || url.host().is_none()
            || url.query().is_some()
            || !url.username().is_empty()
        {
            return Err(GatewayError::Address(text));
        }
        let path = url
            .path()
            .trim_end_matches('/')
            .trim_end_matches("/v1")
            .to_owned();
        url.set_path(&format!("{path}/"));
        Ok(Self { url, token })
    }

    fn request(
        &self,
        http: &reqwest::Client,
        method: Method,
        path: &str,
    ) -> reqwest::RequestBuilder {
        let url = self
            .url
            .join(path.trim_start_matches('/'))
            .expect("a plain path joins any address");
        let request = http.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}

impl Gateway {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The account that pays.
    pub fn consumer(&self) -> Address {
        self.house.key.address()
    }

    /// Takes nothing more and waits until what was taken is answered, so long at most. False when some was not.
    pub async fn drain(&mut self, most: Duration) -> bool {
        let _ = self.closing.send(true);
        let all = self.places.acquire_many(MOST_CONNECTIONS as u32);
        tokio::time::timeout(most, all).await.is_ok()
    }

    /// What was spent so far, as `GET /v1/spending` has it.
    pub fn spending(&self) -> Value {
        spending(&self.house)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn answer(house: Arc<House>, request: Request<Body>) -> Response<Body> {
    let response = route(&house, request).await;
    response.unwrap_or_else(|refusal| refusal.response())
}

async fn route(house: &Arc<House>, request: Request<Body>) -> Result<Response<Body>, Refusal> {
    let (head, body) = request.into_parts();
    house.gate.knows(&head.uri, &head.headers)?;
    house.gate.admit(&head.headers, Instant::now())?;
    match (head.method.clone(), head.uri.path()) {
        (Method::GET, "/health") => Ok(answered(StatusCode::OK, &json!({"status": "ok"}))),
        (Method::GET, "/v1/spending") => Ok(answered(StatusCode::OK, &spending(house))),
        (Method::GET, "/v1/models") => Ok(answered(StatusCode::OK, &models(house).await)),
        (Method::POST, path @ ("/v1/chat/completions" | "/v1/completions" | "/v1/responses")) => {
            let body = read(&head.headers, body).await?;
            ask::answer(house, path, body).await
        }
        _ => {
            let message = "the gateway has POST /v1/chat/completions, /v1/completions, /v1/responses and GET /v1/models, \
                           /v1/spending, /health; everything else is the servers' own";
            Err(Refusal::new(StatusCode::NOT_FOUND, "unknown_url", message))
        }
    }
}

/// A body within bounds of size and time.
async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Refusal> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    // A page may send anything else without being asked for its origin.
    if !kind.is_some_and(|kind| {
        kind.trim_start()
            .to_ascii_lowercase()
            .starts_with("application/json")
    }) {
        let message = "the body must be JSON: send `Content-Type: application/json`";
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content_type",
            message,
        ));
    }
    let whole = tokio::time::timeout(BODY_TIME, to_bytes(body, MOST_BODY_BYTES)).await;
    let whole = whole.map_err(|_| {
        let message = format!(
            "the body did not come within {} s; send it faster",
            BODY_TIME.as_secs()
        );
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message)
    })?;
    let whole = whole.map_err(|e| {
        let message = format!(
            "the body ended early or has more than the {MOST_BODY_BYTES} bytes allowed: {e}"
        );
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    })?;
    Ok(whole.to_vec())
}

impl House {
    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Asks servers what they have, unless that is known.
    async fn list(&self) {
        let mut listed = self.listing.lock().await;
        if listed.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        let all = join_all(
            self.upstreams
                .iter()
                .map(|upstream| self.list_one(upstream)),
        )
        .await;
        let now = self.now_ms();
        let mut state = self.state.lock();
        for (seen, models) in state.seen.iter_mut().zip(all) {
            match models {
                Some(models) => seen.models = Some(models),
                // What it had before may come back.
                None => seen.failed(now),
            }
        }
        // While there is none, each request looks again.
        *listed = state
            .seen
            .iter()
            .any(|seen| seen.models.is_some())
            .then(Instant::now);
    }

    async fn list_one(&self, upstream: &Upstream) -> Option<Vec<String>> {
        let request = upstream
            .request(&self.http, Method::GET, "v1/models")
            .timeout(SHORT);
        let response = request.send().await.ok()?.error_for_status().ok()?;
        let body = relay::whole(response, MOST_LIST_BYTES).await.ok()?;
        let list: Value = serde_json::from_slice(&body).ok()?;
        let names = list["data"]
            .as_array()?
            .iter()
            .filter_map(|model| model["id"].as_str());
        Some(names.take(MOST_MODELS).map(str::to_owned).collect())
    }

    /// The servers to ask, the best first.
    async fn order(&self, model: &str) -> Vec<usize> {
        self.list().await;
        choice::order(&self.state.lock().seen, model, self.now_ms())
    }
}

async fn models(house: &House) -> Value {
    house.list().await;
    let state = house.state.lock();
    let mut names: Vec<&String> = state
        .seen
        .iter()
        .flat_map(|seen| seen.models.iter().flatten())
        .collect();
    names.sort();
    names.dedup();
    let model = |name: &String| json!({"id": name, "object": "model", "created": 0, "owned_by": "tributary"});
    json!({"object": "list", "data": names.into_iter().map(model).collect::<Vec<_>>()})
}

/// What was spent so far. Amounts are micro-OPEN, as text.
fn spending(house: &House) -> Value {
    let state = house.state.lock();
    let server = |at: usize| {
        let promised = state.keys[at].map(|key| state.purse.of(key));
        let promised = promised.unwrap_or_default();
        json!({
            "url": house.upstreams[at].url.as_str(),
            "key": state.keys[at].map(|key| key.to_string()),
            "answers": promised.answers,
            "owed": promised.owed.to_string(),
            "doubtful": promised.doubtful.to_string(),
            "reserved": promised.reserved.to_string(),
            "signed": promised.signed.to_string(),
            "deposited": promised.deposited.to_string(),
            "is_distrusted": promised.is_distrusted,
        })
    };
    let servers: Vec<Value> = (0..house.upstreams.len()).map(server).collect();
    json!({
        "schema": "spending/1",
        "consumer": house.key.address().to_string(),
        "spent": state.purse.spent().to_string(),
        "left": state.purse.left().to_string(),
        "servers": servers,
    })
}
