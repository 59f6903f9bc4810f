//! `tributary up`: the daemon, until it is told to stop; `tributary down` tells it.

mod answering;
pub(super) mod detach;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, broadcast};
use tributary_protocol::event::Notice;
use tributary_protocol::node::Resources;

use self::answering::{Answering, Wanted};
use super::args::UpArgs;
use super::{Context, relay};
use crate::NETWORK;
use crate::api::client::Client;
use crate::api::handler::DaemonHandler;
use crate::api::serve;
use crate::api::types::event::EventView;
use crate::daemon::{Daemon, DaemonConfig, StartError};
use crate::event::Event;
use crate::home::Home;
use crate::model::learner::ModelLearner;
use crate::net::{Address, Known, KnownRelay, Reach, Relaying};
use crate::settings::{ChainAccess, ChainSettings, Settings};
use crate::terminal::Failure;
use crate::view;
use crate::work::Slots;

/// How often what is known of the network is written down, where it changed.
const LOOK_AFTER: Duration = Duration::from_secs(10);
/// Every so many times, names of peers are asked for their addresses again.
const RESOLVE_EVERY: u32 = 6;

pub(super) async fn run(context: &Context, args: UpArgs) -> Result<(), Failure> {
    if args.detach {
        return detach::run(context, &args).await;
    }
    let (bootstrap, names) = addresses(&args.bootstrap).await?;
    let home = Arc::new(Home::open(&context.home)?);
    let mut settings = Settings::read(&home.paths().config())?;
    let wanted = Wanted::of(context, &home, args.serve.clone(), args.gateway.clone())?;
    let place = place(&home, &mut settings, &args)?;
    let chain = chain(&home, &mut settings, args.chain.clone())?;
    let peer = home.identity().peer_id();
    let name = settings.name_of(&peer);
    let learner = Arc::new(ModelLearner::new(home.paths().clone(), peer));
    let bounds = args.bounds.or(settings.bounds);
    let resources = Resources {
        upload_rate: args.upload_limit.map(|kib| kib * 1024),
        rank: args.rank,
        bounds: Some(bounds.in_bytes()),
    };
    let evidence = args.evidence || settings.evidence;
    let given = (resources, evidence, chain);
    let daemon = start(&home, place, bootstrap, learner, given).await?;
    let daemon = Arc::new(daemon);
    let stop = Arc::new(Notify::new());
    let handler = DaemonHandler::new(daemon.clone(), home.clone(), name.clone(), stop.clone())
        .with_base_bound(bounds.base_mib());
    let handler = Arc::new(handler);
    let file = home.paths().control();
    let server = serve(handler.clone(), args.control, &file)
        .await
        .map_err(|e| Failure::from_error(&e))?;
    tracing::info!(
        "peer {} ({name}), home {}",
        peer.short(),
        context.home.display()
    );
    for address in daemon.addresses() {
        tracing::info!("others reach this peer at {address}");
    }
    let told = tokio::spawn(tell(daemon.subscribe()));
    let network = tokio::spawn(look_after(daemon.clone(), home.paths().network(), names));
    let mut answering = Answering::default();
    let outcome = tokio::select! {
        why = daemon.stopped() => Err(Failure::environment(why.to_string())
            .hint("see the log above; `tributary up` starts the daemon again where it stopped")),
        () = stop.notified() => Ok("asked by its owner"),
        signal = interrupted() => signal,
        failure = answering.run(wanted, &handler) => Err(failure),
    };
    if let Ok(why) = &outcome {
        tracing::info!("stopping: {why}");
    }
    answering.drain(&handler).await;
    told.abort();
    network.abort();
    remember(&daemon, &home.paths().network());
    server.shutdown().await;
    daemon.stop().await;
    outcome.map(|_| ())
}

/// Tells the daemon of the home to stop.
pub(super) async fn down(context: &Context) -> Result<(), Failure> {
    let answer = Client::open(&context.home).await?.stop().await?;
    context
        .out
        .answer(&answer, |_| "the daemon stops".to_owned())
}

/// Where a daemon listens and how far it looks.
pub(super) struct Place {
    listen: SocketAddr,
    reach: Reach,
    known: Known,
    relay: Option<Relaying>,
}

impl Place {
    /// Of a daemon that asks these peers for something and ends.
    pub(super) fn for_a_moment(bootstrap: &[Address]) -> Self {
        let is_far = |address: &Address| address.socket().is_none_or(|s| !s.ip().is_loopback());
        let reach = match bootstrap.iter().any(is_far) {
            true => Reach::Wan,
            false => Reach::Loopback,
        };
        Self {
            listen: SocketAddr::new(reach.listens_on(), 0),
            reach,
            known: Known::default(),
            relay: None,
        }
    }
}

/// The place that the options name, else that of the last time.
fn place(home: &Home, settings: &mut Settings, args: &UpArgs) -> Result<Place, Failure> {
    let paths = home.paths();
    if args.reach.is_some() && args.reach != settings.reach {
        settings.reach = args.reach;
        settings.write(&paths.config())?;
    }
    let reach = settings.reach.unwrap_or_default();
    let mut known = Known::read(&paths.network());
    for text in &args.via {
        let relay = relay_at(text)?;
        known.relays.retain(|held| held.socket != relay.socket);
        known.relays.insert(0, relay);
    }
    let any = SocketAddr::new(reach.listens_on(), 0);
    let listen = match args.listen {
        Some(listen) => listen,
        None => {
            let port = known.port_for(any).map_err(|e| {
                Failure::environment(format!(
                    "no port of this machine is free for other peers: {e}"
                ))
                .hint("name one with --listen IP:PORT")
            })?;
            known.port = Some(port);
            SocketAddr::new(any.ip(), port)
        }
    };
    // Kept at once: who is told the port now asks for it after a crash as well.
    if let Err(e) = known.write(&paths.network()) {
        return Err(Failure::environment(format!(
            "cannot write {}: {e}",
            paths.network().display()
        ))
        .hint("free some disk space, or make the folder writable for your user"));
    }
    let relay = args.relay.map(|at| {
        relay::is_told(at)?;
        Ok::<_, Failure>(Relaying {
            at,
            listen: relay::listens_on(at),
        })
    });
    let relay = relay.transpose()?;
    Ok(Place {
        listen,
        reach,
        known,
        relay,
    })
}

/// How the real chain is reached that the options name, else that of the last time.
fn chain(
    home: &Home,
    settings: &mut Settings,
    given: ChainSettings,
) -> Result<ChainAccess, Failure> {
    let chain = given.or(settings.chain.clone())?;
    // A key that cannot be read is told now, and not kept.
    let wallet = chain.wallet(home.identity())?;
    if chain != settings.chain {
        settings.chain = chain.clone();
        settings.write(&home.paths().config())?;
    }
    Ok(ChainAccess {
        settings: chain,
        wallet: Some(wallet),
    })
}

/// A relay as `--via` names it.
fn relay_at(text: &str) -> Result<KnownRelay, Failure> {
    let address: Address = text.parse().map_err(|e| Failure::from_error(&e))?;
    match (address.peer(), address.socket()) {
        (Some(peer), Some(socket)) => Ok(KnownRelay {
            peer,
            socket,
            token: None,
        }),
        _ => Err(
            Failure::environment(format!("`{text}` does not say whose relay that is"))
                .hint("give the whole address with /p2p/ID, as `tributary relay` prints it"),
        ),
    }
}

/// Writes down the peers that are known now.
fn remember(daemon: &Daemon, path: &Path) {
    let peers = daemon.known_peers();
    if peers.is_empty() {
        return;
    }
    if let Err(e) = Known::change(path, |known| known.peers = peers) {
        tracing::warn!(
            "cannot write {}: {e}; peers met since are forgotten at the next start",
            path.display()
        );
    }
}

/// Remembers peers from time to time, and asks again where named ones are: the address behind a name changes.
async fn look_after(daemon: Arc<Daemon>, path: PathBuf, names: Vec<String>) {
    let mut beat = tokio::time::interval(LOOK_AFTER);
    beat.tick().await;
    for turn in 1u32.. {
        beat.tick().await;
        remember(&daemon, &path);
        for name in names.iter().filter(|_| turn % RESOLVE_EVERY == 0) {
            for address in resolve(name).await.unwrap_or_default() {
                let _ = daemon.dial(address).await;
            }
        }
    }
}

/// Reads `--bootstrap` addresses. The second list are names whose addresses may change.
pub(super) async fn addresses(texts: &[String]) -> Result<(Vec<Address>, Vec<String>), Failure> {
    let (mut addresses, mut names) = (Vec::new(), Vec::new());
    for text in texts {
        match text.parse::<Address>() {
            Ok(address) => addresses.push(address),
            Err(_) if is_named(text) => {
                let found = resolve(text).await.map_err(|e| {
                    Failure::environment(format!("nobody knows the address of `{text}`: {e}"))
                        .hint("check the name and this machine's connection, or give an IP address")
                })?;
                addresses.extend(found);
                names.push(text.clone());
            }
            Err(e) => return Err(Failure::from_error(&e)),
        }
    }
    Ok((addresses, names))
}

/// `NAME:PORT`.
fn is_named(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    parts.is_some_and(|(name, port)| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        !name.is_empty() && name.chars().all(fits) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

async fn resolve(name: &str) -> std::io::Result<Vec<Address>> {
    let sockets = tokio::net::lookup_host(name).await?;
    Ok(sockets.map(|socket| Address::new(socket, None)).collect())
}

/// Starts a daemon on a home with the model learner.
pub(super) async fn start(
    home: &Arc<Home>,
    place: Place,
    bootstrap: Vec<Address>,
    learner: Arc<ModelLearner>,
    (resources, evidence, chain): (Resources, bool, ChainAccess),
) -> Result<Daemon, Failure> {
    Daemon::start(DaemonConfig {
        home: home.clone(),
        network: NETWORK,
        listen: place.listen,
        reach: place.reach,
        known: place.known,
        relay: place.relay,
        bootstrap,
        learner,
        slots: Slots::new(1),
        archive: true,
        resources,
        evidence,
        chain,
        still_clock: None,
    })
    .await
    .map_err(|e| match &e {
        StartError::PortInUse(_) => Failure::from_error(&e),
        StartError::Network { .. } => Failure::from_error(&e)
            .hint("`--listen 127.0.0.1:0` takes a free port of this machine; check --relay too"),
        StartError::Store(_) => Failure::from_error(&e),
    })
}

/// Until somebody ends the command: with a key, or the system.
pub(super) async fn interrupted() -> Result<&'static str, Failure> {
    let deaf = |e: std::io::Error| {
        Failure::environment(format!("cannot listen for signals: {e}"))
            .hint("the system is out of resources; close other programs")
    };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(deaf)?;
        tokio::select! {
            heard = tokio::signal::ctrl_c() => heard.map(|()| "interrupted").map_err(deaf),
            _ = terminate.recv() => Ok("asked by the system"),
        }
    }
    #[cfg(not(unix))]
    {
        tokio::signal::ctrl_c()
            .await
            .map(|()| "interrupted")
            .map_err(deaf)
    }
}

/// The log of a daemon, for people: a few lines a round, with what the driver logs itself.
async fn tell(mut events: broadcast::Receiver<Event>) {
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::debug!("{missed} events were not logged: they came too fast");
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let said = || view::line(&EventView::of(&event));
        match event {
            Event::Notice(Notice::Phase { .. }) => tracing::info!("{}", said()),
            Event::Notice(Notice::Contributed { .. }) => tracing::debug!("{}", said()),
            // The driver logs these where they happen, and steps of training are too many.
            Event::Notice(_) | Event::Training { .. } => {}
        }
    }
}
