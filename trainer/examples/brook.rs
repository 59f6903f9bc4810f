//! Makes the embedded base model again, or measures it.
//!
//! ```text
//! trainer/assets/fetch.sh /tmp/brook && trainer/assets/text.py /tmp/brook
//! cargo run --release -p tributary-trainer --example brook -- vocabulary /tmp/brook
//! cargo run --release -p tributary-trainer --example brook -- train /tmp/brook --steps 3000
//! cargo run --release -p tributary-trainer --example brook -- evaluate /tmp/brook/model /tmp/brook/heldout.txt
//! cargo run --release -p tributary-trainer --example brook -- sample /tmp/brook/model "The house"
//! cargo run --release -p tributary-trainer --example brook -- shards /tmp/brook/model
//! ```
//! `train` goes on from `checkpoint/` where one exists, so it may be killed at any time.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tributary_protocol::adapter::Adapter;
use tributary_protocol::hash::Digest;
use tributary_trainer::full::{FullConfig, FullTrainer};
use tributary_trainer::pretrain::{self, END_OF_TEXT, Plan, Run, Stream, vocabulary};
use tributary_trainer::shards::{DEMO_SHARDS, split};
use tributary_trainer::{
    BaseModel, GenerateConfig, Session, Tokenizer, TrainConfig, Windows, evaluate, generate,
};

/// Rows of brook's token table.
const VOCABULARY: usize = 4_096;
/// Tokens of held-out text that are measured at each checkpoint; `evaluate` takes all.
const HELD_OUT_TOKENS: usize = 32 * 512;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |at: usize| -> Result<&str, Box<dyn Error>> {
        let missing = "usage: brook vocabulary|train FOLDER, evaluate MODEL FILE, sample MODEL TEXT, shards MODEL";
        Ok(arguments.get(at).ok_or(missing)?)
    };
    match text(0)? {
        "vocabulary" => learn_vocabulary(Path::new(text(1)?)),
        "train" => train(Path::new(text(1)?), &arguments[2..]),
        "evaluate" => measure(Path::new(text(1)?), Path::new(text(2)?)),
        "sample" => sample(Path::new(text(1)?), text(2)?),
        "shards" => shards(Path::new(text(1)?)),
        other => Err(format!("unknown command {other:?}").into()),
    }
}

fn learn_vocabulary(folder: &Path) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(folder.join("train.txt"))?;
    let line = format!("\n{END_OF_TEXT}\n");
    let json = vocabulary::learn(text.split(line.as_str()), VOCABULARY)?;
    fs::create_dir_all(folder.join("model"))?;
    fs::write(folder.join("model/tokenizer.json"), &json)?;
    println!("tokenizer.json: {} bytes", json.len());
    Ok(())
}

fn option<T: std::str::FromStr>(
    options: &[String],
    name: &str,
    default: T,
) -> Result<T, Box<dyn Error>> {
    match options.iter().position(|o| o == name) {
        None => Ok(default),
        Some(at) => options
            .get(at + 1)
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| format!("{name} needs a number after it").into()),
    }
}

fn train(folder: &Path, options: &[String]) -> Result<(), Box<dyn Error>> {
    let usual = Plan::default();
    let plan = Plan {
        steps: option(options, "--steps", usual.steps)?,
        batch_tokens: option(options, "--batch-tokens", usual.batch_tokens)?,
        context: option(options, "--context", usual.context)?,
        long_from: option(options, "--long-from", usual.long_from)?,
        peak: option(options, "--peak", usual.peak)?,
        warm_up: option(options, "--warm-up", usual.warm_up)?,
        seed: option(options, "--seed", usual.seed)?,
    };
    let run = Run {
        folder: PathBuf::from(option(options, "--out", folder.display().to_string())?),
        log_every: option(options, "--log-every", 20)?,
        save_every: option(options, "--save-every", 200)?,
    };
    let tokenizer = Tokenizer::from_file(folder.join("model/tokenizer.json"))?;
    let model = run.folder.join("model");
    if run.folder != folder {
        fs::create_dir_all(&model)?;
        fs::copy(
            folder.join("model/tokenizer.json"),
            model.join("tokenizer.json"),
        )?;
    }
    let end = tokenizer.eos_ids()[0];
    let read = |name: &str| -> Result<Vec<u32>, Box<dyn Error>> {
        Ok(pretrain::tokens_of(
            &fs::read_to_string(folder.join(name))?,
            &tokenizer,
            end,
        )?)
    };
    let mut stream = Stream::new(read("train.txt")?, plan.seed)?;
    let mut held_out = read("heldout.txt")?;
    held_out.truncate(HELD_OUT_TOKENS);
    let mut config = pretrain::brook_config(tokenizer.vocab_size(), end);
    config.layers = option(options, "--layers", config.layers)?;
    println!(
        "{} tokens of text, {} parameters, {plan:?}",
        stream.len(),
        config.parameters()
    );
    pretrain::pretrain(&plan, &run, config, &mut stream, &held_out, &mut |line| {
        let held = line
            .held_out
            .map(|nll| format!("  held out {nll:.4}"))
            .unwrap_or_default();
        say(format_args!(
            "step {:>6}/{}  tokens {:>9}  loss {:.4}  lr {:.2e}  {:>6.0} tok/s{held}  {} left",
            line.step,
            plan.steps,
            line.tokens,
            line.loss,
            line.learning_rate,
            line.tokens_per_s,
            line.left
        ));
        if line.held_out.is_some() {
            match continued(&model, "The house", 24) {
                Ok(text) => say(format_args!("        {}", text.replace('\n', "/"))),
                Err(error) => say(format_args!("        {error}")),
            }
        }
    })?;
    Ok(())
}

/// A line of the log. A log that cannot be written must not end hours of training.
fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Loss on every whole window of 512 tokens, and on the same text by counts of single tokens.
fn measure(model: &Path, file: &Path) -> Result<(), Box<dyn Error>> {
    let tokenizer = Tokenizer::from_file(model.join("tokenizer.json"))?;
    let text = fs::read_to_string(file)?;
    let tokens = pretrain::tokens_of(&text, &tokenizer, tokenizer.eos_ids()[0])?;
    let trainer = FullTrainer::load(model, FullConfig::default())?;
    for context in [256, 512] {
        let found = pretrain::held_out_loss(&trainer, &tokens, context)?;
        let bytes = text.len() as f64 / tokens.len() as f64;
        println!(
            "context {context}: {:.4} nats per token over {} tokens, {:.4} nats per byte ({bytes:.3} bytes per token)",
            found.nll,
            found.predicted,
            found.nll / bytes
        );
    }
    let mut counts = vec![0u64; tokenizer.vocab_size()];
    tokens.iter().for_each(|id| counts[*id as usize] += 1);
    let total = tokens.len() as f64;
    let share = |count: &u64| *count as f64 / total;
    let entropy: f64 = counts
        .iter()
        .filter(|c| **c > 0)
        .map(|c| -share(c) * share(c).ln())
        .sum();
    println!("entropy of single tokens: {entropy:.4} nats");
    Ok(())
}

fn sample(model: &Path, prompt: &str) -> Result<(), Box<dyn Error>> {
    println!("{}", continued(model, prompt, 80)?);
    Ok(())
}

/// Loss on each demo shard's hold-out, before and after a short LoRA training on the rest of that shard.
fn shards(model: &Path) -> Result<(), Box<dyn Error>> {
    let base = BaseModel::from_dir(model)?;
    let shape = Arc::new(base.adapter_shape(8, 16));
    let config = TrainConfig {
        steps: 48,
        learning_rate: 4e-3,
        ..TrainConfig::default()
    };
    println!(
        "| shard | bytes | loss of brook | after {} steps of LoRA |",
        config.steps
    );
    println!("|---|---|---|---|");
    for shard in DEMO_SHARDS {
        let parts = split(shard.text);
        let windows = |text: &str| Windows::from_text(&base, text, 256);
        let held_out = windows(&parts.hold_out)?;
        let before = evaluate(&base, None, &held_out)?.nll;
        let start = Adapter::init(shape.clone(), &Digest::default());
        let mut session = Session::new(&base, &start, windows(&parts.training)?, config)?;
        while !session.is_done() {
            session.step()?;
        }
        let after = evaluate(&base, Some(session.adapter()), &held_out)?.nll;
        println!(
            "| {} | {} | {before:.3} | {after:.3} |",
            shard.name,
            shard.text.len()
        );
    }
    Ok(())
}

/// The prompt and its likeliest continuation.
fn continued(model: &Path, prompt: &str, max_tokens: usize) -> Result<String, Box<dyn Error>> {
    let base = BaseModel::from_dir(model)?;
    let config = GenerateConfig {
        max_tokens,
        ..GenerateConfig::default()
    };
    Ok(format!(
        "{prompt}{}",
        generate(&base, None, prompt, &config)?.text
    ))
}
