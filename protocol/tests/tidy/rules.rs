//! The rules for one source file, each with the mend it suggests.

use crate::Breach;
use crate::text::{blank, body, closing, functions, paths, test_modules, tokens};

/// Lines of a file without its tests.
const MAX_FILE_LINES: usize = 600;
/// Lines of a function.
const MAX_FUNCTION_LINES: usize = 70;

/// What the ground floor may not name, and what to do instead.
const BANNED_IN_PROTOCOL: [(&str, &str); 13] = [
    ("std::time::Instant", "take `time::Instant` from the caller"),
    (
        "std::time::SystemTime",
        "take `time::Timestamp` from the caller",
    ),
    (
        "std::time::*",
        "name `Duration` alone; clocks are handed in",
    ),
    (
        "std::thread",
        "return an effect; threads belong to the peer",
    ),
    ("std::fs", "return an effect; files belong to the peer"),
    ("std::net", "return an effect; sockets belong to the peer"),
    ("std::env", "take the setting from the caller"),
    (
        "std::process",
        "return an error; processes belong to the peer",
    ),
    (
        "std::collections::HashMap",
        "use `BTreeMap`: order must not depend on a random seed",
    ),
    (
        "std::collections::HashSet",
        "use `BTreeSet`: order must not depend on a random seed",
    ),
    (
        "std::collections::*",
        "name the collection; hash maps are banned here",
    ),
    (
        "std::sync::OnceLock",
        "pass the value in; there is no global state here",
    ),
    ("tokio", "return an effect; the runtime belongs to the peer"),
];

/// What the ledger may not name: it works out what records say, and leaves everything else to its callers.
const BANNED_IN_LEDGER: [&str; 9] = [
    "tokio",
    "redb",
    "libp2p",
    "iroh",
    "clap",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
];

/// Libraries that only one folder may name.
const HOMES: [(&str, &str); 7] = [
    ("libp2p", "peer/src/net"),
    ("libp2p_identity", "peer/src/net"),
    ("iroh", "peer/src/net"),
    ("iroh_blobs", "peer/src/net"),
    ("redb", "peer/src/store"),
    ("axum", "peer/src/api"),
    ("burn", "trainer"),
];

/// The hostile client of the process tests: it breaks the rules of our protocols, so it cannot speak
/// through the room that keeps them.
const HOSTILE: &str = "peer/tests/processes/attacker";

struct Source<'a> {
    file: &'a str,
    text: &'a str,
    tokens: Vec<(usize, String)>,
    breaches: Vec<Breach>,
}

/// Every breach in one file. `file` is its path from the top.
pub(crate) fn check(file: &str, text: &str) -> Vec<Breach> {
    let mut source = Source {
        file,
        text,
        tokens: tokens(&blank(text)),
        breaches: Vec::new(),
    };
    source.opening();
    source.length();
    source.functions();
    source.unfinished();
    source.homes();
    if file.starts_with("protocol/src/") {
        source.protocol();
    }
    if file.starts_with("ledger/src/") {
        source.ledger();
    }
    source.floats();
    source.breaches.sort_by_key(|b| b.line);
    source.breaches
}

impl Source<'_> {
    fn breach(&mut self, line: usize, what: String) {
        let file = self.file.to_string();
        self.breaches.push(Breach { file, line, what });
    }

    fn opening(&mut self) {
        if !self.text.starts_with("//!") {
            let what = "does not open with `//!`; say what this file is, why it exists and what it \
                        leaves to others";
            self.breach(1, what.into());
        }
        if self.file.ends_with("/mod.rs") {
            let what =
                "is named mod.rs; name it after its folder and put it beside (`foo.rs` + `foo/`)";
            self.breach(1, what.into());
        }
    }

    /// Test files may be as long as their cases need.
    fn length(&mut self) {
        let is_test = self.file.contains("/tests/") || self.file.ends_with("/tests.rs");
        let tests: usize = (test_modules(&self.tokens).iter())
            .map(|(first, last)| last - first + 1)
            .sum();
        let lines = self.text.lines().count() - tests;
        if !is_test && lines > MAX_FILE_LINES {
            let what = format!(
                "{lines} lines without tests where {MAX_FILE_LINES} are allowed; a file is one idea: \
                 move the second one to a file of its own"
            );
            self.breach(MAX_FILE_LINES + 1, what);
        }
    }

    fn functions(&mut self) {
        for function in functions(&self.tokens) {
            if function.lines > MAX_FUNCTION_LINES {
                let what = format!(
                    "`{}` takes {} lines where {MAX_FUNCTION_LINES} are allowed; keep the decisions \
                     here and move the steps to functions of their own",
                    function.name, function.lines
                );
                self.breach(function.line, what);
            }
        }
    }

    fn unfinished(&mut self) {
        let marks: Vec<(usize, String)> = (self.tokens.windows(2))
            .filter(|w| ["todo", "unimplemented"].contains(&&*w[0].1) && w[1].1 == "!")
            .map(|w| w[0].clone())
            .collect();
        for (line, name) in marks {
            self.breach(line, format!("`{name}!` is left; write the real thing"));
        }
        let words: Vec<(usize, String)> = (self.tokens.iter())
            .filter(|(_, token)| token.to_lowercase().contains("reward"))
            .cloned()
            .collect();
        for (line, word) in words {
            let what = format!("`{word}`: say score, credit or payout, whichever is meant");
            self.breach(line, what);
        }
    }

    fn homes(&mut self) {
        for (line, path) in paths(&self.tokens) {
            let Some((first, _)) = path.split_once("::") else {
                continue;
            };
            let home = HOMES.iter().find(|(library, _)| *library == first);
            if let Some((library, home)) = home
                && !self.file.starts_with(&format!("{home}/"))
                && self.file != format!("{home}.rs")
                && !self.file.starts_with(HOSTILE)
            {
                let what = format!(
                    "names `{library}`, which belongs in {home}; give that room a function that \
                     speaks our own types"
                );
                self.breach(line, what);
            }
        }
    }

    fn protocol(&mut self) {
        for (line, path) in paths(&self.tokens) {
            let banned = (BANNED_IN_PROTOCOL.iter())
                .find(|(banned, _)| path == *banned || path.starts_with(&format!("{banned}::")));
            if let Some((banned, mend)) = banned {
                let what = format!("names `{banned}` in the ground floor; {mend}");
                self.breach(line, what);
            }
        }
        let waits: Vec<(usize, String)> = (self.tokens.iter())
            .filter(|(_, token)| token == "async" || token == "await")
            .cloned()
            .collect();
        for (line, word) in waits {
            let what =
                format!("`{word}` in the ground floor; return an effect, the core never waits");
            self.breach(line, what);
        }
    }

    fn ledger(&mut self) {
        for (line, path) in paths(&self.tokens) {
            let inside = |banned: &&&str| path.starts_with(&format!("{banned}::"));
            let banned = BANNED_IN_LEDGER.iter().find(|b| path == **b || inside(b));
            if let Some(banned) = banned {
                let what = format!(
                    "names `{banned}` in the ledger; take plain data, or a trait that the peer implements"
                );
                self.breach(line, what);
            }
        }
        let prints: Vec<(usize, String)> = (self.tokens.windows(2))
            .filter(|w| w[0].1.ends_with("print") || w[0].1.ends_with("println"))
            .filter(|w| w[1].1 == "!")
            .map(|w| w[0].clone())
            .collect();
        for (line, name) in prints {
            let what = format!("`{name}!` in the ledger; return what there is to say");
            self.breach(line, what);
        }
    }

    /// A type with canonical bytes holds no floats: their text, rounding and NaNs differ.
    fn floats(&mut self) {
        let mut found = Vec::new();
        for at in 0..self.tokens.len() {
            if self.tokens[at].1 != "derive" || !self.derives_encode(at) {
                continue;
            }
            let Some(item) = (at..self.tokens.len())
                .find(|place| ["struct", "enum"].contains(&&*self.tokens[*place].1))
            else {
                continue;
            };
            let end = match body(&self.tokens, item) {
                Some(open) => closing(&self.tokens, open),
                None => (item..self.tokens.len()).find(|place| self.tokens[*place].1 == ";"),
            };
            let fields = &self.tokens[item..end.unwrap_or(self.tokens.len())];
            found.extend(
                fields
                    .iter()
                    .filter(|(_, t)| t == "f32" || t == "f64")
                    .cloned(),
            );
        }
        for (line, float) in found {
            let what = format!(
                "`{float}` in a type with canonical bytes; use an integer with a unit, as \
                 `NanoNats` or `Ppb`"
            );
            self.breach(line, what);
        }
    }

    fn derives_encode(&self, at: usize) -> bool {
        let list = self.tokens[at..]
            .iter()
            .take_while(|(_, token)| token != "]");
        let mut names = list.map(|(_, token)| token.as_str());
        names.any(|name| name == "Encode")
    }
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
        assert_one("peer/src/a/mod.rs", "//! A.\n", 1, "mod.rs");
    }

    #[test]
    fn long_files_and_functions_are_found_and_tests_do_not_count_as_file() {
        let long = format!("//! A.\n{}", "const A: u8 = 1;\n".repeat(600));
        assert_one("peer/src/a.rs", &long, 601, "601 lines");
        assert_eq!(breaches("peer/tests/a.rs", &long), []);
        let tested = format!(
            "//! A.\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            "const A: u8 = 1;\n".repeat(600)
        );
        assert_eq!(breaches("peer/src/a.rs", &tested), []);
        let function = format!("//! A.\n\nfn a() {{\n{}}}\n", "    b();\n".repeat(69));
        assert_one("peer/src/a.rs", &function, 3, "`a` takes 71 lines");
        let function = format!("//! A.\nfn a() {{\n{}}}\n", "    b();\n".repeat(68));
        assert_eq!(breaches("peer/src/a.rs", &function), []);
    }

    #[test]
    fn the_ground_floor_has_no_clock_thread_file_socket_or_hash_map() {
        for (code, part) in [
            ("use std::time::Instant;", "std::time::Instant"),
            ("use std::{sync::Arc, fs};", "std::fs"),
            ("use std::collections::{BTreeMap, HashMap};", "BTreeMap"),
            ("fn a() { std::env::var(\"A\"); }", "caller"),
            ("fn a() { std::thread::sleep(b); }", "threads"),
            ("use tokio::sync::mpsc;", "runtime"),
            ("async fn a() {}", "never waits"),
        ] {
            let text = format!("//! A.\n{code}\n");
            assert_one("protocol/src/a.rs", &text, 2, part);
            assert_eq!(breaches("simulations/src/a.rs", &text), []);
        }
        let fine = "//! Not std::fs.\nuse crate::time::Instant;\nuse std::time::Duration;\n";
        assert_eq!(breaches("protocol/src/a.rs", fine), []);
    }

    #[test]
    fn the_ledger_names_no_runtime_database_network_or_terminal() {
        for code in [
            "use tokio::sync::mpsc;",
            "use redb::Database;",
            "use libp2p::Swarm;",
            "use iroh::Endpoint;",
            "use clap::ValueEnum;",
            "use std::{fs, io};",
            "fn a() { println!(\"b\") }",
            "fn a() { eprint!(\"b\") }",
        ] {
            let text = format!("//! A.\n{code}\n");
            let found = breaches("ledger/src/a.rs", &text);
            let here = found
                .iter()
                .filter(|(_, what)| what.contains("in the ledger"));
            assert_eq!(here.count(), 1, "{found:?} in {code}");
        }
        let fine = "//! Not println!.\nuse std::io;\nfn a() { write!(b, \"c\") }\n";
        assert_eq!(breaches("ledger/src/a.rs", fine), []);
    }

    #[test]
    fn floats_in_canonical_bytes_are_found() {
        let text = "//! A.\n#[derive(Clone, Encode)]\nstruct A {\n    a: Vec<f32>,\n}\n";
        assert_one("protocol/src/a.rs", text, 4, "`f32`");
        let text = "//! A.\n#[derive(bincode::Encode)]\nstruct A(f64);\n";
        assert_one("peer/src/a.rs", text, 3, "`f64`");
        let text = "//! A.\n#[derive(Encode)]\nstruct A(u8);\nfn a() -> f32 {}\n";
        assert_eq!(breaches("protocol/src/a.rs", text), []);
    }

    #[test]
    fn libraries_outside_their_room_are_found() {
        for (library, room) in [
            ("libp2p::Swarm", "peer/src/net"),
            ("iroh_blobs::Hash", "peer/src/net"),
            ("redb::Database", "peer/src/store"),
            ("axum::Router", "peer/src/api"),
            ("burn::tensor::Tensor", "trainer/src"),
        ] {
            let text = format!("//! A.\nuse {library};\n");
            assert_one("peer/src/daemon.rs", &text, 2, "belongs in");
            assert_eq!(breaches(&format!("{room}/a.rs"), &text), []);
        }
        assert_eq!(
            breaches("peer/src/store.rs", "//! A.\nuse redb::Database;\n"),
            []
        );
    }

    #[test]
    fn unfinished_code_and_wrong_words_are_found() {
        assert_one(
            "peer/src/a.rs",
            "//! A.\nfn a() {\n    todo!()\n}\n",
            3,
            "todo!",
        );
        assert_one(
            "peer/src/a.rs",
            "//! A.\nfn a() { unimplemented!(\"b\") }\n",
            2,
            "real",
        );
        assert_one("peer/src/a.rs", "//! A.\nstruct RewardPool;\n", 2, "payout");
        assert_eq!(breaches("peer/src/a.rs", "//! A.\n// todo!()\n"), []);
    }
}
