//! A home whose daemon does not run, read as the API would show it.
//!
//! What is certified comes from the home's own records, folded by [`tributary_ledger::LedgerIndex`] as a daemon folds
//! them; only what a running node knows is missing. Files are read on the calling thread: a command has nothing else
//! to do meanwhile.

use std::path::{Path, PathBuf};

use tributary_ledger::holdout::{HoldoutProof, HoldoutReport};
use tributary_ledger::view::books::BooksView;
use tributary_ledger::view::disputes::DisputesView;
use tributary_ledger::view::explain::Explanation;
use tributary_ledger::view::{AdapterView, ProofView, StatementView};
use tributary_ledger::{Blobs as _, IndexedRun, Report, Snapshot};
use tributary_protocol::id::{PeerId, Round, RunId};

use super::handler::{full_of, pick};
use super::types::{
    BooksRequest, ExplainRequest, ExportRequest, ProveRequest, RunBrief, RunPhase, RunView,
    StatementRequest, StatusView,
};
use super::{Answer, Reader};
use crate::demo::check::home_or_demo;
use crate::home::{HomeError, HomePaths};
use crate::identity::{Identity, IdentityError};
use crate::model;
use crate::model::card::{Card, Known};
use crate::problem::{Code, Problem};
use crate::settings::Settings;
use crate::store::{Blobs, StoreError};
use crate::terminal::Failure;
use crate::verify::{self, Depth};
use crate::why::{self, Question, Why};

/// Answers from the files of a home.
#[derive(Clone, Debug)]
pub struct StoppedHome {
    root: PathBuf,
    paths: HomePaths,
    depth: Depth,
}

impl StoppedHome {
    /// The home in the folder `root`. Nothing is read yet.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            paths: HomePaths::new(root),
            depth: Depth::Marked,
        }
    }

    /// How much [`Reader::verify`] checks.
    #[must_use]
    pub fn checking(self, depth: Depth) -> Self {
        Self { depth, ..self }
    }

    fn peer(&self) -> Answer<PeerId> {
        match Identity::read_file(&self.paths.key()) {
            Ok(identity) => Ok(identity.peer_id()),
            Err(IdentityError::Missing(_)) if self.paths.ledger().exists() => {
                let text = format!(
                    "there is no key in the home {}, so it is nobody's own",
                    self.root.display()
                );
                Err(Problem::new(Code::Environment, text).hint(
                    "`ledger verify`, `run list`, `run show` and `adapter list` need none; else restore the key from a backup",
                ))
            }
            Err(IdentityError::Missing(_)) => Err(self.missing()),
            Err(e) => Err(Failure::from(e).into()),
        }
    }

    fn missing(&self) -> Problem {
        Failure::from(HomeError::Missing(self.root.clone())).into()
    }

    /// The runs as they were last written. A home that no daemon was ever started on has none.
    fn index(&self) -> Answer<Snapshot> {
        match verify::index(&self.paths) {
            Ok(index) => Ok(index),
            Err(StoreError::Missing(_)) if self.paths.key().exists() => Ok(Snapshot::default()),
            Err(StoreError::Missing(_)) => Err(self.missing()),
            Err(e) => Err(Failure::from(e).into()),
        }
    }

    /// Whether the adapter of a run's last certificate is here.
    fn has_adapter(&self, run_index: &IndexedRun) -> bool {
        let last = run_index.chain().last();
        let blobs = Blobs::read_only(self.paths.blobs());
        last.is_some_and(|certificate| blobs.holds(certificate.value.adapter.hash))
    }

    fn archived<R>(
        &self,
        look: impl FnOnce(&tributary_ledger::Archive) -> Result<R, Failure>,
    ) -> Answer<R> {
        let archive = verify::archive(&self.paths).map_err(Failure::from)?;
        Ok(look(&archive)?)
    }
}

fn brief(run_index: &IndexedRun) -> RunBrief {
    let manifest = run_index.manifest();
    let certified = run_index
        .chain()
        .last()
        .map(|certificate| certificate.round());
    let finished = certified >= Some(manifest.closing_round());
    RunBrief {
        run: run_index.id().to_string(),
        name: manifest.name.clone(),
        datanet: manifest.datanet.clone(),
        base: manifest.model.base.name.clone(),
        certified: certified.map(|round| round.0),
        rounds: manifest.plan.rounds,
        phase: match finished {
            true => RunPhase::Finished,
            false => RunPhase::Offline,
        },
        members: u32::try_from(run_index.members().len()).unwrap_or(u32::MAX),
        nearby: false,
        awaited: Vec::new(),
        finished,
    }
}

fn resolve(index: &Snapshot, id: &str) -> Answer<RunId> {
    pick(id, index.runs().map(IndexedRun::id).collect())
}

impl Reader for StoppedHome {
    async fn status(&self) -> Answer<StatusView> {
        let peer = self.peer()?;
        let settings = Settings::read(&self.paths.config())?;
        Ok(StatusView {
            peer: peer.to_string(),
            running: false,
            name: settings.name_of(&peer),
            home: self.root.display().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            runs: self.runs().await?,
            ..StatusView::default()
        })
    }

    async fn runs(&self) -> Answer<Vec<RunBrief>> {
        Ok(self.index()?.runs().map(brief).collect())
    }

    async fn run(&self, id: &str) -> Answer<RunView> {
        let index = self.index()?;
        let run = resolve(&index, id)?;
        let run_index = index.run(&run).expect("the run was picked from it");
        full_of(brief(run_index), run_index, self.has_adapter(run_index))
    }

    async fn books(&self, id: &str, request: BooksRequest) -> Answer<BooksView> {
        let index = self.index()?;
        let run = resolve(&index, id)?;
        let run_index = index.run(&run).expect("the run was picked from it");
        match super::handler::kept_books(run_index, request)? {
            Some(view) => Ok(view),
            None => self.archived(|archive| verify::books(archive, run, request.height)),
        }
    }

    async fn disputes(&self, id: &str) -> Answer<DisputesView> {
        let index = self.index()?;
        let run = resolve(&index, id)?;
        let run_index = index.run(&run).expect("the run was picked from it");
        super::handler::disputes_of(run_index)
    }

    async fn adapters(&self) -> Answer<Vec<AdapterView>> {
        let index = self.index()?;
        let adapters = index.runs().map(|v| v.adapter(self.has_adapter(v)));
        Ok(adapters.flatten().collect())
    }

    async fn export(&self, request: ExportRequest) -> Answer<AdapterView> {
        let id = &request.id;
        self.archived(|archive| {
            let mut matches: Vec<AdapterView> = (archive.books())
                .filter_map(|(here, account)| account.adapter(here))
                .filter(|a| a.id.starts_with(id) || a.run.starts_with(id))
                .collect();
            let view = match matches.len() {
                0 => {
                    let text = format!(
                        "no run of this home has a certified adapter whose id starts with {id:?}"
                    );
                    let hint =
                        "`tributary adapter list` shows what is here, `adapter get` fetches others";
                    return Err(Problem::new(Code::UnknownId, text).hint(hint).into());
                }
                1 => matches.remove(0),
                many => {
                    let text = format!("{many} ids start with {id:?}");
                    return Err(Problem::new(Code::AmbiguousId, text)
                        .hint("give more digits")
                        .into());
                }
            };
            let (manifest, adapter) = archive.adapter(&view).map_err(verify::failure)?;
            let book = (archive.books()).find(|(_, account)| {
                (account.adapter(true)).is_some_and(|adapter| adapter.run == view.run)
            });
            let card = book.map(|(_, account)| {
                let known = Known::of_account(&account);
                Card::of(&manifest, &adapter, Round(view.round), known).with_licence(&self.paths)
            });
            model::export(&request.dir, &manifest, &adapter, card.as_ref())?;
            Ok(view)
        })
    }

    async fn verify(&self) -> Answer<Report> {
        Ok(home_or_demo(&self.root, self.depth).map_err(Failure::from)?)
    }

    async fn statement(&self, request: StatementRequest) -> Answer<StatementView> {
        let me = self.peer()?;
        let index = self.index()?;
        let only = match &request.run {
            Some(id) => Some(resolve(&index, id)?),
            None => None,
        };
        let asked = (index.runs()).filter(|run_index| only.is_none_or(|id| id == run_index.id()));
        let runs: Result<Vec<_>, _> = asked.map(|v| v.statement(me, request.by)).collect();
        let runs = runs.map_err(|e| Problem::new(Code::CheckFailed, e.to_string()))?;
        Ok(StatementView::of(me, runs))
    }

    async fn explain(&self, request: ExplainRequest) -> Answer<Explanation> {
        let me = self.peer()?;
        self.archived(|archive| verify::explain(archive, &self.paths, me, &request.receipt))
    }

    async fn proof(&self, request: ExplainRequest) -> Answer<ProofView> {
        let me = self.peer()?;
        self.archived(|archive| verify::prove(archive, me, &request.receipt))
    }

    async fn prove_holdout(&self, request: ProveRequest) -> Answer<HoldoutProof> {
        let me = self.peer()?;
        let wanted = (request.run.as_str(), request.round);
        self.archived(|archive| verify::holdout::prove(archive, &self.paths, me, wanted))
    }

    async fn check_holdout(&self, proof: HoldoutProof) -> Answer<HoldoutReport> {
        self.archived(|archive| verify::holdout::check(archive, &self.paths, &proof))
    }

    async fn why(&self, question: Question) -> Answer<Why> {
        self.archived(|archive| {
            let answered = why::ask(archive, &self.paths, &question);
            // What that established of the runs is worth keeping, whatever it answers.
            verify::keep(archive, &self.paths);
            let mut answered = answered?;
            if question.tokens.is_some() {
                return Ok(answered.why);
            }
            let said = answered.asking().here(&self.paths);
            answered.hear(&said)?;
            Ok(answered.why)
        })
    }
}
