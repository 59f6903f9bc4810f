//! One request from the engine's tokens to pieces of text, and its end: however the client behaves, the engine's work
//! stops with it and the till is told what was made.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use tokio::sync::{mpsc, oneshot};
use tributary_engine::request::{Consumer, Token};
use tributary_engine::text::{Shown, Text};
use tributary_engine::{Event, Finish, Request, RequestId};

use super::ask::Ask;
use super::till::{Asked, Bill, Made, Receipt};
use super::worker::{MOST_BEHIND, Reader};
use super::{Refusal, Shop};

/// Longest time for one answer: most that a client of OpenAI waits by default.
const MOST_ANSWERING: Duration = Duration::from_secs(600);
/// How long a client may not take a piece that is ready.
const SLOW: Duration = Duration::from_secs(20);
/// Pieces that wait for a client.
const MOST_PIECES: usize = 64;

/// Why an answer ended, as the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The model ended it, or a stop string.
    Stop,
    /// As many tokens as were asked for.
    Length,
}

impl Reason {
    /// OpenAI's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// A token, and where its text begins in the answer, in characters.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) at: usize,
}

/// What comes of a request.
#[derive(Debug)]
pub(super) enum Piece {
    /// More text of an answer, and the tokens that now are shown whole.
    Text(usize, String, Vec<Placed>),
    /// An answer is whole.
    Ended(usize, Reason),
    /// The request failed; only `Done` follows.
    Failed(Refusal),
    /// Nothing follows.
    Done(Total),
}

/// What a request took, and what the till says.
#[derive(Debug, Default)]
pub(super) struct Total {
    /// Tokens of the prompts, each prompt counted once.
    pub(super) prompt: usize,
    /// Of these, how many the cache had.
    pub(super) cached: usize,
    /// Tokens of the answers.
    pub(super) answer: usize,
    /// From the till.
    pub(super) receipt: Receipt,
}

/// Starts to answer. The work goes on in a task of its own, which ends early when the receiver is dropped.
///
/// # Errors
/// When the request is not taken; nothing is owed then.
pub(super) async fn begin(
    shop: Arc<Shop>,
    headers: HeaderMap,
    consumer: Consumer,
    ask: Ask,
) -> Result<mpsc::Receiver<Piece>, Refusal> {
    let (ready, is_ready) = oneshot::channel();
    tokio::spawn(async move {
        let (out, pieces) = mpsc::channel(MOST_PIECES);
        match Answering::submit(shop, &headers, consumer, ask, out).await {
            Ok(answering) => {
                // Dropped with the pieces when nobody waits any more, which the task sees.
                let _ = ready.send(Ok(pieces));
                answering.run().await;
            }
            Err(refusal) => drop(ready.send(Err(refusal))),
        }
    });
    let stopped = || Refusal::internal("the server stopped while it took the request; ask again");
    is_ready.await.unwrap_or_else(|_| Err(stopped()))
}

/// One answer that is being made.
struct One {
    id: RequestId,
    text: Text,
    /// Tokens whose text is not shown yet.
    waiting: VecDeque<Placed>,
    /// The client has its end.
    is_whole: bool,
}

struct Answering {
    shop: Arc<Shop>,
    answers: Vec<One>,
    events: mpsc::Receiver<(usize, Event)>,
    out: mpsc::Sender<Piece>,
    bill: Box<dyn Bill>,
    /// Answers to each prompt.
    each: usize,
    wants_tokens: bool,
    /// Nobody takes pieces any more.
    is_alone: bool,
    made: Made,
    total: Total,
}

impl Answering {
    /// Asks the till, then the engine.
    async fn submit(
        shop: Arc<Shop>,
        headers: &HeaderMap,
        consumer: Consumer,
        mut ask: Ask,
        out: mpsc::Sender<Piece>,
    ) -> Result<Self, Refusal> {
        let each = ask.settings.answers;
        let count = ask.prompts.len() * each;
        let max_tokens = most_tokens(&ask, shop.info.config.max_context)?;
        let asked = Asked {
            headers,
            consumer,
            model: &ask.model,
            prompt_tokens: each * ask.prompts.iter().map(Vec::len).sum::<usize>(),
            max_tokens: max_tokens * count,
            body: ask.settings.body,
        };
        let bill = shop.till.admit(asked).await?;
        if let Some(seed) = bill.seed().filter(|_| !ask.settings.is_seeded) {
            ask.settings.sampling.seed = seed;
        }
        let (send, events) = mpsc::channel(MOST_BEHIND + count);
        let wants_tokens = ask.settings.logprobs.is_some();
        let stops = ask.settings.stops.clone();
        let mut answers = Vec::with_capacity(count);
        for (answer, request) in requests(&shop, consumer, ask, max_tokens).enumerate() {
            let reader = Reader {
                events: send.clone(),
                answer,
                answers: count,
            };
            let taken = match shop.worker.submit(request, reader).await {
                Some(taken) => taken.map_err(Refusal::from),
                None => Err(Refusal::internal(
                    "the engine has stopped; restart the server",
                )),
            };
            match taken {
                Ok(id) => answers.push(One {
                    id,
                    text: Text::new(&shop.info.tokenizer, stops.clone()),
                    waiting: VecDeque::new(),
                    is_whole: false,
                }),
                // All or none.
                Err(refusal) => {
                    answers.iter().for_each(|one| shop.worker.cancel(one.id));
                    let nothing = Made {
                        failed: true,
                        ..Made::default()
                    };
                    bill.settle(nothing).await;
                    return Err(refusal);
                }
            }
        }
        Ok(Self {
            shop,
            answers,
            events,
            out,
            bill,
            each,
            wants_tokens,
            is_alone: false,
            made: Made::default(),
            total: Total::default(),
        })
    }

    async fn run(mut self) {
        let mut open = self.answers.len();
        while open > 0 {
            let event = tokio::select! {
                () = self.out.closed(), if !self.is_alone => None,
                event = self.events.recv() => match event {
                    Some(event) => Some(event),
                    None => {
                        self.made.failed = true;
                        self.fail(Refusal::internal("the engine has stopped; restart the server")).await;
                        break;
                    }
                },
            };
            match event {
                None => self.leave(),
                Some((answer, Event::Token(token))) => self.token(answer, token).await,
                Some((answer, Event::Finished(finish, usage))) => {
                    open -= 1;
                    self.made.prompt_tokens += usage.prompt;
                    self.made.cached_tokens += usage.cached;
                    self.made.answer_tokens += usage.answer;
                    // A prompt is counted once, as it was for its first answer.
                    if answer % self.each == 0 {
                        self.total.prompt += usage.prompt;
                        self.total.cached += usage.cached;
                    }
                    self.finished(answer, finish).await;
                }
            }
        }
        let mut total = self.total;
        total.receipt = self.bill.settle(self.made).await;
        if !self.is_alone {
            // A client that left meanwhile has what it wanted.
            let _ = self.out.send(Piece::Done(total)).await;
        }
    }

    async fn token(&mut self, answer: usize, token: Token) {
        let one = &mut self.answers[answer];
        if self.is_alone || one.is_whole {
            return;
        }
        self.total.answer += 1;
        if self.shop.ends.contains(&token.id) {
            return;
        }
        let at = one.text.characters();
        let shown = one.text.push(&self.shop.info.tokenizer, token.id);
        if self.wants_tokens {
            one.waiting.push_back(Placed { token, at });
        }
        let stopped = shown.stopped;
        self.show(answer, shown).await;
        if stopped {
            self.shop.worker.cancel(self.answers[answer].id);
            self.end(answer, Reason::Stop).await;
        }
    }

    async fn finished(&mut self, answer: usize, finish: Finish) {
        let one = &mut self.answers[answer];
        if self.is_alone || one.is_whole {
            return;
        }
        let shown = one.text.finish(&self.shop.info.tokenizer);
        let stopped = shown.stopped;
        self.show(answer, shown).await;
        match finish {
            Finish::Length if !stopped => self.end(answer, Reason::Length).await,
            Finish::End | Finish::Length => self.end(answer, Reason::Stop).await,
            Finish::Cancelled => {
                let why = "the answer was not taken fast enough and was ended; read faster, or ask for less";
                self.fail(Refusal::new(StatusCode::REQUEST_TIMEOUT, "too_slow", why))
                    .await;
            }
            Finish::Deadline => {
                let seconds = MOST_ANSWERING.as_secs();
                let why = format!(
                    "the answer was not ready within {seconds} s; ask for fewer tokens, or later"
                );
                self.fail(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "deadline", why))
                    .await;
            }
            Finish::Failed(why) => {
                tracing::error!("an answer failed: {why}");
                self.made.failed = true;
                self.fail(Refusal::internal(format!("the answer failed: {why}")))
                    .await;
            }
        }
    }

    async fn show(&mut self, answer: usize, shown: Shown) {
        let waiting = &mut self.answers[answer].waiting;
        let tokens = shown.tokens.min(waiting.len());
        let tokens: Vec<Placed> = waiting.drain(..tokens).collect();
        if !shown.text.is_empty() || !tokens.is_empty() {
            self.send(Piece::Text(answer, shown.text, tokens)).await;
        }
    }

    async fn end(&mut self, answer: usize, reason: Reason) {
        self.answers[answer].is_whole = true;
        self.send(Piece::Ended(answer, reason)).await;
    }

    /// The whole request fails with one of its answers.
    async fn fail(&mut self, refusal: Refusal) {
        self.send(Piece::Failed(refusal)).await;
        for one in &mut self.answers {
            one.is_whole = true;
            self.shop.worker.cancel(one.id);
        }
    }

    async fn send(&mut self, piece: Piece) {
        if self.is_alone {
            return;
        }
        let sent = tokio::time::timeout(SLOW, self.out.send(piece)).await;
        if !matches!(sent, Ok(Ok(()))) {
            self.leave();
        }
    }

    /// The client is gone or does not read.
    fn leave(&mut self) {
        self.is_alone = true;
        for one in &self.answers {
            self.shop.worker.cancel(one.id);
        }
    }
}

/// Most tokens of each answer; what was asked for must fit behind every prompt.
fn most_tokens(ask: &Ask, context: usize) -> Result<usize, Refusal> {
    let longest = ask.prompts.iter().map(Vec::len).max().unwrap_or(0);
    let max_tokens = (ask.settings.max_tokens).unwrap_or(context.saturating_sub(longest));
    if max_tokens == 0 || longest + max_tokens > context {
        let message = format!(
            "the model takes {context} tokens; the prompt has {longest} and the answer may have {}: shorten one of them",
            max_tokens.max(1)
        );
        let refusal = Refusal::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message);
        return Err(refusal);
    }
    Ok(max_tokens)
}

fn requests(
    shop: &Shop,
    consumer: Consumer,
    ask: Ask,
    max_tokens: usize,
) -> impl Iterator<Item = Request> {
    let Ask {
        adapter,
        prompts,
        settings,
        constraints,
        ..
    } = ask;
    let each = settings.answers;
    let deadline = shop.worker.after(MOST_ANSWERING);
    let ends = shop.ends.clone();
    constraints
        .into_iter()
        .enumerate()
        .map(move |(at, constraint)| {
            let mut sampling = settings.sampling.clone();
            // Answers to one prompt differ.
            sampling.seed = sampling.seed.wrapping_add((at % each) as u64);
            Request {
                consumer,
                adapter: adapter.clone(),
                prompt: prompts[at / each].clone(),
                max_tokens,
                sampling,
                ends: ends.clone(),
                logprobs: settings.logprobs,
                constraint,
                deadline: Some(deadline),
            }
        })
}
