//! What the last check of a whole home found, for a home in which nothing has changed since.
//!
//! A [`Glance`] is named by a hash over every byte of the file of the ledger and by the names of all blobs. Where both
//! are the same, decoding the ledger again would give what it gave before, and the report is repeated. Key, shards and
//! blobs are no part of it: they are looked at every time.

use serde::{Deserialize, Serialize};
use tributary_protocol::hash::Digest;

use crate::report::Report;
use crate::seal;

/// Name and version of this layout. A program that audits otherwise takes another.
const SCHEMA: &str = "glance/1";

/// What was found of a ledger that holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Glance {
    /// BLAKE3 of the ledger's file.
    pub ledger: Digest,
    /// Names the blobs that were here ([`crate::seen::names`]).
    pub blobs: Digest,
    /// What was reported; no faults.
    pub report: Report,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    ledger: String,
    blobs: String,
    report: Report,
}

impl Glance {
    /// The bytes to keep, sealed.
    pub fn seal(&self, secret: &Digest) -> Vec<u8> {
        let kept = Kept {
            ledger: self.ledger.to_string(),
            blobs: self.blobs.to_string(),
            report: self.report.clone(),
        };
        seal::json(SCHEMA, &kept, secret)
    }

    /// What was kept; `None` when its seal is not this secret's, or it is of another version.
    pub fn open(bytes: &[u8], secret: &Digest) -> Option<Self> {
        let kept: Kept = seal::from_json(SCHEMA, bytes, secret)?;
        Some(Self {
            ledger: kept.ledger.parse().ok()?,
            blobs: kept.blobs.parse().ok()?,
            report: kept.report,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: Digest = Digest::from_bytes([7; 32]);

    #[test]
    fn a_glance_that_was_tampered_with_or_sealed_by_another_is_none() {
        let glance = Glance {
            ledger: Digest::from_bytes([1; 32]),
            blobs: Digest::from_bytes([2; 32]),
            report: Report {
                notes: vec!["a note".to_owned()],
                ..Report::default()
            },
        };
        let kept = glance.seal(&SECRET);
        assert_eq!(Glance::open(&kept, &SECRET), Some(glance.clone()));
        assert_eq!(Glance::open(&kept, &Digest::from_bytes([8; 32])), None);
        for at in 0..kept.len() {
            let mut bad = kept.clone();
            bad[at] ^= 1;
            let opened = Glance::open(&bad, &SECRET);
            assert!(opened.is_none_or(|same| same == glance), "byte {at}");
        }
    }
}
