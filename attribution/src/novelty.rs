//! The part of a contribution that was not public before its round.
//!
//! A member that has read the last rounds can send them back: the last step, another member's update of an earlier
//! round, or any mixture of them. Such a vector lowers the loss again, and its sender has trained nothing. So a score
//! counts only the part of a contribution that is orthogonal to the span of what was **public** (certified updates of
//! the rounds before):
//!
//! ```text
//!   c = sum_k a_k p_k + new        with  <new, p_k> = 0 for every k
//!   (G + ridge) a = b              G_kl = <p_k, p_l>,  b_k = <p_k, c>,  all p_k of length one
//! ```
//!
//! The projection is linear in `c`: an update that is split over names has the same new part in sum. The
//! coefficients depend on nothing but the vectors and their order. How far back one has to look, and what
//! honest members lose, is measured in `docs/numbers/gaming.md`.

use crate::vector::Vector;

/// Added to the diagonal of the Gram matrix of directions: two equal public vectors (an update and its copy)
/// would make it singular. Of a public vector this leaves about a millionth.
const RIDGE: f64 = 1e-6;

/// Vectors that anyone could have read before a round, ready to be taken out of contributions.
#[derive(Clone, Debug)]
pub struct Public<V = Vec<f32>> {
    vectors: Vec<V>,
    lengths: Vec<f64>,
    /// Lower triangle of the Cholesky factor, row after row.
    factor: Vec<Vec<f64>>,
}

impl<V: Vector> Public<V> {
    /// Of `vectors`, equally long and finite; those without length say nothing and are left out.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn new(vectors: impl IntoIterator<Item = V>) -> Self {
        let mut public = Self {
            vectors: Vec::new(),
            lengths: Vec::new(),
            factor: Vec::new(),
        };
        for vector in vectors {
            let wide = vector.wide();
            let length = vector.dot(&wide).sqrt();
            if length > 0.0 {
                let products = (public.vectors.iter().zip(&public.lengths))
                    .map(|(other, other_length)| other.dot(&wide) / length / other_length);
                let row = next_row(&public.factor, products.collect());
                public.factor.push(row);
                public.vectors.push(vector);
                public.lengths.push(length);
            }
        }
        public
    }

    /// The vectors that have a length, in the order given.
    pub fn vectors(&self) -> &[V] {
        &self.vectors
    }

    /// `a_k`: what to take of each of [`Self::vectors`] out of `contribution`, which is as long as they.
    pub fn coefficients(&self, contribution: &(impl Vector + ?Sized)) -> Vec<f64> {
        let wide = contribution.wide();
        let mut found: Vec<f64> = (self.vectors.iter().zip(&self.lengths))
            .map(|(vector, length)| vector.dot(&wide) / length)
            .collect();
        // L y = b, then L^T a = y.
        for k in 0..found.len() {
            let known: f64 = (0..k).map(|l| self.factor[k][l] * found[l]).sum();
            found[k] = (found[k] - known) / self.factor[k][k];
        }
        for k in (0..found.len()).rev() {
            let known: f64 = (k + 1..found.len())
                .map(|l| self.factor[l][k] * found[l])
                .sum();
            found[k] = (found[k] - known) / self.factor[k][k];
        }
        for (coefficient, length) in found.iter_mut().zip(&self.lengths) {
            *coefficient /= length;
        }
        found
    }

    /// The new part of `contribution`.
    pub fn new_part(&self, contribution: &(impl Vector + ?Sized)) -> Vec<f64> {
        self.without(contribution, &self.coefficients(contribution))
    }

    /// The new part of a contribution whose [`Self::coefficients`] are known.
    pub fn without(&self, contribution: &(impl Vector + ?Sized), coefficients: &[f64]) -> Vec<f64> {
        let mut left = contribution.wide();
        let known = self.vectors.iter().zip(coefficients);
        // Updates of the factor whose turn it is not have nothing to take out.
        for (vector, coefficient) in known.filter(|(_, coefficient)| **coefficient != 0.0) {
            vector.add_to(&mut left, -coefficient);
        }
        left
    }
}

/// The Cholesky factor's row for a vector of length one with these products with those before it.
fn next_row(factor: &[Vec<f64>], products: Vec<f64>) -> Vec<f64> {
    let mut row = products;
    for k in 0..row.len() {
        let known: f64 = (0..k).map(|l| factor[k][l] * row[l]).sum();
        row[k] = (row[k] - known) / factor[k][k];
    }
    let squares: f64 = row.iter().map(|v| v * v).sum();
    // Rounding may take a copy's rest below zero by far less than the ridge.
    row.push((1.0 + RIDGE - squares).max(RIDGE / 2.0).sqrt());
    row
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reference;

    /// Some vectors of one length, 24 numbers, and one more.
    fn vectors() -> impl Strategy<Value = (Vec<Vec<f32>>, Vec<f32>)> {
        let vector = || prop::collection::vec(-10.0f32..10.0, 24);
        (prop::collection::vec(vector(), 0..8), vector())
    }

    fn length(values: &[f64]) -> f64 {
        values.iter().map(|v| v * v).sum::<f64>().sqrt()
    }

    proptest! {
        #[test]
        fn the_new_part_is_that_of_the_slow_twin((public, contribution) in vectors()) {
            let found = Public::new(public.clone()).new_part(&contribution);
            let twin = reference::new_part(&public, &contribution);
            let apart: Vec<f64> = found.iter().zip(&twin).map(|(f, t)| f - t).collect();
            prop_assert!(length(&apart) < 1e-2, "{found:?} {twin:?}");
        }

        #[test]
        fn a_mixture_of_what_was_public_has_no_new_part(
            (public, _) in vectors(), mix in prop::collection::vec(-2.0f32..2.0, 8),
        ) {
            let mut sum = vec![0.0f32; 24];
            for (vector, part) in public.iter().zip(&mix) {
                sum.iter_mut().zip(vector).for_each(|(s, v)| *s += part * v);
            }
            // Its copy changes nothing, nor does a vector of zeros.
            let mut known = public.clone();
            known.extend(public.first().cloned());
            known.push(vec![0.0; 24]);
            let left = length(&Public::new(known).new_part(&sum));
            let whole = length(&sum.wide());
            prop_assert!(left <= 1e-2 * (1.0 + whole), "{left} of {whole}");
        }

        #[test]
        fn new_parts_of_a_split_update_add_up((public, contribution) in vectors()) {
            let known = Public::new(public);
            let third: Vec<f32> = contribution.iter().map(|v| v / 3.0).collect();
            let rest: Vec<f32> = contribution.iter().zip(&third).map(|(v, t)| v - t).collect();
            let whole = known.new_part(&contribution);
            let parts = known.new_part(&third).into_iter().zip(known.new_part(&rest));
            for (whole, (one, other)) in whole.iter().zip(parts) {
                prop_assert!((whole - one - other).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn what_is_orthogonal_to_the_public_is_new_to_the_last_bit() {
        let public = Public::new([vec![3.0, 0.0, 0.0], vec![0.0, 2.0, 0.0]]);
        assert_eq!(public.new_part(&[0.0, 0.0, 1.5]), [0.0, 0.0, 1.5]);
        assert_eq!(
            Public::<Vec<f32>>::new([]).new_part(&[1.0, 2.0]),
            [1.0, 2.0]
        );
    }
}
