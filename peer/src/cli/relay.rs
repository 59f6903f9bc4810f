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

/// Behind a router the address that others use is not one of this machine.
pub(super) fn listens_on(at: SocketAddr) -> SocketAddr {
    match at {
        _ if at.ip().is_loopback() => at,
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, at.port()).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, at.port()).into(),
    }
}
