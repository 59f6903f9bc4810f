//! What a join commits to, leaf by leaf, so that single windows of a hold-out can be shown later.
//!
//! | leaf | bytes |
//! |---|---|
//! | first, the head | tag 0; hash of the base model, tokens of a window, windows, leaves in all, in words |
//! | then each hold-out window | tag 2, 32 of salt, its tokens as little-endian u32 |
//! | then each training passage | tag 1, 32 of salt, its text |
//!
//! The head stands where every tree has its leftmost leaf, and no leaf passes for an inner node, so a root has one
//! head; it fixes the number of leaves, which a proof of inclusion alone does not, and so where each window stands and
//! from how many the draw is. Every leaf has a salt of its own: a proof shows the hashes of neighbours, and nobody
//! should be able to test guesses of their text.

use tributary_protocol::hash::Digest;
use tributary_protocol::merkle;

/// The first leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Hash of the base model whose tokens the windows hold.
    pub base: Digest,
    /// Tokens of a window at most.
    pub context: u32,
    /// Windows of the hold-out: the leaves from 1 on.
    pub windows: u64,
    /// Leaves, this one included.
    pub leaves: u64,
}

impl Head {
    /// Its hash.
    pub fn leaf(&self) -> Digest {
        let Self {
            base,
            context,
            windows,
            leaves,
        } = self;
        let words = format!("{base} {context} {windows} {leaves}");
        merkle::leaf(&[&[0], words.as_bytes()].concat())
    }
}

/// The hash of a hold-out window.
pub fn window(salt: &Digest, tokens: &[u32]) -> Digest {
    let tokens: Vec<u8> = tokens
        .iter()
        .flat_map(|token| token.to_le_bytes())
        .collect();
    merkle::leaf(&[&[2], salt.as_bytes().as_slice(), &tokens].concat())
}

/// The hash of a training passage.
pub fn passage(salt: &Digest, text: &str) -> Digest {
    merkle::leaf(&[&[1], salt.as_bytes().as_slice(), text.as_bytes()].concat())
}
