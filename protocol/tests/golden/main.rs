//! Golden vectors: the bytes of every record, pinned.
//!
//! `golden/NAME.hex` holds what the encoders wrote when a format was fixed; a difference is a change
//! of the protocol and needs a new version byte. `golden/twin.rs` writes the same records a second
//! time, by hand from the field tables of `docs/protocol.md`, and shares no code with the encoders.
//!
//! `cargo test -p tributary-protocol --test golden -- --ignored` writes the files anew.

mod twin;

use std::fs;
use std::path::PathBuf;

use tributary_protocol::adapter::Adapter;
use tributary_protocol::beacon::{self, Chain};
use tributary_protocol::codec;
use tributary_protocol::committee::Committee;
use tributary_protocol::hash::{Digest, Domain};
use tributary_protocol::id::{BlobRef, NetworkId, Round};
use tributary_protocol::log::SignedBlock;
use tributary_protocol::manifest::UpdateCodec;
use tributary_protocol::merkle;
use tributary_protocol::roster::{Roster, Work};
use tributary_protocol::round::{RoundValue, state_hash};
use tributary_protocol::update;
use tributary_protocol::wire::Message;

use tributary_protocol::test_utils::fixture::*;

type Vector = (String, Vec<u8>);

/// What is pinned, by name. Everything is a function of fixed seeds.
fn vectors() -> Vec<Vector> {
    let mut out: Vec<Vector> = Vec::new();
    let mut add = |name: &str, bytes: &[u8]| out.push((name.into(), bytes.to_vec()));
    let manifest = manifest();
    let run = manifest.run_id();
    add("manifest", &codec::encode(&manifest));
    add("manifest.run_id", run.as_bytes());
    add("manifest_shared", &codec::encode(&shared_manifest()));
    add("manifest_bonded", &codec::encode(&bonded_manifest()));
    add("listing", &listing().bytes());
    let first = SignedBlock::sign(opening(), &key(1)).expect("valid");
    let second = SignedBlock::sign(working(&first), &key(1)).expect("valid");
    let apart = SignedBlock::sign(publishing(), &key(1)).expect("valid");
    for (name, signed) in [
        ("block_opening", &first),
        ("block_working", &second),
        ("block_publishing", &apart),
    ] {
        add(name, &codec::encode(signed.block()));
        add(&format!("{name}.signed"), signed.bytes());
        add(&format!("{name}.id"), signed.id().as_bytes());
    }
    let value = value();
    add("value", &codec::encode(&value));
    add("value.id", value.id().as_bytes());
    add("value.score_seed", value.score_seed().as_bytes());
    add("certificate", &certificate().encode());
    for (name, message) in consensus_messages() {
        add(name, &message.encode());
    }
    for (name, message) in messages() {
        add(&format!("message_{name}"), &message.encode());
    }
    add("question", &question().encode());
    for (name, answer) in ["found", "declined"].iter().zip(evidence()) {
        add(&format!("answer_{name}"), &answer.encode());
    }
    let signature = key(1).sign(NetworkId(7), Domain::Block, b"tributary");
    add("peer_id", peer(1).as_bytes());
    add("signature", &signature.0);
    let roster = roster();
    add("roster", &codec::encode(&roster));
    add("roster.digest", roster.digest().as_bytes());
    let state = state_hash(run, Round(2), value.adapter, roster.digest(), value.beacon);
    add("state_hash", state.as_bytes());
    add("committee", &drawn(&roster));
    let run_beacon = beacon::follow(&run, Round(2), &any_digest(6), &any_digest(7));
    add("beacon", run_beacon.as_bytes());
    for (name, link) in ["commitment", "link"].iter().zip(links()) {
        add(&format!("beacon.{name}"), link.as_bytes());
    }
    out.extend(numbers());
    out
}

fn roster() -> Roster {
    let value = RoundValue {
        included: vec![],
        leaves: vec![],
        sheets: vec![],
        seals: vec![],
        scores: vec![],
        filings: vec![],
        ..value()
    };
    let mut joins = Vec::new();
    for author in 1..=6 {
        let mut joined = value.joins[0];
        joined.entry.author = peer(author);
        joins.push(joined);
    }
    joins.sort();
    let mut anchor = anchor();
    anchor.stakes = (joins.iter().zip(1..))
        .map(|(joined, n)| (joined.entry.author, n * 1_000_000))
        .collect();
    let anchor = Some(anchor);
    let value = RoundValue {
        joins,
        anchor,
        ..value
    };
    Roster::default()
        .apply(&value, &peer(1), &Work::default())
        .expect("six join")
}

/// The committee's first proposers, and the beacon and the links that draws hang on.
fn drawn(roster: &Roster) -> Vec<u8> {
    let run = manifest().run_id();
    let beacon = beacon::follow(&run, Round(2), &any_digest(6), &any_digest(7));
    let weights = roster.iter().map(|member| (member.peer, member.own_tokens));
    let committee = Committee::draw(&run, Round(3), &beacon, weights, |_| true, 4);
    (0..8)
        .flat_map(|attempt| *committee.proposer(attempt).as_bytes())
        .collect()
}

/// The chain of member 1 in a run that closes with height 5: what it commits to, and the link of height 2.
fn links() -> [Digest; 2] {
    let chain = Chain::new(&key(1), &manifest().run_id(), Round(5));
    [chain.commitment(), chain.link(Round(2))]
}

/// Everything made of floats: adapters and updates.
fn numbers() -> Vec<Vector> {
    let shape = std::sync::Arc::new(manifest().model.adapter);
    let adapter = Adapter::init(shape, &any_digest(1));
    let blob = BlobRef::of(&adapter.to_bytes());
    let flat: Vec<f32> = (0..160)
        .map(|at| ((at * 37) % 101) as f32 / 64.0 - 0.75)
        .collect();
    let sparse = manifest().updates.codec;
    let encoded = |codec| update::encode(&flat, codec).expect("in range");
    let leaves: Vec<_> = (0u8..5).map(|n| merkle::leaf(&[n])).collect();
    let proof = merkle::prove(&leaves, 2).expect("a leaf");
    vec![
        ("adapter_init".into(), adapter.to_bytes()),
        ("adapter_init.hash".into(), blob.hash.as_bytes().to_vec()),
        ("update_dense_f32".into(), encoded(UpdateCodec::DenseF32)),
        ("update_dense_int8".into(), encoded(UpdateCodec::DenseInt8)),
        ("update_sparse".into(), encoded(sparse)),
        (
            "merkle.root".into(),
            merkle::root(&leaves).as_bytes().to_vec(),
        ),
        ("merkle.proof".into(), codec::encode(&proof)),
    ]
}

fn path(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    PathBuf::from(folder).join(format!("{name}.hex"))
}

/// Lines of 32 bytes in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    let line = |part: &[u8]| part.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n";
    bytes.chunks(32).map(line).collect()
}

#[test]
fn every_record_has_the_pinned_bytes() {
    let mut wrong = Vec::new();
    let vectors = vectors();
    for (name, bytes) in &vectors {
        let pinned = fs::read_to_string(path(name)).unwrap_or_default();
        if pinned != hex(bytes) {
            wrong.push(format!("{name}: pinned\n{pinned}written\n{}", hex(bytes)));
        }
    }
    assert!(
        wrong.is_empty(),
        "bytes of the protocol changed:\n{}",
        wrong.join("\n")
    );
    let files = fs::read_dir(path("x").parent().expect("a folder")).expect("readable");
    let pinned = files.filter(|f| {
        let name = f.as_ref().expect("readable").file_name();
        name.to_string_lossy().ends_with(".hex")
    });
    assert_eq!(pinned.count(), vectors.len(), "a file without a vector");
}

#[test]
#[ignore = "writes the pinned files"]
fn write_golden_vectors() {
    for (name, bytes) in vectors() {
        fs::write(path(&name), hex(&bytes)).expect("writable");
    }
}

#[test]
fn a_second_encoder_written_from_the_tables_agrees() {
    for manifest in [manifest(), shared_manifest(), bonded_manifest()] {
        assert_eq!(twin::manifest(&manifest), codec::encode(&manifest));
    }
    assert_eq!(twin::listing(&listing()), listing().bytes());
    let first = SignedBlock::sign(opening(), &key(1)).expect("valid");
    let second = SignedBlock::sign(working(&first), &key(1)).expect("valid");
    let apart = SignedBlock::sign(publishing(), &key(1)).expect("valid");
    for signed in [&first, &second, &apart] {
        let payload = twin::block(signed.block());
        assert_eq!(payload, codec::encode(signed.block()));
        let signature = key(1).sign(NET, Domain::Block, &payload);
        assert_eq!(twin::envelope(&payload, &signature), signed.bytes());
    }
    assert_eq!(twin::value(&value()), codec::encode(&value()));
    assert_eq!(twin::certificate(&certificate()), certificate().encode());
    for (name, message) in consensus_messages() {
        assert_eq!(twin::consensus(&message), message.encode(), "{name}");
    }
    for (name, message) in messages() {
        assert_eq!(twin::message(&message), message.encode(), "{name}");
    }
    let payload = twin::question(&question());
    let signature = key(1).sign(NET, Domain::Question, &payload);
    assert_eq!(
        [payload, signature.0.to_vec()].concat(),
        question().encode()
    );
    for answer in evidence() {
        assert_eq!(twin::answer(&answer), answer.encode());
    }
}

#[test]
fn ids_and_signatures_are_what_the_tables_say() {
    use ed25519_dalek::{Signature, VerifyingKey};
    let payload = twin::block(&opening());
    let hash = blake3::derive_key("tributary 1 block", &payload);
    let signed = SignedBlock::sign(opening(), &key(1)).expect("valid");
    assert_eq!(signed.id().as_bytes(), &hash);
    let text = [b"tributary 1 block".as_slice(), &7u32.to_le_bytes(), &hash].concat();
    let bytes: [u8; 64] = signed.bytes()[signed.bytes().len() - 64..]
        .try_into()
        .expect("64");
    let author = VerifyingKey::from_bytes(peer(1).as_bytes()).expect("a key");
    assert!(
        author
            .verify_strict(&text, &Signature::from_bytes(&bytes))
            .is_ok()
    );
    let run = blake3::derive_key("tributary 1 manifest", &twin::manifest(&manifest()));
    assert_eq!(manifest().run_id().as_bytes(), &run);
}

#[test]
fn pinned_messages_read_back_to_the_values_they_were_made_of() {
    for (name, message) in messages() {
        assert_eq!(Message::decode(&message.encode()), Ok(message), "{name}");
    }
}
