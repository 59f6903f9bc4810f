//! `tributary relay`: a relay that stands alone, for peers that its owner names and those that they invite.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use serde::Serialize;
use tributary_protocol::id::PeerId;

use super::Context;
use super::args::RelayArgs;
use super::up::interrupted;
use crate::NETWORK;
use crate::home::{Home, HomePaths};
use crate::net::{Address, ListedGate, RelayConfig, RelayServer};
use crate::terminal::Failure;

/// A relay that serves.
#[derive(Serialize)]
struct Serving {
    schema: &'static str,
    /// What peers pass to `--via`.
    address: String,
}

pub(super) async fn run(context: &Context, args: RelayArgs) -> Result<(), Failure> {
    is_told(args.at)?;
    let served: BTreeSet<PeerId> = (args.served.iter())
        .map(|text| {
            text.parse().map_err(|e| {
                Failure::environment(format!("`{text}` is no peer's id: {e}"))
                    .hint("give the 64 digits after `peer` that its `tributary status` prints")
            })
        })
        .collect::<Result<_, _>>()?;
    let home = match HomePaths::new(&context.home).key().exists() {
        true => Home::open(&context.home)?,
        false => Home::create(&context.home)?,
    };
    let relay = RelayServer::start(RelayConfig {
        seed: *home.identity().seed(),
        listen: listens_on(args.at),
        access: Arc::new(ListedGate {
            network: NETWORK,
            served,
        }),
    })
    .await
    .map_err(|e| Failure::from_error(&e))?;
    let at = SocketAddr::new(args.at.ip(), relay.local_addr().port());
    let serving = Serving {
        schema: "relay/1",
        address: Address::new(at, Some(home.identity().peer_id())).to_string(),
    };
    context.out.answer(&serving, |serving| {
        format!(
            "relay {}\nPeers use it with `tributary up --reach wan --via {}`. It carries what it cannot read.",
            serving.address, serving.address
        )
    })?;
    interrupted().await?;
    relay.shutdown().await;
    Ok(())
}

/// Refuses an address that others could make nothing of.
pub(super) fn is_told(at: SocketAddr) -> Result<(), Failure> {
    match at.ip().is_unspecified() || at.ip().is_multicast() || at.port() == 0 {
        true => Err(Failure::environment(format!(
            "`{at}` is no address that others reach a relay at"
        ))
        .hint("give the public address of this machine or of its router, and a port: 203.0.113.7:7842")),
        false => Ok(()),
    }
}

/// Behind a router the address that others use is not one of this machine.
pub(super) fn listens_on(at: SocketAddr) -> SocketAddr {
    match at {
        _ if at.ip().is_loopback() => at,
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, at.port()).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, at.port()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_told_of_at_an_address_that_others_can_use() {
        for text in [
            "0.0.0.0:7842",
            "[::]:7842",
            "203.0.113.7:0",
            "224.0.0.1:7842",
        ] {
            assert!(is_told(text.parse().unwrap()).is_err(), "{text}");
        }
        assert!(is_told("203.0.113.7:7842".parse().unwrap()).is_ok());
    }
}
