//! The output folder of a sweep: one row per combination, one figure per metric worth a look.

use std::path::Path;

use askama::Template;

use super::{Cell, json, table};
use crate::plot::{Axis, byte_unit, bytes, number, ranges};
use crate::report::figures::Figure;
use crate::report::folder::{Folder, FolderError};
use crate::report::metrics::{Metric, named};
use crate::report::page::Table;
use crate::scenario::Scenario;

/// The file that makes a folder the result of a sweep.
pub const RESULT: &str = "sweep.json";
/// The page.
pub const PAGE: &str = "sweep.html";

/// What is drawn, and whether less is better.
const DRAWN: [(&str, bool); 5] = [
    ("final_loss", true),
    ("round_s_median", true),
    ("included_share", false),
    ("bytes_per_peer_round", true),
    ("liars_earned_share", true),
];

/// Writes everything about a sweep. `command` is how to get it again.
///
/// # Errors
/// See [`FolderError`].
pub fn write(
    scenario: &Scenario,
    cells: &[Cell],
    command: &str,
    path: &Path,
) -> Result<(), FolderError> {
    let folder = Folder::open(path, RESULT)?;
    let words = |name: &str, why: String| FolderError::Words {
        path: path.join(name),
        why,
    };
    let toml = toml::to_string(scenario).map_err(|why| words("scenario.toml", why.to_string()))?;
    folder.put("scenario.toml", toml.as_bytes())?;
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in table(cells) {
        let written = writer.write_record(&row);
        written.map_err(|why| words("sweep.csv", why.to_string()))?;
    }
    let bytes = writer.into_inner();
    folder.put(
        "sweep.csv",
        &bytes.map_err(|why| words("sweep.csv", why.to_string()))?,
    )?;
    let figures = figures(cells);
    for figure in &figures {
        folder.put(&format!("{}.svg", figure.name), figure.svg.as_bytes())?;
    }
    let html = html(scenario, cells, &figures, command, &toml);
    folder.put(PAGE, html.as_bytes())?;
    let result = serde_json::to_string_pretty(&json(scenario, cells));
    let result = result.map_err(|why| words(RESULT, why.to_string()))?;
    folder.put(RESULT, result.as_bytes())
}

/// A figure per metric that the seeds or the cells differ in.
fn figures(cells: &[Cell]) -> Vec<Figure> {
    let drawn = DRAWN.iter().filter_map(|(name, less_is_better)| {
        let metric = named(name)?;
        figure(cells, metric, *less_is_better)
    });
    drawn.collect()
}

fn figure(cells: &[Cell], metric: &Metric, less_is_better: bool) -> Option<Figure> {
    let mut rows: Vec<ranges::Row> = (cells.iter())
        .filter_map(|cell| {
            let summary = cell.summary(metric.name)?;
            Some(ranges::Row {
                name: cell.label(),
                value: summary.median,
                range: (summary.low, summary.high),
                stands_out: false,
            })
        })
        .collect();
    let (first, _) = rows.split_first()?;
    let differs = |row: &ranges::Row| row.value != first.value || row.range.0 != row.range.1;
    if !rows.iter().any(differs) {
        return None;
    }
    let order = |a: &&ranges::Row, b: &&ranges::Row| a.value.total_cmp(&b.value);
    let (low, high) = (rows.iter().min_by(order)?, rows.iter().max_by(order)?);
    let (best, worst) = match less_is_better {
        true => (low, high),
        false => (high, low),
    };
    let write = |value: f64| match metric.unit {
        "B" => bytes(value),
        "s" => format!("{} s", number(value)),
        _ => number(value),
    };
    // Overlapping ranges are not a finding.
    let apart = best.range.1 < worst.range.0 || worst.range.1 < best.range.0;
    let title = match apart {
        true => format!(
            "{}: best {} with {}, worst {} with {}",
            metric.name,
            write(best.value),
            best.name,
            write(worst.value),
            worst.name
        ),
        false => format!(
            "{}: the seeds of the best and the worst overlap ({} and {})",
            metric.name,
            write(best.value),
            write(worst.value)
        ),
    };
    let unit = rescale(&mut rows, metric.unit);
    let label = format!("{} ({unit})", metric.name);
    let axis = Axis {
        label: &label,
        format: number,
    };
    Some(Figure {
        name: metric.name,
        svg: ranges::draw(&title, &rows, &[], &axis),
        caption: format!(
            "{}: median over the seeds of each combination, with the least and the greatest.",
            metric.meaning
        ),
        wide: None,
    })
}

/// Brings rows to the unit that fits them, and names it.
fn rescale(rows: &mut [ranges::Row], unit: &'static str) -> &'static str {
    let most = rows.iter().map(|row| row.range.1).fold(0.0, f64::max);
    let (unit, size) = match unit {
        "" => ("no unit", 1.0),
        "B" => byte_unit(most),
        other => (other, 1.0),
    };
    for row in rows {
        row.value /= size;
        row.range = (row.range.0 / size, row.range.1 / size);
    }
    unit
}

#[derive(Template)]
#[template(path = "sweep.html")]
struct Page<'a> {
    title: String,
    describe: String,
    /// Every broken promise, with the combination that it was broken in.
    broken: Vec<String>,
    figures: &'a [Figure],
    summaries: Table,
    command: &'a str,
    scenario: &'a str,
}

fn html(
    scenario: &Scenario,
    cells: &[Cell],
    figures: &[Figure],
    command: &str,
    toml: &str,
) -> String {
    let seeds = cells.first().map_or(0, |cell| cell.seeds.len());
    let broken = cells.iter().flat_map(|cell| {
        let lines = cell.seeds.iter().flat_map(|seed| &seed.broken);
        lines.map(|line| format!("{}: {line}", cell.label()))
    });
    let page = Page {
        title: format!(
            "{}: {} combinations of {seeds} seeds",
            scenario.name,
            cells.len()
        ),
        describe: scenario.describe(),
        broken: broken.collect(),
        figures,
        summaries: summaries(cells),
        command,
        scenario: toml,
    };
    page.render().expect("writing to memory does not fail")
}

/// A row per combination, a column per metric that is drawn.
fn summaries(cells: &[Cell]) -> Table {
    let lies = cells.iter().any(|cell| cell.scenario.liars() > 0);
    let columns: Vec<&Metric> = (DRAWN.iter())
        .filter(|(name, _)| lies || *name != "liars_earned_share")
        .filter_map(|(name, _)| named(name))
        .collect();
    let names = columns.iter().map(|metric| match metric.unit {
        "" => format!("#{}", metric.name),
        unit => format!("#{} ({unit})", metric.name),
    });
    let headings: Vec<String> = std::iter::once("combination".into()).chain(names).collect();
    let rows: Vec<Vec<String>> = (cells.iter())
        .map(|cell| {
            let mut row = vec![cell.label()];
            row.extend(columns.iter().map(|metric| {
                cell.summary(metric.name).map_or(String::new(), |s| {
                    format!(
                        "{} [{}, {}]",
                        number(s.median),
                        number(s.low),
                        number(s.high)
                    )
                })
            }));
            row
        })
        .collect();
    Table::new(headings, rows)
}
