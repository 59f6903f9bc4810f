//! `tributary eval` and `tributary generate`: a model on this machine, no daemon.

use std::path::Path;

use serde::Serialize;
use tributary_protocol::adapter::Adapter;
use tributary_trainer::data::{Message, Packing, ReadOptions, RowReport};
use tributary_trainer::device::Request;
use tributary_trainer::{
    BaseModel, ChatTemplate, Control, Dataset, Evaluation, GenerateConfig, Windows, evaluate_with,
    generate_ids, peft,
};

use super::Context;
use super::args::{EvalArgs, GenerateArgs};
use crate::model::{self, ModelError};
use crate::terminal::output::{Align, Table};
use crate::terminal::working::Working;
use crate::terminal::{Failure, note};
use tributary_trainer::input;

/// `eval/1`.
#[derive(Serialize)]
struct EvalReport {
    schema: &'static str,
    /// Mean nats per predicted token: of the adapter if there is one, else of the base.
    nll: f64,
    /// That of the base; the same without an adapter.
    nll_base: f64,
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
    let by_base = measure(&base, None, &windows)?;
    let found = match &adapter {
        Some(adapter) => measure(&base, Some(adapter), &windows)?,
        None => by_base,
    };
    let report = EvalReport {
        schema: "eval/1",
        nll: found.nll,
        nll_base: by_base.nll,
        predicted: found.predicted,
        rows,
    };
    (context.out).answer(&report, |r| eval_text(r, adapter.is_some()))
}

fn measure(
    base: &BaseModel,
    adapter: Option<&Adapter>,
    windows: &Windows,
) -> Result<Evaluation, Failure> {
    let what = match adapter {
        Some(_) => "measuring with the adapter",
        None => "measuring the base",
    };
    let (working, all) = (Working::new(what), windows.predicted());
    let mut told = |done: &u64| {
        working.at(what, (*done, all));
        Control::Continue
    };
    let found = evaluate_with(base, adapter, windows, &mut told);
    let found = found.map_err(|e| Failure::from_error(&e))?;
    Ok(found.expect("nobody says stop"))
}

fn eval_text(report: &EvalReport, has_adapter: bool) -> String {
    let EvalReport { nll, nll_base, .. } = report;
    let mut table = Table::new(&[
        ("", Align::Left),
        ("nats per token", Align::Right),
        ("perplexity", Align::Right),
    ]);
    let mut row = |name: &str, nll: f64| {
        table.row([
            name.to_owned(),
            format!("{nll:.6}"),
            format!("{:.2}", nll.exp()),
        ]);
    };
    row("base", *nll_base);
    if has_adapter {
        row("adapter", *nll);
    }
    let mut text = table.render();
    if has_adapter {
        text.push_str(&format!("change    {:+.6}\n", nll - nll_base));
    }
    text.push_str(&format!("predicted {} tokens\n", report.predicted));
    text
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
    let prompt = prompt(&base, args)?;
    let answer = generate_ids(&base, adapter.as_ref(), &prompt, &config)
        .map_err(|e| Failure::from_error(&e).during("cannot generate"))?;
    let report = GenerateReport {
        schema: "generate/1",
        text: answer.text,
        token_ids: answer.token_ids,
    };
    // An answer stands by itself, a continuation behind what it continues.
    (context.out).answer(&report, |r| match args.chat {
        true => r.text.clone(),
        false => format!("{}{}", args.prompt, r.text),
    })
}

/// The prompt's tokens: as it stands, or as a user's message in the base's chat template.
fn prompt(base: &BaseModel, args: &GenerateArgs) -> Result<Vec<u32>, Failure> {
    let encoded = match args.chat {
        false => base.encode_from_start(&args.prompt),
        true => base.encode(&conversation(args)?),
    };
    encoded.map_err(|e| Failure::from_error(&e).during("cannot generate"))
}

fn conversation(args: &GenerateArgs) -> Result<String, Failure> {
    let folder = Path::new(&args.base);
    let template = match folder.is_dir() {
        true => ChatTemplate::from_dir(folder).map_err(|e| Failure::from_error(&e))?,
        false => None,
    };
    let template = template.ok_or_else(|| {
        Failure::environment(format!("{} has no chat template", args.base))
            .hint("leave out --chat and write the prompt as the model was trained on it")
    })?;
    let system = args.system.iter().map(|text| Message::new("system", text));
    let messages: Vec<Message> = system.chain([Message::new("user", &args.prompt)]).collect();
    (template.render(&messages, true))
        .map_err(|e| Failure::from_error(&e).during("cannot generate"))
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
        let failure = Failure::check(e.to_string())
            .during(&format!("cannot use the adapter {}", folder.display()));
        match peft::other_base(folder, base) {
            Some(other) => failure.hint(format!(
                "it says that it was trained on {other}, and this is {}; name that base with --base",
                base.name()
            )),
            None => failure,
        }
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
