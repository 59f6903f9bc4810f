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

use super::{Behaviour, Stage};
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
    fn draw(stage: &mut Stage<'_>) -> Self {
        match stage.rng.random_range(0..3) {
            0 => Self::OtherValues,
            1 => Self::ForgedSignatures,
            _ => Self::OwnChain,
        }
    }

    fn of(self, stage: &Stage<'_>, certificate: &Certificate) -> Certificate {
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
            (author, Signed::vote(vote, NETWORK, stage.key).signature)
        };
        let signers = certificate.precommits.iter().map(|(author, _)| *author);
        forged.precommits = match self {
            Self::OtherValues => return forged,
            Self::ForgedSignatures => signers.map(sign).collect(),
            Self::OwnChain => vec![sign(stage.me)],
        };
        forged
    }
}

/// Certificates, each forged in the same way.
fn forged<'c>(
    stage: &mut Stage<'_>,
    certificates: impl IntoIterator<Item = &'c Certificate>,
) -> Message {
    let forgery = Forgery::draw(stage);
    let certificates = certificates.into_iter();
    Message::Certificates {
        run: stage.scene.run,
        certificates: certificates
            .map(|certificate| forgery.of(stage, certificate).encode())
            .collect(),
    }
}

/// What its node would tell, bent; nothing where the node tells nothing of the past.
fn bent(stage: &mut Stage<'_>, message: Message) -> Option<Message> {
    match message {
        Message::Certificates { certificates, .. } => {
            let decoded = certificates.iter().map(|bytes| Certificate::decode(bytes));
            let decoded: Vec<Certificate> = decoded.collect::<Result<_, _>>().ok()?;
            Some(forged(stage, &decoded))
        }
        Message::Blocks { run, mut blocks } => {
            for block in &mut blocks {
                // The signature is what a block ends with.
                *block.last_mut()? ^= 1;
            }
            Some(Message::Blocks { run, blocks })
        }
        Message::Heads {
            run,
            mut lists,
            certified,
            wants,
        } => {
            for head in lists.iter_mut().flat_map(|list| &mut list.heads) {
                if head.author != stage.me {
                    head.seq = Seq(head.seq.0 + LONGER);
                    head.block = BlockId(hash::blob(head.block.0.as_bytes()));
                }
            }
            Some(Message::Heads {
                run,
                lists,
                certified,
                wants,
            })
        }
        _ => None,
    }
}

impl Behaviour for ForgeHistory {
    fn effect(&mut self, stage: &mut Stage<'_>, effect: Effect) {
        let Effect::Send { to, bytes } = &effect else {
            return stage.act(effect);
        };
        let message = Message::decode(bytes).ok();
        match message.and_then(|message| bent(stage, message)) {
            Some(lie) => stage.send(*to, &lie),
            None => stage.act(effect),
        }
    }

    fn tick(&mut self, stage: &mut Stage<'_>) {
        self.ticks += 1;
        let chain = stage.view().map_or(&[][..], |view| view.chain());
        if chain.is_empty() || !self.ticks.is_multiple_of(TICKS_BETWEEN) {
            return;
        }
        let lie = forged(stage, chain);
        if let Some(to) = stage.someone() {
            stage.send(to, &lie);
        }
    }
}
