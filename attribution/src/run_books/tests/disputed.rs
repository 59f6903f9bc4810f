//! Score sheets that somebody disputes: what jurors find decides, and the loser's stake pays.

use tributary_protocol::filing::{DisputeStep, Disputed};
use tributary_protocol::panel::Panel;

use super::*;
use crate::settlement::Slash;

const CHALLENGER: usize = 3;
const EVALUATOR: usize = 1;
const SCORED: usize = 2;

/// A run of seven members whose stake counts, in the middle of its rounds.
fn running() -> World {
    let mut world = World::new(7, |manifest| {
        manifest.plan.rounds = 40;
        manifest.payment.round = RoundSplit::default();
    });
    world.keep();
    world.join_all();
    let has_stake = |world: &World| {
        let key = world.settled(0).key();
        let stake = |node| world.chain(0).stake(key, evm(node).address()).counting;
        (0..7).all(|node| stake(node) > BaseUnits(0)) && world.books[0].expected() > Round(9)
    };
    assert!(world.run_until(600_000, has_stake));
    world
}

fn head(world: &World) -> &tributary_protocol::certificate::Certificate {
    let view = world.net.nodes[0].as_ref().and_then(|n| n.run(&world.run));
    view.expect("a run").chain().last().expect("heights")
}

/// The sheet of the evaluator that the last certificate counts.
fn sheet(world: &mut World) -> EntryRef {
    let author = world.net.ids[EVALUATOR];
    let counted = |world: &World| {
        let mut sheets = head(world).value.sheets.iter();
        sheets.find(|sheet| sheet.author == author).copied()
    };
    assert!(world.run_until(60_000, |world| counted(world).is_some()));
    counted(world).expect("just seen")
}

impl World {
    pub(super) fn step(&mut self, node: usize, step: DisputeStep) {
        let run = self.run;
        let filings = vec![Entry::Dispute(step)];
        self.net.command(node, Command::File { run, filings });
    }

    /// Opens a dispute; its name, once a certificate has it.
    fn open(&mut self, node: usize, sheet: EntryRef) -> Option<EntryRef> {
        let before = self.books[0].disputes().count();
        let peer = self.net.ids[SCORED];
        let reason = "its windows say half of that".to_owned();
        let opened = Disputed {
            sheet,
            peer,
            reason,
        };
        self.step(node, DisputeStep::Open(opened));
        let next = self.books[0].expected().0;
        let is_over = |world: &World| {
            world.books[0].disputes().count() > before || world.books[0].expected().0 > next + 2
        };
        assert!(self.run_until(120_000, is_over));
        let by = self.net.ids[node];
        let mut named = self.books[0].disputes();
        let own = |dispute: &Dispute| {
            let score = dispute.matter.score();
            score.is_some_and(|score| (score.challenger, score.sheet) == (by, sheet))
        };
        named.find(|(_, dispute)| own(dispute)).map(|(at, _)| *at)
    }

    /// Heights go on until a jury sits, this one or another.
    fn until_sitting(&mut self, at: &EntryRef, is_second: bool) {
        let sits = |world: &World| {
            let dispute = world.dispute(at);
            let seats = if is_second { 2 } else { 1 } * JURY_SEATS;
            matches!(dispute.stage, Stage::Sitting(_)) && dispute.jury.seats() == seats
        };
        assert!(self.run_until(300_000, sits), "{:?}", self.dispute(at));
    }

    pub(super) fn dispute(&self, at: &EntryRef) -> &Dispute {
        let mut disputes = self.books[0].disputes();
        disputes.find(|(name, _)| *name == at).expect("opened").1
    }

    /// From now on every member that is asked finds this.
    pub(super) fn find(&mut self, at: EntryRef, finding: Finding) {
        for node in 0..self.books.len() {
            let of_node = self.findings.entry(node).or_default();
            of_node.insert(at, finding);
        }
    }

    pub(super) fn until_over(&mut self, at: &EntryRef) {
        let is_over = |world: &World| match &world.dispute(at).stage {
            Stage::Over(sentence) => sentence.slash.is_none_or(|slash| {
                world.settled(0).sentenced().contains(&slash.evidence) && world.is_executed(&slash)
            }),
            Stage::Upheld | Stage::Unproven | Stage::Lapsed => true,
            Stage::Called(_) | Stage::Sitting(_) | Stage::Appealable(..) => false,
        };
        assert!(self.run_until(600_000, is_over), "{:?}", self.dispute(at));
    }

    fn is_executed(&self, slash: &Slash) -> bool {
        let stake = self.chain(0).stake(slash.run, slash.account);
        stake.sentence.is_none()
    }

    pub(super) fn staked(&self, node: usize) -> u128 {
        let key = self.settled(0).key();
        self.chain(0).stake(key, evm(node).address()).all().0 / 1_000_000_000_000
    }

    fn holds(&self, account: Account) -> u128 {
        let balance = self.books[0].books().balance(self.run, account);
        balance.0.unsigned_abs()
    }

    /// The rest of the run comes to its end, and everybody has what it earned.
    fn closes(&mut self) {
        assert!(
            self.run_until(1_200_000, World::has_paid_everybody),
            "{:?}",
            self.settled(0).refused()
        );
        for books in &self.books {
            assert!(books.is_conserved());
            assert_eq!(books.settled().expect("terms").dissent().count(), 0);
        }
    }
}

#[test]
fn an_evaluator_whose_windows_say_something_else_loses_its_pay_for_the_round_and_a_bond() {
    let mut world = running();
    let sheet = sheet(&mut world);
    let at = world.open(CHALLENGER, sheet).expect("opened");
    assert_eq!(
        world.dispute(&at).jury,
        Panel::default(),
        "nobody knows it yet"
    );
    world.until_sitting(&at, false);
    let concerned = [CHALLENGER, EVALUATOR, SCORED].map(|node| world.net.ids[node]);
    assert!(
        concerned
            .iter()
            .all(|peer| !world.dispute(&at).jury.contains(peer))
    );
    assert_eq!(world.dispute(&at).jury.seats(), JURY_SEATS);
    world.find(at, Finding::Fails);
    let evaluator = world.net.ids[EVALUATOR];
    let lost = |world: &World| matches!(world.dispute(&at).stage, Stage::Over(_));
    let before = |world: &World| world.holds(Account::Evaluator(evaluator));
    assert!(world.run_until(300_000, |world| matches!(
        world.dispute(&at).stage,
        Stage::Appealable(loser, _) if loser == evaluator
    )));
    assert_eq!(world.staked(EVALUATOR), 1_000_000);
    assert!(world.run_until(300_000, lost));
    let after = before(&world);
    let judged = world.dispute(&at).matter.score().expect("a score").round;
    let refused = world.books[0].prove(&evaluator, judged, Capacity::Evaluator);
    assert_eq!(refused, Err(UnprovenError::NoLine), "its line is gone");
    let facts = world.books[0].books().facts();
    let forfeit = facts.filter_map(|fact| match fact {
        Fact::Forfeit(forfeit) => Some(*forfeit),
        _ => None,
    });
    let forfeits: Vec<Forfeit> = forfeit.collect();
    assert_eq!(forfeits.len(), 1);
    assert!(forfeits[0].amount > MicroOpen(0) && after > 0);
    world.until_over(&at);
    assert_eq!(
        (world.staked(EVALUATOR), world.staked(CHALLENGER)),
        (0, 1_000_000)
    );
    world.closes();
}

#[test]
fn a_challenger_that_is_wrong_loses_a_bond_and_nobody_else_anything() {
    let mut world = running();
    let sheet = sheet(&mut world);
    let at = world.open(CHALLENGER, sheet).expect("opened");
    world.find(at, Finding::Holds);
    world.until_over(&at);
    assert_eq!(
        (world.staked(EVALUATOR), world.staked(CHALLENGER)),
        (1_000_000, 0)
    );
    let judged = world.dispute(&at).matter.score().expect("a score").round;
    let evaluator = world.net.ids[EVALUATOR];
    let is_paid = |world: &World| {
        let lines = world.books[0].lines().iter();
        let mut own = lines.filter(|line| line.capacity == Capacity::Evaluator);
        own.any(|line| (line.peer, line.round) == (evaluator, judged))
    };
    assert!(
        world.run_until(300_000, is_paid),
        "the line waited no longer"
    );
    world.closes();
}

#[test]
fn where_no_juror_is_heard_twice_as_many_are_asked_and_then_nobody_pays() {
    let mut world = running();
    let sheet = sheet(&mut world);
    let at = world.open(CHALLENGER, sheet).expect("opened");
    world.until_sitting(&at, false);
    world.until_sitting(&at, true);
    world.until_over(&at);
    assert_eq!(world.dispute(&at).stage, Stage::Lapsed);
    assert_eq!(
        (world.staked(EVALUATOR), world.staked(CHALLENGER)),
        (1_000_000, 1_000_000)
    );
    world.closes();
}

#[test]
fn an_evaluator_that_shows_nothing_loses() {
    let mut world = running();
    let sheet = sheet(&mut world);
    let at = world.open(CHALLENGER, sheet).expect("opened");
    world.find(at, Finding::Unshown);
    world.until_over(&at);
    assert_eq!(
        (world.staked(EVALUATOR), world.staked(CHALLENGER)),
        (0, 1_000_000)
    );
}

/// It might be cut off by whoever disputes, so its stake is safe; but it has not shown what it would be paid for.
#[test]
fn an_evaluator_that_no_juror_reaches_is_not_paid_for_the_round_and_keeps_its_stake() {
    let mut world = running();
    let sheet = sheet(&mut world);
    let at = world.open(CHALLENGER, sheet).expect("opened");
    world.find(at, Finding::Unreached);
    world.until_over(&at);
    assert_eq!(world.dispute(&at).stage, Stage::Unproven);
    let staked = [EVALUATOR, CHALLENGER].map(|node| world.staked(node));
    assert_eq!(staked, [1_000_000, 1_000_000]);
    let forfeits = |world: &World| {
        let facts = world.books[0].books().facts();
        facts
            .filter(|fact| matches!(fact, Fact::Forfeit(_)))
            .count()
    };
    assert_eq!(forfeits(&world), 1);
    world.closes();
    assert_eq!(forfeits(&world), 1);
}

/// Four may judge here. A first jury of most of them leaves too few for a second, which would be one member's.
#[test]
fn a_second_jury_is_a_fresh_one_only_where_half_of_those_who_may_judge_are_left() {
    let mut world = running();
    let sheet = sheet(&mut world);
    let at = world.open(CHALLENGER, sheet).expect("opened");
    world.until_sitting(&at, false);
    let first = world.dispute(&at).jury.clone();
    world.until_sitting(&at, true);
    let second = world.dispute(&at).jury.clone();
    let again = second.peers().filter(|peer| first.contains(peer)).count();
    match first.len() {
        ..=2 => assert_eq!(again, 0),
        _ => assert!(second.len() > 2, "{second:?}"),
    }
    world.closes();
}

#[test]
fn the_loser_appeals_to_twice_as_many_seats_whose_verdict_is_final() {
    let mut world = running();
    let sheet = sheet(&mut world);
    let at = world.open(CHALLENGER, sheet).expect("opened");
    world.find(at, Finding::Fails);
    let is_lost = |world: &World| matches!(world.dispute(&at).stage, Stage::Appealable(..));
    assert!(world.run_until(300_000, is_lost));
    // Whoever has won cannot appeal.
    world.step(CHALLENGER, DisputeStep::Appeal(at));
    world.step(EVALUATOR, DisputeStep::Appeal(at));
    world.find(at, Finding::Holds);
    world.until_sitting(&at, true);
    assert_eq!(world.dispute(&at).appellant, Some(world.net.ids[EVALUATOR]));
    world.until_over(&at);
    assert_eq!(
        (world.staked(EVALUATOR), world.staked(CHALLENGER)),
        (1_000_000, 0)
    );
}

#[test]
fn an_appellant_that_loses_again_pays_twice() {
    let mut world = running();
    let sheet = sheet(&mut world);
    let at = world.open(CHALLENGER, sheet).expect("opened");
    world.find(at, Finding::Fails);
    let is_lost = |world: &World| matches!(world.dispute(&at).stage, Stage::Appealable(..));
    assert!(world.run_until(300_000, is_lost));
    world.step(EVALUATOR, DisputeStep::Appeal(at));
    assert!(world.run_until(600_000, |world| matches!(
        world.dispute(&at).stage,
        Stage::Over(_)
    )));
    let Stage::Over(sentence) = &world.dispute(&at).stage else {
        panic!("it was over");
    };
    let amount = sentence.slash.expect("a bond").amount;
    assert_eq!(amount.0, 2 * world.settled(0).terms().challenge_bond.0);
}

#[test]
fn nobody_disputes_its_own_sheet_or_one_twice_or_late_or_with_a_stake_that_is_another_bond() {
    let mut world = running();
    let first = sheet(&mut world);
    assert_eq!(world.open(EVALUATOR, first), None, "its own");
    let at = world.open(CHALLENGER, first).expect("opened");
    assert_eq!(world.open(4, first), None, "the same score again");
    let second = sheet(&mut world);
    assert_ne!(first, second);
    assert_eq!(world.open(CHALLENGER, second), None, "one stake, two bonds");
    world.find(at, Finding::Holds);
    world.until_over(&at);
    let third = sheet(&mut world);
    assert_eq!(world.open(CHALLENGER, third), None, "without stake");
    assert_eq!(world.open(4, second), None, "too late");
    assert!(world.open(4, third).is_some());
}

/// A verdict that is final at the closing height comes too late to take pay back: what waited is being given out.
#[test]
fn nothing_waits_for_good_whenever_a_dispute_ends() {
    for before in 3..=8 {
        let mut world = running();
        let closing = world.manifest.closing_round();
        let at_height = Round(closing.0 - before);
        assert!(world.run_until(600_000, |world| world.books[0].expected() >= at_height));
        let sheet = sheet(&mut world);
        let at = world.open(CHALLENGER, sheet).expect("opened");
        world.find(at, Finding::Fails);
        world.closes();
        world.until_over(&at);
        assert_eq!(
            world.holds(Account::Unallocated),
            0,
            "{before} heights before the closing"
        );
    }
}
