//! The other end of the control API: what the command line uses to reach the daemon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tributary_ledger::Report;
use tributary_ledger::holdout::{HoldoutProof, HoldoutReport};
use tributary_ledger::view::explain::Explanation;
use tributary_ledger::view::{AdapterView, StatementView};

use super::control::{Control, ControlError};
use super::types::event::EventView;
use super::types::{
    CreateRequest, EventsRequest, ExplainRequest, ExportRequest, FetchRequest, JoinRequest,
    ProveRequest, RunBrief, RunView, StatementRequest, StatusView, Stopping,
};
use super::{Answer, Reader};
use crate::home::HomePaths;
use crate::problem::{Code, Problem};
use crate::terminal::Failure;
use crate::why::{Question, Why};

/// How long the daemon may take to accept a connection; it is on this machine.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes of one line of the event stream; far above any event.
const MAX_LINE_BYTES: usize = 1 << 20;

/// Speaks to one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    root: PathBuf,
    control: Control,
}

impl Client {
    /// The daemon of the home `root`. Only reads `control.json`; the first request shows whether
    /// somebody answers.
    ///
    /// # Errors
    /// [`Code::NotRunning`] where no daemon wrote the file.
    pub fn open(root: &Path) -> Answer<Self> {
        let read = Control::read(root, &HomePaths::new(root).control());
        let control = read.map_err(|e| match e {
            ControlError::NotRunning(_) => Problem::new(
                Code::NotRunning,
                format!("no daemon runs on the home {}", root.display()),
            )
            .hint(start(root)),
            other => Failure::from_error(&other).into(),
        })?;
        Ok(Self {
            root: root.to_owned(),
            control,
        })
    }

    /// As [`Client::open`], but `None` when no daemon runs there.
    ///
    /// # Errors
    /// Anything that is wrong beyond that.
    pub async fn try_open(root: &Path) -> Answer<Option<Self>> {
        let opened = async {
            let client = Self::open(root)?;
            client.connect().await?;
            Ok(client)
        };
        match opened.await {
            Ok(client) => Ok(Some(client)),
            Err(Problem {
                code: Code::NotRunning,
                ..
            }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Opens a run. Answered once that is durable.
    ///
    /// # Errors
    /// The daemon's.
    pub async fn create(&self, request: &CreateRequest) -> Answer<RunBrief> {
        self.post("/v1/runs", request).await
    }

    /// Asks for membership. Answered once the wish is durable.
    ///
    /// # Errors
    /// The daemon's.
    pub async fn join(&self, id: &str, request: &JoinRequest) -> Answer<RunBrief> {
        self.post(&format!("/v1/runs/{id}/join"), request).await
    }

    /// Asks to leave. Answered once the wish is durable.
    ///
    /// # Errors
    /// The daemon's.
    pub async fn leave(&self, id: &str) -> Answer<RunBrief> {
        self.post(&format!("/v1/runs/{id}/leave"), &()).await
    }

    /// Fetches an adapter from the network, checks it, writes it.
    ///
    /// # Errors
    /// The daemon's.
    pub async fn fetch(&self, request: &FetchRequest) -> Answer<AdapterView> {
        self.post("/v1/adapters/fetch", request).await
    }

    /// Stops the daemon.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn stop(&self) -> Answer<Stopping> {
        self.post("/v1/stop", &()).await
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
        let query = request.run.as_ref().map(|run| format!("?run={run}"));
        let path = format!("/v1/events{}", query.unwrap_or_default());
        let mut response = self.send(Method::GET, &path, Vec::new()).await?;
        let mut pending = Vec::new();
        while let Some(frame) = response.frame().await {
            let frame = frame.map_err(|_| self.ended())?;
            pending.extend_from_slice(&frame.into_data().unwrap_or_default());
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
        Ok(())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Answer<T> {
        read(self.send(Method::GET, path, Vec::new()).await?).await
    }

    async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Answer<T> {
        let body = serde_json::to_vec(body).map_err(not_understood)?;
        read(self.send(Method::POST, path, body).await?).await
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

    async fn connect(&self) -> Answer<TcpStream> {
        let connecting = TcpStream::connect(self.control.addr);
        match tokio::time::timeout(CONNECT, connecting).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(e)) => Err(self.gone(&e.to_string())),
            Err(_) => Err(self.gone("no answer in 5 s")),
        }
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Answer<Response<Incoming>> {
        let io = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
            .await
            .map_err(broken)?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.control.addr.to_string())
            .header("authorization", format!("Bearer {}", self.control.token))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| Problem::new(Code::Malformed, format!("{path:?} is no request: {e}")))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status == StatusCode::UNAUTHORIZED {
            // Another process got the port of a daemon that was killed.
            return Err(self.gone("something else listens there"));
        }
        let refusal: Answer<Problem> = read(response).await;
        Err(refusal.unwrap_or_else(|_| not_understood(format!("the daemon answered {status}"))))
    }
}

impl Reader for Client {
    async fn status(&self) -> Answer<StatusView> {
        self.get("/v1/status").await
    }

    async fn runs(&self) -> Answer<Vec<RunBrief>> {
        self.get("/v1/runs").await
    }

    async fn run(&self, id: &str) -> Answer<RunView> {
        self.get(&format!("/v1/runs/{id}")).await
    }

    async fn adapters(&self) -> Answer<Vec<AdapterView>> {
        self.get("/v1/adapters").await
    }

    async fn export(&self, request: ExportRequest) -> Answer<AdapterView> {
        self.post("/v1/adapters/export", &request).await
    }

    async fn verify(&self) -> Answer<Report> {
        self.get("/v1/ledger/verify").await
    }

    async fn statement(&self, request: StatementRequest) -> Answer<StatementView> {
        let run = request.run.iter().map(|run| format!("run={run}"));
        let by = request.by.iter().map(|by| format!("by={by}"));
        let query: Vec<String> = run.chain(by).collect();
        self.get(&format!("/v1/ledger/statement?{}", query.join("&")))
            .await
    }

    async fn explain(&self, request: ExplainRequest) -> Answer<Explanation> {
        self.post("/v1/ledger/explain", &request).await
    }

    async fn prove_holdout(&self, request: ProveRequest) -> Answer<HoldoutProof> {
        self.post("/v1/ledger/prove-holdout", &request).await
    }

    async fn check_holdout(&self, proof: HoldoutProof) -> Answer<HoldoutReport> {
        self.post("/v1/ledger/check-holdout", &proof).await
    }

    async fn why(&self, question: Question) -> Answer<Why> {
        self.post("/v1/why", &question).await
    }
}

fn start(root: &Path) -> String {
    format!("`tributary up --home {}` starts it", root.display())
}

fn broken(e: hyper::Error) -> Problem {
    let text = format!("the connection to the daemon broke: {e}");
    Problem::new(Code::NotUnderstood, text).hint("see whether `tributary status` still answers")
}

fn not_understood(why: impl std::fmt::Display) -> Problem {
    let text = format!("the daemon's answer is not understood: {why}");
    Problem::new(Code::NotUnderstood, text)
        .hint("daemon and command differ in version: restart the daemon")
}

async fn read<T: DeserializeOwned>(response: Response<Incoming>) -> Answer<T> {
    let body = response.into_body().collect().await.map_err(broken)?;
    serde_json::from_slice(&body.to_bytes()).map_err(not_understood)
}
