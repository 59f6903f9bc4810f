//! Puts up values that leave contributions of others out: as many as the manifest lets it, with its own in.

use std::collections::BTreeMap;

use tributary_protocol::consensus::{ConsensusMessage, Proposal, Signed};
use tributary_protocol::event::Effect;
use tributary_protocol::id::PeerId;
use tributary_protocol::round::{Included, RoundValue};
use tributary_protocol::wire::Message;

use super::double_proposal::with_contributions;
use super::double_vote::own_words;
use super::{Behaviour, Stage};
use crate::world::NETWORK;

/// See the module.
#[derive(Default)]
pub(super) struct Omit {
    /// What it says instead of its node's proposal, by round and attempt, so that repetitions agree.
    instead: BTreeMap<(u32, u32), Option<Message>>,
}

/// The fewest contributions that a value may hold, its own before those of others.
fn fewest(value: &RoundValue, me: &PeerId, least: usize) -> Vec<Included> {
    let (mut kept, others): (Vec<Included>, Vec<Included>) =
        (value.included.iter()).partition(|i| i.receipt.author == *me);
    kept.extend(others);
    kept.truncate(least);
    kept
}

impl Behaviour for Omit {
    fn effect(&mut self, stage: &mut Stage<'_>, effect: Effect) {
        let Some(ConsensusMessage::Proposal(proposal)) = own_words(&effect, stage.me) else {
            return stage.act(effect);
        };
        let at = (proposal.body.value.round.0, proposal.body.attempt);
        let instead = self.instead.entry(at).or_insert_with(|| {
            let value = &proposal.body.value;
            let least = stage.scene.manifest.min_contributions as usize;
            let fresh = proposal.body.polka.is_none() && value.included.len() > least;
            let kept = fresh.then(|| fewest(value, &stage.me, least))?;
            let body = Proposal {
                value: with_contributions(value, kept, stage)?,
                ..proposal.body.clone()
            };
            let signed = Signed::<Proposal>::proposal(body, NETWORK, stage.key);
            Some(Message::Consensus(
                ConsensusMessage::Proposal(signed).encode(),
            ))
        });
        match (&effect, instead.clone()) {
            (Effect::Send { to, .. }, Some(words)) => stage.send(*to, &words),
            (Effect::Gossip { .. }, Some(words)) => stage.flood(&words),
            _ => stage.act(effect),
        }
    }
}
