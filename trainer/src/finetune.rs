//! One whole local fine-tuning: files in, adapter and figures out.
//!
//! ```text
//!  files -> rows -> documents --+--> held out -> evaluate before and after
//!                               +--> windows -> memory check -> Session (checkpoints) -> adapter
//! ```
//!
//! [`Progress`] reports everything in between and may also stop the training; what was done is then kept, and a
//! checkpoint continues from it. The caller decides where the adapter is written.

mod options;
mod summary;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tributary_protocol::adapter::{Adapter, AdapterError, AdapterShape};
use tributary_protocol::hash;

use crate::base::BaseModel;
use crate::chat::ChatTemplate;
use crate::data::{DataError, Dataset, DatasetError, Document, PackReport, Packing, Windows};
use crate::evaluate::{Evaluation, evaluate};
use crate::lora::LoraError;
use crate::model::files::SaveError;
use crate::progress::{Control, Progress};
use crate::session::checkpoint::CheckpointError;
use crate::session::memory::{self, MemoryError, MemoryEstimate};
use crate::session::{Session, SessionError, TrainConfig};

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
    let data = load(base, template, files, options)?;
    let mut going = progress.report(&FinetuneEvent::Data(data.summary.clone()));

    let needed = needed(base, &shape, &data, options);
    if let (true, Some(available)) = (options.check_memory, memory::available_bytes()) {
        needed.check(available)?;
    }
    going = and(going, progress.report(&FinetuneEvent::Memory(needed)));

    let config = config(options, data.train.len());
    let held_out = data.held_out;
    let mut session = start(base, shape, data.train, config, options)?;
    let score = |adapter: Option<&Adapter>| match &held_out {
        Some(windows) => evaluate(base, adapter, windows).map(Some),
        None => Ok(None),
    };
    let mut before = None;
    if going == Control::Continue {
        before = score(None)?;
        if let Some(before) = before {
            going = and(going, progress.report(&FinetuneEvent::Before(before)));
        }
    }
    let resumed_at = session.steps_done();
    let pace = train(&mut session, options, going, progress)?;
    let mut after = None;
    if session.steps_done() > 0 && before.is_some() {
        after = score(Some(session.adapter()))?;
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

/// Windows to train on and to hold against.
struct Data {
    train: Windows,
    held_out: Option<Windows>,
    summary: DataSummary,
}

fn load(
    base: &BaseModel,
    template: Option<&ChatTemplate>,
    files: &[PathBuf],
    options: &FinetuneOptions,
) -> Result<Data, FinetuneError> {
    if files.is_empty() {
        return Err(FinetuneError::NoData);
    }
    let template = match (template, options.date) {
        (Some(template), Some(date)) => Some(template.clone().on(date)),
        (template, _) => template.cloned(),
    };
    let mut summaries = Vec::new();
    let mut read = |path: &Path| -> Result<Vec<Document>, FinetuneError> {
        let dataset = Dataset::read(path, &options.read)?;
        let encoded = dataset.encode(base, template.as_ref())?;
        summaries.push(FileSummary {
            path: path.display().to_string(),
            rows: encoded.report,
        });
        Ok(encoded.documents)
    };
    let (mut train, mut held) = (Vec::new(), Vec::new());
    for path in files {
        let mut documents = read(path)?;
        if documents.len() == 1 {
            // One running text: its windows are told apart instead of its rows.
            documents = (documents.into_iter())
                .flat_map(|document| document.cut(options.context))
                .collect();
        }
        train.extend(documents);
    }
    match &options.held_out {
        HeldOut::None => {}
        HeldOut::File(path) => held = read(path)?,
        HeldOut::Share(share) => held = set_aside(&mut train, *share, options.seed),
    }
    let pack = |documents, packing| Windows::pack(documents, options.context, packing);
    let (train, packed) = pack(train, options.packing)?;
    // A share of almost nothing may hold nothing to predict; a file must.
    let held = match (&options.held_out, held.is_empty()) {
        (HeldOut::File(_), _) => Some(pack(held, Packing::Fit)?),
        (_, false) => pack(held, Packing::Fit).ok(),
        (_, true) => None,
    };
    let (held_out, held_packed): (Option<Windows>, Option<PackReport>) = held.unzip();
    Ok(Data {
        train,
        held_out,
        summary: DataSummary {
            files: summaries,
            train: packed,
            held_out: held_packed,
        },
    })
}

/// Takes a share of the documents out, drawn by `seed`; at least one stays and, unless the share is
/// zero, one goes if another remains.
fn set_aside(documents: &mut Vec<Document>, share: f64, seed: u64) -> Vec<Document> {
    if documents.len() < 2 || share <= 0.0 {
        return Vec::new();
    }
    let wanted = (documents.len() as f64 * share).round() as usize;
    let count = wanted.clamp(1, documents.len() - 1);
    let mut order: Vec<usize> = (0..documents.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut out = vec![false; documents.len()];
    order[..count].iter().for_each(|at| out[*at] = true);
    let (mut kept, mut held) = (Vec::new(), Vec::new());
    for (document, out) in documents.drain(..).zip(out) {
        match out {
            true => held.push(document),
            false => kept.push(document),
        }
    }
    *documents = kept;
    held
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
        match (path.exists(), checkpoint.resume) {
            (true, true) => return Ok(Session::resume(base, windows, config, &path)?),
            (true, false) => return Err(FinetuneError::Exists(path)),
            // Stopped before the first checkpoint: from the beginning.
            (false, _) => {}
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
        let report = session.step()?;
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
