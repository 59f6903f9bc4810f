//! A scenario file for somebody to begin with.
//!
//! Numbers are put into the text of a template, line by line, so that its comments stay. What follows
//! from the number of peers (how many the genesis waits for, when faults stop) is adjusted with it; the
//! result is read back before anybody sees it.

use super::{Scenario, ScenarioError, parse, text};

/// The commented scenario.
const STUDY: &str = include_str!("study.toml");

/// What is asked for; the rest stays as the template has it.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Name of the scenario.
    pub name: String,
    /// A built-in scenario to begin with.
    pub template: Option<String>,
    /// All peers.
    pub peers: Option<usize>,
    /// Evaluators.
    pub evaluators: Option<usize>,
    /// Training rounds.
    pub rounds: Option<u32>,
    /// The seed.
    pub seed: Option<u64>,
    /// Share of messages lost.
    pub loss: Option<f64>,
    /// Share of peers that crash in each round.
    pub churn: Option<f64>,
}

/// The text of a scenario that runs as it is.
///
/// # Errors
/// See [`ScenarioError`]: no such template, or numbers that cannot be run together.
pub fn draft(wish: &Draft) -> Result<String, ScenarioError> {
    let template = match &wish.template {
        None => STUDY.to_owned(),
        Some(name) => text(name)?.1,
    };
    let before = parse(wish.template.as_deref().unwrap_or("study"), &template)?;
    let mut lines: Vec<String> = template.lines().map(str::to_owned).collect();
    put(&mut lines, "", "name", &format!("{:?}", wish.name));
    let mut number = |section: &str, key: &str, value: Option<String>| {
        if let Some(value) = value {
            put(&mut lines, section, key, &value);
        }
    };
    number("", "peers", wish.peers.map(|n| n.to_string()));
    number("", "evaluators", wish.evaluators.map(|n| n.to_string()));
    number("", "rounds", wish.rounds.map(|n| n.to_string()));
    number("", "seed", wish.seed.map(|n| n.to_string()));
    number("link", "loss", wish.loss.map(share));
    number("churn", "per_round", wish.churn.map(share));
    if wish.peers.is_some() || wish.evaluators.is_some() {
        let (members, contributions) = minima(&before, wish);
        number("run", "min_members", Some(members.to_string()));
        number("run", "min_contributions", Some(contributions.to_string()));
    }
    if let Some(rounds) = wish.rounds {
        let calm = rounds.saturating_sub(1).max(1);
        number("calm", "after_round", Some(calm.to_string()));
    }
    let out = lines.join("\n") + "\n";
    parse(&wish.name, &out)?;
    Ok(out)
}

/// A share as TOML writes it: always with a point.
fn share(value: f64) -> String {
    format!("{value:?}")
}

/// The template's shares of members and contributors to wait for, of the new numbers.
fn minima(before: &Scenario, wish: &Draft) -> (usize, usize) {
    let late: usize = before.joins.iter().map(|join| join.count).sum();
    let peers = wish.peers.unwrap_or(before.peers);
    let evaluators = wish.evaluators.unwrap_or(before.evaluators);
    let of = |part: u32, whole: usize, new: usize| {
        let exact = f64::from(part) / whole.max(1) as f64 * new as f64;
        (exact.round() as usize).clamp(1, new.max(1))
    };
    let present = peers.saturating_sub(late);
    let members = of(before.run.min_members, before.present_at_start(), present);
    let trains = |peers: usize, evaluators: usize| peers.saturating_sub(evaluators);
    let contributions = of(
        before.run.min_contributions,
        trains(before.peers, before.evaluators),
        trains(peers, evaluators),
    );
    (members, contributions)
}

/// Replaces the value of a key in a section (`""` is the top), and keeps the comment behind it.
fn put(lines: &mut [String], section: &str, key: &str, value: &str) {
    let mut current = String::new();
    for line in lines {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix('[') {
            current = name.trim_matches(['[', ']']).to_owned();
        }
        let is_key = (trimmed.split_once('=')).is_some_and(|(name, _)| name.trim() == key);
        if current != section || !is_key {
            continue;
        }
        *line = match line.split_once('#') {
            None => format!("{key} = {value}"),
            Some((before, comment)) => {
                let line = format!("{key} = {value}");
                format!("{line:<width$}#{comment}", width = before.len())
            }
        };
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_accepted_and_keeps_its_comments() {
        let plain = draft(&Draft {
            name: "mine".into(),
            ..Draft::default()
        });
        let text = plain.unwrap();
        assert!(text.contains("name = \"mine\"") && text.contains("# of these score"));
        assert_eq!(text.matches('#').count(), STUDY.matches('#').count());
    }

    #[test]
    fn what_is_asked_for_stands_in_the_draft_and_runs() {
        for peers in [4, 9, 40, 100] {
            let wish = Draft {
                name: "mine".into(),
                peers: Some(peers),
                evaluators: Some(1),
                rounds: Some(3),
                loss: Some(0.0),
                churn: Some(0.25),
                seed: Some(9),
                ..Draft::default()
            };
            let scenario = parse("mine", &draft(&wish).unwrap()).unwrap();
            assert_eq!((scenario.peers, scenario.evaluators), (peers, 1));
            assert_eq!((scenario.rounds, scenario.calm.after_round), (3, 2));
            assert_eq!((scenario.seed, scenario.link.loss), (9, 0.0));
            assert_eq!(scenario.churn.per_round, 0.25);
            assert!((scenario.run.min_contributions as usize) < peers);
        }
    }

    #[test]
    fn a_template_is_a_built_in_scenario_under_another_name() {
        let wish = Draft {
            name: "mine".into(),
            template: Some("harsh".into()),
            peers: Some(22),
            ..Draft::default()
        };
        let scenario = parse("mine", &draft(&wish).unwrap()).unwrap();
        let harsh = super::super::load("harsh").unwrap();
        assert_eq!(scenario.name, "mine");
        assert_eq!(scenario.partitions.len(), harsh.partitions.len());
        assert!(scenario.run.min_members > harsh.run.min_members);
    }

    #[test]
    fn numbers_that_cannot_run_are_refused_before_a_file_is_written() {
        let wish = Draft {
            name: "mine".into(),
            loss: Some(3.0),
            ..Draft::default()
        };
        let error = draft(&wish).unwrap_err().to_string();
        assert!(error.contains("share from 0 to 1"), "{error}");
    }
}
