//! Base model, text and questions, shared by all cells.

use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;
use tributary_protocol::hash::{Domain, Hasher};
use tributary_trainer::data::{Document, Packing};
use tributary_trainer::{BaseModel, Windows};

use super::{GamingError, QUERIES, RANK};
use crate::learner::{Corpus, Holding, Language, Mix};
use crate::study::Ground;
use tributary_simulations::behave::update::Attack;

/// Tokens of a window.
pub(super) const CONTEXT: usize = 32;
/// Hold-out windows of each domain; every second one is scored on.
const HOLD_OUT: usize = 48;
/// How the other domains are dealt out.
const MIX: Mix = Mix::Dirichlet { concentration: 0.5 };
/// Tokens of a run that has a fingerprint.
const RUN: usize = 8;

/// Base model and text, shared by all cells.
pub(super) struct Setup {
    base: BaseModel,
    corpus: Corpus,
    members: usize,
}

impl Setup {
    pub(super) fn new(ground: &Ground, members: usize) -> Result<Self, GamingError> {
        let (base, corpus) = ground.prepared::<GamingError>(CONTEXT, HOLD_OUT)?;
        // Half of what is held out is asked about.
        Ground::check_held(&corpus, 2 * QUERIES.div_ceil(corpus.domains.len()))?;
        Ok(Self {
            corpus,
            base,
            members,
        })
    }

    /// All members, of whom the last one cheats.
    pub(super) fn members(&self) -> usize {
        self.members
    }

    /// The honest ones: they come first.
    pub(super) fn honest(&self) -> usize {
        self.members - 1
    }

    /// A quick one for tests: a tiny model that has hardly learnt anything.
    #[cfg(test)]
    pub(super) fn quick(members: usize) -> Self {
        let base = crate::learner::tiny_model(tributary_trainer::brook::HELD_OUT_SAMPLE, 20)
            .expect("a tiny model");
        let corpus = Corpus::new(&base, CONTEXT, HOLD_OUT).expect("a corpus");
        Self {
            corpus: corpus.retain(|name| name == "opticks" || name == "atlas"),
            base,
            members,
        }
    }

    pub(super) fn base(&self) -> &BaseModel {
        &self.base
    }

    pub(super) fn deal(&self, members: usize, count: usize, seed: u64) -> Vec<Holding> {
        self.corpus.deal(MIX, members, count, seed)
    }

    pub(super) fn learner(&self, shares: Vec<Windows>, seed: u64) -> Language {
        let hold_outs: Vec<Windows> = (self.corpus.domains.iter())
            .map(|domain| domain.hold_out.clone())
            .collect();
        let shape = self.base.adapter_shape(RANK, 2 * RANK).into();
        Language::new(self.base.clone(), shape, seed, shares, &hold_outs)
    }

    pub(super) fn windows(&self, tokens: Vec<Vec<u32>>) -> Windows {
        let vocab = self.base.config().vocab;
        Windows::from_tokens(tokens, CONTEXT, vocab).expect("windows of a text")
    }

    pub(super) fn poisoned(&self, attack: Attack, windows: &Windows) -> Windows {
        let tokens = windows.iter().map(<[u32]>::to_vec).collect();
        let poisoned = attack.data(tokens, self.base.config().vocab);
        let learned = poisoned.learned.unwrap_or_else(|| vec![true; CONTEXT]);
        let document = |tokens: Vec<u32>| Document {
            learned: Some(learned[..tokens.len()].to_vec()),
            tokens,
        };
        let documents = poisoned.windows.into_iter().map(document).collect();
        let packed = Windows::pack(documents, CONTEXT, Packing::Apart);
        packed.expect("poisoned windows are windows").0
    }

    /// So many windows that nobody scores on, each of a domain drawn like the evaluators' ones.
    pub(super) fn pages(&self, count: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<u32>> {
        (0..count)
            .map(|_| {
                let domain = self.corpus.domains.choose(rng).expect("a domain");
                domain.training.choose(rng).expect("a page").clone()
            })
            .collect()
    }

    /// What rounds are scored on.
    pub(super) fn scored_windows(&self) -> Vec<Vec<u32>> {
        let halves = self
            .corpus
            .domains
            .iter()
            .map(|d| d.hold_out.clone().hold_out(2));
        halves
            .flat_map(|(_, scored)| scored.iter().map(<[u32]>::to_vec).collect::<Vec<_>>())
            .collect()
    }

    /// Held-out windows that are not scored on, one a domain in turns.
    pub(super) fn queries(&self) -> Vec<Vec<u32>> {
        (0..QUERIES)
            .map(|at| {
                let domain = &self.corpus.domains[at % self.corpus.domains.len()];
                let (reported, _) = domain.hold_out.clone().hold_out(2);
                let nth = reported.iter().nth(at / self.corpus.domains.len());
                nth.expect("a held-out window").to_vec()
            })
            .collect()
    }
}

/// Fingerprints of the runs of a shard's tokens.
pub(super) fn prints(windows: &Windows) -> Vec<u64> {
    let runs = windows.iter().flat_map(|window| window.windows(RUN));
    runs.map(|run| {
        let mut hasher = Hasher::new(Domain::Simulation);
        for token in run {
            hasher.update(&token.to_le_bytes());
        }
        hasher.finalize_xof().next_u64()
    })
    .collect()
}
