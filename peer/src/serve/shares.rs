//! `GET /v1/answers/{id}/shares`: whose data shaped an answer that was given here.
//!
//! ```text
//!   answer (whole) ─▶ kept: token ids, by answer ─▶ route ─▶ desk: one at a time, when the engine rests ─▶ why
//! ```
//!
//! Shares cost more than the answer, so they are made on request only. They are those of `tributary why` on the exact
//! tokens: of the certified adapter in f32, whatever the precision that the answer was given in. The home that certified
//! the adapter computes them, its daemon where one runs; nobody else is shown the answer. Tokens are kept in memory and
//! written nowhere.

mod kept;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tributary_attribution::query::layout::Why;
use tributary_engine::request::Consumer;
use tributary_trainer::data::MAX_CONTEXT;

use kept::Kept;
pub(super) use kept::{Answer, Of};

use super::adapters::Fetch;
use super::refusal::{ErrorBody, json};
use super::said::Said;
use super::types::Shares;
use super::{Refusal, Shop};
use crate::api::Reader;
use crate::api::local::Local;
use crate::problem::{Code, Problem};
use crate::why::{Question, Tokens};

/// Bytes of answers that are remembered: some ten thousand of usual length.
const MOST_KEPT_BYTES: usize = 16 << 20;
/// Requests for shares that wait or are worked on; each holds the tokens of an answer.
const MOST_WAITING: usize = 16;
/// How many of these are one consumer's, so that others find a place.
const MOST_EACH: usize = 4;
/// When to come again, in seconds: about as long as shares of a long answer take.
const COME_AGAIN_S: u64 = 5;
/// How long the engine's work is waited for. On a server that never rests shares have to be made beside it.
const UNTIL_REST: Duration = Duration::from_secs(20);
/// From the request to the shares: as long as a client of OpenAI waits by default.
const MOST_TIME: Duration = Duration::from_secs(600);
/// What ids of answers begin with, by their route.
const PREFIXES: [&str; 3] = ["chatcmpl-", "cmpl-", "resp_"];

/// Where shares are asked for.
pub(super) struct Desk {
    /// Whose home has the runs.
    fetch: Fetch,
    kept: Mutex<Kept>,
    places: Arc<Semaphore>,
    /// Requests of each consumer that wait or are worked on.
    waiting: Arc<Mutex<BTreeMap<Consumer, usize>>>,
    turn: Arc<Semaphore>,
    /// Whether the engine works.
    is_busy: watch::Receiver<bool>,
    until_rest: Duration,
}

/// A request's place among those that wait; free again when it is dropped.
struct Place {
    _place: OwnedSemaphorePermit,
    waiting: Arc<Mutex<BTreeMap<Consumer, usize>>>,
    consumer: Consumer,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock();
        let count = waiting.get_mut(&self.consumer).expect("it was counted");
        *count -= 1;
        if *count == 0 {
            waiting.remove(&self.consumer);
        }
    }
}

impl Desk {
    pub(super) fn new(fetch: Fetch, is_busy: watch::Receiver<bool>) -> Self {
        Self {
            fetch,
            kept: Mutex::new(Kept::new(MOST_KEPT_BYTES)),
            places: Arc::new(Semaphore::new(MOST_WAITING)),
            waiting: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
            is_busy,
            until_rest: UNTIL_REST,
        }
    }

    /// Remembers a whole answer by the part of its id that was drawn.
    pub(super) fn keep(&self, id: String, answer: Answer) {
        self.kept.lock().keep(id, answer);
    }

    fn place(&self, consumer: Consumer) -> Result<Place, Refusal> {
        let busy = || {
            let message = format!(
                "too many requests for shares wait, which are made one at a time; ask again in {COME_AGAIN_S} s"
            );
            Refusal::busy("shares_busy", message, COME_AGAIN_S)
        };
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| busy())?;
        let mut waiting = self.waiting.lock();
        let count = waiting.entry(consumer).or_default();
        if *count >= MOST_EACH {
            return Err(busy());
        }
        *count += 1;
        Ok(Place {
            _place: place,
            waiting: self.waiting.clone(),
            consumer,
        })
    }

    /// What the home says. Nothing is computed for a client that left while it waited; what was begun is finished.
    async fn ask(&self, question: Question, place: Place) -> Result<Why, Refusal> {
        let late = |_| {
            let seconds = MOST_TIME.as_secs();
            let message = format!(
                "the shares were not ready within {seconds} s; ask again later: what the run's rounds moved is kept, \
                 so that it takes less then"
            );
            Refusal::new(StatusCode::GATEWAY_TIMEOUT, "shares_late", message)
        };
        let asked = async {
            let turn = self.turn.clone().acquire_owned().await;
            let turn = turn.expect("nobody closes it");
            let mut is_busy = self.is_busy.clone();
            // A server that never rests, or has no engine any more, makes them all the same.
            let _ = tokio::time::timeout(self.until_rest, is_busy.wait_for(|busy| !busy)).await;
            let fetch = self.fetch.clone();
            let work = move || {
                let _held = (turn, place);
                Handle::current().block_on(why(&fetch, question))
            };
            tokio::task::spawn_blocking(work).await
        };
        let asked = tokio::time::timeout(MOST_TIME, asked).await.map_err(late)?;
        let failed = |_| Refusal::internal("the server failed on these shares; please report it");
        asked.map_err(failed)?.map_err(|problem| refused(&problem))
    }
}

async fn why(fetch: &Fetch, question: Question) -> Result<Why, Problem> {
    match fetch {
        Fetch::Home(home) => Local::of(home).await?.why(question).await,
        Fetch::Daemon(handler) => handler.why(question).await,
        Fetch::Nobody => Err(Problem::new(Code::UnknownId, "this server has no home")),
    }
}

fn conflict(code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::CONFLICT, code, message)
}

fn uncertified() -> Refusal {
    let message = "the answer's adapter is not the last one that a run in this server's home certified, so nothing is \
                   known of who made it; ask a model that is the id of a certified adapter or of its run";
    conflict("adapter_not_certified", message)
}

/// Why the home gives no shares, without what is its owner's business alone.
fn refused(problem: &Problem) -> Refusal {
    match problem.code {
        Code::UnknownId | Code::AmbiguousId => uncertified(),
        Code::NoUpdates => {
            let message = "some updates of the run are not in this server's home, so nobody's part in them is known; ask \
                           again later, or ask a server on the home of a member";
            conflict("updates_missing", message)
        }
        Code::CheckFailed => {
            let message = "the run of the answer's adapter cannot be recomputed here, so that nobody's part is known; the \
                           server's owner finds out more with `tributary ledger verify`";
            conflict("run_not_recomputable", message)
        }
        _ => {
            tracing::warn!("shares of an answer cannot be made: {problem}");
            let message = "the shares cannot be made now; ask again later, or ask this server's owner, whose log says why";
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "shares_unavailable",
                message,
            )
        }
    }
}

/// Answer number `choice` of those that one request was given, as the question to ask a home.
fn question(answer: &Answer, choice: usize) -> Result<Question, Refusal> {
    let (adapter, prompts, answers) = match &answer.of {
        Of::Certified {
            adapter,
            prompts,
            answers,
        } => (adapter, prompts, answers),
        Of::Base => {
            let message =
                "the base gave this answer without an adapter, so no contributor has a part in it";
            return Err(conflict("answer_of_base", message));
        }
        Of::Uncertified => return Err(uncertified()),
    };
    let count = answers.len();
    let said = answers.get(choice).ok_or_else(|| {
        let message =
            format!("the request has {count} answers, counted from 0; `choice` is {choice}");
        Refusal::value("choice", message)
    })?;
    if said.is_empty() {
        let message = "the answer has no tokens, so nobody shaped it";
        return Err(conflict("answer_empty", message));
    }
    let prompt = &prompts[choice / (count / prompts.len())];
    let found = prompt.len() + said.len();
    if found > MAX_CONTEXT {
        let message = format!(
            "prompt and answer have {found} tokens together, and shares are made of {MAX_CONTEXT} at most; ask for less"
        );
        return Err(conflict("answer_too_long", message));
    }
    Ok(Question {
        id: adapter.clone(),
        prompt: String::new(),
        answer: None,
        max_tokens: 0,
        tokens: Some(Tokens {
            prompt: prompt.clone(),
            answer: said.clone(),
        }),
    })
}

/// The number in `choice=NUMBER`, the only query there is; the first answer without.
fn choice(query: Option<&str>) -> Result<usize, Refusal> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(0);
    };
    let number = query.strip_prefix("choice=");
    let number = number.and_then(|number| number.parse().ok());
    number.ok_or_else(|| {
        let message =
            "the only query is `choice=NUMBER`, the index of one of the request's answers";
        Refusal::value("choice", message)
    })
}

/// The answer of that id, if this client was given it.
pub(super) fn remembered(
    shop: &Shop,
    consumer: Consumer,
    id: &str,
) -> Result<Arc<Answer>, Refusal> {
    let drawn = PREFIXES.iter().find_map(|prefix| id.strip_prefix(prefix));
    let answer = drawn.and_then(|drawn| shop.desk.kept.lock().get(drawn, consumer));
    answer.ok_or_else(|| {
        let message = "no answer of this id is remembered that was given to this client; the newest are, until the \
                       server ends";
        Refusal::new(StatusCode::NOT_FOUND, "answer_unknown", message)
    })
}

/// What was asked and answered, of a request for one answer of a certified adapter.
pub(super) fn said(answer: &Answer) -> Result<Said, Refusal> {
    let asked = question(answer, 0)?;
    let (Some(tokens), Of::Certified { answers, .. }) = (asked.tokens, &answer.of) else {
        return Err(uncertified());
    };
    match answers.len() {
        1 => Ok(Said::new(&answer.body, &tokens.answer)),
        count => {
            let message = format!(
                "the request has {count} answers, and shares of one are agreed to; ask for one answer"
            );
            Err(conflict("answer_not_alone", message))
        }
    }
}

/// Whose data shaped an answer that this server gave. Only the client that was given it may ask, while it is
/// remembered.
#[utoipa::path(
    get,
    path = "/v1/answers/{id}/shares",
    tag = "answers",
    params(
        ("id" = String, Path, description = "Of the answer: `chatcmpl-...`, `cmpl-...` or `resp_...`"),
        ("choice" = Option<usize>, Query, description = "Which answer of the request; default: the first, 0"),
    ),
    responses((status = 200, body = Shares, description = "OK"), (status = "default", body = ErrorBody, description = "Why not")),
)]
pub(super) async fn shares(
    shop: &Shop,
    consumer: Consumer,
    id: &str,
    query: Option<&str>,
) -> Result<Response<Body>, Refusal> {
    let choice = choice(query)?;
    let desk = &shop.desk;
    let answer = remembered(shop, consumer, id)?;
    let question = question(&answer, choice)?;
    let tokens = question.tokens.as_ref().map_or(0, |t| t.answer.len());
    let place = desk.place(consumer)?;
    let why = desk.ask(question, place).await?;
    let shares = Shares::new(id, choice, answer.model.clone(), tokens, why);
    Ok(json(StatusCode::OK, &shares))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn desk() -> (watch::Sender<bool>, Desk) {
        let (send, is_busy) = watch::channel(false);
        (send, Desk::new(Fetch::Nobody, is_busy))
    }

    fn consumer(n: u8) -> Consumer {
        Consumer([n; 32])
    }

    fn answer(prompts: usize, answers: Vec<Vec<u32>>) -> Answer {
        let prompts = (0..prompts as u32).map(|n| vec![n; 3]).collect();
        let of = Of::Certified {
            adapter: "ab".into(),
            prompts,
            answers,
        };
        Answer {
            consumer: consumer(1),
            model: "poet".into(),
            body: "{}".into(),
            of,
        }
    }

    #[test]
    fn one_consumer_cannot_take_every_place_and_all_together_no_more_than_there_are() {
        let (_send, desk) = desk();
        let own: Vec<Place> = (0..MOST_EACH)
            .map(|_| desk.place(consumer(1)).unwrap())
            .collect();
        let refused = desk.place(consumer(1)).err().unwrap();
        assert_eq!(
            (refused.code, refused.retry_after_s),
            ("shares_busy", Some(COME_AGAIN_S))
        );
        let others: Vec<Place> = (0..MOST_WAITING - MOST_EACH)
            .map(|n| desk.place(consumer(2 + n as u8)).unwrap())
            .collect();
        assert_eq!(desk.place(consumer(99)).err().unwrap().code, "shares_busy");
        drop(others);
        assert!(desk.place(consumer(99)).is_ok());
        drop(own);
        assert!(desk.place(consumer(1)).is_ok());
        assert!(desk.waiting.lock().is_empty());
    }

    #[test]
    fn answers_are_chosen_with_their_prompts() {
        let four = answer(2, vec![vec![10], vec![11], vec![12], vec![]]);
        let tokens = |choice| question(&four, choice).map(|q| q.tokens.unwrap());
        assert_eq!(tokens(1).unwrap().prompt, [0, 0, 0]);
        let third = tokens(2).unwrap();
        assert_eq!((third.prompt, third.answer), (vec![1, 1, 1], vec![12]));
        assert_eq!(tokens(3).unwrap_err().code, "answer_empty");
        assert_eq!(tokens(4).unwrap_err().code, "invalid_value");
        let long = answer(1, vec![vec![1; MAX_CONTEXT - 2]]);
        assert_eq!(question(&long, 0).err().unwrap().code, "answer_too_long");
        for (query, chosen) in [
            (None, Some(0)),
            (Some("choice=2"), Some(2)),
            (Some("n=2"), None),
        ] {
            assert_eq!(choice(query).ok(), chosen);
        }
    }

    #[tokio::test]
    async fn shares_wait_for_the_engine_but_not_for_ever() {
        let (send, mut desk) = desk();
        desk.until_rest = Duration::from_secs(2);
        send.send_replace(true);
        let asked = question(&answer(1, vec![vec![7]]), 0).unwrap();
        let began = Instant::now();
        let place = desk.place(consumer(1)).unwrap();
        let refused = desk.ask(asked.clone(), place).await.unwrap_err();
        assert_eq!(refused.code, "adapter_not_certified");
        assert!(began.elapsed() >= desk.until_rest);
        send.send_replace(false);
        let began = Instant::now();
        let place = desk.place(consumer(1)).unwrap();
        assert!(desk.ask(asked, place).await.is_err());
        assert!(began.elapsed() < desk.until_rest);
    }
}
