//! The other end of the control API: what the command line uses to reach the daemon.
//!
//! No wait is without an end. A short answer has ten seconds. A long one (a check of the whole ledger, a download) may
//! take its time as long as the daemon answers a short question meanwhile, and a stream of events as long as the
//! daemon keeps it alive.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tributary_ledger::Report;
use tributary_ledger::holdout::{HoldoutProof, HoldoutReport};
use tributary_ledger::view::books::BooksView;
use tributary_ledger::view::disputes::DisputesView;
use tributary_ledger::view::explain::Explanation;
use tributary_ledger::view::{AdapterView, ProofView, StatementView};

use super::control::{Control, ControlError};
use super::types::base::BaseView;
use super::types::event::EventView;
use super::types::reach::{
    InvitationView, InviteRequest, OfferView, ReachView, TicketRequest, TicketView,
};
use super::types::{
    BooksRequest, CreateRequest, DisputeRequest, EventsRequest, ExplainRequest, ExportRequest,
    FetchRequest, JoinRequest, ProveRequest, RunBrief, RunView, StatementRequest, StatusView,
    Stopping,
};
use super::{Answer, KEEP_ALIVE, Reader};
use crate::home::{self, HomePaths};
use crate::problem::{Code, Problem};
use crate::terminal::Failure;
use crate::why::{Question, Why};

/// How long the daemon may take to accept a connection; it is on this machine.
const CONNECT: Duration = Duration::from_secs(5);
/// How long it may take to answer what it has in memory: a machine that trains with all cores is slow, not silent.
const SHORT: Duration = Duration::from_secs(10);
/// How long an answer is awaited before the daemon is asked whether it is alive, and between two such questions.
const PROBE: Duration = Duration::from_secs(5);
/// How long any answer may take: `adapter get` waits for a day at most, and then writes what it got.
const LONGEST: Duration = Duration::from_secs(25 * 3600);
/// Silence after which a stream of events is given up.
const SILENCE: Duration = KEEP_ALIVE.saturating_mul(3);
/// How long a daemon may take from its lock on the home to its first answer; it reads the whole ledger meanwhile.
const STARTING: Duration = Duration::from_secs(20);
/// How often a daemon that is starting is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Bytes of one line of the event stream; far above any event.
const MAX_LINE_BYTES: usize = 1 << 20;

/// Speaks to one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    root: PathBuf,
    control: Control,
    http: reqwest::Client,
    patience: Patience,
}

/// How long a client waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a short answer.
    pub(super) short: Duration,
    /// Between two questions whether the daemon is alive.
    pub(super) probe: Duration,
    /// For the next bytes of a stream.
    pub(super) silence: Duration,
}

impl Client {
    /// The daemon of the home `root`; one that is starting is waited for.
    ///
    /// # Errors
    /// [`Code::NotRunning`] where no daemon runs; [`Code::Unreachable`] where one runs and does not answer.
    pub async fn open(root: &Path) -> Answer<Self> {
        let client = Self::try_open(root).await?;
        client.ok_or_else(|| {
            let text = format!("no daemon runs on the home {}", root.display());
            Problem::new(Code::NotRunning, text).hint(start(root))
        })
    }

    /// As [`Client::open`], but `None` when no daemon runs there.
    ///
    /// # Errors
    /// Anything that is wrong beyond that.
    pub async fn try_open(root: &Path) -> Answer<Option<Self>> {
        let (paths, began) = (HomePaths::new(root), Instant::now());
        loop {
            let asked = match Self::at(root)? {
                Some(client) => client.probe().await.map(|()| client),
                None => Err(not_ready(root)),
            };
            match asked {
                Ok(client) => return Ok(Some(client)),
                // What listens there may be anything when no daemon holds the home.
                Err(_) if !home::is_held(&paths) => return Ok(None),
                Err(e) if e.code == Code::Unreachable || began.elapsed() > STARTING => {
                    return Err(e);
                }
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// The daemon that `control.json` names, if the file is there. Whether it answers shows with the first request.
    pub(super) fn at(root: &Path) -> Answer<Option<Self>> {
        let control = match Control::read(root, &HomePaths::new(root).control()) {
            Ok(control) => control,
            Err(ControlError::NotRunning(_)) => return Ok(None),
            Err(other) => return Err(Failure::from_error(&other).into()),
        };
        Ok(Some(Self {
            root: root.to_owned(),
            control,
            http: http().map_err(|e| not_understood(&e))?,
            patience: Patience {
                short: SHORT,
                probe: PROBE,
                silence: SILENCE,
            },
        }))
    }

    #[cfg(test)]
    pub(super) fn waiting(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Asks something that a daemon answers from memory.
    async fn probe(&self) -> Answer<()> {
        let request = self.request(Method::GET, self.url(&["metrics"]));
        let answered = self.send(request.timeout(self.patience.short)).await?;
        answered.bytes().await.map_err(|e| self.lost(&e))?;
        Ok(())
    }

    /// Opens a run. Answered once that is durable.
    ///
    /// # Errors
    /// The daemon's.
    pub async fn create(&self, request: &CreateRequest) -> Answer<RunBrief> {
        self.post(&["v1", "runs"], request).await
    }

    /// Asks for membership. Answered once the wish is durable.
    ///
    /// # Errors
    /// The daemon's.
    pub async fn join(&self, id: &str, request: &JoinRequest) -> Answer<RunBrief> {
        self.post(&["v1", "runs", id, "join"], request).await
    }

    /// Asks to leave. Answered once the wish is durable.
    ///
    /// # Errors
    /// The daemon's.
    pub async fn leave(&self, id: &str) -> Answer<RunBrief> {
        self.post(&["v1", "runs", id, "leave"], &()).await
    }

    /// Disputes a score. Answered once that is durable.
    ///
    /// # Errors
    /// The daemon's.
    pub async fn dispute(&self, id: &str, request: DisputeRequest) -> Answer<DisputesView> {
        self.post(&["v1", "runs", id, "disputes"], &request).await
    }

    /// Appeals, as who lost a dispute. Answered once that is durable.
    ///
    /// # Errors
    /// The daemon's.
    pub async fn appeal(&self, id: &str, dispute: &str) -> Answer<DisputesView> {
        let path = ["v1", "runs", id, "disputes", dispute, "appeal"];
        self.post(&path, &()).await
    }

    /// How the peer reaches others, and they it.
    ///
    /// # Errors
    /// Where there is no daemon.
    pub async fn reach(&self) -> Answer<ReachView> {
        self.get(&["v1", "reach"]).await
    }

    /// Makes a ticket to a run.
    ///
    /// # Errors
    /// The daemon's.
    pub async fn invite(&self, request: &InviteRequest) -> Answer<TicketView> {
        self.post(&["v1", "invitations"], request).await
    }

    /// Tickets that were given out.
    ///
    /// # Errors
    /// The daemon's.
    pub async fn invitations(&self) -> Answer<Vec<InvitationView>> {
        self.get(&["v1", "invitations"]).await
    }

    /// Takes a ticket back.
    ///
    /// # Errors
    /// The daemon's.
    pub async fn revoke(&self, id: &str) -> Answer<Vec<InvitationView>> {
        self.post(&["v1", "invitations", id, "revoke"], &()).await
    }

    /// Takes a ticket: the daemon connects to its peers and learns what the run is.
    ///
    /// # Errors
    /// The daemon's.
    pub async fn ticket(&self, request: &TicketRequest) -> Answer<OfferView> {
        self.post(&["v1", "tickets"], request).await
    }

    /// Whether the base model of a run is here, and how far it is fetched.
    ///
    /// # Errors
    /// The daemon's.
    pub async fn base(&self, id: &str) -> Answer<BaseView> {
        self.get(&["v1", "runs", id, "base"]).await
    }

    /// Fetches the base model of a run from peers, unless it is here.
    ///
    /// # Errors
    /// The daemon's.
    pub async fn fetch_base(&self, id: &str) -> Answer<BaseView> {
        self.post(&["v1", "runs", id, "base"], &()).await
    }

    /// Fetches an adapter from the network, checks it, writes it.
    ///
    /// # Errors
    /// The daemon's.
    pub async fn fetch(&self, request: &FetchRequest) -> Answer<AdapterView> {
        self.post(&["v1", "adapters", "fetch"], request).await
    }

    /// Stops the daemon.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn stop(&self) -> Answer<Stopping> {
        self.post(&["v1", "stop"], &()).await
    }

    /// Hands each event to `each` until the stream ends or `each` says `false`.
    ///
    /// # Errors
    /// The daemon's, or that the connection broke.
    pub async fn events(
        &self,
        request: &EventsRequest,
        mut each: impl FnMut(EventView) -> bool,
    ) -> Answer<()> {
        let mut url = self.url(&["v1", "events"]);
        if let Some(run) = &request.run {
            url.query_pairs_mut().append_pair("run", run);
        }
        let asked = self.send(self.request(Method::GET, url));
        let mut response = self.while_alive(asked).await?;
        let mut pending = Vec::new();
        loop {
            let chunk = tokio::time::timeout(self.patience.silence, response.chunk());
            let chunk = chunk.await.map_err(|_| self.silent())?;
            let Some(chunk) = chunk.map_err(|_| self.ended())? else {
                return Ok(());
            };
            pending.extend_from_slice(&chunk);
            while let Some(end) = pending.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                // The name repeats what the data says; comments only keep the connection open.
                if let Some(data) = line.strip_prefix(b"data:") {
                    let event = serde_json::from_slice(data).map_err(not_understood)?;
                    if !each(event) {
                        return Ok(());
                    }
                }
            }
            if pending.len() > MAX_LINE_BYTES {
                return Err(not_understood("a line without end"));
            }
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Answer<T> {
        self.ask(self.request(Method::GET, self.url(path))).await
    }

    async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &B,
    ) -> Answer<T> {
        let body = serde_json::to_vec(body).map_err(not_understood)?;
        let request = self.request(Method::POST, self.url(path)).body(body);
        self.ask(request.header("content-type", "application/json"))
            .await
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = Url::parse(&format!("http://{}", self.control.addr))
            .expect("a socket address is a host and a port");
        (url.path_segments_mut()
            .expect("addresses of HTTP have paths"))
        .extend(path);
        url
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        (self.http.request(method, url)).bearer_auth(&self.control.token)
    }

    /// The whole answer to a request, for as long as the daemon is alive.
    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Answer<T> {
        self.while_alive(async {
            let answered = self.send(request.timeout(LONGEST)).await?;
            let body = answered.bytes().await.map_err(|e| self.lost(&e))?;
            serde_json::from_slice(&body).map_err(not_understood)
        })
        .await
    }

    /// Waits for an answer as long as the daemon answers short questions.
    async fn while_alive<T>(&self, answer: impl Future<Output = Answer<T>>) -> Answer<T> {
        let dead = async {
            loop {
                tokio::time::sleep(self.patience.probe).await;
                if let Err(e) = self.probe().await {
                    return e;
                }
            }
        };
        tokio::select! {
            biased;
            answer = answer => answer,
            e = dead => Err(e),
        }
    }

    async fn send(&self, request: RequestBuilder) -> Answer<Response> {
        let response = request.send().await.map_err(|e| self.lost(&e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status == StatusCode::UNAUTHORIZED {
            // Another process got the port of a daemon that was killed.
            return Err(self.gone("something else listens there"));
        }
        let refusal = response.bytes().await.map_err(|e| self.lost(&e))?;
        let refusal: Result<Problem, _> = serde_json::from_slice(&refusal);
        Err(refusal.unwrap_or_else(|_| not_understood(format!("the daemon answered {status}"))))
    }

    /// Why there is no answer.
    fn lost(&self, e: &reqwest::Error) -> Problem {
        if e.is_connect() {
            return self.gone(&innermost(e));
        }
        if e.is_timeout() {
            return self.silent();
        }
        let text = format!("the connection to the daemon broke: {}", innermost(e));
        Problem::new(Code::NotUnderstood, text).hint("see whether `tributary status` still answers")
    }

    /// Somebody has the connection and says nothing.
    fn silent(&self) -> Problem {
        let Control { addr, pid, .. } = self.control;
        let text = format!(
            "the daemon (process {pid}) does not answer at {addr}; it is suspended or stuck"
        );
        Problem::new(Code::Unreachable, text).hint(format!(
            "`kill -CONT {pid}` wakes a suspended one; else end it with `kill -KILL {pid}`, which loses nothing, and {}",
            start(&self.root)
        ))
    }

    fn gone(&self, why: &str) -> Problem {
        let text = format!(
            "no daemon answers at {} ({why}); it was stopped or killed",
            self.control.addr
        );
        Problem::new(Code::NotRunning, text).hint(start(&self.root))
    }

    /// A stream broke off. The daemon does not wait for its readers when it stops.
    fn ended(&self) -> Problem {
        let text = "the daemon has stopped, or the connection to it broke";
        Problem::new(Code::Stopped, text).hint(start(&self.root))
    }
}

impl Reader for Client {
    async fn status(&self) -> Answer<StatusView> {
        self.get(&["v1", "status"]).await
    }

    async fn runs(&self) -> Answer<Vec<RunBrief>> {
        self.get(&["v1", "runs"]).await
    }

    async fn run(&self, id: &str) -> Answer<RunView> {
        self.get(&["v1", "runs", id]).await
    }

    async fn books(&self, id: &str, request: BooksRequest) -> Answer<BooksView> {
        let mut url = self.url(&["v1", "runs", id, "books"]);
        if let Some(height) = request.height {
            url.query_pairs_mut()
                .append_pair("height", &height.to_string());
        }
        self.ask(self.request(Method::GET, url)).await
    }

    async fn disputes(&self, id: &str) -> Answer<DisputesView> {
        self.get(&["v1", "runs", id, "disputes"]).await
    }

    async fn adapters(&self) -> Answer<Vec<AdapterView>> {
        self.get(&["v1", "adapters"]).await
    }

    async fn export(&self, request: ExportRequest) -> Answer<AdapterView> {
        self.post(&["v1", "adapters", "export"], &request).await
    }

    async fn verify(&self) -> Answer<Report> {
        self.get(&["v1", "ledger", "verify"]).await
    }

    async fn statement(&self, request: StatementRequest) -> Answer<StatementView> {
        let mut url = self.url(&["v1", "ledger", "statement"]);
        if let Some(run) = &request.run {
            url.query_pairs_mut().append_pair("run", run);
        }
        if let Some(by) = request.by {
            url.query_pairs_mut().append_pair("by", &by.to_string());
        }
        self.ask(self.request(Method::GET, url)).await
    }

    async fn explain(&self, request: ExplainRequest) -> Answer<Explanation> {
        self.post(&["v1", "ledger", "explain"], &request).await
    }

    async fn proof(&self, request: ExplainRequest) -> Answer<ProofView> {
        self.post(&["v1", "ledger", "proof"], &request).await
    }

    async fn prove_holdout(&self, request: ProveRequest) -> Answer<HoldoutProof> {
        self.post(&["v1", "ledger", "prove-holdout"], &request)
            .await
    }

    async fn check_holdout(&self, proof: HoldoutProof) -> Answer<HoldoutReport> {
        self.post(&["v1", "ledger", "check-holdout"], &proof).await
    }

    async fn why(&self, question: Question) -> Answer<Why> {
        self.post(&["v1", "why"], &question).await
    }
}

fn start(root: &Path) -> String {
    format!("`tributary up --home {}` starts it", root.display())
}

fn not_understood(why: impl std::fmt::Display) -> Problem {
    let text = format!("the daemon's answer is not understood: {why}");
    Problem::new(Code::NotUnderstood, text)
        .hint("daemon and command differ in version: restart the daemon")
}

/// A process holds the home, and wrote nowhere how to reach it.
fn not_ready(root: &Path) -> Problem {
    let text = format!(
        "a process holds the home {} and takes no commands: a daemon that has been starting for more than {} s, or a \
         demo",
        root.display(),
        STARTING.as_secs()
    );
    Problem::new(Code::NotRunning, text)
        .hint("wait until it is ready, or end it; the log of the daemon says what it does")
}

/// Plain HTTP to this machine alone: no proxy, no redirect, and no connection kept that a daemon's next life would not
/// know.
pub(super) fn http() -> reqwest::Result<reqwest::Client> {
    plain_http().build()
}

/// As [`http`], for callers with bounds of their own.
pub(crate) fn plain_http() -> reqwest::ClientBuilder {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers of every version")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT)
}

/// What the system said, without what each layer above adds.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
