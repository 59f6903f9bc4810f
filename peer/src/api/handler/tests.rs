//! A handler over a real daemon: commands are answered at once, and a stopped home agrees with it.

use std::time::Instant;

use futures::StreamExt;
use tributary_protocol::entry::Entry;
use tributary_protocol::event::Record;
use tributary_protocol::log::Unverified;
use tributary_protocol::node::Resources;

use super::*;
use crate::NETWORK;
use crate::api::stopped::StoppedHome;
use crate::config::RunFile;
use crate::daemon::DaemonConfig;
use crate::work::Slots;
use crate::work::quadratic::Quadratic;

/// Far below what polling would take, and enough for a loaded machine to sync a file.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn handler(root: &std::path::Path) -> DaemonHandler {
    let home = Arc::new(Home::create(root).unwrap());
    let daemon = Daemon::start(DaemonConfig {
        home: home.clone(),
        network: NETWORK,
        listen: "127.0.0.1:0".parse().unwrap(),
        reach: crate::net::Reach::Loopback,
        known: crate::net::Known::default(),
        relay: None,
        bootstrap: Vec::new(),
        learner: Arc::new(Quadratic::new(0.0)),
        slots: Slots::new(1),
        archive: true,
        resources: Resources::default(),
        evidence: false,
        chain: crate::settings::ChainAccess::default(),
        still_clock: None,
    });
    let daemon = Arc::new(daemon.await.unwrap());
    DaemonHandler::new(daemon, home, "ada".to_owned(), Arc::new(Notify::new()))
}

fn request(handler: &DaemonHandler, root: &std::path::Path, nonce: u64) -> CreateRequest {
    request_with(handler, root, nonce, "")
}

fn request_with(
    handler: &DaemonHandler,
    root: &std::path::Path,
    nonce: u64,
    more: &str,
) -> CreateRequest {
    let file = root.join("run.toml");
    let text = "name = \"valley\"\nbase = \"brook\"\ndatanet = \"birds\"\nrounds = 2\n";
    std::fs::write(&file, format!("{text}{more}")).unwrap();
    let file = RunFile::read(&file).unwrap();
    let base = model::facts(&file.base).unwrap();
    let manifest = file
        .manifest(handler.daemon.peer_id(), nonce, &base)
        .unwrap();
    CreateRequest {
        manifest: HEXLOWER.encode(&codec::encode(&manifest)),
        base: None,
        join: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_answered_at_once_and_the_stopped_home_shows_what_they_did() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("home");
    let handler = handler(&root).await;
    let request = request(&handler, dir.path(), 1);
    let asked = Instant::now();
    let run = handler.create(request.clone()).await.unwrap();
    let again = handler.create(request).await.unwrap_err();
    assert_eq!(again.code, Code::Refused, "{again}");
    assert!(again.text.contains("exists already"), "{again}");
    let left = handler.leave(&run.run).await.unwrap();
    assert_eq!((&left.run, left.phase), (&run.run, RunPhase::Gather));
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    let unknown = handler.leave("zz").await.unwrap_err();
    assert_eq!(unknown.code, Code::UnknownId);

    let (running, status) = (handler.run(&run.run).await.unwrap(), handler.status().await);
    handler.daemon.stop().await;
    let stopped = handler.leave(&run.run).await.unwrap_err();
    assert_eq!(stopped.code, Code::Stopped, "{stopped}");
    drop(handler);
    let home = StoppedHome::new(&root);
    let mut shown = home.run(&run.run).await.unwrap();
    assert_eq!(shown.brief.phase, RunPhase::Offline);
    shown.brief.phase = RunPhase::Gather;
    assert_eq!(shown, running);
    let (before, after) = (status.unwrap(), home.status().await.unwrap());
    assert_eq!((after.peer, after.home), (before.peer, before.home));
    assert!(before.running && !after.running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_is_durable_when_answered_and_a_second_one_with_other_data_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("home");
    let handler = handler(&root).await;
    let add = |name: &str| {
        let file = dir.path().join(name);
        let text = format!("The {name} counts seven sacks of rye by the door and goes home. ");
        std::fs::write(&file, text.repeat(40)).unwrap();
        crate::shard::add(handler.home.paths(), "birds", &[file]).unwrap();
    };
    add("miller");
    let request = request(&handler, dir.path(), 1);
    let run = handler.create(request).await.unwrap().run;
    let join = || handler.join(&run, JoinRequest::default());
    join().await.unwrap();
    join().await.expect("the same again is no other wish");
    add("ferryman");
    let asked = Instant::now();
    let second = join().await.unwrap_err();
    assert_eq!(second.code, Code::Refused, "{second}");
    assert!(second.text.contains("other data"), "{second}");
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());

    let me = handler.daemon.peer_id();
    let records = handler.daemon.records().await.unwrap();
    let joins = records.iter().filter(|record| match record {
        Record::Block(bytes) => {
            let block = Unverified::decode(bytes, NETWORK).unwrap();
            let mut entries = block.block().entries.iter();
            block.head().author == me && entries.any(|e| matches!(e, Entry::Join(_)))
        }
        _ => false,
    });
    assert_eq!(joins.count(), 1);
    handler.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_begin_with_the_phase_of_each_run_and_readers_have_so_many_places() {
    let dir = tempfile::tempdir().unwrap();
    let handler = handler(&dir.path().join("home")).await;
    let request = request(&handler, dir.path(), 1);
    let run = handler.create(request).await.unwrap().run;
    let asked = EventsRequest {
        run: Some(run.clone()),
    };
    let mut readers = Vec::new();
    for _ in 0..MAX_READERS {
        readers.push(handler.events(asked.clone()).await.unwrap());
    }
    let first = readers[0].next().await;
    let phase = RunPhase::Gather;
    assert_eq!(
        first,
        Some(EventView::Phase {
            run,
            round: 0,
            phase
        })
    );
    let refused = handler.events(asked.clone()).await.err();
    assert_eq!(refused.map(|e| e.code), Some(Code::TooManyReaders));
    readers.pop();
    assert!(handler.events(asked).await.is_ok(), "a place is free again");

    let mut all = handler.events(EventsRequest::default()).await.unwrap();
    let second = self::request(&handler, dir.path(), 2);
    let second = handler.create(second).await.unwrap().run;
    let hear = async {
        while let Some(event) = all.next().await {
            if event
                == (EventView::Following {
                    run: second.clone(),
                })
            {
                return true;
            }
        }
        false
    };
    assert!(tokio::time::timeout(AT_ONCE, hear).await.unwrap());
    handler.daemon.stop().await;
    let rest = tokio::time::timeout(AT_ONCE, all.collect::<Vec<_>>());
    assert!(rest.await.is_ok(), "the stream goes on without a daemon");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_nobody_can_join_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let handler = handler(&dir.path().join("home")).await;
    let long = request_with(&handler, dir.path(), 1, "[training]\ncontext = 1025\n");
    let refused = handler.create(long).await.unwrap_err();
    assert!(
        refused.text.contains("1025") && refused.text.contains("1024"),
        "{refused}"
    );
    let without_text = CreateRequest {
        join: Some(JoinRequest::default()),
        ..request(&handler, dir.path(), 2)
    };
    let refused = handler.create(without_text).await.unwrap_err();
    assert!(refused.text.contains("datanet add birds"), "{refused}");
    assert_eq!(handler.runs().await.unwrap(), []);
    let most = request_with(&handler, dir.path(), 3, "[training]\ncontext = 1024\n");
    handler.create(most).await.unwrap();
    handler.daemon.stop().await;
}
