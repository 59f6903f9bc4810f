//! What an earlier audit of a run established, under the name of exactly the bytes that it looked at.
//!
//! Checking every signature and aggregate of a long run takes minutes, and a stopped home does not change. A
//! [`Mark`] keeps the outcome of an audit that found no fault. Its key is a hash over every block and certificate of
//! the run in the order in which they are stored, and over which of the blobs that the run names are here; where one
//! bit of that differs, the key does, and the run is audited again.
//!
//! A run that went on has the marked records first and new ones behind them. Where the key holds for those first ones,
//! the audit goes on from there ([`tributary_protocol::audit::resume()`]), so that one more round costs one round. It
//! starts from the genesis where a round was certified twice, somebody equivocated, a block waits for another, or the
//! adapter that the next round builds on is not here.
//!
//! | taken from a mark | looked at again every time |
//! |---|---|
//! | signatures, links, certificates, states, aggregates, sums of accounts | the bytes of blocks and certificates (by the key), checksums of the database, roots of shards, the key file |
//!
//! [`crate::glance`] says what is looked at of a home in which nothing has changed at all, and [`crate::seen`] how
//! blobs are told that were not written since they were hashed.
//!
//! Anybody that can write a ledger can also hash it, so a mark is sealed with a secret that follows from the home's
//! key: only the owner of a home can make marks for it. A copy without its key is audited in full, and so is a home
//! whose owner is not trusted, when the caller hands in no marks.

use serde::{Deserialize, Serialize};
use tributary_protocol::hash::{Digest, Domain, Hasher};
use tributary_protocol::id::RunId;

use crate::report::{Fault, RunReport};
use crate::seal;

/// Name and version of this layout. A program that audits otherwise takes another.
const SCHEMA: &str = "checked/2";

/// What an audit found of a run that holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was checked.
    pub report: RunReport,
    /// What was not, and why that is not a fault.
    pub notes: Vec<String>,
    /// What the run proves against others.
    pub findings: Vec<Fault>,
    /// Heights whose adapter was not recomputed.
    pub unchecked: Vec<u32>,
}

/// How many records of a run an audit looked at: the first of each kind, in the order in which they are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reach {
    pub(crate) blocks: usize,
    pub(crate) certificates: usize,
    /// Rounds of the chain that the certificates make.
    pub(crate) rounds: usize,
}

/// An [`Outcome`] under the name of the bytes that it holds for.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// The run.
    pub run: RunId,
    /// Which of its records.
    pub(crate) reach: Reach,
    /// Names their bytes.
    pub(crate) key: Digest,
    /// What was found of them.
    pub(crate) outcome: Outcome,
}

/// A mark as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    run: String,
    reach: Reach,
    key: String,
    outcome: Outcome,
}

impl Mark {
    /// The bytes to keep, sealed.
    pub fn seal(&self, secret: &Digest) -> Vec<u8> {
        let kept = Kept {
            run: self.run.to_string(),
            reach: self.reach,
            key: self.key.to_string(),
            outcome: self.outcome.clone(),
        };
        seal::json(SCHEMA, &kept, secret)
    }

    /// A mark that was kept; `None` when its seal is not this secret's, or it is of another version.
    pub fn open(bytes: &[u8], secret: &Digest) -> Option<Self> {
        let kept: Kept = seal::from_json(SCHEMA, bytes, secret)?;
        Some(Self {
            run: kept.run.parse().ok()?,
            reach: kept.reach,
            key: kept.key.parse().ok()?,
            outcome: kept.outcome,
        })
    }
}

/// Names the records of one kind as they come, and the first of them.
struct Names {
    hasher: Hasher,
    count: usize,
    /// How many are the first ones, and their name once they have come.
    first: (usize, Option<Digest>),
}

impl Names {
    fn new(kind: &[u8], run: &RunId, first: usize) -> Self {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"checked bytes").update(SCHEMA.as_bytes());
        hasher.update(run.as_bytes()).update(kind);
        let mut names = Self {
            hasher,
            count: 0,
            first: (first, None),
        };
        names.note();
        names
    }

    fn add(&mut self, bytes: &[u8]) {
        let length = (bytes.len() as u64).to_le_bytes();
        self.hasher.update(&length).update(bytes);
        self.count += 1;
        self.note();
    }

    fn note(&mut self) {
        if self.count == self.first.0 {
            self.first.1 = Some(self.hasher.clone().finalize());
        }
    }
}

/// Names the bytes of a run as they come.
pub(crate) struct Naming {
    blocks: Names,
    certificates: Names,
}

impl Naming {
    /// Of a run that may have a mark.
    pub(crate) fn new(run: &RunId, mark: Option<&Mark>) -> Self {
        let first = mark.map(|mark| mark.reach).unwrap_or_default();
        Self {
            blocks: Names::new(b"blocks", run, first.blocks),
            certificates: Names::new(b"certificates", run, first.certificates),
        }
    }

    pub(crate) fn block(&mut self, bytes: &[u8]) {
        self.blocks.add(bytes);
    }

    pub(crate) fn certificate(&mut self, bytes: &[u8]) {
        self.certificates.add(bytes);
    }

    /// How far the records go that came, where the certificates make so many rounds.
    pub(crate) fn reach(&self, rounds: usize) -> Reach {
        Reach {
            blocks: self.blocks.count,
            certificates: self.certificates.count,
            rounds,
        }
    }

    /// Names all that came, and `here`, for every blob that the certificates name, whether it is here.
    pub(crate) fn all(&self, here: &[bool]) -> Digest {
        let names = [&self.blocks, &self.certificates].map(|n| n.hasher.clone().finalize());
        key(names, here)
    }

    /// Names what came first; `None` where less came.
    pub(crate) fn first(&self, here: &[bool]) -> Option<Digest> {
        Some(key(
            [self.blocks.first.1?, self.certificates.first.1?],
            here,
        ))
    }
}

fn key(names: [Digest; 2], here: &[bool]) -> Digest {
    let mut hasher = Hasher::new(Domain::Simulation);
    hasher.update(b"checked run");
    for name in names {
        hasher.update(name.as_bytes());
    }
    for is_here in here {
        hasher.update(&[u8::from(*is_here)]);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests;
