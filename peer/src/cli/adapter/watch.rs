//! `tributary adapter watch`: each adapter of a run as it is certified, written, said in one line, and loaded by a server.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Notify;
use tributary_ledger::view::short;

use crate::api::Reader;
use crate::api::client::Client;
use crate::api::loader::Server;
use crate::api::types::event::EventView;
use crate::api::types::{EventsRequest, ExportRequest, RunView};
use crate::cli::Context;
use crate::terminal::{Failure, note};

/// How often the run is looked at where no event says that it is worth it: an adapter may come after its certificate.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long the last adapter of a finished run may take to arrive.
const LAST_ARRIVES: Duration = Duration::from_secs(60);
/// `adapter-watch/1`: one line for each certified adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Fresh {
    schema: &'static str,
    /// The run.
    run: String,
    /// The round that certified it.
    round: u32,
    /// Rounds of the run.
    rounds: u32,
    /// The adapter's id.
    adapter: String,
    /// The folder that was written.
    folder: Option<PathBuf>,
    /// The name under which a server has it now.
    served_as: Option<String>,
}

/// Follows a run until it is finished and its last adapter was told of.
pub(super) async fn watch(
    context: &Context,
    client: &Client,
    id: &str,
    out: Option<PathBuf>,
    server: Option<Server>,
) -> Result<(), Failure> {
    let id = client.run(id).await?.brief.run;
    let changed = Notify::new();
    let request = EventsRequest {
        run: Some(id.clone()),
    };
    let hear = |event: EventView| {
        if matches!(
            event,
            EventView::Certified { .. } | EventView::Finished { .. }
        ) {
            changed.notify_one();
        }
        true
    };
    let listen = async {
        // Where the daemon stopped, the next question to it says so.
        let _ = client.events(&request, hear).await;
        std::future::pending::<()>().await
    };
    let follow = async {
        let mut seen = Seen::default();
        loop {
            let run = client.run(&id).await?;
            if let Some(fresh) = seen.fresh(&run, out.as_ref()) {
                tell(context, client, fresh, server.as_ref()).await?;
                continue;
            }
            if seen.is_over(&run)? {
                return Ok(());
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, changed.notified()).await;
        }
    };
    tokio::select! {
        done = follow => done,
        () = listen => Ok(()),
    }
}

/// Writes an adapter, has it loaded, and says so.
async fn tell(
    context: &Context,
    client: &Client,
    mut fresh: Fresh,
    server: Option<&Server>,
) -> Result<(), Failure> {
    if let Some(folder) = &fresh.folder
        && !folder.join("adapter_config.json").exists()
    {
        let written = client.export(ExportRequest {
            id: fresh.run.clone(),
            dir: folder.clone(),
        });
        // A later round may have been certified meanwhile; then that is what was written.
        let written = written.await?;
        (fresh.round, fresh.adapter) = (written.round, written.id);
    }
    if let (Some(server), Some(folder)) = (server, &fresh.folder) {
        match server.load(folder).await {
            Ok(()) => fresh.served_as = Some(server.name().to_owned()),
            Err(why) => note(format_args!(
                "warning: {} does not serve round {}: {why}; the next round is tried again",
                server.url(),
                fresh.round
            )),
        }
    }
    context.out.answer(&fresh, |fresh| {
        let mut line = format!(
            "round {} of {}: adapter {}",
            fresh.round,
            fresh.rounds,
            short(&fresh.adapter)
        );
        if let Some(folder) = &fresh.folder {
            line.push_str(&format!(" in {}", folder.display()));
        }
        if let Some(name) = &fresh.served_as {
            line.push_str(&format!(", served as {name}"));
        }
        line
    })
}

/// What was told of already.
#[derive(Default)]
struct Seen {
    round: Option<u32>,
    finished: Option<Instant>,
}

impl Seen {
    /// The run's adapter, unless it was told of, has not arrived, or is the start, which changes nothing.
    fn fresh(&mut self, run: &RunView, out: Option<&PathBuf>) -> Option<Fresh> {
        let adapter = run.adapter.as_ref().filter(|a| a.here && a.round > 0)?;
        if self.round >= Some(adapter.round) {
            return None;
        }
        self.round = Some(adapter.round);
        Some(Fresh {
            schema: "adapter-watch/1",
            run: adapter.run.clone(),
            round: adapter.round,
            rounds: run.brief.rounds,
            adapter: adapter.id.clone(),
            folder: out.map(|out| out.join(format!("round-{:04}", adapter.round))),
            served_as: None,
        })
    }

    /// Whether nothing more will come. A finished run whose last adapter does not arrive is an error.
    fn is_over(&mut self, run: &RunView) -> Result<bool, Failure> {
        if !run.brief.finished {
            return Ok(false);
        }
        if run
            .adapter
            .as_ref()
            .is_none_or(|a| self.round >= Some(a.round))
        {
            return Ok(true);
        }
        let since = self.finished.get_or_insert_with(Instant::now);
        match since.elapsed() < LAST_ARRIVES {
            true => Ok(false),
            false => Err(Failure::environment(format!(
                "run {} is finished and its last adapter did not arrive in {} s",
                short(&run.brief.run),
                LAST_ARRIVES.as_secs()
            ))
            .hint(format!(
                "`tributary adapter get {} DIR` goes on asking for it",
                short(&run.brief.run)
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_ledger::view::AdapterView;

    fn run(round: u32, here: bool, finished: bool) -> RunView {
        let mut run = RunView::default();
        run.brief.rounds = 3;
        run.brief.finished = finished;
        run.adapter = Some(AdapterView {
            id: "ab".repeat(32),
            round,
            here,
            ..AdapterView::default()
        });
        run
    }

    #[test]
    fn each_round_is_told_once_when_its_adapter_is_here() {
        let mut seen = Seen::default();
        let mut rounds = |round, here| seen.fresh(&run(round, here, false), None).map(|f| f.round);
        assert_eq!(rounds(0, true), None);
        assert_eq!(rounds(1, false), None);
        assert_eq!(rounds(1, true), Some(1));
        assert_eq!(rounds(1, true), None);
        assert_eq!(rounds(3, true), Some(3));
    }

    #[test]
    fn the_watch_ends_with_the_last_adapter_of_a_finished_run() {
        let mut seen = Seen::default();
        assert_eq!(seen.is_over(&run(3, true, false)), Ok(false));
        assert_eq!(seen.is_over(&run(3, false, true)), Ok(false));
        let out = PathBuf::from("/rounds");
        let fresh = seen.fresh(&run(3, true, true), Some(&out)).unwrap();
        assert_eq!(fresh.folder, Some(PathBuf::from("/rounds/round-0003")));
        assert_eq!(seen.is_over(&run(3, true, true)), Ok(true));
    }
}
