//! A Merkle-sum tree over what each account earned: one hash that promises a total and every part of it.
//!
//! ```text
//!   leaf = keccak(0 | address, 20 bytes | balance, 16 bytes)
//!   node = keccak(1 | left hash | left sum, 16 bytes | right hash | right sum, 16 bytes)        sum = left + right
//! ```
//!
//! Numbers are big-endian. Leaves stand in the order of their addresses, between address 0 and the last one, which hold
//! nothing; so any address that has no leaf stands between two neighbours, which prove its absence. Copies of the last leaf
//! fill the tree up to a power of two. A node names the sums of *both* children: a tree that hashed only their sum would let
//! its maker move amounts from one side to the other.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};

use super::{Address, BaseUnits, Keccak, MAX_ACCOUNTS, MAX_LEVELS, ProofError};

/// Begins what a leaf hashes, so that no node reads as a leaf.
const LEAF: u8 = 0;
/// Begins what a node hashes.
const NODE: u8 = 1;

/// A node of the tree: its hash and what lies below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SumNode {
    /// Its hash.
    pub hash: Keccak,
    /// Sum of all balances below.
    pub sum: BaseUnits,
}

impl SumNode {
    /// The leaf of an account.
    pub fn leaf(address: &Address, balance: BaseUnits) -> Self {
        let hash = Keccak::of(&[&[LEAF], &address.0, &balance.0.to_be_bytes()]);
        Self { hash, sum: balance }
    }

    /// The node above two others; nothing when the sum leaves 128 bits.
    pub fn above(left: &Self, right: &Self) -> Option<Self> {
        let sum = left.sum.checked_add(right.sum)?;
        let hash = Keccak::of(&[
            &[NODE],
            &left.hash.0,
            &left.sum.0.to_be_bytes(),
            &right.hash.0,
            &right.sum.0.to_be_bytes(),
        ]);
        Some(Self { hash, sum })
    }
}

/// Why accounts make no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BalancesError {
    /// Address 0 or the last one.
    #[error(
        "{0} belongs to nobody and ends the tree, so nothing can be paid to it; the peer has to bind another address"
    )]
    Reserved(Address),
    /// Too many accounts.
    #[error(
        "{0} accounts where a tree has at most {MAX_ACCOUNTS}; leave out those that hold nothing"
    )]
    TooMany(usize),
    /// Sums beyond 128 bits.
    #[error("the balances add up to more than 128 bits; the books are wrong")]
    Overflow,
}

/// The whole tree: 48 bytes for each node, four nodes for each account at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balances {
    /// In order, both ends included and copies not.
    leaves: Vec<(Address, BaseUnits)>,
    /// From the leaves, copies included, to the root alone.
    levels: Vec<Vec<SumNode>>,
}

impl Balances {
    /// The tree of these accounts.
    ///
    /// # Errors
    /// [`BalancesError`].
    pub fn build(accounts: &BTreeMap<Address, BaseUnits>) -> Result<Self, BalancesError> {
        if accounts.len() > MAX_ACCOUNTS {
            return Err(BalancesError::TooMany(accounts.len()));
        }
        let ends = [Address::ZERO, Address::LAST];
        if let Some(end) = ends.into_iter().find(|end| accounts.contains_key(end)) {
            return Err(BalancesError::Reserved(end));
        }
        let end = |address| (address, BaseUnits(0));
        let mut leaves = Vec::with_capacity(accounts.len() + 2);
        leaves.push(end(Address::ZERO));
        leaves.extend(accounts.iter().map(|(address, held)| (*address, *held)));
        leaves.push(end(Address::LAST));

        let hash = |(address, held): &(Address, BaseUnits)| SumNode::leaf(address, *held);
        let mut level: Vec<SumNode> = leaves.iter().map(hash).collect();
        let filling = SumNode::leaf(&Address::LAST, BaseUnits(0));
        level.resize(level.len().next_power_of_two(), filling);
        let mut levels = vec![level];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let pairs = below.chunks_exact(2);
            let above = pairs.map(|pair| SumNode::above(&pair[0], &pair[1]));
            let level: Option<Vec<SumNode>> = above.collect();
            levels.push(level.ok_or(BalancesError::Overflow)?);
        }
        assert!(levels.len() <= MAX_LEVELS, "fewer accounts than leaves");
        Ok(Self { leaves, levels })
    }

    /// What members sign: the hash, and the sum of all balances.
    pub fn root(&self) -> SumNode {
        self.levels[self.levels.len() - 1][0]
    }

    /// Proof of what an account holds; nothing if it has no leaf.
    pub fn prove(&self, address: &Address) -> Option<BalanceProof> {
        self.position(address).ok().map(|at| self.path(at))
    }

    /// Proof that an account has no leaf; nothing if it has one.
    pub fn prove_absence(&self, address: &Address) -> Option<AbsenceProof> {
        let above = self.position(address).err()?;
        // No address is below the first or above the last.
        assert!(above > 0 && above < self.leaves.len(), "between the ends");
        Some(AbsenceProof {
            below: self.path(above - 1),
            above: self.path(above),
        })
    }

    fn position(&self, address: &Address) -> Result<usize, usize> {
        self.leaves.binary_search_by_key(address, |(one, _)| *one)
    }

    fn path(&self, at: usize) -> BalanceProof {
        let (address, balance) = self.leaves[at];
        let below_root = &self.levels[..self.levels.len() - 1];
        let siblings = below_root.iter().enumerate();
        BalanceProof {
            address,
            balance,
            index: u32::try_from(at).expect("fewer than 2^32 leaves"),
            siblings: siblings.map(|(up, level)| level[(at >> up) ^ 1]).collect(),
        }
    }
}

/// That an account holds an amount under a root.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BalanceProof {
    /// Whose.
    pub address: Address,
    /// How much.
    pub balance: BaseUnits,
    /// Which leaf from the left, from 0. Bit k says whether the node at level k is the right one of its pair.
    pub index: u32,
    /// The other node of each pair, from the bottom.
    pub siblings: Vec<SumNode>,
}

impl BalanceProof {
    /// Whether it leads to the root that was signed, and adds up to its total.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn check(&self, root: &Keccak, total: BaseUnits) -> Result<(), ProofError> {
        let found = self.root()?;
        if found.hash != *root {
            return Err(ProofError::OtherRoot {
                found: found.hash,
                wanted: *root,
            });
        }
        match found.sum == total {
            true => Ok(()),
            false => Err(ProofError::OtherTotal {
                found: found.sum,
                wanted: total,
            }),
        }
    }

    fn root(&self) -> Result<SumNode, ProofError> {
        let levels = self.siblings.len();
        if levels > MAX_LEVELS {
            return Err(ProofError::TooDeep(levels));
        }
        if levels < MAX_LEVELS && self.index >> levels != 0 {
            let index = self.index;
            return Err(ProofError::OutsideTree { index, levels });
        }
        let leaf = SumNode::leaf(&self.address, self.balance);
        let mut pairs = self.siblings.iter().enumerate();
        let root = pairs.try_fold(leaf, |node, (up, sibling)| {
            match self.index >> up & 1 == 1 {
                true => SumNode::above(sibling, &node),
                false => SumNode::above(&node, sibling),
            }
        });
        root.ok_or(ProofError::Overflow)
    }
}

/// That an address has no leaf under a root: the two leaves on both sides of where it would stand.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AbsenceProof {
    /// The leaf before it.
    pub below: BalanceProof,
    /// The leaf after it.
    pub above: BalanceProof,
}

impl AbsenceProof {
    /// Whether both leaves stand side by side under the root that was signed, with the address between them.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn check(
        &self,
        address: &Address,
        root: &Keccak,
        total: BaseUnits,
    ) -> Result<(), ProofError> {
        self.below.check(root, total)?;
        self.above.check(root, total)?;
        let (below, above) = (self.below.index, self.above.index);
        let is_same_level = self.below.siblings.len() == self.above.siblings.len();
        if !is_same_level || below.checked_add(1) != Some(above) {
            return Err(ProofError::NotNeighbours { below, above });
        }
        match self.below.address < *address && *address < self.above.address {
            true => Ok(()),
            false => Err(ProofError::NotBetween(*address)),
        }
    }
}
