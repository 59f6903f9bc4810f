//! Whom the table of contacts knows and dials when others tell the truth, and when they invent peers.

use rand::SeedableRng;

use super::*;
use tributary_protocol::hash;

fn peer(n: u8) -> PeerId {
    PeerId(hash::blob(&[n]))
}
fn socket(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, n], 4001))
}
fn contact(n: u8, runs: &[RunId]) -> Contact {
    Contact {
        peer: peer(n),
        control: vec![socket(n).into()],
        data: Vec::new(),
        relays: Vec::new(),
        runs: runs.to_vec(),
    }
}
fn contacts_with(bootstrap: Vec<Address>) -> Contacts {
    Contacts::new(peer(0), bootstrap, StdRng::from_seed([3; 32]))
}
fn contacts() -> Contacts {
    contacts_with(Vec::new())
}
/// A peer that a liar invents.
fn invented(n: u32, runs: &[RunId]) -> Contact {
    let mut contact = contact(1, runs);
    contact.peer = PeerId(hash::blob(&n.to_le_bytes()));
    contact.control = vec![SocketAddr::from(([127, 0, 0, 1], 9)).into()];
    contact
}
fn run(n: u8) -> RunId {
    RunId(hash::blob(&[n]))
}

#[test]
fn bootstrap_is_dialed_again_with_growing_waits_until_it_answers() {
    let mut contacts = contacts_with(vec![Address::new(socket(1), None)]);
    let runs = BTreeSet::new();
    let target = Target::Socket(socket(1));
    let mut now = Instant(0);
    let mut dials = Vec::new();
    while now.0 < 120_000 {
        if !contacts.due(&runs, now).is_empty() {
            dials.push(now.0);
            contacts.failed(target.clone(), now);
        }
        now = now.after_ms(50);
    }
    let gaps: Vec<u64> = dials.windows(2).map(|d| d[1] - d[0]).collect();
    assert!(gaps.is_sorted() && gaps[0] <= 500, "{gaps:?}");
    assert!(*gaps.last().unwrap() <= LONGEST_WAIT_MS + 50, "{gaps:?}");
    contacts.on_connected(peer(1), Some(socket(1)), true);
    assert!(
        contacts.due(&runs, now.after_ms(60_000)).is_empty(),
        "dialed though connected"
    );
    contacts.on_disconnected(peer(1), now);
    assert_eq!(
        contacts.due(&runs, now.after_ms(60_000)).len(),
        1,
        "not dialed again"
    );
}

#[test]
fn members_of_the_same_runs_are_dialed_and_strangers_are_not() {
    let mut contacts = contacts();
    contacts.hear(peer(99), contact(1, &[run(1)]));
    contacts.hear(peer(99), contact(2, &[run(2)]));
    let due = contacts.due(&BTreeSet::from([run(1)]), Instant(0));
    assert_eq!(due, [(Target::Peer(peer(1)), vec![socket(1)])]);
    assert!(
        contacts
            .due(&BTreeSet::from([run(1)]), Instant(1))
            .is_empty(),
        "dialed twice at once"
    );
}

#[test]
fn hearsay_adds_to_what_a_peer_said_itself_and_comes_to_rest() {
    let mut contacts = contacts();
    contacts.on_connected(peer(1), Some(socket(1)), false);
    contacts.introduce(contact(1, &[]));
    contacts.on_disconnected(peer(1), Instant(0));
    let mut news = contact(1, &[run(1)]);
    news.control = vec![socket(9).into()];
    contacts.hear(peer(2), news.clone());
    let known = contacts.contact(&peer(1)).unwrap();
    assert_eq!(known.control, [socket(1).into(), socket(9).into()]);
    assert_eq!(
        known.runs,
        [run(1)],
        "a run joined after the first greeting"
    );
    let revision = contacts.revision();
    contacts.hear(peer(2), news.clone());
    contacts.hear(peer(3), contact(1, &[run(1)]));
    assert_eq!(
        contacts.revision(),
        revision,
        "peers that repeat each other never rest"
    );
    contacts.on_connected(peer(1), None, false);
    news.control = vec![socket(8).into()];
    contacts.hear(peer(2), news);
    assert_eq!(contacts.contact(&peer(1)).unwrap().control.len(), 2);
    contacts.hear(peer(2), contact(0, &[]));
    assert_eq!(contacts.contact(&peer(0)), None, "knows itself by hearsay");
}

#[test]
fn memory_for_contacts_is_bounded_and_a_liar_replaces_its_own() {
    let mut contacts = contacts();
    for n in 1..=2 {
        contacts.on_connected(peer(n), Some(socket(n)), false);
        contacts.introduce(contact(n, &[]));
    }
    for n in 3..60 {
        contacts.hear(peer(1), contact(n, &[]));
    }
    for n in 0..5000 {
        contacts.hear(peer(2), invented(n, &[]));
    }
    assert_eq!(contacts.contacts().count(), MAX_NEW + 2);
    let lost = (1..60).filter(|n| contacts.contact(&peer(*n)).is_none());
    assert_eq!(lost.count(), 0, "inventions replaced what another told");
    contacts.on_connected(peer(77), None, false);
    contacts.introduce(contact(77, &[]));
    assert!(contacts.contact(&peer(77)).is_some());
}

#[test]
fn liars_of_one_network_replace_no_contact_from_another() {
    let mut contacts = contacts();
    let far = SocketAddr::from(([203, 0, 113, 7], 4001));
    contacts.on_connected(peer(1), Some(far), false);
    for n in 3..60 {
        contacts.hear(peer(1), contact(n, &[]));
    }
    for n in 0..5000 {
        // A new key for each invention.
        let liar = PeerId(hash::blob(&(1 << 40 | u64::from(n)).to_le_bytes()));
        contacts.on_connected(liar, Some(socket(2)), false);
        contacts.hear(liar, invented(n, &[]));
        contacts.on_disconnected(liar, Instant(0));
    }
    let kept = (3..60).filter(|n| contacts.contact(&peer(*n)).is_some());
    assert_eq!(kept.count(), 57);
}

#[test]
fn real_contact_is_dialed_at_once_among_invented_ones_that_never_answer() {
    let runs = BTreeSet::from([run(1)]);
    let mut contacts = contacts();
    for n in 0..MAX_NEW as u32 {
        contacts.hear(peer(2), invented(n, &[run(1)]));
    }
    let silent = contacts.due(&runs, Instant(0)).len();
    assert_eq!(silent, WANTED_CONNECTIONS / 2, "half of the room is kept");
    // Those dials hang until they are given up; the next teller's contact is among the next.
    contacts.hear(peer(1), contact(1, &[run(1)]));
    let later = Instant(DIAL_TIMEOUT_MS);
    let due: Vec<Target> = contacts
        .due(&runs, later)
        .into_iter()
        .map(|d| d.0)
        .collect();
    assert!(due.contains(&Target::Peer(peer(1))), "{due:?}");
}

#[test]
fn tried_contact_is_dialed_though_dials_of_invented_ones_hang() {
    let runs = BTreeSet::from([run(1)]);
    let mut contacts = contacts();
    contacts.on_connected(peer(1), Some(socket(1)), true);
    contacts.introduce(contact(1, &[run(1)]));
    contacts.greeted(peer(1));
    contacts.on_disconnected(peer(1), Instant(0));
    for n in 0..1000 {
        contacts.hear(peer(2), invented(n, &[run(1)]));
    }
    contacts.due(&runs, Instant(0));
    let due = contacts.due(&runs, Instant(FIRST_WAIT_MS));
    assert_eq!(due, [(Target::Peer(peer(1)), vec![socket(1)])]);
}

#[test]
fn connections_that_others_opened_do_not_end_the_search() {
    let runs = BTreeSet::from([run(1)]);
    let mut contacts = contacts();
    for n in 100..200 {
        contacts.on_connected(peer(n), Some(socket(n)), false);
    }
    contacts.hear(peer(100), contact(1, &[run(1)]));
    assert_eq!(contacts.due(&runs, Instant(0)).len(), 1);
}

#[test]
fn hearsay_is_not_passed_on_and_those_connected_come_first() {
    let mut contacts = contacts();
    contacts.hear(peer(2), contact(9, &[]));
    contacts.on_connected(peer(1), Some(socket(1)), true);
    contacts.introduce(contact(1, &[]));
    contacts.greeted(peer(1));
    contacts.on_disconnected(peer(1), Instant(0));
    contacts.on_connected(peer(3), Some(socket(3)), false);
    contacts.introduce(contact(3, &[]));
    contacts.on_connected(peer(4), Some(socket(4)), false);
    contacts.introduce(contact(4, &[]));
    contacts.on_disconnected(peer(4), Instant(0));
    let told: Vec<PeerId> = contacts
        .worth_telling(&peer(7), 9)
        .iter()
        .map(|c| c.peer)
        .collect();
    assert_eq!(told, [peer(3), peer(1)]);
}

#[test]
fn a_peer_that_is_asked_is_dialed_though_there_is_no_room_and_not_again_at_once() {
    let mut contacts = contacts();
    for n in 100..100 + WANTED_CONNECTIONS as u16 {
        contacts.on_connected(peer(n as u8), Some(socket(n as u8)), true);
    }
    contacts.hear(peer(100), contact(1, &[run(1)]));
    let runs = BTreeSet::from([run(1)]);
    assert_eq!(contacts.due(&runs, Instant(0)), []);
    assert!(contacts.seek(peer(1), Instant(0)).is_some());
    assert_eq!(contacts.seek(peer(1), Instant(0)), None, "under way");
    contacts.failed(Target::Peer(peer(1)), Instant(0));
    assert_eq!(contacts.seek(peer(1), Instant(1)), None, "it just failed");
    assert!(contacts.seek(peer(1), Instant(FIRST_WAIT_MS)).is_some());
    assert_eq!(contacts.seek(peer(2), Instant(0)), None, "unknown");
    assert_eq!(contacts.seek(peer(100), Instant(0)), None, "connected");
}
