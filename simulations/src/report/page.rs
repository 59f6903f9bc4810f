//! One page that holds a whole run: no script, no other file, readable on paper and on a phone.
//!
//! `templates/report.html` is the page; here is what stands in it.

use askama::Template;

use super::Run;
use super::figures::{Figure, reason, round_name};
use super::metrics::METRICS;
use super::pay::{Pay, PayRound, PayRow};
use super::rows::ParticipantRow;
use crate::plot::{bytes, number};
use crate::record::{Moment, What};

/// Lines of the list of events; the rest is in the JSONL file.
const MAX_EVENTS_SHOWN: usize = 200;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    title: String,
    describe: String,
    run: &'a Run<'a>,
    broken: Vec<String>,
    missed: Option<String>,
    virtual_s: String,
    wall_s: String,
    figures: &'a [Figure],
    metrics: Table,
    rounds: Table,
    participants: Table,
    pay: Pay,
    pay_rounds: Table,
    pay_people: Table,
    matrix: Table,
    /// Events that there are to tell of.
    told: usize,
    events: Table,
    command: &'a str,
    scenario: &'a str,
}

/// The page.
pub fn page(run: &Run<'_>, figures: &[Figure], command: &str, scenario: &str) -> String {
    let told = told(run);
    let pay = Pay::of(run);
    let page = Page {
        title: format!("{}, seed {}", run.scenario.name, run.outcome.seed),
        describe: run.scenario.describe(),
        run,
        broken: run.all_broken(),
        missed: run.missed(),
        virtual_s: format!("{:.1}", run.outcome.virtual_us as f64 / 1e6),
        wall_s: format!("{:.2}", run.wall_s),
        figures,
        metrics: metrics(run),
        rounds: rounds(run),
        participants: participants(run),
        pay_rounds: pay_rounds(run, &pay),
        pay_people: pay_people(&pay),
        pay,
        matrix: matrix(run),
        told: told.len(),
        events: events(run, &told),
        command,
        scenario,
    };
    page.render().expect("writing to memory does not fail")
}

/// A table as pages show it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) headings: Vec<Heading>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

#[derive(Debug)]
pub(crate) struct Heading {
    pub(crate) name: String,
    pub(crate) is_number: bool,
}

#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) text: String,
    /// Classes of the style sheet: `n` for numbers, `missing`.
    pub(crate) class: &'static str,
}

impl Table {
    /// Columns whose heading begins with `#` hold numbers.
    pub(crate) fn new<H: AsRef<str>>(
        headings: impl IntoIterator<Item = H>,
        rows: Vec<Vec<String>>,
    ) -> Self {
        let headings: Vec<Heading> = (headings.into_iter())
            .map(|heading| Heading {
                name: heading.as_ref().trim_start_matches('#').to_owned(),
                is_number: heading.as_ref().starts_with('#'),
            })
            .collect();
        let row = |row: Vec<String>| {
            let cells = row.into_iter().zip(&headings);
            cells
                .map(|(text, heading)| Cell {
                    text,
                    class: if heading.is_number { "n" } else { "" },
                })
                .collect()
        };
        let rows = rows.into_iter().map(row).collect();
        Self { headings, rows }
    }
}

/// `3 of 4`; nothing of nothing is left out.
fn of(part: usize, whole: usize) -> String {
    match whole {
        0 => String::new(),
        _ => format!("{part} of {whole}"),
    }
}

fn metrics(run: &Run<'_>) -> Table {
    let row = |metric: &super::metrics::Metric| {
        let value = run.metrics.get(metric.name)?;
        let value = match metric.unit {
            "B" => format!("{} ({value:.0})", bytes(*value)),
            _ if value.fract() == 0.0 => format!("{value:.0}"),
            _ => number(*value),
        };
        let unit = metric.unit.to_owned();
        Some(vec![metric.name.into(), value, unit, metric.meaning.into()])
    };
    let rows: Vec<Vec<String>> = METRICS.iter().filter_map(row).collect();
    Table::new(["metric", "#value", "unit", "meaning"], rows)
}

fn rounds(run: &Run<'_>) -> Table {
    let optional = |value: Option<f64>| value.map_or(String::new(), number);
    let rows: Vec<Vec<String>> = (run.tables.rounds.iter())
        .map(|row| {
            vec![
                round_name(row.round, run.scenario.rounds),
                format!("{:.1}", row.certified_s),
                format!("{:.1}", row.took_s),
                row.attempts.to_string(),
                of(row.included, row.expected),
                optional(row.common_loss),
                optional(row.hold_out_loss),
                format!("{}/{}", row.sheets_certified, row.sheets),
                row.crashes.to_string(),
                bytes(row.control_bytes as f64),
                bytes(row.payload_bytes as f64),
                reason(run, row),
            ]
        })
        .collect();
    let headings = [
        "round",
        "#certified at (s)",
        "#took (s)",
        "#attempts",
        "#included",
        "#common loss",
        "#hold-out loss",
        "#sheets counted/signed",
        "#crashes",
        "#control",
        "#payload",
        "what it waited for",
    ];
    Table::new(headings, rows)
}

fn participants(run: &Run<'_>) -> Table {
    let row = |row: &ParticipantRow| {
        let role = match row.behaviour.is_empty() {
            true => row.role.to_owned(),
            false => format!("{}, {}", row.role, row.behaviour),
        };
        let ends = row.score_low.zip(row.score_high);
        let score = (row.score.zip(ends)).map_or(String::new(), |(score, (low, high))| {
            format!("{} [{}, {}]", number(score), number(low), number(high))
        });
        vec![
            row.name.clone(),
            role,
            of(row.rounds_included, row.rounds_expected),
            score,
            match row.rounds_expected {
                0 => String::new(),
                _ => format!("{:.4}", row.earned_open),
            },
            row.crashes.to_string(),
            format!("{:.1}", row.down_s),
            format!("{:.1}", row.waiting_s + row.agreeing_s),
            bytes(row.control_sent_bytes as f64),
            bytes(row.payload_sent_bytes as f64),
        ]
    };
    let rows: Vec<Vec<String>> = run.tables.participants.iter().map(row).collect();
    let headings = [
        "participant",
        "role",
        "#rounds included",
        "#score [interval]",
        "#earned (OPEN)",
        "#crashes",
        "#down (s)",
        "#waiting (s)",
        "#control sent",
        "#payload sent",
    ];
    Table::new(headings, rows)
}

fn pay_rounds(run: &Run<'_>, pay: &Pay) -> Table {
    let row = |round: &PayRound| {
        vec![
            round_name(round.round, run.scenario.rounds),
            number(round.gain),
            format!("{:.4}", round.worth_open),
            format!("{:.4}", round.worth_open - round.waiting_open),
            format!("{:.4}", round.waiting_open),
            round.what.to_owned(),
        ]
    };
    let headings = [
        "round",
        "#gain: its scores added up",
        "#worth (OPEN)",
        "#paid (OPEN)",
        "#waiting (OPEN)",
        "what became of it",
    ];
    Table::new(headings, pay.rounds.iter().map(row).collect())
}

fn pay_people(pay: &Pay) -> Table {
    let signed = |amount: f64| match amount.abs() < 5e-5 {
        true => "0".to_owned(),
        false => format!("{amount:+.4}"),
    };
    let row = |who: &PayRow| {
        vec![
            who.name.clone(),
            number(who.score),
            format!("{:.4}", who.by_score_open),
            signed(who.by_round_open - who.by_score_open),
            signed(-who.held_back_open),
            format!("{:.4}", who.earned_open),
        ]
    };
    let headings = [
        "participant",
        "#score",
        "#if OPEN followed it",
        "#as each round pays by itself",
        "#held back as luck",
        "#earned (OPEN)",
    ];
    Table::new(headings, pay.people.iter().map(row).collect())
}

/// A row per participant, a column per training round: the score, or why there is none.
fn matrix(run: &Run<'_>) -> Table {
    let all = &run.tables.contributions;
    let mut rounds: Vec<u32> = all.iter().map(|row| row.round).collect();
    rounds.sort_unstable();
    rounds.dedup();
    let names = rounds.iter().map(|round| format!("#round {round}"));
    let headings = std::iter::once("participant".to_owned()).chain(names);
    let mut table = Table::new(headings, Vec::new());
    for participant in &run.tables.participants {
        let own = (all.iter()).filter(|row| row.participant == participant.participant);
        let cells = own.map(|row| {
            let (class, text) = match (row.outcome, row.score) {
                (_, Some(score)) => ("n", number(score)),
                ("included", None) => ("n", "included, not judged".into()),
                ("evaluator" | "not a member" | "not drawn", _) => ("n", "–".into()),
                (cause, _) => ("n missing", cause.to_owned()),
            };
            Cell { text, class }
        });
        let name = Cell {
            text: participant.name.clone(),
            class: "",
        };
        table
            .rows
            .push(std::iter::once(name).chain(cells).collect());
    }
    table
}

/// What happened to the federation, in order of time.
fn told<'a>(run: &Run<'a>) -> Vec<&'a Moment> {
    let moments = run.history.moments.iter();
    moments
        .filter(|m| !matches!(m.what, What::Notice(_) | What::Invited))
        .collect()
}

fn events(run: &Run<'_>, told: &[&Moment]) -> Table {
    let shown = told.iter().take(MAX_EVENTS_SHOWN);
    let rows = shown.map(|moment| {
        let peers = &run.history.participants;
        let who = moment.peer.map_or("all", |peer| &peers[peer].name);
        let at = format!("{:.3}", moment.at as f64 / 1e6);
        vec![at, who.into(), moment.what.to_string()]
    });
    Table::new(["#time (s)", "who", "what"], rows.collect())
}
