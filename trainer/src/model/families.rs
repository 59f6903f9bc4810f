//! The forms that a forward pass has, compared with each other as whole models: what they give, and what they cost.
//!
//! Which forms there are, and why, is in `model`. `docs/numbers/forms.md` has the costs and the command that
//! writes them.

use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use tributary_protocol::adapter::{Adapter, AdapterShape, Trainable};

use crate::config::Config;
use crate::data::padded_batch;
use crate::lora::{Factors, modules};
use crate::model::decode::Cache;
use crate::model::ops::PLAIN;
use crate::model::parameters::initialise;
use crate::model::{Batch, Model, download};
use crate::testing::every_family;

/// Counts what all threads of this crate's tests hold.
#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// How a model is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Lean,
    Fused,
    Plain,
}

/// What a model is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// Loss of a batch with an adapter.
    Loss,
    /// The loss and its gradient by the adapter.
    Adapter,
    /// Gradient of all weights.
    Weights,
    /// Logits after each further token.
    Decode,
}

/// The forms that do a task.
const PAIRS: [(Task, &[Form]); 4] = [
    (Task::Loss, &[Form::Lean, Form::Fused, Form::Plain]),
    (Task::Adapter, &[Form::Lean, Form::Fused, Form::Plain]),
    (Task::Weights, &[Form::Fused, Form::Plain]),
    (Task::Decode, &[Form::Fused, Form::Plain]),
];

/// Tokens that are decoded one after the other.
const STEPS: usize = 16;

struct Case {
    model: Model,
    adapter: Adapter,
    batch: Batch,
}

impl Case {
    fn new(config: &Config, windows: usize, context: usize) -> Self {
        let model = Model::new(config.clone(), initialise(config, 3), &crate::device::cpu());
        let shape = AdapterShape {
            rank: 4,
            alpha: 8,
            modules: modules(config),
        };
        let number = |at: usize| (at * 7919 % 1009) as f32 / 5e3 - 0.1;
        let values = (0..shape.parameters()).map(number).collect();
        let adapter = Adapter::new(shape.into(), values).unwrap();
        let ids = |window: usize| (0..context).map(move |at| (at * at + 31 * window + 7) * 17);
        let tokens: Vec<Vec<u32>> = (0..windows)
            .map(|window| ids(window).map(|id| (id % config.vocab) as u32).collect())
            .collect();
        let tokens: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
        Self {
            model,
            adapter,
            batch: padded_batch(&tokens, 1),
        }
    }

    fn factors(&self, trainable: Option<Trainable>) -> Factors {
        let (config, device) = (self.model.config(), self.model.device());
        Factors::new(config, &self.adapter, trainable, device).unwrap()
    }

    /// Everything that the task gives, in one list.
    fn run(&self, task: Task, form: Form) -> Vec<f32> {
        PLAIN.set(form == Form::Plain);
        let found = match (task, form) {
            (Task::Loss, Form::Lean) => {
                let lean = self.model.lean().expect("in host memory");
                let sum = lean.loss_sum(Some(&self.adapter), &self.batch).unwrap();
                vec![sum as f32]
            }
            (Task::Loss, _) => {
                download(self.model.loss_sum(Some(&self.factors(None)), &self.batch))
            }
            (Task::Adapter, Form::Lean) => {
                let lean = self.model.lean().expect("in host memory");
                let found = lean.loss_and_gradient(&self.adapter, Trainable::Both, &self.batch);
                found.unwrap().1
            }
            (Task::Adapter, _) => {
                let factors = self.factors(Some(Trainable::Both));
                let sum = (self.model.tracked()).loss_sum(Some(&factors), &self.batch);
                let mean = sum / self.batch.predicted() as f64;
                factors.gradient(&mut mean.backward())
            }
            (Task::Weights, _) => {
                let model = self.model.trainable();
                let mut gradients = model.loss_sum(None, &self.batch).backward();
                let weights = model.weights();
                let each = weights.iter().filter_map(|w| w.gradient(&mut gradients));
                each.flatten().collect()
            }
            (Task::Decode, _) => {
                let factors = self.factors(None);
                let tokens = &self.batch.tokens[..self.batch.context];
                let mut cache = Cache::new(&self.model, tokens.len());
                let (prompt, rest) = tokens.split_at(tokens.len() - STEPS);
                self.model.decode(Some(&factors), prompt, &mut cache);
                let mut step = |token| self.model.decode(Some(&factors), &[token], &mut cache);
                rest.iter().flat_map(|token| step(*token)).collect()
            }
        };
        PLAIN.set(false);
        found
    }
}

#[test]
fn every_form_of_a_model_gives_the_same() {
    for config in every_family() {
        let case = Case::new(&config, 2, 40);
        for (task, forms) in PAIRS {
            let expected = case.run(task, Form::Plain);
            let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            assert!(largest > 0.0, "{task:?}");
            for form in forms {
                let found = case.run(task, *form);
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(&expected) {
                    let gap = (found - expected).abs();
                    assert!(
                        gap <= 2e-5 * largest,
                        "{task:?} {form:?}: {found} {expected}"
                    );
                }
            }
        }
    }
}

/// The shape of the embedded model, and a quarter of SmolLM2-135M's layers.
fn shapes() -> [(&'static str, Config); 2] {
    let brook = crate::pretrain::brook_config(4096, 0);
    let middle = Config {
        vocab: 16_384,
        hidden: 576,
        ffn: 1536,
        layers: 8,
        heads: 9,
        kv_heads: 3,
        ..brook.clone()
    };
    [("embedded", brook), ("middle", middle)]
}

#[test]
#[ignore = "takes minutes; `docs/numbers/forms.md` is written from what it prints"]
fn forms_of_a_model_cost_what_the_page_says() {
    for (name, config) in shapes() {
        for (task, forms) in PAIRS {
            let mut least = vec![Duration::MAX; forms.len()];
            let mut most = vec![0; forms.len()];
            for _ in 0..5 {
                for (at, form) in forms.iter().enumerate() {
                    // Of its own, so that no form finds the buffers of another.
                    let case = Case::new(&config, 4, 128);
                    ALLOCATOR.reset_peak_usage();
                    let before = ALLOCATOR.current_usage();
                    case.run(task, *form);
                    most[at] = ALLOCATOR.peak_usage() - before;
                    let started = Instant::now();
                    case.run(task, *form);
                    least[at] = least[at].min(started.elapsed());
                }
            }
            for ((form, time), bytes) in forms.iter().zip(&least).zip(&most) {
                println!(
                    "form {name} {task:?} {form:?}: {:.1} ms, {} MiB beyond the model",
                    time.as_secs_f64() * 1e3,
                    bytes >> 20
                );
            }
            assert!(
                least[0] <= least[forms.len() - 1] * 2,
                "{task:?}: {least:?}"
            );
        }
    }
}
