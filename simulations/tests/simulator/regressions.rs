//! Seeds that once broke a promise, each with what was wrong. A history named by a seed changes when
//! the node or the world changes, so each stands beside a test of its own where one was possible; here
//! they are kept because they were the ones that found it.

use tributary_simulations::scenario;
use tributary_simulations::world::World;

fn keeps_every_promise(name: &str, seed: u64) {
    let scenario = scenario::load(name).expect("the built-in scenario is accepted");
    let outcome = World::new(&scenario, seed, None).run();
    assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
    assert_eq!(outcome.rounds_certified, scenario.rounds);
}

#[test]
fn a_creator_that_crashes_while_it_opens_the_run_can_open_it_again() {
    // The record that the run is followed survived, the manifest's block behind it did not.
    keeps_every_promise("harsh", 214);
}

#[test]
fn a_genesis_that_was_decided_but_never_left_its_creator_may_be_decided_again() {
    // The oracle counted a certificate that a crash could still undo.
    keeps_every_promise("harsh", 62);
}
