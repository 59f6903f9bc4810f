//! The demo's last act, from the stopped homes alone: verify, measure, answer, export.

use std::path::Path;

use tributary_attribution::path::NODES;
use tributary_attribution::query::{self, Moved, TokenLoss};
use tributary_protocol::adapter::Adapter;
use tributary_protocol::id::{PeerId, Ppb};
use tributary_trainer::{
    BaseModel, GenerateConfig, Windows, evaluate, generate, tokens_loss_and_gradient,
};

use super::options::DemoArgs;
use super::plan::Plan;
use super::report::{AdapterLine, Answer, CreditLine, DomainLine, Extra, Report, RoundLine};
use crate::home::HomePaths;
use crate::model;
use crate::terminal::Failure;
use crate::verify;
use crate::verify::archive::{Archive, ArchivedRun};
use crate::view::book::Book;

/// Tokens of the closing answer.
const ANSWER_TOKENS: usize = 24;
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
    let steps = replay(&archive, run)?;
    let folder = Plan::adapter_folder(root);
    if !folder.is_dir() {
        model::export(&folder, &manifest, &steps.adapter)?;
    }
    let checked = super::check::home_or_demo(root)?;
    for fault in &checked.faults {
        eprintln!("fault: {fault}");
    }
    let mut states: Vec<&str> = checked.runs.iter().map(|r| r.state.as_str()).collect();
    let complete = states.len() == plan.actors().len();
    states.dedup();
    let mut credits = book.credits().map_err(|e| Failure::check(e.to_string()))?;
    let order = |name: &String| plan.contributors.iter().position(|n| n == name);
    credits.sort_by_key(|c| order(&c.name));
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

/// Recomputes every round from its updates, by the audit.
fn replay(archive: &Archive, run: &ArchivedRun) -> Result<Steps, Failure> {
    let broken = |why: String| {
        Failure::check(format!(
            "the run cannot be recomputed from the first home: {why}"
        ))
        .hint("`tributary ledger verify --home DIR` names what does not hold")
    };
    let mut moved = Moved::default();
    let mut wrong = None;
    let audited = verify::check::audited(archive, run, &mut |_, derived| {
        if let Some(derived) = derived
            && let Err(why) = moved.add(&derived.contributions)
        {
            wrong = Some(why.to_string());
        }
    })
    .map_err(|fault| broken(fault.to_string()))?;
    if let Some(why) = wrong {
        return Err(broken(why));
    }
    let adapter = audited.adapter;
    let adapter = adapter.ok_or_else(|| broken("its last adapter is missing".to_owned()))?;
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

/// One prompt, answered by the base and by the adapter, and whose text shaped the latter. Without a
/// prompt of the owner's, the one of six (the start of each contributor's hold-out) whose answer the
/// contributors shaped most.
fn answer(
    plan: &Plan,
    base: &BaseModel,
    steps: &Steps,
    args: &DemoArgs,
) -> Result<Answer, Failure> {
    let prompts: Vec<String> = match &args.prompt {
        Some(prompt) => vec![prompt.clone()],
        None => plan.texts.iter().map(|t| prompt_of(&t.holdout)).collect(),
    };
    let mut best: Option<(u32, Answer)> = None;
    for prompt in prompts {
        let (nobody, answer) = answer_to(plan, base, steps, prompt)?;
        if best.as_ref().is_none_or(|(least, _)| nobody < *least) {
            best = Some((nobody, answer));
        }
    }
    let best = best.map(|(_, answer)| answer);
    best.ok_or_else(|| Failure::environment("there is no text to take a prompt from"))
}

/// An answer, and the part of it that is nobody's, in billionths.
fn answer_to(
    plan: &Plan,
    base: &BaseModel,
    steps: &Steps,
    prompt: String,
) -> Result<(u32, Answer), Failure> {
    let config = GenerateConfig {
        max_tokens: ANSWER_TOKENS,
        ..GenerateConfig::default()
    };
    let adapter = &steps.adapter;
    let by_base = generate(base, None, &prompt, &config).map_err(|e| Failure::from_error(&e))?;
    let by_adapter =
        generate(base, Some(adapter), &prompt, &config).map_err(|e| Failure::from_error(&e))?;
    let (asked, said) = (&by_adapter.prompt_ids, &by_adapter.token_ids);
    let mut answer = Answer {
        prompt,
        base: by_base.text,
        adapter: by_adapter.text,
        shares: Vec::new(),
    };
    if said.is_empty() {
        return Ok((Ppb::ONE.0, answer));
    }
    let gradient = gradient_of_the_way(base, steps, asked, said)?;
    let (plain, moved) = (
        token_losses(base, None, asked, said)?,
        token_losses(base, Some(adapter), asked, said)?,
    );
    let losses: Vec<TokenLoss> = (plain.into_iter().zip(moved))
        .map(|(base, adapter)| TokenLoss { base, adapter })
        .collect();
    let shares = query::shares(&gradient, steps.moved.iter(), &losses)
        .map_err(|e| Failure::from_error(&e))?;
    let part = |peer: PeerId| shares.shares.iter().find(|s| s.peer == peer);
    answer.shares = (plan.actors().iter())
        .filter_map(|a| Some((a.name.clone(), part(a.peer)?.share.as_f64())))
        .collect();
    answer.shares.push((
        "nobody (the base knew it)".to_owned(),
        shares.nobody.as_f64(),
    ));
    Ok((shares.nobody.0, answer))
}

/// The answer's gradient, averaged over the straight way from the adapter that the run began with to
/// the certified one (Gauss-Legendre): influences then add up to what the run changed in the answer's
/// loss, up to the rule's error. A gradient at the end alone only says where a next step would lead.
fn gradient_of_the_way(
    base: &BaseModel,
    steps: &Steps,
    prompt: &[u32],
    answer: &[u32],
) -> Result<Vec<f32>, Failure> {
    let end = steps.adapter.values();
    let mut way = vec![0.0; end.len()];
    for (_, moved) in steps.moved.iter() {
        for (sum, value) in way.iter_mut().zip(moved) {
            *sum += value;
        }
    }
    let mut mean = vec![0.0; end.len()];
    for node in NODES {
        let back = (1.0 - node) as f32;
        let values = end.iter().zip(&way).map(|(e, w)| e - back * w).collect();
        let at = Adapter::new(steps.adapter.shape().clone(), values)
            .map_err(|e| Failure::from_error(&e))?;
        let found = tokens_loss_and_gradient(base, &at, prompt, answer)
            .map_err(|e| Failure::from_error(&e))?;
        for (sum, value) in mean.iter_mut().zip(&found.gradient) {
            *sum += value / NODES.len() as f32;
        }
    }
    Ok(mean)
}

/// Loss of each token of an answer: what a text gets longer by when the token is added.
fn token_losses(
    base: &BaseModel,
    adapter: Option<&Adapter>,
    prompt: &[u32],
    answer: &[u32],
) -> Result<Vec<f64>, Failure> {
    let text = [prompt, answer].concat();
    let vocab = base.config().vocab;
    let mut sums = Vec::with_capacity(answer.len() + 1);
    for length in prompt.len()..=text.len() {
        let sum = if length < 2 {
            0.0
        } else {
            let windows = Windows::from_tokens(vec![text[..length].to_vec()], length, vocab)
                .map_err(|e| Failure::from_error(&e))?;
            let found = evaluate(base, adapter, &windows).map_err(|e| Failure::from_error(&e))?;
            found.nll * found.predicted as f64
        };
        sums.push(sum);
    }
    // Sums of f32 differ in their last bits; no token has a loss below zero.
    Ok(sums
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).max(0.0))
        .collect())
}

/// The first words of a hold-out passage.
fn prompt_of(passages: &[String]) -> String {
    let text = passages.first().map_or("", |p| p.trim_start());
    let words: Vec<&str> = text.split_whitespace().take(PROMPT_WORDS).collect();
    words.join(" ")
}
