//! What a daemon answers beside its owner: clients of its server, and programs that ask servers through its gateway.
//!
//! Options and drains are those of `tributary serve` and `tributary gateway`; here they share the life of a daemon.

use std::sync::Arc;

use crate::api::handler::DaemonHandler;
use crate::cli::args::{UpGatewayArgs, UpServeArgs};
use crate::cli::{Context, gateway, serve};
use crate::home::Home;
use crate::serve::adapters::Fetch;
use crate::serve::gateway::{Gateway, GatewayOptions};
use crate::serve::{ServeOptions, Server};
use crate::terminal::Failure;

/// What a daemon is asked to answer; its files were read.
pub(super) struct Wanted {
    server: Option<ServeOptions>,
    gateway: Option<GatewayOptions>,
}

impl Wanted {
    /// What the options ask for.
    pub(super) fn of(
        context: &Context,
        home: &Home,
        serve: UpServeArgs,
        gateway: UpGatewayArgs,
    ) -> Result<Self, Failure> {
        let cache = serve::cache(home.paths());
        // The daemon fetches, and it does not run yet.
        let server =
            (serve.wanted()).map(|args| serve::options(context, args, (Fetch::Nobody, cache)));
        let gateway = (gateway.wanted()).map(|args| gateway::options(context, &args));
        Ok(Self {
            server: server.transpose()?,
            gateway: gateway.transpose()?,
        })
    }
}

/// What runs of it.
#[derive(Default)]
pub(super) struct Answering {
    server: Option<Server>,
    gateway: Option<Gateway>,
}

impl Answering {
    /// Starts what is wanted and then waits for ever, so that only a failure to start ends it. It may be given up at any
    /// moment.
    pub(super) async fn run(&mut self, wanted: Wanted, handler: &Arc<DaemonHandler>) -> Failure {
        match self.start(wanted, handler).await {
            Ok(()) => std::future::pending().await,
            Err(failure) => failure,
        }
    }

    async fn start(&mut self, wanted: Wanted, handler: &Arc<DaemonHandler>) -> Result<(), Failure> {
        if let Some(options) = wanted.gateway {
            let gateway = self.gateway.insert(gateway::start(options).await?);
            let ready = gateway::Ready::of(gateway);
            tracing::info!("{}", ready.words());
            handler.asks_servers_at(ready.url);
        }
        if let Some(options) = wanted.server {
            let fetch = Fetch::Daemon(handler.clone());
            let options = ServeOptions {
                fetch,
                cashiers: Some(handler.cashiers()),
                ..options
            };
            let server = self.server.insert(serve::start(options).await?);
            let ready = serve::Serving::of(server);
            tracing::info!("{}", ready.words());
            handler.serves(ready.url, ready.model, server.adapters().clone());
        }
        Ok(())
    }

    /// Ends what runs, once what was begun is answered or took too long.
    pub(super) async fn drain(self, handler: &DaemonHandler) {
        handler.answers_no_more();
        let server = async {
            if let Some(server) = self.server {
                serve::drain(server).await;
            }
        };
        let gateway = async {
            if let Some(gateway) = self.gateway {
                gateway::drain(gateway).await;
            }
        };
        tokio::join!(server, gateway);
    }
}
