//! Who may speak, how much, and who is refused for a while: one policy for both stacks.
//!
//! A neighbour has an [`Allowance`]. What is beyond it is dropped; whoever goes on all the same, or
//! sends what no honest program sends, is *cut off*: its connections are closed and its key is refused
//! for [`REFUSED_MS`]. Keys cost nothing, so an address that several such keys came from, or that dials
//! without end, is refused as well. The one address that all peers of a machine share is never refused nor
//! slowed down: it would cut off the honest ones with the liar. What its sockets may hold is bounded by
//! places that change hands, see `handshakes`.
//!
//! Pure bookkeeping over times that are handed in; the control plane closes connections, see `control_admission`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tributary_protocol::id::PeerId;
use tributary_protocol::time::Instant;

use super::connections::Priority;
use super::fair;
use super::limit::{Allowance, ConnectionAllowance, Kind};

/// How long a key or an address is refused: long enough that coming back is no way to flood, short
/// enough that a machine that was merely broken is taken back the same hour.
pub(super) const REFUSED_MS: u64 = 10 * 60_000;
/// Keys that one address may lose within [`REFUSED_MS`] before it is refused itself: two may be broken
/// machines of one household.
const MAX_KEYS_CUT_OFF: usize = 3;
/// Neighbours whose allowance is remembered, connected or not, so that hanging up does not renew it.
/// Twice what both planes hold in connections.
const MAX_NEIGHBOURS: usize = 2048;
/// Refused keys and addresses that are remembered; beyond it the one that ends first goes.
const MAX_REFUSED: usize = 4096;
/// Addresses whose dials are counted.
const MAX_ADDRESSES: usize = 4096;
/// Bytes that every message costs beside its content: stream, framing, encryption, answer.
const FRAMING_BYTES: u64 = 512;

/// What a neighbour is held to have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("it sends more than any peer has to say")]
    Flood,
    #[error("it announces messages longer than allowed")]
    Oversize,
    #[error("it hands on what does not decode or is not signed by whom it names")]
    Forgery,
    #[error("its greeting is malformed")]
    Greeting,
    #[error("its gossip is judged worthless")]
    Gossip,
    #[error("it sends bytes that belong to no message")]
    Noise,
}

/// A connection that is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("the peer was cut off and is refused for another {0} ms")]
    Peer(u64),
    #[error("the address is refused for another {0} ms")]
    Address(u64),
    #[error("the address dials too often")]
    TooOften,
}

/// Bytes that arrived on one connection.
#[derive(Debug, Default)]
pub(super) struct SocketMeter {
    arrived: AtomicU64,
    cut: AtomicBool,
}

impl SocketMeter {
    pub(super) fn add(&self, bytes: usize) {
        self.arrived.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Ends the connection without a farewell, which a peer that reads nothing would never take.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }
}

/// The one admission policy of both network stacks. Cheap to clone.
#[derive(Clone)]
pub(super) struct Admission {
    neighbours: Arc<Mutex<Neighbours>>,
    started: std::time::Instant,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            neighbours: Arc::default(),
            started: std::time::Instant::now(),
        }
    }
}

impl Admission {
    fn open(&self) -> (MutexGuard<'_, Neighbours>, Instant) {
        let now = Instant(self.started.elapsed().as_millis() as u64);
        (self.neighbours.lock(), now)
    }

    /// Whether somebody at this address may connect. Asked before any handshake.
    pub(super) fn may_connect(&self, from: IpAddr) -> Result<(), Refused> {
        let (mut neighbours, now) = self.open();
        neighbours.may_connect(from, now)
    }

    /// Whether a peer is refused at the moment.
    pub(super) fn may_speak(&self, peer: PeerId) -> Result<(), Refused> {
        let (mut neighbours, now) = self.open();
        neighbours.may_speak(peer, now)
    }

    /// A connection of a peer is up; `lines` are known of control connections.
    pub(super) fn connected(
        &self,
        peer: PeerId,
        from: Option<IpAddr>,
        lines: Vec<Arc<SocketMeter>>,
    ) {
        let (mut neighbours, now) = self.open();
        neighbours.connected(peer, from, lines, now);
    }

    pub(super) fn now(&self) -> Instant {
        self.open().1
    }

    /// Members of the runs that this peer follows, in place of those named before.
    pub(super) fn favour(&self, members: BTreeSet<PeerId>) {
        self.open().0.members = members;
    }

    /// A neighbour has shown to be worth its place.
    pub(super) fn raise(&self, peer: PeerId, priority: Priority) {
        let (mut neighbours, now) = self.open();
        let neighbour = neighbours.neighbour(peer, now);
        neighbour.priority = neighbour.priority.max(priority);
    }

    /// Whether a peer is a member of a run that this peer follows.
    pub(super) fn is_member(&self, peer: PeerId) -> bool {
        self.open().0.members.contains(&peer)
    }

    pub(super) fn priority(&self, peer: PeerId) -> Priority {
        let (neighbours, _) = self.open();
        if neighbours.members.contains(&peer) {
            return Priority::Member;
        }
        let neighbour = neighbours.neighbours.get(&peer);
        neighbour.map_or(Priority::Unheard, |neighbour| neighbour.priority)
    }

    /// The address that a peer was last seen at.
    pub(super) fn address(&self, peer: PeerId) -> Option<IpAddr> {
        self.open().0.neighbours.get(&peer)?.from
    }

    /// Whether what a neighbour sent may be heard. The last thing that is forgiven cuts it off.
    pub(super) fn hear(&self, peer: PeerId, kind: Kind, bytes: usize) -> bool {
        let (mut neighbours, now) = self.open();
        neighbours.hear(peer, kind, bytes, now)
    }

    /// A message that we asked for or sent ourselves, and that came back as bytes on the line.
    pub(super) fn expect(&self, peer: PeerId, bytes: usize) {
        let (mut neighbours, _) = self.open();
        neighbours.expect(peer, bytes);
    }

    /// A neighbour did what no honest program does; a few times are forgiven.
    pub(super) fn blame(&self, peer: PeerId, fault: Fault) {
        let (mut neighbours, now) = self.open();
        if !neighbours.neighbour(peer, now).allowance.forgive_fault(now) {
            neighbours.cut_off(peer, fault, now);
        }
    }

    /// Closes the door on a peer at once.
    pub(super) fn cut_off(&self, peer: PeerId, fault: Fault) {
        let (mut neighbours, now) = self.open();
        neighbours.cut_off(peer, fault, now);
    }

    /// Compares what arrived on the sockets with what was heard.
    pub(super) fn audit(&self) {
        let (mut neighbours, now) = self.open();
        neighbours.audit(now);
    }

    /// Peers cut off since the last call, whose connections are to be closed.
    pub(super) fn take_cut_off(&self) -> Vec<PeerId> {
        std::mem::take(&mut self.open().0.to_close)
    }
}

/// One neighbour, connected or not long ago.
#[derive(Debug)]
struct Neighbour {
    allowance: Allowance,
    priority: Priority,
    from: Option<IpAddr>,
    seen: Instant,
    lines: Vec<(Arc<SocketMeter>, u64)>,
    /// Bytes that messages accounted for since the last audit.
    heard: u64,
}

/// The state behind [`Admission`].
#[derive(Debug, Default)]
struct Neighbours {
    neighbours: BTreeMap<PeerId, Neighbour>,
    members: BTreeSet<PeerId>,
    newcomers: BTreeMap<IpAddr, (ConnectionAllowance, Instant)>,
    refused_peers: BTreeMap<PeerId, (Instant, Option<IpAddr>)>,
    refused_addresses: BTreeMap<IpAddr, Instant>,
    to_close: Vec<PeerId>,
}

/// The addresses that every peer of this machine has.
fn is_shared(ip: IpAddr) -> bool {
    ip == IpAddr::V4(Ipv4Addr::LOCALHOST) || ip == IpAddr::V6(Ipv6Addr::LOCALHOST)
}

impl Neighbours {
    fn may_connect(&mut self, from: IpAddr, now: Instant) -> Result<(), Refused> {
        let from = fair::address(from);
        // Whoever else dials from this machine would be slowed down with the one that dials without end;
        // places are given by `handshakes` and `control_admission`.
        if is_shared(from) {
            return Ok(());
        }
        if let Some(until) = self.refused_addresses.get(&from) {
            if *until > now {
                return Err(Refused::Address(until.since_ms(now)));
            }
            self.refused_addresses.remove(&from);
        }
        if self.newcomers.len() >= MAX_ADDRESSES && !self.newcomers.contains_key(&from) {
            forget_first(&mut self.newcomers, |(_, seen)| *seen);
        }
        let fresh = || (ConnectionAllowance::new(now), now);
        let (allowance, seen) = self.newcomers.entry(from).or_insert_with(fresh);
        *seen = now;
        if allowance.admit(now) {
            return Ok(());
        }
        if !allowance.forgive(now) {
            self.refuse_address(from, now);
        }
        Err(Refused::TooOften)
    }

    fn refuse_address(&mut self, from: IpAddr, now: Instant) {
        if is_shared(from) {
            return;
        }
        if self.refused_addresses.len() >= MAX_REFUSED {
            forget_first(&mut self.refused_addresses, |until| *until);
        }
        let until = now.after_ms(REFUSED_MS);
        if self.refused_addresses.insert(from, until).is_none() {
            tracing::warn!(
                "address {from} is refused for {} minutes",
                REFUSED_MS / 60_000
            );
        }
    }

    fn may_speak(&mut self, peer: PeerId, now: Instant) -> Result<(), Refused> {
        let Some((until, _)) = self.refused_peers.get(&peer) else {
            return Ok(());
        };
        if *until > now {
            return Err(Refused::Peer(until.since_ms(now)));
        }
        self.refused_peers.remove(&peer);
        Ok(())
    }

    fn neighbour(&mut self, peer: PeerId, now: Instant) -> &mut Neighbour {
        if self.neighbours.len() >= MAX_NEIGHBOURS && !self.neighbours.contains_key(&peer) {
            forget_first(&mut self.neighbours, |neighbour| neighbour.seen);
        }
        let neighbour = (self.neighbours.entry(peer)).or_insert_with(|| Neighbour {
            allowance: Allowance::new(now),
            priority: Priority::default(),
            from: None,
            seen: now,
            lines: Vec::new(),
            heard: 0,
        });
        neighbour.seen = now;
        neighbour
    }

    fn connected(
        &mut self,
        peer: PeerId,
        from: Option<IpAddr>,
        lines: Vec<Arc<SocketMeter>>,
        now: Instant,
    ) {
        let neighbour = self.neighbour(peer, now);
        neighbour.from = from.map(fair::address).or(neighbour.from);
        neighbour
            .lines
            .extend(lines.into_iter().map(|line| (line, 0)));
    }

    fn hear(&mut self, peer: PeerId, kind: Kind, bytes: usize, now: Instant) -> bool {
        let neighbour = self.neighbour(peer, now);
        neighbour.heard += bytes as u64 + FRAMING_BYTES;
        if neighbour.allowance.admit(kind, bytes, now) {
            return true;
        }
        if !neighbour.allowance.forgive(now) {
            self.cut_off(peer, Fault::Flood, now);
        }
        false
    }

    fn expect(&mut self, peer: PeerId, bytes: usize) {
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.heard += bytes as u64 + FRAMING_BYTES;
        }
    }

    fn cut_off(&mut self, peer: PeerId, fault: Fault, now: Instant) {
        if self.may_speak(peer, now).is_err() {
            return;
        }
        let from = self.neighbours.get(&peer).and_then(|n| n.from);
        if self.refused_peers.len() >= MAX_REFUSED {
            forget_first(&mut self.refused_peers, |(until, _)| *until);
        }
        let until = now.after_ms(REFUSED_MS);
        self.refused_peers.insert(peer, (until, from));
        tracing::warn!(
            "peer {} is cut off for {} minutes: {fault}",
            peer.short(),
            REFUSED_MS / 60_000
        );
        self.to_close.push(peer);
        if let Some(from) = from {
            let of_address = (self.refused_peers.values())
                .filter(|(until, other)| *until > now && *other == Some(from));
            if of_address.count() >= MAX_KEYS_CUT_OFF {
                self.refuse_address(from, now);
            }
        }
    }

    fn audit(&mut self, now: Instant) {
        let mut noisy = Vec::new();
        for (peer, neighbour) in &mut self.neighbours {
            let mut arrived = 0;
            neighbour.lines.retain_mut(|(line, counted)| {
                let total = line.arrived();
                arrived += total - *counted;
                *counted = total;
                // The other holder is the socket.
                Arc::strong_count(line) > 1
            });
            let heard = std::mem::take(&mut neighbour.heard);
            neighbour
                .allowance
                .make_good(heard.saturating_sub(arrived), now);
            if !neighbour.allowance.bear(arrived.saturating_sub(heard), now) {
                noisy.push(*peer);
            }
        }
        for peer in noisy {
            self.cut_off(peer, Fault::Noise, now);
        }
    }
}

/// Drops the entry that comes first in the order of `key`.
fn forget_first<K: Ord + Copy, V>(map: &mut BTreeMap<K, V>, key: impl Fn(&V) -> Instant) {
    let first = map.iter().min_by_key(|(_, value)| key(value));
    if let Some(first) = first.map(|(first, _)| *first) {
        map.remove(&first);
    }
}

#[cfg(test)]
mod tests;
