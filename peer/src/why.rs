//! Whose data shaped one answer, recomputed from certified bytes.
//!
//! A home that holds a run's updates holds everything that a share of an answer follows from: the audit
//! gives each round's contribution vectors, a backward pass through the answer says which way they
//! pushed it ([`tributary_attribution::query`]). Nothing private is needed, so anyone who holds the
//! same bytes gets the same shares. Spans that stand in a contributor's text are shown beside its share and
//! never change it; `evidence` gathers them. Who asks, and how the outcome is shown, belongs to the callers.

mod cache;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tributary_attribution::lexical::{self, Held};
use tributary_attribution::query::answer::{self, AnswerModel};
use tributary_attribution::query::layout;
use tributary_attribution::query::staging::{Stage, Staging};
use tributary_attribution::query::{METHOD, QueryError};
use tributary_ledger::audit;
use tributary_ledger::{Archive, ArchivedRun, RunAccount};
use tributary_protocol::adapter::Adapter;
use tributary_protocol::fingerprint;
use tributary_protocol::hash::{self, Digest};
use tributary_protocol::id::{BlobHash, PeerId, RunId};
use tributary_protocol::manifest::Manifest;
use tributary_trainer::{
    BaseModel, GenerateConfig, GradientError, TokenizerError, generate, stretch_gradients,
    token_losses,
};

use crate::evidence::{self, Commitment, Inquiry, Reply};
use crate::home::HomePaths;
use crate::model;
use crate::problem::{Code, Problem};
use crate::terminal::Failure;

pub use tributary_attribution::query::layout::{Asked, Outcome, ProvenSpan, Share, Why};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Question {
    /// Adapter or run, in full or by the first digits; empty for the only one.
    pub id: String,
    /// The prompt.
    pub prompt: String,
    /// The answer; None lets the adapter give one, greedily.
    pub answer: Option<String>,
    /// Tokens of the adapter's own answer at most.
    pub max_tokens: usize,
    /// Exact tokens in place of both texts. No contributor is asked for evidence then, so nobody is shown the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
}

/// An answer as a model gave it, which its text need not say: other tokens may spell the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tokens {
    /// Ids of the prompt's tokens.
    pub prompt: Vec<u32>,
    /// Ids of the answer's tokens, a closing end token included.
    pub answer: Vec<u32>,
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
                outcome = match derived.result.open() {
                    Some(contributions) => staging.add(&derived.adapter, contributions),
                    None => Err(QueryError::Masked),
                };
            }
        })
        .map_err(|fault| broken(fault.to_string()))?;
        let stages = outcome.and_then(|()| staging.finish());
        let stages = stages.map_err(|why| broken(why.to_string()))?;
        let trained = 1..=audited.manifest.plan.rounds;
        let missing = (audited.unchecked.iter())
            .filter(|round| trained.contains(&round.0))
            .count();
        if missing > 0 {
            let text = format!(
                "the updates of {missing} rounds of run {} are not in this home, so nobody's part in them is known",
                run.id.short()
            );
            return Err(Problem::new(Code::NoUpdates, text)
                .hint("ask on the home of a member; a peer that follows the run fetches them in the background")
                .into());
        }
        let adapter = audited.adapter;
        let adapter = adapter.ok_or_else(|| broken("its last adapter is missing".to_owned()))?;
        let account = RunAccount {
            manifest: &audited.manifest,
            chain: &run.certificates,
            log: &run.log,
        };
        Ok(Self {
            names: account.names(),
            commitments: evidence::commitments(run),
            manifest: audited.manifest,
            adapter: Arc::unwrap_or_clone(adapter),
            stages,
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
        let shape = Arc::new(manifest.model.adapter.clone());
        let stages = cache::read(home, run.id, key, &shape)?;
        let last = run.certificates.last()?.value.adapter.hash;
        let bytes = archive.blob(last).ok().flatten()?;
        let adapter = Adapter::from_bytes(shape, &bytes).ok()?;
        let account = RunAccount {
            manifest: &manifest,
            chain: &run.certificates,
            log: &run.log,
        };
        let names = account.names();
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
    let base = model::provide(home, &provenance.manifest.model.base, None)?;
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
    pub fn asking(&self) -> Inquiry {
        let commitment = |share: &Share| {
            let peer = share.peer.parse().unwrap_or_default();
            (peer, self.commitments.get(&peer).copied())
        };
        Inquiry {
            run: self.run,
            words: (fingerprint::words(&self.why.answer).map(|(_, word)| word)).collect(),
            contributors: self.why.shares.iter().map(commitment).collect(),
        }
    }

    /// Takes down what they said, in the same order, and leaves boilerplate out.
    ///
    /// # Errors
    /// When the base model cannot be asked what it would have said.
    pub fn hear(&mut self, said: &[Reply]) -> Result<(), Failure> {
        let places: Vec<(Range<usize>, String)> = fingerprint::words(&self.why.answer).collect();
        let words: Vec<String> = places.iter().map(|(_, word)| word.clone()).collect();
        let bytes = |span: &Range<usize>| places[span.start].0.start..places[span.end - 1].0.end;
        let held: Held = (said.iter())
            .filter_map(|said| match said {
                Reply::Proven(spans) => Some(spans.clone()),
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
            share.asked = asked(said);
            let Reply::Proven(_) = said else { continue };
            for (span, boilerplate) in proven.next().into_iter().flat_map(|(s, j)| s.iter().zip(j))
            {
                if let Some(why) = boilerplate {
                    share.asked.leave_out(why);
                    continue;
                }
                share.evidence.push(ProvenSpan {
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
            let failed = |e: TokenizerError| Failure::from_error(&e);
            let prompt = self
                .base
                .encode_from_start(&self.why.prompt)
                .map_err(failed)?;
            let text = [prompt, self.base.encode(answer).map_err(failed)?].concat();
            let losses = token_losses(&self.base, None, &[], &text);
            let losses = losses.map_err(|e| Failure::from_error(&e))?;
            Ok::<f64, Failure>(losses.iter().sum())
        };
        let (before, upto) = (
            &self.why.answer[..bytes.start],
            &self.why.answer[..bytes.end],
        );
        Ok((loss(upto)? - loss(before)?).max(0.0))
    }
}

/// What is shown of what a contributor said.
fn asked(said: &Reply) -> Asked {
    match said {
        Reply::Proven(_) => Asked::new(Outcome::Answered, ""),
        Reply::Declined(why) => Asked::new(Outcome::Declined, why.to_string()),
        Reply::Silent(why) => Asked::new(Outcome::Silent, why.clone()),
        Reply::False(why) => Asked::new(Outcome::FalseProof, why.clone()),
        Reply::NotAsked(why) => Asked::new(Outcome::NotAsked, *why),
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
        [] => {
            let text = format!("no run or adapter of this home has an id that starts with {id:?}");
            Err(Problem::new(Code::UnknownId, text)
                .hint("`tributary adapter list` shows what is here; --home names another home")
                .into())
        }
        _ => {
            let count = found.len();
            let text = format!("{count} runs of this home have an id that starts with {id:?}");
            Err(Problem::new(Code::AmbiguousId, text)
                .hint("give more digits of one, with --adapter")
                .into())
        }
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
    let said = said(base, adapter, question)?;
    let other = "give another prompt, or an answer with --answer";
    if said.tokens.answer.is_empty() {
        return Err(
            Failure::environment("the answer has no tokens, so nobody shaped it").hint(other),
        );
    }
    let started = Instant::now();
    let mut model = Answering {
        base,
        prompt: &said.tokens.prompt,
        answer: &said.tokens.answer,
    };
    let answered = answer::shares(&mut model, adapter, &provenance.stages);
    let answered = answered.map_err(|e| Failure::from_error(&e).hint(other))?;
    let (base_nats, adapter_nats) = answered.means();
    let found = &answered.found;
    Ok(Why {
        schema: layout::SCHEMA.to_owned(),
        run: provenance.manifest.run_id().to_string(),
        adapter: provenance.id().to_string(),
        prompt: said.prompt,
        answer: said.answer,
        base_nats,
        adapter_nats,
        nobody_ppb: found.shares.nobody.0,
        shares: layout::lines(found, &provenance.names, &provenance.manifest.datanet),
        method: METHOD.to_owned(),
        cost_ms: started.elapsed().as_secs_f64() * 1e3,
        evidence_ms: 0.0,
    })
}

/// A base model with a prompt and what was answered to it.
struct Answering<'a> {
    base: &'a BaseModel,
    prompt: &'a [u32],
    answer: &'a [u32],
}

impl AnswerModel for Answering<'_> {
    type Error = GradientError;

    fn losses(&mut self, adapter: Option<&Adapter>) -> Result<Vec<f64>, GradientError> {
        token_losses(self.base, adapter, self.prompt, self.answer)
    }

    fn gradients(
        &mut self,
        adapter: &Adapter,
        each: usize,
    ) -> Result<Vec<Vec<f32>>, GradientError> {
        stretch_gradients(self.base, adapter, self.prompt, self.answer, each)
    }
}

/// What was asked and answered, as tokens and as text.
struct Said {
    tokens: Tokens,
    prompt: String,
    answer: String,
}

/// The answer in question, given by `adapter` where none is.
fn said(base: &BaseModel, adapter: &Adapter, question: &Question) -> Result<Said, Failure> {
    let failed = |e: TokenizerError| Failure::from_error(&e);
    if let Some(tokens) = &question.tokens {
        return Ok(Said {
            prompt: base.decode(&tokens.prompt).map_err(failed)?,
            answer: base.decode(&tokens.answer).map_err(failed)?,
            tokens: tokens.clone(),
        });
    }
    let (tokens, answer) = match &question.answer {
        Some(answer) => {
            let prompt = base.encode_from_start(&question.prompt).map_err(failed)?;
            let tokens = base.encode(answer).map_err(failed)?;
            let answer = answer.clone();
            (
                Tokens {
                    prompt,
                    answer: tokens,
                },
                answer,
            )
        }
        None => {
            let config = GenerateConfig {
                max_tokens: question.max_tokens,
                ..GenerateConfig::default()
            };
            let given = generate(base, Some(adapter), &question.prompt, &config)
                .map_err(|e| Failure::from_error(&e).during("cannot answer"))?;
            let (prompt, answer) = (given.prompt_ids, given.token_ids);
            (Tokens { prompt, answer }, given.text)
        }
    };
    Ok(Said {
        tokens,
        prompt: question.prompt.clone(),
        answer,
    })
}
