//! Inputs worth keeping: the shortest one found for each thing that a decoder can say.
//!
//! A file of `tests/corpus` has one input a line, in hexadecimal, and what came of it behind a tab. Every
//! run replays it first, and mutates from it as well, so that rare branches are reached at once. With
//! `TRIBUTARY_FUZZ_KEEP=1` a run writes what it found; an input that once did harm is added by hand.

#![expect(
    clippy::disallowed_methods,
    reason = "tests read and write files, as nothing else here may"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use data_encoding::HEXLOWER;

/// Longer inputs are not kept: the corpus is to stay a few kilobytes.
const MAX_KEPT_BYTES: usize = 400;

/// Inputs of one decoder, by what came of them.
pub struct Corpus {
    path: PathBuf,
    kept: BTreeMap<String, Vec<u8>>,
}

/// How many inputs each decoder is fed: `TRIBUTARY_FUZZ`, else `standard`.
pub fn executions(standard: usize) -> usize {
    let given = std::env::var("TRIBUTARY_FUZZ").ok();
    given.map_or(standard, |n| {
        n.replace('_', "")
            .parse()
            .unwrap_or_else(|_| panic!("TRIBUTARY_FUZZ is {n}, where a number of inputs is meant"))
    })
}

/// An outcome without the numbers and names in it, which differ from input to input.
pub fn plain(why: String) -> String {
    let mut out = String::new();
    for letter in why.chars() {
        match letter {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            other => out.push(other),
        }
    }
    out
}

impl Corpus {
    /// The file of a decoder; an empty corpus where there is none.
    pub fn read(name: &str) -> Self {
        let file = format!("{}.txt", name.replace(' ', "-"));
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/corpus")
            .join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let line = |line: &str| {
            let (hex, outcome) = line.split_once('\t').expect("hexadecimal, tab, outcome");
            let bytes = HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal");
            (outcome.to_owned(), bytes)
        };
        Self {
            kept: text.lines().map(line).collect(),
            path,
        }
    }

    /// Every input that is kept.
    pub fn inputs(&self) -> impl Iterator<Item = &[u8]> {
        self.kept.values().map(Vec::as_slice)
    }

    /// Keeps an input if nothing shorter is known to come out the same.
    pub fn found(&mut self, outcome: &str, bytes: &[u8]) {
        if bytes.len() > MAX_KEPT_BYTES {
            return;
        }
        let outcome = outcome.replace(['\n', '\t'], " ");
        match self.kept.get_mut(&outcome) {
            Some(known) if known.len() <= bytes.len() => {}
            Some(known) => *known = bytes.to_vec(),
            None => {
                self.kept.insert(outcome, bytes.to_vec());
            }
        }
    }

    /// Writes the file, if this run was asked to.
    pub fn write(&self) {
        if std::env::var_os("TRIBUTARY_FUZZ_KEEP").is_none() {
            return;
        }
        let mut text = String::new();
        for (outcome, bytes) in &self.kept {
            let _ = writeln!(text, "{}\t{outcome}", HEXLOWER.encode(bytes));
        }
        std::fs::create_dir_all(self.path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&self.path, text).expect("the corpus is written");
    }
}
