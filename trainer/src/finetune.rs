//! One whole local fine-tuning: files in, adapter and figures out.
//!
//! ```text
//!  files -> rows -> documents --+--> held out -> evaluate before and after
//!                               +--> windows -> memory check -> Session (checkpoints) -> adapter
//! ```
//!
//! [`Progress`] reports everything in between and may also stop the training; what was done is then kept, and a
//! checkpoint continues from it. The caller decides where the adapter is written.

mod load;
mod options;
mod summary;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tributary_protocol::adapter::{Adapter, AdapterError, AdapterShape};
use tributary_protocol::hash;

use crate::base::BaseModel;
use crate::chat::ChatTemplate;
use crate::data::{DataError, DatasetError, Windows};
use crate::evaluate::{Evaluation, evaluate_with};
use crate::lora::LoraError;
use crate::model::files::SaveError;
use crate::progress::{Control, Progress};
use crate::session::checkpoint::CheckpointError;
use crate::session::memory::{self, Bytes, MemoryError, MemoryEstimate};
use crate::session::{Session, SessionError, TrainConfig};

use load::{Data, load};
pub use options::{CheckpointOptions, FinetuneOptions, HeldOut, Length};
pub use summary::{DataSummary, FileSummary, FinetuneEvent, FinetuneSummary};

/// Why a fine-tuning could not start or end.
#[derive(Debug, thiserror::Error)]
pub enum FinetuneError {
    /// A file of the data.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The windows.
    #[error(transparent)]
    Data(#[from] DataError),
    /// No file was given.
    #[error("no data was given; name at least one file")]
    NoData,
    /// An option that makes no training.
    #[error("{option} is {value}, but must be {allowed}")]
    Option {
        /// The option.
        option: &'static str,
        /// What was asked for.
        value: String,
        /// What would be possible.
        allowed: String,
    },
    /// The adapter's shape.
    #[error(transparent)]
    Shape(#[from] AdapterError),
    /// Too little memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The adapter and the base.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// The training.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The checkpoint to go on from.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint to write.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// The files alone would make the machine swap.
    #[error(
        "the data has {}, and takes about {} while it is read; {} are available; train on a part of it, or take \
         --allow-swap",
        Bytes(*bytes), Bytes(*needed), Bytes(*available)
    )]
    TooMuchData {
        /// Size of the files.
        bytes: u64,
        /// What reading them takes, in bytes.
        needed: u64,
        /// What the system has, in bytes.
        available: u64,
    },
    /// Somebody said stop before anything was trained.
    #[error("stopped while the data was read; nothing was trained")]
    Stopped,
    /// A checkpoint is in the way.
    #[error("{0} is there already; resume from it, or remove it to start anew")]
    Exists(PathBuf),
}

/// What a fine-tuning made.
#[derive(Clone, Debug)]
pub struct Finetuned {
    /// The adapter as it stands, also when the training was stopped.
    pub adapter: Adapter,
    /// What went in and what came out.
    pub summary: FinetuneSummary,
}

/// Trains a new adapter of `base` on `files`.
///
/// # Errors
/// See [`FinetuneError`].
pub fn finetune(
    base: &BaseModel,
    template: Option<&ChatTemplate>,
    files: &[PathBuf],
    options: &FinetuneOptions,
    progress: &mut impl Progress<FinetuneEvent>,
) -> Result<Finetuned, FinetuneError> {
    let started = Instant::now();
    options.check(base.config().max_context)?;
    let shape = Arc::new(base.adapter_shape(options.rank, options.alpha));
    shape.check()?;
    check_checkpoint(options)?;
    let data = load(base, template, files, options, progress)?.ok_or(FinetuneError::Stopped)?;
    let mut going = progress.report(&FinetuneEvent::Data(data.summary.clone()));

    let needed = needed(base, &shape, &data, options);
    if let (true, Some(available)) = (options.check_memory, memory::available_bytes()) {
        needed.check(available)?;
    }
    going = and(going, progress.report(&FinetuneEvent::Memory(needed)));

    let config = config(options, data.train.len());
    let held_out = data.held_out;
    let mut session = start(base, shape, data.train, config, options)?;
    let mut before = None;
    if going == Control::Continue {
        before = score(base, None, held_out.as_ref(), progress)?;
        match before {
            Some(before) => going = progress.report(&FinetuneEvent::Before(before)),
            None if held_out.is_some() => going = Control::Stop,
            None => {}
        }
    }
    let resumed_at = session.steps_done();
    let pace = train(&mut session, options, going, progress)?;
    let mut after = None;
    if session.steps_done() > 0 && before.is_some() {
        after = score(base, Some(session.adapter()), held_out.as_ref(), progress)?;
        if let Some(after) = after {
            progress.report(&FinetuneEvent::After(after));
        }
    }
    let nll = |evaluation: Option<Evaluation>| evaluation.map(|e| e.nll);
    let summary = FinetuneSummary {
        base: base.name().into(),
        base_hash: base.hash().to_string(),
        data: data.summary,
        rank: options.rank,
        alpha: options.alpha,
        steps: config.steps,
        steps_done: session.steps_done(),
        resumed_at,
        predicted: session.predicted(),
        last_loss: pace.last_loss,
        loss_before: nll(before),
        loss_after: nll(after),
        tokens_per_second: pace.tokens_per_second(),
        seconds: started.elapsed().as_secs_f64(),
        memory_estimate: needed.total(),
        peak_bytes: memory::peak_bytes(),
    };
    let adapter = session.adapter().clone();
    Ok(Finetuned { adapter, summary })
}

/// Loss on what is held out; None where nothing is, and when `progress` says stop.
fn score(
    base: &BaseModel,
    adapter: Option<&Adapter>,
    held_out: Option<&Windows>,
    progress: &mut impl Progress<FinetuneEvent>,
) -> Result<Option<Evaluation>, LoraError> {
    let Some(windows) = held_out else {
        return Ok(None);
    };
    let of = windows.predicted();
    let mut tell = |done: &u64| {
        let what = "measuring the held-out loss".to_owned();
        progress.report(&FinetuneEvent::Working {
            what,
            done: *done,
            of,
        })
    };
    evaluate_with(base, adapter, windows, &mut tell)
}

/// Finds out now, rather than after hours of training, that a checkpoint is in the way or cannot be written.
fn check_checkpoint(options: &FinetuneOptions) -> Result<(), FinetuneError> {
    let Some(checkpoint) = &options.checkpoint else {
        return Ok(());
    };
    let path = checkpoint.path();
    if path.exists() && !checkpoint.resume {
        return Err(FinetuneError::Exists(path));
    }
    let tried = std::fs::create_dir_all(&checkpoint.folder)
        .and_then(|()| tempfile::tempfile_in(&checkpoint.folder));
    match tried {
        Ok(_) => Ok(()),
        Err(source) => Err(FinetuneError::Save(SaveError::Write {
            path: checkpoint.folder.display().to_string(),
            source,
        })),
    }
}

fn needed(
    base: &BaseModel,
    shape: &AdapterShape,
    data: &Data,
    options: &FinetuneOptions,
) -> MemoryEstimate {
    let longest = data.train.iter().map(<[u32]>::len).max().unwrap_or(0);
    MemoryEstimate::new(base.config(), shape, options.batch, longest)
}

fn config(options: &FinetuneOptions, windows: usize) -> TrainConfig {
    let steps = options.steps(windows);
    TrainConfig {
        steps,
        batch: options.batch,
        accumulate: options.accumulate,
        learning_rate: options.learning_rate,
        schedule: options.schedule,
        warm_up: options.warm_up_steps(steps),
        seed: options.seed,
        adamw: options.adamw,
        clip_norm: options.clip_norm,
        ..TrainConfig::default()
    }
}

/// A new session, or the one of the checkpoint.
fn start(
    base: &BaseModel,
    shape: Arc<AdapterShape>,
    windows: Windows,
    config: TrainConfig,
    options: &FinetuneOptions,
) -> Result<Session, FinetuneError> {
    if let Some(checkpoint) = &options.checkpoint {
        let path = checkpoint.path();
        // Stopped before the first checkpoint: from the beginning.
        if path.exists() {
            let session = Session::resume(base, windows, config, &path)?;
            let kept = session.adapter().shape();
            let asked = [
                ("rank", kept.rank, shape.rank),
                ("alpha", kept.alpha, shape.alpha),
            ];
            return match asked.into_iter().find(|(_, kept, asked)| kept != asked) {
                None => Ok(session),
                Some((what, kept, asked)) => Err(CheckpointError::Differs {
                    path: path.display().to_string(),
                    what: what.into(),
                    stored: kept.to_string(),
                    asked: asked.to_string(),
                }
                .into()),
            };
        }
    }
    let seed = hash::blob(&options.seed.to_le_bytes());
    let adapter = Adapter::init(shape, &seed);
    Ok(Session::new(base, &adapter, windows, config)?)
}

/// What the steps of this process did.
#[derive(Default)]
struct Pace {
    tokens: u64,
    elapsed_ms: f64,
    last_loss: Option<f64>,
}

impl Pace {
    fn tokens_per_second(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.tokens as f64 / (self.elapsed_ms / 1e3).max(1e-9))
    }
}

/// All steps, or those until somebody says stop; checkpoints on the way and at the end.
fn train(
    session: &mut Session,
    options: &FinetuneOptions,
    mut going: Control,
    progress: &mut impl Progress<FinetuneEvent>,
) -> Result<Pace, FinetuneError> {
    let mut pace = Pace::default();
    let mut saved = session.steps_done();
    while going == Control::Continue && !session.is_done() {
        let report = match session.step() {
            Ok(report) => report,
            Err(error) => {
                // What was trained before the step that failed is kept.
                if let Some(checkpoint) = options
                    .checkpoint
                    .as_ref()
                    .filter(|_| session.steps_done() > saved)
                {
                    session.save(&checkpoint.path())?;
                }
                return Err(error.into());
            }
        };
        pace.tokens += report.tokens;
        pace.elapsed_ms += report.elapsed_ms;
        pace.last_loss = Some(report.loss);
        going = progress.report(&FinetuneEvent::Step(report));
        if let Some(checkpoint) = &options.checkpoint {
            let due = report.step - saved >= checkpoint.every.max(1);
            if due || session.is_done() || going == Control::Stop {
                let path = checkpoint.path();
                session.save(&path)?;
                saved = report.step;
                let event = FinetuneEvent::Saved {
                    step: report.step,
                    path,
                };
                going = and(going, progress.report(&event));
            }
        }
    }
    Ok(pace)
}

fn and(one: Control, other: Control) -> Control {
    match (one, other) {
        (Control::Continue, Control::Continue) => Control::Continue,
        _ => Control::Stop,
    }
}

#[cfg(test)]
mod tests;
