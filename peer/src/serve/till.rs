//! Where an answer is paid for: asked before a request is taken, told after it ended.
//!
//! The server knows no money. [`Open`] admits everybody; whoever wants to be paid brings another [`Till`].

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use futures::future::BoxFuture;
use serde_json::Value;
use tributary_engine::request::Consumer;
use tributary_protocol::hash::Digest;

use super::Refusal;
pub use super::adapters::Origin;
use tributary_attribution::settlement::Signature;

use super::agreements::{self, Agreement};
use super::said::Said;

/// What is about to be answered.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Headers of the request.
    pub headers: &'a HeaderMap,
    /// Who asks.
    pub consumer: Consumer,
    /// Name of the base or alias of the adapter.
    pub model: &'a str,
    /// Tokens of all prompts, each counted once for each of its answers.
    pub prompt_tokens: usize,
    /// Most tokens of all answers together.
    pub max_tokens: usize,
    /// Of the request's body, by which a repeat is told.
    pub body: Digest,
    /// The run that certified the adapter, where one did.
    pub origin: Option<Origin>,
}

/// What was made for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Tokens of prompts that were read, each counted once for each of its answers.
    pub prompt_tokens: usize,
    /// Of these, how many the cache had.
    pub cached_tokens: usize,
    /// Tokens of answers, those that nobody was there to take any more included.
    pub answer_tokens: usize,
    /// Hash of the answers: for each its number of tokens and the tokens, all in four bytes, little endian.
    pub response: Option<Digest>,
    /// Whether the server failed. Failures cost nothing.
    pub failed: bool,
}

/// What the client is told of the payment.
#[derive(Clone, Debug, Default)]
pub struct Receipt {
    /// Headers of an answer that comes at once.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The last event of a stream before `[DONE]`: its name and its data.
    pub event: Option<(String, Value)>,
}

/// Decides whether a request is answered.
pub trait Till: Send + Sync {
    /// Asked once for each request, before anything is computed.
    ///
    /// # Errors
    /// The refusal that the client gets, such as 402 with what a payment needs in its headers.
    fn admit<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Result<Box<dyn Bill>, Refusal>>;

    /// Asked once the server takes nothing more and what was taken is answered: files what is owed.
    fn drain(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// Takes shares of an answer that its payer signed, to be filed with it. Ok once they are on the disk.
    ///
    /// # Errors
    /// The refusal that the client gets: no such answer waits here, or somebody else signed.
    fn agree(
        &self,
        agreement: (Agreement, Signature),
        said: Said,
    ) -> BoxFuture<'_, Result<(), Refusal>> {
        let _ = (agreement, said);
        Box::pin(async { Err(agreements::unknown()) })
    }
}

/// One admitted request.
pub trait Bill: Send {
    /// The seed of a request that names none. The same for each repeat of a request, so that nobody draws another answer
    /// for the same payment.
    fn seed(&self) -> Option<u64> {
        None
    }

    /// Told exactly once, however the request ended: answered, cancelled, failed, or never begun.
    fn settle(self: Box<Self>, made: Made) -> BoxFuture<'static, Receipt>;
}

/// Admits everybody for nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open;

impl Till for Open {
    fn admit<'a>(&'a self, _asked: Asked<'a>) -> BoxFuture<'a, Result<Box<dyn Bill>, Refusal>> {
        Box::pin(async { Ok(Box::new(Self) as Box<dyn Bill>) })
    }
}

impl Bill for Open {
    fn settle(self: Box<Self>, _made: Made) -> BoxFuture<'static, Receipt> {
        Box::pin(async { Receipt::default() })
    }
}
