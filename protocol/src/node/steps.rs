//! Steps and adapters that are computed elsewhere.
//!
//! What a round makes of the adapter is asked for once for each choice of updates, whoever puts it up, and is known
//! from then on by what it depends on. Only the outcome of the last one is kept whole: an adapter is large.
//! While a step is computed the run decides nothing; it goes on hearing and answering.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Desk;
use super::run::Run;
use crate::adapter::Adapter;
use crate::event::Effect;
use crate::id::{BlobRef, Round};
use crate::reject::Rejection;
use crate::round::RoundValue;
use crate::state::{Derived, Evidence, Step, StepKey};
use crate::work::{Load, Outcome, Task, Work};

/// What is known of steps, and whether one is being computed.
#[derive(Default)]
pub(super) struct Steps {
    outcomes: BTreeMap<StepKey, Result<BlobRef, Rejection>>,
    last: Option<(StepKey, Derived)>,
    is_computing: bool,
}

impl Steps {
    /// Whether a step or an adapter is on its way.
    pub(super) fn is_computing(&self) -> bool {
        self.is_computing
    }

    /// The whole outcome of a step, if it was the last one. It is not kept any longer.
    pub(super) fn take(&mut self, value: &RoundValue) -> Option<Derived> {
        let last = (self.last).take_if(|(key, _)| *key == StepKey::of(value));
        last.map(|(_, derived)| derived)
    }

    /// Forgets steps to rounds before this one.
    pub(super) fn forget_before(&mut self, round: Round) {
        self.outcomes.retain(|key, _| key.round() >= round);
        self.last.take_if(|(key, _)| key.round() < round);
    }

    fn learn(&mut self, key: StepKey, outcome: Result<Derived, Rejection>) {
        assert!(self.is_computing, "a step that nobody asked for");
        self.is_computing = false;
        let blob = outcome.as_ref().map(|derived| derived.blob);
        self.outcomes
            .insert(key.clone(), blob.map_err(Rejection::clone));
        if let Ok(derived) = outcome {
            self.last = Some((key, derived));
        }
    }
}

impl Run {
    /// The name of the adapter that a value's updates lead to; `None` while that is computed. Errors are those of
    /// [`Step::of`] and [`Step::take`].
    pub(super) fn stepped_to(
        &mut self,
        desk: &mut Desk,
        value: &RoundValue,
    ) -> Option<Result<BlobRef, Rejection>> {
        if let Some(known) = self.steps.outcomes.get(&StepKey::of(value)) {
            return Some(known.clone());
        }
        self.take_step(desk, value).err().map(Err)
    }

    /// Has a value's step computed.
    pub(super) fn take_step(
        &mut self,
        desk: &mut Desk,
        value: &RoundValue,
    ) -> Result<(), Rejection> {
        assert!(!self.steps.is_computing, "one step at a time");
        let manifest = (self.manifest.as_ref()).expect("no value without its run's manifest");
        let before = self.adapter.as_ref();
        let before = before.filter(|(round, _)| round.next() == value.round);
        let evidence = Evidence {
            before: before.map(|(_, adapter)| adapter),
            ..self.evidence()
        };
        let step = Step::of(manifest, value, &evidence)?;
        // Of the adapters of one step the one before, the one after, and no third.
        self.steps.last = None;
        self.compute(desk, Task::Step(step));
        Ok(())
    }

    /// Has an adapter read from its bytes.
    pub(super) fn load(&mut self, desk: &mut Desk, load: Load) {
        assert!(!self.steps.is_computing, "one adapter at a time");
        self.compute(desk, Task::Load(load));
    }

    fn compute(&mut self, desk: &mut Desk, task: Task) {
        self.steps.is_computing = true;
        let run = self.id;
        desk.emit(Effect::Compute(Box::new(Work { run, task })));
    }

    /// What was asked for is computed. Returns whether anything may follow from it.
    pub(super) fn on_computed(&mut self, desk: &mut Desk, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Step(key, outcome) => self.steps.learn(key, outcome),
            Outcome::Load(load, adapter) => {
                assert!(self.steps.is_computing, "an adapter that nobody asked for");
                self.steps.is_computing = false;
                if let Ok(adapter) = adapter {
                    self.loaded(desk, load, adapter);
                }
            }
            Outcome::Feedback(feedback, prepared) => {
                return self.on_feedback(desk, feedback, prepared);
            }
        }
        true
    }

    /// An adapter that was fetched is here: that of the head, or the one from which the head is one step away.
    fn loaded(&mut self, desk: &mut Desk, load: Load, adapter: Arc<Adapter>) {
        let is_heads = (self.head.as_ref()).is_some_and(|head| head.round == load.round);
        if is_heads {
            self.stepped = None;
            self.keep_adapter(desk, adapter, load.blob, Some(load.bytes));
        } else if self
            .adapter
            .as_ref()
            .is_none_or(|(round, _)| *round < load.round)
        {
            self.adapter = Some((load.round, adapter));
        }
    }
}
