//! How this program speaks to the person in front of it: answers, tables and failures.
//!
//! Commands and the demo both speak through it. What they say is decided there; nothing here knows of
//! peers, runs or models.

pub mod failure;
pub mod output;
pub mod working;

use std::fmt;
use std::io::Write;

use clap::ValueEnum;

pub use failure::Failure;

/// Writes a line for people to stderr. What is said on the way is best effort: a full disk behind stderr, or a
/// reader that went away, must not end the work.
pub fn note(line: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}
