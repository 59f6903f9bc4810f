//! How far a peer reaches: this machine, the local network, or anywhere.
//!
//! One word decides what the sockets are bound to and what is looked for outside. Nothing beyond the word happens:
//! no port is mapped and no relay of a stranger used unless it is `wan`, and nobody is asked by multicast when it is
//! `loopback`. Public relays and DNS servers are never asked.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How far a peer reaches.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Peers of this machine.
    #[default]
    Loopback,
    /// Peers of the local network as well, found by multicast DNS.
    Lan,
    /// Peers anywhere: the router is asked for a port, and relays help where no direct way is found.
    Wan,
}

impl Reach {
    /// The address to listen on.
    pub fn listens_on(self) -> IpAddr {
        match self {
            Self::Loopback => Ipv4Addr::LOCALHOST.into(),
            Self::Lan | Self::Wan => Ipv4Addr::UNSPECIFIED.into(),
        }
    }

    /// Whether the control plane speaks over QUIC, which crosses routers, rather than TCP alone.
    pub(super) fn crosses_routers(self) -> bool {
        self > Self::Loopback
    }

    /// Whether the router is asked for a port, and relays that members name are used.
    pub(super) fn leaves_the_network(self) -> bool {
        self == Self::Wan
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Lan => "lan",
            Self::Wan => "wan",
        })
    }
}
