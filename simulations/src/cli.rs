//! The command line: one file per command, and what they share.
//!
//! Answers go to stdout, everything else to stderr. Exit codes: 0 all promises and thresholds kept, 1
//! one of them broken, 2 the command itself failed.

/// A line of the answer, as `println!`; see [`answer`].
macro_rules! say {
    ($($words:tt)*) => {
        $crate::cli::answer(format_args!($($words)*))
    };
}

mod compare;
mod list;
mod new;
mod replay;
mod run;
mod soak;
mod sweep;

pub use list::print as print_names;

use std::error::Error;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand, ValueEnum};

use crate::catalogue::Catalogue;

/// Federations in virtual time: the same node that peers run, on a network as bad as you like.
#[derive(Parser)]
#[command(name = "tributary-sim", version, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
First steps:
  tributary-sim new study.toml --peers 12     write a commented scenario
  tributary-sim run study.toml --out result   run it; open result/report.html
  tributary-sim sweep study.toml --out grid   vary what its [sweep] table says
  tributary-sim compare result other --max final_loss=+1%

Exit codes: 0 all promises and thresholds kept, 1 one of them broken, 2 the command failed.";

#[derive(Subcommand)]
enum Command {
    /// Write a commented scenario to begin with.
    New(new::Arguments),
    /// Run one seed: figures, and with --out tables, plots and a report.
    Run(run::Arguments),
    /// Run every combination of some keys' values, several seeds each.
    Sweep(sweep::Arguments),
    /// Put results side by side and check thresholds.
    Compare(compare::Arguments),
    /// Show what happened in one seed, event by event.
    Replay(replay::Arguments),
    /// Run many seeds on all cores and look for broken promises.
    Soak(soak::Arguments),
    /// List the scenarios, the metrics, or what a scenario can choose by name.
    List(list::Arguments),
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object on stdout.
    Json,
}

/// Whether everything that was checked is in order; an error when the command could not be carried
/// out.
pub type Answer = Result<bool, Box<dyn Error>>;

/// Parses the arguments, carries the command out, and says how it went by the exit code.
pub fn main() -> ExitCode {
    main_with(Catalogue::default())
}

/// [`main`] of a program that has added to the catalogue what is its own.
pub fn main_with(catalogue: Catalogue) -> ExitCode {
    let catalogue = Arc::new(catalogue);
    exit_code(match Arguments::parse().command {
        Command::New(arguments) => new::execute(&arguments),
        Command::Run(arguments) => run::execute(&catalogue, &arguments),
        Command::Sweep(arguments) => sweep::execute(&catalogue, &arguments),
        Command::Compare(arguments) => compare::execute(&arguments),
        Command::Replay(arguments) => replay::execute(&catalogue, &arguments),
        Command::Soak(arguments) => soak::execute(&catalogue, &arguments),
        Command::List(arguments) => list::execute(&catalogue, &arguments),
    })
}

/// Says how a command went: an error goes to stderr.
pub fn exit_code(answer: Answer) -> ExitCode {
    match answer {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "error: {why}");
            ExitCode::from(2)
        }
    }
}

/// Writes a line to stdout. A reader that has enough (`| head`) ends the program in peace; a disk that
/// takes no more ends it with exit code 2. Neither is a defect that a panic should report.
pub fn answer(line: std::fmt::Arguments<'_>) {
    let written = writeln!(std::io::stdout(), "{line}");
    let Err(why) = written else { return };
    if why.kind() == std::io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    let _ = writeln!(
        std::io::stderr(),
        "error: the answer cannot be written: {why}"
    );
    std::process::exit(2);
}

/// Shows on stderr how far a command is, when somebody watches; the line is written over.
fn progress(line: &str) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r{line}");
        let _ = stderr.flush();
    }
}

/// Ends the line of [`progress`].
fn progress_over() {
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
}

/// Threads that can work at once.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Prints rows in columns: the first `words` to the left, numbers to the right.
fn print_table(rows: &[Vec<String>], words: usize) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .map(move |row| row[column].chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let line: Vec<String> = cells
            .map(|(column, (cell, width))| match column < words {
                true => format!("{cell:<width$}"),
                false => format!("{cell:>width$}"),
            })
            .collect();
        say!("{}", line.join("  ").trim_end());
    }
}
