//! `bench`: questions whose answers are figures.

use clap::Subcommand;

use super::{Answer, Format};
use crate::bench::economy::{self, Bound, Case, Plan};
use crate::watch::{Progress, Watch, note};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Does honesty pay? Plays each strategy beside the honest run of the same seed.
    #[command(long_about = ECONOMY)]
    Economy(Economy),
}

const ECONOMY: &str = "\
Does honesty pay? Plays each strategy beside the honest run of the same seed, and compares what its members are worth at \
the end (paid, held, promised, less what they put in) with what the same members are worth there. All strategies, 200 \
rounds and 3 seeds take more than an hour of processor time in a development build; --rounds 20 --seeds 1 takes two minutes.

Exit code 1: a strategy brought more than its bound, or a promise to an honest member was broken.";

#[derive(clap::Args)]
struct Economy {
    /// Training rounds of each run.
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// Seeds of each strategy.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// These strategies alone, apart by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME,NAME")]
    only: Vec<String>,
    /// Threads; all cores by default.
    #[arg(long)]
    threads: Option<usize>,
    /// How to print the figures.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn execute(arguments: &Arguments) -> Answer {
    let Bench::Economy(economy) = &arguments.bench;
    economy.execute()
}

impl Economy {
    fn execute(&self) -> Answer {
        super::check_seeds(self.from, self.seeds)?;
        let most = tributary_protocol::limits::MAX_ROUNDS;
        if !(1..=most).contains(&self.rounds) {
            let why = format!("--rounds {} lies not between 1 and {most}", self.rounds);
            return Err(why.into());
        }
        let plan = Plan {
            rounds: self.rounds,
            seeds: self.seeds.max(1),
            from: self.from,
            threads: super::threads(self.threads)?,
            strategies: Plan::chosen(&self.only).map_err(|why| format!("--only: {why}"))?,
        };
        let progress = Progress::new("economy", "runs");
        let watch = Watch::over(&progress);
        let cases = economy::run(&plan, &|done, all| progress.at(done as u64, all as u64));
        drop(watch);
        match self.format {
            Format::Json => say!("{}", economy::json(&plan, &cases)),
            Format::Text => print(&plan, &cases),
        }
        let is_kept = |case: &Case| case.is_bounded() && case.broken().is_empty();
        Ok(cases.iter().all(is_kept))
    }
}

fn print(plan: &Plan, cases: &[Case]) {
    say!(
        "{} rounds, {} seeds; amounts in OPEN, medians; profit beside honesty; others: what it brings other members",
        plan.rounds,
        plan.seeds
    );
    super::print_table(&economy::rows(cases), 1);
    for case in cases {
        match case.strategy.bound {
            Bound::Known(_, why) | Bound::Beyond(why) => {
                say!("{}: {why}", case.strategy.name);
            }
            Bound::Within(_) => {}
        }
    }
    for case in cases.iter().filter(|case| !case.is_bounded()) {
        say!(
            "BEYOND ITS BOUND {}: {}",
            case.strategy.name,
            case.strategy.about
        );
    }
    for case in cases {
        let broken = case.broken();
        (broken.iter()).for_each(|line| say!("BROKEN {}, seed {line}", case.strategy.name));
    }
    note("(--format json has every seed)");
}
