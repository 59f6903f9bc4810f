//! Tickets as they are made, pasted, mistyped and forged.

use data_encoding::HEXLOWER;
use proptest::collection::vec;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng};
use tributary_protocol::hash::{self, Digest, Domain};
use tributary_protocol::test_utils::fixture::{key, peer};

use super::*;

const NET: NetworkId = NetworkId(1);
/// 2026-12-03 23:28:20.5 UTC.
const NOW: Timestamp = Timestamp(1_796_340_500_500);
const WEEK_MS: u64 = 7 * 86_400_000;

fn terms() -> Terms {
    Terms {
        network: NET,
        run: RunId(Digest::from_bytes([7; 32])),
        invitation: InvitationId([1, 2, 3, 4, 5, 6, 7, 8]),
        expires: Timestamp(NOW.0 + WEEK_MS),
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn contact(n: u8, sockets: &[&str], relay: Option<(u8, &str)>) -> Contact {
    Contact {
        peer: peer(n),
        sockets: sockets.iter().map(|text| at(text)).collect(),
        relay: relay.map(|(n, text)| Relay {
            peer: peer(n),
            socket: at(text),
        }),
    }
}

/// Two peers: one at home with a relay of the other, which has a public address.
fn contacts() -> Vec<Contact> {
    let relay = Some((2, "198.51.100.7:4002"));
    vec![
        contact(1, &["192.168.1.20:4001", "[2001:db8::20]:4001"], relay),
        contact(2, &["198.51.100.7:4001"], relay),
    ]
}

fn ticket() -> Ticket {
    Ticket::new(&key(1), terms(), contacts()).unwrap()
}

fn parse(text: &str) -> Result<Ticket, TicketError> {
    Ticket::parse(text, NOW, NET)
}

#[test]
fn a_ticket_reads_back_as_it_was_made_with_its_best_address_first() {
    let made = ticket();
    let read = parse(made.text()).unwrap();
    assert_eq!(read, made);
    assert_eq!(read.inviter(), peer(1));
    let sockets = &read.contacts()[0].sockets;
    assert_eq!(
        sockets,
        &[at("[2001:db8::20]:4001"), at("192.168.1.20:4001")]
    );
    assert_eq!(read.contacts()[1], contacts()[1]);
    // Whole seconds.
    assert_eq!(read.terms().expires.0, (NOW.0 + WEEK_MS) / 1000 * 1000);
    assert!(made.text().bytes().all(|b| b.is_ascii_alphanumeric()));
}

#[test]
fn white_space_of_messengers_and_terminals_is_ignored() {
    let made = ticket();
    let (left, right) = made.text().split_at(60);
    for pasted in [
        format!("  {left}\r\n\t{right}\n"),
        format!("{left} \u{a0}{right}"),
        format!("t r i b{}", &made.text()[4..]),
    ] {
        assert_eq!(parse(&pasted).as_ref(), Ok(&made), "{pasted}");
    }
}

#[test]
fn three_peers_with_ipv6_addresses_and_relays_fit() {
    let relay = Some((3, "[2001:db8:ffff:ffff:ffff:ffff:ffff:fff3]:65000"));
    let contacts: Vec<Contact> = (1..=3)
        .map(|n| {
            let public = format!("[2001:db8:ffff:ffff:ffff:ffff:ffff:fff{n}]:65535");
            contact(n, &[&public, "10.255.255.255:65535"], relay)
        })
        .collect();
    let made = Ticket::new(&key(1), terms(), contacts).unwrap();
    assert!(made.text().len() <= MAX_CHARACTERS);
    println!("{} characters", made.text().len());
    assert_eq!(made.contacts().len(), 3);
    assert_eq!(made.contacts()[0].sockets.len(), 1);
    for held in made.contacts() {
        assert_eq!(held.relay.map(|relay| relay.peer), Some(peer(3)));
    }
    assert_eq!(parse(made.text()), Ok(made));
}

#[test]
fn each_wrong_text_is_named_for_what_it_is() {
    let made = ticket();
    let text = made.text();
    let wrong = |pasted: &str| parse(pasted).unwrap_err();
    assert_eq!(wrong(""), TicketError::NotATicket);
    assert_eq!(wrong("https://example.org/run"), TicketError::NotATicket);
    assert_eq!(wrong(&"word ".repeat(200)), TicketError::NotATicket);
    assert_eq!(wrong(&text.repeat(3)), TicketError::TooLong);
    assert_eq!(wrong(&" ".repeat(5000)), TicketError::TooLong);
    assert_eq!(wrong("trib"), TicketError::Mistyped);
    assert_eq!(wrong(&text[..text.len() - 1]), TicketError::Mistyped);
    assert_eq!(wrong(&format!("{text}0")), TicketError::Mistyped);
}

#[test]
fn an_expired_ticket_says_when_it_ended() {
    let made = ticket();
    let expires = made.terms().expires;
    let last = Timestamp(expires.0 - 1);
    assert!(Ticket::parse(made.text(), last, NET).is_ok());
    let error = Ticket::parse(made.text(), expires, NET).unwrap_err();
    assert_eq!(error, TicketError::Expired(expires));
    let shown = error.to_string();
    assert!(shown.contains(&utc::shown(expires)), "{shown}");
    assert!(shown.contains("ask for a new one"), "{shown}");
}

#[test]
fn a_ticket_of_another_network_is_refused_by_its_number() {
    let error = Ticket::parse(ticket().text(), NOW, NetworkId(2)).unwrap_err();
    let (found, expected) = (1, 2);
    assert_eq!(error, TicketError::Network { found, expected });
}

/// The text of bytes with a checksum that fits.
fn summed(mut bytes: Vec<u8>) -> String {
    let sum = hash::blob(&bytes);
    bytes.extend(&sum.as_bytes()[..4]);
    spelled(&bytes)
}

/// The bytes of a ticket without its checksum.
fn bytes(ticket: &Ticket) -> Vec<u8> {
    let mut bytes = bs58::decode(&ticket.text()[4..]).into_vec().unwrap();
    bytes.truncate(bytes.len() - 4);
    bytes
}

#[test]
fn a_later_version_is_not_called_mistyped() {
    let mut later = bytes(&ticket());
    later[0] = 2;
    assert_eq!(parse(&summed(later)), Err(TicketError::Newer(2)));
}

#[test]
fn a_ticket_signed_by_somebody_else_is_refused() {
    let made = ticket();
    let mut forged = bytes(&made);
    let body = forged.len() - 64;
    let signature = key(9).sign(NET, Domain::Ticket, &forged[..body]);
    forged.splice(body.., signature.0);
    assert_eq!(parse(&summed(forged)), Err(TicketError::Signature));
    // Right key, other purpose.
    let mut foreign = bytes(&made);
    let signature = key(1).sign(NET, Domain::Question, &foreign[..body]);
    foreign.splice(body.., signature.0);
    assert_eq!(parse(&summed(foreign)), Err(TicketError::Signature));
}

#[test]
fn each_changed_byte_under_a_right_checksum_is_found() {
    let made = bytes(&ticket());
    for at in 0..made.len() {
        for bit in 0..8 {
            let mut changed = made.clone();
            changed[at] ^= 1 << bit;
            parse(&summed(changed)).unwrap_err();
        }
    }
}

#[test]
fn addresses_that_nobody_can_reach_are_refused_although_signed() {
    let mut contacts = contacts();
    for bad in ["198.51.100.7:0", "224.0.0.1:1", "0.0.0.0:1", "[::]:1"] {
        contacts[1].sockets = vec![at(bad)];
        let text = spelled(&wire::encode(&key(1), &terms(), &contacts));
        assert_eq!(parse(&text), Err(TicketError::Unreachable(at(bad))));
    }
}

#[test]
fn a_relay_or_peer_written_otherwise_than_the_format_says_is_refused() {
    let text = |contacts: &[Contact]| spelled(&wire::encode(&key(1), &terms(), contacts));
    let mut twice = contacts();
    twice[1].peer = peer(1);
    assert_eq!(parse(&text(&twice)), Err(TicketError::NotATicket));
    let mut nowhere = contacts();
    nowhere[1] = contact(2, &[], None);
    assert_eq!(parse(&text(&nowhere)), Err(TicketError::NotATicket));
    let mut many = contacts();
    many[0].sockets = vec![at("198.51.100.7:4001"); MAX_SOCKETS + 1];
    assert_eq!(parse(&text(&many)), Err(TicketError::NotATicket));
}

#[test]
fn a_peer_that_nobody_can_reach_makes_no_ticket() {
    let new = |contacts| Ticket::new(&key(1), terms(), contacts).unwrap_err();
    let unreachable = contact(1, &["0.0.0.0:4001", "10.0.0.1:0"], None);
    assert_eq!(new(vec![unreachable]), TicketError::NoAddress);
    assert_eq!(new(vec![]), TicketError::NotInviter);
    let other = contact(2, &["10.0.0.1:4001"], None);
    assert_eq!(new(vec![other]), TicketError::NotInviter);
}

#[test]
fn a_relay_serves_bearers_of_members_tickets_until_they_are_revoked() {
    let made = ticket();
    let admits = |issuer: PeerId, revoked: bool| {
        Ticket::admits(made.text(), NOW, NET, |peer| *peer == issuer, |_| revoked)
    };
    assert_eq!(admits(peer(1), false), Ok(terms().run));
    assert_eq!(admits(peer(2), false), Err(TicketError::Issuer(peer(1))));
    let revoked = TicketError::Revoked(terms().invitation);
    assert_eq!(admits(peer(1), true), Err(revoked));
    let late = Timestamp(made.terms().expires.0);
    let late = Ticket::admits(made.text(), late, NET, |_| true, |_| false);
    assert!(matches!(late, Err(TicketError::Expired(_))));
}

#[test]
fn no_mutated_ticket_is_accepted() {
    const MUTATIONS: usize = 100_000;
    const OFFERED: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz0OIl+/-";
    let made = ticket();
    let mut dice = StdRng::seed_from_u64(14);
    let mut tried = 0;
    while tried < MUTATIONS {
        let mut text = made.text().as_bytes().to_vec();
        for _ in 0..dice.random_range(1..4) {
            let at = dice.random_range(0..text.len());
            let letter = OFFERED[dice.random_range(0..OFFERED.len())];
            match dice.random_range(0..4) {
                0 => text[at] = letter,
                1 => drop(text.remove(at)),
                2 => text.insert(at, letter),
                _ => {
                    let other = dice.random_range(0..text.len());
                    text.swap(at, other);
                }
            }
        }
        let text = String::from_utf8(text).unwrap();
        if text == made.text() {
            continue;
        }
        tried += 1;
        let error = parse(&text).expect_err("a mutated ticket was accepted");
        let expected = [TicketError::Mistyped, TicketError::NotATicket];
        assert!(expected.contains(&error), "{error}: {text}");
    }
}

#[test]
fn the_text_of_a_ticket_is_pinned() {
    assert_eq!(ticket().text(), include_str!("golden.txt").trim());
}

#[test]
fn the_bytes_are_those_that_the_protocol_describes() {
    let mut by_hand = vec![1, 1];
    by_hand.extend([7; 32]);
    by_hand.extend([1, 2, 3, 4, 5, 6, 7, 8]);
    by_hand.push(252);
    by_hand.extend((((NOW.0 + WEEK_MS) / 1000) as u32).to_le_bytes());
    by_hand.push(2);
    by_hand.extend(peer(1).as_bytes());
    by_hand.push(2);
    by_hand.extend([
        1, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20,
    ]);
    by_hand.extend([0x0f, 0xa1]);
    by_hand.extend([0, 192, 168, 1, 20, 0x0f, 0xa1]);
    by_hand.extend([1, 0]);
    by_hand.extend(peer(2).as_bytes());
    by_hand.push(1);
    by_hand.extend([0, 198, 51, 100, 7, 0x0f, 0xa1]);
    by_hand.extend([1, 0]);
    by_hand.extend([1, 0, 1, 0, 198, 51, 100, 7, 0x0f, 0xa2]);
    let made = bytes(&ticket());
    let (body, signature) = made.split_last_chunk().unwrap();
    assert_eq!(HEXLOWER.encode(body), HEXLOWER.encode(&by_hand));
    let signature = tributary_protocol::sign::Signature(*signature);
    let checked = tributary_protocol::sign::verify(peer(1), NET, Domain::Ticket, body, &signature);
    assert_eq!(checked, Ok(()));
}

fn any_socket() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<[u8; 4]>().prop_map(std::net::IpAddr::from);
    let v6 = any::<[u8; 16]>().prop_map(std::net::IpAddr::from);
    let known = proptest::sample::select(vec!["127.0.0.1", "192.168.7.7", "fd00::7", "0.0.0.0"]);
    let known = known.prop_map(|text| text.parse().unwrap());
    (prop_oneof![v4, v6, known], any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn any_contact() -> impl Strategy<Value = Contact> {
    let relay = proptest::option::of((1u8..9, any_socket()));
    (2u8..8, vec(any_socket(), 0..7), relay).prop_map(|(n, sockets, relay)| Contact {
        peer: peer(n),
        sockets,
        relay: relay.map(|(n, socket)| Relay {
            peer: peer(n),
            socket,
        }),
    })
}

proptest! {
    #[test]
    fn whatever_is_handed_in_fits_and_keeps_the_inviter_at_its_best_address(
        mut contacts in vec(any_contact(), 1..6),
        network in any::<u32>(),
        expires in NOW.0 + 1000..u64::MAX,
    ) {
        contacts[0].peer = peer(1);
        let best = (contacts[0].sockets.iter())
            .map(|socket| SocketAddr::new(socket.ip().to_canonical(), socket.port()))
            .filter(address::is_reachable)
            .map(|socket| address::scope(&socket))
            .min();
        let relay = contacts[0].relay.filter(|relay| {
            let ip = relay.socket.ip().to_canonical();
            address::is_reachable(&SocketAddr::new(ip, relay.socket.port()))
        });
        let terms = Terms { network: NetworkId(network), expires: Timestamp(expires), ..terms() };
        let made = match Ticket::new(&key(1), terms, contacts) {
            Ok(made) => made,
            Err(why) => {
                prop_assert_eq!(why, TicketError::NoAddress);
                prop_assert!(best.is_none() && relay.is_none());
                return Ok(());
            }
        };
        prop_assert!(made.text().len() <= MAX_CHARACTERS);
        let first = &made.contacts()[0];
        prop_assert_eq!(first.peer, peer(1));
        prop_assert_eq!(first.sockets.first().map(address::scope), best);
        prop_assert_eq!(first.relay.is_some(), relay.is_some());
        prop_assert_eq!(Ticket::parse(made.text(), NOW, terms.network), Ok(made));
    }

    #[test]
    fn no_text_and_no_bytes_panic(text in ".{0,500}", bytes in vec(any::<u8>(), 0..320)) {
        prop_assert!(parse(&text).is_err());
        prop_assert!(parse(&summed(bytes)).is_err());
    }
}
