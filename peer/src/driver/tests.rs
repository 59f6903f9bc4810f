//! A brain of the node's shape that does what it is told, on real sockets and a real store.

use parking_lot::Mutex;
use tributary_ledger::LedgerIndex;
use tributary_protocol::entry::ScoreSheet;
use tributary_protocol::event::{Record, ScoreTask, Timer, TrainTask, Trained, Verdict};
use tributary_protocol::hash;
use tributary_protocol::id::{NetworkId, Round};

use super::*;
use crate::home::HomePaths;
use crate::identity::Identity;
use crate::net::{self, NetConfig};
use crate::store::disk::Fault;
use crate::work::quadratic::{Quadratic, train_task};
use crate::work::{Cancel, Learner, Progress, Slots, WorkError};

const LIMIT: Duration = Duration::from_secs(15);

type Script = Arc<Mutex<VecDeque<Vec<Effect>>>>;

/// Answers each command with the effects that were laid out for it, and writes down its inputs.
struct Scripted {
    script: Script,
    seen: Arc<Mutex<Vec<String>>>,
}

impl DrivenNode for Scripted {
    fn handle(&mut self, input: Input, now: Now) -> Vec<Effect> {
        let text = match &input {
            Input::Timer(_) => format!("timer at {}", now.monotonic.0),
            Input::Connected(_) => "connected".into(),
            Input::Direct { bytes, .. } => format!("direct {}", bytes.len()),
            Input::Blob(blob) => format!("blob {}", blob.bytes().len()),
            Input::BlobFailed(_) => "blob failed".into(),
            Input::Trained(t) => format!("trained {}", t.tokens),
            Input::Command(_) => "command".into(),
            _ => "other".into(),
        };
        self.seen.lock().push(text);
        match input {
            Input::Command(_) => self.script.lock().pop_front().unwrap_or_default(),
            Input::Gossip { id, .. } => vec![Effect::Verdict {
                id,
                verdict: Verdict::Accept,
            }],
            _ => Vec::new(),
        }
    }

    fn joins(&self) -> Vec<(RunId, Join)> {
        Vec::new()
    }
}

struct Rig {
    requests: mpsc::Sender<Request<Scripted>>,
    script: Script,
    events: broadcast::Receiver<Event>,
    seen: Arc<Mutex<Vec<String>>>,
    net: Net,
    peer: PeerId,
    ended: tokio::task::JoinHandle<Option<String>>,
    paths: HomePaths,
    health: Health,
    _dir: tempfile::TempDir,
}

async fn rig(script: Vec<Vec<Effect>>, bootstrap: Vec<net::Address>, fault: Fault) -> Rig {
    rig_of(Arc::new(Quadratic::new(1.0)), script, bootstrap, fault).await
}

async fn rig_of(
    learner: Arc<dyn Learner>,
    script: Vec<Vec<Effect>>,
    bootstrap: Vec<net::Address>,
    fault: Fault,
) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let paths = HomePaths::new(dir.path());
    let store = match fault {
        Fault::Never => Store::open(&paths).unwrap(),
        fault => Store::on_disk(&paths, fault),
    };
    let identity = Identity::generate();
    let (net, net_events) = net::start(NetConfig {
        identity: &identity,
        network: NetworkId(5),
        listen: "127.0.0.1:0".parse().unwrap(),
        reach: net::Reach::Loopback,
        known: net::Known::default(),
        relay: None,
        bootstrap,
        blobs: store.blobs().clone(),
        holder: None,
    })
    .await
    .unwrap();
    let (sender, events) = broadcast::channel(64);
    let (requests, inbox) = mpsc::channel(16);
    let (bench, done) = Bench::new(learner, Slots::new(1), sender.clone());
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let script: Script = Arc::new(Mutex::new(script.into()));
    let health = Health::default();
    let parts = Parts {
        brain: Scripted {
            script: script.clone(),
            seen: seen.clone(),
        },
        net: net.clone(),
        net_events,
        store: Arc::new(store),
        bench,
        done,
        requests: inbox,
        events: sender,
        metrics: Arc::new(Metrics::new()),
        health: health.clone(),
        indexer: Indexer::start(LedgerIndex::new(NetworkId(5))).unwrap(),
        progress: watch::Sender::default(),
    };
    let driver = Driver::new(parts, Clock::start(None));
    Rig {
        requests,
        script,
        events,
        seen,
        net,
        peer: identity.peer_id(),
        ended: tokio::spawn(driver.run(Vec::new())),
        paths,
        health,
        _dir: dir,
    }
}

impl Rig {
    async fn next_script(&self) -> oneshot::Receiver<Result<(), String>> {
        let (answer, wait) = oneshot::channel();
        let command = Request::Command(Command::Leave(RunId::default()), answer);
        let sent = self.requests.send(command).await;
        assert!(sent.is_ok(), "the driver is gone");
        wait
    }

    async fn until_seen(&self, what: &str) {
        let wait = async {
            while !self.seen.lock().iter().any(|s| s.starts_with(what)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let found = tokio::time::timeout(LIMIT, wait).await;
        assert!(found.is_ok(), "never saw {what}: {:?}", self.seen.lock());
    }

    async fn stop(self) -> Option<String> {
        let _ = self.requests.send(Request::Stop).await;
        let ended = tokio::time::timeout(LIMIT, self.ended).await;
        ended.expect("the driver does not stop").unwrap()
    }
}

fn block(n: u8) -> Record {
    Record::Block(vec![n; 100])
}

fn notice(n: u8) -> Effect {
    Effect::Notify(Notice::Following(RunId(hash::blob(&[n]))))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_behind_a_barrier_happen_once_it_is_durable_and_in_order() {
    let script = vec![
        vec![notice(1), Effect::Persist(vec![block(1)]), notice(2)],
        vec![Effect::Persist(vec![block(2)]), notice(3)],
    ];
    let mut rig = rig(script, Vec::new(), Fault::Never).await;
    rig.next_script().await;
    rig.next_script().await;
    let mut order = Vec::new();
    for _ in 0..3 {
        let event = tokio::time::timeout(LIMIT, rig.events.recv())
            .await
            .unwrap()
            .unwrap();
        if let Event::Notice(Notice::Following(run)) = event {
            order.push(run);
        }
    }
    let expected: Vec<_> = (1..=3u8).map(|n| RunId(hash::blob(&[n]))).collect();
    assert_eq!(order, expected);
    let paths = rig.paths.clone();
    let dir = std::mem::replace(&mut rig._dir, tempfile::tempdir().unwrap());
    assert_eq!(rig.stop().await, None);
    let store = Store::open(&paths).unwrap();
    assert_eq!(store.load_all().unwrap(), [block(1), block(2)]);
    drop((store, dir));
}

/// What the next command comes to.
async fn answered(rig: &Rig) -> Result<(), String> {
    let wait = rig.next_script().await;
    tokio::time::timeout(LIMIT, wait).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_answered_once_it_is_durable_or_with_its_refusal() {
    let refusal = |run, why: &str| {
        Effect::Notify(Notice::CommandFailed {
            run,
            why: why.to_owned(),
        })
    };
    let elsewhere = Some(RunId(hash::blob(b"another run")));
    let script = vec![
        vec![
            refusal(elsewhere, "none of its business"),
            Effect::Persist(vec![block(1)]),
        ],
        vec![refusal(Some(RunId::default()), "the run is full")],
        Vec::new(),
    ];
    let rig = rig(script, Vec::new(), Fault::Never).await;
    assert_eq!(answered(&rig).await, Ok(()));
    let (records, wait) = oneshot::channel();
    assert!(rig.requests.send(Request::Records(records)).await.is_ok());
    assert_eq!(wait.await.unwrap().unwrap(), [block(1)]);
    let refused = Err("the run is full".to_owned());
    assert_eq!(answered(&rig).await, refused);
    assert_eq!(answered(&rig).await, Ok(()));
    assert_eq!(rig.stop().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_stops_the_driver_and_nothing_behind_the_barrier_is_done() {
    let persist = |n| Effect::Persist(vec![block(n)]);
    let script = vec![
        vec![persist(1), notice(1)],
        vec![
            persist(2),
            notice(2),
            Effect::Persist(vec![block(3)]),
            notice(3),
        ],
    ];
    let mut rig = rig(script, Vec::new(), Fault::FullAt(0)).await;
    let answer = rig.next_script().await;
    let ended = tokio::time::timeout(LIMIT, rig.ended).await;
    let why = ended
        .expect("the driver goes on")
        .unwrap()
        .expect("no reason");
    assert!(
        why.contains("disk is full") && why.contains("Free some space"),
        "{why}"
    );
    assert!(rig.events.try_recv().is_err(), "something was acknowledged");
    assert!(answer.await.is_err(), "the command was acknowledged");
    assert!(matches!(
        rig.health.now(1, 0, std::time::Instant::now())[..],
        [Warning::Store(_)]
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_hears_that_the_key_is_used_twice_and_not_that_others_are_cut_off() {
    let mut rig = rig(Vec::new(), Vec::new(), Fault::Never).await;
    let cut_off = |author| {
        let run = RunId::default();
        vec![Effect::Notify(Notice::Equivocation { run, author })]
    };
    let other = Identity::generate().peer_id();
    let health = |rig: &Rig| rig.health.now(1, 0, std::time::Instant::now());
    rig.script.lock().push_back(cut_off(other));
    rig.next_script().await.await.unwrap().unwrap();
    let _ = tokio::time::timeout(LIMIT, rig.events.recv())
        .await
        .unwrap();
    assert_eq!(health(&rig), []);
    rig.script.lock().push_back(cut_off(rig.peer));
    rig.next_script().await.await.unwrap().unwrap();
    let _ = tokio::time::timeout(LIMIT, rig.events.recv())
        .await
        .unwrap();
    assert_eq!(health(&rig), [Warning::KeyTwice(RunId::default())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_work_and_blobs_come_back_as_inputs() {
    let content = vec![4u8; 5000];
    let blob = BlobRef::of(&content);
    let missing = BlobRef::of(b"nobody has this");
    let tick = Timer::Tick(RunId::default());
    let late = Timer::Grace(RunId::default(), Round(1));
    let at = tributary_protocol::time::Instant;
    let script = vec![
        vec![
            Effect::SetTimer {
                timer: late,
                at: at(20),
            },
            // Set again: it moves beyond the end of this test.
            Effect::SetTimer {
                timer: late,
                at: at(3_600_000),
            },
            Effect::SetTimer {
                timer: tick,
                at: at(400),
            },
        ],
        vec![
            Effect::Persist(vec![Record::Blob {
                hash: blob.hash,
                bytes: content.into(),
            }]),
            Effect::FetchBlob {
                blob,
                providers: Vec::new(),
            },
            Effect::FetchBlob {
                blob: missing,
                providers: Vec::new(),
            },
            Effect::Train(Box::new(train_task(1))),
        ],
    ];
    let rig = rig(script, Vec::new(), Fault::Never).await;
    rig.next_script().await;
    rig.next_script().await;
    for what in ["blob 5000", "blob failed", "trained 24", "timer at"] {
        rig.until_seen(what).await;
    }
    let seen = rig.seen.lock().clone();
    let fired: Vec<_> = seen
        .iter()
        .filter_map(|s| s.strip_prefix("timer at "))
        .collect();
    assert_eq!(fired.len(), 1, "a cancelled timer went off: {seen:?}");
    assert!(fired[0].parse::<u64>().unwrap() >= 400, "early: {seen:?}");
    assert_eq!(rig.stop().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_drivers_talk() {
    let a = rig(Vec::new(), Vec::new(), Fault::Never).await;
    let send = Effect::Send {
        to: a.peer,
        bytes: vec![1; 777],
    };
    let b = rig(vec![vec![send]], a.net.addresses(), Fault::Never).await;
    b.until_seen("connected").await;
    b.next_script().await;
    a.until_seen("direct 777").await;
    let (looked, wait) = oneshot::channel();
    let look = Box::new(move |brain: &Scripted| {
        let _ = looked.send(brain.seen.lock().len());
    });
    assert!(a.requests.send(Request::Inspect(look)).await.is_ok());
    assert!(wait.await.unwrap() >= 2);
    a.stop().await;
    b.stop().await;
}

/// Fails in odd rounds.
struct Stumbling(Quadratic);

impl Learner for Stumbling {
    fn joined(&self, _: RunId, _: &Join) {}
    fn train(
        &self,
        task: &TrainTask,
        cancel: &Cancel,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Trained, WorkError> {
        match task.round.0 % 2 {
            1 => Err(WorkError::Failed("no memory is left".into())),
            _ => self.0.train(task, cancel, progress),
        }
    }
    fn score(&self, task: &ScoreTask, cancel: &Cancel) -> Result<ScoreSheet, WorkError> {
        self.0.score(task, cancel)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_training_that_failed_is_warned_of_until_the_next_one_succeeds_or_the_run_is_finished() {
    let train = |round| vec![Effect::Train(Box::new(train_task(round)))];
    let over = vec![Effect::Notify(Notice::Finished(train_task(1).run))];
    let script = vec![train(1), train(2), train(3), over];
    let learner = Arc::new(Stumbling(Quadratic::new(1.0)));
    let rig = rig_of(learner, script, Vec::new(), Fault::Never).await;
    let until = async |is_warned: bool| {
        let wait = async {
            while rig.health.now(1, 0, std::time::Instant::now()).is_empty() == is_warned {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let so = tokio::time::timeout(LIMIT, wait).await;
        assert!(so.is_ok(), "never warned: {is_warned}");
    };
    for is_warned in [true, false, true, false] {
        rig.next_script().await;
        until(is_warned).await;
    }
    assert_eq!(rig.stop().await, None);
}
