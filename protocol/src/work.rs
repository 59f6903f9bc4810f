//! Arithmetic that the node asks for instead of doing: whatever takes longer than a message may wait.
//!
//! [`Work`] is complete in itself and has one outcome, whatever runs it, wherever and whenever. The daemon runs it on
//! another thread; a simulation in which computing takes no time runs it at once ([`crate::node::Node::complete`]).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::adapter::{Adapter, AdapterError, AdapterShape};
use crate::aggregate::Layout;
use crate::event::Trained;
use crate::id::{BlobRef, Round, RunId};
use crate::manifest::UpdateCodec;
use crate::reject::Rejection;
use crate::state::{Step, StepKey, Stepped, advanced};
use crate::update::{Feedback, Packed, UpdateError};

/// Something to compute for a run.
#[derive(Clone, Debug)]
pub struct Work {
    /// The run.
    pub run: RunId,
    /// What to compute.
    pub task: Task,
}

/// What a [`Work`] computes.
#[derive(Clone, Debug)]
pub enum Task {
    /// Where a round leads.
    Step(Step),
    /// The adapter there.
    Advance(Advance),
    /// An adapter from its bytes.
    Load(Load),
    /// What goes into error feedback and out of it.
    Feedback(Feedback, VecDeque<Change>),
}

/// A step that was certified.
#[derive(Clone, Debug)]
pub struct Advance {
    /// The round that it makes.
    pub round: Round,
    /// The adapter before, which is used up where nobody else holds it; `None` for what a run begins with.
    pub before: Option<Arc<Adapter>>,
    /// The shape of both.
    pub shape: Arc<AdapterShape>,
    /// Where it leads.
    pub stepped: Stepped,
}

/// An adapter that came as a blob.
#[derive(Clone, Debug)]
pub struct Load {
    /// The round whose adapter it is.
    pub round: Round,
    /// Its name.
    pub blob: BlobRef,
    /// Its shape.
    pub shape: Arc<AdapterShape>,
    /// Its content.
    pub bytes: Bytes,
}

/// A change of error feedback.
#[derive(Clone, Debug)]
pub enum Change {
    /// Encode what was trained, with what earlier rounds left out.
    Prepare {
        /// The outcome of training, in the layout of `narrow` where there is one.
        trained: Trained,
        /// The shape that was trained, where it is not the adapter's.
        narrow: Option<AdapterShape>,
        /// The adapter's shape.
        shape: AdapterShape,
        /// Where the round's numbers stand.
        layout: Layout,
        /// How densely.
        codec: UpdateCodec,
    },
    /// Keep what came too late for its round.
    Keep {
        /// What training gave, in the layout of `narrow` where there is one.
        delta: Vec<f32>,
        /// The shape that was trained, where it is not the adapter's.
        narrow: Option<AdapterShape>,
        /// The adapter's shape.
        shape: AdapterShape,
    },
    /// Take back an update that was sent and not included.
    Return {
        /// The encoded update.
        update: Bytes,
        /// Where its numbers stand.
        layout: Layout,
        /// The run's codec.
        codec: UpdateCodec,
    },
}

/// An update that is ready to be sent.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What was trained, without its numbers.
    pub trained: Trained,
    /// The encoded update and its name.
    pub update: Result<(Bytes, BlobRef), UpdateError>,
}

/// The outcome of [`Work`].
#[derive(Clone, Debug)]
pub struct Computed {
    /// The run.
    pub run: RunId,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of each [`Task`].
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Of [`Task::Step`].
    Step(StepKey, Result<Stepped, Rejection>),
    /// Of [`Task::Advance`]: the round, and the adapter after it.
    Advance(Round, BlobRef, Result<Arc<Adapter>, Rejection>),
    /// Of [`Task::Load`].
    Load(Load, Result<Arc<Adapter>, AdapterError>),
    /// Of [`Task::Feedback`], with the updates that were prepared.
    Feedback(Feedback, Vec<Prepared>),
}

impl Work {
    /// Computes it.
    pub fn run(self) -> Computed {
        let outcome = match self.task {
            Task::Step(step) => Outcome::Step(step.key().clone(), step.foresee()),
            Task::Advance(advance) => {
                let adapter = match advance.before {
                    Some(before) => advanced(before, &advance.stepped.result),
                    None => Ok(Adapter::init(advance.shape, &self.run.0).into()),
                };
                Outcome::Advance(advance.round, advance.stepped.blob, adapter)
            }
            Task::Load(load) => {
                let adapter = Adapter::from_bytes(Arc::clone(&load.shape), &load.bytes);
                Outcome::Load(load, adapter.map(Arc::new))
            }
            Task::Feedback(mut feedback, changes) => {
                let change = |change| change_feedback(&mut feedback, change);
                let prepared = changes.into_iter().filter_map(change).collect();
                Outcome::Feedback(feedback, prepared)
            }
        };
        Computed {
            run: self.run,
            outcome,
        }
    }
}

fn change_feedback(feedback: &mut Feedback, change: Change) -> Option<Prepared> {
    let widened = |delta: Vec<f32>, narrow: Option<AdapterShape>, shape: &AdapterShape| match narrow
    {
        Some(narrow) => shape.widen(&narrow, &delta),
        None => delta,
    };
    match change {
        Change::Prepare {
            mut trained,
            narrow,
            shape,
            layout,
            codec,
        } => {
            let delta = widened(std::mem::take(&mut trained.delta), narrow, &shape);
            let update = feedback.prepare(&delta, layout.segments(), codec);
            let named = |bytes: Vec<u8>| {
                let blob = BlobRef::of(&bytes);
                (Bytes::from(bytes), blob)
            };
            Some(Prepared {
                trained,
                update: update.map(named),
            })
        }
        Change::Keep {
            delta,
            narrow,
            shape,
        } => {
            feedback.add(&widened(delta, narrow, &shape));
            None
        }
        Change::Return {
            update,
            layout,
            codec,
        } => {
            if let Ok(update) = Packed::read(update, layout.len(), codec) {
                feedback.restore(&update, &layout);
            }
            None
        }
    }
}
