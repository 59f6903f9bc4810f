//! Runs made by hand, block by block and certificate by certificate, for tests of this crate and of the peer.
//!
//! Only the feature `test-utils` compiles this module, and only dev-dependencies turn it on.

use std::collections::BTreeMap;

use std::sync::Arc;

use tributary_attribution::run_books::{Filer, RunBooks, test_terms};
use tributary_attribution::settlement::EvmKey;
use tributary_protocol::adapter::Adapter;
use tributary_protocol::beacon::Chain;
use tributary_protocol::certificate::Certificate;
use tributary_protocol::consensus::{Signed, Vote, VoteKind};
use tributary_protocol::entry::{Contribution, Entry, Join, Role, Score, ScoreSheet, ShownSheet};
use tributary_protocol::event::Record;
use tributary_protocol::hash::{Domain, Hasher, digest};
use tributary_protocol::id::{
    BlobHash, BlobRef, MerkleRoot, NanoNats, NetworkId, PeerId, Ppb, RunId, Scope, Seq,
};
use tributary_protocol::log::{Block, SignedBlock};
use tributary_protocol::logset::LogSet;
use tributary_protocol::manifest::{Manifest, RoundSplit, UpdateCodec};
use tributary_protocol::panel::Panel;
use tributary_protocol::round::{EntryRef, Included, Joined, RoundValue};
use tributary_protocol::sign::SecretKey;
use tributary_protocol::state::{self, Head, RoundSources, Selection};
use tributary_protocol::test_utils::net;
use tributary_protocol::time::Timestamp;
use tributary_protocol::update;

/// The network that everything here is for.
pub const NETWORK: NetworkId = NetworkId(1);
/// Names of the first members.
pub const NAMES: [&str; 4] = ["ada", "bea", "cyd", "dan"];
/// Members 1 to 3 score.
const EVALUATORS: [usize; 3] = [1, 2, 3];

/// The key of a member.
pub fn key(i: usize) -> SecretKey {
    SecretKey::from_seed(*digest(Domain::Simulation, &[i as u8]).as_bytes())
}

fn chain(manifest: &Manifest, i: usize) -> Chain {
    Chain::new(&key(i), &manifest.run_id(), manifest.closing_round())
}

/// Who a member is.
pub fn id(i: usize) -> PeerId {
    key(i).peer_id()
}

/// What a member commits its shard to.
pub fn root(i: usize) -> MerkleRoot {
    MerkleRoot(digest(Domain::Simulation, &[100 + i as u8]))
}

fn manifest(members: usize, rounds: u32) -> Manifest {
    let mut evaluators = EVALUATORS.map(id).to_vec();
    evaluators.sort_unstable();
    let mut manifest = net::manifest(id(0), evaluators, members as u32, rounds);
    manifest.name = "walked".into();
    manifest.nonce = 5;
    manifest.model.adapter = net::shape(2, &["q"], (40, 24));
    manifest.training.learning_rate = Ppb(1_000_000);
    manifest.updates.codec = UpdateCodec::Sparse {
        top: 1024,
        feedback: Ppb(950_000_000),
    };
    manifest.membership.committee = members as u32;
    manifest.payment.round = RoundSplit::CONTRIBUTORS;
    manifest.payment.settlement = Some(test_terms(account(0).address(), &manifest));
    manifest
}

/// The key of the account that a member is paid at.
pub fn account(i: usize) -> EvmKey {
    EvmKey::of_peer(&key(i))
}

/// A run in the making, and the blobs that its home keeps.
pub struct RunBuilder {
    keys: Vec<SecretKey>,
    ids: Vec<PeerId>,
    /// What the run agreed on.
    pub manifest: Manifest,
    /// The records of the home, in the order in which it stored them.
    pub records: Vec<Record>,
    /// Every blob that there was.
    pub blobs: BTreeMap<BlobHash, Vec<u8>>,
    /// The blobs that the home keeps.
    pub kept: BTreeMap<BlobHash, Vec<u8>>,
    /// All blocks.
    pub log: LogSet,
    /// The state after each certificate.
    pub heads: Vec<Head>,
    /// What the last certificate made of the adapter.
    pub adapter: Option<Arc<Adapter>>,
    /// What was certified last.
    pub last: Option<RoundValue>,
}

impl RunBuilder {
    /// Everybody has joined, the genesis is certified.
    pub fn opened(members: usize, rounds: u32) -> Self {
        let manifest = manifest(members, rounds);
        let run = manifest.run_id();
        let mut builder = Self {
            keys: (0..members).map(key).collect(),
            ids: (0..members).map(id).collect(),
            log: LogSet::new(NETWORK, Scope::Run(run)),
            manifest: manifest.clone(),
            records: vec![],
            blobs: BTreeMap::new(),
            kept: BTreeMap::new(),
            heads: vec![],
            adapter: None,
            last: None,
        };
        builder.say(0, Entry::Create(Box::new(manifest.clone())));
        let filings = builder.deposit();
        let joins = (0..members).map(|who| {
            let role = match EVALUATORS.contains(&who) {
                true => Role::Both,
                false => Role::Contributor,
            };
            let join = Join {
                name: NAMES
                    .get(who)
                    .map_or_else(|| format!("member {who}"), |name| (*name).into()),
                role,
                root: root(who),
                tokens: 1_000,
                fingerprints: None,
                beacon: chain(&builder.manifest, who).commitment(),
                sketch: None,
                bind: None,
            };
            Joined {
                role,
                root: join.root,
                tokens: join.tokens,
                own_tokens: join.tokens,
                beacon: join.beacon,
                entry: builder.say(who, Entry::Join(join)),
            }
        });
        let joins = joins.collect();
        builder.certify(Selection {
            joins,
            filings,
            ..Selection::default()
        });
        builder
    }

    /// The creator says where it is paid, and deposits the budgets of all rounds.
    fn deposit(&mut self) -> Vec<EntryRef> {
        let (peer, key) = (id(0), &account(0));
        let books = RunBooks::new(&self.manifest);
        let filings = books.duties(&self.manifest, Filer::new(peer, key), &[]);
        filings
            .into_iter()
            .map(|filing| self.say(0, filing))
            .collect()
    }

    /// The home, as it is opened for a check.
    pub fn archive(&self) -> crate::Archive {
        crate::Archive::of(NETWORK, &self.records, self.kept.clone())
    }

    /// Which member has this id.
    fn who(&self, peer: &PeerId) -> usize {
        let at = self.ids.iter().position(|id| id == peer);
        at.expect("a member")
    }

    /// Which run it is.
    pub fn run(&self) -> RunId {
        self.manifest.run_id()
    }

    /// A block of one entry, behind the member's last.
    pub fn say(&mut self, who: usize, entry: Entry) -> EntryRef {
        let last = self.log.last(id(who)).map(SignedBlock::head);
        let block = Block {
            network: NETWORK,
            author: id(who),
            scope: Scope::Run(self.run()),
            seq: last.map_or(Seq(0), |head| Seq(head.seq.0 + 1)),
            prev: last.map(|head| head.block),
            seen: vec![],
            time: Timestamp(1),
            entries: vec![entry],
        };
        let signed = SignedBlock::sign(block, &self.keys[who]).expect("a good block");
        self.records.push(Record::Block(signed.bytes().into()));
        let head = signed.head();
        self.log.insert(signed);
        EntryRef {
            author: id(who),
            seq: head.seq,
            block: head.block,
            index: 0,
        }
    }

    /// Certifies what follows from a choice, under the names of the whole committee.
    pub fn certify(&mut self, mut selection: Selection) {
        let (run, head) = (self.run(), self.heads.last());
        let proposer = state::committee(&self.manifest, &run, head).proposer(selection.attempt);
        let proposer = self.who(&proposer);
        let chain = chain(&self.manifest, proposer);
        selection.link = chain.link(state::next_round(head));
        let blobs = (self.blobs.iter()).map(|(hash, bytes)| (*hash, bytes.clone().into()));
        let sources = RoundSources {
            log: &self.log,
            before: self.adapter.as_ref(),
            blobs: &blobs.collect(),
            judged: self.last.as_ref(),
        };
        let built = state::build(
            &Arc::new(self.manifest.clone()),
            run,
            head,
            selection,
            &sources,
        );
        let (value, derived) = built.expect("a good choice");
        let precommits = state::committee(&self.manifest, &run, head);
        let precommits = precommits.members().iter().map(|author| {
            let body = Vote {
                run,
                round: value.round,
                attempt: 0,
                kind: VoteKind::Precommit,
                value: Some(value.id()),
                author: *author,
            };
            let who = self.who(author);
            (
                *author,
                Signed::vote(body, NETWORK, &self.keys[who]).signature,
            )
        });
        let certificate = Certificate {
            value: value.clone(),
            attempt: 0,
            precommits: precommits.collect(),
        };
        self.records.push(Record::Certificate {
            run,
            round: value.round,
            bytes: certificate.encode(),
        });
        let after = state::follow(&self.manifest, run, head, &value).expect("a good value");
        self.heads.push(after);
        // A home keeps the adapter that its run ends with.
        if value.round == self.manifest.closing_round() {
            for kept in [&mut self.blobs, &mut self.kept] {
                kept.insert(value.adapter.hash, derived.adapter.to_bytes());
            }
        }
        self.adapter = Some(derived.adapter);
        self.last = Some(value);
    }

    /// A receipt for the next round, with its update on the disk.
    pub fn contribute(&mut self, who: usize) -> Included {
        let head = self.heads.last().expect("after the genesis");
        let (round, base) = (head.round.next(), head.hash);
        let len = state::update_len(&self.manifest, round);
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher
            .update(&(who as u32).to_le_bytes())
            .update(&round.0.to_le_bytes());
        let mut draws = hasher.finalize_xof();
        let update: Vec<f32> = (0..len)
            .map(|_| (draws.next_u64() % 2001) as f32 / 1000.0 - 1.0)
            .collect();
        let bytes = update::encode(&update, self.manifest.updates.codec).expect("in range");
        let update = BlobRef::of(&bytes);
        self.kept.insert(update.hash, bytes.clone());
        self.blobs.insert(update.hash, bytes);
        // At most what the local steps read.
        let tokens = 10 + (who % 20) as u64;
        let contribution = Contribution {
            round,
            base,
            update,
            tokens,
            shard: root(who),
        };
        Included {
            receipt: self.say(who, Entry::Contribution(contribution)),
            update,
            tokens,
            weight: tokens,
        }
    }

    /// An evaluator's sheet: it gives `100 * place + 50`, as all do, since nobody's sheet counts for itself.
    pub fn judge(&mut self, who: usize) -> EntryRef {
        let judged = self.last.as_ref().expect("a round");
        let line = |(at, included): (usize, &Included)| {
            let score = NanoNats(100 * at as i64 + 50);
            Score {
                peer: included.receipt.author,
                score,
                low: NanoNats(score.0 - 50),
                high: NanoNats(score.0 + 50),
                luck: NanoNats(30),
            }
        };
        let sheet = ScoreSheet {
            round: judged.round,
            state: judged.state,
            predicted: 100,
            loss_before: NanoNats(4_000_000_000),
            loss_after: NanoNats(3_900_000_000),
            scores: judged.included.iter().enumerate().map(line).collect(),
        };
        self.say(who, Entry::SheetSeal(sheet.seal(&id(who))));
        let evaluators = self.manifest.scoring.evaluators.iter().copied();
        let seals = Panel::equal(evaluators).all_seals();
        self.say(who, Entry::ScoreSheet(ShownSheet { sheet, seals }))
    }

    /// A round of these contributors with the sheets of these evaluators about the round before.
    pub fn round(&mut self, contributors: &[usize], evaluators: &[usize]) -> Vec<Included> {
        let sheets = evaluators.iter().map(|who| self.judge(*who)).collect();
        let included: Vec<Included> = contributors
            .iter()
            .map(|who| self.contribute(*who))
            .collect();
        self.certify(Selection {
            included: included.clone(),
            sheets,
            ..Selection::default()
        });
        included
    }
}

/// Rounds 1 to 3 and the closing height of four members; round 2 is judged by one evaluator of three, and dan's
/// receipt for it is left out.
pub fn finished() -> (RunBuilder, Vec<Included>, Included) {
    let mut builder = RunBuilder::opened(4, 3);
    let first = builder.round(&[0, 1, 2, 3], &[]);
    let late = builder.contribute(3);
    builder.round(&[0, 1, 2], &[1, 2, 3]);
    builder.round(&[0, 1, 2, 3], &[2]);
    let sheets = [1, 2].map(|who| builder.judge(who)).into();
    builder.certify(Selection {
        sheets,
        ..Selection::default()
    });
    (builder, first, late)
}
