//! A server's answer on its way to the client: counted, paid for, and held back until its first token.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use futures::{Stream, StreamExt, stream};
use serde_json::Value;
use tokio::sync::mpsc;
use tributary_engine::tokenizer::Tokenizer;
use tributary_protocol::id::MicroOpen;

use super::super::Refusal;
use super::super::stream::event;
use super::super::x402::{self, Settled};
use super::agree::Heard;
use super::ask::{Failed, Promise};
use super::count::{Want, text, tokens};
use super::purse::Ended;

/// Largest whole answer, in bytes.
const MOST_ANSWER_BYTES: usize = 32 << 20;
/// Largest event of a stream, and most that is held back before the first token, in bytes.
const MOST_EVENT_BYTES: usize = 1 << 20;
/// Largest message of a server that is told on, in characters.
const MOST_MESSAGE: usize = 300;
/// How long a stream may say nothing; servers say every 15 s that they are alive.
const SILENCE: Duration = Duration::from_secs(45);
/// Events that wait for the client.
const MOST_BEHIND: usize = 64;

/// What the request cost, in micro-OPEN, as counted here.
const SPENT: &str = "x-tributary-spent";

/// What a server says that an answer cost.
pub(super) fn receipt(headers: &HeaderMap) -> Option<MicroOpen> {
    cost(&settled(headers)?)
}

fn settled(headers: &HeaderMap) -> Option<Settled> {
    x402::decoded(headers.get(x402::RESPONSE)?.as_bytes()).ok()
}

fn cost(settled: &Settled) -> Option<MicroOpen> {
    x402::micro("amount", &settled.amount).ok()
}

/// A whole body.
pub(super) async fn whole(response: reqwest::Response, most: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let mut parts = response.bytes_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| "the answer broke off")?;
        if body.len() + part.len() > most {
            return Err(format!("the answer has more than {most} bytes"));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// What a refusal says.
pub(super) async fn message(response: reqwest::Response) -> String {
    let body = whole(response, MOST_EVENT_BYTES).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = body["error"]["message"]
        .as_str()
        .unwrap_or("it does not say why");
    let plain = message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MOST_MESSAGE).collect()
}

/// Passes an answer on.
///
/// # Errors
/// When the server fails before the first token; the promise is ended then.
pub(super) async fn pass(
    response: reqwest::Response,
    promise: Option<Promise>,
    want: &Want,
    tokenizer: Option<Tokenizer>,
) -> Result<Response<Body>, Failed> {
    let kind = response.headers().get(header::CONTENT_TYPE).cloned();
    let is_stream = kind
        .as_ref()
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    if is_stream {
        return in_pieces(response, promise, want, tokenizer).await;
    }
    let settled = settled(response.headers());
    let body = match whole(response, MOST_ANSWER_BYTES).await {
        Ok(body) => body,
        Err(why) => return Err(broken(promise, &why)),
    };
    let value = serde_json::from_slice::<Value>(&body).ok();
    let said = value.as_ref().map(text);
    let shown = said
        .as_ref()
        .map_or(body.len(), |said| tokens(said, tokenizer.as_ref()));
    let id = value.as_ref().and_then(|value| value["id"].as_str());
    let heard = id.zip(said.as_deref()).map(|(id, text)| Heard { id, text });
    let mut passed = Response::new(Body::from(body));
    let headers = passed.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        kind.unwrap_or(HeaderValue::from_static("application/json")),
    );
    if let Some(promise) = promise {
        promise.agree(heard, settled.as_ref());
        let cost = paid(promise, want, shown, settled.as_ref().and_then(cost));
        headers.insert(
            SPENT,
            HeaderValue::from_str(&cost.0.to_string()).expect("digits are plain text"),
        );
    }
    Ok(passed)
}

/// Ends a promise whose answer came.
fn paid(promise: Promise, want: &Want, shown: usize, claimed: Option<MicroOpen>) -> MicroOpen {
    let counted = promise
        .prices
        .cost(want.prompt_tokens, want.most_made(shown));
    promise.end(Ended::Answered { claimed, counted })
}

/// Ends a promise whose answer broke off before the client had any of it.
fn broken(promise: Option<Promise>, why: &str) -> Failed {
    match promise {
        Some(promise) => {
            let cost = promise.end(Ended::Broken);
            Failed::fault(format!("{why}; at most {} micro-OPEN are lost", cost.0))
        }
        None => Failed::fault(why),
    }
}

/// What an event means to a gateway.
enum Meaning {
    /// What was charged.
    Receipt(Option<Box<Settled>>),
    /// The answer failed.
    Failure(String),
    /// Text of the answer.
    Text(String),
    /// The answer is whole.
    End,
    /// Anything else.
    Other,
}

fn meaning(raw: &str) -> Meaning {
    let field = |name: &str| {
        raw.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let data = field("data:").unwrap_or_default();
    if data == "[DONE]" {
        return Meaning::End;
    }
    let Ok(value) = serde_json::from_str::<Value>(data) else {
        return Meaning::Other;
    };
    if field("event:") == Some("payment") {
        return Meaning::Receipt(serde_json::from_value(value).ok().map(Box::new));
    }
    if value["error"].is_object() {
        let message = value["error"]["message"]
            .as_str()
            .unwrap_or("it does not say why");
        return Meaning::Failure(message.chars().take(MOST_MESSAGE).collect());
    }
    let text = text(&value);
    let ends = [
        "response.completed",
        "response.failed",
        "response.incomplete",
    ];
    match value["type"].as_str() {
        Some(kind) if ends.contains(&kind) => Meaning::End,
        _ if text.is_empty() => Meaning::Other,
        _ => Meaning::Text(text),
    }
}

/// The answer's id, if an event has one: a response's is within it.
fn id(raw: &str) -> Option<String> {
    let data = raw.lines().find_map(|line| line.strip_prefix("data:"))?;
    let value: Value = serde_json::from_str(data.trim()).ok()?;
    let id = value["id"].as_str().or(value["response"]["id"].as_str());
    id.map(str::to_owned)
}

/// A stream of events, and what was counted of it.
struct Pieces<S> {
    parts: S,
    /// Bytes that are no whole event yet.
    rest: Vec<u8>,
    /// Text of the answer so far.
    text: String,
    settled: Option<Box<Settled>>,
    /// The answer's id, once an event has it.
    id: Option<String>,
    is_whole: bool,
}

impl<S: Stream<Item = reqwest::Result<bytes::Bytes>> + Unpin> Pieces<S> {
    /// What the server says that the answer cost.
    fn claimed(&self) -> Option<MicroOpen> {
        cost(self.settled.as_deref()?)
    }

    /// The answer so far, once an event had its id.
    fn heard(&self) -> Option<Heard<'_>> {
        let text = &self.text;
        self.id.as_deref().map(|id| Heard { id, text })
    }

    /// The next event for the client, with what it means; None at the end, which is whole or not.
    async fn next(&mut self) -> Option<(String, Meaning)> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|window| window == b"\n\n") {
                let rest = self.rest.split_off(end + 2);
                let raw = std::mem::replace(&mut self.rest, rest);
                let raw = String::from_utf8_lossy(&raw).into_owned();
                match meaning(&raw) {
                    // The client of a stock library knows no such event.
                    Meaning::Receipt(settled) => self.settled = settled,
                    meaning => {
                        if self.id.is_none() {
                            self.id = id(&raw);
                        }
                        match &meaning {
                            Meaning::Text(text) => self.text.push_str(text),
                            Meaning::End => self.is_whole = true,
                            _ => {}
                        }
                        return Some((raw, meaning));
                    }
                }
                continue;
            }
            if self.rest.len() > MOST_EVENT_BYTES {
                return None;
            }
            match tokio::time::timeout(SILENCE, self.parts.next()).await {
                Ok(Some(Ok(part))) => self.rest.extend_from_slice(&part),
                _ => return None,
            }
        }
    }
}

/// Holds a stream back until its first token, then passes it on in a task of its own, which pays whatever the client does.
async fn in_pieces(
    response: reqwest::Response,
    promise: Option<Promise>,
    want: &Want,
    tokenizer: Option<Tokenizer>,
) -> Result<Response<Body>, Failed> {
    let mut pieces = Pieces {
        parts: response.bytes_stream(),
        rest: Vec::new(),
        text: String::new(),
        settled: None,
        id: None,
        is_whole: false,
    };
    let mut held = String::new();
    loop {
        match pieces.next().await {
            None => {
                return Err(broken(
                    promise,
                    "the answer broke off before its first token",
                ));
            }
            Some((_, Meaning::Failure(why))) => return Err(failed(promise, pieces, &why).await),
            Some((raw, meaning)) => {
                held.push_str(&raw);
                if matches!(meaning, Meaning::Text(_) | Meaning::End) {
                    break;
                }
            }
        }
        if held.len() > MOST_EVENT_BYTES {
            return Err(broken(promise, "it says much and answers nothing"));
        }
    }
    let (out, events) = mpsc::channel(MOST_BEHIND);
    let want = want.clone();
    tokio::spawn(async move {
        let mut next = Some(held);
        while let Some(raw) = next {
            // Nobody reads any more: the server is left, and may have charged everything.
            if out.send(raw).await.is_err() {
                return;
            }
            next = pieces.next().await.map(|(raw, _)| raw);
        }
        if !pieces.is_whole {
            let _ = out.send(lost(promise.as_ref())).await;
            return;
        }
        if let Some(promise) = promise {
            let shown = tokens(&pieces.text, tokenizer.as_ref());
            promise.agree(pieces.heard(), pieces.settled.as_deref());
            paid(promise, &want, shown, pieces.claimed());
        }
    });
    let frames = stream::unfold(events, |mut events| async move {
        let next = events.recv().await?;
        Some((Ok::<_, Infallible>(next), events))
    });
    let mut passed = Response::new(Body::from_stream(frames));
    let headers = passed.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(passed)
}

/// A stream that failed before its first token; what follows says what that cost.
async fn failed<S: Stream<Item = reqwest::Result<bytes::Bytes>> + Unpin>(
    promise: Option<Promise>,
    mut pieces: Pieces<S>,
    why: &str,
) -> Failed {
    while pieces.next().await.is_some() {}
    match (promise, pieces.claimed()) {
        (Some(promise), Some(MicroOpen(0))) => {
            promise.end(Ended::Refused);
            Failed::fault(why)
        }
        (promise, _) => broken(promise, why),
    }
}

/// What a client is told whose answer broke off.
fn lost(promise: Option<&Promise>) -> String {
    let risk = promise.map_or_else(String::new, |promise| {
        format!(
            " At most {} micro-OPEN of this request are lost, and {} of all vouchers to it.",
            promise.price.0,
            promise.at_risk()
        )
    });
    let url = promise.map_or("the server", |promise| promise.url.as_str());
    let message = format!(
        "{url} broke off while it answered.{risk} What came so far stands; ask again for the rest"
    );
    let refusal = Refusal::new(StatusCode::BAD_GATEWAY, "server_lost", message);
    format!("{}data: [DONE]\n\n", event(None, &refusal.body()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn pieces(
        text: &str,
        step: usize,
    ) -> Pieces<impl Stream<Item = reqwest::Result<Bytes>> + Unpin + use<>> {
        let parts: Vec<_> = text
            .as_bytes()
            .chunks(step)
            .map(|part| Ok(Bytes::copy_from_slice(part)))
            .collect();
        Pieces {
            parts: stream::iter(parts),
            rest: Vec::new(),
            text: String::new(),
            settled: None,
            id: None,
            is_whole: false,
        }
    }

    #[tokio::test]
    async fn a_stream_is_counted_however_it_is_cut_and_its_receipt_is_kept_from_the_client() {
        let receipt = r#"{"success":true,"payer":"0x","transaction":"","network":"n","amount":"7000000000000"}"#;
        let whole = format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"süß\"}}}}]}}\n\n: waiting\n\n\
             event: payment\ndata: {receipt}\n\ndata: [DONE]\n\n"
        );
        for step in 1..40 {
            let mut pieces = pieces(&whole, step);
            let mut passed = String::new();
            while let Some((raw, _)) = pieces.next().await {
                passed.push_str(&raw);
            }
            assert_eq!(
                (pieces.text.as_str(), pieces.claimed(), pieces.is_whole),
                ("süß", Some(MicroOpen(7)), true)
            );
            assert!(
                !passed.contains("payment") && passed.ends_with("data: [DONE]\n\n"),
                "{passed}"
            );
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_early_or_never_ends_an_event_is_not_whole() {
        let mut short = pieces("data: {\"choices\":[{\"text\":\"a\"}]}\n\n", 7);
        while short.next().await.is_some() {}
        assert!(!short.is_whole && short.text == "a");
        let mut endless = pieces(&"x".repeat(3 * MOST_EVENT_BYTES), 1 << 16);
        assert!(endless.next().await.is_none() && !endless.is_whole);
    }
}
