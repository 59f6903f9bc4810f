//! Publishes blobs of the right size that are not updates: noise, and numbers that are not finite.

use rand::{Rng, RngCore};
use tributary_protocol::entry::Entry;
use tributary_protocol::event::{Effect, Input, Record};
use tributary_protocol::id::BlobRef;
use tributary_protocol::state;

use super::lying_receipt::receipt;
use super::{Behaviour, LiarContext};

/// Updates of the right size that do not decode or are not finite.
pub(super) struct BrokenUpdate;

impl Behaviour for BrokenUpdate {
    fn input(&mut self, cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        let Input::Trained(trained) = &input else {
            return Some(input);
        };
        let size = state::update_size(cx.world.manifest, trained.round) as usize;
        // All ones are a NaN in f32 and out of range in every other codec.
        let mut bytes = vec![0xff; size];
        if cx.rng.random() {
            cx.rng.fill_bytes(&mut bytes);
        }
        let update = BlobRef::of(&bytes);
        let Some(receipt) = receipt(cx, trained, update) else {
            return Some(input);
        };
        let hash = update.hash;
        cx.act(Effect::Persist(vec![Record::Blob {
            hash,
            bytes: bytes.into(),
        }]));
        cx.act(Effect::OfferBlob(hash));
        cx.write(vec![Entry::Contribution(receipt)]);
        None
    }
}
