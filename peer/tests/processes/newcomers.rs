//! Attackers that only take up room: whether a newcomer still gets in, and what it costs the others.
//!
//! All of them dial from 127.0.0.1, as the honest peers do, so that no address tells them apart.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::daemon::Peer;
use super::siege::{Siege, besiege};

/// A newcomer is connected within 10 s; the rest is for a machine that has other things to do.
const CONNECTED: Duration = Duration::from_secs(20);
/// What the attackers have to take up all room before the newcomer comes.
const AHEAD: Duration = Duration::from_secs(4);

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

/// Runs `during` under attack and tells how much the attackers did.
pub(super) fn under<T>(siege: Siege, host: &Peer, during: impl FnOnce() -> T) -> (u64, T) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let attack = scope.spawn(|| besiege(siege, host, &stop));
        std::thread::sleep(AHEAD);
        let out = during();
        stop.store(true, Ordering::Relaxed);
        (attack.join().expect("the attacker does not panic"), out)
    })
}

fn newcomer_gets_in(siege: Siege) {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Peer::init(dir.path(), "host");
    host.up(None);
    let mut newcomer = Peer::init(dir.path(), "newcomer");
    let (done, took) = under(siege, &host, || join(&mut newcomer, &host));
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
