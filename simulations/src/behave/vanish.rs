//! Takes part like everybody else and falls silent for good after some round: no message, no blob.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tributary_protocol::event::Effect;
use tributary_protocol::id::{BlobHash, PeerId, Round};

use super::{Behaviour, LiarContext};

/// Rounds after which it may vanish.
const LATEST: u32 = 2;

/// Falls silent for good after some round.
pub(super) struct Vanish {
    after: Round,
    gone: bool,
}

impl Vanish {
    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        Self {
            after: Round(rng.random_range(0..=LATEST)),
            gone: false,
        }
    }
}

impl Behaviour for Vanish {
    fn effect(&mut self, cx: &mut LiarContext<'_>, effect: Effect) {
        let head = cx.view().and_then(|view| view.head());
        self.gone |= head.is_some_and(|head| head.round >= self.after);
        let speaks = matches!(effect, Effect::Gossip { .. } | Effect::Send { .. });
        if !(self.gone && speaks) {
            cx.act(effect);
        }
    }

    fn serves(&self, _hash: &BlobHash, _to: &PeerId) -> bool {
        !self.gone
    }
}
