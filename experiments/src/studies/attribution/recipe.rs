//! The federated recipe that every coalition is trained with, and what is measured of the outcome.

use std::sync::Arc;

use tributary_attribution::Coalition;
use tributary_protocol::adapter::Adapter;
use tributary_protocol::hash::{self, Digest, Domain, Hasher};
use tributary_protocol::id::{Ppb, StateHash};
use tributary_protocol::manifest::{Aggregation, FactorSchedule, Training, UpdateCodec};
use tributary_trainer::{BaseModel, Windows, evaluate};

use super::federations::{FEDERATIONS, FederationSpec};
use super::{AttributionError, Losses, MEMBERS, QUERIES};
use tributary_simulations::federation::{Closed, Federation, Outer, Terms, Weight};
use tributary_simulations::learner::Learner as _;

use crate::learner::{Corpus, Language};
use crate::study::Ground;

/// Rounds; even.
pub(super) const ROUNDS: u32 = 12;
/// Local steps of a round.
pub(super) const STEPS: u32 = 8;
/// Windows of a step.
pub(super) const BATCH: u32 = 2;
/// Tokens of a window.
pub(super) const CONTEXT: usize = 32;
/// LoRA rank.
pub(super) const RANK: u32 = 4;
/// Local learning rate.
pub(super) const RATE: f64 = 1e-2;
/// Hold-out windows of each domain: these for losses and scores, in turns, and as many again for queries.
const HOLD_OUT: usize = 48;
/// How updates travel: the default of a run, denser, because the whole adapter is one chunk or two.
const CODEC: UpdateCodec = UpdateCodec::Sparse {
    top: 256,
    feedback: Ppb(950_000_000),
};

/// Base model and text, shared by all federations.
pub(super) struct Setup {
    base: BaseModel,
    corpus: Corpus,
    queries: Vec<Windows>,
    members: usize,
    /// Of another ground than the study's own.
    mark: String,
}

impl Setup {
    /// The one that the built-in bank was made with.
    pub(super) fn own() -> Result<Self, AttributionError> {
        Self::new(&Ground::default(), MEMBERS)
    }

    pub(super) fn new(ground: &Ground, members: usize) -> Result<Self, AttributionError> {
        // Of few texts each is asked about more often.
        let held = match ground.is_own() {
            true => HOLD_OUT,
            false => HOLD_OUT.max(QUERIES),
        };
        let (base, mut corpus) = ground.prepared::<AttributionError>(CONTEXT, 2 * held)?;
        Ground::check_held(&corpus, 2 * QUERIES.div_ceil(corpus.domains.len()))?;
        let vocab = base.config().vocab;
        let cut = |windows: &[Vec<u32>]| {
            Windows::from_tokens(windows.to_vec(), CONTEXT, vocab).expect("they are windows")
        };
        let mut asked = Vec::new();
        for domain in &mut corpus.domains {
            let all: Vec<Vec<u32>> = domain.hold_out.iter().map(<[u32]>::to_vec).collect();
            let (kept, rest) = all.split_at(all.len() / 2);
            domain.hold_out = cut(kept);
            asked.push(rest.to_vec());
        }
        // Domain after domain, so that each is asked about equally often.
        let domains = asked.len();
        let queries = (0..QUERIES).map(|at| cut(&asked[at % domains][at / domains..][..1]));
        Ok(Self {
            queries: queries.collect(),
            base,
            corpus,
            members,
            mark: ground.mark(),
        })
    }

    /// Of everything that a bank's losses follow from, but for the code.
    pub(super) fn fingerprint(&self) -> Digest {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"coalition bank 1");
        hasher.update(self.base.hash().as_bytes());
        let names = FEDERATIONS.iter().map(|federation| federation.name);
        let names: Vec<&str> = names.collect();
        let recipe =
            format!("{names:?} {ROUNDS} {STEPS} {BATCH} {CONTEXT} {RANK} {RATE} {CODEC:?}");
        hasher.update(recipe.as_bytes());
        if !self.mark.is_empty() {
            hasher.update(self.mark.as_bytes());
            for token in self.queries.iter().flat_map(Windows::iter).flatten() {
                hasher.update(&token.to_le_bytes());
            }
        }
        hasher.finalize()
    }

    /// A federation with a seed, ready to be trained.
    pub(super) fn stage(&self, federation: &FederationSpec, seed: u64) -> Stage {
        let nth = FEDERATIONS
            .iter()
            .position(|other| other.name == federation.name);
        let vocab = self.base.config().vocab;
        let held = federation.deal(&self.corpus, self.members, vocab, nth.unwrap_or(0) as u64);
        let hold_outs: Vec<Windows> = (self.corpus.domains.iter())
            .map(|domain| domain.hold_out.clone())
            .collect();
        let shape = Arc::new(self.base.adapter_shape(RANK, 2 * RANK));
        Stage {
            learner: Language::new(self.base.clone(), shape, seed, held.clone(), &hold_outs),
            held,
            queries: self.queries.clone(),
            seed,
        }
    }
}

/// One federation with one seed, ready to be trained.
pub(super) struct Stage {
    pub(super) learner: Language,
    pub(super) held: Vec<Windows>,
    pub(super) queries: Vec<Windows>,
    seed: u64,
}

/// A training of some members.
pub(super) struct Played {
    pub(super) first: Adapter,
    pub(super) adapter: Adapter,
    pub(super) rounds: Vec<Closed>,
}

impl Stage {
    pub(super) fn base(&self) -> &BaseModel {
        self.learner.base()
    }

    /// Trains a coalition. A member visits its windows in an order that depends on the round alone, so that
    /// coalitions differ by their members and by nothing else.
    pub(super) fn play(&self, coalition: Coalition) -> Played {
        let terms = Terms {
            training: Training {
                local_steps: STEPS,
                batch: BATCH,
                context: CONTEXT as u32,
                learning_rate: Ppb((RATE * 1e9).round() as u32),
                schedule: FactorSchedule::Alternate,
            },
            codec: CODEC,
            rule: Arc::new(Aggregation::ClippedMean),
            outer: Outer::Plain,
            weight: Weight::Tokens,
        };
        let shape = self.learner.shape().clone();
        let mut federation = Federation::new(shape, self.seed, self.held.len(), terms);
        let first = federation.adapter().clone();
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            let mut sent = Vec::new();
            for member in coalition.members() {
                let mut task = federation.task(STEPS);
                let mut hasher = Hasher::new(Domain::Simulation);
                hasher.update(&round.to_le_bytes());
                task.base = StateHash(hasher.finalize());
                let trained = self.learner.train(member, &task);
                sent.extend(federation.publish(member, &trained));
            }
            rounds.push(federation.close(&sent));
        }
        Played {
            first,
            adapter: federation.adapter().clone(),
            rounds,
        }
    }

    /// A round's hold-out windows, drawn by the adapter it started from.
    pub(super) fn drawn(&self, closed: &Closed, windows: usize) -> Windows {
        let before = closed.before.to_bytes();
        let seed = hash::digest(Domain::Simulation, &before);
        self.learner.scored().sample(seed.as_bytes(), windows)
    }

    pub(super) fn losses(&self, adapter: &Adapter) -> Losses {
        let query = |windows| {
            evaluate(self.base(), Some(adapter), windows).map_or(f64::NAN, |e| e.nll) as f32
        };
        Losses {
            hold_out: self.learner.loss(adapter.values()) as f32,
            queries: self.queries.iter().map(query).collect(),
        }
    }
}

impl Played {
    /// Contribution vectors of each member, round after round, flat.
    pub(super) fn of(&self, member: usize) -> impl Iterator<Item = &[f32]> {
        let peer = tributary_simulations::federation::peer(member);
        (self.rounds.iter()).flat_map(move |closed| {
            let found = closed.contributions.iter().find(|(p, _)| *p == peer);
            found.map(|(_, vector)| &vector[..])
        })
    }

    /// Their sum.
    pub(super) fn moved(&self, member: usize) -> Vec<f32> {
        let mut sum = vec![0.0; self.adapter.values().len()];
        for vector in self.of(member) {
            sum.iter_mut().zip(vector).for_each(|(s, v)| *s += v);
        }
        sum
    }
}
