//! What happens to networks while a run goes on: relays and peers die, devices move, routers forget.
//!
//! Runs of two members stand still while one cannot be heard, so a round that both certify shows that they hear each other
//! again; what `reach` says of a connection may be older than its loss.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use patchbay::{Device, Router};
use serde_json::Value;

use super::{Hosted, PATIENCE};
use crate::ground::{Ground, Kind};
use crate::peer::{Peer, Plan, is_direct};
use crate::suite::Outcome;

/// A peer that has a network again hears others within this time.
const AGAIN_WITHIN_S: f64 = 30.0;
/// Relayed peers hear each other within this time of the relay's return.
const RELAYED_AGAIN_WITHIN_S: f64 = 60.0;
/// How long a relay stays away: beyond the time after which a silent connection counts as lost.
const RELAY_AWAY: Duration = Duration::from_secs(40);
/// How long a device is without a network: what was under way has arrived or is lost.
const WITHOUT_NETWORK: Duration = Duration::from_secs(10);
/// More rounds than any case lasts for.
const ENDLESS: u32 = 2000;

/// A run that goes on between a host and a guest, each behind a port-restricted router.
struct Going {
    ground: Ground,
    hosted: Hosted,
    guest: Peer,
    device: Device,
    house: Router,
}

impl Going {
    fn start() -> Result<Self, String> {
        let ground = Ground::new()?;
        let left = ground.house("left", Kind::PortRestricted)?;
        let house = ground.house("right", Kind::PortRestricted)?;
        let plan = Plan {
            rounds: ENDLESS,
            members: 2,
        };
        let hosted = Hosted::open(&ground, left, &plan)?;
        let device = ground.device("guest", &house)?;
        let (guest, id) = hosted.join(&ground, "guest", &device)?;
        let host = &hosted.host;
        host.until("a direct way and a round", PATIENCE, || {
            let path = host.path(&id);
            path.is_some_and(|path| is_direct(&path)) && host.certified(&hosted.run) >= 1
        })?;
        Ok(Self {
            ground,
            hosted,
            guest,
            device,
            house,
        })
    }

    /// The highest round that either knows to be certified.
    fn certified(&self) -> u64 {
        let run = &self.hosted.run;
        self.hosted
            .host
            .certified(run)
            .max(self.guest.certified(run))
    }

    /// Waits until both certify a round beyond what they had while they could not hear each other, and for the way.
    fn again(&self, before: u64, start: Instant) -> Result<Outcome, String> {
        let mut outcome = Outcome::default();
        let (host, run) = (&self.hosted.host, &self.hosted.run);
        let id = self.guest.id()?;
        let round = host.until("another round is certified", PATIENCE, || {
            host.certified(run) > before
        });
        let round_s = round.as_ref().ok().map(|_| start.elapsed().as_secs_f64());
        outcome.seconds("round_s", round_s);
        let logs = || format!("{}\n{}", host.log(), self.guest.log());
        let why = round.map_err(|why| format!("{why}\n{}", logs())).err();
        outcome.promise(why.is_none(), why.unwrap_or_default());
        let within = round_s.is_none_or(|s| s <= AGAIN_WITHIN_S);
        outcome.promise(
            within,
            format!("a round within {AGAIN_WITHIN_S} s, not {round_s:?}"),
        );
        let direct = host.until("a direct way", PATIENCE, || {
            host.path(&id).is_some_and(|path| is_direct(&path))
        });
        let direct = direct.ok().map(|_| start.elapsed().as_secs_f64());
        outcome.seconds("direct_s", direct);
        Ok(outcome)
    }

    fn link(&self, up: bool) -> Result<(), String> {
        let interface = self.device.iface("eth0").ok_or("no interface")?;
        match up {
            true => self.ground.change("link up", interface.link_up()),
            false => self.ground.change("link down", interface.link_down()),
        }
    }
}

/// The device moves to another router: another address, another router, everything new.
pub(super) fn changes_router() -> Result<Outcome, String> {
    let going = Going::start()?;
    let cafe = going.ground.house("cafe", Kind::PortRestricted)?;
    going.link(false)?;
    std::thread::sleep(WITHOUT_NETWORK);
    let before = going.certified();
    let interface = going.device.iface("eth0").ok_or("no interface")?;
    going
        .ground
        .change("another router", interface.replug(cafe.id()))?;
    going.again(before, Instant::now())
}

/// The router gives the device another address.
pub(super) fn changes_address() -> Result<Outcome, String> {
    let going = Going::start()?;
    let interface = going.device.iface("eth0").ok_or("no interface")?;
    // What is under way may end a round or two on what was sent before.
    let before = going.certified() + 2;
    let renewed = async { interface.renew_ip().await.map(drop) };
    going.ground.change("another address", renewed)?;
    // The default route went with the old address.
    going.link(false)?;
    going.link(true)?;
    going.again(before, Instant::now())
}

/// The device is without a link, as a laptop that sleeps.
pub(super) fn loses_link() -> Result<Outcome, String> {
    let going = Going::start()?;
    going.link(false)?;
    std::thread::sleep(WITHOUT_NETWORK);
    let before = going.certified();
    going.link(true)?;
    going.again(before, Instant::now())
}

/// The guest's router starts again and has forgotten every mapping.
pub(super) fn router_reboots() -> Result<Outcome, String> {
    let going = Going::start()?;
    going.link(false)?;
    std::thread::sleep(WITHOUT_NETWORK);
    let before = going.certified();
    forget(&going.house)?;
    going.link(true)?;
    going.again(before, Instant::now())
}

/// Has a router forget its connections: a message to the kernel, because the tool `conntrack` is rarely installed.
fn forget(router: &Router) -> Result<(), String> {
    const FLUSH: &str = "import socket, struct\n\
        s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)\n\
        s.send(struct.pack('=IHHII', 20, 0x102, 5, 1, 0) + struct.pack('=BBH', 0, 0, 0))\n\
        answer = s.recv(4096)\n\
        raise SystemExit(struct.unpack('=i', answer[16:20])[0] != 0)";
    let mut mappings = Command::new("nft");
    mappings.args(["flush", "map", "ip", "nat", "fullcone"]);
    let mut connections = Command::new("python3");
    connections.args(["-c", FLUSH]);
    for mut command in [mappings, connections] {
        command.stdin(Stdio::null());
        let what = format!("{:?} on the router", command.get_program());
        let child = router.spawn_command_sync(command);
        let mut child = child.map_err(|why| format!("{what}: {why:#}"))?;
        let status = child.wait().map_err(|why| format!("{what}: {why}"))?;
        if !status.success() {
            return Err(format!("{what}: {status}"));
        }
    }
    Ok(())
}

/// Both members in turn are killed, and started again with nothing but `up`.
pub(super) fn is_killed() -> Result<Outcome, String> {
    let going = Going::start()?;
    let mut all = Outcome::default();
    for (who, peer) in [("guest", &going.guest), ("host", &going.hosted.host)] {
        peer.kill();
        let other = match who {
            "guest" => &going.hosted.host,
            _ => &going.guest,
        };
        std::thread::sleep(Duration::from_secs(3));
        let before = other.certified(&going.hosted.run);
        let start = Instant::now();
        peer.up(&[])?;
        let round = other.until("another round", PATIENCE, || {
            other.certified(&going.hosted.run) > before
        });
        let round_s = round.is_ok().then(|| start.elapsed().as_secs_f64());
        all.seconds(&format!("{who}_round_s"), round_s);
        let within = round_s.is_some_and(|s| s <= AGAIN_WITHIN_S);
        let logs = format!("{}\n{}", peer.log(), other.log());
        all.promise(
            within,
            format!(
                "a round within {AGAIN_WITHIN_S} s of the {who}'s start, not {round_s:?}\n{logs}"
            ),
        );
    }
    Ok(all)
}

/// Three members with direct ways and one with none but the relay; the relay is killed and comes back.
pub(super) fn relay_dies() -> Result<Outcome, String> {
    let ground = Ground::new()?;
    let left = ground.house("left", Kind::PortRestricted)?;
    let plan = Plan {
        rounds: ENDLESS,
        members: 4,
    };
    let hosted = Hosted::open(&ground, left, &plan)?;
    let mut others = Vec::new();
    for (name, kind) in [
        ("amy", Kind::PortRestricted),
        ("ben", Kind::PortRestricted),
        ("zoe", Kind::Symmetric),
    ] {
        let house = ground.house(&format!("{name}-house"), kind)?;
        let device = ground.device(name, &house)?;
        others.push(hosted.join(&ground, name, &device)?);
    }
    let (host, run) = (&hosted.host, &hosted.run);
    let way = |id: &str| {
        host.path(id)
            .map_or(Value::Null, |path| path["way"].clone())
    };
    let [(_, amy), (_, ben), (zoe, zoe_id)] = &others[..] else {
        return Err("three joined".to_owned());
    };
    host.until("two direct ways, one relayed, a round", PATIENCE, || {
        way(amy) == "direct"
            && way(ben) == "direct"
            && way(zoe_id) == "relayed"
            && host.certified(run) >= 1
    })?;
    let mut outcome = Outcome::default();
    let before = host.certified(run);
    hosted.relay.kill();
    std::thread::sleep(RELAY_AWAY);
    let during = host.certified(run);
    outcome.note("rounds_without_relay", during - before);
    outcome.promise(during > before, "the direct ones go on without the relay");
    for peer in [amy, ben] {
        let path = host.path(peer).unwrap_or_default();
        let held = path["for_s"].as_u64().unwrap_or(0) >= RELAY_AWAY.as_secs();
        outcome.promise(
            is_direct(&path) && held,
            format!("a direct way that held: {path}"),
        );
    }
    hosted.relay.relay(&hosted.relay_at, &hosted.host_id)?;
    let (start, before) = (Instant::now(), host.certified(run).max(zoe.certified(run)));
    let again = zoe.until("a round after the relay's return", PATIENCE, || {
        zoe.certified(run) > before
    });
    let resumed = again.is_ok().then(|| start.elapsed().as_secs_f64());
    outcome.seconds("resumed_s", resumed);
    let within = resumed.is_some_and(|s| s <= RELAYED_AGAIN_WITHIN_S);
    let said = zoe.reach().unwrap_or_default();
    outcome.promise(
        within,
        format!(
            "a round within {RELAYED_AGAIN_WITHIN_S} s, not {resumed:?}\n{said}\n{}",
            zoe.log()
        ),
    );
    Ok(outcome)
}
