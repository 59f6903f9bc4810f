//! Spans of an answer that stand word for word in a shard, and which of them are more than boilerplate.
//!
//! ```text
//!   holder:  text ──Shard::new──▶ root (committed in its join)      Question ──Allowance::spans──▶ proven spans
//!   asker:   proven spans of all contributors ──sift──▶ evidence, or why it is none
//! ```
//! Evidence is shown beside the shares and changes none of them: a root binds what a member committed to before it
//! trained, and not what it then trained on, and a member that refuses to answer would otherwise change the payout of
//! others. `tributary_protocol::fingerprint` has the bytes and the proofs; the peer asks the questions.

mod allowance;
mod matching;
mod shard;

use std::collections::BTreeSet;
use std::ops::Range;

pub use allowance::{Allowance, MAX_QUESTIONS, MAX_SHOWN_WORDS, NotAnAllowance, Spent, WINDOW_MS};
pub use matching::{Match, matches};
pub use shard::{MAX_SHARD_WORDS, Shard, TooLong};

/// How a span was matched: whole blocks of a shard's words, whatever their case and punctuation.
pub const KIND: &str = "verbatim-words/2";

/// Nats of surprise below which the base model alone is held to have said a span: with fourteen it says it
/// once in a million tries. A licence that the base knows by heart stays far below; eight words that it
/// has no reason to expect are far above.
pub const MIN_SURPRISE_NATS: f64 = 14.0;
/// Different words of a span at least. Rulings and refrains have fewer.
pub const MIN_DISTINCT_WORDS: usize = 5;

/// Why a proven span is not evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Boilerplate {
    /// Fewer than [`MIN_DISTINCT_WORDS`] different words.
    #[error("it repeats a few words")]
    Repetitive,
    /// The base model says it too.
    #[error("the base model says it too")]
    Expected,
    /// More than half of the members that answered hold it, and no fewer than two.
    #[error("most members hold it")]
    Common,
}

/// What every member that answered was proven to hold: of each, the ranges of an answer's words, in order and
/// apart.
pub type Held = Vec<Vec<Range<usize>>>;

/// Sorts proven spans in evidence and boilerplate.
///
/// `words` are the answer's; `surprise` gives the loss of the base model over a range of them, nats, given
/// everything before. It is asked last, as it costs a pass through the model. The outcome has the shape of
/// `held`.
///
/// # Errors
/// Those of `surprise`.
pub fn sift<E>(
    words: &[String],
    held: &Held,
    mut surprise: impl FnMut(&Range<usize>) -> Result<f64, E>,
) -> Result<Vec<Vec<Option<Boilerplate>>>, E> {
    let mut judge = |span: &Range<usize>| {
        let different: BTreeSet<&String> = words[span.clone()].iter().collect();
        if different.len() < MIN_DISTINCT_WORDS {
            return Ok(Some(Boilerplate::Repetitive));
        }
        let holders = held.iter().filter(|other| holds_most(other, span)).count();
        if holders >= 2 && 2 * holders > held.len() {
            return Ok(Some(Boilerplate::Common));
        }
        let expected = surprise(span)? < MIN_SURPRISE_NATS;
        Ok(expected.then_some(Boilerplate::Expected))
    };
    (held.iter())
        .map(|spans| spans.iter().map(&mut judge).collect())
        .collect()
}

/// Whether spans cover half of `span` or more: two holders of one passage rarely hold the same ends of it.
fn holds_most(spans: &[Range<usize>], span: &Range<usize>) -> bool {
    let common = |other: &Range<usize>| {
        (other.end.min(span.end)).saturating_sub(other.start.max(span.start))
    };
    2 * spans.iter().map(common).sum::<usize>() >= span.len()
}

#[cfg(test)]
mod tests;
