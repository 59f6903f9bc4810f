//! Whom this peer knows, and whom it should dial now.
//!
//! Pure bookkeeping: the network task feeds it greetings and outcomes of dials, and asks whom to try.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use tributary_protocol::id::{PeerId, RunId};
use tributary_protocol::time::Instant;

use super::address::Address;
use super::hello::{Contact, MAX_ADDRESSES, MAX_RUNS};

/// Contacts remembered. Beyond it, new hearsay is not listened to.
const MAX_CONTACTS: usize = 1024;
/// Connections that this peer opens by itself; gossip needs about six, small runs are fully meshed.
const WANTED_CONNECTIONS: usize = 32;
/// Addresses that the owner may give; each is dialed for ever.
const MAX_BOOTSTRAP: usize = 64;
/// First wait after a failed dial, in milliseconds.
const FIRST_WAIT_MS: u64 = 250;
/// Longest wait: a peer that comes back is found within this time.
const LONGEST_WAIT_MS: u64 = 15_000;
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
}

/// See the module.
#[derive(Debug)]
pub(super) struct Book {
    me: PeerId,
    bootstrap: Vec<Address>,
    /// Who answered at a bootstrap address that names nobody.
    answered: BTreeMap<SocketAddr, PeerId>,
    contacts: BTreeMap<PeerId, Contact>,
    connected: BTreeSet<PeerId>,
    attempts: BTreeMap<Target, Attempt>,
    /// Counts changes that neighbours have not been told of.
    version: u64,
}

impl Book {
    pub(super) fn new(me: PeerId, bootstrap: Vec<Address>) -> Self {
        Self {
            me,
            bootstrap,
            answered: BTreeMap::new(),
            contacts: BTreeMap::new(),
            connected: BTreeSet::new(),
            attempts: BTreeMap::new(),
            version: 0,
        }
    }

    /// Dials this address from now on, as if it had been there from the start.
    pub(super) fn keep(&mut self, address: Address) {
        if !self.bootstrap.contains(&address) && self.bootstrap.len() < MAX_BOOTSTRAP {
            self.bootstrap.push(address);
        }
    }

    /// Changes whenever there is something new to tell.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    #[cfg(test)]
    fn contact(&self, peer: &PeerId) -> Option<&Contact> {
        self.contacts.get(peer)
    }

    pub(super) fn contacts(&self) -> impl Iterator<Item = &Contact> {
        self.contacts.values()
    }

    /// What a peer says of itself replaces what others said.
    pub(super) fn learn(&mut self, contact: Contact) {
        let peer = contact.peer;
        if peer == self.me || self.contacts.get(&peer) == Some(&contact) {
            return;
        }
        if self.contacts.len() >= MAX_CONTACTS && !self.contacts.contains_key(&peer) {
            return;
        }
        self.contacts.insert(peer, contact);
        self.attempts.remove(&Target::Peer(peer));
        self.version += 1;
    }

    /// What a connected peer says of itself. It finds room even when hearsay has filled the book:
    /// otherwise a liar that names a thousand peers would keep the real ones out.
    pub(super) fn introduce(&mut self, contact: Contact) {
        if self.contacts.len() >= MAX_CONTACTS && !self.contacts.contains_key(&contact.peer) {
            let hearsay = |peer: &&PeerId| !self.connected.contains(*peer);
            if let Some(least) = self.contacts.keys().find(hearsay).copied() {
                self.contacts.remove(&least);
                self.attempts.remove(&Target::Peer(least));
            }
        }
        self.learn(contact);
    }

    /// What others say of a peer that is not connected is added to what is known: it never replaces
    /// what the peer said itself, and peers that repeat each other come to rest.
    pub(super) fn hear(&mut self, contact: Contact) {
        if self.connected.contains(&contact.peer) {
            return;
        }
        let Some(known) = self.contacts.get(&contact.peer) else {
            return self.learn(contact);
        };
        let mut merged = known.clone();
        add(&mut merged.control, &contact.control, MAX_ADDRESSES);
        add(&mut merged.data, &contact.data, MAX_ADDRESSES);
        add(&mut merged.runs, &contact.runs, MAX_RUNS);
        self.learn(merged);
    }

    /// A contact heard of, worth passing on to somebody who follows `runs`.
    pub(super) fn worth_telling(&self, to: &PeerId, limit: usize) -> Vec<Contact> {
        let mut out: Vec<_> = (self.contacts.values())
            .filter(|c| c.peer != *to && !c.control.is_empty())
            .cloned()
            .collect();
        // Those we are connected to are alive; they go first.
        out.sort_by_key(|c| (!self.connected.contains(&c.peer), c.peer));
        out.truncate(limit);
        out
    }

    pub(super) fn on_connected(&mut self, peer: PeerId, at: Option<SocketAddr>) {
        self.connected.insert(peer);
        if let Some(socket) = at
            && self.bootstrap.iter().any(|b| b.socket() == Some(socket))
        {
            self.answered.insert(socket, peer);
        }
    }

    /// The peer proved to be of use: its next dial starts with the shortest wait again.
    pub(super) fn greeted(&mut self, peer: PeerId) {
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
    }

    fn targets(&self, peer: PeerId) -> Vec<Target> {
        let sockets = self.answered.iter().filter(|(_, by)| **by == peer);
        let sockets = sockets.map(|(socket, _)| Target::Socket(*socket));
        sockets.chain([Target::Peer(peer)]).collect()
    }

    /// A dial came to nothing: wait twice as long before the next.
    pub(super) fn failed(&mut self, target: Target, now: Instant) {
        let wait_ms = match self.attempts.get(&target) {
            Some(attempt) => (attempt.wait_ms * 2).min(LONGEST_WAIT_MS),
            None => FIRST_WAIT_MS,
        };
        let not_before = now.after_ms(wait_ms);
        self.attempts.insert(
            target,
            Attempt {
                not_before,
                wait_ms,
            },
        );
    }

    /// Whom to dial now: bootstrap peers, then members of the same runs. Each is given out once until
    /// its dial is settled.
    pub(super) fn due(
        &mut self,
        runs: &BTreeSet<RunId>,
        now: Instant,
    ) -> Vec<(Target, Vec<SocketAddr>)> {
        let mut out = Vec::new();
        for (target, sockets) in self.wanted(runs) {
            let waiting = self
                .attempts
                .get(&target)
                .is_some_and(|a| now < a.not_before);
            if waiting || sockets.is_empty() {
                continue;
            }
            let wait_ms = self
                .attempts
                .get(&target)
                .map_or(FIRST_WAIT_MS / 2, |a| a.wait_ms);
            let not_before = now.after_ms(DIAL_TIMEOUT_MS);
            self.attempts.insert(
                target.clone(),
                Attempt {
                    not_before,
                    wait_ms,
                },
            );
            out.push((target, sockets));
        }
        out
    }

    fn wanted(&self, runs: &BTreeSet<RunId>) -> Vec<(Target, Vec<SocketAddr>)> {
        let mut out = Vec::new();
        for address in &self.bootstrap {
            let Some(socket) = address.socket() else {
                continue;
            };
            let peer = address
                .peer()
                .or_else(|| self.answered.get(&socket).copied());
            match peer {
                Some(peer) if peer == self.me || self.connected.contains(&peer) => {}
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
        let room = WANTED_CONNECTIONS.saturating_sub(self.connected.len());
        let members = (self.contacts.values())
            .filter(|c| c.shares(runs) && !self.connected.contains(&c.peer))
            .map(|c| (Target::Peer(c.peer), self.sockets(&c.peer)));
        out.extend(members.take(room));
        out
    }

    fn sockets(&self, peer: &PeerId) -> Vec<SocketAddr> {
        let contact = self.contacts.get(peer);
        contact.map_or_else(Vec::new, |c| {
            c.control.iter().map(|s| (*s).into()).collect()
        })
    }
}

/// Appends what is new, up to a bound.
fn add<T: Copy + PartialEq>(to: &mut Vec<T>, new: &[T], limit: usize) {
    for item in new {
        if to.len() < limit && !to.contains(item) {
            to.push(*item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_protocol::hash;

    fn peer(n: u8) -> PeerId {
        PeerId(hash::blob(&[n]))
    }
    fn socket(n: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, n], 4001))
    }
    fn contact(n: u8, runs: &[RunId]) -> Contact {
        Contact {
            peer: peer(n),
            control: vec![socket(n).into()],
            data: Vec::new(),
            runs: runs.to_vec(),
        }
    }
    fn run(n: u8) -> RunId {
        RunId(hash::blob(&[n]))
    }

    #[test]
    fn bootstrap_is_dialed_again_with_growing_waits_until_it_answers() {
        let mut book = Book::new(peer(0), vec![Address::new(socket(1), None)]);
        let runs = BTreeSet::new();
        let target = Target::Socket(socket(1));
        let mut now = Instant(0);
        let mut dials = Vec::new();
        while now.0 < 120_000 {
            if !book.due(&runs, now).is_empty() {
                dials.push(now.0);
                book.failed(target.clone(), now);
            }
            now = now.after_ms(50);
        }
        let gaps: Vec<u64> = dials.windows(2).map(|d| d[1] - d[0]).collect();
        assert!(gaps.is_sorted() && gaps[0] <= 500, "{gaps:?}");
        assert!(*gaps.last().unwrap() <= LONGEST_WAIT_MS + 50, "{gaps:?}");
        book.on_connected(peer(1), Some(socket(1)));
        assert!(
            book.due(&runs, now.after_ms(60_000)).is_empty(),
            "dialed though connected"
        );
        book.on_disconnected(peer(1), now);
        assert_eq!(
            book.due(&runs, now.after_ms(60_000)).len(),
            1,
            "not dialed again"
        );
    }

    #[test]
    fn members_of_the_same_runs_are_dialed_and_strangers_are_not() {
        let mut book = Book::new(peer(0), Vec::new());
        book.hear(contact(1, &[run(1)]));
        book.hear(contact(2, &[run(2)]));
        let due = book.due(&BTreeSet::from([run(1)]), Instant(0));
        assert_eq!(due, [(Target::Peer(peer(1)), vec![socket(1)])]);
        assert!(
            book.due(&BTreeSet::from([run(1)]), Instant(1)).is_empty(),
            "dialed twice at once"
        );
    }

    #[test]
    fn hearsay_adds_to_what_a_peer_said_itself_and_comes_to_rest() {
        let mut book = Book::new(peer(0), Vec::new());
        book.learn(contact(1, &[]));
        let mut news = contact(1, &[run(1)]);
        news.control = vec![socket(9).into()];
        book.hear(news.clone());
        let known = book.contact(&peer(1)).unwrap();
        assert_eq!(known.control, [socket(1).into(), socket(9).into()]);
        assert_eq!(
            known.runs,
            [run(1)],
            "a run joined after the first greeting"
        );
        let version = book.version();
        book.hear(news.clone());
        book.hear(contact(1, &[run(1)]));
        assert_eq!(
            book.version(),
            version,
            "peers that repeat each other never rest"
        );
        book.on_connected(peer(1), None);
        news.control = vec![socket(8).into()];
        book.hear(news);
        assert_eq!(book.contact(&peer(1)).unwrap().control.len(), 2);
        book.learn(contact(0, &[]));
        assert_eq!(book.contact(&peer(0)), None, "knows itself by hearsay");
    }

    #[test]
    fn memory_for_contacts_is_bounded() {
        let mut book = Book::new(peer(0), Vec::new());
        for n in 0..2 * MAX_CONTACTS as u32 {
            let mut one = contact(1, &[]);
            one.peer = PeerId(hash::blob(&n.to_le_bytes()));
            book.hear(one);
        }
        assert_eq!(book.contacts().count(), MAX_CONTACTS);
        let real = contact(7, &[]);
        book.hear(real.clone());
        assert_eq!(book.contact(&real.peer), None, "hearsay displaced hearsay");
        book.on_connected(real.peer, None);
        book.introduce(real.clone());
        assert_eq!(book.contact(&real.peer), Some(&real));
        assert_eq!(book.contacts().count(), MAX_CONTACTS);
    }
}
