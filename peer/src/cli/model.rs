//! `tributary eval` and `tributary generate`: a model on this machine, no daemon.

use std::path::Path;

use serde::Serialize;
use tributary_protocol::adapter::Adapter;
use tributary_trainer::data::{Packing, ReadOptions, RowReport};
use tributary_trainer::device::Request;
use tributary_trainer::{
    BaseModel, ChatTemplate, Dataset, GenerateConfig, Windows, evaluate, generate as continue_text,
    peft,
};

use super::Context;
use super::args::{EvalArgs, GenerateArgs};
use crate::input;
use crate::model::{self, ModelError};
use crate::terminal::{Failure, note};

/// `eval/1`.
#[derive(Serialize)]
struct EvalReport {
    schema: &'static str,
    /// Mean nats per predicted token.
    nll: f64,
    predicted: u64,
    /// What was used of the file, and what not.
    rows: RowReport,
}

/// `generate/1`.
#[derive(Serialize)]
struct GenerateReport {
    schema: &'static str,
    text: String,
    token_ids: Vec<u32>,
}

pub(super) fn eval(context: &Context, args: &EvalArgs) -> Result<(), Failure> {
    finite(&args.text)?;
    let base = open(&args.base, args.device)?;
    let adapter = adapter(&base, args.adapter.as_deref())?;
    let (windows, rows) = windows(&base, args)?;
    if rows.bad > 0 || !rows.unused.is_empty() || rows.split > 0 {
        note(format_args!("{}: {rows}", args.text.display()));
    }
    let found = evaluate(&base, adapter.as_ref(), &windows).map_err(|e| Failure::from_error(&e))?;
    let report = EvalReport {
        schema: "eval/1",
        nll: found.nll,
        predicted: found.predicted,
        rows,
    };
    context.out.answer(&report, |r| {
        format!(
            "loss        {:.6} nats per token\nperplexity  {:.2}\npredicted   {} tokens",
            r.nll,
            r.nll.exp(),
            r.predicted
        )
    })
}

/// Tokens of a window unless its owner says otherwise, as in trainings.
const USUAL_CONTEXT: usize = 512;

/// The rows of the file as a training would see them, so that both give the same loss.
fn windows(base: &BaseModel, args: &EvalArgs) -> Result<(Windows, RowReport), Failure> {
    fn failed(e: impl std::error::Error + 'static) -> Failure {
        Failure::from_error(&e).during("cannot evaluate")
    }
    let longest = base.config().max_context;
    let context = args.context.unwrap_or(USUAL_CONTEXT.min(longest));
    if context > longest {
        return Err(Failure::environment(format!(
            "a window of {context} tokens is longer than the {longest} that {} takes",
            base.name()
        ))
        .hint(format!("--context {longest} is the longest")));
    }
    let folder = Path::new(&args.base);
    let template = folder
        .is_dir()
        .then(|| ChatTemplate::for_rows(folder))
        .flatten();
    let dataset = Dataset::read(&args.text, &ReadOptions::default()).map_err(failed)?;
    let encoded = dataset.encode(base, template.as_ref()).map_err(failed)?;
    let (windows, _) = Windows::pack(encoded.documents, context, Packing::Fit).map_err(failed)?;
    Ok((windows, encoded.report))
}

pub(super) fn generate(context: &Context, args: &GenerateArgs) -> Result<(), Failure> {
    let base = open(&args.base, args.device)?;
    let adapter = adapter(&base, args.adapter.as_deref())?;
    let config = GenerateConfig {
        max_tokens: args.max_tokens,
        temperature: f64::from(args.temperature),
        seed: args.seed,
        ..GenerateConfig::default()
    };
    let answer = continue_text(&base, adapter.as_ref(), &args.prompt, &config)
        .map_err(|e| Failure::from_error(&e).during("cannot generate"))?;
    let report = GenerateReport {
        schema: "generate/1",
        text: answer.text,
        token_ids: answer.token_ids,
    };
    context
        .out
        .answer(&report, |r| format!("{}{}", args.prompt, r.text))
}

/// Refuses a file that may never end.
pub(super) fn finite(file: &Path) -> Result<(), Failure> {
    let checked = input::finite(file).map(drop);
    checked.map_err(|e| {
        Failure::environment(format!("cannot read {}: {e}", file.display())).hint("check the path")
    })
}

/// Refuses an adapter folder that is not there.
pub(super) fn is_there(folder: &Path) -> Result<(), Failure> {
    if folder.is_dir() {
        return Ok(());
    }
    Err(Failure::environment(format!(
        "there is no adapter folder at {}",
        folder.display()
    ))
    .hint("`tributary adapter export ID DIR` writes one, `adapter get` fetches one"))
}

/// A base model on a device. Files that hold no usable model fail the check (exit code 1).
pub(super) fn open(name: &str, device: Request) -> Result<BaseModel, Failure> {
    let base = model::open_on(name, device).map_err(|e| match e {
        ModelError::Load { .. } => Failure::check(e.to_string()),
        _ => Failure::from_error(&e),
    })?;
    if let Some(warning) = &base.device().warning {
        note(format_args!("warning {}: {warning}", warning.code()));
    }
    Ok(base)
}

fn adapter(base: &BaseModel, folder: Option<&Path>) -> Result<Option<Adapter>, Failure> {
    let Some(folder) = folder else {
        return Ok(None);
    };
    is_there(folder)?;
    let refused = |e: tributary_trainer::ImportError| {
        Failure::check(e.to_string())
            .during(&format!("cannot use the adapter {}", folder.display()))
    };
    let adapter = tributary_trainer::import_peft(folder, base).map_err(refused)?;
    if let Some(other) = peft::other_base(folder, base) {
        note(format_args!(
            "warning other_base: {} says that it was trained on {other}, and this is {}; it fits by its shapes alone",
            folder.display(),
            base.name()
        ));
    }
    Ok(Some(adapter))
}
