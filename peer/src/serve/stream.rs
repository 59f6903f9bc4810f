//! An answer at once or as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use futures::stream;
use serde::Serialize;
use tokio::sync::mpsc::Receiver;

use super::Refusal;
use super::answer::{Piece, Placed, Reason, Total};
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
