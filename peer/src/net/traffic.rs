//! Bytes that really crossed the sockets.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};
use parking_lot::Mutex;
use tributary_protocol::id::PeerId;

use super::admission::SocketMeter;

/// Bytes since the start. Control is counted on the TCP sockets (with the overhead of Noise and Yamux)
/// in the totals, and as message payloads in the figures of one neighbour; payload is blob content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sent on the control plane.
    pub control_up: u64,
    /// Received on the control plane.
    pub control_down: u64,
    /// Blob bytes served.
    pub payload_up: u64,
    /// Blob bytes fetched.
    pub payload_down: u64,
}

impl Traffic {
    /// Everything sent.
    pub fn up(&self) -> u64 {
        self.control_up + self.payload_up
    }
    /// Everything received.
    pub fn down(&self) -> u64 {
        self.control_down + self.payload_down
    }
}

/// Neighbours counted one by one; what further ones send is in the totals only.
const MAX_NEIGHBOURS: usize = 1024;

/// Shared by both planes. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    control_up: AtomicU64,
    control_down: AtomicU64,
    payload_up: AtomicU64,
    payload_down: AtomicU64,
    neighbours: Mutex<BTreeMap<PeerId, Traffic>>,
}

impl Meter {
    pub(super) fn total(&self) -> Traffic {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            control_up: load(&self.0.control_up),
            control_down: load(&self.0.control_down),
            payload_up: load(&self.0.payload_up),
            payload_down: load(&self.0.payload_down),
        }
    }

    pub(super) fn neighbours(&self) -> BTreeMap<PeerId, Traffic> {
        self.0.neighbours.lock().clone()
    }

    fn neighbour(&self, peer: PeerId, change: impl FnOnce(&mut Traffic)) {
        let mut held = self.0.neighbours.lock();
        if held.len() < MAX_NEIGHBOURS || held.contains_key(&peer) {
            change(held.entry(peer).or_default());
        }
    }

    pub(super) fn message_up(&self, peer: PeerId, bytes: usize) {
        self.neighbour(peer, |t| t.control_up += bytes as u64);
    }
    pub(super) fn message_down(&self, peer: PeerId, bytes: usize) {
        self.neighbour(peer, |t| t.control_down += bytes as u64);
    }
    pub(super) fn payload_up(&self, peer: PeerId, bytes: u64) {
        self.0.payload_up.fetch_add(bytes, Ordering::Relaxed);
        self.neighbour(peer, |t| t.payload_up += bytes);
    }
    pub(super) fn payload_down(&self, peer: PeerId, bytes: u64) {
        self.0.payload_down.fetch_add(bytes, Ordering::Relaxed);
        self.neighbour(peer, |t| t.payload_down += bytes);
    }
}

/// A stream whose bytes are counted.
pub(super) struct Counted<S> {
    inner: S,
    meter: Meter,
    line: Arc<SocketMeter>,
}

impl<S> Counted<S> {
    pub(super) fn new(inner: S, meter: Meter, line: Arc<SocketMeter>) -> Self {
        Self { inner, meter, line }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.line.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if let Poll::Ready(Ok(bytes)) = &polled {
            (self.meter.0.control_down).fetch_add(*bytes as u64, Ordering::Relaxed);
            self.line.add(*bytes);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.line.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(bytes)) = &polled {
            (self.meter.0.control_up).fetch_add(*bytes as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
