//! What went wrong, in the one shape that programs read: a code, a text and what to do.
//!
//! The control API answers a refused request with a [`Problem`], and a failed command prints one to stderr when
//! it was asked for JSON. A [`Code`] never changes its meaning; texts may.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Declares the codes, so that their doc lines reach the contract as well.
macro_rules! codes {
    ($($(#[doc = $meaning:literal])+ $code:ident,)+) => {
        /// What kind of problem it is, for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $($(#[doc = $meaning])+ $code,)+
        }

        impl Code {
            /// Every code and what it means.
            pub const ALL: &[(Self, &'static str)] =
                &[$((Self::$code, concat!($($meaning),+)),)+];
        }
    };
}

codes! {
    /// The request is not one that this version understands.
    Malformed,
    /// The bearer token is missing or wrong.
    Unauthorised,
    /// There is no such route or method: client and daemon differ in version.
    UnknownRoute,
    /// No run, adapter or receipt of this home has that id.
    UnknownId,
    /// The first digits of an id name more than one thing.
    AmbiguousId,
    /// The run is known, but this peer does not follow it.
    NotFollowed,
    /// The run has no certified adapter in this home yet.
    NoAdapter,
    /// Updates of the run are missing in this home, so that nobody's part in it can be told.
    NoUpdates,
    /// The node did not take the command, or it makes no sense now.
    Refused,
    /// The run asks for more than the owner lets runs take of this machine.
    BeyondBounds,
    /// Every place for readers of events is taken.
    TooManyReaders,
    /// No connected peer gave what was asked for in time, or a daemon runs and does not answer.
    Unreachable,
    /// The daemon is stopping or has stopped.
    Stopped,
    /// No daemon runs on the home.
    NotRunning,
    /// Client and daemon do not understand each other: their versions differ, or the connection broke.
    NotUnderstood,
    /// What was checked is wrong.
    CheckFailed,
    /// What was checked holds, and proves that somebody broke the rules.
    Misconduct,
    /// Somebody ended the work before it was done.
    Interrupted,
    /// Arguments, files, network or disk: it could not be carried out.
    Environment,
}

/// A request or a command that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What kind.
    pub code: Code,
    /// What failed, and why.
    pub text: String,
    /// What to do about it, where something is known.
    pub hint: Option<String>,
}

impl Problem {
    /// Of this kind, without a hint.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            hint: None,
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)?;
        match &self.hint {
            Some(hint) => write!(f, " (try: {hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}
