//! Proposes values that leave out contributions of others, as many as the manifest allows, and include its own.

use std::collections::BTreeSet;

use tributary_protocol::event::Effect;
use tributary_protocol::id::PeerId;
use tributary_protocol::round::{Included, RoundValue};

use super::instead::{Instead, rebuilt};
use super::{Behaviour, LiarContext};

/// Proposals that leave others' contributions out.
#[derive(Default)]
pub(super) struct Omit(Instead);

/// The fewest contributions that a value may hold, those of friends before those of others.
fn fewest(value: &RoundValue, friends: &BTreeSet<PeerId>, least: usize) -> Vec<Included> {
    let (mut kept, others): (Vec<Included>, Vec<Included>) =
        (value.included.iter()).partition(|i| friends.contains(&i.receipt.author));
    kept.extend(others);
    kept.truncate(least);
    kept
}

/// The value with the fewest contributions that it may hold, where it holds more.
pub(super) fn omitted(
    value: &RoundValue,
    cx: &LiarContext<'_>,
    friends: &BTreeSet<PeerId>,
) -> Option<RoundValue> {
    let least = cx.world.manifest.plan.min_contributions as usize;
    let kept = (value.included.len() > least).then(|| fewest(value, friends, least))?;
    rebuilt(value, cx, |selection| selection.included = kept)
}

impl Behaviour for Omit {
    fn effect(&mut self, cx: &mut LiarContext<'_>, effect: Effect) {
        self.0.say(cx, effect, |value, cx| {
            omitted(value, cx, &BTreeSet::from([cx.me]))
        });
    }
}
