//! What a join committed to: passages under their Merkle root, frozen in a file.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tributary_attribution::lexical::{Shard, TooLong};
use tributary_ledger::holdout::leaves::{self, Head};
use tributary_protocol::fingerprint::{self, Secret};
use tributary_protocol::hash::{Digest, Domain, Hasher};
use tributary_protocol::id::MerkleRoot;
use tributary_protocol::manifest::Manifest;
use tributary_protocol::merkle;
use tributary_protocol::sketch::Sketch;

use super::files::{shard_passages, write_whole};
use super::{ShardError, io, read_passages, split};
use crate::home::{HomePaths, disk};
use crate::identity::Identity;

/// Passages to train on and to score on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Hexadecimal; drawn from the peer's secret and the content.
    salt: String,
    /// Hash of the base model whose tokens are counted, hexadecimal.
    base: String,
    /// Tokens of a window.
    context: u32,
    /// What the member trains on.
    pub train: Vec<String>,
    /// What it scores rounds on, in windows of tokens; never trained on.
    pub holdout: Vec<Vec<u32>>,
}

impl Committed {
    /// For passages and hold-out windows at hand, to be read with windows of `context` tokens of the base model `base`. The
    /// salt depends on the peer's secret and nothing else, so that the same passages give the same
    /// root after a restart.
    pub fn new(
        identity: &Identity,
        (base, context): (Digest, u32),
        train: Vec<String>,
        holdout: Vec<Vec<u32>>,
    ) -> Self {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"shard salt").update(identity.seed());
        Self {
            salt: hasher.finalize().to_string(),
            base: base.to_string(),
            context,
            train,
            holdout,
        }
    }

    /// Passages of a home's shard and of hold-out files, split as the role needs: with `evaluates` and
    /// no files, a tenth of the shard is held out; a pure evaluator may do without a shard. `cut` makes
    /// windows of the held-out passages, as the base model reads them.
    ///
    /// # Errors
    /// [`ShardError`]: no shard, unreadable files, too little text.
    pub fn gather(
        home: &HomePaths,
        identity: &Identity,
        base: (Digest, u32),
        datanet: &str,
        (contributes, evaluates): (bool, bool),
        holdout: &[PathBuf],
        cut: impl FnOnce(&[String]) -> Result<Vec<Vec<u32>>, String>,
    ) -> Result<Self, ShardError> {
        let mut held = Vec::new();
        for file in holdout {
            held.extend(read_passages(file)?);
        }
        let split_shard = evaluates && held.is_empty();
        let mut train = Vec::new();
        if contributes || split_shard {
            let all = shard_passages(home, datanet)?;
            if split_shard {
                (train, held) = split(all);
                if held.is_empty() {
                    return Err(ShardError::TooLittle(format!(
                        "the shard of {datanet:?} has too little text to hold a tenth back for \
                         scoring; add files, or name a text with --holdout"
                    )));
                }
            } else {
                train = all;
            }
        }
        if !contributes {
            train.clear();
        }
        let held = cut(&held).map_err(ShardError::TooLittle)?;
        Ok(Self::new(identity, base, train, held))
    }

    /// The base model.
    pub fn base(&self) -> Digest {
        self.base.parse().unwrap_or_default()
    }

    /// Tokens of a window.
    pub fn context(&self) -> u32 {
        self.context
    }

    /// What the first leaf says.
    pub fn head(&self) -> Head {
        Head {
            base: self.base(),
            context: self.context,
            windows: self.holdout.len() as u64,
            leaves: (1 + self.holdout.len() + self.train.len()) as u64,
        }
    }

    /// What blinds the leaf at `place`. Who is shown one learns no other.
    pub fn leaf_salt(&self, place: u64) -> Digest {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"leaf salt").update(self.salt.as_bytes());
        hasher.update(&place.to_le_bytes()).finalize()
    }

    /// The hashes that the root is over: the head, the hold-out's windows, the training passages.
    pub fn leaves(&self) -> Vec<Digest> {
        let mut leaves = vec![self.head().leaf()];
        for window in &self.holdout {
            leaves.push(leaves::window(&self.leaf_salt(leaves.len() as u64), window));
        }
        for passage in &self.train {
            leaves.push(leaves::passage(
                &self.leaf_salt(leaves.len() as u64),
                passage,
            ));
        }
        leaves
    }

    /// The Merkle root over [`Committed::leaves`].
    pub fn root(&self) -> MerkleRoot {
        merkle::root(&self.leaves())
    }

    /// The words that are trained on, ready to be asked about. The hold-out is never asked about.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn searchable(&self) -> Result<Shard, TooLong> {
        Shard::new(&self.train.concat(), self.secret())
    }

    /// What a join commits to of those words; `None` when there are too few, or too many to be asked about.
    pub fn fingerprints(&self) -> Option<MerkleRoot> {
        let committed = Shard::commit(&self.train.concat(), self.secret());
        committed.unwrap_or_else(|why| {
            tracing::warn!("{why}");
            None
        })
    }

    /// By what a run that weighs by own text tells others' text from these words; `None` for other runs, and when
    /// too few words are trained on.
    pub fn sketch(&self, manifest: &Manifest) -> Option<Sketch> {
        if !manifest.opens_sketches() {
            return None;
        }
        let text = self.train.concat();
        let words: Vec<String> = fingerprint::words(&text).map(|(_, word)| word).collect();
        Some(Sketch::of(manifest.run_id(), &words)).filter(|sketch| !sketch.is_empty())
    }

    fn secret(&self) -> Secret {
        Secret::new(self.salt.as_bytes(), &self.root())
    }

    fn path(home: &HomePaths, root: &MerkleRoot) -> PathBuf {
        home.shards().join("committed").join(format!("{root}.json"))
    }

    /// Freezes the passages in the home.
    ///
    /// # Errors
    /// [`ShardError::Io`].
    pub fn write(&self, home: &HomePaths) -> Result<MerkleRoot, ShardError> {
        let root = self.root();
        let path = Self::path(home, &root);
        if let Some(folder) = path.parent() {
            disk::make_folder(folder).map_err(io("make the folder", folder))?;
        }
        let text = serde_json::to_vec(self).expect("strings always serialise");
        write_whole(&path, &text)?;
        Ok(root)
    }

    /// Reads what was frozen under `root`, and checks that it still has that root.
    ///
    /// # Errors
    /// [`ShardError::Damaged`], [`ShardError::Io`].
    pub fn read(home: &HomePaths, root: &MerkleRoot) -> Result<Self, ShardError> {
        let path = Self::path(home, root);
        let bytes = fs::read(&path).map_err(io("read the committed shard", &path))?;
        Self::checked(&bytes, root).map_err(|why| ShardError::Damaged { path, why })
    }

    fn checked(bytes: &[u8], root: &MerkleRoot) -> Result<Self, String> {
        let found: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let again = serde_json::to_vec(&found).map_err(|e| e.to_string())?;
        if found.root() != *root || again != bytes {
            return Err("its content does not have the root that it is filed under".to_owned());
        }
        Ok(found)
    }

    /// Checks every frozen shard of a home, and counts them.
    ///
    /// # Errors
    /// The first that is damaged.
    pub fn check_all(home: &HomePaths) -> Result<usize, ShardError> {
        let folder = home.shards().join("committed");
        let mut count = 0;
        for path in entries(&folder)? {
            let stem = path
                .file_stem()
                .and_then(|s| s.to_str())
                .unwrap_or_default();
            if disk::is_unfinished(&path) {
                continue;
            }
            let root = stem.parse().map_err(|_| ShardError::Damaged {
                path: path.clone(),
                why: "its name is no root".to_owned(),
            })?;
            Self::read(home, &root)?;
            count += 1;
        }
        Ok(count)
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, ShardError> {
    let mut out = Vec::new();
    match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(io("list", folder)(e)),
        Ok(found) => {
            for entry in found {
                out.push(entry.map_err(io("list", folder))?.path());
            }
        }
    }
    out.sort();
    Ok(out)
}
