//! Tests of joins and leaves.

use super::*;
use crate::id::{BlobRef, BlockId, RunId, StateHash};
use crate::round::Joined;

fn peer(i: u8) -> PeerId {
    PeerId(Digest::from_bytes([i; 32]))
}

fn at(author: u8, seq: u64) -> EntryRef {
    EntryRef {
        author: peer(author),
        seq: Seq(seq),
        block: BlockId::default(),
        index: 0,
    }
}

fn value(round: u32, joins: &[EntryRef], leaves: &[EntryRef]) -> RoundValue {
    let joined = |entry: &EntryRef| Joined {
        entry: *entry,
        role: Role::Both,
        root: MerkleRoot::default(),
        tokens: 7,
        own: 7,
    };
    RoundValue {
        run: RunId::default(),
        round: Round(round),
        previous: StateHash::default(),
        state: StateHash::default(),
        adapter: BlobRef::default(),
        included: vec![],
        joins: joins.iter().map(joined).collect(),
        leaves: leaves.to_vec(),
        sheets: vec![],
        scores: vec![],
    }
}

fn two() -> Roster {
    Roster::default()
        .apply(&value(0, &[at(1, 0), at(2, 0)], &[]))
        .expect("two join")
}

#[test]
fn joiner_is_member_from_the_next_round() {
    let roster = two();
    assert_eq!(roster.len(), 2);
    assert_eq!(roster.get(&peer(2)).map(|m| m.since), Some(Round(1)));
    assert!(roster.get(&peer(3)).is_none());
    assert_ne!(roster.digest(), Roster::default().digest());
}

#[test]
fn leaver_is_gone_and_may_come_back_with_a_new_join_only() {
    let left = two()
        .apply(&value(1, &[], &[at(1, 3)]))
        .expect("a member leaves");
    assert!(left.get(&peer(1)).is_none());
    let replayed = left.apply(&value(2, &[at(1, 0)], &[]));
    assert!(matches!(replayed, Err(Rejection::Contradiction(_))));
    let back = left
        .apply(&value(2, &[at(1, 4)], &[]))
        .expect("a new join counts");
    assert_eq!(back.get(&peer(1)).map(|m| m.since), Some(Round(3)));
    let replayed = back.apply(&value(3, &[], &[at(1, 3)]));
    assert!(matches!(replayed, Err(Rejection::Contradiction(_))));
}

#[test]
fn strangers_cannot_leave_and_members_cannot_join_again() {
    assert!(two().apply(&value(1, &[], &[at(9, 1)])).is_err());
    assert!(two().apply(&value(1, &[at(1, 5)], &[])).is_err());
    assert!(two().apply(&value(1, &[at(3, 0), at(3, 1)], &[])).is_err());
}

#[test]
fn last_members_cannot_leave() {
    let everyone = value(1, &[], &[at(1, 1), at(2, 1)]);
    assert!(matches!(
        two().apply(&everyone),
        Err(Rejection::Contradiction(_))
    ));
}

#[test]
fn same_members_give_the_same_digest_whatever_the_order_of_joins() {
    let left = two()
        .apply(&value(1, &[at(3, 0), at(4, 0)], &[]))
        .expect("joins");
    let right = two()
        .apply(&value(1, &[at(4, 0), at(3, 0)], &[]))
        .expect("joins");
    assert_eq!(left.digest(), right.digest());
}
