//! Binary Merkle trees in the shape of RFC 6962: commit to a list now, prove single members later.
//!
//! A tree of n leaves splits at the largest power of two below n; a leaf and an inner node are hashed under different
//! domains, so that neither can pass for the other. Shards and sealed hold-outs are committed to this way before
//! training. The author of a commitment decides what a leaf's bytes mean.

mod range;

use bincode::{Decode, Encode};

use crate::hash::{Digest, Domain, Hasher, digest};
use crate::id::MerkleRoot;
pub use range::{RangeProof, prove_range};

/// Hashes of a proof: a tree of 2^48 leaves is deeper than any shard.
pub const MAX_PROOF_HASHES: usize = 48;

/// The hash of a leaf's bytes.
pub fn leaf(bytes: &[u8]) -> Digest {
    digest(Domain::MerkleLeaf, bytes)
}

fn node(left: &Digest, right: &Digest) -> Digest {
    let mut hasher = Hasher::new(Domain::MerkleNode);
    hasher.update(left.as_bytes()).update(right.as_bytes());
    hasher.finalize()
}

/// The root over leaves that are hashed already, in memory logarithmic in their number.
///
/// Leaves can be pushed one at a time, so that a shard need not be held to be committed to.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    /// Roots of complete subtrees, largest first, each with its number of leaves as a power of two.
    peaks: Vec<(u32, Digest)>,
}

impl Builder {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next leaf by its hash (see [`leaf`]).
    pub fn push(&mut self, leaf: Digest) {
        let mut height = 0;
        let mut hash = leaf;
        while let Some((top, left)) = self.peaks.pop_if(|(top, _)| *top == height) {
            hash = node(&left, &hash);
            height = top + 1;
        }
        self.peaks.push((height, hash));
    }

    /// The root of everything pushed so far; of nothing, the hash of an empty leaf list.
    pub fn root(&self) -> MerkleRoot {
        let joined = (self.peaks.iter().rev())
            .map(|(_, hash)| *hash)
            .reduce(|right, left| node(&left, &right));
        MerkleRoot(joined.unwrap_or_else(|| digest(Domain::MerkleNode, b"")))
    }
}

/// The root over leaf hashes.
pub fn root(leaves: &[Digest]) -> MerkleRoot {
    let mut builder = Builder::new();
    leaves.iter().for_each(|leaf| builder.push(*leaf));
    builder.root()
}

/// Shows that one leaf stands at one place of a committed list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct InclusionProof {
    /// Place of the leaf, from 0.
    pub index: u64,
    /// Leaves of the whole list.
    pub leaves: u64,
    /// Roots of the neighbouring subtrees, from the leaf up.
    pub path: Vec<Digest>,
}

/// The largest power of two below `count`, where a list of two or more leaves is split.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// Proves the leaf at `index`; `None` when there is none.
pub fn prove(leaves: &[Digest], index: usize) -> Option<InclusionProof> {
    leaves.get(index)?;
    let mut path = Vec::new();
    let (mut part, mut at) = (leaves, index);
    while part.len() > 1 {
        let (left, right) = part.split_at(split(part.len() as u64) as usize);
        if at < left.len() {
            path.push(root(right).0);
            part = left;
        } else {
            path.push(root(left).0);
            at -= left.len();
            part = right;
        }
    }
    path.reverse();
    Some(InclusionProof {
        index: index as u64,
        leaves: leaves.len() as u64,
        path,
    })
}

impl InclusionProof {
    /// Whether `leaf` stands where the proof says in the list behind `root`.
    ///
    /// The root does not fix the number of leaves; a protocol that needs that number commits to it beside the root, as
    /// a join does with its tokens.
    pub fn verify(&self, root: &MerkleRoot, leaf: &Digest) -> bool {
        if self.index >= self.leaves || self.path.len() > MAX_PROOF_HASHES {
            return false;
        }
        // Which side the neighbour is on, from the root down.
        let mut sides = Vec::new();
        let (mut at, mut count) = (self.index, self.leaves);
        while count > 1 {
            let left = split(count);
            let is_left = at < left;
            sides.push(is_left);
            (at, count) = if is_left {
                (at, left)
            } else {
                (at - left, count - left)
            };
        }
        if sides.len() != self.path.len() {
            return false;
        }
        let up = sides.iter().rev().zip(&self.path);
        let top = up.fold(*leaf, |hash, (is_left, other)| {
            if *is_left {
                node(&hash, other)
            } else {
                node(other, &hash)
            }
        });
        top == root.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition of RFC 6962, section 2.1, word by word.
    fn slow_root(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => digest(Domain::MerkleNode, b""),
            [one] => *one,
            _ => {
                let mut k = 1;
                while k * 2 < leaves.len() {
                    k *= 2;
                }
                node(&slow_root(&leaves[..k]), &slow_root(&leaves[k..]))
            }
        }
    }

    fn leaves(count: usize) -> Vec<Digest> {
        (0..count).map(|n| leaf(&n.to_le_bytes())).collect()
    }

    #[test]
    fn the_root_is_the_one_of_the_definition_for_every_small_list() {
        for count in 0..130 {
            let leaves = leaves(count);
            assert_eq!(root(&leaves).0, slow_root(&leaves), "{count} leaves");
        }
    }

    #[test]
    fn every_leaf_of_every_small_list_is_proven_at_its_place_only() {
        for count in 1..40usize {
            let leaves = leaves(count);
            let root = root(&leaves);
            for at in 0..count {
                let proof = prove(&leaves, at).expect("a leaf is there");
                assert!(proof.verify(&root, &leaves[at]));
                for other in (0..count).filter(|other| *other != at) {
                    assert!(!proof.verify(&root, &leaves[other]));
                    let moved = InclusionProof {
                        index: other as u64,
                        ..proof.clone()
                    };
                    assert!(
                        !moved.verify(&root, &leaves[at]),
                        "{at} as {other} of {count}"
                    );
                }
            }
            assert_eq!(prove(&leaves, count), None);
        }
    }

    #[test]
    fn an_inner_node_is_no_leaf() {
        let two = leaves(2);
        let both = [two[0].as_bytes().as_slice(), two[1].as_bytes()].concat();
        assert_ne!(root(&[leaf(&both)]), root(&two));
    }

    #[test]
    fn a_proof_of_any_length_or_size_is_answered_without_panic() {
        let root = root(&leaves(3));
        for leaves in [0, 1, 3, u64::MAX] {
            for length in [0, 2, 64, 65, 1000] {
                let proof = InclusionProof {
                    index: leaves.saturating_sub(1),
                    leaves,
                    path: vec![Digest::default(); length],
                };
                assert!(!proof.verify(&root, &Digest::default()));
            }
        }
    }

    proptest! {
        #[test]
        fn a_changed_proof_proves_nothing(
            count in 1usize..300,
            at in any::<prop::sample::Index>(),
            byte in any::<prop::sample::Index>(),
            flip in 1u8..=255,
        ) {
            let leaves = leaves(count);
            let at = at.index(count);
            let root = root(&leaves);
            let proof = prove(&leaves, at).expect("a leaf is there");
            prop_assert!(proof.verify(&root, &leaves[at]));
            prop_assert!(proof.path.len() <= count.next_power_of_two().ilog2() as usize);
            if !proof.path.is_empty() {
                let mut bad = proof.clone();
                let step = byte.index(bad.path.len());
                let mut bytes = *bad.path[step].as_bytes();
                bytes[byte.index(32)] ^= flip;
                bad.path[step] = Digest::from_bytes(bytes);
                prop_assert!(!bad.verify(&root, &leaves[at]));
            }
            let mut wrong = *leaves[at].as_bytes();
            wrong[byte.index(32)] ^= flip;
            prop_assert!(!proof.verify(&root, &Digest::from_bytes(wrong)));
        }
    }
}
