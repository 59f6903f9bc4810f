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
    /// Written by a release whose envelopes or messages this one does not know.
    #[error("version {0} of the format is not known here; a newer release is needed to read it")]
    Version(u8),
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

/// Decodes a prefix of `bytes` without ever reserving more than a fixed multiple of their length.
///
/// bincode charges the in-memory size of containers against its limit before it reserves them. One
/// encoded byte can stand for a whole `Entry` (some 130 bytes), so the limit steps up with the length
/// of the message: 256 times the message at most, 64 times for what can come from the network in one
/// piece. Only records of one's own disk, which hold long byte strings, are longer than that.
fn decode_within<T: Decode<()>>(bytes: &[u8]) -> Option<(T, usize)> {
    const SMALL: usize = 1 << 10;
    const MIDDLE: usize = 1 << 14;
    const REMOTE: usize = 1 << 18;
    let standard = config::standard();
    let decoded = if bytes.len() <= SMALL {
        bincode::decode_from_slice(bytes, standard.with_limit::<{ SMALL << 8 }>())
    } else if bytes.len() <= MIDDLE {
        bincode::decode_from_slice(bytes, standard.with_limit::<{ MIDDLE << 8 }>())
    } else if bytes.len() <= REMOTE {
        bincode::decode_from_slice(bytes, standard.with_limit::<{ REMOTE << 6 }>())
    } else {
        bincode::decode_from_slice(bytes, standard.with_limit::<{ 1 << 34 }>())
    };
    decoded.ok()
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
    let (value, used) = decode_within(bytes).ok_or(CodecError::Malformed)?;
    if used != bytes.len() || encode(&value) != bytes {
        return Err(CodecError::NotCanonical);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlong_integer_is_not_canonical() {
        assert_eq!(decode::<u32, 10>(&encode(&5u32)), Ok(5));
        assert_eq!(
            decode::<u32, 10>(&[251, 5, 0]),
            Err(CodecError::NotCanonical)
        );
        assert_eq!(decode::<u32, 10>(&[5, 0]), Err(CodecError::NotCanonical));
        assert_eq!(decode::<u32, 10>(&[]), Err(CodecError::Malformed));
    }

    #[test]
    fn bytes_beyond_the_limit_are_refused_before_they_are_read() {
        let bytes = encode(&vec![7u8; 20]);
        assert_eq!(decode::<Vec<u8>, 21>(&bytes), Ok(vec![7; 20]));
        let error = CodecError::TooLong {
            limit: 20,
            found: 21,
        };
        assert_eq!(decode::<Vec<u8>, 20>(&bytes), Err(error));
    }

    #[test]
    fn long_records_of_ones_own_read_back() {
        let record = vec![1u8; 20 << 20];
        let bytes = encode(&record);
        assert!(decode::<Vec<u8>, { 1 << 30 }>(&bytes) == Ok(record));
    }

    #[test]
    fn a_length_that_the_bytes_cannot_hold_is_refused() {
        let mut bytes = vec![253];
        bytes.extend(u64::MAX.to_le_bytes());
        assert_eq!(decode::<Vec<u64>, 100>(&bytes), Err(CodecError::Malformed));
    }
}
