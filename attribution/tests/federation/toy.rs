//! Losses small enough to know everything about.

use std::cell::Cell;
use std::convert::Infallible;

use tributary_attribution::{Gradient, LossGradient};
use tributary_protocol::hash::{Digest, Domain, Hasher, Stream};
use tributary_protocol::id::PeerId;

/// Peer number `n`.
pub(crate) fn peer(n: usize) -> PeerId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    PeerId(Digest::from_bytes(bytes))
}

/// Contribution vectors, ordered by peer.
pub(crate) type Given = Vec<(PeerId, Vec<f32>)>;

/// Contributions of peers `0..`.
pub(crate) fn named(vectors: &[Vec<f32>]) -> Given {
    (vectors.iter().enumerate())
        .map(|(n, vector)| (peer(n), vector.clone()))
        .collect()
}

/// Numbers drawn from a seed.
pub(crate) struct Draw(Stream);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        let mut hasher = Hasher::new(Domain::Simulation);
        Self(hasher.update(&seed.to_le_bytes()).finalize_xof())
    }
    /// Uniform in `[-1, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0.next_u64() as f64 / 2f64.powi(63) - 1.0
    }
    pub(crate) fn vector(&mut self, len: usize, scale: f64) -> Vec<f32> {
        (0..len).map(|_| (self.unit() * scale) as f32).collect()
    }
}

/// A loss with a hand-written gradient, one value per batch, in `f64`.
pub(crate) trait Loss {
    /// Predicted tokens per batch.
    fn tokens(&self) -> Vec<u64>;
    /// Loss and gradient of one batch at a point.
    fn at(&self, batch: usize, x: &[f64]) -> (f64, Vec<f64>);
}

/// Presents a [`Loss`] as a hold-out and counts its passes.
pub(crate) struct Counted<L> {
    pub(crate) loss: L,
    pub(crate) losses: Cell<usize>,
    pub(crate) gradients: Cell<usize>,
}

impl<L: Loss> Counted<L> {
    pub(crate) fn new(loss: L) -> Self {
        Self {
            loss,
            losses: Cell::new(0),
            gradients: Cell::new(0),
        }
    }
}

impl<L: Loss> Gradient for Counted<L> {
    type Error = Infallible;

    fn batches(&self) -> Vec<u64> {
        self.loss.tokens()
    }

    fn loss(&mut self, batch: usize, point: &[f32]) -> Result<f64, Infallible> {
        self.losses.set(self.losses.get() + 1);
        Ok(self.loss.at(batch, &widen(point)).0)
    }

    fn loss_gradient(&mut self, batch: usize, point: &[f32]) -> Result<LossGradient, Infallible> {
        self.gradients.set(self.gradients.get() + 1);
        let (loss, gradient) = self.loss.at(batch, &widen(point));
        let gradient = gradient.iter().map(|&g| g as f32).collect();
        Ok(LossGradient { loss, gradient })
    }
}

pub(crate) fn widen(point: &[f32]) -> Vec<f64> {
    point.iter().map(|&v| f64::from(v)).collect()
}

/// `level + |M (x - centre)|^2 / 2` with its own `M` and centre per batch.
pub(crate) struct Quadratic {
    pub(crate) batches: Vec<Bowl>,
}

/// One batch of a [`Quadratic`].
pub(crate) struct Bowl {
    pub(crate) tokens: u64,
    pub(crate) centre: Vec<f64>,
    pub(crate) rows: Vec<Vec<f64>>,
}

impl Quadratic {
    /// Bowls around points near `centre`, with coupled coordinates.
    pub(crate) fn around(draw: &mut Draw, centre: &[f64], batches: usize, spread: f64) -> Self {
        let len = centre.len();
        let batches = (0..batches)
            .map(|batch| Bowl {
                tokens: 50 + 10 * batch as u64,
                centre: centre.iter().map(|c| c + spread * draw.unit()).collect(),
                rows: (0..len)
                    .map(|row| {
                        let mut row_of: Vec<f64> = (0..len).map(|_| 0.3 * draw.unit()).collect();
                        row_of[row] += 1.0;
                        row_of
                    })
                    .collect(),
            })
            .collect();
        Self { batches }
    }
}

impl Loss for Quadratic {
    fn tokens(&self) -> Vec<u64> {
        self.batches.iter().map(|b| b.tokens).collect()
    }

    fn at(&self, batch: usize, x: &[f64]) -> (f64, Vec<f64>) {
        let Bowl { centre, rows, .. } = &self.batches[batch];
        let off: Vec<f64> = x.iter().zip(centre).map(|(x, c)| x - c).collect();
        let (mut loss, mut gradient) = (1.0, vec![0.0; x.len()]);
        for row in rows {
            let tilt: f64 = row.iter().zip(&off).map(|(m, o)| m * o).sum();
            loss += tilt * tilt / 2.0;
            for (g, m) in gradient.iter_mut().zip(row) {
                *g += tilt * m;
            }
        }
        (loss, gradient)
    }
}

/// `(x_0 + x_1 + ..)^power` in two equal batches.
pub(crate) struct Power(pub(crate) i32);

impl Loss for Power {
    fn tokens(&self) -> Vec<u64> {
        vec![1, 1]
    }

    fn at(&self, _: usize, x: &[f64]) -> (f64, Vec<f64>) {
        let sum: f64 = x.iter().sum();
        let slope = f64::from(self.0) * sum.powi(self.0 - 1);
        (sum.powi(self.0), vec![slope; x.len()])
    }
}

/// A classifier with one hidden layer of tanh and a softmax: not a polynomial, not convex.
pub(crate) struct Net {
    pub(crate) batches: Vec<Vec<Example>>,
}

/// Features and the index of the right class.
pub(crate) struct Example {
    pub(crate) features: Vec<f64>,
    pub(crate) class: usize,
}

pub(crate) const FEATURES: usize = 4;
const HIDDEN: usize = 6;
pub(crate) const CLASSES: usize = 3;
/// Numbers in a net's flat vector: hidden weights by row, then output weights by row.
pub(crate) const NET: usize = HIDDEN * FEATURES + CLASSES * HIDDEN;

impl Loss for Net {
    fn tokens(&self) -> Vec<u64> {
        self.batches.iter().map(|b| b.len() as u64).collect()
    }

    fn at(&self, batch: usize, x: &[f64]) -> (f64, Vec<f64>) {
        let examples = &self.batches[batch];
        let (mut loss, mut gradient) = (0.0, vec![0.0; NET]);
        for example in examples {
            loss += example.add(x, &mut gradient);
        }
        let n = examples.len() as f64;
        gradient.iter_mut().for_each(|g| *g /= n);
        (loss / n, gradient)
    }
}

impl Example {
    /// Its cross entropy; adds the gradient of it.
    fn add(&self, x: &[f64], gradient: &mut [f64]) -> f64 {
        let (first, second) = x.split_at(HIDDEN * FEATURES);
        let product =
            |row: &[f64], v: &[f64]| -> f64 { row.iter().zip(v).map(|(a, b)| a * b).sum() };
        let hidden: Vec<f64> = first
            .chunks(FEATURES)
            .map(|row| product(row, &self.features).tanh())
            .collect();
        let logits: Vec<f64> = second
            .chunks(HIDDEN)
            .map(|row| product(row, &hidden))
            .collect();
        let top = logits.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = logits.iter().map(|l| (l - top).exp()).sum();
        let mut back = [0.0; HIDDEN];
        for class in 0..CLASSES {
            let right = f64::from(u8::from(class == self.class));
            let error = (logits[class] - top).exp() / sum - right;
            for unit in 0..HIDDEN {
                gradient[HIDDEN * FEATURES + class * HIDDEN + unit] += error * hidden[unit];
                back[unit] += error * second[class * HIDDEN + unit];
            }
        }
        for unit in 0..HIDDEN {
            let slope = back[unit] * (1.0 - hidden[unit] * hidden[unit]);
            for feature in 0..FEATURES {
                gradient[unit * FEATURES + feature] += slope * self.features[feature];
            }
        }
        top + sum.ln() - logits[self.class]
    }
}
