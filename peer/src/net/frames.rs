//! One message out, one short answer back, each with a length in front and a bound.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;

/// Bytes asked of the allocator at a time: a claimed length costs a stranger the same bytes.
const STEP: usize = 16 * 1024;

/// Codec of a request-response protocol whose messages are opaque bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames {
    /// Bytes of a request.
    pub(super) max_request: usize,
    /// Bytes of an answer.
    pub(super) max_response: usize,
}

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T, limit: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_le_bytes(length) as usize;
    if length > limit {
        let why = format!("frame of {length} bytes where at most {limit} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let from = bytes.len();
        bytes.resize((from + STEP).min(length), 0);
        io.read_exact(&mut bytes[from..]).await?;
    }
    Ok(bytes)
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
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.max_request).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.max_response).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &bytes, self.max_request).await
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
        block_on(async {
            for length in [0, 1, STEP, STEP + 1, 3 * STEP] {
                let bytes = vec![7; length];
                let mut wire = Cursor::new(Vec::new());
                write(&mut wire, &bytes, 3 * STEP).await.unwrap();
                wire.set_position(0);
                assert_eq!(read(&mut wire, 3 * STEP).await.unwrap(), bytes);
                wire.set_position(0);
                assert_eq!(
                    read(&mut wire, length.saturating_sub(1)).await.is_err(),
                    length > 0
                );
            }
            let mut wire = Cursor::new(Vec::new());
            assert!(write(&mut wire, &[0; 9], 8).await.is_err());
        });
    }

    #[test]
    fn claimed_length_without_bytes_allocates_one_step() {
        let claim = u32::to_le_bytes(1 << 20);
        let error = block_on(read(&mut Cursor::new(claim.to_vec()), 1 << 20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
