//! `tributary ledger prove-holdout` and `check-holdout`: which windows an evaluator scored a round on.

use std::path::Path;

use serde::Serialize;
use tributary_ledger::holdout::{HoldoutProof, HoldoutReport, Losses};
use tributary_ledger::view::short;

use super::super::Context;
use crate::api::Reader;
use crate::api::local::Local;
use crate::api::types::ProveRequest;
use crate::home::disk;
use crate::terminal::Failure;
use tributary_trainer::input;

/// What `prove-holdout` answers; the proof is in the file.
#[derive(Serialize)]
struct Written<'a> {
    schema: &'static str,
    run: &'a str,
    round: u32,
    evaluator: &'a str,
    drawn: usize,
    windows: u64,
    file: String,
}

pub(super) async fn prove(
    context: &Context,
    local: &Local,
    request: ProveRequest,
    (file, force): (&Path, bool),
) -> Result<(), Failure> {
    let proof = local.prove_holdout(request).await?;
    let text = serde_json::to_vec(&proof)?;
    let written = match force {
        true => disk::write_whole(file, &text),
        false => disk::write_new(file, &text),
    };
    written.map_err(|e| {
        Failure::environment(format!("cannot write {}: {e}", file.display()))
            .hint("name another file; --force replaces one that is there")
    })?;
    let written = Written {
        schema: "holdout-written/1",
        run: &proof.run,
        round: proof.round,
        evaluator: &proof.evaluator,
        drawn: proof.drawn.len(),
        windows: proof.windows,
        file: file.display().to_string(),
    };
    context.out.answer(&written, |w| {
        format!(
            "wrote {}: the {} of {} hold-out windows that round {} of run {} was scored on, and nothing else \
             of the text\n",
            w.file,
            w.drawn,
            w.windows,
            w.round,
            short(w.run)
        )
    })
}

pub(super) async fn check(context: &Context, local: &Local, file: &Path) -> Result<(), Failure> {
    let bytes = input::bytes(file).map_err(|e| {
        Failure::environment(format!("cannot read {}: {e}", file.display())).hint("check the path")
    })?;
    let proof: HoldoutProof = serde_json::from_slice(&bytes).map_err(|e| {
        Failure::check(format!("{} is no proof of a hold-out: {e}", file.display()))
            .hint("ask the evaluator for what `tributary ledger prove-holdout` writes")
    })?;
    let report = local.check_holdout(proof).await?;
    context.out.answer(&report, text)
}

fn text(report: &HoldoutReport) -> String {
    let losses = |losses: Option<Losses>| match losses {
        Some(l) => format!(
            "{:.6} nats a token before the round, {:.6} after",
            l.before, l.after
        ),
        None => "not known here".to_owned(),
    };
    let mut out = format!(
        "evaluator   {} ({})\nround       {} of run {}\ncommitted   {} windows under root {}\n\
         drawn       {} windows of {} predicted tokens, by seed {} of the certificate\n\
         sheet       {}\nrecomputed  {}\n",
        report.name,
        short(&report.evaluator),
        report.round,
        short(&report.run),
        report.windows,
        short(&report.root),
        report.drawn,
        report.predicted,
        short(&report.seed),
        losses(report.sheet),
        losses(report.recomputed),
    );
    for note in &report.notes {
        out.push_str(&format!("note: {note}\n"));
    }
    out.push_str(match (report.sheet, report.recomputed) {
        (Some(_), Some(_)) => {
            "\nholds: these windows were committed to, the certificate draws just these, and the signed losses \
             are theirs\n"
        }
        (Some(_), None) => {
            "\nholds: these windows were committed to, the certificate draws just these, and they have as many \
             tokens as the sheet says\n"
        }
        _ => "\nholds: these windows were committed to and the certificate draws just these\n",
    });
    out
}
