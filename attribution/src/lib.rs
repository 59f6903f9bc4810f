//! Scores, credits, shares and OPEN accounts of Tributary, recomputable by anyone from certified data.
//!
//! ```text
//!   hold-out batches                     certified round values
//!         │ Gradient (trainer)                   │ median of sheets (protocol)
//!         ▼                                      ▼
//!   path::score ──► ScoreSheet ──► …     fold::CertifiedRound
//!   (two backward passes a batch)                │
//!                                          credit::assign   (integers from here on)
//!   answer's gradient                            │
//!         ▼                                      ▼
//!   query::shares ──► fee::Fees ───────► fold::Books ──► statement::Statement
//!   (one backward pass)                  (postings that sum to zero)
//! ```
//!
//! Above the line of integers, floats measure: an evaluator's score is its own signed judgement. Below, everything is
//! exact: equal certified facts give equal credits and balances on every machine. This crate never sees a model; it
//! asks a [`Gradient`] for losses and gradients at points.
//!
//! Modules: [`coalition`], [`utility`], [`shapley`] (the exact truth for small groups), [`path`] (the score of a
//! round), [`novelty`] (what of it is new), [`significance`] (what of it is more than luck), [`interval`], [`query`]
//! (shares of one answer), [`lexical`] (spans of an answer that stand in a shard), [`money`], [`account`], [`credit`],
//! [`closing`] (what waited), [`fee`], [`fold`], [`statement`] (with periods compared), [`explain`] (one payout laid
//! open), [`settlement`] (what is signed of the books for a chain, and proofs of one line), [`voucher`] (what
//! consumers sign for servers), `test_chain` (with the feature of that name: the contracts in a virtual machine), and
//! [`mod@reference`], the slow twins.

pub mod account;
pub mod closing;
pub mod coalition;
pub mod credit;
pub mod explain;
pub mod fee;
pub mod fold;
pub mod interval;
pub mod lexical;
mod measure;
pub mod money;
pub mod novelty;
pub mod path;
pub mod query;
pub mod reference;
#[cfg(feature = "test-chain")]
pub mod run_books;
pub mod settlement;
pub mod shapley;
pub mod significance;
pub mod statement;
#[cfg(feature = "test-chain")]
pub mod test_chain;
pub mod utility;
pub mod vector;
pub mod voucher;

pub use account::Account;
pub use closing::Closing;
pub use coalition::Coalition;
pub use credit::{Credit, Outcome, RoundCredits};
pub use fold::{Books, CertifiedRound, Fact, Posting};
pub use measure::MeasureError;
pub use money::Balance;
pub use path::{PathError, PathScores};
pub use query::{AnswerShares, Moved, TokenLoss};
pub use statement::Statement;
pub use utility::{Gradient, LossGradient, Utility};
pub use vector::Vector;
