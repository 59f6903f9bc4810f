//! The house rules that a machine can hold, checked over the whole repository.
//!
//! Every failure names the file, the line and the mend. Rules that clippy can hold are in `Cargo.toml` and the
//! `clippy.toml` files, those about dependencies in `deny.toml`; here are the rest, each proven able to fail on small
//! strings. Rules that need judgement (what a file is about, whether a name fits) are left to readers.

mod cycles;
mod rules;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

/// The crates, by folder.
const CRATES: [&str; 9] = [
    "protocol",
    "engine",
    "trainer",
    "attribution",
    "ledger",
    "settlement",
    "peer",
    "simulations",
    "experiments",
];

/// One breach of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Breach {
    /// Path from the top of the repository, with `/`.
    file: String,
    /// From 1.
    line: usize,
    /// What is wrong and how to mend it.
    what: String,
}

fn top() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("the crate lies in the repository")
        .into()
}

/// Every file below `folder` whose name ends so, as paths from the top, without build output and
/// hidden folders.
fn files(folder: &Path, ending: &str, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = (fs::read_dir(folder).expect("a readable folder"))
        .map(|entry| entry.expect("a readable entry").path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                files(&path, ending, out);
            }
        } else if name.ends_with(ending) {
            out.push(path);
        }
    }
}

fn named(path: &Path) -> String {
    let inside = path.strip_prefix(top()).expect("below the top");
    inside.to_string_lossy().replace('\\', "/")
}

fn report(breaches: &[Breach]) {
    let lines: Vec<String> = (breaches.iter())
        .map(|b| format!("{}:{}: {}", b.file, b.line, b.what))
        .collect();
    assert!(breaches.is_empty(), "\n{}\n", lines.join("\n"));
}

#[test]
fn every_source_file_keeps_the_house_rules() {
    let mut paths = Vec::new();
    files(&top(), ".rs", &mut paths);
    let mut breaches = Vec::new();
    for path in &paths {
        let source = fs::read_to_string(path).expect("UTF-8 source");
        breaches.extend(rules::check(&named(path), &source));
    }
    for name in CRATES {
        let library = top().join(name).join("src/lib.rs");
        assert!(
            paths.contains(&library),
            "{} was not walked",
            library.display()
        );
    }
    report(&breaches);
}

/// Crates whose top-level modules stand on each other without a circle.
const LAYERED: [&str; 2] = ["simulations", "experiments"];

#[test]
fn modules_do_not_need_each_other_in_a_circle() {
    let mut breaches = Vec::new();
    for name in LAYERED {
        let mut paths = Vec::new();
        files(&top().join(name).join("src"), ".rs", &mut paths);
        let sources: Vec<(String, String)> = (paths.iter())
            .map(|path| (named(path), fs::read_to_string(path).expect("UTF-8 source")))
            .collect();
        breaches.extend(cycles::check(name, &sources));
    }
    report(&breaches);
}
