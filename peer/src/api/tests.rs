//! A host with one run, a client, and everything in between: answers, refusals, tokens, dead daemons.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;

use super::client::{Client, ClientError};
use super::*;
use crate::home::HomePaths;

/// Knows one run.
struct OneRun;

impl OneRun {
    fn brief() -> RunBrief {
        RunBrief {
            run: "ab".repeat(32),
            name: "poets".to_owned(),
            rounds: 6,
            ..RunBrief::default()
        }
    }
    fn known(id: &str) -> Result<(), HostError> {
        if Self::brief().run.starts_with(id) {
            Ok(())
        } else {
            Err(HostError::Unknown(format!("no run {id} here")))
        }
    }
}

impl Host for OneRun {
    async fn status(&self) -> Result<StatusView, HostError> {
        Ok(StatusView {
            name: "alice".to_owned(),
            runs: vec![Self::brief()],
            ..StatusView::default()
        })
    }
    async fn runs(&self) -> Result<Vec<RunBrief>, HostError> {
        Ok(vec![Self::brief()])
    }
    async fn run(&self, id: &str) -> Result<RunView, HostError> {
        Self::known(id)?;
        Ok(RunView {
            brief: Self::brief(),
            budget_micro_open: 5,
            price_per_nat_micro_open: 6,
            ..RunView::default()
        })
    }
    async fn create(&self, request: CreateRequest) -> Result<RunBrief, HostError> {
        if request.manifest.is_empty() {
            return Err(HostError::Refused("the manifest is empty".to_owned()));
        }
        Ok(Self::brief())
    }
    async fn join(&self, id: &str, request: JoinRequest) -> Result<RunBrief, HostError> {
        Self::known(id)?;
        Ok(RunBrief {
            phase: request.role,
            ..Self::brief()
        })
    }
    async fn leave(&self, id: &str) -> Result<RunBrief, HostError> {
        Self::known(id)?;
        Err(HostError::Failed("the disk is full".to_owned()))
    }
    async fn watch(&self, id: &str) -> Result<BoxStream<'static, EventView>, HostError> {
        Self::known(id)?;
        let event = |round| EventView {
            round: Some(round),
            line: "x".repeat(9_000),
            ..EventView::default()
        };
        Ok(futures::stream::iter((0..50).map(event)).boxed())
    }
    async fn adapters(&self) -> Result<Vec<AdapterView>, HostError> {
        Ok(Vec::new())
    }
    async fn export(&self, request: FolderRequest) -> Result<AdapterView, HostError> {
        Self::known(&request.id)?;
        Ok(AdapterView::default())
    }
    async fn get(&self, _: FolderRequest) -> Result<AdapterView, HostError> {
        Ok(AdapterView::default())
    }
    async fn verify(&self) -> Result<serde_json::Value, HostError> {
        Ok(serde_json::json!({"verified": true}))
    }
    async fn statement(&self, wanted: StatementRequest) -> Result<StatementView, HostError> {
        Ok(StatementView {
            peer: format!("{:?} by {:?}", wanted.run, wanted.by),
            ..StatementView::default()
        })
    }
    async fn explain(&self, wanted: ExplainRequest) -> Result<Explanation, HostError> {
        Self::known(&wanted.receipt)?;
        Ok(Explanation {
            round: 4,
            ..Explanation::default()
        })
    }
    async fn prove_holdout(&self, wanted: ProveRequest) -> Result<HoldoutProof, HostError> {
        Self::known(&wanted.run)?;
        Ok(HoldoutProof {
            round: wanted.round,
            ..HoldoutProof::default()
        })
    }
    async fn check_holdout(&self, proof: HoldoutProof) -> Result<HoldoutReport, HostError> {
        Ok(HoldoutReport {
            round: proof.round + 1,
            ..HoldoutReport::default()
        })
    }
    async fn why(&self, question: Question) -> Result<Why, HostError> {
        Err(HostError::Unknown(format!("no run {} here", question.id)))
    }
    fn stop(&self) {}
    fn metrics(&self) -> String {
        "tributary_up 1\n".to_owned()
    }
}

async fn started() -> (tempfile::TempDir, Server, Client) {
    let dir = tempfile::tempdir().unwrap();
    let file = HomePaths::new(dir.path()).control();
    let server = serve(Arc::new(OneRun), loopback(), &file).await.unwrap();
    let client = Client::open(dir.path()).unwrap();
    (dir, server, client)
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[tokio::test]
async fn client_gets_the_views_that_the_host_gives() {
    let (_dir, _server, client) = started().await;
    let status: StatusView = client.get("/v1/status").await.unwrap();
    assert_eq!(status.name, "alice");
    let run: RunView = client.get("/v1/runs/abab").await.unwrap();
    assert_eq!((run.brief, run.budget_micro_open), (OneRun::brief(), 5));
    let join = JoinRequest {
        role: "both".to_owned(),
        ..JoinRequest::default()
    };
    let brief: RunBrief = client.post("/v1/runs/ab/join", &join).await.unwrap();
    assert_eq!(brief.phase, "both");
    let wanted = StatementRequest {
        run: Some("ab".to_owned()),
        by: Some(3),
    };
    let statement: StatementView = client.get(&wanted.path()).await.unwrap();
    assert_eq!(statement.peer, r#"Some("ab") by Some(3)"#);
    let explain = |receipt: &str| ExplainRequest {
        receipt: receipt.to_owned(),
    };
    let found: Explanation = (client.post("/v1/ledger/explain", &explain("ab")).await).unwrap();
    assert_eq!(found.round, 4);
    let wanted = ProveRequest {
        run: "ab".to_owned(),
        round: 6,
    };
    let proof: HoldoutProof = (client.post("/v1/ledger/prove-holdout", &wanted).await).unwrap();
    let report: HoldoutReport = (client.post("/v1/ledger/check-holdout", &proof).await).unwrap();
    assert_eq!(report.round, 7);
    let wanted = explain("cd");
    let unknown = client.post::<_, Explanation>("/v1/ledger/explain", &wanted);
    assert_eq!(unknown.await.unwrap_err().to_string(), "no run cd here");
}

#[tokio::test]
async fn refusals_reach_the_client_with_their_reason() {
    let (_dir, _server, client) = started().await;
    let error = client.get::<RunView>("/v1/runs/cd").await.unwrap_err();
    assert_eq!(error.to_string(), "no run cd here");
    let full = client.post::<_, RunBrief>("/v1/runs/ab/leave", &()).await;
    assert_eq!(full.unwrap_err().to_string(), "the disk is full");
    let unknown = client.get::<RunView>("/v2/none").await.unwrap_err();
    assert!(unknown.to_string().contains("version"), "{unknown}");
}

#[tokio::test]
async fn a_watched_run_arrives_line_by_line_and_can_be_left() {
    let (_dir, _server, client) = started().await;
    let mut seen = Vec::new();
    client
        .watch("ab", |event| {
            seen.push(event.round.unwrap());
            true
        })
        .await
        .unwrap();
    assert_eq!(seen, (0..50).collect::<Vec<u32>>());
    let mut count = 0;
    client
        .watch("ab", |_| {
            count += 1;
            count < 3
        })
        .await
        .unwrap();
    assert_eq!(count, 3);
}

#[tokio::test]
async fn without_the_token_nothing_is_answered() {
    let (dir, server, _) = started().await;
    let path = HomePaths::new(dir.path()).control();
    let mut control = server.control().clone();
    control.token.replace_range(..1, "g"); // No hexadecimal digit, so surely another token.
    control.write(&path).unwrap();
    let thief = Client::open(dir.path()).unwrap();
    let error = thief.get::<StatusView>("/v1/status").await.unwrap_err();
    assert!(error.not_running(), "{error}");
}

#[tokio::test]
async fn a_stopped_daemon_is_told_from_a_running_one() {
    let (dir, server, client) = started().await;
    assert!(Client::try_open(dir.path()).await.unwrap().is_some());
    let control = server.control().clone();
    server.shutdown().await;
    assert!(Client::try_open(dir.path()).await.unwrap().is_none());
    // As after SIGKILL: the file is still there.
    let path = HomePaths::new(dir.path()).control();
    control.write(&path).unwrap();
    assert!(Client::try_open(dir.path()).await.unwrap().is_none());
    let error = client.get::<StatusView>("/v1/status").await.unwrap_err();
    assert!(error.to_string().contains("tributary up"), "{error}");
}

#[tokio::test]
async fn a_port_in_use_and_a_public_address_are_refused_with_the_mend() {
    let (dir, server, _client) = started().await;
    let file = dir.path().join("second.json");
    let taken = serve(Arc::new(OneRun), server.control().addr, &file).await;
    let error = taken.unwrap_err();
    assert!(error.to_string().contains("port 0"), "{error}");
    let public = serve(Arc::new(OneRun), "0.0.0.0:0".parse().unwrap(), &file).await;
    assert!(matches!(public, Err(ServeError::NotLoopback(_))));
    assert!(matches!(
        Client::open(&dir.path().join("none")),
        Err(ClientError::Control(_))
    ));
}
