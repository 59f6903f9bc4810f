//! Attackers that only take up room: whether a newcomer still gets in, and what it costs the others.
//!
//! All of them dial from 127.0.0.1, as the honest peers do, so that no address tells them apart.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tributary_protocol::hash;
use tributary_protocol::id::RunId;

use super::attacker::Target;
use super::attacker::siege::{Siege, besiege};
use super::bounds;
use super::daemon::{Peer, Plan, federation, processor_ms, text};
use super::hostile::{MAX_GROWN, MAX_SLOWER, Stretch, target_from};

/// A newcomer is connected within 10 s; the rest is for a machine that has other things to do.
const CONNECTED: Duration = Duration::from_secs(20);
/// An adapter of a few MiB is here within so long.
const FETCHED: Duration = Duration::from_secs(30);
/// What the attackers have to take up all room before the newcomer comes.
const AHEAD: Duration = Duration::from_secs(4);

/// The address that all peers of a machine share.
const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// How long rounds are looked at, in peace and under each attack.
const STRETCH: Duration = Duration::from_secs(20);

/// How long a peer that knows one address takes to be connected, from the start of its process.
fn join(newcomer: &mut Peer, host: &Peer) -> Duration {
    let started = Instant::now();
    newcomer.start(&[&host.address()]);
    newcomer.until_within("the newcomer is connected", CONNECTED, || {
        let status = newcomer.try_ask(&["status"]);
        let connected = status.and_then(|s| s["connected"].as_array().map(Vec::len));
        connected.is_some_and(|peers| peers > 0)
    });
    started.elapsed()
}

/// Ends an attack, also when the test fails meanwhile.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `during` under attack and tells how much the attackers did.
fn under<T>(siege: Siege, host: &Target, during: impl FnOnce() -> T) -> (u64, T) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let attack = scope.spawn(|| besiege(siege, host, &stop));
        let ends = Ends(&stop);
        std::thread::sleep(AHEAD);
        let out = during();
        drop(ends);
        (attack.join().expect("the attacker does not panic"), out)
    })
}

fn newcomer_gets_in(siege: Siege) {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Peer::init(dir.path(), "host");
    host.up(None);
    let mut newcomer = Peer::init(dir.path(), "newcomer");
    let run = RunId(hash::blob(b"a run")).to_string();
    let victim = target_from(&host, &run, HOME);
    let (done, took) = under(siege, &victim, || join(&mut newcomer, &host));
    println!(
        "newcomer under {siege:?}: connected after {} ms, {done} attempts of the attacker",
        took.as_millis()
    );
    assert!(
        done >= siege.size() as u64,
        "the attack did not take place: {done}"
    );
}

#[test]
fn newcomer_connects_while_64_mute_sockets_are_held() {
    newcomer_gets_in(Siege::MuteSockets(64));
}

#[test]
fn newcomer_connects_while_more_mute_sockets_than_places_are_opened_again_and_again() {
    newcomer_gets_in(Siege::MuteSockets(512));
}

#[test]
fn newcomer_connects_while_idle_connections_of_fresh_keys_hold_every_place() {
    newcomer_gets_in(Siege::IdleConnections(300));
}

#[test]
fn newcomer_connects_while_keys_that_greeted_hold_every_place() {
    newcomer_gets_in(Siege::GreetedConnections(300));
}

#[test]
fn newcomer_connects_while_a_peer_invents_contacts() {
    newcomer_gets_in(Siege::Contacts(32));
}

#[test]
fn newcomer_fetches_an_adapter_while_64_keys_hold_every_place_of_the_data_plane() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Peer::init(dir.path(), "host");
    let file = text(&dir.path().join("host.txt"), "host");
    host.ask(&["datanet", "add", "birds", &file]);
    host.up(None);
    let run = bounds::open(dir.path(), &host, "alone", 1);
    host.outcome(&run);
    let newcomer = Peer::init(dir.path(), "newcomer");
    let folder = dir.path().join("adapter");
    let victim = target_from(&host, &run, HOME);
    let siege = Siege::DataKeys(64);
    let (done, took) = under(siege, &victim, || {
        let (started, folder) = (Instant::now(), folder.to_str().unwrap());
        let got = [
            "adapter",
            "get",
            &run,
            folder,
            "--bootstrap",
            &host.address(),
        ];
        newcomer.ask(&got);
        started.elapsed()
    });
    println!(
        "newcomer under {siege:?}: has the adapter after {} ms, {done} connections of the attacker",
        took.as_millis()
    );
    assert!(folder.join("adapter_model.safetensors").exists());
    assert!(
        done >= siege.size() as u64,
        "the attack did not take every place: {done}"
    );
    assert!(took <= FETCHED, "{took:?}");
}

/// Processor time in milliseconds, of daemons and of this process, in which the attackers are.
fn used(peers: &[Peer]) -> (u64, u64) {
    let daemons = peers.iter().map(Peer::processor_ms).sum();
    (daemons, processor_ms("self"))
}

/// What rounds may take, in multiples of their time in peace: twice, on the processor time that the attackers left to
/// the daemons of the same machine.
fn bearable(lasting: Duration, attackers_ms: u64) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let taken = attackers_ms as f64 / (cores * lasting.as_millis() as f64);
    MAX_SLOWER as f64 / (1.0 - taken.min(0.9))
}

/// The figures of `docs/numbers/newcomers.md`.
#[test]
#[ignore = "two minutes; docs/numbers/newcomers.md says how to run it"]
fn attackers_that_take_up_room_keep_nobody_out_and_slow_rounds_to_less_than_twice_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        rounds: 5000,
        members: 4,
        local_steps: 4,
        round_ms: 30_000,
        grace_ms: 5_000,
    };
    let (peers, run, _) = federation(dir.path(), &plan);
    let host = &peers[0];
    host.until("round 3 is certified", || host.certified(&run) >= Some(3));
    let before = used(&peers);
    let (quiet, ()) = Stretch::of(host, || std::thread::sleep(STRETCH));
    let daemons = used(&peers).0 - before.0;
    println!(
        "room in peace: daemons {daemons} ms of processor time; {}",
        quiet.line()
    );
    let victim = target_from(host, &run, HOME);
    let (mut grown, mut slow) = (0, Vec::new());
    for siege in [
        Siege::MuteSockets(512),
        Siege::IdleConnections(300),
        Siege::GreetedConnections(300),
        Siege::DataKeys(64),
        Siege::Contacts(32),
    ] {
        let mut newcomer = Peer::init(dir.path(), &format!("{siege:?}"));
        let (before, started) = (used(&peers), Instant::now());
        let (attacked, (done, connected)) = Stretch::of(host, || {
            under(siege, &victim, || {
                let connected = join(&mut newcomer, host);
                std::thread::sleep(STRETCH.saturating_sub(connected));
                connected
            })
        });
        let (after, lasting) = (used(&peers), started.elapsed());
        let (daemons, attackers) = (after.0 - before.0, after.1 - before.1);
        let more = attacked.memory.saturating_sub(quiet.memory);
        let slower = attacked.round_ms() as f64 / quiet.round_ms() as f64;
        println!(
            "room {siege:?}: {done} places taken, newcomer connected after {} ms, {slower:.2} times the time of a round, \
             {} MiB more memory, daemons {daemons} ms of processor time, attackers {attackers} ms; {}",
            connected.as_millis(),
            more >> 20,
            attacked.line()
        );
        grown = grown.max(more);
        if slower > bearable(lasting, attackers) {
            slow.push(siege);
        }
        assert!(done >= siege.size() as u64, "{siege:?}: {done}");
    }
    // All figures are printed first.
    assert!(grown <= MAX_GROWN, "{grown} bytes more");
    assert!(slow.is_empty(), "rounds took too long under {slow:?}");
}
