//! Which addresses can be reached at all, and which are worth more room in a ticket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How far an address reaches, the farthest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    Public,
    Private,
    Loopback,
}

/// Whether anybody can be there: a real port, and one host that needs no interface to be named.
pub(super) fn is_reachable(socket: &SocketAddr) -> bool {
    let ip = socket.ip();
    let host = match ip {
        IpAddr::V4(ip) => !ip.is_broadcast() && !ip.is_link_local() && ip.octets()[0] != 0,
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && ip.to_ipv4_mapped().is_none(),
    };
    host && socket.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()
}

/// How far it reaches.
pub(super) fn scope(socket: &SocketAddr) -> Scope {
    let ip = socket.ip();
    let private = match ip {
        IpAddr::V4(ip) => ip.is_private() || is_carrier(ip),
        IpAddr::V6(ip) => is_local(ip),
    };
    match (ip.is_loopback(), private) {
        (true, _) => Scope::Loopback,
        (false, true) => Scope::Private,
        (false, false) => Scope::Public,
    }
}

/// 100.64.0.0/10, behind a carrier's NAT (RFC 6598).
fn is_carrier(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 100 && second & 0xc0 == 64
}

/// fc00::/7, within one site (RFC 4193).
fn is_local(ip: Ipv6Addr) -> bool {
    ip.octets()[0] & 0xfe == 0xfc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart_by_how_far_they_reach() {
        let scope = |text: &str| scope(&text.parse().unwrap());
        assert_eq!(scope("8.8.8.8:1"), Scope::Public);
        assert_eq!(scope("[2001:db8::1]:1"), Scope::Public);
        assert_eq!(scope("192.168.1.2:1"), Scope::Private);
        assert_eq!(scope("100.100.0.1:1"), Scope::Private);
        assert_eq!(scope("100.128.0.1:1"), Scope::Public);
        assert_eq!(scope("[fd00::1]:1"), Scope::Private);
        assert_eq!(scope("127.0.0.1:1"), Scope::Loopback);
        assert_eq!(scope("[::1]:1"), Scope::Loopback);
    }

    #[test]
    fn addresses_at_which_nobody_can_be_are_known() {
        for text in [
            "8.8.8.8:0",
            "0.0.0.0:1",
            "0.1.2.3:1",
            "224.0.0.1:1",
            "255.255.255.255:1",
            "169.254.0.1:1",
            "[::]:1",
            "[ff02::1]:1",
            "[fe80::1]:1",
            "[::ffff:8.8.8.8]:1",
        ] {
            assert!(!is_reachable(&text.parse().unwrap()), "{text}");
        }
        assert!(is_reachable(&"127.0.0.1:1".parse().unwrap()));
    }
}
