//! `tributary adapter ...`: adapters of runs, as PEFT folders and for llama.cpp.
//!
//! With a daemon on the home, it does the work. Without one, `list` and `export` read the stopped
//! home, and `get` starts a peer for as long as the fetch takes.

mod gguf;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::Notify;
use tributary_ledger::view::{AdapterView, short};
use tributary_protocol::node::Resources;
use tributary_trainer::device::Request;
use tributary_trainer::peft::Verified;

use super::args::{AdapterCommand, parse_id};
use super::run::absolute;
use super::{Context, up};
use crate::api::client::Client;
use crate::api::handler::DaemonHandler;
use crate::api::loader::Server;
use crate::api::local::Local;
use crate::api::types::{ExportRequest, FetchRequest};
use crate::api::{ApiHandler, Reader};
use crate::home::{Home, HomePaths};
use crate::identity::Identity;
use crate::model::{self, learner::ModelLearner};
use crate::settings::{Bounds, ChainAccess, Settings};
use crate::terminal::output::{Align, Table, bytes};
use crate::terminal::{Failure, note};

pub(super) async fn run(context: &Context, command: AdapterCommand) -> Result<(), Failure> {
    let local = || Local::of(&context.home);
    match command {
        AdapterCommand::List => {
            let adapters = local().await?.adapters().await?;
            context.out.answer(&adapters, |adapters| table(adapters))
        }
        AdapterCommand::Export {
            id,
            dir,
            gguf: true,
            base,
        } => gguf::export(context, &named(&id)?, &absolute(&dir)?, base).await,
        AdapterCommand::Export { id, dir, .. } => {
            if Path::new(&id).is_dir() {
                return Err(
                    Failure::environment(format!("{id} is a PEFT folder already"))
                        .hint("add --gguf to write it for llama.cpp"),
                );
            }
            let dir = absolute(&dir)?;
            let request = ExportRequest {
                id: named(&id)?,
                dir: dir.clone(),
            };
            answer(context, &local().await?.export(request).await?, &dir)
        }
        AdapterCommand::Get {
            id,
            dir,
            bootstrap,
            timeout_s,
            bounds,
        } => {
            let dir = absolute(&dir)?;
            up::addresses(&bootstrap).await?;
            let request = FetchRequest {
                id,
                dir: dir.clone(),
                bootstrap,
                timeout_s,
            };
            let view = match local().await? {
                Local::Running(client) => client.fetch(&request).await?,
                Local::Stopped(_) => get_alone(context, request, bounds).await?,
            };
            answer(context, &view, &dir)
        }
        AdapterCommand::Watch {
            id,
            out,
            serve,
            name,
        } => {
            let out = out.as_deref().map(absolute).transpose()?;
            let server = serve.zip(name).map(|(url, name)| Server::new(&url, &name));
            let client = Client::open(&context.home).await?;
            watch::watch(context, &client, &id, out, server.transpose()?).await
        }
        AdapterCommand::Verify { dir, base } => verify(context, &dir, &base),
    }
}

/// A folder that is there, or an id.
fn named(id: &str) -> Result<String, Failure> {
    match Path::new(id).is_dir() {
        true => Ok(id.to_owned()),
        false => parse_id(id).map_err(|why| {
            Failure::environment(format!("there is no folder {id}, and it is no id: {why}"))
        }),
    }
}

/// `adapter-verify/1`.
#[derive(Serialize)]
struct VerifyReport {
    schema: &'static str,
    #[serde(flatten)]
    verified: Verified,
}

fn verify(context: &Context, dir: &Path, base: &str) -> Result<(), Failure> {
    super::model::is_there(dir)?;
    let base = super::model::open(base, Request::Cpu)?;
    let verified = tributary_trainer::peft::verify(dir, &base)
        .map_err(|e| Failure::check(e.to_string()).during(&dir.display().to_string()))?;
    let report = VerifyReport {
        schema: "adapter-verify/1",
        verified,
    };
    context.out.answer(&report, |r| r.verified.to_string())
}

fn answer(context: &Context, view: &AdapterView, dir: &Path) -> Result<(), Failure> {
    context.out.answer(view, |view| {
        format!(
            "adapter  {}\nrun      {} ({}), round {}\nbase     {}\nfolder   {}\n\nchecked against the \
             run's certificates from its manifest on\nnext: tributary eval --adapter {}{} --text FILE",
            view.id,
            short(&view.run),
            view.name,
            view.round,
            view.base,
            dir.display(),
            dir.display(),
            with_base(&view.base),
        )
    })
}

/// What the next command needs where the base is not in the program.
fn with_base(base: &str) -> &'static str {
    match base {
        model::BROOK => "",
        _ => " --base DIR",
    }
}

fn table(adapters: &[AdapterView]) -> String {
    if adapters.is_empty() {
        return "no certified adapter yet; `tributary run watch ID` shows how a run gets there\n"
            .to_owned();
    }
    let mut table = Table::new(&[
        ("adapter", Align::Left),
        ("run", Align::Left),
        ("name", Align::Left),
        ("base", Align::Left),
        ("round", Align::Right),
        ("size", Align::Right),
    ]);
    for a in adapters {
        table.row([
            short(&a.id),
            short(&a.run),
            a.name.clone(),
            a.base.clone(),
            a.round.to_string(),
            bytes(a.size),
        ]);
    }
    table.render()
}

/// Fetches as a peer of its own: on the given home when it has a key, else on one that is made for
/// the purpose and removed.
async fn get_alone(
    context: &Context,
    request: FetchRequest,
    bounds: Bounds,
) -> Result<AdapterView, Failure> {
    if request.bootstrap.is_empty() {
        return Err(Failure::environment(
            "no daemon runs on this home and no --bootstrap address is given, so there is nobody to ask",
        )
        .hint("add --bootstrap ADDR (the other peer's `tributary status` prints it)"));
    }
    let has_key = HomePaths::new(&context.home).key().exists();
    let passing = Passing::new(has_key.then(|| context.home.clone()))?;
    let home = Arc::new(Home::open_or_create(&passing.root, &Identity::generate())?);
    let peer = home.identity().peer_id();
    let settings = Settings::read(&home.paths().config())?;
    let name = Settings::default().name_of(&peer);
    let resources = Resources {
        bounds: Some(bounds.or(settings.bounds).in_bytes()),
        ..Resources::default()
    };
    let learner = Arc::new(ModelLearner::new(home.paths().clone(), peer));
    let (bootstrap, _) = up::addresses(&request.bootstrap).await?;
    let place = up::Place::for_a_moment(&bootstrap);
    let daemon = Arc::new(
        up::start(
            &home,
            place,
            bootstrap,
            learner,
            (resources, false, ChainAccess::default()),
        )
        .await?,
    );
    let handler = DaemonHandler::new(daemon.clone(), home, name, Arc::new(Notify::new()));
    note(format_args!(
        "fetching {} from {}",
        short(&request.id),
        request.bootstrap.join(", ")
    ));
    let outcome = handler.fetch(request).await;
    daemon.stop().await;
    Ok(outcome?)
}

/// A home for the length of one command.
struct Passing {
    root: PathBuf,
    /// Made for it, and removed with it.
    _folder: Option<tempfile::TempDir>,
}

impl Passing {
    fn new(existing: Option<PathBuf>) -> Result<Self, Failure> {
        if let Some(root) = existing {
            return Ok(Self {
                root,
                _folder: None,
            });
        }
        let folder = tempfile::Builder::new().prefix("tributary-get-").tempdir();
        let folder = folder.map_err(|e| {
            Failure::environment(format!("cannot make a folder for temporary files: {e}"))
                .hint("free some space, or name another place with the variable TMPDIR")
        })?;
        Ok(Self {
            root: folder.path().to_owned(),
            _folder: Some(folder),
        })
    }
}
