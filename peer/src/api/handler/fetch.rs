//! Fetching an adapter that this peer had no part in.
//!
//! The run is followed without joining: certificates come first and are checked one by one from the
//! manifest on, then the newest certified adapter arrives as a blob whose hash the last certificate
//! names. So who sends the bytes does not matter. With an adapter's id instead of a run's, the runs of
//! the connected peers are followed until one certifies that adapter.

use std::time::Duration;

use tokio::time::Instant;
use tributary_protocol::event::Command;
use tributary_protocol::id::RunId;
use tributary_protocol::node::Excess;

use super::{Answer, DaemonHandler, beyond, stopped};
use crate::problem::{Code, Problem};
use crate::settings::declined_words;

/// How often it is looked again while nothing says that anything changed.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What is known of the search.
enum Found {
    /// Certified and at hand.
    Here(RunId),
    /// Still to come: what is waited for.
    Waiting(String),
    /// The run asks for too much.
    Declined(RunId, Excess),
}

/// Follows what it takes until the adapter that `id` names is certified and at hand.
pub(super) async fn certified(
    handler: &DaemonHandler,
    id: &str,
    timeout: Duration,
) -> Answer<RunId> {
    let deadline = Instant::now() + timeout;
    let mut progress = handler.daemon.watch_progress();
    let mut neighbours = handler.daemon.watch_known_runs();
    let as_run: Option<RunId> = id.parse().ok();
    let (mut asked, mut compared) = (Vec::new(), Vec::new());
    let mut waiting;
    loop {
        match look(handler, id).await? {
            Found::Here(run) => return Ok(run),
            Found::Declined(run, excess) => {
                return Err(beyond(declined_words(&run, &excess)));
            }
            Found::Waiting(what) => waiting = what,
        }
        let known: Vec<RunId> = handler.daemon.known_runs().into_keys().collect();
        let named = known.iter().any(|run| run.to_string().starts_with(id));
        // When a neighbour follows a run of that id there is no need to look into others.
        let candidates = match as_run {
            Some(run) if named || known.is_empty() => vec![run],
            _ => known,
        };
        for run in candidates {
            if (named && !run.to_string().starts_with(id)) || asked.contains(&run) {
                continue;
            }
            asked.push(run);
            handler.command(Command::Follow { run, join: None }).await?;
        }
        ask_for_certificates(handler, &asked, &mut compared).await?;
        if Instant::now() > deadline {
            let text = format!(
                "no certified adapter for {id} in {} s: {waiting}. Connected peers: {}",
                timeout.as_secs(),
                handler.daemon.connected().len()
            );
            return Err(Problem::new(Code::Unreachable, text)
                .hint("check the id and the --bootstrap address"));
        }
        // Both remember what changed since they were looked at last, so nothing is missed in between. Where the daemon
        // stopped, the next look says so.
        let wait = LOOK_AGAIN.min(deadline.saturating_duration_since(Instant::now()));
        tokio::select! {
            _ = progress.changed() => {}
            _ = neighbours.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Certificates that come before the manifest are passed over, and neighbours send them again when they next compare
/// ledgers with this peer: that is done as soon as the manifest is here, once for each run.
async fn ask_for_certificates(
    handler: &DaemonHandler,
    asked: &[RunId],
    compared: &mut Vec<RunId>,
) -> Answer<()> {
    for run_progress in handler.daemon.progress().iter() {
        let (run, is_waiting) = (run_progress.run, run_progress.certified.is_none());
        let is_known = run_progress.manifest.is_some();
        if !is_known || !is_waiting || !asked.contains(&run) || compared.contains(&run) {
            continue;
        }
        compared.push(run);
        let followers = handler.daemon.known_runs().remove(&run);
        let comparing = handler.daemon.compare_with(followers.unwrap_or_default());
        comparing.await.map_err(stopped)?;
    }
    Ok(())
}

async fn look(handler: &DaemonHandler, id: &str) -> Answer<Found> {
    let id = id.to_owned();
    handler
        .inspect(move |node| {
            let mut waiting = "no neighbour has told of such a run".to_owned();
            for run in node.runs() {
                let by_run = run.id().to_string().starts_with(&id);
                if let Some(excess) = run.declined() {
                    if by_run {
                        return Found::Declined(run.id(), *excess);
                    }
                    // The adapter that is looked for may be another run's.
                    waiting = declined_words(&run.id(), excess);
                    continue;
                }
                let adapter = run.head().map(|head| head.adapter.hash.to_string());
                if !by_run && !adapter.as_ref().is_some_and(|a| a.starts_with(&id)) {
                    continue;
                }
                let (Some(manifest), Some(head)) = (run.manifest(), run.head()) else {
                    waiting =
                        "the run's manifest or its first certificate has not arrived".to_owned();
                    continue;
                };
                let here = run.adapter().is_some_and(|(round, _)| *round == head.round);
                // By its run an adapter is wanted as it ends; by its own id, as soon as it is here.
                let enough = !by_run || head.round >= manifest.closing_round();
                if here && enough {
                    return Found::Here(run.id());
                }
                waiting = if here {
                    format!(
                        "the run has certified round {} of {}",
                        head.round, manifest.plan.rounds
                    )
                } else {
                    format!("the adapter of round {} is being fetched", head.round)
                };
            }
            Found::Waiting(waiting)
        })
        .await
}

#[cfg(test)]
mod tests;
