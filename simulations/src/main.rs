//! `tributary-sim`: run, replay and soak scenarios from the command line.
//!
//! Figures go to stdout, everything else to stderr. Exit codes: 0 all promises kept, 1 a promise
//! broken, 2 the command itself failed.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};
use tributary_simulations::oracle::Violation;
use tributary_simulations::record::Sink;
use tributary_simulations::scenario::{self, Scenario};
use tributary_simulations::soak::{Soak, insert_figures, soak};
use tributary_simulations::world::{Outcome, World};

/// Federations in virtual time: the same node that peers run, on a network as bad as you like.
#[derive(Parser)]
#[command(name = "tributary-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one seed and print its figures.
    Run {
        /// A scenario file, or the name of a built-in scenario (`smoke`).
        file: String,
        /// Instead of the scenario's own seed.
        #[arg(long)]
        seed: Option<u64>,
        /// How to print the figures.
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
    /// Show what happened in one seed.
    Replay {
        /// A scenario file, or the name of a built-in scenario.
        file: String,
        /// The seed.
        #[arg(long)]
        seed: u64,
        /// Every notice of every peer, not only crashes, splits and certified rounds.
        #[arg(long)]
        verbose: bool,
    },
    /// Run many seeds on all cores.
    Soak {
        /// A scenario file, or the name of a built-in scenario.
        file: String,
        /// How many.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// The first.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Threads; all cores by default.
        #[arg(long)]
        threads: Option<usize>,
        /// Start no further seed after so many minutes.
        #[arg(long)]
        minutes: Option<u64>,
        /// Put the figures into this Markdown file, between its soak marks.
        #[arg(long)]
        write: Option<std::path::PathBuf>,
    },
    /// List the built-in scenarios.
    List,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object on stdout.
    Json,
}

/// What `run --format json` prints.
#[derive(serde::Serialize)]
struct Figures {
    schema: &'static str,
    seed: u64,
    digest: String,
    rounds_certified: u32,
    violations: Vec<String>,
    events: u64,
    virtual_s: f64,
    wall_s: f64,
}

fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

/// Whether all promises were kept.
fn execute(command: Command) -> Result<bool, String> {
    match command {
        Command::Run { file, seed, format } => {
            let scenario = load(&file)?;
            Ok(run(&scenario, seed.unwrap_or(scenario.seed), format))
        }
        Command::Replay {
            file,
            seed,
            verbose,
        } => Ok(replay(&load(&file)?, seed, verbose)),
        Command::Soak {
            file,
            seeds,
            from,
            threads,
            minutes,
            write,
        } => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let threads = threads.unwrap_or(cores).max(1);
            let scenario = load(&file)?;
            let total = run_many(&scenario, from, seeds, threads, minutes);
            report(&file, &scenario, &total, write.as_deref())
        }
        Command::List => {
            scenario::builtin_names()
                .iter()
                .for_each(|name| println!("{name}"));
            Ok(true)
        }
    }
}

fn load(file: &str) -> Result<Scenario, String> {
    scenario::load(file).map_err(|error| error.to_string())
}

fn run(scenario: &Scenario, seed: u64, format: Format) -> bool {
    let started = Instant::now();
    let outcome = World::new(scenario, seed, None).run();
    let wall_s = started.elapsed().as_secs_f64();
    match format {
        Format::Json => {
            let figures = Figures {
                schema: "sim/1",
                seed,
                digest: outcome.digest.to_string(),
                rounds_certified: outcome.rounds_certified,
                violations: outcome
                    .violations
                    .iter()
                    .map(Violation::to_string)
                    .collect(),
                events: outcome.events,
                virtual_s: outcome.virtual_us as f64 / 1e6,
                wall_s,
            };
            println!(
                "{}",
                serde_json::to_string(&figures).expect("plain figures are JSON")
            );
        }
        Format::Text => print_outcome(scenario, &outcome, wall_s),
    }
    outcome.violations.is_empty()
}

fn print_outcome(scenario: &Scenario, outcome: &Outcome, wall_s: f64) {
    println!("{}", scenario.describe());
    println!("seed {}, digest {}", outcome.seed, outcome.digest);
    println!(
        "{} of {} rounds certified on every peer, {} crashes, {} events in {:.1} virtual seconds, \
         {wall_s:.2} s",
        outcome.rounds_certified,
        scenario.rounds,
        outcome.crashes,
        outcome.events,
        outcome.virtual_us as f64 / 1e6,
    );
    if let Some((before, after)) = outcome.loss {
        println!("common loss {before:.4} before, {after:.4} after");
    }
    match outcome.violations.is_empty() {
        true => println!("every promise was kept"),
        false => outcome
            .violations
            .iter()
            .for_each(|v| println!("BROKEN {v}")),
    }
}

fn replay(scenario: &Scenario, seed: u64, verbose: bool) -> bool {
    let sink: Sink = Box::new(move |line| {
        if verbose || line.contains("world") || line.contains("crash") || line.contains("restart") {
            println!("{line}");
        }
    });
    let started = Instant::now();
    let outcome = World::new(scenario, seed, Some(sink)).run();
    print_outcome(scenario, &outcome, started.elapsed().as_secs_f64());
    outcome.violations.is_empty()
}

fn run_many(
    scenario: &Scenario,
    from: u64,
    seeds: u64,
    threads: usize,
    minutes: Option<u64>,
) -> Soak {
    let limit = minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let total = soak(scenario, from, seeds, threads, limit, &|done, failed| {
        if done % 10 == 0 || done == seeds {
            eprint!("\r{done} of {seeds} seeds, {failed} with a violation");
            let _ = std::io::stderr().flush();
        }
    });
    eprintln!();
    total
}

fn report(
    file: &str,
    scenario: &Scenario,
    total: &Soak,
    write: Option<&Path>,
) -> Result<bool, String> {
    for outcome in total.failed.iter().take(10) {
        let violations = outcome.violations.iter();
        violations.for_each(|v| println!("BROKEN {v}"));
    }
    if let Some(first) = total.failed.first() {
        let seed = first.seed;
        println!("first failing seed {seed}: tributary-sim replay {file} --seed {seed} --verbose");
    }
    println!(
        "{} seeds, {} with a violation, {:.2} seeds/s, {:.1} virtual hours",
        total.seeds,
        total.failed.len(),
        total.seeds_per_s(),
        total.virtual_s / 3600.0,
    );
    if let Some(path) = write {
        let at = path.display();
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let (seeds, from) = (total.seeds, total.from);
        let command =
            format!("tributary-sim soak {file} --seeds {seeds} --from {from} --write {at}");
        let figures = total.markdown(scenario, &command);
        let text = insert_figures(&text, &scenario.name, &figures);
        std::fs::write(path, text)
            .map_err(|why| format!("cannot write {at}: {why}; give another place to --write"))?;
    }
    Ok(total.failed.is_empty())
}
