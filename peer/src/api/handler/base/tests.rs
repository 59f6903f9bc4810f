//! A base model from the run file of its owner to a newcomer, and from there to the next.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use data_encoding::HEXLOWER;
use tokio::sync::Notify;
use tributary_protocol::codec;
use tributary_protocol::node::Resources;
use tributary_trainer::brook;

use super::*;
use crate::NETWORK;
use crate::api::ApiHandler;
use crate::api::types::CreateRequest;
use crate::config::RunFile;
use crate::daemon::{Daemon, DaemonConfig};
use crate::home::Home;
use crate::net::{Address, Known, Reach};
use crate::work::Slots;
use crate::work::quadratic::Quadratic;

const LIMIT: Duration = Duration::from_secs(30);

async fn handler(root: &Path, bootstrap: Vec<Address>) -> DaemonHandler {
    let home = Arc::new(Home::create(root).unwrap());
    let daemon = Daemon::start(DaemonConfig {
        home: home.clone(),
        network: NETWORK,
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
    DaemonHandler::new(daemon, home, "ada".to_owned(), Arc::new(Notify::new()))
}

/// Opens a run of `base` as `tributary run create` does.
async fn open(handler: &DaemonHandler, base: &str, is_shared: bool) -> RunId {
    let text = format!(
        "name = \"valley\"\nbase = {base:?}\ndatanet = \"birds\"\nrounds = 2\nshare_base = {is_shared}\n"
    );
    let file = RunFile::parse(&text, "run.toml").unwrap();
    let mut facts = model::facts(base).unwrap();
    if is_shared && base != model::BROOK {
        let listing = share::list(Path::new(base), &mut |_, _| ()).unwrap();
        facts.files = Some(share::keep(handler.home.paths(), &listing.bytes()).unwrap());
    }
    let manifest = file.manifest(handler.daemon.peer_id(), 1, &facts).unwrap();
    let request = CreateRequest {
        manifest: HEXLOWER.encode(&codec::encode(&manifest)),
        base: (base != model::BROOK).then(|| base.into()),
        join: None,
    };
    handler.create(request).await.unwrap();
    manifest.run_id()
}

async fn meet(handler: &DaemonHandler, run: RunId) {
    let began = Instant::now();
    while !handler.daemon.known_runs().contains_key(&run) {
        assert!(
            began.elapsed() < LIMIT,
            "nobody who follows the run was met"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    handler.follow(run).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_fetches_a_shared_base_and_hands_it_on_when_its_owner_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("model");
    brook::write_to(&folder).unwrap();
    let mut config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    config.push_str("\n\n");
    std::fs::write(folder.join("config.json"), config).unwrap();
    let card = "---\nlicense: apache-2.0\n---\n";
    std::fs::write(folder.join("README.md"), card).unwrap();
    let owner = handler(&dir.path().join("owner"), Vec::new()).await;
    let run = open(&owner, &folder.to_string_lossy(), true).await;
    let id = run.to_string();

    let first = handler(&dir.path().join("first"), owner.daemon.addresses()).await;
    meet(&first, run).await;
    let before = first.base(&id).await.unwrap();
    // The owner is in this process: only the file that remembers bases tells whether a home has one.
    assert!(before.shared && !before.fetching, "{before:?}");
    let manifest = first.manifest(run).unwrap();
    let listing = listing(&first, run, &manifest).await.unwrap();
    assert_eq!(listing.licence, "apache-2.0 (README.md)");
    let progress = Progress::default();
    let base = &manifest.model.base;
    fetch::fetch(&job(&first, run, base, &progress))
        .await
        .unwrap();
    first.daemon.has_new_base();
    assert!(first.base(&id).await.unwrap().here);
    owner.daemon.stop().await;

    let second = handler(&dir.path().join("second"), first.daemon.addresses()).await;
    meet(&second, run).await;
    fetch::fetch(&job(&second, run, base, &progress))
        .await
        .unwrap();
    let given = second.daemon.traffic_by_peer()[&first.daemon.peer_id()].payload_down;
    assert!(given >= listing.total(), "{given} of {}", listing.total());
    first.daemon.stop().await;
    second.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_brook_needs_nothing_and_a_private_base_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let owner = handler(&dir.path().join("owner"), Vec::new()).await;
    let run = open(&owner, model::BROOK, true).await;
    let here = owner.fetch_base(&run.to_string()).await.unwrap();
    assert!(here.here && !here.shared, "{here:?}");
    assert_eq!(owner.daemon.traffic().payload_down, 0);
    let private = Base {
        name: "private".to_owned(),
        hash: Digest::default(),
        files: None,
    };
    let progress = Progress::default();
    let job = job(&owner, run, &private, &progress);
    let refused = fetch::fetch(&job).await.unwrap_err();
    let said = problem(&refused, &job);
    assert_eq!(said.code, Code::Refused);
    assert!(said.to_string().contains("--base DIR"), "{said}");
    owner.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_listing_nobody_has_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let owner = handler(&dir.path().join("owner"), Vec::new()).await;
    let text = "name = \"n\"\nbase = \"brook\"\ndatanet = \"d\"\nrounds = 1\nshare_base = true\n";
    let mut facts = model::facts(model::BROOK).unwrap();
    facts.files = Some(tributary_protocol::id::BlobRef::of(b"no such listing"));
    let file = RunFile::parse(text, "run.toml").unwrap();
    let manifest = file.manifest(owner.daemon.peer_id(), 1, &facts).unwrap();
    let request = CreateRequest {
        manifest: HEXLOWER.encode(&codec::encode(&manifest)),
        base: None,
        join: None,
    };
    let refused = owner.create(request).await.unwrap_err();
    assert_eq!(refused.code, Code::Refused, "{refused}");
    owner.daemon.stop().await;
}
