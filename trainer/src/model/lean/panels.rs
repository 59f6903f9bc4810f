//! The layout of activations: 32 positions side by side.
//!
//! A panel holds 32 positions of one window, feature after feature, `[features][LANES]`. Everything
//! that happens to each position by itself (norms, rotations, gates, softmax) is then the same
//! arithmetic on 32 neighbouring numbers, which needs no shuffles or sums across a vector. Windows are
//! padded to whole panels; a padded position predicts nothing and no other position sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use rayon::prelude::*;

use crate::model::{Batch, NO_TARGET};

/// Positions of a panel: two vectors of AVX-512.
pub(crate) const LANES: usize = 32;

/// One number for every position of a panel.
pub(super) type Lanes = [f32; LANES];

/// Where the positions of a batch lie.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Panels of one window.
    pub(super) per_window: usize,
    /// Panels of the batch.
    pub(super) panels: usize,
    /// Token of each padded position.
    pub(super) tokens: Vec<i32>,
    /// Target of each padded position, or [`NO_TARGET`].
    pub(super) targets: Vec<i32>,
    /// First position that each padded position may attend to; None when always the window's.
    pub(super) firsts: Option<Vec<u32>>,
}

impl Plan {
    pub(super) fn new(batch: &Batch) -> Self {
        let per_window = batch.context.div_ceil(LANES);
        let padded = per_window * LANES;
        let spread = |from: &[i32], padding: i32| -> Vec<i32> {
            let mut out = vec![padding; batch.windows * padded];
            for (to, from) in (out.chunks_exact_mut(padded)).zip(from.chunks_exact(batch.context)) {
                to[..batch.context].copy_from_slice(from);
            }
            out
        };
        let firsts = batch.firsts.as_ref().map(|firsts| {
            let firsts: Vec<i32> = firsts.iter().map(|first| *first as i32).collect();
            spread(&firsts, 0).into_iter().map(|f| f as u32).collect()
        });
        Self {
            per_window,
            panels: batch.windows * per_window,
            tokens: spread(&batch.tokens, 0),
            targets: spread(&batch.targets, NO_TARGET),
            firsts,
        }
    }

    /// First visible positions of a panel's lanes, counted through its window.
    pub(super) fn firsts(&self, panel: usize) -> Option<&[u32]> {
        let firsts = self.firsts.as_ref();
        firsts.map(|firsts| &firsts[panel * LANES..(panel + 1) * LANES])
    }
}

/// Buffers that earlier panels left, by length. The sizes of one layer are those of the next, and of
/// the next step: asking the system for fresh pages each time costs more than filling them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<Mutex<Left>>);

#[derive(Debug, Default)]
struct Left {
    /// Panels of the latest pass.
    panels: usize,
    by_length: BTreeMap<usize, Vec<Vec<f32>>>,
}

impl Memory {
    /// Panels whose numbers are whatever they were.
    pub(super) fn panels(&self, panels: usize, features: usize) -> Panels {
        let length = panels * features * LANES;
        let left = (self.lock().by_length.get_mut(&length)).and_then(Vec::pop);
        Panels {
            features,
            values: left.unwrap_or_else(|| vec![0.0; length]),
            memory: self.clone(),
        }
    }

    /// Begins a pass over so many panels: buffers of another size are given back to the system.
    pub(super) fn begin(&self, panels: usize) {
        let mut left = self.lock();
        if left.panels != panels {
            left.panels = panels;
            left.by_length.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        // A list of buffers is whole at every moment.
        self.0.lock()
    }
}

/// Activations of a batch: `[panels][features][LANES]`.
#[derive(Debug)]
pub(super) struct Panels {
    features: usize,
    values: Vec<f32>,
    memory: Memory,
}

impl Clone for Panels {
    fn clone(&self) -> Self {
        let mut copy = self.beside(self.features);
        copy.values.copy_from_slice(&self.values);
        copy
    }
}

impl Drop for Panels {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        let mut left = self.memory.lock();
        left.by_length.entry(values.len()).or_default().push(values);
    }
}

impl Panels {
    /// As many panels in the same memory, whose numbers are whatever they were.
    pub(super) fn beside(&self, features: usize) -> Self {
        self.memory.panels(self.panels(), features)
    }

    /// As many panels in the same memory, all zero.
    pub(super) fn zeros_beside(&self, features: usize) -> Self {
        let mut zeros = self.beside(features);
        zeros.values.fill(0.0);
        zeros
    }

    pub(super) fn features(&self) -> usize {
        self.features
    }

    pub(super) fn panels(&self) -> usize {
        self.values.len() / (self.features * LANES)
    }

    pub(super) fn panel(&self, panel: usize) -> &[f32] {
        let size = self.features * LANES;
        &self.values[panel * size..(panel + 1) * size]
    }

    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// One panel after the other, in parallel.
    pub(super) fn par_panels(&self) -> rayon::slice::ChunksExact<'_, f32> {
        self.values.par_chunks_exact(self.features * LANES)
    }

    /// One panel after the other for writing, in parallel.
    pub(super) fn par_panels_mut(&mut self) -> rayon::slice::ChunksExactMut<'_, f32> {
        self.values.par_chunks_exact_mut(self.features * LANES)
    }

    /// Multiplies everything by `factor`.
    pub(super) fn scale(&mut self, factor: f32) {
        self.values.iter_mut().for_each(|value| *value *= factor);
    }

    /// A copy of the first `panels`.
    pub(super) fn first(&self, panels: usize) -> Self {
        let mut copy = self.memory.panels(panels, self.features);
        let length = copy.values.len();
        copy.values.copy_from_slice(&self.values[..length]);
        copy
    }

    /// The named panels, side by side.
    pub(super) fn pick(&self, panels: &[usize]) -> Self {
        let mut picked = self.memory.panels(panels.len(), self.features);
        let parts = picked.values.chunks_exact_mut(self.features * LANES);
        for (to, panel) in parts.zip(panels) {
            to.copy_from_slice(self.panel(*panel));
        }
        picked
    }

    /// Writes what [`Panels::pick`] took out.
    pub(super) fn put(&mut self, panels: &[usize], from: &Self) {
        let size = self.features * LANES;
        for (index, panel) in panels.iter().enumerate() {
            let to = &mut self.values[panel * size..(panel + 1) * size];
            to.copy_from_slice(from.panel(index));
        }
    }

    /// Parts of `part` features for writing, each with the panels of one window: all windows of the
    /// first part, then all of the second.
    pub(super) fn split_places(&mut self, part: usize, per_window: usize) -> Vec<Vec<&mut [f32]>> {
        let windows = self.panels() / per_window;
        let mut places: Vec<Vec<&mut [f32]>> = Vec::new();
        places.resize_with(self.features / part * windows, Vec::new);
        for (panel, values) in (self.values.chunks_exact_mut(self.features * LANES)).enumerate() {
            for (index, values) in values.chunks_exact_mut(part * LANES).enumerate() {
                places[index * windows + panel / per_window].push(values);
            }
        }
        places
    }
}

/// A panel's features, one after the other.
#[inline(always)]
pub(super) fn rows(panel: &[f32]) -> impl Iterator<Item = &Lanes> {
    panel.as_chunks::<LANES>().0.iter()
}

/// A panel's features for writing, one after the other.
#[inline(always)]
pub(super) fn rows_mut(panel: &mut [f32]) -> impl Iterator<Item = &mut Lanes> {
    panel.as_chunks_mut::<LANES>().0.iter_mut()
}
