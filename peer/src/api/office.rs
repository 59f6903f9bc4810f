//! The real [`Host`]: answers the owner's requests with a running [`Daemon`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{Notify, broadcast};
use tributary_ledger::Archive;
use tributary_ledger::holdout::{HoldoutProof, HoldoutReport};
use tributary_ledger::view::explain::Explanation;
use tributary_ledger::view::{AdapterView, StatementView};
use tributary_protocol::codec;
use tributary_protocol::entry::{Entry, Join, Role};
use tributary_protocol::event::{Candidate, Command, Notice};
use tributary_protocol::id::{PeerId, RunId};
use tributary_protocol::limits::MAX_MANIFEST_BYTES;
use tributary_protocol::manifest::{Manifest, Weights};
use tributary_protocol::node::{Node, RunView as NodeRun};

use super::{
    CreateRequest, ExplainRequest, FolderRequest, Host, HostError, JoinRequest, ProveRequest,
    StatementRequest,
};
use crate::daemon::{Daemon, Stopped};
use crate::event::Event;
use crate::home::{Home, HomePaths};
use crate::model;
use crate::settings::declined_words;
use crate::shard::{Committed, neutral};
use crate::standing::Standing;
use crate::terminal::Failure;
use crate::verify;
use crate::view::{EventView, RunBrief, RunView, StatusView};
use crate::why::{Question, Why};
use name::{pick, pick_only};
use show::{brief_of, view_of};

/// How long a wish may take to show in the node.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the node is looked at meanwhile.
const POLL: Duration = Duration::from_millis(100);

/// See the module.
pub struct Office {
    daemon: Arc<Daemon>,
    home: Arc<Home>,
    name: String,
    stop: Arc<Notify>,
}

impl Office {
    /// For a daemon on `home`, whose owner is called `name`. `stop` is notified when the owner asks
    /// the daemon to stop.
    pub fn new(daemon: Arc<Daemon>, home: Arc<Home>, name: String, stop: Arc<Notify>) -> Self {
        Self {
            daemon,
            home,
            name,
            stop,
        }
    }

    async fn inspect<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Node) -> R + Send + 'static,
    ) -> Result<R, HostError> {
        self.daemon.inspect(look).await.map_err(stopped)
    }

    /// The run that `text` names in full or by its first digits; neighbours' runs count.
    async fn resolve(&self, text: &str) -> Result<RunId, HostError> {
        if let Ok(run) = text.parse() {
            return Ok(run);
        }
        let mut known: Vec<RunId> = self.daemon.known_runs().into_keys().collect();
        known.extend(self.daemon.standings().iter().map(|standing| standing.run));
        pick(text, known)
    }

    /// A run that the node follows and whose manifest it has.
    async fn followed(&self, id: &str) -> Result<(RunId, Arc<Manifest>), HostError> {
        let run = self.resolve(id).await?;
        self.manifest(run).map(|m| (run, m)).ok_or_else(|| {
            HostError::Unknown(format!(
                "run {} is not followed here; `tributary run join {}` asks to take part in it",
                run.short(),
                run.short()
            ))
        })
    }

    /// Where the node stands in a run.
    fn standing(&self, run: RunId) -> Option<Standing> {
        let all = self.daemon.standings();
        all.iter().find(|standing| standing.run == run).cloned()
    }

    fn manifest(&self, run: RunId) -> Option<Arc<Manifest>> {
        self.standing(run)?.manifest
    }

    /// Refuses a run that asks for more than the owner gives.
    fn afforded(&self, run: RunId) -> Result<(), HostError> {
        match self.standing(run).and_then(|standing| standing.declined) {
            Some(excess) => Err(HostError::Refused(declined_words(&run, &excess))),
            None => Ok(()),
        }
    }

    /// Follows a run and waits until its manifest is here.
    async fn follow(&self, run: RunId) -> Result<Arc<Manifest>, HostError> {
        self.afforded(run)?;
        if self.manifest(run).is_none() {
            self.command(Command::Follow { run, join: None }).await?;
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(manifest) = self.manifest(run) {
                return Ok(manifest);
            }
            self.afforded(run)?;
            if tokio::time::Instant::now() > deadline {
                return Err(HostError::Failed(format!(
                    "no connected peer has run {}: {} peers are connected. Check the id and the \
                     --bootstrap addresses; this peer goes on looking for it",
                    run.short(),
                    self.daemon.connected().len()
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What `look` makes of what is durable at this moment, on a thread that may block.
    async fn on_archive<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Archive, &HomePaths) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, HostError> {
        let records = self.daemon.records().await.map_err(failed)?;
        let paths = self.home.paths().clone();
        let looking = tokio::task::spawn_blocking(move || {
            look(&verify::archive_of(&records, &paths), &paths)
        });
        looking.await.map_err(failed)?.map_err(refused)
    }

    async fn command(&self, command: Command) -> Result<(), HostError> {
        self.daemon.command(command).await.map_err(stopped)
    }

    /// Hands a wish to the node and waits until it shows, or is refused.
    async fn command_until(
        &self,
        command: Command,
        run: RunId,
        shows: impl Fn(&NodeRun<'_>) -> bool + Send + Sync + Clone + 'static,
    ) -> Result<(), HostError> {
        let mut events = self.daemon.subscribe();
        self.command(command).await?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let shows = shows.clone();
            if self
                .inspect(move |node| node.run(&run).is_some_and(|r| shows(&r)))
                .await?
            {
                return Ok(());
            }
            while let Ok(event) = events.try_recv() {
                if let Event::Notice(Notice::CommandFailed { run: about, why }) = event
                    && about.is_none_or(|about| about == run)
                {
                    return Err(HostError::Refused(why));
                }
            }
            if tokio::time::Instant::now() > deadline {
                return Err(HostError::Failed(
                    "the daemon did not carry the wish out in 20 s; see its log".to_owned(),
                ));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn brief(&self, run: RunId) -> Result<RunBrief, HostError> {
        self.standing(run)
            .map(|standing| brief_of(&standing))
            .ok_or_else(|| HostError::Unknown(format!("run {} is not followed here", run.short())))
    }

    /// Commits to data as the role needs and asks for membership.
    async fn ask_to_join(
        &self,
        run: RunId,
        manifest: &Manifest,
        request: &JoinRequest,
    ) -> Result<(), HostError> {
        let me = self.daemon.peer_id();
        let role = role_of(&request.role)?;
        if role.evaluates() && !manifest.evaluators.contains(&me) {
            return Err(HostError::Refused(format!(
                "this peer ({}) is not among the run's evaluators; join as a contributor, or open a \
                 run whose `evaluators` name it",
                me.short()
            )));
        }
        if let Some(warning) = fair(manifest, request)? {
            tracing::warn!("run {}: {warning}", run.short());
        }
        let candidate = tokio::task::block_in_place(|| self.commit(manifest, request, role))?;
        let root = candidate.join.root;
        let command = Command::Follow {
            run,
            join: Some(candidate),
        };
        self.command_until(command, run, move |r| {
            r.log()
                .entries(me)
                .any(|(_, entry)| matches!(entry, Entry::Join(join) if join.root == root))
        })
        .await
    }

    /// Freezes the passages that the role needs. Reads files and loads the base: not for the event loop.
    fn commit(
        &self,
        manifest: &Manifest,
        request: &JoinRequest,
        role: Role,
    ) -> Result<Candidate, HostError> {
        let paths = self.home.paths();
        let base =
            model::provide(paths, &manifest.base, request.base.as_deref()).map_err(refused)?;
        let committed = Committed::gather(
            paths,
            self.home.identity(),
            (manifest.base.hash, manifest.training.context),
            request.datanet.as_deref().unwrap_or(&manifest.datanet),
            (role.contributes(), role.evaluates()),
            &request.holdout,
            |held| {
                let context = manifest.training.context;
                model::holdout(&base, held, context).map_err(|e| e.to_string())
            },
        )
        .map_err(refused)?;
        let tokens = model::tokens(&base, &committed, role).map_err(refused)?;
        let sketch = committed.sketch(manifest);
        if sketch.is_none() && role.contributes() && manifest.weights != Weights::Trained {
            return Err(refused(TOO_SHORT));
        }
        let join = Join {
            name: self.name.clone(),
            role,
            root: committed.write(paths).map_err(failed)?,
            tokens,
            fingerprints: committed.fingerprints(),
            beacon: Default::default(),
            sketch: None,
        };
        Ok(Candidate { join, sketch })
    }

    /// The adapter (or run) that `id` names among the followed runs.
    async fn adapter_run(&self, id: &str) -> Result<RunId, HostError> {
        let id = id.to_owned();
        self.inspect(move |node| {
            let matches: Vec<RunId> = (node.runs())
                .filter(|r| {
                    let adapter = r.head().map(|h| h.adapter.hash.to_string());
                    r.id().to_string().starts_with(&id)
                        || adapter.is_some_and(|a| a.starts_with(&id))
                })
                .map(|r| r.id())
                .collect();
            pick_only(&id, matches)
        })
        .await?
    }

    /// Writes a run's newest adapter at hand.
    async fn write_adapter(&self, run: RunId, dir: PathBuf) -> Result<AdapterView, HostError> {
        let found = self
            .inspect(move |node| {
                let run = node.run(&run)?;
                let (round, adapter) = run.adapter()?.clone();
                Some((round, adapter, run.manifest()?.clone()))
            })
            .await?;
        let library = self.daemon.library().await;
        let view = library.run(&run).and_then(|volume| volume.adapter(true));
        let (Some((round, adapter, manifest)), Some(view)) = (found, view) else {
            return Err(HostError::Unknown(format!(
                "run {} has no certified adapter here yet; `tributary run watch {}` shows its rounds",
                run.short(),
                run.short()
            )));
        };
        let written = tokio::task::spawn_blocking(move || model::export(&dir, &manifest, &adapter));
        written
            .await
            .map_err(|e| HostError::Failed(format!("writing the adapter stopped: {e}")))?
            .map_err(failed)?;
        Ok(AdapterView {
            round: round.0.min(view.round),
            ..view
        })
    }
}

impl Host for Office {
    async fn status(&self) -> Result<StatusView, HostError> {
        let runs = self.runs().await?;
        let traffic = self.daemon.traffic();
        Ok(StatusView {
            peer: self.daemon.peer_id().to_string(),
            name: self.name.clone(),
            home: self.home.paths().root().display().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            addresses: (self.daemon.addresses().iter())
                .map(ToString::to_string)
                .collect(),
            connected: (self.daemon.connected().iter())
                .map(PeerId::to_string)
                .collect(),
            bytes_up: traffic.control_up + traffic.payload_up,
            bytes_down: traffic.control_down + traffic.payload_down,
            warnings: (self.daemon.health().iter())
                .map(ToString::to_string)
                .collect(),
            runs,
        })
    }

    async fn runs(&self) -> Result<Vec<RunBrief>, HostError> {
        let standings = self.daemon.standings();
        let mut runs: Vec<RunBrief> = standings.iter().map(brief_of).collect();
        for run in self.daemon.known_runs().into_keys() {
            let run = run.to_string();
            if runs.iter().all(|r| r.run != run) {
                runs.push(RunBrief {
                    run,
                    phase: "known to a neighbour, not followed".to_owned(),
                    ..RunBrief::default()
                });
            }
        }
        Ok(runs)
    }

    async fn run(&self, id: &str) -> Result<RunView, HostError> {
        let (run, _) = self.followed(id).await?;
        // In this order a run that is finished here shows all that is certified of it.
        let standing = self.standing(run);
        let library = self.daemon.library().await;
        match (standing, library.run(&run)) {
            (Some(standing), Some(volume)) => view_of(&standing, volume),
            _ => Err(HostError::Unknown(format!("run {} is gone", run.short()))),
        }
    }

    async fn create(&self, request: CreateRequest) -> Result<RunBrief, HostError> {
        let manifest = manifest_of(&request.manifest)?;
        let run = manifest.run_id();
        let asked = manifest.clone();
        if let Err(excess) = self.inspect(move |node| node.affords(&asked)).await? {
            return Err(refused(declined_words(&run, &excess)));
        }
        // Before the run is open: it would have nobody to start it.
        if let Some(join) = &request.join {
            fair(&manifest, join)?;
        }
        let provided = tokio::task::block_in_place(|| {
            model::provide(self.home.paths(), &manifest.base, request.base.as_deref())
        });
        provided.map_err(refused)?;
        let create = Command::Create(Box::new(manifest.clone()));
        self.command_until(create, run, |r| r.manifest().is_some())
            .await?;
        if let Some(join) = &request.join {
            self.ask_to_join(run, &manifest, join).await.map_err(|e| {
                HostError::Refused(format!(
                    "the run {} is open, but this peer could not join it: {e}. Mend that and call \
                     `tributary run join {}`",
                    run.short(),
                    run.short()
                ))
            })?;
        }
        self.brief(run)
    }

    async fn join(&self, id: &str, request: JoinRequest) -> Result<RunBrief, HostError> {
        let run = self.resolve(id).await?;
        let manifest = self.follow(run).await?;
        self.ask_to_join(run, &manifest, &request).await?;
        self.brief(run)
    }

    async fn leave(&self, id: &str) -> Result<RunBrief, HostError> {
        let (run, _) = self.followed(id).await?;
        self.command(Command::Leave(run)).await?;
        // The node has heard of it once it answers the next request.
        self.inspect(|_| ()).await?;
        self.brief(run)
    }

    async fn watch(&self, id: &str) -> Result<BoxStream<'static, EventView>, HostError> {
        let (run, _) = self.followed(id).await?;
        let events = self.daemon.subscribe();
        if self
            .standing(run)
            .is_some_and(|standing| standing.is_finished)
        {
            let line = EventView {
                kind: "finished".to_owned(),
                run: Some(run.to_string()),
                round: None,
                line: format!("run {} is finished", run.short()),
            };
            return Ok(futures::stream::iter([line]).boxed());
        }
        Ok(futures::stream::unfold(Some(events), move |events| next_event(run, events)).boxed())
    }

    async fn adapters(&self) -> Result<Vec<AdapterView>, HostError> {
        let standings = self.daemon.standings();
        let library = self.daemon.library().await;
        let adapters = standings
            .iter()
            .filter_map(|standing| library.run(&standing.run)?.adapter(standing.has_adapter));
        Ok(adapters.collect())
    }

    async fn export(&self, request: FolderRequest) -> Result<AdapterView, HostError> {
        let run = self.adapter_run(&request.id).await?;
        self.write_adapter(run, request.dir).await
    }

    async fn get(&self, request: FolderRequest) -> Result<AdapterView, HostError> {
        for text in &request.bootstrap {
            let address = text.parse().map_err(refused)?;
            self.daemon.dial(address).await.map_err(stopped)?;
        }
        let timeout = Duration::from_secs(request.timeout_s.clamp(1, 86_400));
        let run = fetch::certified(self, &request.id, timeout).await?;
        self.write_adapter(run, request.dir).await
    }

    async fn verify(&self) -> Result<serde_json::Value, HostError> {
        let report = verify::running(&self.daemon, self.home.paths()).await;
        serde_json::to_value(report.map_err(failed)?).map_err(failed)
    }

    async fn statement(&self, wanted: StatementRequest) -> Result<StatementView, HostError> {
        let only = match wanted.run {
            Some(text) => Some(self.resolve(&text).await?),
            None => None,
        };
        let me = self.daemon.peer_id();
        let library = self.daemon.library().await;
        let wanted_runs = library
            .runs()
            .filter(|volume| only.is_none_or(|id| id == volume.id()));
        let runs = wanted_runs.map(|volume| volume.statement(me, wanted.by));
        let runs: Vec<_> = runs.collect::<Result<_, _>>().map_err(failed)?;
        if let (Some(id), true) = (only, runs.is_empty()) {
            let why = format!("run {} has no statement here", id.short());
            return Err(HostError::Unknown(why));
        }
        Ok(StatementView::of(me, runs))
    }

    async fn explain(&self, wanted: ExplainRequest) -> Result<Explanation, HostError> {
        let me = self.daemon.peer_id();
        let explain = move |archive: &Archive, home: &HomePaths| {
            verify::explain(archive, home, me, &wanted.receipt)
        };
        self.on_archive(explain).await
    }

    async fn prove_holdout(&self, wanted: ProveRequest) -> Result<HoldoutProof, HostError> {
        let me = self.daemon.peer_id();
        let prove = move |archive: &Archive, home: &HomePaths| {
            verify::holdout::prove(archive, home, me, (&wanted.run, wanted.round))
        };
        self.on_archive(prove).await
    }

    async fn check_holdout(&self, proof: HoldoutProof) -> Result<HoldoutReport, HostError> {
        let check = move |archive: &Archive, home: &HomePaths| {
            verify::holdout::check(archive, home, &proof)
        };
        self.on_archive(check).await
    }

    async fn why(&self, question: Question) -> Result<Why, HostError> {
        let ask =
            move |archive: &Archive, home: &HomePaths| crate::why::ask(archive, home, &question);
        let mut answered = self.on_archive(ask).await?;
        let said = (answered.asking())
            .everywhere(&self.daemon, self.home.paths())
            .await;
        let judging =
            tokio::task::spawn_blocking(move || answered.hear(&said).map(|()| answered.why));
        judging.await.map_err(failed)?.map_err(failed)
    }

    fn stop(&self) {
        self.stop.notify_one();
    }

    fn metrics(&self) -> String {
        self.daemon.metrics()
    }
}

/// The next event about `run`; the stream ends after the run is finished or the daemon stops.
async fn next_event(
    run: RunId,
    events: Option<broadcast::Receiver<Event>>,
) -> Option<(EventView, Option<broadcast::Receiver<Event>>)> {
    let mut events = events?;
    loop {
        match events.recv().await {
            Ok(Event::Notice(notice)) => {
                let view = crate::view::event(&notice);
                if view
                    .run
                    .as_deref()
                    .is_none_or(|about| about == run.to_string())
                {
                    let last = matches!(notice, Notice::Finished(_));
                    return Some((view, (!last).then_some(events)));
                }
            }
            Ok(Event::Training { .. }) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}

const TOO_SHORT: &str = "this shard has fewer than eight words to train on, and the run weighs by own text, which it \
    tells by eight words in a row; add text with `tributary datanet add`";

/// Whether what a member asks for leaves it to score others on its own text; gives a warning.
fn fair(manifest: &Manifest, request: &JoinRequest) -> Result<Option<String>, HostError> {
    neutral::check(
        manifest,
        role_of(&request.role)?,
        !request.holdout.is_empty(),
    )
    .map_err(HostError::Refused)
}

fn manifest_of(hex: &str) -> Result<Manifest, HostError> {
    let bytes = (HEXLOWER.decode(hex.as_bytes()))
        .map_err(|_| HostError::Refused("the manifest is not hexadecimal".to_owned()))?;
    codec::decode::<Manifest, MAX_MANIFEST_BYTES>(&bytes)
        .map_err(|e| HostError::Refused(format!("the manifest is refused: {e}")))
}

fn role_of(word: &str) -> Result<Role, HostError> {
    match word {
        "contributor" => Ok(Role::Contributor),
        "evaluator" => Ok(Role::Evaluator),
        "both" => Ok(Role::Both),
        other => Err(HostError::Refused(format!(
            "the role {other:?} is none of contributor, evaluator, both"
        ))),
    }
}

fn stopped(e: Stopped) -> HostError {
    HostError::Failed(e.to_string())
}

fn refused(e: impl std::fmt::Display) -> HostError {
    HostError::Refused(e.to_string())
}

pub(super) fn failed(e: impl std::fmt::Display) -> HostError {
    HostError::Failed(e.to_string())
}

pub(super) mod fetch;
mod name;
mod show;
