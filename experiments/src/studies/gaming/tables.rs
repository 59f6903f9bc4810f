//! The tables of the page.

use std::fmt::Write as _;

use serde::Serialize;

use super::likeness::Pairs;
use super::payments::PAYMENT_RULES;
use super::strategy::Strategy;
use super::{
    BATCH, CONTEXT, Cell, HELD, Paid, Played, QUERIES, RANK, ROUNDS, Results, SEEDS, STEPS,
};
use tributary_simulations::markdown::{over_seeds, table, with_half};

/// One strategy under one payment rule, means over seeds with half widths of 95 % intervals.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    strategy: String,
    tied: bool,
    rule: &'static str,
    /// What the cheater is paid, over what it is paid when honest.
    gain: Option<[f64; 2]>,
    /// What it is paid, per cent of a fair share.
    fair_percent: Option<[f64; 2]>,
    /// What the median honest member is paid, per cent of what it is paid when all are honest.
    honest_percent: Option<[f64; 2]>,
}

/// What to show of a strategy: the row's title and its cells by seed.
struct Row<'a> {
    strategy: Strategy,
    tied: bool,
    cells: Vec<&'a Played>,
    honest: Vec<&'a Played>,
}

impl<'a> Row<'a> {
    fn of(results: &'a Results<Played>, strategy: Strategy, tied: bool) -> Option<Self> {
        let by_seed = |strategy: Strategy| -> Option<Vec<&'a Played>> {
            let cell = |seed| Cell {
                strategy,
                tied,
                seed,
            };
            SEEDS
                .iter()
                .map(|seed| results.get(&cell(*seed).name()))
                .collect()
        };
        Some(Self {
            strategy,
            tied,
            cells: by_seed(strategy)?,
            honest: by_seed(Strategy::Honest)?,
        })
    }

    fn title(&self) -> String {
        let tied = if self.tied {
            ", weights tied to text"
        } else {
            ""
        };
        format!("{}{tied}", self.strategy.name())
    }

    /// A figure of each seed: from what was paid here, and what is paid when all are honest.
    fn each(&self, rule: &str, of: impl Fn(&Paid, &Paid) -> f64) -> Vec<Option<f64>> {
        let pairs = self.cells.iter().zip(&self.honest);
        pairs
            .map(|(cell, honest)| Some(of(cell.paid.get(rule)?, honest.paid.get(rule)?)))
            .collect()
    }
}

fn gain(cell: &Paid, honest: &Paid) -> f64 {
    cell.cheater / honest.cheater
}

fn of_fair(cell: &Paid, _: &Paid) -> f64 {
    100.0 * cell.cheater / f64::from(cell.rounds) * (cell.honest.len() + 1) as f64
}

fn median_honest(cell: &Paid, honest: &Paid) -> f64 {
    let pairs = cell.honest.iter().zip(&honest.honest);
    let mut parts: Vec<f64> = pairs.map(|(here, there)| 100.0 * here / there).collect();
    parts.sort_unstable_by(f64::total_cmp);
    parts[parts.len() / 2]
}

fn rows(results: &Results<Played>) -> Vec<Row<'_>> {
    let both = |strategy: Strategy| {
        let tied = strategy.is_about_text().then_some(true);
        [Some(false), tied]
            .into_iter()
            .flatten()
            .map(move |tied| (strategy, tied))
    };
    let all = Strategy::ALL.into_iter().flat_map(both);
    all.filter_map(|(strategy, tied)| Row::of(results, strategy, tied))
        .collect()
}

/// Every figure that is complete.
pub fn figures(results: &Results<Played>) -> Vec<Figure> {
    let pair = |figures: &[Option<f64>]| over_seeds(figures).map(|found| [found.mean, found.half]);
    let of = |row: &Row<'_>| {
        PAYMENT_RULES.map(|rule| Figure {
            strategy: row.strategy.name(),
            tied: row.tied,
            rule: rule.name,
            gain: pair(&row.each(rule.name, gain)),
            fair_percent: pair(&row.each(rule.name, of_fair)),
            honest_percent: pair(&row.each(rule.name, median_honest)),
        })
    };
    rows(results).iter().flat_map(of).collect()
}

/// The figures as Markdown.
pub fn markdown(results: &Results<Played>, command: &str, members: usize, what: &str) -> String {
    let rows = rows(results);
    let mut out = format!("From `{command}`. {}\n", setting(members, what));
    let crossed = |keep: &dyn Fn(&Row<'_>) -> bool, of: fn(&Paid, &Paid) -> f64, digits| {
        let kept = rows.iter().filter(|row| keep(row));
        let lines: Vec<Vec<String>> = kept
            .map(|row| {
                let cells = PAYMENT_RULES.map(|rule| {
                    with_half(over_seeds(&row.each(rule.name, of)), digits, "none paid")
                });
                [vec![row.title()], cells.to_vec()].concat()
            })
            .collect();
        let heads = PAYMENT_RULES.map(|rule| rule.name);
        table(&[&["strategy"], &heads[..]].concat(), &lines)
    };
    let is_honest = |row: &Row<'_>| row.strategy == Strategy::Honest;
    let _ = write!(out, "\n### Gain: paid, over paid when honest\n\n");
    out.push_str(&crossed(
        &|row| !is_honest(row) && !row.strategy.is_free_rider(),
        gain,
        2,
    ));
    let _ = write!(out, "\n### Who does not train: paid, % of a fair share\n\n");
    out.push_str(&crossed(&|row| row.strategy.is_free_rider(), of_fair, 1));
    let _ = write!(
        out,
        "\n### The median honest member: paid, % of paid when all are honest\n\n"
    );
    out.push_str(&crossed(&|row| !is_honest(row), median_honest, 1));
    out.push_str("\n### What a payment rule moves when all are honest\n\n");
    out.push_str(&cost(&rows));
    out.push_str("\n### How like each other updates are: cosines\n\n");
    out.push_str(&likeness(&rows));
    out.push_str("\n### Answers to the questions\n\n");
    out.push_str(&answers(&rows));
    out
}

fn setting(members: usize, what: &str) -> String {
    format!(
        "{members} members of whom one cheats, {ROUNDS} rounds of {STEPS} steps of {BATCH} windows of {CONTEXT} tokens, \
         {HELD} windows each from a Dirichlet(0.5) mix of {what} of rank {RANK}, factors in \
         turns, 256 numbers of a chunk, rule `agreement`. Seeds {}; intervals are Student's 95 % over them. \
         Columns are what counts as public before a round, and what else is asked of a score.",
        SEEDS.map(|seed| seed.to_string()).join(", "),
    )
}

/// How a payment rule shares a round out among honest members, beside none.
fn cost(rows: &[Row<'_>]) -> String {
    let Some(row) = rows
        .iter()
        .find(|row| row.strategy == Strategy::Honest && !row.tied)
    else {
        return "not run\n".into();
    };
    let parts = |paid: &Paid| -> Vec<f64> {
        let all: Vec<f64> = paid.honest.iter().copied().chain([paid.cheater]).collect();
        let sum: f64 = all.iter().sum();
        all.iter().map(|part| part / sum).collect()
    };
    let lines: Vec<Vec<String>> = (PAYMENT_RULES.iter())
        .map(|rule| {
            let each = |of: &dyn Fn(&[f64], &[f64]) -> f64| {
                let found = row.cells.iter().map(|cell| {
                    let none = parts(cell.paid.get(PAYMENT_RULES[0].name)?);
                    Some(of(&parts(cell.paid.get(rule.name)?), &none))
                });
                over_seeds(&found.collect::<Vec<_>>())
            };
            let moved = each(&|here, none| {
                let apart = here.iter().zip(none).map(|(h, n)| (h - n).abs());
                50.0 * apart.sum::<f64>()
            });
            let least = each(&|here, none| {
                let ratios = here.iter().zip(none).map(|(h, n)| 100.0 * h / n);
                ratios.fold(f64::INFINITY, f64::min)
            });
            let rounds = row.each(rule.name, |paid, _| f64::from(paid.rounds));
            vec![
                rule.name.to_owned(),
                with_half(moved, 1, ""),
                with_half(least, 1, ""),
                with_half(over_seeds(&rounds), 1, ""),
            ]
        })
        .collect();
    let heads = [
        "payment rule",
        "of the money, goes to another member, %",
        "the member that loses most keeps, %",
        "rounds paid of 12",
    ];
    table(&heads, &lines)
}

fn likeness(rows: &[Row<'_>]) -> String {
    let lines: Vec<Vec<String>> = (rows.iter())
        .filter(|row| row.strategy.names() == 2 && !row.tied)
        .flat_map(|row| {
            let line = |what: &str, of: &dyn Fn(&Played) -> Pairs| {
                let each = |figure: &dyn Fn(&Pairs) -> Option<f64>| {
                    let found: Vec<_> = row.cells.iter().map(|cell| figure(&of(cell))).collect();
                    with_half(over_seeds(&found), 2, "")
                };
                vec![
                    row.title(),
                    what.to_owned(),
                    each(&|pairs| Some(pairs.strangers[0])),
                    each(&|pairs| Some(pairs.strangers[1])),
                    each(&|pairs| pairs.names.map(|names| names[1])),
                    each(&|pairs| pairs.names.map(|names| names[0])),
                ]
            };
            [
                line("a round", &|cell| cell.likeness.round.clone()),
                line("the run", &|cell| cell.likeness.run.clone()),
            ]
        })
        .collect();
    let heads = [
        "strategy",
        "vectors of",
        "honest members, median",
        "honest members, most alike",
        "the cheater's names, median",
        "the cheater's names, least alike",
    ];
    table(&heads, &lines)
}

fn answers(rows: &[Row<'_>]) -> String {
    let lines: Vec<Vec<String>> = (rows.iter())
        .filter(|row| row.cells.iter().all(|cell| cell.asked.is_some()))
        .map(|row| {
            let each = |of: &dyn Fn(&super::Asked) -> f64| {
                let found = row.cells.iter().map(|cell| cell.asked.as_ref().map(of));
                with_half(over_seeds(&found.collect::<Vec<_>>()), 3, "")
            };
            vec![
                row.title(),
                each(&|asked| asked.loss),
                each(&|asked| asked.share),
                each(&|asked| asked.most),
                each(&|asked| asked.back),
                each(&|asked| asked.most_back),
                each(&|asked| asked.back_serving),
            ]
        })
        .collect();
    let share = format!("its share of an answer, mean of {QUERIES}");
    let heads = [
        "strategy",
        "loss of the answers, nats per token",
        &share,
        "greatest share",
        "of its own fee it gets back",
        "greatest",
        "and when it serves and certifies too, mean",
    ];
    table(&heads, &lines)
}
