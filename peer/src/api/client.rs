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

use super::control::{Control, ControlError};
use crate::home::HomePaths;
use crate::view::EventView;

/// How long the daemon may take to accept a connection; it is on this machine.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes of one line of a watched run; far above any event.
const MAX_LINE_BYTES: usize = 1 << 20;

/// Speaks to one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    root: PathBuf,
    control: Control,
}

/// Why the daemon gave no answer, or no good one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon, or no way to it.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The file is there, the daemon is not.
    #[error(
        "no daemon answers at {addr} ({why}); it was stopped or killed. Start it with `tributary up \
         --home {home}`"
    )]
    Gone {
        /// Where it was.
        addr: std::net::SocketAddr,
        /// Why.
        why: String,
        /// Its home.
        home: String,
    },
    /// The connection broke.
    #[error(
        "the connection to the daemon broke: {0}; see whether `tributary status` still answers"
    )]
    Broken(String),
    /// The daemon refused.
    #[error("{why}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// Why.
        why: String,
    },
    /// An answer that is not what this version expects.
    #[error(
        "the daemon's answer is not understood ({0}); daemon and command differ in version, restart the daemon"
    )]
    Answer(String),
}

impl ClientError {
    /// Whether the reason is that no daemon runs.
    pub fn not_running(&self) -> bool {
        matches!(
            self,
            Self::Gone { .. } | Self::Control(ControlError::NotRunning(_))
        )
    }
}

impl Client {
    /// The daemon of the home `root`. Only reads `control.json`; the first request shows whether
    /// somebody answers.
    ///
    /// # Errors
    /// [`ClientError::Control`].
    pub fn open(root: &Path) -> Result<Self, ClientError> {
        let control = Control::read(root, &HomePaths::new(root).control())?;
        Ok(Self {
            root: root.to_owned(),
            control,
        })
    }

    /// As [`Client::open`], but `None` when no daemon runs there.
    ///
    /// # Errors
    /// Anything that is wrong beyond that.
    pub async fn try_open(root: &Path) -> Result<Option<Self>, ClientError> {
        let client = match Self::open(root) {
            Ok(client) => client,
            Err(e) if e.not_running() => return Ok(None),
            Err(e) => return Err(e),
        };
        match client.connect().await {
            Ok(_) => Ok(Some(client)),
            Err(e) if e.not_running() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// `GET path`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        read(self.send(Method::GET, path, Vec::new()).await?).await
    }

    /// `POST path` with a JSON body.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| ClientError::Answer(e.to_string()))?;
        read(self.send(Method::POST, path, body).await?).await
    }

    /// Hands each event of a run to `each` until the stream ends or `each` says `false`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn watch(
        &self,
        run: &str,
        mut each: impl FnMut(EventView) -> bool,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/runs/{run}/watch");
        let mut response = self.send(Method::GET, &path, Vec::new()).await?;
        let mut pending = Vec::new();
        while let Some(frame) = response.frame().await {
            let frame = frame.map_err(|e| ClientError::Broken(e.to_string()))?;
            pending.extend_from_slice(&frame.into_data().unwrap_or_default());
            while let Some(end) = pending.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let event = serde_json::from_slice(&line)
                    .map_err(|e| ClientError::Answer(e.to_string()))?;
                if !each(event) {
                    return Ok(());
                }
            }
            if pending.len() > MAX_LINE_BYTES {
                return Err(ClientError::Answer("a line without end".to_owned()));
            }
        }
        Ok(())
    }

    async fn connect(&self) -> Result<TcpStream, ClientError> {
        let addr = self.control.addr;
        let gone = |why: String| ClientError::Gone {
            addr,
            why,
            home: self.root.display().to_string(),
        };
        match tokio::time::timeout(CONNECT, TcpStream::connect(addr)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(e)) => Err(gone(e.to_string())),
            Err(_) => Err(gone("no answer in 5 s".to_owned())),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, ClientError> {
        let broken = |e: hyper::Error| ClientError::Broken(e.to_string());
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
            .map_err(|e| ClientError::Broken(e.to_string()))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            // Another process got the port of a daemon that was killed.
            return Err(ClientError::Gone {
                addr: self.control.addr,
                why: "something else listens there".to_owned(),
                home: self.root.display().to_string(),
            });
        }
        let body: serde_json::Value = read(response).await.unwrap_or_default();
        let why = match body["error"].as_str() {
            Some(why) => why.to_owned(),
            None => format!("the daemon answered {status}"),
        };
        Err(ClientError::Refused { status, why })
    }
}

async fn read<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, ClientError> {
    let body = response.into_body().collect().await;
    let bytes = (body.map_err(|e| ClientError::Broken(e.to_string()))?).to_bytes();
    serde_json::from_slice(&bytes).map_err(|e| ClientError::Answer(e.to_string()))
}
