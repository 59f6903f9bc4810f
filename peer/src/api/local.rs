//! The peer of a home on this machine, whether its daemon runs or not.

use std::path::Path;

use tributary_ledger::Report;
use tributary_ledger::holdout::{HoldoutProof, HoldoutReport};
use tributary_ledger::view::books::BooksView;
use tributary_ledger::view::disputes::DisputesView;
use tributary_ledger::view::explain::Explanation;
use tributary_ledger::view::{AdapterView, ProofView, StatementView};

use super::client::Client;
use super::stopped::StoppedHome;
use super::types::{
    BooksRequest, ExplainRequest, ExportRequest, ProveRequest, RunBrief, RunView, StatementRequest,
    StatusView,
};
use super::{Answer, Reader};
use crate::verify::Depth;
use crate::why::{Question, Why};

/// Who answers for a home.
#[derive(Clone, Debug)]
pub enum Local {
    /// Its daemon.
    Running(Client),
    /// Its files.
    Stopped(StoppedHome),
}

impl Local {
    /// Finds out who answers for the home `root`.
    ///
    /// # Errors
    /// When `control.json` is damaged.
    pub async fn of(root: &Path) -> Answer<Self> {
        Ok(match Client::try_open(root).await? {
            Some(client) => Self::Running(client),
            None => Self::Stopped(StoppedHome::new(root)),
        })
    }

    /// How much of a stopped home is checked. A daemon always checks everything.
    #[must_use]
    pub fn checking(self, depth: Depth) -> Self {
        match self {
            Self::Stopped(home) => Self::Stopped(home.checking(depth)),
            running => running,
        }
    }
}

impl Reader for Local {
    async fn status(&self) -> Answer<StatusView> {
        match self {
            Self::Running(client) => client.status().await,
            Self::Stopped(home) => home.status().await,
        }
    }

    async fn runs(&self) -> Answer<Vec<RunBrief>> {
        match self {
            Self::Running(client) => client.runs().await,
            Self::Stopped(home) => home.runs().await,
        }
    }

    async fn run(&self, id: &str) -> Answer<RunView> {
        match self {
            Self::Running(client) => client.run(id).await,
            Self::Stopped(home) => home.run(id).await,
        }
    }

    async fn books(&self, id: &str, request: BooksRequest) -> Answer<BooksView> {
        match self {
            Self::Running(client) => client.books(id, request).await,
            Self::Stopped(home) => home.books(id, request).await,
        }
    }

    async fn disputes(&self, id: &str) -> Answer<DisputesView> {
        match self {
            Self::Running(client) => client.disputes(id).await,
            Self::Stopped(home) => home.disputes(id).await,
        }
    }

    async fn adapters(&self) -> Answer<Vec<AdapterView>> {
        match self {
            Self::Running(client) => client.adapters().await,
            Self::Stopped(home) => home.adapters().await,
        }
    }

    async fn export(&self, request: ExportRequest) -> Answer<AdapterView> {
        match self {
            Self::Running(client) => client.export(request).await,
            Self::Stopped(home) => home.export(request).await,
        }
    }

    async fn verify(&self) -> Answer<Report> {
        match self {
            Self::Running(client) => client.verify().await,
            Self::Stopped(home) => home.verify().await,
        }
    }

    async fn statement(&self, request: StatementRequest) -> Answer<StatementView> {
        match self {
            Self::Running(client) => client.statement(request).await,
            Self::Stopped(home) => home.statement(request).await,
        }
    }

    async fn explain(&self, request: ExplainRequest) -> Answer<Explanation> {
        match self {
            Self::Running(client) => client.explain(request).await,
            Self::Stopped(home) => home.explain(request).await,
        }
    }

    async fn proof(&self, request: ExplainRequest) -> Answer<ProofView> {
        match self {
            Self::Running(client) => client.proof(request).await,
            Self::Stopped(home) => home.proof(request).await,
        }
    }

    async fn prove_holdout(&self, request: ProveRequest) -> Answer<HoldoutProof> {
        match self {
            Self::Running(client) => client.prove_holdout(request).await,
            Self::Stopped(home) => home.prove_holdout(request).await,
        }
    }

    async fn check_holdout(&self, proof: HoldoutProof) -> Answer<HoldoutReport> {
        match self {
            Self::Running(client) => client.check_holdout(proof).await,
            Self::Stopped(home) => home.check_holdout(proof).await,
        }
    }

    async fn why(&self, question: Question) -> Answer<Why> {
        match self {
            Self::Running(client) => client.why(question).await,
            Self::Stopped(home) => home.why(question).await,
        }
    }
}
