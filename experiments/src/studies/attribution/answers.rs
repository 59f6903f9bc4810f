//! Methods that share out one answer: a fixed query's loss.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use tributary_protocol::adapter::{Adapter, Trainable};
use tributary_trainer::Windows;
use tributary_trainer::gradient::{dot, loss_and_gradient, partial_loss_and_gradient};

use super::agreement::{Agreement, pearson};
use super::tables::{CEILING, OURS};
use super::{Line, Trial};

/// Nodes of the straight path, as those of a round.
const NODES: [f64; 2] = tributary_attribution::path::NODES;
/// BM25's usual constants.
const K1: f64 = 1.2;
const B: f64 = 0.75;
/// Damping of DataInf and of the diagonal, as a part of the mean square.
const DAMPING: f64 = 0.1;
/// Weights of the lexical side that the hybrid chooses from.
const WEIGHTS: [f64; 9] = [0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0];

const AT_THE_END: &str = "gradient at the end";
const HALF_WAY: &str = "gradient half way";
const STRAIGHT: &str = "straight path, two gradients";
const TRAC_IN: &str = "before each round (TracIn)";
const EACH_ROUND: &str = "half way through each round";
const EACH_HALF: &str = "half way through each half of the run";
const DIAGONAL: &str = "straight path, diagonal curvature";
const DATA_INF: &str = "DataInf (reads the data)";
const LEXICAL: &str = "BM25 over pairs of tokens (reads the data)";
const CREDIT: &str = "scores of the rounds, whatever the question";
const BY_SIZE: &str = "by size";
const EQUAL: &str = "equal";
const HYBRID: &str = "quarters and BM25, weight fitted elsewhere";
/// All that can be asked for beside the ceiling.
const METHODS: [&str; 14] = [
    AT_THE_END, HALF_WAY, STRAIGHT, TRAC_IN, EACH_ROUND, EACH_HALF, OURS, DIAGONAL, DATA_INF,
    LEXICAL, CREDIT, BY_SIZE, EQUAL, HYBRID,
];

/// What became of a federation's queries.
pub(super) struct Found {
    pub(super) lines: Vec<Line>,
    pub(super) fits: HybridFit,
}

/// What the hybrid is fitted on, and judged by.
pub(super) struct HybridFit {
    federation: usize,
    queries: Vec<Sides>,
}

struct Sides {
    gradient: Vec<f64>,
    lexical: Vec<f64>,
    truth: Vec<f64>,
    worths: Vec<f64>,
    ms: f64,
}

/// `credit` are the scores of the rounds, which do not look at the question. Nothing, where no method of answers is
/// wanted.
pub(super) fn measure(trial: &Trial<'_>, credit: &[f64]) -> Found {
    let mut found = Found {
        lines: Vec::new(),
        fits: HybridFit {
            federation: trial.federation,
            queries: Vec::new(),
        },
    };
    if !METHODS.iter().any(|method| trial.wants(method)) {
        return found;
    }
    let probe = Probe::new(trial);
    let index = Index::new(&trial.stage.held);
    let data_inf = if trial.wants(DATA_INF) {
        data_inf_vectors(trial)
    } else {
        Vec::new()
    };
    let diagonal = if trial.wants(DIAGONAL) {
        probe.diagonal()
    } else {
        Vec::new()
    };
    let sizes: Vec<f64> = trial.stage.held.iter().map(|w| w.len() as f64).collect();
    for (at, query) in trial.stage.queries.iter().enumerate() {
        let mut add = |method, work: &dyn Fn() -> Vec<f64>| {
            let (scores, ms) = match trial.wants(method) {
                true => timed(work),
                false => return,
            };
            found.lines.push(trial.line(method, Some(at), &scores, ms));
        };
        let end = || probe.at(query, 1.0);
        let straight = || mean(&NODES.map(|s| probe.at(query, s)));
        add(CEILING, &|| trial.own(Some(at)));
        add(AT_THE_END, &|| probe.influences(&end()));
        add(HALF_WAY, &|| probe.influences(&probe.at(query, 0.5)));
        add(STRAIGHT, &|| probe.influences(&straight()));
        add(TRAC_IN, &|| probe.by_stage(query, 1, 0.0));
        add(EACH_ROUND, &|| probe.by_stage(query, 1, 0.5));
        add(EACH_HALF, &|| probe.by_stage(query, 6, 0.5));
        add(OURS, &|| probe.by_stage(query, 3, 0.5));
        add(DIAGONAL, &|| {
            let scaled: Vec<f32> = (straight().iter().zip(&diagonal))
                .map(|(g, d)| g / d)
                .collect();
            probe.influences(&scaled)
        });
        add(DATA_INF, &|| {
            let end = end();
            data_inf.iter().map(|u| dot(&end, u)).collect()
        });
        add(LEXICAL, &|| index.scores(query));
        add(CREDIT, &|| credit.to_vec());
        add(BY_SIZE, &|| sizes.clone());
        add(EQUAL, &|| vec![1.0; trial.members()]);
        if trial.wants(HYBRID) {
            let (gradient, gradient_ms) = timed(|| probe.by_stage(query, 3, 0.5));
            let (lexical, lexical_ms) = timed(|| index.scores(query));
            found.fits.queries.push(Sides {
                gradient,
                lexical,
                truth: trial.others(Some(at)),
                worths: trial.worths(Some(at)),
                ms: gradient_ms + lexical_ms,
            });
        }
    }
    found
}

fn timed<R>(work: impl FnOnce() -> R) -> (R, f64) {
    let started = Instant::now();
    let result = work();
    (result, 1e3 * started.elapsed().as_secs_f64())
}

fn mean(vectors: &[Vec<f32>]) -> Vec<f32> {
    let at = |i: usize| vectors.iter().map(|v| v[i]).sum::<f32>() / vectors.len() as f32;
    (0..vectors[0].len()).map(at).collect()
}

/// Gradients of a query's loss where the federation has been.
struct Probe<'a> {
    trial: &'a Trial<'a>,
    moved: Vec<Vec<f32>>,
}

impl<'a> Probe<'a> {
    fn new(trial: &'a Trial<'a>) -> Self {
        Self {
            trial,
            moved: (0..trial.members())
                .map(|m| trial.played.moved(m))
                .collect(),
        }
    }

    fn gradient(&self, query: &Windows, values: Vec<f32>, trainable: Trainable) -> Vec<f32> {
        let shape = self.trial.stage.learner.shape().clone();
        let adapter = Adapter::new(shape, values).expect("between two adapters lie adapters");
        let base = self.trial.stage.base();
        (partial_loss_and_gradient(base, &adapter, trainable, query))
            .expect("a query is a window")
            .gradient
    }

    /// On the straight line from the first adapter (0) to the last (1).
    fn at(&self, query: &Windows, s: f64) -> Vec<f32> {
        let played = self.trial.played;
        let values = between(played.first.values(), played.adapter.values(), s);
        self.gradient(query, values, Trainable::Both)
    }

    fn influences(&self, gradient: &[f32]) -> Vec<f64> {
        self.moved.iter().map(|m| -dot(gradient, m)).collect()
    }

    /// The run in stages of `together` rounds: each one's gradient at the part `s` of its way, with what each
    /// member added in it.
    fn by_stage(&self, query: &Windows, together: usize, s: f64) -> Vec<f64> {
        let members = self.trial.members();
        let mut sums = vec![0.0; members];
        for stage in self.trial.played.rounds.chunks(together) {
            let before = stage[0].before.values();
            let mut after = before.to_vec();
            for closed in stage {
                after
                    .iter_mut()
                    .zip(&closed.step)
                    .for_each(|(a, s)| *a += s);
            }
            let gradient = self.gradient(query, between(before, &after, s), Trainable::Both);
            for (who, vector) in stage.iter().flat_map(|closed| &closed.contributions) {
                let member =
                    (0..members).find(|m| tributary_simulations::federation::peer(*m) == *who);
                sums[member.expect("a member")] -= dot(&gradient, vector);
            }
        }
        sums
    }

    /// Mean square of the hold-out's gradients at the end, number by number, damped.
    fn diagonal(&self) -> Vec<f32> {
        let learner = &self.trial.stage.learner;
        let windows = learner.scored().sample(&[7; 32], 64);
        let mut squares = vec![0.0f32; self.moved[0].len()];
        for window in singles(&windows) {
            let gradient = self.at(&window, 1.0);
            squares
                .iter_mut()
                .zip(gradient)
                .for_each(|(s, g)| *s += g * g);
        }
        let roots: Vec<f32> = squares.iter().map(|s| s.sqrt()).collect();
        let damping = DAMPING as f32 * roots.iter().sum::<f32>() / roots.len() as f32;
        roots.into_iter().map(|root| root + damping).collect()
    }
}

fn between(from: &[f32], to: &[f32], s: f64) -> Vec<f32> {
    let point = |(f, t): (&f32, &f32)| (f64::from(*f) + s * (f64::from(*t) - f64::from(*f))) as f32;
    from.iter().zip(to).map(point).collect()
}

fn singles(windows: &Windows) -> impl Iterator<Item = Windows> {
    (0..windows.len()).map(|at| windows.only(at))
}

/// DataInf (arXiv:2310.00902): what a step along a member's training gradients does to a loss, with the
/// curvature of each factor taken from all members' gradients in closed form. The inner product with a loss's
/// gradient is the member's influence on it. Needs every member's text: a yardstick, not a method for a network.
fn data_inf_vectors(trial: &Trial<'_>) -> Vec<Vec<f32>> {
    let (base, adapter) = (trial.stage.base(), &trial.played.adapter);
    let gradient = |window: &Windows| {
        let found = loss_and_gradient(base, adapter, window);
        found.expect("a window").gradient
    };
    let by_member: Vec<Vec<Vec<f32>>> = (trial.stage.held.iter())
        .map(|held| singles(held).map(|window| gradient(&window)).collect())
        .collect();
    let means: Vec<Vec<f32>> = by_member.iter().map(|g| mean(g)).collect();
    let all: Vec<&Vec<f32>> = by_member.iter().flatten().collect();
    let mut out = vec![vec![0.0f32; adapter.values().len()]; trial.members()];
    for segment in adapter.shape().segments() {
        let range = segment.range();
        let square = |g: &Vec<f32>| dot(&g[range.clone()], &g[range.clone()]);
        let squares: Vec<f64> = all.iter().map(|g| square(g)).collect();
        let numbers = range.len() as f64;
        let lambda = DAMPING * squares.iter().sum::<f64>() / all.len() as f64 / numbers;
        if lambda <= 0.0 {
            continue;
        }
        for (out, mean) in out.iter_mut().zip(&means) {
            let mut corrected: Vec<f64> =
                mean[range.clone()].iter().map(|m| f64::from(*m)).collect();
            for (g, square) in all.iter().zip(&squares) {
                let g = &g[range.clone()];
                let part = dot(g, &mean[range.clone()]) / (lambda + square) / all.len() as f64;
                corrected
                    .iter_mut()
                    .zip(g)
                    .for_each(|(c, g)| *c -= part * f64::from(*g));
            }
            for (out, corrected) in out[range.clone()].iter_mut().zip(corrected) {
                *out = (corrected / lambda) as f32;
            }
        }
    }
    out
}

/// The same for a hold-out instead of a query.
pub(super) fn data_inf_hold_out(trial: &Trial<'_>, windows: &Windows) -> Vec<f64> {
    let found = loss_and_gradient(trial.stage.base(), &trial.played.adapter, windows);
    let gradient = found.expect("windows").gradient;
    (data_inf_vectors(trial).iter())
        .map(|u| dot(&gradient, u))
        .collect()
}

type Pair = (u32, u32);

/// Pairs of neighbouring tokens of each member's text.
struct Index {
    counts: Vec<BTreeMap<Pair, f64>>,
    lengths: Vec<f64>,
}

fn pairs(windows: &Windows) -> impl Iterator<Item = Pair> {
    windows
        .iter()
        .flat_map(|w| w.windows(2).map(|pair| (pair[0], pair[1])))
}

impl Index {
    fn new(held: &[Windows]) -> Self {
        let counts: Vec<BTreeMap<Pair, f64>> = (held.iter())
            .map(|windows| {
                let mut counts = BTreeMap::new();
                pairs(windows).for_each(|pair| *counts.entry(pair).or_insert(0.0) += 1.0);
                counts
            })
            .collect();
        let lengths = counts.iter().map(|c| c.values().sum()).collect();
        Self { counts, lengths }
    }

    fn scores(&self, query: &Windows) -> Vec<f64> {
        let asked: BTreeSet<Pair> = pairs(query).collect();
        let n = self.counts.len() as f64;
        let average = self.lengths.iter().sum::<f64>() / n;
        let mut scores = vec![0.0; self.counts.len()];
        for pair in asked {
            let having = self.counts.iter().filter(|c| c.contains_key(&pair)).count() as f64;
            let rarity = ((n - having + 0.5) / (having + 0.5) + 1.0).ln();
            for ((score, counts), length) in scores.iter_mut().zip(&self.counts).zip(&self.lengths)
            {
                let count = counts.get(&pair).copied().unwrap_or(0.0);
                let norm = K1 * (1.0 - B + B * length / average);
                *score += rarity * count * (K1 + 1.0) / (count + norm);
            }
        }
        scores
    }
}

/// Gradient and lexical scores together, the weight fitted on the federations of the other half.
pub(super) fn hybrid(fits: &[HybridFit]) -> Vec<Line> {
    let fitted = |half: usize| {
        let others = || fits.iter().filter(move |e| e.federation % 2 != half);
        let quality = |weight: f64| {
            let queries = others().flat_map(|e| &e.queries);
            queries
                .filter_map(|q| pearson(&q.blend(weight), &q.truth))
                .sum::<f64>()
        };
        let best = WEIGHTS
            .into_iter()
            .max_by(|a, b| quality(*a).total_cmp(&quality(*b)));
        best.expect("weights to choose from")
    };
    let weights = [fitted(0), fitted(1)];
    let lines = fits.iter().flat_map(|e| {
        let weight = weights[e.federation % 2];
        e.queries.iter().map(move |query| Line {
            method: HYBRID.to_owned(),
            federation: e.federation,
            agreement: Agreement::of(&query.blend(weight), &query.truth, &query.worths),
            ms: query.ms,
        })
    });
    lines.collect()
}

impl Sides {
    /// Both sides at the same scale; the lexical one says which members are above average.
    fn blend(&self, weight: f64) -> Vec<f64> {
        let average = self.lexical.iter().sum::<f64>() / self.lexical.len() as f64;
        let above: Vec<f64> = self.lexical.iter().map(|l| l - average).collect();
        let unit = |values: &[f64]| {
            let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
            let norm = if norm > 0.0 { norm } else { 1.0 };
            values.iter().map(|v| v / norm).collect::<Vec<f64>>()
        };
        let sides = unit(&self.gradient).into_iter().zip(unit(&above));
        sides.map(|(g, l)| g + weight * l).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_member_that_holds_the_words_comes_first() {
        let windows = |tokens: &[u32]| Windows::from_tokens(vec![tokens.to_vec()], 6, 20).unwrap();
        let held = [windows(&[1, 2, 3, 4, 5, 6]), windows(&[1, 2, 9, 8, 7, 6])];
        let index = Index::new(&held);
        let scores = index.scores(&windows(&[10, 9, 8, 7, 11, 12]));
        assert!(scores[1] > 0.0 && scores[0] == 0.0, "{scores:?}");
        // What everybody has says little.
        let common = index.scores(&windows(&[1, 2, 11, 12, 13, 14]));
        assert!(common[0] < scores[1] && (common[0] - common[1]).abs() < 1e-12);
    }

    #[test]
    fn a_blend_leans_to_its_heavier_side() {
        let sides = Sides {
            gradient: vec![3.0, 1.0, 0.0],
            lexical: vec![0.0, 0.0, 5.0],
            truth: vec![],
            worths: vec![],
            ms: 0.0,
        };
        let first = |values: Vec<f64>| (0..3).max_by(|a, b| values[*a].total_cmp(&values[*b]));
        assert_eq!(first(sides.blend(0.0)), Some(0));
        assert_eq!(first(sides.blend(2.0)), Some(2));
    }
}
