//! A member whose chain client says that its friends and it have all stake, and the others hardly any.

use tributary_protocol::event::Input;
use tributary_protocol::limits;

use super::{Behaviour, LiarContext};

/// Reads another chain than there is.
pub(super) struct LyingClient;

impl Behaviour for LyingClient {
    fn input(&mut self, cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        let Input::Chain { run, mut facts } = input else {
            return Some(input);
        };
        let is_ours = |peer| {
            cx.world
                .friends
                .iter()
                .any(|friend| friend.peer_id() == peer)
        };
        for (peer, stake) in &mut facts.stakes {
            *stake = if is_ours(*peer) { limits::MAX_STAKE } else { 1 };
        }
        Some(Input::Chain { run, facts })
    }
}
