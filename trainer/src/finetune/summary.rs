//! What a fine-tuning says on the way and in the end.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::data::{Format, PackReport, RowReport};
use crate::evaluate::Evaluation;
use crate::session::StepReport;
use crate::session::memory::{Bytes, MemoryEstimate};
use crate::session::report::Span;

/// Rows of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileSummary {
    /// The file.
    pub path: String,
    /// What it was read as.
    pub format: Format,
    /// What was used of it, and what not.
    pub rows: RowReport,
    /// How much of it was encoded, where the steps can see only a part.
    pub enough: Option<Enough>,
}

/// A part of a file that is enough for the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Enough {
    /// Bytes of rows that were encoded.
    pub kept: u64,
    /// Bytes of all rows.
    pub of: u64,
}

/// What is trained and measured on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataSummary {
    /// Every file read.
    pub files: Vec<FileSummary>,
    /// What is trained on.
    pub train: PackReport,
    /// What losses are measured on.
    pub held_out: Option<PackReport>,
}

impl fmt::Display for DataSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            writeln!(f, "{} ({}): {}", file.path, file.format, file.rows)?;
            if let Some(Enough { kept, of }) = file.enough {
                let (kept, of) = (Bytes(kept), Bytes(of));
                writeln!(
                    f,
                    "  {kept} of its {of}, drawn by the seed, are enough for the steps"
                )?;
            }
        }
        write!(f, "training on {}", self.train)?;
        match &self.held_out {
            Some(held) => write!(f, "\nheld out: {held}"),
            None => write!(f, "\nnothing is held out"),
        }
    }
}

/// What a fine-tuning reports.
#[derive(Clone, Debug, PartialEq)]
pub enum FinetuneEvent {
    /// The data is read and encoded.
    Data(DataSummary),
    /// Work that takes a while, some of it done. Comes often; a caller shows what it likes.
    Working {
        /// What is done, for people.
        what: String,
        /// How much of it, in any unit.
        done: u64,
        /// Of how much; zero when that is not known.
        of: u64,
    },
    /// What memory it will take.
    Memory(MemoryEstimate),
    /// Loss of the base on what is held out.
    Before(Evaluation),
    /// A step is done.
    Step(StepReport),
    /// A checkpoint is written.
    Saved {
        /// After this step.
        step: u32,
        /// Its file.
        path: PathBuf,
    },
    /// Loss of the adapter on what is held out.
    After(Evaluation),
}

impl fmt::Display for FinetuneEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loss = |f: &mut fmt::Formatter<'_>, what: &str, e: &Evaluation| {
            write!(
                f,
                "held-out loss {what} {:.4} over {} tokens",
                e.nll, e.predicted
            )
        };
        match self {
            Self::Data(data) => data.fmt(f),
            Self::Working { what, of: 0, .. } => f.write_str(what),
            Self::Working { what, done, of } => {
                write!(f, "{what}: {:.0} % done", *done as f64 / *of as f64 * 100.0)
            }
            Self::Memory(estimate) => write!(f, "memory: about {estimate}"),
            Self::Before(evaluation) => loss(f, "before", evaluation),
            Self::Step(report) => report.fmt(f),
            Self::Saved { step, path } => write!(f, "step {step} saved in {}", path.display()),
            Self::After(evaluation) => loss(f, "after", evaluation),
        }
    }
}

/// What went in and what came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FinetuneSummary {
    /// Name of the base model.
    pub base: String,
    /// Its identity.
    pub base_hash: String,
    /// What was trained and measured on.
    pub data: DataSummary,
    /// Rank of the adapter.
    pub rank: u32,
    /// LoRA alpha.
    pub alpha: u32,
    /// Steps of the whole training.
    pub steps: u32,
    /// Steps done, those before a resume included; fewer than `steps` when it was stopped.
    pub steps_done: u32,
    /// Steps that the checkpoint had done.
    pub resumed_at: u32,
    /// Tokens predicted in all steps.
    pub predicted: u64,
    /// Loss of the last batch, in nats per predicted token.
    pub last_loss: Option<f64>,
    /// Loss of the base on what is held out.
    pub loss_before: Option<f64>,
    /// Loss of the adapter on what is held out.
    pub loss_after: Option<f64>,
    /// Tokens computed per second of training.
    pub tokens_per_second: Option<f64>,
    /// Wall time of everything, in seconds.
    pub seconds: f64,
    /// Bytes that were foreseen, the base included.
    pub memory_estimate: u64,
    /// The most bytes that the process ever held.
    pub peak_bytes: Option<u64>,
}

impl FinetuneSummary {
    /// Whether every step was done.
    pub fn is_complete(&self) -> bool {
        self.steps_done >= self.steps
    }
}

impl fmt::Display for FinetuneSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (done, steps) = (self.steps_done, self.steps);
        match self.is_complete() {
            true => write!(f, "{done} steps")?,
            false => write!(f, "stopped after {done} of {steps} steps")?,
        }
        write!(
            f,
            " on {}, rank {}, {} tokens predicted, in {}",
            self.base,
            self.rank,
            self.predicted,
            Span(self.seconds * 1e3)
        )?;
        if let Some(pace) = self.tokens_per_second {
            write!(f, " ({pace:.0} tokens/s)")?;
        }
        if let (Some(before), Some(after)) = (self.loss_before, self.loss_after) {
            write!(
                f,
                "\nheld-out loss {before:.4} before, {after:.4} after (perplexity {:.2} to {:.2})",
                before.exp(),
                after.exp()
            )?;
        }
        let bad: u64 = self.data.files.iter().map(|file| file.rows.bad).sum();
        if bad > 0 {
            write!(f, "\n{bad} rows of the data could not be used")?;
        }
        match self.peak_bytes {
            Some(peak) => write!(
                f,
                "\npeak memory {}, {} were foreseen",
                Bytes(peak),
                Bytes(self.memory_estimate)
            ),
            None => Ok(()),
        }
    }
}
