//! `sweep`: every combination of some keys' values, several seeds each.

use std::path::PathBuf;

use super::{Answer, Format, Program};
use crate::plot::number;
use crate::scenario::grid::Grid;
use crate::scenario::{self, Scenario};
use crate::suggest::nearest;
use crate::sweep::{self, Cell, page};
use crate::watch::{Progress, Watch, note};

#[derive(clap::Args)]
pub struct Arguments {
    /// A scenario file, or the name of a built-in scenario. What its [sweep] table says is varied.
    file: String,
    /// Vary this key: `--set link.loss=0,0.1,0.3`. As often as wanted; every combination is run.
    #[arg(long = "set", value_name = "KEY=VALUE,VALUE")]
    set: Vec<String>,
    /// Seeds of each combination; those of the [sweep] table by default, else 3.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Threads; all cores by default.
    #[arg(long)]
    threads: Option<usize>,
    /// Write the table, figures and a report into this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Columns of the printed table, apart by commas; `list --metrics` names them all.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "final_loss,round_s_median,included_share"
    )]
    show: Vec<String>,
    /// How to print the table.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn execute(program: &Program, arguments: &Arguments) -> Answer {
    let scenario = scenario::load_from(&program.catalogue, &arguments.file)?;
    let known: Vec<&str> = (crate::report::metrics::METRICS.iter())
        .map(|m| m.name)
        .collect();
    if let Some(wrong) = arguments
        .show
        .iter()
        .find(|name| !known.contains(&name.as_str()))
    {
        return Err(format!("--show: {}", nearest("metric", wrong, &known)).into());
    }
    let grid = Grid::of(&scenario, &arguments.set)?;
    if grid.axes.is_empty() {
        let why = "nothing to vary: give --set link.loss=0,0.1, or a [sweep] table in the scenario";
        return Err(why.into());
    }
    let seeds = arguments.seeds.or(grid.seeds).unwrap_or(3).max(1);
    super::check_seeds(arguments.from, seeds)?;
    let threads = super::threads(arguments.threads)?;
    sweep::check_runs(&grid, seeds)?;
    let mut cells = sweep::cells(&arguments.file, &scenario, &grid)?;
    (cells.iter()).try_for_each(|cell| cell.scenario.check_room(threads))?;
    let progress = Progress::new(&format!("sweep of {}", scenario.name), "runs");
    let watch = Watch::over(&progress);
    sweep::run(&mut cells, arguments.from, seeds, threads, &|done, all| {
        progress.at(done as u64, all as u64);
    });
    drop(watch);
    if let Some(path) = &arguments.out {
        page::write(&scenario, &cells, &command(program, arguments, seeds), path)?;
        let page = path.join(page::PAGE);
        note(format_args!("{} has everything", page.display()));
    }
    match arguments.format {
        Format::Json => say!("{}", sweep::json(&scenario, &cells)),
        Format::Text => print(&scenario, &cells, &arguments.show),
    }
    Ok(cells
        .iter()
        .all(|cell| cell.seeds.iter().all(|seed| seed.broken.is_empty())))
}

fn command(program: &Program, arguments: &Arguments, seeds: u64) -> String {
    let set: String = (arguments.set.iter())
        .map(|set| format!(" --set '{set}'"))
        .collect();
    let (file, from, name) = (&arguments.file, arguments.from, program.name);
    format!("{name} sweep {file}{set} --seeds {seeds} --from {from} --out DIR")
}

fn print(scenario: &Scenario, cells: &[Cell], show: &[String]) {
    say!("{}", scenario.describe());
    let mut heading = vec!["combination".to_owned(), "seeds".to_owned()];
    heading.extend(show.iter().cloned());
    let mut rows = vec![heading];
    for cell in cells {
        let mut row = vec![cell.label(), cell.seeds.len().to_string()];
        row.extend(show.iter().map(|metric| {
            cell.summary(metric).map_or("none".into(), |s| {
                format!(
                    "{} [{}, {}]",
                    number(s.median),
                    number(s.low),
                    number(s.high)
                )
            })
        }));
        rows.push(row);
    }
    super::print_table(&rows, 1);
    for cell in cells {
        let broken = cell.seeds.iter().flat_map(|seed| &seed.broken);
        broken.for_each(|line| say!("BROKEN {}: {line}", cell.label()));
    }
}
