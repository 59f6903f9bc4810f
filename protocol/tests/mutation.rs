//! Remote bytes never panic a decoder and never make it hold memory: 100,000 mutated messages for
//! each decoder, from a fixed seed.
//!
//! Half of the inputs are mutations of valid ones (bits flipped, bytes cut, doubled, moved between
//! messages, lengths blown up), so that they get far into the decoder; the rest is noise. A counting
//! allocator sees every byte that is asked for.

#[path = "../src/fixture.rs"]
#[allow(dead_code)]
mod fixture;
#[path = "mutation/mutate.rs"]
mod mutate;

use std::sync::{Arc, Mutex, PoisonError};

use peak_alloc::PeakAlloc;
use tributary_protocol::adapter::Adapter;
use tributary_protocol::certificate::Certificate;
use tributary_protocol::codec;
use tributary_protocol::consensus::ConsensusMessage;
use tributary_protocol::entry::Entry;
use tributary_protocol::limits;
use tributary_protocol::log::{SignedBlock, Unverified};
use tributary_protocol::manifest::{Manifest, UpdateCodec};
use tributary_protocol::merkle::{self, InclusionProof};
use tributary_protocol::update;
use tributary_protocol::wire::Message;

use fixture::*;
use mutate::Mutator;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// One measurement at a time: the counter is the process's.
static ALONE: Mutex<()> = Mutex::new(());

const MESSAGES: usize = 100_000;
/// What any one decode of these small messages may hold at once: the codec reserves at most 256 times
/// a message of up to 16 KiB.
const MAX_PEAK_BYTES: usize = 5 << 20;
/// And of the largest: 16 MiB for what the codec reserves, and the message itself.
const MAX_LARGE_PEAK_BYTES: usize = 17 << 20;

/// Feeds a decoder; `decode` says whether it took the bytes.
fn feed(name: &str, seeds: &[Vec<u8>], decode: impl Fn(&[u8]) -> bool) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for seed in seeds {
        assert!(decode(seed), "{name}: a valid input is refused");
    }
    let mut mutator = Mutator::new(seeds, 0x7472_6962);
    let before = MEMORY.current_usage();
    let (mut taken, mut peak) = (0, 0);
    for _ in 0..MESSAGES {
        let bytes = mutator.next();
        MEMORY.reset_peak_usage();
        let start = MEMORY.current_usage();
        taken += usize::from(decode(&bytes));
        peak = peak.max(MEMORY.peak_usage().saturating_sub(start));
    }
    let grown = MEMORY.current_usage().saturating_sub(before);
    println!(
        "{name}: {MESSAGES} messages, {taken} still valid, peak {} KiB, grown {grown} bytes",
        peak / 1024
    );
    assert!(peak <= MAX_PEAK_BYTES, "{name}: {peak} bytes held at once");
    assert!(
        grown < 64 * 1024,
        "{name}: {grown} bytes kept after the last message"
    );
}

#[test]
fn the_message_decoder_withstands_mutation() {
    let seeds: Vec<Vec<u8>> = messages().iter().map(|(_, m)| m.encode()).collect();
    feed("message", &seeds, |bytes| Message::decode(bytes).is_ok());
}

#[test]
fn the_largest_messages_reserve_a_bounded_multiple() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let size = limits::MAX_DIRECT_BYTES;
    for kind in 0..16u8 {
        // Zeros are empty lists, ones small numbers; the mark announces a list of 2^32 - 1.
        for fill in [0u8, 1, 250] {
            for length in [
                vec![253],
                vec![252, 255, 255, 255, 255],
                vec![252, 0, 0, 3, 0],
            ] {
                let mut bytes = vec![1, kind];
                bytes.extend([9; 32]);
                bytes.extend(length);
                bytes.resize(size, fill);
                MEMORY.reset_peak_usage();
                let start = MEMORY.current_usage();
                let refused = Message::decode(&bytes).is_err();
                let peak = MEMORY.peak_usage().saturating_sub(start);
                assert!(
                    refused && peak <= MAX_LARGE_PEAK_BYTES,
                    "kind {kind}: {peak} bytes"
                );
            }
        }
    }
}

fn blocks() -> [SignedBlock; 2] {
    let first = SignedBlock::sign(opening(), &key(1)).expect("valid");
    let second = SignedBlock::sign(working(&first), &key(1)).expect("valid");
    [first, second]
}

#[test]
fn the_block_decoder_withstands_mutation_and_takes_no_forgery() {
    let valid = blocks();
    let seeds = valid.each_ref().map(|b| b.bytes().to_vec());
    feed("signed block", &seeds, |bytes| {
        match SignedBlock::decode(bytes, NET) {
            Ok(block) => {
                assert!(
                    seeds.iter().any(|seed| seed == bytes),
                    "{block:?} was forged"
                );
                true
            }
            Err(_) => false,
        }
    });
    // Without the signature check the mutations reach everything behind it.
    feed("block without its signature", &seeds, |bytes| {
        Unverified::decode(bytes, NET).is_ok()
    });
}

#[test]
fn the_decoders_of_manifests_and_entries_withstand_mutation() {
    let seeds = [codec::encode(&manifest())];
    feed("manifest", &seeds, |bytes| {
        let decoded = codec::decode::<Manifest, { limits::MAX_MANIFEST_BYTES }>(bytes);
        decoded.is_ok_and(|manifest| manifest.check().is_ok())
    });
    let entries = [
        Entry::Create(Box::new(manifest())),
        Entry::Join(join()),
        Entry::Leave,
        Entry::Contribution(contribution()),
        Entry::ScoreSheet(sheet()),
    ];
    let seeds: Vec<Vec<u8>> = entries.iter().map(codec::encode).collect();
    feed("entry", &seeds, |bytes| {
        let decoded = codec::decode::<Entry, { limits::MAX_BLOCK_BYTES }>(bytes);
        decoded.is_ok_and(|entry| entry.check().is_ok())
    });
}

#[test]
fn the_decoders_of_the_committee_withstand_mutation() {
    feed("certificate", &[certificate().encode()], |bytes| {
        Certificate::decode(bytes).is_ok()
    });
    let seeds: Vec<Vec<u8>> = consensus_messages()
        .iter()
        .map(|(_, m)| m.encode())
        .collect();
    feed(
        "consensus message",
        &seeds,
        |bytes| match ConsensusMessage::decode(bytes) {
            Ok(message) => {
                let forged = message.verify(NET).is_ok() && !seeds.iter().any(|s| s == bytes);
                assert!(!forged, "{message:?} was forged");
                true
            }
            Err(_) => false,
        },
    );
}

#[test]
fn the_update_and_adapter_decoders_withstand_mutation() {
    let flat: Vec<f32> = (0..5000)
        .map(|at| ((at * 37) % 101) as f32 / 64.0 - 0.75)
        .collect();
    let codecs = [
        ("sparse update", manifest().codec),
        ("int8 update", UpdateCodec::DenseInt8),
        ("f32 update", UpdateCodec::DenseF32),
    ];
    for (name, codec) in codecs {
        let seed = update::encode(&flat, codec).expect("in range");
        feed(name, &[seed], |bytes| {
            update::decode(bytes, flat.len(), codec).is_ok()
        });
    }
    let shape = Arc::new(manifest().adapter);
    let seed = Adapter::init(shape.clone(), &any_digest(1)).to_bytes();
    feed("adapter", &[seed], |bytes| {
        Adapter::from_bytes(shape.clone(), bytes).is_ok()
    });
}

#[test]
fn the_proof_decoder_withstands_mutation() {
    let leaves: Vec<_> = (0u8..50).map(|n| merkle::leaf(&[n])).collect();
    let root = merkle::root(&leaves);
    let seed = codec::encode(&merkle::prove(&leaves, 17).expect("a leaf"));
    let valid = seed.clone();
    feed("inclusion proof", &[seed], |bytes| {
        let Ok(proof) = codec::decode::<InclusionProof, 4096>(bytes) else {
            return false;
        };
        if proof.verify(&root, &leaves[17]) {
            let fields = codec::decode::<InclusionProof, 4096>(&valid).expect("valid");
            assert_eq!(
                (proof.index, &proof.path),
                (17, &fields.path),
                "a second proof"
            );
        }
        true
    });
}
