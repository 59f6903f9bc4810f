//! What a block may say, and what becomes of its bytes.

use super::*;
use crate::entry::{Role, ShownSheet};
use crate::hash::Domain;
use crate::id::{DatanetId, RunId};
use crate::test_utils::fixture::*;

fn opening() -> Block {
    let manifest = manifest();
    Block {
        scope: Scope::Run(manifest.run_id()),
        entries: vec![Entry::Create(Box::new(manifest)), Entry::Join(join())],
        ..block(&key(1), None, 0)
    }
}

#[test]
fn a_signed_block_reads_back_to_the_same_bytes_and_id() {
    let signed = SignedBlock::sign(opening(), &key(1)).expect("valid");
    let read = SignedBlock::decode(signed.bytes(), NET).expect("decodes");
    assert_eq!(read.bytes(), signed.bytes());
    assert_eq!(read.id(), signed.id());
    assert_eq!(read.block(), &opening());
    assert_eq!(
        signed.id().0,
        hash::digest(Domain::Block, &codec::encode(&opening())),
        "the id leaves the signature out"
    );
}

#[test]
fn every_flipped_bit_of_a_block_is_refused() {
    let signed = SignedBlock::sign(opening(), &key(1)).expect("valid");
    for bit in 0..signed.bytes().len() * 8 {
        let mut bytes = signed.bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(SignedBlock::decode(&bytes, NET).is_err(), "bit {bit}");
    }
}

#[test]
fn a_block_of_another_network_version_or_key_is_refused() {
    let signed = SignedBlock::sign(opening(), &key(1)).expect("valid");
    let other = NetworkId(NET.0 + 1);
    assert_eq!(
        SignedBlock::decode(signed.bytes(), other),
        Err(Rejection::Network)
    );
    let mut newer = signed.bytes().to_vec();
    newer[0] = 2;
    assert_eq!(
        SignedBlock::decode(&newer, NET),
        Err(CodecError::Version(2).into())
    );
    assert_eq!(
        SignedBlock::sign(opening(), &key(2)),
        Err(Rejection::Unauthorised)
    );
    assert_eq!(
        SignedBlock::decode(&[], NET),
        Err(CodecError::Malformed.into())
    );
}

fn refused(change: impl FnOnce(&mut Block)) -> Rejection {
    let mut block = opening();
    change(&mut block);
    block.check().expect_err("must be refused")
}

#[test]
fn a_run_is_opened_only_by_the_first_entry_of_its_creators_log_in_its_scope() {
    assert_eq!(opening().check(), Ok(()));
    for (why, rejection) in [
        ("order", refused(|b| b.entries.reverse())),
        ("author", refused(|b| b.author = peer(2))),
        (
            "scope",
            refused(|b| b.scope = Scope::Run(RunId(any_digest(1)))),
        ),
        (
            "account scope",
            refused(|b| b.scope = Scope::Account(b.author)),
        ),
        (
            "Datanet scope",
            refused(|b| b.scope = Scope::Datanet(DatanetId(any_digest(1)))),
        ),
        (
            "later",
            refused(|b| {
                b.seq = Seq(1);
                b.prev = Some(BlockId(any_digest(1)));
            }),
        ),
        ("empty", refused(|b| b.entries.clear())),
    ] {
        assert!(matches!(rejection, Rejection::Contradiction(_)), "{why}");
    }
}

#[test]
fn the_first_block_and_only_it_has_nothing_before() {
    let link = |b: &mut Block| b.prev = Some(BlockId(any_digest(1)));
    assert_eq!(refused(link), Rejection::Link);
    let mut second = block(&key(1), None, 0);
    second.seq = Seq(1);
    assert_eq!(second.check(), Err(Rejection::Link));
    link(&mut second);
    assert_eq!(second.check(), Ok(()));
}

#[test]
fn too_many_entries_heads_or_blocks_are_refused() {
    let many = vec![Entry::Leave; limits::MAX_BLOCK_ENTRIES + 1];
    let limit = refused(|b| b.entries = many);
    assert_eq!(limit, Rejection::Limit("entries of a block"));
    let head = |n: usize| LogHead {
        author: PeerId(any_digest(n as u8)),
        seq: Seq(0),
        block: BlockId(any_digest(1)),
    };
    let heads: Vec<LogHead> = (0..=limits::MAX_SEEN_HEADS).map(head).collect();
    let ordered = heads[..3].to_vec();
    let limit = refused(|b| b.seen = heads);
    assert_eq!(limit, Rejection::Limit("seen heads of a block"));
    let mut block = opening();
    block.seen = ordered.clone();
    assert_eq!(block.check(), Ok(()));
    block.seen.reverse();
    assert!(block.check().is_err(), "order");
    block.seen = vec![ordered[0], ordered[0]];
    assert!(block.check().is_err(), "repeated");
    block.seen = vec![LogHead {
        author: block.author,
        ..ordered[0]
    }];
    assert!(block.check().is_err(), "own log");
    let far = Seq(limits::MAX_SEQ + 1);
    let limit = refused(|b| b.seq = far);
    assert_eq!(limit, Rejection::Limit("blocks of a log"));
}

#[test]
fn entries_that_claim_too_much_are_refused() {
    let entry_refused = |entry: Entry| {
        let mut block = block(&key(1), None, 0);
        block.entries = vec![entry];
        block.check().is_err()
    };
    let contributed = |change: fn(&mut crate::entry::Contribution)| {
        let mut it = contribution();
        change(&mut it);
        entry_refused(Entry::Contribution(it))
    };
    assert!(!contributed(|_| ()));
    assert!(contributed(|c| c.round.0 = 0));
    assert!(contributed(|c| c.round.0 = limits::MAX_ROUNDS + 1));
    assert!(contributed(|c| c.tokens = 0));
    assert!(contributed(|c| c.tokens = limits::MAX_TOKENS + 1));
    assert!(contributed(|c| c.update.size = 0));
    assert!(contributed(|c| c.update.size = limits::MAX_UPDATE_BYTES + 1));

    let joined = |change: fn(&mut crate::entry::Join)| {
        let mut it = join();
        change(&mut it);
        entry_refused(Entry::Join(it))
    };
    assert!(!joined(|j| j.role = Role::Both));
    assert!(joined(|j| j.name.clear()));
    assert!(joined(|j| j.name = "x".repeat(limits::MAX_NAME_BYTES + 1)));
    assert!(joined(|j| j.name = "a\u{1b}[2Jb".into()));
    assert!(joined(|j| j.tokens = 0));

    let judged = |change: fn(&mut crate::entry::ScoreSheet)| {
        let mut it = sheet();
        change(&mut it);
        entry_refused(Entry::ScoreSheet(ShownSheet {
            sheet: it,
            seals: 1,
        }))
    };
    assert!(!judged(|_| ()));
    assert!(judged(|s| s.round.0 = 0));
    assert!(judged(|s| s.predicted = 0));
    assert!(judged(|s| s.loss_after.0 = -1));
    assert!(judged(|s| s.loss_before.0 = i64::MAX));
    assert!(judged(|s| s.scores.push(s.scores[0])));
    assert!(judged(|s| s.scores[0].low.0 = s.scores[0].score.0 + 1));
    assert!(judged(|s| s.scores[0].high.0 = i64::MAX));
    assert!(!judged(|s| s.scores[0].luck.0 = limits::MAX_NANO_NATS));
    assert!(judged(|s| s.scores[0].luck.0 = limits::MAX_NANO_NATS + 1));
    assert!(judged(|s| s.scores[0].luck.0 = -1));
    assert!(judged(|s| {
        s.scores = (0..=limits::MAX_INCLUDED as u8)
            .map(|n| crate::entry::Score {
                peer: PeerId(any_digest(n)),
                ..s.scores[0]
            })
            .collect();
    }));
}

#[test]
fn a_few_bytes_cannot_reserve_much_memory() {
    // An envelope that announces a payload of 4 GiB.
    let mut bytes = vec![ENVELOPE_VERSION, 252];
    bytes.extend(u32::MAX.to_le_bytes());
    assert_eq!(
        SignedBlock::decode(&bytes, NET),
        Err(CodecError::Malformed.into())
    );
}
