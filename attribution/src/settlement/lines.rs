//! A Merkle tree over statement lines: one hash under which every line can be shown.
//!
//! ```text
//!   leaf = keccak(2 | line)        node = keccak(3 | left | right)
//! ```
//!
//! A node without a partner at the end of a level goes up as it is. No lines give 32 zero bytes. A proof says that a line is
//! among those that were signed, and not at which place.

use bincode::{Decode, Encode};

use super::{Keccak, MAX_LEVELS, ProofError};

/// Begins what a leaf hashes, so that no node reads as a leaf, nor anything here as part of a tree of balances.
const LEAF: u8 = 2;
/// Begins what a node hashes.
const NODE: u8 = 3;

fn leaf(line: &[u8]) -> Keccak {
    Keccak::of(&[&[LEAF], line])
}

fn node(left: &Keccak, right: &Keccak) -> Keccak {
    Keccak::of(&[&[NODE], &left.0, &right.0])
}

/// The whole tree: 32 bytes for each node, two nodes for each line at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// From the leaves to the root alone; a single empty level without lines.
    levels: Vec<Vec<Keccak>>,
}

impl Lines {
    /// The tree of these lines, in the order in which they come.
    pub fn build<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut levels = vec![lines.into_iter().map(leaf).collect::<Vec<_>>()];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let above = below.chunks(2).map(|pair| match pair {
                [left, right] => node(left, right),
                alone => alone[0],
            });
            levels.push(above.collect());
        }
        assert!(levels.len() <= MAX_LEVELS, "lines that fit the memory");
        Self { levels }
    }

    /// What members sign.
    pub fn root(&self) -> Keccak {
        let top = self.levels.last().and_then(|level| level.first());
        top.copied().unwrap_or(Keccak::ZERO)
    }

    /// Proof of the line that came at this place, from 0; nothing if none did.
    pub fn prove(&self, at: usize) -> Option<LineProof> {
        self.levels[0].get(at)?;
        let siblings = self.levels.iter().enumerate().filter_map(|(up, level)| {
            let other = (at >> up) ^ 1;
            let hash = *level.get(other)?;
            let is_left = other & 1 == 0;
            Some(Sibling { hash, is_left })
        });
        Some(LineProof {
            siblings: siblings.collect(),
        })
    }
}

/// The root of a tree that grows line by line: 32 bytes for each of its levels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineSum {
    /// Roots of whole trees, the largest first, each with its levels above the leaves: one for each bit of the number of
    /// lines.
    trees: Vec<(u32, Keccak)>,
}

impl LineSum {
    /// One line more.
    pub fn push(&mut self, line: &[u8]) {
        let mut last = (0, leaf(line));
        while let Some((levels, left)) = self.trees.pop_if(|(levels, _)| *levels == last.0) {
            last = (levels + 1, node(&left, &last.1));
        }
        self.trees.push(last);
    }

    /// What [`Lines::root`] of the same lines is.
    pub fn root(&self) -> Keccak {
        let roots = self.trees.iter().rev().map(|(_, root)| *root);
        let joined = roots.reduce(|right, left| node(&left, &right));
        joined.unwrap_or(Keccak::ZERO)
    }
}

/// The other node of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Sibling {
    /// Its hash.
    pub hash: Keccak,
    /// Whether it stands left of the node that is proven.
    pub is_left: bool,
}

/// That a line is among those under a root.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LineProof {
    /// From the bottom. Where a node goes up alone it has none.
    pub siblings: Vec<Sibling>,
}

impl LineProof {
    /// Whether the line leads to the root that was signed.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn check(&self, line: &[u8], root: &Keccak) -> Result<(), ProofError> {
        if self.siblings.len() > MAX_LEVELS {
            return Err(ProofError::TooDeep(self.siblings.len()));
        }
        let found =
            (self.siblings.iter()).fold(leaf(line), |below, sibling| match sibling.is_left {
                true => node(&sibling.hash, &below),
                false => node(&below, &sibling.hash),
            });
        match found == *root {
            true => Ok(()),
            false => Err(ProofError::OtherRoot {
                found,
                wanted: *root,
            }),
        }
    }
}
