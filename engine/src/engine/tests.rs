//! Answers in company, with and without a cache, and what ends them.

use std::cell::Cell;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tributary_protocol::adapter::Adapter;
use tributary_protocol::hash::Digest;

use super::*;
use crate::lora::full_shape;
use crate::request::Consumer;
use crate::sample::Sampling;

const OPTIONS: EngineOptions = EngineOptions {
    precision: Precision::F32,
    threads: 2,
    cache_bytes: 64 << 20,
    most_waiting: 1000,
    most_running: 32,
};

fn engine(options: EngineOptions) -> Engine {
    Engine::new(Base::brook().unwrap(), options)
}

fn adapter(config: &Config, rank: u32, seed: u64) -> Arc<LoadedAdapter> {
    let shape = Arc::new(full_shape(config, rank, 2 * rank));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = || rng.random::<f32>() * 0.1 - 0.05;
    let values = (0..shape.parameters()).map(|_| draw()).collect();
    let adapter = Adapter::new(shape, values).unwrap();
    let content = Digest::from_bytes([seed as u8; 32]);
    Arc::new(LoadedAdapter::new(config, &adapter, content).unwrap())
}

fn request(prompt: Vec<u32>, max_tokens: usize, seed: u64) -> Request {
    Request {
        consumer: Consumer([seed as u8 % 3; 32]),
        adapter: None,
        prompt,
        max_tokens,
        sampling: Sampling {
            temperature: 0.9,
            top_p: 0.95,
            seed,
            ..Sampling::default()
        },
        ends: Arc::from([]),
        logprobs: Some(2),
        constraint: None,
        deadline: None,
    }
}

/// Thirty-two requests of all kinds.
fn mixed(config: &Config) -> Vec<Request> {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let adapters: Vec<_> = (0..5)
        .map(|at| adapter(config, 2 + at as u32, at))
        .collect();
    let one = |at: usize| {
        let length = [1, 7, 33, 90, 300][at % 5];
        let prompt = (0..length).map(|_| rng.random_range(0..2000)).collect();
        Request {
            adapter: (!at.is_multiple_of(4)).then(|| adapters[at % 5].clone()),
            ..request(prompt, 10 + at, at as u64)
        }
    };
    (0..32).map(one).collect()
}

/// Answers of requests that come at once: tokens, and how each ended.
fn answers(engine: &mut Engine, requests: Vec<Request>) -> Vec<(Vec<Token>, Finish, Usage)> {
    let mut found = BTreeMap::new();
    let mut ids = Vec::new();
    for request in requests {
        ids.push(engine.submit(request, Micros(0)).unwrap());
    }
    let mut tokens: BTreeMap<RequestId, Vec<Token>> = BTreeMap::new();
    let time = Cell::new(0);
    let clock = || {
        time.set(time.get() + 1000);
        Micros(time.get())
    };
    while engine.step(&clock, &mut |id, event| match event {
        Event::Token(token) => tokens.entry(id).or_default().push(token),
        Event::Finished(finish, usage) => {
            let tokens = tokens.remove(&id).unwrap_or_default();
            assert!(found.insert(id, (tokens, finish, usage)).is_none());
        }
    }) {}
    ids.iter().map(|id| found.remove(id).unwrap()).collect()
}

#[test]
fn thirty_two_mixed_requests_are_answered_as_each_alone_bit_for_bit() {
    for precision in [Precision::F32, Precision::Int8] {
        let options = EngineOptions {
            precision,
            ..OPTIONS
        };
        let config = Base::brook().unwrap().info.config;
        let together = answers(&mut engine(options), mixed(&config));
        let mut single = engine(EngineOptions {
            threads: 1,
            ..options
        });
        for (request, together) in mixed(&config).into_iter().zip(&together) {
            let alone = answers(&mut single, vec![request]);
            assert_eq!(alone[0].0, together.0);
            assert_eq!(alone[0].1, Finish::Length);
        }
    }
}

#[test]
fn a_cached_prompt_gives_the_same_answer_and_says_how_much_was_cached() {
    let mut engine = engine(OPTIONS);
    let prompt: Vec<u32> = (0..100).map(|at| at * 7 % 2000).collect();
    let first = answers(&mut engine, vec![request(prompt.clone(), 20, 3)]);
    let second = answers(&mut engine, vec![request(prompt.clone(), 20, 3)]);
    assert_eq!(first[0].0, second[0].0);
    assert_eq!((first[0].2.cached, second[0].2.cached), (0, 96));
    // Another consumer is not told by its speed what others asked.
    let other = Request {
        consumer: Consumer([9; 32]),
        ..request(prompt, 20, 3)
    };
    let third = answers(&mut engine, vec![other]);
    assert_eq!(third[0].2.cached, 0);
    assert_eq!(third[0].0, first[0].0);
}

#[test]
fn few_pages_make_requests_wait_and_change_no_answer() {
    let config = Base::brook().unwrap().info.config;
    let plenty = answers(&mut engine(OPTIONS), mixed(&config));
    let scarce = EngineOptions {
        cache_bytes: 14 * page_bytes(&config),
        ..OPTIONS
    };
    let scarce = answers(&mut engine(scarce), mixed(&config));
    for (scarce, plenty) in scarce.iter().zip(&plenty) {
        assert_eq!(scarce.0, plenty.0);
    }
}

/// Allows one token after the other.
struct Dictated(Vec<u32>);

impl Constraint for Dictated {
    fn allowed(&mut self) -> Result<Vec<u32>, String> {
        let mut words = vec![0; 2000 / 32];
        let next = self.0.first().ok_or("nothing is left")?;
        words[*next as usize / 32] |= 1 << (next % 32);
        Ok(words)
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        assert_eq!(self.0.remove(0), token);
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.0.is_empty()
    }
}

#[test]
fn constraints_ends_deadlines_and_cancellation_end_an_answer() {
    let mut engine = engine(OPTIONS);
    let dictated = Request {
        constraint: Some(Box::new(Dictated(vec![5, 900, 17]))),
        ..request(vec![1, 2, 3], 50, 1)
    };
    let late = Request {
        deadline: Some(Micros(3000)),
        ..request(vec![1, 2, 3], 50, 2)
    };
    let free = answers(&mut engine, vec![request(vec![4, 5], 6, 3)]);
    let third = free[0].0[2].id;
    let ended = Request {
        ends: Arc::from([third]),
        ..request(vec![4, 5], 6, 3)
    };
    let found = answers(&mut engine, vec![dictated, late, ended]);
    let ids: Vec<u32> = found[0].0.iter().map(|token| token.id).collect();
    assert_eq!(ids, [5, 900, 17]);
    assert_eq!(found[0].1, Finish::End);
    assert_eq!(found[1].1, Finish::Deadline);
    assert_eq!(found[2].1, Finish::End);
    assert!(found[2].0.len() <= 3 && found[2].0.last().unwrap().id == third);

    let id = engine.submit(request(vec![1], 500, 4), Micros(0)).unwrap();
    engine.step(&|| Micros(0), &mut |_, _| ());
    engine.cancel(id);
    let mut events = Vec::new();
    engine.step(&|| Micros(0), &mut |id, event| events.push((id, event)));
    let [(ended, Event::Finished(Finish::Cancelled, usage))] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!((*ended, usage.answer), (id, 1));
    engine.close();
    assert_eq!(
        engine.submit(request(vec![1], 5, 4), Micros(0)),
        Err(Refused::Closing)
    );
    assert!(!engine.step(&|| Micros(0), &mut |_, _| ()));
}

#[test]
fn bad_requests_and_damaged_adapters_are_told_by_what_is_wrong() {
    let mut engine = engine(OPTIONS);
    let config = engine.info().config.clone();
    let refused = |engine: &mut Engine, request: Request| {
        engine.submit(request, Micros(0)).unwrap_err().to_string()
    };
    let unknown = request(vec![1, 1 << 30], 5, 1);
    assert!(refused(&mut engine, unknown).contains("not in the vocabulary"));
    assert!(refused(&mut engine, request(vec![], 5, 1)).contains("empty"));
    assert!(refused(&mut engine, request(vec![1], 1 << 40, 1)).contains("exceed"));
    let mut hot = request(vec![1], 5, 1);
    hot.sampling.temperature = f32::NAN;
    assert!(refused(&mut engine, hot).contains("temperature"));

    let shape = Arc::new(full_shape(&config, 2, 4));
    let values = vec![1e30; shape.parameters()];
    let adapter = Adapter::new(shape, values).unwrap();
    let loaded = LoadedAdapter::new(&config, &adapter, Digest::from_bytes([7; 32])).unwrap();
    let damaged = Request {
        adapter: Some(Arc::new(loaded)),
        ..request(vec![1, 2], 5, 1)
    };
    let sound = request(vec![1, 2], 5, 1);
    let found = answers(&mut engine, vec![damaged, sound]);
    let Finish::Failed(why) = &found[0].1 else {
        panic!("{:?}", found[0]);
    };
    assert!(why.contains("damaged"), "{why}");
    assert_eq!(found[1].1, Finish::Length);
}

#[test]
fn the_bits_of_answers_are_those_that_the_arithmetic_is_named_for() {
    use tributary_protocol::hash::{Domain, Hasher};
    const BITS: &str = "a9853dc9f8df7027d9be41b32dd7af3c8db38c6c907d2ad13876ead49ee23cab";
    let config = Base::brook().unwrap().info.config;
    let mut hasher = Hasher::new(Domain::Simulation);
    for precision in [Precision::F32, Precision::Int8] {
        let options = EngineOptions {
            precision,
            ..OPTIONS
        };
        for (tokens, _, _) in answers(&mut engine(options), mixed(&config)) {
            for token in tokens {
                hasher.update(&token.id.to_le_bytes());
                hasher.update(&token.logprob.to_bits().to_le_bytes());
            }
        }
    }
    let found = (replay::ARITHMETIC, hasher.finalize().to_string());
    // Where this fails, answers of engines before and after are no longer the same: give the arithmetic a new name.
    assert_eq!(found, ("tributary 2", BITS.to_string()));
}

#[test]
fn a_folder_that_is_packed_while_it_is_read_answers_as_the_base_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("config.json", crate::brook::CONFIG),
        ("model.safetensors", crate::brook::WEIGHTS),
        ("tokenizer.json", crate::brook::TOKENIZER),
    ];
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    for precision in [Precision::F32, Precision::Int8] {
        let options = EngineOptions {
            precision,
            ..OPTIONS
        };
        let mut packed = Engine::from_dir(folder.path(), options).unwrap();
        let mut whole = engine(options);
        assert_eq!(packed.info().hash, whole.info().hash);
        let config = whole.info().config.clone();
        let found = answers(&mut packed, mixed(&config));
        assert_eq!(found, answers(&mut whole, mixed(&config)));
    }
    std::fs::write(folder.path().join("model.safetensors"), [0; 9]).unwrap();
    assert!(Engine::from_dir(folder.path(), OPTIONS).is_err());
}
