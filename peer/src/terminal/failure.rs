//! How a command fails: what failed and why, what to do, and the exit code.

use serde_json::json;

use super::Format;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// What was checked is wrong: exit code 1.
    Check,
    /// Arguments, files, network, disk: exit code 2.
    Environment,
    /// What was checked holds, and proves somebody's misconduct: exit code 3.
    Finding,
    /// Somebody ended it early: exit code 130.
    Interrupted,
}

impl Failure {
    /// The thing that the command checks is not in order.
    pub fn check(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Check,
            message: message.into(),
            hint: None,
        }
    }

    /// The command could not be carried out.
    pub fn environment(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Environment,
            message: message.into(),
            hint: None,
        }
    }

    /// What the command checks is in order, and proves that somebody broke the rules.
    pub fn finding(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Finding,
            message: message.into(),
            hint: None,
        }
    }

    /// The command was told to stop before it was done, and kept what it had.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Interrupted,
            message: message.into(),
            hint: None,
        }
    }

    /// As [`Failure::environment`], from an error whose message says all; the causes are appended
    /// unless the message quotes them already.
    pub fn from_error(error: &(dyn std::error::Error + 'static)) -> Self {
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
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts what was being done before the message.
    #[must_use]
    pub fn during(mut self, doing: &str) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// 1, 2, 3 or 130: what was checked is wrong, the command could not be carried out, what was checked holds and
    /// proves somebody's misconduct, or somebody ended it early.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Check => 1,
            Kind::Environment => 2,
            Kind::Finding => 3,
            Kind::Interrupted => 130,
        }
    }

    /// The message without the hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Prints to stderr; as one JSON object when that format was asked for.
    pub fn print(&self, format: Format) {
        match format {
            Format::Json => eprintln!("{}", json!({"error": self.message, "hint": self.hint})),
            Format::Text => {
                eprintln!("error: {}", self.message);
                if let Some(hint) = &self.hint {
                    eprintln!("  try: {hint}");
                }
            }
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " (try: {hint})"),
            None => Ok(()),
        }
    }
}

// Any error becomes a failure by `?`. A failure is an error's last form: it is printed, never wrapped,
// so it is no `std::error::Error` itself.
impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::from_error(&error)
    }
}
