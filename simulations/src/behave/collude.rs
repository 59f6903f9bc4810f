//! Members that work together, each wherever it can: as evaluators they score friends up and others down, as proposers they
//! choose sheets and leave others' contributions out, as voters they vote for what friends propose, and as contributors they
//! stretch their updates to the length that the rule clips to.

use std::collections::BTreeMap;

use tributary_protocol::consensus::{ConsensusMessage, Signed, Vote, VoteKind};
use tributary_protocol::event::{Effect, Input};
use tributary_protocol::id::ValueId;
use tributary_protocol::round::RoundValue;
use tributary_protocol::wire::Message;

use super::double_vote::{heard, own_words};
use super::instead::Instead;
use super::update::scale;
use super::{Behaviour, LiarContext, omit, pick_sheets};
use crate::network::NETWORK;

/// One of several that share their keys.
#[derive(Default)]
pub(super) struct Collude {
    /// Whether it sends its updates as they are.
    is_plain: bool,
    proposals: Instead,
    /// What friends proposed, by height and attempt.
    friends: BTreeMap<(u32, u32), ValueId>,
}

/// The value with the sheets that favour friends most and the fewest contributions of others, where it is another one.
fn bent(value: &RoundValue, cx: &LiarContext<'_>) -> Option<RoundValue> {
    let picked = pick_sheets::picked(value, cx);
    let value = picked.as_ref().unwrap_or(value);
    omit::omitted(value, cx, &cx.friends()).or(picked)
}

impl Collude {
    /// One that sends its updates as its training gave them.
    pub(super) fn plain() -> Self {
        Self {
            is_plain: true,
            ..Self::default()
        }
    }

    /// Its own vote, where its node votes against what a friend proposed.
    fn vote(&self, cx: &LiarContext<'_>, effect: &Effect) -> Option<Message> {
        let ConsensusMessage::Vote(vote) = own_words(effect, cx.me)? else {
            return None;
        };
        let body = vote.body;
        let friend = self.friends.get(&(body.round.0, body.attempt));
        let is_against = body.kind == VoteKind::Prevote && body.value.is_none();
        let value = friend.copied().filter(|_| is_against)?;
        let value = Some(value);
        let signed = Signed::vote(Vote { value, ..body }, NETWORK, cx.key);
        Some(Message::Consensus(ConsensusMessage::Vote(signed).encode()))
    }
}

impl Behaviour for Collude {
    fn input(&mut self, cx: &mut LiarContext<'_>, mut input: Input) -> Option<Input> {
        match &mut input {
            Input::Scored { sheet, .. } => pick_sheets::bend(sheet, &cx.friends()),
            Input::Trained(trained) if !self.is_plain => {
                trained.delta = scale::update(&trained.delta)
            }
            _ => {}
        }
        if let Some(ConsensusMessage::Proposal(proposal)) = heard(&input)
            && cx.friends().contains(&proposal.body.author)
        {
            let body = proposal.body;
            let at = (body.value.round.0, body.attempt);
            self.friends.retain(|(round, _), _| *round + 1 >= at.0);
            self.friends.insert(at, body.value.id());
        }
        Some(input)
    }

    fn effect(&mut self, cx: &mut LiarContext<'_>, effect: Effect) {
        match (self.vote(cx, &effect), &effect) {
            (Some(vote), Effect::Send { to, .. }) => cx.send(*to, &vote),
            (Some(vote), _) => cx.flood(&vote),
            (None, _) => self.proposals.say(cx, effect, bent),
        }
    }
}
