//! What of the peers goes into a ticket, and what is left out first when it is too long.

use std::cmp::Reverse;
use std::net::SocketAddr;

use super::address::{is_reachable, scope};
use super::{Contact, MAX_PEERS, MAX_SOCKETS};

/// The peers that can be reached, each once, with their best addresses first.
pub(super) fn usable(contacts: Vec<Contact>) -> Vec<Contact> {
    let mut out: Vec<Contact> = Vec::new();
    for mut contact in contacts {
        if out.len() == MAX_PEERS || out.iter().any(|held| held.peer == contact.peer) {
            continue;
        }
        let mut sockets: Vec<SocketAddr> = Vec::new();
        for socket in contact.sockets.into_iter().map(plain) {
            if is_reachable(&socket) && !sockets.contains(&socket) {
                sockets.push(socket);
            }
        }
        // Stable: among equals the caller's order stands.
        sockets.sort_by_key(scope);
        sockets.truncate(MAX_SOCKETS);
        contact.sockets = sockets;
        if let Some(relay) = &mut contact.relay {
            relay.socket = plain(relay.socket);
        }
        contact.relay = (contact.relay).filter(|relay| is_reachable(&relay.socket));
        if !contact.sockets.is_empty() || contact.relay.is_some() {
            out.push(contact);
        }
    }
    out
}

/// An IPv4 address as itself, and nothing but address and port.
fn plain(socket: SocketAddr) -> SocketAddr {
    SocketAddr::new(socket.ip().to_canonical(), socket.port())
}

/// Leaves one thing out: of the second and further sockets of all peers the one that reaches least far, of the last peer
/// that has one; else the only socket of a further peer that a relay reaches; else the last peer.
///
/// # Panics
/// When only the inviter with one socket and its relay is left, which fits by a wide margin.
pub(super) fn shrink(contacts: &mut Vec<Contact>) {
    let further = (contacts.iter().enumerate())
        .filter(|(_, contact)| contact.sockets.len() > 1)
        .max_by_key(|(at, contact)| (contact.sockets.last().map(scope), *at));
    let only = (contacts.iter().enumerate().skip(1))
        .filter(|(_, contact)| contact.relay.is_some() && !contact.sockets.is_empty())
        .min_by_key(|(at, _)| Reverse(*at));
    match further.or(only).map(|(at, _)| at) {
        Some(at) => {
            contacts[at].sockets.pop();
        }
        None => {
            assert!(contacts.len() > 1, "one peer with one address fits");
            contacts.pop();
        }
    }
}
