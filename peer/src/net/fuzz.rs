//! Bytes of strangers that this room reads itself never panic it: greetings, frames, topic names and
//! addresses, 100,000 mutations each from a fixed seed (`TRIBUTARY_FUZZ=1000000` makes it a million).
//!
//! What the node reads is fuzzed in `protocol/tests/mutation.rs`, with an eye on memory. Here the bounds
//! follow from the types: a greeting decodes within its limit, a frame reserves step by step.

use futures::executor::block_on;
use futures::io::Cursor;
use libp2p::gossipsub::IdentTopic;
use libp2p::request_response::Codec;
use tributary_protocol::hash;
use tributary_protocol::id::{NetworkId, PeerId, RunId};

use super::address::{Address, socket_multiaddr};
use super::frames::{Frames, Request, Room};
use super::gossip;
use super::hello::{Contact, Hello, RelayPlace};
use tributary_protocol::test_utils::corpus;
use tributary_protocol::test_utils::mutate::Mutator;

const NETWORK: NetworkId = NetworkId(1);

fn feed(name: &str, seeds: &[Vec<u8>], taken: impl Fn(&[u8]) -> bool) {
    for seed in seeds {
        assert!(taken(seed), "{name}: a valid input is refused");
    }
    let mut mutator = Mutator::new(seeds, 0x6e65_7400);
    let messages = corpus::executions(100_000);
    let valid = (0..messages).filter(|_| taken(&mutator.next())).count();
    println!("{name}: {messages} messages, {valid} still valid");
}

fn contact(n: u8) -> Contact {
    let v4 = std::net::SocketAddr::from(([10, 0, 0, n], 4001));
    let v6 = std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 9));
    Contact {
        peer: PeerId(hash::blob(&[n])),
        control: vec![v4.into(), v6.into()],
        data: vec![v6.into()],
        relays: vec![RelayPlace {
            peer: PeerId(hash::blob(&[n])),
            socket: v4.into(),
        }],
        runs: vec![RunId(hash::blob(&[n, n]))],
    }
}

#[test]
fn greetings_withstand_mutation() {
    let sender = contact(1).peer;
    let hello = |known: Vec<Contact>| {
        Hello::new(NETWORK, Some(contact(2).data[0]), contact(1), known).encode()
    };
    let seeds = [hello(Vec::new()), hello((2..9).map(contact).collect())];
    feed("greeting", &seeds, |bytes| {
        let Ok(hello) = Hello::decode(bytes, NETWORK, sender) else {
            return false;
        };
        assert_eq!(hello.encode(), bytes, "two encodings of one greeting");
        true
    });
}

#[test]
fn frames_withstand_mutation() {
    let frame = |length: usize| {
        let bytes = vec![7; length];
        [&(length as u32).to_le_bytes()[..], &bytes].concat()
    };
    let seeds = [frame(0), frame(40), frame(1000)];
    let protocol = libp2p::StreamProtocol::new("/tributary/1/direct");
    let room = Room::default();
    feed("frame", &seeds, |bytes| {
        let mut frames = Frames {
            max_request: 2000,
            max_response: 0,
            room: room.clone(),
        };
        let mut wire = Cursor::new(bytes.to_vec());
        let read = block_on(frames.read_request(&protocol, &mut wire));
        match read {
            Ok(Request::Whole(got)) => {
                assert_eq!(got, bytes[4..4 + got.len()]);
                true
            }
            Ok(Request::TooLong(_)) | Err(_) => false,
        }
    });
}

#[test]
fn names_of_topics_withstand_mutation() {
    let run = RunId(hash::blob(b"run"));
    let seed = gossip::topic(NETWORK, run)
        .hash()
        .as_str()
        .as_bytes()
        .to_vec();
    feed("topic", &[seed], |bytes| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        gossip::run_of(NETWORK, &IdentTopic::new(text).hash()).is_some()
    });
}

#[test]
fn addresses_withstand_mutation() {
    let peer = crate::identity::Identity::generate().peer_id();
    let socket = std::net::SocketAddr::from(([127, 0, 0, 1], 4001));
    let seeds = [
        Address::new(socket, Some(peer)).to_string().into_bytes(),
        socket_multiaddr(socket).to_string().into_bytes(),
        b"[::1]:4001".to_vec(),
    ];
    feed("address", &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(address) = text.parse::<Address>() else {
            return false;
        };
        // Whatever was taken can be asked for its parts.
        let _ = (address.socket(), address.peer(), address.to_string());
        true
    });
}
