//! Disputes about score sheets in whole runs: who lies loses its stake and its pay, and honest members agree about it.

use std::collections::BTreeMap;

use tributary_attribution::run_books::{Dispute, Stage};
use tributary_protocol::id::PeerId;
use tributary_simulations::bench::economy;
use tributary_simulations::world::{Outcome, Settlement, World, Worth};

/// Rounds of a run: a dispute of the first ones is over long before the closing.
const ROUNDS: u32 = 30;
/// What a member bonds on the test chain, and what a dispute costs its loser.
const BOND: i128 = 1_000_000;

/// The honest run and the one with liars, of one seed.
fn played(liars: economy::Members, seed: u64) -> (Settlement, Settlement) {
    let play = |liars: economy::Members| {
        let mut scenario = economy::variant(economy::Stage::Invited, ROUNDS, liars, 0);
        scenario.run.disputes = true;
        let outcome: Outcome = World::new(&scenario, seed, None).audited().run();
        assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
        assert_eq!(outcome.rounds_certified, ROUNDS);
        let settlement = outcome.settlement.expect("it settles");
        // Books that honest machines kept, each for itself, add up and say the same.
        assert!(settlement.conserved && settlement.agreed == Some(true));
        assert_eq!(settlement.dissent, []);
        settlement
    };
    (play(&[]), play(liars))
}

/// How often each peer lost, with its stake or with its pay alone.
fn lost(settlement: &Settlement) -> BTreeMap<PeerId, usize> {
    let loser = |dispute: &Dispute| match &dispute.stage {
        Stage::Over(sentence) => Some(sentence.loser),
        Stage::Unproven => Some(dispute.matter.author()),
        _ => None,
    };
    let mut lost = BTreeMap::new();
    for peer in settlement.disputes.iter().filter_map(loser) {
        *lost.entry(peer).or_default() += 1;
    }
    lost
}

fn net(settlement: &Settlement, at: usize) -> i128 {
    settlement.worths.get(at).map_or(0, Worth::net)
}

#[test]
fn an_evaluator_that_makes_scores_up_loses_its_stake_and_its_pay_to_honest_jurors() {
    let (honest, settlement) = played(&[("lying_evaluator", 1)], 3);
    assert_eq!(honest.disputes, [], "nobody disputes what is right");
    let [liar] = settlement.liars[..] else {
        panic!("one evaluator lies: {:?}", settlement.liars)
    };
    let lost = lost(&settlement);
    println!(
        "{lost:?} {:?} {:?}",
        settlement.forfeited, settlement.worths
    );
    assert_eq!(
        lost.len(),
        1,
        "nobody else loses: {:?}",
        settlement.disputes
    );
    let (evaluator, times) = lost.first_key_value().expect("one loser");
    assert!(*times > 1, "one dispute behind another");
    assert!(settlement.forfeited[evaluator] > 0);
    assert!(net(&settlement, liar) <= net(&honest, liar) - BOND);
    for at in (0..settlement.worths.len()).filter(|at| *at != liar) {
        assert!(
            settlement.worths[at].staked >= 1_000_000,
            "{at} keeps its stake"
        );
    }
}

#[test]
fn a_member_that_disputes_right_scores_loses_a_bond_each_time_and_nobody_else_anything() {
    let (honest, settlement) = played(&[("frivolous_challenger", 1)], 4);
    let [liar] = settlement.liars[..] else {
        panic!("one member lies: {:?}", settlement.liars)
    };
    let lost = lost(&settlement);
    println!("{lost:?} {:?}", settlement.worths);
    assert_eq!(
        lost.len(),
        1,
        "nobody else loses: {:?}",
        settlement.disputes
    );
    assert!(
        settlement
            .disputes
            .iter()
            .all(|one| one.matter.challenger() != Some(one.matter.author()))
    );
    assert_eq!(settlement.forfeited, BTreeMap::new());
    assert!(net(&settlement, liar) <= net(&honest, liar) - BOND);
    let others = |settlement: &Settlement| -> i128 {
        let others = (0..settlement.worths.len()).filter(|at| *at != liar);
        others.map(|at| net(settlement, at)).sum()
    };
    let change = others(&settlement) - others(&honest);
    assert!(change.abs() < BOND / 50, "{change}");
}

#[test]
fn three_lying_jurors_of_ten_neither_save_a_lying_evaluator_nor_condemn_an_honest_one() {
    let (_, settlement) = played(&[("lying_evaluator", 1), ("lying_juror", 2)], 5);
    let lost = lost(&settlement);
    println!("{lost:?}");
    let is_right = |dispute: &&Dispute| match &dispute.stage {
        Stage::Over(sentence) => sentence.loser == dispute.matter.author(),
        _ => true,
    };
    let wrong = settlement.disputes.iter().filter(|one| !is_right(one));
    assert_eq!(wrong.count(), 0, "{:?}", settlement.disputes);
    assert!(lost.values().sum::<usize>() > 0);

    let (_, settlement) = played(&[("frivolous_challenger", 1), ("lying_juror", 2)], 6);
    let is_wrong = |dispute: &&Dispute| matches!(&dispute.stage, Stage::Over(sentence) if sentence.loser == dispute.matter.author());
    let wrong = settlement.disputes.iter().filter(is_wrong).count();
    assert_eq!((wrong, settlement.forfeited), (0, BTreeMap::new()));
}
