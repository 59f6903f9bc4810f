//! Modules of a crate that need each other in a circle: none of them can be read, tested or moved alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::Breach;
use crate::source::Source;

/// The top-level module of a file `CRATE/src/MODULE...`; none for the crate's root and its binary.
fn module<'a>(file: &'a str, name: &str) -> Option<&'a str> {
    let inside = file.strip_prefix(name)?.strip_prefix("/src/")?;
    let first = inside.split('/').next()?;
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (!["lib", "main"].contains(&module)).then_some(module)
}

/// Circles among the top-level modules of the crate in folder `name`; `files` are paths from the top, with their text.
pub(crate) fn check(name: &str, files: &[(String, String)]) -> Vec<Breach> {
    let modules: BTreeSet<&str> =
        (files.iter().filter_map(|(file, _)| module(file, name))).collect();
    // For each edge the first place where it is named.
    let mut edges: BTreeMap<(&str, &str), (&str, usize)> = BTreeMap::new();
    for (file, text) in files
        .iter()
        .filter(|(file, _)| !file.ends_with("/tests.rs"))
    {
        let Some(from) = module(file, name) else {
            continue;
        };
        let source = Source::read(text);
        for (line, path) in &source.paths {
            let line = *line;
            let named = path
                .strip_prefix("crate::")
                .map(|rest| rest.split("::").next());
            let to = named.flatten().and_then(|to| modules.get(to));
            let in_tests = source.is_test(line);
            if let Some(to) = to.filter(|to| **to != from && !in_tests) {
                edges.entry((from, to)).or_insert((file, line));
            }
        }
    }
    let circle = |(from, to): &(&str, &str)| reaches(to, from, &edges);
    (edges.iter().filter(|(edge, _)| circle(edge)))
        .map(|((from, to), (file, line))| Breach {
            file: (*file).to_string(),
            line: *line,
            what: format!(
                "`{from}` needs `{to}`, which needs `{from}`, perhaps through others; move what both need into a module \
                 below them"
            ),
        })
        .collect()
}

fn reaches(from: &str, to: &str, edges: &BTreeMap<(&str, &str), (&str, usize)>) -> bool {
    let (mut seen, mut open) = (BTreeSet::from([from]), vec![from]);
    while let Some(at) = open.pop() {
        if at == to {
            return true;
        }
        let next = edges.keys().filter(|(one, _)| *one == at);
        open.extend(
            next.map(|(_, other)| *other)
                .filter(|other| seen.insert(other)),
        );
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(file, text): &(&str, &str)| (format!("x/src/{file}"), (*text).to_string());
        list.iter().map(owned).collect()
    }

    #[test]
    fn a_circle_through_a_third_module_is_found_on_each_of_its_edges() {
        let circle = files(&[
            ("a.rs", "use crate::b::B;\n"),
            ("b/inner.rs", "\nuse crate::{c::C, d::D};\n"),
            ("b.rs", "//! B\n"),
            ("c.rs", "fn f() -> crate::a::A { todo() }\n"),
            ("d.rs", "//! D\n"),
        ]);
        let found = check("x", &circle);
        let places: Vec<(&str, usize)> =
            (found.iter()).map(|b| (b.file.as_str(), b.line)).collect();
        assert_eq!(
            places,
            [
                ("x/src/a.rs", 1),
                ("x/src/b/inner.rs", 2),
                ("x/src/c.rs", 1)
            ]
        );
    }

    #[test]
    fn tests_and_the_root_may_name_anything() {
        let fine = files(&[
            ("lib.rs", "pub mod a;\npub use crate::b::B;\n"),
            (
                "a.rs",
                "#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}\n",
            ),
            ("b.rs", "use crate::a::A;\n"),
        ]);
        assert_eq!(check("x", &fine), vec![]);
    }
}
