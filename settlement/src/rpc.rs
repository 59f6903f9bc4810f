//! Questions to a node by JSON-RPC: one at a time or many at once, each bounded in time and in bytes.
//!
//! alloy matches answers to questions by their numbers. Its own transport reads answers of any length, so the one below
//! reads them up to a bound. Addresses of nodes often hold a password of the person who pays for them: errors name the host alone.

use std::task::{Context, Poll};
use std::time::Duration;

use alloy::primitives::hex;
use alloy::rpc::client::RpcClient;
use alloy::rpc::json_rpc::{ErrorPayload, RequestPacket, ResponsePacket, RpcError};
use alloy::transports::{TransportError, TransportErrorKind, TransportFut};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower_service::Service;
use tributary_attribution::settlement::Refused;

use crate::limits::{MAX_ANSWER_BYTES, MAX_BATCH, SHOWN_CHARS};

/// Why a node's answer is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcFailure {
    /// The address of the node cannot be read.
    #[error("the node's address is no http or https URL ({0}); write it as https://HOST/PATH")]
    Address(String),
    /// Nothing can be asked safely.
    #[error(
        "this system lets nobody be asked over TLS ({0}); install its root certificates (ca-certificates)"
    )]
    Tls(String),
    /// There is no connection.
    #[error(
        "the node at {host} cannot be reached: {why}; check its address and the network, and try again"
    )]
    Unreachable {
        /// Where it should be.
        host: String,
        /// What the network says.
        why: String,
    },
    /// It takes too long.
    #[error(
        "the node at {host} did not answer {method} within {limit_ms} ms; try again, or use another node"
    )]
    Stalled {
        /// Where it is.
        host: String,
        /// What was asked.
        method: String,
        /// How long it was given, milliseconds.
        limit_ms: u128,
    },
    /// It answers something else.
    #[error(
        "the node at {host} answered {method} with what is no answer to it ({why}); check its address, or use another node"
    )]
    Nonsense {
        /// Where it is.
        host: String,
        /// What was asked.
        method: String,
        /// What is wrong with it.
        why: String,
    },
    /// It says no.
    #[error("the node at {host} refused {method}: {message}")]
    Refused {
        /// Where it is.
        host: String,
        /// What was asked.
        method: String,
        /// The node's words, clipped.
        message: String,
    },
    /// A contract did nothing.
    #[error(transparent)]
    Contract(#[from] Refused),
}

/// A node, reached over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Rpc {
    client: RpcClient,
    host: String,
    timeout: Duration,
}

/// One question: method and parameters.
pub(crate) type Question = (&'static str, Value);

impl Rpc {
    /// Opens no connection yet.
    pub(crate) fn new(url: &str, timeout: Duration) -> Result<Self, RpcFailure> {
        let address = |why: String| RpcFailure::Address(clip(&why));
        let url: Url = url
            .parse()
            .map_err(|_| address("it does not parse".into()))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(address(format!("its scheme is {}", url.scheme())));
        }
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_string(),
            (None, _) => return Err(address("it names no host".into())),
        };
        // Whoever came first has installed one; both do the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none());
        let client = client
            .build()
            .map_err(|error| RpcFailure::Tls(clip(&innermost(&error))))?;
        let bounded = Bounded { client, url };
        // "Local" only sets how often alloy's pollers look, and none is used.
        Ok(Self {
            client: RpcClient::new(bounded, false),
            host,
            timeout,
        })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Asks one question.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, RpcFailure> {
        let asked = self.client.request::<Value, Value>(method, params);
        let answer = self.in_time(method, asked).await?;
        self.read(method, answer)
    }

    /// Asks many; every question gets its own answer, in their order.
    pub(crate) async fn ask_all(
        &self,
        questions: &[Question],
    ) -> Result<Vec<Result<Value, RpcFailure>>, RpcFailure> {
        let mut answers = Vec::with_capacity(questions.len());
        for part in questions.chunks(MAX_BATCH) {
            answers.extend(self.batch(part).await?);
        }
        Ok(answers)
    }

    async fn batch(
        &self,
        questions: &[Question],
    ) -> Result<Vec<Result<Value, RpcFailure>>, RpcFailure> {
        let Some((first, _)) = questions.first() else {
            return Ok(Vec::new());
        };
        let mut batch = self.client.new_batch();
        let mut waiters = Vec::with_capacity(questions.len());
        for (method, params) in questions {
            let waiter = batch.add_call::<Value, Value>(*method, params);
            waiters.push((
                *method,
                waiter.map_err(|error| self.failure(method, error))?,
            ));
        }
        self.in_time(first, batch.send()).await?;
        let mut answers = Vec::with_capacity(questions.len());
        for (method, waiter) in waiters {
            answers.push(waiter.await.map_err(|error| self.failure(method, error)));
        }
        Ok(answers)
    }

    /// Reads an answer as what it should be.
    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        method: &str,
        answer: Value,
    ) -> Result<T, RpcFailure> {
        serde_json::from_value(answer).map_err(|error| self.nonsense(method, &error.to_string()))
    }

    pub(crate) fn nonsense(&self, method: &str, why: &str) -> RpcFailure {
        RpcFailure::Nonsense {
            host: self.host.clone(),
            method: method.to_string(),
            why: clip(why),
        }
    }

    async fn in_time<T>(
        &self,
        method: &str,
        asked: impl IntoFuture<Output = Result<T, TransportError>>,
    ) -> Result<T, RpcFailure> {
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(answer) => answer.map_err(|error| self.failure(method, error)),
            Err(_) => Err(self.stalled(method)),
        }
    }

    fn stalled(&self, method: &str) -> RpcFailure {
        RpcFailure::Stalled {
            host: self.host.clone(),
            method: method.to_string(),
            limit_ms: self.timeout.as_millis(),
        }
    }

    fn failure(&self, method: &str, error: TransportError) -> RpcFailure {
        let host = self.host.clone();
        match error {
            RpcError::ErrorResp(error) => match revert(&error) {
                Some(refused) => RpcFailure::Contract(refused),
                None => RpcFailure::Refused {
                    host,
                    method: method.to_string(),
                    message: clip(&error.message),
                },
            },
            RpcError::Transport(TransportErrorKind::Custom(error)) => {
                match error.downcast::<reqwest::Error>() {
                    Ok(error) if error.is_timeout() => self.stalled(method),
                    Ok(error) => RpcFailure::Unreachable {
                        host,
                        why: clip(&innermost(&error.without_url())),
                    },
                    Err(error) => self.nonsense(method, &error.to_string()),
                }
            }
            RpcError::DeserError { err, .. } => self.nonsense(method, &err.to_string()),
            other => self.nonsense(method, &other.to_string()),
        }
    }
}

/// What a call that reverted answered. Nodes put it into the error's data, as text or within an object.
fn revert(error: &ErrorPayload) -> Option<Refused> {
    if let Some(data) = error.as_revert_data() {
        return Some(Refused::decode(&data));
    }
    // Code 3 is geth's for a revert; others have only words for one without a reason.
    let is_revert = error.code == 3 || error.message.to_lowercase().contains("revert");
    let data = error.data.as_ref();
    let text = data.and_then(|data| serde_json::from_str::<String>(data.get()).ok());
    // Some say "Reverted 0x...".
    let digits = text
        .as_deref()
        .map(|text| text.trim_start_matches("Reverted ").trim());
    let bytes = digits.and_then(|digits| hex::decode(digits).ok());
    is_revert.then(|| Refused::decode(&bytes.unwrap_or_default()))
}

/// The last cause that an error names: "connection refused" rather than "error sending request".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// The first characters of a stranger's text, in one line.
pub(crate) fn clip(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(SHOWN_CHARS).collect()
}

/// A transport that stops reading where an answer grows too long.
#[derive(Clone, Debug)]
struct Bounded {
    client: Client,
    url: Url,
}

/// An answer that is none of JSON-RPC.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("it is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    #[error("HTTP status {0}")]
    Status(StatusCode),
}

impl Bounded {
    async fn exchange(self, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let body = serde_json::to_vec(&packet).map_err(TransportError::ser_err)?;
        let asked = self.client.post(self.url).body(body);
        let asked = asked.header(CONTENT_TYPE, "application/json");
        let mut response = asked.send().await.map_err(TransportErrorKind::custom)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(TransportErrorKind::custom)? {
            if body.len() + piece.len() > MAX_ANSWER_BYTES {
                return Err(TransportErrorKind::custom(Unread::TooLong));
            }
            body.extend_from_slice(&piece);
        }
        let read = serde_json::from_slice(&body);
        // Some nodes refuse a question with a status of its own and an answer that says why.
        if !status.is_success() && read.is_err() {
            return Err(TransportErrorKind::custom(Unread::Status(status)));
        }
        read.map_err(|error| TransportError::deser_err(error, ""))
    }
}

impl Service<RequestPacket> for Bounded {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        Box::pin(self.clone().exchange(packet))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tributary_attribution::settlement::Keccak;

    use super::*;

    fn read(error: Value) -> Option<Refused> {
        revert(&serde_json::from_value(error).expect("an error"))
    }

    #[test]
    fn a_revert_is_read_however_a_node_says_it() {
        let Keccak(selector) = Keccak::of(&[b"TooEarly(uint256)"]);
        let due = format!("{}{:064x}", hex::encode_prefixed(&selector[..4]), 7);
        let expected = Some(Refused::TooEarly { due_s: 7 });
        for error in [
            json!({"code": 3, "message": "execution reverted", "data": due}),
            json!({"code": -32000, "message": "execution reverted", "data": due}),
            json!({"code": -32603, "message": "Internal error: reverted", "data": {"data": due}}),
            json!({"code": -32015, "message": "VM execution error: revert", "data": format!("Reverted {due}")}),
        ] {
            assert_eq!(read(error.clone()), expected, "{error}");
        }
        let bare = json!({"code": -32000, "message": "execution reverted"});
        assert_eq!(read(bare), Some(Refused::Silent));
    }

    #[test]
    fn other_errors_are_no_refusals_of_a_contract() {
        for error in [
            json!({"code": -32000, "message": "insufficient funds for gas"}),
            json!({"code": -32005, "message": "too many requests", "data": {"limit": 10}}),
            json!({"code": -32603, "message": "EVM error InvalidFEOpcode"}),
        ] {
            assert_eq!(read(error.clone()), None, "{error}");
        }
    }

    #[test]
    fn a_strangers_text_is_clipped_to_one_line() {
        let clipped = clip(&"a\u{1b}[2J\nb".repeat(1000));
        assert_eq!(clipped.chars().count(), SHOWN_CHARS);
        assert!(!clipped.chars().any(char::is_control));
    }
}
