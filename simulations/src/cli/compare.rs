//! `compare`: results side by side; exit code 1 when a threshold is broken.

use serde_json::json;

use super::{Answer, Format};
use crate::compare::{Measured, Threshold, breaches, table};

#[derive(clap::Args)]
pub struct Arguments {
    /// Output folders of `run`, or their result files. The first is the baseline.
    #[arg(required = true, num_args = 2.., value_name = "RESULT")]
    results: Vec<String>,
    /// What a metric may be at most: `final_loss=+1%` and `final_loss=+0.1` relative to the first
    /// result, `final_loss=0.5` absolute. As often as wanted; `list --metrics` names them all.
    #[arg(long, value_name = "METRIC=BOUND")]
    max: Vec<String>,
    /// What a metric must be at least, for example `included_share=-5%`.
    #[arg(long, value_name = "METRIC=BOUND")]
    min: Vec<String>,
    /// How to print the comparison.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn execute(arguments: &Arguments) -> Answer {
    let results: Vec<Measured> = (arguments.results.iter())
        .map(|name| Measured::read(name))
        .collect::<Result<_, _>>()?;
    let upper = arguments
        .max
        .iter()
        .map(|text| Threshold::parse(text, true));
    let lower = arguments
        .min
        .iter()
        .map(|text| Threshold::parse(text, false));
    let thresholds: Vec<Threshold> = upper.chain(lower).collect::<Result<_, _>>()?;
    let broken = breaches(&results, &thresholds);
    match arguments.format {
        Format::Json => say!(
            "{}",
            json!({
                "schema": "sim-compare/1",
                "results": results,
                "thresholds": thresholds.iter().map(|t| &t.text).collect::<Vec<_>>(),
                "breaches": broken,
            })
        ),
        Format::Text => {
            print(&results);
            for breach in &broken {
                say!("BROKEN {} ({})", breach.what, breach.threshold);
            }
            if !thresholds.is_empty() && broken.is_empty() {
                say!("every threshold was kept");
            }
        }
    }
    Ok(broken.is_empty())
}

fn print(results: &[Measured]) {
    let mut headings = vec!["metric".to_owned(), "unit".to_owned()];
    for (nth, result) in results.iter().enumerate() {
        headings.push(result.name.clone());
        if nth > 0 {
            headings.push("change".to_owned());
        }
    }
    let mut rows = vec![headings];
    rows.extend(table(results));
    super::print_table(&rows, 2);
    for pair in results
        .windows(2)
        .filter(|p| p[0].scenario != p[1].scenario)
    {
        say!(
            "{} is of scenario {}, {} of {}: a difference may come from that",
            pair[0].name,
            pair[0].scenario,
            pair[1].name,
            pair[1].scenario
        );
    }
    let first = &results[0];
    for same in results[1..]
        .iter()
        .filter(|r| r.digest == first.digest && r.seed == first.seed)
    {
        say!(
            "{} and {} are the same run, to the last byte",
            first.name,
            same.name
        );
    }
}
