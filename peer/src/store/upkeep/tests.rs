//! Rows that go, and crashes meanwhile.

use tributary_protocol::event::Record;
use tributary_protocol::hash;
use tributary_protocol::id::{Round, RunId};

use super::*;
use crate::home::HomePaths;
use crate::store::disk::{Disk, Fault};

fn run(n: u8) -> RunId {
    RunId(hash::blob(&[n]))
}

fn records(n: u8) -> Vec<Record> {
    vec![
        Record::Followed {
            run: run(n),
            bytes: vec![n],
        },
        Record::Block(vec![n; 3000]),
        Record::Certificate {
            run: run(n),
            round: Round(1),
            bytes: vec![n; 6000],
        },
        Record::Consensus {
            run: run(n),
            round: Round(2),
            bytes: vec![n; 40],
        },
    ]
}

fn mark() -> Record {
    Record::Forgotten {
        run: run(1),
        last: Some(vec![1; 6000]),
    }
}

/// Of the first run its block and what its seat said.
fn stays(record: &Record) -> bool {
    match record {
        Record::Followed { run: of, .. } | Record::Certificate { run: of, .. } => *of != run(1),
        _ => true,
    }
}

/// A disk with two runs on it.
fn filled() -> Disk {
    let disk = Disk::new(Fault::Never);
    let database = (Database::builder())
        .create_with_backend(disk.clone())
        .unwrap();
    tables::prepare(&database).unwrap();
    for n in [1, 2] {
        tables::write(&database, &records(n).iter().collect::<Vec<_>>()).unwrap();
    }
    drop(database);
    disk.copy(Fault::Never)
}

fn open(disk: Disk, folder: &HomePaths) -> Result<Upkeep, StoreError> {
    let mut builder = Database::builder();
    builder.set_check_integrity_on_open(true);
    let database = builder.create_with_backend(disk);
    let database = database.map_err(|e| StoreError::opening(&folder.ledger(), e))?;
    Upkeep::of(folder.ledger(), database, Blobs::open(folder.blobs())?)
}

/// Removes the first run and compacts, until the disk fails.
fn remove(disk: &Disk, folder: &HomePaths) -> Result<(), StoreError> {
    let mut upkeep = open(disk.clone(), folder)?;
    upkeep.retain(&stays, Some(&mark()))?;
    let compacted = upkeep.database.compact();
    compacted
        .map(|_| ())
        .map_err(|e| StoreError::Stopped(e.to_string()))
}

fn of(all: &[Record]) -> Vec<String> {
    let mut out: Vec<String> = all.iter().map(|record| format!("{record:?}")).collect();
    out.sort();
    out
}

#[test]
fn what_stays_of_a_run_and_all_of_the_others_come_back_with_the_mark() {
    let dir = tempfile::tempdir().unwrap();
    let folder = HomePaths::new(dir.path());
    let disk = filled();
    remove(&disk, &folder).unwrap();
    let found = open(disk, &folder).unwrap().records().unwrap();
    let before = [records(1), records(2)].concat();
    let mut want: Vec<Record> = before.into_iter().filter(stays).collect();
    want.push(mark());
    assert_eq!(of(&found), of(&want));
}

#[test]
fn a_crash_at_every_write_of_a_removal_leaves_the_run_whole_or_removed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = HomePaths::new(dir.path());
    let before = [records(1), records(2)].concat();
    let mut after: Vec<Record> = before.iter().filter(|r| stays(r)).cloned().collect();
    after.push(mark());
    let calm = filled();
    remove(&calm, &folder).unwrap();
    let operations = calm.operations();
    assert!(operations > 20, "only {operations} operations");
    let (mut whole, mut removed) = (0, 0);
    for at in 0..operations {
        let disk = filled();
        disk.arm(Fault::CrashAt(at));
        let is_done = remove(&disk, &folder).is_ok();
        for seed in [0, 1, at as u64 + 2] {
            let image = disk.after_power_loss(seed);
            let context = format!("operation {at}, unsynced writes drawn by {seed}");
            let again = open(image, &folder).unwrap_or_else(|e| panic!("{context}: {e}"));
            let found = of(&again.records().unwrap());
            whole += usize::from(found == of(&before));
            removed += usize::from(found == of(&after));
            assert!(
                found == of(&before) || found == of(&after),
                "{context}: {found:?}"
            );
            assert!(!is_done || found == of(&after), "{context}: it was done");
        }
    }
    assert!(whole > 0 && removed > 0, "{whole} whole, {removed} removed");
}
