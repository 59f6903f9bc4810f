//! The control plane's stack: TCP, Noise, Yamux, and what speaks over it.

use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::transport::OptionalTransport;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::{StreamProtocol, Swarm, Transport, identify, noise, ping, tcp, yamux};
use tributary_protocol::id::NetworkId;
use tributary_protocol::limits::{MAX_DIRECT_BYTES, MAX_EVIDENCE_BYTES, MAX_QUESTION_BYTES};

use super::admission::Admission;
use super::control_admission::{ControlAdmission, UnknownSockets};
use super::frames::{Frames, Room};
use super::gossip::{self, Gossip};
use super::handshakes::{Handshakes, Places};
use super::hello::MAX_HELLO_BYTES;
use super::paths::Paths;
use super::traffic::{Counted, Meter};
use super::transport::QuicTransport;

/// Connections that this peer opened; those of others are counted by `control_admission`.
const MAX_CONNECTIONS: u32 = 256;
/// Dials at once; those that others begin are counted by `handshakes`.
const MAX_DIALS: u32 = 64;
/// Two peers may dial each other at the same moment; a third connection has no use.
const MAX_PER_PEER: u32 = 2;
/// Direct messages of one neighbour at once.
const MAX_MESSAGES: usize = 64;
/// Greetings of one neighbour at once: it has one to say, and ours to answer.
const MAX_GREETINGS: usize = 4;
/// Questions about shards of one neighbour at once: it asks about one answer at a time.
const MAX_QUESTIONS: usize = 2;
/// A handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// An answer to a direct message or greeting.
const ANSWER: Duration = Duration::from_secs(15);
/// Between two pings of a neighbour. A connection whose packets get lost after a change of networks stays open in QUIC for
/// half a minute and more; pings notice it after at most twice this, [`PONG`] and ten seconds for a new stream: 21 s.
const PING_EVERY: Duration = Duration::from_secs(3);
/// How long an answer to a ping may take, on links whose queues are full as well; one late answer closes nothing.
const PONG: Duration = Duration::from_secs(5);

/// What speaks over a connection. Limits come first, so that they refuse before anything allocates.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) limits: connection_limits::Behaviour,
    pub(super) control_admission: ControlAdmission,
    pub(super) ping: ping::Behaviour,
    pub(super) identify: identify::Behaviour,
    pub(super) hello: request_response::Behaviour<Frames>,
    pub(super) direct: request_response::Behaviour<Frames>,
    pub(super) evidence: request_response::Behaviour<Frames>,
    pub(super) gossip: Gossip,
}

fn frames(
    name: &'static str,
    max_request: usize,
    max_response: usize,
    max_streams: usize,
    room: &Room,
) -> request_response::Behaviour<Frames> {
    let codec = Frames {
        max_request,
        max_response,
        room: room.clone(),
    };
    let config = request_response::Config::default()
        .with_request_timeout(ANSWER)
        .with_max_concurrent_streams(max_streams);
    let protocols = [(StreamProtocol::new(name), ProtocolSupport::Full)];
    request_response::Behaviour::with_codec(codec, protocols, config)
}

/// A swarm that does not listen yet.
pub(super) fn build(
    keys: &Keypair,
    network: NetworkId,
    meter: Meter,
    admission: &Admission,
    (quic, paths): (Option<QuicTransport>, Paths),
) -> Result<Swarm<Behaviour>, String> {
    let limits = ConnectionLimits::default()
        .with_max_pending_outgoing(Some(MAX_DIALS))
        .with_max_established_outgoing(Some(MAX_CONNECTIONS))
        .with_max_established_per_peer(Some(MAX_PER_PEER));
    let agent = identify::Config::new("tributary/1".into(), keys.public())
        .with_agent_version(format!("tributary/{}", env!("CARGO_PKG_VERSION")))
        .with_hide_listen_addrs(true)
        .with_interval(Duration::from_secs(3600));
    let (room, lines) = (Room::default(), UnknownSockets::default());
    let pings = ping::Config::new().with_interval(PING_EVERY);
    let pings = pings.with_timeout(PONG);
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        control_admission: ControlAdmission::new(admission.clone(), lines.clone(), paths),
        ping: ping::Behaviour::new(pings),
        identify: identify::Behaviour::new(agent),
        hello: frames(
            "/tributary/1/hello",
            MAX_HELLO_BYTES,
            MAX_HELLO_BYTES,
            MAX_GREETINGS,
            &room,
        ),
        direct: frames(
            "/tributary/1/direct",
            MAX_DIRECT_BYTES,
            0,
            MAX_MESSAGES,
            &room,
        ),
        evidence: frames(
            "/tributary/1/evidence",
            MAX_QUESTION_BYTES,
            MAX_EVIDENCE_BYTES,
            MAX_QUESTIONS,
            &room,
        ),
        gossip: gossip::behaviour(keys, network, admission.clone())?,
    };
    // Without QUIC its half of the transport takes no address.
    let quic = quic.map_or_else(OptionalTransport::none, OptionalTransport::some);
    let transport = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .or_transport(quic)
        .map({
            let lines = lines.clone();
            move |stream, point| {
                let line = lines.open(point.get_remote_address());
                Counted::new(stream, meter.clone(), line)
            }
        })
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keys).map_err(|e| e.to_string())?)
        .multiplex(yamux::Config::default())
        .timeout(HANDSHAKE)
        .boxed();
    let transport = Handshakes::new(transport, Places::new(lines)).boxed();
    // Pings notice a dead neighbour; a quiet one stays.
    let config = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(Duration::from_secs(24 * 3600));
    let me = keys.public().to_peer_id();
    Ok(Swarm::new(transport, behaviour, me, config))
}
