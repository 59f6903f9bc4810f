//! What each peer moved in a stage, with the zeros left out: so small that a run of a thousand contributors
//! fits in memory, and costs less than the backward passes of an answer (`docs/numbers/attribution-cost.md`).
//!
//! A sparse update moves one number in sixty-four, and a stage is a sum of few updates. Rows keep places and
//! values of what is not zero, as they were certified, in `f32`; a row that moved most of its numbers is kept
//! dense. Nothing is rounded, and [`Stage::influences`] adds in the order of [`Moved`](super::Moved)'s inner
//! product, in which zeros change nothing. So shares from here equal those from whole vectors to the last
//! bit: a low-precision copy or a random projection would be smaller and would not.
//!
//! All gradients of a stage are taken together, chunk by chunk of the vector: their numbers at one place lie
//! side by side, so that a place is looked up once, and a chunk of them stays in the cache while all rows
//! pass by.

use std::collections::BTreeMap;
use std::thread;

use tributary_protocol::id::PeerId;

use super::{QueryError, check};
use crate::vector::Vector;

/// Numbers of a chunk. Of [`WIDE`] gradients in `f64` they take 256 KiB, which second-level caches hold.
const CHUNK: usize = 4096;
/// Gradients that pass together.
const WIDE: usize = 8;
/// Rows that are worth a thread of their own.
const ROWS_OF_A_THREAD: usize = 64;
/// Lanes of an inner product, by place modulo this; the same as of whole vectors.
const LANES: usize = 8;

/// What each peer moved in one stage of a run: the sum of its contribution vectors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stage {
    /// Numbers of a vector; zero while nothing was added.
    len: usize,
    rows: BTreeMap<PeerId, Row>,
}

#[derive(Clone, Debug, PartialEq)]
enum Row {
    /// Places, rising, and what stands there.
    Sparse { places: Vec<u32>, values: Vec<f32> },
    /// Every number.
    Dense(Vec<f32>),
}

impl Stage {
    /// Adds one certified round's contribution vectors, in the order of rounds. Nothing is added when a
    /// vector does not fit.
    ///
    /// # Errors
    /// [`QueryError::Length`] or [`QueryError::Vector`].
    pub fn add<C: Vector>(&mut self, round: &[(PeerId, C)]) -> Result<(), QueryError> {
        let first = round.first().map_or(0, |(_, c)| c.count());
        let expected = if self.rows.is_empty() {
            first
        } else {
            self.len
        };
        for (peer, vector) in round {
            check(*peer, vector, expected)?;
        }
        self.len = expected;
        for (peer, vector) in round {
            let row = self.rows.entry(*peer).or_insert_with(Row::nothing);
            row.add(vector);
        }
        Ok(())
    }

    /// Peers that moved something or were certified to move nothing, ordered.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.rows.keys().copied()
    }

    /// Bytes of the rows.
    pub fn bytes(&self) -> usize {
        self.rows.values().map(Row::bytes).sum()
    }

    /// `-<gradient, C_i>` of each peer by each gradient: ordered by peer, then as `gradients` are.
    ///
    /// # Errors
    /// [`QueryError::Gradient`]; [`QueryError::Length`] when a gradient and the rows differ in length.
    pub fn influences(&self, gradients: &[&[f32]]) -> Result<Vec<(PeerId, Vec<f64>)>, QueryError> {
        for gradient in gradients {
            if gradient.iter().any(|v| !v.is_finite()) {
                return Err(QueryError::Gradient);
            }
            if let Some(peer) = self.rows.keys().next()
                && gradient.len() != self.len
            {
                return Err(QueryError::Length {
                    peer: *peer,
                    expected: gradient.len(),
                    found: self.len,
                });
            }
        }
        let mut out: Vec<(PeerId, Vec<f64>)> = self.peers().map(|peer| (peer, vec![])).collect();
        for together in gradients.chunks(WIDE) {
            for ((_, found), sums) in out.iter_mut().zip(self.pass(together)) {
                found.extend(&sums[..together.len()]);
            }
        }
        Ok(out)
    }

    /// One pass of all rows along at most [`WIDE`] gradients, on all cores where there are many: every sum is of
    /// one row, so that who adds it changes no bit.
    fn pass(&self, gradients: &[&[f32]]) -> Vec<[f64; WIDE]> {
        let rows: Vec<&Row> = self.rows.values().collect();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let each = rows.len().div_ceil(cores).max(ROWS_OF_A_THREAD);
        thread::scope(|scope| {
            let along = |part| scope.spawn(move || pass(part, self.len, gradients));
            let parts: Vec<_> = rows.chunks(each).map(along).collect();
            (parts.into_iter())
                .flat_map(|part| part.join().expect("sums do not panic"))
                .collect()
        })
    }
}

/// One pass of some rows of `len` numbers.
fn pass(rows: &[&Row], len: usize, gradients: &[&[f32]]) -> Vec<[f64; WIDE]> {
    let mut lanes = vec![[[0.0f64; WIDE]; LANES]; rows.len()];
    let mut reached = vec![0usize; rows.len()];
    let mut descent = vec![[0.0f64; WIDE]; CHUNK];
    for start in (0..len).step_by(CHUNK) {
        let end = (start + CHUNK).min(len);
        for (at, gradient) in gradients.iter().enumerate() {
            for (wide, value) in descent.iter_mut().zip(&gradient[start..end]) {
                wide[at] = -f64::from(*value);
            }
        }
        let rows = rows.iter().zip(&mut lanes).zip(&mut reached);
        for ((row, lanes), reached) in rows {
            *reached = row.pass(start..end, *reached, &descent, lanes);
        }
    }
    // Lanes are added as those of one inner product are.
    let sum = |lanes: &[[f64; WIDE]; LANES]| -> [f64; WIDE] {
        std::array::from_fn(|at| lanes.iter().map(|lane| lane[at]).sum())
    };
    lanes.iter().map(sum).collect()
}

impl Row {
    fn nothing() -> Self {
        Self::Sparse {
            places: Vec::new(),
            values: Vec::new(),
        }
    }

    fn add(&mut self, vector: &impl Vector) {
        let mut sums = self.whole(vector.count());
        vector.visit(&mut |at, value| sums[at] += value);
        let moved = sums.iter().filter(|v| **v != 0.0).count();
        // A place takes as much room as a value.
        *self = match 2 * moved > sums.len() {
            true => Self::Dense(sums),
            false => {
                let all = sums.iter().zip(0u32..).filter(|(v, _)| **v != 0.0);
                let (values, places) = all.map(|(v, at)| (*v, at)).unzip();
                Self::Sparse { places, values }
            }
        };
    }

    /// Every number of a vector of `len`.
    fn whole(&self, len: usize) -> Vec<f32> {
        match self {
            Self::Dense(values) => values.clone(),
            Self::Sparse { places, values } => {
                let mut whole = vec![0.0; len];
                for (at, value) in places.iter().zip(values) {
                    whole[*at as usize] = *value;
                }
                whole
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Sparse { places, values } => 4 * (places.len() + values.len()),
            Self::Dense(values) => 4 * values.len(),
        }
    }

    /// Adds the row's products with one chunk of the gradients. `from` is how many of a sparse row's entries
    /// lie before the chunk; gives how many lie before the next.
    fn pass(
        &self,
        chunk: std::ops::Range<usize>,
        from: usize,
        descent: &[[f64; WIDE]],
        lanes: &mut [[f64; WIDE]; LANES],
    ) -> usize {
        match self {
            Self::Dense(values) => {
                let here = values[chunk].chunks(LANES).zip(descent.chunks(LANES));
                for (values, descents) in here {
                    for ((lane, value), wide) in lanes.iter_mut().zip(values).zip(descents) {
                        multiply(lane, wide, *value);
                    }
                }
                from
            }
            Self::Sparse { places, values } => {
                let rest = &places[from..];
                let count = rest.partition_point(|at| (*at as usize) < chunk.end);
                for (at, value) in rest[..count].iter().zip(&values[from..]) {
                    let at = *at as usize;
                    multiply(&mut lanes[at % LANES], &descent[at - chunk.start], *value);
                }
                from + count
            }
        }
    }
}

fn multiply(lane: &mut [f64; WIDE], descent: &[f64; WIDE], value: f32) {
    let value = f64::from(value);
    for (sum, descent) in lane.iter_mut().zip(descent) {
        *sum += descent * value;
    }
}

mod file;

#[cfg(test)]
mod tests;
