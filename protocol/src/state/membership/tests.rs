//! Panels and votes by stake: what splitting, leaving and too little stake come to.

use super::*;
use crate::anchor::{Anchor, ChainBlock, ChainMoney};
use crate::entry::Role;
use crate::id::{MerkleRoot, Seq};
use crate::manifest::Weights;
use crate::round::{EntryRef, Joined};
use crate::test_utils::fixture;

/// Panels behind every mean.
const DRAWS: u32 = 4_000;
const SEATS: u32 = 7;

fn peer(n: u32) -> PeerId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    PeerId(Digest::from_bytes(bytes))
}

fn bonded() -> Manifest {
    let mut manifest = fixture::manifest();
    manifest.updates.weights = Weights::Stake { least: 0 };
    manifest.scoring.evaluators.clear();
    manifest.scoring.seats = SEATS;
    manifest
}

/// Evaluators with these stakes at the run's first anchor.
fn roster(stakes: &[u64]) -> Roster {
    let number = |n: usize| n as u32;
    let anchored = stakes.iter().enumerate();
    let value = RoundValue {
        joins: (0..stakes.len()).map(|n| joined(number(n))).collect(),
        anchor: Some(Anchor {
            block: ChainBlock::default(),
            money: ChainMoney::default(),
            stakes: anchored
                .map(|(n, stake)| (peer(number(n)), *stake))
                .collect(),
            channels: Vec::new(),
        }),
        ..RoundValue::default()
    };
    let roster = Roster::default().apply(&value, &peer(0), &Work::default());
    roster.expect("all join")
}

fn joined(n: u32) -> Joined {
    Joined {
        entry: EntryRef {
            author: peer(n),
            seq: Seq(0),
            ..EntryRef::default()
        },
        role: Role::Both,
        root: MerkleRoot(Digest::default()),
        tokens: 1_000,
        own_tokens: 1_000,
        beacon: Digest::default(),
    }
}

fn beacon(n: u32) -> Digest {
    crate::hash::digest(Domain::Simulation, &n.to_le_bytes())
}

/// Mean seats of the first `names` of a roster, in panels and in committees that were drawn.
fn seats(stakes: &[u64], names: u32) -> f64 {
    let (manifest, roster) = (bonded(), roster(stakes));
    let ours: Vec<PeerId> = (0..names).map(peer).collect();
    let all: usize = (0..DRAWS)
        .map(|n| {
            let drawn = panel(&manifest, &roster, &roster, (Round(n), &beacon(n)));
            assert_eq!(drawn.seats(), SEATS as usize);
            ours.iter().map(|peer| drawn.seats_of(peer)).sum::<usize>()
        })
        .sum();
    all as f64 / f64::from(DRAWS)
}

#[test]
fn a_stake_has_the_same_seats_under_one_name_and_under_many() {
    let total = 64_000_000 + 60 * 4_000_000;
    let share = f64::from(SEATS) * 64_000_000.0 / f64::from(total);
    for names in [1u32, 2, 16, 64] {
        let ours = (0..names).map(|_| u64::from(64_000_000 / names));
        let stakes: Vec<u64> = ours.chain([4_000_000; 60]).collect();
        let found = seats(&stakes, names) / share;
        assert!((found - 1.0).abs() < 0.01, "{names} names: {found}");
    }
}

#[test]
fn whoever_leaves_with_a_value_moves_no_seat_of_others() {
    let (manifest, before) = (bonded(), roster(&[5, 1, 9, 4, 4, 2, 8, 3]));
    for n in 0..200 {
        let all = panel(&manifest, &before, &before, (Round(n), &beacon(n)));
        let gone = peer(n % 8);
        let mut members = before.clone();
        let leave = RoundValue {
            leaves: vec![EntryRef {
                author: gone,
                seq: Seq(1),
                ..EntryRef::default()
            }],
            ..RoundValue::default()
        };
        members = members.left(&leave).expect("it may leave");
        let left = panel(&manifest, &before, &members, (Round(n), &beacon(n)));
        assert_eq!(left.seats_of(&gone), 0);
        let others = (0..8).map(peer).filter(|peer| *peer != gone);
        for other in others {
            assert_eq!(left.seats_of(&other), all.seats_of(&other));
        }
    }
}

#[test]
fn stake_below_the_least_and_unbonded_members_count_for_nothing() {
    let mut manifest = bonded();
    manifest.updates.weights = Weights::Stake { least: 4 };
    let roster = roster(&[5, 3, 0, 4]);
    let electorate: Vec<u64> = electorate(&manifest, &roster)
        .iter()
        .map(|(_, w)| *w)
        .collect();
    assert_eq!(electorate, [5, 4]);
    let weights = |n: u32| crate::state::weigh(&manifest, &roster, &peer(n), 1_000);
    assert_eq!([0, 1, 2, 3].map(weights), [1_000, 0, 0, 800]);
}
