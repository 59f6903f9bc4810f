//! Bases between real endpoints on loopback.

use std::path::Path;
use std::sync::atomic::AtomicU64;

use tributary_protocol::limits::BASE_PIECE_BYTES;
use tributary_protocol::listing::ListedFile;
use tributary_protocol::manifest::Base;
use tributary_trainer::{BaseModel, brook};

use super::super::Net;
use super::super::tests::{Peer, run, until};
use super::*;
use crate::home::HomePaths;
use crate::model::fetch::{BaseFetch, BaseFetchError, Progress, RESERVE, fetch};
use crate::model::{by_hash, share};

/// Pieces of the model card: what makes the test's base large enough to be interrupted.
const CARD_PIECES: u64 = 5;

/// A base that members hand on.
struct Given {
    dir: tempfile::TempDir,
    listing: Arc<Listing>,
    base: Base,
}

impl Given {
    /// The program's model in other bytes, so that no peer has it, with a long model card.
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        brook::write_to(dir.path()).unwrap();
        let mut config = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
        config.push_str(&"\n".repeat(name.len()));
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        let card = vec![b'x'; (CARD_PIECES * BASE_PIECE_BYTES - 9) as usize];
        std::fs::write(dir.path().join("README.md"), card).unwrap();
        let listing = share::list(dir.path(), &mut |_, _| ()).unwrap();
        let base = Base {
            name: name.to_owned(),
            hash: BaseModel::from_dir(dir.path()).unwrap().hash(),
            files: Some(BlobRef::of(&listing.bytes())),
        };
        Self {
            dir,
            listing: Arc::new(listing),
            base,
        }
    }

    fn files(&self) -> BlobRef {
        self.base.files.unwrap()
    }

    /// A peer that hands it on.
    async fn provider(&self, bootstrap: Vec<super::super::Address>) -> Peer {
        let peer = Peer::start(bootstrap).await;
        peer.net.subscribe(run());
        shelve(&peer.net, self.files(), &self.listing, self.dir.path());
        peer
    }
}

fn shelve(net: &Net, files: BlobRef, listing: &Arc<Listing>, folder: &Path) {
    let shelved = Shelved {
        listing: listing.clone(),
        folder: folder.to_owned(),
        runs: BTreeSet::from([run()]),
    };
    net.shelve(files.hash, shelved);
}

/// A peer that lacks it and has met these.
async fn newcomer(providers: &[&Peer]) -> Peer {
    let addresses = providers.iter().flat_map(|peer| peer.net.addresses());
    let peer = Peer::start(addresses.collect()).await;
    peer.net.subscribe(run());
    meet(&peer, providers).await;
    peer
}

async fn meet(peer: &Peer, providers: &[&Peer]) {
    let follows = |of: &Net, who: PeerId| {
        let known = of.known_runs().remove(&run()).unwrap_or_default();
        known.contains(&who)
    };
    for provider in providers {
        until("a greeting that names the run", || {
            follows(&peer.net, provider.id()) && follows(&provider.net, peer.id())
        })
        .await;
    }
}

fn plenty(_: &Path) -> Option<u64> {
    Some(1 << 40)
}

async fn fetch_into(
    net: &Net,
    home: &HomePaths,
    base: &Base,
    progress: &Progress,
) -> Result<(), BaseFetchError> {
    fetch(&job(net, home, base, progress)).await
}

fn job<'a>(
    net: &'a Net,
    home: &'a HomePaths,
    base: &'a Base,
    progress: &'a Progress,
) -> BaseFetch<'a> {
    BaseFetch {
        net,
        home,
        run: run(),
        base,
        most_mib: 1 << 20,
        free: &plenty,
        progress,
    }
}

fn home() -> (tempfile::TempDir, HomePaths) {
    let dir = tempfile::tempdir().unwrap();
    let home = HomePaths::new(dir.path());
    (dir, home)
}

fn assert_here(home: &HomePaths, given: &Given) {
    let found = by_hash(home, &given.base.hash)
        .unwrap()
        .expect("the base is here");
    assert_eq!(found.hash(), given.base.hash);
    let folder = share::folder(home).join(given.base.hash.to_string());
    for file in &given.listing.files {
        let read = |folder: &Path| std::fs::read(folder.join(&file.name)).unwrap();
        assert!(
            read(&folder) == read(given.dir.path()),
            "{} differs",
            file.name
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_comes_from_two_providers_of_which_one_dies_in_the_middle() {
    let given = Given::new("two");
    let one = given.provider(Vec::new()).await;
    let other = given.provider(one.net.addresses()).await;
    let peer = newcomer(&[&one, &other]).await;
    let (_dir, home) = home();
    let (progress, total) = (Progress::default(), given.listing.total());
    let dies = async {
        until("the first third", || progress.at().done > total / 3).await;
        one.net.shutdown().await;
    };
    let (fetched, ()) = tokio::join!(fetch_into(&peer.net, &home, &given.base, &progress), dies);
    fetched.unwrap();
    assert_here(&home, &given);
    let came = peer.net.traffic_by_peer();
    let of = |peer: &Peer| {
        came.get(&peer.id())
            .map_or(0, |traffic| traffic.payload_down)
    };
    assert!(
        of(&one) > 0 && of(&other) > total / 2,
        "both gave: {} and {}",
        of(&one),
        of(&other)
    );
    assert_eq!(progress.at().done, total);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_that_was_killed_goes_on_without_what_is_there() {
    let given = Given::new("kill");
    let provider = given.provider(Vec::new()).await;
    let (_dir, home) = home();
    let total = given.listing.total();
    let first = newcomer(&[&provider]).await;
    let progress = Progress::default();
    tokio::select! {
        ended = fetch_into(&first.net, &home, &given.base, &progress) => panic!("too early: {ended:?}"),
        () = until("half of it", || progress.at().done > total / 2) => {}
    }
    first.net.shutdown().await;
    drop(first);
    assert!(
        by_hash(&home, &given.base.hash).unwrap().is_none(),
        "half a base counted"
    );
    let second = newcomer(&[&provider]).await;
    let progress = Progress::default();
    fetch_into(&second.net, &home, &given.base, &progress)
        .await
        .unwrap();
    assert_here(&home, &given);
    let fetched = second.net.traffic().payload_down;
    // Half was there but for the piece that was under way.
    assert!(
        fetched > 0 && fetched <= total / 2 + BASE_PIECE_BYTES,
        "{fetched} of {total} bytes were fetched again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_of_other_bytes_is_dropped_and_the_next_one_asked() {
    let given = Given::new("liar!");
    // Its files have the sizes of the real ones and another content, which it believes to be listed.
    let forged = tempfile::tempdir().unwrap();
    for file in &given.listing.files {
        std::fs::write(
            forged.path().join(&file.name),
            vec![b'!'; file.size as usize],
        )
        .unwrap();
    }
    let pieces = |file: &ListedFile| {
        let whole = vec![b'!'; file.size as usize];
        let pieces = whole.chunks(BASE_PIECE_BYTES as usize);
        pieces.map(|piece| BlobHash(hash::blob(piece))).collect()
    };
    let files = given.listing.files.iter().map(|file| ListedFile {
        pieces: pieces(file),
        ..file.clone()
    });
    let believed = Arc::new(Listing {
        files: files.collect(),
        ..Listing::default()
    });
    let honest = given.provider(Vec::new()).await;
    let liar = Peer::start(honest.net.addresses()).await;
    liar.net.subscribe(run());
    shelve(&liar.net, given.files(), &believed, forged.path());
    let peer = newcomer(&[&honest, &liar]).await;
    let (_dir, home) = home();
    let progress = Progress::default();
    fetch_into(&peer.net, &home, &given.base, &progress)
        .await
        .unwrap();
    assert_here(&home, &given);
    let came = peer.net.traffic_by_peer()[&liar.id()].payload_down;
    assert!(came > 0, "the liar was never asked");
    // Besides the listing, one piece was enough.
    assert!(
        came <= BASE_PIECE_BYTES + given.files().size,
        "{came} bytes of a known liar"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_was_changed_is_handed_on_no_more_and_is_no_lie() {
    let given = Given::new("changed");
    let provider = given.provider(Vec::new()).await;
    let peer = newcomer(&[&provider]).await;
    std::fs::write(given.dir.path().join("tokenizer.json"), "{}").unwrap();
    let pieces: Vec<Piece> = given.listing.pieces().collect();
    let ask = async |number: usize| {
        let piece = (number as u32, pieces[number].content);
        let arrived = AtomicU64::new(0);
        peer.net
            .piece(provider.id(), given.files().hash, piece, &arrived)
            .await
    };
    let changed = pieces
        .iter()
        .position(|piece| given.listing.files[piece.file].name == "tokenizer.json");
    assert_eq!(ask(changed.unwrap()).await, Err(PieceError::Lacking));
    assert_eq!(
        ask(0).await.map(|bytes| bytes.len() as u64),
        Ok(pieces[0].content.size)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_follows_no_such_run_is_refused_listing_and_files() {
    let given = Given::new("stranger");
    let provider = given.provider(Vec::new()).await;
    let stranger = Peer::start(provider.net.addresses()).await;
    until("a connection", || !stranger.net.connected().is_empty()).await;
    let first = given.listing.pieces().next().unwrap();
    let files = given.files();
    let arrived = AtomicU64::new(0);
    let piece = stranger
        .net
        .piece(provider.id(), files.hash, (0, first.content), &arrived);
    assert_eq!(piece.await, Err(PieceError::Unknown));
    let listing = stranger.net.listing(provider.id(), files);
    assert_eq!(listing.await, Err(PieceError::Unknown));
    stranger.net.subscribe(run());
    meet(&stranger, &[&provider]).await;
    let listing = stranger.net.listing(provider.id(), files).await;
    assert_eq!(listing, Ok(given.listing.bytes()));
    provider.net.keep_shelved(&BTreeSet::new());
    let listing = stranger.net.listing(provider.id(), files);
    assert_eq!(listing.await, Err(PieceError::Unknown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_beyond_its_bounds_is_refused_before_any_file_is_made() {
    let file = |name: &str, size: u64| ListedFile {
        name: name.to_owned(),
        size,
        pieces: vec![BlobHash::default(); ListedFile::pieces_of(size).min(9000) as usize],
    };
    let half = tributary_protocol::limits::MAX_BASE_BYTES / 2 + 1;
    let many = (0..10_000).map(|n| file(&format!("{n:05}.json"), 1));
    let provider = Peer::start(Vec::new()).await;
    provider.net.subscribe(run());
    let peer = newcomer(&[&provider]).await;
    for files in [
        vec![file("../x.json", 1)],
        many.collect(),
        vec![file("a.safetensors", half), file("b.safetensors", half)],
    ] {
        let listing = Arc::new(Listing {
            files,
            ..Listing::default()
        });
        let bad = BlobRef::of(&listing.bytes());
        let (_dir, home) = home();
        shelve(&provider.net, bad, &listing, home.root());
        let base = Base {
            name: "bad".to_owned(),
            hash: Digest::default(),
            files: Some(bad),
        };
        let progress = Progress::default();
        let refused = fetch_into(&peer.net, &home, &base, &progress)
            .await
            .unwrap_err();
        assert!(matches!(refused, BaseFetchError::Listing(_)), "{refused}");
        assert!(!home.cache().exists(), "something was made");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_that_finds_no_room_says_so_in_numbers_and_keeps_what_came() {
    let given = Given::new("full disk");
    let provider = given.provider(Vec::new()).await;
    let peer = newcomer(&[&provider]).await;
    let (_dir, home) = home();
    let (progress, total) = (Progress::default(), given.listing.total());
    // Too small from the beginning: nothing but the listing is fetched.
    let small = |_: &Path| Some(total + RESERVE - 1);
    let mut job = job(&peer.net, &home, &given.base, &progress);
    job.free = &small;
    let refused = fetch(&job).await.unwrap_err().to_string();
    for number in [total, total + RESERVE - 1, RESERVE] {
        assert!(refused.contains(&number.to_string()), "{number}: {refused}");
    }
    assert_eq!(peer.net.traffic().payload_down, given.files().size);
    // Filled by somebody else when most of it is here.
    let far = progress.clone();
    let fills = move |_: &Path| match far.at().done > total * 6 / 10 {
        true => Some(RESERVE),
        false => Some(total + RESERVE),
    };
    job.free = &fills;
    let refused = fetch(&job).await.unwrap_err();
    assert!(
        matches!(refused, BaseFetchError::Disk { free: RESERVE, .. }),
        "{refused}"
    );
    let before = peer.net.traffic().payload_down;
    assert!(before > total / 2);
    job.free = &plenty;
    fetch(&job).await.unwrap();
    assert_here(&home, &given);
    let again = peer.net.traffic().payload_down - before;
    assert!(
        again <= total * 4 / 10 + BASE_PIECE_BYTES,
        "{again} of {total} bytes came again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_beyond_the_owners_bound_or_of_other_files_than_the_manifests_is_refused() {
    let given = Given::new("bounded.");
    let provider = given.provider(Vec::new()).await;
    let peer = newcomer(&[&provider]).await;
    let (_dir, home) = home();
    let progress = Progress::default();
    let mut bounded = job(&peer.net, &home, &given.base, &progress);
    bounded.most_mib = 1;
    let refused = fetch(&bounded).await.unwrap_err();
    assert!(
        matches!(refused, BaseFetchError::TooLarge { most_mib: 1, .. }),
        "{refused}"
    );
    // A creator whose listing is not of the base that its manifest names.
    let other = Base {
        hash: hash::blob(b"another base"),
        ..given.base.clone()
    };
    let refused = fetch_into(&peer.net, &home, &other, &progress)
        .await
        .unwrap_err();
    assert!(matches!(refused, BaseFetchError::Model(_)), "{refused}");
    let left = share::folder(&home).join(other.hash.to_string());
    assert!(!left.exists(), "files of no use stay");
    let private = Base {
        files: None,
        ..given.base.clone()
    };
    let refused = fetch_into(&peer.net, &home, &private, &progress)
        .await
        .unwrap_err();
    assert!(matches!(refused, BaseFetchError::NotShared(_)), "{refused}");
}
