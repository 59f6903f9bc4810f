//! How this program speaks to the person in front of it: answers, tables and failures.
//!
//! Commands and the demo both speak through it. What they say is decided there; nothing here knows of
//! peers, runs or models.

pub mod failure;
pub mod output;
pub(crate) mod utc;
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

/// Asks the person at the terminal before something is done that cannot be undone; `option` answers ahead.
///
/// # Errors
/// Where there is nobody to ask, or the answer is not yes. Nothing was done then.
pub fn confirm(what: &str, question: &str, option: &str) -> Result<(), Failure> {
    use std::io::IsTerminal as _;
    note(what);
    let stdin = std::io::stdin();
    if !stdin.is_terminal() || !std::io::stderr().is_terminal() {
        return Err(
            Failure::environment("nothing was done: there is nobody here to confirm it")
                .hint(format!("give {option} to do it unasked")),
        );
    }
    let _ = write!(std::io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    // A terminal that went away answers nothing.
    let _ = stdin.read_line(&mut answer);
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::interrupted("nothing was done")),
    }
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
