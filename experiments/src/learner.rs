//! Members that train real adapters on real text.
//!
//! [`Language`] answers the tasks of a round by the trainer; [`Corpus`] deals text out to members; a [`rill`] is a
//! tiny base model, small enough for hundreds of federations.

mod corpus;
mod language;
mod rill;

pub use corpus::{Corpus, Holding, Mix, TextDomain};
pub use language::{Language, Measure, mean};
pub use rill::{RillError, rill};
