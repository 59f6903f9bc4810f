//! Attackers that only take up room, with as many sockets, connections, keys or names as they are told.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use iroh::endpoint::{PortmapperConfig, RelayMode, presets};
use iroh::{Endpoint, EndpointAddr, EndpointId, TransportAddr};
use libp2p::identity::Keypair;
use tokio::task::JoinSet;
use tributary_protocol::hash;

use super::{Flood, Line, Target, connect, hello};

/// How often what was lost is taken up again.
const STEP: Duration = Duration::from_millis(50);

/// What is taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Siege {
    /// TCP connections on which nothing is ever said.
    MuteSockets(usize),
    /// Connections of as many keys that say nothing once their handshake is done.
    IdleConnections(usize),
    /// As before, but each has greeted.
    GreetedConnections(usize),
    /// Connections on the data plane, four for each of as many keys.
    DataKeys(usize),
    /// Contacts that do not exist, in greetings of one key.
    Contacts(usize),
}

/// Connections of one key on the data plane.
const PER_KEY: usize = 4;
/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two greetings of invented contacts.
const BETWEEN_GREETINGS: Duration = Duration::from_millis(500);

impl Siege {
    pub(crate) fn size(self) -> usize {
        match self {
            Self::MuteSockets(size)
            | Self::IdleConnections(size)
            | Self::GreetedConnections(size)
            | Self::Contacts(size) => size,
            Self::DataKeys(keys) => keys * PER_KEY,
        }
    }
}

/// Attacks a daemon until told to stop, and tells how many places were taken in all.
pub(crate) fn besiege(siege: Siege, host: &Target, stop: &AtomicBool) -> u64 {
    match siege {
        Siege::MuteSockets(size) => hold_mute_sockets(host, size, stop),
        Siege::IdleConnections(size) => many(size, stop, || hold_connection(host.clone(), None)),
        Siege::GreetedConnections(size) => {
            many(size, stop, || hold_connection(host.clone(), Some(0)))
        }
        Siege::DataKeys(keys) => {
            let taken = Arc::new(AtomicU64::new(0));
            many(keys, stop, || hold_key(host.clone(), taken.clone()));
            taken.load(Ordering::Relaxed)
        }
        // The host gives one key two places; each task counts a greeting of so many contacts.
        Siege::Contacts(size) => {
            size as u64 * many(1, stop, || hold_connection(host.clone(), Some(size as u32)))
        }
    }
}

/// Keeps so many tasks going, each started again when it ends; how many were.
fn many<T: Future<Output = u64> + Send + 'static>(
    size: usize,
    stop: &AtomicBool,
    task: impl Fn() -> T,
) -> u64 {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads");
    let mut taken = 0;
    runtime.block_on(async {
        let mut tasks: JoinSet<u64> = JoinSet::new();
        while !stop.load(Ordering::Relaxed) {
            while tasks.len() < size {
                tasks.spawn(task());
            }
            tokio::select! {
                Some(ended) = tasks.join_next() => taken += ended.expect("no panic"),
                () = tokio::time::sleep(STEP) => {}
            }
        }
        // Those still held were taken as well.
        taken += tasks.len() as u64;
    });
    taken
}

/// A connection of a fresh key; it greets with so many contacts that do not exist, if at all.
async fn hold_connection(host: Target, invented: Option<u32>) -> u64 {
    let keys = Keypair::generate_ed25519();
    let greeting = invented.map(|many| {
        let mut bytes = hello(&keys);
        bytes.pop();
        bytes.push(many as u8);
        let start = u64::from_le_bytes(bytes[2..10].try_into().expect("eight bytes"));
        for n in 0..u64::from(many) {
            let name = hash::blob(&start.wrapping_add(n).to_le_bytes());
            bytes.extend_from_slice(name.as_bytes());
            // One address where nobody answers, none on the data plane, one run.
            bytes.extend([1, 0, 127, 0, 0, 1, 9, 0, 1]);
            bytes.extend_from_slice(host.run.0.as_bytes());
        }
        [&(bytes.len() as u32).to_le_bytes(), &bytes[..]].concat()
    });
    let messages = u64::from(greeting.is_some());
    let line = Line::of(greeting.unwrap_or_default());
    match connect(&host, Flood::Hellos, &keys, line).await {
        None => 0,
        Some(connection) if invented.is_some_and(|many| many > 0) => {
            // Comes back with other inventions.
            let _ = tokio::time::timeout(BETWEEN_GREETINGS, connection.idle(messages)).await;
            1
        }
        Some(connection) => {
            connection.idle(messages).await;
            1
        }
    }
}

/// A key that holds as many connections as it may on the data plane, and takes each again that it loses.
async fn hold_key(host: Target, taken: Arc<AtomicU64>) -> u64 {
    let socket = host.socket();
    let bound = Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .portmapper_config(PortmapperConfig::Disabled)
        .clear_ip_transports()
        .bind_addr(SocketAddr::new(host.from, 0))
        .expect("an address of this machine")
        .bind()
        .await;
    let endpoint = bound.expect("a UDP socket");
    let victim = EndpointId::from_bytes(host.peer.as_bytes()).expect("a key");
    let address = EndpointAddr::new(victim).with_addrs([TransportAddr::Ip(socket)]);
    let place = || async {
        loop {
            let connecting = endpoint.connect(address.clone(), iroh_blobs::ALPN);
            match tokio::time::timeout(PATIENCE, connecting).await {
                Ok(Ok(connection)) => {
                    taken.fetch_add(1, Ordering::Relaxed);
                    connection.closed().await;
                }
                _ => tokio::time::sleep(STEP).await,
            }
        }
    };
    futures::future::join_all((0..PER_KEY).map(|_| place())).await;
    0
}

fn hold_mute_sockets(host: &Target, size: usize, stop: &AtomicBool) -> u64 {
    let to = host.socket();
    let (mut held, mut opened) = (Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        held.retain(|socket: &TcpStream| is_open(socket));
        while held.len() < size {
            let Ok(socket) = TcpStream::connect_timeout(&to, Duration::from_secs(1)) else {
                break;
            };
            socket
                .set_nonblocking(true)
                .expect("a socket that does not block");
            held.push(socket);
            opened += 1;
        }
        std::thread::sleep(STEP);
    }
    opened
}

/// Whether the other side has not hung up.
fn is_open(mut socket: &TcpStream) -> bool {
    match socket.read(&mut [0; 64]) {
        Ok(bytes) => bytes > 0,
        Err(why) => why.kind() == ErrorKind::WouldBlock,
    }
}
