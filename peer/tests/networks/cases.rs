//! The cases: what the networks are, what is done in them, and what must come of it.

mod faults;
mod gates;
mod near;
mod pairs;
mod wires;

use std::time::Duration;

use patchbay::{Device, Router};

use super::ground::{Ground, Kind, ip};
use super::peer::{Peer, Plan, ticket};
use super::suite::Outcome;

/// Two peers that can meet directly do so within this time of the newcomer's command.
const DIRECT_WITHIN_S: f64 = 15.0;
/// Anything that must happen; the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(90);
/// The port of relays.
const RELAY_PORT: u16 = 7842;

/// A case by its name.
pub(crate) struct Case {
    pub(crate) name: String,
    /// Whether it is one of those that are always tried.
    pub(crate) short: bool,
    pub(crate) needs_namespaces: bool,
    pub(crate) run: Box<dyn Fn() -> Result<Outcome, String>>,
}

impl Case {
    fn new(
        name: impl Into<String>,
        short: bool,
        run: impl Fn() -> Result<Outcome, String> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            short,
            needs_namespaces: true,
            run: Box::new(run),
        }
    }
}

/// Every case, in the order in which they are tried.
pub(crate) fn all() -> Vec<Case> {
    let mut all = Vec::new();
    for (n, left) in Kind::ALL.into_iter().enumerate() {
        for right in Kind::ALL.into_iter().skip(n) {
            let name = format!("pair_{}_{}", left.name(), right.name());
            let short = left == right && left != Kind::Public && left != Kind::Open;
            all.push(Case::new(name, short, move || pairs::meet(left, right)));
        }
    }
    all.extend([
        Case::new("a_house_that_is_added_cuts_nobody_off", true, wires::stay),
        Case::new(
            "two_peers_of_one_lan_meet_without_an_address",
            true,
            near::lan,
        ),
        Case::new(
            "two_guests_meet_through_the_relay_of_their_host",
            false,
            pairs::members_relay,
        ),
        Case::new(
            "without_udp_a_peer_is_relayed_and_told_so",
            true,
            pairs::without_udp,
        ),
        Case::new("a_relay_that_dies_and_returns", true, faults::relay_dies),
        // Devices that move do not keep their bound every time (`docs/numbers/reach.md`): tried with all, not with each change.
        Case::new("a_device_changes_its_router", false, faults::changes_router),
        Case::new(
            "a_device_gets_another_address",
            false,
            faults::changes_address,
        ),
        Case::new(
            "a_device_loses_its_link_for_a_while",
            false,
            faults::loses_link,
        ),
        Case::new("a_router_forgets_its_state", false, faults::router_reboots),
        Case::new("a_killed_peer_is_found_again", false, faults::is_killed),
        Case::new(
            "a_relay_refuses_strangers_and_revoked_tickets",
            true,
            gates::refused,
        ),
    ]);
    all.push(Case {
        needs_namespaces: false,
        ..Case::new("a_newcomers_first_round", false, near::first_round)
    });
    all
}

/// A relay at a public address, and a peer behind a router that opened a run and gave out a ticket.
struct Hosted {
    relay: Peer,
    relay_at: String,
    host: Peer,
    host_id: String,
    run: String,
    ticket: String,
}

impl Hosted {
    fn open(ground: &Ground, house: Router, plan: &Plan) -> Result<Self, String> {
        let center = ground.house("center", Kind::Public)?;
        let place = ground.device("relay", &center)?;
        let device = ground.device("host", &house)?;
        let host = Peer::init(ground.dir(), "host", Some(&device))?;
        let host_id = host.id()?;
        let relay = Peer::new(ground.dir(), "relay", Some(&place));
        let relay_at = format!("{}:{RELAY_PORT}", ip(&place)?);
        let address = relay.relay(&relay_at, &host_id)?;
        host.up(&["--reach", "wan", "--via", &address])?;
        host.until("its relay carries its packets", PATIENCE, || {
            uses_a_relay(&host)
        })?;
        let run = plan.open(ground.dir(), &host)?;
        let ticket = ticket(&host, &run)?;
        Ok(Self {
            relay,
            relay_at,
            host,
            host_id,
            run,
            ticket,
        })
    }

    /// Another peer that joins by the ticket. Where it cannot, those that it asked say more: their logs, and how the host
    /// is reached by then.
    fn join(&self, ground: &Ground, name: &str, device: &Device) -> Result<(Peer, String), String> {
        let peer = Peer::init(ground.dir(), name, Some(device))?;
        let id = peer.id()?;
        let joined = peer.ask(&["join", &self.ticket, "--yes"]);
        joined.map_err(|why| {
            let logs = [&peer, &self.host, &self.relay]
                .map(|peer| format!("the log of {}:\n{}", peer.name, peer.log()));
            let reach = self.host.reach().unwrap_or_default();
            format!("{why}\n{}\nthe host's reach: {reach}", logs.join("\n"))
        })?;
        Ok((peer, id))
    }
}

fn uses_a_relay(peer: &Peer) -> bool {
    let reach = peer.reach().unwrap_or_default();
    let relays = reach["relays"].as_array();
    relays.is_some_and(|relays| relays.iter().any(|relay| relay["connected"] == true))
}
