//! One number each for what a run is judged by, by stable names: what `compare` and sweeps speak of.

use std::collections::BTreeMap;

use serde::Serialize;

use super::median;
use super::rows::{RoundRow, Tables};
use crate::world::Outcome;

/// A metric's name, unit and meaning.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Metric {
    /// Its name in JSON, CSV and `--max`.
    pub name: &'static str,
    /// Its unit; empty for counts and shares.
    pub unit: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

const fn metric(name: &'static str, unit: &'static str, meaning: &'static str) -> Metric {
    Metric {
        name,
        unit,
        meaning,
    }
}

/// Every metric, in the order of tables.
pub const METRICS: [Metric; 18] = [
    metric(
        "final_loss",
        "",
        "common loss after the last certified round, nats per token (no unit: quadratic)",
    ),
    metric("first_loss", "", "common loss before training"),
    metric(
        "rounds_certified",
        "",
        "training rounds certified on every honest peer",
    ),
    metric(
        "round_s_median",
        "s",
        "median time from certificate to certificate, training rounds",
    ),
    metric("round_s_max", "s", "the longest of them"),
    metric(
        "spread_s_max",
        "s",
        "longest time from the first peer's certificate to the last's",
    ),
    metric(
        "attempts_max",
        "",
        "most consensus attempts that a round took",
    ),
    metric(
        "included_share",
        "",
        "contributions included of those expected, training rounds",
    ),
    metric(
        "judged_share",
        "",
        "training rounds whose scores became final",
    ),
    metric("negative_scores", "", "final scores below zero"),
    metric(
        "liars_earned_share",
        "",
        "part of all OPEN earned by dishonest participants",
    ),
    metric("crashes", "", "crashes carried out"),
    metric("control_bytes", "B", "control bytes sent, all participants"),
    metric("payload_bytes", "B", "payload bytes sent, all participants"),
    metric(
        "bytes_per_peer_round",
        "B",
        "bytes sent per participant and certified round",
    ),
    metric("virtual_s", "s", "virtual time of the whole run"),
    metric("events", "", "simulated events"),
    metric("violations", "", "broken promises"),
];

/// The metrics of one run. Those that do not exist in it (no loss because nothing was certified) are
/// left out.
pub fn of(tables: &Tables, outcome: &Outcome, rounds: u32) -> BTreeMap<&'static str, f64> {
    let training: Vec<&RoundRow> = (tables.rounds.iter())
        .filter(|row| (1..=rounds).contains(&row.round))
        .collect();
    let mut took: Vec<f64> = training.iter().map(|row| row.took_s).collect();
    took.sort_by(f64::total_cmp);
    let most = |of: fn(&RoundRow) -> f64| training.iter().map(|row| of(row)).reduce(f64::max);
    let losses = || tables.rounds.iter().filter_map(|row| row.common_loss);
    let scores = tables.contributions.iter().filter_map(|row| row.score);
    let (control, payload) = sent(tables);
    let heights = (tables.rounds.len() * tables.participants.len()) as f64;
    let values = [
        ("final_loss", losses().next_back()),
        ("first_loss", losses().next()),
        ("rounds_certified", Some(outcome.rounds_certified.into())),
        ("round_s_median", median(&took)),
        ("round_s_max", took.last().copied()),
        ("spread_s_max", most(|r| r.everywhere_s - r.certified_s)),
        ("attempts_max", most(|r| r.attempts.into())),
        ("included_share", included_share(&training)),
        ("judged_share", judged_share(&training)),
        (
            "negative_scores",
            Some(scores.filter(|s| *s < 0.0).count() as f64),
        ),
        ("liars_earned_share", liars_earned_share(tables)),
        ("crashes", Some(outcome.crashes.into())),
        ("control_bytes", Some(control)),
        ("payload_bytes", Some(payload)),
        ("bytes_per_peer_round", ratio(control + payload, heights)),
        ("virtual_s", Some(outcome.virtual_us as f64 / 1e6)),
        ("events", Some(outcome.events as f64)),
        ("violations", Some(outcome.violations.len() as f64)),
    ];
    let there = values.into_iter();
    there
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// A part of a whole; of nothing there is none.
fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

fn sent(tables: &Tables) -> (f64, f64) {
    tables
        .traffic
        .iter()
        .fold((0.0, 0.0), |(control, payload), row| {
            let (c, p) = (row.control_sent_bytes, row.payload_sent_bytes);
            (control + c as f64, payload + p as f64)
        })
}

/// Liars that go by several names may be included more often than they are expected.
fn included_share(training: &[&RoundRow]) -> Option<f64> {
    let included: usize = training.iter().map(|r| r.included.min(r.expected)).sum();
    let expected: usize = training.iter().map(|r| r.expected).sum();
    ratio(included as f64, expected as f64)
}

fn judged_share(training: &[&RoundRow]) -> Option<f64> {
    let judged = training.iter().filter(|row| row.judged).count();
    ratio(judged as f64, training.len() as f64)
}

fn liars_earned_share(tables: &Tables) -> Option<f64> {
    let (mut theirs, mut all) = (0.0, 0.0);
    for row in &tables.participants {
        all += row.earned_open;
        if !row.behaviour.is_empty() {
            theirs += row.earned_open;
        }
    }
    ratio(theirs, all)
}

/// A metric by its name.
pub fn named(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}
