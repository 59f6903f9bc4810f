//! From a path or a built-in name to a checked scenario.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::Scenario;
use crate::catalogue::Catalogue;
use crate::files;
use crate::suggest;

/// The scenarios that the binary carries, so that it works outside the repository.
const BUILTIN: [(&str, &str); 7] = [
    ("smoke", include_str!("../../../scenarios/smoke.toml")),
    ("harsh", include_str!("../../../scenarios/harsh.toml")),
    ("liars", include_str!("../../../scenarios/liars.toml")),
    ("soak", include_str!("../../../scenarios/soak.toml")),
    ("bonded", include_str!("../../../scenarios/bonded.toml")),
    ("economy", include_str!("../../../scenarios/economy.toml")),
    ("staked", include_str!("../../../scenarios/staked.toml")),
];

/// Why a scenario cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Neither a file nor a built-in name.
    #[error(
        "no scenario at `{path}`: there is no such file and no built-in scenario of that name; give \
         a TOML file, or one of: {known}"
    )]
    Missing {
        /// What was asked for.
        path: String,
        /// Names that would work.
        known: String,
    },
    /// The file is there but cannot be read.
    #[error("cannot read scenario `{path}`: {source}; give a TOML file that you may read")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not TOML, or not a scenario.
    #[error("scenario `{path}` is refused at line {line}: {why}")]
    Refused {
        /// The file.
        path: String,
        /// The line.
        line: usize,
        /// What is wrong and what to write.
        why: String,
    },
    /// A change from outside of the file cannot be made.
    #[error("`{what}` is refused: {why}")]
    Setting {
        /// The change.
        what: String,
        /// What is wrong and what to write.
        why: String,
    },
    /// Well-formed, but impossible.
    #[error("scenario `{path}` cannot be run: {why}")]
    Impossible {
        /// The file.
        path: String,
        /// What is wrong and what to write.
        why: String,
    },
}

/// Names that work without a file.
pub fn builtin_names() -> Vec<&'static str> {
    BUILTIN.iter().map(|(name, _)| *name).collect()
}

/// Reads `path`; when there is no such file, takes the built-in scenario of that name (`smoke`, or
/// any path that ends in `smoke.toml`).
///
/// # Errors
/// See [`ScenarioError`].
pub fn load(path: &str) -> Result<Scenario, ScenarioError> {
    load_from(&Arc::default(), path)
}

/// [`load`] of a scenario whose names `catalogue` explains.
///
/// # Errors
/// See [`ScenarioError`].
pub fn load_from(catalogue: &Arc<Catalogue>, path: &str) -> Result<Scenario, ScenarioError> {
    let (name, text) = text(path)?;
    parse_from(catalogue, &name, &text)
}

/// The text of a scenario as [`load`] finds it, with what errors shall call it.
///
/// # Errors
/// [`ScenarioError::Missing`] and [`ScenarioError::Unreadable`].
pub fn text(path: &str) -> Result<(String, String), ScenarioError> {
    match files::read_text(Path::new(path), files::MAX_SCENARIO_BYTES) {
        Ok(text) => Ok((path.into(), text)),
        // A folder may well be called like a built-in scenario: a result of it, for example.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
            let stem = Path::new(path).file_stem().and_then(|s| s.to_str());
            match BUILTIN.iter().find(|(name, _)| Some(*name) == stem) {
                Some((name, text)) => Ok(((*name).into(), (*text).into())),
                None => Err(ScenarioError::Missing {
                    path: path.into(),
                    known: builtin_names().join(", "),
                }),
            }
        }
        Err(source) => Err(ScenarioError::Unreadable {
            path: path.into(),
            source,
        }),
    }
}

/// Reads a scenario from text; `path` only names it in errors.
///
/// # Errors
/// See [`ScenarioError`].
pub fn parse(path: &str, text: &str) -> Result<Scenario, ScenarioError> {
    parse_from(&Arc::default(), path, text)
}

/// [`parse`] of a scenario whose names `catalogue` explains.
///
/// # Errors
/// See [`ScenarioError`].
pub fn parse_from(
    catalogue: &Arc<Catalogue>,
    path: &str,
    text: &str,
) -> Result<Scenario, ScenarioError> {
    let mut scenario: Scenario = toml::from_str(text).map_err(|error| ScenarioError::Refused {
        path: path.into(),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        why: suggest::explain(error.message()),
    })?;
    scenario.catalogue = catalogue.clone();
    scenario
        .check_names()
        .map_err(|unknown| ScenarioError::Refused {
            path: path.into(),
            line: line_of(
                text,
                text.find(&format!("\"{}\"", unknown.name)).unwrap_or(0),
            ),
            why: unknown.to_string(),
        })?;
    match scenario.check() {
        Ok(()) => Ok(scenario),
        Err(why) => Err(ScenarioError::Impossible {
            path: path.into(),
            why,
        }),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMOKE: &str = BUILTIN[0].1;

    #[test]
    fn every_built_in_scenario_is_accepted() {
        for name in builtin_names() {
            load(name).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn a_path_that_ends_in_a_built_in_name_needs_no_file() {
        assert_eq!(load("no/such/folder/smoke.toml").unwrap().name, "smoke");
    }

    #[test]
    fn a_misspelt_key_names_the_line_and_the_nearest_key() {
        let text = SMOKE.replace("latency_ms", "latencyms");
        let error = parse("x.toml", &text).unwrap_err().to_string();
        let line = 1 + text
            .lines()
            .position(|l| l.starts_with("latencyms"))
            .unwrap();
        assert!(error.contains(&format!("line {line}")), "{error}");
        assert!(error.contains("did you mean `latency_ms`"), "{error}");
    }

    #[test]
    fn a_misspelt_name_names_the_line_and_the_nearest_name() {
        let text = SMOKE.replace("\"quadratic\"", "\"quadratik\"");
        let error = parse("x.toml", &text).unwrap_err().to_string();
        let line = 1 + text.lines().position(|l| l.contains("quadratik")).unwrap();
        assert!(error.contains(&format!("line {line}")), "{error}");
        assert!(
            error.contains("unknown learner `quadratik`; did you mean `quadratic`"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_file_lists_what_would_work() {
        let error = load("nowhere.toml").unwrap_err().to_string();
        assert!(
            error.contains("nowhere.toml") && error.contains("smoke"),
            "{error}"
        );
    }

    #[test]
    fn impossible_numbers_are_refused_with_the_reason() {
        for (from, to, expected) in [
            ("loss = 0.10", "loss = 1.5", "share from 0 to 1"),
            ("min_members = 24", "min_members = 39", "wait for ever"),
            (
                "down_ms = [500, 9_000]",
                "down_ms = [9, 5]",
                "smaller number first",
            ),
            ("dimension = 48", "dimension = 47", "even"),
        ] {
            let text = SMOKE.replace(from, to);
            assert_ne!(text, SMOKE);
            let error = parse("x.toml", &text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
