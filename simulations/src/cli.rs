//! The command line: one room per command, and the words they share.
//!
//! Answers go to stdout, everything else to stderr. Exit codes: 0 all promises and thresholds kept, 1
//! one of them broken, 2 the command itself failed.

mod bench;
mod list;
mod replay;
mod run;
mod soak;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Federations in virtual time: the same node that peers run, on a network as bad as you like.
#[derive(Parser)]
#[command(name = "tributary-sim", version, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "Exit codes: 0 all promises kept, 1 a promise broken, 2 the command failed.";

#[derive(Subcommand)]
enum Command {
    /// Run one seed and print its figures.
    Run(run::Arguments),
    /// Show what happened in one seed.
    Replay(replay::Arguments),
    /// Run many seeds on all cores.
    Soak(soak::Arguments),
    /// Run an experiment and write its page of figures.
    Bench(bench::Arguments),
    /// List the built-in scenarios.
    List,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object on stdout.
    Json,
}

/// Whether everything that was checked is in order; an error when the command could not be carried
/// out.
type Answer = Result<bool, Box<dyn Error>>;

/// Parses the arguments, carries the command out, and says how it went by the exit code.
pub fn main() -> ExitCode {
    let answer = match Arguments::parse().command {
        Command::Run(arguments) => run::execute(&arguments),
        Command::Replay(arguments) => replay::execute(&arguments),
        Command::Soak(arguments) => soak::execute(&arguments),
        Command::Bench(arguments) => bench::execute(&arguments),
        Command::List => list::execute(),
    };
    match answer {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

/// Threads that can work at once.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
