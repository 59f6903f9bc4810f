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
use super::daemon::{Peer, Plan, federation};
use super::hostile::{MAX_GROWN, MAX_SLOWER, Stretch, target_from};

/// A newcomer is connected within 10 s; the rest is for a machine that has other things to do.
const CONNECTED: Duration = Duration::from_secs(20);
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

/// The figures of `docs/numbers/processes.md`.
#[test]
#[ignore = "two minutes; docs/numbers/processes.md says how to run it"]
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
    let (quiet, ()) = Stretch::of(host, || std::thread::sleep(STRETCH));
    println!("room in peace: {}", quiet.line());
    let victim = target_from(host, &run, HOME);
    let (mut grown, mut slow) = (0, Vec::new());
    for siege in [
        Siege::MuteSockets(512),
        Siege::IdleConnections(300),
        Siege::DataKeys(64),
        Siege::Contacts(32),
    ] {
        let mut newcomer = Peer::init(dir.path(), &format!("{siege:?}"));
        let (attacked, (done, connected)) = Stretch::of(host, || {
            under(siege, &victim, || {
                let connected = join(&mut newcomer, host);
                std::thread::sleep(STRETCH.saturating_sub(connected));
                connected
            })
        });
        println!(
            "room {siege:?}: {done} places taken, newcomer connected after {} ms; {}",
            connected.as_millis(),
            attacked.line()
        );
        grown = grown.max(attacked.memory.saturating_sub(quiet.memory));
        if attacked.round_ms() > MAX_SLOWER * quiet.round_ms() {
            slow.push(siege);
        }
        assert!(done >= siege.size() as u64, "{siege:?}: {done}");
    }
    // All figures are printed first.
    assert!(grown <= MAX_GROWN, "{grown} bytes more");
    assert!(
        slow.is_empty(),
        "rounds took more than twice their time under {slow:?}"
    );
}
