//! Which messages a member repeats, because links lose messages and members come late.
//!
//! Three things keep a height alive whatever was lost: everybody hears which attempt everybody is in (our votes of the
//! current attempt), nobody is refused a quorum that existed (our earlier votes; a value that is proposed again
//! carries the quorum behind it), and the value in question is at hand (the proposal of the current attempt, whichever
//! member made it).

use std::collections::BTreeSet;

use super::message::ConsensusMessage;
use super::{Height, Slot};
use crate::limits;

impl Height {
    /// Messages to send again, to every other member, from time to time while the height lasts. Does
    /// not change anything. Empty before the start and after the decision (then the certificate is
    /// what others need).
    pub fn rebroadcast(&self) -> Vec<Vec<u8>> {
        if !self.started || self.decided.is_some() {
            return Vec::new();
        }
        let now = self.attempt();
        let since = now.saturating_sub(limits::REPEATED_ATTEMPTS);
        let own = (self.sent.range((since, Slot::Proposal)..))
            .filter(|((attempt, slot), _)| *attempt == now || *slot != Slot::Proposal)
            .map(|(_, message)| message.encode());
        let proposals = (self.proposals_of(now))
            .map(|(_, heard)| ConsensusMessage::Proposal(heard.message.clone()).encode());
        let mut seen = BTreeSet::new();
        (own.chain(proposals))
            .filter(|bytes| seen.insert(bytes.clone()))
            .collect()
    }
}
