//! The command line: what a person can ask for, and how the answer and a failure look.
//!
//! Each command has a file of its own below `cli/`. The tree and the options that all share are in `args`, help and exit
//! codes in `help`.

pub mod args;

mod adapter;
mod base;
mod datanet;
mod dispute;
mod gateway;
mod help;
mod init;
mod invite;
mod join;
mod ledger;
mod model;
mod reach;
mod relay;
mod run;
mod serve;
mod settle;
mod status;
mod train;
mod up;
mod upkeep;
mod why;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use args::ApiCommand;
pub use args::{Cli, Command};

use crate::api::openapi;
use crate::terminal::output::Out;
use crate::terminal::{Failure, note};

/// What `man` answers.
#[derive(serde::Serialize)]
struct Manual {
    dir: String,
    pages: usize,
}

/// What every command gets.
#[derive(Clone, Debug)]
pub struct Context {
    /// The peer's folder; empty for a command that has nothing to do with one.
    pub home: PathBuf,
    /// How the program is called for the same folder again, for what to do next.
    pub call: String,
    /// Where and how answers go.
    pub out: Out,
}

/// Parses the arguments of this process, runs the command and tells how it went.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match help::parse(&arguments) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
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
        // gossipsub warns of every message that two neighbours bring, and both of every stream that a
        // neighbour opens beyond its share: a flood must not become a flood of the log. A relay warns of every peer that
        // it does not serve; a machine without a network would hear of it three times a second from multicast DNS, and of
        // each path that QUIC gives up.
        Command::Up(_) | Command::Relay(_) => {
            "warn,libp2p_gossipsub=error,libp2p_request_response=error,iroh_relay=error,iroh=error,noq=error,\
             noq_proto=error,swarm_discovery=off,tributary_peer=info"
        }
        // Each payment is a line.
        Command::Gateway(_) => "warn,tributary_peer=info",
        // A command says itself what failed; libraries only speak when somebody looks for a fault.
        _ => "off,tributary_peer=warn",
    };
    let asked = std::env::var("TRIBUTARY_LOG")
        .ok()
        .filter(|asked| !asked.trim().is_empty());
    let filter = asked.and_then(|asked| match asked.parse() {
        Ok(filter) => Some(filter),
        Err(e) => {
            note(format_args!(
                "warning: TRIBUTARY_LOG is not understood and not used: {e}"
            ));
            None
        }
    });
    let filter = filter.unwrap_or_else(|| tracing_subscriber::EnvFilter::new(default));
    // A second subscriber in one process (tests) is refused; the first one then stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(has_colours())
        .with_writer(std::io::stderr)
        // Told of a log that cannot be written, the subscriber would panic: there is nowhere to tell it.
        .log_internal_errors(false)
        .try_init();
}

/// Whether log lines are coloured: on a terminal that can, unless its owner wants none.
fn has_colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    !refused && !dumb && std::io::IsTerminal::is_terminal(&std::io::stderr())
}

/// The beginning of the next command: with the folder, where neither the environment nor the system names it.
fn call(home: Option<&Path>) -> String {
    let named = std::env::var_os("TRIBUTARY_HOME");
    match home {
        Some(home) if named.as_deref() != Some(home.as_os_str()) => {
            let home = home.display().to_string();
            match home.contains(|c: char| c.is_whitespace() || "'\"$&;()*".contains(c)) {
                true => format!("tributary --home '{}'", home.replace('\'', r"'\''")),
                false => format!("tributary --home {home}"),
            }
        }
        _ => "tributary".to_owned(),
    }
}

/// Runs one command on this thread.
///
/// # Errors
/// A [`Failure`] says what failed, why, and what to do.
pub fn dispatch(cli: Cli) -> Result<(), Failure> {
    // A demo without a folder gets a new one, not the peer's home.
    if let (Command::Demo(args), None) = (&cli.command, &cli.home) {
        return block_on(crate::demo::run(&Out::new(cli.format), None, args.clone()));
    }
    let context = Context {
        call: call(cli.home.as_deref()),
        home: match cli.home {
            Some(home) => home,
            None if cli.command.needs_home() => args::default_home()?,
            None => PathBuf::new(),
        },
        out: Out::new(cli.format),
    };
    match cli.command {
        Command::Init(args) => init::run(&context, &args),
        Command::Up(args) => block_on(up::run(&context, args)),
        Command::Down => block_on(up::down(&context)),
        Command::Invite(args) => block_on(invite::run(&context, args)),
        Command::Join(args) => block_on(join::run(&context, args)),
        Command::Reach => block_on(reach::run(&context)),
        Command::Relay(args) => block_on(relay::run(&context, args)),
        Command::Status(args) => block_on(status::run(&context, args)),
        Command::Run(command) => block_on(run::run(&context, command)),
        Command::Gc(args) => upkeep::gc(&context, args),
        Command::Datanet(command) => block_on(datanet::run(&context, command)),
        Command::Adapter(command) => block_on(adapter::run(&context, command)),
        Command::Ledger(command) => block_on(ledger::run(&context, command)),
        Command::Dispute(command) => block_on(dispute::run(&context, command)),
        Command::Settle(command) => block_on(settle::run(&context, command)),
        Command::Stake(args) => block_on(settle::stake(&context, args)),
        Command::Unstake(args) => block_on(settle::unstake(&context, args)),
        Command::Budget(args) => block_on(settle::budget(&context, args)),
        Command::Price(args) => block_on(settle::price(&context, args)),
        Command::Train(args) => block_on(train::run(&context, args)),
        Command::Why(args) => block_on(why::run(&context, args)),
        Command::Eval(args) => model::eval(&context, &args),
        Command::Generate(args) => model::generate(&context, &args),
        Command::Serve(args) => block_on(serve::run(&context, args)),
        Command::Gateway(args) => block_on(gateway::run(&context, args)),
        Command::Base(command) => base::run(&context, &command),
        Command::Demo(args) => block_on(crate::demo::run(&context.out, Some(context.home), args)),
        Command::Api(ApiCommand::Openapi) => {
            (context.out).answer(&openapi::document(), |_| openapi::text())
        }
        Command::Completions { shell } => help::completions(shell),
        Command::Man { dir } => {
            let pages = help::manual(&dir)?;
            let shown = dir.display().to_string();
            let written = Manual { dir: shown, pages };
            (context.out).answer(&written, |w| {
                format!(
                    "{} pages in {}; read one with `man {}/tributary.1`",
                    w.pages, w.dir, w.dir
                )
            })
        }
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

#[cfg(test)]
mod tests;
