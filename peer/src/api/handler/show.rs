//! A run as it is shown.

use tributary_ledger::IndexedRun;
use tributary_ledger::view::books::BooksView;
use tributary_protocol::id::{PeerId, Round};
use tributary_protocol::manifest::Manifest;

use super::{Answer, failed};
use crate::api::types::event::EventView;
use crate::api::types::{BooksRequest, RunBrief, RunPhase, RunView};
use crate::progress::RunProgress;

/// What a run is doing.
fn phase_of(run: &RunProgress) -> RunPhase {
    match run.phase {
        _ if run.is_finished => RunPhase::Finished,
        Some(_) if run.lacks_own_text => RunPhase::WithoutOwnText,
        Some(phase) => phase.into(),
        None if run.declined.is_some() => RunPhase::Declined,
        None => RunPhase::AwaitingManifest,
    }
}

/// What the stream of events begins with.
pub(super) fn now_of(run: &RunProgress) -> EventView {
    match run.is_finished {
        true => EventView::Finished {
            run: run.run.to_string(),
        },
        false => EventView::Phase {
            run: run.run.to_string(),
            round: run.certified.map_or(0, |round| round.0 + 1),
            phase: phase_of(run),
        },
    }
}

/// A run in a few words.
pub(super) fn brief_of(run: &RunProgress) -> RunBrief {
    let manifest = run.manifest.as_deref();
    let of = |f: fn(&Manifest) -> String| manifest.map(f).unwrap_or_default();
    RunBrief {
        run: run.run.to_string(),
        name: of(|m| m.name.clone()),
        datanet: of(|m| m.datanet.clone()),
        base: of(|m| m.model.base.name.clone()),
        certified: run.certified.map(|round| round.0),
        rounds: manifest.map_or(0, |m| m.plan.rounds),
        phase: phase_of(run),
        members: run.members,
        nearby: false,
        awaited: Vec::new(),
        finished: run.is_finished,
    }
}

/// Everything about a run.
pub(super) fn view_of(run: &RunProgress, run_index: &IndexedRun) -> Answer<RunView> {
    full_of(brief_of(run), run_index, run.adapter.is_some())
}

/// What a run's certificates say, beside what is known of it here.
pub(in crate::api) fn full_of(
    brief: RunBrief,
    run_index: &IndexedRun,
    has_adapter: bool,
) -> Answer<RunView> {
    let manifest = run_index.manifest();
    Ok(RunView {
        brief,
        creator: manifest.creator.to_string(),
        evaluators: manifest
            .scoring
            .evaluators
            .iter()
            .map(PeerId::to_string)
            .collect(),
        budget_micro_open: u64::try_from(manifest.payment.budget_per_round.0).unwrap_or(u64::MAX),
        price_per_nat_micro_open: u64::try_from(manifest.payment.price_per_nat.0)
            .unwrap_or(u64::MAX),
        settlement: run_index.settlement(),
        roster: run_index.members(),
        history: run_index.rounds(),
        credits: run_index.credits().map_err(failed)?,
        adapter: run_index.adapter(has_adapter),
    })
}

/// A run's books, unless a height is asked for whose root they no longer keep.
pub(in crate::api) fn kept_books(
    run_index: &IndexedRun,
    request: BooksRequest,
) -> Answer<Option<BooksView>> {
    let books = run_index.run_books().map_err(failed)?;
    let height = request.height.map(Round);
    let view = BooksView::of(run_index.manifest(), books, height);
    let is_gone = height.is_some_and(|height| height < books.expected() && view.roots.is_empty());
    Ok((!is_gone).then_some(view))
}
