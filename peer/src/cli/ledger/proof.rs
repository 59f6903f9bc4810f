//! `tributary ledger proof` and `check`: a payout for whoever has nothing but a file.

use std::path::Path;

use serde::Serialize;
use tributary_ledger::proof;
use tributary_ledger::view::{CheckedProof, ProofView, short};
use tributary_protocol::id::MicroOpen;

use super::super::Context;
use crate::api::Reader;
use crate::api::local::Local;
use crate::api::types::ExplainRequest;
use crate::home::disk;
use crate::terminal::Failure;
use crate::verify;
use tributary_trainer::input;

/// What `proof` answers; the proof is in the file.
#[derive(Serialize)]
struct Written<'a> {
    schema: &'static str,
    run: &'a str,
    peer: &'a str,
    round: u32,
    micro_open: u64,
    bytes: usize,
    file: String,
}

pub(super) async fn write(
    context: &Context,
    local: &Local,
    request: ExplainRequest,
    (file, force): (&Path, bool),
) -> Result<(), Failure> {
    let proof = local.proof(request).await?;
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
        schema: "proof-written/1",
        run: &proof.run,
        peer: &proof.peer,
        round: proof.round,
        micro_open: proof.micro_open,
        bytes: proof.bundle.len() / 2,
        file: file.display().to_string(),
    };
    context.out.answer(&written, |w| {
        format!(
            "wrote {}: {} OPEN for round {} of {} in run {}, proven by {} bytes; `{} ledger check {}` checks them anywhere\n",
            w.file,
            MicroOpen(w.micro_open.into()),
            w.round,
            short(w.peer),
            short(w.run),
            w.bytes,
            context.call,
            w.file,
        )
    })
}

pub(super) fn check(context: &Context, file: &Path) -> Result<(), Failure> {
    let bytes = input::bytes(file).map_err(|e| {
        Failure::environment(format!("cannot read {}: {e}", file.display())).hint("check the path")
    })?;
    let given: ProofView = serde_json::from_slice(&bytes).map_err(|e| {
        Failure::check(format!("{} is no proof of a payout: {e}", file.display()))
            .hint("ask for what `tributary ledger proof` writes")
    })?;
    let checked = proof::check(&given).map_err(verify::failure)?;
    context.out.answer(&checked, text)
}

fn text(checked: &CheckedProof) -> String {
    format!(
        "run      {}\npeer     {}\npaid     {} OPEN for round {}, to {}\nroot     {} of height {}\nsigned   {} of {} OPEN \
         staked, {} accounts\nchain    {}, contract {}\nThe proof holds if these stakes are the chain's.\n",
        checked.run,
        checked.peer,
        MicroOpen(checked.micro_open.into()),
        checked.round,
        checked.account,
        checked.root,
        checked.height,
        checked.signed_open,
        checked.staked_open,
        checked.signers.len(),
        checked.chain,
        checked.contract,
    )
}
