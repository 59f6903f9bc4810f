//! How peers are reached, invitations, and what a ticket leads to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tributary_ledger::view::MemberView;
use tributary_protocol::event::Phase;
use tributary_protocol::id::{PeerId, RunId};
use tributary_protocol::limits::MAX_SKETCH;
use tributary_protocol::manifest::{Manifest, UpdateCodec};
use tributary_protocol::sign::SecretKey;
use tributary_protocol::time::Timestamp;

use super::{Answer, DaemonHandler, base, stopped};
use crate::NETWORK;
use crate::api::types::reach::{
    AwaitedView, InvitationView, InviteRequest, OfferView, PathView, ReachCode, ReachView,
    ReachWarning, RelayView, ServingView, TicketRequest, TicketView, WayName,
};
use crate::model;
use crate::net::{Address, Known, KnownPeer, KnownRelay, PathKind, PeerPath, Reach, is_private};
use crate::problem::{Code, Problem};
use crate::progress::RunProgress;
use crate::terminal::Failure;
use crate::ticket::{self, InvitationId, Invitations, Terms, Ticket};

/// How long the peers of a ticket may take to answer: the routers of both have to let packets meet.
const MEET: Duration = Duration::from_secs(45);
/// How long the first certificate of a run may take, once a neighbour that follows it is there.
const FIRST_CERTIFICATE: Duration = Duration::from_secs(2);
/// How long the certificates of a run may take before it is shown as far as it is known.
const CATCH_UP: Duration = Duration::from_secs(10);
/// How often it is looked whether one has.
const LOOK: Duration = Duration::from_millis(100);
/// Shortest life of a ticket: long enough to be pasted.
const MIN_EXPIRES_S: u64 = 60;
/// Longest: 90 days. Who has it may use the inviter's relay until then.
const MAX_EXPIRES_S: u64 = 90 * 24 * 3600;

fn now() -> Timestamp {
    crate::driver::now()
}

/// How each connected peer is reached.
pub(super) fn paths(handler: &DaemonHandler) -> Vec<PathView> {
    let paths = handler.daemon.paths();
    paths
        .iter()
        .map(|(peer, path)| path_view(*peer, path))
        .collect()
}

/// Whom a round waits for, and when each was last seen. This peer is not news to its owner.
pub(super) fn awaited(
    handler: &DaemonHandler,
    run: &RunProgress,
    members: &[MemberView],
) -> Vec<AwaitedView> {
    let me = handler.daemon.peer_id();
    let connected = handler.daemon.connected();
    let others = run.awaited.iter().filter(|peer| **peer != me);
    let view = |peer: &PeerId| {
        let id = peer.to_string();
        let name = members.iter().find(|member| member.peer == id);
        AwaitedView {
            name: name.map(|member| member.name.clone()).unwrap_or_default(),
            connected: connected.contains(peer),
            seen_s: handler
                .daemon
                .last_seen(peer)
                .map(|at| at.elapsed().as_secs()),
            peer: id,
        }
    };
    others.map(view).collect()
}

fn path_view(peer: PeerId, path: &PeerPath) -> PathView {
    let is_near = path.address.is_some_and(|socket| is_private(socket.ip()));
    let (way, transport) = match path.kind {
        PathKind::Relayed => (WayName::Relayed, "quic"),
        PathKind::Direct if is_near => (WayName::Lan, "quic"),
        PathKind::Direct => (WayName::Direct, "quic"),
        PathKind::Tcp if is_near => (WayName::Lan, "tcp"),
        PathKind::Tcp => (WayName::Direct, "tcp"),
    };
    PathView {
        peer: peer.to_string(),
        way,
        transport: transport.to_owned(),
        address: path.address.map(|socket| socket.to_string()),
        for_s: path.since.elapsed().as_secs(),
        latency_ms: path.latency.map(|latency| latency.as_secs_f64() * 1000.0),
        lost_ppm: path.lost_ppm,
    }
}

/// How this peer reaches others, and they it.
pub(super) fn reach(handler: &DaemonHandler) -> ReachView {
    let report = handler.daemon.reach();
    let own = handler.daemon.own_addresses();
    let sockets = own.data.iter().chain(&own.control);
    let mut addresses: Vec<String> = sockets.map(ToString::to_string).collect();
    addresses.sort();
    addresses.dedup();
    let relays = report.relays.iter().map(|relay| RelayView {
        address: relay.address.to_string(),
        connected: relay.is_connected,
        latency_ms: relay.latency.map(|latency| latency.as_secs_f64() * 1000.0),
        why: relay.why.clone(),
    });
    let mut view = ReachView {
        schema: "reach/1".to_owned(),
        reach: report.reach.to_string(),
        addresses,
        udp_v4: report.udp_v4,
        udp_v6: report.udp_v6,
        public_v4: report.public_v4.map(|socket| socket.to_string()),
        public_v6: report.public_v6.map(|socket| socket.to_string()),
        mapping_varies: report.mapping_varies,
        port_mapped: report.port_mapped,
        relays: relays.collect(),
        serving: report.serving.map(|serving| ServingView {
            address: Address::new(serving.at, Some(handler.daemon.peer_id())).to_string(),
            clients: serving.clients as u32,
            bytes: serving.bytes,
        }),
        peers: paths(handler),
        warnings: Vec::new(),
    };
    view.warnings = warnings(&view, report.reach, &own);
    let unreached = handler.daemon.unreached();
    view.warnings
        .extend(unreached.iter().map(|why| ReachWarning {
            code: ReachCode::Unreached,
            text: why.to_string(),
        }));
    view
}

fn warnings(view: &ReachView, reach: Reach, own: &KnownPeer) -> Vec<ReachWarning> {
    let mut warnings = Vec::new();
    let mut warn = |code, text: String| warnings.push(ReachWarning { code, text });
    if reach == Reach::Loopback {
        let text = "only peers of this machine reach this one; start it with `tributary up --reach wan` for others";
        warn(ReachCode::LoopbackOnly, text.to_owned());
    }
    let relayed = view.relays.iter().any(|relay| relay.connected);
    if view.udp_v4 == Some(false) && view.udp_v6 != Some(true) {
        let text = "no UDP packet comes back: this network blocks UDP, so that every way goes through a relay over \
                    TCP; ask whoever runs the network to allow UDP";
        warn(ReachCode::UdpBlocked, text.to_owned());
    }
    if view.mapping_varies == Some(true) {
        let text = "the router gives each destination another port, so that peers behind such routers meet through a \
                    relay alone; forward a UDP port to this machine and start with --listen 0.0.0.0:PORT, or turn on \
                    UPnP in the router";
        warn(ReachCode::MappingVaries, text.to_owned());
    }
    let is_public = own.data.iter().any(|socket| !is_private(socket.ip()));
    if reach == Reach::Wan && !is_public && !relayed {
        let text = "peers outside this network find no way to this one: no address of it is public, its router maps no \
                    port, and no relay carries its packets; use one with `tributary up --via ADDRESS`";
        warn(ReachCode::NoWayIn, text.to_owned());
    }
    for relay in view.relays.iter().filter(|relay| !relay.connected) {
        if let Some(why) = &relay.why {
            warn(
                ReachCode::RelayDown,
                format!("relay {}: {why}", relay.address),
            );
        }
    }
    for peer in view
        .peers
        .iter()
        .filter(|peer| peer.way == WayName::Relayed)
    {
        let why = match view.mapping_varies {
            Some(true) => "this peer's router gives each destination another port",
            _ => "no packet of either side got through the other's router yet",
        };
        let short = peer.peer.get(..10).unwrap_or(&peer.peer);
        let text = format!(
            "peer {short} is reached through a relay: {why}; it goes on trying for a direct way"
        );
        warn(ReachCode::PeerRelayed, text);
    }
    warnings
}

/// Makes a ticket.
pub(super) async fn invite(handler: &DaemonHandler, request: InviteRequest) -> Answer<TicketView> {
    if !(MIN_EXPIRES_S..=MAX_EXPIRES_S).contains(&request.expires_s) {
        let text = format!(
            "a ticket lives for {MIN_EXPIRES_S} to {MAX_EXPIRES_S} seconds (a minute to 90 days), not {}",
            request.expires_s
        );
        return Err(Problem::new(Code::Malformed, text));
    }
    let (run, manifest) = handler.followed(&request.run).await?;
    if handler
        .run_progress(run)
        .is_some_and(|progress| progress.is_finished)
    {
        let text = format!("run {} is over: nobody joins it any more", run.short());
        return Err(Problem::new(Code::Refused, text)
            .hint("`tributary adapter export` gives its adapter; or open another run"));
    }
    let own = handler.daemon.own_addresses();
    let mut contacts = vec![ticket_contact(&own)];
    let connected = handler.daemon.connected();
    let known = handler.daemon.known_peers().into_iter();
    let others = known.filter(|peer| connected.contains(&peer.peer) && peer.runs.contains(&run));
    contacts.extend(
        others
            .map(|peer| ticket_contact(&peer))
            .take(ticket::MAX_PEERS - 1),
    );
    let made = now();
    let terms = Terms {
        network: NETWORK,
        run,
        invitation: InvitationId::random(),
        expires: Timestamp(made.0 + request.expires_s * 1000),
    };
    let key = SecretKey::from_seed(*handler.home.identity().seed());
    let ticket = Ticket::new(&key, terms, contacts).map_err(|e| Failure::from_error(&e))?;
    let list = Invitations::of(handler.home.paths());
    let (id, expires) = (ticket.terms().invitation, ticket.terms().expires);
    list.add(id, run, made, expires)
        .map_err(|e| Failure::from_error(&e))?;
    Ok(ticket_view(&ticket, &manifest))
}

fn ticket_contact(peer: &KnownPeer) -> ticket::Contact {
    let mut sockets = peer.data.clone();
    sockets.extend(
        peer.control
            .iter()
            .filter(|socket| !peer.data.contains(socket)),
    );
    ticket::Contact {
        peer: peer.peer,
        sockets,
        relay: peer.relays.first().map(|relay| ticket::Relay {
            peer: relay.peer,
            socket: relay.socket,
        }),
    }
}

fn ticket_view(ticket: &Ticket, manifest: &Manifest) -> TicketView {
    let terms = ticket.terms();
    let peers = ticket.contacts().iter().map(|contact| {
        let mut places: Vec<String> = contact.sockets.iter().map(ToString::to_string).collect();
        places.extend(contact.relay.map(|relay| format!("relay {}", relay.socket)));
        format!("{} at {}", contact.peer.short(), places.join(", "))
    });
    let mut warnings = Vec::new();
    let places = || {
        ticket
            .contacts()
            .iter()
            .flat_map(|contact| &contact.sockets)
    };
    let has_relay = ticket
        .contacts()
        .iter()
        .any(|contact| contact.relay.is_some());
    if places().all(|socket| socket.ip().is_loopback()) && !has_relay {
        warnings.push(
            "it works on this machine alone: start the daemon with `tributary up --reach wan` and invite again"
                .to_owned(),
        );
    } else if places().all(|socket| is_private(socket.ip())) && !has_relay {
        warnings.push(
            "it works in this local network alone: no address is public and no relay is in use; see `tributary reach`"
                .to_owned(),
        );
    }
    let base = &manifest.model.base;
    if base.files.is_none() && !model::is_embedded(base) {
        warnings.push(format!(
            "newcomers need the base model {} and peers do not hand it on: they join with --base DIR, or you open a run with \
             `share_base = true`",
            base.name
        ));
    }
    TicketView {
        ticket: ticket.text().to_owned(),
        invitation: terms.invitation.to_string(),
        run: terms.run.to_string(),
        name: manifest.name.clone(),
        expires: terms.expires.0 / 1000,
        peers: peers.collect(),
        warnings,
    }
}

/// Tickets that this peer gave out.
pub(super) fn invitations(handler: &DaemonHandler) -> Answer<Vec<InvitationView>> {
    let list = Invitations::of(handler.home.paths());
    let held = list.list().map_err(|e| Failure::from_error(&e))?;
    let view = |held: &ticket::Invitation| InvitationView {
        invitation: held.id.to_string(),
        run: held.run.to_string(),
        made: held.made.0 / 1000,
        expires: held.expires.0 / 1000,
        revoked: held.revoked,
    };
    Ok(held.iter().map(view).collect())
}

/// Takes a ticket back.
pub(super) fn revoke(handler: &DaemonHandler, id: &str) -> Answer<Vec<InvitationView>> {
    let id: InvitationId = id.parse().map_err(|e| Failure::from_error(&e))?;
    let list = Invitations::of(handler.home.paths());
    list.revoke(id, now())
        .map_err(|e| Failure::from_error(&e))?;
    handler.daemon.revoke(id);
    invitations(handler)
}

/// Connects to the peers of a ticket and learns what the run is.
pub(super) async fn take(handler: &DaemonHandler, request: TicketRequest) -> Answer<OfferView> {
    let ticket =
        Ticket::parse(&request.ticket, now(), NETWORK).map_err(|e| Failure::from_error(&e))?;
    let run = ticket.terms().run;
    let peers: Vec<KnownPeer> = (ticket.contacts().iter())
        .map(|contact| known_peer(contact, run))
        .filter(|peer| peer.peer != handler.daemon.peer_id())
        .collect();
    let relays: BTreeMap<_, _> = (ticket.contacts().iter())
        .filter_map(|contact| contact.relay)
        .map(|relay| {
            let known = KnownRelay {
                peer: relay.peer,
                socket: relay.socket,
                token: Some(ticket.text().to_owned()),
            };
            (relay.socket, known)
        })
        .collect();
    keep(handler, &peers, relays.values())?;
    for relay in relays.into_values() {
        handler.daemon.use_relay(&relay).await;
    }
    handler.daemon.introduce(&peers).map_err(stopped)?;
    meet(handler, &ticket).await?;
    let manifest = handler.follow(run).await?;
    caught_up(handler, run).await;
    let mut offer = offer(handler, run, &manifest, request.base.as_deref())?;
    if let Some(listing) = base::listing(handler, run, &manifest).await {
        offer.base_bytes = if offer.has_base { 0 } else { listing.total() };
        offer.base_licence = listing.licence;
    }
    Ok(offer)
}

/// A ticket that was taken survives a crash.
fn keep<'a>(
    handler: &DaemonHandler,
    peers: &[KnownPeer],
    relays: impl Iterator<Item = &'a KnownRelay>,
) -> Answer<()> {
    let path = handler.home.paths().network();
    let kept = Known::change(&path, |known| {
        for relay in relays {
            known.relays.retain(|held| held.socket != relay.socket);
            known.relays.insert(0, relay.clone());
        }
        for peer in peers {
            known.peers.retain(|held| held.peer != peer.peer);
            known.peers.insert(0, peer.clone());
        }
    });
    kept.map_err(|e| {
        let text = format!("cannot write {}: {e}", path.display());
        Problem::new(Code::Environment, text).hint("free some disk space")
    })
}

fn known_peer(contact: &ticket::Contact, run: RunId) -> KnownPeer {
    KnownPeer {
        peer: contact.peer,
        control: contact.sockets.clone(),
        data: contact.sockets.clone(),
        relays: (contact.relay.iter())
            .map(|relay| KnownRelay {
                peer: relay.peer,
                socket: relay.socket,
                token: None,
            })
            .collect(),
        runs: vec![run],
    }
}

/// Waits until a peer of the ticket is connected, or another that follows its run.
async fn meet(handler: &DaemonHandler, ticket: &Ticket) -> Answer<()> {
    let (began, run) = (Instant::now(), ticket.terms().run);
    let named = |peer: &PeerId| {
        ticket
            .contacts()
            .iter()
            .any(|contact| contact.peer == *peer)
    };
    loop {
        let connected = handler.daemon.connected();
        let followers = handler.daemon.known_runs().remove(&run).unwrap_or_default();
        if connected
            .iter()
            .any(|peer| named(peer) || followers.contains(peer))
        {
            return Ok(());
        }
        if began.elapsed() > MEET {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    let mut whys: Vec<String> = handler
        .daemon
        .unreached()
        .iter()
        .map(ToString::to_string)
        .collect();
    whys.extend(reach(handler).relays.into_iter().filter_map(|relay| {
        let why = relay.why.filter(|_| !relay.connected)?;
        Some(format!("relay {}: {why}", relay.address))
    }));
    let text = format!(
        "none of the {} peers of the ticket answered within {} s{}",
        ticket.contacts().len(),
        MEET.as_secs(),
        whys.iter()
            .map(|why| format!("\n  {why}"))
            .collect::<String>()
    );
    Err(Problem::new(Code::Unreachable, text).hint(
        "check this machine's connection with `tributary reach`, and ask the inviter whether its daemon runs; this peer \
         goes on trying",
    ))
}

/// Waits until this peer knows how far the run is, as long as that takes no longer than a person waits. Of a run that has
/// not begun no certificate comes, which a newcomer cannot tell from one that is on its way.
async fn caught_up(handler: &DaemonHandler, run: RunId) {
    let mut progress = handler.daemon.watch_progress();
    let mut until = async |limit: Duration, holds: fn(&RunProgress) -> bool| {
        let here = |all: &Arc<Vec<RunProgress>>| {
            let progress = all.iter().find(|progress| progress.run == run);
            progress.is_some_and(holds)
        };
        tokio::time::timeout(limit, progress.wait_for(here))
            .await
            .is_ok()
    };
    if until(FIRST_CERTIFICATE, |progress| progress.certified.is_some()).await {
        until(CATCH_UP, |progress| progress.phase != Some(Phase::CatchUp)).await;
    }
}

fn offer(
    handler: &DaemonHandler,
    run: RunId,
    manifest: &Manifest,
    base: Option<&std::path::Path>,
) -> Answer<OfferView> {
    let paths = handler.home.paths();
    let wanted = &manifest.model.base;
    let provided = tokio::task::block_in_place(|| model::provide(paths, wanted, base));
    let has_base = match provided {
        Ok(_) => true,
        Err(model::ModelError::Unknown { .. }) => false,
        Err(model::ModelError::NoFolder(_)) if base.is_none() && wanted.files.is_some() => false,
        Err(other) => return Err(Failure::from(other).into()),
    };
    let progress = handler.run_progress(run);
    let progress = progress.as_ref();
    Ok(OfferView {
        run: run.to_string(),
        name: manifest.name.clone(),
        datanet: manifest.datanet.clone(),
        creator: manifest.creator.to_string(),
        base: wanted.name.clone(),
        has_base,
        base_bytes: 0,
        base_shared: wanted.files.is_some(),
        base_licence: String::new(),
        rounds: manifest.plan.rounds,
        certified: progress
            .and_then(|progress| progress.certified)
            .map(|round| round.0),
        members: progress.map_or(0, |progress| progress.members),
        finished: progress.is_some_and(RunProgress::is_over),
        local_steps: manifest.training.local_steps,
        budget_micro_open: u64::try_from(manifest.payment.budget_per_round.0).unwrap_or(u64::MAX),
        leaves: leaves(manifest),
        stays: stays(manifest),
    })
}

/// What a member gives away.
fn leaves(manifest: &Manifest) -> Vec<String> {
    let update = match manifest.updates.codec {
        UpdateCodec::DenseF32 | UpdateCodec::DenseInt8 => "the whole change of the adapter",
        UpdateCodec::Sparse { .. } => "the largest changes of the adapter",
    };
    let mut leaves = vec![
        format!(
            "each round, {update} that training on your text makes; members can read it, and text can be guessed from it"
        ),
        "your key, the name you chose, how many tokens you train on, and a salted fingerprint that binds you to your text \
         and tells nothing of it"
            .to_owned(),
    ];
    if manifest.opens_sketches() {
        leaves.push(format!(
            "hashes of at most {MAX_SKETCH} runs of eight words of it, by which members see whose text is whose; somebody \
             that knows such a run can tell that you hold it"
        ));
    }
    leaves.push("the addresses of this machine, to members and the relays they use".to_owned());
    leaves
}

/// What stays at home.
fn stays(manifest: &Manifest) -> Vec<String> {
    vec![
        format!(
            "your text: the shard of `{}` never leaves this machine",
            manifest.datanet
        ),
        "your key".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(data: &[&str]) -> KnownPeer {
        KnownPeer {
            peer: PeerId::default(),
            control: Vec::new(),
            data: data.iter().map(|text| text.parse().unwrap()).collect(),
            relays: Vec::new(),
            runs: Vec::new(),
        }
    }

    fn codes(view: &ReachView, reach: Reach, own: &KnownPeer) -> Vec<ReachCode> {
        warnings(view, reach, own)
            .iter()
            .map(|warning| warning.code)
            .collect()
    }

    #[test]
    fn a_peer_is_told_what_keeps_others_from_reaching_it() {
        let home = own(&["192.168.1.7:4001"]);
        let mut view = ReachView::default();
        assert_eq!(
            codes(&view, Reach::Loopback, &home),
            [ReachCode::LoopbackOnly]
        );
        assert_eq!(codes(&view, Reach::Lan, &home), []);
        assert_eq!(codes(&view, Reach::Wan, &home), [ReachCode::NoWayIn]);
        assert_eq!(codes(&view, Reach::Wan, &own(&["203.0.113.9:4001"])), []);
        view.udp_v4 = Some(false);
        view.mapping_varies = Some(true);
        view.relays = vec![RelayView {
            address: "203.0.113.1:7842".to_owned(),
            connected: false,
            latency_ms: None,
            why: Some("it does not let this peer in".to_owned()),
        }];
        let expected = [
            ReachCode::UdpBlocked,
            ReachCode::MappingVaries,
            ReachCode::NoWayIn,
            ReachCode::RelayDown,
        ];
        assert_eq!(codes(&view, Reach::Wan, &home), expected);
        view.relays[0].connected = true;
        assert!(!codes(&view, Reach::Wan, &home).contains(&ReachCode::NoWayIn));
    }
}
