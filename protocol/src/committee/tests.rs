//! Tests of the draw.

use super::*;
use crate::entry::Role;
use crate::hash::digest;
use crate::id::{BlockId, MerkleRoot, Seq};
use crate::roster::Member;
use crate::round::EntryRef;

fn peer(i: u32) -> PeerId {
    PeerId(digest(Domain::Simulation, &i.to_le_bytes()))
}

fn roster(count: u32) -> Roster {
    Roster::of((0..count).map(|i| Member {
        peer: peer(i),
        role: Role::Contributor,
        root: MerkleRoot::default(),
        tokens: 1,
        own: 1,
        since: Round(1),
        joined: EntryRef {
            author: peer(i),
            seq: Seq(0),
            block: BlockId::default(),
            index: 0,
        },
    }))
}

fn draw(round: u32, roster: &Roster, size: usize) -> Committee {
    let state = StateHash(digest(Domain::Simulation, b"state"));
    Committee::draw(&RunId::default(), Round(round), &state, roster, size)
}

#[test]
fn quorum_is_more_than_two_thirds_and_honest_more_than_one() {
    for n in 1..=64u32 {
        let committee = draw(1, &roster(n), 64);
        let (quorum, honest) = (committee.quorum(), committee.honest());
        let n = n as usize;
        assert_eq!(committee.len(), n);
        assert!(quorum * 3 > n * 2 && (quorum - 1) * 3 <= n * 2);
        assert!(honest * 3 > n && (honest - 1) * 3 <= n);
        assert!(2 * quorum - n >= honest);
    }
}

#[test]
fn committee_is_smaller_while_the_roster_is() {
    assert_eq!(draw(1, &roster(3), 16).len(), 3);
    assert_eq!(draw(1, &roster(30), 16).len(), 16);
    assert_eq!(draw(1, &roster(30), 0).len(), 1);
    assert_eq!(draw(1, &roster(100), 1000).len(), limits::MAX_COMMITTEE);
}

#[test]
fn seats_are_spread_evenly_over_members() {
    let roster = roster(20);
    let mut seats = vec![0u32; 20];
    for round in 1..=500 {
        for member in draw(round, &roster, 5).members() {
            let at = roster.members().iter().position(|m| m.peer == *member);
            seats[at.expect("drawn from the roster")] += 1;
        }
    }
    // 125 expected each; a deviation of 45 is over four standard deviations.
    assert!(seats.iter().all(|&s| s.abs_diff(125) < 45), "{seats:?}");
}

#[test]
fn one_member_more_moves_at_most_one_seat() {
    for round in 1..50 {
        let before = draw(round, &roster(20), 7);
        let after = draw(round, &roster(21), 7);
        let kept = after.members().iter().filter(|m| before.contains(m));
        assert!(kept.count() >= 6);
    }
}

#[test]
fn members_take_turns_in_proposing() {
    let committee = draw(3, &roster(9), 4);
    let mut turns: Vec<PeerId> = (0..4).map(|a| committee.proposer(a)).collect();
    assert_eq!(committee.proposer(4), committee.proposer(0));
    assert_eq!(committee.proposer(u32::MAX), turns[(u32::MAX % 4) as usize]);
    turns.sort_unstable();
    assert_eq!(turns, committee.members());
}
