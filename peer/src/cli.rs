//! The command line: what a person can ask for, and how the answer and a failure look.
//!
//! Each command has a file of its own below `cli/`; here are the tree, the options that all share, and
//! the exit codes: 0 done, 1 what was checked is wrong, 2 the command could not be carried out.

pub mod args;
pub mod failure;
pub mod output;

mod init;

mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

pub use args::{Cli, Command, Format};
pub use failure::Failure;

use output::Out;

/// What every command gets.
#[derive(Clone, Debug)]
pub struct Context {
    /// The peer's folder.
    pub home: PathBuf,
    /// Where and how answers go.
    pub out: Out,
}

/// Parses the arguments of this process, runs the command and tells how it went.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    logging(&cli);
    let format = cli.format;
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(format);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Log lines go to stderr. The daemon speaks at `info`; a command only when something is wrong.
fn logging(cli: &Cli) {
    let default = match cli.command {
        _ => "error",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("TRIBUTARY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    // A second subscriber in one process (tests) is refused; the first one then stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr)
        .try_init();
}

/// Runs one command on this thread.
///
/// # Errors
/// A [`Failure`] says what failed, why, and what to do.
pub fn dispatch(cli: Cli) -> Result<(), Failure> {
    let context = Context {
        home: match cli.home {
            Some(home) => home,
            None => args::default_home()?,
        },
        out: Out::new(cli.format),
    };
    match cli.command {
        Command::Init(args) => init::run(&context, &args),
        Command::Status => block_on(status::run(&context)),
        _ => Err(Failure::environment(
            "this command is not in this build yet",
        )),
    }
}

fn block_on<F: Future<Output = Result<(), Failure>>>(future: F) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| {
            Failure::environment(format!("cannot start the async runtime: {e}")).hint(
                "the system refuses threads or file handles; close other programs, see `ulimit -a`",
            )
        })?;
    runtime.block_on(future)
}
