//! Tests of joins and leaves.

use super::*;
use crate::beacon::Chain;
use crate::id::{BlockId, RunId};
use crate::round::Joined;
use crate::sign::SecretKey;

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

fn chain(i: u8) -> Chain {
    Chain::new(&SecretKey::from_seed([i; 32]), &RunId::default(), Round(9))
}

/// The roster after a value of member 2.
fn apply(roster: &Roster, value: &RoundValue) -> Result<Roster, Rejection> {
    roster.apply(value, &peer(2), &Work::default())
}

fn value(round: u32, joins: &[EntryRef], leaves: &[EntryRef]) -> RoundValue {
    let joined = |entry: &EntryRef| Joined {
        entry: *entry,
        role: Role::Both,
        root: MerkleRoot::default(),
        tokens: 7,
        own_tokens: 7,
        beacon: chain(entry.author.0.as_bytes()[0]).commitment(),
    };
    RoundValue {
        run: RunId::default(),
        round: Round(round),
        link: chain(2).link(Round(round)),
        joins: joins.iter().map(joined).collect(),
        leaves: leaves.to_vec(),
        ..RoundValue::default()
    }
}

fn two() -> Roster {
    apply(&Roster::default(), &value(0, &[at(1, 0), at(2, 0)], &[])).expect("two join")
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
    let left = apply(&two(), &value(1, &[], &[at(1, 3)])).expect("a member leaves");
    assert!(left.get(&peer(1)).is_none());
    let replayed = apply(&left, &value(2, &[at(1, 0)], &[]));
    assert!(matches!(replayed, Err(Rejection::Contradiction(_))));
    let back = apply(&left, &value(2, &[at(1, 4)], &[])).expect("a new join counts");
    assert_eq!(back.get(&peer(1)).map(|m| m.since), Some(Round(3)));
    let replayed = apply(&back, &value(3, &[], &[at(1, 3)]));
    assert!(matches!(replayed, Err(Rejection::Contradiction(_))));
}

#[test]
fn strangers_cannot_leave_and_members_cannot_join_again() {
    assert!(apply(&two(), &value(1, &[], &[at(9, 1)])).is_err());
    assert!(apply(&two(), &value(1, &[at(1, 5)], &[])).is_err());
    assert!(apply(&two(), &value(1, &[at(3, 0), at(3, 1)], &[])).is_err());
}

#[test]
fn last_members_cannot_leave() {
    let everyone = value(1, &[], &[at(1, 1), at(2, 1)]);
    assert!(matches!(
        apply(&two(), &everyone),
        Err(Rejection::Contradiction(_))
    ));
}

#[test]
fn same_members_give_the_same_digest_whatever_the_order_of_joins() {
    let left = apply(&two(), &value(1, &[at(3, 0), at(4, 0)], &[])).expect("joins");
    let right = apply(&two(), &value(1, &[at(4, 0), at(3, 0)], &[])).expect("joins");
    assert_eq!(left.digest(), right.digest());
}

#[test]
fn a_proposer_reveals_the_next_link_of_its_own_chain() {
    let with = |proposer: u8, link: Digest| {
        let value = RoundValue {
            link,
            ..value(3, &[], &[])
        };
        two().apply(&value, &peer(proposer), &Work::default())
    };
    let after = with(2, chain(2).link(Round(3))).expect("its link");
    assert_eq!(after.get(&peer(2)).map(|m| m.open), Some(Round(4)));
    for (proposer, link) in [
        (1, chain(2).link(Round(3))),
        (2, chain(2).link(Round(2))),
        (2, chain(2).commitment()),
        (7, chain(7).link(Round(3))),
    ] {
        assert!(with(proposer, link).is_err());
    }
    let again = RoundValue {
        link: chain(2).link(Round(3)),
        ..value(3, &[], &[])
    };
    assert!(apply(&after, &again).is_err(), "a link counts once");
    assert!(
        apply(&after, &value(8, &[], &[])).is_ok(),
        "heights of others lie between"
    );
}

#[test]
fn who_leaves_eight_requests_unanswered_is_idle_until_it_works() {
    let asked = |done: &[u8]| Work {
        asked: [peer(1), peer(2)].into(),
        done: done.iter().map(|i| peer(*i)).collect(),
    };
    let mut roster = two();
    let idle = |roster: &Roster, who| roster.get(&peer(who)).expect("a member").is_idle();
    for round in 1..=9 {
        assert_eq!(idle(&roster, 1), round > limits::IDLE_REQUESTS.into());
        // In the last round member 1 works again, and member 2 is only proposing.
        let work = asked(if round < 9 { &[2] } else { &[1] });
        roster = (roster.apply(&value(round, &[], &[]), &peer(2), &work)).expect("a round");
    }
    assert!(!idle(&roster, 1) && !idle(&roster, 2));
}
