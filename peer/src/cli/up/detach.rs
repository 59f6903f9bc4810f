//! `tributary up --detach`: the daemon in a process of its own, and an answer once it can be asked.
//!
//! The same command without `--detach` is started with the home's `daemon.log` in the place of the terminal. What is
//! wrong shows here as if it had been started here: the end of its log is part of the error.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::api::Reader;
use crate::api::client::Client;
use crate::api::types::StatusView;
use crate::cli::Context;
use crate::cli::args::UpArgs;
use crate::cli::serve::FETCH_S;
use crate::home::disk;
use crate::home::{Home, HomePaths};
use crate::terminal::Failure;

/// How long a daemon may take to answer: it may have to read a long ledger first.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is asked.
const LOOK: Duration = Duration::from_millis(50);
/// Lines of its log that an error shows.
const SHOWN_LINES: usize = 12;

/// A daemon that was started and answers.
#[derive(Debug, Serialize)]
struct Started {
    schema: &'static str,
    /// The peer's id.
    peer: String,
    /// What others pass to `--bootstrap`.
    addresses: Vec<String>,
    /// Its process.
    pid: u32,
    /// What it writes its log to.
    log: PathBuf,
    /// Where it answers clients, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    serving: Option<String>,
    /// Where it asks servers for programs, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
}

/// What has to answer before a daemon has started, beside its control API.
#[derive(Clone, Copy, Debug, Default)]
struct Awaited {
    server: bool,
    gateway: bool,
}

impl Awaited {
    fn is_met(self, status: &StatusView) -> bool {
        (!self.server || status.serving.is_some()) && (!self.gateway || status.gateway.is_some())
    }

    /// A server fetches its adapters first.
    fn patience(self) -> Duration {
        match self.server {
            true => PATIENCE + Duration::from_secs(FETCH_S),
            false => PATIENCE,
        }
    }
}

/// Starts the daemon of the home and waits until it answers.
pub(super) async fn run(context: &Context, args: &UpArgs) -> Result<(), Failure> {
    if let Ok(Some(_)) = Client::try_open(&context.home).await {
        return Err(Failure::environment(format!(
            "a daemon runs on the home {} already",
            context.home.display()
        ))
        .hint("`tributary status` shows what it does, `tributary down` stops it"));
    }
    // This command again, without `--detach`.
    let again = std::env::args_os().skip(1).filter(|arg| arg != "--detach");
    let awaited = Awaited {
        server: args.serve.serve,
        gateway: !args.gateway.gateway.is_empty(),
    };
    let started = start_with(&context.home, again.collect(), awaited).await?;
    context.out.answer(&started, text)
}

/// Starts a daemon on the home with these options, and waits until it answers.
pub(in crate::cli) async fn start(home: &Path, options: &[String]) -> Result<(), Failure> {
    let mut args: Vec<OsString> = vec!["--home".into(), home.into()];
    args.extend(options.iter().map(OsString::from));
    let started = start_with(home, args, Awaited::default()).await;
    started.map(|_| ())
}

async fn start_with(
    home: &Path,
    args: Vec<OsString>,
    awaited: Awaited,
) -> Result<Started, Failure> {
    // What is wrong with the home shows here, and no log is left in a folder that is none.
    drop(Home::open(home)?);
    let log = HomePaths::new(home).log();
    let mut child = spawn(&log, args).map_err(|e| {
        Failure::environment(format!(
            "cannot start a daemon that logs to {}: {e}",
            log.display()
        ))
        .hint("make the home with `tributary init`, check its permissions and the free space")
    })?;
    let status = answered(home, &mut child, &log, awaited).await?;
    Ok(Started {
        schema: "started/1",
        peer: status.peer,
        addresses: status.addresses,
        pid: child.id(),
        log,
        serving: status.serving.map(|serving| serving.url),
        gateway: status.gateway,
    })
}

fn text(started: &Started) -> String {
    let mut lines = vec![format!("the daemon of peer {} runs", &started.peer[..10])];
    for address in &started.addresses {
        lines.push(format!("others reach it at {address}"));
    }
    if let Some(url) = &started.serving {
        lines.push(format!("serving  {url}"));
    }
    if let Some(url) = &started.gateway {
        lines.push(format!("gateway  {url}"));
    }
    lines.push(format!("log      {}", started.log.display()));
    lines.join("\n")
}

fn spawn(log: &Path, args: Vec<OsString>) -> io::Result<Child> {
    let writing = disk::private().append(true).create(true).open(log)?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(writing);
    // What ends the processes of this terminal does not end it.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn()
}

async fn answered(
    home: &Path,
    child: &mut Child,
    log: &Path,
    awaited: Awaited,
) -> Result<StatusView, Failure> {
    let began = Instant::now();
    loop {
        if let Ok(Some(client)) = Client::try_open(home).await {
            // One that ends while it is asked is told of below.
            let status = client.status().await;
            match status {
                Ok(status) if awaited.is_met(&status) => return Ok(status),
                Err(why) if !awaited.server && !awaited.gateway => return Err(why.into()),
                Ok(_) | Err(_) => {}
            }
        }
        if let Ok(Some(ended)) = child.try_wait() {
            return Err(Failure::environment(format!(
                "the daemon ended at once ({ended}); its log says:\n{}",
                last_lines(log)
            ))
            .hint("mend what it says; `tributary up` without --detach shows it here"));
        }
        if began.elapsed() > awaited.patience() {
            return Err(Failure::environment(format!(
                "the daemon has not answered for {} seconds; it goes on starting as process {}",
                awaited.patience().as_secs(),
                child.id()
            ))
            .hint(format!("look into {}", log.display())));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn last_lines(log: &Path) -> String {
    let text = File::open(log)
        .and_then(io::read_to_string)
        .unwrap_or_else(|e| format!("(it cannot be read: {e})"));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}
