//! A bit flipped anywhere in a finished home is reported by `ledger verify`, or changes nothing that
//! anybody relies on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tributary_peer::demo::check::home_or_demo;
use tributary_peer::home::HomePaths;
use tributary_peer::store::LedgerReader;
use tributary_peer::verify::{self, Depth};
use tributary_protocol::event::Record;
use tributary_protocol::hash::{Domain, Hasher, Stream};

use super::cli;

/// Places that are flipped.
const FLIPS: usize = 200;
/// Files that nothing relies on; `verify.rs` says why.
const HARMLESS: [&str; 3] = ["lock", "config.toml", "bases.json"];

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else {
            out.push(path);
        }
    }
    out.sort();
}

fn records(home: &Path) -> Vec<Record> {
    LedgerReader::open(&HomePaths::new(home))
        .unwrap()
        .records()
        .to_vec()
}

/// Flips one bit, looks, and flips it back.
fn flipped<T>(path: &Path, bit: u64, look: impl FnOnce() -> T) -> T {
    let good = std::fs::read(path).unwrap();
    // What is kept between checks is written anew, and may be shorter than when the place was drawn.
    let bit = bit % (good.len() as u64 * 8);
    let mut bad = good.clone();
    bad[(bit / 8) as usize] ^= 1 << (bit % 8);
    std::fs::write(path, &bad).unwrap();
    let seen = look();
    std::fs::write(path, &good).unwrap();
    seen
}

fn draws() -> Stream {
    let mut hasher = Hasher::new(Domain::Simulation);
    hasher.update(b"bit flips");
    hasher.finalize_xof()
}

/// Where to flip: every file gets one place, large ones the rest.
fn places(all: &[PathBuf], rng: &mut Stream) -> Vec<(PathBuf, u64)> {
    let sizes: Vec<u64> = all.iter().map(|p| p.metadata().unwrap().len()).collect();
    let total: u64 = sizes.iter().sum();
    let mut out = Vec::new();
    for (path, size) in all.iter().zip(&sizes).filter(|(_, size)| **size > 0) {
        out.push((path.clone(), rng.below(size * 8)));
    }
    // The byte that says which of the database's two headers counts, and how it was closed.
    for ledger in all.iter().filter(|p| p.ends_with("ledger.redb")) {
        out.extend((9 * 8..10 * 8).map(|bit| (ledger.clone(), bit)));
    }
    while out.len() < FLIPS {
        let mut at = rng.below(total);
        let which = sizes.iter().position(|size| {
            let here = at < *size;
            at = at.saturating_sub(*size);
            here
        });
        let path = &all[which.unwrap()];
        let size = path.metadata().unwrap().len();
        out.push((path.clone(), rng.below(size * 8)));
    }
    out
}

/// A demo's folder, made in `dir`.
fn small_demo(dir: &Path) -> PathBuf {
    let root = dir.join("demo");
    let home = root.display().to_string();
    let size = ["--peers", "2", "--rounds", "1", "--steps", "1"];
    let report = cli::json(&[["demo", "--home", &home].as_slice(), &size].concat());
    assert_eq!(report["ledger_verified"], true);
    root
}

#[test]
fn a_flipped_bit_is_reported_or_harmless_at_two_hundred_places() {
    let dir = tempfile::tempdir().unwrap();
    let peers = small_demo(dir.path()).join("peers");
    let peer = peers.read_dir().unwrap().next().unwrap().unwrap().path();
    assert!(verify::home(&peer, Depth::Marked).unwrap().verified);
    let before = records(&peer);
    let mut all = Vec::new();
    files(&peer, &mut all);
    let mut rng = draws();
    let (mut reported, mut harmless) = (0, BTreeMap::<String, u32>::new());
    for (path, bit) in places(&all, &mut rng) {
        let name = path.strip_prefix(&peer).unwrap().display().to_string();
        let (report, after) = flipped(&path, bit, || {
            let report = verify::home(&peer, Depth::Marked).unwrap();
            let after = report.verified.then(|| records(&peer));
            (report, after)
        });
        if let Some(after) = after {
            // A mark of an earlier check is made again where its seal does not hold.
            let relied_on = !HARMLESS.contains(&name.as_str())
                && name != "ledger.redb"
                && !name.ends_with(".checked");
            assert!(!relied_on, "bit {bit} of {name} was silently accepted");
            // In the database: a free page, or a spare copy of a header. What is read is the same.
            assert!(
                after == before,
                "bit {bit} of {name} changed the ledger unnoticed"
            );
            *harmless.entry(name).or_default() += 1;
        } else {
            assert!(
                !report.faults[0].reason.is_empty(),
                "{name}: a fault without a reason"
            );
            reported += 1;
        }
    }
    println!("{reported} of {FLIPS} flips reported; harmless: {harmless:?}");
    assert!(
        reported >= FLIPS / 4,
        "only {reported} reported: {harmless:?}"
    );
    assert!(
        verify::home(&peer, Depth::Marked).unwrap().verified,
        "the flips were not undone"
    );
}

#[test]
fn nothing_is_verified_where_nothing_is() {
    let dir = tempfile::tempdir().unwrap();
    let peers = small_demo(dir.path()).join("peers");
    let peer = peers.read_dir().unwrap().next().unwrap().unwrap().path();
    let home = peer.display().to_string();
    let command = |of: &[&str]| {
        let output = cli::run(&[of, ["--home", &home].as_slice()].concat());
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let (code, said) = command(&["ledger", "statement", "ffffff"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("starts with \"ffffff\""), "{said}");
    // An auditor's copy.
    std::fs::remove_file(peer.join("key")).unwrap();
    let report = verify::home(&peer, Depth::Marked).unwrap();
    assert!(report.verified, "{:?}", report.faults);
    assert!(report.notes.iter().any(|note| note.contains("no key")));
    let (code, said) = command(&["ledger", "verify"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("verified: ") && said.contains(" of 1 runs"),
        "{said}"
    );

    let other = dir.path().join("other").display().to_string();
    assert!(cli::run(&["init", "--home", &other]).status.success());
    let report = verify::home(Path::new(&other), Depth::Marked).unwrap();
    assert!(!report.verified && report.faults[0].reason.contains("nothing was checked"));
    let output = cli::run(&["ledger", "verify", "--home", &other]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing was verified"));
}

#[test]
fn a_flipped_bit_in_what_a_demo_wrote_beside_its_peers_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("demo");
    let home = root.display().to_string();
    let demo = [
        "demo", "--peers", "2", "--rounds", "1", "--steps", "1", "--home", &home,
    ];
    assert_eq!(cli::json(&demo)["ledger_verified"], true);
    let mut rng = draws();
    for name in [
        "demo.json",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
    ] {
        let path = root.join(name);
        let bits = path.metadata().unwrap().len() * 8;
        for _ in 0..3 {
            let bit = rng.below(bits);
            let verified = flipped(&path, bit, || {
                home_or_demo(&root, Depth::Marked).unwrap().verified
            });
            assert!(!verified, "bit {bit} of {name} was silently accepted");
        }
    }
    let output = flipped(&root.join("demo.json"), 100, || {
        cli::run(&["ledger", "verify", "--home", &home])
    });
    assert_eq!(output.status.code(), Some(1));
    assert!(home_or_demo(&root, Depth::Marked).unwrap().verified);
}
