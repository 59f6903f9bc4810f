//! A relay without domain or authority: any peer with a public address can carry the traffic of others.
//!
//! ```text
//!   client ──TLS, certificate of the relay's own ed25519 key──▶ TCP port N   (datagrams between two clients)
//!   client ──QUIC, the same certificate───────────────────────▶ UDP port N   (the address it was seen at)
//! ```
//! A client knows the relay's PeerId beforehand, from a ticket or a greeting. It accepts the certificate of that key and
//! no other ([`Pins`]), so that neither a domain nor an authority is needed. The relay asks a [`Gate`] whether to serve a
//! client; who follows which run, and who bears a valid ticket, is known there and not here. Relayed bytes stay
//! encrypted between the two ends.

mod admission;
mod certificate;
mod connection;
mod names;
mod pins;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use iroh::RelayUrl;
use iroh_relay::server::{
    ClientRateLimit, Handlers, Metrics, QuicConfig, RelayService, Server, ServerConfig,
};
use iroh_relay::{KeyCache, RelayQuicConfig};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use admission::{Seats, Thresholds};
use connection::{Pending, Serving};

pub(crate) use admission::Gate;
pub(crate) use certificate::CertificateError;
pub(crate) use names::resolver;
pub(crate) use pins::Pins;

/// Bytes a second that the relay takes of one client. An update of 64 MiB passes in 8 s, and a home line is slower
/// than that anyway; four clients at full rate fill half a gigabit.
const CLIENT_BYTES_PER_SECOND: NonZeroU32 = NonZeroU32::new(8 << 20).expect("not zero");
/// Bytes that a client may send at once after a pause: a quarter of a second at full rate, so that a round's first
/// messages are not held back.
const CLIENT_BURST_BYTES: NonZeroU32 = NonZeroU32::new(2 << 20).expect("not zero");
/// How long a connection may take from its first byte to the proof of the client's key. Two round trips over a poor mobile line
/// take less than 5 s.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after the system refused a connection, mostly because this process has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the system may take to free the UDP port of a relay that ended; some milliseconds in practice.
const RELEASE: Duration = Duration::from_secs(3);
/// Public keys whose decoded form is kept: two for each pair of clients, with room. The library's own bound takes 56 MB.
const KEY_CACHE: usize = 4096;
/// Attempts to find a port that is free as TCP and as UDP when the system chooses.
const BINDS: u32 = 8;
/// Where a client measures the latency of a relay.
const PROBE_PATH: &str = "/ping";

/// What a relay is made of.
pub(crate) struct RelayConfig {
    /// Seed of the peer's key; its certificate is signed with it.
    pub(crate) seed: [u8; 32],
    /// Where to listen, as TCP and as UDP; with port 0 the system chooses one number for both.
    pub(crate) listen: SocketAddr,
    /// Decides about each client.
    pub(crate) access: Arc<dyn Gate>,
}

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    /// The TCP port is taken or not ours.
    #[error(
        "the relay could not listen on TCP {at}: {source}; choose another port, or stop the program that has it"
    )]
    Tcp {
        /// Where.
        at: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The UDP port is taken or not ours.
    #[error(
        "the relay could not listen on UDP {at}, where clients learn their own address: {why}; choose another port, or \
         stop the program that has it"
    )]
    Udp {
        /// Where.
        at: SocketAddr,
        /// What the library says.
        why: String,
    },
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// What one client may take; tests choose little.
#[derive(Clone, Copy)]
struct Rates {
    bytes_per_second: NonZeroU32,
    burst_bytes: NonZeroU32,
    handshake: Duration,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            bytes_per_second: CLIENT_BYTES_PER_SECOND,
            burst_bytes: CLIENT_BURST_BYTES,
            handshake: HANDSHAKE,
        }
    }
}

/// A running relay. [`RelayServer::shutdown`] ends it and frees its ports.
pub(crate) struct RelayServer {
    local_addr: SocketAddr,
    seats: Arc<Seats>,
    service: RelayService,
    discovery: Server,
    accepting: JoinHandle<()>,
    metrics: Arc<Metrics>,
}

impl RelayServer {
    /// Binds both ports and serves.
    ///
    /// # Errors
    /// See [`RelayError`].
    pub(crate) async fn start(config: RelayConfig) -> Result<Self, RelayError> {
        Self::start_with(config, Rates::default()).await
    }

    async fn start_with(config: RelayConfig, rates: Rates) -> Result<Self, RelayError> {
        let tls = certificate::server(&config.seed)?;
        let (listener, local_addr, discovery) = bind(config.listen, &tls).await?;
        let pending = Pending::default();
        let seats = Arc::new(Seats::new(config.access, pending.clone()));
        let metrics = Arc::<Metrics>::default();
        let mut limit = ClientRateLimit::new(rates.bytes_per_second);
        limit.max_burst_bytes = Some(rates.burst_bytes);
        let service = RelayService::new(
            handlers(),
            Default::default(),
            Some(limit),
            KeyCache::new(KEY_CACHE),
            seats.clone(),
            metrics.clone(),
        );
        let serving = Serving {
            service: service.clone(),
            tls: TlsAcceptor::from(Arc::new(tls)),
            pending,
            handshake: rates.handshake,
        };
        let accepting = tokio::spawn(accept(listener, serving));
        Ok(Self {
            local_addr,
            seats,
            service,
            discovery,
            accepting,
            metrics,
        })
    }

    /// Where it listens, as TCP and as UDP.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Peers that are connected.
    pub(crate) fn clients(&self) -> usize {
        self.seats.peers()
    }

    /// Bytes of others that it has taken so far.
    pub(crate) fn relayed_bytes(&self) -> u64 {
        self.metrics.bytes_recv.get()
    }

    /// Ends all connections and frees both ports.
    pub(crate) async fn shutdown(mut self) {
        self.accepting.abort();
        // Aborted as asked; the port is free once the task is gone.
        let _ = (&mut self.accepting).await;
        self.service.shutdown().await;
        if let Err(why) = self.discovery.shutdown().await {
            tracing::debug!("the relay's address discovery ended with: {why}");
        }
        released(self.local_addr).await;
    }
}

/// Waits until the UDP port is free: the library drops its socket a moment after it says that it has ended.
async fn released(at: SocketAddr) {
    let wait = async {
        while UdpSocket::bind(at).is_err() {
            tokio::time::sleep(RELEASE / 300).await;
        }
    };
    if tokio::time::timeout(RELEASE, wait).await.is_err() {
        tracing::debug!("UDP {at} is still in use after the relay ended");
    }
}

/// One port number as TCP for the relay and as UDP for address discovery.
async fn bind(
    listen: SocketAddr,
    tls: &rustls::ServerConfig,
) -> Result<(TcpListener, SocketAddr, Server), RelayError> {
    let mut left = if listen.port() == 0 { BINDS } else { 1 };
    loop {
        left -= 1;
        let tcp = |source| RelayError::Tcp { at: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(tcp)?;
        let at = listener.local_addr().map_err(tcp)?;
        let mut quic = QuicConfig::new(at);
        quic.server_config = Some(tls.clone());
        // Without `relay`: its own listener has no bound on handshakes, and it opens a plain HTTP port to find captive
        // portals, which a peer does not want.
        let mut config = ServerConfig::default();
        config.quic = Some(quic);
        match Server::spawn(config).await {
            Ok(discovery) => return Ok((listener, at, discovery)),
            Err(_) if left > 0 => {}
            Err(why) => {
                let why = format!("{why:#}");
                return Err(RelayError::Udp { at, why });
            }
        }
    }
}

/// What is answered beside the relay itself: an empty page by which clients measure latency.
fn handlers() -> Handlers {
    let mut handlers = Handlers::default();
    let get = "GET".parse().expect("a method of HTTP");
    handlers.insert(
        (get, PROBE_PATH),
        Box::new(|_, answer| Ok(answer.status(200).body(Box::new(String::new()) as _)?)),
    );
    handlers
}

/// Takes connections until the task is aborted, which ends those in their handshake with it.
async fn accept(listener: TcpListener, serving: Serving) {
    let thresholds = Thresholds::default();
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = handshakes.join_next() => {}
            taken = listener.accept() => match taken {
                Ok((stream, from)) => {
                    let Some(threshold) = thresholds.enter(from.ip()) else {
                        tracing::debug!("the relay drops a connection of {}: too many handshakes", from.ip());
                        continue;
                    };
                    let serving = serving.clone();
                    handshakes.spawn(async move {
                        let done = serving.shake(stream).await;
                        drop(threshold);
                        done
                    });
                }
                Err(why) => {
                    tracing::warn!("the relay could not take a connection: {why}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// The name of the relay that listens on `socket`. iroh cannot check a certificate for an IPv6 address in a URL, so
/// that such an address is written as a name that [`resolver`] turns back.
pub(crate) fn url(socket: SocketAddr) -> RelayUrl {
    let port = socket.port();
    let text = match socket.ip().to_canonical() {
        IpAddr::V4(ip) => format!("https://{ip}:{port}"),
        IpAddr::V6(ip) => format!("https://{}:{port}", names::of(ip)),
    };
    text.parse().expect("an address and a port make a URL")
}

/// The socket of a relay that is named by its address, as [`url`] does.
pub(crate) fn socket(url: &RelayUrl) -> Option<SocketAddr> {
    let host = url.host_str()?;
    let ip = match host.parse() {
        Ok(ip) => ip,
        Err(_) => IpAddr::V6(names::read(host)?),
    };
    Some(SocketAddr::new(ip, url.port_or_known_default()?))
}

/// How a client uses the relay that listens on `socket`: address discovery is on the same port number.
pub(crate) fn config(socket: SocketAddr, token: Option<String>) -> iroh::RelayConfig {
    let discovery = RelayQuicConfig::new(socket.port());
    let config = iroh::RelayConfig::new(url(socket), Some(discovery));
    match token {
        Some(token) => config.with_auth_token(token),
        None => config,
    }
}
