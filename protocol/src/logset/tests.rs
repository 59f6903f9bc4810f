//! The ledger converges whatever the order, and never counts what stands behind a fork.

use proptest::prelude::*;

use super::reference::{Ledger, ledger};
use super::*;
use crate::sign::SecretKey;
use crate::test_utils::fixture::*;

fn view(set: &LogSet) -> Ledger {
    let forks: BTreeMap<PeerId, ForkMark> = set.forks().iter().map(|f| (f.author, *f)).collect();
    let authors: Vec<PeerId> = set.authors().collect();
    (authors.into_iter())
        .map(|author| {
            let chain = set
                .blocks(author)
                .map(SignedBlock::head)
                .collect::<Vec<_>>();
            (author, (chain, forks.get(&author).copied()))
        })
        .filter(|(_, (chain, fork))| !chain.is_empty() || fork.is_some())
        .collect()
}

fn set() -> LogSet {
    LogSet::new(NET, scope())
}

fn at(block: &SignedBlock) -> EntryRef {
    let LogHead { author, seq, block } = block.head();
    EntryRef {
        author,
        seq,
        block,
        index: 0,
    }
}

#[test]
fn blocks_out_of_order_wait_and_then_count() {
    let blocks = chain(&key(1), 4);
    let mut set = set();
    assert_eq!(set.insert(blocks[2].clone()), Insert::Gap { have: None });
    assert_eq!(set.insert(blocks[0].clone()), Insert::New);
    let gap = Insert::Gap { have: Some(Seq(0)) };
    assert_eq!(set.insert(blocks[3].clone()), gap);
    assert_eq!(set.entry(&at(&blocks[3])), None);
    assert_eq!(set.insert(blocks[1].clone()), Insert::New);
    assert_eq!(set.insert(blocks[3].clone()), Insert::Known);
    assert_eq!(set.entry(&at(&blocks[3])), Some(&Entry::Leave));
    assert_eq!(set.heads(), vec![blocks[3].head()]);
    assert_eq!(set.waiting(), 0);
    assert_eq!(set.all().count(), 4);
}

#[test]
fn blocks_of_another_scope_or_network_are_refused() {
    let mut set = LogSet::new(NET, Scope::Account(key(1).peer_id()));
    let block = signed(&key(1), None, 0);
    let refused = set.insert(block.clone());
    assert!(matches!(
        refused,
        Insert::Refused(Rejection::Contradiction(_))
    ));
    let mut set = LogSet::new(NetworkId(1), scope());
    assert_eq!(set.insert(block), Insert::Refused(Rejection::Network));
}

/// One common block, then two branches of two.
fn forked(key: &SecretKey) -> [SignedBlock; 5] {
    let root = signed(key, None, 0);
    let a = signed(key, Some(&root), 1);
    let b = signed(key, Some(&root), 2);
    let after_a = signed(key, Some(&a), 3);
    let after_b = signed(key, Some(&b), 4);
    [root, a, after_a, b, after_b]
}

#[test]
fn nothing_from_a_fork_on_counts_whichever_branch_came_first() {
    let [root, a, after_a, b, after_b] = forked(&key(1));
    for order in [
        [&root, &a, &after_a, &b, &after_b],
        [&root, &b, &after_b, &a, &after_a],
        [&after_b, &after_a, &b, &a, &root],
    ] {
        let mut set = set();
        let proofs = (order.into_iter().map(|block| set.insert(block.clone())))
            .filter(|outcome| matches!(outcome, Insert::Fork(_)))
            .count();
        assert!(proofs >= 1);
        assert!(set.is_equivocator(peer(1)));
        assert_eq!(set.heads(), vec![root.head()]);
        assert_eq!(set.entry(&at(&a)), None);
        assert_eq!(set.entry(&at(&after_b)), None);
        let proof = set.proof(peer(1)).expect("proof");
        assert_eq!(proof.at(), Seq(1));
        let mut branches = proof.blocks().map(SignedBlock::id);
        branches.sort();
        let mut expected = [a.id(), b.id()];
        expected.sort();
        assert_eq!(branches, expected, "both blocks are kept");
        let late = signed(&key(1), Some(&after_a), 9);
        assert_eq!(set.insert(late), Insert::Refused(Rejection::Equivocator));
    }
}

#[test]
fn a_block_that_links_to_another_past_is_an_equivocation_by_itself() {
    let [root, a, _, _, after_b] = forked(&key(1));
    let mut set = set();
    set.insert(root.clone());
    set.insert(a.clone());
    let Insert::Fork(proof) = set.insert(after_b.clone()) else {
        panic!("the missing branch is asserted by its successor");
    };
    assert_eq!(proof.at(), Seq(1));
    assert_eq!(proof.blocks(), [&a, &after_b]);
    assert_eq!(set.heads(), vec![root.head()]);
}

#[test]
fn the_blocks_of_a_proof_speak_of_the_position_before_them_too() {
    let key = key(1);
    let root = signed(&key, None, 0);
    let (missing, other) = (signed(&key, Some(&root), 1), signed(&key, Some(&root), 2));
    let one = signed(&key, Some(&missing), 3);
    let two = signed(&key, Some(&missing), 4);
    let mut set = set();
    for block in [&root, &one, &two] {
        set.insert(block.clone());
    }
    assert_eq!(set.proof(peer(1)).map(EquivocationProof::at), Some(Seq(2)));
    // Both say that `missing` stands at 1.
    assert!(matches!(set.insert(other), Insert::Fork(_)));
    assert_eq!(set.proof(peer(1)).map(EquivocationProof::at), Some(Seq(1)));
    assert_eq!(set.heads(), vec![root.head()]);
}

#[test]
fn what_a_certificate_made_final_counts_behind_a_fork() {
    let [root, a, after_a, b, after_b] = forked(&key(1));
    // A peer that had the branch before it saw the fork.
    let mut early = set();
    for block in [&root, &a, &after_a] {
        early.insert(block.clone());
    }
    early.certify(&at(&after_a));
    early.insert(b.clone());
    assert_eq!(early.entry(&at(&after_a)), Some(&Entry::Leave));
    assert_eq!(early.entry(&at(&a)), None, "no certificate relies on it");
    // A newcomer that hears of the fork first.
    let mut late = set();
    for block in [&root, &a, &b] {
        late.insert(block.clone());
    }
    let refused = Insert::Refused(Rejection::Equivocator);
    assert_eq!(late.insert(after_a.clone()), refused);
    late.certify(&at(&after_a));
    assert_eq!(late.entry(&at(&after_a)), None, "not yet here");
    let asked = early
        .block(peer(1), &after_a.id())
        .expect("kept for those who ask");
    assert_eq!(late.insert(asked.clone()), Insert::New);
    assert_eq!(late.entry(&at(&after_a)), Some(&Entry::Leave));
    assert_eq!(late.insert(after_b), refused);
    assert_eq!(early.heads(), late.heads());
}

#[test]
fn waiting_blocks_are_bounded_and_the_nearest_stay() {
    let blocks = chain(&key(1), limits::MAX_PENDING_BLOCKS + 20);
    let mut set = set();
    for block in blocks.iter().skip(1).rev() {
        set.insert(block.clone());
    }
    assert_eq!(set.waiting(), limits::MAX_PENDING_BLOCKS);
    assert_eq!(set.insert(blocks[0].clone()), Insert::New);
    assert_eq!(set.heads(), vec![blocks[limits::MAX_PENDING_BLOCKS].head()]);
    assert_eq!(set.waiting(), 0);
    assert_eq!(set.pending_bytes, 0);
}

#[test]
fn a_suffix_holds_exactly_what_the_other_lacks() {
    let (one, two) = (chain(&key(1), 3), chain(&key(2), 2));
    let mut full = set();
    for block in one.iter().chain(&two) {
        full.insert(block.clone());
    }
    let mut part = set();
    part.insert(one[0].clone());
    let suffix = full.suffix(&part.heads(), usize::MAX);
    assert_eq!(suffix.len(), 4);
    for bytes in suffix {
        part.insert(SignedBlock::decode(&bytes, NET).expect("valid"));
    }
    assert_eq!(part.heads(), full.heads());
    assert_eq!(
        full.suffix(&part.heads(), usize::MAX),
        Vec::<Vec<u8>>::new()
    );
    assert_eq!(full.suffix(&[], one[0].bytes().len() + 5).len(), 1);
}

/// Any trees of blocks by three authors: each block extends an earlier one of its author, or links
/// to nothing that exists.
pub(crate) fn forest(choices: &[(u8, u8, u8)]) -> Vec<SignedBlock> {
    let keys = [key(1), key(2), key(3)];
    let mut blocks: Vec<SignedBlock> = Vec::new();
    for (time, &(author, parent, kind)) in choices.iter().enumerate() {
        let key = &keys[usize::from(author) % keys.len()];
        let own: Vec<&SignedBlock> = (blocks.iter())
            .filter(|b| b.block().author == key.peer_id())
            .collect();
        // Mostly the newest, sometimes any: few forks, but some.
        let before = match kind % 8 {
            0 if !own.is_empty() => Some(own[usize::from(parent) % own.len()]),
            1 if parent < 16 => None,
            _ => own.last().copied(),
        };
        let mut block = block(key, before, time as u64);
        if kind == 2 && block.prev.is_some() {
            block.prev = Some(BlockId(any_digest(parent)));
        }
        blocks.push(SignedBlock::sign(block, key).expect("valid"));
    }
    blocks
}

pub(crate) fn choices(max: usize) -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
    prop::collection::vec(any::<(u8, u8, u8)>(), 1..max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_order_and_any_repetition_gives_what_the_set_of_blocks_says(
        choices in choices(24),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let blocks = forest(&choices);
        let mut set = set();
        let mut given: Vec<SignedBlock> = Vec::new();
        for index in order {
            let block = index.get(&blocks);
            let outcome = set.insert(block.clone());
            if given.contains(block) {
                prop_assert!(!matches!(outcome, Insert::New));
            } else {
                given.push(block.clone());
            }
            prop_assert_eq!(view(&set), ledger(&given));
            // What is handed to others is known; what is known and not handed on waits for its link.
            let known = set.knows(&block.head());
            let given_on = set.block(block.block().author, &block.id()).is_some();
            prop_assert!(known || !given_on);
            let waits = set.logs.values().any(|log| log.waits(&block.id()));
            prop_assert_eq!(known && !given_on, waits);
        }
        for block in blocks.iter().rev() {
            set.insert(block.clone());
        }
        prop_assert_eq!(view(&set), ledger(&blocks));
        let counted: usize = ledger(&blocks).values().map(|(chain, _)| chain.len()).sum();
        prop_assert_eq!(set.all().count(), counted);
    }

    #[test]
    fn two_peers_that_saw_the_same_blocks_agree(
        choices in choices(24),
        seed in any::<u64>(),
    ) {
        let blocks = forest(&choices);
        let mut shuffled = blocks.clone();
        let mut state = seed | 1;
        for i in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(i, (state >> 33) as usize % (i + 1));
        }
        let (mut one, mut other) = (set(), set());
        blocks.into_iter().for_each(|b| { one.insert(b); });
        shuffled.into_iter().for_each(|b| { other.insert(b); });
        prop_assert_eq!(one.heads(), other.heads());
        prop_assert_eq!(one.forks(), other.forks());
        prop_assert_eq!(
            one.all().collect::<Vec<_>>(),
            other.all().collect::<Vec<_>>()
        );
    }
}
