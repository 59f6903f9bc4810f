//! Replicas of a scope that is not a run converge by sync and fetch, whatever a liar says in between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::*;
use crate::event::{Effect, Verdict};
use crate::hash::{Domain, Hasher};
use crate::id::{Blob, BlobHash, BlobRef, BlockId, DatanetId};
use crate::log::Unverified;
use crate::test_utils::fixture::{NET, any_digest, key, peer, scope, signed};
use crate::time::Timestamp;

/// Authors that honest replicas hear of, more than one list of heads names at once.
const AUTHORS: u8 = 40;
/// The author that equivocates, forges and names blobs that it does not have.
const LIAR: u8 = 99;
/// An author that nobody admits.
const STRANGER: u8 = 77;
const SCOPE: Scope = Scope::Datanet(DatanetId(crate::hash::Digest::from_bytes([3; 32])));
const TICK_MS: u64 = 500;

/// The authors of a scope, as its owner lists them.
struct Members(BTreeSet<PeerId>);

impl Members {
    fn all() -> Self {
        Self((1..=AUTHORS).chain([LIAR]).map(peer).collect())
    }
}

impl Admission for Members {
    fn admits(&self, author: &PeerId) -> bool {
        self.0.contains(author)
    }

    fn opens(&self, _: &Block) -> bool {
        false
    }

    fn room(&self) -> Room {
        Room {
            blocks: 8,
            bytes: 1 << 20,
        }
    }

    fn spares(&self, _: &PeerId) -> bool {
        false
    }
}

/// One peer with its replica, its disk and a clock.
struct Holder {
    replica: Replica,
    members: Members,
    draws: Stream,
    disk: BTreeMap<BlobHash, Bytes>,
    now: Instant,
}

/// What replicas say to each other; an owner puts it into messages.
enum Said {
    Summary(Vec<RangeDigest>),
    Heads(Vec<HeadList>, bool),
    Blocks(Vec<Vec<u8>>),
}

impl Holder {
    fn new(seed: u8) -> Self {
        Self {
            replica: Replica::new(NET, SCOPE, peer(seed), Instant(0), TICK_MS),
            members: Members::all(),
            draws: Hasher::new(Domain::Simulation).finalize_xof(),
            disk: BTreeMap::new(),
            now: Instant(0),
        }
    }

    /// Publishes a text of one's own.
    fn publish(&mut self, key: &SecretKey, text: &str) -> BlobRef {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let blob = BlobRef::of(&bytes);
        self.disk.insert(blob.hash, bytes);
        let (now, entry) = (Now::default(), Entry::Publish(blob));
        let (members, draws) = (&self.members, &mut self.draws);
        let appended = self.replica.append(key, now, vec![entry], members, draws);
        assert!(appended.is_ok_and(|appended| appended.is_some()));
        blob
    }

    fn take(&mut self, bytes: &[u8]) -> Result<Taken, Rejection> {
        let block = Unverified::decode(bytes, NET)?;
        let taken = (self.replica).take(block, &self.members, &mut self.draws);
        self.replica.assert_invariants();
        taken
    }

    fn answer(&mut self, said: Said) -> Vec<Said> {
        match said {
            Said::Summary(theirs) => {
                let refined = self.replica.refine(&theirs);
                let finer = Some(refined.ranges).filter(|ranges| !ranges.is_empty());
                let lists = Some(refined.lists).filter(|lists| !lists.is_empty());
                let finer = finer.map(Said::Summary);
                finer
                    .into_iter()
                    .chain(lists.map(|l| Said::Heads(l, false)))
                    .collect()
            }
            Said::Heads(theirs, wants) => {
                let plan = self.replica.compare(&theirs);
                let blocks = Some(plan.blocks).filter(|blocks| !blocks.is_empty());
                let ask = (plan.behind && !wants).then_some(Said::Heads(plan.ask, true));
                blocks.map(Said::Blocks).into_iter().chain(ask).collect()
            }
            Said::Blocks(blocks) => {
                for block in blocks {
                    // One that cannot be used does not keep the others out.
                    drop(self.take(&block));
                }
                Vec::new()
            }
        }
    }

    /// Asks the others for every blob that is named and not here, until nothing is left to ask for.
    fn fetch(&mut self, others: &[(PeerId, &BTreeMap<BlobHash, Bytes>)]) {
        let neighbours: Vec<PeerId> = others.iter().map(|(peer, _)| *peer).collect();
        for _ in 0..12 {
            let lacking: Vec<(PeerId, BlobRef)> = named(&self.replica)
                .filter(|(_, blob)| !self.disk.contains_key(&blob.hash))
                .collect();
            let (now, blobs) = (self.now, &mut self.replica.blobs);
            let wanted = lacking.into_iter();
            let mut asked: Vec<Effect> = wanted
                .filter_map(|(author, blob)| blobs.want(now, blob, vec![author]))
                .collect();
            asked.extend(blobs.again(now, &neighbours));
            for effect in asked {
                self.carry_out(&effect, others);
            }
            self.now = self.now.after_ms(3 * TICK_MS);
        }
    }

    fn carry_out(&mut self, effect: &Effect, others: &[(PeerId, &BTreeMap<BlobHash, Bytes>)]) {
        let Effect::FetchBlob { blob, providers } = effect else {
            panic!("a replica asks for blobs only: {effect:?}");
        };
        let mut asked = others.iter().filter(|(peer, _)| providers.contains(peer));
        // The data plane takes only bytes of the right name, and then the next provider's.
        let given =
            asked.find_map(|(_, disk)| Blob::read(blob.hash, disk.get(&blob.hash)?.clone()));
        let Some(given) = given else {
            assert!(self.replica.blobs.failed(self.now, &blob.hash));
            return;
        };
        if self.replica.blobs.arrived(&given) {
            let kept = self
                .replica
                .blobs
                .keep(given.hash(), || given.bytes().clone());
            assert!(matches!(kept, Some(Effect::Persist(_))), "kept once");
            self.disk.insert(given.hash(), given.bytes().clone());
        }
    }
}

/// Blobs that entries which count name, with the author of each.
fn named(replica: &Replica) -> impl Iterator<Item = (PeerId, BlobRef)> {
    (replica.log().all()).filter_map(|(at, entry)| match entry {
        Entry::Publish(blob) => Some((at.author, *blob)),
        _ => None,
    })
}

/// Exchanges until neither has anything to say.
fn converse(one: &mut Holder, other: &mut Holder) {
    let mut queue = VecDeque::from([(false, Said::Summary(one.replica.summary()))]);
    let mut said = 0;
    while let Some((to_one, message)) = queue.pop_front() {
        said += 1;
        assert!(said < 1_000, "an exchange ends");
        let answers = match to_one {
            true => one.answer(message),
            false => other.answer(message),
        };
        queue.extend(answers.into_iter().map(|answer| (!to_one, answer)));
    }
}

fn block_of(author: u8, before: Option<&SignedBlock>, blob: BlobRef, time: u64) -> SignedBlock {
    let block = Block {
        network: NET,
        author: peer(author),
        scope: SCOPE,
        seq: before.map_or(Seq(0), |before| Seq(before.block().seq.0 + 1)),
        prev: before.map(SignedBlock::id),
        seen: Vec::new(),
        time: Timestamp(time),
        entries: vec![Entry::Publish(blob)],
    };
    SignedBlock::sign(block, &key(author)).expect("a valid block")
}

/// A block of another author with a bit of its signature flipped.
fn forged(author: u8) -> Vec<u8> {
    let mut bytes = block_of(author, None, BlobRef::of(b"forged"), 9)
        .bytes()
        .to_vec();
    *bytes.last_mut().expect("a signature") ^= 1;
    bytes
}

/// Two replicas that have heard different halves of what forty authors say.
fn two_halves() -> (Holder, Holder, BTreeSet<BlobRef>) {
    let (mut one, mut other) = (Holder::new(1), Holder::new(2));
    let mut published = BTreeSet::new();
    published.insert(one.publish(&key(1), "of the first"));
    published.insert(other.publish(&key(2), "of the second"));
    for author in 3..=AUTHORS {
        let text = format!("of author {author}").into_bytes();
        let blob = BlobRef::of(&text);
        let holder = if author % 2 == 0 {
            &mut one
        } else {
            &mut other
        };
        holder.disk.insert(blob.hash, text.into());
        let taken = holder.take(block_of(author, None, blob, 0).bytes());
        assert!(taken.is_ok_and(|taken| taken.verdict == Ok(Verdict::Accept)));
        published.insert(blob);
    }
    (one, other, published)
}

#[test]
fn replicas_of_a_scope_that_is_no_run_converge_although_a_liar_speaks_to_both() {
    let (mut one, mut other, published) = two_halves();
    let honest = *published.first().expect("something is published");
    // A name with another size than the blob has, one that nobody has, and two histories.
    let wrong_size = BlobRef {
        size: honest.size + 1,
        ..honest
    };
    let root = block_of(LIAR, None, wrong_size, 0);
    let nowhere = block_of(LIAR, Some(&root), BlobRef::of(b"nobody has this"), 1);
    let fork = block_of(LIAR, Some(&root), BlobRef::of(b"nor this"), 2);
    for (holder, said) in [(&mut one, [&root, &nowhere]), (&mut other, [&root, &fork])] {
        for block in said {
            let taken = holder.take(block.bytes()).expect("a signed block");
            assert_eq!(taken.verdict, Ok(Verdict::Accept), "an admitted author");
        }
        let refused = holder.take(&forged(7)).err();
        assert_eq!(refused, Some(Rejection::Signature));
        let stranger = block_of(STRANGER, None, BlobRef::of(b"uninvited"), 0);
        holder.take(stranger.bytes()).expect("a signed block");
    }

    converse(&mut one, &mut other);
    converse(&mut other, &mut one);

    assert_eq!(one.replica.summary(), other.replica.summary());
    for (holder, says) in [(&one, "the first"), (&other, "the second")] {
        let log = holder.replica.log();
        assert_eq!(log.heads().len(), usize::from(AUTHORS) + 1, "{says}");
        assert!(log.is_equivocator(peer(LIAR)), "{says} knows of the fork");
        let counted: Vec<_> = log.blocks(peer(LIAR)).map(SignedBlock::id).collect();
        assert_eq!(counted, [root.id()], "nothing counts from the fork on");
        assert!(log.is_stranger(peer(STRANGER)), "a stranger stays outside");
    }

    let (first, second) = (one.disk.clone(), other.disk.clone());
    let garbage: BTreeMap<BlobHash, Bytes> = (published.iter())
        .map(|blob| (blob.hash, Bytes::from_static(b"not what it is called")))
        .collect();
    one.fetch(&[(peer(LIAR), &garbage), (peer(2), &second)]);
    other.fetch(&[(peer(LIAR), &garbage), (peer(1), &first)]);
    for holder in [&one, &other] {
        let lacking = published.iter().filter(|blob| {
            let here = holder.disk.get(&blob.hash);
            here.is_none_or(|bytes| BlobRef::of(bytes) != **blob)
        });
        assert_eq!(lacking.count(), 0, "every honest blob is here");
    }
}

#[test]
fn a_replica_refuses_entries_and_blocks_of_other_scopes() {
    let mut holder = Holder::new(1);
    let taken = holder.take(signed(&key(3), None, 0).bytes());
    let verdict = taken.expect("a signed block").verdict;
    assert!(
        matches!(verdict, Err(Rejection::Contradiction(_))),
        "a run's"
    );
    let mut block = signed(&key(3), None, 0).block().clone();
    block.scope = SCOPE;
    assert!(matches!(block.check(), Err(Rejection::Contradiction(_))));
    let mut published = block_of(3, None, BlobRef::of(b"text"), 0).block().clone();
    assert_eq!(published.check(), Ok(()));
    published.scope = scope();
    assert!(matches!(
        published.check(),
        Err(Rejection::Contradiction(_))
    ));
    assert_eq!(holder.replica.log().heads(), []);
}

#[test]
fn a_log_that_forked_is_written_no_further_by_its_owner() {
    let mut holder = Holder::new(1);
    holder.publish(&key(1), "from this machine");
    let elsewhere = block_of(1, None, BlobRef::of(b"from a copy of the key"), 5);
    let taken = holder.take(elsewhere.bytes()).expect("a signed block");
    assert!(taken.is_forked);
    let entry = Entry::Publish(BlobRef::of(b"more"));
    let (members, draws) = (&holder.members, &mut holder.draws);
    let appended = (holder.replica).append(&key(1), Now::default(), vec![entry], members, draws);
    assert!(matches!(appended, Ok(None)));
}

#[test]
fn requests_for_blocks_by_name_go_out_once_a_second() {
    let mut holder = Holder::new(1);
    let wanted = vec![(peer(3), BlockId(any_digest(1)))];
    assert_eq!(holder.replica.ask(Instant(0), Vec::new()), None);
    let asked = holder
        .replica
        .ask(Instant(5), [wanted.clone(), wanted.clone()].concat());
    assert_eq!(asked, Some(wanted.clone()), "each once");
    assert_eq!(holder.replica.ask(Instant(1_004), wanted.clone()), None);
    assert_eq!(
        holder.replica.ask(Instant(1_005), wanted.clone()),
        Some(wanted)
    );
}

#[test]
fn a_blob_that_nobody_gives_is_asked_for_less_and_less_often_until_it_is_named_again() {
    let mut holder = Holder::new(1);
    let (blob, blobs) = (BlobRef::of(b"sealed"), &mut holder.replica.blobs);
    assert!(
        blobs
            .want(Instant(0), blob, vec![peer(1), peer(2)])
            .is_some()
    );
    let again = blobs.want(Instant(0), blob, vec![peer(2)]);
    assert!(again.is_none(), "it is on its way");
    let mut waits = Vec::new();
    for _ in 0..5 {
        assert!(blobs.failed(Instant(0), &blob.hash));
        waits.extend(blobs.next_due().map(|due| due.0));
    }
    assert_eq!(waits, [250, 500, 1_000, 1_500, 1_500]);
    assert!(
        blobs
            .wanted(&blob.hash)
            .is_some_and(PendingFetch::is_given_up)
    );
    assert!(blobs.again(Instant(1_499), &[peer(3)]).is_empty());
    let Some(Effect::FetchBlob { providers, .. }) = blobs.want(Instant(0), blob, vec![peer(3)])
    else {
        panic!("somebody new may have it");
    };
    assert_eq!(providers, [peer(2), peer(3)], "never this peer itself");
    assert!(
        !blobs
            .wanted(&blob.hash)
            .is_some_and(PendingFetch::has_failed)
    );
    let other_size = Blob::of(Bytes::from_static(b"sealed"));
    assert!(
        blobs.arrived(&other_size) && !blobs.arrived(&other_size),
        "once"
    );
}
