//! Other values in place of those that a liar's own node would propose.

use std::collections::BTreeMap;

use tributary_protocol::consensus::{ConsensusMessage, Proposal, Signed};
use tributary_protocol::event::Effect;
use tributary_protocol::id::BlobHash;
use tributary_protocol::round::RoundValue;
use tributary_protocol::state::{self, RoundSources, Selection};
use tributary_protocol::wire::Message;

use super::LiarContext;
use super::double_vote::own_words;
use crate::network::NETWORK;

/// What a proposer says instead of its node's proposals, by round and attempt, so that repetitions agree.
#[derive(Default)]
pub(super) struct Instead(BTreeMap<(u32, u32), Option<Message>>);

impl Instead {
    /// Does an effect, or says `other` of the value where it puts one up for the first time. Without another value the
    /// node's own stands; so does one that has been prevoted, as nobody may change it.
    pub(super) fn say(
        &mut self,
        cx: &mut LiarContext<'_>,
        effect: Effect,
        other: impl FnOnce(&RoundValue, &LiarContext<'_>) -> Option<RoundValue>,
    ) {
        let Some(ConsensusMessage::Proposal(proposal)) = own_words(&effect, cx.me) else {
            return cx.act(effect);
        };
        let body = proposal.body;
        let at = (body.value.round.0, body.attempt);
        let words = self.0.entry(at).or_insert_with(|| {
            let fresh = body.polka.is_none();
            let value = fresh.then(|| other(&body.value, cx)).flatten()?;
            let signed = Signed::<Proposal>::proposal(Proposal { value, ..body }, NETWORK, cx.key);
            let message = ConsensusMessage::Proposal(signed);
            Some(Message::Consensus(message.encode()))
        });
        match (&effect, words.clone()) {
            (Effect::Send { to, .. }, Some(words)) => cx.send(*to, &words),
            (Effect::Gossip { .. }, Some(words)) => cx.flood(&words),
            _ => cx.act(effect),
        }
    }
}

/// The value that follows when something else is chosen, if one does.
pub(super) fn rebuilt(
    value: &RoundValue,
    cx: &LiarContext<'_>,
    change: impl FnOnce(&mut Selection),
) -> Option<RoundValue> {
    let view = cx.view()?;
    let blob = |hash: BlobHash| Some((hash, cx.world.store.blob(&hash)?.clone()));
    let blobs = (value.included.iter())
        .filter_map(|included| blob(included.update.hash))
        .collect();
    let sources = RoundSources {
        log: view.log(),
        before: view.adapter().map(|(_, adapter)| adapter),
        blobs: &blobs,
        judged: view.chain().last().map(|certificate| &certificate.value),
    };
    let mut selection = Selection {
        included: value.included.clone(),
        missed: value.missed.clone(),
        joins: value.joins.clone(),
        call: value.call,
        openings: value.openings.clone(),
        leaves: value.leaves.clone(),
        sheets: value.sheets.clone(),
        filings: value.filings.clone(),
        anchor: value.anchor.clone(),
        attempt: value.attempt,
        link: value.link,
    };
    change(&mut selection);
    let run = cx.world.run;
    let built = state::build(view.manifest()?, run, view.head(), selection, &sources);
    built.ok().map(|(value, _)| value)
}
