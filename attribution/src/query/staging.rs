//! A run in stages: what was moved in each, and the adapter half way through it.
//!
//! Influence is linear only near a point, and an adapter moves far over a run. So a run's rounds are taken together in
//! a few stages of equal length, each with the sums of its contribution vectors and a point of its own to take an
//! answer's gradient at, half way between the adapters before and after it: the midpoint rule for the integral along
//! the run's path. Callers decide which certified rounds to hand in, and check them.

use std::sync::Arc;

use tributary_protocol::adapter::{Adapter, AdapterShape};
use tributary_protocol::id::PeerId;

use super::{QueryError, store};
use crate::vector::Vector;

/// Stages that a run is looked at in. Retraining agrees better with more of them, and hardly better with more
/// than these (`docs/numbers/attribution.md`).
pub const STAGES: usize = 4;

/// Some consecutive rounds of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// The adapter half way through them.
    pub middle: Adapter,
    /// Sums of their contribution vectors.
    pub moved: store::Stage,
}

/// Collects the rounds of a run in stages, in their order.
#[derive(Debug)]
pub struct Staging {
    /// Rounds of a stage.
    together: u32,
    /// The newest adapter.
    adapter: Option<Adapter>,
    open: Option<Open>,
    stages: Vec<Stage>,
}

/// A stage that more rounds may join.
#[derive(Debug)]
struct Open {
    /// The adapter before it.
    before: Adapter,
    moved: store::Stage,
    rounds: u32,
}

impl Staging {
    /// Of a run in which `rounds` have contributions.
    pub fn new(rounds: u32) -> Self {
        Self {
            together: rounds.div_ceil(STAGES as u32).max(1),
            adapter: None,
            open: None,
            stages: Vec::new(),
        }
    }

    /// Adds one certified round: the adapter after it and its contribution vectors. The first round gives the
    /// adapter that a run begins with, and one without contributions is in no stage.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn add<C: Vector>(
        &mut self,
        adapter: &Adapter,
        contributions: &[(PeerId, C)],
    ) -> Result<(), QueryError> {
        let before = self.adapter.replace(adapter.clone());
        let Some(before) = before.filter(|_| !contributions.is_empty()) else {
            return Ok(());
        };
        let open = self.open.get_or_insert_with(|| Open {
            before,
            moved: store::Stage::default(),
            rounds: 0,
        });
        open.moved.add(contributions)?;
        open.rounds += 1;
        if open.rounds == self.together {
            self.close()?;
        }
        Ok(())
    }

    /// The stages, the last one maybe shorter.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn finish(mut self) -> Result<Vec<Stage>, QueryError> {
        self.close()?;
        Ok(self.stages)
    }

    fn close(&mut self) -> Result<(), QueryError> {
        let (Some(open), Some(after)) = (self.open.take(), &self.adapter) else {
            return Ok(());
        };
        let ends = open.before.values().iter().zip(after.values());
        let values = ends.map(|(before, after)| before + (after - before) / 2.0);
        let middle = Adapter::new(after.shape().clone(), values.collect())?;
        let moved = open.moved;
        self.stages.push(Stage { middle, moved });
        Ok(())
    }
}

/// Appends stages as bytes, for callers that keep them: u32 stages, then of each the adapter half way through it (u32
/// count, f32 numbers) and its rows ([`store::Stage::write`]), little-endian.
pub fn write(stages: &[Stage], out: &mut Vec<u8>) {
    let number = |n: usize| {
        u32::try_from(n)
            .expect("an adapter has fewer numbers")
            .to_le_bytes()
    };
    out.extend(number(stages.len()));
    for stage in stages {
        let values = stage.middle.to_bytes();
        out.extend(number(values.len() / 4));
        out.extend(values);
        stage.moved.write(out);
    }
}

/// Reads what [`write()`] appended off the front of `bytes`; `None` when it is not stages of adapters of `shape`.
pub fn read(bytes: &mut &[u8], shape: &Arc<AdapterShape>) -> Option<Vec<Stage>> {
    let mut stages = Vec::new();
    for _ in 0..count(bytes)? {
        let length = 4usize.checked_mul(count(bytes)? as usize)?;
        let (values, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        let middle = Adapter::from_bytes(shape.clone(), values).ok()?;
        let moved = store::Stage::read(bytes)?;
        stages.push(Stage { middle, moved });
    }
    Some(stages)
}

fn count(bytes: &mut &[u8]) -> Option<u32> {
    let (head, tail) = bytes.split_first_chunk()?;
    *bytes = tail;
    Some(u32::from_le_bytes(*head))
}

#[cfg(test)]
mod tests;
