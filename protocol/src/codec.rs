//! Canonical bytes: one value has exactly one encoding.
//!
//! bincode's standard configuration accepts overlong integers and leaves trailing bytes to the
//! caller. A decoder here accepts only what consumes every byte and encodes back to the same bytes,
//! and never allocates more than its limit.

use bincode::{Decode, Encode, config};

/// Why bytes are not a canonical value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// More bytes than the kind of message may have.
    #[error("message of {found} bytes where at most {limit} are allowed")]
    TooLong {
        /// The bound in bytes.
        limit: usize,
        /// The bytes at hand.
        found: usize,
    },
    /// Not an encoding of the type.
    #[error("bytes are not an encoding of the expected type")]
    Malformed,
    /// Decodes, but another byte string is the encoding of this value.
    #[error("bytes are not the canonical encoding of their value")]
    NotCanonical,
}

/// Encodes a value whose size the caller has bounded.
///
/// # Panics
/// Never for the types of this crate: all are finite trees of integers, arrays, strings and enums.
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    bincode::encode_to_vec(value, config::standard()).expect("plain data always encodes")
}

/// Decodes canonical bytes of at most `LIMIT` bytes.
///
/// # Errors
/// See [`CodecError`].
pub fn decode<T: Encode + Decode<()>, const LIMIT: usize>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > LIMIT {
        return Err(CodecError::TooLong {
            limit: LIMIT,
            found: bytes.len(),
        });
    }
    // bincode charges the in-memory size of containers against the limit, which for small integers
    // is more than their encoded size; eight times the wire bound covers every type here.
    let config = config::standard().with_limit::<{ 1 << 24 }>();
    let (value, used): (T, usize) =
        bincode::decode_from_slice(bytes, config).map_err(|_| CodecError::Malformed)?;
    if used != bytes.len() || encode(&value) != bytes {
        return Err(CodecError::NotCanonical);
    }
    Ok(value)
}
