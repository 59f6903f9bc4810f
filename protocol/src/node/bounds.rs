//! What following a run takes, held against what the machine's owner gives.
//!
//! A manifest is a stranger's wish. The protocol's bounds only keep it from being absurd, so a peer weighs it against
//! bounds of its own before it allocates or fetches anything. Of a run that asks for more nothing further is taken; the
//! manifest is weighed again after a restart.

use crate::id::Round;
use crate::manifest::Manifest;
use crate::state;
use crate::update::encoded_len;

/// Adapters in f32 that a round takes in memory. A member that trains and decides takes three
/// (`docs/numbers/round.md`); an evaluator holds the step and two mean gradients in f64, three points of the path, a
/// gradient, and what the trainer needs for one.
const ROUND_ADAPTERS: u64 = 16;
/// Bytes of one number of an adapter.
const NUMBER_BYTES: u64 = size_of::<f32>() as u64;

/// Bytes that a run takes, or the most that it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// One adapter, in memory.
    pub adapter: u64,
    /// One round, in memory: everybody's updates as they travel, and the adapters that are held at a time.
    pub round: u64,
    /// Adapters and updates of all rounds, on the disk.
    pub run: u64,
}

/// A part of a [`Bounds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// [`Bounds::adapter`].
    Adapter,
    /// [`Bounds::round`].
    Round,
    /// [`Bounds::run`].
    Run,
}

/// A run asks for more than the machine's owner gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the run asks for {asks} bytes for {}, and at most {most} are given", .part.words())]
pub struct Excess {
    /// For what.
    pub part: Resource,
    /// Bytes that the run may take.
    pub asks: u64,
    /// Bytes that it may have.
    pub most: u64,
}

impl Resource {
    /// What the bytes are for, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Adapter => "its adapter",
            Self::Round => "one round",
            Self::Run => "all its rounds on the disk",
        }
    }
}

impl Bounds {
    /// The most that a run of this manifest may take: as many contributors as it allows, in every round.
    pub fn of(manifest: &Manifest) -> Self {
        let adapter = NUMBER_BYTES * manifest.model.adapter.parameters() as u64;
        // A schedule that moves one factor at a time repeats itself after two rounds.
        let numbers = (1..=2).map(|round| state::update_len(manifest, Round(round)));
        let numbers = numbers.max().unwrap_or_default();
        let update = encoded_len(numbers, manifest.updates.codec) as u64;
        let (members, rounds) = (
            u64::from(manifest.plan.participants),
            u64::from(manifest.plan.rounds),
        );
        let updates = members.saturating_mul(update);
        // The initial adapter, and the residual of what was not sent.
        let kept = rounds.saturating_add(2).saturating_mul(adapter);
        let bounds = Self {
            adapter,
            round: updates.saturating_add(ROUND_ADAPTERS.saturating_mul(adapter)),
            run: kept.saturating_add(rounds.saturating_mul(updates)),
        };
        assert!(
            bounds.round >= adapter && bounds.run >= adapter,
            "a round and a run hold an adapter"
        );
        bounds
    }

    /// Whether a run of this manifest stays within this budget.
    ///
    /// # Errors
    /// The first part that does not.
    pub fn admit(&self, manifest: &Manifest) -> Result<(), Excess> {
        let asked = Self::of(manifest);
        for (part, asks, most) in [
            (Resource::Adapter, asked.adapter, self.adapter),
            (Resource::Round, asked.round, self.round),
            (Resource::Run, asked.run, self.run),
        ] {
            if asks > most {
                return Err(Excess { part, asks, most });
            }
        }
        Ok(())
    }
}
