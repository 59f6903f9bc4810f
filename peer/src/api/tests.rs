//! A host with one run, a client, and everything in between: answers, refusals, tokens, dead daemons.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;

use tributary_ledger::view::disputes::DisputesView;

use super::client::{Client, Patience};
use super::types::{RoleName, RunPhase};
use super::*;
use crate::home::{Home, HomePaths};
use crate::problem::Code;

/// A run of which nothing is heard.
const QUIET: &str = "abab";
/// How long a fetch takes; far longer than a hurried client waits for a short answer.
const LONG: Duration = Duration::from_millis(1500);

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
    fn known(id: &str) -> Answer<()> {
        if Self::brief().run.starts_with(id) {
            Ok(())
        } else {
            Err(Problem::new(Code::UnknownId, format!("no run {id} here")))
        }
    }
}

impl Reader for OneRun {
    async fn status(&self) -> Answer<StatusView> {
        Ok(StatusView {
            name: "alice".to_owned(),
            runs: vec![Self::brief()],
            ..StatusView::default()
        })
    }
    async fn runs(&self) -> Answer<Vec<RunBrief>> {
        Ok(vec![Self::brief()])
    }
    async fn run(&self, id: &str) -> Answer<RunView> {
        Self::known(id)?;
        Ok(RunView {
            brief: Self::brief(),
            budget_micro_open: 5,
            price_per_nat_micro_open: 6,
            ..RunView::default()
        })
    }
    async fn books(&self, id: &str, request: BooksRequest) -> Answer<BooksView> {
        Self::known(id)?;
        Ok(BooksView {
            expected: request.height.map_or(0, |height| height + 1),
            ..BooksView::default()
        })
    }
    async fn disputes(&self, id: &str) -> Answer<DisputesView> {
        Self::known(id)?;
        Ok(DisputesView {
            expected: 9,
            ..DisputesView::default()
        })
    }
    async fn adapters(&self) -> Answer<Vec<AdapterView>> {
        Ok(Vec::new())
    }
    async fn export(&self, request: ExportRequest) -> Answer<AdapterView> {
        Self::known(&request.id)?;
        Ok(AdapterView::default())
    }
    async fn verify(&self) -> Answer<Report> {
        Ok(Report {
            verified: true,
            ..Report::default()
        })
    }
    async fn statement(&self, wanted: StatementRequest) -> Answer<StatementView> {
        Ok(StatementView {
            peer: format!("{:?} by {:?}", wanted.run, wanted.by),
            ..StatementView::default()
        })
    }
    async fn explain(&self, wanted: ExplainRequest) -> Answer<Explanation> {
        Self::known(&wanted.receipt)?;
        Ok(Explanation {
            round: 4,
            ..Explanation::default()
        })
    }
    async fn proof(&self, wanted: ExplainRequest) -> Answer<ProofView> {
        Self::known(&wanted.receipt)?;
        Ok(ProofView {
            round: 4,
            ..ProofView::default()
        })
    }
    async fn prove_holdout(&self, wanted: ProveRequest) -> Answer<HoldoutProof> {
        Self::known(&wanted.run)?;
        Ok(HoldoutProof {
            round: wanted.round,
            ..HoldoutProof::default()
        })
    }
    async fn check_holdout(&self, proof: HoldoutProof) -> Answer<HoldoutReport> {
        Ok(HoldoutReport {
            round: proof.round + 1,
            ..HoldoutReport::default()
        })
    }
    async fn why(&self, question: Question) -> Answer<Why> {
        Self::known(&question.id)?;
        Err(Problem::new(Code::CheckFailed, "the run does not hold"))
    }
}

impl ApiHandler for OneRun {
    async fn create(&self, request: CreateRequest) -> Answer<RunBrief> {
        if request.manifest.is_empty() {
            return Err(Problem::new(Code::Malformed, "the manifest is empty"));
        }
        Ok(Self::brief())
    }
    async fn join(&self, id: &str, request: JoinRequest) -> Answer<RunBrief> {
        Self::known(id)?;
        Ok(RunBrief {
            name: format!("{:?}", request.role),
            phase: RunPhase::Gather,
            ..Self::brief()
        })
    }
    async fn leave(&self, id: &str) -> Answer<RunBrief> {
        Self::known(id)?;
        Err(Problem::new(Code::Environment, "the disk is full").hint("free some space"))
    }
    async fn dispute(&self, id: &str, request: DisputeRequest) -> Answer<DisputesView> {
        Self::known(id)?;
        Ok(DisputesView {
            run: request.reason,
            expected: request.round,
            ..DisputesView::default()
        })
    }
    async fn appeal(&self, id: &str, dispute: &str) -> Answer<DisputesView> {
        Self::known(id)?;
        Ok(DisputesView {
            run: dispute.to_owned(),
            ..DisputesView::default()
        })
    }
    async fn base(&self, id: &str) -> Answer<BaseView> {
        Self::known(id)?;
        Ok(BaseView::default())
    }
    async fn fetch_base(&self, id: &str) -> Answer<BaseView> {
        Self::known(id)?;
        Err(Problem::new(
            Code::Unreachable,
            "no connected peer follows the run",
        ))
    }
    async fn reach(&self) -> Answer<ReachView> {
        Ok(ReachView::default())
    }
    async fn invite(&self, request: InviteRequest) -> Answer<TicketView> {
        Self::known(&request.run)?;
        Err(Problem::new(Code::Refused, "the run is over"))
    }
    async fn invitations(&self) -> Answer<Vec<InvitationView>> {
        Ok(Vec::new())
    }
    async fn revoke(&self, id: &str) -> Answer<Vec<InvitationView>> {
        Err(Problem::new(Code::UnknownId, id))
    }
    async fn ticket(&self, request: TicketRequest) -> Answer<OfferView> {
        Err(Problem::new(Code::Malformed, request.ticket))
    }
    async fn events(&self, request: EventsRequest) -> Answer<BoxStream<'static, EventView>> {
        let run = request.run.as_deref().unwrap_or_default();
        Self::known(run)?;
        if run == QUIET {
            return Ok(futures::stream::pending().boxed());
        }
        let event = |events| EventView::Failed {
            run: None,
            why: format!("{events} {}", "x\n".repeat(4_000)),
        };
        Ok(futures::stream::iter((0..50).map(event)).boxed())
    }
    async fn fetch(&self, _: FetchRequest) -> Answer<AdapterView> {
        tokio::time::sleep(LONG).await;
        Ok(AdapterView::default())
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
    let client = Client::at(dir.path()).unwrap().unwrap();
    (dir, server, client)
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// What the API says to a request of no client of ours.
async fn raw(server: &Server, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
    let control = server.control();
    let asked = (client::http().unwrap())
        .request(
            method.parse().unwrap(),
            format!("http://{}{path}", control.addr),
        )
        .bearer_auth(&control.token)
        .header("content-type", "application/json")
        .body(body.to_owned());
    let response = asked.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn client_gets_the_answers_that_the_host_gives() {
    let (_dir, _server, client) = started().await;
    assert_eq!(client.status().await.unwrap().name, "alice");
    assert_eq!(client.runs().await.unwrap(), [OneRun::brief()]);
    let run = client.run("abab").await.unwrap();
    assert_eq!((run.brief, run.budget_micro_open), (OneRun::brief(), 5));
    let join = JoinRequest {
        role: RoleName::Both,
        ..JoinRequest::default()
    };
    let brief = client.join("ab", &join).await.unwrap();
    assert_eq!(
        (brief.name.as_str(), brief.phase),
        ("Both", RunPhase::Gather)
    );
    let wanted = StatementRequest {
        run: Some("ab".to_owned()),
        by: Some(3),
    };
    let statement = client.statement(wanted).await.unwrap();
    assert_eq!(statement.peer, r#"Some("ab") by Some(3)"#);
    let of_height = BooksRequest { height: Some(7) };
    assert_eq!(client.books("abab", of_height).await.unwrap().expected, 8);
    let all = client.books("abab", BooksRequest::default()).await;
    assert_eq!(all.unwrap().expected, 0);
    assert_eq!(client.disputes("ab").await.unwrap().expected, 9);
    let disputed = DisputeRequest {
        round: 4,
        evaluator: "e0".to_owned(),
        peer: "c0".to_owned(),
        reason: "twice as much".to_owned(),
    };
    let opened = client.dispute("ab", disputed).await.unwrap();
    assert_eq!((opened.run.as_str(), opened.expected), ("twice as much", 4));
    assert_eq!(client.appeal("ab", "d1-0").await.unwrap().run, "d1-0");
    assert!(client.verify().await.unwrap().verified);
    let explain = |receipt: &str| ExplainRequest {
        receipt: receipt.to_owned(),
    };
    assert_eq!(client.explain(explain("ab")).await.unwrap().round, 4);
    let wanted = ProveRequest {
        run: "ab".to_owned(),
        round: 6,
    };
    let proof = client.prove_holdout(wanted).await.unwrap();
    assert_eq!(client.check_holdout(proof).await.unwrap().round, 7);
    let unknown = client.explain(explain("cd")).await.unwrap_err();
    assert_eq!(
        (unknown.code, unknown.text.as_str()),
        (Code::UnknownId, "no run cd here")
    );
}

#[tokio::test]
async fn refusals_reach_the_client_with_code_text_and_hint() {
    let (_dir, _server, client) = started().await;
    let full = client.leave("ab").await.unwrap_err();
    let said = Problem::new(Code::Environment, "the disk is full").hint("free some space");
    assert_eq!(full, said);
    let question = Question {
        id: "ab".to_owned(),
        prompt: String::new(),
        answer: None,
        max_tokens: 1,
        tokens: None,
    };
    let failure: crate::terminal::Failure = client.why(question).await.unwrap_err().into();
    assert_eq!(failure.exit_code(), 1, "as in a stopped home: {failure}");
}

#[tokio::test]
async fn whatever_is_asked_a_refusal_is_a_code_and_a_text() {
    let (_dir, server, _client) = started().await;
    for (method, path, body, status, code) in [
        ("GET", "/v2/none", "", 404, "unknown_route"),
        ("DELETE", "/v1/runs", "", 404, "unknown_route"),
        ("POST", "/v1/runs", "{\"manifest\":", 400, "malformed"),
        (
            "POST",
            "/v1/runs/ab/join",
            r#"{"role":"king"}"#,
            400,
            "malformed",
        ),
        ("GET", "/v1/ledger/statement?by=often", "", 400, "malformed"),
        ("GET", "/v1/runs/cd", "", 404, "unknown_id"),
        ("POST", "/v1/runs/ab/leave", "null", 500, "environment"),
    ] {
        let (given, problem) = raw(&server, method, path, body).await;
        assert_eq!(given, status, "{method} {path}: {problem}");
        assert_eq!(problem["code"], code, "{method} {path}");
        assert!(
            problem["text"].as_str().is_some_and(|t| !t.is_empty()),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn events_arrive_one_by_one_and_a_reader_may_leave() {
    let (_dir, _server, client) = started().await;
    let of = |run: &str| EventsRequest {
        run: Some(run.to_owned()),
    };
    let (known, unknown) = (of("ab"), of("cd"));
    let mut seen: Vec<u32> = Vec::new();
    let all = client.events(&known, |event| {
        let EventView::Failed { why, .. } = event else {
            panic!("{event:?}");
        };
        assert_eq!(why.lines().count(), 4_000, "the text is whole");
        seen.push(why.split(' ').next().unwrap().parse().unwrap());
        true
    });
    all.await.unwrap();
    assert_eq!(seen, (0..50).collect::<Vec<u32>>());
    let mut count = 0;
    let some = client.events(&known, |_| {
        count += 1;
        count < 3
    });
    some.await.unwrap();
    assert_eq!(count, 3);
    let unknown = client.events(&unknown, |_| true).await.unwrap_err();
    assert_eq!(unknown.code, Code::UnknownId);
}

#[tokio::test]
async fn without_the_token_nothing_is_answered() {
    let (dir, server, _) = started().await;
    let path = HomePaths::new(dir.path()).control();
    let mut control = server.control().clone();
    control.token.replace_range(..1, "g"); // No hexadecimal digit, so surely another token.
    control.write(&path).unwrap();
    let thief = Client::at(dir.path()).unwrap().unwrap();
    let error = thief.status().await.unwrap_err();
    assert_eq!(error.code, Code::NotRunning, "{error}");
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
    let error = client.status().await.unwrap_err();
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
    let none = Client::open(&dir.path().join("none")).await.unwrap_err();
    assert_eq!(none.code, Code::NotRunning);
}

/// As the daemon's client, but with little time.
fn hurried(root: &std::path::Path) -> Client {
    let client = Client::at(root).unwrap().unwrap();
    client.waiting(Patience {
        short: LONG / 3,
        probe: LONG / 15,
        silence: LONG / 3,
    })
}

/// What a client is told within a few seconds, whatever does not answer.
async fn told<T: std::fmt::Debug>(asked: impl Future<Output = Answer<T>>) -> Problem {
    let told = tokio::time::timeout(Duration::from_secs(20), asked).await;
    told.expect("the wait has an end")
        .expect_err("nobody answered")
}

#[tokio::test]
async fn a_daemon_that_takes_the_connection_and_says_nothing_ends_every_wait_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    // The system takes connections for it, as for a suspended process.
    let mute = std::net::TcpListener::bind(loopback()).unwrap();
    let control = control::Control::new(mute.local_addr().unwrap());
    let path = HomePaths::new(dir.path()).control();
    control.write(&path).unwrap();
    let client = hurried(dir.path());
    let everything = EventsRequest::default();
    let problems = [
        told(client.status()).await,
        told(client.stop()).await,
        told(client.events(&everything, |_| true)).await,
    ];
    for problem in problems {
        assert_eq!(problem.code, Code::Unreachable, "{problem}");
        let told = problem.to_string();
        assert!(
            told.contains("suspended or stuck") && told.contains("kill -CONT"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_long_answer_is_awaited_for_as_long_as_short_ones_come() {
    let (dir, _server, _) = started().await;
    let began = std::time::Instant::now();
    let request = FetchRequest {
        id: "ab".to_owned(),
        dir: dir.path().join("adapter"),
        bootstrap: Vec::new(),
        timeout_s: 1,
    };
    let fetched = hurried(dir.path()).fetch(&request).await;
    assert_eq!(fetched, Ok(AdapterView::default()));
    assert!(began.elapsed() >= LONG);
}

#[tokio::test]
async fn a_stream_that_nothing_keeps_alive_ends_with_a_sentence() {
    let (dir, _server, _) = started().await;
    let quiet = EventsRequest {
        run: Some(QUIET.to_owned()),
    };
    let client = hurried(dir.path());
    let problem = told(client.events(&quiet, |_| true)).await;
    assert_eq!(problem.code, Code::Unreachable, "{problem}");
}

#[tokio::test]
async fn a_daemon_that_is_starting_is_waited_for_and_a_stopped_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::create(dir.path()).unwrap();
    let file = home.paths().control();
    let starting = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        serve(Arc::new(OneRun), loopback(), &file).await.unwrap()
    };
    let (opened, server) = tokio::join!(Client::open(dir.path()), starting);
    assert_eq!(opened.unwrap().status().await.unwrap().name, "alice");
    server.shutdown().await;
    drop(home);
    assert!(Client::try_open(dir.path()).await.unwrap().is_none());
}

#[tokio::test]
async fn what_a_person_types_stays_one_word_of_the_address() {
    let (_dir, _server, client) = started().await;
    let typed = "ab/../status?x=1&by=2";
    let unknown = client.run(typed).await.unwrap_err();
    assert_eq!(unknown.text, format!("no run {typed} here"));
    let asked = StatementRequest {
        run: Some(typed.to_owned()),
        by: None,
    };
    let statement = client.statement(asked).await.unwrap();
    assert_eq!(statement.peer, format!("{:?} by None", Some(typed)));
}
