//! One number each for what a run is judged by, by stable names: what `compare` and sweeps speak of.

use std::collections::BTreeMap;

use serde::Serialize;

use super::rows::Tables;
use super::{median, quantile};
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
    let training = || (tables.rounds.iter()).filter(move |row| (1..=rounds).contains(&row.round));
    let took: Vec<f64> = {
        let mut took: Vec<f64> = training().map(|row| row.took_s).collect();
        took.sort_by(f64::total_cmp);
        took
    };
    let most = |of: fn(&super::rows::RoundRow) -> f64| training().map(of).reduce(f64::max);
    let share = |part: usize, of: usize| (of > 0).then(|| part as f64 / of as f64);
    let earned = |lies: bool| -> f64 {
        let paid = tables.participants.iter();
        paid.filter(|row| !lies || !row.behaviour.is_empty())
            .map(|row| row.earned_open)
            .sum()
    };
    let (control, payload) = tables.traffic.iter().fold((0, 0), |(c, p), row| {
        (c + row.control_sent_bytes, p + row.payload_sent_bytes)
    });
    let heights = tables.rounds.len() * tables.participants.len();
    let scores = || tables.contributions.iter().filter_map(|row| row.score);
    let (included, expected) = training().fold((0, 0), |(i, e), row| {
        (i + row.included.min(row.expected), e + row.expected)
    });
    let values = [
        (
            "final_loss",
            (tables.rounds.iter())
                .filter_map(|row| row.common_loss)
                .next_back(),
        ),
        (
            "first_loss",
            (tables.rounds.iter()).find_map(|row| row.common_loss),
        ),
        (
            "rounds_certified",
            Some(f64::from(outcome.rounds_certified)),
        ),
        ("round_s_median", median(&took)),
        ("round_s_max", quantile(&took, 1.0)),
        (
            "spread_s_max",
            most(|row| row.everywhere_s - row.certified_s),
        ),
        ("attempts_max", most(|row| f64::from(row.attempts))),
        ("included_share", share(included, expected)),
        (
            "judged_share",
            share(
                training().filter(|row| row.judged).count(),
                training().count(),
            ),
        ),
        (
            "negative_scores",
            Some(scores().filter(|s| *s < 0.0).count() as f64),
        ),
        (
            "liars_earned_share",
            Some(0.0 + earned(true) / earned(false)).filter(|s| s.is_finite()),
        ),
        ("crashes", Some(f64::from(outcome.crashes))),
        ("control_bytes", Some(control as f64)),
        ("payload_bytes", Some(payload as f64)),
        (
            "bytes_per_peer_round",
            (heights > 0).then(|| (control + payload) as f64 / heights as f64),
        ),
        ("virtual_s", Some(outcome.virtual_us as f64 / 1e6)),
        ("events", Some(outcome.events as f64)),
        ("violations", Some(outcome.violations.len() as f64)),
    ];
    let there = values.into_iter();
    there
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// A metric by its name.
pub fn named(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}
