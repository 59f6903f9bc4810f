//! Dishonest participants and single faults, one at a time: nobody honest suffers, and each does what its
//! name says.

use std::cell::RefCell;
use std::rc::Rc;

use tributary_protocol::event::Notice;
use tributary_simulations::behave::BUILT_IN;
use tributary_simulations::record::{History, IncludedUpdate, RoundFacts, SheetFacts, What};
use tributary_simulations::scenario::{self, Change, Kill, Liars, Scenario, WeightsName};
use tributary_simulations::soak::soak;
use tributary_simulations::world::{Outcome, Strike, World};

/// The built-in scenario with so many liars of one kind and nothing else that goes wrong.
fn only(kind: &str, count: usize) -> Scenario {
    let mut scenario = quiet(scenario::load("liars").expect("the built-in scenario is accepted"));
    scenario.liars = vec![Liars {
        behaviour: kind.to_owned(),
        count,
        share: 0.0,
    }];
    scenario
}

fn quiet(mut scenario: Scenario) -> Scenario {
    (scenario.link.loss, scenario.link.duplicate) = (0.0, 0.0);
    (scenario.link.reorder, scenario.link.replay) = (0.0, 0.0);
    scenario.churn.per_round = 0.0;
    scenario.partitions.clear();
    scenario.liars.clear();
    scenario
}

/// Runs a seed; hands back the timeline too.
fn watch(scenario: &Scenario, seed: u64) -> (Outcome, Vec<String>) {
    let lines = Rc::new(RefCell::new(Vec::new()));
    let heard = Rc::clone(&lines);
    let sink = Box::new(move |line: &str| heard.borrow_mut().push(line.to_owned()));
    let outcome = World::new(scenario, seed, Some(sink)).run();
    (outcome, lines.take())
}

fn says(lines: &[String], what: &str) -> usize {
    lines.iter().filter(|line| line.contains(what)).count()
}

fn kept(scenario: &Scenario, outcome: &Outcome) {
    assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
    assert_eq!(outcome.overrun, None, "five of sixteen seats are borne");
    assert_eq!(outcome.rounds_certified, scenario.rounds);
}

/// Five of 22 members lie, and sixteen of them decide.
#[test]
fn five_liars_of_one_kind_harm_nobody() {
    for kind in BUILT_IN {
        // Every liar of this kind also has other names, which may take seats.
        let count = if kind == "sybils" { 1 } else { 5 };
        let scenario = only(kind, count);
        let (outcome, _) = watch(&scenario, 3);
        println!("{kind}: {} virtual s", outcome.virtual_us / 1_000_000);
        kept(&scenario, &outcome);
    }
}

#[test]
fn those_who_contradict_themselves_are_found_out() {
    let quiet = quiet(scenario::load("liars").expect("the built-in scenario is accepted"));
    assert_eq!(says(&watch(&quiet, 3).1, "Equivocation"), 0);
    for kind in ["fork_log", "double_vote", "double_proposal"] {
        let found = (1..=3).map(|seed| says(&watch(&only(kind, 5), seed).1, "Equivocation"));
        assert!(found.sum::<usize>() > 0, "{kind} did not contradict itself");
    }
}

#[test]
fn what_can_never_be_right_is_refused() {
    let quiet = quiet(scenario::load("liars").expect("the built-in scenario is accepted"));
    assert_eq!(says(&watch(&quiet, 3).1, "Refused"), 0);
    for kind in ["broken_update", "flood_invalid", "garbage"] {
        assert!(says(&watch(&only(kind, 3), 3).1, "Refused") > 0, "{kind}");
    }
}

/// Updates are revealed when receipts are closed: a member that waits for one is late.
#[test]
fn a_copied_update_is_announced_too_late_to_count() {
    let scenario = only("copy_update", 3);
    let mut copied = 0;
    for seed in 1..=3 {
        let world = World::new(&scenario, seed, None).recorded();
        let outcome = world.run();
        kept(&scenario, &outcome);
        let history = outcome.history.expect("it was recorded");
        let copies = |peer: usize| !history.participants[peer].behaviour.is_empty();
        for round in &history.rounds {
            copied += round.expected.iter().filter(|peer| copies(**peer)).count();
            let included = round.included.iter().filter(|update| copies(update.peer));
            assert_eq!(included.count(), 0, "seed {seed}, round {}", round.round);
        }
    }
    assert!(copied > 0, "copiers were drawn");
}

/// Half way through the grace window training ends with what it has.
#[test]
fn a_slow_member_does_fewer_steps_and_is_in_time() {
    let mut scenario = only("silent_seat", 0);
    scenario.liars.clear();
    scenario.learner.train_spread = 0.9;
    scenario.learner.steps = 10;
    let outcome = World::new(&scenario, 3, None).recorded().run();
    kept(&scenario, &outcome);
    let history = outcome.history.expect("it was recorded");
    let trained = || history.rounds[1..].iter().take(scenario.rounds as usize);
    let updates = || trained().flat_map(|round| &round.included);
    let most = updates().map(|update| update.tokens).max();
    let fewer = updates()
        .filter(|update| Some(update.tokens) < most)
        .count();
    let expected: usize = trained().map(|round| round.expected.len()).sum();
    assert!(fewer > 0, "nobody was slow");
    assert!(
        updates().count() * 10 >= expected * 9,
        "{} of {expected}",
        updates().count()
    );
}

/// A silent third of the seats costs time and no round; without it the same seeds are faster.
#[test]
fn silent_members_cost_attempts() {
    let mut honest = only("silent_seat", 0);
    honest.liars.clear();
    // Where no silent member is in turn, the order of messages alone decides which is faster.
    let all = |scenario: &Scenario| -> u64 {
        (3..=5).map(|seed| watch(scenario, seed).0.virtual_us).sum()
    };
    let (fast, slow) = (all(&honest), all(&only("silent_seat", 5)));
    assert!(slow > fast, "{slow} {fast}");
}

#[test]
fn a_third_of_the_seats_can_stop_a_run_and_is_noticed() {
    let mut scenario = only("silent_seat", 12);
    scenario.run.min_members = 22;
    scenario.run.min_contributions = 2;
    let outcome = World::new(&scenario, 1, None).run();
    assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
    assert!(outcome.overrun.is_some());
    assert!(outcome.rounds_certified < scenario.rounds);
}

#[test]
fn liars_and_every_fault_at_once_harm_nobody() {
    let scenario = scenario::load("liars").expect("the built-in scenario is accepted");
    let total = soak(&scenario, 1, 4, 2, None, &|_, _| {});
    assert!(total.failed.is_empty(), "{:#?}", total.failed);
}

#[test]
fn the_family_draws_another_federation_for_every_seed_and_keeps_every_promise() {
    let family = scenario::load("soak").expect("the built-in scenario is accepted");
    let drawn: Vec<Scenario> = (1..=12).map(|seed| family.drawn(seed)).collect();
    assert!(drawn.iter().all(|s| (7..=31).contains(&s.peers)));
    let mut sizes: Vec<usize> = drawn.iter().map(|s| s.peers).collect();
    sizes.dedup();
    assert!(sizes.len() > 6, "{sizes:?}");
    assert!(drawn.iter().any(|s| s.liars() > 0) && drawn.iter().any(|s| !s.kills.is_empty()));
    let total = soak(&family, 1, 12, 2, None, &|_, _| {});
    assert!(total.failed.is_empty(), "{:#?}", total.failed);
}

#[test]
fn half_the_peers_killed_at_once_come_back_and_finish() {
    let mut scenario = quiet(scenario::load("liars").expect("the built-in scenario is accepted"));
    scenario.kills = vec![Kill {
        at_ms: 8_000,
        share: 0.5,
    }];
    let outcome = World::new(&scenario, 2, None).run();
    kept(&scenario, &outcome);
    assert!(outcome.crashes >= 11, "{} crashes", outcome.crashes);
}

/// Churn of a twentieth, a fifth and two fifths of the peers in every round.
#[test]
fn churn_slows_rounds_down_and_stops_none() {
    for share in [0.05, 0.20, 0.40] {
        let mut scenario =
            quiet(scenario::load("liars").expect("the built-in scenario is accepted"));
        scenario.churn.per_round = share;
        let outcome = World::new(&scenario, 4, None).run();
        kept(&scenario, &outcome);
        assert!(
            f64::from(outcome.crashes) >= share * 23.0,
            "{share}: {}",
            outcome.crashes
        );
    }
}

/// A creator, an evaluator and a contributor each crash at each of their persist points, once while the
/// sync is under way and once right behind it.
#[test]
fn a_crash_at_any_persist_point_loses_nothing_that_was_acknowledged() {
    let mut scenario = quiet(scenario::load("liars").expect("the built-in scenario is accepted"));
    (scenario.peers, scenario.evaluators, scenario.rounds) = (6, 2, 2);
    scenario.joins.clear();
    (scenario.run.min_members, scenario.run.min_contributions) = (6, 2);
    scenario.calm.after_round = 2;
    let mut points = 0;
    for peer in [0, 1, 5] {
        for after in [false, true] {
            for sync in 0.. {
                let strike = Strike { peer, sync, after };
                let outcome = World::new(&scenario, 9, None).with_strike(strike).run();
                assert!(
                    outcome.violations.is_empty(),
                    "{strike:?}: {:#?}",
                    outcome.violations
                );
                if outcome.crashes == 0 {
                    break;
                }
                points += 1;
            }
        }
    }
    println!("{points} persist points");
    assert!(points > 100, "only {points} persist points");
}

/// The creator signs more than one genesis; a peer that follows the first keeps one of the others, and no third.
#[test]
fn a_second_genesis_is_kept_once_by_everybody_and_stops_nobody() {
    let scenario = only("contradict", 1);
    let (outcome, lines) = watch(&scenario, 3);
    kept(&scenario, &outcome);
    // Everybody but the creator, once each.
    let found = says(&lines, "Equivocation");
    assert!(
        (10..scenario.peers).contains(&found),
        "{found} peers found out that there are two"
    );
}

/// With more than two thirds of the votes liars can certify any height again; what was certified first stands.
#[test]
fn heights_that_a_captured_quorum_certifies_again_stand_as_they_were() {
    let scenario = only("contradict", 18);
    let (outcome, lines) = watch(&scenario, 3);
    assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
    assert_eq!(outcome.rounds_certified, scenario.rounds);
    // A second genesis exposes one liar, a later height all of them.
    let found = says(&lines, "Equivocation");
    assert!(found > 2 * scenario.peers, "only {found} exposures");
}

/// One of four evaluators and four contributors are friends of each other. Alone among honest sheets theirs moves no
/// score beyond them; what a proposer leaves out is asked for by voters.
#[test]
fn whoever_picks_sheets_stays_within_what_honest_sheets_say() {
    let mut scenario = only("pick_sheets", 5);
    scenario.evaluators = 4;
    let honest = Scenario {
        liars: Vec::new(),
        ..scenario.clone()
    };
    let judged = |scenario: &Scenario, seed: u64| {
        let outcome = World::new(scenario, seed, None).recorded().run();
        kept(scenario, &outcome);
        outcome.history.expect("it was recorded")
    };
    let left_out = |history: &History| {
        let sheets = history.rounds.iter().flat_map(|round| &round.sheets);
        sheets.filter(|sheet| !sheet.certified).count()
    };
    let attempts =
        |history: &History| -> u32 { history.rounds.iter().map(|round| round.attempt).sum() };
    // It takes a friend in turn who holds an honest sheet that it can leave out.
    let mut picked = 0;
    for seed in 3..=6 {
        let (clean, bent) = (judged(&honest, seed), judged(&scenario, seed));
        let lies = |peer: usize| !bent.participants[peer].behaviour.is_empty();
        assert_eq!((1..=4).filter(|peer| lies(*peer)).count(), 1);
        assert_eq!(left_out(&clean), 0);
        picked += left_out(&bent) + attempts(&bent) as usize;
    }
    assert!(picked > 0, "no sheet was left out");
}

/// One of four evaluators signs the sheets of others. It has none before they are shown, so it seals too late.
#[test]
fn whoever_copies_a_sheet_has_none_that_counts() {
    let mut scenario = only("copy_sheet", 1);
    scenario.evaluators = 4;
    let outcome = World::new(&scenario, 3, None).recorded().run();
    kept(&scenario, &outcome);
    let history = outcome.history.expect("it was recorded");
    let lies = |peer: usize| !history.participants[peer].behaviour.is_empty();
    let copier = (1..=4).find(|peer| lies(*peer)).expect("an evaluator");
    let sheets = (history.rounds.iter()).flat_map(|round| &round.sheets);
    let (copied, honest): (Vec<&SheetFacts>, Vec<&SheetFacts>) =
        sheets.partition(|s| s.evaluator == copier);
    assert!(!copied.is_empty(), "nothing was copied");
    assert!(copied.iter().all(|sheet| !sheet.certified), "a copy counts");
    assert_eq!(honest.len(), 3 * scenario.rounds as usize);
    assert!(
        honest.iter().all(|sheet| sheet.certified),
        "an honest sheet does not"
    );
}

/// Draws follow from links that nobody knows while keys are made, and that no choice of a proposer moves: over many
/// heights grinders are in turn, and drawn to train, as often as their number says.
#[test]
fn grinding_keys_and_values_gains_no_turns_and_no_places() {
    let mut scenario = only("grind", 5);
    (scenario.run.participants, scenario.rounds) = (9, 6);
    (scenario.calm.after_round, scenario.learner.steps) = (5, 1);
    let (mut turns, mut places) = (Tally::default(), Tally::default());
    let (mut omissions, mut honestly) = (0, 0);
    for seed in 1..=24 {
        let outcome = World::new(&scenario, seed, None).recorded().run();
        kept(&scenario, &outcome);
        let history = outcome.history.expect("it was recorded");
        let lies = |peer: &usize| !history.participants[*peer].behaviour.is_empty();
        for round in &history.rounds[1..] {
            let part =
                |of: &[usize]| of.iter().filter(|p| lies(p)).count() as f64 / of.len() as f64;
            turns.add(
                round.in_turn.is_some_and(|peer| lies(&peer)),
                part(&round.committee),
            );
            for peer in &round.expected {
                places.add(lies(peer), part(&round.contributors));
            }
        }
        if omitted(&history) > 0 {
            omissions += omitted(&history);
            let honest = Scenario {
                liars: Vec::new(),
                ..scenario.clone()
            };
            let twin = World::new(&honest, seed, None).recorded().run();
            honestly += omitted(&twin.history.expect("it was recorded"));
        }
    }
    println!("turns {turns:?}, places {places:?}, {omissions} omissions, {honestly} without liars");
    assert!(omissions > honestly, "no value was ever ground");
    assert!(turns.is_fair(), "{turns:?}");
    assert!(places.is_fair(), "{places:?}");
}

/// Contributions of the drawn that no certified value has.
fn omitted(history: &History) -> usize {
    let of = |round: &RoundFacts| round.expected.len().saturating_sub(round.included.len());
    let trained = history.rounds.len().saturating_sub(1);
    history.rounds[1..trained].iter().map(of).sum()
}

/// How often something happened beside how often it should have, each time by its own chance.
#[derive(Debug, Default)]
struct Tally {
    happened: f64,
    expected: f64,
    variance: f64,
}

impl Tally {
    fn add(&mut self, happens: bool, chance: f64) {
        self.happened += f64::from(u8::from(happens));
        self.expected += chance;
        self.variance += chance * (1.0 - chance);
    }

    /// Within three standard deviations of what chance gives, from above: nobody minds a loss.
    fn is_fair(&self) -> bool {
        self.happened <= self.expected + 3.0 * self.variance.sqrt()
    }
}

/// Four newcomers ask the peers that are there, liars among them, for what was certified and written before they came.
#[test]
fn newcomers_that_are_told_forged_histories_catch_up_and_blame_the_tellers() {
    let mut scenario = only("forge_history", 5);
    scenario.joins = (1..=2).map(|round| Change { round, count: 2 }).collect();
    (scenario.peers, scenario.evaluators) = (26, 2);
    let mut refused = 0;
    for seed in 1..=3 {
        let outcome = World::new(&scenario, seed, None).recorded().run();
        kept(&scenario, &outcome);
        let history = outcome.history.expect("it was recorded");
        for moment in &history.moments {
            let What::Notice(Notice::Refused { from, .. }) = &moment.what else {
                continue;
            };
            let teller = &history.participants[history.index[from]];
            assert_eq!(teller.behaviour, "forge_history", "{}", teller.name);
            refused += usize::from(moment.peer.is_some_and(|peer| peer >= 22));
        }
    }
    assert!(refused > 0, "no newcomer was told anything forged");
}

/// Twenty of 23 members leave as many out as they may, and the oracle takes them for honest: their nodes refuse such
/// values in two attempts, and not in the third.
#[test]
fn the_oracle_notices_receipts_that_stay_out_for_long() {
    let mut scenario = only("omit", 22);
    (scenario.rounds, scenario.run.min_members) = (5, 22);
    scenario.joins.clear();
    let broken = |scenario: &Scenario, seed: u64| -> Vec<&'static str> {
        let outcome = World::new(scenario, seed, None).with_trust().run();
        outcome.violations.iter().map(|v| v.promise).collect()
    };
    // Whom liars leave out three times in a row is a matter of draws, and so of the run's id.
    let seed =
        (1..=40).find(|seed| broken(&scenario, *seed) == ["no timely receipt stays out for long"]);
    let seed = seed.expect("the oracle notices none of forty runs");
    println!("seed {seed}");
    // Too few heights for three in a row, and the same without liars.
    let short = Scenario {
        rounds: 2,
        ..scenario.clone()
    };
    assert_eq!(broken(&short, seed), [""; 0]);
    scenario.liars.clear();
    assert_eq!(broken(&scenario, seed), [""; 0]);
}

/// A run that has to be done sooner than it can be is not a run that liars have stopped.
#[test]
fn a_height_that_honest_members_could_decide_and_do_not_is_noticed() {
    let mut scenario = only("strangers", 5);
    (scenario.calm.after_round, scenario.calm.round_within_ms) = (1, 1);
    let outcome = World::new(&scenario, 3, None).run();
    let promises: Vec<_> = outcome.violations.iter().map(|v| v.promise).collect();
    assert_eq!(promises, ["once faults stop, the run finishes"]);
}

/// Where updates weigh by own text, a member that copies a sketch that it has seen shares the text with those that are
/// admitted together with it, and has the text of one print where it comes later. What was made up passes for new.
#[test]
fn a_copied_sketch_weighs_next_to_nothing() {
    let mut scenario = only("lie_sketch", 5);
    scenario.run.weights = WeightsName::Own;
    scenario.run.full_weight_tokens = 1_010;
    let (mut copies, mut inventions) = (0, 0);
    for seed in 1..=4 {
        let outcome = World::new(&scenario, seed, None).recorded().run();
        kept(&scenario, &outcome);
        let history = outcome.history.expect("it was recorded");
        let lies = |u: &IncludedUpdate| !history.participants[u.peer].behaviour.is_empty();
        let included = || history.rounds.iter().flat_map(|round| &round.included);
        let share = |u: &IncludedUpdate| u.weight as f64 / u.tokens as f64;
        let honest = included().filter(|u| !lies(u)).map(share);
        let whole = honest.fold(0.0, f64::max);
        for liar in included().filter(|u| lies(u)) {
            // A copy has the one print that is new in it, and an update weighs one at least.
            assert!(
                share(liar) > whole || liar.weight == 1,
                "{liar:?} of {whole}"
            );
            copies += usize::from(liar.weight == 1);
            inventions += usize::from(share(liar) > whole);
        }
    }
    assert!(copies > 0 && inventions > 0, "{copies} {inventions}");
}
