//! What every study is made of: its arguments, its results folder, its tables and its page.
//!
//! A [`Study`] answers one question and ends in an [`Outcome`]: figures for machines and Markdown for people.
//! Most studies consist of many independent computations ([`Cells`]); their results are kept one by one, so
//! that an interrupted study goes on where it stopped ([`results`]). [`Work`] is what a study gets to see of
//! the command line.

mod ground;
pub mod results;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tributary_protocol::aggregate::Rule;
use tributary_protocol::hash::{self, Domain};
use tributary_simulations::cli::{Format, answer};
use tributary_simulations::watch::{Progress, Watch, note};
use tributary_simulations::{Catalogue, markdown};

pub use ground::{Ground, GroundError};
pub use results::{Part, Results, ResultsError};

/// The file of finished cells in the results folder.
const RESULTS: &str = "results.jsonl";

/// An aggregation rule, and its name as the catalogue spells it.
pub type NamedRule = (String, Arc<dyn Rule>);

/// One experiment whose tables stand in `docs/numbers/`.
pub trait Study: Send + Sync {
    /// The command that runs it.
    fn name(&self) -> &'static str;

    /// The question, in one sentence.
    fn about(&self) -> &'static str;

    /// The page in `docs/numbers/`, which is also the name of the marks in it.
    fn page(&self) -> &'static str {
        self.name()
    }

    /// Options beyond those that every study has.
    fn takes(&self) -> &'static [Takes] {
        &[]
    }

    /// Computes what is missing and sums it up; `None` when this call only computed a part.
    ///
    /// # Errors
    /// The study's own; they end the command.
    fn run(&self, work: &Work<'_>) -> Result<Option<Outcome>, Box<dyn Error>>;
}

/// Options that a study may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// `--minutes`, `--part` and `--only`; the results folder `--out` is required.
    Cells,
    /// The same; without a results folder no cell is computed.
    CellsOnRequest,
    /// `--bank`: the retrained coalitions.
    Bank,
    /// `--rules`: the aggregation rules that are compared.
    Rules,
    /// `--model`, `--data` and `--members`: another ground than the study's own.
    Ground,
}

/// What a study found.
#[derive(Clone, Debug)]
pub struct Outcome {
    figures: serde_json::Value,
    markdown: String,
}

impl Outcome {
    /// Figures for machines, and the same as tables in Markdown.
    pub fn new(figures: &impl Serialize, markdown: String) -> Self {
        Self {
            figures: serde_json::to_value(figures).expect("plain figures are JSON"),
            markdown,
        }
    }
}

/// A study that consists of independent computations.
pub trait Cells {
    /// Everything that one computation depends on.
    type Cell;
    /// What one computation gives, with a line for people.
    type Result: Serialize + DeserializeOwned + std::fmt::Display;
    /// What all cells share and is costly to prepare: base model, text.
    type Setup;
    /// Why nothing can be computed.
    type Error: From<ResultsError>;

    /// All cells, as far as they are known from the results so far.
    fn cells(&self, results: &Results<Self::Result>) -> Vec<Self::Cell>;

    /// Names everything that a cell depends on.
    fn cell_name(&self, cell: &Self::Cell) -> String;

    /// Prepares what all cells share; only called when there is a cell to compute.
    ///
    /// # Errors
    /// The study's own.
    fn setup(&self) -> Result<Self::Setup, Self::Error>;

    /// Computes one cell.
    fn compute(&self, setup: &mut Self::Setup, cell: &Self::Cell) -> Self::Result;
}

/// What every study takes.
#[derive(Clone, Debug, clap::Args)]
struct Shown {
    /// Put the tables into this Markdown file, between its marks.
    #[arg(long)]
    write: Option<PathBuf>,
    /// Keep figures (figures.json), tables (tables.md) and finished cells (results.jsonl) in this folder.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// How to print the figures.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What studies made of cells take.
#[derive(Clone, Debug, clap::Args)]
struct CellOptions {
    /// Begin no further cell after so many minutes. With 0 only what is there is shown.
    #[arg(long)]
    minutes: Option<f64>,
    /// Compute only every n-th cell, for several processes with one results folder: 1/2, 2/2.
    #[arg(long, default_value = "1/1")]
    part: Part,
    /// Compute only cells whose name contains this; where methods are compared, only such methods.
    #[arg(long, default_value = "")]
    only: String,
}

/// Which bank is read.
#[derive(Clone, Debug, clap::Args)]
struct BankOption {
    /// The retrained coalitions, as one file. By default those inside the program; a study that makes them anew writes
    /// this file.
    #[arg(long)]
    bank: Option<PathBuf>,
}

/// Which rules are compared.
#[derive(Clone, Debug, clap::Args)]
struct RuleOption {
    /// The aggregation rules to compare, apart by commas; `list` names them. All those of the protocol by default.
    #[arg(long, value_delimiter = ',')]
    rules: Vec<String>,
}

/// What the command line asks of a study.
pub struct Work<'a> {
    catalogue: &'a Catalogue,
    study: &'a dyn Study,
    shown: Shown,
    cells: CellOptions,
    bank: Option<PathBuf>,
    rules: Vec<String>,
    ground: Ground,
    progress: Progress,
}

impl<'a> Work<'a> {
    /// The command of a study, without the program's name.
    pub(crate) fn command_of(study: &dyn Study) -> Command {
        let command = Command::new(study.name()).about(study.about());
        let mut command = Shown::augment_args(command);
        for takes in study.takes() {
            command = match takes {
                Takes::Cells => {
                    CellOptions::augment_args(command).mut_arg("out", |out| out.required(true))
                }
                Takes::CellsOnRequest => CellOptions::augment_args(command),
                Takes::Bank => BankOption::augment_args(command),
                Takes::Rules => RuleOption::augment_args(command),
                Takes::Ground => Ground::augment_args(command),
            };
        }
        command
    }

    /// Reads the options of a study.
    pub(crate) fn of(catalogue: &'a Catalogue, study: &'a dyn Study, matches: &ArgMatches) -> Self {
        let takes = |wanted: &[Takes]| study.takes().iter().any(|takes| wanted.contains(takes));
        let cells = takes(&[Takes::Cells, Takes::CellsOnRequest])
            .then(|| CellOptions::from_arg_matches(matches).expect("declared options"));
        let bank = takes(&[Takes::Bank])
            .then(|| BankOption::from_arg_matches(matches).expect("declared options"));
        let rules = takes(&[Takes::Rules])
            .then(|| RuleOption::from_arg_matches(matches).expect("declared options"));
        let ground = takes(&[Takes::Ground])
            .then(|| Ground::from_arg_matches(matches).expect("declared options"));
        Self {
            catalogue,
            study,
            shown: Shown::from_arg_matches(matches).expect("declared options"),
            cells: cells.unwrap_or(CellOptions {
                minutes: None,
                part: Part::ALL,
                only: String::new(),
            }),
            bank: bank.and_then(|option| option.bank),
            rules: rules.map_or_else(Vec::new, |option| option.rules),
            ground: ground.unwrap_or_default(),
            progress: Progress::new(study.name(), "cells"),
        }
    }

    /// Refuses a page that cannot be written before anything is computed for it.
    pub(crate) fn check_page(&self) -> Result<(), String> {
        self.shown
            .write
            .iter()
            .try_for_each(|path| markdown::check(path))
    }

    /// Tells the person who waits how far the study is, until the watch is dropped.
    pub(crate) fn watch(&self) -> Watch {
        Watch::over(&self.progress)
    }

    /// The command that a page names: how to get it again.
    pub fn command(&self) -> String {
        let (name, page) = (self.study.name(), self.study.page());
        let out = match self.study.takes().contains(&Takes::Cells) {
            true => " --out FOLDER",
            false => "",
        };
        let ground = self.ground.options();
        match ground.is_empty() {
            true => format!("tributary-lab {name}{out} --write docs/numbers/{page}.md"),
            false => format!("tributary-lab {name}{out}{ground}"),
        }
    }

    /// Tells the person who waits how far the study is.
    pub fn say(&self, line: &str) {
        note(line);
    }

    /// The results folder, when one was given.
    pub fn folder(&self) -> Option<&Path> {
        self.shown.out.as_deref()
    }

    /// The file of retrained coalitions; `None` for the one inside the program.
    pub fn bank(&self) -> Option<&Path> {
        self.bank.as_deref()
    }

    /// What the study runs on, where it is not its own.
    pub fn ground(&self) -> &Ground {
        &self.ground
    }

    /// What the names of wanted cells or methods contain.
    pub fn only(&self) -> &str {
        &self.cells.only
    }

    /// Whether all cells are asked for, not only a part or a selection of them.
    pub fn is_whole(&self) -> bool {
        self.cells.part == Part::ALL && self.cells.only.is_empty()
    }

    /// Whether a page is to be written.
    pub fn writes(&self) -> bool {
        self.shown.write.is_some()
    }

    /// The aggregation rules that are compared, with their names: those of `--rules`, else those named here.
    ///
    /// # Errors
    /// When no rule has such a name.
    pub fn rules(&self, usual: &[&str]) -> Result<Vec<NamedRule>, Box<dyn Error>> {
        match self.rules.is_empty() {
            true => usual.iter().map(|name| self.rule(name)).collect(),
            false => self.rules.iter().map(|name| self.rule(name)).collect(),
        }
    }

    /// One rule, with its name as the catalogue spells it.
    ///
    /// # Errors
    /// When no rule has such a name.
    pub fn rule(&self, name: &str) -> Result<NamedRule, Box<dyn Error>> {
        let entry = self.catalogue.rules.get(name)?;
        Ok((entry.name.clone(), entry.thing.clone()))
    }

    /// The name of a file in the results folder: another ground has another one, so that both never mix.
    pub fn file_name(&self, name: &str) -> String {
        match (self.ground.mark(), name.rsplit_once('.')) {
            (mark, Some((stem, end))) if !mark.is_empty() => {
                let mark = hash::digest(Domain::Simulation, mark.as_bytes()).short();
                format!("{stem}-{mark}.{end}")
            }
            _ => name.to_owned(),
        }
    }

    /// Computes the cells that are missing in the results folder, and returns all results and how many cells of
    /// this part are left.
    ///
    /// # Errors
    /// The study's own, and those of the results file.
    pub fn fill<S: Cells>(&self, study: &S) -> Result<(Results<S::Result>, usize), S::Error> {
        let folder = self
            .folder()
            .expect("studies made of cells ask for a folder");
        std::fs::create_dir_all(folder).map_err(|source| results::file_error(folder, source))?;
        let mut results = Results::open(&folder.join(self.file_name(RESULTS)))?;
        // More minutes than a duration holds are as many as it takes.
        let limit = (self.cells.minutes)
            .and_then(|minutes| Duration::try_from_secs_f64(60.0 * minutes.max(0.0)).ok());
        let left = fill(
            study,
            &mut results,
            &self.cells.only,
            self.cells.part,
            limit,
            &self.progress,
        )?;
        self.say(&format!("{left} cells of this part are left"));
        Ok((results, left))
    }

    /// Prints the outcome, keeps it in the results folder and writes the page.
    pub(crate) fn show(&self, outcome: &Outcome) -> Result<(), Box<dyn Error>> {
        match self.shown.format {
            Format::Text => answer(format_args!("{}", outcome.markdown)),
            Format::Json => answer(format_args!("{}", outcome.figures)),
        }
        if let Some(folder) = self.folder() {
            std::fs::create_dir_all(folder)?;
            let figures = serde_json::to_string_pretty(&outcome.figures)?;
            std::fs::write(folder.join("figures.json"), figures)?;
            std::fs::write(folder.join("tables.md"), &outcome.markdown)?;
        }
        if let Some(path) = &self.shown.write {
            markdown::write(path, self.study.page(), &outcome.markdown)?;
        }
        Ok(())
    }
}

/// Computes missing cells until none is left or `limit` has passed. Cells may become known by the results of
/// others, so they are asked for again until there are no more of them.
pub(crate) fn fill<S: Cells>(
    study: &S,
    results: &mut Results<S::Result>,
    only: &str,
    part: Part,
    limit: Option<Duration>,
    progress: &Progress,
) -> Result<usize, S::Error> {
    let started = std::time::Instant::now();
    let mut setup = None;
    let mut known = None;
    let mut done = 0;
    loop {
        let mut cells = study.cells(results);
        cells.retain(|cell| study.cell_name(cell).contains(only));
        let remaining = limit.map(|limit| limit.saturating_sub(started.elapsed()));
        let of = done + results.missing(&cells, |cell| study.cell_name(cell), part) as u64;
        let left = results.fill(
            &cells,
            |cell| study.cell_name(cell),
            part,
            remaining,
            |cell| {
                let name = study.cell_name(cell);
                progress.turn_to(&name, "cells");
                progress.at(done, of);
                let setup = match &mut setup {
                    Some(setup) => setup,
                    none => none.insert(study.setup()?),
                };
                let result = study.compute(setup, cell);
                done += 1;
                note(format_args!("{name}: {result}"));
                Ok::<_, S::Error>(result)
            },
        )?;
        if known == Some(cells.len()) {
            return Ok(left);
        }
        known = Some(cells.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second cell is known once the first is computed.
    struct Two;

    impl Cells for Two {
        type Cell = u32;
        type Result = f64;
        type Setup = u32;
        type Error = ResultsError;

        fn cells(&self, results: &Results<f64>) -> Vec<u32> {
            match results.get("cell 1") {
                None => vec![1],
                Some(_) => vec![1, 2],
            }
        }

        fn cell_name(&self, cell: &u32) -> String {
            format!("cell {cell}")
        }

        fn setup(&self) -> Result<u32, ResultsError> {
            Ok(10)
        }

        fn compute(&self, setup: &mut u32, cell: &u32) -> f64 {
            *setup += 1;
            f64::from(*setup * 100 + cell)
        }
    }

    #[test]
    fn cells_that_others_reveal_are_computed_on_the_same_ground() {
        let folder = tempfile::tempdir().unwrap();
        let mut results = Results::open(&folder.path().join("results.jsonl")).unwrap();
        let progress = Progress::new("two", "cells");
        let none = fill(
            &Two,
            &mut results,
            "",
            Part::ALL,
            Some(Duration::ZERO),
            &progress,
        )
        .unwrap();
        assert_eq!(none, 1);
        let left = fill(&Two, &mut results, "", Part::ALL, None, &progress);
        assert_eq!(left.unwrap(), 0);
        assert_eq!(results.get("cell 1"), Some(&1101.0));
        assert_eq!(results.get("cell 2"), Some(&1202.0));
    }
}
