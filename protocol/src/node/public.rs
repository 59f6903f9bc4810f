//! What was public before a round: the certified updates of the last turns of its factors.
//!
//! Whoever scores a round holds every contribution against them, so that sending back what others have sent
//! earns nothing. An evaluator keeps these updates in memory as they travelled. After a restart they come from
//! its own store, and whoever joined late asks those who certified them: the sheet waits for them, but not for
//! what nobody gives.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::NodeContext;
use super::certified::Certified;
use super::known::Ledger;
use super::settle::Settling;
use crate::aggregate::{ContributionVector, Layout};
use crate::id::{BlobHash, BlobRef, Round};
use crate::replica::PendingFetch;
use crate::update::Packed;

impl Settling {
    /// The vectors that the scores of `round` are held against, flat, oldest round first and by peer within one;
    /// `None` while some of them are on their way.
    pub(super) fn public_before(
        &self,
        cx: &mut NodeContext,
        certified: &Certified,
        ledger: &mut Ledger,
        round: Round,
    ) -> Option<Vec<ContributionVector>> {
        assert_eq!(
            Some(round),
            certified.round(),
            "the round certified last is scored"
        );
        let manifest = &certified.manifest;
        let (mut vectors, mut lacking) = (Vec::new(), Vec::new());
        for earlier in manifest.training.schedule.turns_before(round) {
            let trainable = manifest.training.schedule.trainable(earlier);
            let layout = Layout::new(&manifest.model.adapter, trainable);
            for (blob, providers) in certified.updates_of(earlier) {
                match self.public_updates.get(&blob.hash) {
                    // What is certified was read by its committee.
                    Some(bytes) => {
                        let update =
                            Packed::new(bytes.clone(), layout.len(), manifest.updates.codec);
                        let whole = |update| ContributionVector::new(update, 1.0, layout.clone());
                        vectors.extend(update.ok().map(whole));
                    }
                    None => lacking.push((blob, providers)),
                }
            }
        }
        let blobs = &ledger.replica.blobs;
        let is_given_up = |blob: &BlobRef| {
            blobs
                .wanted(&blob.hash)
                .is_some_and(PendingFetch::is_given_up)
        };
        let waits = lacking.iter().any(|(blob, _)| !is_given_up(blob));
        for (blob, providers) in lacking {
            ledger.want(cx, blob, providers);
        }
        (!waits).then_some(vectors)
    }

    /// Keeps an update that later rounds are held against, if this peer evaluates.
    pub(super) fn keep_public(
        &mut self,
        cx: &NodeContext,
        certified: &Certified,
        hash: BlobHash,
        bytes: Bytes,
    ) {
        if public_updates(cx, certified).contains(&hash) {
            self.public_updates.insert(hash, bytes);
        }
    }

    /// Forgets updates of turns that are over.
    pub(super) fn forget_public(&mut self, cx: &NodeContext, certified: &Certified) {
        let kept = public_updates(cx, certified);
        self.public_updates.retain(|hash, _| kept.contains(hash));
    }
}

/// Updates that an evaluator may need for the round certified last or the open one.
pub(super) fn public_updates(cx: &NodeContext, certified: &Certified) -> BTreeSet<BlobHash> {
    if !certified.may_judge(&cx.me) {
        return BTreeSet::new();
    }
    let schedule = certified.manifest.training.schedule;
    let next = certified.next();
    let last = next.previous().unwrap_or(next);
    let rounds = [schedule.turns_before(last), schedule.turns_before(next)].concat();
    (rounds.into_iter())
        .flat_map(|round| certified.updates_of(round))
        .map(|(blob, _)| blob.hash)
        .collect()
}
