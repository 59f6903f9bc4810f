//! Connections: how many, and how long a silent one stays.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep};

use super::Refusal;

/// Connections at the same time. Each may keep a head of [`MOST_HEAD_BYTES`] and a body.
pub(super) const MOST_CONNECTIONS: usize = 256;
/// From the opening of a connection, or the end of an answer, to the end of the next request's head.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(15);
/// How long a client may take nothing of what is sent to it.
const WRITE_TIME: Duration = Duration::from_secs(20);
/// Bytes of a request's head: tokens and payments fit, cookies of strangers need not. 8 KiB is the least that the
/// library takes.
const MOST_HEAD_BYTES: usize = 32 << 10;
/// Lines of a request's head; clients of OpenAI send about 20.
const MOST_HEADERS: usize = 64;
/// Wait after an error of the system, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What answers a request.
pub(super) type Answer =
    Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Takes connections until `closing` says so.
pub(super) async fn accept(
    listener: TcpListener,
    answer: Answer,
    places: Arc<Semaphore>,
    mut closing: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::warn!("a connection could not be taken: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Pieces are small, and people wait for them.
        let _ = stream.set_nodelay(true);
        let Ok(place) = places.clone().try_acquire_owned() else {
            tokio::spawn(refuse(stream));
            continue;
        };
        let (answer, closing) = (answer.clone(), closing.clone());
        tokio::spawn(async move {
            serve(stream, answer, closing).await;
            drop(place);
        });
    }
}

async fn refuse(mut stream: TcpStream) {
    let why = "as many connections are open as may be; close some, or wait";
    let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "connections_full", why);
    let body = serde_json::to_string(&refusal.body()).expect("four texts always serialise");
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let told = stream.write_all(answer.as_bytes());
    // Whoever opens too many connections need not hear of it.
    let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
}

async fn serve(stream: TcpStream, answer: Answer, mut closing: watch::Receiver<bool>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answering = answer(request.map(Body::new));
        async move { Ok::<_, std::convert::Infallible>(answering.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_headers(MOST_HEADERS)
        .max_buf_size(MOST_HEAD_BYTES)
        .serve_connection(TokioIo::new(Patient::new(stream)), service);
    let mut connection = std::pin::pin!(connection);
    let closed = async {
        // A server that is gone is closing as well.
        let _ = closing.wait_for(|closing| *closing).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closed => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(why) = ended {
        tracing::debug!("a connection ended: {why}");
    }
}

/// A stream that fails when its other end takes nothing for [`WRITE_TIME`].
struct Patient {
    stream: TcpStream,
    /// Set while a write waits.
    until: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            until: None,
        }
    }

    fn patiently<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.until = None;
            return polled;
        }
        let until = (self.until)
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_TIME)));
        match until.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.patiently(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.patiently(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.patiently(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.patiently(context, polled)
    }
}
