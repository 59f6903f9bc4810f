//! Steps and adapters that are computed elsewhere.
//!
//! Where a round leads is asked for once for each choice of updates, whoever proposes it, and is known from then on by
//! what it depends on. The adapter itself is made once the step is certified, in the place of the one before: an
//! adapter is large.
//! While a step is computed the run decides nothing; it goes on hearing and answering.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Desk;
use super::run::{Run, Scorable};
use crate::adapter::Adapter;
use crate::event::Effect;
use crate::id::{BlobRef, Round};
use crate::reject::Rejection;
use crate::round::RoundValue;
use crate::state::{RoundSources, Step, StepKey, Stepped};
use crate::work::{Advance, Load, Outcome, Task, Work};

/// What is known of steps, and whether one is being computed.
#[derive(Default)]
pub(super) struct Steps {
    outcomes: BTreeMap<StepKey, Result<Stepped, Rejection>>,
    is_computing: bool,
}

impl Steps {
    /// Whether a step or an adapter is on its way.
    pub(super) fn is_computing(&self) -> bool {
        self.is_computing
    }

    /// Forgets steps to rounds before this one.
    pub(super) fn forget_before(&mut self, round: Round) {
        self.outcomes.retain(|key, _| key.round() >= round);
    }

    fn done(&mut self) {
        assert!(self.is_computing, "an outcome that nobody asked for");
        self.is_computing = false;
    }
}

impl Run {
    /// Where a value's updates lead; `None` while that is computed. Errors are those of [`Step::of`] and
    /// [`Step::foresee`].
    pub(super) fn stepped_to(
        &mut self,
        desk: &mut Desk,
        value: &RoundValue,
    ) -> Option<Result<Stepped, Rejection>> {
        if let Some(known) = self.steps.outcomes.get(&StepKey::of(value)) {
            return Some(known.clone());
        }
        let manifest = (self.manifest.as_ref()).expect("no value without its run's manifest");
        let before = self.adapter.as_ref();
        let before = before.filter(|(round, _)| round.next() == value.round);
        let sources = RoundSources {
            before: before.map(|(_, adapter)| adapter),
            ..self.sources()
        };
        match Step::of(manifest, value, &sources) {
            Ok(step) => self.compute(desk, Task::Step(step)),
            Err(why) => return Some(Err(why)),
        }
        None
    }

    /// Has the adapter made that a certified step leads to, from the one at hand, which is used up.
    pub(super) fn advance_adapter(&mut self, desk: &mut Desk, round: Round, stepped: Stepped) {
        let manifest = (self.manifest.as_ref()).expect("no step without its run's manifest");
        let before = self.adapter.take().map(|(_, adapter)| adapter);
        let judges = manifest.scoring.evaluators.binary_search(&desk.me).is_ok();
        let contributions = stepped.result.open().filter(|_| judges);
        self.scorable = (before.clone().zip(contributions)).map(|(before, each)| Scorable {
            round,
            before,
            contributions: Arc::clone(each),
        });
        let shape = match &before {
            Some(before) => Arc::clone(before.shape()),
            None => Arc::new(manifest.model.adapter.clone()),
        };
        self.compute(
            desk,
            Task::Advance(Advance {
                round,
                before,
                shape,
                stepped,
            }),
        );
    }

    /// Has an adapter read from its bytes.
    pub(super) fn load(&mut self, desk: &mut Desk, load: Load) {
        self.compute(desk, Task::Load(load));
    }

    fn compute(&mut self, desk: &mut Desk, task: Task) {
        assert!(!self.steps.is_computing, "one at a time");
        self.steps.is_computing = true;
        let run = self.id;
        desk.emit(Effect::Compute(Box::new(Work { run, task })));
    }

    /// What was asked for is computed. Returns whether anything may follow from it.
    pub(super) fn on_computed(&mut self, desk: &mut Desk, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Step(key, outcome) => {
                self.steps.done();
                self.steps.outcomes.insert(key, outcome);
            }
            Outcome::Advance(round, blob, outcome) => {
                self.steps.done();
                match outcome {
                    Ok(adapter) => self.arrive(desk, round, adapter, blob, None),
                    Err(why) => self.refute_adapter(desk, round, why),
                }
            }
            Outcome::Load(load, adapter) => {
                self.steps.done();
                if let Ok(adapter) = adapter {
                    self.arrive(desk, load.round, adapter, load.blob, Some(load.bytes));
                }
            }
            Outcome::Feedback(feedback, prepared) => {
                return self.on_feedback(desk, feedback, prepared);
            }
        }
        true
    }

    /// An adapter is here: that of the head, or one from which the head is not far.
    fn arrive(
        &mut self,
        desk: &mut Desk,
        round: Round,
        adapter: Arc<Adapter>,
        blob: BlobRef,
        bytes: Option<Bytes>,
    ) {
        let is_heads = self.head.as_ref().is_some_and(|head| head.round == round);
        if is_heads {
            // One that was fetched was made by nobody here.
            self.scorable.take_if(|_| bytes.is_some());
            self.keep_adapter(desk, adapter, blob, bytes);
        } else if (self.adapter.as_ref()).is_none_or(|(known, _)| *known < round) {
            self.adapter = Some((round, adapter));
        }
    }
}
