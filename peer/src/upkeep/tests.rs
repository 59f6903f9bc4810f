//! Runs removed from real homes, and what the home says afterwards.

use std::fs;

use futures::executor::block_on;
use tributary_ledger::fixture::{RunBuilder, finished, key};
use tributary_protocol::event::Record;
use tributary_protocol::hash::{Domain, digest};
use tributary_protocol::id::{BlobRef, RunId};
use tributary_protocol::test_utils::fixture::any_digest;

use super::*;
use crate::api::Reader as _;
use crate::api::stopped::StoppedHome;
use crate::identity::Identity;
use crate::problem::Code;
use crate::store::{LedgerReader, Store};
use crate::verify::{self, Depth};

/// The home of the member `who`, with everything of a run.
fn home(root: &Path, who: usize, made: &RunBuilder) -> HomePaths {
    let identity = Identity::from_seed(*digest(Domain::Simulation, &[who as u8]).as_bytes());
    drop(Home::create_with(root, &identity).unwrap());
    let paths = HomePaths::new(root);
    add(&paths, made);
    paths
}

fn add(paths: &HomePaths, made: &RunBuilder) {
    let store = Store::open(paths).unwrap();
    let blobs = made.kept.iter().map(|(hash, bytes)| Record::Blob {
        hash: *hash,
        bytes: bytes.clone().into(),
    });
    let followed = Record::Followed {
        run: made.run(),
        bytes: vec![0, 0, 0],
    };
    let records = made.records.iter().cloned().chain(blobs).chain([followed]);
    store.persist(records.collect()).wait_blocking().unwrap();
}

fn remove(paths: &HomePaths, run: RunId, abandon: bool) -> Result<removal::Removal, Failure> {
    let held = HeldHome::take(paths.root())?;
    removal::plan(held, &run.to_string(), abandon)?.carry_out()
}

#[test]
fn a_finished_run_goes_and_what_its_member_signed_stays_and_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let (made, _, _) = finished();
    let paths = home(dir.path(), 3, &made);
    assert!(verify::home(dir.path(), Depth::Full).unwrap().verified);
    let removed = remove(&paths, made.run(), false).unwrap();
    assert_eq!(removed.blobs as usize, made.kept.len());
    assert_eq!(fs::read_dir(paths.blobs()).unwrap().count(), 0);
    let own = own_blocks(&paths, 3);
    assert!(
        removed.own_blocks >= 4 && removed.own_blocks == own,
        "{removed:?}, {own}"
    );
    let report = verify::home(dir.path(), Depth::Full).unwrap();
    assert!(report.verified, "{report:?}");
    let counted: Vec<(u32, u32)> = report.runs.iter().map(|r| (r.rounds, r.blocks)).collect();
    assert_eq!(counted, [(0, own as u32)]);
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("never signs another history"))
    );
    let stopped = StoppedHome::new(dir.path());
    assert!(block_on(stopped.runs()).unwrap().is_empty());
    assert!(block_on(stopped.status()).unwrap().runs.is_empty());
    let again = remove(&paths, made.run(), false).unwrap_err();
    assert_eq!(again.problem().code, Code::NotFollowed);
}

/// Blocks of a member that are left on the disk; nothing else is, but for the last certificate.
fn own_blocks(paths: &HomePaths, who: usize) -> u64 {
    let reader = LedgerReader::open(paths).unwrap();
    let mut own = 0;
    for record in reader.records() {
        match record {
            Record::Block(bytes) => {
                let block = Unverified::decode(bytes, NETWORK).unwrap();
                assert_eq!(block.block().author, key(who).peer_id());
                own += 1;
            }
            Record::Forgotten { last, .. } => assert!(last.is_some()),
            other => panic!("{other:?} is left"),
        }
    }
    own
}

#[test]
fn an_open_run_is_refused_to_its_member_unless_it_is_abandoned() {
    let dir = tempfile::tempdir().unwrap();
    let mut made = RunBuilder::opened(4, 3);
    made.round(&[0, 1, 2, 3], &[]);
    let paths = home(dir.path(), 2, &made);
    let refused = remove(&paths, made.run(), false).unwrap_err();
    assert_eq!(refused.problem().code, Code::Refused);
    assert!(refused.to_string().contains("member"), "{refused}");
    let hint = refused.problem().hint.clone().unwrap();
    assert!(
        hint.contains("run leave") && hint.contains("--abandon"),
        "{hint}"
    );
    assert!(remove(&paths, made.run(), true).unwrap().abandoned);
}

#[test]
fn a_home_that_somebody_holds_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (made, _, _) = finished();
    let paths = home(dir.path(), 1, &made);
    let held = Home::open(dir.path()).unwrap();
    for refused in [
        remove(&paths, made.run(), false).unwrap_err(),
        waste::collect(dir.path()).unwrap_err(),
        waste::look(&paths).unwrap_err(),
    ] {
        assert!(refused.to_string().contains("tributary down"), "{refused}");
    }
    drop(held);
    let none = waste::look(&HomePaths::new(dir.path().join("none"))).unwrap_err();
    assert!(none.to_string().contains("tributary init"), "{none}");
}

#[test]
fn blobs_that_another_run_names_outlive_the_removal() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _, _) = finished();
    let paths = home(dir.path(), 0, &first);
    // The same updates and the same adapter as the first, under another manifest.
    let mut other = RunBuilder::opened(4, 4);
    other.round(&[0, 1, 2, 3], &[]);
    add(&paths, &other);
    let shared = other
        .kept
        .keys()
        .filter(|hash| first.kept.contains_key(hash))
        .count();
    assert!(shared >= 4, "only {shared} updates are in both");
    let removed = remove(&paths, first.run(), false).unwrap();
    assert_eq!(removed.shared_blobs as usize, shared);
    let left = HeldHome::take(dir.path()).unwrap().blobs;
    assert!(other.kept.keys().all(|hash| left.contains_key(hash)));
    assert_eq!(left.len(), other.kept.len());
    assert!(verify::home(dir.path(), Depth::Full).unwrap().verified);
}

#[test]
fn collection_takes_what_no_run_names_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (made, _, _) = finished();
    let paths = home(dir.path(), 1, &made);
    let loose = b"nobody names this".to_vec();
    let name = BlobRef::of(&loose).hash;
    fs::write(paths.blobs().join(name.to_string()), &loose).unwrap();
    fs::write(paths.blobs().join("ab12-0.part"), b"half").unwrap();
    fs::write(paths.blobs().join(format!("{name}.damaged")), b"bad").unwrap();
    fs::create_dir_all(paths.cache()).unwrap();
    let of_another = RunId(any_digest(9));
    fs::write(paths.cache().join(format!("{of_another}.checked")), b"mark").unwrap();
    let mine = paths.cache().join(format!("{}.moved", made.run()));
    fs::write(&mine, b"vectors").unwrap();
    let planned = waste::look(&paths).unwrap();
    assert!(planned.dry_run && planned.ledger_bytes_after.is_none());
    assert_eq!((planned.blobs, planned.blob_bytes), (1, loose.len() as u64));
    assert_eq!((planned.files, planned.file_bytes), (3, 4 + 3 + 4));
    assert!(paths.blobs().join("ab12-0.part").exists(), "it only looked");
    let done = waste::collect(dir.path()).unwrap();
    assert_eq!(done.kept_blobs as usize, made.kept.len());
    assert_eq!((done.blobs, done.files), (planned.blobs, planned.files));
    let size = fs::metadata(paths.ledger()).unwrap().len();
    assert_eq!(done.ledger_bytes_after, Some(size));
    assert!(size <= done.ledger_bytes_before);
    assert_eq!(
        fs::read_dir(paths.blobs()).unwrap().count(),
        made.kept.len()
    );
    assert!(mine.exists());
    assert!(verify::home(dir.path(), Depth::Full).unwrap().verified);
    let again = waste::collect(dir.path()).unwrap();
    assert_eq!((again.blobs, again.files), (0, 0));
}

#[test]
fn collection_takes_fetched_bases_of_no_run_and_leaves_those_that_an_owner_brought() {
    let dir = tempfile::tempdir().unwrap();
    let (made, _, _) = finished();
    let paths = home(dir.path(), 1, &made);
    let bases = crate::model::share::folder(&paths);
    let (wanted, other) = (made.manifest.model.base.hash, any_digest(9));
    let file = |folder: String| {
        let folder = bases.join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("model.safetensors"), b"weights").unwrap();
        folder
    };
    let kept = file(wanted.to_string());
    let whole = file(other.to_string());
    let part = file(format!("{other}.tributary-part"));
    let brought = dir.path().join("brought");
    fs::create_dir(&brought).unwrap();
    let known = serde_json::json!({
        other.to_string(): std::path::absolute(&whole).unwrap(),
        wanted.to_string(): std::path::absolute(&kept).unwrap(),
        "ab": brought,
    });
    fs::write(paths.bases(), known.to_string()).unwrap();
    let done = waste::collect(dir.path()).unwrap();
    assert_eq!((done.files, done.file_bytes), (2, 14));
    assert!(kept.join("model.safetensors").exists() && !whole.exists() && !part.exists());
    let known: serde_json::Value =
        serde_json::from_slice(&fs::read(paths.bases()).unwrap()).unwrap();
    let names: Vec<&String> = known.as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&&wanted.to_string()) && names.contains(&&"ab".to_owned()));
}

/// What a removal leaves that was killed between its commit and the blobs.
#[test]
fn a_removal_that_was_interrupted_is_finished_by_a_collection() {
    let dir = tempfile::tempdir().unwrap();
    let (made, _, _) = finished();
    let paths = home(dir.path(), 3, &made);
    let blobs: Vec<_> = made.kept.clone().into_iter().collect();
    remove(&paths, made.run(), false).unwrap();
    for (hash, bytes) in &blobs {
        fs::write(paths.blobs().join(hash.to_string()), bytes).unwrap();
    }
    drop(Store::open(&paths).unwrap());
    let done = waste::collect(dir.path()).unwrap();
    assert_eq!((done.blobs as usize, done.kept_blobs), (blobs.len(), 0));
}
