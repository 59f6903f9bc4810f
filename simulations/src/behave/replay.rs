//! Repeats what it heard long ago, to everybody or to one, and signs its own old receipts anew.

use rand::Rng;
use tributary_protocol::entry::Entry;
use tributary_protocol::event::{Effect, Input};

use super::{Behaviour, LiarContext};

/// Messages kept.
const KEPT: usize = 400;
/// Messages said again in a tick.
const EACH_TICK: usize = 6;
/// Ticks between two receipts that it signs anew.
const TICKS_BETWEEN_RECEIPTS: u32 = 10;

/// What it heard before, again and much later.
#[derive(Default)]
pub(super) struct Replay {
    heard: Vec<Vec<u8>>,
    ticks: u32,
}

impl Behaviour for Replay {
    fn input(&mut self, cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        if let Input::Gossip { bytes, .. } | Input::Direct { bytes, .. } = &input {
            if self.heard.len() < KEPT {
                self.heard.push(bytes.clone());
            } else if cx.rng.random_range(0..8) == 0 {
                let at = cx.rng.random_range(0..KEPT);
                self.heard[at].clone_from(bytes);
            }
        }
        Some(input)
    }

    fn tick(&mut self, cx: &mut LiarContext<'_>) {
        self.ticks += 1;
        for nth in 0..EACH_TICK.min(self.heard.len()) {
            let bytes = self.heard[cx.rng.random_range(0..self.heard.len())].clone();
            match cx.someone() {
                Some(to) if nth % 2 == 0 => cx.act(Effect::Send { to, bytes }),
                _ => cx.flood_bytes(bytes),
            }
        }
        if self.ticks.is_multiple_of(TICKS_BETWEEN_RECEIPTS)
            && let Some(old) = oldest_receipt(cx)
        {
            cx.write(vec![old]);
        }
    }
}

fn oldest_receipt(cx: &LiarContext<'_>) -> Option<Entry> {
    let mut entries = cx.view()?.log().entries(cx.me);
    entries.find_map(|(_, entry)| matches!(entry, Entry::Contribution(_)).then(|| entry.clone()))
}
