//! How long a stopped home of 1,000 rounds and 64 members takes to open: the first time, again, and after one more round.
//!
//! The home is made here: blocks, certificates and updates of a tiny adapter, signed by 64 keys. The commands are
//! the real ones, as processes of their own; only what `why` does before it needs a model is called from here. Slow, so it
//! runs only when asked for: `cargo test --workspace --test program opening -- --ignored --nocapture`, or
//! `python3 docs/numbers/update.py opening`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tributary_ledger::fixture::RunBuilder;
use tributary_peer::home::{Home, HomePaths};
use tributary_peer::store::Store;
use tributary_peer::verify;
use tributary_peer::why::Provenance;
use tributary_protocol::event::Record;
use tributary_protocol::id::BlobHash;

use super::cli;

/// Records that are written with one sync.
const TOGETHER: usize = 4096;

/// A run of `members` over `rounds`, each judged by the three evaluators, and how many records and blobs there were
/// before the last round. Every adapter is kept, as a home does.
fn run(members: usize, rounds: u32) -> (RunBuilder, usize, BTreeSet<BlobHash>) {
    let mut made = RunBuilder::opened(members, rounds);
    let everybody: Vec<usize> = (0..members).collect();
    let mut before = (0, BTreeSet::new());
    for round in 1..=rounds {
        if round == rounds {
            before = (made.records.len(), made.kept.keys().copied().collect());
        }
        let evaluators: &[usize] = if round == 1 { &[] } else { &[1, 2, 3] };
        made.round(&everybody, evaluators);
        let (last, adapter) = (made.last.as_ref(), made.adapter.as_ref());
        let hash = last.expect("a round").adapter.hash;
        made.kept.insert(hash, adapter.expect("a round").to_bytes());
    }
    (made, before.0, before.1)
}

/// A home whose run went on by one round since it was checked, and can go back.
struct Scene {
    paths: HomePaths,
    /// The ledger before and after the round.
    ledgers: [PathBuf; 2],
    /// What the home kept of its checks before the round.
    cache: PathBuf,
    /// Blobs of the round.
    new: BTreeMap<BlobHash, Vec<u8>>,
}

impl Scene {
    fn new(root: &Path, made: &RunBuilder, split: usize, old: &BTreeSet<BlobHash>) -> Self {
        let home = Home::create(root.join("home")).unwrap();
        let paths = home.paths().clone();
        fs::create_dir_all(paths.blobs()).unwrap();
        let (mut new, mut blobs) = (BTreeMap::new(), Vec::new());
        for (hash, bytes) in &made.kept {
            match old.contains(hash) {
                true => blobs.push((hash, bytes)),
                false => drop(new.insert(*hash, bytes.clone())),
            }
        }
        for (hash, bytes) in blobs {
            // Without the sync that a daemon gives every blob.
            fs::write(paths.blobs().join(hash.to_string()), bytes).unwrap();
        }
        let ledgers = ["before", "after"].map(|name| root.join(name));
        let (first, last) = made.records.split_at(split);
        persist(&paths, first);
        fs::copy(paths.ledger(), &ledgers[0]).unwrap();
        persist(&paths, last);
        fs::copy(paths.ledger(), &ledgers[1]).unwrap();
        Self {
            paths,
            ledgers,
            cache: root.join("cache"),
            new,
        }
    }

    /// As it was before the round, never checked.
    fn rewind(&self) {
        let _ = fs::remove_dir_all(self.paths.cache());
        for hash in self.new.keys() {
            let _ = fs::remove_file(self.paths.blobs().join(hash.to_string()));
        }
        fs::copy(&self.ledgers[0], self.paths.ledger()).unwrap();
    }

    /// One more round, with what was kept of the checks before it.
    fn go_on(&self) {
        copy_folder(&self.cache, &self.paths.cache());
        for (hash, bytes) in &self.new {
            fs::write(self.paths.blobs().join(hash.to_string()), bytes).unwrap();
        }
        fs::copy(&self.ledgers[1], self.paths.ledger()).unwrap();
    }

    fn home(&self) -> String {
        self.paths.root().display().to_string()
    }

    /// Seconds of one command and of the processor, and what it said.
    fn timed(&self, command: &[&str]) -> (Seconds, String) {
        let (seconds, output) =
            measured(|| cli::run(&[command, &["--home", &self.home()]].concat()));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}{failed}");
        (seconds, said)
    }

    /// What `why` needs of the ledger before it needs a model.
    fn why(&self) -> Seconds {
        let (seconds, stages) = measured(|| {
            let archive = verify::archive(&self.paths).unwrap();
            let found = Provenance::kept(&archive, &archive.runs[0], &self.paths).unwrap();
            verify::keep(&archive, &self.paths);
            found.stages.len()
        });
        assert!(stages > 0);
        seconds
    }
}

fn persist(paths: &HomePaths, records: &[Record]) {
    let store = Store::open(paths).unwrap();
    for records in records.chunks(TOGETHER) {
        store.persist(records.to_vec()).wait_blocking().unwrap();
    }
}

fn copy_folder(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// By the clock, and of the processor where the system tells.
#[derive(Clone, Copy)]
struct Seconds {
    wall: f64,
    processor: f64,
}

fn measured<T>(body: impl FnOnce() -> T) -> (Seconds, T) {
    let (started, before) = (Instant::now(), processor());
    let out = body();
    let wall = started.elapsed().as_secs_f64();
    let processor = processor() - before;
    (Seconds { wall, processor }, out)
}

/// Processor seconds of this process and of the children that it waited for, in hundredths; zero where `/proc` is not.
fn processor() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(4);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Every command `times` times, in turns; medians.
fn opened(members: usize, rounds: u32, times: usize) -> BTreeMap<&'static str, Seconds> {
    let dir = tempfile::tempdir().unwrap();
    let (made, split, old) = run(members, rounds + 1);
    let scene = Scene::new(dir.path(), &made, split, &old);
    let place = format!("{}/{}/ada", made.run(), rounds / 2);
    let explain = ["ledger", "explain", &place];
    let says = |said: &str, rounds: u32| {
        let aggregates = format!("with {rounds} of {rounds} aggregates");
        assert!(said.contains(&aggregates), "{said}");
    };
    let mut all: Vec<(&str, Seconds)> = Vec::new();
    for _ in 0..times {
        scene.rewind();
        let mut explained = Vec::new();
        for name in ["ledger verify, first", "ledger verify, again"] {
            let (seconds, said) = scene.timed(&["ledger", "verify"]);
            says(&said, rounds);
            all.push((name, seconds));
        }
        let (seconds, said) = scene.timed(&explain);
        explained.push(said);
        all.push(("ledger explain", seconds));
        all.push(("ledger statement", scene.timed(&["ledger", "statement"]).0));
        all.push(("why (without the model), first", scene.why()));
        all.push(("why (without the model), again", scene.why()));
        copy_folder(&scene.paths.cache(), &scene.cache);
        scene.go_on();
        let (seconds, said) = scene.timed(&["ledger", "verify"]);
        says(&said, rounds + 1);
        all.push(("ledger verify, one more round", seconds));
        scene.go_on();
        let (seconds, said) = scene.timed(&explain);
        explained.push(said);
        all.push(("ledger explain, one more round", seconds));
        assert_eq!(explained[0], explained[1], "the payout is what it was");
        scene.go_on();
        all.push(("why (without the model), one more round", scene.why()));
        let (seconds, said) = scene.timed(&["ledger", "verify", "--full"]);
        says(&said, rounds + 1);
        all.push(("ledger verify --full", seconds));
    }
    println!(
        "{members} members, {rounds} rounds: {split} blocks and certificates, {} bytes of ledger, {} blobs",
        scene.ledgers[0].metadata().unwrap().len(),
        old.len()
    );
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let per_turn = names.len() / times;
    let mut out = BTreeMap::new();
    for name in &names[..per_turn] {
        let these = || all.iter().filter(|(of, _)| of == name).map(|(_, s)| *s);
        let wall = median(these().map(|s| s.wall).collect());
        let processor = median(these().map(|s| s.processor).collect());
        println!("{name}: {wall:.2} s, {processor:.2} s of processor");
        out.insert(*name, Seconds { wall, processor });
    }
    out
}

#[test]
fn a_home_that_was_checked_says_the_same_again_after_one_more_round_and_in_full() {
    opened(4, 6, 1);
}

#[test]
#[ignore = "makes and checks 1,000 rounds of 64 members, which takes minutes"]
fn a_home_of_a_thousand_rounds_opens_in_a_second_once_it_was_checked() {
    let found = opened(64, 1_000, 3);
    let first = found["ledger verify, first"].processor;
    for name in ["ledger verify, again", "ledger verify, one more round"] {
        let again = found[name].processor;
        assert!(again < first / 4.0, "{name}: {again:.2} s of {first:.2} s");
    }
}
