//! Sends peers that are behind a history that never was, both when asked and unasked.
//!
//! Certificates of past rounds say something else under the old signatures, or the same under forged ones; a chain of
//! its own begins with a genesis that it signed itself; blocks of others carry what they never wrote, and heads name
//! blocks that nobody has. It suppresses what its own node would have answered truthfully.

use rand::Rng;
use tributary_protocol::certificate::Certificate;
use tributary_protocol::consensus::{Signed, Vote, VoteKind};
use tributary_protocol::event::Effect;
use tributary_protocol::hash;
use tributary_protocol::id::{BlobHash, BlockId, PeerId, Seq};
use tributary_protocol::wire::Message;

use super::{Behaviour, LiarContext};
use crate::network::NETWORK;

/// Ticks between two histories that it tells somebody unasked.
const TICKS_BETWEEN: u32 = 5;
/// By how many blocks heads are longer than the logs that they name.
const LONGER: u64 = 3;

/// Forged certificates, blocks and heads for those that are behind.
#[derive(Default)]
pub(super) struct ForgeHistory {
    ticks: u32,
}

/// Ways to forge a chain of certificates.
#[derive(Clone, Copy)]
enum Forgery {
    /// Other values under the signatures of the true ones.
    OtherValues,
    /// The true values, signed by itself in the names of the others.
    ForgedSignatures,
    /// Its own values, signed by itself in its own name.
    OwnChain,
}

impl Forgery {
    fn draw(cx: &mut LiarContext<'_>) -> Self {
        match cx.rng.random_range(0..3) {
            0 => Self::OtherValues,
            1 => Self::ForgedSignatures,
            _ => Self::OwnChain,
        }
    }

    fn of(self, cx: &LiarContext<'_>, certificate: &Certificate) -> Certificate {
        let mut forged = certificate.clone();
        if !matches!(self, Self::ForgedSignatures) {
            let lie = hash::blob(certificate.value.id().0.as_bytes());
            forged.value.adapter.hash = BlobHash(lie);
        }
        let sign = |author: PeerId| {
            let vote = Vote {
                run: forged.value.run,
                round: forged.value.round,
                attempt: forged.attempt,
                kind: VoteKind::Precommit,
                value: Some(forged.value.id()),
                author,
            };
            (author, Signed::vote(vote, NETWORK, cx.key).signature)
        };
        let signers = certificate.precommits.iter().map(|(author, _)| *author);
        forged.precommits = match self {
            Self::OtherValues => return forged,
            Self::ForgedSignatures => signers.map(sign).collect(),
            Self::OwnChain => vec![sign(cx.me)],
        };
        forged
    }
}

/// Certificates, each forged in the same way.
fn forged<'c>(
    cx: &mut LiarContext<'_>,
    certificates: impl IntoIterator<Item = &'c Certificate>,
) -> Message {
    let forgery = Forgery::draw(cx);
    let certificates = certificates.into_iter();
    Message::Certificates {
        run: cx.world.run,
        certificates: certificates
            .map(|certificate| forgery.of(cx, certificate).encode())
            .collect(),
    }
}

/// What its node would tell, bent; nothing where the node tells nothing of the past.
fn bent(cx: &mut LiarContext<'_>, message: Message) -> Option<Message> {
    match message {
        Message::Certificates { certificates, .. } => {
            let decoded = certificates.iter().map(|bytes| Certificate::decode(bytes));
            let decoded: Vec<Certificate> = decoded.collect::<Result<_, _>>().ok()?;
            Some(forged(cx, &decoded))
        }
        Message::Blocks { scope, mut blocks } => {
            for block in &mut blocks {
                // The signature is what a block ends with.
                *block.last_mut()? ^= 1;
            }
            Some(Message::Blocks { scope, blocks })
        }
        Message::Heads {
            scope,
            mut lists,
            certified,
            wants,
        } => {
            for head in lists.iter_mut().flat_map(|list| &mut list.heads) {
                if head.author != cx.me {
                    head.seq = Seq(head.seq.0 + LONGER);
                    head.block = BlockId(hash::blob(head.block.0.as_bytes()));
                }
            }
            Some(Message::Heads {
                scope,
                lists,
                certified,
                wants,
            })
        }
        _ => None,
    }
}

impl Behaviour for ForgeHistory {
    fn effect(&mut self, cx: &mut LiarContext<'_>, effect: Effect) {
        let Effect::Send { to, bytes } = &effect else {
            return cx.act(effect);
        };
        let message = Message::decode(bytes).ok();
        match message.and_then(|message| bent(cx, message)) {
            Some(lie) => cx.send(*to, &lie),
            None => cx.act(effect),
        }
    }

    fn tick(&mut self, cx: &mut LiarContext<'_>) {
        self.ticks += 1;
        let chain = cx.view().map_or(&[][..], |view| view.chain());
        if chain.is_empty() || !self.ticks.is_multiple_of(TICKS_BETWEEN) {
            return;
        }
        let lie = forged(cx, chain);
        if let Some(to) = cx.someone() {
            cx.send(to, &lie);
        }
    }
}
