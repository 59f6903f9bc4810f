//! What is asked of an engine, and what it answers.

use std::fmt;
use std::sync::Arc;

use crate::adapter::LoadedAdapter;
use crate::sample::Sampling;

/// Microseconds on the caller's clock. Only differences count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Micros(pub u64);

/// A request that was taken, until its [`Event::Finished`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Whose requests share caches and take turns with those of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Consumer(pub [u8; 32]);

/// One answer that is asked for.
pub struct Request {
    /// Who asks.
    pub consumer: Consumer,
    /// What adapts the base, or nothing. The request keeps it, whatever becomes of its name.
    pub adapter: Option<Arc<LoadedAdapter>>,
    /// Tokens to continue; at least one.
    pub prompt: Vec<u32>,
    /// Most tokens of the answer; at least one.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens that end the answer.
    pub ends: Arc<[u32]>,
    /// With how many of the likeliest alternatives each token is reported; None for no probabilities at all.
    pub logprobs: Option<usize>,
    /// What restricts the choice, or nothing.
    pub constraint: Option<Box<dyn Constraint>>,
    /// When the answer is of no use any more.
    pub deadline: Option<Micros>,
}

impl fmt::Debug for Request {
    /// Without the prompt, which belongs in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("prompt_tokens", &self.prompt.len())
            .field("max_tokens", &self.max_tokens)
            .field("sampling", &self.sampling)
            .finish_non_exhaustive()
    }
}

/// Which tokens may come next, such as those that keep an answer within a grammar.
pub trait Constraint: Send {
    /// Allowed tokens: bit `id % 32` of word `id / 32`. Asked once for each token, beside the forward pass.
    ///
    /// # Errors
    /// When nothing more is allowed or the work runs out of its bounds, with the reason.
    fn allowed(&mut self) -> Result<Vec<u32>, String>;

    /// Takes note of the chosen token.
    ///
    /// # Errors
    /// When the token was not allowed.
    fn accept(&mut self, token: u32) -> Result<(), String>;

    /// Whether the answer is whole and nothing may follow.
    fn is_finished(&self) -> bool;
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// One more token.
    Token(Token),
    /// The last event.
    Finished(Finish, Usage),
}

/// A chosen token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Which.
    pub id: u32,
    /// Natural logarithm of the probability that the model gives it, before anything of [`Sampling`] is applied. Zero
    /// where none was asked for.
    pub logprob: f32,
    /// The likeliest tokens and their logarithms, falling.
    pub top: Vec<(u32, f32)>,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// With one of [`Request::ends`], the last token reported, or with what its constraint takes as the end.
    End,
    /// After `max_tokens`.
    Length,
    /// It was cancelled.
    Cancelled,
    /// Its deadline passed.
    Deadline,
    /// Something is wrong with the model, the adapter or the constraint.
    Failed(String),
}

/// What an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Of these, how many were found in the cache.
    pub cached: usize,
    /// Tokens of the answer.
    pub answer: usize,
}

/// Why a request is not taken. Each has a stable code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// More than the engine holds at once.
    #[error(
        "prompt ({prompt} tokens) and answer ({answer}) exceed the {most} that are served; shorten one of them"
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Most tokens of the answer.
        answer: usize,
        /// Most of both.
        most: usize,
    },
    /// Nothing to continue.
    #[error("the prompt is empty; give at least one token")]
    EmptyPrompt,
    /// A token the model does not know.
    #[error("the token {token} is not in the vocabulary of {vocab}; use this model's tokenizer")]
    UnknownToken {
        /// The token.
        token: u32,
        /// Tokens of the vocabulary.
        vocab: usize,
    },
    /// A constant of the sampling is out of its range.
    #[error("{field} {why}")]
    Sampling {
        /// Which.
        field: &'static str,
        /// What is wrong, and what is allowed.
        why: String,
    },
    /// As many requests wait as may.
    #[error("{waiting} requests wait already; try again in {retry_after_s} s")]
    Busy {
        /// Requests that wait.
        waiting: usize,
        /// When to ask again, in seconds.
        retry_after_s: u64,
    },
    /// The engine finishes what it has and takes nothing more.
    #[error("the server is closing; ask another one")]
    Closing,
}
