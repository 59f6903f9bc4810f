//! Says in each receipt that it trained on more tokens than it did.

use tributary_protocol::event::Input;

use super::{Behaviour, LiarContext};

/// How many times as many.
const TIMES: u64 = 2;

/// A member that names twice the tokens that it trained on.
pub(super) struct GreedyTokens;

impl Behaviour for GreedyTokens {
    fn input(&mut self, _cx: &mut LiarContext<'_>, mut input: Input) -> Option<Input> {
        if let Input::Trained(trained) = &mut input {
            trained.tokens *= TIMES;
        }
        Some(input)
    }
}
