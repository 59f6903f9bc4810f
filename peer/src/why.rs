//! Whose data shaped one answer, recomputed from certified bytes.
//!
//! A home that holds a run's updates holds everything that a share of an answer follows from: the audit
//! gives each round's contribution vectors, a backward pass through the answer says which way they
//! pushed it ([`tributary_attribution::query`]). Nothing private is needed, so anyone who holds the
//! same bytes gets the same shares. Spans that stand in a contributor's text are shown beside its share and
//! never change it; `evidence` gathers them. Who asks, and how the outcome is shown, belongs to the callers.

mod cache;
mod layout;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tributary_attribution::lexical::{self, Boilerplate, Held};
use tributary_attribution::query::stretch::{self, Stretch};
use tributary_attribution::query::{METHOD, TokenLoss, store};
use tributary_ledger::Book;
use tributary_ledger::audit;
use tributary_ledger::{Archive, ArchivedRun};
use tributary_protocol::adapter::Adapter;
use tributary_protocol::fingerprint;
use tributary_protocol::hash::{self, Digest};
use tributary_protocol::id::{BlobHash, PeerId, RunId};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::state::Derived;
use tributary_trainer::{
    BaseModel, GenerateConfig, Windows, evaluate, generate, tokens_loss_and_gradient,
};

use crate::evidence::{self, Asking, Commitment, Said};
use crate::home::HomePaths;
use crate::model;
use crate::terminal::Failure;

pub use layout::{Asked, Evidence, Outcome, Share, Why};

/// Stretches that an answer is cut in for the intervals: each costs a backward pass for every stage.
const STRETCHES: usize = 8;
/// Stages that a run is looked at in. Retraining agrees better with more of them, and hardly better with more
/// than these (`docs/numbers/attribution.md`).
const STAGES: usize = 4;
/// Tokens of an answer: its losses are taken prefix by prefix, which grows with the square.
pub const MAX_ANSWER_TOKENS: usize = 512;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Adapter or run, in full or by the first digits; empty for the only one.
    pub id: String,
    /// The prompt.
    pub prompt: String,
    /// The answer; None lets the adapter give one, greedily.
    pub answer: Option<String>,
    /// Tokens of the adapter's own answer at most.
    pub max_tokens: usize,
}

/// A certified adapter, and what each contributor moved on the way to it.
pub struct Provenance {
    /// The run's manifest.
    pub manifest: Manifest,
    /// The certified adapter.
    pub adapter: Adapter,
    /// The run's stages, in order.
    pub stages: Vec<Stage>,
    /// Names that members gave themselves.
    pub names: BTreeMap<PeerId, String>,
    /// What contributors committed to before they trained.
    pub commitments: BTreeMap<PeerId, Commitment>,
}

/// Some consecutive rounds of a run.
pub struct Stage {
    /// The adapter half way through them.
    pub middle: Adapter,
    /// Sums of their contribution vectors.
    pub moved: store::Stage,
}

/// Collects the rounds of a run in stages.
struct Staging {
    /// Rounds of a stage.
    together: u32,
    /// The newest adapter.
    adapter: Option<Arc<Adapter>>,
    /// The adapter before the open stage, what was moved in it, and its rounds so far.
    open: Option<(Arc<Adapter>, store::Stage, u32)>,
    stages: Vec<Stage>,
}

impl Staging {
    fn new(rounds: u32) -> Self {
        Self {
            together: rounds.div_ceil(STAGES as u32).max(1),
            adapter: None,
            open: None,
            stages: Vec::new(),
        }
    }

    fn add(&mut self, derived: &Derived) -> Result<(), String> {
        if let Some(before) = self.adapter.replace(derived.adapter.clone())
            && !derived.contributions.is_empty()
        {
            let (_, moved, rounds) =
                (self.open).get_or_insert_with(|| (before, store::Stage::default(), 0));
            (moved.add(&derived.contributions)).map_err(|why| why.to_string())?;
            *rounds += 1;
            if *rounds == self.together {
                self.close()?;
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let (Some((before, moved, _)), Some(after)) = (self.open.take(), &self.adapter) else {
            return Ok(());
        };
        let ends = before.values().iter().zip(after.values());
        let values = ends.map(|(before, after)| before + (after - before) / 2.0);
        let middle = Adapter::new(after.shape().clone(), values.collect());
        let middle = middle.map_err(|why| why.to_string())?;
        self.stages.push(Stage { middle, moved });
        Ok(())
    }
}

impl Provenance {
    /// Recomputes every round of `run` from its updates, by the audit.
    ///
    /// # Errors
    /// When the run does not hold, or an update is not here: a share would then be missing.
    pub fn of(archive: &Archive, run: &ArchivedRun) -> Result<Self, Failure> {
        let broken = |why: String| {
            Failure::check(format!(
                "run {} cannot be recomputed: {why}",
                run.id.short()
            ))
            .hint("`tributary ledger verify` names what does not hold")
        };
        let certified = run.certificates.iter();
        let trained = certified.filter(|c| !c.value.included.is_empty()).count();
        let mut staging = Staging::new(trained as u32);
        let mut outcome = Ok(());
        let audited = audit::audited(archive, run, &mut |_, derived| {
            if let (Some(derived), Ok(())) = (derived, &outcome) {
                outcome = staging.add(derived);
            }
        })
        .map_err(|fault| broken(fault.to_string()))?;
        outcome.and_then(|()| staging.close()).map_err(broken)?;
        let trained = 1..=audited.manifest.rounds;
        let missing = (audited.unchecked.iter())
            .filter(|round| trained.contains(&round.0))
            .count();
        if missing > 0 {
            return Err(Failure::environment(format!(
                "the updates of {missing} rounds of run {} are not in this home, so nobody's part in them is known",
                run.id.short()
            ))
            .hint("ask on the home of a member; a peer that follows the run fetches them in the background"));
        }
        let adapter = audited.adapter;
        let adapter = adapter.ok_or_else(|| broken("its last adapter is missing".to_owned()))?;
        let book = Book {
            manifest: &audited.manifest,
            chain: &run.certificates,
            log: &run.log,
        };
        Ok(Self {
            names: book.names(),
            commitments: evidence::commitments(run),
            manifest: audited.manifest,
            adapter: Arc::unwrap_or_clone(adapter),
            stages: staging.stages,
        })
    }

    /// As [`Provenance::of`], from what an earlier question left in the home while the certificates are the
    /// same, and leaving it there otherwise.
    ///
    /// # Errors
    /// As [`Provenance::of`].
    pub fn kept(archive: &Archive, run: &ArchivedRun, home: &HomePaths) -> Result<Self, Failure> {
        let key = cache::key(run);
        if let Some(kept) = Self::from_cache(archive, run, home, &key) {
            return Ok(kept);
        }
        let found = Self::of(archive, run)?;
        if let Err(e) = cache::write(home, run.id, &key, &found.stages) {
            tracing::warn!(
                "what run {} moved is not kept for the next question: {e}; check the free space",
                run.id.short()
            );
        }
        Ok(found)
    }

    fn from_cache(
        archive: &Archive,
        run: &ArchivedRun,
        home: &HomePaths,
        key: &Digest,
    ) -> Option<Self> {
        let manifest = run.manifest.clone()?;
        let shape = Arc::new(manifest.adapter.clone());
        let stages = cache::read(home, run.id, key, &shape)?;
        let last = run.certificates.last()?.value.adapter.hash;
        let bytes = archive.blob(last).ok().flatten()?;
        let adapter = Adapter::from_bytes(shape, &bytes).ok()?;
        let book = Book {
            manifest: &manifest,
            chain: &run.certificates,
            log: &run.log,
        };
        let names = book.names();
        Some(Self {
            commitments: evidence::commitments(run),
            manifest,
            adapter,
            stages,
            names,
        })
    }

    /// The hash that the certificate names the adapter by.
    pub fn id(&self) -> BlobHash {
        BlobHash(hash::blob(&self.adapter.to_bytes()))
    }
}

/// Answers `question` from what a home holds.
///
/// # Errors
/// A [`Failure`] for people.
pub fn ask(archive: &Archive, home: &HomePaths, question: &Question) -> Result<Answered, Failure> {
    let run = pick(archive, &question.id)?;
    let provenance = Provenance::kept(archive, run, home)?;
    let base = model::provide(home, &provenance.manifest.base, None)?;
    Ok(Answered {
        why: why(&base, &provenance, question)?,
        started: Instant::now(),
        run: run.id,
        base,
        commitments: provenance.commitments,
    })
}

/// An answer whose shares are known, and whose contributors can be asked for evidence.
pub struct Answered {
    /// With what is known so far.
    pub why: Why,
    /// When the shares were done.
    started: Instant,
    run: RunId,
    base: BaseModel,
    commitments: BTreeMap<PeerId, Commitment>,
}

impl Answered {
    /// What to ask the contributors, in the order of their shares.
    pub fn asking(&self) -> Asking {
        let commitment = |share: &Share| {
            let peer = share.peer.parse().unwrap_or_default();
            (peer, self.commitments.get(&peer).copied())
        };
        Asking {
            run: self.run,
            words: (fingerprint::words(&self.why.answer).map(|(_, word)| word)).collect(),
            contributors: self.why.shares.iter().map(commitment).collect(),
        }
    }

    /// Takes down what they said, in the same order, and leaves boilerplate out.
    ///
    /// # Errors
    /// When the base model cannot be asked what it would have said.
    pub fn hear(&mut self, said: &[Said]) -> Result<(), Failure> {
        let places: Vec<(Range<usize>, String)> = fingerprint::words(&self.why.answer).collect();
        let words: Vec<String> = places.iter().map(|(_, word)| word.clone()).collect();
        let bytes = |span: &Range<usize>| places[span.start].0.start..places[span.end - 1].0.end;
        let held: Held = (said.iter())
            .filter_map(|said| match said {
                Said::Proven(spans) => Some(spans.clone()),
                _ => None,
            })
            .collect();
        let mut surprises = BTreeMap::new();
        let judged = lexical::sift(&words, &held, |span| {
            let nats = self.surprise(bytes(span))?;
            surprises.insert((span.start, span.end), nats);
            Ok::<f64, Failure>(nats)
        })?;
        let mut proven = held.iter().zip(judged);
        for (share, said) in self.why.shares.iter_mut().zip(said) {
            share.asked = Asked::of(said);
            let Said::Proven(_) = said else { continue };
            for (span, boilerplate) in proven.next().into_iter().flat_map(|(s, j)| s.iter().zip(j))
            {
                if let Some(why) = boilerplate {
                    share.asked.leave_out(why);
                    continue;
                }
                share.evidence.push(Evidence {
                    span: self.why.answer[bytes(span)].to_owned(),
                    kind: lexical::KIND.to_owned(),
                    words: span.len() as u32,
                    surprise_nats: surprises[&(span.start, span.end)],
                });
            }
        }
        self.why.evidence_ms = self.started.elapsed().as_secs_f64() * 1e3;
        Ok(())
    }

    /// Loss of the base over some bytes of the answer, after the prompt and what stands before them, nats.
    fn surprise(&self, bytes: Range<usize>) -> Result<f64, Failure> {
        let loss = |answer: &str| {
            let tokens = |text: &str| self.base.encode(text).map_err(|e| Failure::from_error(&e));
            let text = [tokens(&self.why.prompt)?, tokens(answer)?].concat();
            sum_of_losses(&self.base, None, &text)
        };
        let (before, upto) = (
            &self.why.answer[..bytes.start],
            &self.why.answer[..bytes.end],
        );
        Ok((loss(upto)? - loss(before)?).max(0.0))
    }
}

impl Asked {
    fn of(said: &Said) -> Self {
        let (outcome, why) = match said {
            Said::Proven(_) => (Outcome::Answered, String::new()),
            Said::Declined(why) => (Outcome::Declined, why.to_string()),
            Said::Silent(why) => (Outcome::Silent, why.clone()),
            Said::False(why) => (Outcome::FalseProof, why.clone()),
            Said::NotAsked(why) => (Outcome::NotAsked, (*why).to_owned()),
        };
        Self {
            outcome,
            why,
            boilerplate: 0,
        }
    }

    fn leave_out(&mut self, why: Boilerplate) {
        self.boilerplate += 1;
        let why = why.to_string();
        if !self.why.contains(&why) {
            let comma = if self.why.is_empty() { "" } else { ", " };
            self.why = format!("{}{comma}{why}", self.why);
        }
    }
}

/// The run whose id, or whose adapter's id, starts with `id`.
fn pick<'a>(archive: &'a Archive, id: &str) -> Result<&'a ArchivedRun, Failure> {
    let named = |run: &&ArchivedRun| {
        let adapter = run.certificates.last().map(|c| c.value.adapter.hash);
        let adapter = adapter.is_some_and(|hash| hash.to_string().starts_with(id));
        adapter || run.id.to_string().starts_with(id)
    };
    let found: Vec<&ArchivedRun> = archive.runs.iter().filter(named).collect();
    match found[..] {
        [run] => Ok(run),
        [] => Err(Failure::environment(format!(
            "no run or adapter of this home has an id that starts with {id:?}"
        ))
        .hint("`tributary adapter list` shows what is here; --home names another home")),
        _ => Err(Failure::environment(format!(
            "{} runs of this home have an id that starts with {id:?}",
            found.len()
        ))
        .hint("give more digits of one, with --adapter")),
    }
}

/// The id of the certified adapter that a PEFT folder holds.
///
/// # Errors
/// When the folder holds no adapter of `base`.
pub fn id_of_folder(folder: &Path, base: &BaseModel) -> Result<BlobHash, Failure> {
    let adapter = tributary_trainer::import_peft(folder, base).map_err(|e| {
        Failure::check(e.to_string())
            .during(&format!("cannot use the adapter {}", folder.display()))
    })?;
    Ok(BlobHash(hash::blob(&adapter.to_bytes())))
}

/// Who shaped an answer of `provenance`'s adapter.
///
/// # Errors
/// When the model cannot answer, or the answer has no tokens.
pub fn why(base: &BaseModel, provenance: &Provenance, question: &Question) -> Result<Why, Failure> {
    let adapter = &provenance.adapter;
    let (asked, said, answer) = answer_of(base, adapter, question)?;
    if said.is_empty() || said.len() > MAX_ANSWER_TOKENS {
        return Err(Failure::environment(format!(
            "the answer has {} tokens, and shares are of 1 to {MAX_ANSWER_TOKENS}",
            said.len()
        ))
        .hint("give another prompt, or an answer with --answer"));
    }
    let started = Instant::now();
    let losses = losses(base, adapter, &asked, &said)?;
    let stretches = stretches(base, provenance, &asked, &said, &losses)?;
    let stages = provenance.stages.iter().map(|stage| &stage.moved);
    let found = stretch::shares_of_stages(&stretches, &stages.collect::<Vec<_>>());
    let found = found.map_err(|e| Failure::from_error(&e))?;
    let mut shares: Vec<Share> = (found.shares.shares.iter().zip(&found.intervals))
        .map(|(share, [low, high])| Share {
            peer: share.peer.to_string(),
            name: (provenance.names.get(&share.peer).cloned()).unwrap_or_default(),
            datanet: provenance.manifest.datanet.clone(),
            share_ppb: share.share.0,
            low_ppb: low.0,
            high_ppb: high.0,
            influence_nanonats: share.influence.0,
            evidence: Vec::new(),
            asked: Asked::of(&Said::NotAsked("nobody was asked")),
        })
        .collect();
    shares.sort_by_key(|share| (std::cmp::Reverse(share.share_ppb), share.peer.clone()));
    let mean =
        |loss: fn(&TokenLoss) -> f64| losses.iter().map(loss).sum::<f64>() / losses.len() as f64;
    Ok(Why {
        schema: "why/1".to_owned(),
        run: provenance.manifest.run_id().to_string(),
        adapter: provenance.id().to_string(),
        prompt: question.prompt.clone(),
        answer,
        base_nats: mean(|loss| loss.base),
        adapter_nats: mean(|loss| loss.adapter),
        nobody_ppb: found.shares.nobody.0,
        shares,
        method: METHOD.to_owned(),
        cost_ms: started.elapsed().as_secs_f64() * 1e3,
        evidence_ms: 0.0,
    })
}

/// Tokens of the prompt and of the answer, and the answer's text.
fn answer_of(
    base: &BaseModel,
    adapter: &Adapter,
    question: &Question,
) -> Result<(Vec<u32>, Vec<u32>, String), Failure> {
    if let Some(answer) = &question.answer {
        let encode = |text: &str| base.encode(text).map_err(|e| Failure::from_error(&e));
        return Ok((encode(&question.prompt)?, encode(answer)?, answer.clone()));
    }
    let config = GenerateConfig {
        max_tokens: question.max_tokens,
        ..GenerateConfig::default()
    };
    let given = generate(base, Some(adapter), &question.prompt, &config)
        .map_err(|e| Failure::from_error(&e).during("cannot answer"))?;
    Ok((given.prompt_ids, given.token_ids, given.text))
}

/// Loss of each token of the answer with and without the adapter.
fn losses(
    base: &BaseModel,
    adapter: &Adapter,
    prompt: &[u32],
    answer: &[u32],
) -> Result<Vec<TokenLoss>, Failure> {
    let plain = token_losses(base, None, prompt, answer)?;
    let moved = token_losses(base, Some(adapter), prompt, answer)?;
    Ok((plain.into_iter().zip(moved))
        .map(|(base, adapter)| TokenLoss { base, adapter })
        .collect())
}

/// Loss of each token of an answer: what a text gets longer by when the token is added.
fn token_losses(
    base: &BaseModel,
    adapter: Option<&Adapter>,
    prompt: &[u32],
    answer: &[u32],
) -> Result<Vec<f64>, Failure> {
    let text = [prompt, answer].concat();
    let lengths = prompt.len()..=text.len();
    let sums = lengths.map(|length| sum_of_losses(base, adapter, &text[..length]));
    let sums: Vec<f64> = sums.collect::<Result<_, Failure>>()?;
    // Sums of f32 differ in their last bits; no token has a loss below zero.
    Ok(sums
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).max(0.0))
        .collect())
}

/// Loss of a text, nats: of all its tokens but the first, which nothing predicts.
fn sum_of_losses(
    base: &BaseModel,
    adapter: Option<&Adapter>,
    text: &[u32],
) -> Result<f64, Failure> {
    if text.len() < 2 {
        return Ok(0.0);
    }
    let windows = Windows::from_tokens(vec![text.to_vec()], text.len(), base.config().vocab)
        .map_err(|e| Failure::from_error(&e))?;
    let found = evaluate(base, adapter, &windows).map_err(|e| Failure::from_error(&e))?;
    Ok(found.nll * found.predicted as f64)
}

/// The answer in stretches, each with its gradient half way through every stage of the run: influences then
/// add up to what the run changed in the answer's loss, up to the midpoint rule's error. A gradient at the end
/// alone only says where a next step would lead.
fn stretches(
    base: &BaseModel,
    provenance: &Provenance,
    prompt: &[u32],
    answer: &[u32],
    losses: &[TokenLoss],
) -> Result<Vec<Stretch>, Failure> {
    let text = [prompt, answer].concat();
    // Without a prompt the first token has nothing before it: it belongs to the first stretch, whose
    // second token is predicted.
    let each = answer.len().div_ceil(STRETCHES).max(2);
    let mut out = Vec::new();
    for (index, tokens) in losses.chunks(each).enumerate() {
        let from = prompt.len() + index * each;
        let (before, said) = text[..from + tokens.len()].split_at(from);
        let gradient = |stage: &Stage| {
            let found = tokens_loss_and_gradient(base, &stage.middle, before, said)
                .map_err(|e| Failure::from_error(&e))?;
            let weight = found.predicted as f32;
            Ok(found.gradient.iter().map(|g| weight * g).collect())
        };
        let gradients = provenance.stages.iter().map(gradient);
        out.push(Stretch {
            gradients: gradients.collect::<Result<_, Failure>>()?,
            tokens: tokens.to_vec(),
        });
    }
    Ok(out)
}
