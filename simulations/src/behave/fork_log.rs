//! Writes two histories: where its node publishes a block, it signs a second one for the same position and shows one
//! to some peers and the other to the rest, or both to all. Sometimes it goes back and forks what others have long
//! built on.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tributary_protocol::entry::Entry;
use tributary_protocol::event::Effect;
use tributary_protocol::id::PeerId;
use tributary_protocol::log::{Block, Unverified};
use tributary_protocol::wire::Message;

use super::{Behaviour, LiarContext};
use crate::network::NETWORK;

/// Two blocks at one place of its log.
pub(super) struct ForkLog {
    /// Share of its blocks that it forks, in percent.
    often: u32,
    /// Whether the two histories go to different peers.
    apart: bool,
    /// The peers that are shown the second history, once there is one.
    second: Vec<PeerId>,
}

impl ForkLog {
    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        Self {
            often: rng.random_range(20..=80),
            apart: rng.random(),
            second: Vec::new(),
        }
    }

    fn fork(&mut self, cx: &mut LiarContext<'_>, run_bytes: Vec<u8>, block: &Block) {
        let Some(twin) = cx.sign(twin_of(block)) else {
            return cx.flood(&Message::Block(run_bytes));
        };
        let twin = Message::Block(twin.bytes().to_vec());
        let first = Message::Block(run_bytes);
        if !self.apart {
            cx.flood(&first);
            return cx.flood(&twin);
        }
        if self.second.is_empty() {
            self.second = cx.halves().0;
        }
        for peer in cx.others() {
            let side = if self.second.contains(&peer) {
                &twin
            } else {
                &first
            };
            cx.send(peer, side);
        }
    }
}

/// The same place, another content.
fn twin_of(block: &Block) -> Block {
    let mut twin = block.clone();
    twin.time.0 += 1;
    for entry in &mut twin.entries {
        if let Entry::Contribution(receipt) = entry {
            receipt.tokens = receipt.tokens.saturating_sub(1).max(1);
        }
    }
    twin
}

/// The block in a message, when `me` wrote it.
fn own_block(bytes: &[u8], me: PeerId) -> Option<(Vec<u8>, Block)> {
    let Ok(Message::Block(inner)) = Message::decode(bytes) else {
        return None;
    };
    let block = Unverified::decode(&inner, NETWORK).ok()?;
    (block.block().author == me).then(|| (inner, block.block().clone()))
}

impl Behaviour for ForkLog {
    fn effect(&mut self, cx: &mut LiarContext<'_>, effect: Effect) {
        let Effect::Gossip { bytes, .. } = &effect else {
            return cx.act(effect);
        };
        match own_block(bytes, cx.me) {
            Some((inner, block)) if cx.rng.random_range(0..100) < self.often => {
                self.fork(cx, inner, &block);
            }
            _ => cx.act(effect),
        }
    }

    fn tick(&mut self, cx: &mut LiarContext<'_>) {
        if cx.rng.random_range(0..100) >= 3 {
            return;
        }
        let Some(view) = cx.view() else { return };
        let Some(old) = view.log().blocks(cx.me).next() else {
            return;
        };
        if let Some(twin) = cx.sign(twin_of(old.block())) {
            cx.flood(&Message::Block(twin.bytes().to_vec()));
        }
    }
}
