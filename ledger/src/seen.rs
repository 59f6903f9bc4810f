//! Which blobs were hashed, and how their files looked: what looks the same is not read again.
//!
//! A blob's name is its hash, so checking it means to read it, and a long run has as many as it has updates. [`Seen`]
//! keeps of each file that had its hash what the file system says of it: size, time of the last write and of the last
//! change, and inode. Writing to a file, or putting another in its place, changes one of them: programs cannot set the
//! time of the last change. What is taken on trust is therefore the file system, its clock, and the disk: a bit that
//! turned on the disk, or was written past the file system by somebody with its rights, is found where the blob is
//! used, or by a check in full. Files that changed shortly before they were looked at are not kept, because a
//! second change within one tick of the clock would not show.

use tributary_protocol::hash::{Digest, Domain, Hasher};
use tributary_protocol::id::BlobHash;

use crate::seal;

/// Name and version of this layout.
const SCHEMA: &str = "seen/1";
/// Bytes of a digest.
const HASH: usize = 32;
/// Numbers of a [`Look`].
const NUMBERS: usize = 4;
/// Bytes of one file: its name and how it looks.
const ROW: usize = HASH + NUMBERS * size_of::<u64>();
/// How long before a check a file must have been left alone: longer than the tick of any file system's clock (two
/// seconds on FAT).
const QUIET_NS: u64 = 4_000_000_000;

/// What the file system says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Bytes.
    pub size: u64,
    /// When it was written last, nanoseconds since 1970.
    pub written_ns: u64,
    /// When anything of it changed last, nanoseconds since 1970.
    pub changed_ns: u64,
    /// Inode.
    pub inode: u64,
}

impl Look {
    /// Whether a change right after `now`, nanoseconds since 1970, would show.
    fn is_quiet(&self, now: u64) -> bool {
        let newest = self.changed_ns.max(self.written_ns);
        newest.saturating_add(QUIET_NS) < now
    }

    fn numbers(&self) -> [u64; NUMBERS] {
        [self.size, self.written_ns, self.changed_ns, self.inode]
    }
}

/// Blobs whose content had the hash that is its name, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(Vec<(BlobHash, Look)>);

impl Seen {
    /// Of files that were found good, each looked at before it was read, from `now` on, nanoseconds since 1970.
    pub fn new(mut files: Vec<(BlobHash, Look)>, now: u64) -> Self {
        files.retain(|(_, look)| look.is_quiet(now));
        files.sort_unstable_by_key(|(hash, _)| *hash);
        Self(files)
    }

    /// Whether the file of a blob looks as it did when it was hashed.
    pub fn knows(&self, hash: &BlobHash, look: &Look) -> bool {
        let at = self.0.binary_search_by(|(other, _)| other.cmp(hash));
        at.is_ok_and(|at| self.0[at].1 == *look)
    }

    /// The bytes to keep, sealed.
    pub fn seal(&self, secret: &Digest) -> Vec<u8> {
        let mut bytes = vec![0; HASH];
        bytes.reserve(self.0.len() * ROW);
        for (hash, look) in &self.0 {
            bytes.extend(hash.as_bytes());
            (look.numbers().iter()).for_each(|number| bytes.extend(number.to_le_bytes()));
        }
        let seal = seal::of(SCHEMA, &bytes[HASH..], secret);
        bytes[..HASH].copy_from_slice(seal.as_bytes());
        bytes
    }

    /// What was kept; `None` when its seal is not this secret's, or it is of another version.
    pub fn open(bytes: &[u8], secret: &Digest) -> Option<Self> {
        let (seal, rows) = bytes.split_at_checked(HASH)?;
        let holds = seal::of(SCHEMA, rows, secret).as_bytes() == seal;
        let (rows, rest) = rows.as_chunks::<ROW>();
        if !holds || !rest.is_empty() {
            return None;
        }
        let row = |row: &[u8; ROW]| {
            let (hash, numbers) = row.split_at(HASH);
            let hash = BlobHash(Digest::from_bytes(hash.try_into().ok()?));
            let (numbers, _) = numbers.as_chunks::<8>();
            let [size, written_ns, changed_ns, inode] = <[[u8; 8]; NUMBERS]>::try_from(numbers)
                .ok()?
                .map(u64::from_le_bytes);
            let look = Look {
                size,
                written_ns,
                changed_ns,
                inode,
            };
            Some((hash, look))
        };
        rows.iter().map(row).collect::<Option<_>>().map(Self)
    }
}

/// Names a set of blobs.
pub fn names(mut hashes: Vec<BlobHash>) -> Digest {
    hashes.sort_unstable();
    let mut hasher = Hasher::new(Domain::Simulation);
    hasher.update(b"blobs that are here");
    for hash in &hashes {
        hasher.update(hash.as_bytes());
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: Digest = Digest::from_bytes([7; 32]);
    const NOW: u64 = 100 * QUIET_NS;

    fn hash(byte: u8) -> BlobHash {
        BlobHash(Digest::from_bytes([byte; 32]))
    }

    fn look(changed_ns: u64) -> Look {
        Look {
            size: 5,
            written_ns: 3,
            changed_ns,
            inode: 9,
        }
    }

    #[test]
    fn a_file_that_looks_otherwise_in_anything_is_not_known() {
        let seen = Seen::new(vec![(hash(2), look(4)), (hash(1), look(4))], NOW);
        let kept = Seen::open(&seen.seal(&SECRET), &SECRET).expect("just sealed");
        assert_eq!(kept, seen);
        assert!(kept.knows(&hash(1), &look(4)) && kept.knows(&hash(2), &look(4)));
        assert!(!kept.knows(&hash(3), &look(4)), "never hashed");
        let base = look(4);
        for other in [
            Look { size: 6, ..base },
            Look {
                written_ns: 4,
                ..base
            },
            Look {
                changed_ns: 5,
                ..base
            },
            Look { inode: 8, ..base },
        ] {
            assert!(!kept.knows(&hash(1), &other), "{other:?}");
        }
    }

    #[test]
    fn a_file_that_changed_just_before_it_was_hashed_is_hashed_again() {
        for (changed, known) in [
            (NOW - QUIET_NS - 1, true),
            (NOW - QUIET_NS, false),
            (NOW + 1, false),
        ] {
            let seen = Seen::new(vec![(hash(1), look(changed))], NOW);
            assert_eq!(seen.knows(&hash(1), &look(changed)), known, "{changed}");
        }
    }

    #[test]
    fn a_table_that_was_tampered_with_or_sealed_by_another_is_none() {
        let kept = Seen::new(vec![(hash(1), look(4))], NOW).seal(&SECRET);
        for bit in 0..kept.len() * 8 {
            let mut bad = kept.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Seen::open(&bad, &SECRET), None, "bit {bit}");
        }
        assert_eq!(Seen::open(&kept[..kept.len() - 1], &SECRET), None);
        assert_eq!(Seen::open(&kept, &Digest::from_bytes([8; 32])), None);
    }
}
