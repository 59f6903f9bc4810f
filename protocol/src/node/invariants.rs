//! What holds of a run between any two inputs, asserted after each of them where assertions are on.
//!
//! Every machine states its own invariants beside its code; here is what holds between machines. The simulator and all
//! tests run with them. A liar can make a peer do useless work; it cannot bring about what is excluded here.

use super::Node;
use super::known::Known;
use super::run::{OpenRun, Run};
use crate::event::Effect;
use crate::id::RunId;
use crate::limits;

impl Node {
    fn is_open(&self, run: &RunId) -> bool {
        self.runs.get(run).is_some_and(|run| run.open().is_some())
    }

    /// Asserts what holds of the effects of one input.
    pub(super) fn assert_effects(&self) {
        let me = self.cx.me;
        let mut runs = self.runs.iter();
        assert!(
            runs.all(|(id, run)| *id == run.id()),
            "each run stands under its id"
        );
        for effect in &self.cx.out {
            match effect {
                Effect::Send { to, bytes } => {
                    assert_ne!(*to, me, "nothing is sent to oneself");
                    assert!(bytes.len() <= limits::MAX_DIRECT_BYTES, "a message fits");
                }
                Effect::Gossip { run, bytes } => {
                    assert!(self.runs.contains_key(run), "a run that is followed");
                    assert!(bytes.len() <= limits::MAX_GOSSIP_BYTES, "a flood fits");
                }
                Effect::FetchBlob { blob, providers } => {
                    assert!(!providers.contains(&me), "nobody is asked for its own");
                    assert!(blob.size > 0, "something is fetched");
                }
                Effect::OfferBlob(hash) => {
                    let mut runs = self.runs.values();
                    assert!(
                        runs.any(|run| run.ledger.replica.blobs.is_durable(hash)),
                        "what is offered is on the disk, or before it in line"
                    );
                }
                Effect::Persist(records) => assert!(!records.is_empty(), "something is kept"),
                Effect::Compute(work) => {
                    assert!(self.is_open(&work.run), "an open run computes");
                }
                Effect::Train(task) => assert!(self.is_open(&task.run), "an open run trains"),
                Effect::Score(task) => {
                    assert!(self.is_open(&task.run), "an open run scores");
                    assert!(!task.contributions.is_empty(), "somebody is scored");
                }
                _ => {}
            }
        }
    }
}

impl Run {
    /// Asserts everything.
    pub(super) fn assert_invariants(&self) {
        assert!(self.is_ticking(), "a run that is followed compares heads");
        self.ledger.replica.assert_invariants();
        self.ledger.index.assert_invariants();
        let Some(open) = self.open() else { return };
        let known = Known::new(&open.certified, &self.ledger);
        open.certified.assert_invariants();
        open.height.assert_invariants(known);
        open.settling.assert_invariants(&open.certified);
        open.publishing.assert_invariants(known.next());
        open.assert_between_machines(known);
        self.assert_membership();
    }

    /// What the owner asked for is in the own log, or will be.
    fn assert_membership(&self) {
        let wish = &self.membership;
        let committed = wish.join.as_ref().and_then(|join| join.sketch);
        assert!(
            wish.sketch.is_none() || committed.is_some(),
            "the join commits to the sketch that is opened"
        );
    }
}

impl OpenRun {
    fn assert_between_machines(&self, known: Known<'_>) {
        let (certified, blobs) = (known.certified, &known.ledger.replica.blobs);
        let next = known.next();
        assert!(
            self.replay.keys().all(|round| *round >= next),
            "no record of a decided height is left to replay"
        );
        assert!(
            certified.is_finished() || !self.replay.contains_key(&next),
            "the record of the open height went into its seat"
        );
        assert!(
            !self.publishing.is_training() || self.settling.has_adapter(certified),
            "training starts from the certified adapter"
        );
        assert!(
            self.refuted.as_ref().is_none_or(|refuted| {
                refuted.round == next || Some(refuted.round) == certified.round()
            }),
            "a run stops at its head, or before the next"
        );
        assert!(
            self.refuted.is_none() || !self.publishing.is_training(),
            "a run that stopped does not train"
        );
        assert!(
            (self.publishing.sealed().iter()).all(|hash| blobs.is_durable(hash)),
            "a sealed update is on the disk"
        );
        let mut published = self.settling.public_updates.keys();
        assert!(
            published.all(|hash| blobs.is_durable(hash)),
            "what was public is on the disk"
        );
    }
}
