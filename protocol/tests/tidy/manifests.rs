//! Which crate may depend on which, read from the Cargo manifests.
//!
//! The picture is section 2 of the design: everything stands on `protocol`, nothing stands on `peer`,
//! and each heavy library has one home.

use crate::Breach;

/// Our crates that each of them may import.
const EDGES: [(&str, &[&str]); 7] = [
    ("protocol", &[]),
    ("trainer", &["tributary-protocol"]),
    ("attribution", &["tributary-protocol"]),
    ("ledger", &["tributary-protocol", "tributary-attribution"]),
    (
        "simulations",
        &["tributary-protocol", "tributary-attribution"],
    ),
    (
        "experiments",
        &[
            "tributary-protocol",
            "tributary-attribution",
            "tributary-simulations",
            "tributary-trainer",
        ],
    ),
    (
        "peer",
        &[
            "tributary-protocol",
            "tributary-attribution",
            "tributary-ledger",
            "tributary-trainer",
        ],
    ),
];

/// Libraries with one home.
const HOMES: [(&str, &str); 8] = [
    ("tokio", "peer"),
    ("libp2p", "peer"),
    ("iroh", "peer"),
    ("iroh-blobs", "peer"),
    ("axum", "peer"),
    ("redb", "peer"),
    ("futures", "peer"),
    ("burn", "trainer"),
];

/// Names under any table of dependencies, with their lines.
fn dependencies(text: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    let mut inside = false;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            inside = table.ends_with("dependencies");
            // `[dependencies.name]` is a table of its own.
            if let Some((before, name)) = table.rsplit_once('.')
                && before.ends_with("dependencies")
            {
                out.push((at + 1, name.to_string()));
            }
        } else if inside && !line.starts_with('#') {
            let name: String = (line.chars())
                .take_while(|c| c.is_alphanumeric() || "-_".contains(*c))
                .collect();
            if !name.is_empty() {
                out.push((at + 1, name));
            }
        }
    }
    out
}

pub(crate) fn check(name: &str, file: &str, text: &str) -> Vec<Breach> {
    let allowed = EDGES.iter().find(|(from, _)| *from == name);
    let allowed = allowed.map_or(&[][..], |(_, to)| to);
    let mut out = Vec::new();
    for (line, dependency) in dependencies(text) {
        let mut breach = |what: String| {
            let file = file.to_string();
            out.push(Breach { file, line, what });
        };
        if dependency.starts_with("tributary-") && !allowed.contains(&dependency.as_str()) {
            breach(format!(
                "`{name}` must not import `{dependency}`; move what it needs into a crate it may \
                 import ({allowed:?}), or hand it in through a trait"
            ));
        }
        if let Some((_, home)) = HOMES.iter().find(|(library, _)| *library == dependency)
            && *home != name
        {
            breach(format!(
                "`{dependency}` belongs to `{home}` alone; describe the wish as plain data and let \
                 `{home}` carry it out"
            ));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_edge_is_found_in_every_spelling() {
        for text in [
            "[dependencies]\ntributary-peer.workspace = true\n",
            "[dev-dependencies]\ntributary-peer = { path = \"../peer\" }\n",
            "[dependencies.tributary-peer]\npath = \"../peer\"\n",
            "[target.'cfg(unix)'.dependencies]\ntributary-peer.workspace = true\n",
        ] {
            let breaches = check("simulations", "simulations/Cargo.toml", text);
            assert_eq!(breaches.len(), 1, "{text}");
            assert!(
                breaches[0]
                    .what
                    .contains("must not import `tributary-peer`")
            );
        }
        let fine = "[dependencies]\n# tributary-peer\ntributary-protocol.workspace = true\n";
        assert_eq!(check("simulations", "x", fine), vec![]);
        assert_eq!(check("protocol", "x", fine).len(), 1);
    }

    #[test]
    fn the_ledger_stands_below_the_peer_and_beside_the_trainer() {
        let text = "[dependencies]\ntributary-attribution.workspace = true\ntributary-trainer.workspace = true\n\
                    tributary-peer.workspace = true\n";
        assert_eq!(check("ledger", "ledger/Cargo.toml", text).len(), 2);
        let used = "[dependencies]\ntributary-ledger.workspace = true\n";
        assert_eq!(check("peer", "peer/Cargo.toml", used), vec![]);
        assert_eq!(check("attribution", "x", used).len(), 1);
    }

    #[test]
    fn a_library_away_from_home_is_found_with_its_line() {
        let text =
            "[package]\nname = \"x\"\n[dependencies]\nserde = \"1\"\nburn.workspace = true\n";
        let breaches = check("attribution", "attribution/Cargo.toml", text);
        assert_eq!(breaches.len(), 1);
        assert_eq!(breaches[0].line, 5);
        assert_eq!(check("trainer", "x", text), vec![]);
    }
}
