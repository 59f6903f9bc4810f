//! Whom this peer's relay serves: members of the runs that it follows, and bearers of tickets.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tributary_protocol::id::{NetworkId, PeerId};

use super::admission::Admission;
use super::relay::Gate;
use crate::driver;
use crate::ticket::{InvitationId, Ticket};

/// The gate of a daemon's relay. Cheap to clone.
#[derive(Clone)]
pub(super) struct MemberGate {
    pub(super) me: PeerId,
    pub(super) network: NetworkId,
    pub(super) admission: Admission,
    /// Invitations of this peer that it took back.
    pub(super) revoked: Arc<Mutex<BTreeSet<InvitationId>>>,
}

impl Gate for MemberGate {
    fn admit(&self, peer: PeerId, token: Option<&str>) -> Result<(), String> {
        (self.admission.may_speak(peer)).map_err(|why| format!("not now: {why}"))?;
        if peer == self.me || self.admission.is_member(peer) {
            return Ok(());
        }
        let Some(token) = token else {
            return Err(
                "this relay serves members of its owner's runs and bearers of a ticket, and you showed none; ask for a \
                 ticket, which `tributary invite RUN` makes"
                    .to_owned(),
            );
        };
        let may_invite = |issuer: &PeerId| *issuer == self.me || self.admission.is_member(*issuer);
        let revoked = self.revoked.lock();
        let is_revoked = |id: &InvitationId| revoked.contains(id);
        Ticket::admits(token, driver::now(), self.network, may_invite, is_revoked)
            .map(|_| ())
            .map_err(|why| why.to_string())
    }
}

/// The gate of a relay that stands alone: it knows no runs, and is told whom to serve.
pub(crate) struct ListedGate {
    /// The network of its tickets.
    pub(crate) network: NetworkId,
    /// Peers that it serves, and whose tickets it takes.
    pub(crate) served: BTreeSet<PeerId>,
}

impl Gate for ListedGate {
    fn admit(&self, peer: PeerId, token: Option<&str>) -> Result<(), String> {
        if self.served.contains(&peer) {
            return Ok(());
        }
        let Some(token) = token else {
            return Err(
                "this relay serves peers that its owner named and bearers of their tickets, and you are neither; ask one of \
                 them for a ticket, or the owner to start it with --for and your id"
                    .to_owned(),
            );
        };
        let may_invite = |issuer: &PeerId| self.served.contains(issuer);
        Ticket::admits(token, driver::now(), self.network, may_invite, |_| false)
            .map(|_| ())
            .map_err(|why| why.to_string())
    }
}
