//! Signs receipts that cannot be right: for updates that do not exist, of absurd sizes and weights, for other rounds,
//! states and shards.

use rand::Rng;
use tributary_protocol::entry::{Contribution, Entry};
use tributary_protocol::event::{Input, Trained};
use tributary_protocol::hash;
use tributary_protocol::id::{BlobHash, BlobRef, MerkleRoot, StateHash};
use tributary_protocol::limits;
use tributary_protocol::state;

use super::{Behaviour, LiarContext};

/// Receipts of wrong sizes, hashes, weights, rounds and shards.
pub(super) struct LyingReceipt;

/// The receipt that an honest peer would sign for bytes of this name.
pub(super) fn receipt(
    cx: &LiarContext<'_>,
    trained: &Trained,
    update: BlobRef,
) -> Option<Contribution> {
    let head = cx.view()?.head()?;
    Some(Contribution {
        round: trained.round,
        base: trained.base,
        update,
        tokens: trained.tokens,
        shard: head.roster.get(&cx.me)?.root,
    })
}

impl Behaviour for LyingReceipt {
    fn input(&mut self, cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        let Input::Trained(trained) = &input else {
            return Some(input);
        };
        let nothing = hash::blob(&cx.rng.random::<[u8; 16]>());
        let update = BlobRef {
            hash: BlobHash(nothing),
            size: state::update_size(cx.world.manifest, trained.round),
        };
        let Some(mut lie) = receipt(cx, trained, update) else {
            return Some(input);
        };
        match cx.rng.random_range(0..7) {
            0 => lie.update.size = limits::MAX_UPDATE_BYTES,
            1 => lie.update.size += 1,
            2 => lie.tokens = limits::MAX_TOKENS,
            3 => lie.round = lie.round.next(),
            4 => lie.base = StateHash(nothing),
            5 => lie.shard = MerkleRoot(nothing),
            // The name of an update that nobody has.
            _ => {}
        }
        cx.write(vec![Entry::Contribution(lie)]);
        None
    }
}
