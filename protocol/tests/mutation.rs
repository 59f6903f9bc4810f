//! Remote bytes never panic a decoder and never make it hold memory: 100,000 mutated messages for
//! each decoder, from a fixed seed; `TRIBUTARY_FUZZ=1000000` makes it a million.
//!
//! Half of the inputs are mutations of valid ones (bits flipped, bytes cut, doubled, moved between
//! messages, lengths blown up), so that they get far into the decoder; the rest is noise. A counting
//! allocator sees every byte that is asked for.

use std::sync::{Arc, Mutex, PoisonError};

use peak_alloc::PeakAlloc;
use tributary_protocol::adapter::Adapter;
use tributary_protocol::certificate::Certificate;
use tributary_protocol::codec;
use tributary_protocol::consensus::ConsensusMessage;
use tributary_protocol::entry::{Entry, ShownSheet};
use tributary_protocol::fingerprint::{self, Answer, Question};
use tributary_protocol::limits;
use tributary_protocol::log::{SignedBlock, Unverified};
use tributary_protocol::manifest::{Manifest, UpdateCodec};
use tributary_protocol::merkle::{self, InclusionProof};
use tributary_protocol::update;
use tributary_protocol::wire::Message;

use tributary_protocol::test_utils::corpus::{Corpus, executions, plain};
use tributary_protocol::test_utils::fixture::*;
use tributary_protocol::test_utils::mutate::Mutator;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// One measurement at a time: the counter is the process's.
static ALONE: Mutex<()> = Mutex::new(());

/// For each decoder, unless the environment says otherwise.
const MESSAGES: usize = 100_000;
/// What any one decode of these small messages may hold at once: the codec reserves at most 256 times
/// a message of up to 16 KiB.
const MAX_PEAK_BYTES: usize = 5 << 20;
/// And of the largest: 16 MiB for what the codec reserves, and the message itself.
const MAX_LARGE_PEAK_BYTES: usize = 17 << 20;

/// What a decoder says of bytes: nothing when it takes them, else why not.
type Outcome = Result<(), String>;

fn outcome<T, E: std::fmt::Display>(decoded: Result<T, E>) -> Outcome {
    decoded.map(drop).map_err(|why| why.to_string())
}

/// Feeds a decoder: first the valid inputs and the corpus, then mutations of both.
fn feed(name: &str, seeds: &[Vec<u8>], decode: impl Fn(&[u8]) -> Outcome) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for seed in seeds {
        assert_eq!(decode(seed), Ok(()), "{name}: a valid input is refused");
    }
    let mut corpus = Corpus::read(name);
    for bytes in corpus.inputs() {
        // What it says may change with the words; that it comes back may not.
        let _ = decode(bytes);
    }
    let kept = corpus.inputs().map(<[u8]>::to_vec);
    let seeds: Vec<Vec<u8>> = seeds.iter().cloned().chain(kept).collect();
    let messages = executions(MESSAGES);
    let mut mutator = Mutator::new(&seeds, 0x7472_6962);
    let before = MEMORY.current_usage();
    let (mut taken, mut peak, mut kept) = (0, 0, 0);
    for _ in 0..messages {
        let bytes = mutator.next();
        MEMORY.reset_peak_usage();
        let start = MEMORY.current_usage();
        let says = decode(&bytes);
        peak = peak.max(MEMORY.peak_usage().saturating_sub(start));
        taken += usize::from(says.is_ok());
        // What the corpus keeps is not what the decoder keeps.
        let start = MEMORY.current_usage();
        if let Err(why) = says {
            corpus.found(&plain(why), &bytes);
        }
        kept += MEMORY.current_usage().saturating_sub(start);
    }
    let grown = (MEMORY.current_usage().saturating_sub(before)).saturating_sub(kept);
    println!(
        "{name}: {messages} messages, {taken} still valid, peak {} KiB, grown {grown} bytes",
        peak / 1024
    );
    corpus.write();
    assert!(peak <= MAX_PEAK_BYTES, "{name}: {peak} bytes held at once");
    assert!(
        grown < 64 * 1024,
        "{name}: {grown} bytes kept after the last message"
    );
}

#[test]
fn the_message_decoder_withstands_mutation() {
    let seeds: Vec<Vec<u8>> = messages().iter().map(|(_, m)| m.encode()).collect();
    feed("message", &seeds, |bytes| outcome(Message::decode(bytes)));
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
        let block = SignedBlock::decode(bytes, NET);
        if let Ok(block) = &block {
            assert!(
                seeds.iter().any(|seed| seed == bytes),
                "{block:?} was forged"
            );
        }
        outcome(block)
    });
    // Without the signature check the mutations reach everything behind it.
    feed("block without its signature", &seeds, |bytes| {
        outcome(Unverified::decode(bytes, NET))
    });
}

#[test]
fn the_decoders_of_manifests_and_entries_withstand_mutation() {
    let seeds = [codec::encode(&manifest())];
    feed("manifest", &seeds, |bytes| {
        let decoded = codec::decode::<Manifest, { limits::MAX_MANIFEST_BYTES }>(bytes);
        let checked = decoded.map_err(|why| why.to_string());
        checked.and_then(|manifest| outcome(manifest.check()))
    });
    let entries = [
        Entry::Create(Box::new(manifest())),
        Entry::Join(join()),
        Entry::Leave,
        Entry::Contribution(contribution()),
        Entry::SheetSeal(sheet().seal(&peer(1))),
        Entry::ScoreSheet(ShownSheet {
            sheet: sheet(),
            seals: 1,
        }),
        Entry::Bind(bind()),
        Entry::RootSignature(root_signature()),
        Entry::Transaction(transaction()),
        Entry::Answers(answers()),
        Entry::Confirm(confirm()),
    ]
    .into_iter()
    .chain(dispute_steps().into_iter().map(Entry::Dispute));
    let seeds: Vec<Vec<u8>> = entries.map(|entry| codec::encode(&entry)).collect();
    feed("entry", &seeds, |bytes| {
        let decoded = codec::decode::<Entry, { limits::MAX_BLOCK_BYTES }>(bytes);
        let checked = decoded.map_err(|why| why.to_string());
        checked.and_then(|entry| outcome(entry.check()))
    });
}

#[test]
fn the_decoders_of_the_committee_withstand_mutation() {
    feed("certificate", &[certificate().encode()], |bytes| {
        outcome(Certificate::decode(bytes))
    });
    let seeds: Vec<Vec<u8>> = consensus_messages()
        .iter()
        .map(|(_, m)| m.encode())
        .collect();
    feed("consensus message", &seeds, |bytes| {
        let message = ConsensusMessage::decode(bytes).map_err(|why| why.to_string())?;
        let verified = message.verify(NET);
        let forged = verified.is_ok() && !seeds.iter().any(|s| s == bytes);
        assert!(!forged, "{message:?} was forged");
        Ok(())
    });
}

#[test]
fn the_update_and_adapter_decoders_withstand_mutation() {
    let flat: Vec<f32> = (0..5000)
        .map(|at| ((at * 37) % 101) as f32 / 64.0 - 0.75)
        .collect();
    let codecs = [
        ("sparse update", manifest().updates.codec),
        ("int8 update", UpdateCodec::DenseInt8),
        ("f32 update", UpdateCodec::DenseF32),
    ];
    for (name, codec) in codecs {
        let seed = update::encode(&flat, codec).expect("in range");
        feed(name, &[seed], |bytes| {
            outcome(update::decode(bytes, flat.len(), codec))
        });
    }
    let shape = Arc::new(manifest().model.adapter);
    let seed = Adapter::init(shape.clone(), &any_digest(1)).to_bytes();
    feed("adapter", &[seed], |bytes| {
        outcome(Adapter::from_bytes(shape.clone(), bytes))
    });
}

#[test]
fn the_proof_decoder_withstands_mutation() {
    let leaves: Vec<_> = (0u8..50).map(|n| merkle::leaf(&[n])).collect();
    let root = merkle::root(&leaves);
    let seed = codec::encode(&merkle::prove(&leaves, 17).expect("a leaf"));
    let valid = seed.clone();
    feed("inclusion proof", &[seed], |bytes| {
        let proof = codec::decode::<InclusionProof, 4096>(bytes).map_err(|why| why.to_string())?;
        if proof.verify(&root, &leaves[17]) {
            let fields = codec::decode::<InclusionProof, 4096>(&valid).expect("valid");
            assert_eq!(
                (proof.index, &proof.path),
                (17, &fields.path),
                "a second proof"
            );
        }
        Ok(())
    });
}

#[test]
fn the_decoders_of_evidence_withstand_mutation_and_believe_no_changed_proof() {
    feed("question", &[question().encode()], |bytes| {
        let asked = Question::decode(bytes).map_err(|why| why.to_string())?;
        let changed = asked != question();
        assert!(
            !changed || asked.check(NET).is_err(),
            "{asked:?} is believed"
        );
        Ok(())
    });
    let words: Vec<String> = (0..24).map(|n| n.to_string()).collect();
    let root = merkle::root(&[merkle::leaf(b"another")]);
    let seeds = evidence().map(|answer| answer.encode());
    feed("answer", &seeds, |bytes| {
        let answer = Answer::decode(bytes).map_err(|why| why.to_string())?;
        if let Ok(spans) = &answer.found {
            let proven = fingerprint::check(&root, &words, spans);
            assert!(proven.is_err() || spans.is_empty(), "{spans:?} is believed");
        }
        Ok(())
    });
}
