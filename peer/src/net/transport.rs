//! Control over QUIC: a libp2p transport whose connections are iroh streams.
//!
//! An address is `/p2p/PEER`: iroh knows where that peer is and how to reach it (see `quic`). A connection is one
//! bidirectional stream; Noise and Yamux run above it as they do above TCP, so nothing above this file can tell the two
//! apart. The dialing side writes first, which Noise does anyway.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, Ready, ready};
use futures::{AsyncRead, AsyncWrite, FutureExt};
use iroh::endpoint::{Accepting, Connection, RecvStream, SendStream};
use iroh::protocol::{AcceptError, ProtocolHandler};
use libp2p::Multiaddr;
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use tokio::io::ReadBuf;
use tokio::sync::mpsc;
use tributary_protocol::id::PeerId;

use super::admission::Admission;
use super::handshakes::Places;
use super::keys;
use super::quic::Quic;
use super::remote::Remote;

/// What two programs agree on before the first byte of control.
pub(super) const ALPN: &[u8] = b"tributary/1/control";
/// Connections that wait for the swarm; it takes each at its next turn.
const MAX_WAITING: usize = 64;
/// A peer that connects opens its stream at once.
const FIRST_STREAM: Duration = Duration::from_secs(10);

/// One bidirectional stream, and the connection that it is the only use of.
pub(super) struct Stream {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.close(0u32.into(), b"");
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let receive = Pin::new(&mut self.receive);
        let read = tokio::io::AsyncRead::poll_read(receive, cx, &mut buffer);
        read.map_ok(|()| buffer.filled().len())
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        tokio::io::AsyncWrite::poll_write(Pin::new(&mut self.send), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        tokio::io::AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        tokio::io::AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx)
    }
}

/// A connection that a peer opened.
pub(super) struct Opened {
    peer: PeerId,
    stream: Stream,
}

/// Takes connections of the control plane from iroh's router and hands them to the transport.
#[derive(Clone)]
pub(super) struct ControlProtocol {
    quic: Quic,
    admission: Admission,
    handshakes: Places,
    opened: mpsc::Sender<Opened>,
}

impl fmt::Debug for ControlProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlProtocol").finish_non_exhaustive()
    }
}

impl ProtocolHandler for ControlProtocol {
    async fn on_accepting(&self, accepting: Accepting) -> Result<Connection, AcceptError> {
        accept_key(&self.admission, &self.handshakes, accepting).await
    }

    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let peer = keys::from_iroh(&connection.remote_id());
        only_one_stream(&connection);
        // Until its stream is there, it has a place among those that have not finished: silence would cost nothing.
        let first = async {
            let first = tokio::time::timeout(FIRST_STREAM, connection.accept_bi()).await;
            first.map_err(io::Error::from)?.map_err(io::Error::other)
        };
        let first = self.handshakes.clone().hold(Some(Remote::Key(peer)), first);
        let (send, receive) = first.await.map_err(AcceptError::from_err)?;
        self.quic.paths().on_quic(peer, &connection);
        let stream = Stream {
            connection,
            send,
            receive,
        };
        // A swarm that takes none any more is about to stop.
        let _ = self.opened.try_send(Opened { peer, stream });
        Ok(())
    }
}

/// A control connection is one stream; what else the other side opens would be held and never read.
fn only_one_stream(connection: &Connection) {
    connection.set_max_concurrent_uni_streams(0u32.into());
    connection.set_max_concurrent_bi_streams(1u32.into());
}

/// Finishes a handshake of QUIC in one of the bounded places, and refuses keys that were cut off or that come too often
/// through a relay, whose address tells nothing of them.
pub(super) async fn accept_key(
    admission: &Admission,
    handshakes: &Places,
    accepting: Accepting,
) -> Result<Connection, AcceptError> {
    let from = Remote::of_incoming(&accepting.remote_addr());
    let handshake = async { Ok(accepting.await) };
    let handshake = handshakes.clone().hold(from, handshake).await;
    let connection = handshake.map_err(AcceptError::from_err)??;
    let peer = keys::from_iroh(&connection.remote_id());
    admission.may_speak(peer).map_err(AcceptError::from_err)?;
    if let Some(key @ Remote::Key(_)) = from {
        (admission.may_connect(key.ip())).map_err(AcceptError::from_err)?;
    }
    Ok(connection)
}

/// The transport. Listens on no socket of its own: what the router accepts arrives here.
pub(super) struct QuicTransport {
    me: Multiaddr,
    quic: Quic,
    opened: mpsc::Receiver<Opened>,
    listener: Option<(ListenerId, bool)>,
}

/// The transport, and the handler that feeds it.
pub(super) fn new(
    me: PeerId,
    quic: Quic,
    admission: Admission,
    handshakes: Places,
) -> (QuicTransport, ControlProtocol) {
    let (sender, opened) = mpsc::channel(MAX_WAITING);
    let transport = QuicTransport {
        me: address(me).unwrap_or_else(Multiaddr::empty),
        quic: quic.clone(),
        opened,
        listener: None,
    };
    let protocol = ControlProtocol {
        quic,
        admission,
        handshakes,
        opened: sender,
    };
    (transport, protocol)
}

/// The address of a peer that iroh finds.
pub(super) fn address(peer: PeerId) -> Option<Multiaddr> {
    let peer = keys::to_libp2p(peer)?;
    Some(Multiaddr::empty().with(Protocol::P2p(peer)))
}

/// The peer of such an address; nothing of any other.
pub(super) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    let mut parts = address.iter();
    match (parts.next()?, parts.next()) {
        (Protocol::P2p(peer), None) => keys::from_libp2p(&peer),
        _ => None,
    }
}

impl Transport for QuicTransport {
    type Output = Stream;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Stream>>;
    type Dial = BoxFuture<'static, io::Result<Stream>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        if address != self.me {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.listener = Some((id, false));
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let is_ours = self.listener.is_some_and(|(ours, _)| ours == id);
        if is_ours {
            self.listener = None;
        }
        is_ours
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(peer) = peer_of(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        Ok(dial(self.quic.clone(), peer).boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let me = self.me.clone();
        let Some((listener_id, is_told)) = &mut self.listener else {
            return Poll::Pending;
        };
        let listener_id = *listener_id;
        if !*is_told {
            *is_told = true;
            let listen_addr = me;
            return Poll::Ready(TransportEvent::NewAddress {
                listener_id,
                listen_addr,
            });
        }
        let Some(Opened { peer, stream }) = futures::ready!(self.opened.poll_recv(cx)) else {
            return Poll::Pending;
        };
        let Some(send_back_addr) = address(peer) else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        Poll::Ready(TransportEvent::Incoming {
            listener_id,
            upgrade: ready(Ok(stream)),
            local_addr: me,
            send_back_addr,
        })
    }
}

async fn dial(quic: Quic, peer: PeerId) -> io::Result<Stream> {
    let unknown = || io::Error::other("nothing is known of where that peer is");
    let address = quic.address_of(peer).ok_or_else(unknown)?;
    let connection = quic.endpoint().connect(address, ALPN).await;
    let connection = connection.map_err(io::Error::other)?;
    only_one_stream(&connection);
    let (send, receive) = connection.open_bi().await.map_err(io::Error::other)?;
    quic.paths().on_quic(peer, &connection);
    Ok(Stream {
        connection,
        send,
        receive,
    })
}
