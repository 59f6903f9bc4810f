//! A juror's call on an evaluator to show the windows that a disputed sheet was made of.
//!
//! It travels as questions about shards do; the connection says who asks. What is shown is the reader's business: here it
//! has a bound.

use bincode::{Decode, Encode};

use crate::codec::{self, CodecError};
use crate::id::RunId;
use crate::limits;
use crate::round::EntryRef;

/// The only version.
const VERSION: u8 = 3;

/// Asks for the drawn windows from one on, as many as fit an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Summons {
    version: u8,
    /// The run.
    pub run: RunId,
    /// The entry that opened the dispute.
    pub dispute: EntryRef,
    /// Place among the drawn windows, from 0.
    pub from: u32,
}

impl Summons {
    /// For the windows from this one on.
    pub fn new(run: RunId, dispute: EntryRef, from: u32) -> Self {
        Self {
            version: VERSION,
            run,
            dispute,
            from,
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads what [`Summons::encode`] wrote.
    ///
    /// # Errors
    /// [`CodecError`], of another version too.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let read: Self = codec::decode::<_, { limits::MAX_QUESTION_BYTES }>(bytes)?;
        match read.version {
            VERSION => Ok(read),
            other => Err(CodecError::Version(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Question;

    #[test]
    fn a_summons_is_no_question_about_a_shard_and_reads_back() {
        let summons = Summons::new(RunId::default(), EntryRef::default(), 7);
        let bytes = summons.encode();
        assert_eq!(Summons::decode(&bytes), Ok(summons));
        assert!(Question::decode(&bytes).is_err());
        for cut in 0..bytes.len() {
            assert!(Summons::decode(&bytes[..cut]).is_err());
        }
        let mut other = bytes;
        other[0] = 2;
        assert!(Summons::decode(&other).is_err());
    }
}
