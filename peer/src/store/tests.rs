//! Crashes, full disks and damage.

use proptest::prelude::*;
use redb::Database;
use tributary_protocol::event::Record;
use tributary_protocol::hash;
use tributary_protocol::id::{BlobHash, BlobRef, Round, RunId};

use super::disk::{Disk, Fault};
use super::*;
use crate::home::HomePaths;

fn run(n: u8) -> RunId {
    RunId(hash::blob(&[n]))
}

fn step(round: u32, n: u8) -> Record {
    Record::Consensus {
        run: run(1),
        round: Round(round),
        bytes: vec![n; 40],
    }
}

fn blob(content: &[u8]) -> Record {
    Record::Blob {
        hash: BlobRef::of(content).hash,
        bytes: content.to_vec().into(),
    }
}

/// One of each kind, and enough bytes to split pages.
fn batch(n: u8) -> Vec<Record> {
    vec![
        Record::Block(vec![n; 3000]),
        Record::Certificate {
            run: run(1),
            round: Round(n.into()),
            bytes: vec![n, 2],
        },
        step(n.into(), n),
        Record::Followed {
            run: run(2),
            bytes: vec![n],
        },
        Record::Residual {
            run: run(1),
            round: Round(n.into()),
            bytes: vec![n; 100].into(),
        },
        Record::Sent {
            run: run(1),
            round: Round(n.into()),
            bytes: vec![n; 30].into(),
        },
    ]
}

/// What `load_all` must give back after `records`, whatever the order of kinds.
fn expected(records: &[Record]) -> Vec<Record> {
    let mut out: Vec<Record> = Vec::new();
    for record in records {
        match record {
            Record::Blob { .. } => continue,
            Record::ConsensusDone { run: r, round: n } => out.retain(
                |o| !matches!(o, Record::Consensus { run, round, .. } if run == r && round == n),
            ),
            Record::Followed { run: r, .. } => {
                out.retain(|o| !matches!(o, Record::Followed { run, .. } if run == r));
            }
            Record::Residual { run: r, .. } => {
                out.retain(|o| !matches!(o, Record::Residual { run, .. } if run == r));
            }
            Record::Sent { run: r, .. } => {
                out.retain(|o| !matches!(o, Record::Sent { run, .. } if run == r));
            }
            Record::Block(_) | Record::Certificate { .. } if out.contains(record) => continue,
            _ => {}
        }
        if !matches!(record, Record::ConsensusDone { .. }) {
            out.push(record.clone());
        }
    }
    out.sort_by_key(kind);
    out
}

fn kind(record: &Record) -> u8 {
    match record {
        Record::Followed { .. } => 0,
        Record::Block(_) => 1,
        Record::Certificate { .. } => 2,
        Record::Residual { .. } => 3,
        Record::Sent { .. } => 4,
        _ => 5,
    }
}

#[test]
fn every_kind_comes_back_in_order_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let paths = HomePaths::new(dir.path());
    let mut all = Vec::new();
    {
        let store = Store::open(&paths).unwrap();
        for n in [9, 3, 7] {
            all.extend(batch(n));
            all.push(blob(&[n; 50]));
            store.persist(batch(n)).wait_blocking().unwrap();
            store.persist(vec![blob(&[n; 50])]).wait_blocking().unwrap();
        }
        let done = Record::ConsensusDone {
            run: run(1),
            round: Round(3),
        };
        all.push(done.clone());
        store.persist(vec![done]).wait_blocking().unwrap();
    }
    let store = Store::open(&paths).unwrap();
    assert_eq!(store.load_all().unwrap(), expected(&all));
    let hash = BlobRef::of(&[7; 50]).hash;
    assert_eq!(store.blobs().read(hash).unwrap(), Some(vec![7; 50]));
    assert_eq!(store.blob_hashes().unwrap().len(), 3);
    drop(store);
    let reader = LedgerReader::open(&paths).unwrap();
    assert_eq!(reader.records(), expected(&all));
}

#[test]
fn reader_leaves_the_file_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let paths = HomePaths::new(dir.path());
    let store = Store::open(&paths).unwrap();
    store.persist(batch(1)).wait_blocking().unwrap();
    drop(store);
    let before = std::fs::read(paths.ledger()).unwrap();
    LedgerReader::open(&paths).unwrap();
    assert_eq!(std::fs::read(paths.ledger()).unwrap(), before);
}

#[test]
fn reader_of_a_home_in_use_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let home = crate::home::Home::create(dir.path()).unwrap();
    drop(Store::open(home.paths()).unwrap());
    let error = LedgerReader::open(home.paths()).unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)), "{error}");
    let paths = home.paths().clone();
    drop(home);
    LedgerReader::open(&paths).unwrap();
}

#[test]
fn damaged_blob_is_reported_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let paths = HomePaths::new(dir.path());
    let store = Store::open(&paths).unwrap();
    store
        .persist(vec![blob(b"content")])
        .wait_blocking()
        .unwrap();
    let hash = BlobRef::of(b"content").hash;
    let file = paths.blobs().join(hash.to_string());
    std::fs::write(&file, b"cOntent").unwrap();
    let error = store.blobs().read(hash).unwrap_err();
    assert!(error.to_string().contains(&hash.to_string()), "{error}");
    store.blobs().set_aside(hash).unwrap();
    assert_eq!(store.blobs().read(hash).unwrap(), None);
    store
        .persist(vec![blob(b"content")])
        .wait_blocking()
        .unwrap();
    assert_eq!(store.blobs().read(hash).unwrap().unwrap(), b"content");
}

#[test]
fn version_of_the_future_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let paths = HomePaths::new(dir.path());
    drop(Store::open(&paths).unwrap());
    let database = Database::open(paths.ledger()).unwrap();
    let write = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    write
        .open_table(meta)
        .unwrap()
        .insert("version", 99)
        .unwrap();
    write.commit().unwrap();
    drop(database);
    let error = Store::open(&paths).unwrap_err();
    assert!(
        matches!(error, StoreError::Version { found: 99, .. }),
        "{error}"
    );
}

#[test]
fn a_table_that_nobody_knows_is_an_error_and_not_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let paths = HomePaths::new(dir.path());
    drop(Store::open(&paths).unwrap());
    let database = Database::open(paths.ledger()).unwrap();
    let write = database.begin_write().unwrap();
    let table = redb::TableDefinition::<&[u8], &[u8]>::new("vouchers");
    write.open_table(table).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = Store::open(&paths).unwrap_err();
    assert!(error.to_string().contains("table `vouchers`"), "{error}");
}

/// Commits batches to `disk` until it fails; what was acknowledged, and the first refusal.
fn commit_until_fault(disk: &Disk, folder: &HomePaths) -> (Vec<Record>, Option<StoreError>) {
    let mut acknowledged = Vec::new();
    let Ok(database) = Database::builder().create_with_backend(disk.clone()) else {
        return (acknowledged, None);
    };
    let Ok(store) = Store::with_database(database, Blobs::open(folder.blobs()).unwrap()) else {
        return (acknowledged, None);
    };
    for n in 1..6 {
        let records = batch(n);
        match store.persist(records.clone()).wait_blocking() {
            Ok(()) => acknowledged.extend(records),
            Err(why) => {
                let again = store.persist(batch(99)).wait_blocking();
                assert!(matches!(again, Err(StoreError::Stopped(_))), "{again:?}");
                assert!(store.failure().is_some());
                return (acknowledged, Some(why));
            }
        }
    }
    (acknowledged, None)
}

/// A disk that holds an empty ledger and will fail as told.
fn prepared(fault: Fault) -> Disk {
    let disk = Disk::new(Fault::Never);
    let database = Database::builder()
        .create_with_backend(disk.clone())
        .unwrap();
    tables::prepare(&database).unwrap();
    drop(database);
    disk.copy(fault)
}

/// Everything acknowledged is there; more may be (a commit whose acknowledgement was lost).
fn assert_nothing_lost(image: Disk, folder: &HomePaths, acknowledged: &[Record], context: &str) {
    let mut builder = Database::builder();
    builder.set_check_integrity_on_open(true);
    let database = builder
        .create_with_backend(image)
        .unwrap_or_else(|e| panic!("{context}: does not open again: {e}"));
    let store = Store::with_database(database, Blobs::open(folder.blobs()).unwrap()).unwrap();
    let found = store.load_all().unwrap();
    let want = expected(acknowledged);
    // Of what replaces itself, a later value may have become durable without acknowledgement.
    let replaced = |r: &Record| {
        matches!(
            r,
            Record::Followed { .. } | Record::Residual { .. } | Record::Sent { .. }
        )
    };
    for record in want.iter().filter(|r| !replaced(r)) {
        assert!(found.contains(record), "{context}: lost {record:?}");
    }
    for kind_wanted in [0, 3, 4] {
        let had = want.iter().any(|r| kind(r) == kind_wanted);
        assert!(
            !had || found.iter().any(|r| kind(r) == kind_wanted),
            "{context}: lost kind"
        );
    }
}

#[test]
fn crash_at_every_write_and_sync_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let folder = HomePaths::new(dir.path());
    let calm = prepared(Fault::Never);
    let (all, none) = commit_until_fault(&calm, &folder);
    assert!(none.is_none() && all.len() == 5 * batch(1).len());
    let operations = calm.operations();
    assert!(
        operations > 50,
        "only {operations} operations: the test would prove little"
    );
    for at in 0..operations {
        let disk = prepared(Fault::CrashAt(at));
        let (acknowledged, _) = commit_until_fault(&disk, &folder);
        for seed in [0, 1, at as u64 + 2] {
            let image = disk.after_power_loss(seed);
            let context = format!("crash at operation {at}, unsynced writes drawn by {seed}");
            assert_nothing_lost(image, &folder, &acknowledged, &context);
        }
    }
}

#[test]
fn crash_while_the_ledger_is_created_leaves_a_home_that_starts() {
    let dir = tempfile::tempdir().unwrap();
    let paths = HomePaths::new(dir.path());
    std::fs::write(paths.ledger().with_extension("new"), [0; 4096]).unwrap();
    let store = Store::open(&paths).unwrap();
    assert_eq!(store.load_all().unwrap(), []);
}

#[test]
fn full_disk_is_named_and_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let folder = HomePaths::new(dir.path());
    let calm = prepared(Fault::Never);
    commit_until_fault(&calm, &folder);
    let mut named = 0;
    for at in 0..calm.operations() {
        let disk = prepared(Fault::FullAt(at));
        let (acknowledged, why) = commit_until_fault(&disk, &folder);
        if let Some(why) = why {
            assert!(matches!(why, StoreError::Full(_)), "operation {at}: {why}");
            assert!(why.to_string().contains("Free some space"), "{why}");
            named += 1;
        }
        let context = format!("disk full at operation {at}");
        assert_nothing_lost(disk.copy(Fault::Never), &folder, &acknowledged, &context);
    }
    assert!(named > 20, "only {named} faults were seen by a commit");
}

#[test]
fn flipped_bits_of_the_ledger_are_reported_or_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let paths = HomePaths::new(dir.path());
    let store = Store::open(&paths).unwrap();
    for n in 1..20 {
        store.persist(batch(n)).wait_blocking().unwrap();
    }
    let all = store.load_all().unwrap();
    drop(store);
    let good = std::fs::read(paths.ledger()).unwrap();
    let mut draw = hash::Hasher::new(hash::Domain::Simulation).finalize_xof();
    let mut reported = 0;
    for trial in 0..200u64 {
        // Half of the flips hit the header, where one bit decides which commit is the last.
        let span = if trial % 2 == 0 {
            320
        } else {
            good.len() as u64
        };
        let bit = draw.below(span * 8) as usize;
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(paths.ledger(), &bad).unwrap();
        match LedgerReader::open(&paths) {
            Ok(reader) => assert_eq!(
                reader.records(),
                all,
                "bit {bit} changed the ledger silently"
            ),
            Err(_) => reported += 1,
        }
    }
    assert!(reported > 20, "only {reported} of 200 flips were noticed");
}

#[test]
fn many_waiting_barriers_share_commits() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&HomePaths::new(dir.path())).unwrap();
    let waiting: Vec<_> = (0..500u32)
        .map(|n| store.persist(vec![Record::Block(n.to_be_bytes().to_vec())]))
        .collect();
    for one in waiting {
        one.wait_blocking().unwrap();
    }
    assert_eq!(store.load_all().unwrap().len(), 500);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_sequence_of_records_comes_back(picks in proptest::collection::vec((0u8..7, 0u8..5), 1..30)) {
        let dir = tempfile::tempdir().unwrap();
        let paths = HomePaths::new(dir.path());
        let mut all = Vec::new();
        for (what, n) in picks {
            all.push(match what {
                6 => Record::ConsensusDone { run: run(1), round: Round(n.into()) },
                w => batch(n)[usize::from(w)].clone(),
            });
        }
        let store = Store::open(&paths).unwrap();
        for chunk in all.chunks(4) {
            store.persist(chunk.to_vec()).wait_blocking().unwrap();
        }
        prop_assert_eq!(store.load_all().unwrap(), expected(&all));
    }
}

#[test]
fn blob_hash_is_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&HomePaths::new(dir.path())).unwrap();
    let missing = BlobHash(hash::blob(b"never stored"));
    assert_eq!(store.blobs().read(missing).unwrap(), None);
}
