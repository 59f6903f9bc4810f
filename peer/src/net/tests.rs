//! Real sockets on loopback.

mod hops;

use std::time::{Duration, Instant};

use tributary_protocol::event::Verdict;
use tributary_protocol::hash;
use tributary_protocol::id::{BlobRef, NetworkId, PeerId, RunId};

use super::*;
use crate::home::HomePaths;
use crate::store::Store;

const LIMIT: Duration = Duration::from_secs(20);

pub(super) struct Peer {
    pub(super) net: Net,
    events: NetEvents,
    store: Store,
    identity: Identity,
    _dir: tempfile::TempDir,
}

impl Peer {
    pub(super) async fn start(bootstrap: Vec<Address>) -> Self {
        Self::start_in(NetworkId(1), bootstrap).await
    }

    async fn start_in(network: NetworkId, bootstrap: Vec<Address>) -> Self {
        Self::start_at(network, Reach::Loopback, Known::default(), bootstrap).await
    }

    /// A peer that speaks over QUIC, and knows these others from an earlier start.
    async fn start_over_quic(known: Vec<KnownPeer>) -> Self {
        let known = Known {
            peers: known,
            ..Known::default()
        };
        Self::start_at(NetworkId(1), Reach::Lan, known, Vec::new()).await
    }

    async fn start_at(
        network: NetworkId,
        reach: Reach,
        known: Known,
        bootstrap: Vec<Address>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&HomePaths::new(dir.path())).unwrap();
        let identity = Identity::generate();
        let (net, events) = start(NetConfig {
            identity: &identity,
            network,
            listen: "127.0.0.1:0".parse().unwrap(),
            reach,
            known,
            relay: None,
            bootstrap,
            blobs: store.blobs().clone(),
            holder: None,
        })
        .await
        .unwrap();
        Self {
            net,
            events,
            store,
            identity,
            _dir: dir,
        }
    }

    pub(super) fn id(&self) -> PeerId {
        self.identity.peer_id()
    }

    /// The next event that `pick` wants; others are dropped.
    async fn expect<T>(&mut self, what: &str, mut pick: impl FnMut(NetEvent) -> Option<T>) -> T {
        let wait = async {
            loop {
                let event = self.events.next().await.expect("the network stopped");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        };
        (tokio::time::timeout(LIMIT, wait).await).unwrap_or_else(|_| panic!("no {what}"))
    }

    async fn connected(&mut self) -> PeerId {
        self.expect("connection", |event| match event {
            NetEvent::Connected(peer) => Some(peer),
            _ => None,
        })
        .await
    }

    async fn gossip(&mut self) -> (PeerId, GossipId, Vec<u8>) {
        self.expect("gossip", |event| match event {
            NetEvent::Gossip { from, id, bytes } => Some((from, id, bytes)),
            _ => None,
        })
        .await
    }
}

pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(super) fn run() -> RunId {
    RunId(hash::blob(b"run"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_peers_exchange_direct_messages_gossip_and_blobs() {
    let mut a = Peer::start(Vec::new()).await;
    let mut b = Peer::start(a.net.addresses()).await;
    assert_eq!(a.connected().await, b.id());
    assert_eq!(b.connected().await, a.id());

    let large = vec![5; tributary_protocol::limits::MAX_DIRECT_BYTES];
    a.net.send(b.id(), large.clone());
    let got = b.expect("direct message", |event| match event {
        NetEvent::Direct { from, bytes } => Some((from, bytes)),
        _ => None,
    });
    assert_eq!(got.await, (a.id(), large));

    a.net.subscribe(run());
    b.net.subscribe(run());
    let message = vec![9; tributary_protocol::limits::MAX_GOSSIP_BYTES];
    a.net.gossip(run(), message.clone());
    let (from, id, bytes) = b.gossip().await;
    assert_eq!((from, bytes), (a.id(), message));
    b.net.verdict(id, Verdict::Accept);

    let content: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let blob = BlobRef::of(&content);
    let record = tributary_protocol::event::Record::Blob {
        hash: blob.hash,
        bytes: content.clone().into(),
    };
    a.store.persist(vec![record]).wait().await.unwrap();
    let refused = b.net.fetch(blob, &[a.id()]).await.unwrap_err();
    assert!(refused.to_string().contains(&a.id().short()), "{refused}");
    a.net.offer(blob.hash);
    let fetched = b.net.fetch(blob, &[a.id()]).await.unwrap();
    assert_eq!(fetched.bytes()[..], content[..]);
    let size = content.len() as u64;
    assert_eq!(b.net.traffic().payload_down, size);
    let served = || a.net.traffic_by_peer().get(&b.id()).map(|t| t.payload_up);
    until("the count of served bytes", || {
        served().is_some_and(|up| up >= size)
    })
    .await;
    assert!(
        a.net.traffic().control_up > 256 * 1024,
        "direct message was not counted"
    );

    let lie = BlobRef {
        size: blob.size - 1,
        ..blob
    };
    let error = b.net.fetch(lie, &[a.id()]).await.unwrap_err();
    assert!(error.to_string().contains("were promised"), "{error}");
    a.net.shutdown().await;
    b.net.shutdown().await;
}

/// What others remember of a peer that follows the run, without its TCP address.
fn over_quic(peer: &Peer) -> KnownPeer {
    KnownPeer {
        control: Vec::new(),
        runs: vec![run()],
        ..peer.net.own()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_remember_each_other_meet_over_quic_and_again_after_a_restart() {
    let mut a = Peer::start_over_quic(Vec::new()).await;
    a.net.subscribe(run());
    let mut b = Peer::start_over_quic(vec![over_quic(&a)]).await;
    b.net.subscribe(run());
    assert_eq!(b.connected().await, a.id());
    assert_eq!(a.connected().await, b.id());
    let message = vec![9; tributary_protocol::limits::MAX_GOSSIP_BYTES];
    a.net.gossip(run(), message.clone());
    let (from, id, bytes) = b.gossip().await;
    assert_eq!((from, bytes), (a.id(), message));
    b.net.verdict(id, Verdict::Accept);
    until("a path", || {
        let path = b.net.paths().get(&a.id()).copied();
        path.is_some_and(|path| path.kind == PathKind::Direct && path.latency.is_some())
    })
    .await;

    until("a memory of the other", || {
        b.net.known_peers().iter().any(|known| known.peer == a.id())
    })
    .await;
    let remembered = b.net.known_peers();
    b.net.shutdown().await;
    until("an empty place", || a.net.connected().is_empty()).await;
    let again = Peer::start_over_quic(remembered).await;
    again.net.subscribe(run());
    until("another meeting", || a.net.connected() == [again.id()]).await;
    a.net.shutdown().await;
    again.net.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_peers_over_quic_all_meet_and_all_hear() {
    let first = Peer::start_over_quic(Vec::new()).await;
    first.net.subscribe(run());
    let mut peers = vec![first];
    for _ in 0..4 {
        let peer = Peer::start_over_quic(vec![over_quic(&peers[0])]).await;
        peer.net.subscribe(run());
        peers.push(peer);
    }
    until("a full mesh of connections", || {
        peers.iter().all(|p| p.net.connected().len() == 4)
    })
    .await;
    let message = vec![1; 1000];
    peers[0].net.gossip(run(), message.clone());
    for receiver in &mut peers[1..] {
        let (_, id, bytes) = receiver.gossip().await;
        assert_eq!(bytes, message);
        receiver.net.verdict(id, Verdict::Accept);
    }
    until("a direct path to each", || {
        let paths = peers[0].net.paths();
        paths.len() == 4 && paths.values().all(|path| path.kind == PathKind::Direct)
    })
    .await;
    for peer in peers {
        peer.net.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_peers_that_know_one_address_all_meet_and_all_hear() {
    let first = Peer::start(Vec::new()).await;
    let addresses = first.net.addresses();
    let mut peers = vec![first];
    for _ in 0..4 {
        peers.push(Peer::start(addresses.clone()).await);
    }
    for peer in &peers {
        peer.net.subscribe(run());
    }
    until("a full mesh of connections", || {
        peers.iter().all(|p| p.net.connected().len() == 4)
    })
    .await;
    let followers = peers[3].net.known_runs();
    assert_eq!(followers.get(&run()).map(Vec::len), Some(4));

    for sender in 0..peers.len() {
        let message = vec![sender as u8; 1000];
        peers[sender].net.gossip(run(), message.clone());
        for receiver in (0..peers.len()).filter(|r| *r != sender) {
            let (_, id, bytes) = peers[receiver].gossip().await;
            assert_eq!(bytes, message);
            peers[receiver].net.verdict(id, Verdict::Accept);
        }
    }

    // A blob of the last is fetched by the second, which has never dialed it itself, past a provider
    // that does not have it.
    let content = vec![3; 100_000];
    let blob = BlobRef::of(&content);
    let record = tributary_protocol::event::Record::Blob {
        hash: blob.hash,
        bytes: content.clone().into(),
    };
    peers[4].store.persist(vec![record]).wait().await.unwrap();
    peers[4].net.offer(blob.hash);
    let providers = [peers[2].id(), peers[4].id()];
    let fetched = peers[1].net.fetch(blob, &providers).await.unwrap();
    assert_eq!(fetched.bytes()[..], content[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_that_comes_back_is_found_again() {
    let mut a = Peer::start(Vec::new()).await;
    let mut b = Peer::start(a.net.addresses()).await;
    b.connected().await;
    a.connected().await;
    let listen = a.net.addresses()[0].socket().unwrap();
    a.net.shutdown().await;
    let gone = b.expect("disconnection", |event| match event {
        NetEvent::Disconnected(peer) => Some(peer),
        _ => None,
    });
    assert_eq!(gone.await, a.id());
    let (again, _events) = start(NetConfig {
        identity: &a.identity,
        network: NetworkId(1),
        listen,
        reach: Reach::Loopback,
        known: Known::default(),
        relay: None,
        bootstrap: Vec::new(),
        blobs: a.store.blobs().clone(),
        holder: None,
    })
    .await
    .unwrap();
    assert_eq!(b.connected().await, a.id());
    again.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn port_in_use_is_an_error_of_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&HomePaths::new(dir.path())).unwrap();
    let started = start(NetConfig {
        identity: &Identity::generate(),
        network: NetworkId(1),
        listen: taken.local_addr().unwrap(),
        reach: Reach::Loopback,
        known: Known::default(),
        relay: None,
        bootstrap: Vec::new(),
        blobs: store.blobs().clone(),
        holder: None,
    })
    .await;
    assert!(matches!(started, Err(NetError::PortInUse(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_of_another_network_are_not_met() {
    let a = Peer::start(Vec::new()).await;
    let mut stranger = Peer::start_in(NetworkId(2), a.net.addresses()).await;
    let met = tokio::time::timeout(Duration::from_secs(2), stranger.connected()).await;
    assert!(met.is_err(), "a peer of another network was met");
    assert!(a.net.connected().is_empty());
    let said = said(&stranger);
    assert!(
        said.contains("another version or network") || said.contains("network"),
        "{said}"
    );
}

/// Why a peer's bootstrap addresses are of no use, a line each.
fn said(peer: &Peer) -> String {
    let warnings = peer.net.unreached();
    let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    texts.join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_hears_of_a_dead_port_a_wrong_id_and_an_own_address_until_somebody_answers() {
    let a = Peer::start(Vec::new()).await;
    let socket = a.net.addresses()[0].socket().unwrap();
    let wrong = Address::new(socket, Some(Identity::generate().peer_id()));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = free.local_addr().unwrap();
    drop(free);
    let b = Peer::start(vec![wrong.clone(), Address::new(dead, None)]).await;
    let at = |address: &Address| {
        let said = said(&b);
        let line = said
            .lines()
            .find(|line| line.contains(&address.to_string()));
        line.unwrap_or_default().to_owned()
    };
    let dead = Address::new(dead, None);
    until("a reason for both", || {
        !at(&wrong).is_empty() && !at(&dead).is_empty()
    })
    .await;
    let meant = keys::to_libp2p(a.id()).unwrap().to_string();
    assert!(
        at(&wrong).contains(&meant),
        "it names who answers: {}",
        at(&wrong)
    );
    assert!(at(&dead).contains("nobody listens"), "{}", at(&dead));

    b.net.dial(b.net.addresses()[0].clone());
    until("a word on its own address", || {
        said(&b).contains("this peer itself")
    })
    .await;

    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&HomePaths::new(dir.path())).unwrap();
    let (late, _events) = start(NetConfig {
        identity: &Identity::generate(),
        network: NetworkId(1),
        listen: dead.socket().unwrap(),
        reach: Reach::Loopback,
        known: Known::default(),
        relay: None,
        bootstrap: Vec::new(),
        blobs: store.blobs().clone(),
        holder: None,
    })
    .await
    .unwrap();
    until("an answer at the port that was dead", || {
        at(&dead).is_empty()
    })
    .await;
    assert!(!at(&wrong).is_empty());
    late.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_with_one_key_hear_of_each_other_through_a_neighbour() {
    let host = Peer::start(Vec::new()).await;
    let amy = Peer::start(host.net.addresses()).await;
    until("a connection", || !amy.net.connected().is_empty()).await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&HomePaths::new(dir.path())).unwrap();
    let (copy, _events) = start(NetConfig {
        identity: &amy.identity,
        network: NetworkId(1),
        listen: "127.0.0.1:0".parse().unwrap(),
        reach: Reach::Loopback,
        known: Known::default(),
        relay: None,
        bootstrap: host.net.addresses(),
        blobs: store.blobs().clone(),
        holder: None,
    })
    .await
    .unwrap();
    let told = |net: &Net| {
        let mut warnings = net.unreached().into_iter();
        warnings.any(|warning| matches!(warning, Warning::KeyElsewhere(_)))
    };
    until("a word to one of the two", || told(&amy.net) || told(&copy)).await;
    assert!(!told(&host.net), "it is not about the host");
    copy.shutdown().await;
}
