//! How a command fails: what failed and why, what to do, and the exit code.

use super::{Format, note};
use crate::problem::{Code, Problem};

/// A [`Problem`] on its way to the person at the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(Problem);

impl Failure {
    /// The thing that the command checks is not in order.
    pub fn check(message: impl Into<String>) -> Self {
        Self(Problem::new(Code::CheckFailed, message))
    }

    /// The command could not be carried out.
    pub fn environment(message: impl Into<String>) -> Self {
        Self(Problem::new(Code::Environment, message))
    }

    /// What the command checks is in order, and proves that somebody broke the rules.
    pub fn finding(message: impl Into<String>) -> Self {
        Self(Problem::new(Code::Misconduct, message))
    }

    /// The command was told to stop before it was done, and kept what it had.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self(Problem::new(Code::Interrupted, message))
    }

    /// A [`Problem`] stays as it is. Any other error says that the command could not be carried out; the
    /// causes are appended unless the message quotes them already.
    pub fn from_error(error: &(dyn std::error::Error + 'static)) -> Self {
        if let Some(problem) = error.downcast_ref::<Problem>() {
            return Self(problem.clone());
        }
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let text = inner.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = inner.source();
        }
        Self::environment(message)
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self(self.0.hint(hint))
    }

    /// Puts what was being done before the message.
    #[must_use]
    pub fn during(mut self, doing: &str) -> Self {
        self.0.text = format!("{doing}: {}", self.0.text);
        self
    }

    /// The exit code of the command; `tributary --help` says what each means.
    pub fn exit_code(&self) -> u8 {
        match self.0.code {
            Code::CheckFailed => 1,
            Code::NotRunning | Code::Stopped => 3,
            Code::Refused | Code::BeyondBounds | Code::TooManyReaders | Code::Unreachable => 4,
            Code::Misconduct => 5,
            Code::Interrupted => 130,
            Code::Malformed
            | Code::Unauthorised
            | Code::UnknownRoute
            | Code::UnknownId
            | Code::AmbiguousId
            | Code::NotFollowed
            | Code::NoAdapter
            | Code::NoUpdates
            | Code::NotUnderstood
            | Code::Environment => 2,
        }
    }

    /// The message without the hint.
    pub fn message(&self) -> &str {
        &self.0.text
    }

    /// For programs.
    pub fn problem(&self) -> &Problem {
        &self.0
    }

    /// Prints to stderr; as one JSON object when that format was asked for.
    pub fn print(&self, format: Format) {
        let problem = &self.0;
        match format {
            Format::Json => {
                let line = serde_json::to_string(problem);
                note(line.expect("a code and two texts always serialise"));
            }
            Format::Text => {
                note(format_args!("error: {}", problem.text));
                if let Some(hint) = &problem.hint {
                    note(format_args!("  try: {hint}"));
                }
            }
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

// Any error becomes a failure by `?`. A failure is an error's last form: it is printed, never wrapped,
// so it is no `std::error::Error` itself.
impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::from_error(&error)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}
