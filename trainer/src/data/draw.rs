//! The order in which a training sees its windows.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Draws windows without repeating any until all were drawn.
#[derive(Clone, Debug)]
pub(crate) struct Draw {
    rng: ChaCha8Rng,
    order: Vec<usize>,
    next: usize,
}

impl Draw {
    pub(crate) fn new(windows: usize, seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            order: (0..windows).collect(),
            next: windows,
        }
    }

    /// The next `count` windows.
    pub(crate) fn next(&mut self, count: usize) -> Vec<usize> {
        (0..count).map(|_| self.one()).collect()
    }

    /// Passes over `count` windows: what a resumed training has drawn already.
    pub(crate) fn skip(&mut self, count: u64) {
        (0..count).for_each(|_| {
            self.one();
        });
    }

    fn one(&mut self) -> usize {
        if self.next == self.order.len() {
            self.order.shuffle(&mut self.rng);
            self.next = 0;
        }
        self.next += 1;
        self.order[self.next - 1]
    }
}
