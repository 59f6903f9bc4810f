//! The tables of the page.

use std::fmt::Write as _;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::federations::FEDERATIONS;
use super::recipe::{BATCH, CONTEXT, RANK, RATE, ROUNDS, STEPS};
use super::{Line, QUERIES, SEEDS};
use tributary_simulations::markdown::table;

/// Resamples of the bootstrap.
const RESAMPLES: usize = 2_000;

/// Every method in every federation.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    pub(super) rounds: Vec<Line>,
    pub(super) answers: Vec<Line>,
}

/// One method's agreement with retraining: mean over federations, and a 95 % interval by bootstrap over them.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    method: String,
    pearson: Option<[f64; 3]>,
    spearman: Option<[f64; 3]>,
    payout_error: Option<[f64; 3]>,
    top: Option<[f64; 3]>,
    harm_seen: Option<[f64; 3]>,
    coalitions: Option<[f64; 3]>,
    /// Milliseconds of one run (rounds) or one query (answers); 0 where nothing is computed.
    ms: f64,
}

/// Everything that the page's tables show.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    rounds: Vec<Figure>,
    answers: Vec<Figure>,
}

impl Compared {
    /// Figures by method.
    pub fn figures(&self) -> Figures {
        Figures {
            rounds: figures(&self.rounds),
            answers: figures(&self.answers),
        }
    }
}

/// A quality of a line, where it has it.
type Quality = fn(&Line) -> Option<f64>;

fn figures(lines: &[Line]) -> Vec<Figure> {
    let mut methods: Vec<&str> = Vec::new();
    for line in lines {
        if !methods.contains(&line.method.as_str()) {
            methods.push(&line.method);
        }
    }
    let figure = |method: &str| {
        let lines: Vec<&Line> = lines.iter().filter(|line| line.method == method).collect();
        let of = |quality: Quality| over_federations(&lines, quality);
        Figure {
            method: method.to_owned(),
            pearson: of(|line| line.agreement.pearson),
            spearman: of(|line| line.agreement.spearman),
            payout_error: of(|line| line.agreement.payout_error),
            top: of(|line| Some(line.agreement.top)),
            harm_seen: of(|line| line.agreement.harm_seen),
            coalitions: of(|line| line.agreement.coalitions),
            ms: lines.iter().map(|line| line.ms).sum::<f64>() / lines.len() as f64,
        }
    };
    methods.into_iter().map(figure).collect()
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn in_federation(lines: &[&Line], federation: usize, quality: Quality) -> Option<f64> {
    let of = lines.iter().filter(|line| line.federation == federation);
    mean(of.filter_map(|line| quality(line)))
}

/// Mean, and the ends of the interval.
fn over_federations(lines: &[&Line], quality: Quality) -> Option<[f64; 3]> {
    let each = (0..FEDERATIONS.len()).filter_map(|at| in_federation(lines, at, quality));
    let each: Vec<f64> = each.collect();
    let middle = mean(each.iter().copied())?;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn = (0..each.len()).map(|_| each[rng.random_range(0..each.len())]);
            drawn.sum::<f64>() / each.len() as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let end = |part: f64| means[((RESAMPLES - 1) as f64 * part).round() as usize];
    Some([middle, end(0.025), end(0.975)])
}

fn shown(figure: Option<[f64; 3]>, percent: bool) -> String {
    match (figure, percent) {
        (None, _) => "-".to_owned(),
        (Some([m, l, h]), false) => format!("{m:.2} ({l:.2} to {h:.2})"),
        (Some([m, l, h]), true) => {
            format!("{:.0} ({:.0} to {:.0})", 100.0 * m, 100.0 * l, 100.0 * h)
        }
    }
}

fn rows(figures: &[Figure], unit: &str) -> String {
    let heads = [
        "method",
        "Pearson",
        "Spearman",
        "payout error, %",
        "first found, %",
        "harm seen, %",
        "coalitions (LDS)",
        unit,
    ];
    let row = |f: &Figure| {
        vec![
            f.method.to_owned(),
            shown(f.pearson, false),
            shown(f.spearman, false),
            shown(f.payout_error, true),
            shown(f.top, true),
            shown(f.harm_seen, true),
            shown(f.coalitions, false),
            // What only looks something up takes no time to speak of.
            if f.ms >= 0.05 {
                format!("{:.1}", f.ms)
            } else {
                "-".to_owned()
            },
        ]
    };
    table(&heads, &figures.iter().map(row).collect::<Vec<_>>())
}

/// One federation in a row: a method beside the ceiling.
fn by_federation(lines: &[Line], method: &str) -> String {
    let of = |name: &str| -> Vec<&Line> { lines.iter().filter(|l| l.method == name).collect() };
    let (ours, ceiling) = (of(method), of(CEILING));
    let show = |lines: &[&Line], at, quality: Quality, scale: f64, digits: usize| {
        let found = in_federation(lines, at, quality);
        found.map_or("-".to_owned(), |v| format!("{:.digits$}", scale * v))
    };
    let row = |at: usize| {
        let mut row = vec![FEDERATIONS[at].name.to_owned()];
        for lines in [&ours, &ceiling] {
            row.push(show(lines, at, |l| l.agreement.pearson, 1.0, 2));
            row.push(show(lines, at, |l| l.agreement.payout_error, 100.0, 0));
            row.push(show(lines, at, |l| Some(l.agreement.top), 100.0, 0));
        }
        row
    };
    let heads = [
        "federation",
        "Pearson",
        "payout error, %",
        "first found, %",
        "ceiling: Pearson",
        "payout error, %",
        "first found, %",
    ];
    table(&heads, &(0..FEDERATIONS.len()).map(row).collect::<Vec<_>>())
}

pub(super) const OURS: &str = "half way through each quarter of the run (ours)";
pub(super) const CEILING: &str = "retraining, one seed (the ceiling)";

/// The tables as Markdown.
pub fn markdown(compared: &Compared, command: &str, members: usize, model: &str) -> String {
    let figures = compared.figures();
    let coalitions = 1usize << members;
    let mut out = format!(
        "From `{command}`. {} federations of {members} members, {coalitions} coalitions each, seeds {SEEDS:?}: {} \
         retrainings of {ROUNDS} rounds of {STEPS} steps of {BATCH} windows of {CONTEXT} tokens, LoRA rank {RANK} on \
         {model}, rate {RATE}; {QUERIES} queries of a window each a federation. Every method sees one seed's run and is \
         held against the mean of the others. Means over federations; in brackets 95 % by bootstrap over them.\n\n\
         ### Rounds\n\n",
        FEDERATIONS.len(),
        FEDERATIONS.len() * SEEDS.len() * coalitions,
    );
    let _ = write!(
        out,
        "{}\nThe path integral, federation by federation:\n\n{}\n### Answers\n\n{}\nQuarters of the run, federation by federation:\n\n{}",
        rows(&figures.rounds, "ms a run"),
        by_federation(&compared.rounds, super::rounds::OURS),
        rows(&figures.answers, "ms a query"),
        by_federation(&compared.answers, OURS),
    );
    out
}
