//! Votes twice in one attempt: where its node votes for a value, it also votes against it, and the other way round; it
//! shows each half of the network a different vote, or shows everybody both.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tributary_protocol::consensus::{ConsensusMessage, Signed, Vote};
use tributary_protocol::event::{Effect, Input};
use tributary_protocol::id::{PeerId, Round, ValueId};
use tributary_protocol::wire::Message;

use super::{Behaviour, LiarContext};
use crate::network::NETWORK;

/// Two votes in one attempt.
pub(super) struct DoubleVote {
    /// Whether the two votes go to different peers.
    apart: bool,
    /// The peers that are shown the second vote.
    second: Vec<PeerId>,
    /// The newest value proposed, by round: what to vote for where the node votes for nothing.
    values: BTreeMap<Round, ValueId>,
}

impl DoubleVote {
    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        Self {
            apart: rng.random_range(0..3) > 0,
            second: Vec::new(),
            values: BTreeMap::new(),
        }
    }

    fn twin_of(&self, vote: &Vote, cx: &LiarContext<'_>) -> Option<Message> {
        let value = match vote.value {
            Some(_) => None,
            None => Some(*self.values.get(&vote.round)?),
        };
        let twin = Signed::vote(Vote { value, ..*vote }, NETWORK, cx.key);
        Some(Message::Consensus(ConsensusMessage::Vote(twin).encode()))
    }
}

/// The committee message in an effect, when `me` said it.
pub(super) fn own_words(effect: &Effect, me: PeerId) -> Option<ConsensusMessage> {
    let (Effect::Gossip { bytes, .. } | Effect::Send { bytes, .. }) = effect else {
        return None;
    };
    let Ok(Message::Consensus(inner)) = Message::decode(bytes) else {
        return None;
    };
    let words = ConsensusMessage::decode(&inner).ok()?;
    (words.author() == me).then_some(words)
}

/// The committee message that arrives, if one does.
pub(super) fn heard(input: &Input) -> Option<ConsensusMessage> {
    let (Input::Gossip { bytes, .. } | Input::Direct { bytes, .. }) = input else {
        return None;
    };
    match Message::decode(bytes) {
        Ok(Message::Consensus(inner)) => ConsensusMessage::decode(&inner).ok(),
        _ => None,
    }
}

impl Behaviour for DoubleVote {
    fn input(&mut self, _cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        if let Some(ConsensusMessage::Proposal(proposal)) = heard(&input) {
            let value = &proposal.body.value;
            self.values.insert(value.round, value.id());
        }
        Some(input)
    }

    fn effect(&mut self, cx: &mut LiarContext<'_>, effect: Effect) {
        let Some(ConsensusMessage::Vote(vote)) = own_words(&effect, cx.me) else {
            return cx.act(effect);
        };
        let Some(twin) = self.twin_of(&vote.body, cx) else {
            return cx.act(effect);
        };
        if self.second.is_empty() {
            self.second = cx.halves().0;
        }
        match &effect {
            Effect::Send { to, .. } if self.apart && self.second.contains(to) => {
                cx.send(*to, &twin);
            }
            Effect::Gossip { .. } if self.apart => {
                let first = Message::Consensus(ConsensusMessage::Vote(vote).encode());
                for peer in cx.others() {
                    let side = if self.second.contains(&peer) {
                        &twin
                    } else {
                        &first
                    };
                    cx.send(peer, side);
                }
            }
            Effect::Gossip { .. } => {
                cx.act(effect);
                cx.flood(&twin);
            }
            _ => cx.act(effect),
        }
    }
}
