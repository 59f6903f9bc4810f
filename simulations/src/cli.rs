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

mod bench;
mod compare;
mod list;
mod new;
mod replay;
mod run;
mod soak;
mod sweep;

pub use list::print as print_names;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand, ValueEnum};

use crate::catalogue::Catalogue;
use crate::watch::note;

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
    #[command(flatten)]
    Scenarios(ScenarioCommand),
    /// Answer a question by figures.
    Bench(bench::Arguments),
    /// List the scenarios, the metrics, or what a scenario can choose by name.
    List(list::Arguments),
}

/// What is done with scenarios and their results, for any program that carries a [`Catalogue`].
#[derive(Subcommand)]
pub enum ScenarioCommand {
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
}

/// The program that carries a command out.
#[derive(Clone, Debug)]
pub struct Program {
    /// What people call to start it.
    pub name: &'static str,
    /// What the names of its scenarios mean.
    pub catalogue: Arc<Catalogue>,
}

impl ScenarioCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn execute(&self, program: &Program) -> Answer {
        match self {
            Self::New(arguments) => new::execute(program, arguments),
            Self::Run(arguments) => run::execute(program, arguments),
            Self::Sweep(arguments) => sweep::execute(program, arguments),
            Self::Compare(arguments) => compare::execute(arguments),
            Self::Replay(arguments) => replay::execute(program, arguments),
            Self::Soak(arguments) => soak::execute(program, arguments),
        }
    }
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
    let program = Program {
        name: "tributary-sim",
        catalogue: Arc::new(catalogue),
    };
    exit_code(match Arguments::parse().command {
        Command::Scenarios(command) => command.execute(&program),
        Command::Bench(arguments) => bench::execute(&arguments),
        Command::List(arguments) => list::execute(&program.catalogue, &arguments),
    })
}

/// Says how a command went: an error goes to stderr.
pub fn exit_code(answer: Answer) -> ExitCode {
    match answer {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            note(format_args!("error: {why}"));
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
    note(format_args!("error: the answer cannot be written: {why}"));
    std::process::exit(2);
}

/// Threads that one command may start: more share the same cores.
const MAX_THREADS: usize = 1_024;

/// The threads to use: as asked for, else all cores.
fn threads(wanted: Option<usize>) -> Result<usize, String> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    match wanted.unwrap_or_else(cores) {
        0 => Ok(1),
        threads @ 1..=MAX_THREADS => Ok(threads),
        threads => Err(format!(
            "--threads {threads} is more than the {MAX_THREADS} that may be started"
        )),
    }
}

/// Refuses seeds beyond the last that there is.
fn check_seeds(from: u64, seeds: u64) -> Result<(), String> {
    match from.checked_add(seeds) {
        Some(_) => Ok(()),
        None => Err(format!(
            "{seeds} seeds from {from} are more than there are; lower --seeds or --from"
        )),
    }
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
