//! Which passes a model is asked for, and that their outcome is that of the arithmetic behind.

use std::sync::Arc;

use tributary_protocol::adapter::{AdapterShape, Module};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{PeerId, Ppb};

use super::super::staging::Staging;
use super::*;

fn adapter(value: f32) -> Adapter {
    let shape = AdapterShape {
        rank: 1,
        alpha: 2,
        modules: vec![Module {
            name: "m".into(),
            inputs: 2,
            outputs: 2,
        }],
    };
    Adapter::new(Arc::new(shape), vec![value; 4]).unwrap()
}

fn peer(n: u8) -> PeerId {
    PeerId(Digest::from_bytes([n; 32]))
}

/// A run of eight rounds in which the first peer moved the first number and the second peer the second.
fn stages() -> Vec<Stage> {
    let mut staging = Staging::new(8);
    staging.add::<Vec<f32>>(&adapter(0.0), &[]).unwrap();
    for round in 1..=8u8 {
        let first = (peer(1), vec![0.5f32, 0.0, 0.0, 0.0]);
        let second = (peer(2), vec![0.0, f32::from(round) / 8.0, 0.0, 0.0]);
        staging
            .add(&adapter(f32::from(round)), &[first, second])
            .unwrap();
    }
    staging.finish().unwrap()
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("out of order")]
struct OutOfOrder;

/// Says so many tokens; token `n` gets likelier by what stands in its place of the adapter, modulo two.
struct Toy {
    tokens: usize,
    asked: Vec<String>,
    broken: bool,
}

impl Toy {
    fn says(tokens: usize) -> Self {
        Self {
            tokens,
            asked: Vec::new(),
            broken: false,
        }
    }
}

impl AnswerModel for Toy {
    type Error = OutOfOrder;

    fn losses(&mut self, adapter: Option<&Adapter>) -> Result<Vec<f64>, OutOfOrder> {
        let at = adapter.map_or(0.0, |adapter| adapter.values()[0]);
        self.asked.push(format!("losses at {at}"));
        Ok(vec![10.0 - f64::from(at); self.tokens])
    }

    fn gradients(&mut self, adapter: &Adapter, each: usize) -> Result<Vec<Vec<f32>>, OutOfOrder> {
        if self.broken {
            return Err(OutOfOrder);
        }
        self.asked
            .push(format!("by {each} at {}", adapter.values()[0]));
        let tokens: Vec<usize> = (0..self.tokens).collect();
        let gradient = |tokens: &[usize]| {
            let odd = tokens.iter().filter(|at| *at % 2 == 1).count() as f32;
            vec![odd - tokens.len() as f32, -odd, 0.0, 0.0]
        };
        Ok(tokens.chunks(each).map(gradient).collect())
    }
}

#[test]
fn a_model_is_asked_for_two_passes_and_one_for_each_stage_however_long_the_answer() {
    for tokens in [1, 16, 500] {
        let mut model = Toy::says(tokens);
        shares(&mut model, &adapter(8.0), &stages()).unwrap();
        let each = [(1, 2), (16, 2), (500, 63)];
        let each = each.iter().find(|(n, _)| *n == tokens).unwrap().1;
        let middles = [1, 3, 5, 7].map(|at| format!("by {each} at {at}"));
        let losses = ["losses at 0".to_owned(), "losses at 8".to_owned()];
        assert_eq!(model.asked, [losses.as_slice(), &middles].concat());
    }
}

#[test]
fn shares_are_those_of_the_stretches_and_the_run_changed_what_they_say() {
    let (stages, mut model) = (stages(), Toy::says(16));
    let answered = shares(&mut model, &adapter(8.0), &stages).unwrap();
    assert_eq!(answered.means(), (10.0, 2.0));
    // Half of the tokens each, moved by four and by four and a half in all.
    let influences: Vec<f64> = (answered.found.shares.shares.iter())
        .map(|share| share.influence.as_nats())
        .collect();
    assert_eq!(influences, [2.0, 2.25]);
    let whole = [0, 1].map(|at| answered.found.shares.shares[at].share.0);
    let nobody = answered.found.shares.nobody.0;
    assert_eq!(whole[0] + whole[1] + nobody, Ppb::ONE.0);
    assert!(nobody < 1_000_000 && whole[0] < whole[1]);
    // All stretches say the same.
    for ([low, high], share) in answered.found.intervals.iter().zip(whole) {
        assert!(low.0.abs_diff(share) <= 2 && high.0.abs_diff(share) <= 2);
    }
}

#[test]
fn an_answer_without_tokens_and_a_model_that_fails_are_told_apart() {
    let empty = shares(&mut Toy::says(0), &adapter(8.0), &stages());
    assert!(matches!(empty, Err(AnswerError::Query(QueryError::Empty))));
    let mut model = Toy::says(3);
    model.broken = true;
    let failed = shares(&mut model, &adapter(8.0), &stages());
    assert!(matches!(failed, Err(AnswerError::Model(OutOfOrder))));
}

#[test]
fn no_answer_has_more_stretches_than_the_intervals_ask_for() {
    for tokens in 1..300 {
        let each = stretch_length(tokens);
        assert!(tokens.div_ceil(each) <= STRETCHES && each >= 2, "{tokens}");
    }
}
