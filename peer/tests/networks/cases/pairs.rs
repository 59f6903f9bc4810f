//! Two people, each behind a router, and one ticket: a run of two rounds, directly where the routers let them.

use std::time::{Duration, Instant};

use patchbay::{Device, Router};
use serde_json::Value;

use super::{DIRECT_WITHIN_S, Hosted, PATIENCE, RELAY_PORT};
use crate::ground::{Ground, Kind, ip};
use crate::peer::{Peer, Plan, Typed, is_direct, text, ticket};
use crate::suite::Outcome;

/// How often the newcomer is asked.
const LOOK: Duration = Duration::from_millis(200);
/// How much longer than the promise a direct way is waited for, so that the figures say by how much it is missed.
const DIRECT_WATCHED: Duration = Duration::from_secs(40);
/// How long a pair that is to be relayed is watched for a direct way.
const RELAYED_WATCHED: Duration = Duration::from_secs(5);

/// What was seen from the newcomer's side, in seconds since its owner typed the command.
#[derive(Default)]
struct Seen {
    connected_s: Option<f64>,
    direct_s: Option<f64>,
    finished_s: Option<f64>,
    last: Option<Value>,
}

/// A host and a newcomer behind routers of these kinds.
pub(super) fn meet(left: Kind, right: Kind) -> Result<Outcome, String> {
    let ground = Ground::new()?;
    let (house, other) = (ground.house("left", left)?, ground.house("right", right)?);
    let mut outcome = Outcome::default();
    outcome.note("left", left.name());
    outcome.note("right", right.name());
    let expected = left.meets(right);
    let (_, seen) = join(&ground, house, &other, expected, &mut outcome)?;
    let way = seen.last.map_or(Value::Null, |path| path["way"].clone());
    outcome.promise(!way.is_null(), "a way to the host");
    if expected {
        let direct = seen.direct_s;
        let within = direct.is_some_and(|s| s <= DIRECT_WITHIN_S);
        outcome.promise(
            within,
            format!("direct within {DIRECT_WITHIN_S} s of the command, not {direct:?}"),
        );
    } else {
        // Else the routers of this test do not translate as they should, and the other pairs show nothing.
        let is_relayed = seen.direct_s.is_none();
        outcome.promise(
            is_relayed,
            "relayed, because such routers cannot be crossed",
        );
    }
    Ok(outcome)
}

/// A host at home, and a newcomer in a network that lets no UDP out.
pub(super) fn without_udp() -> Result<Outcome, String> {
    let ground = Ground::new()?;
    let house = ground.house("left", Kind::PortRestricted)?;
    let other = ground.house_without_udp("right")?;
    let mut outcome = Outcome::default();
    let (newcomer, seen) = join(&ground, house, &other, false, &mut outcome)?;
    let way = seen.last.map(|path| path["way"].clone());
    let relayed = way.as_ref().is_some_and(|way| way == "relayed");
    outcome.promise(relayed, format!("a way through the relay, not {way:?}"));
    let warned = || {
        let reach = newcomer.reach().unwrap_or_default();
        let warnings = reach["warnings"].as_array().cloned().unwrap_or_default();
        warnings
            .iter()
            .any(|warning| warning["code"] == "udp_blocked")
    };
    let warned = newcomer.until("`reach` warns that UDP is blocked", PATIENCE, warned);
    outcome.seconds("warned_s", warned.as_ref().ok().copied());
    if let Err(why) = warned {
        let reach = newcomer.reach().unwrap_or_default();
        outcome.promise(false, format!("{why}\n{reach}"));
    }
    Ok(outcome)
}

/// A host with a public address that relays for its members, and two guests whose routers cannot be crossed.
pub(super) fn members_relay() -> Result<Outcome, String> {
    let ground = Ground::new()?;
    let center = ground.house("center", Kind::Public)?;
    let place = ground.device("host", &center)?;
    let host = Peer::init(ground.dir(), "host", Some(&place))?;
    let relay = format!("{}:{RELAY_PORT}", ip(&place)?);
    host.up(&["--reach", "wan", "--relay", &relay])?;
    let plan = Plan {
        rounds: 2,
        members: 3,
    };
    let run = plan.open(ground.dir(), &host)?;
    let ticket = ticket(&host, &run)?;
    let start = Instant::now();
    let mut guests = Vec::new();
    for name in ["amy", "ben"] {
        let house = ground.house(&format!("{name}-house"), Kind::Symmetric)?;
        let device = ground.device(name, &house)?;
        let guest = Peer::init(ground.dir(), name, Some(&device))?;
        guest.ask(&["join", &ticket, "--yes"])?;
        guests.push(guest);
    }
    let (amy, ben) = (&guests[0], guests[1].id()?);
    let mut way = Value::Null;
    let met = amy.until("a way to the other guest", PATIENCE, || {
        way = amy
            .path(&ben)
            .map_or(Value::Null, |path| path["way"].clone());
        !way.is_null()
    });
    let mut outcome = Outcome::default();
    let met_s = met.is_ok().then(|| start.elapsed().as_secs_f64());
    outcome.seconds("connected_s", met_s);
    outcome.promise(way == "relayed", format!("the guests relayed, not {way}"));
    let done = amy.until("two rounds", PATIENCE, || {
        amy.finished(&run) && host.finished(&run)
    });
    let done_s = done.is_ok().then(|| start.elapsed().as_secs_f64());
    outcome.seconds("finished_s", done_s);
    outcome.promise(done.is_ok(), done.err().unwrap_or_default());
    Ok(outcome)
}

/// Opens a run of two rounds, has a newcomer join it by the ticket from an empty folder, and waits for its end.
fn join(
    ground: &Ground,
    house: Router,
    other: &Router,
    expects_direct: bool,
    outcome: &mut Outcome,
) -> Result<(Peer, Seen), String> {
    let plan = Plan {
        rounds: 2,
        members: 2,
    };
    let hosted = Hosted::open(ground, house, &plan)?;
    let device: Device = ground.device("guest", other)?;
    let newcomer = Peer::new(ground.dir(), "guest", Some(&device));
    let file = text(ground.dir(), "guest")?;
    let typed = newcomer.type_in(&["join", &hosted.ticket, "--data", &file, "--yes"])?;
    let seen = watch(&hosted, &newcomer, typed, expects_direct)?;
    outcome.note(
        "expected",
        if expects_direct { "direct" } else { "relayed" },
    );
    outcome.seconds("connected_s", seen.connected_s);
    outcome.seconds("direct_s", seen.direct_s);
    outcome.seconds("finished_s", seen.finished_s);
    let last = seen.last.clone().unwrap_or_default();
    for field in ["way", "transport", "latency_ms", "lost_ppm"] {
        outcome.note(field, last[field].clone());
    }
    let view = newcomer.view(&hosted.run);
    let history = view["history"].as_array().cloned().unwrap_or_default();
    let included: Vec<u64> = (history.iter())
        .filter_map(|round| round["included"].as_u64())
        .collect();
    outcome.note("included", included.clone());
    let both = included.iter().filter(|count| **count == 2).count();
    outcome.promise(
        both >= 1,
        format!("a round with what both trained, not {included:?}"),
    );
    if seen.finished_s.is_none() {
        let (host, guest) = (hosted.host.view(&hosted.run), newcomer.view(&hosted.run));
        let (phase, other) = (&host["phase"], &guest["phase"]);
        let logs = format!("{}\n{}", hosted.host.log(), newcomer.log());
        let text = format!("two rounds on both, not {phase} here and {other} there\n{logs}");
        outcome.promise(false, text);
    }
    Ok((newcomer, seen))
}

/// Follows the newcomer until the run is over and a direct way is found, where one is to be expected.
fn watch(
    hosted: &Hosted,
    newcomer: &Peer,
    mut typed: Typed,
    expects_direct: bool,
) -> Result<Seen, String> {
    let (mut seen, start, mut is_over) = (Seen::default(), typed.since, false);
    let since = |start: Instant| Some(start.elapsed().as_secs_f64());
    loop {
        is_over = is_over || typed.over()?;
        if let Some(path) = newcomer.path(&hosted.host_id) {
            seen.connected_s = seen.connected_s.or(since(start));
            if is_direct(&path) {
                seen.direct_s = seen.direct_s.or(since(start));
            }
            seen.last = Some(path);
        }
        let run = &hosted.run;
        if is_over && seen.finished_s.is_none() {
            let done = newcomer.finished(run) && hosted.host.finished(run);
            seen.finished_s = done.then(|| since(start)).flatten();
        }
        let watched = match expects_direct {
            true => DIRECT_WATCHED,
            false => RELAYED_WATCHED,
        };
        let is_settled = seen.direct_s.is_some() || start.elapsed() > watched;
        let is_done = seen.finished_s.is_some() && seen.last.is_some() && is_settled;
        if is_done || start.elapsed() > PATIENCE {
            return Ok(seen);
        }
        std::thread::sleep(LOOK);
    }
}
