//! Loops over `f32` slices that the compiler turns into vector instructions.
//!
//! [`fast`] compiles its closure for each generation of vector units and picks one at run time.
//! Sums use a fixed number of lanes, so their result depends on neither the processor nor threads.

use rayon::prelude::*;

/// Numbers that one parallel task works on: enough to outweigh the cost of handing it out.
pub const TASK: usize = 1 << 15;

/// Partial sums of a reduction: two vectors of AVX-512.
const LANES: usize = 32;

/// Runs `body` compiled for the best vector units there are. What it calls must be inlined.
#[inline(always)]
pub fn fast<R>(body: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(avx512) = pulp::x86::V4::try_new().filter(|_| unit::may_use(Unit::Avx512)) {
            return avx512.vectorize(body);
        }
        if let Some(avx2) = pulp::x86::V3::try_new().filter(|_| unit::may_use(Unit::Avx2)) {
            return avx2.vectorize(body);
        }
        if !unit::may_use(Unit::Best) {
            return body();
        }
    }
    pulp::Arch::new().dispatch(body)
}

/// Runs an operation that is written for any vector unit on the best there is.
#[inline(always)]
pub fn dispatch<Op: pulp::WithSimd>(operation: Op) -> Op::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(avx512) = pulp::x86::V4::try_new().filter(|_| unit::may_use(Unit::Avx512)) {
            return pulp::Simd::vectorize(avx512, operation);
        }
        if let Some(avx2) = pulp::x86::V3::try_new().filter(|_| unit::may_use(Unit::Avx2)) {
            return pulp::Simd::vectorize(avx2, operation);
        }
        if !unit::may_use(Unit::Best) {
            return pulp::Simd::vectorize(pulp::Scalar::new(), operation);
        }
    }
    pulp::Arch::new().dispatch(operation)
}

/// Vector units, worst first.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    /// One number at a time. Nothing asks for it: it is what is left when nothing better may be used.
    #[cfg(test)]
    Portable,
    /// Eight.
    Avx2,
    /// Sixteen.
    Avx512,
    /// Whatever there is.
    Best,
}

/// Which vector units may be used: all of them. Only this crate's own tests forbid some, to compare the others.
#[cfg(target_arch = "x86_64")]
pub(crate) mod unit {
    use super::Unit;

    #[cfg(not(test))]
    #[inline(always)]
    pub(crate) fn may_use(_: Unit) -> bool {
        true
    }

    #[cfg(test)]
    pub(crate) use capped::{may_use, up_to};

    #[cfg(test)]
    mod capped {
        use std::sync::Mutex;
        use std::sync::atomic::{AtomicU8, Ordering};

        use super::Unit;

        static BEST: AtomicU8 = AtomicU8::new(Unit::Best as u8);
        static IN_TURN: Mutex<()> = Mutex::new(());

        #[inline(always)]
        pub(crate) fn may_use(unit: Unit) -> bool {
            unit as u8 <= BEST.load(Ordering::Relaxed)
        }

        /// Runs `work`, and whatever else this process computes meanwhile, on nothing better than `unit`.
        pub(crate) fn up_to<R>(unit: Unit, work: impl FnOnce() -> R) -> R {
            let _turn = IN_TURN.lock();
            BEST.store(unit as u8, Ordering::SeqCst);
            let result = work();
            BEST.store(Unit::Best as u8, Ordering::SeqCst);
            result
        }
    }
}

/// Rows of `width` numbers that make up one parallel task.
pub fn rows_per_task(width: usize) -> usize {
    (TASK / width.max(1)).max(1)
}

/// `e^x` to 2 units in the last place; below -87 it is as good as zero.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let power = shifted - ROUND;
    let r = power.mul_add(-LN2_HIGH, x);
    let r = power.mul_add(-LN2_LOW, r);
    // Cephes' expf.
    let p = 1.987_569_1e-4f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let p = p.mul_add(r * r, r) + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    p * f32::from_bits(exponent.wrapping_add(127) << 23)
}

#[inline(always)]
fn reduce(
    a: &[f32],
    b: &[f32],
    start: f32,
    step: impl Fn(f32, f32, f32) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [start; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let mut rest = start;
    for (a, b) in tail {
        rest = step(rest, *a, *b);
    }
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] = step(lanes[lane], a[lane], b[lane]);
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = join(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    join(lanes[0], rest)
}

/// Sum of products.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    reduce(a, b, 0.0, add_product, plus)
}

/// Sum.
#[inline(always)]
pub fn sum(a: &[f32]) -> f32 {
    reduce(a, a, 0.0, add_first, plus)
}

/// Largest element; negative infinity when there is none.
#[inline(always)]
pub fn max(a: &[f32]) -> f32 {
    reduce(a, a, f32::NEG_INFINITY, larger_first, larger)
}

// Named functions, because a closure that is called twice may stay a function of its own, compiled
// for no vector unit.

#[inline(always)]
fn add_product(sum: f32, a: f32, b: f32) -> f32 {
    a.mul_add(b, sum)
}

#[inline(always)]
fn add_first(sum: f32, a: f32, _: f32) -> f32 {
    sum + a
}

#[inline(always)]
fn larger_first(best: f32, a: f32, _: f32) -> f32 {
    larger(best, a)
}

#[inline(always)]
fn plus(a: f32, b: f32) -> f32 {
    a + b
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// `x W^T` for one row `x`: a dot product with every row of `weight`. A matrix product would first
/// rearrange the weight, which for a single row costs more than the product itself.
pub fn row_times_transposed(x: &[f32], weight: &[f32]) -> Vec<f32> {
    let rows = rows_per_task(x.len());
    let mut out = vec![0.0; weight.len() / x.len()];
    (out.par_chunks_mut(rows))
        .zip(weight.par_chunks(rows * x.len()))
        .for_each(|(out, weight)| {
            fast(
                #[inline(always)]
                || {
                    for (out, row) in out.iter_mut().zip(weight.chunks_exact(x.len())) {
                        *out = dot(x, row);
                    }
                },
            );
        });
    out
}

/// `to += factor * from`.
#[inline(always)]
pub fn add_scaled(to: &mut [f32], factor: f32, from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = from.mul_add(factor, *to);
    }
}

/// `to += from`.
pub fn add(to: &mut [f32], from: &[f32]) {
    fast(
        #[inline(always)]
        || {
            for (to, from) in to.iter_mut().zip(from) {
                *to += from;
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_cap_leaves_no_better_vector_unit() {
        struct Lanes;
        impl pulp::WithSimd for Lanes {
            type Output = usize;
            fn with_simd<S: pulp::Simd>(self, _: S) -> usize {
                S::F32_LANES
            }
        }
        let lanes = |best| unit::up_to(best, || dispatch(Lanes));
        assert_eq!(lanes(Unit::Portable), 1);
        assert!([1, 4, 8].contains(&lanes(Unit::Avx2)));
        assert_eq!(lanes(Unit::Avx512), lanes(Unit::Best));
    }

    #[test]
    fn exponential_is_accurate_over_its_range() {
        for i in -8700..8700 {
            let x = i as f32 / 100.0;
            let (fast, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((fast - exact).abs() <= 3e-7 * exact, "{x}: {fast} {exact}");
        }
        assert!(exp(-1e30) < 1e-37);
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
        assert!(exp(1e30).is_finite());
    }

    #[test]
    fn a_row_times_a_matrix_is_a_dot_product_per_row() {
        let weight: Vec<f32> = (0..70 * 700).map(|i| (i % 13) as f32 - 6.0).collect();
        let x: Vec<f32> = (0..70).map(|i| (i % 5) as f32).collect();
        let out = row_times_transposed(&x, &weight);
        assert_eq!(out.len(), 700);
        for (out, row) in out.iter().zip(weight.chunks_exact(70)) {
            assert_eq!(*out, row.iter().zip(&x).map(|(a, b)| a * b).sum::<f32>());
        }
    }

    #[test]
    fn reductions_equal_plain_loops_at_every_length() {
        for length in 0..100 {
            let a: Vec<f32> = (0..length).map(|i| (i * 37 % 19) as f32 - 9.0).collect();
            let b: Vec<f32> = (0..length).map(|i| (i * 11 % 23) as f32 - 7.0).collect();
            assert_eq!(sum(&a), a.iter().sum::<f32>());
            assert_eq!(
                dot(&a, &b),
                a.iter().zip(&b).map(|(a, b)| a * b).sum::<f32>()
            );
            assert_eq!(max(&a), a.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
