//! `tributary status`: what the peer of this home is doing, and with `--watch` what happens to it.

use std::cmp::Reverse;
use std::io::Write;

use tributary_ledger::view::short;

use super::Context;
use super::args::StatusArgs;
use super::reach::paths_table;
use crate::api::Reader;
use crate::api::client::Client;
use crate::api::local::Local;
use crate::api::types::event::EventView;
use crate::api::types::reach::AwaitedView;
use crate::api::types::{EventsRequest, RunBrief, StatusView};
use crate::problem::Code;
use crate::terminal::output::{Align, Table, bytes, duration};
use crate::terminal::{Failure, Format};
use crate::view::{line, phase_line};

/// Peers that a line names.
const MAX_AWAITED: usize = 6;

pub(super) async fn run(context: &Context, args: StatusArgs) -> Result<(), Failure> {
    if args.watch {
        let client = Client::open(&context.home).await?;
        context.out.answer(&client.status().await?, text)?;
        let followed = follow(context, &client, &EventsRequest::default()).await;
        return match followed {
            Err(failure) if failure.problem().code == Code::Stopped => Ok(()),
            other => other,
        };
    }
    let status = Local::of(&context.home).await?.status().await?;
    context.out.answer(&status, text)
}

/// Prints events as they happen: each as JSON, or those that people want to read as a line.
pub(super) async fn follow(
    context: &Context,
    client: &Client,
    request: &EventsRequest,
) -> Result<(), Failure> {
    let is_json = context.out.format() == Format::Json;
    let mut stdout = std::io::stdout();
    let print = |event: EventView| {
        let text = match &event {
            _ if is_json => serde_json::to_string(&event).unwrap_or_default(),
            // A line a step is for programs.
            EventView::Training { .. } => return true,
            _ => match (&request.run, event.run()) {
                (None, Some(run)) => format!("{}  {}", short(run), line(&event)),
                _ => line(&event),
            },
        };
        // A closed pipe ends the watch; that is how `| head` says it has enough.
        writeln!(stdout, "{text}")
            .and_then(|()| stdout.flush())
            .is_ok()
    };
    Ok(client.events(request, print).await?)
}

fn text(status: &StatusView) -> String {
    let mut out = format!(
        "peer       {}\nname       {}\nhome       {}\n",
        status.peer, status.name, status.home,
    );
    if status.running {
        out.push_str(&format!(
            "connected  {}\ntraffic    {} up, {} down\n",
            status.connected.len(),
            bytes(status.bytes_up),
            bytes(status.bytes_down),
        ));
    } else {
        out.push_str(&format!(
            "daemon     not running; `tributary up --home {}` starts it\n",
            status.home
        ));
    }
    for address in &status.addresses {
        out.push_str(&format!("address    {address}\n"));
    }
    if let Some(serving) = &status.serving {
        let adapters = match serving.adapters.is_empty() {
            true => String::new(),
            false => format!(" with {}", serving.adapters.join(", ")),
        };
        let words = format!("{} at {}{adapters}", serving.base, serving.url);
        out.push_str(&format!("serving    {words}\n"));
    }
    if let Some(url) = &status.gateway {
        out.push_str(&format!("gateway    {url}\n"));
    }
    for warning in &status.warnings {
        out.push_str(&format!("warning    {warning}\n"));
    }
    if !status.paths.is_empty() {
        out.push('\n');
        out.push_str(&paths_table(&status.paths));
    }
    out.push('\n');
    out.push_str(&runs_table(&status.runs));
    out
}

/// Runs, a line each.
pub(super) fn runs_table(runs: &[RunBrief]) -> String {
    if runs.is_empty() {
        return "no runs; `tributary run create FILE.toml` opens one, `tributary run join ID` joins \
                one\n"
            .to_owned();
    }
    let mut table = Table::new(&[
        ("run", Align::Left),
        ("name", Align::Left),
        ("base", Align::Left),
        ("round", Align::Right),
        ("members", Align::Right),
        ("phase", Align::Left),
    ]);
    for run in runs {
        let certified = run
            .certified
            .map_or("-".to_owned(), |r| r.min(run.rounds).to_string());
        table.row([
            short(&run.run),
            run.name.clone(),
            run.base.clone(),
            format!("{certified}/{}", run.rounds),
            run.members.to_string(),
            phase_line(run.phase),
        ]);
    }
    let mut out = table.render();
    for run in runs.iter().filter(|run| !run.awaited.is_empty()) {
        out.push_str(&awaited_line(run));
    }
    out
}

/// Whom a run's round waits for, the one that was away for longest first.
fn awaited_line(run: &RunBrief) -> String {
    let mut awaited: Vec<&AwaitedView> = run.awaited.iter().collect();
    awaited.sort_by_key(|peer| (peer.connected, Reverse(peer.seen_s.unwrap_or(u64::MAX))));
    let words = awaited.iter().take(MAX_AWAITED).map(|peer| {
        let seen = match (peer.connected, peer.seen_s) {
            (true, _) => "connected".to_owned(),
            (false, Some(seen_s)) => format!("last seen {} ago", duration(seen_s * 1000)),
            (false, None) => "not seen since this daemon started".to_owned(),
        };
        let name = if peer.name.is_empty() { "" } else { " " };
        format!("{}{name}{} ({seen})", short(&peer.peer), peer.name)
    });
    let more = match awaited.len().saturating_sub(MAX_AWAITED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let words: Vec<String> = words.collect();
    format!("{} waits for {}{more}\n", short(&run.run), words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::RunPhase;

    #[test]
    fn status_names_the_address_that_others_need() {
        let status = StatusView {
            peer: "ab".repeat(32),
            addresses: vec!["/ip4/127.0.0.1/tcp/4001/p2p/12D3".to_owned()],
            runs: vec![RunBrief {
                run: "cd".repeat(32),
                name: "poets".to_owned(),
                certified: Some(7),
                rounds: 6,
                phase: RunPhase::Finished,
                ..RunBrief::default()
            }],
            ..StatusView::default()
        };
        let text = text(&status);
        assert!(
            text.contains("address    /ip4/127.0.0.1/tcp/4001/p2p/12D3"),
            "{text}"
        );
        assert!(text.contains("cdcdcdcdcd  poets"), "{text}");
        assert!(
            text.contains("6/6"),
            "the closing height is no round: {text}"
        );
    }
}
