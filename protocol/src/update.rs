//! How an update travels: the numbers that a round moves, as few bytes as the manifest allows.
//!
//! An update is the flat vector of the round's trainable segments, [`gather`]ed in layout order and
//! cut in chunks of [`CHUNK`] numbers. [`encode`] and [`decode`] are exact about every byte: codec and
//! vector length allow a handful of lengths, one for each [`density`], so a receiver refuses a
//! blob before fetching it, and a decoder accepts one encoding of a chunk only. [`Feedback`] keeps what a lossy encoding
//! left out. What is done with an update is for `aggregate`.
//!
//! # Layout
//! All numbers little-endian. Chunks follow each other without any header.
//!
//! | codec | one chunk of `m` numbers |
//! |---|---|
//! | dense f32 | `m` f32 |
//! | dense int8 | f32 scale, `m` i8; number = scale x int |
//! | sparse | f32 low level, f32 high level, `k` codes of 14 bits, zero bits up to the next byte |
//!
//! `sparse` has the details of a code.

mod dense;
mod feedback;
mod packed;
#[cfg(test)]
mod reference;
mod sparse;

use crate::adapter::Segment;
use crate::manifest::UpdateCodec;
use crate::reject::Rejection;

pub use feedback::Feedback;
pub use packed::Packed;

/// Numbers of a full chunk; the last chunk may be shorter. 12 bits address one chunk.
pub const CHUNK: usize = 4096;

/// Largest magnitude that an update may carry. LoRA factors are of the order of one; the bound keeps
/// every sum and norm of an aggregation far from the edge of f32.
pub const MAX_MAGNITUDE: f32 = 1e9;

/// Why a vector cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// A number is NaN, infinite or beyond [`MAX_MAGNITUDE`].
    #[error(
        "update holds a number that is not finite or beyond 1e9, at position {0}: training \
         diverged, lower the learning rate"
    )]
    OutOfRange(usize),
    /// The vector's length is not that of the segments or of the residual.
    #[error("update of {found} numbers where {expected} are expected")]
    Length {
        /// What the shape asks for.
        expected: usize,
        /// What was given.
        found: usize,
    },
}

/// Bytes of an encoded update of `len` numbers; exact.
pub fn encoded_len(len: usize, codec: UpdateCodec) -> usize {
    let chunk = |m: usize| match codec {
        UpdateCodec::DenseF32 => 4 * m,
        UpdateCodec::DenseInt8 => 4 + m,
        UpdateCodec::Sparse { top, .. } => sparse::chunk_len(m, top),
    };
    let rest = len % CHUNK;
    len / CHUNK * chunk(CHUNK) + if rest > 0 { chunk(rest) } else { 0 }
}

/// The density that encodes an update of `len` numbers in exactly `size` bytes.
pub fn density(size: u64, len: usize, codec: UpdateCodec) -> Option<UpdateCodec> {
    codec
        .densities()
        .find(|codec| encoded_len(len, *codec) as u64 == size)
}

/// The densest variant of `codec` whose update of `len` numbers takes at most `most` bytes; the thinnest
/// where none does.
pub fn fitting(most: u64, len: usize, codec: UpdateCodec) -> UpdateCodec {
    let fits = |codec: &UpdateCodec| encoded_len(len, *codec) as u64 <= most;
    let thinnest = codec.densities().last().unwrap_or(codec);
    codec.densities().find(fits).unwrap_or(thinnest)
}

/// Encodes an update.
///
/// # Errors
/// [`UpdateError::OutOfRange`] names the first number that no update may carry.
pub fn encode(update: &[f32], codec: UpdateCodec) -> Result<Vec<u8>, UpdateError> {
    if let Some(at) = update.iter().position(|v| !in_range(*v)) {
        return Err(UpdateError::OutOfRange(at));
    }
    let mut bytes = Vec::with_capacity(encoded_len(update.len(), codec));
    for chunk in update.chunks(CHUNK) {
        write_chunk(chunk, codec, &mut bytes);
    }
    debug_assert_eq!(bytes.len(), encoded_len(update.len(), codec));
    Ok(bytes)
}

fn write_chunk(chunk: &[f32], codec: UpdateCodec, bytes: &mut Vec<u8>) {
    match codec {
        UpdateCodec::DenseF32 => dense::write_f32(chunk, bytes),
        UpdateCodec::DenseInt8 => dense::write_int8(chunk, bytes),
        UpdateCodec::Sparse { top, .. } => sparse::write(chunk, top, bytes),
    }
}

fn read_chunk(bytes: &[u8], codec: UpdateCodec, chunk: &mut [f32]) -> Result<(), &'static str> {
    match codec {
        UpdateCodec::DenseF32 => dense::read_f32(bytes, chunk),
        UpdateCodec::DenseInt8 => dense::read_int8(bytes, chunk),
        UpdateCodec::Sparse { top, .. } => sparse::read(bytes, top, chunk),
    }
}

/// Decodes an update of exactly `len` numbers, in `codec` or a thinner variant, which the length tells.
/// Allocates nothing before it fits.
///
/// # Errors
/// [`Rejection::Blob`] for another length, a number out of range, or bytes that [`encode`] never
/// writes.
pub fn decode(bytes: &[u8], len: usize, codec: UpdateCodec) -> Result<Vec<f32>, Rejection> {
    let Some(codec) = density(bytes.len() as u64, len, codec) else {
        return Err(Rejection::Blob("an update of another length"));
    };
    let mut update = vec![0.0; len];
    let mut rest = bytes;
    for chunk in update.chunks_mut(CHUNK) {
        let (head, tail) = rest.split_at(encoded_len(chunk.len(), codec));
        read_chunk(head, codec, chunk).map_err(Rejection::Blob)?;
        rest = tail;
    }
    if update.iter().any(|v| !in_range(*v)) {
        return Err(Rejection::Blob("an update with a number out of range"));
    }
    Ok(update)
}

fn in_range(value: f32) -> bool {
    value.abs() <= MAX_MAGNITUDE
}

/// Takes the numbers of `segments` out of a flat vector, in layout order.
///
/// # Panics
/// If a segment reaches beyond `flat`.
pub fn gather(flat: &[f32], segments: &[Segment]) -> Vec<f32> {
    segments
        .iter()
        .flat_map(|segment| &flat[segment.range()])
        .copied()
        .collect()
}

/// Puts gathered numbers back in a flat vector of `len` numbers, zero elsewhere.
///
/// # Panics
/// If `update` does not have exactly the length of `segments`, or a segment reaches beyond `len`.
pub fn scatter(update: &[f32], segments: &[Segment], len: usize) -> Vec<f32> {
    let mut flat = vec![0.0; len];
    let mut rest = update;
    for segment in segments {
        let (head, tail) = rest.split_at(segment.len());
        flat[segment.range()].copy_from_slice(head);
        rest = tail;
    }
    assert!(rest.is_empty(), "an update longer than its segments");
    flat
}

#[cfg(test)]
mod tests;
