//! One connection to the relay, from its first byte until the client has shown its key.
//!
//! iroh's own server watches a connection until its upgrade to the relay protocol and no longer: a client that is silent
//! after that would keep the connection for ever, unknown. Here each connection has a number, which travels to the
//! admission in a header of the request; a connection whose number does not arrive there in time is closed.

use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use iroh_relay::http::RELAY_PATH;
use iroh_relay::server::RelayService;
use iroh_relay::server::http_server::RelayServiceWithNotify;
use iroh_relay::server::streams::MaybeTlsStream;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// Carries the number. What a client sends under this name is replaced.
const NUMBER: HeaderName = HeaderName::from_static("x-tributary-connection");

/// Connections whose clients have not shown a key yet. All clones are one list.
#[derive(Clone, Default)]
pub(super) struct Pending(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    next: u64,
    by_number: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Pending {
    fn enter(&self) -> (u64, oneshot::Receiver<()>) {
        let (send, proven) = oneshot::channel();
        let mut held = self.0.lock();
        let number = held.next;
        held.next += 1;
        held.by_number.insert(number, send);
        (number, proven)
    }

    fn leave(&self, number: u64) {
        self.0.lock().by_number.remove(&number);
    }

    /// The client of the connection with these headers has shown its key.
    pub(super) fn proven(&self, headers: &HeaderMap) {
        let number = headers.get(&NUMBER).and_then(|text| text.to_str().ok());
        let number = number.and_then(|text| text.parse().ok());
        let waiting = number.and_then(|n: u64| self.0.lock().by_number.remove(&n));
        if let Some(waiting) = waiting {
            // Nobody waits when the time was just up; the connection is closed then.
            let _ = waiting.send(());
        }
    }
}

/// What every connection is served with.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) service: RelayService,
    pub(super) tls: TlsAcceptor,
    pub(super) pending: Pending,
    /// From the first byte to the proof of the key.
    pub(super) handshake: Duration,
}

impl Serving {
    /// Returns when the relay protocol has the connection or it is closed, within the time of a handshake.
    pub(super) async fn shake(self, stream: TcpStream) -> io::Result<()> {
        let stream = stream.into_std()?;
        // The library owns the stream after the upgrade; this is how it is closed from here.
        let handle = stream.try_clone()?;
        let stream = TcpStream::from_std(stream)?;
        let (number, proven) = self.pending.enter();
        let talk = async {
            match self.talk(stream, number).await {
                // An error means that the client was denied or left.
                Ok(true) => drop(proven.await),
                Ok(false) => {}
                Err(why) => tracing::debug!("a handshake with the relay failed: {why}"),
            }
        };
        let done = tokio::time::timeout(self.handshake, talk).await;
        self.pending.leave(number);
        match done {
            Ok(()) => Ok(()),
            Err(_) => handle.shutdown(Shutdown::Both),
        }
    }

    /// TLS and HTTP; true when the relay protocol has begun.
    async fn talk(&self, stream: TcpStream, number: u64) -> Result<bool, String> {
        let stream = self.tls.accept(stream).await.map_err(|e| e.to_string())?;
        let numbered = Numbered {
            relay: RelayServiceWithNotify::new(self.service.clone(), Arc::default()),
            number,
            asked: Arc::default(),
        };
        let asked = numbered.asked.clone();
        let io = TokioIo::new(MaybeTlsStream::Tls(stream));
        let serve = http1::Builder::new().serve_connection(io, numbered);
        (serve.with_upgrades().await).map_err(|e| e.to_string())?;
        Ok(asked.load(Ordering::Relaxed))
    }
}

/// Puts the number of its connection into each request for the relay protocol.
struct Numbered {
    relay: RelayServiceWithNotify,
    number: u64,
    /// Whether there was one.
    asked: Arc<AtomicBool>,
}

/// What iroh answers a request with.
type Relay = RelayServiceWithNotify;

impl Service<Request<Incoming>> for Numbered {
    type Response = <Relay as Service<Request<Incoming>>>::Response;
    type Error = <Relay as Service<Request<Incoming>>>::Error;
    type Future = <Relay as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if request.uri().path() == RELAY_PATH {
            self.asked.store(true, Ordering::Relaxed);
        }
        let number = HeaderValue::from(self.number);
        request.headers_mut().insert(NUMBER, number);
        self.relay.call(request)
    }
}
