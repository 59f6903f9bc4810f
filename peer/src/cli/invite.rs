//! `tributary invite`: a ticket to a run, those that were given out, and taking one back.

use tributary_ledger::view::short;

use super::Context;
use super::args::InviteArgs;
use crate::api::Reader;
use crate::api::client::Client;
use crate::api::types::RunPhase;
use crate::api::types::reach::{InvitationView, InviteRequest, TicketView};
use crate::terminal::output::{Align, Table, duration};
use crate::terminal::{Failure, note};

pub(super) async fn run(context: &Context, args: InviteArgs) -> Result<(), Failure> {
    let client = Client::open(&context.home).await?;
    if let Some(id) = &args.revoke {
        let held = client.revoke(id).await?;
        return context.out.answer(&held, |held| table(held));
    }
    if args.list {
        let held = client.invitations().await?;
        return context.out.answer(&held, |held| table(held));
    }
    let run = match args.run {
        Some(run) => run,
        None => only_run(&client).await?,
    };
    let request = InviteRequest {
        run,
        expires_s: args.expires,
    };
    let ticket = client.invite(&request).await?;
    for warning in &ticket.warnings {
        note(format_args!("warning: {warning}"));
    }
    context
        .out
        .answer(&ticket, |ticket| text(ticket, args.expires))
}

/// The one run that somebody can be invited to.
async fn only_run(client: &Client) -> Result<String, Failure> {
    let runs = client.runs().await?;
    let is_open = |phase: RunPhase| {
        !matches!(
            phase,
            RunPhase::Known | RunPhase::Finished | RunPhase::Declined
        )
    };
    let mut open = runs.into_iter().filter(|run| is_open(run.phase));
    match (open.next(), open.next()) {
        (Some(run), None) => Ok(run.run),
        (None, _) => Err(
            Failure::environment("this peer follows no run that is open")
                .hint("`tributary run create FILE.toml` opens one"),
        ),
        (Some(_), Some(_)) => Err(Failure::environment(
            "this peer follows more than one run that is open",
        )
        .hint("name one: `tributary run list` shows them")),
    }
}

fn text(ticket: &TicketView, life_s: u64) -> String {
    let mut out = format!("{}\n\n", ticket.ticket);
    out.push_str(&format!(
        "run         {} ({})\ninvitation  {}\nends in     {}\n",
        short(&ticket.run),
        ticket.name,
        ticket.invitation,
        duration(life_s * 1000),
    ));
    for peer in &ticket.peers {
        out.push_str(&format!("names       {peer}\n"));
    }
    out.push_str("\nWho gets it types, in any folder:\n  tributary join TICKET --data FILE...\n");
    out
}

fn table(held: &[InvitationView]) -> String {
    if held.is_empty() {
        return "no tickets were given out\n".to_owned();
    }
    let mut table = Table::new(&[
        ("invitation", Align::Left),
        ("run", Align::Left),
        ("ends", Align::Left),
        ("", Align::Left),
    ]);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
    let now = now.map_or(0, |since| since.as_secs());
    for ticket in held {
        let ends = match ticket.expires.checked_sub(now) {
            Some(left) if left > 0 => format!("in {}", duration(left * 1000)),
            _ => "ended".to_owned(),
        };
        let state = if ticket.revoked { "taken back" } else { "" };
        table.row([
            ticket.invitation.clone(),
            short(&ticket.run),
            ends,
            state.to_owned(),
        ]);
    }
    table.render()
}
