//! What a client of a real chain asks about a run.

use tributary_protocol::filing::Bind;

use super::*;

#[test]
fn an_account_counts_for_the_peer_that_bound_it_first_and_a_bind_that_it_did_not_sign_for_nobody() {
    let mut world = World::new(4, |_| {});
    let terms = world.manifest.payment.settlement.expect("terms");
    let ids = world.net.ids.clone();
    let bind = |peer: usize, key: usize| bind_of(world.run, &terms, ids[peer], &evm(key));
    let stolen = Bind {
        signature: bind(1, 1).signature,
        ..bind(0, 0)
    };
    // Before the genesis nobody is a member, so the least id comes first.
    let joins = [
        (ids[0], bind(0, 5)),
        (ids[1], bind(1, 5)),
        (ids[2], stolen),
        (ids[3], bind(3, 3)),
    ];
    let asked = world.books[0].asked(joins.iter().map(|(peer, bind)| (*peer, bind)));
    let first = ids[0].min(ids[1]);
    let mut expected = vec![(first, evm(5).address()), (ids[3], evm(3).address())];
    expected.sort_unstable();
    assert_eq!(asked.stakers, expected);
    // What members filed counts before any join, and nobody else joins with an account of theirs.
    world.join_all();
    let limit = 200_000;
    let is_bound =
        |world: &World| (0..4).all(|node| world.books[0].account(&world.net.ids[node]).is_some());
    assert!(world.run_until(limit, is_bound), "nobody bound an account");
    let terms = world.manifest.payment.settlement.expect("terms");
    let stranger = PeerId(world.run.0);
    let late = bind_of(world.run, &terms, stranger, &evm(0));
    let moved = bind_of(world.run, &terms, ids[1], &evm(7));
    let joins = [(stranger, &late), (ids[1], &moved)];
    let asked = world.books[0].asked(joins.into_iter());
    let mut expected: Vec<_> = (0..4)
        .map(|node| (ids[node], evm(node).address()))
        .collect();
    expected.sort_unstable();
    assert_eq!(asked.stakers, expected);
}
