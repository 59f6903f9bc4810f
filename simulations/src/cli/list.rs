//! `list`: what the binary carries.

use std::sync::Arc;

use super::{Answer, Format};
use crate::catalogue::Catalogue;
use crate::named::Named;
use crate::report::metrics::METRICS;
use crate::scenario;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// List the metrics that `compare --max` and sweeps know, instead of the scenarios.
    #[arg(long)]
    metrics: bool,
    /// List the attacks, learners and link models that a scenario can name, instead of the scenarios.
    #[arg(long, conflicts_with = "metrics")]
    names: bool,
    /// How to print the list.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn execute(catalogue: &Arc<Catalogue>, arguments: &Arguments) -> Answer {
    match arguments.format {
        Format::Json if arguments.metrics => say!("{}", serde_json::to_string(&METRICS)?),
        Format::Json if arguments.names => say!(
            "{}",
            serde_json::json!({
                "attacks": names(&catalogue.attacks),
                "learners": names(&catalogue.learners),
                "links": names(&catalogue.links),
            })
        ),
        Format::Json => say!("{}", serde_json::to_string(&scenario::builtin_names())?),
        Format::Text if arguments.metrics => {
            for metric in &METRICS {
                say!("{:<22} {:<5} {}", metric.name, metric.unit, metric.meaning);
            }
        }
        Format::Text if arguments.names => {
            say!("attacks ([[liars]] behaviour = NAME):");
            print(&catalogue.attacks);
            say!("\nlearners ([learner] kind = NAME):");
            print(&catalogue.learners);
            say!("\nlink models ([link] model = NAME):");
            print(&catalogue.links);
        }
        Format::Text => {
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

fn names<T: ?Sized>(named: &Named<T>) -> Vec<&str> {
    named.iter().map(|entry| entry.name.as_str()).collect()
}

/// Prints one line for each thing: its name, and what it is.
pub fn print<T: ?Sized>(named: &Named<T>) {
    for entry in named.iter() {
        say!("  {:<20} {}", entry.name, entry.about);
    }
}
