//! Which cases are tried, and what is printed of them.

use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::cases::{self, Case};

/// What a case found: figures, and each promise that did not hold.
#[derive(Default)]
pub(crate) struct Outcome {
    figures: Map<String, Value>,
    misses: Vec<String>,
}

impl Outcome {
    pub(crate) fn note(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    /// Seconds, to the tenth.
    pub(crate) fn seconds(&mut self, name: &str, seconds: Option<f64>) {
        self.note(
            name,
            seconds.map_or(Value::Null, |s| json!((s * 10.0).round() / 10.0)),
        );
    }

    /// Something that was promised.
    pub(crate) fn promise(&mut self, holds: bool, what: impl Into<String>) {
        if !holds {
            self.misses.push(what.into());
        }
    }
}

/// What the command line asks for.
struct Asked {
    all: bool,
    list: bool,
    names: Vec<String>,
}

impl Asked {
    /// Options of the usual test runner that mean nothing here are passed over.
    fn read(arguments: impl Iterator<Item = String>) -> Self {
        let mut asked = Self {
            all: false,
            list: false,
            names: Vec::new(),
        };
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--all" => asked.all = true,
                "--list" => asked.list = true,
                "--test-threads" | "--format" | "--color" | "--skip" => drop(arguments.next()),
                option if option.starts_with('-') => {}
                name => asked.names.push(name.to_owned()),
            }
        }
        asked
    }

    fn wants(&self, case: &Case) -> bool {
        match self.names.is_empty() {
            true => self.all || case.short,
            false => self.names.iter().any(|name| case.name.contains(name)),
        }
    }
}

/// Tries the cases that the command line asks for.
pub(crate) fn run(namespaces: Result<(), String>) -> ExitCode {
    let asked = Asked::read(std::env::args().skip(1));
    let all = cases::all();
    if asked.list {
        for case in &all {
            println!("{}: test", case.name);
        }
        return ExitCode::SUCCESS;
    }
    let start = Instant::now();
    let (mut failed, mut tried) = (Vec::new(), 0);
    for case in all.iter().filter(|case| asked.wants(case)) {
        tried += 1;
        if !try_one(case, &namespaces) {
            failed.push(case.name.clone());
        }
    }
    println!(
        "\nnetworks: {tried} cases in {:.0} s, {} failed{}",
        start.elapsed().as_secs_f64(),
        failed.len(),
        failed
            .iter()
            .map(|name| format!("\n  {name}"))
            .collect::<String>()
    );
    match failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Whether the case holds. Prints a line for people, and one for `docs/numbers/update.py`.
fn try_one(case: &Case, namespaces: &Result<(), String>) -> bool {
    if let (Err(why), true) = (namespaces, case.needs_namespaces) {
        println!("network {} ... skipped: {why}", case.name);
        println!(
            "networks-json {}",
            json!({"case": case.name, "skipped": why})
        );
        return true;
    }
    let start = Instant::now();
    let outcome = (case.run)().unwrap_or_else(|why| Outcome {
        misses: vec![why],
        ..Outcome::default()
    });
    let ok = outcome.misses.is_empty();
    println!(
        "network {} ... {} ({:.0} s)",
        case.name,
        if ok { "ok" } else { "FAILED" },
        start.elapsed().as_secs_f64()
    );
    for miss in &outcome.misses {
        println!("  {}", miss.replace('\n', "\n  "));
    }
    let mut line = outcome.figures;
    line.insert("case".to_owned(), case.name.clone().into());
    line.insert("misses".to_owned(), outcome.misses.into());
    println!("networks-json {}", Value::Object(line));
    ok
}
