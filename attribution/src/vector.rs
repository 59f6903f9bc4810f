//! Flat vectors: sums and products in one fixed order.
//!
//! Numbers are kept in `f32` as certified and combined in `f64`. The order of additions depends on
//! nothing but the length, so two evaluators with equal gradients get equal scores to the last bit.

use tributary_protocol::aggregate::ContributionVector;

/// A flat vector of which only what is not zero need be told. Contribution vectors of a run are shared and sparse;
/// research works on plain numbers.
pub trait Vector {
    /// Numbers, zeros included.
    fn count(&self) -> usize;

    /// Tells the numbers in rising order of their places; those that it does not tell are zero.
    fn visit(&self, tell: &mut dyn FnMut(usize, f32));

    /// Inner product with an equally long vector: element `k` goes to lane `k mod 8`, lanes are added last.
    fn dot(&self, other: &[f64]) -> f64 {
        assert_eq!(other.len(), self.count(), "of one adapter");
        let mut lanes = [0.0f64; LANES];
        self.visit(&mut |at, value| lanes[at % LANES] += other[at] * f64::from(value));
        lanes.iter().sum()
    }

    /// `total += weight * self`.
    fn add_to(&self, total: &mut [f64], weight: f64) {
        assert_eq!(total.len(), self.count(), "of one adapter");
        self.visit(&mut |at, value| total[at] += weight * f64::from(value));
    }

    /// The same numbers in `f64`.
    fn wide(&self) -> Vec<f64> {
        let mut wide = vec![0.0; self.count()];
        self.add_to(&mut wide, 1.0);
        wide
    }

    /// Whether no number is NaN or infinite.
    fn is_finite(&self) -> bool {
        let mut finite = true;
        self.visit(&mut |_, value| finite &= value.is_finite());
        finite
    }
}

impl Vector for ContributionVector {
    fn count(&self) -> usize {
        self.len()
    }

    fn visit(&self, tell: &mut dyn FnMut(usize, f32)) {
        ContributionVector::visit(self, tell);
    }
}

impl Vector for [f32] {
    fn count(&self) -> usize {
        self.len()
    }

    fn visit(&self, tell: &mut dyn FnMut(usize, f32)) {
        for (at, value) in self.iter().enumerate() {
            tell(at, *value);
        }
    }

    fn dot(&self, other: &[f64]) -> f64 {
        dot(other, self)
    }

    fn add_to(&self, total: &mut [f64], weight: f64) {
        add(total, weight, self);
    }

    fn is_finite(&self) -> bool {
        self.iter().all(|value| value.is_finite())
    }
}

/// Through to the numbers.
macro_rules! through {
    ($type:ty $(, $size:ident)?) => {
        impl$(<const $size: usize>)? Vector for $type {
            fn count(&self) -> usize {
                self[..].count()
            }
            fn visit(&self, tell: &mut dyn FnMut(usize, f32)) {
                self[..].visit(tell);
            }
            fn dot(&self, other: &[f64]) -> f64 {
                self[..].dot(other)
            }
            fn add_to(&self, total: &mut [f64], weight: f64) {
                self[..].add_to(total, weight);
            }
            fn is_finite(&self) -> bool {
                self[..].is_finite()
            }
        }
    };
}
through!(Vec<f32>);
through!(&[f32]);
through!(&Vec<f32>);
through!([f32; N], N);

/// Partial sums kept side by side: one AVX-512 register of `f64`. Part of the result's definition.
const LANES: usize = 8;

/// Inner product of equally long vectors: element `k` goes to lane `k mod 8`, lanes are added last.
pub(crate) fn dot(a: &[f64], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "vectors of one adapter are equally long");
    let (a_rows, b_rows) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (a_rest, b_rest) = (a_rows.remainder(), b_rows.remainder());
    let mut lanes = [0.0f64; LANES];
    for (x, y) in a_rows.zip(b_rows) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * f64::from(y[lane]);
        }
    }
    for (lane, (x, y)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[lane] += x * f64::from(*y);
    }
    lanes.iter().sum()
}

/// Sum of vectors of `len` numbers, in the order given.
pub(crate) fn sum<'a, V: Vector + 'a>(
    len: usize,
    vectors: impl Iterator<Item = &'a V>,
) -> Vec<f64> {
    let mut total = vec![0.0; len];
    for vector in vectors {
        vector.add_to(&mut total, 1.0);
    }
    total
}

/// `total += weight * vector`.
pub(crate) fn add(total: &mut [f64], weight: f64, vector: &[f32]) {
    assert_eq!(
        total.len(),
        vector.len(),
        "vectors of one adapter are equally long"
    );
    for (sum, value) in total.iter_mut().zip(vector) {
        *sum += weight * f64::from(*value);
    }
}

/// The point `start + s * step`, rounded once.
pub(crate) fn along(start: &[f32], step: &[f64], s: f64) -> Vec<f32> {
    (start.iter().zip(step))
        .map(|(x, d)| (f64::from(*x) + s * d) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reference;

    proptest! {
        #[test]
        fn laned_products_equal_the_plain_sum(
            pairs in prop::collection::vec((-10.0f64..10.0, -10.0f32..10.0), 0..100),
        ) {
            let (a, b): (Vec<f64>, Vec<f32>) = pairs.into_iter().unzip();
            let plain = reference::dot(&a, &b);
            prop_assert!((dot(&a, &b) - plain).abs() <= 1e-11 * (1.0 + plain.abs()));
        }
    }
}
