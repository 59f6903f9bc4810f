//! A small valid value of everything that is signed or sent. The golden vectors pin the bytes of most of them.

use crate::adapter::{AdapterShape, Module};
use crate::certificate::Certificate;
use crate::consensus::{ConsensusMessage, Polka, Proposal, Signed, Vote, VoteKind};
use crate::entry::{Contribution, Entry, Join, Role, Score, ScoreSheet, ShownSheet};
use crate::filing::EvmAddress;
use crate::fingerprint::{Answer, Blinding, Declined, Question, Span};
use crate::hash::Digest;
use crate::id::{
    BlobHash, BlobRef, BlockId, DatanetId, MerkleRoot, MicroOpen, NanoNats, NetworkId, PeerId, Ppb,
    Round, RunId, Scope, Seq, StateHash,
};
use crate::limits::BASE_PIECE_BYTES;
use crate::listing::{ListedFile, Listing};
use crate::log::{Block, LogHead, SignedBlock};
use crate::logset::ForkMark;
use crate::manifest::{
    Aggregation, Base, Deadlines, FactorSchedule, Manifest, Membership, Model, Payment, Privacy,
    RevenueSplit, RoundPlan, RoundSplit, Scoring, Training, UpdateCodec, Updates, Version, Weights,
};
use crate::merkle::RangeProof;
use crate::round::{EntryRef, FinalScore, Included, Joined, Missed, Opened, RoundValue};
use crate::sign::SecretKey;
use crate::sketch::Sketch;
use crate::sync::{AuthorRange, HeadList, RangeDigest};
use crate::time::Timestamp;
use crate::wire::Message;

mod money;

pub use money::*;

/// The network that they are for.
pub const NET: NetworkId = NetworkId(7);

/// The key whose seed is this byte, over and over.
pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

/// The peer of [`key`].
pub fn peer(seed: u8) -> PeerId {
    key(seed).peer_id()
}

/// A digest that stands for one.
pub fn any_digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

/// The run that [`block`] is for.
pub fn scope() -> Scope {
    Scope::Run(RunId(any_digest(9)))
}

/// The listing of a base of two files, the second in two pieces.
pub fn listing() -> Listing {
    let file = |name: &str, size: u64| ListedFile {
        name: name.to_owned(),
        size,
        pieces: (0..ListedFile::pieces_of(size))
            .map(|n| BlobHash(crate::hash::blob(&n.to_le_bytes())))
            .collect(),
    };
    Listing {
        licence: "apache-2.0 (README.md)".to_owned(),
        files: vec![
            file("config.json", 700),
            file("model.safetensors", BASE_PIECE_BYTES + 9),
        ],
    }
}

/// [`manifest`] with a base that members hand on.
pub fn shared_manifest() -> Manifest {
    let mut manifest = manifest();
    manifest.model.base.files = Some(BlobRef::of(&listing().bytes()));
    manifest
}

/// A manifest that passes every check, created by `key(1)`.
pub fn manifest() -> Manifest {
    let mut evaluators = vec![peer(2), peer(3)];
    evaluators.sort();
    Manifest {
        version: Version::V1,
        name: "letters".into(),
        creator: peer(1),
        nonce: 42,
        datanet: "letters".into(),
        training: Training {
            local_steps: 20,
            batch: 4,
            context: 128,
            learning_rate: Ppb(1_000_000),
            schedule: FactorSchedule::Alternate,
        },
        model: Model {
            base: Base {
                name: "brook".into(),
                hash: any_digest(4),
                files: None,
            },
            adapter: AdapterShape {
                rank: 4,
                alpha: 8,
                modules: vec![Module {
                    name: "model.layers.0.self_attn.q_proj".into(),
                    inputs: 16,
                    outputs: 24,
                }],
            },
        },
        plan: RoundPlan {
            rounds: 6,
            min_contributions: 2,
            participants: 16,
            deadlines: Deadlines {
                round_ms: 60_000,
                grace_ms: 500,
                propose_ms: 1_000,
                vote_ms: 500,
            },
        },
        updates: Updates {
            codec: UpdateCodec::Sparse {
                top: 64,
                feedback: Ppb(950_000_000),
            },
            aggregation: Aggregation::ClippedMean,
            weights: Weights::Own { full: 20_480 },
            privacy: Privacy::Open,
        },
        scoring: Scoring {
            evaluators,
            windows: 16,
            seats: 0,
        },
        membership: Membership {
            committee: 4,
            min_members: 3,
        },
        payment: payment(),
    }
}

fn payment() -> Payment {
    Payment {
        budget_per_round: MicroOpen(1_000_000),
        price_per_nat: MicroOpen(50_000_000),
        round: RoundSplit::default(),
        revenue: RevenueSplit {
            contributors: Ppb(700_000_000),
            base_author: Ppb(100_000_000),
            server: Ppb(100_000_000),
            committee: Ppb(50_000_000),
            stakers: Ppb(50_000_000),
        },
        base_account: Some(EvmAddress([0x3e; 20])),
        settlement: Some(settlement()),
    }
}

/// A join with every field that may be left out.
pub fn join() -> Join {
    Join {
        name: "ada".into(),
        role: Role::Contributor,
        root: MerkleRoot(any_digest(5)),
        tokens: 1_000,
        fingerprints: Some(MerkleRoot(any_digest(9))),
        beacon: any_digest(0x14),
        sketch: Some(sketch().commit(&peer(1))),
        bind: Some(bind()),
    }
}

/// Three prints.
pub fn sketch() -> Sketch {
    Sketch::keeping([3, 70_000, u64::MAX - 2])
}

/// A receipt for round 1.
pub fn contribution() -> Contribution {
    Contribution {
        round: Round(1),
        base: StateHash(any_digest(6)),
        update: BlobRef {
            hash: BlobHash(any_digest(7)),
            size: 1_234,
        },
        tokens: 10_240,
        shard: MerkleRoot(any_digest(5)),
    }
}

/// A sheet about round 1 with one score.
pub fn sheet() -> ScoreSheet {
    ScoreSheet {
        round: Round(1),
        state: StateHash(any_digest(8)),
        predicted: 2_032,
        loss_before: NanoNats(3_100_000_000),
        loss_after: NanoNats(3_000_000_000),
        scores: vec![Score {
            peer: peer(1),
            score: NanoNats(100_000_000),
            low: NanoNats(-20_000_000),
            high: NanoNats(220_000_000),
            luck: NanoNats(30_000_000),
        }],
    }
}

/// A block that leaves; `time` tells equal ones apart.
pub fn block(author: &SecretKey, before: Option<&SignedBlock>, time: u64) -> Block {
    Block {
        network: NET,
        author: author.peer_id(),
        scope: scope(),
        seq: before.map_or(Seq(0), |b| Seq(b.block().seq.0 + 1)),
        prev: before.map(SignedBlock::id),
        seen: vec![],
        time: Timestamp(time),
        entries: vec![Entry::Leave],
    }
}

/// [`block`] with its signature.
pub fn signed(author: &SecretKey, before: Option<&SignedBlock>, time: u64) -> SignedBlock {
    SignedBlock::sign(block(author, before, time), author).expect("a valid block")
}

/// A linked log of `len` blocks.
pub fn chain(author: &SecretKey, len: usize) -> Vec<SignedBlock> {
    let mut out: Vec<SignedBlock> = Vec::new();
    for at in 0..len {
        out.push(signed(author, out.last(), at as u64));
    }
    out
}

/// The block that opens the run of [`manifest`], with a head seen and a join.
pub fn opening() -> Block {
    let manifest = manifest();
    Block {
        scope: Scope::Run(manifest.run_id()),
        seen: vec![LogHead {
            author: peer(2),
            seq: Seq(300),
            block: BlockId(any_digest(3)),
        }],
        time: Timestamp(1_790_000_000_000),
        entries: vec![Entry::Create(Box::new(manifest)), Entry::Join(join())],
        ..block(&key(1), None, 0)
    }
}

/// A block with every kind of entry but the first.
pub fn working(before: &SignedBlock) -> Block {
    let mut entries = vec![
        Entry::Contribution(contribution()),
        Entry::SheetSeal(sheet().seal(&peer(1))),
        Entry::ScoreSheet(ShownSheet {
            sheet: sheet(),
            seals: 3,
        }),
        Entry::Leave,
        Entry::Call(vec![place(peer(6), 4)]),
        Entry::Opening(sketch()),
        Entry::Bind(bind()),
        Entry::RootSignature(root_signature()),
        Entry::Transaction(transaction()),
        Entry::Answers(answers()),
        Entry::Confirm(confirm()),
    ];
    entries.extend(dispute_steps().into_iter().map(Entry::Dispute));
    Block {
        scope: before.block().scope,
        entries,
        ..block(&key(1), Some(before), 70_000)
    }
}

/// A block of a scope that is not a run.
pub fn publishing() -> Block {
    let blob = BlobRef {
        hash: BlobHash(any_digest(8)),
        size: 300,
    };
    Block {
        scope: Scope::Datanet(DatanetId(any_digest(7))),
        entries: vec![Entry::Publish(blob)],
        ..block(&key(1), None, 3)
    }
}

fn place(author: PeerId, index: u8) -> EntryRef {
    EntryRef {
        author,
        seq: Seq(251),
        block: BlockId(any_digest(0x20 + index)),
        index,
    }
}

/// A value with one of everything.
pub fn value() -> RoundValue {
    RoundValue {
        run: manifest().run_id(),
        round: Round(2),
        previous: StateHash(any_digest(0x11)),
        state: StateHash(any_digest(0x12)),
        adapter: BlobRef {
            hash: BlobHash(any_digest(0x13)),
            size: 640,
        },
        attempt: 1,
        link: any_digest(0x15),
        beacon: any_digest(0x16),
        included: vec![Included {
            receipt: place(peer(1), 1),
            update: contribution().update,
            tokens: 10_240,
            weight: 7_680,
        }],
        missed: vec![Missed {
            receipt: place(peer(6), 5),
            tokens: 9_000,
            weight: 300,
        }],
        joins: vec![Joined {
            entry: place(peer(4), 0),
            role: Role::Both,
            root: MerkleRoot(any_digest(5)),
            tokens: 66_000,
            own_tokens: 0,
            beacon: any_digest(0x14),
        }],
        call: Some(place(peer(1), 6)),
        openings: vec![Opened {
            entry: place(peer(6), 7),
            own_tokens: 49_500,
        }],
        leaves: vec![place(peer(5), 2)],
        sheets: vec![place(peer(2), 3)],
        seals: vec![place(peer(2), 8)],
        filings: vec![place(peer(1), 9), place(peer(2), 9)],
        scores: vec![FinalScore {
            peer: peer(1),
            score: NanoNats(100_000_000),
            low: NanoNats(-20_000_000),
            high: NanoNats(220_000_000),
            luck: NanoNats(30_000_000),
        }],
        anchor: Some(anchor()),
    }
}

/// A precommit for [`value`].
pub fn vote(author: u8) -> Vote {
    Vote {
        run: value().run,
        round: value().round,
        attempt: 1,
        kind: VoteKind::Precommit,
        value: Some(value().id()),
        author: peer(author),
    }
}

/// Three prevotes of the attempt before.
fn polka() -> Polka {
    let prevote = |author: u8| {
        let body = Vote {
            attempt: 0,
            kind: VoteKind::Prevote,
            ..vote(author)
        };
        (
            peer(author),
            Signed::vote(body, NET, &key(author)).signature,
        )
    };
    let mut prevotes: Vec<_> = (1..=3).map(prevote).collect();
    prevotes.sort();
    Polka {
        attempt: 0,
        prevotes,
    }
}

/// [`value`], put up again on three prevotes of the attempt before.
pub fn proposal() -> Proposal {
    Proposal {
        attempt: 1,
        polka: Some(polka()),
        value: value(),
        author: peer(3),
    }
}

/// Three precommits for [`value`].
pub fn certificate() -> Certificate {
    let mut precommits: Vec<_> = (1..=3)
        .map(|author| {
            (
                peer(author),
                Signed::vote(vote(author), NET, &key(author)).signature,
            )
        })
        .collect();
    precommits.sort();
    Certificate {
        value: value(),
        attempt: 1,
        precommits,
    }
}

/// [`proposal`] and [`vote`], signed and named.
pub fn consensus_messages() -> [(&'static str, ConsensusMessage); 2] {
    let proposal = Signed::proposal(proposal(), NET, &key(3));
    let vote = Signed::vote(vote(2), NET, &key(2));
    [
        ("proposal", ConsensusMessage::Proposal(proposal)),
        ("vote", ConsensusMessage::Vote(vote)),
    ]
}

fn comparison(run: RunId, head: LogHead) -> [(&'static str, Message); 2] {
    let list = HeadList {
        range: AuthorRange::ALL,
        heads: vec![head],
        forks: vec![ForkMark {
            author: peer(5),
            at: Seq(70_000),
            first: BlockId(any_digest(3)),
            second: BlockId(any_digest(4)),
        }],
    };
    let digest = RangeDigest {
        range: AuthorRange {
            from: PeerId(any_digest(1)),
            until: Some(PeerId(any_digest(2))),
        },
        digest: any_digest(3),
    };
    let summary = Message::Summary {
        scope: run.into(),
        ranges: vec![digest],
        certified: Some(Round(1)),
    };
    let heads = Message::Heads {
        scope: run.into(),
        lists: vec![list],
        certified: None,
        wants: true,
    };
    [("summary", summary), ("heads", heads)]
}

/// One message of each kind, named.
pub fn messages() -> Vec<(&'static str, Message)> {
    let run = manifest().run_id();
    let first = SignedBlock::sign(opening(), &key(1)).expect("valid");
    let second = SignedBlock::sign(working(&first), &key(1)).expect("valid");
    let [(_, proposal), (_, vote)] = consensus_messages();
    let certificate = certificate().encode();
    let blocks = vec![first.bytes().to_vec(), second.bytes().to_vec()];
    let wanted = vec![(peer(1), first.id())];
    let certificates = vec![certificate.clone()];
    let mut out = vec![
        ("block", Message::Block(second.bytes().to_vec())),
        ("certificate", Message::Certificate(certificate)),
        ("consensus_proposal", Message::Consensus(proposal.encode())),
        ("consensus_vote", Message::Consensus(vote.encode())),
    ];
    out.extend(comparison(run, second.head()));
    let from = Round(3);
    out.extend([
        (
            "blocks",
            Message::Blocks {
                scope: run.into(),
                blocks,
            },
        ),
        (
            "want_blocks",
            Message::WantBlocks {
                scope: run.into(),
                blocks: wanted,
            },
        ),
        ("certificates", Message::Certificates { run, certificates }),
        ("want_certificates", Message::WantCertificates { run, from }),
    ]);
    out
}

/// What is asked of a shard, and what is answered.
pub fn question() -> Question {
    let words = "the miller opens the upper sluice at dawn and counts".split(' ');
    let words: Vec<String> = words.map(str::to_owned).collect();
    Question::new(
        (&key(1), NET),
        RunId(any_digest(1)),
        MerkleRoot(any_digest(9)),
        &words,
    )
}

/// An answer that proves one span, and one that is declined.
pub fn evidence() -> [Answer; 2] {
    let span = Span {
        from: 1,
        blindings: (1..=16).map(|n| Blinding([n; 16])).collect(),
        proof: RangeProof {
            first: 300,
            leaves: 70_000,
            outside: vec![any_digest(1), any_digest(2)],
        },
    };
    [
        Answer::new(Ok(vec![span])),
        Answer::new(Err(Declined::Gone)),
    ]
}
