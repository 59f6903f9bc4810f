//! What the rule cannot do, kept as tests so that the README's list stays true.

use tributary_attribution::credit::{self, Offer, Served};
use tributary_attribution::path;
use tributary_attribution::significance::Significance;
use tributary_protocol::id::{MicroOpen, NanoNats, PeerId};
use tributary_protocol::round::FinalScore;

use crate::toy::{Counted, Power, named, peer};

fn amounts(scores: &[i64]) -> Vec<u128> {
    let scores: Vec<FinalScore> = (scores.iter().enumerate())
        .map(|(n, &score)| FinalScore {
            peer: peer(n),
            score: NanoNats(score),
            low: NanoNats(score),
            high: NanoNats(score),
            luck: NanoNats(0),
        })
        .collect();
    let tested = Significance::default().round(&scores);
    let offer = Offer {
        budget: MicroOpen(1000),
        price_per_nat: MicroOpen(u128::MAX),
        ..Offer::WHOLE
    };
    let assigned = credit::assign(&tested, &offer, &Served::default()).expect("ordered");
    assigned.lines.iter().map(|l| l.amount.0).collect()
}

/// Harm costs nothing beyond zero, so one owner with two names can put all harm under one of them.
#[test]
fn a_helpful_and_a_harmful_name_earn_more_than_their_sum() {
    let honest = amounts(&[100, 100])[0];
    let split = amounts(&[150, -50, 100])[0];
    assert_eq!((honest, split), (500, 600));
}

/// What has been shown is shown: who worked may send anything until luck has caught up with it.
#[test]
fn past_work_carries_random_numbers_for_some_rounds() {
    let mut significance = Significance::default();
    let mut round = |score: i64| {
        let score = FinalScore {
            peer: peer(1),
            score: NanoNats(score),
            low: NanoNats(score),
            high: NanoNats(score),
            luck: NanoNats(100),
        };
        significance.round(&[score])[0].counts()
    };
    assert_eq!(round(1000), 1000);
    // 1000 + n > 300 sqrt(1 + n) up to n = 10, and not again before luck itself has added up to it.
    let carried: Vec<u64> = (0..100).map(|_| round(1)).collect();
    assert_eq!(carried, [vec![1; 10], vec![0; 90]].concat());
}

/// The score is what moved the loss, whoever had it first: a copy earns what the original earns, and
/// lowers what the original would have earned alone.
#[test]
fn a_copied_contribution_earns_as_much_as_the_original() {
    let scores = |vectors: &[Vec<f32>]| -> Vec<f64> {
        let given: Vec<(PeerId, Vec<f32>)> = named(vectors);
        let mut hold_out = Counted::new(Power(2));
        let scores = path::score(&[-3.0], &given, &[], &mut hold_out).expect("good");
        scores.scores.iter().map(|s| s.score).collect()
    };
    let copied = scores(&[vec![1.0], vec![1.0]]);
    assert_eq!(copied[0], copied[1]);
    let alone = scores(&[vec![1.0]])[0];
    assert!(copied[0] < alone, "{} and {alone}", copied[0]);
}
