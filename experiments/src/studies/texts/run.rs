//! One run by the protocol's own rules, without a network: joins, openings and receipts are signed blocks in a ledger,
//! and every value passes the check that voters make before they sign.

use std::collections::BTreeMap;

use tributary_protocol::adapter::{AdapterShape, Module};
use tributary_protocol::beacon::Chain;
use tributary_protocol::entry::{Contribution, Entry, Join, Role};
use tributary_protocol::hash::{self, Digest, Domain};
use tributary_protocol::id::{
    BlobHash, BlobRef, BlockId, MerkleRoot, MicroOpen, NetworkId, PeerId, Ppb, Round, RunId, Scope,
    Seq,
};
use tributary_protocol::log::{Block, SignedBlock};
use tributary_protocol::logset::{Insert, LogSet};
use tributary_protocol::manifest::{
    Aggregation, Base, Deadlines, FactorSchedule, Manifest, Membership, Model, Payment, Privacy,
    RevenueSplit, RoundPlan, RoundSplit, Scoring, Training, UpdateCodec, Updates, Version, Weights,
};
use tributary_protocol::round::{EntryRef, Included, Opened, RoundValue};
use tributary_protocol::sign::SecretKey;
use tributary_protocol::sketch::Sketch;
use tributary_protocol::state::{self, Head, Opening, RoundSources};
use tributary_protocol::time::Timestamp;

/// Heights that are played, the genesis among them.
const HEIGHTS: u32 = 6;
/// Own tokens of full weight: what a member trains on in six rounds of the default training.
pub(super) const FULL: u64 = 61_440;
const NETWORK: NetworkId = NetworkId(1);

/// What one name does.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) key: SecretKey,
    /// What its join commits to.
    pub(super) commitment: Digest,
    /// What its join claims.
    pub(super) tokens: u64,
    /// What it opens.
    pub(super) sketch: Sketch,
    /// The height whose value admits it.
    pub(super) joins: u32,
    /// The height whose value carries its opening, if it opens anything.
    pub(super) opens: u32,
}

/// A run, height after height.
pub(super) struct TextRun {
    manifest: Manifest,
    run: RunId,
    log: LogSet,
    keys: BTreeMap<PeerId, SecretKey>,
    head: Option<Head>,
}

/// The same for every purpose and number.
pub(super) fn key(purpose: &str, nth: u64) -> SecretKey {
    let seed = [purpose.as_bytes(), &nth.to_le_bytes()].concat();
    SecretKey::from_seed(*hash::digest(Domain::Simulation, &seed).as_bytes())
}

/// The run of this number; its prints are its own.
pub(super) fn manifest(number: u64) -> Manifest {
    Manifest {
        version: Version::V1,
        name: "texts".into(),
        creator: key("creator", number).peer_id(),
        nonce: number,
        datanet: "texts".into(),
        training: Training {
            local_steps: 20,
            batch: 4,
            context: 128,
            learning_rate: Ppb(2_000_000),
            schedule: FactorSchedule::Both,
        },
        model: Model {
            base: Base {
                name: "brook".into(),
                hash: Digest::default(),
                files: None,
            },
            adapter: AdapterShape {
                rank: 1,
                alpha: 2,
                modules: vec![Module {
                    name: "q".into(),
                    inputs: 8,
                    outputs: 8,
                }],
            },
        },
        plan: RoundPlan {
            rounds: HEIGHTS,
            min_contributions: 2,
            participants: 64,
            deadlines: Deadlines {
                round_ms: 600_000,
                grace_ms: 30_000,
                propose_ms: 4_000,
                vote_ms: 2_000,
            },
        },
        updates: Updates {
            codec: UpdateCodec::DenseF32,
            aggregation: Aggregation::ClippedMean,
            weights: Weights::Own { full: FULL },
            privacy: Privacy::Open,
        },
        scoring: Scoring {
            seats: 0,
            evaluators: Vec::new(),
            windows: 16,
        },
        membership: Membership {
            committee: 64,
            min_members: 3,
        },
        payment: payment(),
    }
}

fn payment() -> Payment {
    Payment {
        budget_per_round: MicroOpen(1_000_000),
        price_per_nat: MicroOpen(50_000_000),
        round: RoundSplit::CONTRIBUTORS,
        revenue: RevenueSplit {
            contributors: Ppb(700_000_000),
            base_author: Ppb(50_000_000),
            server: Ppb(150_000_000),
            committee: Ppb(50_000_000),
            stakers: Ppb(50_000_000),
        },
        base_account: None,
        settlement: None,
    }
}

/// Plays the run of this number to its last height.
pub(super) fn play(number: u64, plans: &[Plan]) -> TextRun {
    let manifest = manifest(number);
    let run = manifest.run_id();
    let creator = key("creator", number);
    let keys = plans.iter().map(|plan| &plan.key).chain([&creator]);
    let mut stage = TextRun {
        log: LogSet::new(NETWORK, Scope::Run(run)),
        keys: keys.map(|key| (key.peer_id(), key.clone())).collect(),
        manifest: manifest.clone(),
        run,
        head: None,
    };
    stage.say(manifest.creator, Entry::Create(Box::new(manifest)));
    for height in 0..HEIGHTS {
        let joining = plans.iter().filter(|plan| plan.joins == height);
        let joins: Vec<EntryRef> = joining.map(|plan| stage.join(plan)).collect();
        let call = (height == 0).then(|| {
            let mut called = joins.clone();
            called.sort();
            stage.say(stage.manifest.creator, Entry::Call(called))
        });
        let opening = plans.iter().filter(|plan| plan.opens == height);
        let openings: Vec<EntryRef> = opening
            .map(|plan| stage.say(plan.key.peer_id(), Entry::Opening(plan.sketch.clone())))
            .collect();
        stage.certify(&joins, call, &openings);
    }
    stage
}

impl TextRun {
    /// Own tokens of a name; none of a name that is not a member.
    pub(super) fn own(&self, who: &SecretKey) -> u64 {
        let head = self.head.as_ref().expect("played");
        head.roster.get(&who.peer_id()).map_or(0, |m| m.own_tokens)
    }

    /// What its voice weighs in decisions.
    pub(super) fn votes(&self, who: &SecretKey) -> u64 {
        let head = self.head.as_ref().expect("played");
        let member = head.roster.get(&who.peer_id());
        member.map_or(0, |member| state::votes(&self.manifest, member))
    }

    /// The next block of a log.
    fn say(&mut self, author: PeerId, entry: Entry) -> EntryRef {
        let last = self.log.last(author).map(SignedBlock::head);
        let block = Block {
            network: NETWORK,
            author,
            scope: Scope::Run(self.run),
            seq: last.map_or(Seq(0), |last| Seq(last.seq.0 + 1)),
            prev: last.map(|last| last.block),
            seen: Vec::new(),
            time: Timestamp(1),
            entries: vec![entry],
        };
        let at = |block: BlockId, seq: Seq| EntryRef {
            author,
            seq,
            block,
            index: 0,
        };
        let signed = SignedBlock::sign(block, &self.keys[&author]).expect("within all bounds");
        let at = at(signed.id(), signed.block().seq);
        assert_eq!(self.log.insert(signed), Insert::New, "a linked log");
        at
    }

    fn join(&mut self, plan: &Plan) -> EntryRef {
        let peer = plan.key.peer_id();
        let join = Join {
            name: "name".into(),
            role: Role::Contributor,
            root: MerkleRoot(hash::digest(Domain::Simulation, peer.as_bytes())),
            tokens: plan.tokens,
            fingerprints: None,
            beacon: self.chain(&peer).commitment(),
            sketch: Some(plan.commitment),
            bind: None,
        };
        self.say(peer, Entry::Join(join))
    }

    fn chain(&self, peer: &PeerId) -> Chain {
        Chain::new(&self.keys[peer], &self.run, self.manifest.closing_round())
    }

    /// Receipts of as many members as a round needs, of those whose updates weigh anything.
    fn receipts(&mut self, opened: &[Opened]) -> Vec<Included> {
        let Some(head) = self.head.clone() else {
            return Vec::new();
        };
        let roster = head.roster.opened(opened).expect("openings of members");
        let (manifest, round) = (self.manifest.clone(), head.round.next());
        let tokens = state::round_tokens(&manifest);
        let weighed = head.participants.iter().filter_map(|peer| {
            let weight = state::weigh(&manifest, &roster, peer, tokens);
            (weight > 0).then_some((*peer, weight))
        });
        let least = manifest.plan.min_contributions as usize;
        let chosen: Vec<(PeerId, u64)> = weighed.take(least).collect();
        (chosen.into_iter())
            .map(|(peer, weight)| {
                let update = BlobRef {
                    hash: BlobHash(hash::digest(Domain::Simulation, peer.as_bytes())),
                    size: state::update_size(&manifest, round),
                };
                let receipt = Contribution {
                    round,
                    base: head.hash,
                    update,
                    tokens,
                    shard: roster.get(&peer).expect("a member").root,
                };
                Included {
                    receipt: self.say(peer, Entry::Contribution(receipt)),
                    update,
                    tokens,
                    weight,
                }
            })
            .collect()
    }

    /// The next value: everybody who asks is admitted, and what opens is opened.
    fn certify(&mut self, joins: &[EntryRef], call: Option<EntryRef>, openings: &[EntryRef]) {
        let asked: Vec<(EntryRef, &Join)> = (joins.iter())
            .filter_map(|at| match self.log.entry(at) {
                Some(Entry::Join(join)) => Some((*at, join)),
                _ => None,
            })
            .collect();
        let mut joins = state::admit(&self.manifest, &asked);
        joins.sort();
        let openings = state::open(
            &Opening {
                manifest: &self.manifest,
                head: self.head.as_ref(),
                joins: &joins,
                call,
                log: &self.log,
            },
            openings,
        );
        let included = self.receipts(&openings);
        let head = self.head.as_ref();
        let round = state::next_round(head);
        let proposer = state::committee(&self.manifest, &self.run, head).proposer(0);
        let size = 4 * self.manifest.model.adapter.parameters() as u64;
        let mut value = RoundValue {
            run: self.run,
            round,
            previous: head.map(|head| head.hash).unwrap_or_default(),
            adapter: BlobRef {
                hash: BlobHash::default(),
                size,
            },
            link: self.chain(&proposer).link(round),
            included,
            joins,
            call,
            openings,
            ..RoundValue::default()
        };
        self.check(round, &mut value);
    }

    fn check(&mut self, round: Round, value: &mut RoundValue) {
        let head = self.head.as_ref();
        state::conclude(&self.manifest, head, value).expect("a change of members");
        let sources = RoundSources {
            log: &self.log,
            before: None,
            blobs: &BTreeMap::new(),
            judged: None,
        };
        let checked = state::check(&self.manifest, head, value, &sources);
        assert_eq!(checked, Ok(()), "a valid value of height {}", round.0);
        let next = state::follow(&self.manifest, self.run, head, value);
        self.head = Some(next.expect("it was checked"));
    }
}
