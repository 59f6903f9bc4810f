//! One page that holds a whole run: no script, no other file, readable on paper and on a phone.

use std::fmt::Write as _;

use super::Run;
use super::figures::{Figure, reason, round_name};
use super::metrics::METRICS;
use super::rows::ParticipantRow;
use crate::plot::{bytes, escaped, number};
use crate::record::What;

/// Lines of the list of events; the rest is in the JSONL file.
const MAX_EVENTS_SHOWN: usize = 200;

/// The page's look. Figures stand in two columns where there is room, tables scroll sideways where
/// there is not, and paper gets everything in black on white.
pub const STYLE: &str = "
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 0 .8rem 3rem; color: #111; background: #fff;
  font: 16px/1.5 system-ui, 'Segoe UI', 'DejaVu Sans', Arial, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 1.2rem 0 .4rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #bbb; }
p, figcaption { max-width: 46rem; }
.verdict { border-left: .4rem solid #009E73; padding: .3rem .8rem; background: #f3f3f3; }
.verdict.broken { border-color: #D55E00; }
.figures { margin-top: 1.2rem; columns: 26rem 2; column-gap: 1.2rem; }
figure { margin: 0 0 1.2rem; break-inside: avoid; }
figure.broad { column-span: all; padding-top: 1.2rem; }
figure svg { display: block; width: 100%; height: auto; border: 1px solid #ddd; }
figcaption { font-size: .85rem; color: #333; margin-top: .3rem; }
.wide { display: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { text-align: left; padding: .15rem .6rem .15rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.n, td:first-child { white-space: nowrap; }
td.words { min-width: 13rem; }
td.missing { color: #8a3d00; font-weight: 600; }
code, pre { font: .85em ui-monospace, 'DejaVu Sans Mono', monospace; }
code { overflow-wrap: anywhere; }
pre { overflow-x: auto; background: #f3f3f3; padding: .6rem; }
@media (min-width: 56rem) { .wide { display: block; } .wide + .narrow { display: none; } }
@media print { body { max-width: none; font-size: 10pt; } .scroll { overflow: visible; }
  table { font-size: 7.5pt; } figcaption { font-size: 8pt; } th, td { padding-right: .35rem; } tr { break-inside: avoid; }
  .figures { columns: 2; } pre { white-space: pre-wrap; }
  .wide { display: block; } .wide + .narrow { display: none; } }
";

/// The page.
pub fn page(run: &Run<'_>, figures: &[Figure], command: &str, scenario: &str) -> String {
    let mut out = head(&format!("{}, seed {}", run.scenario.name, run.outcome.seed));
    verdict(&mut out, run);
    out += "<div class=\"figures\">\n";
    figures
        .iter()
        .for_each(|figure| put_figure(&mut out, figure));
    out += "</div>\n";
    metrics(&mut out, run);
    rounds(&mut out, run);
    participants(&mut out, run);
    matrix(&mut out, run);
    events(&mut out, run);
    let _ = write!(
        out,
        "<h2>Get this again</h2>\n<pre>{}</pre>\n<p>The same scenario, seed and version give the same \
         digest, <code>{}</code>. The scenario in full, defaults included:</p>\n<pre>{}</pre>\n",
        escaped(command),
        run.outcome.digest,
        escaped(scenario)
    );
    out += "</body>\n</html>\n";
    out
}

/// Everything before a page's content.
pub fn head(title: &str) -> String {
    let title = escaped(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<h1>{title}</h1>\n"
    )
}

fn verdict(out: &mut String, run: &Run<'_>) {
    let broken = run.all_broken();
    let class = if broken.is_empty() { "" } else { " broken" };
    let _ = writeln!(out, "<p>{}.</p>", escaped(&run.scenario.describe()));
    let _ = write!(out, "<div class=\"verdict{class}\">");
    let (certified, asked) = (run.outcome.rounds_certified, run.scenario.rounds);
    let _ = write!(
        out,
        "<strong>{certified} of {asked} rounds were certified on every honest peer; "
    );
    match broken.len() {
        0 => *out += "every promise was kept.</strong>",
        n => {
            let _ = write!(out, "{n} promises were broken.</strong><ul>");
            for line in &broken {
                let _ = write!(out, "<li>{}</li>", escaped(line));
            }
            *out += "</ul>";
        }
    }
    let _ = write!(
        out,
        "<br>{} events in {:.1} virtual seconds, {:.2} s of real time.",
        run.outcome.events,
        run.outcome.virtual_us as f64 / 1e6,
        run.wall_s
    );
    if let Some(missed) = run.missed() {
        let _ = write!(out, "<br>{}.", escaped(&missed));
    }
    *out += "</div>\n";
}

/// One figure with its caption.
pub fn put_figure(out: &mut String, figure: &Figure) {
    let broad = if figure.wide.is_some() {
        " class=\"broad\""
    } else {
        ""
    };
    let _ = writeln!(out, "<figure id=\"{}\"{broad}>", figure.name);
    if let Some(wide) = &figure.wide {
        let _ = write!(
            out,
            "<div class=\"wide\">{wide}</div><div class=\"narrow\">"
        );
    }
    *out += &figure.svg;
    if figure.wide.is_some() {
        *out += "</div>";
    }
    let _ = writeln!(
        out,
        "<figcaption>{}</figcaption></figure>",
        escaped(&figure.caption)
    );
}

/// A table; columns whose heading begins with `#` hold numbers.
pub fn table(out: &mut String, headings: &[&str], rows: &[Vec<String>]) {
    let class = |heading: &str| {
        if heading.starts_with('#') {
            " class=\"n\""
        } else {
            ""
        }
    };
    *out += "<div class=\"scroll\"><table>\n<thead><tr>";
    for heading in headings {
        let name = escaped(heading.trim_start_matches('#'));
        let _ = write!(out, "<th{}>{name}</th>", class(heading));
    }
    *out += "</tr></thead>\n<tbody>\n";
    for row in rows {
        *out += "<tr>";
        for (cell, heading) in row.iter().zip(headings) {
            let _ = write!(out, "<td{}>{}</td>", class(heading), escaped(cell));
        }
        *out += "</tr>\n";
    }
    *out += "</tbody></table></div>\n";
}

/// `3 of 4`; nothing of nothing is left out.
fn of(part: usize, whole: usize) -> String {
    match whole {
        0 => String::new(),
        _ => format!("{part} of {whole}"),
    }
}

fn metrics(out: &mut String, run: &Run<'_>) {
    *out +=
        "<h2>Metrics</h2>\n<p>By these names <code>compare</code> and sweeps speak of them.</p>\n";
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
    table(out, &["metric", "#value", "unit", "meaning"], &rows);
}

fn rounds(out: &mut String, run: &Run<'_>) {
    *out += "<h2>Rounds</h2>\n";
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
    table(out, &headings, &rows);
}

fn participants(out: &mut String, run: &Run<'_>) {
    *out += "<h2>Participants</h2>\n";
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
    table(out, &headings, &rows);
}

/// A row per participant, a column per training round: the score, or why there is none.
fn matrix(out: &mut String, run: &Run<'_>) {
    *out += "<h2>Every participant in every round</h2>\n<p>The final score where the contribution was \
             included and judged; otherwise what became of it.</p>\n<div class=\"scroll\"><table>\n<thead><tr>\
             <th>participant</th>";
    let rows = &run.tables.contributions;
    let mut rounds: Vec<u32> = rows.iter().map(|row| row.round).collect();
    rounds.sort_unstable();
    rounds.dedup();
    for round in &rounds {
        let _ = write!(out, "<th class=\"n\">round {round}</th>");
    }
    *out += "</tr></thead>\n<tbody>\n";
    for participant in &run.tables.participants {
        let _ = write!(out, "<tr><td>{}</td>", escaped(&participant.name));
        let own = rows
            .iter()
            .filter(|r| r.participant == participant.participant);
        for row in own {
            let (class, cell) = match (row.outcome, row.score) {
                (_, Some(score)) => ("n", number(score)),
                ("included", None) => ("n", "included, not judged".into()),
                ("evaluator" | "not a member" | "not drawn", _) => ("n", "–".into()),
                (cause, _) => ("n missing", cause.to_owned()),
            };
            let _ = write!(out, "<td class=\"{class}\">{}</td>", escaped(&cell));
        }
        *out += "</tr>\n";
    }
    *out += "</tbody></table></div>\n";
}

/// What happened to the federation, in order of time.
fn events(out: &mut String, run: &Run<'_>) {
    *out += "<h2>What happened</h2>\n";
    let history = run.history;
    let told: Vec<_> = (history.moments.iter())
        .filter(|m| !matches!(m.what, What::Notice(_) | What::Invited))
        .collect();
    if told.len() > MAX_EVENTS_SHOWN {
        let _ = writeln!(
            out,
            "<p>The first {MAX_EVENTS_SHOWN} of {}; all of them, and what each node said, are in \
             <code>events.jsonl</code>.</p>",
            told.len()
        );
    }
    let rows: Vec<Vec<String>> = (told.iter().take(MAX_EVENTS_SHOWN))
        .map(|moment| {
            let who = moment.peer.map_or("all", |p| &history.participants[p].name);
            let at = format!("{:.3}", moment.at as f64 / 1e6);
            vec![at, who.into(), moment.what.to_string()]
        })
        .collect();
    table(out, &["#time (s)", "who", "what"], &rows);
}
