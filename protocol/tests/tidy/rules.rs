//! The rules for one source file, each with the mend it suggests.

use crate::Breach;
use crate::source::Source;

/// Lines of a file without its tests.
const MAX_FILE_LINES: usize = 600;

/// Lines of a function, from its signature to its closing brace, blank ones and comments included: clippy counts less.
const MAX_FUNCTION_LINES: usize = 70;

/// Modules of the standard library that the library of `protocol` names nothing of: clippy forbids items, not modules.
const OUTSIDE: [&str; 5] = [
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
];

/// Libraries that only these folders may name.
const HOMES: [(&str, &[&str]); 9] = [
    ("libp2p", &["peer/src/net"]),
    ("libp2p_identity", &["peer/src/net"]),
    ("iroh", &["peer/src/net"]),
    ("iroh_blobs", &["peer/src/net"]),
    ("redb", &["peer/src/store"]),
    // For the owner's commands, and for clients that want answers, from here or from servers.
    ("axum", &["peer/src/api", "peer/src/serve"]),
    // And for questions to a chain's node; tests there stand before and behind one.
    (
        "reqwest",
        &[
            "peer/src/api",
            "peer/src/serve",
            "settlement/src/rpc",
            "settlement/tests",
        ],
    ),
    ("alloy", &["settlement"]),
    ("burn", &["trainer"]),
];

/// The hostile client of the process tests: it breaks the rules of our protocols, so it cannot speak
/// through the room that keeps them.
const HOSTILE: &str = "peer/tests/processes/attacker";

/// Every breach in one file. `file` is its path from the top.
pub(crate) fn check(file: &str, text: &str) -> Vec<Breach> {
    let source = Source::read(text);
    let mut found = Vec::new();
    if !text.starts_with("//!") {
        let what = "does not open with `//!`; say what this file is, why it exists and what it leaves to others";
        found.push((1, what.to_string()));
    }
    found.extend(length(file, text, &source));
    found.extend(functions(&source));
    found.extend(words(&source));
    found.extend(homes(file, &source));
    if file.starts_with("protocol/src/") {
        let what = "`async` or `await` in the ground floor; return an effect, the core never waits";
        found.extend(source.waits.iter().map(|line| (*line, what.to_string())));
        found.extend(outside(file, &source));
    }
    found.extend(floats(&source));
    found.sort();
    let breach = |(line, what)| {
        let file = file.to_string();
        Breach { file, line, what }
    };
    found.into_iter().map(breach).collect()
}

/// Test files may be as long as their cases need.
fn length(file: &str, text: &str, source: &Source) -> Option<(usize, String)> {
    let is_test = file.contains("/tests/") || file.ends_with("/tests.rs");
    let tests: usize = source
        .tests
        .iter()
        .map(|(first, last)| last - first + 1)
        .sum();
    let lines = text.lines().count() - tests;
    (!is_test && lines > MAX_FILE_LINES).then(|| {
        let what = format!(
            "{lines} lines without tests where {MAX_FILE_LINES} are allowed; a file is one idea: move the second one to \
             a file of its own"
        );
        (MAX_FILE_LINES + 1, what)
    })
}

fn functions(source: &Source) -> impl Iterator<Item = (usize, String)> {
    source.functions.iter().filter_map(|(first, last, name)| {
        let lines = last - first + 1;
        let what = format!(
            "`{name}` takes {lines} lines where {MAX_FUNCTION_LINES} are allowed; keep the decisions here and move the \
             steps to functions of their own"
        );
        (lines > MAX_FUNCTION_LINES).then_some((*first, what))
    })
}

/// Tests, and what they share, may open files.
fn outside(file: &str, source: &Source) -> impl Iterator<Item = (usize, String)> {
    let is_test = ["/tests/", "/tests.rs", "/test_utils/"]
        .iter()
        .any(|part| file.contains(part));
    let named = source.paths.iter().filter(move |(line, path)| {
        let within = |module: &&str| path == *module || path.starts_with(&format!("{module}::"));
        !is_test && !source.is_test(*line) && OUTSIDE.iter().any(within)
    });
    named.map(|(line, path)| {
        (
            *line,
            format!("`{path}` in the ground floor; return an effect"),
        )
    })
}

fn words(source: &Source) -> impl Iterator<Item = (usize, String)> {
    let wrong = |(_, name): &&(usize, String)| name.to_lowercase().contains("reward");
    source.names.iter().filter(wrong).map(|(line, name)| {
        let what = format!("`{name}`: say score, credit or payout, whichever is meant");
        (*line, what)
    })
}

fn homes(file: &str, source: &Source) -> impl Iterator<Item = (usize, String)> {
    source.paths.iter().filter_map(move |(line, path)| {
        let (first, _) = path.split_once("::")?;
        let (library, homes) = HOMES.iter().find(|(library, _)| *library == first)?;
        let is_home = (homes.iter())
            .any(|home| file.starts_with(&format!("{home}/")) || file == format!("{home}.rs"));
        let what = format!(
            "names `{library}`, which belongs in {}; give that room a function that speaks our own types",
            homes.join(" or ")
        );
        (!is_home && !file.starts_with(HOSTILE)).then_some((*line, what))
    })
}

/// A type with canonical bytes holds no floats: their text, rounding and NaNs differ.
fn floats(source: &Source) -> impl Iterator<Item = (usize, String)> {
    source.floats.iter().map(|(line, float)| {
        let what = format!(
            "`{float}` in a type with canonical bytes; use an integer with a unit, as `NanoNats` or `Ppb`"
        );
        (*line, what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(file: &str, text: &str) -> Vec<(usize, String)> {
        (check(file, text).into_iter().map(|b| (b.line, b.what))).collect()
    }

    fn assert_one(file: &str, text: &str, line: usize, part: &str) {
        let found = breaches(file, text);
        assert_eq!(found.len(), 1, "{found:?} in {text}");
        assert_eq!(found[0].0, line, "{found:?}");
        assert!(found[0].1.contains(part), "{found:?}");
    }

    #[test]
    fn a_file_without_an_opening_is_found() {
        assert_one("peer/src/a.rs", "fn a() {}\n", 1, "`//!`");
        assert_eq!(breaches("peer/src/a.rs", "//! A.\nfn a() {}\n"), []);
    }

    #[test]
    fn long_files_are_found_and_tests_do_not_count() {
        let long = format!("//! A.\n{}", "const A: u8 = 1;\n".repeat(600));
        assert_one("peer/src/a.rs", &long, 601, "601 lines");
        assert_eq!(breaches("peer/tests/a.rs", &long), []);
        let many = "const A: u8 = 1;\n".repeat(600);
        let tested = format!("//! A.\n#[cfg(test)]\nmod tests {{\n{many}}}\n");
        assert_eq!(breaches("peer/src/a.rs", &tested), []);
    }

    #[test]
    fn long_functions_are_found() {
        let of = |lines: usize| format!("//! A.\nfn a() {{\n{}}}\n", "\n".repeat(lines - 2));
        assert_one("peer/src/a.rs", &of(71), 2, "71 lines");
        assert_eq!(breaches("peer/src/a.rs", &of(70)), []);
    }

    #[test]
    fn the_ground_floor_names_nothing_outside() {
        for code in [
            "use std::{sync::Arc, fs};",
            "fn a() { std::env::var_os(\"A\"); }",
        ] {
            let text = format!("//! A.\n{code}\n");
            assert_one("protocol/src/a.rs", &text, 2, "return an effect");
            assert_eq!(breaches("protocol/tests/a.rs", &text), []);
            assert_eq!(breaches("peer/src/a.rs", &text), []);
        }
    }

    #[test]
    fn the_ground_floor_does_not_wait() {
        for code in [
            "async fn a() {}",
            "fn a() { let b = async { 1 }; }",
            "fn a() { c!(b.await) }",
        ] {
            let text = format!("//! A.\n{code}\n");
            assert_one("protocol/src/a.rs", &text, 2, "never waits");
            assert_eq!(breaches("simulations/src/a.rs", &text), []);
        }
    }

    #[test]
    fn floats_in_canonical_bytes_are_found() {
        let text = "//! A.\n#[derive(Clone, Encode)]\nstruct A {\n    a: Vec<f32>,\n}\n";
        assert_one("protocol/src/a.rs", text, 4, "`f32`");
        let text = "//! A.\n#[derive(bincode::Encode)]\nenum A {\n    B(f64),\n}\n";
        assert_one("peer/src/a.rs", text, 4, "`f64`");
        let text = "//! A.\n#[derive(Encode)]\nstruct A(u8);\nfn a() -> f32 {}\n";
        assert_eq!(breaches("protocol/src/a.rs", text), []);
    }

    #[test]
    fn libraries_outside_their_room_are_found() {
        for (library, room) in [
            ("libp2p::Swarm", "peer/src/net"),
            ("iroh_blobs::{Hash as H}", "peer/src/net"),
            ("redb::*", "peer/src/store"),
            ("axum::Router", "peer/src/api"),
            ("axum::Router", "peer/src/serve"),
            ("burn::tensor::Tensor", "trainer/src"),
        ] {
            let text = format!("//! A.\nuse {library};\n");
            assert_one("peer/src/daemon.rs", &text, 2, "belongs in");
            assert_eq!(breaches(&format!("{room}/a.rs"), &text), []);
        }
        let text = "//! A.\nfn a() { assert!(redb::open(b)) }\n";
        assert_one("peer/src/daemon.rs", text, 2, "belongs in");
        assert_eq!(breaches("peer/src/store.rs", text), []);
    }

    #[test]
    fn wrong_words_are_found() {
        assert_one("peer/src/a.rs", "//! A.\nstruct RewardPool;\n", 2, "payout");
        assert_eq!(breaches("peer/src/a.rs", "//! A.\n// reward\n"), []);
    }
}
