//! Proposes two values in one attempt, a different one for each half of the network: its node's, and one that leaves
//! somebody's contribution out (valid as well), or one whose outcome is wrong.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tributary_protocol::consensus::{ConsensusMessage, Proposal, Signed};
use tributary_protocol::event::Effect;
use tributary_protocol::id::{BlobHash, PeerId};
use tributary_protocol::round::RoundValue;
use tributary_protocol::wire::Message;

use super::double_vote::own_words;
use super::instead::rebuilt;
use super::{Behaviour, LiarContext};
use crate::network::NETWORK;

/// Two proposals in one attempt.
pub(super) struct DoubleProposal {
    second: Vec<PeerId>,
    /// Second proposals by the attempt they stand for, so that repetitions agree.
    twins: BTreeMap<(u32, u32), Message>,
    /// Whether it also proposes values that do not follow.
    wrong: bool,
}

impl DoubleProposal {
    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        Self {
            second: Vec::new(),
            twins: BTreeMap::new(),
            wrong: rng.random_range(0..4) == 0,
        }
    }

    fn twin_of(&mut self, proposal: &Proposal, cx: &LiarContext<'_>) -> Message {
        let at = (proposal.value.round.0, proposal.attempt);
        let wrong = self.wrong;
        let twin = self.twins.entry(at).or_insert_with(|| {
            let other = (!wrong).then(|| without_one(&proposal.value, cx)).flatten();
            let body = Proposal {
                value: other.unwrap_or_else(|| does_not_follow(&proposal.value)),
                polka: None,
                ..proposal.clone()
            };
            let twin = Signed::<Proposal>::proposal(body, NETWORK, cx.key);
            Message::Consensus(ConsensusMessage::Proposal(twin).encode())
        });
        twin.clone()
    }
}

/// The value with one contribution left out, if that many can be spared.
fn without_one(value: &RoundValue, cx: &LiarContext<'_>) -> Option<RoundValue> {
    let kept = value.included[..value.included.len().checked_sub(1)?].to_vec();
    rebuilt(value, cx, |selection| selection.included = kept)
}

fn does_not_follow(value: &RoundValue) -> RoundValue {
    let mut wrong = value.clone();
    wrong.scores.pop();
    wrong.sheets.pop();
    wrong.adapter.hash = BlobHash(value.id().0);
    wrong
}

impl Behaviour for DoubleProposal {
    fn effect(&mut self, cx: &mut LiarContext<'_>, effect: Effect) {
        let Some(ConsensusMessage::Proposal(proposal)) = own_words(&effect, cx.me) else {
            return cx.act(effect);
        };
        let twin = self.twin_of(&proposal.body, cx);
        if self.second.is_empty() {
            self.second = cx.halves().0;
        }
        match &effect {
            Effect::Send { to, .. } if self.second.contains(to) => cx.send(*to, &twin),
            Effect::Gossip { .. } => {
                let first = Message::Consensus(ConsensusMessage::Proposal(proposal).encode());
                for peer in cx.others() {
                    let side = if self.second.contains(&peer) {
                        &twin
                    } else {
                        &first
                    };
                    cx.send(peer, side);
                }
            }
            _ => cx.act(effect),
        }
    }
}
