//! Steps and adapters that are computed elsewhere.
//!
//! Where a round leads is asked for once for each choice of updates, whoever proposes it, and is known from then on by
//! what it depends on. The adapter itself is made once the step is certified, in the place of the one before: an
//! adapter is large.
//! While a step is computed the run decides nothing; it goes on hearing and answering.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::NodeContext;
use super::certified::Certified;
use super::known::{Known, Ledger};
use super::run::OpenRun;
use super::score::Scorable;
use super::settle::Settling;
use crate::adapter::Adapter;
use crate::event::Effect;
use crate::id::{BlobRef, Round, RunId};
use crate::reject::Rejection;
use crate::round::RoundValue;
use crate::state::{RoundSources, Step, StepKey, Stepped};
use crate::work::{Advance, Load, Outcome, Task, Work};

/// What is known of steps, and whether one is being computed.
#[derive(Default)]
pub(super) struct StepCache {
    outcomes: BTreeMap<StepKey, Result<Stepped, Rejection>>,
    is_computing: bool,
}

impl StepCache {
    /// Whether a step or an adapter is on its way.
    pub(super) fn is_computing(&self) -> bool {
        self.is_computing
    }

    /// Forgets steps to rounds before this one.
    pub(super) fn forget_before(&mut self, round: Round) {
        self.outcomes.retain(|key, _| key.round() >= round);
    }

    /// Has an adapter read from its bytes.
    pub(super) fn load(&mut self, cx: &mut NodeContext, run: RunId, load: Load) {
        self.compute(cx, run, Task::Load(load));
    }

    fn compute(&mut self, cx: &mut NodeContext, run: RunId, task: Task) {
        assert!(!self.is_computing, "one at a time");
        self.is_computing = true;
        cx.emit(Effect::Compute(Box::new(Work { run, task })));
    }

    fn done(&mut self) {
        assert!(self.is_computing, "an outcome that nobody asked for");
        self.is_computing = false;
    }

    /// Keeps where a step leads, unless more than one certificate came while it was computed.
    fn learn(&mut self, open: Round, key: StepKey, outcome: Result<Stepped, Rejection>) {
        if key.round().next() >= open {
            self.outcomes.insert(key, outcome);
        }
    }

    /// Asserts that no step leads beyond the open height.
    pub(super) fn assert_invariants(&self, open: Round) {
        let mut known = self.outcomes.keys();
        assert!(
            known.all(|key| key.round() <= open && key.round().next() >= open),
            "steps to the open height, and to the one certified last"
        );
    }
}

impl Settling {
    /// Where a value's updates lead; `None` while that is computed. Errors are those of [`Step::of`] and
    /// [`Step::foresee`].
    pub(super) fn step_outcome(
        &mut self,
        cx: &mut NodeContext,
        known: Known<'_>,
        value: &RoundValue,
    ) -> Option<Result<Stepped, Rejection>> {
        let open = known.next();
        assert!(
            value.round == open || value.round.next() == open,
            "steps are asked for at the head"
        );
        if let Some(known) = self.steps.outcomes.get(&StepKey::of(value)) {
            return Some(known.clone());
        }
        let before = self.adapter.as_ref();
        let before = before.filter(|(round, _)| round.next() == value.round);
        let sources = RoundSources {
            before: before.map(|(_, adapter)| adapter),
            ..self.evidence(known)
        };
        match Step::of(&known.certified.manifest, value, &sources) {
            Ok(step) => self.steps.compute(cx, known.id(), Task::Step(step)),
            Err(why) => return Some(Err(why)),
        }
        None
    }

    /// Has the adapter made that a certified step leads to, from the one at hand, which is used up.
    pub(super) fn advance_adapter(
        &mut self,
        cx: &mut NodeContext,
        certified: &Certified,
        round: Round,
        stepped: Stepped,
    ) {
        let from = self.adapter.as_ref().map(|(round, _)| *round);
        assert_eq!(
            from,
            round.previous(),
            "a step starts from the adapter before"
        );
        let before = self.adapter.take().map(|(_, adapter)| adapter);
        let judges = certified.may_judge(&cx.me);
        let contributions = stepped.result.open().filter(|_| judges);
        self.scorable = (before.clone().zip(contributions)).map(|(before, each)| Scorable {
            round,
            before,
            contributions: Arc::clone(each),
        });
        let shape = match &before {
            Some(before) => Arc::clone(before.shape()),
            None => Arc::new(certified.manifest.model.adapter.clone()),
        };
        let advance = Advance {
            round,
            before,
            shape,
            stepped,
        };
        self.steps.compute(cx, certified.id, Task::Advance(advance));
    }
}

impl OpenRun {
    /// What was asked for is computed. Returns whether anything may follow from it.
    pub(super) fn on_computed(
        &mut self,
        cx: &mut NodeContext,
        ledger: &mut Ledger,
        outcome: Outcome,
    ) -> bool {
        let steps = &mut self.settling.steps;
        match outcome {
            Outcome::Step(key, outcome) => {
                steps.done();
                let open = self.certified.next();
                assert!(key.round() <= open, "no step leads beyond the open height");
                steps.learn(open, key, outcome);
            }
            Outcome::Advance(round, blob, outcome) => {
                steps.done();
                match outcome {
                    Ok(adapter) => self.arrive(cx, ledger, round, (adapter, blob), None),
                    Err(why) => self.refute_adapter(cx, ledger, round, why),
                }
            }
            Outcome::Load(load, adapter) => {
                steps.done();
                if let Ok(adapter) = adapter {
                    let named = (adapter, load.blob);
                    self.arrive(cx, ledger, load.round, named, Some(load.bytes));
                }
            }
            Outcome::Feedback(feedback, prepared) => {
                return self.on_feedback(cx, ledger, feedback, prepared);
            }
        }
        true
    }

    /// An adapter is here: that of the head, or one from which the head is not far.
    fn arrive(
        &mut self,
        cx: &mut NodeContext,
        ledger: &mut Ledger,
        round: Round,
        (adapter, blob): (Arc<Adapter>, BlobRef),
        bytes: Option<Bytes>,
    ) {
        let settling = &mut self.settling;
        assert!(
            Some(round) <= self.certified.round(),
            "no adapter before its certificate"
        );
        if self.certified.round() == Some(round) {
            // One that was fetched was made by nobody here.
            settling.scorable.take_if(|_| bytes.is_some());
            settling.keep_adapter(cx, &self.certified, ledger, (adapter, blob), bytes);
            assert!(settling.has_adapter(&self.certified), "it is at hand now");
            // Nobody could work for the height before.
            self.height.began = cx.now.monotonic;
        } else if (settling.adapter.as_ref()).is_none_or(|(known, _)| *known < round) {
            settling.adapter = Some((round, adapter));
        }
    }
}
