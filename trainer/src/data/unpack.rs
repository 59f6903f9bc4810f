//! The bytes of a file as rows are read from them: unpacked, and in UTF-8.
//!
//! gzip and Zstandard are told by their first bytes, UTF-16 by its byte order mark. UTF-16 without a mark is not
//! guessed: its NUL bytes are refused where text is read. What comes out is bounded by the caller.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;

use super::limits::{HEAD_BYTES, MAX_DATA_BYTES};

/// The beginning of a source, and all of it.
pub(super) struct Opened<'a> {
    /// Its first bytes.
    pub(super) head: Vec<u8>,
    /// Whether these are all.
    pub(super) whole: bool,
    /// From the first byte on.
    pub(super) source: Box<dyn BufRead + 'a>,
}

/// Unpacks a source if it is packed, and turns UTF-16 into UTF-8.
pub(super) fn open<'a>(source: impl Read + 'a) -> io::Result<Opened<'a>> {
    let opened = beginning(source)?;
    let opened = match opened.head.as_slice() {
        [0x1f, 0x8b, ..] => beginning(MultiGzDecoder::new(opened.source))?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => beginning(Frames::new(opened.source)?)?,
        _ => opened,
    };
    match opened.head.as_slice() {
        [0xff, 0xfe, ..] => from_utf16(opened, u16::from_le_bytes),
        [0xfe, 0xff, ..] => from_utf16(opened, u16::from_be_bytes),
        _ => Ok(opened),
    }
}

fn beginning<'a>(mut source: impl Read + 'a) -> io::Result<Opened<'a>> {
    let mut head = Vec::new();
    source.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
    let whole = (head.len() as u64) < HEAD_BYTES;
    let rest = BufReader::new(source);
    Ok(Opened {
        source: Box::new(Cursor::new(head.clone()).chain(rest)),
        head,
        whole,
    })
}

fn from_utf16(opened: Opened<'_>, unit: fn([u8; 2]) -> u16) -> io::Result<Opened<'_>> {
    let mut bytes = Vec::new();
    opened
        .source
        .take(MAX_DATA_BYTES + 1)
        .read_to_end(&mut bytes)?;
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "it is not whole UTF-16");
    let (pairs, rest) = bytes[2..].as_chunks();
    if !rest.is_empty() {
        return Err(invalid());
    }
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    let text = String::from_utf16(&units).map_err(|_| invalid())?;
    beginning(Cursor::new(text.into_bytes()))
}

/// The frames of a Zstandard file, one after the other.
struct Frames<'a> {
    decoder: Option<StreamingDecoder<Box<dyn BufRead + 'a>, ruzstd::decoding::FrameDecoder>>,
}

impl<'a> Frames<'a> {
    fn new(source: Box<dyn BufRead + 'a>) -> io::Result<Self> {
        let decoder = StreamingDecoder::new(source).map_err(io::Error::other)?;
        Ok(Self {
            decoder: Some(decoder),
        })
    }
}

impl Read for Frames<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            let read = decoder.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            if let Some(done) = self.decoder.take() {
                let mut source = done.into_inner();
                if !source.fill_buf()?.is_empty() {
                    *self = Self::new(source)?;
                }
            }
        }
        Ok(0)
    }
}

/// Unpacks one Zstandard frame of at most `limit` bytes.
#[cfg(feature = "parquet")]
pub(super) fn zstd(packed: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let decoder = StreamingDecoder::new(packed).map_err(io::Error::other)?;
    let mut out = Vec::new();
    decoder.take(limit + 1).read_to_end(&mut out)?;
    match out.len() as u64 > limit {
        true => Err(io::Error::other("it unpacks to more than its header says")),
        false => Ok(out),
    }
}
