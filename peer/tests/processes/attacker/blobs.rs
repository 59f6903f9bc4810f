//! The same hostile neighbour on the data plane: asks for blobs that nobody has, without end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use iroh::endpoint::{Connection, PortmapperConfig, RelayMode, presets};
use iroh::{Endpoint, EndpointAddr, EndpointId, TransportAddr};
use tokio::task::JoinSet;
use tributary_protocol::hash;

use super::{Outcome, REDIAL, Target};

/// Requests that may be under way on one connection.
const UNDER_WAY: usize = 256;
/// How long a connection or an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Floods until `until`.
pub(super) async fn attack(target: &Target, until: Instant) -> Outcome {
    let mut outcome = Outcome::default();
    let endpoint = Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .portmapper_config(PortmapperConfig::Disabled)
        .clear_ip_transports()
        .bind_addr(SocketAddr::new(target.from, 0))
        .expect("an address of this machine")
        .bind()
        .await
        .expect("a UDP socket");
    let victim = EndpointId::from_bytes(target.peer.as_bytes()).expect("a key");
    let address = EndpointAddr::new(victim).with_addrs([TransportAddr::Ip(target.socket())]);
    while Instant::now() < until {
        let connecting = endpoint.connect(address.clone(), iroh_blobs::ALPN);
        match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(Ok(connection)) => {
                let started = Instant::now();
                let before = outcome.sent;
                ask(target, &connection, until, &mut outcome).await;
                let lasted = started.elapsed();
                if outcome.cut_off.is_some() {
                    outcome.back = outcome.back.max(lasted);
                    outcome.refused += 1;
                } else if outcome.sent > before && connection.close_reason().is_some() {
                    outcome.cut_off = Some(lasted);
                }
            }
            _ => outcome.refused += 1,
        }
        tokio::time::sleep(REDIAL).await;
    }
    endpoint.close().await;
    outcome
}

async fn ask(target: &Target, connection: &Connection, until: Instant, outcome: &mut Outcome) {
    let started = Instant::now();
    let (mut under_way, mut asked) = (JoinSet::new(), 0u64);
    while Instant::now() < until && connection.close_reason().is_none() {
        let due = (started.elapsed().as_secs_f64() * target.per_second as f64) as u64;
        while asked < due && under_way.len() < UNDER_WAY {
            let hash = iroh_blobs::Hash::from_bytes(*hash::blob(&asked.to_le_bytes()).as_bytes());
            let connection = connection.clone();
            under_way.spawn(async move {
                let asking = iroh_blobs::get::request::get_verified_size(&connection, &hash);
                let _ = tokio::time::timeout(PATIENCE, asking).await;
            });
            asked += 1;
        }
        tokio::select! {
            Some(_) = under_way.join_next() => {
                // Refusals of a connection that is gone are not messages.
                if connection.close_reason().is_none() {
                    outcome.sent += 1;
                }
            }
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
}
