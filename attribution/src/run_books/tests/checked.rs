//! Shares of answers that a certificate draws, and a jury computes again.

use tributary_protocol::filing::DisputeStep;

use super::answers::Paying;
use super::*;
use crate::fee::Shaped;

const SERVER: usize = 2;
const CONSUMER: usize = 3;
/// As much as a server loses by a lie, so that it is drawn whatever the beacon is.
const FEE: u128 = 1_000_000;

/// A run of seven that is over, in which a consumer has paid a whole bond for one answer and agreed to what the server says
/// of it; the check of that.
fn served() -> (World, EntryRef) {
    let mut world = World::closed_of(7, |_| {});
    let paying = Paying::new(&world, SERVER, CONSUMER);
    paying.deposit(&mut world);
    let answers = paying.answers(&world, 0, &[(FEE, &[(1, 600_000_000)])]);
    world.file(SERVER, vec![answers, paying.claim(FEE)]);
    let is_drawn = |world: &World| world.books[0].disputes().next().is_some();
    assert!(world.run_until(300_000, is_drawn));
    let check = world.books[0].disputes().next();
    let (at, check) = check.expect("just seen");
    let matter = Matter::Shares {
        answers: *at,
        drawn: vec![0],
    };
    assert_eq!(check.matter, matter);
    assert!(!check.jury.contains(&world.net.ids[SERVER]));
    assert!(world.shaped().is_none(), "nothing is given out meanwhile");
    let at = *at;
    (world, at)
}

impl World {
    /// What decided about the fee, once it is given out.
    fn shaped(&self) -> Option<Shaped> {
        let mut facts = self.books[0].books().facts();
        facts.find_map(|fact| match fact {
            Fact::Fees(fees) => Some(fees.shaped.clone()),
            _ => None,
        })
    }

    /// The rest happens, and everybody has what it earned.
    fn until_paid(&mut self) -> Shaped {
        let is_paid = |world: &World| {
            world.shaped().is_some() && world.fees() == FEE && world.has_paid_everybody()
        };
        assert!(
            self.run_until(1_200_000, is_paid),
            "{:?}",
            self.settled(0).refused()
        );
        for books in &self.books {
            assert!(books.is_conserved());
            assert_eq!(books.settled().expect("terms").dissent().count(), 0);
        }
        self.shaped().expect("just seen")
    }
}

fn by_credits() -> Shaped {
    Shaped {
        by_credits: 1,
        ..Shaped::default()
    }
}

#[test]
fn shares_that_a_jury_finds_right_decide() {
    let (mut world, at) = served();
    world.find(at, Finding::Holds);
    let shaped = world.until_paid();
    assert_eq!(shaped.agreed, [(world.net.ids[1], FEE * 600_000_000)]);
    assert_eq!(world.staked(SERVER), 1_000_000);
    assert_eq!(world.dispute(&at).stage, Stage::Upheld);
}

#[test]
fn a_server_whose_shares_are_made_up_loses_a_bond_and_the_credits_decide() {
    let (mut world, at) = served();
    world.find(at, Finding::Fails);
    assert_eq!(world.until_paid(), by_credits());
    world.until_over(&at);
    assert_eq!(world.staked(SERVER), 0);
    assert_eq!(world.earned(Account::Server, SERVER), FEE / 10);
}

#[test]
fn a_server_that_shows_no_text_loses_a_bond_and_one_that_is_not_reached_none() {
    for (finding, left) in [(Finding::Unshown, 0), (Finding::Unreached, 1_000_000)] {
        let (mut world, at) = served();
        world.find(at, finding);
        assert_eq!(world.until_paid(), by_credits());
        world.until_over(&at);
        assert_eq!(world.staked(SERVER), left);
    }
}

#[test]
fn where_no_juror_can_tell_the_credits_decide() {
    let (mut world, at) = served();
    assert_eq!(world.until_paid(), by_credits());
    assert_eq!(world.dispute(&at).stage, Stage::Lapsed);
    assert_eq!(world.staked(SERVER), 1_000_000);
}

#[test]
fn a_server_that_a_jury_wronged_appeals() {
    let (mut world, at) = served();
    world.find(at, Finding::Fails);
    let is_lost = |world: &World| matches!(world.dispute(&at).stage, Stage::Appealable(..));
    assert!(world.run_until(300_000, is_lost));
    world.step(SERVER, DisputeStep::Appeal(at));
    world.find(at, Finding::Holds);
    assert_eq!(world.until_paid().agreed.len(), 1);
    assert_eq!(world.staked(SERVER), 1_000_000);
}
