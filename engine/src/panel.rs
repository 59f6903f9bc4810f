//! Numbers in panels of 64, and the matrix product on them.
//!
//! Activations are `[panel][row][64]`: 64 features of every row, then the next 64. Weights are `[panel][input][64]`: for
//! 64 outputs, the numbers that each input is multiplied by. A product reads one input of a row at a time and adds to
//! 64 sums at once, so **every sum runs over its inputs from first to last**, one fused multiplication after the other,
//! whatever the vector unit, the number of rows and the threads. The same product serves keys (64 positions for outputs)
//! and values (64 positions for inputs).
//!
//! Features that fill no whole panel are followed by zeros.

use pulp::{Simd, WithSimd};

use crate::model::vector::dispatch;

/// Features of a panel: four vectors of AVX-512.
pub(crate) const PANEL: usize = 64;

/// One number for every feature of a panel.
pub(crate) type Lanes = [f32; PANEL];

/// Panels that `features` take.
pub(crate) fn panels(features: usize) -> usize {
    features.div_ceil(PANEL)
}

/// One panel of outputs for some rows: `out[row] (+)= sum over inputs of x[row][input] * weights[input]`.
pub(crate) struct Product<'a> {
    /// `[input][64]`, of which the first `inputs` count.
    pub(crate) weights: &'a [f32],
    pub(crate) inputs: usize,
    /// `[panel][x_rows][64]`.
    pub(crate) x: &'a [f32],
    /// Rows of `x`.
    pub(crate) x_rows: usize,
    /// The row of `x` that the first of `out` belongs to.
    pub(crate) first: usize,
    /// `[rows][64]`.
    pub(crate) out: &'a mut [f32],
    /// Whether the sums begin with what is there, or with zero.
    pub(crate) add: bool,
}

impl Product<'_> {
    /// Multiplies on this thread.
    pub(crate) fn run(self) {
        dispatch(self);
    }
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.by_vectors::<S, 6, 4>(simd),
            8 => self.by_vectors::<S, 3, 4>(simd),
            4 => self.by_vectors::<S, 6, 4>(simd),
            _ => self.by_vectors::<S, 4, 1>(simd),
        }
    }
}

impl Product<'_> {
    /// Tiles of up to `ROWS` rows and `VECTORS` vectors, whose sums stay in registers.
    #[inline(always)]
    fn by_vectors<S: Simd, const ROWS: usize, const VECTORS: usize>(mut self, simd: S) {
        let rows = self.out.len() / PANEL;
        let mut row = 0;
        while row < rows {
            let count = (rows - row).min(ROWS);
            for lane in (0..PANEL).step_by(VECTORS * S::F32_LANES) {
                match count {
                    1 => self.tile::<S, 1, VECTORS>(simd, row, lane),
                    2 => self.tile::<S, 2, VECTORS>(simd, row, lane),
                    3 => self.tile::<S, 3, VECTORS>(simd, row, lane),
                    4 => self.tile::<S, 4, VECTORS>(simd, row, lane),
                    5 => self.tile::<S, 5, VECTORS>(simd, row, lane),
                    _ => self.tile::<S, 6, VECTORS>(simd, row, lane),
                }
            }
            row += count;
        }
    }

    #[expect(
        clippy::manual_memcpy,
        reason = "counted loops keep the sums in registers"
    )]
    #[inline(always)]
    fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
        &mut self,
        simd: S,
        row: usize,
        lane: usize,
    ) {
        let width = VECTORS * S::F32_LANES;
        let out: &mut [Lanes] = self.out[row * PANEL..][..ROWS * PANEL].as_chunks_mut().0;
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        if self.add {
            for r in 0..ROWS {
                let out = S::as_simd_f32s(&out[r][lane..lane + width]).0;
                for v in 0..VECTORS {
                    sums[r][v] = out[v];
                }
            }
        }
        let weights: &[Lanes] = self.weights.as_chunks().0;
        for (panel, weights) in weights[..self.inputs].chunks(PANEL).enumerate() {
            let inputs = weights.len();
            let first = (panel * self.x_rows + self.first + row) * PANEL;
            let x = &self.x[first..first + ROWS * PANEL];
            let x: [&[f32]; ROWS] = std::array::from_fn(|r| &x[r * PANEL..][..inputs]);
            for at in 0..inputs {
                let w = S::as_simd_f32s(&weights[at][lane..lane + width]).0;
                let w: [S::f32s; VECTORS] = std::array::from_fn(|v| w[v]);
                for r in 0..ROWS {
                    let x = simd.splat_f32s(x[r][at]);
                    for v in 0..VECTORS {
                        sums[r][v] = simd.mul_add_f32s(x, w[v], sums[r][v]);
                    }
                }
            }
        }
        for r in 0..ROWS {
            let out = S::as_mut_simd_f32s(&mut out[r][lane..lane + width]).0;
            for v in 0..VECTORS {
                out[v] = sums[r][v];
            }
        }
    }
}

/// The sum of a panel's numbers: halves are added until one number is left.
#[inline(always)]
pub(crate) fn total(mut lanes: Lanes) -> f32 {
    let mut width = PANEL / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The nearest bf16, ties to even.
#[inline(always)]
pub(crate) fn narrowed(value: f32) -> u16 {
    let bits = value.to_bits();
    let even = (bits >> 16) & 1;
    // A number that is not one keeps its upper half, made quiet.
    let quiet = (bits >> 16) as u16 | 0x40;
    let rounded = (bits.wrapping_add(0x7fff + even) >> 16) as u16;
    if value.is_nan() { quiet } else { rounded }
}

/// The number that a bf16 stands for.
#[inline(always)]
pub(crate) fn widened(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

/// Numbers that are widened at a time: a vector of AVX-512. Written number by number, the compiler takes apart what it
/// should put together.
pub(crate) const VECTOR: usize = 16;

/// The numbers that whole vectors of bf16 stand for.
#[inline(always)]
pub(crate) fn widen_all(to: &mut [f32], from: &[u16]) {
    let vectors = to.as_chunks_mut::<VECTOR>().0.iter_mut();
    for (to, from) in vectors.zip(from.as_chunks::<VECTOR>().0) {
        *to = from.map(widened);
    }
}

/// `sums += factors * x`, the factors in bf16; all as many whole vectors.
#[inline(always)]
pub(crate) fn add_widened(sums: &mut Lanes, factors: &[u16; PANEL], x: impl Fn(usize) -> f32) {
    let vectors = sums.as_chunks_mut::<VECTOR>().0.iter_mut().enumerate();
    for ((at, sums), factors) in vectors.zip(factors.as_chunks::<VECTOR>().0) {
        let factors = factors.map(widened);
        for lane in 0..VECTOR {
            sums[lane] = factors[lane].mul_add(x(at * VECTOR + lane), sums[lane]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(at: usize) -> f32 {
        (at * 2_654_435_761 % 1_000_003) as f32 / 500_000.0 - 1.0
    }

    #[test]
    fn a_product_sums_from_first_to_last_at_every_size() {
        for inputs in [1, 5, 63, 64, 65, 130] {
            for rows in 1..15 {
                let x_rows = rows + 2;
                let weights: Vec<f32> = (0..inputs * PANEL).map(number).collect();
                let x: Vec<f32> = (0..panels(inputs) * x_rows * PANEL)
                    .map(|at| number(at + 77))
                    .collect();
                let mut out: Vec<f32> = (0..rows * PANEL).map(|at| number(at + 5)).collect();
                let before = out.clone();
                for add in [true, false] {
                    let product = Product {
                        weights: &weights,
                        inputs,
                        x: &x,
                        x_rows,
                        first: 1,
                        out: &mut out,
                        add,
                    };
                    product.run();
                    for (at, out) in out.iter().enumerate() {
                        let (row, lane) = (at / PANEL, at % PANEL);
                        let mut sum = if add { before[at] } else { 0.0 };
                        for input in 0..inputs {
                            let place = input / PANEL * x_rows + 1 + row;
                            let x = x[place * PANEL + input % PANEL];
                            sum = x.mul_add(weights[input * PANEL + lane], sum);
                        }
                        assert_eq!(out.to_bits(), sum.to_bits(), "{inputs} {rows} {at}");
                    }
                }
            }
        }
    }

    #[test]
    fn halves_are_those_of_the_half_crate() {
        for at in 0..100_000u32 {
            let value = f32::from_bits(at.wrapping_mul(2_654_435_761));
            let expected = half::bf16::from_f32(value);
            if value.is_nan() {
                assert!(widened(narrowed(value)).is_nan());
            } else {
                assert_eq!(narrowed(value), expected.to_bits());
                assert_eq!(widened(narrowed(value)), expected.to_f32());
            }
        }
    }
}
