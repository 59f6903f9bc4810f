//! The demo's last act, from the stopped homes alone: verify, measure, answer, export.

use std::collections::BTreeMap;
use std::path::Path;

use tributary_attribution::query::{self, Moved, TokenLoss};
use tributary_protocol::adapter::Adapter;
use tributary_protocol::id::{BlobHash, PeerId};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::state::{self, Evidence};
use tributary_trainer::{BaseModel, GenerateConfig, evaluate, generate, tokens_loss_and_gradient};

use super::plan::Plan;
use super::report::{AdapterLine, Answer, CreditLine, DomainLine, Extra, Report, RoundLine};
use crate::cli::Failure;
use crate::cli::args::DemoArgs;
use crate::home::HomePaths;
use crate::model;
use crate::verify;
use crate::verify::archive::{Archive, ArchivedRun};
use crate::view::book::Book;

/// Tokens of the closing answer.
const ANSWER_TOKENS: usize = 40;
/// Words of a prompt taken from a hold-out.
const PROMPT_WORDS: usize = 12;

/// Reads the finished demo at `root`.
///
/// # Errors
/// When the first home cannot be read, or its run is not closed. Faults of a ledger are reported, not
/// returned.
pub(super) fn report(
    root: &Path,
    plan: &Plan,
    base: &BaseModel,
    args: &DemoArgs,
) -> Result<Report, Failure> {
    let archive = Archive::open(&HomePaths::new(plan.home(root, 0)))?;
    let id = plan.run(base)?;
    let run = archive.runs.iter().find(|run| run.id == id);
    let (Some(run), Some(manifest)) = (run, run.and_then(|run| run.manifest.clone())) else {
        return Err(
            Failure::check("the first contributor's ledger does not hold the demo's run")
                .hint("call the demo again with the same --home: it resumes"),
        );
    };
    let book = Book {
        manifest: &manifest,
        chain: &run.certificates,
        log: &run.log,
    };
    let steps = replay(&archive, run, &manifest)?;
    let folder = Plan::adapter_folder(root);
    if !folder.is_dir() {
        model::export(&folder, &manifest, &steps.adapter)?;
    }
    let checked = verify::home(root)?;
    for fault in &checked.faults {
        eprintln!("fault: {fault}");
    }
    let mut states: Vec<&str> = checked.runs.iter().map(|r| r.state.as_str()).collect();
    let complete = states.len() == plan.actors().len();
    states.dedup();
    let credits = book.credits().map_err(|e| Failure::check(e.to_string()))?;
    Ok(Report {
        schema: "demo/1".to_owned(),
        run: id.to_string(),
        rounds: rounds(plan, &book),
        domains: domains(plan, base, &steps.adapter)?,
        credits: (credits.iter())
            .map(|c| CreditLine {
                peer: c.peer.clone(),
                name: c.name.clone(),
                score_nanonats: c.score_nanonats,
                micro_open: c.micro_open,
            })
            .collect(),
        adapter: AdapterLine {
            id: book.adapter(true).map(|a| a.id).unwrap_or_default(),
            path: folder.display().to_string(),
        },
        state_hashes_equal: complete && states.len() == 1,
        ledger_verified: checked.verified && complete,
        home: root.display().to_string(),
        wall_s: 0.0,
        extra: Extra {
            answer: Some(answer(plan, base, &steps, args)?),
            credits,
            program: program(),
            first_home: plan.home(root, 0).display().to_string(),
        },
    })
}

fn program() -> String {
    let path = std::env::args().next().unwrap_or_default();
    if path.is_empty() {
        "tributary".to_owned()
    } else {
        path
    }
}

/// The certified adapter, and what each contributor moved on the way to it.
struct Steps {
    adapter: Adapter,
    moved: Moved,
}

/// Recomputes every round from its updates.
fn replay(archive: &Archive, run: &ArchivedRun, manifest: &Manifest) -> Result<Steps, Failure> {
    let broken = |why: String| {
        Failure::check(format!(
            "the run cannot be recomputed from the first home: {why}"
        ))
        .hint("`tributary ledger verify --home DIR` names what does not hold")
    };
    let mut adapter: Option<Adapter> = None;
    let mut moved = Moved::default();
    for certificate in &run.certificates {
        let value = &certificate.value;
        let mut blobs: BTreeMap<BlobHash, Vec<u8>> = BTreeMap::new();
        for included in &value.included {
            let hash = included.update.hash;
            let bytes = archive.blob(hash).map_err(broken)?;
            let bytes =
                bytes.ok_or_else(|| broken(format!("update {} is missing", hash.short())))?;
            blobs.insert(hash, bytes);
        }
        let evidence = Evidence {
            log: &run.log,
            before: adapter.as_ref(),
            blobs: &blobs,
            judged: None,
        };
        let derived =
            state::recompute(manifest, value, &evidence).map_err(|e| broken(e.to_string()))?;
        moved
            .add(&derived.contributions)
            .map_err(|e| broken(e.to_string()))?;
        adapter = Some(derived.adapter);
    }
    let adapter = adapter.ok_or_else(|| broken("it has no certificate".to_owned()))?;
    Ok(Steps { adapter, moved })
}

fn rounds(plan: &Plan, book: &Book<'_>) -> Vec<RoundLine> {
    (book.rounds().into_iter())
        .map(|round| {
            // A round that was certified while nobody measured (the process was killed) has none.
            let measured = plan.measured.get(&round.round).copied().unwrap_or_default();
            RoundLine {
                round: round.round,
                included: round.included,
                state_hash: round.state_hash,
                loss_before: round.loss_before,
                loss_after: round.loss_after,
                bytes_up_max: measured.bytes_up_max,
                bytes_down_max: measured.bytes_down_max,
                certificate_ms: measured.certificate_ms,
            }
        })
        .collect()
}

/// Each contributor's hold-out by the base and by the adapter.
fn domains(plan: &Plan, base: &BaseModel, adapter: &Adapter) -> Result<Vec<DomainLine>, Failure> {
    let actors = plan.actors();
    let mut lines = Vec::new();
    for (text, actor) in plan.texts.iter().zip(&actors) {
        let windows = model::windows(base, &text.holdout, 128)?;
        let loss = |adapter: Option<&Adapter>| {
            evaluate(base, adapter, &windows)
                .map(|found| found.nll)
                .map_err(|e| Failure::from_error(&e))
        };
        lines.push(DomainLine {
            peer: actor.peer.to_string(),
            name: actor.name.clone(),
            loss_base: loss(None)?,
            loss_adapter: loss(Some(adapter))?,
        });
    }
    Ok(lines)
}

/// One prompt, answered by the base and by the adapter, and whose text shaped the latter.
fn answer(
    plan: &Plan,
    base: &BaseModel,
    steps: &Steps,
    args: &DemoArgs,
) -> Result<Answer, Failure> {
    let prompt = (args.prompt.clone()).unwrap_or_else(|| prompt_of(&plan.texts[0].holdout));
    let config = GenerateConfig {
        max_tokens: ANSWER_TOKENS,
        ..GenerateConfig::default()
    };
    let failed = |e: &dyn std::error::Error| Failure::environment(e.to_string());
    let by_base = generate(base, None, &prompt, &config).map_err(|e| failed(&e))?;
    let adapter = &steps.adapter;
    let by_adapter = generate(base, Some(adapter), &prompt, &config).map_err(|e| failed(&e))?;
    let shares = if by_adapter.token_ids.is_empty() {
        Vec::new()
    } else {
        shares(
            plan,
            base,
            steps,
            &by_adapter.prompt_ids,
            &by_adapter.token_ids,
        )?
    };
    Ok(Answer {
        prompt,
        base: by_base.text,
        adapter: by_adapter.text,
        shares,
    })
}

fn shares(
    plan: &Plan,
    base: &BaseModel,
    steps: &Steps,
    prompt: &[u32],
    answer: &[u32],
) -> Result<Vec<(String, f64)>, Failure> {
    let failed = |e: &dyn std::error::Error| Failure::environment(e.to_string());
    let adapter = &steps.adapter;
    let found = tokens_loss_and_gradient(base, adapter, prompt, answer).map_err(|e| failed(&e))?;
    let zero = Adapter::new(adapter.shape().clone(), vec![0.0; adapter.values().len()]);
    let plain = zero.map_err(|e| failed(&e))?;
    let mut losses = Vec::with_capacity(answer.len());
    for at in 0..answer.len() {
        let context = [prompt, &answer[..at]].concat();
        let loss = |adapter: &Adapter| token_loss(base, adapter, &context, answer[at]);
        losses.push(TokenLoss {
            base: loss(&plain)?,
            adapter: loss(adapter)?,
        });
    }
    let moved = steps.moved.iter();
    let shares = query::shares(&found.gradient, moved, &losses).map_err(|e| failed(&e))?;
    let names: BTreeMap<PeerId, String> = plan
        .actors()
        .into_iter()
        .map(|a| (a.peer, a.name))
        .collect();
    let mut out: Vec<(String, f64)> = (shares.shares.iter())
        .map(|s| {
            (
                names.get(&s.peer).cloned().unwrap_or_default(),
                s.share.as_f64(),
            )
        })
        .collect();
    out.sort_by(|a, b| b.1.total_cmp(&a.1));
    out.push((
        "nobody (the base knew it)".to_owned(),
        shares.nobody.as_f64(),
    ));
    Ok(out)
}

/// Loss of one token after its context.
fn token_loss(
    base: &BaseModel,
    adapter: &Adapter,
    context: &[u32],
    token: u32,
) -> Result<f64, Failure> {
    tokens_loss_and_gradient(base, adapter, context, &[token])
        .map(|found| found.loss)
        .map_err(|e| Failure::from_error(&e))
}

/// The first words of a hold-out passage.
fn prompt_of(passages: &[String]) -> String {
    let text = passages.first().map_or("", |p| p.trim_start());
    text.split_whitespace()
        .take(PROMPT_WORDS)
        .collect::<Vec<_>>()
        .join(" ")
}
