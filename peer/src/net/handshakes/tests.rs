//! Crowds of mute sockets against a newcomer, without sockets.

use rand::SeedableRng;

use super::*;

const PLACES: usize = 64;

fn half_open() -> HalfOpen {
    HalfOpen::new(PLACES, StdRng::from_seed([7; 32]))
}

fn socket(ip: [u8; 4], port: u16) -> Option<Remote> {
    Some(Remote::Socket((ip, port).into()))
}

fn is_lost(place: &mut oneshot::Receiver<()>) -> bool {
    matches!(place.try_recv(), Err(oneshot::error::TryRecvError::Closed))
}

/// Everybody but the one at this port is mute.
fn speaks(port: u16) -> impl Fn(Remote) -> bool {
    move |remote| remote.socket().is_some_and(|socket| socket.port() == port)
}

#[test]
fn newcomer_that_speaks_keeps_its_place_among_mute_sockets_of_its_own_network() {
    let mut half_open = half_open();
    let mut places = Vec::new();
    for port in 1000..1000 + PLACES as u16 {
        places.push(half_open.enter(socket([127, 0, 0, 1], port), |_| false));
    }
    let (id, mut place) = half_open.enter(socket([127, 0, 0, 1], 7), |_| false);
    for port in 10_000..20_000 {
        places.push(half_open.enter(socket([127, 0, 0, 1], port), speaks(7)));
        assert_eq!(half_open.guests.len(), PLACES);
    }
    assert!(!is_lost(&mut place) && half_open.guests.contains_key(&id));
}

#[test]
fn newcomer_of_another_network_keeps_its_place_before_it_speaks() {
    let mut half_open = half_open();
    let mut places = Vec::new();
    // The attacker's sockets all speak, from every address of one network.
    let attacker = |n: u16| socket([198, 51, 100, n as u8], n);
    for n in 1000..1000 + PLACES as u16 {
        places.push(half_open.enter(attacker(n), |_| true));
    }
    let (_, mut place) = half_open.enter(socket([203, 0, 113, 7], 7), |_| true);
    for n in 10_000..20_000 {
        let mute = |remote: Remote| remote.socket().is_some_and(|socket| socket.port() != 7);
        places.push(half_open.enter(attacker(n), mute));
    }
    assert!(!is_lost(&mut place));
}

#[test]
fn whoever_loses_its_place_is_told_and_the_newcomer_is_not_the_one() {
    let mut half_open = half_open();
    let mut places: Vec<_> = (0..PLACES as u16)
        .map(|port| half_open.enter(socket([127, 0, 0, 1], port), |_| false).1)
        .collect();
    let (_, mut newcomer) = half_open.enter(socket([127, 0, 0, 1], 999), |_| false);
    assert_eq!(
        places
            .iter_mut()
            .filter_map(|p| is_lost(p).then_some(()))
            .count(),
        1
    );
    assert!(!is_lost(&mut newcomer));
}

#[test]
fn place_given_back_costs_nobody_his() {
    let mut half_open = half_open();
    let first = half_open.enter(socket([127, 0, 0, 1], 1), |_| false);
    let mut others: Vec<_> = (1..PLACES as u16)
        .map(|port| half_open.enter(socket([127, 0, 0, 1], port), |_| false).1)
        .collect();
    assert!(half_open.is_crowded());
    half_open.leave(first.0);
    let (_, mut place) = half_open.enter(socket([127, 0, 0, 1], 99), |_| false);
    assert!(!others.iter_mut().any(is_lost) && !is_lost(&mut place));
}

#[tokio::test]
async fn handshake_that_ends_gives_its_place_back_and_one_that_loses_it_fails() {
    let lines = UnknownSockets::default();
    let half_open = Arc::new(Mutex::new(HalfOpen::new(1, StdRng::from_seed([7; 32]))));
    let places = Places { half_open, lines };
    let done = places
        .clone()
        .hold(socket([127, 0, 0, 1], 1), async { Ok(5) });
    assert_eq!(done.await.unwrap(), 5);
    assert!(places.open().guests.is_empty());
    let never = std::future::pending::<io::Result<()>>();
    let mute = tokio::spawn(places.clone().hold(socket([127, 0, 0, 1], 2), never));
    while places.open().guests.is_empty() {
        tokio::task::yield_now().await;
    }
    let next = places
        .clone()
        .hold(socket([127, 0, 0, 1], 3), async { Ok(6) });
    assert_eq!(next.await.unwrap(), 6, "the only place is for the newcomer");
    let lost = mute.await.unwrap().unwrap_err();
    assert!(
        lost.to_string().contains("its place went to another"),
        "{lost}"
    );
}
