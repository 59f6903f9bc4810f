//! Peers of the local network, found by multicast DNS.
//!
//! A peer that reaches as far as its local network says so under the name of its Tributary network, and hears others say
//! it. What it hears is hearsay: the handshake proves who answers. Addresses that mean something outside are left out:
//! somebody in the network could make all its peers dial a stranger.

use std::net::SocketAddr;

use futures::StreamExt;
use iroh::TransportAddr;
use iroh_mdns_address_lookup::{DiscoveryEvent, MdnsAddressLookup};
use tokio::sync::mpsc;
use tributary_protocol::id::{NetworkId, PeerId};

use super::hello::{Contact, MAX_ADDRESSES};
use super::quic::Quic;
use super::task::Order;
use super::{fair, keys};

/// Peers of the local network that are dialed though they follow no run of ours.
pub(super) const MAX_NEARBY: usize = 32;

/// Says and hears who is there, for as long as the task that takes orders lives.
pub(super) async fn start(
    quic: &Quic,
    network: NetworkId,
    orders: mpsc::UnboundedSender<Order>,
) -> Result<(), String> {
    let endpoint = quic.endpoint();
    let service = format!("tributary-{}", network.0);
    let multicast = MdnsAddressLookup::builder().service_name(service);
    let multicast = multicast.build(endpoint.id()).map_err(|e| e.to_string())?;
    let mut heard = multicast.subscribe().await;
    let lookups = endpoint.address_lookup().map_err(|e| e.to_string())?;
    lookups.add(multicast);
    tokio::spawn(async move {
        while let Some(event) = heard.next().await {
            let order = match event {
                DiscoveryEvent::Discovered { endpoint_info, .. } => {
                    let peer = keys::from_iroh(&endpoint_info.endpoint_id);
                    let sockets = endpoint_info.into_endpoint_addr();
                    Order::Nearby(contact(peer, sockets.addrs.into_iter()))
                }
                DiscoveryEvent::Expired { endpoint_id } => {
                    Order::NotNearby(keys::from_iroh(&endpoint_id))
                }
                _ => continue,
            };
            if orders.send(order).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn contact(peer: PeerId, addresses: impl Iterator<Item = TransportAddr>) -> Contact {
    let sockets = addresses.filter_map(|address| match address {
        TransportAddr::Ip(socket) => Some(socket),
        _ => None,
    });
    let near = sockets.filter(|socket: &SocketAddr| fair::is_private(socket.ip()));
    Contact {
        peer,
        control: Vec::new(),
        data: near.map(Into::into).take(MAX_ADDRESSES).collect(),
        relays: Vec::new(),
        runs: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_of_the_local_network_sends_a_peer_to_a_stranger() {
        let addresses = [
            "192.168.1.9:1",
            "203.0.113.9:1",
            "[fe80::1]:2",
            "[2001:db8::1]:2",
        ];
        let addresses = addresses.map(|text| TransportAddr::Ip(text.parse().unwrap()));
        let contact = contact(PeerId::default(), addresses.into_iter());
        let sockets: Vec<SocketAddr> = contact.data.iter().map(|socket| (*socket).into()).collect();
        let near: Vec<SocketAddr> = ["192.168.1.9:1", "[fe80::1]:2"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        assert_eq!(sockets, near);
    }
}
