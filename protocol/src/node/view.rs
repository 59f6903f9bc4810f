//! What outsiders may see of a run.

use std::sync::Arc;

use super::agree::Seat;
use super::bounds::Excess;
use super::known::Known;
use super::refute::Refutation;
use super::run::{OpenRun, Run};
use crate::adapter::Adapter;
use crate::certificate::Certificate;
use crate::entry::Join;
use crate::event::Phase;
use crate::id::{PeerId, Round, RunId};
use crate::logset::LogSet;
use crate::manifest::Manifest;
use crate::state::Head;

/// What outsiders may see of a run.
#[derive(Clone, Copy)]
pub struct RunView<'a>(&'a Run);

impl Run {
    pub(super) fn view(&self) -> RunView<'_> {
        RunView(self)
    }
}

impl<'a> RunView<'a> {
    fn open(self) -> Option<&'a OpenRun> {
        self.0.open()
    }

    fn known(self) -> Option<Known<'a>> {
        let open = self.open()?;
        Some(Known::new(&open.certified, &self.0.ledger))
    }

    /// The run.
    pub fn id(&self) -> RunId {
        self.0.id()
    }
    /// The manifest, once the creator's first block arrived.
    pub fn manifest(&self) -> Option<&'a Arc<Manifest>> {
        self.open().map(|open| &open.certified.manifest)
    }
    /// What the certificates prove so far.
    pub fn head(&self) -> Option<&'a Head> {
        self.open().and_then(|open| open.certified.head())
    }
    /// The newest adapter at hand, with its round.
    pub fn adapter(&self) -> Option<&'a (Round, Arc<Adapter>)> {
        self.open().and_then(|open| open.settling.adapter.as_ref())
    }
    /// Verified certificates from round 0 on.
    pub fn chain(&self) -> &'a [Certificate] {
        self.open().map_or(&[], |open| open.certified.chain())
    }
    /// All logs of the run.
    pub fn log(&self) -> &'a LogSet {
        self.0.ledger.replica.log()
    }
    /// The last join of everybody whose log is here, members or not, ordered by peer.
    pub fn joins(&self) -> impl Iterator<Item = (PeerId, &'a Join)> + use<'a> {
        let joins = self.0.ledger.index.joins.iter();
        joins.map(|(peer, (_, join))| (*peer, join))
    }
    /// The membership that the owner asked for, if any.
    pub fn join(&self) -> Option<&'a Join> {
        self.0.membership.join.as_ref()
    }
    /// Whether this peer's membership waits for text of its own: a member committed to all of it before.
    pub fn lacks_own_text(&self) -> bool {
        let known = self.known();
        known.is_some_and(|known| self.0.membership.lacks_own_text(known))
    }
    /// What this peer is doing in the run.
    pub fn phase(&self) -> Option<Phase> {
        self.open().and_then(|open| open.phase)
    }
    /// Contributions for the next round that are complete here, and how many are expected.
    pub fn arrived(&self) -> (usize, usize) {
        match (self.open(), self.known()) {
            (Some(open), Some(known)) => open.height.arrived(known),
            _ => (self.0.ledger.index.joins.len(), 0),
        }
    }
    /// Whom the open height waits for, as far as this peer can tell: authors whose contribution is not complete here, or
    /// members of the committee that have said nothing yet. Not this peer itself.
    pub fn awaited(&self) -> Vec<PeerId> {
        let (Some(open), Some(known)) = (self.open(), self.known()) else {
            return Vec::new();
        };
        match open.phase {
            Some(Phase::Collect) => open.height.lacking(known),
            Some(Phase::Agree) => (open.height.seat.as_ref()).map_or_else(Vec::new, Seat::silent),
            _ => Vec::new(),
        }
    }
    /// Authors drawn for the open round whose receipts arrived before receipts closed here and whose updates are here.
    pub fn timely(&self) -> impl Iterator<Item = PeerId> + 'a {
        let open = self.open().zip(self.known());
        let timely = open.map(|(open, known)| open.height.timely(known));
        timely.into_iter().flatten().map(|(peer, _, _)| *peer)
    }
    /// Whether the closing height is certified and its adapter at hand.
    pub fn is_finished(&self) -> bool {
        self.open().is_some_and(OpenRun::is_complete)
    }
    /// What the run's manifest asks for beyond this peer's means. Nothing of the run is fetched.
    pub fn declined(&self) -> Option<&'a Excess> {
        self.0.declined()
    }
    /// The certified value that this peer's own evidence refutes, where it stopped.
    pub fn refuted(&self) -> Option<&'a Refutation> {
        self.open().and_then(|open| open.refuted.as_ref())
    }
    /// Blobs that are asked for and have not arrived.
    pub fn awaited_blobs(&self) -> usize {
        self.0.ledger.replica.blobs.outstanding()
    }
}
