//! `tributary reach`: how this peer reaches others and they it, and what is in the way.

use tributary_ledger::view::short;

use super::Context;
use crate::api::client::Client;
use crate::api::types::reach::{PathView, ReachView, WayName};
use crate::terminal::Failure;
use crate::terminal::output::{Align, Table, bytes, duration};

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let view = Client::open(&context.home).await?.reach().await?;
    context.out.answer(&view, text)
}

fn text(view: &ReachView) -> String {
    let mut out = format!("reach    {}\n", view.reach);
    for address in &view.addresses {
        out.push_str(&format!("address  {address}\n"));
    }
    let comes_back = |works: bool| if works { "works" } else { "does not come back" };
    out.push_str(&match (view.udp_v4, view.udp_v6) {
        (Some(v4), Some(v6)) => format!(
            "udp      IPv4 {}, IPv6 {}\n",
            comes_back(v4),
            comes_back(v6)
        ),
        _ => "udp      not known: it takes a relay to tell\n".to_owned(),
    });
    for seen in view.public_v4.iter().chain(&view.public_v6) {
        out.push_str(&format!("seen as  {seen}\n"));
    }
    let varies = match view.mapping_varies {
        Some(true) => "gives each destination another port",
        Some(false) => "keeps one port for all destinations",
        None => "not known: it takes two relays to tell",
    };
    let mapped = match view.port_mapped {
        Some(true) => "opened a port for this peer",
        Some(false) => "opened no port when asked",
        None => "is not asked for a port",
    };
    out.push_str(&format!("router   {varies}; {mapped}\n"));
    for relay in &view.relays {
        let state = match (relay.connected, &relay.why) {
            (true, _) => "connected".to_owned(),
            (false, Some(why)) => format!("not connected: {why}"),
            (false, None) => "not in use".to_owned(),
        };
        let latency = relay
            .latency_ms
            .map(|ms| format!(", {ms:.1} ms"))
            .unwrap_or_default();
        out.push_str(&format!("relay    {}: {state}{latency}\n", relay.address));
    }
    if let Some(serving) = &view.serving {
        out.push_str(&format!(
            "serves   a relay for {} peers, {} passed on: {}\n",
            serving.clients,
            bytes(serving.bytes),
            serving.address
        ));
    }
    if !view.peers.is_empty() {
        out.push('\n');
        out.push_str(&paths_table(&view.peers));
    }
    for (n, warning) in view.warnings.iter().enumerate() {
        out.push_str(if n == 0 { "\n" } else { "" });
        out.push_str(&format!("warning  {}\n", warning.text));
    }
    out
}

/// Connected peers, a line each.
pub(super) fn paths_table(paths: &[PathView]) -> String {
    let mut table = Table::new(&[
        ("peer", Align::Left),
        ("way", Align::Left),
        ("at", Align::Left),
        ("for", Align::Right),
        ("round trip", Align::Right),
        ("lost", Align::Right),
    ]);
    for path in paths {
        let way = match path.way {
            WayName::Lan => "near",
            WayName::Direct => "direct",
            WayName::Relayed => "relayed",
        };
        let none = || "-".to_owned();
        table.row([
            short(&path.peer),
            format!("{way}, {}", path.transport),
            path.address.clone().unwrap_or_else(none),
            duration(path.for_s * 1000),
            path.latency_ms
                .map_or_else(none, |ms| format!("{ms:.1} ms")),
            path.lost_ppm
                .map_or_else(none, |ppm| format!("{:.2} %", f64::from(ppm) / 10_000.0)),
        ]);
    }
    table.render()
}
