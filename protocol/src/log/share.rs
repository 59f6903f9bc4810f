//! Keeps one copy of a block that many nodes of a process hold, for simulations.
//!
//! A thousand nodes hold a thousand logs each, and a block that names the heads of others has kilobytes. Equal blocks
//! stay equal forever, so nodes of one thread may share them; nothing is shared on a thread unless [`share_blocks`]
//! was called there.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::SignedBlock;
use crate::hash::{self, Digest};

/// Blocks remembered before all are forgotten; nodes that hold them keep them.
const MAX_SHARED: usize = 1 << 16;

thread_local! {
    static SHARED: RefCell<Option<BTreeMap<Digest, SignedBlock>>> = const { RefCell::new(None) };
}

/// Shares verified blocks on this thread from now on, or forgets all and stops.
pub fn share_blocks(on: bool) {
    SHARED.set(on.then(BTreeMap::new));
}

/// The copy that others hold already, if there is one.
pub(super) fn shared(block: SignedBlock) -> SignedBlock {
    SHARED.with_borrow_mut(|shared| {
        let Some(shared) = shared else {
            return block;
        };
        if shared.len() >= MAX_SHARED {
            shared.clear();
        }
        // By its bytes, signature included: two signatures of one block are two copies.
        let name = hash::digest(hash::Domain::Simulation, block.bytes());
        shared.entry(name).or_insert(block).clone()
    })
}
