//! Our side of `conductor.py`: loads a model, then answers commands, a JSON line each.
//!
//! ```text
//! serving --model FOLDER --precision f32|int8 --threads 2 --cpus 0,1
//! ```
//! What it is asked, and how llama.cpp is, stands in the README beside this file.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use tributary_engine::bench::Bench;
use tributary_engine::{Base, Precision};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let folder = option("--model").ok_or("give --model FOLDER")?;
    let precision = match option("--precision").as_deref() {
        Some("int8") => Precision::Int8,
        _ => Precision::F32,
    };
    let threads: usize = option("--threads").map_or(Ok(2), |text| text.parse())?;
    let base = match folder.as_str() {
        "brook" => Base::brook()?,
        folder => Base::from_dir(Path::new(folder))?,
    };
    let mut bench = Bench::new(base, precision, threads);
    let ready = json!({
        "name": "tributary",
        "version": env!("CARGO_PKG_VERSION"),
        "threads": threads,
        "weight_bytes": bench.weight_bytes(),
    });
    say(&ready)?;
    for line in std::io::stdin().lock().lines() {
        let answer = match answered(&mut bench, &line?) {
            Ok((seconds, tokens)) => json!({"seconds": seconds, "tokens": tokens}),
            Err(error) => json!({"error": error.to_string()}),
        };
        say(&answer)?;
    }
    Ok(())
}

fn say(value: &Value) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}

/// Seconds and tokens of one command.
fn answered(bench: &mut Bench, line: &str) -> Result<(f64, usize), Failure> {
    let command: Value = serde_json::from_str(line)?;
    let number = |name: &str| command[name].as_u64().unwrap_or(0) as usize;
    let tokens = number("tokens");
    let mut adapters = Vec::new();
    let listed = command["adapters"].as_array().into_iter().flatten();
    for path in listed.chain(command.get("adapter")) {
        adapters.push(bench.adapter(Path::new(path.as_str().ok_or("a path")?))?);
    }
    let what = command["do"].as_str().unwrap_or_default();
    match what {
        "prefill" => {
            bench.clear(1);
            let start = Instant::now();
            bench.read(tokens, &adapters);
            Ok((start.elapsed().as_secs_f64(), tokens))
        }
        "decode" | "adapter" | "batch" | "adapters" => {
            let rows = number("rows").max(1);
            bench.clear(rows);
            bench.read(number("context"), &adapters);
            let start = Instant::now();
            (0..tokens).for_each(|_| bench.decode(&adapters));
            Ok((start.elapsed().as_secs_f64(), rows * tokens))
        }
        other => Err(format!("no command {other}").into()),
    }
}
