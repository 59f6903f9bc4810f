//! What one row of a dataset says, and an account of the rows that say nothing usable.
//!
//! Every file format ends here: a row becomes a [`Record`] or a reason. Reasons are counted and some
//! are kept as examples in a [`RowReport`], so that nothing is dropped in silence.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::limits::{BAD_ROW_EXAMPLES, MAX_UNUSED_FIELDS};
use crate::chat::Conversation;

/// What a row holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A file that is one running text; it has no end of its own to learn.
    Passage(String),
    /// A document: every token is learned, and that it ends.
    Text(String),
    /// What is given and what is to follow; only the latter is learned.
    Completion {
        /// Given.
        prompt: String,
        /// Learned.
        completion: String,
    },
    /// An instruction as Alpaca writes it; only the output is learned. A conversation for a model with a chat
    /// template, and Alpaca's own prompt for others.
    Instruction {
        /// What the system says; may be empty.
        system: String,
        /// What is asked.
        instruction: String,
        /// What it is asked of; may be empty.
        input: String,
        /// Learned.
        output: String,
    },
    /// A conversation; only what the assistant says is learned.
    Messages(Conversation),
}

impl Record {
    /// Bytes of what is said in it, about.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Passage(text) | Self::Text(text) => text.len(),
            Self::Completion { prompt, completion } => prompt.len() + completion.len(),
            Self::Instruction {
                system,
                instruction,
                input,
                output,
            } => system.len() + instruction.len() + input.len() + output.len(),
            Self::Messages(conversation) => {
                conversation.messages.iter().map(|m| m.text().len()).sum()
            }
        }
    }

    /// The row as running text, for readers that tell no part of it from another.
    ///
    /// # Errors
    /// A conversation has no text of its own: each model's template writes another.
    pub fn plain(self) -> Result<String, String> {
        match self {
            Self::Passage(text) | Self::Text(text) => Ok(text),
            Self::Completion { prompt, completion } => Ok(prompt + &completion),
            Self::Instruction {
                system,
                instruction,
                input,
                output,
            } => Ok(alpaca_prompt(&system, &instruction, &input) + &output),
            Self::Messages(_) => Err(
                "it is a conversation, and running text is needed; write {\"text\": \"...\"} or \
                 {\"prompt\": \"...\", \"completion\": \"...\"}"
                    .into(),
            ),
        }
    }
}

/// The prompt that Alpaca was trained with (Taori et al., 2023).
pub(crate) fn alpaca_prompt(system: &str, instruction: &str, input: &str) -> String {
    let system = match (system.trim().is_empty(), input.trim().is_empty()) {
        (false, _) => system,
        (true, true) => {
            "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        }
        (true, false) => {
            "Below is an instruction that describes a task, paired with an input that provides further context. Write a \
             response that appropriately completes the request."
        }
    };
    match input.trim().is_empty() {
        true => format!("{system}\n\n### Instruction:\n{instruction}\n\n### Response:\n"),
        false => format!(
            "{system}\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
        ),
    }
}

/// Where a row stands in its file, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A line of text.
    Line(u64),
    /// An element of an array or a row of a table that has no lines.
    Row(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// A usable row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Where it stands.
    pub place: Place,
    /// What it holds.
    pub record: Record,
}

/// A row that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadRow {
    /// Where it stands.
    pub place: Place,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// How many rows of a file were used, and what was wrong with the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowReport {
    /// Rows that were used.
    pub good: u64,
    /// Rows that were not.
    pub bad: u64,
    /// The first of the bad ones.
    pub examples: Vec<BadRow>,
    /// What rows hold that was not used, and in how many of them.
    pub unused: BTreeMap<String, u64>,
    /// Conversations learned answer by answer, because the model's template writes earlier answers differently.
    pub split: u64,
    /// How many examples are kept.
    #[serde(skip)]
    pub keep: usize,
}

impl Default for RowReport {
    fn default() -> Self {
        Self::keeping(BAD_ROW_EXAMPLES)
    }
}

impl RowReport {
    /// An empty report that will keep `keep` examples.
    pub fn keeping(keep: usize) -> Self {
        Self {
            good: 0,
            bad: 0,
            examples: Vec::new(),
            unused: BTreeMap::new(),
            split: 0,
            keep,
        }
    }

    /// Counts something that a row holds and that was not used.
    pub(crate) fn unused(&mut self, what: &str) {
        if let Some(rows) = self.unused.get_mut(what) {
            *rows += 1;
        } else if self.unused.len() < MAX_UNUSED_FIELDS {
            let short: String = what.chars().take(100).collect();
            *self.unused.entry(short).or_default() += 1;
        }
    }

    /// What was wrong, each once, with the places of the examples where it was.
    fn reasons(&self) -> Vec<(String, &str)> {
        let mut found: Vec<(String, &str)> = Vec::new();
        for BadRow { place, reason } in &self.examples {
            match found.iter_mut().find(|(_, other)| other == reason) {
                Some((places, _)) => places.push_str(&format!(", {place}")),
                None => found.push((place.to_string(), reason)),
            }
        }
        found
    }

    /// Counts a bad row.
    pub(crate) fn bad(&mut self, row: BadRow) {
        self.bad += 1;
        if self.examples.len() < self.keep {
            self.examples.push(row);
        }
    }
}

impl fmt::Display for RowReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows used, {} bad", self.good, self.bad)?;
        for (places, reason) in self.reasons() {
            write!(f, "\n  {places}: {reason}")?;
        }
        match self.bad - self.examples.len() as u64 {
            0 => {}
            more => write!(f, "\n  and {more} more")?,
        }
        if self.split > 0 {
            write!(
                f,
                "\n  {} conversations are learned answer by answer: the model's template writes earlier answers \
                 differently",
                self.split
            )?;
        }
        let unused = self
            .unused
            .iter()
            .map(|(what, rows)| format!("{what} ({rows} rows)"));
        match unused.collect::<Vec<_>>() {
            unused if unused.is_empty() => Ok(()),
            unused => write!(f, "\n  not used: {}", unused.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_many_rows_is_said_once() {
        let mut report = RowReport::default();
        for (line, reason) in [(1, "empty"), (2, "no text"), (3, "empty")] {
            report.bad(BadRow {
                place: Place::Line(line),
                reason: reason.to_owned(),
            });
        }
        let said = report.to_string();
        assert_eq!(
            said,
            "0 rows used, 3 bad\n  line 1, line 3: empty\n  line 2: no text"
        );
    }
}
