//! Serving answers: one base in memory and its adapters, over HTTP as OpenAI's clients speak it.
//!
//! ```text
//!   connection ─▶ routes ─▶ gate (who), fields, chat │ completions │ responses ─▶ Ask
//!                                                                                │
//!   stream ◀─ pieces of text ◀─ answer (task a request) ◀─ events ◀─ worker (one thread: tributary_engine::Engine)
//!                                     ├─▶ till (asked before, told after)
//!                                     └─▶ shares (remembered, for those that ask whose data shaped it)
//! ```
//!
//! Everything that a stranger can send has a bound of size, time and rate, and everybody is answered in OpenAI's shape. A
//! client that leaves or does not read loses its request and nobody else's. Prompts and answers stand in no log. Which
//! adapters there are is [`adapters`]', what an answer costs is a [`till::Till`]'s.

pub mod adapters;
pub mod agreements;
pub mod allowance;
mod answer;
mod ask;
pub mod book;
pub mod cashier;
pub mod channels;
mod chat;
mod completions;
mod connection;
mod constraint;
mod fields;
pub mod folder;
mod gate;
pub mod gateway;
mod head;
pub mod openapi;
mod quote;
pub(crate) mod reading;
mod refusal;
mod responses;
mod routes;
pub(crate) mod said;
mod shares;
mod stream;
pub mod till;
pub mod types;
mod worker;
mod x402;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tributary_engine::chat::ChatTemplate;
use tributary_engine::{Base, Engine, EngineOptions, LoadedAdapter, Precision};

pub use refusal::{ErrorBody, ErrorFields, Refusal};

use crate::model::BROOK;
use adapters::{AdapterError, AdapterOptions, Adapters, Fetch, ServedBase};
use cashier::Cashiers;
use channels::{ChannelOptions, Channels};
use connection::MOST_CONNECTIONS;
use folder::DiskError;
use gate::Gate;
use reading::Reading;
use shares::Desk;
use till::Till;
use worker::Worker;

/// Requests that are read at the same time: templates and tokenizers compute, and the engine wants the cores.
const MOST_READ: usize = 2;
/// Shortest token, in bytes: one that others could guess is none.
const LEAST_TOKEN_BYTES: usize = 16;

/// What is served, and to whom.
pub struct ServeOptions {
    /// `brook`, or a folder in Hugging Face layout.
    pub base: String,
    /// Adapters by alias: PEFT folders, or ids of adapters or runs. Each is loaded before the server is ready.
    pub adapters: Vec<(String, String)>,
    /// How adapters are kept.
    pub keep: AdapterOptions,
    /// Who fetches those that are not on this machine.
    pub fetch: Fetch,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Further names of this server, as clients write them: `NAME` or `NAME:PORT`.
    pub hosts: Vec<String>,
    /// Any of these lets a client in; none are needed on a loopback address.
    pub tokens: Vec<String>,
    /// What the engine may take of the machine.
    pub engine: EngineOptions,
    /// Who is paid.
    pub till: Arc<dyn Till>,
    /// How answers of adapters are paid whose runs take pay on their chain; none where answers cost nothing.
    pub channels: Option<ChannelOptions>,
    /// Who stands for these runs; none where this program follows none.
    pub cashiers: Option<Arc<dyn Cashiers>>,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Others could ask, and nobody is told from nobody.
    #[error(
        "{0} can be reached from other machines, and no token is set; give --token-file FILE (--serve-token-file with `up`), or listen on 127.0.0.1"
    )]
    NoToken(SocketAddr),
    /// A token that can be guessed.
    #[error(
        "a token has fewer than {LEAST_TOKEN_BYTES} bytes or holds blanks; make one with `openssl rand -hex 32`"
    )]
    WeakToken,
    /// The base.
    #[error("cannot load the base model {name}: {why}")]
    Base {
        /// Which.
        name: String,
        /// Why, and what to do.
        why: String,
    },
    /// One of the adapters.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The address.
    #[error("cannot listen on {addr}: {source}. Choose another port, or port 0 for a free one")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// What is kept of channels.
    #[error(transparent)]
    Accounts(#[from] DiskError),
    /// No thread for the engine.
    #[error("the system gives no thread: {0}; close other programs")]
    Thread(std::io::Error),
}

/// What all requests are answered with.
pub(crate) struct Shop {
    reading: Reading,
    adapters: Adapters,
    worker: Worker,
    /// The engine's.
    thread: JoinHandle<()>,
    till: Arc<dyn Till>,
    desk: Desk,
    gate: Gate,
    turns: Arc<Semaphore>,
    /// Whether only this machine can ask.
    is_private: bool,
    fingerprint: String,
}

impl Shop {
    /// What a model's name means now. May wait for an adapter that is fetched.
    async fn model(&self, name: &str) -> Result<Option<Arc<LoadedAdapter>>, Refusal> {
        let got = self.adapters.get(name).await;
        got.map_err(|error| match error {
            AdapterError::NotFound { .. } => Refusal::no_model(name),
            // Where this machine keeps what is nobody else's business.
            AdapterError::Load { failure, .. } if !self.is_private => {
                let why = "cannot load this adapter; ask another server, or this one's owner";
                Refusal::new(routes::status(failure.code), failure.code, why)
            }
            other => routes::refused(&other),
        })
    }
}

/// A running server; it stops at once when dropped.
pub struct Server {
    addr: SocketAddr,
    model: String,
    shop: Arc<Shop>,
    places: Arc<Semaphore>,
    closing: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
}

/// Loads everything and listens.
///
/// # Errors
/// See [`ServeError`].
pub async fn start(mut options: ServeOptions) -> Result<Server, ServeError> {
    let is_private = options.listen.ip().is_loopback();
    if !is_private && options.tokens.is_empty() {
        return Err(ServeError::NoToken(options.listen));
    }
    let is_weak = |token: &String| {
        token.len() < LEAST_TOKEN_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if options.tokens.iter().any(is_weak) {
        return Err(ServeError::WeakToken);
    }
    let addr = options.listen;
    let bind = |source| ServeError::Bind { addr, source };
    // Before the base is loaded, which takes its time.
    let listener = TcpListener::bind(addr).await.map_err(bind)?;
    let addr = listener.local_addr().map_err(bind)?;
    let adapters = std::mem::take(&mut options.adapters);
    let shop = tokio::task::spawn_blocking(move || open(options, addr));
    let shop = shop.await.expect("loading a base does not panic")?;
    for (name, from) in &adapters {
        shop.adapters.load(name, from, false).await?;
    }
    let model = shop.reading.info.name.clone();
    let shop = Arc::new(shop);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let (closing, is_closing) = watch::channel(false);
    let answering = shop.clone();
    let answer: connection::Answer =
        Arc::new(move |request| Box::pin(routes::answer(answering.clone(), request)));
    let accepting = connection::accept(listener, answer, places.clone(), is_closing);
    Ok(Server {
        addr,
        model,
        shop,
        places,
        closing,
        accepting: tokio::spawn(accepting),
    })
}

/// Loads the base and starts its engine.
fn open(options: ServeOptions, addr: SocketAddr) -> Result<Shop, ServeError> {
    let failed = |why: String| ServeError::Base {
        name: options.base.clone(),
        why,
    };
    let folder = Path::new(&options.base);
    let loaded = if options.base == BROOK {
        Base::brook().map(|base| (Engine::new(base, options.engine), None))
    } else if folder.is_dir() {
        Engine::from_dir(folder, options.engine)
            .map(|engine| (engine, ChatTemplate::for_rows(folder)))
    } else {
        return Err(failed(
            "there is no such folder; give `brook`, or a folder in Hugging Face layout".into(),
        ));
    };
    let (engine, template) = loaded.map_err(|e| failed(e.to_string()))?;
    let info = engine.info().clone();
    let served = ServedBase {
        name: info.name.clone(),
        hash: info.hash,
        config: info.config.clone(),
    };
    let adapters = Adapters::new(served, options.keep, options.fetch);
    let precision = match options.engine.precision {
        Precision::F32 => "f32",
        Precision::Int8 => "int8",
    };
    let fingerprint = format!(
        "fp_{}_{precision}_{}",
        info.hash.short(),
        env!("CARGO_PKG_VERSION")
    );
    let till = match (options.channels, options.cashiers) {
        (Some(channels), Some(cashiers)) => {
            Arc::new(Channels::open(channels, cashiers, options.till)?)
        }
        _ => options.till,
    };
    let (worker, thread) = Worker::start(engine).map_err(ServeError::Thread)?;
    let desk = Desk::new(adapters.fetch().clone(), worker.is_busy());
    Ok(Shop {
        reading: Reading::new(info, template).map_err(failed)?,
        adapters,
        worker,
        thread,
        till,
        desk,
        gate: Gate::new(addr, &options.hosts, options.tokens),
        turns: Arc::new(Semaphore::new(MOST_READ)),
        is_private: addr.ip().is_loopback(),
        fingerprint,
    })
}

impl Server {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The name of its base.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Its adapters.
    pub fn adapters(&self) -> &Adapters {
        &self.shop.adapters
    }

    /// Takes nothing more and waits until what was taken is answered, so long at most. False when some was not.
    pub async fn drain(self, most: Duration) -> bool {
        self.shop.worker.close();
        // Nobody listens any more when the task is gone.
        let _ = self.closing.send(true);
        let all = self.places.acquire_many(MOST_CONNECTIONS as u32);
        let is_done = tokio::time::timeout(most, all).await.is_ok();
        self.shop.till.drain().await;
        is_done
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
