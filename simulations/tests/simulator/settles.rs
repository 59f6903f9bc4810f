//! Runs that settle on the test chain: what is deposited is earned, signed, posted and claimed, and who lies about money
//! gains none.

use tributary_simulations::scenario::{self, ChainName, Liars, Scenario};
use tributary_simulations::world::{Outcome, Settlement, World};

/// Twelve peers on a good network, some of whom lie.
fn settling(kind: Option<(&str, usize)>) -> Scenario {
    let mut scenario = scenario::load("liars").expect("the built-in scenario is accepted");
    (scenario.link.loss, scenario.link.duplicate) = (0.0, 0.0);
    (scenario.link.reorder, scenario.link.replay) = (0.0, 0.0);
    scenario.churn.per_round = 0.0;
    scenario.partitions.clear();
    scenario.liars.clear();
    (scenario.peers, scenario.run.min_members) = (12, 8);
    scenario.run.chain = ChainName::Test;
    if let Some((behaviour, count)) = kind {
        scenario.liars.push(Liars {
            behaviour: behaviour.to_owned(),
            count,
            share: 0.0,
        });
    }
    scenario
}

fn settled(scenario: &Scenario, seed: u64) -> (Outcome, Settlement) {
    let outcome = World::new(scenario, seed, None).run();
    assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
    assert_eq!(outcome.rounds_certified, scenario.rounds);
    let settlement = outcome.settlement.clone().expect("it settles");
    assert!(settlement.conserved);
    (outcome, settlement)
}

/// What all rounds could pay.
fn budgets(scenario: &Scenario) -> u128 {
    u128::from(scenario.run.budget_per_round) * u128::from(scenario.rounds)
}

/// Everybody has taken what the last root promises, and the sponsor the rest.
fn is_all_out(settlement: &Settlement) -> bool {
    settlement.claimed == settlement.promised
        && settlement.claimed + settlement.reclaimed == settlement.deposited
}

#[test]
fn a_run_of_honest_members_pays_out_to_the_last_unit() {
    let scenario = settling(None);
    let (outcome, settlement) = settled(&scenario, 1);
    println!("{settlement:?}");
    assert_eq!(settlement.deposited, budgets(&scenario));
    assert!(settlement.promised > 0 && is_all_out(&settlement));
    assert_eq!(
        (settlement.unfunded.len(), settlement.dissent.len()),
        (0, 0)
    );
    assert!(settlement.epochs >= 2, "a root, its claims");
    let again = World::new(&scenario, 1, None).run();
    assert_eq!(again.digest, outcome.digest, "a seed names one history");
}

#[test]
fn a_sponsor_that_deposits_after_it_has_seen_rounds_saves_their_pay_and_can_buy_none_back() {
    let scenario = settling(Some(("late_deposit", 1)));
    let (_, settlement) = settled(&scenario, 2);
    println!("{settlement:?}");
    // It lets its deposit out at height 3, which a value takes in at 4 or later: rounds until 5 at least began without.
    let unfunded: Vec<u32> = settlement.unfunded.iter().map(|round| round.0).collect();
    assert!(unfunded.starts_with(&[1, 2, 3, 4]), "{unfunded:?}");
    assert!(unfunded.windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert!(is_all_out(&settlement));
}

#[test]
fn roots_that_a_few_members_make_up_move_nothing() {
    let scenario = settling(Some(("false_root", 2)));
    let (_, settlement) = settled(&scenario, 3);
    println!("{settlement:?}");
    assert!(!settlement.dissent.is_empty(), "nobody lied");
    assert!(settlement.promised > 0 && is_all_out(&settlement));
}

#[test]
fn a_member_that_files_as_much_as_it_can_keeps_nobody_from_being_paid() {
    let scenario = settling(Some(("flood_filings", 2)));
    let (_, settlement) = settled(&scenario, 4);
    println!("{settlement:?}");
    assert!(settlement.promised > 0 && settlement.claimed > 0);
    assert!(settlement.unfunded.is_empty());
}

#[test]
fn runs_settle_through_crashes_and_losses() {
    for seed in 1..=3 {
        let mut scenario = scenario::load("smoke").expect("built in");
        scenario.run.chain = ChainName::Test;
        let (_, settlement) = settled(&scenario, seed);
        println!("{settlement:?}");
        assert_eq!(settlement.deposited, budgets(&scenario));
        assert!(settlement.dissent.is_empty(), "nobody lies");
    }
}

/// Three batches of answers behind the closing.
fn serving(kind: Option<(&str, usize)>) -> Scenario {
    let mut scenario = settling(kind);
    scenario.run.answers = 3;
    scenario
}

/// What answers brought, less what nobody may have.
const FEES: u128 = 3 * 40 * 10_000;

#[test]
fn answers_that_are_served_after_the_closing_pay_contributors_by_the_runs_credits() {
    let (_, settlement) = settled(&serving(None), 5);
    println!("{settlement:?}");
    assert_eq!((settlement.fees, settlement.burned), (FEES, 0));
    assert_eq!(settlement.served, FEES / 10);
    let contributors: u128 = settlement.answers.values().sum();
    assert!(contributors >= FEES * 7 / 10, "{contributors}");
    assert_eq!(settlement.claimed, settlement.promised);
    let spent = settlement.claimed + settlement.reclaimed;
    assert_eq!(spent, settlement.deposited + FEES, "to the last unit");
}

#[test]
fn a_server_that_files_no_answers_gets_nothing_and_contributors_get_its_portion() {
    let (_, settlement) = settled(&serving(Some(("silent_server", 1))), 6);
    println!("{settlement:?}");
    assert_eq!((settlement.fees, settlement.served), (FEES, 0));
    let contributors: u128 = settlement.answers.values().sum();
    assert!(contributors >= FEES * 8 / 10, "{contributors}");
    let spent = settlement.claimed + settlement.reclaimed;
    assert_eq!(spent, settlement.deposited + FEES);
}

#[test]
fn a_server_that_names_itself_and_files_twice_has_what_an_honest_one_has() {
    // In some histories nobody is beyond luck, or one member alone, and then its word would not show.
    let scenario = serving(Some(("greedy_server", 1)));
    let mut histories = (5..25).map(|seed| settled(&scenario, seed).1);
    let settlement = histories.find(|settlement| settlement.answers.len() > 1);
    let settlement = settlement.expect("a history with credits of several members");
    println!("{settlement:?}");
    assert_eq!((settlement.fees, settlement.served), (FEES, FEES / 10));
    let spent = settlement.claimed + settlement.reclaimed;
    assert_eq!(spent, settlement.deposited + FEES);
}
