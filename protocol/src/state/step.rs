//! The arithmetic of a round: from the adapter before and the updates to the adapter after.
//!
//! A [`Step`] holds everything that the outcome depends on and nothing else, so that it can be taken anywhere: on
//! another thread, by an auditor, once for all proposals that include the same updates ([`Step::key`]).

use std::sync::Arc;

use bytes::Bytes;

use super::{RoundResult, RoundSources};
use crate::adapter::{Adapter, numbers_as_bytes};
use crate::aggregate::{self, Layout, Weighted};
use crate::hash::BlobHasher;
use crate::id::{BlobHash, BlobRef, PeerId, Round, RunId};
use crate::manifest::{Manifest, Privacy};
use crate::reject::Rejection;
use crate::round::RoundValue;
use crate::update::Packed;

/// One round's computation, complete with everything that its outcome depends on.
#[derive(Clone, Debug)]
pub struct Step {
    manifest: Arc<Manifest>,
    run: RunId,
    round: Round,
    before: Option<Arc<Adapter>>,
    parts: Vec<(PeerId, u64, Bytes)>,
    key: StepKey,
}

/// What tells steps of one run apart: of one round, with the same updates at the same weights, they are the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepKey {
    round: Round,
    parts: Vec<(PeerId, u64, BlobHash)>,
}

impl StepKey {
    /// The round that the step makes.
    pub fn round(&self) -> Round {
        self.round
    }

    /// Of the step that a value names.
    pub fn of(value: &RoundValue) -> Self {
        let parts = value.included.iter();
        Self {
            round: value.round,
            parts: parts
                .map(|i| (i.receipt.author, i.weight, i.update.hash))
                .collect(),
        }
    }
}

/// Where a step leads. Cheap to clone, and small: everything that was sent, and no adapter.
#[derive(Clone, Debug)]
pub struct Stepped {
    /// The name of the adapter after.
    pub blob: BlobRef,
    /// What adds up to the step.
    pub result: RoundResult,
}

/// The whole outcome of a step. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Derived {
    /// The adapter after.
    pub adapter: Arc<Adapter>,
    /// Its name.
    pub blob: BlobRef,
    /// What adds up to the step.
    pub result: RoundResult,
}

impl Step {
    /// The step that a value names. Takes nothing else of the value.
    ///
    /// # Errors
    /// [`Rejection`] when the adapter before or an update is not at hand.
    pub fn of(
        manifest: &Arc<Manifest>,
        value: &RoundValue,
        sources: &RoundSources<'_>,
    ) -> Result<Self, Rejection> {
        if sources.before.is_none() && value.round != Round(0) {
            return Err(Rejection::Contradiction(
                "the adapter before is not at hand",
            ));
        }
        let mut parts = Vec::with_capacity(value.included.len());
        for included in &value.included {
            let bytes = (sources.blobs.get(&included.update.hash))
                .ok_or(Rejection::Blob("an update is not at hand"))?;
            if bytes.len() as u64 != included.update.size {
                return Err(Rejection::Blob(
                    "an update has another size than its receipt says",
                ));
            }
            parts.push((included.receipt.author, included.weight, bytes.clone()));
        }
        Ok(Self {
            manifest: Arc::clone(manifest),
            run: value.run,
            round: value.round,
            before: sources.before.cloned(),
            parts,
            key: StepKey::of(value),
        })
    }

    /// The same step, with the adapter before from somewhere else: for drivers that keep adapters apart from nodes.
    #[must_use]
    pub fn starting_at(mut self, before: Arc<Adapter>) -> Self {
        self.before = self.before.and(Some(before));
        self
    }

    /// What tells it from other steps of the run.
    pub fn key(&self) -> &StepKey {
        &self.key
    }

    /// Decodes and combines the updates, and names the adapter that they lead to without making it. Takes as long as it
    /// takes: not for a loop that others wait for.
    ///
    /// # Errors
    /// [`Rejection`] when an update cannot be read, or the outcome leaves the range of f32.
    pub fn foresee(&self) -> Result<Stepped, Rejection> {
        let result = self.result()?;
        let mut hasher = BlobHasher::default();
        let mut is_finite = true;
        let mut tell = |stretch: &[f32]| {
            is_finite &= stretch.iter().all(|value| value.is_finite());
            hasher.update(numbers_as_bytes(stretch));
        };
        match &self.before {
            Some(before) => aggregate::foresee(before.values(), &result.vectors(), &mut tell),
            None => tell(self.initial().values()),
        }
        match is_finite {
            true => Ok(Stepped {
                blob: hasher.finish(),
                result,
            }),
            false => Err(OUT_OF_RANGE),
        }
    }

    /// Makes the adapter as well.
    ///
    /// # Errors
    /// As [`Step::foresee`].
    pub fn take(&self) -> Result<Derived, Rejection> {
        let result = self.result()?;
        let adapter = match &self.before {
            Some(before) => advanced(Arc::clone(before), &result)?,
            None => Arc::new(self.initial()),
        };
        Ok(Derived {
            blob: BlobRef::of(adapter.as_bytes()),
            adapter,
            result,
        })
    }

    /// What a run begins with.
    fn initial(&self) -> Adapter {
        Adapter::init(Arc::new(self.manifest.model.adapter.clone()), &self.run.0)
    }

    fn result(&self) -> Result<RoundResult, Rejection> {
        assert_eq!(
            self.manifest.updates.privacy,
            Privacy::Open,
            "no manifest of another privacy passes its check"
        );
        if self.before.is_none() || self.parts.is_empty() {
            return Ok(RoundResult::Open(Arc::default()));
        }
        let trainable = self.manifest.training.schedule.trainable(self.round);
        let layout = Layout::new(&self.manifest.model.adapter, trainable);
        let mut updates = Vec::with_capacity(self.parts.len());
        for (peer, weight, bytes) in &self.parts {
            updates.push(Weighted {
                peer: *peer,
                weight: *weight,
                update: Packed::read(bytes.clone(), layout.len(), self.manifest.updates.codec)?,
            });
        }
        let contributions =
            aggregate::vectors(self.manifest.updates.aggregation, &updates, &layout);
        Ok(RoundResult::Open(contributions.into()))
    }
}

const OUT_OF_RANGE: Rejection = Rejection::Contradiction("the step leaves the range of f32");

/// The adapter after a step, in the place of the one before where nobody else holds that.
///
/// # Errors
/// [`Rejection`] when the outcome leaves the range of f32.
pub fn advanced(before: Arc<Adapter>, result: &RoundResult) -> Result<Arc<Adapter>, Rejection> {
    let vectors = result.vectors();
    if vectors.is_empty() {
        return Ok(before);
    }
    let shape = Arc::clone(before.shape());
    let values = Arc::unwrap_or_clone(before).into_values();
    let values = aggregate::advance(values, &vectors);
    (Adapter::new(shape, values).map(Arc::new)).map_err(|_| OUT_OF_RANGE)
}
