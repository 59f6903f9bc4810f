//! Whom a relay refuses, and how the refused hear of it.

use serde_json::Value;

use super::{PATIENCE, RELAY_PORT, uses_a_relay};
use crate::ground::{Ground, Kind, ip};
use crate::peer::{Peer, Plan, text_of};
use crate::suite::Outcome;

/// A peer that was never invited, one whose ticket was taken back, and one whose ticket holds.
pub(super) fn refused() -> Result<Outcome, String> {
    let ground = Ground::new()?;
    let center = ground.house("center", Kind::Public)?;
    let place = ground.device("host", &center)?;
    let host = Peer::init(ground.dir(), "host", Some(&place))?;
    let relay = format!("{}:{RELAY_PORT}", ip(&place)?);
    host.up(&["--reach", "wan", "--relay", &relay])?;
    let plan = Plan {
        rounds: 2,
        members: 9,
    };
    let run = plan.open(ground.dir(), &host)?;
    let (gone, good) = (host.ask(&["invite", &run])?, host.ask(&["invite", &run])?);
    host.ask(&["invite", "--revoke", &text_of(&gone, "invitation")?])?;

    let house = ground.house("house", Kind::Symmetric)?;
    let peer = |name| Peer::init(ground.dir(), name, Some(&ground.device(name, &house)?));
    let (stranger, late, invited) = (peer("stranger")?, peer("late")?, peer("invited")?);
    let status = host.ask(&["status"])?;
    let address = status["addresses"][0].as_str().unwrap_or_default();
    let (_, key) = address
        .rsplit_once("/p2p/")
        .ok_or_else(|| format!("no key in {status}"))?;
    let (at, port) = relay.split_once(':').ok_or("no port")?;
    stranger.up(&[
        "--reach",
        "wan",
        "--via",
        &format!("/ip4/{at}/tcp/{port}/p2p/{key}"),
    ])?;
    let mut joins = Vec::new();
    for (peer, ticket) in [(&late, &gone), (&invited, &good)] {
        // Without --yes: what is tried is the relay's gate, which a member passes without a ticket.
        joins.push(peer.type_in(&["join", &text_of(ticket, "ticket")?])?);
    }

    let mut outcome = Outcome::default();
    for (peer, reason) in [
        (&stranger, "you showed none"),
        (&late, "revoked this ticket"),
    ] {
        let mut why = Value::Null;
        let told = peer.until("the relay's reason", PATIENCE, || {
            let reach = peer.reach().unwrap_or_default();
            why = reach["relays"][0]["why"].clone();
            let warnings = reach["warnings"].as_array().cloned().unwrap_or_default();
            let mut warnings = warnings.iter().map(|warning| &warning["code"]);
            why.as_str().is_some_and(|why| why.contains(reason))
                && warnings.any(|code| code == "relay_down")
        });
        outcome.seconds(
            &format!("{}_told_s", peer.name),
            told.as_ref().ok().copied(),
        );
        outcome.promise(told.is_ok(), format!("{}: {reason}, not {why}", peer.name));
    }
    let served = invited.until("the relay carries the invited", PATIENCE, || {
        uses_a_relay(&invited)
    });
    outcome.seconds("invited_served_s", served.as_ref().ok().copied());
    outcome.promise(served.is_ok(), served.err().unwrap_or_default());
    Ok(outcome)
}
