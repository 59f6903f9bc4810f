//! Inner products of all pairs of updates.
//!
//! Every robust rule asks only how updates lie relative to each other, and the matrix of their inner products says
//! that: `|u_i - u_j|^2 = G_ii + G_jj - 2 G_ij`. It costs one pass over the updates; what a rule then does with a few
//! dozen rows costs nothing.
//!
//! The result has the same bits on every machine: a fixed number of f32 sums runs side by side over a fixed stretch,
//! which a wider vector unit does faster and not differently (no fused multiply-add), and stretches are added in order
//! in f64. Products below the smallest f32 vanish: updates shorter than about 1e-19 in every place count as zero.

use pulp::Arch;

use crate::update::{CHUNK, Packed};

/// f32 sums that run side by side: one register of the widest unit in use.
const LANES: usize = 16;
/// Numbers of one stretch: of 64 peers it stays in a second-level cache, and an f32 sum of 64 products
/// a lane is accurate to about 1e-6.
const STRETCH: usize = 1024;
const _: () = assert!(CHUNK.is_multiple_of(STRETCH), "a stretch lies in one chunk");
/// Where at most one number in so many is told, only those are multiplied.
const SPARSE: usize = 8;
/// Rows that are multiplied with one other row at a time, so that each load serves several sums.
const ROWS: usize = 4;

/// Inner products of vectors, as seen by a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Gram {
    size: usize,
    /// Row-major, `size * size`.
    products: Vec<f64>,
}

impl Gram {
    /// Of `updates`, all of one length.
    pub(super) fn of(updates: &[&[f32]]) -> Self {
        let size = updates.len();
        let length = updates.first().map_or(0, |u| u.len());
        let mut products = vec![0.0; size * size];
        let arch = Arch::new();
        for from in (0..length).step_by(STRETCH) {
            let to = (from + STRETCH).min(length);
            arch.dispatch(
                #[inline(always)]
                || stretch(updates, from, to, &mut products),
            );
        }
        Self::mirrored(size, products)
    }

    /// Of updates as they travelled, all of one length and checked: the same bits as those of their numbers. One chunk
    /// of each is unpacked at a time, and of sparse ones only what they tell is multiplied.
    pub(super) fn of_packed(updates: &[&Packed]) -> Self {
        let size = updates.len();
        let length = updates.first().map_or(0, |update| update.len());
        let mut products = vec![0.0; size * size];
        let mut rows = vec![[0.0f32; CHUNK]; size];
        let mut told: Vec<Vec<(usize, f32)>> = vec![Vec::with_capacity(CHUNK); size];
        let arch = Arch::new();
        for chunk in 0..length.div_ceil(CHUNK) {
            let m = (length - chunk * CHUNK).min(CHUNK);
            for ((row, told), update) in rows.iter_mut().zip(&mut told).zip(updates) {
                row.fill(0.0);
                told.clear();
                let read = update.visit_chunk(chunk, |at, value| {
                    row[at] = value;
                    told.push((at, value));
                });
                read.expect("it was checked");
            }
            let views: Vec<&[f32]> = rows.iter().map(|row| &row[..m]).collect();
            let is_sparse = told.iter().all(|told| told.len() * SPARSE <= m);
            for from in (0..m).step_by(STRETCH) {
                let to = (from + STRETCH).min(m);
                if is_sparse {
                    sparse_stretch(&views, &told, from, to, &mut products);
                    continue;
                }
                arch.dispatch(
                    #[inline(always)]
                    || stretch(&views, from, to, &mut products),
                );
            }
        }
        Self::mirrored(size, products)
    }

    /// With the lower triangle of `products` filled in above the diagonal as well.
    fn mirrored(size: usize, mut products: Vec<f64>) -> Self {
        for row in 0..size {
            for column in 0..row {
                products[column * size + row] = products[row * size + column];
            }
        }
        Self { size, products }
    }

    /// Number of vectors.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Inner product of two vectors.
    pub fn at(&self, row: usize, column: usize) -> f64 {
        self.products[row * self.size + column]
    }

    /// Of the vectors' directions: each as long as one. Vectors without length share a direction of their own.
    pub(super) fn directions(mut self) -> Self {
        let lengths: Vec<f64> = (0..self.size).map(|i| self.at(i, i).sqrt()).collect();
        for row in 0..self.size {
            for column in 0..self.size {
                let product = &mut self.products[row * self.size + column];
                *product = match (lengths[row] > 0.0, lengths[column] > 0.0) {
                    (true, true) => *product / (lengths[row] * lengths[column]),
                    (false, false) => 1.0,
                    _ => 0.0,
                };
            }
        }
        self
    }

    /// The same, each vector first multiplied with its factor.
    pub(super) fn scaled(mut self, factors: &[f64]) -> Self {
        for row in 0..self.size {
            for column in 0..self.size {
                self.products[row * self.size + column] *= factors[row] * factors[column];
            }
        }
        self
    }

    /// Of the vectors `sum_j mix[i][j] u_j`.
    pub(super) fn mixed(&self, mix: &[Vec<f64>]) -> Self {
        let half: Vec<Vec<f64>> = mix.iter().map(|row| self.times(row)).collect();
        let mut products = Vec::with_capacity(mix.len() * mix.len());
        for row in mix {
            products.extend(half.iter().map(|column| inner(row, column)));
        }
        Self {
            size: mix.len(),
            products,
        }
    }

    /// Inner product of every vector with `sum_j coefficients[j] u_j`.
    pub(super) fn times(&self, coefficients: &[f64]) -> Vec<f64> {
        (self.products.chunks_exact(self.size.max(1)))
            .map(|row| inner(row, coefficients))
            .collect()
    }

    /// Euclidean distance of two vectors.
    pub(super) fn distance(&self, one: usize, other: usize) -> f64 {
        let square = self.at(one, one) + self.at(other, other) - 2.0 * self.at(one, other);
        square.max(0.0).sqrt()
    }

    /// Euclidean distance of every vector from `sum_j coefficients[j] u_j`.
    pub(super) fn distances(&self, coefficients: &[f64]) -> Vec<f64> {
        let products = self.times(coefficients);
        let own = inner(&products, coefficients);
        (0..self.size)
            .map(|i| (self.at(i, i) + own - 2.0 * products[i]).max(0.0).sqrt())
            .collect()
    }
}

/// Sum of products, one after the other.
fn inner(one: &[f64], other: &[f64]) -> f64 {
    let mut sum = 0.0;
    for (a, b) in one.iter().zip(other) {
        sum += a * b;
    }
    sum
}

/// As [`stretch`], with the numbers of each row that may be other than zero in `told`: a product with zero changes no sum.
fn sparse_stretch(
    rows: &[&[f32]],
    told: &[Vec<(usize, f32)>],
    from: usize,
    to: usize,
    products: &mut [f64],
) {
    let size = rows.len();
    let whole = from + (to - from) / LANES * LANES;
    for (column, told) in told.iter().enumerate() {
        let told = &told[told.partition_point(|(at, _)| *at < from)..];
        let (body, rest) = told.split_at(told.partition_point(|(at, _)| *at < whole));
        let tail = &rest[..rest.partition_point(|(at, _)| *at < to)];
        for (row, one) in rows.iter().enumerate().skip(column) {
            let mut lanes = [0.0f32; LANES];
            for (at, value) in body {
                lanes[(at - from) % LANES] += one[*at] * value;
            }
            let sum = add_lanes(lanes);
            let sum = tail
                .iter()
                .fold(sum, |sum, (at, value)| sum + one[*at] * value);
            products[row * size + column] += f64::from(sum);
        }
    }
}

/// Half on half until one is left.
#[inline(always)]
fn add_lanes(mut sums: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

/// Adds the products of the columns `from..to` to the lower triangle.
#[inline(always)]
fn stretch(updates: &[&[f32]], from: usize, to: usize, products: &mut [f64]) {
    let size = updates.len();
    for row in 0..size {
        let one = &updates[row][from..to];
        let mut column = 0;
        while column + ROWS <= row + 1 {
            let others: [&[f32]; ROWS] = std::array::from_fn(|at| &updates[column + at][from..to]);
            let sums = dots(one, others);
            for (at, sum) in sums.into_iter().enumerate() {
                products[row * size + column + at] += f64::from(sum);
            }
            column += ROWS;
        }
        for column in column..=row {
            let [sum] = dots(one, [&updates[column][from..to]]);
            products[row * size + column] += f64::from(sum);
        }
    }
}

/// Inner products of `one` with each of `others`, all of one length.
#[inline(always)]
fn dots<const N: usize>(one: &[f32], others: [&[f32]; N]) -> [f32; N] {
    let mut lanes = [[0.0f32; LANES]; N];
    let whole = one.len() / LANES * LANES;
    let mut at = 0;
    while at < whole {
        let a = &one[at..at + LANES];
        for (lanes, other) in lanes.iter_mut().zip(&others) {
            let b = &other[at..at + LANES];
            for lane in 0..LANES {
                lanes[lane] += a[lane] * b[lane];
            }
        }
        at += LANES;
    }
    std::array::from_fn(|n| {
        let tail = one[whole..].iter().zip(&others[n][whole..]);
        tail.fold(add_lanes(lanes[n]), |sum, (a, b)| sum + a * b)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(count: usize, length: usize) -> Vec<Vec<f32>> {
        let number = |i: usize, j: usize| ((i * 31 + j * 17) % 101) as f32 / 50.0 - 1.0;
        (0..count)
            .map(|i| (0..length).map(|j| number(i, j)).collect())
            .collect()
    }

    #[test]
    fn products_are_those_of_the_plain_sum() {
        for (count, length) in [(0, 0), (1, 5), (3, 16), (7, 1023), (9, 5000), (4, 1024)] {
            let vectors = vectors(count, length);
            let views: Vec<&[f32]> = vectors.iter().map(Vec::as_slice).collect();
            let gram = Gram::of(&views);
            for (i, one) in vectors.iter().enumerate() {
                for (j, other) in vectors.iter().enumerate() {
                    let exact: f64 = (one.iter().zip(other))
                        .map(|(a, b)| f64::from(*a) * f64::from(*b))
                        .sum();
                    let close = 1e-5 * (1.0 + length as f64);
                    assert!((gram.at(i, j) - exact).abs() < close, "{count} {length}");
                    assert_eq!(gram.at(i, j).to_bits(), gram.at(j, i).to_bits());
                }
            }
        }
    }

    /// The order of sums is part of the protocol: this number may never change.
    #[test]
    fn products_have_pinned_bits() {
        let vectors = vectors(6, 2500);
        let views: Vec<&[f32]> = vectors.iter().map(Vec::as_slice).collect();
        let gram = Gram::of(&views);
        let mut folded = 0u64;
        for product in &gram.products {
            folded = folded.rotate_left(7) ^ product.to_bits();
        }
        assert_eq!(folded, PINNED, "{folded:#x}");
    }
    const PINNED: u64 = 0xe5f2_6370_a064_29cb;

    #[test]
    fn distances_of_combinations_follow_from_the_products() {
        let vectors = vectors(4, 300);
        let views: Vec<&[f32]> = vectors.iter().map(Vec::as_slice).collect();
        let gram = Gram::of(&views);
        let coefficients = [0.1, 0.4, 0.3, 0.2];
        let centre: Vec<f64> = (0..300)
            .map(|at| {
                (0..4)
                    .map(|i| coefficients[i] * f64::from(vectors[i][at]))
                    .sum()
            })
            .collect();
        for (i, distance) in gram.distances(&coefficients).into_iter().enumerate() {
            let exact: f64 = (vectors[i].iter().zip(&centre))
                .map(|(a, b)| (f64::from(*a) - b).powi(2))
                .sum::<f64>()
                .sqrt();
            assert!((distance - exact).abs() < 1e-4, "{distance} {exact}");
        }
    }
}
