//! Small valid values for the tests of this crate.

use crate::adapter::{AdapterShape, Module};
use crate::entry::{Contribution, Entry, Join, Role, Score, ScoreSheet};
use crate::hash::Digest;
use crate::id::{
    BlobHash, BlobRef, MerkleRoot, MicroOpen, NanoNats, NetworkId, PeerId, Ppb, Round, RunId,
    Scope, Seq, StateHash,
};
use crate::log::{Block, SignedBlock};
use crate::manifest::{
    Aggregation, Base, Deadlines, FactorSchedule, Manifest, RevenueSplit, Training, UpdateCodec,
};
use crate::sign::SecretKey;
use crate::time::Timestamp;

pub(crate) const NET: NetworkId = NetworkId(7);

pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

pub(crate) fn peer(seed: u8) -> PeerId {
    key(seed).peer_id()
}

pub(crate) fn any_digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

pub(crate) fn scope() -> Scope {
    Scope::Run(RunId(any_digest(9)))
}

/// A manifest that passes every check, created by `key(1)`.
pub(crate) fn manifest() -> Manifest {
    let mut evaluators = vec![peer(2), peer(3)];
    evaluators.sort();
    Manifest {
        name: "letters".into(),
        creator: peer(1),
        nonce: 42,
        base: Base {
            name: "brook".into(),
            hash: any_digest(4),
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
        datanet: "letters".into(),
        rounds: 6,
        training: Training {
            local_steps: 20,
            batch: 4,
            context: 128,
            learning_rate: Ppb(1_000_000),
            schedule: FactorSchedule::Alternate,
        },
        codec: UpdateCodec::Sparse {
            top: 64,
            feedback: Ppb(950_000_000),
        },
        aggregation: Aggregation::ClippedMean,
        evaluators,
        score_windows: 16,
        committee: 4,
        min_members: 3,
        min_contributions: 2,
        deadlines: Deadlines {
            round_ms: 60_000,
            grace_ms: 500,
            propose_ms: 1_000,
            vote_ms: 500,
        },
        budget_per_round: MicroOpen(1_000_000),
        revenue: RevenueSplit {
            contributors: Ppb(700_000_000),
            base_author: Ppb(100_000_000),
            server: Ppb(100_000_000),
            committee: Ppb(50_000_000),
            stakers: Ppb(50_000_000),
        },
    }
}

pub(crate) fn join() -> Join {
    Join {
        name: "ada".into(),
        role: Role::Contributor,
        root: MerkleRoot(any_digest(5)),
        tokens: 1_000,
    }
}

pub(crate) fn contribution() -> Contribution {
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

pub(crate) fn sheet() -> ScoreSheet {
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
        }],
    }
}

/// A block that leaves; `time` tells equal ones apart.
pub(crate) fn block(author: &SecretKey, before: Option<&SignedBlock>, time: u64) -> Block {
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

pub(crate) fn signed(author: &SecretKey, before: Option<&SignedBlock>, time: u64) -> SignedBlock {
    SignedBlock::sign(block(author, before, time), author).expect("a valid block")
}

/// A linked log of `len` blocks.
pub(crate) fn chain(author: &SecretKey, len: usize) -> Vec<SignedBlock> {
    let mut out: Vec<SignedBlock> = Vec::new();
    for at in 0..len {
        out.push(signed(author, out.last(), at as u64));
    }
    out
}
