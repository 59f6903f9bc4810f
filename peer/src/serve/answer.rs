//! One request from the engine's tokens to pieces of text, and its end: however the client behaves, the engine's work
//! stops with it and the till is told what was made.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tributary_engine::request::{Consumer, Token};
use tributary_engine::text::{Shown, Text};
use tributary_engine::tools::{CallParser, Delta};
use tributary_engine::{Event, Finish, LoadedAdapter, Request, RequestId};

use super::ask::Ask;
use super::said::response_hash;
use super::shares::{Answer, Of};
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
    /// The client is to do what the answer calls.
    ToolCalls,
}

impl Reason {
    /// OpenAI's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// A token, and where its text begins in the answer, in characters.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) at: usize,
}

/// A call of a tool.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Which call of the answer.
    pub(super) index: usize,
    pub(super) id: String,
    pub(super) name: String,
    /// A JSON object.
    pub(super) arguments: String,
}

/// What comes of a request.
#[derive(Debug)]
pub(super) enum Piece {
    /// More text of an answer, and the tokens that now are shown whole.
    Text(usize, String, Vec<Placed>),
    /// A call in an answer.
    Call(usize, Call),
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
    (id, ask, adapter): (String, Ask, Option<Arc<LoadedAdapter>>),
) -> Result<mpsc::Receiver<Piece>, Refusal> {
    let (ready, is_ready) = oneshot::channel();
    tokio::spawn(async move {
        let (out, pieces) = mpsc::channel(MOST_PIECES);
        let given = Given::new(&shop, id, consumer, (&ask, adapter.as_deref()));
        match Answering::submit(shop, &headers, consumer, (ask, adapter), out).await {
            Ok(mut answering) => {
                answering.given = Some(given);
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

/// What is remembered of a request's answers once they are whole.
struct Given {
    id: String,
    answer: Answer,
}

impl Given {
    fn new(
        shop: &Shop,
        id: String,
        consumer: Consumer,
        (ask, adapter): (&Ask, Option<&LoadedAdapter>),
    ) -> Self {
        let certified = |adapter: &LoadedAdapter| shop.adapters.certified(adapter.content());
        let of = match adapter.map(certified) {
            None => Of::Base,
            Some(None) => Of::Uncertified,
            Some(Some(adapter)) => Of::Certified {
                adapter,
                prompts: ask.prompts.clone(),
                answers: vec![Vec::new(); ask.prompts.len() * ask.settings.answers],
            },
        };
        let answer = Answer {
            consumer,
            model: ask.model.clone(),
            body: ask.settings.body.0.clone(),
            of,
        };
        Self { id, answer }
    }

    /// Answer number `answer` goes on with a token.
    fn token(&mut self, answer: usize, token: u32) {
        if let Of::Certified { answers, .. } = &mut self.answer.of {
            answers[answer].push(token);
        }
    }
}

/// One answer that is being made.
struct One {
    id: RequestId,
    text: Text,
    /// Finds calls in the text where there are tools.
    calls: Option<CallParser>,
    /// Tokens whose text is not shown yet.
    waiting: VecDeque<Placed>,
    /// The client has its end.
    is_whole: bool,
    /// Tokens that the engine gave until its end.
    tokens: Vec<u32>,
}

impl One {
    fn new(id: RequestId, text: Text, calls: Option<CallParser>) -> Self {
        Self {
            id,
            text,
            calls,
            waiting: VecDeque::new(),
            is_whole: false,
            tokens: Vec::new(),
        }
    }
}

struct Answering {
    shop: Arc<Shop>,
    answers: Vec<One>,
    events: mpsc::Receiver<(usize, Event)>,
    out: mpsc::Sender<Piece>,
    bill: Owed,
    /// None where nothing is remembered: the request failed, or its client left.
    given: Option<Given>,
    /// Answers to each prompt.
    each: usize,
    wants_tokens: bool,
    /// Nobody takes pieces any more.
    is_alone: bool,
    total: Total,
}

/// A bill that is settled however its request ends, and what was made for it so far.
struct Owed {
    bill: Option<Box<dyn Bill>>,
    made: Made,
}

impl Owed {
    fn new(bill: Box<dyn Bill>) -> Self {
        Self {
            bill: Some(bill),
            made: Made::default(),
        }
    }

    /// The seed of a request that names none, where the bill has one.
    fn seed(&self) -> Option<u64> {
        self.bill.as_ref().and_then(|bill| bill.seed())
    }

    async fn settle(mut self) -> Receipt {
        let bill = self.bill.take().expect("it is settled once");
        bill.settle(self.made).await
    }
}

impl Drop for Owed {
    /// Not settled: its task broke off, which is the server's fault.
    fn drop(&mut self) {
        let made = Made {
            failed: true,
            ..self.made
        };
        // Without a runtime the process ends, and whoever is owed with it.
        if let (Some(bill), Ok(runtime)) = (self.bill.take(), Handle::try_current()) {
            runtime.spawn(bill.settle(made));
        }
    }
}

impl Answering {
    /// Asks the till, then the engine.
    async fn submit(
        shop: Arc<Shop>,
        headers: &HeaderMap,
        consumer: Consumer,
        (mut ask, adapter): (Ask, Option<Arc<LoadedAdapter>>),
        out: mpsc::Sender<Piece>,
    ) -> Result<Self, Refusal> {
        let each = ask.settings.answers;
        let count = ask.prompts.len() * each;
        let max_tokens = most_tokens(&ask, shop.reading.info.config.max_context)?;
        let asked = Asked {
            headers,
            consumer,
            model: &ask.model,
            prompt_tokens: each * ask.prompts.iter().map(Vec::len).sum::<usize>(),
            max_tokens: max_tokens * count,
            body: ask.settings.body.1,
            origin: (adapter.as_ref()).and_then(|adapter| shop.adapters.origin(adapter.content())),
        };
        let mut bill = Owed::new(shop.till.admit(asked).await?);
        if let Some(seed) = bill.seed().filter(|_| !ask.settings.is_seeded) {
            ask.settings.sampling.seed = seed;
        }
        let (send, events) = mpsc::channel(MOST_BEHIND + count);
        let wants_tokens = ask.settings.logprobs.is_some();
        let (stops, tools) = (ask.settings.stops.clone(), ask.settings.wish.tools.clone());
        let mut answers = Vec::with_capacity(count);
        for (answer, request) in requests(&shop, consumer, (ask, adapter), max_tokens).enumerate() {
            let tools = tools.as_ref();
            let calls = tools.map(|tools| tools.parser(request.sampling.seed, &request.prompt));
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
                Ok(id) => {
                    let text = Text::new(&shop.reading.info.tokenizer, stops.clone());
                    answers.push(One::new(id, text, calls));
                }
                // All or none.
                Err(refusal) => {
                    answers.iter().for_each(|one| shop.worker.cancel(one.id));
                    bill.made.failed = true;
                    bill.settle().await;
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
            given: None,
            each,
            wants_tokens,
            is_alone: false,
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
                        self.bill.made.failed = true;
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
                    self.bill.made.prompt_tokens += usage.prompt;
                    self.bill.made.cached_tokens += usage.cached;
                    self.bill.made.answer_tokens += usage.answer;
                    // A prompt is counted once, as it was for its first answer.
                    if answer % self.each == 0 {
                        self.total.prompt += usage.prompt;
                        self.total.cached += usage.cached;
                    }
                    self.finished(answer, finish).await;
                }
            }
        }
        self.bill.made.response = Some(response_hash(self.answers.iter().map(|one| &one.tokens)));
        let mut total = self.total;
        total.receipt = self.bill.settle().await;
        if !self.is_alone {
            // Before the client knows that it is whole, and asks.
            if let Some(Given { id, answer }) = self.given {
                self.shop.desk.keep(id, answer);
            }
            // A client that left meanwhile has what it wanted.
            let _ = self.out.send(Piece::Done(total)).await;
        }
    }

    async fn token(&mut self, answer: usize, token: Token) {
        let one = &mut self.answers[answer];
        if one.is_whole {
            return;
        }
        one.tokens.push(token.id);
        if self.is_alone {
            return;
        }
        self.total.answer += 1;
        if let Some(given) = &mut self.given {
            given.token(answer, token.id);
        }
        if self.shop.reading.ends.contains(&token.id) {
            return;
        }
        let at = one.text.characters();
        let shown = one.text.push(&self.shop.reading.info.tokenizer, token.id);
        if self.wants_tokens {
            one.waiting.push_back(Placed { token, at });
        }
        let stopped = shown.stopped;
        self.show(answer, shown).await;
        let calls = self.answers[answer].calls.as_ref();
        if stopped || calls.is_some_and(CallParser::is_finished) {
            self.shop.worker.cancel(self.answers[answer].id);
            self.end(answer, Reason::Stop).await;
        }
    }

    async fn finished(&mut self, answer: usize, finish: Finish) {
        let one = &mut self.answers[answer];
        if self.is_alone || one.is_whole {
            return;
        }
        let shown = one.text.finish(&self.shop.reading.info.tokenizer);
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
                self.bill.made.failed = true;
                self.fail(Refusal::internal(format!("the answer failed: {why}")))
                    .await;
            }
        }
    }

    async fn show(&mut self, answer: usize, shown: Shown) {
        let one = &mut self.answers[answer];
        let tokens = shown.tokens.min(one.waiting.len());
        let tokens: Vec<Placed> = one.waiting.drain(..tokens).collect();
        let deltas = match &mut one.calls {
            Some(calls) => calls.push(&shown.text),
            None => vec![Delta::Text(shown.text)],
        };
        self.tell(answer, deltas, tokens).await;
    }

    /// Text and calls, and the tokens that they came with.
    async fn tell(&mut self, answer: usize, deltas: Vec<Delta>, tokens: Vec<Placed>) {
        let mut tokens = Some(tokens).filter(|tokens| !tokens.is_empty());
        for delta in deltas {
            let piece = match delta {
                Delta::Text(text) if text.is_empty() => continue,
                Delta::Text(text) => Piece::Text(answer, text, tokens.take().unwrap_or_default()),
                Delta::Call {
                    index,
                    id,
                    name,
                    arguments,
                } => {
                    let call = Call {
                        index,
                        id,
                        name,
                        arguments,
                    };
                    Piece::Call(answer, call)
                }
            };
            self.send(piece).await;
        }
        if let Some(tokens) = tokens {
            self.send(Piece::Text(answer, String::new(), tokens)).await;
        }
    }

    async fn end(&mut self, answer: usize, mut reason: Reason) {
        if let Some(calls) = self.answers[answer].calls.take() {
            if calls.calls() > 0 && reason == Reason::Stop {
                reason = Reason::ToolCalls;
            }
            self.tell(answer, calls.finish(), Vec::new()).await;
        }
        self.answers[answer].is_whole = true;
        self.send(Piece::Ended(answer, reason)).await;
    }

    /// The whole request fails with one of its answers.
    async fn fail(&mut self, refusal: Refusal) {
        self.given = None;
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
        self.given = None;
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
    (ask, adapter): (Ask, Option<Arc<LoadedAdapter>>),
    max_tokens: usize,
) -> impl Iterator<Item = Request> {
    let Ask {
        prompts,
        settings,
        constraints,
        ..
    } = ask;
    let each = settings.answers;
    let deadline = shop.worker.after(MOST_ANSWERING);
    let ends = shop.reading.ends.clone();
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::future::BoxFuture;

    use super::*;

    /// Sends on what it is told.
    struct Told(Mutex<Option<oneshot::Sender<Made>>>);

    impl Bill for Told {
        fn settle(self: Box<Self>, made: Made) -> BoxFuture<'static, Receipt> {
            let send = self.0.into_inner().unwrap().expect("it is settled once");
            Box::pin(async move {
                send.send(made).unwrap();
                Receipt::default()
            })
        }
    }

    #[tokio::test]
    async fn a_task_that_breaks_off_settles_its_bill_as_failed() {
        let (send, told) = oneshot::channel();
        let mut owed = Owed::new(Box::new(Told(Mutex::new(Some(send)))));
        owed.made.answer_tokens = 3;
        let task = tokio::spawn(async move {
            let _owed = owed;
            panic!("as a defect would");
        });
        assert!(task.await.unwrap_err().is_panic());
        let made = told.await.unwrap();
        assert!(made.failed && made.answer_tokens == 3);
    }

    #[tokio::test]
    async fn a_bill_that_was_settled_is_not_settled_again() {
        let (send, told) = oneshot::channel();
        let owed = Owed::new(Box::new(Told(Mutex::new(Some(send)))));
        // The bill panics on a second time.
        owed.settle().await;
        assert!(!told.await.unwrap().failed);
    }
}
