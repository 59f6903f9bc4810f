//! Whom this peer knows, and whom it should dial now.
//!
//! Pure bookkeeping: the network task feeds it greetings and outcomes of dials, and asks whom to try.
//!
//! Anybody can invent peers, so the table has two parts. *Tried* contacts answered a dial of ours with the
//! right key. All others are *new*: hearsay, or what a peer that dialed us says of itself. When either
//! part is full somebody is drawn to go: among the new from the network, and there from the teller, that
//! brought the most; among the tried from the network that has the most. So a teller that invents peers
//! replaces its own. Dials alternate between both parts, tellers take turns, and half of the room for
//! dials is never given to new contacts: inventions delay a real contact by their share and keep none
//! out. Only those that spoke for themselves are passed on. Connections that others opened count for
//! half of what this peer wants, so that they cannot make it stop looking.
//!
//! Networks are those of `fair`. Buckets by a secret hash, as elsewhere, would bound a teller's share as
//! well, but only on average, and would make peers of one network collide that nobody crowds out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rand::rngs::StdRng;
use tributary_protocol::id::{PeerId, RunId};
use tributary_protocol::time::Instant;

use super::address::Address;
use super::fair;
use super::hello::{Contact, MAX_ADDRESSES, MAX_RELAYS, MAX_RUNS, RelayPlace};
use super::nearby::MAX_NEARBY;

/// New contacts that are remembered: eight greetings full of them.
const MAX_NEW: usize = 512;
/// Tried contacts that are remembered, connected ones not counted.
const MAX_TRIED: usize = 512;
/// Connections at which this peer opens no more by itself; gossip needs about six, small runs are fully
/// meshed.
const WANTED_CONNECTIONS: usize = 32;
/// Connections that it wants to have opened itself, however many others opened.
const WANTED_OPENED: usize = 16;
/// Addresses that the owner may give; each is dialed for ever.
const MAX_BOOTSTRAP: usize = 64;
/// First wait after a failed dial, in milliseconds.
const FIRST_WAIT_MS: u64 = 250;
/// Longest wait: a peer that comes back is found within this time.
const LONGEST_WAIT_MS: u64 = 15_000;
/// Longest wait for a contact that never answered.
const LONGEST_WAIT_NEW_MS: u64 = 60_000;
/// A dial that says nothing for so long is forgotten, and may be tried again.
const DIAL_TIMEOUT_MS: u64 = 20_000;

/// Whom to dial: a known peer, or whoever answers at an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Peer(PeerId),
    Socket(SocketAddr),
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    not_before: Instant,
    wait_ms: u64,
    under_way: bool,
}

/// A contact, and how it came here.
#[derive(Debug)]
struct Entry {
    contact: Contact,
    /// Who told of it first, and from which network.
    teller: PeerId,
    network: IpAddr,
    /// It answered a dial of ours.
    tried: bool,
    /// It said this of itself.
    spoke: bool,
}

/// A connected peer.
#[derive(Clone, Copy, Debug)]
struct Link {
    network: IpAddr,
    opened: bool,
}

/// The contacts that this peer knows, and which of them it should dial now.
#[derive(Debug)]
pub(super) struct Contacts {
    me: PeerId,
    bootstrap: Vec<Address>,
    /// Who answered at a bootstrap address that names nobody.
    answered: BTreeMap<SocketAddr, PeerId>,
    contacts: BTreeMap<PeerId, Entry>,
    connected: BTreeMap<PeerId, Link>,
    nearby: BTreeSet<PeerId>,
    attempts: BTreeMap<Target, Attempt>,
    /// Counts changes that neighbours have not been told of.
    version: u64,
    /// Counts all changes.
    revision: u64,
    dice: StdRng,
}

impl Contacts {
    pub(super) fn new(me: PeerId, bootstrap: Vec<Address>, dice: StdRng) -> Self {
        Self {
            me,
            bootstrap,
            answered: BTreeMap::new(),
            contacts: BTreeMap::new(),
            connected: BTreeMap::new(),
            nearby: BTreeSet::new(),
            attempts: BTreeMap::new(),
            version: 0,
            revision: 0,
            dice,
        }
    }

    /// Dials this address from now on, as if it had been there from the start.
    pub(super) fn keep(&mut self, address: Address) {
        if !self.bootstrap.contains(&address) && self.bootstrap.len() < MAX_BOOTSTRAP {
            self.bootstrap.push(address);
        }
    }

    /// A peer that the owner or an earlier start knows: it is dialed before those that others tell of.
    pub(super) fn remember(&mut self, contact: Contact) {
        let peer = contact.peer;
        if peer == self.me {
            return;
        }
        if self.contacts.contains_key(&peer) {
            self.hear(self.me, contact);
            return;
        }
        let entry = Entry {
            contact,
            teller: self.me,
            network: Ipv4Addr::UNSPECIFIED.into(),
            tried: true,
            spoke: false,
        };
        self.contacts.insert(peer, entry);
        self.revision += 1;
        self.trim();
    }

    /// A peer of the local network, which is dialed whatever it follows.
    pub(super) fn on_nearby(&mut self, contact: Contact) {
        let peer = contact.peer;
        if self.nearby.len() < MAX_NEARBY || self.nearby.contains(&peer) {
            self.nearby.insert(peer);
            self.hear(self.me, contact);
        }
    }

    /// It is heard no more.
    pub(super) fn on_not_nearby(&mut self, peer: &PeerId) {
        self.nearby.remove(peer);
    }

    /// Peers of the local network.
    pub(super) fn nearby(&self) -> &BTreeSet<PeerId> {
        &self.nearby
    }

    /// Whether the owner asked for this peer, or it is near: it is dialed for ever, and never forgotten.
    fn is_kept(&self, peer: &PeerId) -> bool {
        self.nearby.contains(peer) || self.bootstrap.iter().any(|a| a.peer() == Some(*peer))
    }

    /// Contacts worth remembering until the next start: those that answered, the connected first.
    pub(super) fn worth_remembering(&self, limit: usize) -> Vec<Contact> {
        let mut proven: Vec<(&PeerId, &Entry)> = (self.contacts.iter())
            .filter(|(peer, entry)| entry.tried || self.connected.contains_key(*peer))
            .filter(|(_, entry)| entry.contact.is_reachable())
            .collect();
        proven.sort_by_key(|(peer, _)| !self.connected.contains_key(*peer));
        let contacts = proven.into_iter().map(|(_, entry)| entry.contact.clone());
        contacts.take(limit).collect()
    }

    /// Relays that contacts name, with the contact: of those that the owner asked for first, then of the connected, of
    /// those that answered once, and of hearsay, so that inventions push out none that is real.
    pub(super) fn relays(&self, limit: usize) -> Vec<(PeerId, RelayPlace)> {
        let mut named: Vec<(&PeerId, &Entry)> = self.contacts.iter().collect();
        named.retain(|(_, entry)| !entry.contact.relays.is_empty());
        named.sort_by_key(|(peer, entry)| {
            (
                !self.is_kept(peer),
                !self.connected.contains_key(*peer),
                !entry.tried,
            )
        });
        let relays = named.into_iter().flat_map(|(peer, entry)| {
            entry
                .contact
                .relays
                .iter()
                .map(move |relay| (*peer, *relay))
        });
        relays.take(limit).collect()
    }

    /// Changes whenever there is something new to tell.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Changes whenever a contact does.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// What is known of a peer.
    pub(super) fn contact(&self, peer: &PeerId) -> Option<&Contact> {
        self.contacts.get(peer).map(|entry| &entry.contact)
    }

    pub(super) fn contacts(&self) -> impl Iterator<Item = &Contact> {
        self.contacts.values().map(|entry| &entry.contact)
    }

    /// What a connected peer says of itself replaces what others said.
    pub(super) fn introduce(&mut self, contact: Contact) {
        let peer = contact.peer;
        if peer == self.me {
            return;
        }
        let known = self.contacts.get(&peer);
        if known.is_some_and(|entry| entry.spoke && entry.contact == contact) {
            return;
        }
        let tried = known.is_some_and(|entry| entry.tried);
        let entry = Entry {
            contact,
            teller: peer,
            network: self.network_of(&peer),
            tried,
            spoke: true,
        };
        self.contacts.insert(peer, entry);
        self.attempts.remove(&Target::Peer(peer));
        self.version += 1;
        self.revision += 1;
        self.trim();
    }

    /// What a connected peer says of one that is not connected is added to what is known: it never
    /// replaces what the peer said itself, and peers that repeat each other come to rest.
    pub(super) fn hear(&mut self, teller: PeerId, contact: Contact) {
        let peer = contact.peer;
        if peer == self.me || self.connected.contains_key(&peer) {
            return;
        }
        let network = self.network_of(&teller);
        let entry = self.contacts.entry(peer).or_insert_with(|| Entry {
            contact: Contact {
                peer,
                control: Vec::new(),
                data: Vec::new(),
                relays: Vec::new(),
                runs: Vec::new(),
            },
            teller,
            network,
            tried: false,
            spoke: false,
        });
        let known = &mut entry.contact;
        let more_places = add(&mut known.control, &contact.control, MAX_ADDRESSES);
        let more_data = add(&mut known.data, &contact.data, MAX_ADDRESSES);
        let more_relays = add(&mut known.relays, &contact.relays, MAX_RELAYS);
        let more_runs = add(&mut known.runs, &contact.runs, MAX_RUNS);
        if more_places || more_data || more_relays {
            self.attempts.remove(&Target::Peer(peer));
        }
        if more_places || more_data || more_relays || more_runs {
            self.revision += 1;
        }
        self.trim();
    }

    fn network_of(&self, peer: &PeerId) -> IpAddr {
        let link = self.connected.get(peer);
        link.map_or(Ipv4Addr::UNSPECIFIED.into(), |link| link.network)
    }

    /// Lets contacts go beyond the bounds; never one that is connected.
    fn trim(&mut self) {
        for (tried, most) in [(false, MAX_NEW), (true, MAX_TRIED)] {
            let mut held: Vec<(PeerId, &Entry)> = (self.contacts.iter())
                .filter(|(peer, e)| e.tried == tried && !self.connected.contains_key(*peer))
                .filter(|(peer, _)| !self.is_kept(peer))
                .map(|(peer, entry)| (*peer, entry))
                .collect();
            if held.len() <= most {
                continue;
            }
            if !tried {
                held = fair::largest(held, |(_, entry)| entry.network);
                held = fair::largest(held, |(_, entry)| entry.teller);
            }
            let held = fair::largest(held, |(_, entry)| network(&entry.contact));
            let held = held.into_iter().map(|(peer, _)| peer).collect();
            if let Some(peer) = fair::draw(held, &mut self.dice) {
                self.contacts.remove(&peer);
                self.attempts.remove(&Target::Peer(peer));
                self.revision += 1;
            }
        }
    }

    /// Contacts to pass on: those that spoke for themselves and are connected, or answered once.
    /// Networks take turns, so that one cannot fill a greeting.
    pub(super) fn worth_telling(&mut self, to: &PeerId, limit: usize) -> Vec<Contact> {
        let told = |(peer, entry): &(&PeerId, &Entry)| {
            let proven = entry.tried || self.connected.contains_key(*peer);
            *peer != to && entry.spoke && proven && entry.contact.is_reachable()
        };
        let entries: Vec<_> = self.contacts.iter().filter(told).collect();
        let place = |(_, entry): &(&PeerId, &Entry)| network(&entry.contact);
        let mut out = fair::in_turns(entries, place, &mut self.dice);
        // Those we are connected to are alive; they go first.
        out.sort_by_key(|(peer, _)| !self.connected.contains_key(*peer));
        out.truncate(limit);
        out.into_iter()
            .map(|(_, entry)| entry.contact.clone())
            .collect()
    }

    /// A connection with a peer is up; `opened` by ourselves or by it.
    pub(super) fn on_connected(&mut self, peer: PeerId, at: Option<SocketAddr>, opened: bool) {
        let ip = at.map_or(Ipv4Addr::UNSPECIFIED.into(), |at| at.ip());
        let link = self.connected.entry(peer).or_insert(Link {
            network: fair::network(ip),
            opened,
        });
        link.opened |= opened;
        if opened
            && let Some(socket) = at
            && self.bootstrap.iter().any(|b| b.socket() == Some(socket))
        {
            self.answered.insert(socket, peer);
        }
    }

    /// The peer proved to be of use: its next dial starts with the shortest wait again.
    pub(super) fn greeted(&mut self, peer: PeerId) {
        let opened = self.connected.get(&peer).is_some_and(|link| link.opened);
        if opened && let Some(entry) = self.contacts.get_mut(&peer) {
            entry.tried = true;
        }
        for target in self.targets(peer) {
            self.attempts.remove(&target);
        }
    }

    /// Somebody who stopped on purpose is busy for a moment; somebody who keeps sending us away is
    /// asked less and less often.
    pub(super) fn on_disconnected(&mut self, peer: PeerId, now: Instant) {
        self.connected.remove(&peer);
        for target in self.targets(peer) {
            self.failed(target, now);
        }
        self.trim();
    }

    /// The names under which a peer is dialed.
    pub(super) fn targets(&self, peer: PeerId) -> Vec<Target> {
        let sockets = self.answered.iter().filter(|(_, by)| **by == peer);
        let sockets = sockets.map(|(socket, _)| Target::Socket(*socket));
        sockets.chain([Target::Peer(peer)]).collect()
    }

    /// A dial came to nothing: wait twice as long before the next.
    pub(super) fn failed(&mut self, target: Target, now: Instant) {
        let longest = match &target {
            Target::Peer(peer) if self.contacts.get(peer).is_some_and(|entry| !entry.tried) => {
                LONGEST_WAIT_NEW_MS
            }
            _ => LONGEST_WAIT_MS,
        };
        let wait_ms = match self.attempts.get(&target) {
            Some(attempt) => (attempt.wait_ms * 2).min(longest),
            None => FIRST_WAIT_MS,
        };
        let not_before = now.after_ms(wait_ms);
        self.attempts.insert(
            target,
            Attempt {
                not_before,
                wait_ms,
                under_way: false,
            },
        );
    }

    /// Every contact is due at once, whatever became of earlier dials.
    pub(super) fn try_again(&mut self) {
        self.attempts.clear();
    }

    /// Whom to dial now: bootstrap peers, then members of the same runs. Each is given out once until
    /// its dial is settled.
    pub(super) fn due(
        &mut self,
        runs: &BTreeSet<RunId>,
        now: Instant,
    ) -> Vec<(Target, Vec<SocketAddr>)> {
        let mut out = Vec::new();
        let mut wanted = self.bootstraps();
        wanted.retain(|(target, _)| self.is_due(target, now));
        for (target, sockets) in wanted.into_iter().chain(self.members(runs, now)) {
            // A member may be a bootstrap peer as well.
            if self.attempt(&target, now) {
                out.push((target, sockets));
            }
        }
        out
    }

    /// A peer that this one has something to ask: dialed though neither room nor runs would have it, if it is known and due.
    pub(super) fn seek(&mut self, peer: PeerId, now: Instant) -> Option<(Target, Vec<SocketAddr>)> {
        let is_apart = peer != self.me && !self.connected.contains_key(&peer);
        let is_known = is_apart && self.contacts.contains_key(&peer);
        let target = Target::Peer(peer);
        let is_due = is_known && self.attempt(&target, now);
        is_due.then(|| (target, self.sockets(&peer)))
    }

    /// Takes note of a dial; not if one is under way, or failed a moment ago.
    fn attempt(&mut self, target: &Target, now: Instant) -> bool {
        if !self.is_due(target, now) {
            return false;
        }
        let known = self.attempts.get(target);
        let attempt = Attempt {
            not_before: now.after_ms(DIAL_TIMEOUT_MS),
            wait_ms: known.map_or(FIRST_WAIT_MS / 2, |attempt| attempt.wait_ms),
            under_way: true,
        };
        self.attempts.insert(target.clone(), attempt);
        true
    }

    fn is_due(&self, target: &Target, now: Instant) -> bool {
        let attempt = self.attempts.get(target);
        attempt.is_none_or(|attempt| now >= attempt.not_before)
    }

    fn bootstraps(&self) -> Vec<(Target, Vec<SocketAddr>)> {
        let mut out = Vec::new();
        let named = self
            .bootstrap
            .iter()
            .filter(|address| address.socket().is_none());
        let named = named
            .filter_map(Address::peer)
            .chain(self.nearby.iter().copied());
        for peer in named.filter(|peer| *peer != self.me && !self.connected.contains_key(peer)) {
            out.push((Target::Peer(peer), self.sockets(&peer)));
        }
        for address in &self.bootstrap {
            let Some(socket) = address.socket() else {
                continue;
            };
            let peer = address
                .peer()
                .or_else(|| self.answered.get(&socket).copied());
            match peer {
                Some(peer) if peer == self.me || self.connected.contains_key(&peer) => {}
                // A peer's control port may have changed since; both are tried.
                Some(peer) if address.peer().is_some() => {
                    let mut sockets = vec![socket];
                    sockets.extend(self.sockets(&peer));
                    sockets.dedup();
                    out.push((Target::Peer(peer), sockets));
                }
                _ => out.push((Target::Socket(socket), vec![socket])),
            }
        }
        out
    }

    /// Members of the same runs for whom there is room, tried and new in turns.
    fn members(&mut self, runs: &BTreeSet<RunId>, now: Instant) -> Vec<(Target, Vec<SocketAddr>)> {
        let opened = self.connected.values().filter(|link| link.opened).count();
        let wanted = (WANTED_CONNECTIONS.saturating_sub(self.connected.len()))
            .max(WANTED_OPENED.saturating_sub(opened));
        let room = wanted.saturating_sub(self.under_way(now, None));
        let room_for_new = wanted
            .div_ceil(2)
            .saturating_sub(self.under_way(now, Some(false)));
        let due = |(peer, entry): &(&PeerId, &Entry)| {
            entry.contact.shares(runs)
                && entry.contact.is_reachable()
                && !self.connected.contains_key(*peer)
                && self.is_due(&Target::Peer(**peer), now)
        };
        let due = self.contacts.iter().filter(due);
        let (tried, new): (Vec<_>, Vec<_>) = due.partition(|(_, entry)| entry.tried);
        let tried = fair::in_turns(tried, |(_, e)| network(&e.contact), &mut self.dice);
        let new = fair::in_turns(new, |(_, entry)| entry.teller, &mut self.dice);
        let mut new = fair::take_turns(new, |(_, entry)| entry.network);
        new.truncate(room_for_new);
        let both = tried.into_iter().chain(new).collect();
        let mut both = fair::take_turns(both, |(_, entry)| entry.tried);
        both.truncate(room);
        let peers: Vec<PeerId> = both.into_iter().map(|(peer, _)| *peer).collect();
        let target = |peer: PeerId| (Target::Peer(peer), self.sockets(&peer));
        peers.into_iter().map(target).collect()
    }

    /// Dials of known peers that are not settled: of the tried, of the new, or of both.
    fn under_way(&self, now: Instant, tried: Option<bool>) -> usize {
        let counts = |(target, attempt): &(&Target, &Attempt)| {
            let Target::Peer(peer) = target else {
                return false;
            };
            let is_tried = self.contacts.get(peer).is_some_and(|entry| entry.tried);
            attempt.under_way
                && now < attempt.not_before
                && !self.connected.contains_key(peer)
                && tried.is_none_or(|tried| tried == is_tried)
        };
        self.attempts.iter().filter(counts).count()
    }

    fn sockets(&self, peer: &PeerId) -> Vec<SocketAddr> {
        let contact = self.contacts.get(peer);
        contact.map_or_else(Vec::new, |c| {
            (c.contact.control.iter()).map(|s| (*s).into()).collect()
        })
    }
}

/// The network of a contact's first address.
fn network(contact: &Contact) -> IpAddr {
    let first = contact.control.first().or(contact.data.first());
    let ip = first.map_or(Ipv4Addr::UNSPECIFIED.into(), |first| {
        SocketAddr::from(*first).ip()
    });
    fair::network(ip)
}

/// Appends what is new, up to a bound; whether anything was.
fn add<T: Copy + PartialEq>(to: &mut Vec<T>, new: &[T], limit: usize) -> bool {
    let before = to.len();
    for item in new {
        if to.len() < limit && !to.contains(item) {
            to.push(*item);
        }
    }
    to.len() > before
}

#[cfg(test)]
mod tests;
