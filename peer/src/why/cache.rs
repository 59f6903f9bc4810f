//! What a run's contributors moved, kept in the home between questions.
//!
//! To find it, every round is decoded, combined and checked again, which takes longer than an answer. The
//! outcome follows from the certificates alone, so it is kept under their names and read back while they are
//! the same: one file a run, `cache/RUN.moved`, rebuilt whenever it is missing, damaged or of another chain.
//! Nothing relies on it.
//!
//! Layout: 8 bytes of magic, 32 of the key, the stages ([`staging::write`]), and the BLAKE3 of all before.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tributary_attribution::query::METHOD;
use tributary_attribution::query::staging::{self, STAGES, Stage};
use tributary_ledger::ArchivedRun;
use tributary_protocol::adapter::AdapterShape;
use tributary_protocol::hash::{self, Digest, Domain, Hasher};
use tributary_protocol::id::RunId;

use crate::home::{HomePaths, disk};

const MAGIC: &[u8; 8] = b"tribmov1";
const HASH_BYTES: usize = 32;

/// Names what stages follow from: the certified values, and how they are put together.
pub(super) fn key(run: &ArchivedRun) -> Digest {
    let mut hasher = Hasher::new(Domain::Simulation);
    hasher.update(b"moved");
    hasher.update(METHOD.as_bytes());
    hasher.update(&[STAGES as u8]);
    for certificate in &run.certificates {
        hasher.update(certificate.value.id().as_bytes());
    }
    hasher.finalize()
}

fn path(home: &HomePaths, run: RunId) -> PathBuf {
    home.cache().join(format!("{run}.moved"))
}

/// What was kept for these certificates; `None` when it is not there or not whole.
pub(super) fn read(
    home: &HomePaths,
    run: RunId,
    key: &Digest,
    shape: &Arc<AdapterShape>,
) -> Option<Vec<Stage>> {
    let bytes = fs::read(path(home, run)).ok()?;
    let (content, sum) = bytes.split_at_checked(bytes.len().checked_sub(HASH_BYTES)?)?;
    let content = (hash::blob(content).as_bytes() == sum).then_some(content)?;
    let mut rest = content.strip_prefix(MAGIC)?.strip_prefix(key.as_bytes())?;
    let stages = staging::read(&mut rest, shape)?;
    rest.is_empty().then_some(stages)
}

/// Keeps stages, in place of what was kept of the run before.
pub(super) fn write(
    home: &HomePaths,
    run: RunId,
    key: &Digest,
    stages: &[Stage],
) -> io::Result<()> {
    let mut bytes = [MAGIC.as_slice(), key.as_bytes()].concat();
    staging::write(stages, &mut bytes);
    bytes.extend(hash::blob(&bytes).as_bytes());
    disk::make_folder(&home.cache())?;
    let path = path(home, run);
    disk::write_whole(&path, &bytes)
}

#[cfg(test)]
mod tests {
    use tributary_attribution::query::store;
    use tributary_protocol::adapter::{Adapter, Module};
    use tributary_protocol::id::PeerId;

    use super::*;

    fn stages() -> (Arc<AdapterShape>, Vec<Stage>) {
        let shape = Arc::new(AdapterShape {
            rank: 2,
            alpha: 2,
            modules: vec![Module {
                name: "m".into(),
                inputs: 8,
                outputs: 8,
            }],
        });
        let middle = Adapter::init(shape.clone(), &Digest::from_bytes([3; 32]));
        let mut moved = store::Stage::default();
        let mut vector = vec![0.0f32; middle.values().len()];
        vector[5] = 0.25;
        moved.add(&[(PeerId::default(), vector)]).unwrap();
        (shape, vec![Stage { middle, moved }])
    }

    #[test]
    fn what_was_kept_is_read_for_the_same_certificates_only() {
        let dir = tempfile::tempdir().unwrap();
        let home = HomePaths::new(dir.path());
        let (shape, stages) = stages();
        let (run, key) = (RunId::default(), Digest::from_bytes([1; 32]));
        assert!(
            read(&home, run, &key, &shape).is_none(),
            "nothing is kept yet"
        );
        write(&home, run, &key, &stages).unwrap();
        let found = read(&home, run, &key, &shape).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].moved, stages[0].moved);
        assert_eq!(found[0].middle.values(), stages[0].middle.values());
        let other = Digest::from_bytes([2; 32]);
        assert!(read(&home, run, &other, &shape).is_none());
    }

    #[test]
    fn every_flipped_bit_makes_it_missing() {
        let dir = tempfile::tempdir().unwrap();
        let home = HomePaths::new(dir.path());
        let (shape, stages) = stages();
        let (run, key) = (RunId::default(), Digest::from_bytes([1; 32]));
        write(&home, run, &key, &stages).unwrap();
        let path = path(&home, run);
        let good = fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bad).unwrap();
            assert!(read(&home, run, &key, &shape).is_none(), "bit {bit}");
        }
    }
}
