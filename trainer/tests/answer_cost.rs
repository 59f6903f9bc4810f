//! What the passes behind `tributary why` cost: one for all tokens against one for each prefix, and all of them
//! against the answer itself.
//!
//! Ignored by default; `docs/numbers/why.md` has the figures and the commands. What is compared takes turns, so that
//! what else the machine does falls on both, and the least time of each counts. Both ways must find the same numbers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tributary_protocol::adapter::Adapter;
use tributary_protocol::hash::Digest;
use tributary_trainer::generate::Finish;
use tributary_trainer::{
    BaseModel, GenerateConfig, Windows, brook, evaluate, generate_ids, stretch_gradients,
    token_losses, tokens_loss_and_gradient,
};

/// Stretches and stages of `tributary_attribution::query`.
const STRETCHES: usize = 8;
const STAGES: usize = 4;
/// Tokens of the prompt.
const PROMPT: usize = 16;

/// What is found of an answer: losses without and with an adapter, and a gradient a stage and stretch.
type Found = ([Vec<f64>; 2], Vec<Vec<Vec<f32>>>);

struct Case<'a> {
    base: &'a BaseModel,
    adapters: &'a [Adapter],
    text: &'a [u32],
}

impl Case<'_> {
    fn each(&self) -> usize {
        (self.text.len() - PROMPT).div_ceil(STRETCHES)
    }

    /// Loss of a text's first tokens, nats.
    fn sum(&self, adapter: Option<&Adapter>, length: usize) -> f64 {
        let prefix = vec![self.text[..length].to_vec()];
        let windows = Windows::from_tokens(prefix, length, self.base.config().vocab).unwrap();
        let found = evaluate(self.base, adapter, &windows).unwrap();
        found.nll * found.predicted as f64
    }

    fn by_prefixes(&self) -> (Found, [Duration; 2]) {
        let started = Instant::now();
        let losses = [None, Some(&self.adapters[0])].map(|adapter| {
            let lengths = PROMPT..=self.text.len();
            let sums: Vec<f64> = lengths.map(|length| self.sum(adapter, length)).collect();
            sums.windows(2).map(|pair| pair[1] - pair[0]).collect()
        });
        let middle = started.elapsed();
        let starts = (PROMPT..self.text.len()).step_by(self.each());
        let gradients = self.adapters.iter().map(|adapter| {
            let gradient = |from: usize| {
                let to = (from + self.each()).min(self.text.len());
                let (before, said) = self.text[..to].split_at(from);
                let found = tokens_loss_and_gradient(self.base, adapter, before, said).unwrap();
                let predicted = found.predicted as f32;
                found.gradient.iter().map(|g| predicted * g).collect()
            };
            starts.clone().map(gradient).collect()
        });
        let gradients = gradients.collect();
        ((losses, gradients), [middle, started.elapsed() - middle])
    }

    fn by_one_pass(&self) -> (Found, [Duration; 2]) {
        let (prompt, answer) = self.text.split_at(PROMPT);
        let started = Instant::now();
        let losses = [None, Some(&self.adapters[0])]
            .map(|adapter| token_losses(self.base, adapter, prompt, answer).unwrap());
        let middle = started.elapsed();
        let gradients = (self.adapters.iter())
            .map(|a| stretch_gradients(self.base, a, prompt, answer, self.each()).unwrap())
            .collect();
        ((losses, gradients), [middle, started.elapsed() - middle])
    }
}

fn assert_close(fast: &Found, slow: &Found) {
    for (fast, slow) in fast.0.iter().flatten().zip(slow.0.iter().flatten()) {
        assert!((fast - slow).abs() < 2e-3, "{fast} {slow}");
    }
    let (fast, slow) = (fast.1.iter().flatten(), slow.1.iter().flatten());
    for (fast, slow) in fast.zip(slow) {
        let largest = slow.iter().fold(0.0f32, |m, g| m.max(g.abs()));
        for (fast, slow) in fast.iter().zip(slow) {
            assert!((fast - slow).abs() <= 1e-4 * largest, "{fast} {slow}");
        }
    }
}

/// Half way through each stage of a run: both factors away from zero.
fn adapters(base: &BaseModel) -> Vec<Adapter> {
    let shape = Arc::new(base.adapter_shape(8, 16));
    let adapter = |stage: u32| {
        let start = Adapter::init(shape.clone(), &Digest::from_bytes([stage as u8; 32]));
        let noise = |at: u32| (at.wrapping_mul(2_654_435_761) >> 20) as f32 / 2e5 - 0.01;
        let values = (start.values().iter().zip(stage..)).map(|(v, at)| v + noise(at));
        Adapter::new(shape.clone(), values.collect()).unwrap()
    };
    (0..STAGES as u32).map(adapter).collect()
}

#[test]
#[ignore = "takes a minute; `docs/numbers/why.md` is written from what it prints"]
fn one_pass_costs_less_than_one_for_each_prefix_and_finds_the_same() {
    let base = BaseModel::brook().unwrap();
    let adapters = adapters(&base);
    let sample = base.encode(brook::HELD_OUT_SAMPLE).unwrap();
    let tokens: Vec<u32> = sample.iter().copied().cycle().take(PROMPT + 512).collect();
    for (answer, repeats) in [(32, 9), (128, 5), (512, 3)] {
        let case = Case {
            base: &base,
            adapters: &adapters,
            text: &tokens[..PROMPT + answer],
        };
        let mut least = [[Duration::MAX; 2]; 2];
        for _ in 0..repeats {
            let (slow, before) = case.by_prefixes();
            let (fast, after) = case.by_one_pass();
            assert_close(&fast, &slow);
            for (least, times) in least.iter_mut().zip([before, after]) {
                for (least, time) in least.iter_mut().zip(times) {
                    *least = (*least).min(time);
                }
            }
        }
        let [before, after] = least.map(|times| times.map(|time| time.as_secs_f64() * 1e3));
        println!(
            "answer of {answer} tokens: losses {:.1} ms by prefixes, {:.1} ms in one pass; gradients {:.1} ms, \
             {:.1} ms; of {repeats} turns",
            before[0], after[0], before[1], after[1]
        );
        assert!(after[0] < before[0] && after[1] < before[1], "{least:?}");
    }
}

/// Contributors whose influence is summed.
const CONTRIBUTORS: usize = 4;
/// Most that shares may cost, in times of the answer.
const MOST_TIMES: f64 = 3.0;

/// The inner product of a gradient and what a contributor moved, as attribution takes it: in `f64`, in eight lanes.
fn along(gradient: &[f32], moved: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    for (gradient, moved) in gradient.chunks(8).zip(moved.chunks(8)) {
        for ((lane, gradient), moved) in lanes.iter_mut().zip(gradient).zip(moved) {
            *lane -= f64::from(*gradient) * f64::from(*moved);
        }
    }
    lanes.iter().sum()
}

#[test]
#[ignore = "needs two idle cores; `docs/numbers/why.md` is written from what it prints"]
fn shares_of_an_answer_cost_at_most_three_times_the_answer() {
    let base = BaseModel::brook().unwrap();
    let adapters = adapters(&base);
    let tokens = base.encode(brook::HELD_OUT_SAMPLE).unwrap();
    // Greedily: a draw has a cost of its own.
    let answered = |prompt: &[u32]| {
        let config = GenerateConfig {
            max_tokens: 200,
            ..GenerateConfig::default()
        };
        generate_ids(&base, Some(&adapters[STAGES - 1]), prompt, &config).unwrap()
    };
    let mut prompts = tokens.windows(PROMPT);
    let prompt = prompts.find(|prompt| answered(prompt).finish == Finish::Length);
    let prompt = prompt.expect("some answer is long");
    let mut least = [Duration::MAX; 4];
    let mut note = |which: usize, started: Instant| {
        least[which] = least[which].min(started.elapsed());
    };
    for _ in 0..15 {
        let started = Instant::now();
        let text = [prompt, &answered(prompt).token_ids].concat();
        note(0, started);
        let case = Case {
            base: &base,
            adapters: &adapters,
            text: &text,
        };
        let answer = &text[PROMPT..];
        let started = Instant::now();
        for adapter in [None, Some(&adapters[STAGES - 1])] {
            assert_eq!(
                token_losses(&base, adapter, prompt, answer).unwrap().len(),
                200
            );
        }
        note(1, started);
        let started = Instant::now();
        let gradient =
            |adapter| stretch_gradients(&base, adapter, prompt, answer, case.each()).unwrap();
        let gradients: Vec<Vec<Vec<f32>>> = adapters.iter().map(gradient).collect();
        note(2, started);
        // What contributors moved is as long as an adapter, and as dense as it can be.
        let started = Instant::now();
        let moved = adapters.iter().cycle().take(CONTRIBUTORS);
        let influences = moved.flat_map(|moved| {
            let all = gradients.iter().flatten();
            all.map(move |gradient| along(gradient, moved.values()))
        });
        let influences: f64 = influences.sum();
        assert!(influences.is_finite() && influences != 0.0);
        note(3, started);
    }
    let [answer, losses, gradients, products] = least.map(|time| time.as_secs_f64() * 1e3);
    let shares = losses + gradients + products;
    let ratio = shares / answer;
    println!(
        "shares of 200 tokens: answer {answer:.1} ms, losses {losses:.1} ms, gradients {gradients:.1} ms, products \
         {products:.1} ms, {ratio:.2} times the answer"
    );
    assert!(ratio <= MOST_TIMES, "{ratio:.2} times the answer");
}
