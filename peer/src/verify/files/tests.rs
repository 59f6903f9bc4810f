//! Tests: which blobs are read again.

use std::fs::File;

use super::*;
use crate::home::Home;

const LONG_AGO: Duration = Duration::from_secs(3_600);

fn faults(paths: &HomePaths, depth: Depth) -> usize {
    let mut report = Report::default();
    check(paths, depth, &mut report).unwrap();
    report.faults.len()
}

/// A table that says that the blob was good as it looks now, whatever it holds.
fn trust(paths: &HomePaths, hash: BlobHash) {
    let file = fs::metadata(paths.blobs().join(hash.to_string())).unwrap();
    let good = vec![(hash, look(&file).unwrap())];
    marks::keep_seen(paths, &Seen::new(good, u64::MAX));
}

#[test]
fn a_blob_that_looks_as_it_did_is_hashed_only_in_full() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::create(dir.path()).unwrap();
    let paths = home.paths();
    let hash = BlobHash(hash::blob(b"an update"));
    let path = paths.blobs().join(hash.to_string());
    fs::create_dir_all(paths.blobs()).unwrap();
    fs::write(&path, b"an update").unwrap();
    assert_eq!(faults(paths, Depth::Marked), 0);
    // As a disk changes a bit: nothing that the file system says is other than it was.
    fs::write(&path, b"an updatE").unwrap();
    trust(paths, hash);
    assert_eq!(faults(paths, Depth::Marked), 0);
    assert_eq!(faults(paths, Depth::Full), 1);
    // Any write shows, also one that sets the time of the last write back.
    trust(paths, hash);
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    fs::write(&path, b"an updatF").unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(modified).unwrap();
    assert_eq!(faults(paths, Depth::Marked), 1);
}

#[test]
fn a_blob_that_was_written_just_now_is_hashed_again() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::create(dir.path()).unwrap();
    let paths = home.paths();
    let hash = BlobHash(hash::blob(b"an update"));
    fs::create_dir_all(paths.blobs()).unwrap();
    let path = paths.blobs().join(hash.to_string());
    fs::write(&path, b"an update").unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    // The time of the last change stays now, whatever the time of the last write is set to.
    file.set_modified(SystemTime::now() - LONG_AGO).unwrap();
    assert_eq!(faults(paths, Depth::Marked), 0);
    assert_eq!(marks::seen(paths), Some(Seen::default()));
}
