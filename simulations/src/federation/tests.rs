//! Tests of the rounds, on the quadratic task: no model is trained here.

use tributary_protocol::adapter::Module;
use tributary_protocol::id::Ppb;
use tributary_protocol::manifest::{Aggregation, FactorSchedule};

use super::*;
use crate::learner::Quadratic;

const MEMBERS: usize = 6;

fn learner() -> Quadratic {
    let smoke = crate::scenario::load("smoke").unwrap();
    let members = crate::learner::Members {
        peers: smoke.peers,
        evaluators: smoke.evaluators,
        names: 0,
    };
    Quadratic::new(&smoke.learner, members, 3)
}

fn terms(schedule: FactorSchedule, codec: UpdateCodec) -> Terms {
    Terms {
        training: Training {
            local_steps: 4,
            batch: 1,
            context: 16,
            learning_rate: Ppb(300_000_000),
            schedule,
        },
        codec,
        rule: Arc::new(Aggregation::Mean),
        outer: Outer::Plain,
        weight: Weight::Tokens,
    }
}

fn federation(terms: Terms) -> Federation {
    let half = (crate::scenario::load("smoke").unwrap().learner.dimension / 2) as u32;
    let module = Module {
        name: "bowl".into(),
        inputs: half,
        outputs: half,
    };
    let shape = AdapterShape {
        rank: 1,
        alpha: 1,
        modules: vec![module],
    };
    Federation::new(Arc::new(shape), 7, MEMBERS, terms)
}

fn even(_member: usize) -> u32 {
    4
}

#[test]
fn rounds_lower_the_common_loss_and_move_only_their_factor() {
    let learner = learner();
    let mut federation = federation(terms(FactorSchedule::Alternate, UpdateCodec::DenseF32));
    let start = learner.loss(federation.adapter().values());
    let half = federation.adapter().values().len() / 2;
    let odd = federation.play(&learner, even);
    assert_eq!((odd.round, odd.contributions.len()), (Round(1), MEMBERS));
    assert!(odd.step[..half].iter().all(|v| *v == 0.0), "B only");
    assert!(odd.step[half..].iter().all(|v| *v != 0.0), "all of B");
    let even_round = federation.play(&learner, even);
    assert!(even_round.step[half..].iter().all(|v| *v == 0.0), "A only");
    assert!(learner.loss(federation.adapter().values()) < start);
}

#[test]
fn the_step_is_what_the_protocol_makes_of_the_updates() {
    let learner = learner();
    let mut federation = federation(terms(FactorSchedule::Both, UpdateCodec::DenseF32));
    let before = federation.adapter().values().to_vec();
    let trained: Vec<Trained> = (0..MEMBERS)
        .map(|member| learner.train(member, &federation.task(4)))
        .collect();
    federation.play(&learner, even);
    for (at, value) in federation.adapter().values().iter().enumerate() {
        let mean = trained.iter().map(|t| f64::from(t.delta[at])).sum::<f64>() / MEMBERS as f64;
        let expected = f64::from(before[at]) + mean;
        assert!(
            (f64::from(*value) - expected).abs() < 1e-6,
            "{value} {expected}"
        );
    }
}

#[test]
fn what_no_encoder_writes_is_refused_and_the_others_go_on() {
    let learner = learner();
    let mut federation = federation(terms(FactorSchedule::Both, UpdateCodec::DenseF32));
    let trained = federation.train(&learner, 0..MEMBERS, even);
    let mut sent: Vec<Sent> = trained.into_iter().map(|(_, sent)| sent).collect();
    sent[2].blob[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    sent[4].blob.pop();
    let closed = federation.close(&sent);
    let refused: Vec<usize> = closed.refused.iter().map(|(member, _)| *member).collect();
    assert_eq!(refused, [2, 4]);
    assert_eq!(closed.contributions.len(), MEMBERS - 2);
}

#[test]
fn tokens_weigh_unless_all_weigh_the_same() {
    let learner = learner();
    let share = |weight| {
        let terms = Terms {
            weight,
            ..terms(FactorSchedule::Both, UpdateCodec::DenseF32)
        };
        let mut federation = federation(terms);
        let pace = |member| if member == 0 { 1 } else { 4 };
        let sent = federation.train(&learner, 0..MEMBERS, pace);
        let update = sent[0].0.delta.clone();
        let sent: Vec<Sent> = sent.into_iter().map(|(_, sent)| sent).collect();
        let closed = federation.close(&sent);
        let of = |(id, _): &&(PeerId, Vec<f32>)| *id == peer(0);
        let (_, contribution) = closed.contributions.iter().find(of).unwrap();
        contribution[0] / update[0]
    };
    assert!((share(Weight::Tokens) - 1.0 / 21.0).abs() < 1e-4);
    assert!((share(Weight::Equal) - 1.0 / 6.0).abs() < 1e-4);
}

/// Slow twin: the recurrence as the paper writes it, on one number.
#[test]
fn nesterov_follows_its_recurrence() {
    let learner = learner();
    let (momentum, rate) = (0.5, 0.8);
    let terms = Terms {
        outer: Outer::Nesterov { momentum, rate },
        ..terms(FactorSchedule::Both, UpdateCodec::DenseF32)
    };
    let mut federation = federation(terms);
    let mut theta = f64::from(federation.adapter().values()[5]);
    let mut velocity = 0.0;
    for _ in 0..4 {
        let closed = federation.play(&learner, even);
        let step: f64 = closed
            .contributions
            .iter()
            .map(|(_, c)| f64::from(c[5]))
            .sum();
        velocity = momentum * velocity + step;
        theta += rate * (step + momentum * velocity);
        let found = f64::from(federation.adapter().values()[5]);
        assert!((found - theta).abs() < 1e-6, "{found} {theta}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let learner = learner();
    let codec = UpdateCodec::Sparse {
        top: 1024,
        feedback: Ppb(950_000_000),
    };
    let run = || {
        let mut federation = federation(terms(FactorSchedule::Alternate, codec));
        (0..4).for_each(|_| {
            federation.play(&learner, even);
        });
        federation.adapter().to_bytes()
    };
    assert_eq!(run(), run());
}
