//! A hostile neighbour: speaks the protocols of a daemon over real sockets, and keeps no rule of them.
//!
//! It dials from an address of its own (any of 127.0.0.0/8), writes raw bytes into the protocols'
//! streams at a given rate, and dials again whenever it is cut off.

mod blobs;
pub(crate) mod siege;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt, StreamExt};
use libp2p::core::transport::{
    DialOpts as TransportDial, ListenerId, TransportError, TransportEvent,
};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{self, Codec, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, StreamProtocol, Swarm, Transport, noise, yamux};
use tokio::net::{TcpSocket, TcpStream};
use tributary_peer::NETWORK;
use tributary_protocol::entry::Entry;
use tributary_protocol::hash;
use tributary_protocol::id::{PeerId, RunId, Scope, Seq};
use tributary_protocol::log::{Block, SignedBlock};
use tributary_protocol::sign::SecretKey;
use tributary_protocol::time::Timestamp;
use tributary_protocol::wire::Message;

/// Messages of one kind that are made before the flood and sent again and again.
const POOL: u64 = 4000;
/// How often the attacker hands over its next messages.
const STEP: Duration = Duration::from_millis(5);
/// Messages that may be under way; a victim that reads no more stops the count. Each is a stream, and
/// yamux allows 512.
const UNDER_WAY: u64 = 400;
/// Wait before the next dial after being cut off or refused.
const REDIAL: Duration = Duration::from_millis(20);

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    /// Direct messages in proper frames that are noise.
    Junk,
    /// Direct messages with valid blocks, each of a key of its own.
    Blocks,
    /// Requests whose frames announce more than is allowed.
    Oversize,
    /// Greetings, one after the other.
    Hellos,
    /// Signed gossip in the run's topic whose content is noise.
    Gossip,
    /// Gossip in a topic that nobody follows, with broken signatures.
    Forgeries,
    /// Valid junk, each connection with a new key.
    FreshKeys,
    /// TCP connections that are closed at once.
    Churn,
    /// Requests for blobs, on the other stack.
    Blobs,
}

/// Whom to attack, from where.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: Multiaddr,
    pub(crate) peer: PeerId,
    pub(crate) run: RunId,
    pub(crate) from: IpAddr,
    pub(crate) per_second: u64,
}

impl Target {
    pub(super) fn socket(&self) -> SocketAddr {
        socket(&self.address).expect("IP and port")
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// Messages (or connections) handed to the socket.
    pub(crate) sent: u64,
    /// From the first message to the first disconnection.
    pub(crate) cut_off: Option<Duration>,
    /// The longest that a connection lasted after it; to learn a key takes a handshake.
    pub(crate) back: Duration,
    /// Dials that failed or were closed in the handshake.
    pub(crate) refused: u64,
}

/// Floods until `until`.
pub(crate) async fn attack(target: &Target, flood: Flood, until: Instant) -> Outcome {
    match flood {
        Flood::Churn => return churn(target, until).await,
        Flood::Blobs => return blobs::attack(target, until).await,
        _ => {}
    }
    let sent = Arc::new(AtomicU64::new(0));
    let mut outcome = Outcome::default();
    let mut keys = Keypair::generate_ed25519();
    let mut pool = Arc::new(pool(flood, target, &keys));
    while Instant::now() < until {
        let before = sent.load(Ordering::Relaxed);
        let line = Line {
            pool: pool.clone(),
            per_second: target.per_second,
            sent: sent.clone(),
        };
        let connection = connect(target, flood, &keys, line).await;
        match connection {
            None => outcome.refused += 1,
            Some(connection) => {
                let started = Instant::now();
                connection.flood(flood, until).await;
                let lasted = started.elapsed();
                if outcome.cut_off.is_some() {
                    outcome.back = outcome.back.max(lasted);
                    outcome.refused += 1;
                } else if sent.load(Ordering::Relaxed) > before && Instant::now() < until {
                    outcome.cut_off = Some(lasted);
                }
            }
        }
        if flood == Flood::FreshKeys {
            keys = Keypair::generate_ed25519();
            pool = Arc::new(self::pool(flood, target, &keys));
        }
        tokio::time::sleep(REDIAL).await;
    }
    outcome.sent = sent.load(Ordering::Relaxed);
    outcome
}

/// Connects and hangs up, as fast as the system gives sockets.
async fn churn(target: &Target, until: Instant) -> Outcome {
    let mut outcome = Outcome::default();
    let started = Instant::now();
    while Instant::now() < until {
        let due = (started.elapsed().as_secs_f64() * target.per_second as f64) as u64;
        if outcome.sent + outcome.refused >= due {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        match dial(target.socket(), target.from).await {
            Ok(stream) => {
                // No farewell, so that the port is free again at once.
                let _ = stream.set_zero_linger();
                outcome.sent += 1;
            }
            Err(_) => outcome.refused += 1,
        }
    }
    outcome
}

async fn dial(to: SocketAddr, from: IpAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(to).await
}

fn pool(flood: Flood, target: &Target, keys: &Keypair) -> Vec<Vec<u8>> {
    let framed = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes(), bytes].concat();
    let noise = |n: u64| hash::blob(&n.to_le_bytes()).as_bytes().repeat(3);
    let each = |make: &dyn Fn(u64) -> Vec<u8>| (0..POOL).map(make).collect();
    match flood {
        // The version of today's messages, so that it is not taken for one of tomorrow's.
        Flood::Junk | Flood::FreshKeys => each(&|n| framed(&[&[1][..], &noise(n)].concat())),
        Flood::Blocks => each(&|n| framed(&block(n, target.run).encode())),
        Flood::Oversize => vec![[&(300_000u32).to_le_bytes()[..], &[7; 4096]].concat()],
        Flood::Hellos => vec![framed(&hello(keys))],
        Flood::Gossip => {
            let topic = format!("tributary/1/{}/{}", NETWORK.0, target.run);
            each(&|n| published(keys, &topic, &noise(n), n, true))
        }
        Flood::Forgeries => {
            let run = RunId(hash::blob(b"a run that nobody follows"));
            let topic = format!("tributary/1/{}/{run}", NETWORK.0);
            each(&|n| published(keys, &topic, &noise(n), n, false))
        }
        Flood::Churn | Flood::Blobs => Vec::new(),
    }
}

/// What a stranger may say without effect: it leaves where it never was.
fn block(n: u64, run: RunId) -> Message {
    let seed = *hash::blob(&n.to_be_bytes()).as_bytes();
    let key = SecretKey::from_seed(seed);
    let block = Block {
        network: NETWORK,
        author: key.peer_id(),
        scope: Scope::Run(run),
        seq: Seq(0),
        prev: None,
        seen: Vec::new(),
        time: Timestamp(n),
        entries: vec![Entry::Leave],
    };
    let signed = SignedBlock::sign(block, &key).expect("a valid block");
    Message::Block(signed.bytes().to_vec())
}

/// A greeting that names nobody else; `peer/src/net/hello.rs` has the layout.
pub(super) fn hello(keys: &Keypair) -> Vec<u8> {
    let public = keys.public().try_into_ed25519().expect("an ed25519 key");
    // Version 2, the network, and no word of where the other one is seen.
    let mut bytes = vec![2, NETWORK.0 as u8, 0];
    bytes.extend(public.to_bytes());
    bytes.extend([0; 5]);
    bytes
}

/// One gossip frame with one message, in the words of gossipsub's protobuf.
fn published(keys: &Keypair, topic: &str, data: &[u8], n: u64, honest: bool) -> Vec<u8> {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2][..], &varint(bytes.len()), bytes].concat()
    }
    let peer = keys.public().to_peer_id().to_bytes();
    let said = [
        field(1, &peer),
        field(2, data),
        field(3, &n.to_be_bytes()),
        field(4, topic.as_bytes()),
    ]
    .concat();
    let signed = [b"libp2p-pubsub:", &said[..]].concat();
    let mut signature = keys.sign(&signed).expect("ed25519 signs everything");
    if !honest {
        signature[40] ^= 1;
    }
    let message = [said, field(5, &signature)].concat();
    let rpc = field(2, &message);
    [varint(rpc.len()), rpc].concat()
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// What is written, how fast, and how much of it has been.
#[derive(Clone)]
pub(super) struct Line {
    pool: Arc<Vec<Vec<u8>>>,
    per_second: u64,
    sent: Arc<AtomicU64>,
}

impl Line {
    /// One message, said once for each request.
    pub(super) fn of(message: Vec<u8>) -> Self {
        Self {
            pool: Arc::new(vec![message]),
            per_second: 0,
            sent: Arc::default(),
        }
    }

    fn next(&self, n: u64) -> &[u8] {
        &self.pool[(n % self.pool.len() as u64) as usize]
    }

    /// Writes for ever, at the rate, as gossip does in its one stream.
    async fn pour<T: AsyncWrite + Unpin + Send>(&self, io: &mut T) -> io::Result<()> {
        let started = Instant::now();
        let mut done = 0;
        loop {
            let due = (started.elapsed().as_secs_f64() * self.per_second as f64) as u64;
            let mut bytes = Vec::new();
            let count = due.saturating_sub(done).min(POOL);
            for n in done..done + count {
                bytes.extend_from_slice(self.next(n));
            }
            io.write_all(&bytes).await?;
            io.flush().await?;
            done += count;
            self.sent.fetch_add(count, Ordering::Relaxed);
            tokio::time::sleep(STEP).await;
        }
    }
}

/// A codec that writes whatever it is told; the request is the number of the message.
#[derive(Clone)]
struct Raw(Line);

impl Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = u64;
    type Response = ();

    async fn read_request<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<u64>
    where
        T: AsyncRead + Unpin + Send,
    {
        Err(io::Error::other("answers nobody"))
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut answer = Vec::new();
        io.take(1 << 20).read_to_end(&mut answer).await.map(|_| ())
    }

    async fn write_request<T>(
        &mut self,
        protocol: &StreamProtocol,
        io: &mut T,
        number: u64,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        if protocol.as_ref().contains("gossip") {
            return self.0.pour(io).await;
        }
        io.write_all(self.0.next(number)).await?;
        io.flush().await?;
        self.0.sent.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, _: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Ok(())
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    flood: request_response::Behaviour<Raw>,
}

/// An open connection to the victim.
pub(super) struct Connection {
    swarm: Swarm<Behaviour>,
    victim: libp2p::PeerId,
    per_second: u64,
}

fn protocol(flood: Flood) -> StreamProtocol {
    match flood {
        Flood::Hellos => StreamProtocol::new("/tributary/1/hello"),
        Flood::Gossip | Flood::Forgeries => {
            let name = format!("/tributary/1/gossip/{}/1.1.0", NETWORK.0);
            StreamProtocol::try_from_owned(name).expect("begins with a slash")
        }
        _ => StreamProtocol::new("/tributary/1/direct"),
    }
}

pub(super) async fn connect(
    target: &Target,
    flood: Flood,
    keys: &Keypair,
    line: Line,
) -> Option<Connection> {
    let config = request_response::Config::default()
        .with_request_timeout(Duration::from_secs(300))
        .with_max_concurrent_streams(UNDER_WAY as usize);
    let protocols = [(protocol(flood), ProtocolSupport::Outbound)];
    let per_second = line.per_second;
    let behaviour = Behaviour {
        flood: request_response::Behaviour::with_codec(Raw(line), protocols, config),
    };
    let transport = From(target.from)
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keys).expect("an ed25519 key"))
        .multiplex(yamux::Config::default())
        .timeout(Duration::from_secs(5))
        .boxed();
    let config = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(Duration::from_secs(300))
        .with_substream_upgrade_protocol_override(Version::V1Lazy);
    let me = keys.public().to_peer_id();
    let mut swarm = Swarm::new(transport, behaviour, me, config);
    swarm.dial(target.address.clone()).ok()?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                return Some(Connection {
                    swarm,
                    victim: peer_id,
                    per_second,
                });
            }
            SwarmEvent::OutgoingConnectionError { .. } => return None,
            _ => {}
        }
    }
}

impl Connection {
    /// Says a number of things at once and then nothing, until the other side hangs up.
    pub(super) async fn idle(mut self, messages: u64) {
        for n in 0..messages {
            self.swarm
                .behaviour_mut()
                .flood
                .send_request(&self.victim, n);
        }
        loop {
            if let SwarmEvent::ConnectionClosed { .. } = self.swarm.select_next_some().await {
                return;
            }
        }
    }

    /// Sends until cut off or until the end.
    async fn flood(mut self, flood: Flood, until: Instant) {
        let started = Instant::now();
        let mut step = tokio::time::interval(STEP);
        let (mut asked, mut settled) = (0, 0);
        let pours = matches!(flood, Flood::Gossip | Flood::Forgeries);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => match event {
                    SwarmEvent::ConnectionClosed { .. } => return,
                    SwarmEvent::Behaviour(BehaviourEvent::Flood(_)) => {
                        // The one stream of gossip was closed: only a new connection has another.
                        if pours {
                            return;
                        }
                        settled += 1;
                    }
                    _ => {}
                },
                _ = step.tick() => {
                    if Instant::now() >= until {
                        return;
                    }
                    let due = (started.elapsed().as_secs_f64() * self.per_second as f64) as u64;
                    let due = if pours { 1 } else { due.min(settled + UNDER_WAY) };
                    while asked < due {
                        self.swarm.behaviour_mut().flood.send_request(&self.victim, asked);
                        asked += 1;
                    }
                }
            }
        }
    }
}

fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    match (parts.next()?, parts.next()?) {
        (Protocol::Ip4(ip), Protocol::Tcp(port)) => Some(SocketAddr::new(ip.into(), port)),
        _ => None,
    }
}

/// TCP from a given address of this machine.
struct From(IpAddr);

impl Transport for From {
    type Output = libp2p::tcp::tokio::TcpStream;
    type Error = io::Error;
    type ListenerUpgrade = futures::future::Pending<Result<Self::Output, io::Error>>;
    type Dial = BoxFuture<'static, Result<Self::Output, io::Error>>;

    fn listen_on(
        &mut self,
        _: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        _: TransportDial,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let from = self.0;
        let Some(to) = socket(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        Ok(async move {
            let stream = dial(to, from).await?;
            stream.set_nodelay(true)?;
            Ok(libp2p::tcp::tokio::TcpStream(stream))
        }
        .boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Poll::Pending
    }
}
