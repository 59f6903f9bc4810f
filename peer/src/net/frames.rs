//! One message out, one short answer back, each with a length in front and a bound.

use std::io;
use std::sync::Arc;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes asked of the allocator at a time: a claimed length costs a stranger the same bytes.
const STEP: usize = 16 * 1024;

/// Steps that frames under way may hold beyond their first, over all neighbours: 32 MiB, so that
/// messages that never end cost a bounded piece of memory, and short ones always find room.
const ROOM_STEPS: usize = (32 << 20) / STEP;

/// Memory for frames under way. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM_STEPS)))
    }
}

impl Room {
    fn step(&self) -> io::Result<OwnedSemaphorePermit> {
        let full = "too many long messages are under way; this one is not read";
        (self.0.clone().try_acquire_owned()).map_err(|_| io::Error::other(full))
    }
}

/// What came as a request.
#[derive(Debug)]
pub(super) enum Request {
    /// All of it.
    Whole(Vec<u8>),
    /// A frame that announced so many bytes, more than any may have. It was not read.
    TooLong(usize),
}

/// Codec of a request-response protocol whose messages are opaque bytes.
#[derive(Clone, Debug)]
pub(super) struct Frames {
    /// Bytes of a request.
    pub(super) max_request: usize,
    /// Bytes of an answer.
    pub(super) max_response: usize,
    /// Shared by all protocols.
    pub(super) room: Room,
}

async fn read<T: AsyncRead + Unpin + Send>(
    io: &mut T,
    limit: usize,
    room: &Room,
) -> io::Result<Request> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_le_bytes(length) as usize;
    if length > limit {
        return Ok(Request::TooLong(length));
    }
    let (mut bytes, mut held) = (Vec::new(), Vec::new());
    while bytes.len() < length {
        let from = bytes.len();
        if from > 0 {
            held.push(room.step()?);
        }
        bytes.resize((from + STEP).min(length), 0);
        io.read_exact(&mut bytes[from..]).await?;
    }
    Ok(Request::Whole(bytes))
}

async fn write<T: AsyncWrite + Unpin + Send>(
    io: &mut T,
    bytes: &[u8],
    limit: usize,
) -> io::Result<()> {
    if bytes.len() > limit {
        let why = format!(
            "refusing to send {} bytes where at most {limit} are allowed",
            bytes.len()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    io.write_all(&(bytes.len() as u32).to_le_bytes()).await?;
    io.write_all(bytes).await?;
    io.close().await
}

impl Codec for Frames {
    type Protocol = StreamProtocol;
    type Request = Request;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.max_request, &self.room).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        match read(io, self.max_response, &self.room).await? {
            Request::Whole(bytes) => Ok(bytes),
            Request::TooLong(length) => {
                let limit = self.max_response;
                let why = format!("answer of {length} bytes where at most {limit} are allowed");
                Err(io::Error::new(io::ErrorKind::InvalidData, why))
            }
        }
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Request,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        match request {
            Request::Whole(bytes) => write(io, &bytes, self.max_request).await,
            // Only the reading side makes these.
            Request::TooLong(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &bytes, self.max_response).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use futures::io::Cursor;

    #[test]
    fn frame_survives_and_longer_ones_are_refused_on_both_ends() {
        let room = Room::default();
        block_on(async {
            for length in [0, 1, STEP, STEP + 1, 3 * STEP] {
                let bytes = vec![7; length];
                let mut wire = Cursor::new(Vec::new());
                write(&mut wire, &bytes, 3 * STEP).await.unwrap();
                wire.set_position(0);
                let whole = read(&mut wire, 3 * STEP, &room).await.unwrap();
                assert!(matches!(whole, Request::Whole(got) if got == bytes));
                wire.set_position(0);
                let cut = read(&mut wire, length.saturating_sub(1), &room).await;
                let refused = matches!(cut, Ok(Request::TooLong(said)) if said == length);
                assert_eq!(refused, length > 0);
            }
            let mut wire = Cursor::new(Vec::new());
            assert!(write(&mut wire, &[0; 9], 8).await.is_err());
        });
    }

    #[test]
    fn claimed_length_without_bytes_allocates_one_step() {
        let claim = u32::to_le_bytes(1 << 20);
        let mut wire = Cursor::new(claim.to_vec());
        let error = block_on(read(&mut wire, 1 << 20, &Room::default())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn long_frames_share_a_bounded_room_and_short_ones_need_none() {
        let room = Room(Arc::new(Semaphore::new(1)));
        let frame = |length: usize| {
            let bytes = vec![7; length];
            let mut wire = Cursor::new(Vec::new());
            block_on(write(&mut wire, &bytes, length)).unwrap();
            wire.set_position(0);
            block_on(read(&mut wire, 4 * STEP, &room)).is_ok()
        };
        assert!(frame(2 * STEP), "room is given back at the end");
        assert!(frame(2 * STEP) && !frame(3 * STEP));
        let held = room.step().unwrap();
        assert!(frame(STEP) && !frame(STEP + 1));
        drop(held);
        assert!(frame(STEP + 1));
    }
}
