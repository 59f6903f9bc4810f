//! Replays of answers: none that is honest is caught, every fraud is.
//!
//! The full counts are in `docs/numbers/replay.md`; `docs/numbers/update.py replay` runs the ignored tests and writes
//! them.

mod frauds;
mod numbers;
mod world;

use std::sync::Arc;

use frauds::{Fraud, caught, replays};
use tributary_engine::replay::Ending;
use tributary_engine::request::{Constraint, Consumer, Request};
use tributary_engine::{
    Claim, Event, Finish, Micros, Precision, Progress, ReplayError, Rule, Sampling, Verdict,
};
use world::{TOKENS, World, answers, engine, samplings};

#[test]
fn no_honest_answer_is_caught_alone_or_among_others() {
    let world = World::new();
    let asks = world.mixed(32, 1);
    for precision in [Precision::F32, Precision::Int8] {
        let mut server = engine(world.base.clone(), precision);
        let mut checker = engine(world.base.clone(), precision);
        let mut found = answers(&mut server, &asks);
        for ask in &asks[..3] {
            found.extend(answers(&mut server, std::slice::from_ref(ask)));
        }
        let claimed = asks.iter().chain(&asks[..3]);
        for (ask, answer) in claimed.zip(found) {
            let replay = checker.replay(ask.claim(answer)).unwrap();
            assert!(replay.margins.iter().all(|margin| *margin == 0.0));
            assert_eq!(replay.verdict(Rule::SAME_ENGINE), Verdict::Honest);
            assert_eq!(replay.verdict(Rule::OTHER_ENGINE), Verdict::Honest);
        }
    }
}

#[test]
fn every_answer_that_differs_from_the_honest_one_is_caught() {
    let world = World::new();
    let mut checker = engine(world.base.clone(), Precision::F32);
    for sampling in &samplings()[..2] {
        for fraud in Fraud::PLAIN {
            let (claims, same) = fraud.claims(&world, 2, sampling);
            let replays = replays(&mut checker, claims);
            let found = caught(&replays, Rule::SAME_ENGINE);
            assert_eq!(found + same, 2, "{fraud:?}");
            // Chosen by noise, the same tokens would have to be drawn two hundred times.
            assert!(sampling.temperature == 0.0 || same == 0, "{fraud:?}");
            assert!(!fraud.is_none(sampling) || same == 2);
        }
    }
}

#[test]
fn running_answers_and_replays_do_not_change_each_other() {
    let world = World::new();
    let asks = world.mixed(32, 2);
    let mut server = engine(world.base.clone(), Precision::F32);
    let expected = answers(&mut server, &asks);
    let mut claims: Vec<Claim> = asks
        .iter()
        .zip(&expected)
        .map(|(ask, answer)| ask.claim(answer.clone()))
        .collect();
    // A new engine, whose cache knows nothing.
    let mut server = engine(world.base.clone(), Precision::F32);
    let ids: Vec<_> = asks
        .iter()
        .map(|ask| server.submit(ask.request(), Micros(0)).unwrap())
        .collect();
    let mut found = vec![Vec::new(); ids.len()];
    let (mut pieces, mut replayed) = (0, 0);
    loop {
        let more = server.step(&|| Micros(0), &mut |id, event| {
            if let Event::Token(token) = event {
                found[ids.iter().position(|i| *i == id).unwrap()].push(token.id);
            }
        });
        match server.replay_piece() {
            Progress::Idle => match claims.pop() {
                Some(claim) => {
                    // As many rows as one piece has, and not the last token.
                    pieces = (claim.prompt.len() + claim.answer.len() - 1).div_ceil(64);
                    server.begin_replay(claim).unwrap();
                }
                None if !more => break,
                None => {}
            },
            Progress::More => pieces -= 1,
            Progress::Done(replay) => {
                assert_eq!(pieces, 1);
                assert_eq!(replay.unwrap().verdict(Rule::SAME_ENGINE), Verdict::Honest);
                replayed += 1;
            }
        }
    }
    assert_eq!(replayed, 32);
    for (found, (expected, _)) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
}

#[test]
fn an_answer_that_is_cut_goes_on_or_names_another_reason_is_told_apart() {
    let world = World::new();
    let mut server = engine(world.base.clone(), Precision::F32);
    let mut ask = world.asks(1, &samplings()[1], 4).remove(0);
    let (whole, finish) = answers(&mut server, std::slice::from_ref(&ask)).remove(0);
    assert_eq!((whole.len(), &finish), (TOKENS, &Finish::Length));
    // The first token that did not come before is the end.
    let is_new = |at: &usize| *at > 20 && !whole[..*at].contains(&whole[*at]);
    let end = (0..TOKENS).find(is_new).unwrap();
    let mut ending = |ask: &world::Ask, count: usize, finish: Finish| {
        let claim = ask.claim((whole[..count].to_vec(), finish));
        let replay = server.replay(claim).unwrap();
        assert!(replay.margins.iter().all(|margin| *margin == 0.0));
        let is_right = replay.ending == Ending::Right;
        assert_eq!(
            replay.verdict(Rule::OTHER_ENGINE) == Verdict::Honest,
            is_right
        );
        replay.ending
    };
    assert_eq!(ending(&ask, TOKENS, Finish::Length), Ending::Right);
    assert_eq!(ending(&ask, TOKENS, Finish::End), Ending::Misnamed);
    assert_eq!(ending(&ask, TOKENS - 1, Finish::Length), Ending::Early);
    assert_eq!(ending(&ask, TOKENS - 1, Finish::Cancelled), Ending::Right);
    assert_eq!(ending(&ask, 0, Finish::Deadline), Ending::Right);
    assert_eq!(ending(&ask, 0, Finish::End), Ending::Early);
    ask.ends = Arc::from([whole[end]]);
    assert_eq!(ending(&ask, end + 1, Finish::End), Ending::Right);
    assert_eq!(ending(&ask, end + 1, Finish::Length), Ending::Misnamed);
    assert_eq!(ending(&ask, end, Finish::End), Ending::Early);
    assert_eq!(ending(&ask, end + 2, Finish::End), Ending::Late(end + 1));
    assert_eq!(ending(&ask, TOKENS, Finish::Length), Ending::Late(end + 1));
}

/// Allows even and odd tokens in turns, so many in all.
struct Turns(usize);

impl Constraint for Turns {
    fn allowed(&mut self) -> Result<Vec<u32>, String> {
        let word = 0x5555_5555 << (self.0 % 2);
        Ok(vec![word; 4096 / 32])
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        assert_eq!(token as usize % 2, self.0 % 2);
        self.0 -= 1;
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.0 == 0
    }
}

#[test]
fn a_constraint_is_replayed_with_the_answer_and_what_it_forbids_is_infinitely_far() {
    let world = World::new();
    let mut server = engine(world.base.clone(), Precision::F32);
    let ask = world.asks(1, &samplings()[1], 9).remove(0);
    let request = Request {
        constraint: Some(Box::new(Turns(90))),
        consumer: Consumer::default(),
        ..ask.request()
    };
    server.submit(request, Micros(0)).unwrap();
    let (mut answer, mut end) = (Vec::new(), None);
    while server.step(&|| Micros(0), &mut |_, event| match event {
        Event::Token(token) => answer.push(token.id),
        Event::Finished(finish, _) => end = Some(finish),
    }) {}
    assert_eq!((answer.len(), end), (90, Some(Finish::End)));
    let mut replay = |answer: &[u32], turns: Option<usize>| {
        let constraint = turns.map(|turns| Box::new(Turns(turns)) as Box<dyn Constraint>);
        let claim = Claim {
            constraint,
            ..ask.claim((answer.to_vec(), Finish::End))
        };
        server.replay(claim).unwrap()
    };
    assert_eq!(
        replay(&answer, Some(90)).verdict(Rule::SAME_ENGINE),
        Verdict::Honest
    );
    assert_eq!(replay(&answer[..80], Some(90)).ending, Ending::Early);
    let longer = replay(&answer, Some(80));
    assert_eq!(longer.ending, Ending::Late(80));
    assert!(
        longer.margins[80..]
            .iter()
            .all(|margin| *margin == f32::INFINITY)
    );
    let free = replay(&answer, None);
    assert!(free.margins.iter().any(|margin| *margin > 0.1));
    let mut changed = answer.clone();
    changed[50] ^= 1;
    let changed = replay(&changed, Some(90));
    assert_eq!(changed.margins[..50], [0.0; 50]);
    assert_eq!(changed.margins[50], f32::INFINITY);
}

#[test]
fn what_could_be_no_request_is_refused_and_so_is_a_second_replay() {
    let world = World::new();
    let mut server = engine(world.base.clone(), Precision::F32);
    let ask = world.asks(1, &samplings()[1], 9).remove(0);
    let claim = || ask.claim((vec![5; 70], Finish::Length));
    let wrong = [
        (
            Claim {
                prompt: vec![],
                ..claim()
            },
            "the prompt is empty",
        ),
        (
            Claim {
                prompt: vec![1; 5000],
                ..claim()
            },
            "exceed the 1024",
        ),
        (
            Claim {
                answer: vec![4096],
                ..claim()
            },
            "token 4096 is not in",
        ),
        (
            Claim {
                sampling: Sampling {
                    top_p: 0.0,
                    ..Sampling::default()
                },
                ..claim()
            },
            "top_p is 0",
        ),
    ];
    for (claim, why) in wrong {
        let error = server.begin_replay(claim).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    server.begin_replay(claim()).unwrap();
    assert_eq!(server.replay_piece(), Progress::More);
    assert_eq!(server.begin_replay(claim()), Err(ReplayError::Busy));
    server.drop_replay();
    assert_eq!(server.replay_piece(), Progress::Idle);
    assert!(server.replay(claim()).is_ok());
}
