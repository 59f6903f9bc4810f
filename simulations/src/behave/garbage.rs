//! Sends random bytes, and messages that it has heard with a few bytes changed, cut off or appended.

use rand::{Rng, RngCore};
use tributary_protocol::event::{Effect, Input};

use super::{Behaviour, LiarContext};

/// Messages kept to damage.
const KEPT: usize = 32;
/// Pieces of garbage a tick.
const EACH_TICK: usize = 6;
/// Bytes of the longest piece of noise.
const LONGEST: usize = 2_000;

/// Random bytes and damaged messages.
#[derive(Default)]
pub(super) struct Garbage {
    heard: Vec<Vec<u8>>,
}

impl Garbage {
    fn piece(&self, cx: &mut LiarContext<'_>) -> Vec<u8> {
        let rng = &mut *cx.rng;
        if self.heard.is_empty() || rng.random_range(0..4) == 0 {
            let mut noise = vec![0; rng.random_range(0..LONGEST)];
            rng.fill_bytes(&mut noise);
            return noise;
        }
        let mut bytes = self.heard[rng.random_range(0..self.heard.len())].clone();
        match rng.random_range(0..3) {
            0 => bytes.truncate(rng.random_range(0..=bytes.len())),
            1 => bytes.push(rng.random()),
            _ => {
                for _ in 0..rng.random_range(1..4) {
                    let at = rng.random_range(0..bytes.len());
                    bytes[at] ^= 1 << rng.random_range(0..8);
                }
            }
        }
        bytes
    }
}

impl Behaviour for Garbage {
    fn input(&mut self, cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        if let Input::Gossip { bytes, .. } | Input::Direct { bytes, .. } = &input
            && !bytes.is_empty()
        {
            if self.heard.len() < KEPT {
                self.heard.push(bytes.clone());
            } else {
                let at = cx.rng.random_range(0..KEPT);
                self.heard[at].clone_from(bytes);
            }
        }
        Some(input)
    }

    fn tick(&mut self, cx: &mut LiarContext<'_>) {
        for nth in 0..EACH_TICK {
            let bytes = self.piece(cx);
            match cx.someone() {
                Some(to) if nth % 2 == 0 => cx.act(Effect::Send { to, bytes }),
                _ => cx.flood_bytes(bytes),
            }
        }
    }
}
