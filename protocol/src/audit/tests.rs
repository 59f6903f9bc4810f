//! Tests: a whole run made by hand, then damaged in every way.

use super::*;
use crate::beacon::Chain;
use crate::consensus::{Signed, Vote, VoteKind};
use crate::entry::{Contribution, Join, Role, Score, ScoreSheet, ShownSheet};
use crate::hash::{Domain, Hasher, Stream, digest};
use crate::id::{BlockId, MerkleRoot, NanoNats, Ppb, StateHash};
use crate::log::Block;
use crate::manifest::UpdateCodec;
use crate::panel::Panel;
use crate::round::{EntryRef, Included};
use crate::sign::SecretKey;
use crate::state::{self, Selection};
use crate::test_utils::net;
use crate::time::Timestamp;
use crate::update;

const NET: NetworkId = NetworkId(9);
const MEMBERS: usize = 5;
const ROUNDS: u32 = 3;

fn key(i: usize) -> SecretKey {
    SecretKey::from_seed(*digest(Domain::Simulation, &[i as u8]).as_bytes())
}

fn me(i: usize) -> PeerId {
    key(i).peer_id()
}

fn manifest() -> Manifest {
    let mut evaluators = vec![me(1), me(2), me(3)];
    evaluators.sort_unstable();
    let mut manifest = net::manifest(me(0), evaluators, MEMBERS as u32, ROUNDS);
    manifest.name = "audited".into();
    manifest.nonce = 5;
    manifest.model.adapter = net::shape(2, &["q"], (40, 24));
    manifest.training.learning_rate = Ppb(1_000_000);
    manifest.updates.codec = UpdateCodec::Sparse {
        top: 1024,
        feedback: Ppb(950_000_000),
    };
    manifest
}

/// What a peer stores of a run, and what is needed to go on with it.
#[derive(Clone)]
struct Archive {
    manifest: Arc<Manifest>,
    blocks: Vec<StoredBlock>,
    certificates: Vec<StoredCertificate>,
    blobs: BTreeMap<BlobHash, Vec<u8>>,
    log: LogSet,
    head: Option<Head>,
    adapter: Option<Arc<Adapter>>,
    last: Option<RoundValue>,
}

impl Archive {
    fn run(&self) -> RunId {
        self.manifest.run_id()
    }

    /// Appends one block with one entry to a member's log.
    fn say(&mut self, who: usize, entry: Entry) -> EntryRef {
        let last = self.log.last(me(who)).map(SignedBlock::head);
        let seq = last.map_or(Seq(0), |head| Seq(head.seq.0 + 1));
        let block = self.block(who, seq, last.map(|head| head.block), entry);
        assert_eq!(self.log.insert(block.clone()), Insert::New);
        self.store(&block);
        EntryRef {
            author: me(who),
            seq,
            block: block.id(),
            index: 0,
        }
    }

    fn block(&self, who: usize, seq: Seq, prev: Option<BlockId>, entry: Entry) -> SignedBlock {
        let block = Block {
            network: NET,
            author: me(who),
            scope: Scope::Run(self.run()),
            seq,
            prev,
            seen: vec![],
            time: Timestamp(1),
            entries: vec![entry],
        };
        SignedBlock::sign(block, &key(who)).expect("a good block")
    }

    fn store(&mut self, block: &SignedBlock) {
        self.blocks.push(StoredBlock {
            filed: Some((block.block().author, block.block().seq)),
            bytes: block.bytes().to_vec(),
        });
    }

    /// Certifies what follows from a choice, under the names of the whole committee.
    fn certify(&mut self, selection: Selection) {
        let (value, derived) = self.build(selection);
        let head = state::follow(&self.manifest, self.run(), self.head.as_ref(), &value);
        let certificate = self.signed(&value);
        self.certificates.push(StoredCertificate {
            filed: Some(value.round),
            bytes: certificate.encode(),
        });
        self.head = Some(head.expect("a good value"));
        self.adapter = Some(derived.adapter);
        self.last = Some(value);
    }

    fn chain(&self, who: usize) -> Chain {
        Chain::new(&key(who), &self.run(), self.manifest.closing_round())
    }

    fn build(&self, selection: Selection) -> (RoundValue, Derived) {
        self.try_build(selection).expect("a good choice")
    }

    fn try_build(&self, mut selection: Selection) -> Result<(RoundValue, Derived), Rejection> {
        let committee = state::committee(&self.manifest, &self.run(), self.head.as_ref());
        let proposer = (0..MEMBERS).find(|who| me(*who) == committee.proposer(selection.attempt));
        let round = state::next_round(self.head.as_ref());
        selection.link = self.chain(proposer.expect("a member")).link(round);
        let blobs = (self.blobs.iter()).map(|(hash, bytes)| (*hash, bytes.clone().into()));
        let sources = RoundSources {
            log: &self.log,
            before: self.adapter.as_ref(),
            blobs: &blobs.collect(),
            judged: self.last.as_ref(),
        };
        let (manifest, head) = (&self.manifest, self.head.as_ref());
        state::build(manifest, self.run(), head, selection, &sources)
    }

    fn signed(&self, value: &RoundValue) -> Certificate {
        let committee = state::committee(&self.manifest, &self.run(), self.head.as_ref());
        let precommit = |author: &PeerId| {
            let body = Vote {
                run: value.run,
                round: value.round,
                attempt: 0,
                kind: VoteKind::Precommit,
                value: Some(value.id()),
                author: *author,
            };
            let who = (0..MEMBERS).find(|i| me(*i) == *author).expect("a member");
            (*author, Signed::vote(body, NET, &key(who)).signature)
        };
        Certificate {
            value: value.clone(),
            attempt: 0,
            precommits: committee.members().iter().map(precommit).collect(),
        }
    }

    fn audit(&self) -> Result<Audited, Fault> {
        self.audit_with(&mut |_, _| {})
    }

    fn audit_with(
        &self,
        visit: &mut dyn FnMut(&RoundValue, Option<&Derived>),
    ) -> Result<Audited, Fault> {
        let (blocks, certificates) = (self.blocks.clone(), self.certificates.clone());
        let mut blob = |hash: &BlobHash| self.blobs.get(hash).cloned();
        audit(NET, self.run(), blocks, certificates, &mut blob, visit)
    }

    fn contribute(&mut self, who: usize, draws: &mut Stream) -> Included {
        let head = self.head.as_ref().expect("after the genesis");
        let (round, base) = (head.round.next(), head.hash);
        let trainable = self.manifest.training.schedule.trainable(round);
        let segments = self.manifest.model.adapter.trainable_segments(trainable);
        let len: usize = segments.iter().map(|s| s.len()).sum();
        let update: Vec<f32> = (0..len)
            .map(|_| draws.below(2001) as f32 / 1000.0 - 1.0)
            .collect();
        let bytes = update::encode(&update, self.manifest.updates.codec).expect("in range");
        let update = BlobRef::of(&bytes);
        self.blobs.insert(update.hash, bytes);
        let tokens = 10 + who as u64;
        let receipt = self.say(
            who,
            Entry::Contribution(Contribution {
                round,
                base,
                update,
                tokens,
                shard: MerkleRoot::default(),
            }),
        );
        Included {
            receipt,
            update,
            tokens,
            weight: tokens,
        }
    }

    fn judge(&mut self, who: usize) -> EntryRef {
        let sheet = self.sheet(who);
        let evaluators = self.manifest.scoring.evaluators.iter().copied();
        let seals = Panel::equal(evaluators).all_seals();
        self.show(
            who,
            &sheet,
            ShownSheet {
                sheet: sheet.clone(),
                seals,
            },
        )
    }

    /// Seals one sheet and shows another, or the same.
    fn show(&mut self, who: usize, sealed: &ScoreSheet, shown: ShownSheet) -> EntryRef {
        self.say(who, Entry::SheetSeal(sealed.seal(&me(who))));
        self.say(who, Entry::ScoreSheet(shown))
    }

    fn sheet(&self, who: usize) -> ScoreSheet {
        let head = self.head.as_ref().expect("after the genesis");
        let judged = self.last.as_ref().expect("after the genesis");
        let line = |(at, included): (usize, &Included)| Score {
            peer: included.receipt.author,
            score: NanoNats((who * who * 100 + at) as i64),
            low: NanoNats(0),
            high: NanoNats(1000),
            luck: NanoNats(10),
        };
        ScoreSheet {
            round: head.round,
            state: head.hash,
            predicted: 100,
            loss_before: NanoNats(4_000_000_000),
            loss_after: NanoNats(3_900_000_000),
            scores: judged.included.iter().enumerate().map(line).collect(),
        }
    }
}

fn opened() -> Archive {
    let manifest = Arc::new(manifest());
    let mut archive = Archive {
        log: LogSet::new(NET, Scope::Run(manifest.run_id())),
        manifest,
        blocks: vec![],
        certificates: vec![],
        blobs: BTreeMap::new(),
        head: None,
        adapter: None,
        last: None,
    };
    archive.say(0, Entry::Create(Box::new((*archive.manifest).clone())));
    let mut selection = Selection::default();
    for who in 0..MEMBERS {
        let join = Join {
            name: format!("member {who}"),
            role: if (1..=3).contains(&who) {
                Role::Both
            } else {
                Role::Contributor
            },
            root: MerkleRoot::default(),
            tokens: 1000,
            fingerprints: None,
            beacon: archive.chain(who).commitment(),
            sketch: None,
            bind: None,
        };
        let entry = archive.say(who, Entry::Join(join.clone()));
        let joined = state::admit(&archive.manifest, &[(entry, &join)]);
        selection.joins.extend(joined);
    }
    archive.certify(selection);
    archive
}

/// Three rounds, each without one member's contribution; member 4 leaves in round 2.
fn finished() -> Archive {
    let mut archive = opened();
    let mut draws = Hasher::new(Domain::Simulation).finalize_xof();
    for round in 1..=ROUNDS {
        let mut selection = Selection::default();
        for who in (0..MEMBERS - 1).filter(|who| *who != round as usize) {
            selection.included.push(archive.contribute(who, &mut draws));
        }
        if round > 1 {
            selection.sheets = [1, 2, 3].map(|who| archive.judge(who)).to_vec();
        }
        if round == 2 {
            selection.leaves.push(archive.say(4, Entry::Leave));
        }
        archive.certify(selection);
    }
    let sheets = [1, 3].map(|who| archive.judge(who)).to_vec();
    archive.certify(Selection {
        sheets,
        ..Selection::default()
    });
    archive
}

fn reason(archive: &Archive) -> String {
    archive.audit().expect_err("a fault").to_string()
}

#[test]
fn a_finished_run_passes_and_yields_what_moved_it() {
    let archive = finished();
    let mut sums = Vec::new();
    let mut adapter: Option<Vec<f32>> = None;
    let audited = archive.audit_with(&mut |value, derived| {
        let derived = derived.expect("everything is at hand");
        let after = derived.adapter.values().to_vec();
        if let Some(before) = adapter.replace(after.clone()) {
            let plain: Vec<(PeerId, Vec<f32>)> =
                (derived.result.open().expect("an open round").iter())
                    .map(|(peer, vector)| (*peer, vector.to_vec()))
                    .collect();
            assert_eq!(crate::aggregate::step(&before, &plain), after);
        }
        assert_eq!(BlobRef::of(&derived.adapter.to_bytes()), value.adapter);
        sums.push(derived.result.peers().len());
    });
    let audited = audited.expect("nothing is wrong");
    assert_eq!(sums, [0, 3, 3, 3, 0]);
    assert!(audited.is_finished());
    assert_eq!(Some(&audited.head), archive.head.as_ref());
    assert_eq!(audited.adapter, archive.adapter);
    assert!(audited.unchecked.is_empty());
    assert_eq!(audited.head.roster.len(), 4);
    assert!(audited.equivocators.is_empty());
    let medians: Vec<Vec<i64>> = (audited.values.iter())
        .map(|value| value.scores.iter().map(|line| line.score.0).collect())
        .collect();
    // Three sheets that say 100, 400 and 900: the middle one, or of an evaluator's own contribution the mean of the other
    // two. Two of three sheets are too few.
    let (first, third) = (vec![400, 501, 252], vec![400, 251, 652]);
    assert_eq!(medians, [vec![], vec![], first, third, vec![]]);
}

#[test]
fn an_unfinished_run_passes_as_far_as_it_went() {
    let mut archive = finished();
    archive.certificates.pop();
    let audited = archive.audit().expect("nothing is wrong");
    assert!(!audited.is_finished());
    assert_eq!(audited.head.round, Round(ROUNDS));
}

#[test]
fn every_flipped_bit_is_found() {
    let archive = finished();
    let mut draws = Hasher::new(Domain::Simulation).finalize_xof();
    let mut pick = |bound: usize| draws.below(bound as u64) as usize;
    for _ in 0..120 {
        let mut blocks = archive.clone();
        let at = pick(blocks.blocks.len());
        let stored = &mut blocks.blocks[at];
        let bit = pick(stored.bytes.len() * 8);
        stored.bytes[bit / 8] ^= 1 << (bit % 8);
        let filed = stored.filed.expect("filed");
        let fault = blocks.audit().expect_err("a flipped block");
        assert_eq!((fault.author, fault.seq), (Some(filed.0), Some(filed.1)));

        let mut certificates = archive.clone();
        let at = pick(certificates.certificates.len());
        let stored = &mut certificates.certificates[at];
        let bit = pick(stored.bytes.len() * 8);
        stored.bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(certificates.audit().is_err());

        let mut blobs = archive.clone();
        let hashes: Vec<BlobHash> = blobs.blobs.keys().copied().collect();
        let hash = hashes[pick(hashes.len())];
        let bytes = blobs.blobs.get_mut(&hash).expect("listed");
        let bit = pick(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let fault = blobs.audit().expect_err("a flipped update");
        assert!(fault.author.is_some() && fault.seq.is_some() && fault.round.is_some());
    }
}

#[test]
fn whatever_is_missing_is_named() {
    let archive = finished();
    for at in 0..archive.blocks.len() {
        let mut holed = archive.clone();
        let gone = holed.blocks.remove(at).filed.expect("filed");
        let fault = holed.audit().expect_err("a missing block");
        if gone != (me(0), Seq(0)) {
            assert_eq!(fault.author, Some(gone.0), "{fault}");
        }
    }
    for at in 0..archive.certificates.len() - 1 {
        let mut holed = archive.clone();
        holed.certificates.remove(at);
        let expected = format!("round {at}: certificate is missing");
        assert_eq!(reason(&holed), expected);
    }
    let mut empty = archive.clone();
    empty.certificates.clear();
    assert!(reason(&empty).contains("no certificate"));
    empty.blocks.clear();
    assert!(reason(&empty).contains("manifest"));
}

#[test]
fn a_round_without_its_updates_is_said_to_be_unchecked() {
    let archive = finished();
    let certificate = Certificate::decode(&archive.certificates[2].bytes).expect("our own");
    let value = certificate.value;
    let mut holed = archive.clone();
    holed.blobs.remove(&value.included[1].update.hash);
    let audited = holed.audit().expect("the certificates stand");
    // Without the adapter of round 2 the later ones cannot be recomputed either.
    assert_eq!(audited.unchecked, [Round(2), Round(3), Round(4)]);
    assert_eq!(audited.adapter, None);
    let mut adapter = None;
    let before = archive.audit_with(&mut |at, derived| {
        if at.round == value.round {
            adapter = derived.map(|derived| derived.adapter.to_bytes());
        }
    });
    let adapter = adapter.expect("everything is at hand");
    holed.blobs.insert(value.adapter.hash, adapter.clone());
    let audited = holed.audit().expect("the certificates stand");
    assert_eq!(audited.unchecked, [Round(2)]);
    assert_eq!(audited.adapter, before.expect("whole").adapter);
    let mut flipped = adapter;
    flipped[5] ^= 1;
    holed.blobs.insert(value.adapter.hash, flipped);
    assert!(reason(&holed).starts_with("round 2: adapter"));
}

#[test]
fn order_in_the_store_does_not_matter() {
    let mut archive = finished();
    archive.blocks.reverse();
    archive.certificates.reverse();
    let doubled = archive.blocks[3].clone();
    archive.blocks.push(doubled);
    assert!(archive.audit().is_ok());
}

#[test]
fn things_filed_in_another_place_are_found() {
    let mut archive = finished();
    archive.blocks[2].filed = Some((me(4), Seq(7)));
    assert!(reason(&archive).contains("filed under another"));
    let mut archive = finished();
    archive.certificates[2].filed = Some(Round(3));
    assert!(reason(&archive).contains("filed under another round"));
}

#[test]
fn too_few_or_foreign_signers_are_found() {
    let archive = finished();
    let certificate = Certificate::decode(&archive.certificates[2].bytes).expect("our own");
    let replaced = |certificate: &Certificate| {
        let mut archive = archive.clone();
        archive.certificates[2].bytes = certificate.encode();
        reason(&archive)
    };
    let mut few = certificate.clone();
    few.precommits.truncate(2);
    assert!(replaced(&few).contains("fewer votes"));
    let mut foreign = certificate;
    foreign.precommits[0].0 = PeerId::default();
    foreign.precommits.sort_unstable();
    assert!(replaced(&foreign).contains("no seat"));
}

type Lie = fn(&mut RoundValue);

/// What a committee may lie about in a value, and what it is found by.
const LIES: [(&str, Lie); 10] = [
    ("final scores", |v| v.scores[1].score.0 += 1),
    ("final scores", |v| {
        v.sheets.truncate(2);
        v.seals.truncate(2);
    }),
    ("without its seal", |v| v.seals.truncate(2)),
    ("without its seal", |v| v.seals[0] = v.sheets[0]),
    ("receipt", |v| {
        v.included[0].tokens += 1;
        v.included[0].weight += 1;
    }),
    ("a weight", |v| v.included[0].weight += 1),
    ("no receipt", |v| v.included[0].receipt.index = 1),
    ("adapter", |v| v.included.truncate(2)),
    ("state hash", |v| v.adapter.hash = BlobHash::default()),
    ("adapter", |v| v.adapter.size += 4),
];

/// A whole committee that signs what does not follow is found out.
#[test]
fn a_lying_quorum_is_found() {
    let mut archive = opened();
    let mut draws = Hasher::new(Domain::Simulation).finalize_xof();
    let included = [0, 1, 2].map(|who| archive.contribute(who, &mut draws));
    archive.certify(Selection {
        included: included.to_vec(),
        ..Selection::default()
    });
    let included = [0, 1, 2].map(|who| archive.contribute(who, &mut draws));
    let sheets = [1, 2, 3].map(|who| archive.judge(who)).to_vec();
    let (value, _) = archive.build(Selection {
        included: included.to_vec(),
        sheets,
        ..Selection::default()
    });
    for (expected, lie) in LIES {
        let mut lied = value.clone();
        lie(&mut lied);
        let mut archive = archive.clone();
        archive.certificates.push(StoredCertificate {
            filed: None,
            bytes: archive.signed(&lied).encode(),
        });
        let found = reason(&archive);
        let missing = found.contains("relies on is missing") && expected == "no receipt";
        assert!(found.contains(expected) || missing, "{expected}: {found}");
        assert!(found.starts_with("round 2"), "{found}");
        if !expected.contains("adapter") {
            // Everything but the adapter is checked without the updates too.
            archive.blobs.clear();
            assert_eq!(reason(&archive), found);
        }
    }
    let mut forked = archive.clone();
    for value in [
        &value,
        &RoundValue {
            sheets: vec![],
            seals: vec![],
            scores: vec![],
            ..value.clone()
        },
    ] {
        forked.certificates.push(StoredCertificate {
            filed: None,
            bytes: archive.signed(value).encode(),
        });
    }
    let audited = forked.audit().expect("what was stored first stands");
    assert_eq!(audited.values.last(), Some(&value));
    let signers = archive.signed(&value).precommits;
    let signers = signers.iter().map(|(peer, _)| *peer).collect();
    let round = value.round;
    assert_eq!(audited.contradictions, [Contradiction { round, signers }]);
}

/// Whichever was stored first: later rounds tell which of two values was followed. A second one that no quorum
/// signed is a fault.
#[test]
fn a_round_certified_twice_goes_on_where_later_rounds_do() {
    let archive = finished();
    let clean = archive.audit().expect("nothing is wrong");
    let mut other = clean.values[0].clone();
    other.joins.pop();
    let genesis = Archive {
        head: None,
        ..archive.clone()
    };
    let second = |value: &RoundValue| StoredCertificate {
        filed: None,
        bytes: genesis.signed(value).encode(),
    };
    other.state = StateHash::default();
    for at in [0, archive.certificates.len()] {
        let mut twice = archive.clone();
        twice.certificates.insert(at, second(&other));
        let audited = twice.audit().expect("what was certified first stands");
        assert_eq!(audited.values, clean.values);
        let (round, signers) = (Round(0), vec![manifest().creator]);
        assert_eq!(audited.contradictions, [Contradiction { round, signers }]);
    }
    let mut forged = archive.clone();
    let mut unsigned = genesis.signed(&other);
    unsigned.precommits[0].1 = genesis.signed(&clean.values[0]).precommits[0].1;
    forged.certificates.push(StoredCertificate {
        filed: None,
        bytes: unsigned.encode(),
    });
    assert!(reason(&forged).contains("a second certificate"));
}

#[test]
fn a_later_fork_is_told_and_takes_nothing_back() {
    let mut archive = finished();
    let clean = archive.audit().expect("nothing is wrong");
    // Member 2 rewrites its log from position 1 on, long certified.
    let first = archive.log.blocks(me(2)).next().expect("joined").id();
    let other = archive.block(2, Seq(1), Some(first), Entry::Leave);
    archive.store(&other);
    let audited = archive.audit().expect("what is certified stays");
    assert_eq!(audited.equivocators, [me(2)]);
    assert_eq!(audited.head, clean.head);
    assert_eq!(audited.values, clean.values);
}

#[test]
fn a_fault_reads_as_a_sentence() {
    let mut archive = finished();
    let last = archive.blocks.len() - 1;
    archive.blocks[last].bytes.pop();
    let found = reason(&archive);
    let author = archive.blocks[last].filed.expect("filed").0;
    assert!(
        found.starts_with(&format!("author {author}, sequence ")),
        "{found}"
    );
}

/// The chain, as certificates.
fn chain_of(archive: &Archive) -> Vec<Certificate> {
    let stored = archive.certificates.iter();
    let decoded = stored.map(|stored| Certificate::decode(&stored.bytes).expect("certified"));
    decoded.collect()
}

fn resumed(archive: &Archive, earlier: &Earlier) -> (Result<Audited, Fault>, Vec<Round>) {
    let mut visited = Vec::new();
    let found = resume(
        NET,
        &archive.manifest,
        (&archive.log, archive.blocks.len()),
        &chain_of(archive),
        earlier,
        &mut |hash| archive.blobs.get(hash).cloned(),
        &mut |value, derived| {
            assert!(derived.is_some(), "every update is here");
            visited.push(value.round);
        },
    );
    (found, visited)
}

/// A finished run that keeps the adapter after every round, as a home does.
fn with_adapters() -> (Archive, Audited) {
    let mut archive = finished();
    let mut adapters = Vec::new();
    let clean = archive.audit_with(&mut |value, derived| {
        let adapter = &derived.expect("every update is here").adapter;
        adapters.push((value.adapter.hash, adapter.to_bytes()));
    });
    archive.blobs.extend(adapters);
    (archive, clean.expect("nothing is wrong"))
}

#[test]
fn an_audit_taken_up_anywhere_ends_as_one_from_the_genesis() {
    let (archive, clean) = with_adapters();
    let last = clean.values.len();
    for rounds in 0..=last {
        let earlier = Earlier {
            rounds,
            ..Earlier::default()
        };
        let (found, visited) = resumed(&archive, &earlier);
        let found = found.expect("nothing is wrong");
        assert_eq!((&found.values, &found.head), (&clean.values, &clean.head));
        let ends = [&found, &clean].map(|audited| audited.adapter.as_ref().map(|a| a.to_bytes()));
        assert_eq!(ends[0], ends[1]);
        assert_eq!(found.blocks, clean.blocks);
        assert_eq!(visited.len(), last - rounds, "one round costs one round");
    }
    let again = Earlier {
        rounds: last,
        is_visited: true,
        ..Earlier::default()
    };
    let (found, visited) = resumed(&archive, &again);
    assert_eq!(visited.len(), last);
    assert_eq!(found.expect("nothing is wrong").head, clean.head);
}

#[test]
fn what_comes_after_an_earlier_audit_is_checked_in_full() {
    let (archive, clean) = with_adapters();
    let last = clean.values.len();
    let earlier = Earlier {
        rounds: last - 1,
        ..Earlier::default()
    };
    let mut chain = chain_of(&archive);
    let other = chain[last - 2].precommits[0].1;
    chain[last - 1].precommits[0].1 = other;
    let mut forged = archive.clone();
    forged.certificates[last - 1].bytes = chain[last - 1].encode();
    let (found, _) = resumed(&forged, &earlier);
    let fault = found.expect_err("a signature of another round");
    assert_eq!(fault.round, Some(Round(last as u32 - 1)));

    let mut spoilt = archive;
    spoilt
        .blobs
        .insert(clean.values[last - 2].adapter.hash, vec![1, 2, 3]);
    let (found, _) = resumed(&spoilt, &earlier);
    let fault = found.expect_err("the adapter that is built on");
    assert!(fault.reason.starts_with("adapter"), "{fault}");
}

/// One certified round and a choice for the next, to which sheets are to be added.
fn judged() -> (Archive, Selection) {
    let mut archive = opened();
    let mut draws = Hasher::new(Domain::Simulation).finalize_xof();
    let mut round = |archive: &mut Archive| Selection {
        included: [0, 1, 2]
            .map(|who| archive.contribute(who, &mut draws))
            .to_vec(),
        ..Selection::default()
    };
    let first = round(&mut archive);
    archive.certify(first);
    let second = round(&mut archive);
    (archive, second)
}

/// Why a value with the sheets that `show` leaves cannot be built.
fn refusal(show: &dyn Fn(&mut Archive) -> Vec<EntryRef>) -> Option<String> {
    let (mut archive, selection) = judged();
    let sheets = show(&mut archive);
    let built = archive.try_build(Selection {
        sheets,
        ..selection
    });
    built.err().map(|why| why.to_string())
}

fn refused(show: &dyn Fn(&mut Archive) -> Vec<EntryRef>, words: &str) {
    let found = refusal(show).expect("it is refused");
    assert!(found.contains(words), "{words}: {found}");
}

/// With the seals of all but these.
fn without(archive: &Archive, sheet: ScoreSheet, unseen: &[usize]) -> ShownSheet {
    let evaluators = &archive.manifest.scoring.evaluators;
    let place = |who: &usize| evaluators.binary_search(&me(*who)).expect("an evaluator");
    let mask = unseen.iter().fold(0, |mask, who| mask | 1 << place(who));
    let seals = Panel::equal(evaluators.iter().copied()).all_seals() & !mask;
    ShownSheet { sheet, seals }
}

#[test]
fn a_sheet_that_its_author_did_not_seal_is_not_certified() {
    assert_eq!(
        refusal(&|a| [1, 2, 3].map(|who| a.judge(who)).to_vec()),
        None
    );
    let bare = |a: &mut Archive| {
        let shown = without(a, a.sheet(1), &[]);
        vec![a.say(1, Entry::ScoreSheet(shown))]
    };
    refused(&bare, "without its seal");
    let other = |a: &mut Archive| vec![a.show(1, &a.sheet(2), without(a, a.sheet(1), &[]))];
    refused(&other, "not what its author sealed");
    let copied = |a: &mut Archive| {
        a.say(1, Entry::SheetSeal(a.sheet(2).seal(&me(2))));
        let shown = without(a, a.sheet(2), &[]);
        vec![a.say(1, Entry::ScoreSheet(shown))]
    };
    refused(&copied, "not what its author sealed");
    // The first seal counts.
    let second = |a: &mut Archive| {
        a.say(1, Entry::SheetSeal(a.sheet(3).seal(&me(1))));
        vec![a.judge(1)]
    };
    refused(&second, "not what its author sealed");
}

#[test]
fn a_sheet_that_was_sealed_after_others_were_shown_is_not_certified() {
    let late = |a: &mut Archive| {
        let prompt = [1, 2].map(|who| a.show(who, &a.sheet(who), without(a, a.sheet(who), &[3])));
        [prompt.to_vec(), vec![a.judge(3)]].concat()
    };
    refused(&late, "sealed after others were shown");
    let beyond = |a: &mut Archive| {
        let mut shown = without(a, a.sheet(1), &[]);
        shown.seals += 1;
        vec![a.show(1, &a.sheet(1), shown)]
    };
    refused(&beyond, "does not judge");
}
