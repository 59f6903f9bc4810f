//! `tributary up`: the daemon, until it is told to stop; `tributary down` tells it.

mod detach;

use std::sync::Arc;

use tokio::sync::{Notify, broadcast};
use tributary_protocol::event::Notice;
use tributary_protocol::node::Resources;

use super::Context;
use super::args::UpArgs;
use crate::NETWORK;
use crate::api::client::Client;
use crate::api::handler::DaemonHandler;
use crate::api::serve;
use crate::api::types::event::EventView;
use crate::daemon::{Daemon, DaemonConfig, StartError};
use crate::event::Event;
use crate::home::Home;
use crate::model::learner::ModelLearner;
use crate::net::Address;
use crate::settings::Settings;
use crate::terminal::Failure;
use crate::view;
use crate::work::Slots;

pub(super) async fn run(context: &Context, args: UpArgs) -> Result<(), Failure> {
    if args.detach {
        return detach::run(context).await;
    }
    let bootstrap = addresses(&args.bootstrap)?;
    let home = Arc::new(Home::open(&context.home)?);
    let settings = Settings::read(&home.paths().config())?;
    let peer = home.identity().peer_id();
    let name = settings.name_of(&peer);
    let learner = Arc::new(ModelLearner::new(home.paths().clone(), peer));
    let resources = Resources {
        upload_rate: args.upload_limit.map(|kib| kib * 1024),
        rank: args.rank,
        bounds: Some(args.bounds.or(settings.bounds).in_bytes()),
    };
    let daemon = start(
        &home,
        args.listen,
        bootstrap,
        learner,
        (resources, args.evidence || settings.evidence),
    )
    .await?;
    let daemon = Arc::new(daemon);
    let stop = Arc::new(Notify::new());
    let handler = DaemonHandler::new(daemon.clone(), home.clone(), name.clone(), stop.clone());
    let file = home.paths().control();
    let server = serve(Arc::new(handler), args.control, &file)
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
    let outcome = tokio::select! {
        why = daemon.stopped() => Err(Failure::environment(why.to_string())
            .hint("see the log above; `tributary up` starts the daemon again where it stopped")),
        () = stop.notified() => Ok("asked by its owner"),
        signal = interrupted() => signal,
    };
    told.abort();
    server.shutdown().await;
    if let Ok(why) = &outcome {
        tracing::info!("stopping: {why}");
    }
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

/// Reads `--bootstrap` addresses.
pub(super) fn addresses(texts: &[String]) -> Result<Vec<Address>, Failure> {
    (texts.iter())
        .map(|text| text.parse::<Address>().map_err(|e| Failure::from_error(&e)))
        .collect()
}

/// Starts a daemon on a home with the model learner.
pub(super) async fn start(
    home: &Arc<Home>,
    listen: std::net::SocketAddr,
    bootstrap: Vec<Address>,
    learner: Arc<ModelLearner>,
    (resources, evidence): (Resources, bool),
) -> Result<Daemon, Failure> {
    Daemon::start(DaemonConfig {
        home: home.clone(),
        network: NETWORK,
        listen,
        bootstrap,
        learner,
        slots: Slots::new(1),
        archive: true,
        resources,
        evidence,
        still_clock: None,
    })
    .await
    .map_err(|e| match &e {
        StartError::PortInUse(_) => Failure::from_error(&e),
        StartError::Network { .. } => {
            Failure::from_error(&e).hint("`--listen 127.0.0.1:0` takes a free port of this machine")
        }
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
