//! Peers that exchange end with the same ledger, forks included, and pay for what changed.

use proptest::prelude::*;

use super::*;
use crate::logset::tests::{choices, forest};
use crate::sign::SecretKey;
use crate::test_utils::fixture::*;
use crate::wire::Message;

fn filled<'a>(blocks: impl IntoIterator<Item = &'a SignedBlock>) -> LogSet {
    let mut set = LogSet::new(NET, scope());
    for block in blocks {
        set.insert(block.clone());
    }
    set
}

fn take(set: &mut LogSet, blocks: Vec<Vec<u8>>) -> usize {
    let count = blocks.len();
    for bytes in blocks {
        set.insert(SignedBlock::decode(&bytes, NET).expect("peers send valid blocks"));
    }
    count
}

/// `asker` shows its heads, `giver` answers; then the other way round if the giver is behind.
fn exchange(asker: &mut LogSet, giver: &mut LogSet, max_bytes: usize) -> usize {
    let mut shipped = 0;
    let plan = compare(giver, &heads(asker), max_bytes);
    shipped += take(asker, plan.blocks);
    if plan.behind {
        let back = compare(asker, &heads(giver), max_bytes);
        shipped += take(giver, back.blocks);
    }
    shipped
}

fn same(one: &LogSet, other: &LogSet) -> bool {
    open(one) == open(other)
}

#[test]
fn only_what_the_other_lacks_is_shipped() {
    let (a, b) = (chain(&key(1), 10), chain(&key(2), 4));
    let mut one = filled(&a);
    let mut other = filled(a[..7].iter().chain(&b));
    assert_eq!(exchange(&mut one, &mut other, MAX_ANSWER_BYTES), 4 + 3);
    assert!(same(&one, &other));
    let plan = compare(&one, &heads(&other), MAX_ANSWER_BYTES);
    assert_eq!(plan, Plan::default());
}

#[test]
fn an_answer_keeps_to_its_bytes_and_the_next_one_goes_on() {
    let blocks = chain(&key(1), 20);
    let full = filled(&blocks);
    let mut empty = filled([]);
    let max_bytes = 4 * (blocks[0].bytes().len() + 100);
    let mut rounds = 0;
    while !same(&full, &empty) {
        let plan = compare(&full, &heads(&empty), max_bytes);
        let size: usize = plan.blocks.iter().map(|b| b.len() + LENGTH_BYTES).sum();
        assert!(size <= max_bytes);
        assert!(
            take(&mut empty, plan.blocks) > 0,
            "each answer gets further"
        );
        rounds += 1;
    }
    assert!(rounds > 3);
}

#[test]
fn a_fork_reaches_those_who_saw_one_branch_and_those_who_saw_none() {
    let root = signed(&key(1), None, 0);
    let (a, b) = (
        signed(&key(1), Some(&root), 1),
        signed(&key(1), Some(&root), 2),
    );
    let mut saw_a = filled([&root, &a]);
    let mut saw_b = filled([&root, &b]);
    let mut saw_none = filled([]);
    exchange(&mut saw_a, &mut saw_b, MAX_ANSWER_BYTES);
    assert!(saw_a.is_equivocator(peer(1)) && saw_b.is_equivocator(peer(1)));
    exchange(&mut saw_none, &mut saw_a, MAX_ANSWER_BYTES);
    assert!(saw_none.is_equivocator(peer(1)));
    assert!(same(&saw_a, &saw_b) && same(&saw_a, &saw_none));
    assert_eq!(exchange(&mut saw_a, &mut saw_none, MAX_ANSWER_BYTES), 0);
}

/// Works through digests until heads are compared; returns bytes of all messages but the blocks.
fn reconcile(one: &mut LogSet, other: &mut LogSet) -> usize {
    let run = crate::id::RunId(any_digest(9));
    let summary = |ranges: Vec<RangeDigest>| {
        Message::Summary {
            scope: run.into(),
            ranges,
            certified: None,
        }
        .encode()
        .len()
    };
    let said = |lists: Vec<HeadList>| {
        Message::Heads {
            scope: run.into(),
            lists,
            certified: None,
            wants: true,
        }
        .encode()
        .len()
    };
    let mut bytes = 0;
    let mut ranges = open(one);
    let mut from_one = true;
    while !ranges.is_empty() {
        bytes += summary(ranges.clone());
        let (teller, listener) = if from_one {
            (&mut *one, &mut *other)
        } else {
            (&mut *other, &mut *one)
        };
        let refined = refine(listener, &ranges);
        if !refined.lists.is_empty() {
            bytes += said(refined.lists.clone());
            let plan = compare(teller, &refined.lists, usize::MAX);
            if plan.behind {
                bytes += said(plan.ask.clone());
                take(teller, compare(listener, &plan.ask, usize::MAX).blocks);
            }
            take(listener, plan.blocks);
        }
        ranges = refined.ranges;
        from_one = !from_one;
    }
    bytes
}

#[test]
fn the_cost_is_in_changed_authors_not_in_all() {
    let seed = |n: u16| {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&n.to_le_bytes());
        SecretKey::from_seed(seed)
    };
    let blocks: Vec<SignedBlock> = (0..1500).map(|n| signed(&seed(n), None, 0)).collect();
    let mut one = filled(&blocks);
    let mut other = one.clone();
    let equal = reconcile(&mut one, &mut other);
    assert!(equal < 200, "{equal} bytes to see that nothing changed");
    other.insert(signed(&seed(700), Some(&blocks[700]), 1));
    one.insert(signed(&seed(3), Some(&blocks[3]), 1));
    let changed = reconcile(&mut one, &mut other);
    assert!(same(&one, &other));
    let full = 73 * one.heads().len();
    println!(
        "1,500 authors: equal {equal} bytes, two changed {changed} bytes, all heads {full} bytes"
    );
    let everything: usize = heads(&one).iter().map(|l| l.heads.len() * 73).sum();
    assert!(
        changed * 8 < everything,
        "{changed} bytes for two of {everything}"
    );
}

#[test]
fn head_lists_cut_into_pages_cover_every_author() {
    let blocks: Vec<SignedBlock> = (0..40).map(|n| signed(&key(n), None, 0)).collect();
    let set = filled(&blocks);
    let parts = cut(&set, AuthorRange::ALL, 16);
    assert_eq!(parts.len(), 3);
    let heads: Vec<LogHead> = parts.iter().flat_map(|r| list(&set, *r).heads).collect();
    assert_eq!(heads, set.heads());
    assert!(
        parts
            .windows(2)
            .all(|w| w[0].precedes(&w[1]) && w[0].until == Some(w[1].from))
    );
}

#[test]
fn an_answer_to_any_ranges_fits_one_message() {
    let seed = |n: u16| {
        let mut seed = [7; 32];
        seed[..2].copy_from_slice(&n.to_le_bytes());
        SecretKey::from_seed(seed)
    };
    let blocks: Vec<SignedBlock> = (0..1500).map(|n| signed(&seed(n), None, 0)).collect();
    let set = filled(&blocks);
    // Somebody claims to be ahead of everybody here.
    let mut claims = list(&set, AuthorRange::ALL);
    claims.heads.truncate(limits::MAX_HEADS_PER_MESSAGE);
    claims.heads.iter_mut().for_each(|head| head.seq = Seq(9));
    let plan = compare(&set, &[claims], MAX_ANSWER_BYTES);
    assert!(plan.behind);
    let message = Message::Heads {
        scope: crate::id::RunId(any_digest(9)).into(),
        lists: plan.ask,
        certified: None,
        wants: true,
    };
    let size = message.encode().len();
    assert!(size > 1000 * 65, "asks for a full message, {size} bytes");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn three_peers_with_any_parts_of_any_forest_converge(
        choices in choices(24),
        holders in prop::collection::vec(1u8..8, 24),
        tight in any::<bool>(),
    ) {
        let blocks = forest(&choices);
        let part = |bit: u8| filled(blocks.iter().zip(&holders).filter(|(_, h)| **h & bit != 0).map(|(b, _)| b));
        let mut peers = [part(1), part(2), part(4)];
        let max_bytes = if tight { 1000 } else { MAX_ANSWER_BYTES };
        let mut quiet = 0;
        let mut exchanges = 0;
        while quiet < 3 {
            let [a, b, c] = &mut peers;
            let pair = match exchanges % 3 { 0 => (a, b), 1 => (b, c), _ => (c, a) };
            let shipped = exchange(pair.0, pair.1, max_bytes);
            quiet = if shipped == 0 { quiet + 1 } else { 0 };
            exchanges += 1;
            prop_assert!(exchanges < 600, "no end in sight");
        }
        prop_assert!(same(&peers[0], &peers[1]) && same(&peers[1], &peers[2]));
        // What counts is what the blocks that peers hold say together; blocks that wait for one that
        // nobody holds are no part of it.
        let all = filled(&blocks);
        prop_assert_eq!(all.heads().len() >= peers[0].heads().len(), true);
    }

    #[test]
    fn digests_find_every_difference(choices in choices(24), holders in prop::collection::vec(1u8..4, 24)) {
        let blocks = forest(&choices);
        let part = |bit: u8| filled(blocks.iter().zip(&holders).filter(|(_, h)| **h & bit != 0).map(|(b, _)| b));
        let (mut one, mut other) = (part(1), part(2));
        for _ in 0..60 {
            reconcile(&mut one, &mut other);
        }
        prop_assert!(same(&one, &other));
    }
}
