//! Modes as the system shows them, folders that were synced, and sources that go another way.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;
use crate::home::Home;

thread_local! {
    /// Folders that this test synced.
    static SYNCED: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn note(folder: &Path) {
    SYNCED.with_borrow_mut(|synced| synced.push(folder.to_owned()));
}

/// The folders that `act` syncs, in this thread.
pub(crate) fn synced<T>(act: impl FnOnce() -> T) -> (T, Vec<PathBuf>) {
    SYNCED.take();
    let done = act();
    (done, SYNCED.take())
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Every file and folder from `root` on.
fn everything(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut at = 0;
    while at < found.len() {
        if found[at].is_dir() {
            let inside = fs::read_dir(&found[at]).unwrap();
            found.extend(inside.map(|entry| entry.unwrap().path()));
        }
        at += 1;
    }
    found
}

#[cfg(unix)]
#[test]
fn everything_in_a_new_home_is_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("above/home");
    let home = Home::create(&root).unwrap();
    let paths = home.paths();
    drop(crate::store::Store::open(paths).unwrap());
    let file = dir.path().join("text.txt");
    fs::write(&file, "A text of the owner.").unwrap();
    crate::shard::add(paths, "birds", &[file]).unwrap();
    let settings = crate::settings::Settings::named(Some("ada")).unwrap();
    settings.write(&paths.config()).unwrap();
    let found = everything(&root);
    assert!(found.len() > 9, "{found:?}");
    for path in &found {
        let wanted = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(path), wanted, "{}", path.display());
    }
    assert_eq!(mode(&dir.path().join("above")), 0o700);
}

#[cfg(unix)]
#[test]
fn a_home_that_others_could_read_is_closed_but_a_key_they_could_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("home");
    drop(Home::create(&root).unwrap());
    let inner = root.join("shards/birds/files");
    fs::create_dir_all(&inner).unwrap();
    let text = inner.join("text");
    fs::write(&text, "x").unwrap();
    let outside = dir.path().join("outside");
    fs::write(&outside, "x").unwrap();
    std::os::unix::fs::symlink(&outside, inner.join("link")).unwrap();
    for path in [&root, &inner] {
        set_mode(path, 0o755);
    }
    for path in [&text, &outside] {
        set_mode(path, 0o644);
    }
    drop(Home::open(&root).unwrap());
    assert_eq!(
        (mode(&root), mode(&inner), mode(&text)),
        (0o700, 0o700, 0o600)
    );
    assert_eq!(mode(&outside), 0o644, "it is not the home's");
    let key = root.join("key");
    set_mode(&key, 0o644);
    set_mode(&root, 0o755);
    let error = Home::open(&root).unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
    assert_eq!(
        (mode(&key), mode(&root)),
        (0o644, 0o755),
        "left as they are"
    );
}

#[cfg(unix)]
#[test]
fn a_file_is_private_before_its_first_byte_and_keeps_no_mode_of_a_leftover() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let partial = dir.path().join("file.tmp");
    fs::write(&partial, "left behind").unwrap();
    set_mode(&partial, 0o666);
    let file = create(&partial).unwrap();
    assert_eq!((mode(&partial), file.metadata().unwrap().len()), (0o600, 0));
    fs::write(&path, "for all").unwrap();
    set_mode(&path, 0o666);
    write_whole(&path, b"new").unwrap();
    assert_eq!(
        (mode(&path), fs::read(&path).unwrap()),
        (0o600, b"new".to_vec())
    );
}

#[test]
fn a_file_that_cannot_take_its_name_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::create_dir_all(path.join("in the way")).unwrap();
    write_whole(&path, b"new").expect_err("a folder is in the way");
    assert_eq!(everything(dir.path()).len(), 3, "the folders alone");
}

#[test]
fn what_was_left_unfinished_long_ago_is_removed_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("cache");
    fs::create_dir(&inner).unwrap();
    let place = |name: &str, age_s: u64| {
        let path = inner.join(name);
        fs::write(&path, "half a fi").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age_s))
            .unwrap();
        path
    };
    let abandoned = place("marks.x7.tributary-part", 7_200);
    let kept = [
        place("marks.y8.tributary-part", 60),
        place("marks", 7_200),
        place("notes.tmp", 7_200),
    ];
    adopt(dir.path()).unwrap();
    assert!(!abandoned.exists());
    assert!(kept.iter().all(|path| path.exists()), "{kept:?}");
}

#[test]
fn a_rename_is_durable_before_it_is_relied_on() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let ((), folders) = synced(|| write_whole(&root.join("file"), b"x").unwrap());
    assert_eq!(folders, std::slice::from_ref(&root));
    let deep = root.join("a/b");
    let ((), folders) = synced(|| make_folder(&deep).unwrap());
    assert_eq!(folders, [root.join("a"), root.clone()]);
    let ((), folders) = synced(|| make_folder(&deep).unwrap());
    assert!(folders.is_empty(), "nothing is new");
    let failed = write_whole(&root.join("none/file"), b"x");
    assert!(failed.is_err());
}

#[test]
fn names_that_an_interrupted_life_gave_are_made_durable_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("home");
    drop(Home::create(&root).unwrap());
    fs::create_dir_all(root.join("shards/birds/files")).unwrap();
    let (home, folders) = synced(|| Home::open(&root).unwrap());
    let folders: BTreeSet<PathBuf> = folders.into_iter().collect();
    let all = everything(&root).into_iter().filter(|path| path.is_dir());
    let missed: Vec<PathBuf> = all.filter(|path| !folders.contains(path)).collect();
    assert!(
        folders.len() >= 5 && missed.is_empty(),
        "not synced: {missed:?}"
    );
    // A store that is opened without its home looks after its own folders.
    let (store, folders) = synced(|| crate::store::Store::open(home.paths()).unwrap());
    assert!(
        folders.contains(&home.paths().blobs()) && folders.contains(&root),
        "{folders:?}"
    );
    drop(store);
}

/// Sources that write, each with why it may.
const OTHERS_THAT_WRITE: [(&str, &str); 5] = [
    (
        "store/blobs.rs",
        "syncs its folder once for all blobs of a commit",
    ),
    (
        "model.rs",
        "writes adapters into folders that the user names",
    ),
    ("model/card.rs", "writes cards beside those adapters"),
    ("cli/train.rs", "makes the folder that the user names"),
    ("cli/help.rs", "makes the folder that the user names"),
];

#[test]
fn no_other_source_makes_renames_or_overwrites_files() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let ways = [
        "fs::write(",
        "fs::rename(",
        "File::create(",
        "create_dir",
        "OpenOptions::new(",
    ];
    let mut found = BTreeSet::new();
    for path in everything(&sources) {
        let name = path
            .strip_prefix(&sources)
            .unwrap()
            .to_string_lossy()
            .replace('\\', "/");
        if !name.ends_with(".rs") || name.ends_with("tests.rs") || name == "home/disk.rs" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        if ways.iter().any(|way| code.contains(way)) {
            found.insert(name);
        }
    }
    let allowed = OTHERS_THAT_WRITE.map(|(name, _)| name.to_owned());
    assert_eq!(found, BTreeSet::from(allowed), "write through `home::disk`");
}
