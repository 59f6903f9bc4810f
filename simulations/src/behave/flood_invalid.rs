//! Sends messages that each fail one check: blocks with a damaged signature, blocks in another's name, votes without a
//! seat, certificates with too few votes or of a value that does not follow, proposals out of turn.

use rand::Rng;
use rand::seq::IndexedRandom;
use tributary_protocol::certificate::Certificate;
use tributary_protocol::consensus::{ConsensusMessage, Proposal, Signed, Vote, VoteKind};
use tributary_protocol::entry::Entry;
use tributary_protocol::id::Round;
use tributary_protocol::round::RoundValue;
use tributary_protocol::sign::SecretKey;
use tributary_protocol::wire::Message;

use super::{Behaviour, LiarContext};
use crate::network::NETWORK;

/// Lies each tick.
const EACH_TICK: usize = 6;

/// As many blocks, votes and certificates that fail one check each.
pub(super) struct FloodInvalid;

/// A block of somebody else's log, signed by nobody who could.
fn in_anothers_name(cx: &mut LiarContext<'_>) -> Option<Message> {
    let mut block = cx.next_block(vec![Entry::Leave])?;
    let nobody = SecretKey::from_seed(cx.rng.random());
    block.author = nobody.peer_id();
    (block.seq, block.prev) = (tributary_protocol::id::Seq(0), None);
    let signed = tributary_protocol::log::SignedBlock::sign(block, &nobody).ok()?;
    // The author's bytes stand in the payload as they are: put a member's in their place.
    let (theirs, mine) = (cx.someone()?, nobody.peer_id());
    let mut bytes = signed.bytes().to_vec();
    let at = bytes.windows(32).position(|w| w == mine.as_bytes())?;
    bytes[at..at + 32].copy_from_slice(theirs.as_bytes());
    Some(Message::Block(bytes))
}

fn damaged_signature(cx: &mut LiarContext<'_>) -> Option<Message> {
    let block = cx.next_block(vec![Entry::Leave])?;
    let mut bytes = cx.sign(block)?.bytes().to_vec();
    *bytes.last_mut()? ^= 1;
    Some(Message::Block(bytes))
}

fn next_value(cx: &LiarContext<'_>) -> Option<RoundValue> {
    let last = cx.view()?.chain().last()?;
    let mut value = last.value.clone();
    value.round = value.round.next();
    value.previous = value.state;
    Some(value)
}

fn vote_without_a_seat(cx: &mut LiarContext<'_>) -> Option<Message> {
    let value = next_value(cx)?;
    let stranger = SecretKey::from_seed(cx.rng.random());
    let body = Vote {
        run: value.run,
        round: value.round,
        attempt: 0,
        kind: VoteKind::Precommit,
        value: Some(value.id()),
        author: stranger.peer_id(),
    };
    let vote = Signed::vote(body, NETWORK, &stranger);
    Some(Message::Consensus(ConsensusMessage::Vote(vote).encode()))
}

/// Of a value that no quorum stands behind; in turn only by chance.
fn proposal(cx: &mut LiarContext<'_>) -> Option<Message> {
    let body = Proposal {
        attempt: cx.rng.random_range(0..40),
        polka: None,
        value: next_value(cx)?,
        author: cx.me,
    };
    let words = Signed::<Proposal>::proposal(body, NETWORK, cx.key);
    Some(Message::Consensus(
        ConsensusMessage::Proposal(words).encode(),
    ))
}

fn certificate(cx: &mut LiarContext<'_>) -> Option<Message> {
    let last = cx.view()?.chain().last()?;
    let mut lie: Certificate = last.clone();
    match cx.rng.random_range(0..3) {
        0 => {
            lie.value = next_value(cx)?;
        }
        1 => {
            lie.value = next_value(cx)?;
            lie.precommits.pop();
        }
        _ => {
            // Another value for a round that is certified.
            lie.value.sheets.clear();
            lie.value.scores.clear();
            lie.value.joins.clear();
            if lie.value.round > Round(0) {
                lie.value.included.pop();
            }
        }
    }
    Some(Message::Certificate(lie.encode()))
}

impl Behaviour for FloodInvalid {
    fn tick(&mut self, cx: &mut LiarContext<'_>) {
        type Lie = fn(&mut LiarContext<'_>) -> Option<Message>;
        let lies: [Lie; 5] = [
            in_anothers_name,
            damaged_signature,
            vote_without_a_seat,
            proposal,
            certificate,
        ];
        for _ in 0..EACH_TICK {
            let lie = lies.choose(cx.rng).and_then(|lie| lie(cx));
            let Some(lie) = lie else { continue };
            match cx.someone() {
                Some(to) if cx.rng.random() => cx.send(to, &lie),
                _ => cx.flood(&lie),
            }
        }
    }
}
