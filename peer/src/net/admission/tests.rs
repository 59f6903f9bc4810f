//! The policy with a clock of our own: floods of a minute, and lies that cost nothing.

use super::*;
use tributary_protocol::hash;

fn peer(n: u64) -> PeerId {
    PeerId(hash::blob(&n.to_le_bytes()))
}
fn far() -> IpAddr {
    IpAddr::from([203, 0, 113, 7])
}
fn local() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

/// One message each time; how many went by until the peer was refused.
fn until_refused(neighbours: &mut Neighbours, peer: PeerId, kind: Kind, now: Instant) -> usize {
    let sent = (1..100_000).find(|_| {
        neighbours.hear(peer, kind, 100, now);
        neighbours.may_speak(peer, now).is_err()
    });
    sent.expect("a flood without end is borne")
}

#[test]
fn neighbour_that_keeps_to_its_rate_is_never_cut_off() {
    let mut neighbours = Neighbours::default();
    for ms in 0..600_000 {
        let now = Instant(ms);
        if ms % 4 == 0 {
            assert!(neighbours.hear(peer(1), Kind::Message, 4000, now));
            assert!(neighbours.hear(peer(1), Kind::Copy, 4000, now));
        }
        if ms % 250 == 0 {
            assert!(neighbours.hear(peer(1), Kind::Greeting, 4000, now));
        }
    }
    assert!(neighbours.may_speak(peer(1), Instant(600_000)).is_ok());
}

#[test]
fn every_flood_is_cut_off_and_taken_back_later() {
    for kind in [Kind::Message, Kind::Greeting, Kind::Copy, Kind::Request] {
        let mut neighbours = Neighbours::default();
        let sent = until_refused(&mut neighbours, peer(1), kind, Instant(0));
        assert!(sent < 10_000, "{kind:?}: {sent} messages, a second's flood");
        assert_eq!(neighbours.to_close, [peer(1)]);
        assert!(
            neighbours
                .may_speak(peer(1), Instant(REFUSED_MS - 1))
                .is_err()
        );
        assert!(neighbours.may_speak(peer(1), Instant(REFUSED_MS)).is_ok());
    }
}

#[test]
fn hanging_up_does_not_renew_an_allowance() {
    let mut neighbours = Neighbours::default();
    let flood = until_refused(&mut neighbours, peer(1), Kind::Message, Instant(0));
    let mut patient = 0;
    while neighbours.may_speak(peer(2), Instant(0)).is_ok() {
        neighbours.connected(peer(2), Some(far()), Vec::new(), Instant(0));
        for _ in 0..100 {
            neighbours.hear(peer(2), Kind::Message, 100, Instant(0));
        }
        patient += 100;
    }
    assert!(
        patient <= flood + 100,
        "{patient} messages, {flood} at once"
    );
}

#[test]
fn address_of_several_liars_is_refused_but_never_the_machine_s_own() {
    for (from, refused) in [(far(), true), (local(), false)] {
        let mut neighbours = Neighbours::default();
        for n in 0..MAX_KEYS_CUT_OFF as u64 {
            assert!(neighbours.may_connect(from, Instant(0)).is_ok());
            neighbours.connected(peer(n), Some(from), Vec::new(), Instant(0));
            until_refused(&mut neighbours, peer(n), Kind::Message, Instant(0));
        }
        assert_eq!(neighbours.may_connect(from, Instant(1)).is_err(), refused);
        let other = IpAddr::from([203, 0, 113, 8]);
        assert!(neighbours.may_connect(other, Instant(1)).is_ok());
        assert!(neighbours.may_connect(from, Instant(REFUSED_MS)).is_ok());
    }
}

#[test]
fn address_that_dials_without_end_is_refused_but_the_machine_s_own_is_not() {
    let dial = |from, ms: u64| {
        let mut neighbours = Neighbours::default();
        let dials = 10 * ms;
        let passed = (0..dials).filter(|n| neighbours.may_connect(from, Instant(n / 10)).is_ok());
        (passed.count(), neighbours.refused_addresses.len())
    };
    let (passed, refused) = dial(far(), 60_000);
    assert!(passed < 100 && refused == 1, "{passed} connections");
    let (passed, refused) = dial(local(), 60_000);
    assert!(passed == 600_000 && refused == 0, "{passed}");
}

#[test]
fn one_customer_is_one_address() {
    let mut neighbours = Neighbours::default();
    let at = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 7, 1, 2, 3, last]);
    let passed = (0..1000).filter(|n| neighbours.may_connect(at(*n), Instant(0)).is_ok());
    assert!(passed.count() < 100);
    let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
    assert!(is_shared(fair::address(mapped)));
}

#[test]
fn bytes_that_belong_to_no_message_cut_off_and_those_of_messages_do_not() {
    let mut neighbours = Neighbours::default();
    let line = Arc::new(SocketMeter::default());
    let socket = line.clone();
    neighbours.connected(peer(1), Some(far()), vec![line], Instant(0));
    for second in 1..120 {
        let now = Instant(second * 1000);
        for _ in 0..200 {
            socket.add(10_300);
            neighbours.hear(peer(1), Kind::Message, 10_000, now);
        }
        neighbours.audit(now);
    }
    assert!(neighbours.may_speak(peer(1), Instant(120_000)).is_ok());
    // A message that is under way for long is no noise once it is there.
    for n in 0..1000 {
        let now = Instant(120_000 + 1000 * n);
        socket.add(250_000);
        neighbours.audit(now);
        neighbours.hear(peer(1), Kind::Message, 250_000, now);
    }
    assert!(neighbours.may_speak(peer(1), Instant(1_120_000)).is_ok());
    for second in 0..10 {
        socket.add(2 << 20);
        neighbours.audit(Instant(1_120_000 + second * 1000));
    }
    assert!(neighbours.may_speak(peer(1), Instant(1_130_000)).is_err());
    drop(socket);
    neighbours.audit(Instant(1_131_000));
    assert!(neighbours.neighbours[&peer(1)].lines.is_empty());
}

#[test]
fn memory_for_strangers_is_bounded() {
    let mut neighbours = Neighbours::default();
    for n in 0..5_000u64 {
        let from = IpAddr::from((n as u32 + (9 << 24)).to_be_bytes());
        let _ = neighbours.may_connect(from, Instant(n));
        neighbours.connected(peer(n), Some(from), Vec::new(), Instant(n));
        neighbours.cut_off(peer(n), Fault::Flood, Instant(n));
        neighbours.refuse_address(from, Instant(n));
    }
    assert!(neighbours.neighbours.len() <= MAX_NEIGHBOURS);
    assert!(neighbours.newcomers.len() <= MAX_ADDRESSES);
    assert!(neighbours.refused_peers.len() <= MAX_REFUSED);
    assert!(neighbours.refused_addresses.len() <= MAX_REFUSED);
    let last = Instant(5_000);
    assert!(
        neighbours.may_speak(peer(4_999), last).is_err(),
        "the latest was forgotten"
    );
}
