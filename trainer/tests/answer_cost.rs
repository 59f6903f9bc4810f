//! What the passes behind `tributary why` cost: one for all tokens against one for each prefix.
//!
//! Ignored by default; `docs/numbers/why.md` has the figures and the command. Both ways take turns, so that
//! what else the machine does falls on both, and the least time of each counts. Both must find the same numbers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tributary_protocol::adapter::Adapter;
use tributary_protocol::hash::Digest;
use tributary_trainer::{
    BaseModel, Windows, brook, evaluate, stretch_gradients, token_losses, tokens_loss_and_gradient,
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

#[test]
#[ignore = "takes a minute; `docs/numbers/why.md` is written from what it prints"]
fn one_pass_costs_less_than_one_for_each_prefix_and_finds_the_same() {
    let base = BaseModel::brook().unwrap();
    let shape = Arc::new(base.adapter_shape(8, 16));
    let adapters: Vec<Adapter> = (0..STAGES as u32)
        .map(|stage| {
            // Both factors away from zero.
            let start = Adapter::init(shape.clone(), &Digest::from_bytes([stage as u8; 32]));
            let noise = |at: u32| (at.wrapping_mul(2_654_435_761) >> 20) as f32 / 2e5 - 0.01;
            let values = (start.values().iter().zip(stage..)).map(|(v, at)| v + noise(at));
            Adapter::new(shape.clone(), values.collect()).unwrap()
        })
        .collect();
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
