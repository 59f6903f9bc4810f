//! `bench`: the experiments behind the pages of figures.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;
use tributary_trainer::BaseModel;

use super::{Answer, Format};
use crate::bench::results::{Part, Results};
use crate::bench::{attacks, attribution, cost, gaming, learning, page, texts, votes};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    experiment: Experiment,
}

#[derive(Subcommand)]
enum Experiment {
    /// Schedules and codecs with real LoRA, against one machine with all the text and against FedIT.
    Learning(Options),
    /// Attackers against aggregation rules: loss, credit and success.
    Attacks(Options),
    /// Attribution methods against retrained coalitions.
    Attribution(AttributionOptions),
    /// Ways to game the credits against ways of paying: gain, and what honest members lose.
    Gaming(Options),
    /// What scores of a round and shares of an answer cost, by the number of contributors.
    Cost(Shown),
    /// Seats by weight, what grinding and silence gain, and what absence does to decisions.
    Votes(Shown),
    /// How payouts of equal members differ from run to run, beside their values by retraining: some minutes.
    Luck(LuckOptions),
    /// What it gains to claim, split, copy and invent text where weights follow own text.
    Texts(Shown),
}

#[derive(clap::Args)]
struct AttributionOptions {
    /// The retrained coalitions, as one file.
    #[arg(long, default_value = "simulations/fixtures/bank.bin")]
    bank: PathBuf,
    /// Retrain every coalition that is missing here, keeping each as a line of JSON, and make the bank of
    /// them once all are there.
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
struct LuckOptions {
    /// The retrained coalitions of other federations, by which rules are judged that would pay differently.
    #[arg(long, default_value = "simulations/fixtures/bank.bin")]
    bank: PathBuf,
    #[command(flatten)]
    shown: Shown,
}

#[derive(clap::Args)]
struct Options {
    /// Keeps each finished cell, as a line of JSON; cells that are there are not computed again.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// What every experiment takes.
#[derive(clap::Args)]
struct Common {
    /// Begin no further cell after so many minutes. With 0 only what is there is shown.
    #[arg(long)]
    minutes: Option<f64>,
    /// Compute only every n-th cell, for several processes with one results file: 1/2, 2/2.
    #[arg(long, default_value = "1/1")]
    part: Part,
    /// Compute only cells whose name contains this; where methods are compared, only such methods.
    #[arg(long, default_value = "")]
    only: String,
    #[command(flatten)]
    shown: Shown,
}

impl Common {
    fn limit(&self) -> Option<Duration> {
        (self.minutes).map(|minutes| Duration::from_secs_f64(60.0 * minutes.max(0.0)))
    }
}

/// Where the outcome goes.
#[derive(clap::Args)]
struct Shown {
    /// Put the tables into this Markdown file, between its marks.
    #[arg(long)]
    write: Option<PathBuf>,
    /// How to print the figures.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Shown {
    /// Prints the figures or the table, and writes the page.
    fn show(&self, mark: &str, figures: &impl Serialize, markdown: &str) -> Result<(), String> {
        match self.format {
            Format::Text => say!("{markdown}"),
            Format::Json => say!(
                "{}",
                serde_json::to_string(figures).expect("plain figures are JSON")
            ),
        }
        match &self.write {
            Some(path) => page::write(path, mark, markdown),
            None => Ok(()),
        }
    }
}

pub(super) fn execute(arguments: &Arguments) -> Answer {
    match &arguments.experiment {
        Experiment::Learning(options) => run_learning(options),
        Experiment::Attacks(options) => run_attacks(options),
        Experiment::Attribution(options) => run_attribution(options),
        Experiment::Gaming(options) => run_gaming(options),
        Experiment::Cost(options) => run_cost(options),
        Experiment::Votes(options) => run_votes(options),
        Experiment::Luck(options) => run_luck(options),
        Experiment::Texts(options) => run_texts(options),
    }
}

fn say(line: &str) {
    eprintln!("{line}");
    let _ = std::io::stderr().flush();
}

fn run_learning(options: &Options) -> Answer {
    let mut results = Results::open(&options.out)?;
    let left = learning::run(
        &mut results,
        options.common.part,
        &options.common.only,
        options.common.limit(),
        |cell, learned| say(&format!("{cell}: {learned}")),
    )?;
    say(&format!("{left} cells of this part are left"));
    let shape = BaseModel::brook()?.adapter_shape(learning::RANK, 2 * learning::RANK);
    let command = "tributary-sim bench learning --out FILE --write docs/numbers/learning.md";
    let markdown = learning::markdown(&results, command, &shape);
    options
        .common
        .shown
        .show("learning", &learning::figures(&results), &markdown)?;
    Ok(true)
}

fn run_attacks(options: &Options) -> Answer {
    let mut results = Results::open(&options.out)?;
    let left = attacks::run(
        &mut results,
        options.common.part,
        &options.common.only,
        options.common.limit(),
        |cell, withstood| say(&format!("{cell}: {withstood}")),
    )?;
    say(&format!("{left} cells of this part are left"));
    let command = "tributary-sim bench attacks --out FILE --write docs/numbers/attacks.md";
    let markdown = attacks::markdown(&results, command);
    options
        .common
        .shown
        .show("attacks", &attacks::figures(&results), &markdown)?;
    Ok(true)
}

fn run_cost(shown: &Shown) -> Answer {
    let costs = cost::measure(say)?;
    let command = "tributary-sim bench cost --write docs/numbers/attribution-cost.md";
    let markdown = cost::markdown(&costs, command);
    shown.show("attribution-cost", &costs, &markdown)?;
    Ok(true)
}

fn run_votes(shown: &Shown) -> Answer {
    let votes = votes::measure(say);
    let command = "tributary-sim bench votes --write docs/numbers/votes.md";
    shown.show("votes", &votes, &votes::markdown(&votes, command))?;
    Ok(true)
}

fn run_luck(options: &LuckOptions) -> Answer {
    let bank = attribution::Bank::read(&options.bank)?;
    let found = attribution::luck::measure(&bank, say)?;
    let command = "tributary-sim bench luck --write docs/numbers/luck.md";
    let markdown = attribution::luck::markdown(&found, command);
    options.shown.show("luck", &found, &markdown)?;
    Ok(true)
}

fn run_texts(shown: &Shown) -> Answer {
    let found = texts::measure(say)?;
    let command = "tributary-sim bench texts --write docs/numbers/texts.md";
    shown.show("texts", &found, &texts::markdown(&found, command))?;
    Ok(true)
}

fn run_attribution(options: &AttributionOptions) -> Answer {
    if let Some(path) = &options.out {
        let mut results = Results::open(path)?;
        let left = attribution::retrain(
            &mut results,
            options.common.part,
            &options.common.only,
            options.common.limit(),
            |cell, losses| say(&format!("{cell}: {:.4}", losses.hold_out)),
        )?;
        say(&format!("{left} retrainings of this part are left"));
        if left > 0 || options.common.part != Part::ALL || !options.common.only.is_empty() {
            return Ok(true);
        }
        attribution::pack(&results)?.write(&options.bank)?;
    }
    let only = match options.out {
        Some(_) => "",
        None => options.common.only.as_str(),
    };
    if !only.is_empty() && options.common.shown.write.is_some() {
        return Err("a page needs all methods: leave out --only, or --write".into());
    }
    let bank = attribution::Bank::read(&options.bank)?;
    let compared = attribution::compare(&bank, only, say)?;
    let command = "tributary-sim bench attribution --write docs/numbers/attribution.md";
    let markdown = attribution::markdown(&compared, command);
    (options.common.shown).show("attribution", &compared.figures(), &markdown)?;
    Ok(true)
}

fn run_gaming(options: &Options) -> Answer {
    let mut results = Results::open(&options.out)?;
    let left = gaming::run(
        &mut results,
        options.common.part,
        &options.common.only,
        options.common.limit(),
        |cell, played| say(&format!("{cell}: {played}")),
    )?;
    say(&format!("{left} cells of this part are left"));
    let command = "tributary-sim bench gaming --out FILE --write docs/numbers/gaming.md";
    let markdown = gaming::markdown(&results, command);
    (options.common.shown).show("gaming", &gaming::figures(&results), &markdown)?;
    Ok(true)
}
