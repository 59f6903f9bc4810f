//! How this program speaks to the person in front of it: answers, tables and failures.
//!
//! Commands and the demo both speak through it. What they say is decided there; nothing here knows of
//! peers, runs or models.

pub mod failure;
pub mod output;

use clap::ValueEnum;

pub use failure::Failure;

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}
