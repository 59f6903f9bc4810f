//! Members that train real adapters on real text.
//!
//! [`Language`] answers the tasks of a round by the trainer; [`Corpus`] deals text out to members; a [`tiny_model`] is a
//! tiny base model, small enough for hundreds of federations; [`federated()`] has scenarios choose real members by name.

mod corpus;
mod federated;
mod language;
mod tiny;

pub use corpus::{Corpus, Holding, Mix, TextDomain};
pub use federated::{federated, read as read_texts};
pub use language::{Language, Measure, mean};
pub use tiny::{TinyModelError, tiny_model, write_tiny_model};
