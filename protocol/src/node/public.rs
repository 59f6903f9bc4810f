//! What was public before a round: the certified updates of the last turns of its factors.
//!
//! Whoever scores a round holds every contribution against them, so that sending back what others have sent
//! earns nothing. An evaluator keeps these updates in memory as they travelled. After a restart they come from
//! its own store, and whoever joined late asks those who certified them: the sheet waits for them, but not for
//! what nobody gives.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Desk;
use super::run::Run;
use crate::aggregate::{ContributionVector, Layout};
use crate::id::{BlobHash, BlobRef, PeerId, Round};
use crate::limits;
use crate::manifest::Manifest;
use crate::update::Packed;

impl Run {
    /// The vectors that the scores of `round` are held against, flat, oldest round first and by peer within one;
    /// `None` while some of them are on their way.
    pub(super) fn public_before(
        &mut self,
        desk: &mut Desk,
        round: Round,
    ) -> Option<Vec<ContributionVector>> {
        let manifest = self.manifest.clone()?;
        let (mut vectors, mut lacking) = (Vec::new(), Vec::new());
        for earlier in turns_before(&manifest, round) {
            let trainable = manifest.training.schedule.trainable(earlier);
            let layout = Layout::new(&manifest.model.adapter, trainable);
            for (blob, providers) in self.updates_of(earlier) {
                match self.published.get(&blob.hash) {
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
        let comes = |blob: &BlobRef| self.wanted.get(&blob.hash).is_none_or(|w| !w.is_hopeless());
        let waits = lacking.iter().any(|(blob, _)| comes(blob));
        for (blob, providers) in lacking {
            self.want(desk, blob, providers);
        }
        (!waits).then_some(vectors)
    }

    /// Keeps an update that later rounds are held against, if this peer evaluates.
    pub(super) fn keep_public(&mut self, desk: &Desk, hash: BlobHash, bytes: Bytes) {
        if self.public_updates(desk).contains(&hash) {
            self.published.insert(hash, bytes);
        }
    }

    /// Forgets updates of turns that are over.
    pub(super) fn forget_public(&mut self, desk: &Desk) {
        let kept = self.public_updates(desk);
        self.published.retain(|hash, _| kept.contains(hash));
    }

    /// Updates that an evaluator may need for the round certified last or the open one.
    pub(super) fn public_updates(&self, desk: &Desk) -> BTreeSet<BlobHash> {
        let Some(manifest) = &self.manifest else {
            return BTreeSet::new();
        };
        if manifest.scoring.evaluators.binary_search(&desk.me).is_err() {
            return BTreeSet::new();
        }
        let next = self.next();
        let last = next.previous().unwrap_or(next);
        let rounds = [turns_before(manifest, last), turns_before(manifest, next)].concat();
        (rounds.into_iter())
            .flat_map(|round| self.updates_of(round))
            .map(|(blob, _)| blob.hash)
            .collect()
    }

    /// Updates that a certified round includes, with who should have them.
    fn updates_of(&self, round: Round) -> Vec<(BlobRef, Vec<PeerId>)> {
        let certificate = self.chain.get(round.0 as usize);
        (certificate.iter())
            .flat_map(|certificate| {
                let signers = certificate.precommits.iter().map(|(peer, _)| *peer);
                let providers = move |author| std::iter::once(author).chain(signers.clone());
                (certificate.value.included.iter())
                    .map(move |i| (i.update, providers(i.receipt.author).collect()))
            })
            .collect()
    }
}

/// The last rounds before `round` that trained one of its factors, oldest first.
fn turns_before(manifest: &Manifest, round: Round) -> Vec<Round> {
    let schedule = &manifest.training.schedule;
    let trains = |at: &Round| (schedule.trainable(*at)).overlaps(schedule.trainable(round));
    let before = (1..round.0).rev().map(Round).filter(trains);
    let mut found: Vec<Round> = before.take(limits::PUBLIC_TURNS).collect();
    found.reverse();
    found
}
