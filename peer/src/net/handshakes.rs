//! Connections that others opened and whose handshake is not done.
//!
//! A socket costs an attacker nothing, so places for handshakes fill up whatever their number. When they
//! are full, a newcomer is not turned away: somebody else loses its place. It is drawn at random from the
//! network that holds the most places (see `fair`), and there from those that have said nothing: a
//! program that dials speaks with its first packet, so mute sockets only push each other out. While half
//! of the places are taken, silence ends early as well.
//!
//! [`HalfOpen`] is the bookkeeping. [`Handshakes`] lays it around a transport: a connection takes its
//! place when its handshake begins and gives it back when that ends either way.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::core::transport::{
    Boxed, DialOpts, ListenerId, Transport, TransportError, TransportEvent,
};
use libp2p::{Multiaddr, PeerId};
use parking_lot::{Mutex, MutexGuard};
use rand::rngs::StdRng;
use tokio::sync::oneshot;

use super::control_admission::UnknownSockets;
use super::fair;
use super::remote::Remote;

/// Handshakes at once that others began: each holds a few kilobytes and, once it speaks, a signature
/// check. A run of 128 members may begin together.
const MAX_HANDSHAKES: usize = 256;
/// While half of the places are taken, a socket that has said nothing for so long is closed: several
/// round trips around the world.
const SILENCE: Duration = Duration::from_secs(3);

/// One handshake under way.
#[derive(Debug)]
struct Guest {
    /// The network and the address, see `fair`.
    from: (IpAddr, IpAddr),
    remote: Option<Remote>,
    /// Dropped to end the handshake.
    _stay: oneshot::Sender<()>,
}

/// Who holds a place, and who loses it.
#[derive(Debug)]
struct HalfOpen {
    places: usize,
    guests: BTreeMap<u64, Guest>,
    next: u64,
    dice: StdRng,
}

impl HalfOpen {
    fn new(places: usize, dice: StdRng) -> Self {
        Self {
            places,
            guests: BTreeMap::new(),
            next: 0,
            dice,
        }
    }

    /// Gives a place to a newcomer, if need be somebody else's. The receiver ends when it is lost.
    fn enter(
        &mut self,
        remote: Option<Remote>,
        has_spoken: impl Fn(Remote) -> bool,
    ) -> (u64, oneshot::Receiver<()>) {
        while self.guests.len() >= self.places {
            let Some(loser) = self.loser(&has_spoken) else {
                break;
            };
            self.guests.remove(&loser);
        }
        let (stay, lost) = oneshot::channel();
        let ip = remote.map_or(IpAddr::from([0; 4]), |remote| remote.ip());
        let id = self.next;
        self.next += 1;
        self.guests.insert(
            id,
            Guest {
                from: (fair::network(ip), fair::address(ip)),
                remote,
                _stay: stay,
            },
        );
        debug_assert!(self.guests.len() <= self.places);
        (id, lost)
    }

    fn loser(&mut self, has_spoken: impl Fn(Remote) -> bool) -> Option<u64> {
        let all: Vec<(&u64, &Guest)> = self.guests.iter().collect();
        let crowd = fair::largest(all, |(_, guest)| guest.from.0);
        let silent = |guest: &Guest| guest.remote.is_none_or(|remote| !has_spoken(remote));
        let (mute, speaking): (Vec<_>, Vec<_>) =
            crowd.into_iter().partition(|(_, guest)| silent(guest));
        let losers = if mute.is_empty() { speaking } else { mute };
        let losers = fair::largest(losers, |(_, guest)| guest.from.1);
        let losers = losers.into_iter().map(|(id, _)| *id).collect();
        fair::draw(losers, &mut self.dice)
    }

    fn leave(&mut self, id: u64) {
        self.guests.remove(&id);
    }

    fn is_crowded(&self) -> bool {
        self.guests.len() * 2 >= self.places
    }
}

/// The places, shared by the handshakes that hold them.
#[derive(Clone)]
pub(super) struct Places {
    half_open: Arc<Mutex<HalfOpen>>,
    lines: UnknownSockets,
}

impl Places {
    pub(super) fn new(lines: UnknownSockets) -> Self {
        let half_open = HalfOpen::new(MAX_HANDSHAKES, fair::dice());
        Self {
            half_open: Arc::new(Mutex::new(half_open)),
            lines,
        }
    }

    fn open(&self) -> MutexGuard<'_, HalfOpen> {
        self.half_open.lock()
    }

    fn has_spoken(&self, remote: Remote) -> bool {
        self.lines.has_arrived(remote)
    }

    /// Runs a handshake for as long as it keeps its place.
    pub(super) async fn hold<T>(
        self,
        from: Option<Remote>,
        handshake: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let (id, lost) = self.open().enter(from, |remote| self.has_spoken(remote));
        let _place = Place { places: &self, id };
        tokio::select! {
            // What is complete counts, even when its place went to another meanwhile.
            biased;
            done = handshake => done,
            _ = lost => Err(io::Error::other("its place went to another")),
            () = self.silence(from) => Err(io::Error::other("it said nothing")),
        }
    }

    /// Ends when a socket has said nothing for too long while many wait.
    async fn silence(&self, from: Option<Remote>) {
        loop {
            tokio::time::sleep(SILENCE).await;
            let spoke = from.is_some_and(|remote| self.has_spoken(remote));
            if !spoke && self.open().is_crowded() {
                return;
            }
        }
    }
}

/// Gives a place back when the handshake ends, however it does.
struct Place<'a> {
    places: &'a Places,
    id: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.places.open().leave(self.id);
    }
}

/// A transport whose incoming handshakes share a bounded number of places.
pub(super) struct Handshakes<T> {
    inner: Boxed<(PeerId, T)>,
    places: Places,
}

impl<T> Handshakes<T> {
    pub(super) fn new(inner: Boxed<(PeerId, T)>, places: Places) -> Self {
        Self { inner, places }
    }
}

impl<T: Send + 'static> Transport for Handshakes<T> {
    type Output = (PeerId, T);
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<(PeerId, T)>>;
    type Dial = <Boxed<(PeerId, T)> as Transport>::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let event = futures::ready!(Pin::new(&mut self.inner).poll(cx));
        let from = match &event {
            TransportEvent::Incoming { send_back_addr, .. } => Remote::of(send_back_addr),
            _ => None,
        };
        let places = self.places.clone();
        // The place is taken when the handshake is first polled: what the control plane refuses takes none.
        Poll::Ready(event.map_upgrade(|handshake| places.hold(from, handshake).boxed()))
    }
}

#[cfg(test)]
mod tests;
