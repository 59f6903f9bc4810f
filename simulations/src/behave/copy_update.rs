//! Does no work of its own: waits for the first update of somebody else that it can fetch, and publishes the
//! same bytes under its own name.

use bytes::Bytes;
use tributary_protocol::entry::{Contribution, Entry};
use tributary_protocol::event::{Effect, Input, Record, Trained};
use tributary_protocol::id::{BlobHash, BlobRef, PeerId};
use tributary_protocol::log::Unverified;
use tributary_protocol::wire::Message;

use super::lying_receipt::receipt;
use super::{Behaviour, LiarContext};
use crate::network::NETWORK;

/// Waits for an update of somebody else and publishes it as its own.
#[derive(Default)]
pub(super) struct CopyUpdate {
    /// What its own training would have been announced with, until it has published.
    open: Option<Trained>,
    /// The update that it is after, and whose that is.
    prey: Option<(BlobRef, PeerId)>,
    /// Receipts of others that it has heard.
    heard: Vec<(PeerId, Contribution)>,
}

impl CopyUpdate {
    fn hear(&mut self, me: PeerId, block: &[u8]) {
        let Ok(block) = Unverified::decode(block, NETWORK) else {
            return;
        };
        let author = block.block().author;
        let receipts = block
            .block()
            .entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Contribution(receipt) if author != me => Some((author, *receipt)),
                _ => None,
            });
        self.heard.extend(receipts);
    }

    fn hunt(&mut self, cx: &mut LiarContext<'_>) {
        let Some(trained) = self.open.as_ref().filter(|_| self.prey.is_none()) else {
            return;
        };
        let found = (self.heard.iter()).find(|(_, receipt)| receipt.round == trained.round);
        if let Some((author, receipt)) = found {
            self.prey = Some((receipt.update, *author));
            cx.act(Effect::FetchBlob {
                blob: receipt.update,
                providers: vec![*author],
            });
        }
    }

    fn publish(&mut self, cx: &mut LiarContext<'_>, hash: BlobHash, bytes: &Bytes) {
        let Some((blob, _)) = self.prey.filter(|(blob, _)| blob.hash == hash) else {
            return;
        };
        let signed = self.open.as_ref().and_then(|t| receipt(cx, t, blob));
        if let Some(copied) = signed {
            let bytes = bytes.clone();
            cx.act(Effect::Persist(vec![Record::Blob { hash, bytes }]));
            cx.act(Effect::OfferBlob(hash));
            cx.write(vec![Entry::Contribution(copied)]);
        }
        (self.open, self.prey) = (None, None);
    }
}

impl Behaviour for CopyUpdate {
    fn input(&mut self, cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        match &input {
            Input::Trained(trained) => {
                let round = trained.round;
                self.heard.retain(|(_, receipt)| receipt.round >= round);
                (self.open, self.prey) = (Some(trained.clone()), None);
                self.hunt(cx);
                return None;
            }
            Input::Gossip { bytes, .. } => {
                if let Ok(Message::Block(block)) = Message::decode(bytes) {
                    self.hear(cx.me, &block);
                    self.hunt(cx);
                }
            }
            Input::Blob(blob) => self.publish(cx, blob.hash(), blob.bytes()),
            // Not revealed yet: the next attempt waits for as long as a refusal takes.
            Input::BlobFailed(hash) => {
                if let Some((blob, author)) = self.prey.filter(|(blob, _)| blob.hash == *hash) {
                    cx.act(Effect::FetchBlob {
                        blob,
                        providers: vec![author],
                    });
                }
            }
            _ => {}
        }
        Some(input)
    }
}
