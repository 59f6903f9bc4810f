//! Disputes about score sheets: opened, listed, appealed.

use tributary_attribution::run_books::{RunBooks, Stage, UndisputedError};
use tributary_ledger::IndexedRun;
use tributary_ledger::view::disputes::{DisputesView, dispute_id};
use tributary_protocol::entry::{Entry, is_shown};
use tributary_protocol::filing::{DisputeStep, Disputed};
use tributary_protocol::id::{PeerId, RunId};
use tributary_protocol::limits::MAX_REASON_BYTES;
use tributary_protocol::round::EntryRef;

use super::{DaemonHandler, not_followed};
use crate::api::Answer;
use crate::api::types::DisputeRequest;
use crate::problem::{Code, Problem};

/// What the books of a run say of its disputes.
pub(in crate::api) fn disputes_of(run_index: &IndexedRun) -> Answer<DisputesView> {
    let books = run_index.run_books().map_err(super::failed)?;
    Ok(DisputesView::of(books))
}

/// As they are now.
pub(super) async fn list(handler: &DaemonHandler, run: RunId) -> Answer<DisputesView> {
    let index = handler.daemon.index().await;
    disputes_of(index.run(&run).ok_or_else(|| not_followed(run))?)
}

/// Opens one. Answered once that is durable.
pub(super) async fn open(
    handler: &DaemonHandler,
    run: RunId,
    request: DisputeRequest,
) -> Answer<DisputesView> {
    if !is_shown(&request.reason, MAX_REASON_BYTES) {
        let text = format!(
            "a reason is one line of 1 to {MAX_REASON_BYTES} bytes without control characters"
        );
        return Err(Problem::new(Code::Malformed, text));
    }
    let me = handler.daemon.peer_id();
    let manifest = handler.manifest(run).ok_or_else(|| not_followed(run))?;
    let (sheet, peer) = with_books(handler, run, |books| {
        let (sheet, peer) = named(books, &request)?;
        let checked = books.check_dispute(&manifest, &me, (&sheet, &peer));
        checked.map_err(|why| refused(why, run))?;
        Ok((sheet, peer))
    })
    .await?;
    let reason = request.reason;
    let opened = DisputeStep::Open(Disputed {
        sheet,
        peer,
        reason,
    });
    file(handler, run, opened).await?;
    list(handler, run).await
}

/// Appeals, as whoever lost. Answered once that is durable.
pub(super) async fn appeal(handler: &DaemonHandler, run: RunId, id: &str) -> Answer<DisputesView> {
    let me = handler.daemon.peer_id();
    let at = with_books(handler, run, |books| {
        let named = books
            .disputes()
            .filter(|(at, _)| dispute_id(at).starts_with(id));
        let named: Vec<_> = named.collect();
        let [(at, dispute)] = named[..] else {
            let text = format!(
                "{} disputes of run {} begin with {id:?}",
                named.len(),
                run.short()
            );
            return Err(Problem::new(Code::UnknownId, text)
                .hint("`tributary dispute list RUN` shows their ids"));
        };
        match dispute.stage {
            Stage::Appealable(loser, until) if loser == me && books.expected() <= until => Ok(*at),
            _ => {
                let text = "only who has lost before a first jury may appeal, within a few heights";
                Err(Problem::new(Code::Refused, text.to_owned())
                    .hint("`tributary dispute list RUN` shows how far it is"))
            }
        }
    })
    .await?;
    file(handler, run, DisputeStep::Appeal(at)).await?;
    list(handler, run).await
}

/// The one sheet and the one contributor that a request means.
fn named(books: &RunBooks, request: &DisputeRequest) -> Answer<(EntryRef, PeerId)> {
    let begins = |peer: &PeerId, digits: &str| peer.to_string().starts_with(digits);
    let mut sheets = books.disputable().filter(|(at, round, _)| {
        round.0 == request.round && begins(&at.author, &request.evaluator)
    });
    let (Some((sheet, _, scored)), None) = (sheets.next(), sheets.next()) else {
        return Err(refused(UndisputedError::NotCounted, books.run()));
    };
    let mut peers = scored.iter().filter(|peer| begins(peer, &request.peer));
    match (peers.next(), peers.next()) {
        (Some(peer), None) => Ok((*sheet, *peer)),
        _ => Err(refused(UndisputedError::NotScored, books.run())),
    }
}

fn refused(why: UndisputedError, run: RunId) -> Problem {
    let hint = match why {
        UndisputedError::NoChain => "open another run with a chain",
        UndisputedError::NotCounted | UndisputedError::NotScored | UndisputedError::Own => {
            "`tributary dispute list RUN` shows which sheets can be disputed, and whose scores they have"
        }
        UndisputedError::Again => "`tributary dispute list RUN` shows it",
        UndisputedError::NoStake => {
            "`tributary run show RUN` says what stake counts; stake counts a window after it is bonded"
        }
    };
    Problem::new(Code::Refused, format!("run {}: {why}", run.short())).hint(hint)
}

async fn with_books<T>(
    handler: &DaemonHandler,
    run: RunId,
    ask: impl FnOnce(&RunBooks) -> Answer<T>,
) -> Answer<T> {
    let index = handler.daemon.index().await;
    let indexed = index.run(&run).ok_or_else(|| not_followed(run))?;
    let books = indexed.run_books();
    ask(books.map_err(super::failed)?)
}

async fn file(handler: &DaemonHandler, run: RunId, step: DisputeStep) -> Answer<()> {
    let filed = handler
        .daemon
        .keeper()
        .file(run, vec![Entry::Dispute(step)]);
    filed.await.map_err(|why| Problem::new(Code::Refused, why))
}
