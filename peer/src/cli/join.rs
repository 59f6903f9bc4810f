//! `tributary join TICKET`: from an empty folder to membership in one command.
//!
//! Each step does nothing where it was done before, so that the command can be given again after anything went wrong:
//! key, daemon, connection, offer, the owner's word, text, base model, membership.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use tributary_ledger::view::AdapterView;
use tributary_ledger::view::short;

use super::args::{InitArgs, JoinArgs};
use super::run::{absolute, absolute_all};
use super::up::detach;
use super::{Context, init};
use crate::NETWORK;
use crate::api::Reader;
use crate::api::client::Client;
use crate::api::types::base::BaseView;
use crate::api::types::reach::{OfferView, TicketRequest};
use crate::api::types::{FetchRequest, JoinRequest, RunBrief};
use crate::driver;
use crate::home::HomePaths;
use crate::net::{Reach, is_private};
use crate::shard;
use crate::terminal::output::bytes;
use crate::terminal::working::Working;
use crate::terminal::{Failure, note};
use crate::ticket::Ticket;
use crate::view::phase_line;

/// How often it is looked how far the base model is; on a terminal, a line each time.
const LOOK: Duration = Duration::from_secs(3);
/// How long a finished adapter may take to arrive.
const FETCH_S: u64 = 600;

/// A membership that was asked for.
#[derive(Serialize)]
struct Joined {
    schema: &'static str,
    #[serde(flatten)]
    run: RunBrief,
}

pub(super) async fn run(context: &Context, args: JoinArgs) -> Result<(), Failure> {
    let ticket = Ticket::parse(&args.ticket, driver::now(), NETWORK);
    let ticket = ticket.map_err(|e| Failure::from_error(&e))?;
    let base = args.base.as_deref().map(absolute).transpose()?;
    files_are_here(&args)?;
    make_key(context, args.name.clone())?;
    let client = daemon(context, &ticket).await?;
    note("looking for the peers of the ticket");
    let request = TicketRequest {
        ticket: ticket.text().to_owned(),
        base: base.clone(),
    };
    let offer = client.ticket(&request).await?;
    if args.read_only {
        let adapter = fetch(&client, &offer, args.out).await?;
        return context.out.answer(&adapter, |adapter| {
            format!(
                "adapter {} (round {}) of run {}",
                short(&adapter.id),
                adapter.round,
                offer.name
            )
        });
    }
    if offer.finished {
        return Err(Failure::environment(format!(
            "the run {} is over: nobody joins it any more",
            offer.name
        ))
        .hint("give the command again with --read-only to fetch its adapter"));
    }
    note(shown(&offer));
    agreed(&args)?;
    add_data(context, &args, &offer)?;
    if !offer.has_base {
        fetch_base(&client, &offer).await?;
    }
    let request = JoinRequest {
        role: args.role,
        datanet: None,
        holdout: absolute_all(&args.holdout)?,
        base,
    };
    let joined = Joined {
        schema: "joined/1",
        run: client.join(&offer.run, &request).await?,
    };
    context.out.answer(&joined, |joined| {
        format!(
            "asked to join run {} ({}); members join at the next round. Now: {}\nnext: {} run watch {}",
            short(&joined.run.run),
            joined.run.name,
            phase_line(joined.run.phase),
            context.call,
            short(&joined.run.run)
        )
    })
}

/// A mistyped name is told before anything is made.
fn files_are_here(args: &JoinArgs) -> Result<(), Failure> {
    for path in args.data.iter().chain(&args.holdout).chain(&args.base) {
        std::fs::metadata(path).map_err(|e| {
            Failure::environment(format!("cannot read {}: {e}", path.display()))
                .hint("check the path; nothing was made or sent yet")
        })?;
    }
    Ok(())
}

fn make_key(context: &Context, name: Option<String>) -> Result<(), Failure> {
    if HomePaths::new(&context.home).key().exists() {
        return Ok(());
    }
    let made = init::make(context, &InitArgs { name })?;
    note(format_args!(
        "made the key of a new peer in {}; the file `key` there is this peer: keep a copy in a safe place",
        made.home
    ));
    Ok(())
}

/// The daemon of the home, which reaches as far as the ticket asks for: started where none runs.
async fn daemon(context: &Context, ticket: &Ticket) -> Result<Client, Failure> {
    let places = ticket.contacts().iter().flat_map(|contact| {
        let relay = contact.relay.map(|relay| relay.socket);
        contact.sockets.iter().copied().chain(relay)
    });
    let reach = reach_for(&places.collect::<Vec<SocketAddr>>());
    if let Some(client) = Client::try_open(&context.home).await? {
        let now = client.status().await?.reach;
        let is_enough = |now: Reach| now >= reach;
        if Reach::from_str(&now, true).is_ok_and(is_enough) {
            return Ok(client);
        }
        return Err(Failure::environment(format!(
            "this peer's daemon reaches as far as `{now}`, and the ticket leads further, to `{reach}`"
        ))
        .hint(format!(
            "`{} down`, and give the command again: it starts the daemon with --reach {reach}",
            context.call
        )));
    }
    note(format_args!("starting this peer's daemon (reach: {reach})"));
    let options = ["up".to_owned(), "--reach".to_owned(), reach.to_string()];
    detach::start(&context.home, &options).await?;
    Ok(Client::open(&context.home).await?)
}

/// A ticket that leads to this machine alone needs nothing else.
fn reach_for(places: &[SocketAddr]) -> Reach {
    match places {
        _ if places.iter().all(|place| place.ip().is_loopback()) => Reach::Loopback,
        _ if places.iter().all(|place| is_private(place.ip())) => Reach::Lan,
        _ => Reach::Wan,
    }
}

fn shown(offer: &OfferView) -> String {
    let certified = offer.certified.map_or(0, |round| round.min(offer.rounds));
    let mut out = format!(
        "\nrun      {} ({})\nbase     {}\nrounds   {certified} of {} done; each takes {} steps of training on this \
         machine\nmembers  {}\npays     at most {} OPEN a round, to all together\n",
        offer.name,
        short(&offer.run),
        base_line(offer),
        offer.rounds,
        offer.local_steps,
        offer.members,
        tributary_protocol::id::MicroOpen(offer.budget_micro_open.into()),
    );
    out.push_str("\nWhat leaves this machine:\n");
    offer
        .leaves
        .iter()
        .for_each(|line| out.push_str(&format!("  - {line}\n")));
    out.push_str("What stays:\n");
    offer
        .stays
        .iter()
        .for_each(|line| out.push_str(&format!("  - {line}\n")));
    out
}

/// The base model: whether it is here, what it would take, and its licence.
fn base_line(offer: &OfferView) -> String {
    let fetched = match (offer.has_base, offer.base_shared, offer.base_bytes) {
        (true, ..) => String::new(),
        (false, false, _) => {
            ", not here and not handed on by members: it needs --base DIR".to_owned()
        }
        (false, true, 0) => ", to fetch from members".to_owned(),
        (false, true, size) => format!(", {} to fetch from members", bytes(size)),
    };
    let licence = match (offer.base_shared, offer.base_licence.as_str()) {
        (false, _) => String::new(),
        (true, "") => {
            "\nlicence  of the base: not known; look it up before you use what you train".to_owned()
        }
        (true, licence) => format!("\nlicence  of the base: {licence}"),
    };
    format!("{}{fetched}{licence}", offer.base)
}

/// The owner's word.
fn agreed(args: &JoinArgs) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    let declined = || {
        Failure::interrupted("not joined; the daemon goes on running, `tributary down` stops it")
    };
    if !std::io::stdin().is_terminal() {
        return Err(
            Failure::environment("nobody is there to say whether this peer should join")
                .hint("give the command again with --yes"),
        );
    }
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "Join? [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|_| declined())?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(declined()),
    }
}

fn add_data(context: &Context, args: &JoinArgs, offer: &OfferView) -> Result<(), Failure> {
    if args.data.is_empty() {
        return Ok(());
    }
    let home = HomePaths::new(&context.home);
    let view = shard::add_telling(&home, &offer.datanet, &args.data, &mut |line| note(line))?;
    note(format_args!(
        "shard {}: {} files, {}; it never leaves this machine",
        view.datanet,
        view.files.len(),
        bytes(view.bytes)
    ));
    Ok(())
}

/// The base model, from peers. Given again after anything went wrong, it goes on with what is here.
async fn fetch_base(client: &Client, offer: &OfferView) -> Result<(), Failure> {
    let what = format!("fetching the base model {}", offer.base);
    note(&what);
    let working = Working::new(&what);
    let fetching = client.fetch_base(&offer.run);
    tokio::pin!(fetching);
    let mut look = tokio::time::interval(LOOK);
    let is_watched = std::io::stderr().is_terminal();
    loop {
        tokio::select! {
            fetched = &mut fetching => {
                fetched?;
                note(format_args!("the base model {} is here and is what the run says", offer.base));
                return Ok(());
            }
            _ = look.tick() => {
                // Where it gives no answer the fetch itself says why.
                let Ok(far) = client.base(&offer.run).await else {
                    continue;
                };
                working.at(&what, (far.bytes_done, far.bytes_total));
                if is_watched && far.bytes_total > 0 {
                    note(progress_line(&far));
                    working.said();
                }
            }
        }
    }
}

fn progress_line(far: &BaseView) -> String {
    let percent = far.bytes_done as f64 / far.bytes_total.max(1) as f64 * 100.0;
    let from = match far.providers.as_slice() {
        [] => "waiting for a peer that has more".to_owned(),
        [one] => format!("from peer {}", short(one)),
        more => format!("from {} peers", more.len()),
    };
    format!(
        "base: {} of {} ({percent:.0} %), {}/s, {from}",
        bytes(far.bytes_done),
        bytes(far.bytes_total),
        bytes(far.bytes_per_second)
    )
}

/// The finished adapter, and nothing else.
async fn fetch(
    client: &Client,
    offer: &OfferView,
    out: Option<PathBuf>,
) -> Result<AdapterView, Failure> {
    let dir = absolute(&out.unwrap_or_else(|| PathBuf::from(folder_name(&offer.name))))?;
    note(format_args!(
        "fetching the adapter of run {} to {}",
        offer.name,
        dir.display()
    ));
    let request = FetchRequest {
        id: offer.run.clone(),
        dir,
        bootstrap: Vec::new(),
        timeout_s: FETCH_S,
    };
    Ok(client.fetch(&request).await?)
}

/// A stranger chose the run's name: of it only what is a plain name of a folder.
fn folder_name(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
                c
            } else {
                '-'
            }
        })
        .collect();
    match plain.trim_matches('-') {
        "" => "adapter".to_owned(),
        plain => plain.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_reaches_as_far_as_its_ticket() {
        let places = |texts: &[&str]| {
            let sockets: Vec<SocketAddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
            reach_for(&sockets)
        };
        assert_eq!(places(&["127.0.0.1:1", "[::1]:2"]), Reach::Loopback);
        assert_eq!(places(&["127.0.0.1:1", "192.168.1.2:2"]), Reach::Lan);
        assert_eq!(places(&["192.168.1.2:2", "203.0.113.7:7842"]), Reach::Wan);
    }

    #[test]
    fn an_offer_says_what_the_base_takes_and_its_licence() {
        let mut offer = OfferView {
            base: "small".to_owned(),
            base_bytes: 270 << 20,
            base_shared: true,
            base_licence: "apache-2.0 (README.md)".to_owned(),
            ..OfferView::default()
        };
        let line = base_line(&offer);
        assert!(line.contains("to fetch from members"), "{line}");
        assert!(
            line.ends_with("licence  of the base: apache-2.0 (README.md)"),
            "{line}"
        );
        offer.base_licence.clear();
        assert!(base_line(&offer).contains("not known"));
        offer.base_shared = false;
        assert!(base_line(&offer).contains("--base DIR"));
        offer.has_base = true;
        assert_eq!(base_line(&offer), "small");
    }

    #[test]
    fn progress_says_how_much_how_fast_and_from_whom() {
        let mut far = BaseView {
            bytes_done: 50 << 20,
            bytes_total: 200 << 20,
            bytes_per_second: 1 << 20,
            ..BaseView::default()
        };
        assert!(
            progress_line(&far).contains("(25 %)"),
            "{}",
            progress_line(&far)
        );
        assert!(progress_line(&far).ends_with("waiting for a peer that has more"));
        far.providers = vec!["a".repeat(64), "b".repeat(64)];
        assert!(progress_line(&far).ends_with("from 2 peers"));
    }

    #[test]
    fn a_strangers_name_is_no_path() {
        assert_eq!(folder_name("poets of 1900"), "poets-of-1900");
        assert_eq!(folder_name("../../etc"), "etc");
        assert_eq!(folder_name("///"), "adapter");
    }
}
