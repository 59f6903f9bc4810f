//! The coalition bank as a file of a few hundred kilobytes.
//!
//! ```text
//! 32 bytes   fingerprint of base model and recipe
//! for each federation, seed and loss (the hold-out's, then each query's), 64 numbers of six members:
//!   f32      loss of nobody's coalition, nats
//!   63 x i16 what each other coalition's loss is above it, in 2^-12 nats, by the coalition's bits
//! ```
//! Of n members there are 2^n coalitions. All little-endian. Half a unit is 1.2e-4 nats, far below the noise of a seed.

use std::convert::Infallible;
use std::path::Path;

use tributary_attribution::shapley;
use tributary_protocol::hash::Digest;
use tributary_simulations::files;

use super::federations::FEDERATIONS;
use super::{Losses, MEMBERS, QUERIES, SEEDS};

/// The bank whose figures stand in `docs/attribution.md`.
const BUILT_IN: &[u8] = include_bytes!("../../../fixtures/bank.bin");
/// Units of a nat.
const UNITS: f64 = 4_096.0;
/// Losses of one retraining.
const LOSSES: usize = 1 + QUERIES;

/// Why a bank cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BankError {
    /// A retraining is not there yet.
    #[error(
        "the bank is not complete: {0} is missing; run the command without --minutes to the end"
    )]
    Missing(String),
    /// A loss that the format cannot hold.
    #[error("a loss of {0} is not finite, or more than eight nats from the base's")]
    Range(String),
    /// The file cannot be read or written.
    #[error("cannot use the bank {path}: {why}; give another place to --bank")]
    File {
        /// The file.
        path: String,
        /// What went wrong.
        why: String,
    },
    /// A bank of another recipe.
    #[error(
        "the bank was made from another base model, other texts, members or another recipe; build it anew with --out FOLDER, or \
         name it with --bank"
    )]
    Stale,
}

/// The losses of all retrained coalitions, packed.
#[derive(Clone, Debug, PartialEq)]
pub struct Bank {
    bytes: Vec<u8>,
    /// Members of each federation.
    members: usize,
}

/// Bytes of the losses of one hold-out or query, for each coalition of so many members.
fn row_bytes(members: usize) -> usize {
    4 + 2 * ((1 << members) - 1)
}

impl Bank {
    /// Packs the losses that `find` gives for a federation, a place in [`SEEDS`] and a coalition's bits.
    ///
    /// # Errors
    /// [`BankError::Missing`] or [`BankError::Range`].
    pub(super) fn pack(
        fingerprint: Digest,
        members: usize,
        find: impl Fn(usize, usize, u64) -> Option<Losses>,
    ) -> Result<Self, BankError> {
        let mut bytes = fingerprint.as_bytes().to_vec();
        for (federation, cast) in FEDERATIONS.iter().enumerate() {
            for (seed, number) in SEEDS.into_iter().enumerate() {
                let all: Option<Vec<Losses>> = (0..1u64 << members)
                    .map(|bits| find(federation, seed, bits))
                    .collect();
                let name = || format!("`{}` with seed {}", cast.name, number);
                let all = all.ok_or_else(|| BankError::Missing(name()))?;
                for which in 0..LOSSES {
                    let of = |losses: &Losses| match which {
                        0 => losses.hold_out,
                        query => losses.queries[query - 1],
                    };
                    bytes.extend(of(&all[0]).to_le_bytes());
                    for losses in &all[1..] {
                        let above = f64::from(of(losses)) - f64::from(of(&all[0]));
                        let units = (above * UNITS).round();
                        if units.is_nan() || units.abs() > f64::from(i16::MAX) {
                            return Err(BankError::Range(name()));
                        }
                        bytes.extend((units as i16).to_le_bytes());
                    }
                }
            }
        }
        Ok(Self { bytes, members })
    }

    /// Reads a bank of the usual members; of no path the one inside the program.
    ///
    /// # Errors
    /// [`BankError::File`].
    pub fn read(path: Option<&Path>) -> Result<Self, BankError> {
        Self::read_of(path, MEMBERS)
    }

    /// Reads a bank of so many members; of no path the one inside the program.
    ///
    /// # Errors
    /// [`BankError::File`], or [`BankError::Stale`] where the one inside the program is of other members.
    pub(super) fn read_of(path: Option<&Path>, members: usize) -> Result<Self, BankError> {
        let Some(path) = path else {
            let bytes = BUILT_IN.to_vec();
            return match members {
                MEMBERS => Ok(Self { bytes, members }),
                _ => Err(BankError::Stale),
            };
        };
        let failed = |why: String| BankError::File {
            path: path.display().to_string(),
            why,
        };
        let expected = 32 + FEDERATIONS.len() * SEEDS.len() * LOSSES * row_bytes(members);
        let bytes = files::read(path, expected as u64).map_err(|e| failed(e.to_string()))?;
        match bytes.len() == expected {
            true => Ok(Self { bytes, members }),
            false => Err(failed(format!(
                "{} bytes instead of {expected}",
                bytes.len()
            ))),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// [`BankError::File`].
    pub fn write(&self, path: &Path) -> Result<(), BankError> {
        std::fs::write(path, &self.bytes).map_err(|e| BankError::File {
            path: path.display().to_string(),
            why: e.to_string(),
        })
    }

    /// # Errors
    /// [`BankError::Stale`] when it is of something else.
    pub(super) fn check(&self, fingerprint: Digest) -> Result<(), BankError> {
        match &self.bytes[..32] == fingerprint.as_bytes() {
            true => Ok(()),
            false => Err(BankError::Stale),
        }
    }

    /// What each coalition is worth, by its bits: by how many nats its loss on the hold-out (`None`) or on
    /// a query is below nobody's.
    pub(super) fn worths(&self, federation: usize, seed: usize, query: Option<usize>) -> Vec<f64> {
        let which = query.map_or(0, |query| 1 + query);
        let size = row_bytes(self.members);
        let row = (federation * SEEDS.len() + seed) * LOSSES + which;
        let units = &self.bytes[32 + row * size..][..size][4..];
        let worth = |b: &[u8; 2]| -f64::from(i16::from_le_bytes(*b)) / UNITS;
        let others = units.as_chunks().0.iter().map(worth);
        std::iter::once(0.0).chain(others).collect()
    }

    /// The exact Shapley values of [`Bank::worths`].
    pub(super) fn shapley(&self, federation: usize, seed: usize, query: Option<usize>) -> Vec<f64> {
        values(&self.worths(federation, seed, query))
    }
}

/// The exact Shapley values of a table of worths.
pub(super) fn values(worths: &[f64]) -> Vec<f64> {
    let members = worths.len().ilog2() as usize;
    shapley::of_worths::<Infallible>(members, worths).expect("a full table of finite worths")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(federation: usize, seed: usize, bits: u64) -> Losses {
        let loss = 4.0 - 0.01 * bits as f32 - 0.1 * federation as f32 + 0.05 * seed as f32;
        Losses {
            hold_out: loss,
            queries: (0..QUERIES).map(|q| loss + q as f32).collect(),
        }
    }

    #[test]
    fn what_is_packed_is_read_back_to_half_a_unit() {
        let fingerprint = Digest::from_bytes([3; 32]);
        let bank = Bank::pack(fingerprint, MEMBERS, |f, s, b| Some(losses(f, s, b))).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bank");
        bank.write(&path).unwrap();
        let bank = Bank::read(Some(&path)).unwrap();
        assert!(bank.check(fingerprint).is_ok());
        assert!(matches!(
            bank.check(Digest::default()),
            Err(BankError::Stale)
        ));
        for query in [None, Some(0), Some(QUERIES - 1)] {
            let worths = bank.worths(11, 2, query);
            for (bits, worth) in worths.iter().enumerate() {
                assert!(
                    (worth - 0.01 * bits as f64).abs() < 1.3e-4,
                    "{bits}: {worth}"
                );
            }
            // Bits are worth their place: an additive game.
            for (member, value) in bank.shapley(11, 2, query).iter().enumerate() {
                assert!((value - 0.01 * f64::from(1 << member)).abs() < 2.6e-4);
            }
        }
    }

    #[test]
    fn a_bank_of_other_members_is_packed_and_read_and_the_built_in_one_refused() {
        let bank = Bank::pack(Digest::default(), 4, |f, s, b| Some(losses(f, s, b))).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bank");
        bank.write(&path).unwrap();
        let bank = Bank::read_of(Some(&path), 4).unwrap();
        assert_eq!(bank.worths(11, 4, Some(QUERIES - 1)).len(), 16);
        assert_eq!(bank.shapley(3, 1, None).len(), 4);
        let other = Bank::read_of(Some(&path), 5).unwrap_err().to_string();
        assert!(other.contains("bytes instead of"), "{other}");
        assert!(matches!(Bank::read_of(None, 4), Err(BankError::Stale)));
    }

    #[test]
    fn gaps_and_wild_losses_are_named() {
        let missing = Bank::pack(Digest::default(), MEMBERS, |f, s, b| {
            ((f, s, b) != (1, 2, 63)).then(|| losses(f, s, b))
        });
        let why = missing.unwrap_err().to_string();
        assert!(
            why.contains(FEDERATIONS[1].name) && why.contains("seed 3"),
            "{why}"
        );
        let wild = Bank::pack(Digest::default(), MEMBERS, |f, s, b| {
            let mut losses = losses(f, s, b);
            losses.queries[7] = if b == 9 { f32::NAN } else { 1.0 };
            Some(losses)
        });
        assert!(matches!(wild, Err(BankError::Range(_))));
    }
}
