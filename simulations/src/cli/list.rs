//! `list`: what the binary carries.

use super::{Answer, Format};
use crate::report::metrics::METRICS;
use crate::scenario;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// List the metrics that `compare --max` and sweeps know, instead of the scenarios.
    #[arg(long)]
    metrics: bool,
    /// How to print the list.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn execute(arguments: &Arguments) -> Answer {
    match (arguments.metrics, arguments.format) {
        (true, Format::Json) => say!("{}", serde_json::to_string(&METRICS)?),
        (true, Format::Text) => {
            for metric in &METRICS {
                say!("{:<22} {:<5} {}", metric.name, metric.unit, metric.meaning);
            }
        }
        (false, Format::Json) => {
            say!("{}", serde_json::to_string(&scenario::builtin_names())?);
        }
        (false, Format::Text) => {
            for name in scenario::builtin_names() {
                say!("{}\n", scenario::load(name)?.describe());
            }
            say!(
                "`tributary-sim run NAME` runs one; `new FILE --template NAME` writes one to change."
            );
        }
    }
    Ok(true)
}
