//! Real relays and endpoints on loopback.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::time::Instant;

use futures::SinkExt;
use iroh::endpoint::{Connection, PortmapperConfig, RelayMode, presets};
use iroh::{Endpoint, EndpointAddr, RelayMap, Watcher};
use iroh_relay::client::{Client, ClientBuilder};
use iroh_relay::protos::relay::ClientToRelayMsg;
use parking_lot::Mutex;
use tributary_protocol::id::PeerId;

use super::admission::MAX_CONNECTIONS_OF_KEY;
use super::*;
use crate::net::keys;

const ALPN: &[u8] = b"tributary/test";
/// Far more than anything here takes, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(40);

/// Members by key; anybody else needs the word.
#[derive(Default)]
struct Doors {
    members: Mutex<BTreeSet<PeerId>>,
    word: Option<&'static str>,
}

impl Gate for Doors {
    fn admit(&self, peer: PeerId, token: Option<&str>) -> Result<(), String> {
        if self.members.lock().contains(&peer) || (token.is_some() && token == self.word) {
            return Ok(());
        }
        Err("this relay serves members of its runs; ask one of them for a ticket".to_owned())
    }
}

fn seed(n: u8) -> [u8; 32] {
    [n; 32]
}

fn peer(n: u8) -> PeerId {
    keys::from_iroh(&keys::iroh_key(&seed(n)).public())
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A relay with key 100 that serves the members.
async fn relay_of(listen: SocketAddr, members: &[u8], rates: Rates) -> RelayServer {
    let members = members.iter().copied().map(peer).collect();
    let access = Arc::new(Doors {
        members: Mutex::new(members),
        word: Some("open"),
    });
    let seed = seed(100);
    let config = RelayConfig {
        seed,
        listen,
        access,
    };
    RelayServer::start_with(config, rates).await.unwrap()
}

/// Accepts the relay of the key at the address.
fn pinned(relay: SocketAddr, key: u8) -> Pins {
    let pins = Pins::default();
    pins.pin(relay.ip(), peer(key)).unwrap();
    pins
}

/// An endpoint that reaches nothing but relays, and knows none yet.
async fn endpoint(n: u8, pins: &Pins) -> Endpoint {
    let builder = Endpoint::builder(presets::Minimal)
        .secret_key(keys::iroh_key(&seed(n)))
        .alpns(vec![ALPN.to_vec()])
        .relay_mode(RelayMode::Custom(RelayMap::empty()))
        .ca_tls_config(pins.tls())
        .dns_resolver(resolver())
        .portmapper_config(PortmapperConfig::Disabled)
        .clear_ip_transports();
    builder.bind().await.unwrap()
}

async fn insert(endpoint: &Endpoint, relay: SocketAddr, token: Option<&str>) {
    let config = config(relay, token.map(str::to_owned));
    let held = endpoint.insert_relay(config.url.clone(), Arc::new(config));
    assert!(held.await.is_none());
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took longer than {LIMIT:?}"),
    }
}

/// Waits until the endpoint's home relay says what `wanted` looks for.
async fn status<T>(
    what: &str,
    endpoint: &Endpoint,
    wanted: impl Fn(&iroh::endpoint::RelayStatus) -> Option<T>,
) -> T {
    let mut watcher = endpoint.home_relay_status();
    let look = async {
        loop {
            if let Some(found) = watcher.get().iter().find_map(&wanted) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(what, look).await
}

async fn connected(endpoint: &Endpoint) {
    let online = |status: &iroh::endpoint::RelayStatus| status.is_connected().then_some(());
    status("a home relay", endpoint, online).await;
}

/// Connects one endpoint to another by the relay alone.
async fn meet(from: &Endpoint, to: &Endpoint, relay: SocketAddr) -> (Connection, Connection) {
    let address = EndpointAddr::new(to.id()).with_relay_url(url(relay));
    let (dialed, taken) = tokio::join!(from.connect(address, ALPN), async {
        to.accept().await.unwrap().await
    });
    (dialed.unwrap(), taken.unwrap())
}

/// Sends so many bytes over a new stream, and how long the other side waited for all of them.
async fn transfer(connections: &(Connection, Connection), bytes: usize) -> Duration {
    let began = Instant::now();
    let send = async {
        let mut stream = connections.0.open_uni().await.unwrap();
        stream.write_all(&vec![7; bytes]).await.unwrap();
        stream.finish().unwrap();
    };
    let receive = async {
        let mut stream = connections.1.accept_uni().await.unwrap();
        let got = stream.read_to_end(bytes).await.unwrap();
        assert_eq!(got.len(), bytes);
    };
    within("a transfer", async { tokio::join!(send, receive) }).await;
    began.elapsed()
}

/// A client of the relay without an endpoint around it, as a hostile program would be.
async fn raw(n: u8, relay: SocketAddr, pins: &Pins) -> Result<Client, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = pins.tls().client_config(provider).unwrap();
    let builder = ClientBuilder::new(url(relay), keys::iroh_key(&seed(n)), resolver());
    let connect = builder.tls_client_config(tls);
    let connect = connect.connect();
    (within("a client", connect).await).map_err(|why| format!("{why:#}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_peers_without_a_path_of_their_own_exchange_a_stream_through_a_relay_added_later() {
    let relay = relay_of(loopback(), &[1, 2], Rates::default()).await;
    let at = relay.local_addr();
    let pins = pinned(at, 100);
    let (one, two) = (endpoint(1, &pins).await, endpoint(2, &pins).await);
    assert!(one.home_relay_status().get().is_empty());
    insert(&one, at, None).await;
    insert(&two, at, None).await;
    tokio::join!(connected(&one), connected(&two));
    assert_eq!(relay.clients(), 2);
    let pair = within("a meeting", meet(&one, &two, at)).await;
    transfer(&pair, 100_000).await;
    assert!(relay.relayed_bytes() > 100_000);
    one.close().await;
    two.close().await;
    within("leaving", async {
        while relay.clients() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_at_an_ipv6_address_is_reached_by_its_url() {
    let relay = relay_of("[::1]:0".parse().unwrap(), &[1], Rates::default()).await;
    let at = relay.local_addr();
    let one = endpoint(1, &pinned(at, 100)).await;
    insert(&one, at, None).await;
    connected(&one).await;
    one.close().await;
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_with_another_key_is_refused_and_the_owner_can_read_why() {
    let relay = relay_of(loopback(), &[1], Rates::default()).await;
    let at = relay.local_addr();
    let one = endpoint(1, &pinned(at, 101)).await;
    insert(&one, at, None).await;
    // Its latency is measured over TLS too, so that it never becomes a home relay; a raw client hears why.
    let pins = pinned(at, 101);
    let why = raw(1, at, &pins).await.unwrap_err();
    assert!(why.contains("has another key than"), "{why}");
    assert!(why.contains(&peer(101).short()), "{why}");
    let why = raw(1, at, &Pins::default()).await.unwrap_err();
    assert!(why.contains("no peer is known to relay"), "{why}");
    assert!(
        !one.home_relay_status()
            .get()
            .iter()
            .any(|status| status.is_connected())
    );
    assert_eq!(relay.clients(), 0);
    one.close().await;
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_token_hears_why_and_a_bearer_is_admitted() {
    let relay = relay_of(loopback(), &[], Rates::default()).await;
    let at = relay.local_addr();
    let pins = pinned(at, 100);
    let (stranger, bearer) = (endpoint(1, &pins).await, endpoint(2, &pins).await);
    insert(&stranger, at, None).await;
    insert(&bearer, at, Some("open")).await;
    let reason = status("a denial", &stranger, |status| {
        status.auth_denied_reason().map(str::to_owned)
    });
    let reason = reason.await;
    assert!(reason.contains("ask one of them for a ticket"), "{reason}");
    connected(&bearer).await;
    assert_eq!(relay.clients(), 1);
    stranger.close().await;
    bearer.close().await;
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_connection_of_one_key_is_refused() {
    let relay = relay_of(loopback(), &[1], Rates::default()).await;
    let at = relay.local_addr();
    let pins = pinned(at, 100);
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS_OF_KEY {
        held.push(raw(1, at, &pins).await.unwrap());
    }
    let why = raw(1, at, &pins).await.unwrap_err();
    assert!(why.contains("the same key"), "{why}");
    assert_eq!(relay.clients(), 1);
    held.pop();
    within("a free place", async {
        while raw(1, at, &pins).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    relay.shutdown().await;
}

/// Asks for the relay protocol by hand, reads the answer, says nothing more, and waits until the relay hangs up.
fn stay_silent(relay: SocketAddr, pins: &Pins) -> Duration {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = Arc::new(pins.tls().client_config(provider).unwrap());
    let client = rustls::ClientConnection::new(tls, relay.ip().into()).unwrap();
    let tcp = std::net::TcpStream::connect(relay).unwrap();
    tcp.set_read_timeout(Some(LIMIT)).unwrap();
    let mut stream = rustls::StreamOwned::new(client, tcp);
    let ask = "GET /relay HTTP/1.1\r\nHost: relay\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: iroh-relay-v1\r\nX-Tributary-Connection: 7\r\n\r\n";
    stream.write_all(ask.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    let began = Instant::now();
    let mut rest = Vec::new();
    // The end of the stream without a farewell of TLS is an error of this library.
    let why = stream.read_to_end(&mut rest).err().map(|e| e.kind());
    assert!(!matches!(
        why,
        Some(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
    ));
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_shows_its_key_is_cut_off_and_one_that_does_stays() {
    let handshake = Duration::from_secs(2);
    let rates = Rates {
        handshake,
        ..Rates::default()
    };
    let relay = relay_of(loopback(), &[1, 2], rates).await;
    let at = relay.local_addr();
    let pins = pinned(at, 100);
    let (one, two) = (endpoint(1, &pins).await, endpoint(2, &pins).await);
    insert(&one, at, None).await;
    insert(&two, at, None).await;
    tokio::join!(connected(&one), connected(&two));
    let pair = within("a meeting", meet(&one, &two, at)).await;
    let silent = tokio::task::spawn_blocking(move || stay_silent(at, &pins));
    let held = within("the end of the silence", silent).await.unwrap();
    assert!(held > handshake / 2, "{held:?}");
    // These have been there for longer than a handshake may take.
    transfer(&pair, 10_000).await;
    assert_eq!(relay.clients(), 2);
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_slowed_to_the_limit_while_another_pair_goes_on() {
    const PER_SECOND: u32 = 1 << 20;
    const FLOOD: Duration = Duration::from_secs(3);
    const BYTES: usize = 2 << 20;
    let rate = NonZeroU32::new(PER_SECOND).unwrap();
    let rates = Rates {
        bytes_per_second: rate,
        burst_bytes: rate,
        ..Rates::default()
    };
    let relay = relay_of(loopback(), &[1, 2, 3, 4], rates).await;
    let at = relay.local_addr();
    let pins = pinned(at, 100);
    let (one, two) = (endpoint(1, &pins).await, endpoint(2, &pins).await);
    insert(&one, at, None).await;
    insert(&two, at, None).await;
    tokio::join!(connected(&one), connected(&two));
    let pair = within("a meeting", meet(&one, &two, at)).await;
    let alone = transfer(&pair, BYTES).await;

    let mut flooder = raw(3, at, &pins).await.unwrap();
    let victim = keys::to_iroh(peer(4)).unwrap();
    let before = relay.relayed_bytes();
    let began = Instant::now();
    let flood = tokio::spawn(async move {
        let datagrams = vec![0u8; 1200];
        while began.elapsed() < FLOOD {
            let message = ClientToRelayMsg::Datagrams {
                dst_endpoint_id: victim,
                datagrams: datagrams.as_slice().into(),
            };
            // The relay reads no faster than its limit, so that this waits.
            let _ = tokio::time::timeout(FLOOD, flooder.send(message)).await;
        }
    });
    tokio::time::sleep(FLOOD / 3).await;
    let beside = transfer(&pair, BYTES).await;
    flood.await.unwrap();
    let seconds = began.elapsed().as_secs_f64();
    let taken = (relay.relayed_bytes() - before) as f64 - BYTES as f64;
    // A burst, then the rate; an eighth on top for frames, retransmissions and the clock.
    let most = f64::from(PER_SECOND) * (1.0 + seconds) * 1.125;
    println!(
        "flood: {taken:.0} bytes in {seconds:.2} s, at most {most:.0}; pair: {alone:?} alone, {beside:?} beside"
    );
    assert!(taken > f64::from(PER_SECOND), "the flood was none: {taken}");
    assert!(taken < most, "{taken} bytes in {seconds} s");
    let slower = beside.as_secs_f64() / alone.as_secs_f64();
    assert!(slower < 5.0, "the pair is {slower} times slower");
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_come_back_by_themselves_when_the_relay_returns_on_its_port() {
    let relay = relay_of(loopback(), &[1, 2], Rates::default()).await;
    let at = relay.local_addr();
    let pins = pinned(at, 100);
    let (one, two) = (endpoint(1, &pins).await, endpoint(2, &pins).await);
    insert(&one, at, None).await;
    insert(&two, at, None).await;
    tokio::join!(connected(&one), connected(&two));
    let pair = within("a meeting", meet(&one, &two, at)).await;
    relay.shutdown().await;
    let gone = |status: &iroh::endpoint::RelayStatus| (!status.is_connected()).then_some(());
    status("the end of the relay", &one, gone).await;

    let relay = relay_of(at, &[1, 2], Rates::default()).await;
    assert_eq!(relay.local_addr(), at);
    let began = Instant::now();
    tokio::join!(connected(&one), connected(&two));
    println!("both came back after {:?}", began.elapsed());
    // The connection of before goes on: QUIC's own timeout had not passed.
    transfer(&pair, 10_000).await;
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_learns_from_the_relay_where_it_is_seen() {
    let relay = relay_of(loopback(), &[1], Rates::default()).await;
    let at = relay.local_addr();
    let seen = |pins: Pins| async move {
        let builder = Endpoint::builder(presets::Minimal)
            .secret_key(keys::iroh_key(&seed(1)))
            .relay_mode(RelayMode::Custom(RelayMap::empty()))
            .ca_tls_config(pins.tls())
            .dns_resolver(resolver())
            .portmapper_config(PortmapperConfig::Disabled)
            .clear_ip_transports()
            .bind_addr(loopback())
            .unwrap();
        let one = builder.bind().await.unwrap();
        insert(&one, at, None).await;
        let mut reports = one.net_report();
        let wait = async {
            loop {
                if let Some(seen) = reports.get().and_then(|report| report.global_v4) {
                    return seen;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let seen = tokio::time::timeout(Duration::from_secs(8), wait)
            .await
            .ok();
        let bound = one.bound_sockets();
        one.close().await;
        (seen, bound)
    };
    let (found, bound) = seen(pinned(at, 100)).await;
    assert_eq!(found.map(SocketAddr::V4).as_slice(), bound);
    // The same check of the key holds here: a relay with another key tells nothing.
    let (found, _) = seen(pinned(at, 101)).await;
    assert_eq!(found, None);
    relay.shutdown().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind(loopback()).unwrap();
    let listen = taken.local_addr().unwrap();
    let config = || RelayConfig {
        seed: seed(100),
        listen,
        access: Arc::new(Doors::default()),
    };
    let why = RelayServer::start(config()).await.err().unwrap();
    assert!(matches!(why, RelayError::Tcp { .. }), "{why}");
    drop(taken);
    let _taken = std::net::UdpSocket::bind(listen).unwrap();
    let why = RelayServer::start(config()).await.err().unwrap();
    assert!(matches!(why, RelayError::Udp { .. }), "{why}");
    assert!(why.to_string().contains(&listen.to_string()), "{why}");
}
