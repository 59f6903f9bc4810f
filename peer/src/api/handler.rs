//! The real [`ApiHandler`]: answers the owner's requests with a running [`Daemon`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use futures::stream::BoxStream;
use tokio::sync::{Notify, Semaphore};
use tributary_ledger::holdout::{HoldoutProof, HoldoutReport};
use tributary_ledger::view::books::BooksView;
use tributary_ledger::view::disputes::DisputesView;
use tributary_ledger::view::explain::Explanation;
use tributary_ledger::view::{AdapterView, ProofView, StatementView};
use tributary_ledger::{Archive, IndexedRun, Report};
use tributary_protocol::codec;
use tributary_protocol::event::Command;
use tributary_protocol::hash;
use tributary_protocol::id::{PeerId, RunId};
use tributary_protocol::limits::MAX_MANIFEST_BYTES;
use tributary_protocol::manifest::Manifest;
use tributary_protocol::node::Node;

use super::types::base::BaseView;
use super::types::event::EventView;
use super::types::reach::{
    InvitationView, InviteRequest, OfferView, ReachView, TicketRequest, TicketView,
};
use super::types::{
    BooksRequest, CreateRequest, DisputeRequest, EventsRequest, ExplainRequest, ExportRequest,
    FetchRequest, JoinRequest, ProveRequest, RunBrief, RunPhase, RunView, StatementRequest,
    StatusView,
};
use super::{Answer, ApiHandler, Reader};
use crate::daemon::{CommandError, Daemon, Stopped};
use crate::home::{Home, HomePaths};
use crate::model;
use crate::model::card::{Card, Known};
use crate::problem::{Code, Problem};
use crate::progress::RunProgress;
use crate::serve::cashier::Cashiers;
use crate::settings::declined_words;
use crate::terminal::Failure;
use crate::verify;
use crate::why::{Question, Why};
pub(super) use disputes::disputes_of;
pub(crate) use name::pick;
use name::pick_only;
use show::brief_of;
use show::view_of;
pub(super) use show::{full_of, kept_books};

/// How long a run's manifest may take to come from a neighbour.
const PATIENCE: Duration = Duration::from_secs(20);
/// Readers of events at a time. Each keeps a connection; a person has a few windows open.
const MAX_READERS: usize = 32;

/// Answers with a daemon and its home.
pub struct DaemonHandler {
    daemon: Arc<Daemon>,
    home: Arc<Home>,
    name: String,
    stop: Arc<Notify>,
    readers: Arc<Semaphore>,
    fetches: base::Fetches,
    answering: answering::Answering,
}

impl DaemonHandler {
    /// For a daemon on `home`, whose owner is called `name`. `stop` is notified when the owner asks
    /// the daemon to stop.
    pub fn new(daemon: Arc<Daemon>, home: Arc<Home>, name: String, stop: Arc<Notify>) -> Self {
        Self {
            daemon,
            home,
            name,
            stop,
            readers: Arc::new(Semaphore::new(MAX_READERS)),
            fetches: base::Fetches::default(),
            answering: answering::Answering::default(),
        }
    }

    /// What a server of the daemon asks of the chains of its runs.
    pub(crate) fn cashiers(&self) -> Arc<dyn Cashiers> {
        self.daemon.cashiers()
    }

    /// With the most that the owner gives a base model, in MiB.
    #[must_use]
    pub fn with_base_bound(self, most_mib: u64) -> Self {
        Self {
            fetches: base::Fetches::within(most_mib),
            ..self
        }
    }

    async fn inspect<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Node) -> R + Send + 'static,
    ) -> Answer<R> {
        self.daemon.inspect(look).await.map_err(stopped)
    }

    /// The run that `text` names in full or by its first digits; neighbours' runs count.
    async fn resolve(&self, text: &str) -> Answer<RunId> {
        if let Ok(run) = text.parse() {
            return Ok(run);
        }
        let mut known: Vec<RunId> = self.daemon.known_runs().into_keys().collect();
        known.extend(
            self.daemon
                .progress()
                .iter()
                .map(|run_progress| run_progress.run),
        );
        pick(text, known)
    }

    /// A run that the node follows and whose manifest it has.
    async fn followed(&self, id: &str) -> Answer<(RunId, Arc<Manifest>)> {
        let run = self.resolve(id).await?;
        self.manifest(run)
            .map(|m| (run, m))
            .ok_or_else(|| not_followed(run))
    }

    /// Where the node stands in a run.
    fn run_progress(&self, run: RunId) -> Option<RunProgress> {
        let all = self.daemon.progress();
        all.iter()
            .find(|run_progress| run_progress.run == run)
            .cloned()
    }

    fn manifest(&self, run: RunId) -> Option<Arc<Manifest>> {
        self.run_progress(run)?.manifest
    }

    /// Refuses a run that asks for more than the owner gives.
    fn afforded(&self, run: RunId) -> Answer<()> {
        match self
            .run_progress(run)
            .and_then(|run_progress| run_progress.declined)
        {
            Some(excess) => Err(beyond(declined_words(&run, &excess))),
            None => Ok(()),
        }
    }

    /// Follows a run and waits until its manifest is here.
    async fn follow(&self, run: RunId) -> Answer<Arc<Manifest>> {
        self.afforded(run)?;
        if self.manifest(run).is_none() {
            self.command(Command::Follow { run, join: None }).await?;
        }
        let mut progress = self.daemon.watch_progress();
        let settled = progress.wait_for(|all| {
            let run_progress = all.iter().find(|run_progress| run_progress.run == run);
            run_progress.is_some_and(|s| s.manifest.is_some() || s.declined.is_some())
        });
        // Where the daemon stops meanwhile, the next question to it says so.
        let in_time = tokio::time::timeout(PATIENCE, settled).await.is_ok();
        self.afforded(run)?;
        match self.manifest(run) {
            Some(manifest) => Ok(manifest),
            None if in_time => Err(stopped(Stopped(None))),
            None => Err(Problem::new(
                Code::Unreachable,
                format!(
                    "no connected peer has run {}: {} peers are connected",
                    run.short(),
                    self.daemon.connected().len()
                ),
            )
            .hint("check the id and the --bootstrap addresses; this peer goes on looking for it")),
        }
    }

    /// What `look` makes of what is durable at this moment, on a thread that may block.
    async fn on_archive<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Archive, &HomePaths) -> Result<R, Failure> + Send + 'static,
    ) -> Answer<R> {
        let records = self.daemon.records().await.map_err(failed)?;
        let paths = self.home.paths().clone();
        let looking = tokio::task::spawn_blocking(move || {
            look(&verify::archive_of(&records, &paths), &paths)
        });
        Ok(looking.await.map_err(failed)??)
    }

    async fn command(&self, command: Command) -> Answer<()> {
        self.daemon.command(command).await.map_err(|e| match e {
            CommandError::Refused(why) => Problem::new(Code::Refused, why),
            CommandError::Stopped(why) => stopped(why),
        })
    }

    fn brief(&self, run: RunId) -> Answer<RunBrief> {
        self.run_progress(run)
            .map(|run_progress| brief_of(&run_progress))
            .ok_or_else(|| not_followed(run))
    }

    /// The adapter (or run) that `id` names among the followed runs.
    async fn adapter_run(&self, id: &str) -> Answer<RunId> {
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
    async fn write_adapter(&self, run: RunId, dir: PathBuf) -> Answer<AdapterView> {
        let found = self
            .inspect(move |node| {
                let run = node.run(&run)?;
                let (round, adapter) = run.adapter()?.clone();
                Some((round, adapter, run.manifest()?.clone()))
            })
            .await?;
        let index = self.daemon.index().await;
        let view = index
            .run(&run)
            .and_then(|run_index| run_index.adapter(true));
        let (Some((round, adapter, manifest)), Some(view)) = (found, view) else {
            let text = format!("run {} has no certified adapter here yet", run.short());
            let hint = format!("`tributary run watch {}` shows its rounds", run.short());
            return Err(Problem::new(Code::NoAdapter, text).hint(hint));
        };
        let card = index.run(&run).map(|run_index| {
            Card::of(&manifest, &adapter, round, Known::of_index(run_index))
                .with_licence(self.home.paths())
        });
        // A round may have been certified since whose adapter is not here yet.
        let id = hash::blob(adapter.as_bytes()).to_string();
        let written = tokio::task::spawn_blocking(move || {
            model::export(&dir, &manifest, &adapter, card.as_ref())
        });
        written
            .await
            .map_err(|e| failed(format!("writing the adapter stopped: {e}")))?
            .map_err(Failure::from)?;
        Ok(AdapterView {
            id,
            round: round.0.min(view.round),
            ..view
        })
    }
}

impl Reader for DaemonHandler {
    async fn status(&self) -> Answer<StatusView> {
        let runs = self.runs().await?;
        let traffic = self.daemon.traffic();
        Ok(StatusView {
            peer: self.daemon.peer_id().to_string(),
            running: true,
            name: self.name.clone(),
            home: self.home.paths().root().display().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            account: self.daemon.account().to_string(),
            addresses: (self.daemon.addresses().iter())
                .map(ToString::to_string)
                .collect(),
            connected: (self.daemon.connected().iter())
                .map(PeerId::to_string)
                .collect(),
            reach: self.daemon.reach().reach.to_string(),
            paths: reach::paths(self),
            bytes_up: traffic.control_up + traffic.payload_up,
            bytes_down: traffic.control_down + traffic.payload_down,
            warnings: (self.daemon.health().iter())
                .map(ToString::to_string)
                .collect(),
            serving: self.answering.serving(),
            gateway: self.answering.gateway(),
            runs,
        })
    }

    async fn runs(&self) -> Answer<Vec<RunBrief>> {
        let progress = self.daemon.progress();
        let mut runs: Vec<RunBrief> = progress.iter().map(brief_of).collect();
        let index = self.daemon.index().await;
        for (brief, run) in runs.iter_mut().zip(progress.iter()) {
            let members = index.run(&run.run).map(IndexedRun::members);
            brief.awaited = reach::awaited(self, run, &members.unwrap_or_default());
        }
        let near = self.daemon.nearby();
        for (run, followers) in self.daemon.known_runs() {
            let nearby = followers.iter().any(|peer| near.contains(peer));
            let run = run.to_string();
            match runs.iter_mut().find(|brief| brief.run == run) {
                Some(brief) => brief.nearby = nearby,
                None => runs.push(RunBrief {
                    run,
                    nearby,
                    phase: RunPhase::Known,
                    ..RunBrief::default()
                }),
            }
        }
        Ok(runs)
    }

    async fn run(&self, id: &str) -> Answer<RunView> {
        let (run, _) = self.followed(id).await?;
        // In this order a run that is finished here shows all that is certified of it.
        let run_progress = self.run_progress(run);
        let index = self.daemon.index().await;
        match (run_progress, index.run(&run)) {
            (Some(run_progress), Some(run_index)) => view_of(&run_progress, run_index),
            _ => Err(not_followed(run)),
        }
    }

    async fn books(&self, id: &str, request: BooksRequest) -> Answer<BooksView> {
        let (run, _) = self.followed(id).await?;
        let index = self.daemon.index().await;
        let run_index = index.run(&run).ok_or_else(|| not_followed(run))?;
        if let Some(view) = kept_books(run_index, request)? {
            return Ok(view);
        }
        let fold =
            move |archive: &Archive, _: &HomePaths| verify::books(archive, run, request.height);
        self.on_archive(fold).await
    }

    async fn disputes(&self, id: &str) -> Answer<DisputesView> {
        let (run, _) = self.followed(id).await?;
        disputes::list(self, run).await
    }

    async fn adapters(&self) -> Answer<Vec<AdapterView>> {
        let progress = self.daemon.progress();
        let index = self.daemon.index().await;
        let adapters = progress.iter().filter_map(|run_progress| {
            index
                .run(&run_progress.run)?
                .adapter(run_progress.adapter.is_some())
        });
        Ok(adapters.collect())
    }

    async fn export(&self, request: ExportRequest) -> Answer<AdapterView> {
        let run = self.adapter_run(&request.id).await?;
        self.write_adapter(run, request.dir).await
    }

    async fn verify(&self) -> Answer<Report> {
        let report = verify::running(&self.daemon, self.home.paths()).await;
        Ok(report.map_err(Failure::from)?)
    }

    async fn statement(&self, wanted: StatementRequest) -> Answer<StatementView> {
        let only = match wanted.run {
            Some(text) => Some(self.resolve(&text).await?),
            None => None,
        };
        let me = self.daemon.peer_id();
        let index = self.daemon.index().await;
        let wanted_runs = index
            .runs()
            .filter(|run_index| only.is_none_or(|id| id == run_index.id()));
        let runs = wanted_runs.map(|run_index| run_index.statement(me, wanted.by));
        let runs: Vec<_> = runs.collect::<Result<_, _>>().map_err(failed)?;
        if let (Some(id), true) = (only, runs.is_empty()) {
            return Err(not_followed(id));
        }
        Ok(StatementView::of(me, runs))
    }

    async fn explain(&self, wanted: ExplainRequest) -> Answer<Explanation> {
        let me = self.daemon.peer_id();
        let explain = move |archive: &Archive, home: &HomePaths| {
            verify::explain(archive, home, me, &wanted.receipt)
        };
        self.on_archive(explain).await
    }

    async fn proof(&self, wanted: ExplainRequest) -> Answer<ProofView> {
        let me = self.daemon.peer_id();
        let prove =
            move |archive: &Archive, _: &HomePaths| verify::prove(archive, me, &wanted.receipt);
        self.on_archive(prove).await
    }

    async fn prove_holdout(&self, wanted: ProveRequest) -> Answer<HoldoutProof> {
        let me = self.daemon.peer_id();
        let prove = move |archive: &Archive, home: &HomePaths| {
            verify::holdout::prove(archive, home, me, (&wanted.run, wanted.round))
        };
        self.on_archive(prove).await
    }

    async fn check_holdout(&self, proof: HoldoutProof) -> Answer<HoldoutReport> {
        let check = move |archive: &Archive, home: &HomePaths| {
            verify::holdout::check(archive, home, &proof)
        };
        self.on_archive(check).await
    }

    async fn why(&self, question: Question) -> Answer<Why> {
        let is_shown = question.tokens.is_none();
        let ask =
            move |archive: &Archive, home: &HomePaths| crate::why::ask(archive, home, &question);
        let mut answered = self.on_archive(ask).await?;
        if !is_shown {
            return Ok(answered.why);
        }
        let said = (answered.asking())
            .everywhere(&self.daemon, self.home.paths())
            .await;
        let judging =
            tokio::task::spawn_blocking(move || answered.hear(&said).map(|()| answered.why));
        Ok(judging.await.map_err(failed)??)
    }
}

impl ApiHandler for DaemonHandler {
    async fn create(&self, request: CreateRequest) -> Answer<RunBrief> {
        let manifest = manifest_of(&request.manifest)?;
        let run = manifest.run_id();
        let asked = manifest.clone();
        if let Err(excess) = self.inspect(move |node| node.admit(&asked)).await? {
            return Err(beyond(declined_words(&run, &excess)));
        }
        let provided = tokio::task::block_in_place(|| {
            let (base, folder) = (&manifest.model.base, request.base.as_deref());
            model::fits(&model::provide(self.home.paths(), base, folder)?, &manifest)
        });
        provided.map_err(Failure::from)?;
        base::check_listed(self, &manifest)?;
        // Before the run is open: it would have nobody to start it.
        let join =
            (request.join.as_ref()).map(|join| membership::prepare(self, run, &manifest, join));
        let candidate = join.transpose()?;
        self.command(Command::Create(Box::new(manifest.clone())))
            .await?;
        self.daemon.deposit(run).await;
        self.daemon.has_new_base();
        if let Some(candidate) = candidate {
            let asked = membership::ask(self, run, candidate).await;
            asked.map_err(|e| {
                let text = format!(
                    "the run {} is open, but this peer could not join it: {e}",
                    run.short()
                );
                let hint = format!("mend that and call `tributary run join {}`", run.short());
                Problem::new(e.code, text).hint(hint)
            })?;
        }
        self.brief(run)
    }

    async fn join(&self, id: &str, request: JoinRequest) -> Answer<RunBrief> {
        let run = self.resolve(id).await?;
        let manifest = self.follow(run).await?;
        if self
            .run_progress(run)
            .is_some_and(|progress| progress.is_over())
        {
            let text = format!("run {} is over: nobody joins it any more", run.short());
            let hint = format!(
                "`tributary adapter get {} DIR` fetches its adapter",
                run.short()
            );
            return Err(Problem::new(Code::Refused, text).hint(hint));
        }
        let candidate = membership::prepare(self, run, &manifest, &request)?;
        membership::ask(self, run, candidate).await?;
        self.daemon.has_new_base();
        self.brief(run)
    }

    async fn leave(&self, id: &str) -> Answer<RunBrief> {
        let (run, _) = self.followed(id).await?;
        self.command(Command::Leave(run)).await?;
        self.brief(run)
    }

    async fn dispute(&self, id: &str, request: DisputeRequest) -> Answer<DisputesView> {
        let (run, _) = self.followed(id).await?;
        disputes::open(self, run, request).await
    }

    async fn appeal(&self, id: &str, dispute: &str) -> Answer<DisputesView> {
        let (run, _) = self.followed(id).await?;
        disputes::appeal(self, run, dispute).await
    }

    async fn reach(&self) -> Answer<ReachView> {
        Ok(reach::reach(self))
    }

    async fn invite(&self, request: InviteRequest) -> Answer<TicketView> {
        reach::invite(self, request).await
    }

    async fn invitations(&self) -> Answer<Vec<InvitationView>> {
        reach::invitations(self)
    }

    async fn revoke(&self, id: &str) -> Answer<Vec<InvitationView>> {
        reach::revoke(self, id)
    }

    async fn ticket(&self, request: TicketRequest) -> Answer<OfferView> {
        reach::take(self, request).await
    }

    async fn base(&self, id: &str) -> Answer<BaseView> {
        base::view(self, id).await
    }

    async fn fetch_base(&self, id: &str) -> Answer<BaseView> {
        base::fetch(self, id).await
    }

    async fn events(&self, request: EventsRequest) -> Answer<BoxStream<'static, EventView>> {
        events::stream(self, request).await
    }

    async fn fetch(&self, request: FetchRequest) -> Answer<AdapterView> {
        for text in &request.bootstrap {
            let address = (text.parse()).map_err(|e| Failure::from_error(&e))?;
            self.daemon.dial(address).await.map_err(stopped)?;
        }
        let timeout = Duration::from_secs(request.timeout_s.clamp(1, 86_400));
        let run = fetch::certified(self, &request.id, timeout).await?;
        self.write_adapter(run, request.dir).await
    }

    fn stop(&self) {
        self.stop.notify_one();
    }

    fn metrics(&self) -> String {
        self.daemon.metrics()
    }
}

fn manifest_of(hex: &str) -> Answer<Manifest> {
    let malformed = |why: String| Problem::new(Code::Malformed, why);
    let bytes = (HEXLOWER.decode(hex.as_bytes()))
        .map_err(|_| malformed("the manifest is not hexadecimal".to_owned()))?;
    codec::decode::<Manifest, MAX_MANIFEST_BYTES>(&bytes)
        .map_err(|e| malformed(format!("the manifest is refused: {e}")))
}

fn stopped(e: Stopped) -> Problem {
    Problem::new(Code::Stopped, e.to_string())
}

fn beyond(why: String) -> Problem {
    Problem::new(Code::BeyondBounds, why)
}

fn not_followed(run: RunId) -> Problem {
    let text = format!("run {} is not followed here", run.short());
    let hint = format!(
        "`tributary run join {}` asks to take part in it",
        run.short()
    );
    Problem::new(Code::NotFollowed, text).hint(hint)
}

/// The machine, the disk or a defect is to blame.
fn failed(e: impl std::fmt::Display) -> Problem {
    Problem::new(Code::Environment, e.to_string())
}

mod answering;
mod base;
mod disputes;
mod events;
mod fetch;
mod membership;
mod name;
mod reach;
mod show;

#[cfg(test)]
mod tests;
