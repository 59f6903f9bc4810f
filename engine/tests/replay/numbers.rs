//! The figures of `docs/numbers/replay.md`, a line each.

use std::time::Instant;

use tributary_engine::base::Base;
use tributary_engine::config::Config;
use tributary_engine::model::parameters::initialise;
use tributary_engine::reference::Reference;
use tributary_engine::sample::Sampler;
use tributary_engine::{Engine, Finish, Precision, Replay, Rule, Verdict};

use crate::frauds::{Fraud, beyond, caught, replays};
use crate::world::{self, Ask, SIZE, TOKENS, World, answers, engine, samplings};

/// Honest answers; one of twenty alone, the others 32 at a time.
const HONEST: usize = 10_000;
/// Answers of each fraud and way to choose.
const FRAUDS: usize = 200;
/// Answers of the slow twin.
const OTHER_ENGINE: usize = 100;
/// So small a part of all that, for a first look.
const PART: &str = "TRIBUTARY_REPLAY_PART";

fn part(count: usize) -> usize {
    let part = std::env::var(PART).ok();
    count / part.map_or(1, |part| part.parse().expect("a number"))
}

/// How far adapters are from the right one, as a part of it.
const DISTANCES: [f32; 6] = [0.3, 0.1, 0.03, 0.01, 0.003, 0.001];
/// How much adapters add to the base that nobody used, as a part of it.
const SIZES: [f32; 4] = [0.3, 0.1, 0.03, 0.01];

#[test]
#[ignore = "minutes; for the page of numbers"]
fn ten_thousand_honest_answers() {
    let world = World::new();
    let mut server = engine(world.base.clone(), Precision::F32);
    let mut checker = engine(world.base.clone(), Precision::F32);
    let (mut tokens, mut wrong, mut zero) = (0, 0, 0);
    let count = part(HONEST);
    for batch in 0..count / 100 {
        let asks = world.mixed(100, 100 + batch as u64);
        let (alone, together) = asks.split_at(5);
        let mut found: Vec<_> = alone
            .iter()
            .flat_map(|ask| answers(&mut server, std::slice::from_ref(ask)))
            .collect();
        found.extend(answers(&mut server, together));
        for (ask, answer) in asks.iter().zip(found) {
            let replay = checker.replay(ask.claim(answer)).unwrap();
            tokens += replay.margins.len();
            zero += replay
                .margins
                .iter()
                .filter(|margin| **margin == 0.0)
                .count();
            wrong += usize::from(replay.verdict(Rule::SAME_ENGINE) != Verdict::Honest);
        }
    }
    println!(
        "honest {count} answers, {tokens} tokens: {zero} margins of 0, {wrong} answers caught"
    );
    assert_eq!((wrong, zero), (0, tokens));
}

fn tell(name: &str, way: &str, replays: &[Replay], same: usize) {
    let tolerance = Rule::OTHER_ENGINE.tolerance;
    let mut margins: Vec<f32> = replays.iter().flat_map(|r| r.margins.clone()).collect();
    margins.retain(|margin| *margin > 0.0);
    margins.sort_by(f32::total_cmp);
    let at = |part: f32| {
        let place = (margins.len() as f32 * part) as usize;
        margins
            .get(place)
            .or(margins.last())
            .copied()
            .unwrap_or(0.0)
    };
    let each = |bound| beyond(replays, bound) as f32 / replays.len() as f32;
    println!(
        "fraud {name} / {way}: {} of {} caught, {} beyond tolerance, {same} the same; tokens {:.2} {:.2}; margins {:.2e} {:.2e} {:.2e}",
        caught(replays, Rule::SAME_ENGINE),
        replays.len(),
        caught(replays, Rule::OTHER_ENGINE),
        each(0.0),
        each(tolerance),
        at(0.5),
        at(0.99),
        at(1.0),
    );
}

#[test]
#[ignore = "minutes; for the page of numbers"]
fn frauds_in_hundreds() {
    let world = World::new();
    let mut checker = engine(world.base.clone(), Precision::F32);
    let near = DISTANCES.map(Fraud::Near);
    let none = SIZES.map(Fraud::NoAdapterOf);
    let samplings = samplings();
    let ways = [("likeliest", &samplings[0]), ("top-p", &samplings[1])];
    let all = (Fraud::PLAIN.into_iter())
        .chain([Fraud::EightBits])
        .chain(none)
        .chain(near);
    for fraud in all {
        for (way, sampling) in ways {
            let (claims, same) = fraud.claims(&world, part(FRAUDS), sampling);
            let replays = replays(&mut checker, claims);
            tell(&fraud.name(), way, &replays, same);
            let found = caught(&replays, Rule::SAME_ENGINE);
            // Whatever is not caught is the honest answer itself.
            assert_eq!(found + same, replays.len(), "{fraud:?} {way}");
            let is_plain = Fraud::PLAIN.contains(&fraud) && way != "likeliest";
            assert!(
                !is_plain || found * 100 >= replays.len() * 99,
                "{fraud:?}: {found}"
            );
        }
    }
}

/// What the slow twin answers, which adds in another order.
fn by_twin(world: &World, ask: &Ask) -> (Vec<u32>, Finish) {
    let adapter = world::adapter(&world.base, 0, SIZE);
    let mut twin = Reference::new(&world.base, Some(&adapter), 512).unwrap();
    let vocab = world.base.info.config.vocab;
    let mut sampler = Sampler::new(ask.sampling.clone(), &ask.prompt, vocab);
    let mut logits = Vec::new();
    for token in &ask.prompt {
        logits = twin.read(*token);
    }
    let mut answer = Vec::new();
    for at in 0..TOKENS {
        let position = (ask.prompt.len() + at) as u64;
        let token = sampler.draw(&logits, position, None, None).unwrap().id;
        sampler.accept(token);
        answer.push(token);
        logits = twin.read(token);
    }
    (answer, Finish::Length)
}

#[test]
#[ignore = "minutes; for the page of numbers"]
fn honest_answers_of_another_engine() {
    let world = World::new();
    let mut checker = engine(world.base.clone(), Precision::F32);
    let samplings = samplings();
    for (way, sampling) in [("likeliest", &samplings[0]), ("top-p", &samplings[1])] {
        let asks = world.asks(part(OTHER_ENGINE), sampling, 55);
        let same = answers(&mut checker, &asks);
        let found: Vec<_> = asks.iter().map(|ask| by_twin(&world, ask)).collect();
        let same = same.iter().zip(&found).filter(|(a, b)| a == b).count();
        let claims = asks.iter().zip(found).map(|(ask, found)| ask.claim(found));
        let replays = replays(&mut checker, claims.collect());
        tell(
            "none, of an engine that adds in another order",
            way,
            &replays,
            same,
        );
        assert_eq!(caught(&replays, Rule::OTHER_ENGINE), 0);
    }
}

/// A model of random weights with the shape of SmolLM2-135M.
fn larger(base: &Base) -> Base {
    let mut info = base.info.clone();
    info.config = Config {
        vocab: 49_152,
        hidden: 576,
        ffn: 1536,
        layers: 30,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        ..info.config
    };
    let parameters = initialise(&info.config, 1);
    Base { info, parameters }
}

fn times(server: &mut Engine, ask: &Ask) -> (f64, f64) {
    let seconds = |start: Instant| start.elapsed().as_secs_f64();
    let start = Instant::now();
    let answer = answers(server, std::slice::from_ref(ask)).remove(0);
    let generation = seconds(start);
    let claim = ask.claim(answer);
    let start = Instant::now();
    let replay = server.replay(claim).unwrap();
    assert_eq!(replay.verdict(Rule::SAME_ENGINE), Verdict::Honest);
    (generation, seconds(start))
}

#[test]
#[ignore = "for the page of numbers"]
fn times_of_a_replay() {
    let world = World::new();
    let large = larger(&world.base);
    for (name, base, rounds) in [("brook", world.base.clone(), 9), ("135M", large, 3)] {
        let ask = Ask {
            adapter: Some(world::loaded(&base, world::adapter(&base, 0, SIZE))),
            ..world.asks(1, &samplings()[1], 3).remove(0)
        };
        let mut server = world::engine_of(base, Precision::F32, 2);
        let mut found: Vec<(f64, f64)> = (0..rounds).map(|_| times(&mut server, &ask)).collect();
        found.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
        let (generation, replay) = found[rounds / 2];
        println!(
            "time {name}: generation {:.1} ms, replay {:.1} ms, ratio {:.3}",
            1e3 * generation,
            1e3 * replay,
            replay / generation
        );
        assert!(replay < generation);
    }
}
