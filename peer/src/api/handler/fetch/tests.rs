//! How long a fetch takes where nothing but this program could make it wait.

use std::sync::Arc;

use tokio::sync::Notify;
use tributary_protocol::id::NetworkId;
use tributary_protocol::node::{Node, Resources};

use super::*;
use crate::daemon::tests::{federation, finished};
use crate::daemon::{Daemon, DaemonConfig};
use crate::home::Home;
use crate::net::{Address, Known, Reach};
use crate::work::Slots;
use crate::work::quadratic::Quadratic;

/// Peers that fetch, one after the other: a busy machine delays some.
const TRIES: u64 = 5;

/// A peer that follows nothing and is greeted by a neighbour.
async fn stranger(root: &std::path::Path, bootstrap: Vec<Address>) -> DaemonHandler {
    let home = Arc::new(Home::create(root).unwrap());
    let daemon = Daemon::start(DaemonConfig {
        home: home.clone(),
        network: NetworkId(9),
        listen: "127.0.0.1:0".parse().unwrap(),
        reach: Reach::Loopback,
        known: Known::default(),
        relay: None,
        bootstrap,
        learner: Arc::new(Quadratic::new(0.0)),
        slots: Slots::new(1),
        archive: true,
        resources: Resources::default(),
        evidence: false,
        chain: crate::settings::ChainAccess::default(),
        still_clock: None,
    });
    let daemon = Arc::new(daemon.await.unwrap());
    let mut known = daemon.watch_known_runs();
    let greeted = known.wait_for(|runs| !runs.is_empty());
    let greeted = tokio::time::timeout(Duration::from_secs(60), greeted).await;
    greeted.expect("the neighbour tells of its run").unwrap();
    DaemonHandler::new(daemon, home, "ada".to_owned(), Arc::new(Notify::new()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_of_a_run_that_nobody_follows_comes_before_anybody_would_look_again() {
    let dir = tempfile::tempdir().unwrap();
    let (daemons, run) = federation(dir.path(), &Slots::new(1)).await;
    finished(&daemons[0], run).await;
    let look = move |node: &Node| node.run(&run).unwrap().head().unwrap().adapter.hash;
    let adapter = daemons[0].inspect(look).await.unwrap().to_string();
    let mut took = Vec::new();
    for (n, id) in (0..TRIES).zip([adapter, run.to_string()].iter().cycle()) {
        let root = dir.path().join(format!("late{n}"));
        let late = stranger(&root, daemons[0].addresses()).await;
        let began = Instant::now();
        let found = certified(&late, id, Duration::from_secs(60)).await;
        took.push(began.elapsed());
        assert_eq!(found.map_err(|why| why.to_string()), Ok(run));
        late.daemon.stop().await;
    }
    println!("fetched in {took:?}");
    assert!(took.iter().min() < Some(&(LOOK_AGAIN / 2)), "{took:?}");
}
