//! The demo's last act, from the stopped homes alone: verify, measure, answer, export.

use std::path::Path;

use tributary_attribution::fold::FoldError;
use tributary_ledger::RunAccount;
use tributary_protocol::adapter::Adapter;
use tributary_protocol::certificate::Certificate;
use tributary_protocol::id::Round;
use tributary_trainer::{BaseModel, GenerateConfig, evaluate, generate};

use super::options::DemoArgs;
use super::plan::Plan;
use super::report::{
    AdapterLine, Answer, CreditLine, DomainLine, Extra, Report, RoundLine, SettlementLine,
    ShareLine,
};
use super::texts;
use crate::home::HomePaths;
use crate::model;
use crate::model::card::{Card, Known};
use crate::terminal::{Failure, note};
use crate::verify;
use crate::view::money_line;
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
        let home = HomePaths::new(plan.home(root, 0));
        let card = card(&account, &provenance.adapter, &home);
        model::export(&folder, &manifest, &provenance.adapter, Some(&card))?;
    }
    let checked = super::check::home_or_demo(root, verify::Depth::Full)?;
    for fault in &checked.faults {
        note(format_args!("fault: {fault}"));
    }
    let mut states: Vec<&str> = checked.runs.iter().map(|r| r.state.as_str()).collect();
    let complete = states.len() == plan.actors().len();
    states.dedup();
    let broken = |e: FoldError| Failure::check(e.to_string());
    let mut credits = account.credits().map_err(broken)?;
    let money = account.settlement().map_err(broken)?.unwrap_or_default();
    let order = |name: &String| plan.contributors.iter().position(|n| n == name);
    credits.sort_by_key(|c| order(&c.name));
    Ok(Report {
        schema: "demo/1".to_owned(),
        run: id.to_string(),
        rounds: rounds(plan, &account),
        domains: domains(plan, base, &provenance.adapter)?,
        credits: credits.iter().map(CreditLine::of).collect(),
        settlement: SettlementLine::of(&money),
        adapter: AdapterLine {
            id: account.adapter(true).map(|a| a.id).unwrap_or_default(),
            path: folder.display().to_string(),
        },
        state_hashes_equal: complete && states.len() == 1,
        ledger_verified: checked.verified && complete,
        home: root.display().to_string(),
        wall_s: 0.0,
        answers: answers(plan, base, &provenance, args)?,
        extra: Extra {
            credits,
            money: money_line(&money),
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

/// What the folder of the adapter says of it.
fn card(account: &RunAccount<'_>, adapter: &Adapter, home: &HomePaths) -> Card {
    let round = account.chain.last().map_or(Round(0), Certificate::round);
    let known = Known::of_account(account);
    Card::of(account.manifest, adapter, round, known).with_licence(home)
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

/// Prompts answered by the base and by the adapter, and whose text shaped the latter.
fn answers(
    plan: &Plan,
    base: &BaseModel,
    provenance: &Provenance,
    args: &DemoArgs,
) -> Result<Vec<Answer>, Failure> {
    let answer = |prompt: String, cut: Cut| answer_to((plan, base), provenance, prompt, cut);
    if let Some(prompt) = &args.prompt {
        return Ok(vec![answer(prompt.clone(), |said| said)?]);
    }
    if !plan.is_own {
        let prompts = plan.texts.iter().map(|text| prompt_of(&text.holdout));
        return prompts.map(|prompt| answer(prompt, |said| said)).collect();
    }
    let is_here = |asked: &texts::Asked| plan.contributors.iter().any(|name| name == asked.name);
    let mut answers = Vec::new();
    for asked in texts::all()
        .iter()
        .map(texts::OwnText::asked)
        .filter(is_here)
    {
        let mut found = answer(texts::prompt(asked.question), texts::sentence)?;
        found.says_it = Some(texts::says(&found.adapter, asked.answer));
        found.expected = Some(asked.answer.to_owned());
        found.taught_by = Some(asked.name.to_owned());
        answers.push(found);
    }
    answers.push(answer(texts::NOBODYS.to_owned(), texts::word)?);
    Ok(answers)
}

/// What of a model's words is the answer.
type Cut = fn(&str) -> &str;

/// What both say to a prompt, and each contributor's share of what the adapter says.
fn answer_to(
    (plan, base): (&Plan, &BaseModel),
    provenance: &Provenance,
    prompt: String,
    cut: Cut,
) -> Result<Answer, Failure> {
    let config = GenerateConfig {
        max_tokens: ANSWER_TOKENS,
        ..GenerateConfig::default()
    };
    let said = |adapter: Option<&Adapter>| {
        let said =
            generate(base, adapter, &prompt, &config).map_err(|e| Failure::from_error(&e))?;
        let answer = Some(cut(&said.text)).filter(|answer| !answer.trim().is_empty());
        Ok::<String, Failure>(answer.unwrap_or(&said.text).to_owned())
    };
    let (by_base, by_adapter) = (said(None)?, said(Some(&provenance.adapter))?);
    if by_adapter.is_empty() {
        // A model may end its answer at once. Nobody has a share of nothing.
        return Ok(Answer {
            prompt,
            base: by_base,
            ..Answer::default()
        });
    }
    let question = Question {
        id: String::new(),
        prompt: prompt.clone(),
        answer: Some(by_adapter.clone()),
        max_tokens: ANSWER_TOKENS,
        tokens: None,
    };
    let why = why::why(base, provenance, &question)?;
    let fraction = |ppb: u32| f64::from(ppb) * 1e-9;
    let mut shares: Vec<ShareLine> = (plan.actors().into_iter())
        .filter_map(|actor| {
            let peer = actor.peer.to_string();
            let share = why.shares.iter().find(|share| share.peer == peer)?;
            Some(ShareLine {
                name: actor.name,
                share: fraction(share.share_ppb),
            })
        })
        .collect();
    shares.sort_by(|a, b| b.share.total_cmp(&a.share));
    Ok(Answer {
        prompt,
        base: by_base,
        adapter: by_adapter,
        shares,
        nobody: fraction(why.nobody_ppb),
        ..Answer::default()
    })
}

/// The first words of a hold-out passage.
fn prompt_of(passages: &[String]) -> String {
    let text = passages.first().map_or("", |p| p.trim_start());
    let words: Vec<&str> = text.split_whitespace().take(PROMPT_WORDS).collect();
    words.join(" ")
}
