//! The QUIC endpoint that both planes share: one UDP socket and one key, for control streams and blobs.
//!
//! iroh finds the way: through routers that let packets of both sides meet, else through a relay. This file binds the
//! endpoint as [`Reach`] says, keeps where peers are, and tells where this peer is. What runs over it is the affair of
//! `transport` (control) and `data` (blobs).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use iroh::endpoint::{BindOpts, PortmapperConfig, RelayMode, presets};
use iroh::{Endpoint, EndpointAddr, RelayMap, RelayUrl, TransportAddr};
use parking_lot::Mutex;
use tributary_protocol::id::PeerId;

use super::hello::{Contact, RelayPlace};
use super::keys;
use super::paths::Paths;
use super::reach::Reach;

/// Attempts to bind before giving up: iroh may meet a port that another socket has just taken.
const BINDS: u32 = 3;

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
}

/// The endpoint, and where peers are. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Quic {
    endpoint: Endpoint,
    reach: Reach,
    whereabouts: Arc<Mutex<BTreeMap<PeerId, Whereabouts>>>,
    /// Relays that this peer uses, and whose key each has.
    relays: Arc<Mutex<BTreeMap<SocketAddr, PeerId>>>,
    paths: Paths,
}

impl Quic {
    /// Binds the UDP socket.
    pub(super) async fn bind(config: QuicConfig<'_>) -> Result<Self, String> {
        Ok(Self {
            endpoint: bind(&config).await?,
            reach: config.reach,
            whereabouts: Arc::default(),
            relays: Arc::default(),
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
        let relays = places.relays.iter().map(|relay| TransportAddr::Relay(relay_url(*relay)));
        Some(EndpointAddr::new(id).with_addrs(sockets.chain(relays)))
    }

    /// UDP sockets at which others reach this peer: those of its interfaces, and those that the router or others tell of.
    pub(super) fn sockets(&self) -> BTreeSet<SocketAddr> {
        let bound = self.endpoint.bound_sockets().into_iter();
        let told = self.endpoint.addr();
        let told = told.ip_addrs().copied();
        let all = bound.chain(told).filter(|socket| !socket.ip().is_unspecified());
        all.collect()
    }

    /// Relays that pass packets on to this peer.
    pub(super) fn relays(&self) -> Vec<RelayPlace> {
        let told = self.endpoint.addr();
        let sockets = told.relay_urls().filter_map(relay_socket);
        let known = self.relays.lock();
        let place = |socket| {
            let peer = *known.get(&socket)?;
            Some(RelayPlace { peer, socket: socket.into() })
        };
        sockets.filter_map(place).collect()
    }
}

/// The name by which iroh knows a relay.
pub(super) fn relay_url(socket: SocketAddr) -> RelayUrl {
    let url = format!("https://{socket}/");
    url.parse().expect("a socket address is the host of a URL")
}

/// The socket of a relay that is named by its address, as ours are.
pub(super) fn relay_socket(url: &RelayUrl) -> Option<SocketAddr> {
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    Some(SocketAddr::new(host.parse().ok()?, url.port_or_known_default()?))
}

/// DNS is never asked: every address that this program hands to iroh is one of numbers.
async fn bind(config: &QuicConfig<'_>) -> Result<Endpoint, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relays_name_gives_its_socket_back() {
        for text in ["1.2.3.4:443", "1.2.3.4:7000", "[2001:db8::1]:443", "[::1]:9"] {
            let socket: SocketAddr = text.parse().unwrap();
            assert_eq!(relay_socket(&relay_url(socket)), Some(socket), "{text}");
        }
        let named: RelayUrl = "https://relay.example/".parse().unwrap();
        assert_eq!(relay_socket(&named), None);
    }
}
