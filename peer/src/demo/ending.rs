//! The demo's last act, from the stopped homes alone: verify, measure, answer, export.

use std::path::Path;

use tributary_ledger::RunAccount;
use tributary_protocol::adapter::Adapter;
use tributary_protocol::id::PeerId;
use tributary_trainer::{BaseModel, GenerateConfig, evaluate, generate};

use super::options::DemoArgs;
use super::plan::Plan;
use super::report::{AdapterLine, Answer, CreditLine, DomainLine, Extra, Report, RoundLine};
use crate::home::HomePaths;
use crate::model;
use crate::terminal::Failure;
use crate::verify;
use crate::why::{self, Provenance, Question};

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
    let archive = verify::archive(&HomePaths::new(plan.home(root, 0)))?;
    let id = plan.run(base)?;
    let run = archive.runs.iter().find(|run| run.id == id);
    let (Some(run), Some(manifest)) = (run, run.and_then(|run| run.manifest.clone())) else {
        return Err(
            Failure::check("the first contributor's ledger does not hold the demo's run")
                .hint("call the demo again with the same --home: it resumes"),
        );
    };
    let account = RunAccount {
        manifest: &manifest,
        chain: &run.certificates,
        log: &run.log,
    };
    let provenance = Provenance::of(&archive, run)?;
    let folder = Plan::adapter_folder(root);
    if !folder.is_dir() {
        model::export(&folder, &manifest, &provenance.adapter)?;
    }
    let checked = super::check::home_or_demo(root, verify::Depth::Full)?;
    for fault in &checked.faults {
        eprintln!("fault: {fault}");
    }
    let mut states: Vec<&str> = checked.runs.iter().map(|r| r.state.as_str()).collect();
    let complete = states.len() == plan.actors().len();
    states.dedup();
    let mut credits = account
        .credits()
        .map_err(|e| Failure::check(e.to_string()))?;
    let order = |name: &String| plan.contributors.iter().position(|n| n == name);
    credits.sort_by_key(|c| order(&c.name));
    Ok(Report {
        schema: "demo/1".to_owned(),
        run: id.to_string(),
        rounds: rounds(plan, &account),
        domains: domains(plan, base, &provenance.adapter)?,
        credits: (credits.iter())
            .map(|c| CreditLine {
                peer: c.peer.clone(),
                name: c.name.clone(),
                score_nanonats: c.score_nanonats,
                micro_open: c.micro_open,
            })
            .collect(),
        adapter: AdapterLine {
            id: account.adapter(true).map(|a| a.id).unwrap_or_default(),
            path: folder.display().to_string(),
        },
        state_hashes_equal: complete && states.len() == 1,
        ledger_verified: checked.verified && complete,
        home: root.display().to_string(),
        wall_s: 0.0,
        extra: Extra {
            answer: Some(answer(plan, base, &provenance, args)?),
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

fn rounds(plan: &Plan, account: &RunAccount<'_>) -> Vec<RoundLine> {
    (account.rounds().into_iter())
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
    provenance: &Provenance,
    args: &DemoArgs,
) -> Result<Answer, Failure> {
    let prompts: Vec<String> = match &args.prompt {
        Some(prompt) => vec![prompt.clone()],
        None => plan.texts.iter().map(|t| prompt_of(&t.holdout)).collect(),
    };
    let mut best: Option<(u32, Answer)> = None;
    for prompt in prompts {
        let (nobody, answer) = answer_to(plan, base, provenance, prompt)?;
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
    provenance: &Provenance,
    prompt: String,
) -> Result<(u32, Answer), Failure> {
    let config = GenerateConfig {
        max_tokens: ANSWER_TOKENS,
        ..GenerateConfig::default()
    };
    let by_base = generate(base, None, &prompt, &config).map_err(|e| Failure::from_error(&e))?;
    let question = Question {
        id: String::new(),
        prompt: prompt.clone(),
        answer: None,
        max_tokens: ANSWER_TOKENS,
    };
    let why = why::why(base, provenance, &question)?;
    let part = |peer: PeerId| why.shares.iter().find(|s| s.peer == peer.to_string());
    let fraction = |ppb: u32| f64::from(ppb) * 1e-9;
    let mut shares: Vec<(String, f64)> = (plan.actors().iter())
        .filter_map(|a| Some((a.name.clone(), fraction(part(a.peer)?.share_ppb))))
        .collect();
    let nobody = "nobody (the base knew it)".to_owned();
    shares.push((nobody, fraction(why.nobody_ppb)));
    let answer = Answer {
        prompt,
        base: by_base.text,
        adapter: why.answer,
        shares,
    };
    Ok((why.nobody_ppb, answer))
}

/// The first words of a hold-out passage.
fn prompt_of(passages: &[String]) -> String {
    let text = passages.first().map_or("", |p| p.trim_start());
    let words: Vec<&str> = text.split_whitespace().take(PROMPT_WORDS).collect();
    words.join(" ")
}
