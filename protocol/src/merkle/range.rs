//! Proofs that some consecutive leaves stand in a committed list, in that order.
//!
//! One such proof says more than one for each leaf (that nothing stands in between) and costs less: only the
//! neighbouring subtrees to the left and right of the range, however many leaves are inside. A prover whose list is
//! too long to keep all its hashes hands in the roots of its parts.

use std::ops::Range;

use bincode::{Decode, Encode};

use super::{MAX_PROOF_HASHES, node, split};
use crate::hash::Digest;
use crate::id::MerkleRoot;

/// Hashes of a proof: one path on each side.
const MAX_OUTSIDE: usize = 2 * MAX_PROOF_HASHES;
/// Leaves of a list, as [`MAX_PROOF_HASHES`] says.
const MAX_LEAVES: u64 = 1 << MAX_PROOF_HASHES;

/// Shows that consecutive leaves stand at one place of a committed list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RangeProof {
    /// Place of the first leaf, from 0.
    pub first: u64,
    /// Leaves of the whole list.
    pub leaves: u64,
    /// Roots of the subtrees outside of the range, from left to right.
    pub outside: Vec<Digest>,
}

/// Proves the leaves `inside` a list of `leaves`; `None` when there are none, or not so many.
///
/// `subtree` gives the root over the leaves of a range: of one leaf, the leaf's hash. It is asked for
/// parts of the list as RFC 6962 splits it and for nothing else.
pub fn prove_range(
    leaves: u64,
    inside: Range<u64>,
    mut subtree: impl FnMut(Range<u64>) -> Digest,
) -> Option<RangeProof> {
    if inside.is_empty() || inside.end > leaves || leaves > MAX_LEAVES {
        return None;
    }
    let mut outside = Vec::new();
    collect(0..leaves, &inside, &mut subtree, &mut outside);
    Some(RangeProof {
        first: inside.start,
        leaves,
        outside,
    })
}

fn apart(part: &Range<u64>, inside: &Range<u64>) -> bool {
    part.end <= inside.start || inside.end <= part.start
}

fn halves(part: &Range<u64>) -> (Range<u64>, Range<u64>) {
    let middle = part.start + split(part.end - part.start);
    (part.start..middle, middle..part.end)
}

fn collect(
    part: Range<u64>,
    inside: &Range<u64>,
    subtree: &mut impl FnMut(Range<u64>) -> Digest,
    outside: &mut Vec<Digest>,
) {
    if apart(&part, inside) {
        outside.push(subtree(part));
    } else if part.end - part.start > 1 {
        let (left, right) = halves(&part);
        collect(left, inside, subtree, outside);
        collect(right, inside, subtree, outside);
    }
}

/// The root over `part`; `None` when the proof has too few hashes.
fn rebuild(
    part: Range<u64>,
    inside: &Range<u64>,
    leaves: &[Digest],
    outside: &mut std::slice::Iter<'_, Digest>,
) -> Option<Digest> {
    if apart(&part, inside) {
        return outside.next().copied();
    }
    if part.end - part.start == 1 {
        return leaves.get((part.start - inside.start) as usize).copied();
    }
    let (left, right) = halves(&part);
    let left = rebuild(left, inside, leaves, outside)?;
    Some(node(&left, &rebuild(right, inside, leaves, outside)?))
}

impl RangeProof {
    /// Whether the leaves `inside`, hashed already, stand from `first` on in the list behind `root`. Takes
    /// time in proportion to their number, whatever the proof claims.
    ///
    /// As with [`super::InclusionProof`], the root does not fix the number of leaves.
    pub fn verify(&self, root: &MerkleRoot, inside: &[Digest]) -> bool {
        let Some(end) = self.first.checked_add(inside.len() as u64) else {
            return false;
        };
        let range = self.first..end;
        let bounded = self.leaves <= MAX_LEAVES && self.outside.len() <= MAX_OUTSIDE;
        if range.is_empty() || end > self.leaves || !bounded {
            return false;
        }
        let mut outside = self.outside.iter();
        let top = rebuild(0..self.leaves, &range, inside, &mut outside);
        top == Some(root.0) && outside.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{leaf, prove, root};
    use super::*;

    fn leaves(count: u64) -> Vec<Digest> {
        (0..count).map(|n| leaf(&n.to_le_bytes())).collect()
    }

    fn proof(all: &[Digest], inside: Range<u64>) -> Option<RangeProof> {
        prove_range(all.len() as u64, inside, |part| {
            root(&all[part.start as usize..part.end as usize]).0
        })
    }

    #[test]
    fn every_range_of_every_small_list_is_proven_at_its_place_only() {
        for count in 1..24 {
            let all = leaves(count);
            let root = root(&all);
            for first in 0..count {
                for end in first + 1..=count {
                    let inside = &all[first as usize..end as usize];
                    let found = proof(&all, first..end).expect("a range");
                    assert!(found.verify(&root, inside), "{first}..{end} of {count}");
                    assert!(!found.verify(&root, &inside[1..]));
                    for other in (0..count).filter(|other| *other != first) {
                        let moved = RangeProof {
                            first: other,
                            ..found.clone()
                        };
                        assert!(!moved.verify(&root, inside), "{first} as {other}");
                    }
                    let mut swapped = inside.to_vec();
                    swapped.reverse();
                    assert_eq!(found.verify(&root, &swapped), inside.len() == 1);
                }
            }
        }
    }

    #[test]
    fn one_leaf_needs_the_hashes_of_its_inclusion_proof_and_all_leaves_need_none() {
        let all = leaves(1000);
        let mut one = proof(&all, 617..618).unwrap().outside;
        let mut path = prove(&all, 617).unwrap().path;
        one.sort();
        path.sort();
        assert_eq!(one, path);
        assert_eq!(proof(&all, 0..1000).unwrap().outside, []);
        assert!(proof(&all, 400..700).unwrap().outside.len() <= 18);
    }

    #[test]
    fn ranges_that_are_not_there_and_proofs_of_any_shape_are_answered_without_panic() {
        let all = leaves(5);
        let root = root(&all);
        for (first, end) in [(0, 0), (4, 6), (6, 7)] {
            assert_eq!(proof(&all, first..end), None);
        }
        for leaves in [0, 1, 5, MAX_LEAVES, MAX_LEAVES + 1, u64::MAX] {
            for first in [0, 4, MAX_LEAVES - 1, u64::MAX] {
                for length in [0, 3, MAX_OUTSIDE, MAX_OUTSIDE + 1] {
                    let odd = RangeProof {
                        first,
                        leaves,
                        outside: vec![Digest::default(); length],
                    };
                    assert!(!odd.verify(&root, &all[..1]) && !odd.verify(&root, &[]));
                }
            }
        }
    }

    #[test]
    fn a_proof_with_a_hash_changed_lost_or_added_proves_nothing() {
        let all = leaves(100);
        let root = root(&all);
        let inside = &all[31..47];
        let found = proof(&all, 31..47).unwrap();
        assert!(found.verify(&root, inside));
        for at in 0..found.outside.len() {
            let mut bad = found.clone();
            bad.outside[at] = leaf(b"another");
            assert!(!bad.verify(&root, inside));
            bad.outside.remove(at);
            assert!(!bad.verify(&root, inside));
        }
        let mut long = found;
        long.outside.push(leaf(b"more"));
        assert!(!long.verify(&root, inside));
    }
}
