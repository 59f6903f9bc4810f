//! Messages read back, and every bound holds.

use super::*;
use crate::hash::Digest;
use crate::id::Seq;
use crate::log::LogHead;
use crate::logset::ForkMark;
use crate::test_utils::fixture::*;

fn list() -> HeadList {
    HeadList {
        range: AuthorRange::ALL,
        heads: vec![LogHead {
            author: peer(1),
            seq: Seq(300),
            block: BlockId(any_digest(2)),
        }],
        forks: vec![ForkMark {
            author: peer(1),
            at: Seq(301),
            first: BlockId(any_digest(3)),
            second: BlockId(any_digest(4)),
        }],
    }
}

fn run() -> RunId {
    RunId(any_digest(9))
}

fn heads(lists: Vec<HeadList>) -> Message {
    Message::Heads {
        scope: run().into(),
        lists,
        certified: Some(Round(3)),
        wants: true,
    }
}

#[test]
fn every_kind_of_message_reads_back() {
    let digest = RangeDigest {
        range: AuthorRange::ALL,
        digest: any_digest(1),
    };
    for message in [
        Message::Block(vec![1; 300]),
        Message::Certificate(vec![2; 10]),
        Message::Consensus(vec![]),
        Message::Summary {
            scope: run().into(),
            ranges: vec![digest],
            certified: None,
        },
        heads(vec![list()]),
        Message::Blocks {
            scope: run().into(),
            blocks: vec![vec![1], vec![2, 3]],
        },
        Message::WantBlocks {
            scope: run().into(),
            blocks: vec![(peer(1), BlockId(any_digest(2)))],
        },
        Message::Certificates {
            run: run(),
            certificates: vec![vec![0; 20]],
        },
        Message::WantCertificates {
            run: run(),
            from: Round(7),
        },
    ] {
        let bytes = message.encode();
        assert_eq!(Message::decode(&bytes), Ok(message.clone()));
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(Message::decode(&longer).is_err(), "trailing byte");
        assert!(Message::decode(&bytes[..bytes.len() - 1]).is_err(), "cut");
    }
}

fn forged(message: &Message) -> Result<Message, Rejection> {
    let mut bytes = vec![MESSAGE_VERSION];
    bytes.extend(codec::encode(message));
    Message::decode(&bytes)
}

#[test]
fn lists_beyond_their_bounds_or_out_of_order_are_refused() {
    assert!(forged(&Message::Block(vec![0; limits::MAX_BLOCK_BYTES + 1])).is_err());
    let long = Message::Certificate(vec![0; limits::MAX_CERTIFICATE_BYTES + 1]);
    assert!(forged(&long).is_err());
    assert!(
        forged(&Message::Consensus(vec![
            0;
            limits::MAX_CONSENSUS_BYTES + 1
        ]))
        .is_err()
    );
    let many = |count| Message::Blocks {
        scope: run().into(),
        blocks: vec![vec![]; count],
    };
    assert!(forged(&many(limits::MAX_BLOCKS_PER_MESSAGE)).is_ok());
    assert!(forged(&many(limits::MAX_BLOCKS_PER_MESSAGE + 1)).is_err());
    let mut outside = list();
    outside.range.from = PeerId(Digest::from_bytes([255; 32]));
    assert!(forged(&heads(vec![outside])).is_err());
    let mut twice = list();
    twice.heads.push(twice.heads[0]);
    assert!(forged(&heads(vec![twice])).is_err());
    assert!(
        forged(&heads(vec![list(), list()])).is_err(),
        "ranges overlap"
    );
    let want = |count| Message::WantBlocks {
        scope: run().into(),
        blocks: vec![(peer(1), BlockId(any_digest(2))); count],
    };
    assert!(forged(&want(limits::MAX_WANTED_BLOCKS)).is_ok());
    assert!(forged(&want(limits::MAX_WANTED_BLOCKS + 1)).is_err());
}

#[test]
fn an_unknown_version_is_named() {
    assert_eq!(
        Message::decode(&[9, 0, 0]),
        Err(CodecError::Version(9).into())
    );
    assert_eq!(Message::decode(&[]), Err(CodecError::Malformed.into()));
}

#[test]
fn the_largest_answers_fit_one_direct_message() {
    let ids = |n: usize| {
        let mut bytes = [255; 32];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        PeerId(Digest::from_bytes(bytes))
    };
    let full = HeadList {
        range: AuthorRange::ALL,
        heads: (0..limits::MAX_HEADS_PER_MESSAGE)
            .map(|n| LogHead {
                author: ids(n),
                seq: Seq(limits::MAX_SEQ),
                block: BlockId(any_digest(2)),
            })
            .collect(),
        forks: (0..limits::MAX_HEADS_PER_MESSAGE)
            .map(|n| ForkMark {
                author: ids(n),
                at: Seq(limits::MAX_SEQ),
                first: BlockId(any_digest(3)),
                second: BlockId(any_digest(4)),
            })
            .collect(),
    };
    assert!(heads(vec![full]).encode().len() <= limits::MAX_DIRECT_BYTES);
}
