//! `tributary serve`: answers over HTTP until it is stopped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tributary_engine::registry::RegistryLimits;
use tributary_engine::{EngineOptions, Precision};
use tributary_trainer::input;

use super::Context;
use super::args::{PrecisionName, ServeArgs, default_home};
use super::up::interrupted;
use crate::home::HomePaths;
use crate::serve::adapters::{AdapterOptions, Fetch};
use crate::serve::{ServeOptions, Server};
use crate::terminal::{Failure, note};

/// Holds one token; never printed.
const TOKEN_VARIABLE: &str = "TRIBUTARY_SERVE_TOKEN";
/// How long answers that were begun may take when the server is stopped.
pub(super) const DRAIN: Duration = Duration::from_secs(10);
/// Requests that wait for their turn; clients beyond are asked to come again.
const MOST_WAITING: usize = 256;
/// Requests that are answered at the same time.
const MOST_RUNNING: usize = 32;
/// How long to try to fetch an adapter, in seconds: clients wait for an answer ten minutes at most.
pub(super) const FETCH_S: u64 = 120;
/// Where a home keeps adapters that were fetched for answers, in its folder of what can be made again.
const CACHE: &str = "adapters";

/// `serve/1`: the server is ready.
#[derive(Serialize)]
pub(super) struct Serving {
    schema: &'static str,
    /// What clients call their base URL.
    pub(super) url: String,
    /// The base's name.
    pub(super) model: String,
}

impl Serving {
    pub(super) fn of(server: &Server) -> Self {
        Self {
            schema: "serve/1",
            url: format!("http://{}/v1", server.addr()),
            model: server.model().to_owned(),
        }
    }

    pub(super) fn words(&self) -> String {
        format!("serving {} at {}", self.model, self.url)
    }
}

pub(super) async fn run(context: &Context, args: ServeArgs) -> Result<(), Failure> {
    let server = start(options(context, args, home(context))?).await?;
    (context.out).answer(&Serving::of(&server), Serving::words)?;
    interrupted().await?;
    drain(server).await;
    Ok(())
}

/// What the arguments ask for, with the one that fetches adapters and the folder that keeps them.
pub(super) fn options(
    context: &Context,
    args: ServeArgs,
    (fetch, cache): (Fetch, PathBuf),
) -> Result<ServeOptions, Failure> {
    let threads = match args.threads {
        Some(threads) => threads as usize,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    Ok(ServeOptions {
        base: args.base,
        adapters: args.adapter,
        keep: AdapterOptions {
            limits: RegistryLimits {
                most_bytes: (args.adapter_memory as usize) << 20,
                ..RegistryLimits::default()
            },
            cache,
            // On an address that others reach, what is fetched is its owner's choice.
            fetch_unnamed: args.listen.ip().is_loopback(),
            fetch_timeout_s: FETCH_S,
        },
        fetch,
        listen: args.listen,
        hosts: args.host,
        tokens: tokens(args.token_file.as_deref())?,
        engine: EngineOptions {
            precision: match args.precision {
                PrecisionName::F32 => Precision::F32,
                PrecisionName::Int8 => Precision::Int8,
            },
            threads,
            cache_bytes: (args.cache as usize) << 20,
            most_waiting: MOST_WAITING,
            most_running: MOST_RUNNING,
        },
        till: super::gateway::till(context, &args.pay)?,
        channels: super::gateway::channels(context, &args.pay),
        cashiers: None,
    })
}

/// Loads everything and listens.
pub(super) async fn start(options: ServeOptions) -> Result<Server, Failure> {
    let started = crate::serve::start(options).await;
    started.map_err(|e| Failure::from_error(&e))
}

/// Ends a server, once what was begun is answered or took too long.
pub(super) async fn drain(server: Server) {
    if !server.drain(DRAIN).await {
        ended_early();
    }
}

/// Says that answers were cut off.
pub(super) fn ended_early() {
    note(format_args!(
        "warning: answers that took longer than {} s were ended",
        DRAIN.as_secs()
    ));
}

/// Where a home keeps adapters that were fetched for answers.
pub(super) fn cache(home: &HomePaths) -> PathBuf {
    home.cache().join(CACHE)
}

/// Who fetches adapters, and where they are kept: a home, where there is one.
fn home(context: &Context) -> (Fetch, PathBuf) {
    let named = Some(&context.home).filter(|home| !home.as_os_str().is_empty());
    // A system without a place for homes has none.
    let home = named.cloned().or_else(|| default_home().ok());
    match home.map(HomePaths::new) {
        Some(home) if home.key().is_file() => {
            let cache = cache(&home);
            (Fetch::Home(home.root().to_owned()), cache)
        }
        _ => (Fetch::Nobody, PathBuf::new()),
    }
}

/// Tokens of the file and of the environment.
fn tokens(file: Option<&Path>) -> Result<Vec<String>, Failure> {
    let mut tokens = Vec::new();
    if let Some(file) = file {
        let text = input::text(file).map_err(|e| {
            Failure::environment(format!("cannot read the tokens in {}: {e}", file.display()))
                .hint("give a file with one token a line")
        })?;
        let lines = text.lines().map(str::trim);
        tokens.extend(lines.filter(|line| !line.is_empty()).map(str::to_owned));
        if tokens.is_empty() {
            return Err(
                Failure::environment(format!("{} holds no token", file.display()))
                    .hint("write one a line; `openssl rand -hex 32` makes one"),
            );
        }
    }
    let variable = std::env::var(TOKEN_VARIABLE).ok();
    tokens.extend(variable.filter(|token| !token.is_empty()));
    Ok(tokens)
}
