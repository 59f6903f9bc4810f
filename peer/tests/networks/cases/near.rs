//! Peers near each other: of one local network, and of one machine.

use std::time::{Duration, Instant};

use serde_json::json;

use super::PATIENCE;
use crate::ground::{Ground, Kind};
use crate::peer::{Peer, Plan, text, ticket};
use crate::suite::Outcome;

/// How long a newcomer of the same machine may need beyond a round's own time.
const FIRST_ROUND_BEYOND_S: f64 = 30.0;

/// Two devices of one router, started with nothing but `--reach lan`.
pub(super) fn lan() -> Result<Outcome, String> {
    let ground = Ground::new()?;
    let house = ground.house("house", Kind::PortRestricted)?;
    let mut peers = Vec::new();
    for name in ["amy", "ben"] {
        let device = ground.device(name, &house)?;
        peers.push(Peer::init(ground.dir(), name, Some(&device))?);
    }
    let (amy, ben) = (&peers[0], &peers[1]);
    let id = ben.id()?;
    amy.up(&["--reach", "lan"])?;
    ben.up(&["--reach", "lan"])?;
    let met = amy.until("the other of the network is met", PATIENCE, || {
        amy.path(&id).is_some()
    })?;
    let mut outcome = Outcome::default();
    outcome.seconds("connected_s", Some(met));
    let path = amy.path(&id).unwrap_or_default();
    outcome.note("way", path["way"].clone());
    outcome.note("latency_ms", path["latency_ms"].clone());
    outcome.promise(path["way"] == "lan", format!("near, not {path}"));
    Ok(outcome)
}

/// A run that goes on, and a newcomer with an empty folder who types one command, all on this machine.
pub(super) fn first_round() -> Result<Outcome, String> {
    let dir = tempfile::tempdir().map_err(|why| why.to_string())?;
    let host = Peer::init(dir.path(), "host", None)?;
    host.up(&["--reach", "loopback"])?;
    let plan = Plan {
        rounds: 400,
        members: 1,
    };
    let run = plan.open(dir.path(), &host)?;
    let rounds = |n: u64| {
        host.until("rounds are certified", PATIENCE, || {
            host.certified(&run) >= n
        })
    };
    rounds(2)?;
    let (before, start) = (host.certified(&run), Instant::now());
    rounds(before + 4)?;
    let after = host.certified(&run) - before;
    let round_s = start.elapsed().as_secs_f64() / after as f64;
    let ticket = ticket(&host, &run)?;
    let newcomer = Peer::new(dir.path(), "guest", None);
    let file = text(dir.path(), "guest")?;
    let mut typed = newcomer.type_in(&["join", &ticket, "--data", &file, "--yes"])?;
    let start = typed.since;
    while !typed.over()? {
        std::thread::sleep(Duration::from_millis(20));
    }
    let joined_s = start.elapsed().as_secs_f64();
    newcomer.until("a round has its contribution", PATIENCE, || {
        let view = newcomer.view(&run);
        let rounds = view["history"].as_array();
        rounds.is_some_and(|rounds| rounds.iter().any(|round| round["included"] == json!(2)))
    })?;
    let first_s = start.elapsed().as_secs_f64();
    newcomer.kill();
    let mut outcome = Outcome::default();
    outcome.note("commands", 1);
    outcome.note("round_s", (round_s * 100.0).round() / 100.0);
    outcome.seconds("joined_s", Some(joined_s));
    outcome.seconds("first_round_s", Some(first_s));
    outcome.seconds("beyond_round_s", Some(first_s - round_s));
    outcome.promise(
        first_s - round_s <= FIRST_ROUND_BEYOND_S,
        format!("a first round within {FIRST_ROUND_BEYOND_S} s beyond a round, not {first_s:.1} s"),
    );
    Ok(outcome)
}
