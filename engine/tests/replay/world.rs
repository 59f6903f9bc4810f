//! Answers of the embedded model to pieces of text, as an honest or another server gives them.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tributary_engine::lora::full_shape;
use tributary_engine::request::{Consumer, Request};
use tributary_engine::{
    Base, Claim, Engine, EngineOptions, Event, Finish, LoadedAdapter, Micros, Precision, Sampling,
    brook,
};
use tributary_protocol::adapter::{Adapter, Factor};
use tributary_protocol::hash::Digest;

/// Tokens of an answer.
pub(crate) const TOKENS: usize = 200;

/// How much an adapter adds to a linear, as a part of its norm. Adapters that were taught facts over this model add 0.36
/// and more, those of a demo's first rounds 0.01.
pub(crate) const SIZE: f32 = 0.3;

/// A question, and how it is to be answered.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) adapter: Option<Arc<LoadedAdapter>>,
    pub(crate) prompt: Vec<u32>,
    pub(crate) sampling: Sampling,
    pub(crate) ends: Arc<[u32]>,
}

impl Ask {
    pub(crate) fn request(&self) -> Request {
        Request {
            consumer: Consumer::default(),
            adapter: self.adapter.clone(),
            prompt: self.prompt.clone(),
            max_tokens: TOKENS,
            sampling: self.sampling.clone(),
            ends: self.ends.clone(),
            logprobs: None,
            constraint: None,
            deadline: None,
        }
    }

    /// That `answer` is the answer.
    pub(crate) fn claim(&self, (answer, finish): (Vec<u32>, Finish)) -> Claim {
        Claim {
            adapter: self.adapter.clone(),
            prompt: self.prompt.clone(),
            answer,
            sampling: self.sampling.clone(),
            ends: self.ends.clone(),
            max_tokens: TOKENS,
            finish,
            constraint: None,
        }
    }
}

pub(crate) fn engine(base: Base, precision: Precision) -> Engine {
    // Tests run beside each other: a thread each.
    engine_of(base, precision, 1)
}

pub(crate) fn engine_of(base: Base, precision: Precision, threads: usize) -> Engine {
    Engine::new(
        base,
        EngineOptions {
            precision,
            threads,
            cache_bytes: 64 << 20,
            most_waiting: 1 << 20,
            most_running: 32,
        },
    )
}

/// What the engine answers to all, 32 at a time.
pub(crate) fn answers(engine: &mut Engine, asks: &[Ask]) -> Vec<(Vec<u32>, Finish)> {
    let mut tokens = BTreeMap::new();
    let mut found = BTreeMap::new();
    for ask in asks {
        let id = engine.submit(ask.request(), Micros(0)).unwrap();
        tokens.insert(id, Vec::new());
    }
    while engine.step(&|| Micros(0), &mut |id, event| match event {
        Event::Token(token) => tokens.get_mut(&id).unwrap().push(token.id),
        Event::Finished(finish, _) => {
            found.insert(id, (tokens.remove(&id).unwrap(), finish));
        }
    }) {}
    found.into_values().collect()
}

/// Ways to choose tokens, of which the first takes the likeliest.
pub(crate) fn samplings() -> Vec<Sampling> {
    let free = Sampling {
        temperature: 1.0,
        ..Sampling::default()
    };
    vec![
        Sampling::default(),
        Sampling {
            temperature: 0.9,
            top_p: 0.95,
            ..free.clone()
        },
        free.clone(),
        Sampling {
            temperature: 0.7,
            top_k: 40,
            presence_penalty: 0.2,
            frequency_penalty: 0.3,
            ..free.clone()
        },
        Sampling {
            min_p: 0.05,
            repetition_penalty: 1.1,
            logit_bias: vec![(300, 2.0), (301, -3.0)],
            ..free
        },
    ]
}

/// Texts and adapters.
pub(crate) struct World {
    pub(crate) base: Base,
    pub(crate) text: Vec<u32>,
    pub(crate) adapters: Vec<Arc<LoadedAdapter>>,
}

impl World {
    pub(crate) fn new() -> Self {
        let base = Base::brook().unwrap();
        let text = base.info.tokenizer.encode(brook::HELD_OUT_SAMPLE).unwrap();
        let adapters = (0..4).map(|seed| loaded(&base, adapter(&base, seed, SIZE)));
        Self {
            adapters: adapters.collect(),
            text,
            base,
        }
    }

    /// Questions to the first adapter.
    pub(crate) fn asks(&self, count: usize, sampling: &Sampling, seed: u64) -> Vec<Ask> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let ask = |_| {
            let length = rng.random_range(4..64);
            let from = rng.random_range(0..self.text.len() - length);
            Ask {
                adapter: Some(self.adapters[0].clone()),
                prompt: self.text[from..from + length].to_vec(),
                sampling: Sampling {
                    seed: rng.random(),
                    ..sampling.clone()
                },
                ends: Arc::from([]),
            }
        };
        (0..count).map(ask).collect()
    }

    /// Questions of all kinds: every sampling, with adapters and without, with an end and without.
    pub(crate) fn mixed(&self, count: usize, seed: u64) -> Vec<Ask> {
        let samplings = samplings();
        let ends: Arc<[u32]> = self.base.info.end_tokens().into();
        let mut asks = self.asks(count, &samplings[0], seed);
        for (at, ask) in asks.iter_mut().enumerate() {
            ask.sampling = Sampling {
                seed: ask.sampling.seed,
                ..samplings[at % samplings.len()].clone()
            };
            ask.adapter = self.adapters.get(at / samplings.len() % 5).cloned();
            if at % 3 == 0 {
                ask.ends = ends.clone();
            }
        }
        asks
    }
}

/// Root of the mean square.
fn size(values: &[f32]) -> f32 {
    (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt()
}

/// Numbers from -1 to 1 times root three: their mean square is one.
fn numbers(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    let mut draw = || (rng.random::<f32>() * 2.0 - 1.0) * 3f32.sqrt();
    (0..count).map(|_| draw()).collect()
}

/// A random adapter that changes every linear by a part of its size.
pub(crate) fn adapter(base: &Base, seed: u64, part: f32) -> Adapter {
    let (rank, config) = (8, &base.info.config);
    let shape = Arc::new(full_shape(config, rank, 2 * rank));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut values = Vec::with_capacity(shape.parameters());
    for segment in shape.segments() {
        let name = format!("{}.weight", shape.modules[segment.module].name);
        let weight = base.parameters.iter().find(|p| p.name == name).unwrap();
        let first = 1.0 / (weight.shape[1] as f32).sqrt();
        let factor = match segment.factor {
            Factor::A => first,
            Factor::B => {
                part * size(&weight.values) / (shape.scale() * first * (rank as f32).sqrt())
            }
        };
        let numbers = numbers(&mut rng, segment.len());
        values.extend(numbers.iter().map(|number| number * factor));
    }
    Adapter::new(shape, values).unwrap()
}

/// The adapter, each factor changed by a random part of its size.
pub(crate) fn near(adapter: &Adapter, part: f32, seed: u64) -> Adapter {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut values = Vec::new();
    for segment in adapter.shape().segments() {
        let own = adapter.segment(&segment);
        let change = part * size(own);
        let numbers = numbers(&mut rng, own.len());
        values.extend(own.iter().zip(numbers).map(|(own, n)| own + change * n));
    }
    Adapter::new(adapter.shape().clone(), values).unwrap()
}

pub(crate) fn loaded(base: &Base, adapter: Adapter) -> Arc<LoadedAdapter> {
    let config = &base.info.config;
    // Nothing is cached between engines, and within one every adapter of these tests has a name of its own.
    let content = Digest::from_bytes(std::array::from_fn(|at| {
        adapter.as_bytes()[at * 997 % adapter.as_bytes().len()]
    }));
    Arc::new(LoadedAdapter::new(config, &adapter, content).unwrap())
}

/// The base with linears of four bits: 32 numbers of an output share a scale, each is one of fifteen steps.
pub(crate) fn four_bits(base: &Base) -> Base {
    let mut base = base.clone();
    let is_linear = |name: &str| name.contains("_proj.weight");
    for parameter in base.parameters.iter_mut().filter(|p| is_linear(&p.name)) {
        for group in parameter.values.chunks_mut(32) {
            let largest = group.iter().fold(0f32, |most, v| most.max(v.abs()));
            let step = largest / 7.0;
            if step > 0.0 {
                group
                    .iter_mut()
                    .for_each(|v| *v = (*v / step).round() * step);
            }
        }
    }
    base
}
