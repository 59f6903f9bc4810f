//! Proposes values that leave out contributions of others, as many as the manifest allows, and include its own.

use tributary_protocol::event::Effect;
use tributary_protocol::id::PeerId;
use tributary_protocol::round::{Included, RoundValue};

use super::instead::{Instead, rebuilt};
use super::{Behaviour, LiarContext};

/// Proposals that leave others' contributions out.
#[derive(Default)]
pub(super) struct Omit(Instead);

/// The fewest contributions that a value may hold, its own before those of others.
fn fewest(value: &RoundValue, me: &PeerId, least: usize) -> Vec<Included> {
    let (mut kept, others): (Vec<Included>, Vec<Included>) =
        (value.included.iter()).partition(|i| i.receipt.author == *me);
    kept.extend(others);
    kept.truncate(least);
    kept
}

impl Behaviour for Omit {
    fn effect(&mut self, cx: &mut LiarContext<'_>, effect: Effect) {
        self.0.say(cx, effect, |value, cx| {
            let least = cx.world.manifest.plan.min_contributions as usize;
            let kept = (value.included.len() > least).then(|| fewest(value, &cx.me, least))?;
            rebuilt(value, cx, |selection| selection.included = kept)
        });
    }
}
