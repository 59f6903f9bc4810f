//! What attribution costs: scores of a round and shares of an answer, by the number of contributors.
//!
//! On brook with an adapter of rank 8. Backward passes are real and counted where they are asked for; what
//! is left of the time is what contributors add. Their updates are random numbers through the real codec:
//! times depend on how many numbers an update moves, not on which. Every round of the run includes as many
//! as a certificate may.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tributary_attribution::query::store::Stage;
use tributary_attribution::query::stretch::{self, Stretch};
use tributary_attribution::query::{Moved, TokenLoss};
use tributary_attribution::{Gradient, LossGradient, path};
use tributary_protocol::adapter::{Adapter, AdapterShape, Trainable};
use tributary_protocol::hash::{Domain, Hasher, Stream, digest};
use tributary_protocol::id::{PeerId, Ppb, Round};
use tributary_protocol::limits::MAX_INCLUDED;
use tributary_protocol::manifest::{FactorSchedule, UpdateCodec};
use tributary_protocol::update;
use tributary_trainer::gradient::partial_loss_and_gradient;
use tributary_trainer::{
    BaseModel, GradientError, Windows, brook, evaluate, tokens_loss_and_gradient,
};

use tributary_simulations::markdown::table;

use crate::study::{Outcome, Study, Work};

/// Rank of the adapter.
const RANK: u32 = 8;
/// Contributors of a scored round.
const SCORED: [usize; 3] = [8, 64, 256];
/// Hold-out windows of a scored round, their tokens, and windows of a batch, as a run has them by default.
const WINDOWS: (usize, usize, usize) = (16, 128, 4);
/// Contributors of a run whose answers are shared out, by codec.
const SHARED: [(Codec, &[usize]); 2] = [(Codec::Sparse, &[10, 100, 1000]), (Codec::Dense, &[10])];
/// Most contributors whose whole vectors are held for comparison: 4 stages of 59 MB.
const MOST_WHOLE: usize = 100;
/// Stages of a run, and rounds of a stage.
const STAGES: (u32, u32) = (4, 25);
/// Stretches of an answer, and tokens of a stretch.
const STRETCHES: (usize, usize) = (8, 4);
/// Tokens of the prompt.
const PROMPT: usize = 16;
/// Each time is the least of so many: what else the machine does only adds to it.
const REPEATS: usize = 5;
/// The same where one repetition takes milliseconds.
const SHORT_REPEATS: usize = 40;

/// How updates travel in a measured run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Codec {
    /// 64 of 4,096 numbers, the default.
    Sparse,
    /// Every number as int8.
    Dense,
}

impl Codec {
    fn of(self) -> UpdateCodec {
        match self {
            Self::Sparse => UpdateCodec::Sparse {
                top: 64,
                feedback: Ppb(950_000_000),
            },
            Self::Dense => UpdateCodec::DenseInt8,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Sparse => "sparse, 64 of 4,096",
            Self::Dense => "dense int8",
        }
    }
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Costs {
    /// Processor and cores.
    machine: String,
    /// Numbers of the adapter.
    parameters: usize,
    rounds: Vec<RoundCost>,
    answers: Vec<AnswerCost>,
}

/// Scoring one round.
#[derive(Clone, Debug, Serialize)]
struct RoundCost {
    contributors: usize,
    batches: usize,
    /// Backward passes, counted.
    backward: usize,
    /// Forward passes without a backward pass, counted.
    forward: usize,
    backward_ms: f64,
    forward_ms: f64,
    /// Everything else: the inner products and what holds them together.
    products_ms: f64,
}

/// Sharing out one answer.
#[derive(Clone, Debug, Serialize)]
struct AnswerCost {
    codec: Codec,
    contributors: usize,
    /// Backward passes, counted.
    backward: usize,
    backward_ms: f64,
    /// What contributors add: every influence, share and interval.
    contributors_ms: f64,
    /// Bytes of what they moved.
    bytes: usize,
    /// The same by whole vectors, where that was tried.
    whole_ms: Option<f64>,
    /// Bytes of whole vectors.
    whole_bytes: usize,
}

/// What does attribution cost?
pub struct CostStudy;

impl Study for CostStudy {
    fn name(&self) -> &'static str {
        "cost"
    }

    fn about(&self) -> &'static str {
        "What scores of a round and shares of an answer cost, by the number of contributors"
    }

    fn page(&self) -> &'static str {
        "attribution-cost"
    }

    fn run(&self, work: &Work<'_>) -> Result<Option<Outcome>, Box<dyn Error>> {
        let found = measure(|line| work.say(line))?;
        let markdown = markdown(&found, &work.command());
        Ok(Some(Outcome::new(&found, markdown)))
    }
}

/// Measures; `say` hears how far it is.
///
/// # Errors
/// A sentence when brook does not load or a pass fails.
pub fn measure(say: impl Fn(&str)) -> Result<Costs, String> {
    let base = BaseModel::brook().map_err(|e| e.to_string())?;
    let shape = Arc::new(base.adapter_shape(RANK, 2 * RANK));
    let mut rounds = Vec::new();
    for contributors in SCORED {
        say(&format!("scores of a round of {contributors}"));
        rounds.push(round(&base, &shape, contributors).map_err(|e| e.to_string())?);
    }
    let mut answers = Vec::new();
    let (stretches, backward_ms) = answer(&base, &shape).map_err(|e| e.to_string())?;
    for (codec, counts) in SHARED {
        for contributors in counts {
            say(&format!("shares of {contributors}, {}", codec.word()));
            let cost = shares(&shape, codec, *contributors, &stretches, backward_ms);
            answers.push(cost.map_err(|e| e.to_string())?);
        }
    }
    Ok(Costs {
        machine: machine(),
        parameters: shape.parameters(),
        rounds,
        answers,
    })
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let name = name.and_then(|rest| rest.split_once(':'));
    let name = name.map_or("unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{name}, {cores} cores")
}

fn least(times: Vec<f64>) -> f64 {
    times.into_iter().fold(f64::INFINITY, f64::min)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The `n`-th contributor.
fn peer(n: usize) -> PeerId {
    PeerId(digest(Domain::Simulation, &n.to_le_bytes()))
}

fn draws(words: &[u64]) -> Stream {
    let mut hasher = Hasher::new(Domain::Simulation);
    for word in words {
        hasher.update(&word.to_le_bytes());
    }
    hasher.finalize_xof()
}

/// A contribution vector: an update of random numbers through the codec, times a coefficient.
fn contribution(shape: &AdapterShape, codec: Codec, (n, round): (usize, u32)) -> Vec<f32> {
    let trainable = FactorSchedule::Both.trainable(Round(round));
    let segments = shape.trainable_segments(trainable);
    let len = segments.iter().map(|s| s.len()).sum();
    let mut draws = draws(&[n as u64, u64::from(round)]);
    let unit = |bits: u64| (bits & 0xff_ffff) as f32 / (1 << 23) as f32 - 1.0;
    let mut numbers = Vec::with_capacity(len + 1);
    while numbers.len() < len {
        let bits = draws.next_u64();
        numbers.extend([unit(bits), unit(bits >> 32)]);
    }
    numbers.truncate(len);
    let bytes = update::encode(&numbers, codec.of()).expect("numbers of the order of one");
    let update = update::decode(&bytes, len, codec.of()).expect("just encoded");
    let scaled: Vec<f32> = update.iter().map(|v| 1e-5 * v).collect();
    update::scatter(&scaled, &segments, shape.parameters())
}

/// Counts and times the passes that a score asks for.
struct Counted<'a> {
    base: &'a BaseModel,
    shape: Arc<AdapterShape>,
    batches: Vec<Windows>,
    backward: (usize, Duration),
    forward: (usize, Duration),
}

impl Gradient for Counted<'_> {
    type Error = GradientError;

    fn batches(&self) -> Vec<u64> {
        self.batches.iter().map(Windows::predicted).collect()
    }

    fn loss(&mut self, batch: usize, point: &[f32]) -> Result<f64, GradientError> {
        let started = Instant::now();
        let adapter =
            Adapter::new(self.shape.clone(), point.to_vec()).expect("a point of the path");
        let found = evaluate(self.base, Some(&adapter), &self.batches[batch]);
        self.forward = (self.forward.0 + 1, self.forward.1 + started.elapsed());
        Ok(found.expect("brook takes the adapter").nll)
    }

    fn loss_gradient(
        &mut self,
        batch: usize,
        point: &[f32],
    ) -> Result<LossGradient, GradientError> {
        let started = Instant::now();
        let adapter =
            Adapter::new(self.shape.clone(), point.to_vec()).expect("a point of the path");
        let windows = &self.batches[batch];
        let found = partial_loss_and_gradient(self.base, &adapter, Trainable::Both, windows)?;
        self.backward = (self.backward.0 + 1, self.backward.1 + started.elapsed());
        Ok(LossGradient {
            loss: found.loss,
            gradient: found.gradient,
        })
    }
}

fn round(
    base: &BaseModel,
    shape: &Arc<AdapterShape>,
    contributors: usize,
) -> Result<RoundCost, Box<dyn Error>> {
    let (count, context, batch) = WINDOWS;
    let windows = Windows::from_text(base, brook::HELD_OUT_SAMPLE, context)?;
    let drawn = windows.sample(&[7; 32], count);
    let all: Vec<Vec<u32>> = drawn.iter().map(<[u32]>::to_vec).collect();
    let batches: Result<Vec<Windows>, _> = (all.chunks(batch))
        .map(|batch| Windows::from_tokens(batch.to_vec(), context, base.config().vocab))
        .collect();
    let mut source = Counted {
        base,
        shape: shape.clone(),
        batches: batches?,
        backward: Default::default(),
        forward: Default::default(),
    };
    let mut vectors: Vec<(PeerId, Vec<f32>)> = (0..contributors)
        .map(|n| (peer(n), contribution(shape, Codec::Sparse, (n, 1))))
        .collect();
    vectors.sort_by_key(|(peer, _)| *peer);
    let before = Adapter::init(shape.clone(), &digest(Domain::Simulation, b"cost"));
    let (mut backward, mut forward, mut products) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        (source.backward, source.forward) = Default::default();
        let started = Instant::now();
        path::score(before.values(), &vectors, &[], &mut source)?;
        let whole = started.elapsed();
        backward.push(ms(source.backward.1));
        forward.push(ms(source.forward.1));
        products.push(ms(whole - source.backward.1 - source.forward.1));
    }
    Ok(RoundCost {
        contributors,
        batches: source.batches.len(),
        backward: source.backward.0,
        forward: source.forward.0,
        backward_ms: least(backward),
        forward_ms: least(forward),
        products_ms: least(products),
    })
}

/// An answer in stretches with a real gradient in each stage, and the milliseconds that those took.
fn answer(
    base: &BaseModel,
    shape: &Arc<AdapterShape>,
) -> Result<(Vec<Stretch>, f64), Box<dyn Error>> {
    let (count, each) = STRETCHES;
    let tokens = base.encode(brook::HELD_OUT_SAMPLE)?;
    let text = &tokens[..PROMPT + count * each];
    let start = Adapter::init(shape.clone(), &digest(Domain::Simulation, b"cost"));
    let mut draws = draws(&[u64::MAX]);
    let mut adapters = Vec::new();
    for _ in 0..STAGES.0 {
        let mut noise = || (draws.next_u64() % 2001) as f32 / 1e5 - 0.01;
        let values: Vec<f32> = start.values().iter().map(|v| v + noise()).collect();
        adapters.push(Adapter::new(shape.clone(), values)?);
    }
    let (mut times, mut stretches) = (Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        let started = Instant::now();
        stretches = Vec::new();
        for at in 0..count {
            let from = PROMPT + at * each;
            let gradients = adapters.iter().map(|adapter| {
                let (before, said) = text[..from + each].split_at(from);
                Ok(tokens_loss_and_gradient(base, adapter, before, said)?.gradient)
            });
            stretches.push(Stretch {
                gradients: gradients.collect::<Result<_, GradientError>>()?,
                tokens: vec![
                    TokenLoss {
                        base: 4.0,
                        adapter: 3.0
                    };
                    each
                ],
            });
        }
        times.push(ms(started.elapsed()));
    }
    Ok((stretches, least(times)))
}

/// The members in a round of a run of `contributors`: as many as a certificate includes, in turns.
fn included(contributors: usize, round: u32) -> impl Iterator<Item = usize> {
    let first = round as usize * MAX_INCLUDED;
    (0..MAX_INCLUDED.min(contributors)).map(move |n| (first + n) % contributors)
}

fn shares(
    shape: &AdapterShape,
    codec: Codec,
    contributors: usize,
    stretches: &[Stretch],
    backward_ms: f64,
) -> Result<AnswerCost, Box<dyn Error>> {
    let compares = contributors <= MOST_WHOLE;
    let mut stages = Vec::new();
    let mut whole = Vec::new();
    for stage in 0..STAGES.0 {
        let (mut rows, mut moved) = (Stage::default(), Moved::default());
        for round in stage * STAGES.1 + 1..=(stage + 1) * STAGES.1 {
            for n in included(contributors, round) {
                let vector = [(peer(n), contribution(shape, codec, (n, round)))];
                rows.add(&vector)?;
                if compares {
                    moved.add(&vector)?;
                }
            }
        }
        stages.push(rows);
        whole.push(moved);
    }
    let views: Vec<&Stage> = stages.iter().collect();
    let (mut times, mut slow_times) = (Vec::new(), Vec::new());
    for repeat in 0..SHORT_REPEATS {
        let started = Instant::now();
        let found = stretch::shares_of_stages(stretches, &views)?;
        times.push(ms(started.elapsed()));
        if compares && repeat < REPEATS {
            let started = Instant::now();
            let slow = stretch::shares(stretches, whole.iter())?;
            slow_times.push(ms(started.elapsed()));
            if slow != found {
                return Err("shares by rows differ from those by whole vectors".into());
            }
        }
    }
    let numbers = contributors * STAGES.0 as usize * shape.parameters();
    Ok(AnswerCost {
        codec,
        contributors,
        backward: stretches.iter().map(|s| s.gradients.len()).sum(),
        backward_ms,
        contributors_ms: least(times),
        bytes: stages.iter().map(Stage::bytes).sum(),
        whole_ms: compares.then(|| least(slow_times)),
        whole_bytes: 4 * numbers,
    })
}

/// The tables.
pub fn markdown(costs: &Costs, command: &str) -> String {
    let rounds: Vec<Vec<String>> = (costs.rounds.iter())
        .map(|cost| {
            vec![
                cost.contributors.to_string(),
                format!(
                    "{} ({} a batch)",
                    cost.backward,
                    cost.backward / cost.batches
                ),
                format!("{:.0}", cost.backward_ms),
                format!("{:.0}", cost.forward_ms),
                format!("{:.1}", cost.products_ms),
            ]
        })
        .collect();
    let megabytes = |bytes: usize| format!("{:.1}", bytes as f64 / 1e6);
    let answers: Vec<Vec<String>> = (costs.answers.iter())
        .map(|cost| {
            let whole = cost.whole_ms;
            vec![
                cost.codec.word().to_owned(),
                cost.contributors.to_string(),
                format!("{} in {:.0} ms", cost.backward, cost.backward_ms),
                format!("{:.2}", cost.contributors_ms),
                megabytes(cost.bytes),
                whole.map_or_else(|| "not tried".to_owned(), |ms| format!("{ms:.2}")),
                megabytes(cost.whole_bytes),
            ]
        })
        .collect();
    let (windows, context, batch) = WINDOWS;
    let (stages, of_stage) = STAGES;
    let (stretches, each) = STRETCHES;
    format!(
        "From `{command}`, on {}. Brook, rank {RANK}, {} numbers; the least of {REPEATS} \
         or more times.\n\n\
         ### Scores of a round\n\n\
         One evaluator, {windows} windows of {context} tokens in batches of {batch}.\n\n{}\n\
         ### Shares of one answer\n\n\
         {stretches} stretches of {each} tokens, {stages} stages of {of_stage} rounds, {MAX_INCLUDED} contributions \
         a round or everybody's.\n\n{}",
        costs.machine,
        costs.parameters,
        table(
            &[
                "contributors",
                "backward passes",
                "they take, ms",
                "losses before and after, ms",
                "inner products and the rest, ms"
            ],
            &rounds
        ),
        table(
            &[
                "codec",
                "contributors",
                "backward passes",
                "contributors add, ms",
                "MB held",
                "by whole vectors, ms",
                "MB they would hold"
            ],
            &answers
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contributors_add_products_and_no_backward_pass() {
        let base = BaseModel::brook().unwrap();
        let shape = Arc::new(base.adapter_shape(1, 2));
        let few = round(&base, &shape, 1).unwrap();
        let many = round(&base, &shape, 5).unwrap();
        assert_eq!(
            (few.backward, many.backward),
            (2 * few.batches, 2 * few.batches)
        );
        assert_eq!(few.forward, 2 * few.batches);
        assert!(few.batches > 1);
    }

    #[test]
    fn a_round_includes_as_many_as_a_certificate_and_in_turns_everybody() {
        for contributors in [10, 100, 1000] {
            let of_round = |round| included(contributors, round).collect::<Vec<_>>();
            assert_eq!(of_round(1).len(), contributors.min(MAX_INCLUDED));
            let all: std::collections::BTreeSet<usize> = (1..=25).flat_map(of_round).collect();
            assert_eq!(all.len(), contributors);
        }
    }

    #[test]
    fn a_measured_contribution_moves_what_its_codec_keeps() {
        let base = BaseModel::brook().unwrap();
        let shape = base.adapter_shape(RANK, 2 * RANK);
        let moved = |codec| {
            let vector = contribution(&shape, codec, (3, 1));
            vector.iter().filter(|v| **v != 0.0).count()
        };
        let (sparse, dense) = (moved(Codec::Sparse), moved(Codec::Dense));
        assert!(
            sparse * 60 < shape.parameters() && sparse * 70 > shape.parameters(),
            "{sparse}"
        );
        assert!(dense * 10 > 9 * shape.parameters(), "{dense}");
    }
}
