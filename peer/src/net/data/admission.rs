//! Admission to the data plane: asks [`Admission`] before a connection is made, closes those of
//! peers that were cut off on either plane, and gives the places for handshakes (`handshakes`) and for
//! connections (`connections`) by the rules of the control plane.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::{Accepting, Connection, Incoming, IncomingAddr};
use iroh::protocol::{AcceptError, IncomingFilterOutcome, ProtocolHandler};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;
use tributary_protocol::id::PeerId;

use super::super::admission::Admission;
use super::super::connections::Connections;
use super::super::fair;
use super::super::handshakes::Places;
use super::super::keys;
use super::super::remote::Remote;
use super::super::transport::accept_key;

/// How often an open connection is compared with the list of those refused.
const BEAT: Duration = Duration::from_millis(250);
/// Connections that are served at once.
const MAX_CONNECTIONS: usize = 256;
/// Told to a peer whose place goes to another.
const FULL: &[u8] = b"full";
/// Told to a peer that is refused.
const REFUSED: &[u8] = b"refused";

/// Lets packets in whose sender is where it says to be, and whose address may connect. What a relay passes on is judged
/// by its key, once the handshake has proven it.
pub(in crate::net) fn let_in(admission: &Admission, incoming: &Incoming) -> IncomingFilterOutcome {
    if matches!(incoming.remote_addr(), IncomingAddr::Relay { .. }) {
        return IncomingFilterOutcome::Accept;
    }
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

/// A protocol of the data plane, for peers that are not refused.
#[derive(Clone)]
pub(in crate::net) struct DataAdmission<P> {
    protocol: P,
    admission: Admission,
    handshakes: Places,
    served: Arc<Mutex<Served>>,
}

/// The connections that are served.
struct Served {
    places: Connections<u64>,
    /// Dropped to end a connection.
    stay: BTreeMap<u64, oneshot::Sender<()>>,
    next: u64,
}

impl<P> std::fmt::Debug for DataAdmission<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataAdmission").finish_non_exhaustive()
    }
}

impl<P> DataAdmission<P> {
    pub(in crate::net) fn new(protocol: P, admission: Admission, handshakes: Places) -> Self {
        let places = Connections::new(MAX_CONNECTIONS, fair::dice());
        let served = Served {
            places,
            stay: BTreeMap::new(),
            next: 0,
        };
        Self {
            protocol,
            admission,
            handshakes,
            served: Arc::new(Mutex::new(served)),
        }
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock()
    }

    /// Takes a place, if need be another's. The receiver ends when it is lost.
    fn enter(&self, peer: PeerId) -> (Place<'_, P>, oneshot::Receiver<()>) {
        let (from, now) = (self.admission.address(peer), self.admission.now());
        let mut served = self.served();
        let id = served.next;
        served.next += 1;
        let priority = |peer| self.admission.priority(peer);
        if let Some((loser, _)) = served.places.enter(id, peer, from, now, priority) {
            served.stay.remove(&loser);
        }
        let (stay, lost) = oneshot::channel();
        served.stay.insert(id, stay);
        (
            Place {
                admission: self,
                id,
            },
            lost,
        )
    }

    async fn until_cut_off(&self, peer: PeerId) {
        while self.admission.may_speak(peer).is_ok() {
            tokio::time::sleep(BEAT).await;
        }
    }
}

/// Gives a place back when its connection ends.
struct Place<'a, P> {
    admission: &'a DataAdmission<P>,
    id: u64,
}

impl<P> Drop for Place<'_, P> {
    fn drop(&mut self) {
        let mut served = self.admission.served();
        served.places.leave(&self.id);
        served.stay.remove(&self.id);
    }
}

impl<P: ProtocolHandler + Clone> ProtocolHandler for DataAdmission<P> {
    async fn on_accepting(&self, accepting: Accepting) -> Result<Connection, AcceptError> {
        let from = Remote::of_incoming(&accepting.remote_addr());
        let connection = accept_key(&self.admission, &self.handshakes, accepting).await?;
        let peer = keys::from_iroh(&connection.remote_id());
        let from = from.map(|remote| remote.ip());
        self.admission.connected(peer, from, Vec::new());
        Ok(connection)
    }

    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let peer = keys::from_iroh(&connection.remote_id());
        let (_place, lost) = self.enter(peer);
        tokio::select! {
            biased;
            _ = lost => {
                connection.close(0u32.into(), FULL);
                Ok(())
            }
            () = self.until_cut_off(peer) => {
                connection.close(0u32.into(), REFUSED);
                Ok(())
            }
            served = self.protocol.accept(connection.clone()) => served,
        }
    }

    async fn shutdown(&self) {
        self.protocol.shutdown().await;
    }
}
