//! The QUIC endpoint that both planes share: one UDP socket and one key, for control streams and blobs.
//!
//! iroh finds the way: through routers that let packets of both sides meet, else through a relay. This file binds the
//! endpoint as [`Reach`] says, keeps where peers are, and tells where this peer is. What runs over it is the affair of
//! `transport` (control) and `data` (blobs).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::{BindOpts, PortmapperConfig, RelayMode, presets};
use iroh::{Endpoint, EndpointAddr, RelayMap, TransportAddr, Watcher};
use parking_lot::Mutex;
use tributary_protocol::id::PeerId;

use super::address::Address;
use super::hello::{Contact, RelayPlace};
use super::keys;
use super::known::KnownRelay;
use super::paths::Paths;
use super::reach::Reach;
use super::relay::{self, Pins};

/// Attempts to bind before giving up: iroh may meet a port that another socket has just taken.
const BINDS: u32 = 3;

/// Relays of fellow members that carry this peer's packets, beside those that the owner named: each is asked for its
/// latency every few minutes.
const MAX_ADOPTED: usize = 4;

/// A relay and how it is.
#[derive(Clone, Debug)]
pub struct RelayState {
    /// Where it is, and whose.
    pub address: Address,
    /// Whether this peer can be reached through it.
    pub is_connected: bool,
    /// Round trip.
    pub latency: Option<Duration>,
    /// Why it is not connected.
    pub why: Option<String>,
}

/// How this peer's packets get out and in.
#[derive(Clone, Debug)]
pub struct ReachReport {
    /// How far the owner lets it reach.
    pub reach: Reach,
    /// Whether UDP comes back over IPv4; None while no relay was asked.
    pub udp_v4: Option<bool>,
    /// The same over IPv6.
    pub udp_v6: Option<bool>,
    /// What a relay sees of it over IPv4.
    pub public_v4: Option<SocketAddr>,
    /// What a relay sees of it over IPv6.
    pub public_v6: Option<SocketAddr>,
    /// Whether its port differs by destination.
    pub mapping_varies: Option<bool>,
    /// Whether its router opened a port; None where it is not asked.
    pub port_mapped: Option<bool>,
    /// Relays.
    pub relays: Vec<RelayState>,
    /// The relay that it serves, if any.
    pub serving: Option<Serving>,
}

/// A relay that this peer serves.
#[derive(Clone, Copy, Debug)]
pub struct Serving {
    /// Where others reach it.
    pub at: SocketAddr,
    /// Peers that use it now.
    pub clients: usize,
    /// Bytes that it passed on.
    pub bytes: u64,
}

/// Where a peer is: its UDP sockets, and the relays that pass packets on to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Whereabouts {
    sockets: Vec<SocketAddr>,
    relays: Vec<SocketAddr>,
}

impl Whereabouts {
    pub(super) fn of(contact: &Contact) -> Self {
        Self {
            sockets: contact.data.iter().map(|socket| (*socket).into()).collect(),
            relays: (contact.relays.iter())
                .map(|relay| relay.socket.into())
                .collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty() && self.relays.is_empty()
    }
}

/// What the endpoint is bound with.
pub(super) struct QuicConfig<'a> {
    pub(super) seed: &'a [u8; 32],
    pub(super) listen: SocketAddr,
    pub(super) reach: Reach,
    /// A relay that this peer serves, as others reach it.
    pub(super) serves: Option<SocketAddr>,
}

/// The endpoint, and where peers are. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Quic {
    endpoint: Endpoint,
    reach: Reach,
    whereabouts: Arc<Mutex<BTreeMap<PeerId, Whereabouts>>>,
    /// Relays that this peer uses, and whose key each has.
    relays: Arc<Mutex<BTreeMap<SocketAddr, PeerId>>>,
    pins: Pins,
    /// Relays that others name.
    heard: Arc<Mutex<BTreeSet<RelayPlace>>>,
    /// The relay that it serves itself.
    serves: Option<RelayPlace>,
    paths: Paths,
}

impl Quic {
    /// Binds the UDP socket.
    pub(super) async fn bind(config: QuicConfig<'_>) -> Result<Self, String> {
        let pins = Pins::default();
        let endpoint = bind(&config, &pins).await?;
        let peer = keys::from_iroh(&endpoint.id());
        let place = |socket: SocketAddr| RelayPlace {
            peer,
            socket: socket.into(),
        };
        Ok(Self {
            endpoint,
            reach: config.reach,
            whereabouts: Arc::default(),
            relays: Arc::default(),
            pins,
            heard: Arc::default(),
            serves: config.serves.map(place),
            paths: Paths::default(),
        })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn reach(&self) -> Reach {
        self.reach
    }

    pub(super) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Where peers are, in place of what was known.
    pub(super) fn know(&self, whereabouts: BTreeMap<PeerId, Whereabouts>) {
        *self.whereabouts.lock() = whereabouts;
    }

    /// Where a peer is, for a connection to it. `None` when nothing is known.
    pub(super) fn address_of(&self, peer: PeerId) -> Option<EndpointAddr> {
        let id = keys::to_iroh(peer)?;
        let known = self.whereabouts.lock();
        let places = known.get(&peer).filter(|places| !places.is_empty())?;
        let sockets = places.sockets.iter().copied().map(TransportAddr::Ip);
        let relays = places
            .relays
            .iter()
            .map(|at| TransportAddr::Relay(relay::url(*at)));
        Some(EndpointAddr::new(id).with_addrs(sockets.chain(relays)))
    }

    /// UDP sockets at which others reach this peer: those of its interfaces, and those that the router or others tell of.
    pub(super) fn sockets(&self) -> BTreeSet<SocketAddr> {
        let bound = self.endpoint.bound_sockets().into_iter();
        let told = self.endpoint.addr();
        let told = told.ip_addrs().copied();
        let all = bound
            .chain(told)
            .filter(|socket| !socket.ip().is_unspecified());
        all.collect()
    }

    /// Takes the keys of these relays for what others say they are, in place of those that they named before.
    pub(super) fn know_relays(&self, named: BTreeSet<RelayPlace>) {
        let mut heard = self.heard.lock();
        let own = self.relays.lock();
        for gone in heard.difference(&named) {
            let socket = SocketAddr::from(gone.socket);
            if own.get(&socket) != Some(&gone.peer) {
                self.pins.unpin(socket.ip(), &gone.peer);
            }
        }
        for new in named.difference(&heard) {
            if let Err(why) = self.pins.pin(SocketAddr::from(new.socket).ip(), new.peer) {
                tracing::debug!("{why}");
            }
        }
        *heard = named;
    }

    /// Has packets for this peer carried by a relay that a fellow member names, as long as it uses few.
    pub(super) fn adopt_relay(&self, relay: RelayPlace) {
        let socket = SocketAddr::from(relay.socket);
        let mut held = self.relays.lock();
        if held.contains_key(&socket) || held.len() >= MAX_ADOPTED {
            return;
        }
        held.insert(socket, relay.peer);
        let endpoint = self.endpoint.clone();
        tokio::spawn(async move { insert(&endpoint, socket, None).await });
    }

    /// Has packets for this peer carried by a relay that the owner or a ticket names.
    pub(super) async fn use_relay(&self, relay: &KnownRelay) {
        if let Err(why) = self.pins.pin(relay.socket.ip(), relay.peer) {
            tracing::warn!("{why}");
            return;
        }
        self.relays.lock().insert(relay.socket, relay.peer);
        insert(&self.endpoint, relay.socket, relay.token.clone()).await;
    }

    /// How this peer's packets get out and in, as relays see it.
    pub(super) fn report(&self) -> ReachReport {
        let found = self.endpoint.net_report().get().unwrap_or_default();
        let known = self.relays.lock();
        let states = self.endpoint.home_relay_status().get();
        let relay = |(socket, peer): (&SocketAddr, &PeerId)| {
            let url = relay::url(*socket);
            let state = states.iter().find(|state| *state.url() == url);
            let latencies = found.relay_latency.iter().filter(|(_, at, _)| **at == url);
            let denied = state.and_then(|state| state.auth_denied_reason());
            let failed = state
                .and_then(|state| state.last_error())
                .map(|e| format!("{e:#}"));
            RelayState {
                address: Address::new(*socket, Some(*peer)),
                is_connected: state.is_some_and(|state| state.is_connected()),
                latency: latencies.map(|(_, _, latency)| latency).min(),
                why: denied.map(str::to_owned).or(failed),
            }
        };
        let asked = !known.is_empty();
        let mapping = &self.endpoint.metrics().socket.actor_tick_portmap_changed;
        ReachReport {
            reach: self.reach,
            udp_v4: asked.then_some(found.udp_v4),
            udp_v6: asked.then_some(found.udp_v6),
            public_v4: found.global_v4.map(SocketAddr::V4),
            public_v6: found.global_v6.map(SocketAddr::V6),
            mapping_varies: found.mapping_varies_by_dest(),
            port_mapped: (self.reach.leaves_the_network()).then(|| mapping.get() > 0),
            relays: known.iter().map(relay).collect(),
            serving: None,
        }
    }

    /// Where others reach the relay that this peer serves.
    pub(super) fn serves(&self) -> Option<SocketAddr> {
        self.serves.map(|relay| relay.socket.into())
    }

    /// Relays that pass packets on to this peer.
    pub(super) fn relays(&self) -> Vec<RelayPlace> {
        let told = self.endpoint.addr();
        let known = self.relays.lock();
        let used = known.iter().filter(|(socket, _)| {
            let url = relay::url(**socket);
            told.relay_urls().any(|told| *told == url)
        });
        let places = used.map(|(socket, peer)| RelayPlace {
            peer: *peer,
            socket: (*socket).into(),
        });
        self.serves.into_iter().chain(places).collect()
    }
}

async fn insert(endpoint: &Endpoint, socket: SocketAddr, token: Option<String>) {
    let config = relay::config(socket, token);
    endpoint
        .insert_relay(relay::url(socket), Arc::new(config))
        .await;
}

/// DNS is never asked: every address that this program hands to iroh is one of numbers.
async fn bind(config: &QuicConfig<'_>, pins: &Pins) -> Result<Endpoint, String> {
    let portmapper = match config.reach.leaves_the_network() {
        true => PortmapperConfig::default(),
        false => PortmapperConfig::Disabled,
    };
    let mut last = String::new();
    for _ in 0..BINDS {
        let mut builder = Endpoint::builder(presets::Minimal)
            .secret_key(keys::iroh_key(config.seed))
            // Not `Disabled`: relays are added later, when tickets and members name them.
            .relay_mode(RelayMode::Custom(RelayMap::empty()))
            .ca_tls_config(pins.tls())
            .dns_resolver(relay::resolver())
            .portmapper_config(portmapper.clone())
            .clear_ip_transports()
            .bind_addr(config.listen)
            .map_err(|e| e.to_string())?;
        if config.listen.ip().is_unspecified() && config.listen.is_ipv4() {
            // Where the system has no IPv6, IPv4 is enough.
            let six = SocketAddr::from((Ipv6Addr::UNSPECIFIED, config.listen.port()));
            builder = builder
                .bind_addr_with_opts(six, BindOpts::default().set_is_required(false))
                .map_err(|e| e.to_string())?;
        }
        match builder.bind().await {
            Ok(endpoint) => return Ok(endpoint),
            Err(why) => last = why.to_string(),
        }
    }
    Err(last)
}
