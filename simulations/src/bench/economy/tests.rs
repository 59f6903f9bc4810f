//! Tests of what is compared with what; what strategies bring is tested in `tests/simulator/economy.rs`.

use super::*;
use crate::catalogue::Catalogue;

#[test]
fn every_strategy_is_played_by_known_attacks_and_named_once() {
    let catalogue = Catalogue::default();
    let names: BTreeSet<&str> = STRATEGIES.iter().map(|one| one.name).collect();
    assert_eq!(names.len(), STRATEGIES.len());
    for strategy in &STRATEGIES {
        for (attack, _) in strategy.members {
            let known = catalogue.attacks.get(attack);
            assert!(known.is_ok(), "{}: {attack}", strategy.name);
        }
    }
}

#[test]
fn profit_is_a_part_of_what_honesty_comes_to_and_of_a_sponsor_of_what_it_pays() {
    let played = |honest, paid| Played {
        seed: 1,
        honest,
        paid,
        others_honest: 100,
        others: 50,
        loss: None,
        digest: String::new(),
        broken: Vec::new(),
    };
    assert_eq!(played(200, 210).profit(), Some(0.05));
    assert_eq!(played(-200, -150).profit(), Some(0.25));
    assert_eq!(played(0, 5).profit(), None);
    assert_eq!(played(200, 210).others_change(), Some(-0.5));
}

#[test]
fn a_strategy_is_bounded_by_its_worst_seed() {
    let case = |paid: [i128; 3]| Case {
        strategy: &STRATEGIES[1],
        members: 1,
        seeds: (paid.iter())
            .map(|paid| Played {
                seed: 1,
                honest: 1_000,
                paid: *paid,
                others_honest: 1,
                others: 1,
                loss: None,
                digest: String::new(),
                broken: Vec::new(),
            })
            .collect(),
    };
    assert!(case([900, 1_020, 1_000]).is_bounded());
    assert!(!case([900, 1_021, 1_000]).is_bounded());
    assert_eq!(case([900, 1_100, 1_000]).median(), Some(0.0));
}

#[test]
fn an_unknown_strategy_is_refused_with_the_nearest() {
    let why = Plan::chosen(&["honestt".to_owned()]).unwrap_err();
    assert!(why.contains("`honest`"), "{why}");
    assert_eq!(Plan::chosen(&[]).unwrap().len(), STRATEGIES.len());
}
