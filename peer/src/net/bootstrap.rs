//! What became of the addresses that the owner gave: whether the peer that is meant answers there, and why not.
//!
//! A wrong id, a dead port and somebody else's program look alike from outside: nothing happens. So each address that
//! fails is told of in the log once, with the reason, and stays among the warnings until it answers.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::SocketAddr;

use libp2p::swarm::DialError;
use tributary_protocol::id::PeerId;
use tributary_protocol::time::Instant;

use super::address::Address;
use super::contacts::Target;
use super::hello::Contact;
use super::task::Task;
use crate::health::Warning;

/// How often it is looked whether another process has this peer's key.
const LOOK_ELSEWHERE_MS: u64 = 30_000;

/// How often two processes that may share a key are told of each other.
const TELL_AGAIN_MS: u64 = 5_000;

/// Addresses of the owner, and where somebody speaks in this peer's name.
#[derive(Debug, Default)]
pub(super) struct Bootstrap {
    places: BTreeMap<Address, Place>,
    elsewhere: Elsewhere,
}

/// Another process with this peer's key.
#[derive(Debug, Default)]
struct Elsewhere {
    /// Where a neighbour says that this peer is.
    heard: Option<SocketAddr>,
    /// Where it is being looked now.
    looking: Option<SocketAddr>,
    /// Whether what answers there has the key: only then it is no rumour.
    is_proven: bool,
    /// Not looked at again before.
    not_before: Instant,
    /// No two processes of another peer are told of each other again before.
    not_told_before: Instant,
}

/// What is known of an address.
#[derive(Debug, Default)]
struct Place {
    /// Why nobody answers there.
    why: Option<String>,
    /// Somebody has answered there: a peer that goes away is no mistake of the owner's.
    was_reached: bool,
}

/// A reason that was not told before.
#[derive(Debug)]
pub(super) struct News {
    warning: Warning,
    was_reached: bool,
}

impl Bootstrap {
    pub(super) fn new(me: PeerId, addresses: &[Address]) -> Self {
        let mut bootstrap = Self::default();
        for address in addresses {
            bootstrap.keep(me, address);
        }
        bootstrap
    }

    /// Looks after this address as well. One that names this peer itself is never dialed, which is news.
    pub(super) fn keep(&mut self, me: PeerId, address: &Address) -> Option<News> {
        let own = "it names this peer itself; give the address of another".to_owned();
        let why = (address.peer() == Some(me)).then_some(own);
        let place = self.places.entry(address.clone()).or_default();
        if why.is_none() || place.why == why {
            return None;
        }
        place.why = why;
        warning(address, place).map(|warning| News {
            warning,
            was_reached: false,
        })
    }

    /// A dial failed for these reasons, by address. Gives what is news of it.
    fn failed(
        &mut self,
        target: &Target,
        why: impl Fn(Option<SocketAddr>) -> Option<String>,
    ) -> Vec<News> {
        let mut news = Vec::new();
        for (address, place) in &mut self.places {
            if !is_meant(address, target) {
                continue;
            }
            let why = why(address.socket());
            if why.is_some() && place.why != why {
                place.why = why;
                let was_reached = place.was_reached;
                news.extend(warning(address, place).map(|warning| News {
                    warning,
                    was_reached,
                }));
            }
        }
        news
    }

    /// Somebody answered under these names. Gives the addresses that had failed before.
    fn answered(&mut self, targets: &[Target]) -> Vec<Address> {
        let mut news = Vec::new();
        for (address, place) in &mut self.places {
            if targets.iter().any(|target| is_meant(address, target)) {
                place.was_reached = true;
                news.extend(place.why.take().map(|_| address.clone()));
            }
        }
        news
    }

    fn warnings(&self) -> Vec<Warning> {
        let warnings = self
            .places
            .iter()
            .map(|(address, place)| warning(address, place));
        let elsewhere = self.elsewhere.heard.or(self.elsewhere.looking);
        let elsewhere = elsewhere.filter(|_| self.elsewhere.is_proven);
        let elsewhere = elsewhere.map(|socket| Warning::KeyElsewhere(socket.to_string()));
        elsewhere.into_iter().chain(warnings.flatten()).collect()
    }
}

fn warning(address: &Address, place: &Place) -> Option<Warning> {
    place.why.as_ref().map(|why| Warning::Unreached {
        address: address.to_string(),
        why: why.clone(),
    })
}

/// Whether a dial to `target` is one to this address.
fn is_meant(address: &Address, target: &Target) -> bool {
    match target {
        Target::Peer(peer) => address.peer() == Some(*peer),
        Target::Socket(socket) => address.peer().is_none() && address.socket() == Some(*socket),
    }
}

impl Task {
    /// Tells of addresses that are of no use before any is dialed.
    pub(super) fn tell_unreached(&self) {
        let warnings = self.bootstrap.warnings();
        warnings
            .iter()
            .for_each(|warning| tracing::warn!("{warning}"));
        *self.shared.unreached.lock() = warnings;
    }

    /// A dial came to nothing.
    pub(super) fn on_unreached(&mut self, target: Target, error: &DialError) {
        tracing::debug!("could not reach {target:?}: {error}");
        let news = self
            .bootstrap
            .failed(&target, |socket| words(error, socket));
        self.tell(&news);
        if let Target::Socket(socket) = target
            && self.bootstrap.elsewhere.looking == Some(socket)
        {
            self.on_elsewhere(socket, matches!(error, DialError::LocalPeerId { .. }));
            return;
        }
        self.contacts.failed(target, self.now());
    }

    /// Somebody answered and was sent away. Whether that was told, because the owner gave its address.
    pub(super) fn on_unfit(&mut self, peer: PeerId, why: &str) -> bool {
        let targets = self.contacts.targets(peer);
        let why = |_: Option<SocketAddr>| Some(why.to_owned());
        let news: Vec<News> = (targets.iter())
            .flat_map(|target| self.bootstrap.failed(target, why))
            .collect();
        self.tell(&news);
        let meant = |address: &Address| targets.iter().any(|target| is_meant(address, target));
        self.bootstrap.places.keys().any(meant)
    }

    /// A peer is there, its greeting checked.
    pub(super) fn on_reached(&mut self, peer: PeerId) {
        let targets = self.contacts.targets(peer);
        for address in self.bootstrap.answered(&targets) {
            tracing::info!("peer {} answers at {address} now", peer.short());
        }
        *self.shared.unreached.lock() = self.bootstrap.warnings();
    }

    /// What a connected peer says of itself. One that says two things in turn may be two processes, and then each of
    /// them should hear of the other: requests go to the connections of a peer in turn.
    pub(super) fn on_introduced(&mut self, contact: Contact) {
        let peer = contact.peer;
        let before = self.contacts.contact(&peer);
        let moved = before.is_some_and(|before| before.control != contact.control);
        self.contacts.introduce(contact);
        let (now, elsewhere) = (self.now(), &mut self.bootstrap.elsewhere);
        // Both answer, and so say two things again.
        if moved && self.state.greeted.contains(&peer) && now >= elsewhere.not_told_before {
            elsewhere.not_told_before = now.after_ms(TELL_AGAIN_MS);
            self.greet(peer);
            self.greet(peer);
        }
    }

    /// A neighbour says where this peer is. Where it is not, somebody else may speak in its name.
    pub(super) fn on_own_name(&mut self, contact: &Contact) {
        let own: Vec<SocketAddr> = (self.swarm.listeners())
            .filter_map(|address| Address(address.clone()).socket())
            .collect();
        let sockets = contact
            .control
            .iter()
            .map(|socket| SocketAddr::from(*socket));
        let mut others = sockets.filter(|socket| !own.contains(socket));
        if !self.bootstrap.elsewhere.is_proven
            && let Some(socket) = others.next()
        {
            self.bootstrap.elsewhere.heard = Some(socket);
        }
    }

    /// Looks who answers where a neighbour says that this peer is.
    pub(super) fn look_elsewhere(&mut self) {
        let (now, elsewhere) = (self.now(), &mut self.bootstrap.elsewhere);
        if now < elsewhere.not_before {
            return;
        }
        // Somebody else answered where it was looked last.
        if elsewhere.looking.take().is_some() {
            elsewhere.is_proven = false;
        }
        if let Some(socket) = elsewhere.heard.take() {
            elsewhere.looking = Some(socket);
            elsewhere.not_before = now.after_ms(LOOK_ELSEWHERE_MS);
            self.dial(Target::Socket(socket), vec![socket]);
        }
    }

    fn on_elsewhere(&mut self, socket: SocketAddr, has_key: bool) {
        let elsewhere = &mut self.bootstrap.elsewhere;
        let is_news = has_key && !elsewhere.is_proven;
        elsewhere.is_proven = has_key;
        elsewhere.looking = None;
        elsewhere.heard = has_key.then_some(socket);
        if is_news {
            tracing::error!("{}", Warning::KeyElsewhere(socket.to_string()));
        }
        *self.shared.unreached.lock() = self.bootstrap.warnings();
    }

    pub(super) fn tell(&self, news: &[News]) {
        for News {
            warning,
            was_reached,
        } in news
        {
            match was_reached {
                true => tracing::info!("{warning}"),
                false => tracing::warn!("{warning}"),
            }
        }
        if !news.is_empty() {
            *self.shared.unreached.lock() = self.bootstrap.warnings();
        }
    }
}

/// Why nobody who is meant answers at `socket`, or anywhere where none is named. Nothing where that was not tried to the end.
fn words(error: &DialError, socket: Option<SocketAddr>) -> Option<String> {
    match error {
        DialError::WrongPeerId { obtained, .. } => Some(format!(
            "the peer that answers there is {obtained}; mend the id in the address, or ask for the new one"
        )),
        DialError::LocalPeerId { .. } => Some(
            "what answers there has the key of this peer: it is this daemon itself, or a copy of this home that runs \
             as well"
                .to_owned(),
        ),
        DialError::Transport(errors) => {
            let there = errors.iter().find(|(at, _)| Address(at.clone()).socket() == socket);
            let (_, error) = there.or(errors.first())?;
            Some(reason(error))
        }
        DialError::NoAddresses
        | DialError::DialPeerConditionFalse(_)
        | DialError::Aborted
        | DialError::Denied { .. } => None,
    }
}

/// What the system said, below what each layer adds. Layers wrap its errors in types of their own, and pass on the text.
fn reason(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    match kind(&text) {
        Some(io::ErrorKind::ConnectionRefused) => {
            "nobody listens there; is that daemon running, and is the port right?".to_owned()
        }
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
            "there is no way from here to that machine".to_owned()
        }
        Some(io::ErrorKind::TimedOut) => unanswered(),
        _ if text.to_lowercase().contains("timeout") => unanswered(),
        _ => format!("what answers there is no Tributary peer, or it has no place left ({text})"),
    }
}

/// What kind of error the system's number at the end of a text stands for.
fn kind(text: &str) -> Option<io::ErrorKind> {
    let (_, number) = text.rsplit_once("(os error ")?;
    let number = number.strip_suffix(')')?.parse().ok()?;
    Some(io::Error::from_raw_os_error(number).kind())
}

fn unanswered() -> String {
    "no answer in time; is the machine on, and does its firewall let the port through?".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    fn address(port: u16, peer: Option<PeerId>) -> Address {
        Address::new(SocketAddr::from(([127, 0, 0, 1], port)), peer)
    }

    fn told(news: &[News]) -> String {
        let warnings: Vec<Warning> = news.iter().map(|news| news.warning.clone()).collect();
        said(&warnings)
    }

    fn said(warnings: &[Warning]) -> String {
        let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        texts.join("\n")
    }

    #[test]
    fn an_address_that_fails_is_told_of_once_until_it_answers() {
        let peer = Identity::generate().peer_id();
        let me = Identity::generate().peer_id();
        let mut bootstrap = Bootstrap::new(me, &[address(1, Some(peer)), address(2, None)]);
        assert_eq!(said(&bootstrap.warnings()), "", "nothing was tried");
        let named = Target::Peer(peer);
        let refused = |_: Option<SocketAddr>| Some("nobody listens there".to_owned());
        let news = told(&bootstrap.failed(&named, refused));
        assert!(
            news.contains("/tcp/1/p2p/") && news.contains("nobody listens"),
            "{news}"
        );
        assert_eq!(told(&bootstrap.failed(&named, refused)), "", "told twice");
        assert_eq!(said(&bootstrap.warnings()), news);
        let other = |_: Option<SocketAddr>| Some("no answer in time".to_owned());
        assert!(told(&bootstrap.failed(&named, other)).contains("no answer"));
        assert_eq!(
            bootstrap.answered(std::slice::from_ref(&named)),
            [address(1, Some(peer))]
        );
        assert_eq!(said(&bootstrap.warnings()), "");
        assert_eq!(bootstrap.answered(&[named]), [], "no news");
        let socket = Target::Socket(([127, 0, 0, 1], 2).into());
        assert!(told(&bootstrap.failed(&socket, refused)).contains("/tcp/2"));
    }

    #[test]
    fn a_peer_that_is_told_to_start_with_itself_says_so() {
        let me = Identity::generate().peer_id();
        let bootstrap = Bootstrap::new(me, &[address(1, Some(me))]);
        let said = said(&bootstrap.warnings());
        assert!(said.contains("this peer itself"), "{said}");
    }

    #[test]
    fn reasons_are_found_below_what_each_layer_adds() {
        let refused = std::net::TcpStream::connect("127.0.0.1:1").unwrap_err();
        let wrapped = io::Error::other(io::Error::other(refused));
        assert!(reason(&wrapped).contains("nobody listens"));
        let late = io::Error::other("Timeout has been reached");
        assert!(reason(&late).contains("no answer in time"));
        let strange = io::Error::other("Handshake failed");
        assert!(reason(&strange).contains("Handshake failed"));
    }
}
