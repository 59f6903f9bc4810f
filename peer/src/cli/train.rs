//! `tributary train`: a LoRA adapter from one's own files on this machine, without a network.

mod shown;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use tokio::sync::oneshot;
use tributary_trainer::data::{Packing, ReadOptions};
use tributary_trainer::finetune::{
    CheckpointOptions, FinetuneError, FinetuneSummary, HeldOut, Length, finetune,
};
use tributary_trainer::{
    BaseModel, ChatTemplate, Control, FinetuneEvent, FinetuneOptions, Finetuned, export_peft,
};

use super::Context;
use super::args::{PackingName, TrainArgs};
use super::up::interrupted;
use crate::terminal::{Failure, note};
use shown::Shown;

/// `train/1`.
#[derive(Serialize)]
struct TrainReport {
    schema: &'static str,
    /// The PEFT folder.
    adapter: String,
    #[serde(flatten)]
    summary: FinetuneSummary,
}

pub(super) async fn run(context: &Context, args: TrainArgs) -> Result<(), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let (stopping, live) = (stop.clone(), context.out.live());
    let (base, out) = (args.base.clone(), args.out.clone());
    let keeps = args.checkpoint.is_some();
    let (done, mut training) = oneshot::channel();
    // A thread of its own: the runtime would wait for its blocking tasks, and a second Ctrl-C must not.
    std::thread::spawn(move || {
        let is_new = !args.out.exists();
        let trained = train(&args, &stopping, live);
        if trained.is_err() && is_new {
            // It was made early; left empty it would look like a result.
            let _ = std::fs::remove_dir(&args.out);
        }
        // Nobody listens any more after a second Ctrl-C.
        let _ = done.send(trained);
    });
    let trained = loop {
        tokio::select! {
            trained = &mut training => break trained,
            told = interrupted() => {
                if told.is_err() || stop.swap(true, Ordering::Relaxed) {
                    return Err(Failure::interrupted("stopped at once, nothing was written")
                        .hint("with --checkpoint DIR, --resume goes on from the last one"));
                }
                note("stopping after this step; press again to stop at once");
            }
        }
    };
    let trained =
        trained.map_err(|_| Failure::environment("the training broke off; see above"))??;
    let report = TrainReport {
        schema: "train/1",
        adapter: out.display().to_string(),
        summary: trained.summary,
    };
    context.out.answer(&report, |r| {
        format!(
            "{}\nadapter  {}\nnext: tributary generate --base {base} --adapter {} --prompt TEXT",
            r.summary, r.adapter, r.adapter
        )
    })?;
    let summary = &report.summary;
    if summary.is_complete() {
        return Ok(());
    }
    let failure = Failure::interrupted(format!(
        "the training was stopped after {} of {} steps; the adapter as it stood is in {}",
        summary.steps_done, summary.steps, report.adapter
    ));
    Err(match keeps {
        true => failure.hint("the same command with --resume and --force goes on"),
        false => failure.hint("with --checkpoint DIR a stopped training can go on"),
    })
}

fn train(args: &TrainArgs, stop: &AtomicBool, live: bool) -> Result<Finetuned, Failure> {
    // Found out now rather than after hours of training.
    if !args.force && is_occupied(&args.out) {
        return Err(Failure::environment(format!(
            "{} exists and is not empty; nothing there is written over",
            args.out.display()
        ))
        .hint("give another folder with --out, or --force to replace the adapter that is there"));
    }
    finite(args)?;
    resumable(args)?;
    std::fs::create_dir_all(&args.out).map_err(|e| {
        Failure::environment(format!(
            "cannot make the folder {}: {e}",
            args.out.display()
        ))
        .hint("give another folder with --out")
    })?;
    tempfile::tempfile_in(&args.out).map_err(|e| {
        Failure::environment(format!(
            "cannot write in the folder {}: {e}",
            args.out.display()
        ))
        .hint("give another folder with --out")
    })?;
    let mut shown = Shown::new(live, format!("loading the base model {}", args.base));
    let base = super::model::open(&args.base, args.device)?;
    note(format_args!(
        "base {} on {}",
        base.name(),
        base.device().reason
    ));
    let folder = Path::new(&args.base);
    let template = folder
        .is_dir()
        .then(|| ChatTemplate::for_rows(folder))
        .flatten();
    let options = options(args, &base);
    let done = finetune(
        &base,
        template.as_ref(),
        &args.files,
        &options,
        &mut |event: &FinetuneEvent| {
            shown.show(event);
            match stop.load(Ordering::Relaxed) {
                true => Control::Stop,
                false => Control::Continue,
            }
        },
    );
    shown.end();
    let done = match done {
        Err(stopped @ FinetuneError::Stopped) => {
            return Err(Failure::interrupted(stopped.to_string()));
        }
        done => done?,
    };
    if done.summary.steps_done == 0 {
        return Err(Failure::interrupted(
            "stopped before the first step, so there is no adapter to write",
        ));
    }
    export_peft(&args.out, &args.base, &done.adapter)?;
    Ok(done)
}

/// Refuses files that may never end before anything waits for them.
fn finite(args: &TrainArgs) -> Result<(), Failure> {
    let files = args.files.iter().chain(&args.holdout_file);
    for file in files {
        super::model::finite(file)?;
    }
    Ok(())
}

/// Whether there is something to go on from, where that is asked for.
fn resumable(args: &TrainArgs) -> Result<(), Failure> {
    let Some(folder) = args.checkpoint.as_ref().filter(|_| args.resume) else {
        return Ok(());
    };
    let shown = folder.display();
    if !folder.is_dir() {
        return Err(Failure::environment(format!(
            "there is no folder {shown}, so there is no training to go on with"
        ))
        .hint("name the folder of that training with --checkpoint, or leave out --resume to start anew"));
    }
    let kept = CheckpointOptions {
        folder: folder.clone(),
        every: args.every,
        resume: true,
    };
    if !kept.path().exists() {
        note(format_args!(
            "there is no checkpoint in {shown} yet; the training starts at its beginning"
        ));
    }
    Ok(())
}

fn is_occupied(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

fn options(args: &TrainArgs, base: &BaseModel) -> FinetuneOptions {
    let defaults = FinetuneOptions::default();
    let longest = base.config().max_context;
    FinetuneOptions {
        rank: args.rank,
        alpha: args.alpha.unwrap_or(2 * args.rank),
        length: match args.steps {
            Some(steps) => Length::Steps(steps),
            None => Length::Epochs(args.epochs),
        },
        batch: args.batch,
        accumulate: args.accumulate,
        context: args.context.unwrap_or(defaults.context.min(longest)),
        learning_rate: args.learning_rate,
        schedule: args.schedule,
        warm_up: args.warm_up,
        clip_norm: (args.clip > 0.0).then_some(args.clip),
        seed: args.seed,
        held_out: match &args.holdout_file {
            Some(file) => HeldOut::File(file.clone()),
            None if args.holdout == 0.0 => HeldOut::None,
            None => HeldOut::Share(args.holdout),
        },
        packing: match args.packing {
            PackingName::Fit => Packing::Fit,
            PackingName::Apart => Packing::Apart,
            PackingName::Shuffled => Packing::Shuffled(args.seed),
        },
        read: ReadOptions {
            format: args.data_format,
            strict: args.strict,
            ..defaults.read
        },
        checkpoint: args.checkpoint.as_ref().map(|folder| CheckpointOptions {
            folder: folder.clone(),
            every: args.every,
            resume: args.resume,
        }),
        check_memory: !args.allow_swap,
        ..defaults
    }
}
