//! Tests of the draw.

use super::*;
use crate::hash::digest;

fn peer(i: u32) -> PeerId {
    PeerId(digest(Domain::Simulation, &i.to_le_bytes()))
}

fn equal(count: u32) -> Vec<(PeerId, u64)> {
    (0..count).map(|i| (peer(i), 1)).collect()
}

fn beacon(round: u32) -> Digest {
    digest(Domain::Simulation, &round.to_le_bytes())
}

fn draw(round: u32, members: &[(PeerId, u64)], size: usize) -> Committee {
    let (run, beacon) = (RunId::default(), beacon(round));
    let members = members.iter().copied();
    Committee::draw(&run, Round(round), &beacon, members, |_| true, size)
}

#[test]
fn quorum_is_more_than_two_thirds_and_honest_more_than_one() {
    for n in 1..=200u64 {
        let committee = Committee::of(vec![(peer(0), n)]);
        let (quorum, honest) = (committee.quorum(), committee.honest());
        assert!(quorum * 3 > n * 2 && (quorum - 1) * 3 <= n * 2);
        assert!(honest * 3 > n && (honest - 1) * 3 <= n);
        assert!(2 * quorum - n >= honest);
    }
    let most = Committee::of(vec![(peer(0), 1 << 62)]);
    assert_eq!(most.quorum(), 3_074_457_345_618_258_603);
}

#[test]
fn up_to_sixty_four_members_all_vote_with_their_weight() {
    for count in [1, 3, 30, 64] {
        let members: Vec<_> = (0..count).map(|i| (peer(i), u64::from(i) + 1)).collect();
        let committee = draw(1, &members, 7);
        assert_eq!(committee.len(), count as usize);
        assert!(
            members
                .iter()
                .all(|(peer, weight)| committee.votes(peer) == *weight)
        );
    }
    assert_eq!(draw(1, &equal(65), 7).total(), 7);
    assert_eq!(draw(1, &equal(65), 0).total(), 1);
    assert_eq!(
        draw(1, &equal(100), 1000).total(),
        limits::MAX_COMMITTEE as u64
    );
}

#[test]
fn who_weighs_nothing_has_no_vote() {
    let members = [(peer(0), 0), (peer(1), 3), (peer(2), 0)];
    assert_eq!(draw(1, &members, 7).members(), [peer(1)]);
}

#[test]
fn whoever_leaves_moves_nobody_elses_seat_and_nobody_elses_turn_before_its_own() {
    let members = equal(100);
    for round in 1..50 {
        let all = draw(round, &members, 16);
        let gone = all.proposer(2);
        let (run, beacon) = (RunId::default(), beacon(round));
        let stays = |peer: &PeerId| *peer != gone;
        let members = members.iter().copied();
        let left = Committee::draw(&run, Round(round), &beacon, members, stays, 16);
        let others = all.members().iter().filter(|peer| stays(peer));
        assert!(
            others
                .clone()
                .all(|peer| left.votes(peer) == all.votes(peer))
        );
        assert_eq!(left.total(), all.total() - all.votes(&gone));
    }
}

#[test]
fn seats_are_at_most_one_off_the_share_of_the_weight() {
    let members: Vec<_> = (0..100)
        .map(|i| (peer(i), 1 + u64::from(i) * u64::from(i)))
        .collect();
    let total: u64 = members.iter().map(|(_, weight)| weight).sum();
    for round in 1..=200 {
        let committee = draw(round, &members, 16);
        assert_eq!(committee.total(), 16);
        for (peer, weight) in &members {
            let exact = 16.0 * *weight as f64 / total as f64;
            assert!((committee.votes(peer) as f64 - exact).abs() < 1.0);
        }
    }
}

#[test]
fn splitting_a_weight_over_names_gains_no_seat() {
    let others = || (100..200).map(|i| (peer(i), 20));
    let mean = |names: u32| {
        let split = (0..names).map(|i| (peer(i), 640 / u64::from(names)));
        let members: Vec<_> = split.chain(others()).collect();
        let seats = (1..=4_000).map(|round| {
            let committee = draw(round, &members, 16);
            committee.votes_of((0..names).map(peer))
        });
        seats.sum::<u64>() as f64 / 4_000.0
    };
    let exact = 16.0 * 640.0 / 2_640.0;
    for names in [1, 2, 16, 64] {
        // At most one seat off each time, so half a seat of deviation, and six of them in the mean.
        assert!((mean(names) - exact).abs() < 0.05, "{names} names");
    }
}

#[test]
fn members_propose_as_often_as_they_weigh_and_soon_one_after_the_other() {
    let members: Vec<_> = (0..9).map(|i| (peer(i), 1 + u64::from(i % 3))).collect();
    let committee = draw(3, &members, 4);
    let turns: Vec<PeerId> = (0..1_800)
        .map(|attempt| committee.proposer(attempt))
        .collect();
    for (peer, weight) in &members {
        let held = turns.iter().filter(|turn| *turn == peer).count() as u64;
        assert!(
            held.abs_diff(weight * 100) <= 3,
            "{held} turns of weight {weight}"
        );
    }
    let heard = |some: &[PeerId]| members.iter().all(|(peer, _)| some.contains(peer));
    assert!(
        turns.windows(48).all(heard),
        "18 votes, and nobody waits for three times as many turns"
    );
}

#[test]
fn votes_count_once_however_often_they_are_named() {
    let committee = draw(1, &[(peer(0), 2), (peer(1), 3)], 7);
    assert_eq!(committee.votes_of([peer(0), peer(0), peer(9)]), 2);
    assert_eq!(committee.votes_of([peer(0), peer(1)]), 5);
}

#[test]
fn an_attempt_is_reached_by_an_honest_share_of_the_votes() {
    let committee = draw(1, &[(peer(0), 5), (peer(1), 2), (peer(2), 2)], 7);
    assert_eq!(committee.honest(), 4);
    let reached = |at: [u32; 3]| committee.reached((0..).map(peer).zip(at));
    assert_eq!(reached([3, 9, 7]), Some(7));
    assert_eq!(reached([3, 9, 1]), Some(3));
    assert_eq!(reached([8, 9, 1]), Some(8));
    assert_eq!(committee.reached([(peer(1), 4)]), None);
}
