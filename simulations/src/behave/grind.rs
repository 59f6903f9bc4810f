//! Tries many keys and values and publishes the ones with the best draw: keys before it joins, and values where it
//! proposes.
//!
//! Its key is the one of hundreds that would be first in turn if the draw followed the beacon that is known when it
//! joins. Of the values that it may propose (without joins, without leaves, with fewer contributions) it takes the one
//! after which it is in turn soonest, is drawn to train, and has the largest part of the votes.

use std::cmp::Reverse;

use tributary_protocol::committee::Committee;
use tributary_protocol::event::Effect;
use tributary_protocol::hash::{Digest, Domain, Hasher};
use tributary_protocol::id::{PeerId, Round, RunId};
use tributary_protocol::round::RoundValue;
use tributary_protocol::sign::SecretKey;
use tributary_protocol::state;

use super::instead::{Instead, rebuilt};
use super::{Behaviour, LiarContext};

/// Keys that it tries.
const KEYS: u64 = 256;
/// Turns that it looks ahead.
const TURNS: u32 = 16;
/// The first height whose committee it could sit in.
const AIM: Round = Round(1);

/// The key and the values, of many, that draw best for itself.
#[derive(Default)]
pub(super) struct Grind(Instead);

/// Of many keys that follow from `seed` the one that comes first in the turns of height 1, as far as anybody can tell
/// before the genesis: by the beacon of nothing.
pub(crate) fn key(run: &RunId, seed: &[u8; 32], others: &[PeerId]) -> [u8; 32] {
    let nth = |nth: u64| {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"ground").update(seed);
        hasher.update(&nth.to_le_bytes());
        *hasher.finalize().as_bytes()
    };
    let turns = |seed: &[u8; 32]| {
        let me = SecretKey::from_seed(*seed).peer_id();
        let committee = guessed(run, &me, others);
        turns_until(&committee, &me)
    };
    let best = (0..KEYS).map(nth).min_by_key(turns);
    best.expect("it tries at least one key")
}

/// The committee that it expects, itself in it.
fn guessed(run: &RunId, me: &PeerId, others: &[PeerId]) -> Committee {
    let everybody = others.iter().chain([me]).map(|peer| (*peer, 1));
    Committee::draw(
        run,
        AIM,
        &Digest::default(),
        everybody,
        |_| true,
        others.len() + 1,
    )
}

fn turns_until(committee: &Committee, me: &PeerId) -> u32 {
    let mut turns = 0..TURNS;
    turns
        .find(|turn| committee.proposer(*turn) == *me)
        .unwrap_or(TURNS)
}

/// How good the draw after a value is for the member that proposes it; more is better.
fn rank(value: &RoundValue, cx: &LiarContext<'_>) -> Option<(Reverse<u32>, bool, u64)> {
    let (manifest, run) = (cx.world.manifest, cx.world.run);
    let head = state::follow(manifest, run, cx.view()?.head(), value).ok()?;
    let committee = state::committee(manifest, &run, Some(&head));
    let part = u128::from(committee.votes(&cx.me)) << 32;
    let part = u64::try_from(part / u128::from(committee.total())).unwrap_or(u64::MAX);
    let turns = Reverse(turns_until(&committee, &cx.me));
    Some((turns, head.is_participant(&cx.me), part))
}

/// The values that it could propose instead of a value.
fn others(value: &RoundValue, cx: &LiarContext<'_>) -> Vec<RoundValue> {
    let mut out = Vec::new();
    for (joins, leaves) in [(false, true), (true, false), (false, false)] {
        out.extend(rebuilt(value, cx, |selection| {
            selection.joins.retain(|_| joins);
            selection.leaves.retain(|_| leaves);
        }));
    }
    for included in &value.included {
        if included.receipt.author != cx.me {
            let kept =
                |selection: &mut state::Selection| selection.included.retain(|i| i != included);
            out.extend(rebuilt(value, cx, kept));
        }
    }
    out
}

/// The value with the best draw, where that is another one.
fn best(value: &RoundValue, cx: &LiarContext<'_>) -> Option<RoundValue> {
    let mut best = (rank(value, cx)?, None);
    for other in others(value, cx) {
        if let Some(rank) = rank(&other, cx)
            && rank > best.0
        {
            best = (rank, Some(other));
        }
    }
    best.1
}

impl Behaviour for Grind {
    fn effect(&mut self, cx: &mut LiarContext<'_>, effect: Effect) {
        self.0.say(cx, effect, best);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ground_key_is_first_in_turn_by_all_that_can_be_known_before_it_joins() {
        let run = RunId(Digest::from_bytes([7; 32]));
        let others: Vec<PeerId> = (1..=20)
            .map(|nth| SecretKey::from_seed([nth; 32]).peer_id())
            .collect();
        let first = |seed: [u8; 32]| {
            let me = SecretKey::from_seed(seed).peer_id();
            guessed(&run, &me, &others).proposer(0) == me
        };
        let seeds = || (100..120).map(|nth| [nth; 32]);
        let plain = seeds().filter(|seed| first(*seed)).count();
        let ground = seeds()
            .filter(|seed| first(key(&run, seed, &others)))
            .count();
        assert!(plain < 6, "{plain} of 20 keys that were not ground");
        assert_eq!(ground, 20);
    }
}
