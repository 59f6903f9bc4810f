//! Bonded runs on the test chain: certificates take stakes over from it, panels are drawn by them, and books notice a wrong one.

use tributary_protocol::anchor::Anchor;
use tributary_protocol::hash::Digest;
use tributary_protocol::manifest::Weights;

use super::*;

const SEATS: u32 = 4;

fn bonded(members: usize) -> World {
    let mut world = World::new(members, |manifest| {
        manifest.plan.rounds = 12;
        manifest.updates.weights = Weights::Stake { least: 0 };
        manifest.scoring.evaluators.clear();
        manifest.scoring.seats = SEATS;
        let terms = test_terms(evm(0).address(), manifest);
        manifest.payment.settlement = Some(terms);
        manifest.check().expect("a bonded run");
    });
    world.join_all();
    world
}

fn closes(world: &mut World) {
    let end = world.manifest.closing_round();
    let there = |world: &World| world.books.iter().all(|books| books.expected() > end);
    assert!(world.run_until(400_000, there), "it closes");
}

#[test]
fn stake_on_the_test_chain_is_anchored_and_panels_are_paid_by_it() {
    let mut world = bonded(4);
    closes(&mut world);
    for node in 0..4 {
        let books = &world.books[node];
        let head = books.head().expect("certified");
        for member in head.roster.iter() {
            let stake = member.stake.expect("anchored");
            assert_eq!((stake.last, stake.before), (1_000_000, 1_000_000));
        }
        assert!(books.is_conserved());
        assert_eq!(world.settled(node).wrong_anchors(), []);
        let judged = books.lines().iter();
        let judged = judged.filter(|line| line.capacity == Capacity::Evaluator);
        assert!(judged.count() > 0, "panels are paid");
    }
    let evaluators: Vec<PeerId> = world.net.ids[..2].to_vec();
    let panel = &world.books[0].head().expect("certified").panel;
    assert_eq!(panel.seats(), SEATS as usize);
    assert!(panel.peers().all(|peer| evaluators.contains(peer)));
}

#[test]
fn an_anchor_that_says_otherwise_is_named() {
    let mut world = bonded(4);
    closes(&mut world);
    let view = (world.net.nodes[0].as_ref())
        .and_then(|node| node.run(&world.run))
        .expect("followed");
    let anchored = |anchor: &Anchor| !anchor.stakes.is_empty();
    let certificates = view.chain().iter();
    let value = certificates.map(|certificate| &certificate.value);
    let mut values = value.filter(|value| value.anchor.as_ref().is_some_and(anchored));
    let value = values.next().expect("stakes were anchored");
    let mut anchor = value.anchor.clone().expect("an anchor");
    let mut settled = Settled::new(
        world.run,
        world.manifest.payment.settlement.as_ref().expect("terms"),
        true,
    );
    let roster = world.books[0].head().expect("certified").roster.clone();
    settled.take_anchor(value.round, &anchor, &roster);
    assert_eq!(
        settled.wrong_anchors(),
        [value.round],
        "a block that never was"
    );

    let mut books = world.books[0].clone();
    let kept = books.settled.as_mut().expect("terms");
    let facts = kept.chain_facts().expect("a height").clone();
    anchor.block = facts.block;
    anchor.stakes = facts.stakes.clone();
    kept.take_anchor(Round(90), &anchor, &roster);
    anchor.stakes[0].1 += 1;
    kept.take_anchor(Round(91), &anchor, &roster);
    assert_eq!(kept.wrong_anchors(), [Round(91)]);
}

#[test]
fn an_account_s_stake_is_that_of_the_peer_which_bound_it_first() {
    let mut payees = Payees::default();
    let [first, second] = [
        PeerId(Digest::from_bytes([1; 32])),
        PeerId(Digest::from_bytes([2; 32])),
    ];
    let [one, other] = [Address([3; 20]), Address([4; 20])];
    payees.bind(second, one, Round(1));
    payees.bind(first, one, Round(1));
    let stakers = |payees: &Payees| payees.stakers().collect::<Vec<_>>();
    assert_eq!(stakers(&payees), [(second, one)]);
    // It moves away: who is bound there next has it.
    payees.bind(second, other, Round(2));
    payees.begin(Round(2 + BIND_COOLDOWN));
    assert_eq!(stakers(&payees), [(second, other)]);
    payees.bind(first, other, Round(20));
    payees.begin(Round(20 + BIND_COOLDOWN));
    assert_eq!(stakers(&payees), [(second, other)]);
}
