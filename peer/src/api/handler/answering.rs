//! What a daemon answers beside its owner, as its status shows it.

use parking_lot::Mutex;

use super::DaemonHandler;
use crate::api::types::ServerView;
use crate::serve::adapters::Adapters;

/// What is answered at the moment.
#[derive(Default)]
pub(super) struct Answering {
    server: Mutex<Option<Served>>,
    gateway: Mutex<Option<String>>,
}

struct Served {
    url: String,
    base: String,
    /// They may hold the handler, to fetch: whoever ends the server calls [`DaemonHandler::answers_no_more`].
    adapters: Adapters,
}

impl Answering {
    pub(super) fn serving(&self) -> Option<ServerView> {
        let server = self.server.lock();
        let served = server.as_ref()?;
        let models = served.adapters.list();
        let loaded = models
            .into_iter()
            .filter(|model| model.bytes_in_memory.is_some());
        Some(ServerView {
            url: served.url.clone(),
            base: served.base.clone(),
            adapters: loaded.map(|model| model.id).collect(),
        })
    }

    pub(super) fn gateway(&self) -> Option<String> {
        self.gateway.lock().clone()
    }
}

impl DaemonHandler {
    /// A server of this process answers clients from now on.
    pub fn serves(&self, url: String, base: String, adapters: Adapters) {
        let served = Served {
            url,
            base,
            adapters,
        };
        *self.answering.server.lock() = Some(served);
    }

    /// A gateway of this process asks servers from now on.
    pub fn asks_servers_at(&self, url: String) {
        *self.answering.gateway.lock() = Some(url);
    }

    /// Neither does any more.
    pub fn answers_no_more(&self) {
        *self.answering.server.lock() = None;
        *self.answering.gateway.lock() = None;
    }
}
