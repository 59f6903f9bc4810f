//! The door of the data plane: asks [`Admission`] before a connection is made, and closes those of
//! peers that were cut off on either plane.

use std::time::Duration;

use iroh::endpoint::{Accepting, Connection, Incoming, IncomingAddr};
use iroh::protocol::{AcceptError, IncomingFilterOutcome, ProtocolHandler};
use iroh_blobs::BlobsProtocol;
use tributary_protocol::id::PeerId;

use super::super::admission::Admission;
use super::super::keys;

/// How often an open connection is compared with the list of those refused.
const BEAT: Duration = Duration::from_millis(250);
/// Told to a peer that is refused.
const REFUSED: &[u8] = b"refused";

/// Lets packets in whose sender is where it says to be, and whose address may connect.
pub(super) fn let_in(admission: &Admission, incoming: &Incoming) -> IncomingFilterOutcome {
    // Before the address is proven, an innocent one could be made to pay.
    if !incoming.remote_addr_validated() {
        return IncomingFilterOutcome::Retry;
    }
    match incoming.remote_addr() {
        IncomingAddr::Ip(socket) if admission.may_connect(socket.ip()).is_err() => {
            IncomingFilterOutcome::Ignore
        }
        _ => IncomingFilterOutcome::Accept,
    }
}

/// Blobs for peers that are not refused.
#[derive(Clone)]
pub(super) struct Door {
    blobs: BlobsProtocol,
    admission: Admission,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

impl Door {
    pub(super) fn new(blobs: BlobsProtocol, admission: Admission) -> Self {
        Self { blobs, admission }
    }

    async fn until_cut_off(&self, peer: PeerId) {
        while self.admission.may_speak(peer).is_ok() {
            tokio::time::sleep(BEAT).await;
        }
    }
}

impl ProtocolHandler for Door {
    async fn on_accepting(&self, accepting: Accepting) -> Result<Connection, AcceptError> {
        let from = match accepting.remote_addr() {
            IncomingAddr::Ip(socket) => Some(socket.ip()),
            _ => None,
        };
        let connection = accepting.await?;
        let peer = keys::from_iroh(&connection.remote_id());
        self.admission.connected(peer, from, None);
        Ok(connection)
    }

    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let peer = keys::from_iroh(&connection.remote_id());
        tokio::select! {
            biased;
            () = self.until_cut_off(peer) => {
                connection.close(0u32.into(), REFUSED);
                Ok(())
            }
            served = self.blobs.accept(connection.clone()) => served,
        }
    }

    async fn shutdown(&self) {
        self.blobs.shutdown().await;
    }
}
