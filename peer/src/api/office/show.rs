//! A run as it is shown.

use tributary_ledger::Book;
use tributary_protocol::id::PeerId;
use tributary_protocol::manifest::Manifest;
use tributary_protocol::node::RunView as NodeRun;

use super::{HostError, failed};
use crate::view::{RunBrief, RunView, phase_words};

/// Runs `read` on the book of a run whose manifest is known.
pub(crate) fn with_book<R>(run: &NodeRun<'_>, read: impl FnOnce(&Book<'_>) -> R) -> Option<R> {
    let manifest = run.manifest()?;
    Some(read(&Book {
        manifest,
        chain: run.chain(),
        log: run.log(),
    }))
}

const WITHOUT_OWN_TEXT: &str = "without weight: others committed to all of this shard's text before; \
    leave, add text of your own and join again";

/// A run in a few words.
pub(super) fn brief_of(run: &NodeRun<'_>) -> RunBrief {
    let manifest = run.manifest();
    let of = |f: fn(&Manifest) -> String| manifest.map(|m| f(m)).unwrap_or_default();
    let finished = run.is_finished();
    let phase = match run.phase() {
        Some(_) if !finished && run.lacks_own_text() => WITHOUT_OWN_TEXT.to_owned(),
        Some(phase) if !finished => {
            let (word, waits) = phase_words(phase);
            format!("{word}: {waits}")
        }
        _ if finished => "finished".to_owned(),
        _ if run.declined().is_some() => {
            "declined: it asks for more than this peer gives".to_owned()
        }
        _ => "waiting for its manifest".to_owned(),
    };
    RunBrief {
        run: run.id().to_string(),
        name: of(|m| m.name.clone()),
        datanet: of(|m| m.datanet.clone()),
        base: of(|m| m.base.name.clone()),
        certified: run.head().map(|h| h.round.0),
        rounds: manifest.map_or(0, |m| m.rounds),
        phase,
        members: run.head().map_or(0, |h| h.roster.len() as u32),
        finished,
    }
}

/// Everything about a run; `None` while its manifest is missing.
pub(super) fn view_of(run: &NodeRun<'_>) -> Option<Result<RunView, HostError>> {
    with_book(run, |book| {
        Ok(RunView {
            brief: brief_of(run),
            creator: book.manifest.creator.to_string(),
            evaluators: (book.manifest.evaluators.iter())
                .map(PeerId::to_string)
                .collect(),
            budget_micro_open: u64::try_from(book.manifest.budget_per_round.0).unwrap_or(u64::MAX),
            price_per_nat_micro_open: u64::try_from(book.manifest.price_per_nat.0)
                .unwrap_or(u64::MAX),
            roster: book.members(),
            history: book.rounds(),
            credits: book.credits().map_err(failed)?,
            adapter: book.adapter(run.adapter().is_some()),
        })
    })
}
