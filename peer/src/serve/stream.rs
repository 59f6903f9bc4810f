//! An answer at once or as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use futures::stream;
use serde::Serialize;
use tokio::sync::mpsc::Receiver;

use super::Refusal;
use super::answer::{Call, Piece, Placed, Reason, Total};
use super::refusal::json;

/// How often a stream says that it is alive while nothing is ready.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How a route writes its answer.
pub(super) trait Form: Send + 'static {
    /// What is answered at once.
    type Whole: Serialize;

    /// All answers.
    fn whole(&self, answers: Vec<Whole>, total: &Total) -> Self::Whole;
    /// Events before the first piece.
    fn opening(&mut self) -> String;
    /// Events of one piece.
    fn text(&mut self, answer: usize, text: String, tokens: &[Placed]) -> String;
    /// Events of a call. Routes that take no tools have none.
    fn call(&mut self, _answer: usize, _call: Call) -> String {
        String::new()
    }
    /// Events at the end of an answer.
    fn ended(&mut self, answer: usize, reason: Reason) -> String;
    /// Events at the end of all.
    fn done(&mut self, total: &Total) -> String;
    /// Events of a failure.
    fn failed(&mut self, refusal: &Refusal) -> String {
        event(None, &refusal.body())
    }
    /// What ends the stream.
    fn end(&self) -> &'static str {
        "data: [DONE]\n\n"
    }
}

/// One whole answer.
#[derive(Debug, Default)]
pub(super) struct Whole {
    pub(super) text: String,
    pub(super) tokens: Vec<Placed>,
    pub(super) calls: Vec<Call>,
    pub(super) reason: Option<Reason>,
}

/// Waits for everything.
pub(super) async fn at_once(
    mut pieces: Receiver<Piece>,
    answers: usize,
    form: &impl Form,
) -> Result<Response<Body>, Refusal> {
    let mut whole: Vec<Whole> = Vec::new();
    whole.resize_with(answers, Whole::default);
    let mut failed = None;
    while let Some(piece) = pieces.recv().await {
        match piece {
            Piece::Text(answer, text, tokens) => {
                whole[answer].text.push_str(&text);
                whole[answer].tokens.extend(tokens);
            }
            Piece::Call(answer, call) => whole[answer].calls.push(call),
            Piece::Ended(answer, reason) => whole[answer].reason = Some(reason),
            Piece::Failed(refusal) => failed = failed.or(Some(refusal)),
            Piece::Done(total) => {
                if let Some(mut refusal) = failed {
                    refusal.headers.extend(total.receipt.headers);
                    return Err(refusal);
                }
                let mut response = json(StatusCode::OK, &form.whole(whole, &total));
                for (name, value) in total.receipt.headers {
                    response.headers_mut().append(name, value);
                }
                return Ok(response);
            }
        }
    }
    Err(failed
        .unwrap_or_else(|| Refusal::internal("the server stopped while it answered; ask again")))
}

/// Passes pieces on as they come.
pub(super) fn in_pieces(pieces: Receiver<Piece>, mut form: impl Form) -> Response<Body> {
    let opening = form.opening();
    let state = (Some(pieces), form, Some(opening));
    let frames = stream::unfold(state, |(pieces, mut form, opening)| async move {
        let mut pieces = pieces?;
        if let Some(opening) = opening.filter(|opening| !opening.is_empty()) {
            return Some((Ok::<_, Infallible>(opening), (Some(pieces), form, None)));
        }
        let frame = match tokio::time::timeout(KEEP_ALIVE, pieces.recv()).await {
            Err(_) => ": waiting\n\n".to_owned(),
            Ok(Some(Piece::Text(answer, text, tokens))) => form.text(answer, text, &tokens),
            Ok(Some(Piece::Call(answer, call))) => form.call(answer, call),
            Ok(Some(Piece::Ended(answer, reason))) => form.ended(answer, reason),
            Ok(Some(Piece::Failed(refusal))) => form.failed(&refusal),
            Ok(Some(Piece::Done(total))) => {
                let mut last = form.done(&total);
                if let Some((name, data)) = &total.receipt.event {
                    last.push_str(&event(Some(name), data));
                }
                last.push_str(form.end());
                return Some((Ok(last), (None, form, None)));
            }
            Ok(None) => {
                let why = Refusal::internal("the server stopped while it answered; ask again");
                let last = form.failed(&why);
                return Some((Ok(last), (None, form, None)));
            }
        };
        Some((Ok(frame), (Some(pieces), form, None)))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// One event.
pub(super) fn event(name: Option<&str>, data: &impl Serialize) -> String {
    let data = serde_json::to_string(data).expect("texts, numbers and lists always serialise");
    match name {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use tokio::sync::mpsc;

    use super::*;

    /// Writes text as it is.
    struct Plain;

    impl Form for Plain {
        type Whole = String;

        fn whole(&self, answers: Vec<Whole>, total: &Total) -> String {
            let texts: Vec<String> = answers.into_iter().map(|answer| answer.text).collect();
            format!("{} in {}", texts.join("|"), total.answer)
        }

        fn opening(&mut self) -> String {
            event(None, &"begin")
        }

        fn text(&mut self, answer: usize, text: String, _tokens: &[Placed]) -> String {
            event(None, &format!("{answer}{text}"))
        }

        fn ended(&mut self, _answer: usize, reason: Reason) -> String {
            event(None, &reason.name())
        }

        fn done(&mut self, total: &Total) -> String {
            event(None, &total.answer)
        }
    }

    fn pieces(all: Vec<Piece>) -> Receiver<Piece> {
        let (send, pieces) = mpsc::channel(16);
        for piece in all {
            send.try_send(piece).unwrap();
        }
        pieces
    }

    fn text(answer: usize, text: &str) -> Piece {
        Piece::Text(answer, text.into(), Vec::new())
    }

    fn total() -> Piece {
        Piece::Done(Total {
            answer: 3,
            ..Total::default()
        })
    }

    async fn body(response: Response<Body>) -> String {
        let bytes = to_bytes(response.into_body(), 1 << 16).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn pieces_come_as_events_and_end_with_done() {
        let all = vec![text(0, "a"), Piece::Ended(0, Reason::Length), total()];
        let events = body(in_pieces(pieces(all), Plain)).await;
        let expected = ["\"begin\"", "\"0a\"", "\"length\"", "3", "[DONE]"];
        let expected: String = expected
            .iter()
            .map(|data| format!("data: {data}\n\n"))
            .collect();
        assert_eq!(events, expected);
    }

    #[tokio::test]
    async fn a_failure_of_a_running_stream_is_an_event() {
        let failure = Refusal::internal("the answer failed");
        let all = vec![text(0, "a"), Piece::Failed(failure), total()];
        let events = body(in_pieces(pieces(all), Plain)).await;
        assert!(
            events.contains("data: {\"error\":{\"message\":\"the answer failed\""),
            "{events}"
        );
        assert!(events.ends_with("data: [DONE]\n\n"), "{events}");
        // The server itself broke off.
        let events = body(in_pieces(pieces(vec![text(0, "a")]), Plain)).await;
        assert!(events.contains("\"code\":\"server_error\""), "{events}");
    }

    #[tokio::test]
    async fn answers_at_once_are_whole_or_a_refusal() {
        let all = vec![text(1, "c"), text(0, "a"), text(0, "b"), total()];
        let response = at_once(pieces(all), 2, &Plain).await.unwrap();
        assert_eq!(body(response).await, "\"ab|c in 3\"");
        let failure = Refusal::busy("queue_full", "later", 1);
        let refused = at_once(
            pieces(vec![text(0, "a"), Piece::Failed(failure), total()]),
            1,
            &Plain,
        );
        assert_eq!(refused.await.unwrap_err().code, "queue_full");
        let cut = at_once(pieces(vec![text(0, "a")]), 1, &Plain).await;
        assert_eq!(cut.unwrap_err().code, "server_error");
    }
}
