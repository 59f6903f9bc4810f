//! The tables of the page.

use std::fmt::Write as _;

use serde::Serialize;
use tributary_attribution::interval::Interval;
use tributary_protocol::adapter::AdapterShape;
use tributary_protocol::id::Round;
use tributary_protocol::manifest::{FactorSchedule, UpdateCodec};
use tributary_protocol::update;

use super::method::{CENTRAL_FEW, CENTRAL_MANY, FEDIT, Method, SPARSE};
use super::{
    BATCH, CONTEXT, Cell, DOMAINS, Learned, MIXES, RANK, ROUNDS, Results, SEEDS, STEPS, mix_name,
    rate,
};
use crate::learner::Mix;
use tributary_simulations::markdown::{over_seeds, table, with_half};

/// One line of the comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    mix: String,
    method: &'static str,
    rate: f64,
    /// Mean loss over the domains, nats per token; mean and half width over seeds.
    loss: Option<[f64; 2]>,
    /// Loss above the better centralised training with the same seed, per cent of it.
    gap_percent: Option<[f64; 2]>,
    /// Loss on the members' own mixes.
    own_loss: Option<[f64; 2]>,
    /// Bytes that a member uploads in the run.
    upload_bytes: f64,
    /// How many times less that is than FedIT's, where anything is uploaded.
    less_than_dense: Option<f64>,
}

/// The cells of one method on one mix, by seed; `None` until all are there.
fn of<'a>(
    results: &'a Results<Learned>,
    mix: Mix,
    method: &Method,
) -> Option<(f64, Vec<&'a Learned>)> {
    let rate = rate(method, results)?;
    let by_seed = SEEDS.map(|seed| {
        let method = *method;
        let cell = Cell {
            mix,
            method,
            rate,
            seed,
        };
        results.get(&cell.name())
    });
    let all: Option<Vec<&Learned>> = by_seed.into_iter().collect();
    Some((rate, all?))
}

fn named<'a>(
    results: &'a Results<Learned>,
    mix: Mix,
    name: &str,
) -> Option<(f64, Vec<&'a Learned>)> {
    let method = Method::all().into_iter().find(|m| m.name == name)?;
    of(results, mix, &method)
}

/// Loss of the better centralised training, by seed.
fn centralised(results: &Results<Learned>, mix: Mix) -> Option<Vec<f64>> {
    let losses = |name| -> Option<Vec<f64>> {
        let (_, all) = named(results, mix, name)?;
        all.into_iter().map(Learned::loss).collect()
    };
    let (many, few) = (losses(CENTRAL_MANY)?, losses(CENTRAL_FEW)?);
    Some(many.into_iter().zip(few).map(|(a, b)| a.min(b)).collect())
}

fn pair(interval: Option<Interval>) -> Option<[f64; 2]> {
    interval.map(|interval| [interval.mean, interval.half])
}

/// Every line that is complete.
pub fn figures(results: &Results<Learned>) -> Vec<Figure> {
    let mut out = Vec::new();
    for mix in MIXES {
        let central = centralised(results, mix);
        let dense = named(results, mix, FEDIT).map(|(_, all)| all[0].upload_bytes);
        for method in Method::all() {
            let Some((rate, all)) = of(results, mix, &method) else {
                continue;
            };
            let over = |figure: &dyn Fn(usize, &Learned) -> Option<f64>| {
                let by_seed = all.iter().enumerate().map(|(at, l)| figure(at, l));
                pair(over_seeds(&by_seed.collect::<Vec<_>>()))
            };
            let upload_bytes = all[0].upload_bytes;
            out.push(Figure {
                mix: mix_name(mix),
                method: method.name,
                rate,
                loss: over(&|_, learned| learned.loss()),
                gap_percent: over(&|at, learned| {
                    let central = central.as_ref()?[at];
                    Some(100.0 * (learned.loss()? / central - 1.0))
                }),
                own_loss: over(&|_, learned| learned.own),
                upload_bytes,
                less_than_dense: dense
                    .filter(|_| upload_bytes > 0.0)
                    .map(|dense| dense / upload_bytes),
            });
        }
    }
    out
}

/// What all methods have in common.
pub struct Setting {
    /// Members.
    pub members: usize,
    /// The texts and the model, in words.
    pub what: String,
    /// The shape of the adapter.
    pub shape: AdapterShape,
}

/// The figures as Markdown.
pub fn markdown(results: &Results<Learned>, command: &str, setting: &Setting) -> String {
    let figures = figures(results);
    let mut out = format!("From `{command}`. {}\n", in_words(setting));
    for mix in MIXES {
        let name = mix_name(mix);
        let rows: Vec<Vec<String>> = (figures.iter())
            .filter(|figure| figure.mix == name)
            .map(row)
            .collect();
        if !rows.is_empty() {
            let _ = write!(out, "\n### {}\n\n", title(mix));
            let heads = [
                "method",
                "rate",
                "loss",
                "gap to centralised, %",
                "loss on own text",
                "upload a member",
                "less than FedIT",
            ];
            out.push_str(&table(&heads, &rows));
        }
    }
    let _ = write!(
        out,
        "\n### Rates tried\n\nLoss with seed 0, which is not among those above.\n\n"
    );
    out.push_str(&tried(results));
    if let Some(verdict) = verdict(results) {
        let _ = write!(out, "\n{verdict}\n");
    }
    out
}

fn title(mix: Mix) -> String {
    match mix {
        Mix::Domains { .. } | Mix::Pairs { .. } => "One domain a member".to_owned(),
        Mix::Dirichlet { concentration } => format!("Mixes drawn from Dirichlet({concentration})"),
    }
}

fn in_words(setting: &Setting) -> String {
    let Setting {
        members,
        what,
        shape,
    } = setting;
    let tokens = *members as u32 * ROUNDS * STEPS * BATCH * CONTEXT as u32;
    let bytes = |schedule: FactorSchedule, codec| {
        let of = |round| {
            let trainable = schedule.trainable(Round(round));
            let segments = shape.trainable_segments(trainable);
            update::encoded_len(segments.iter().map(|s| s.len()).sum(), codec)
        };
        (of(1) + of(2)) / 2
    };
    format!(
        "{members} members, {ROUNDS} rounds of {STEPS} steps of {BATCH} windows of {CONTEXT} tokens: {tokens} tokens \
         for every method, of {what} with rank {RANK} on all linears, {} parameters; an update of both factors in \
         f32 has {} bytes, of one factor in the default codec {} on average. Seeds {}; intervals are Student's 95 % over \
         them, those of gaps over the differences of equal seeds.",
        shape.parameters(),
        bytes(FactorSchedule::Both, UpdateCodec::DenseF32),
        bytes(FactorSchedule::Alternate, SPARSE),
        SEEDS.map(|seed| seed.to_string()).join(", "),
    )
}

fn row(figure: &Figure) -> Vec<String> {
    let cell = |pair: Option<[f64; 2]>, digits, otherwise| {
        let interval = pair.map(|[mean, half]| Interval { mean, half });
        with_half(interval, digits, otherwise)
    };
    vec![
        figure.method.to_owned(),
        format!("{}", figure.rate),
        cell(figure.loss, 3, "diverged"),
        // Nothing to compare with is another thing than nothing learnt.
        cell(
            figure.gap_percent,
            2,
            if figure.loss.is_some() {
                "not run"
            } else {
                "diverged"
            },
        ),
        cell(figure.own_loss, 3, "diverged"),
        match figure.upload_bytes {
            0.0 => "none".to_owned(),
            bytes => format!("{:.1} KB", bytes / 1e3),
        },
        (figure.less_than_dense).map_or(String::new(), |times| format!("{times:.0} times")),
    ]
}

fn tried(results: &Results<Learned>) -> String {
    let rows: Vec<Vec<String>> = (Method::all().into_iter())
        .filter(|method| method.tuned_as == method.name)
        .map(|method| {
            let tried = method.rates.map(|rate| {
                let cell = Cell::tuning(method, rate);
                let loss = match results.get(&cell.name()).map(Learned::loss) {
                    Some(Some(loss)) => format!("{loss:.3}"),
                    Some(None) => "diverged".to_owned(),
                    None => "not run".to_owned(),
                };
                format!("{loss} at {rate}")
            });
            [vec![method.name.to_owned()], tried.to_vec()].concat()
        })
        .collect();
    table(&["method", "lowest rate", "middle", "highest"], &rows)
}

/// Whether the targets are met on one domain a member: the gap of the better of the federated methods with
/// the codec that a hundredth of the bytes allows, and its upload.
fn verdict(results: &Results<Learned>) -> Option<String> {
    let figures = figures(results);
    let mut within: Vec<&Figure> = (figures.iter())
        .filter(|f| f.mix == mix_name(DOMAINS))
        .filter(|f| f.less_than_dense.is_some_and(|times| times >= 100.0))
        .collect();
    within.sort_by(|a, b| {
        let gap = |f: &Figure| f.gap_percent.map_or(f64::INFINITY, |[mean, _]| mean);
        gap(a).total_cmp(&gap(b))
    });
    let best = within.first()?;
    let [gap, half] = best.gap_percent?;
    Some(format!(
        "The best method at a hundredth of the bytes or less is `{}`: {gap:.2} ± {half:.2} % above \
         centralised, {:.0} times fewer bytes than FedIT.",
        best.method, best.less_than_dense?,
    ))
}
