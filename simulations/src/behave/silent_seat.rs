//! Has a seat in the committee and stays silent there, as if it had vanished at the moment it was needed. Trains and
//! publishes like everybody else.

use tributary_protocol::event::Effect;
use tributary_protocol::wire::Message;

use super::{Behaviour, LiarContext};

/// Takes its seat in the committee and says nothing there.
pub(super) struct SilentSeat;

/// Whether an effect says something of the committee's.
pub(super) fn speaks_as_member(effect: &Effect) -> bool {
    let (Effect::Gossip { bytes, .. } | Effect::Send { bytes, .. }) = effect else {
        return false;
    };
    matches!(Message::decode(bytes), Ok(Message::Consensus(_)))
}

impl Behaviour for SilentSeat {
    fn effect(&mut self, cx: &mut LiarContext<'_>, effect: Effect) {
        if !speaks_as_member(&effect) {
            cx.act(effect);
        }
    }
}
