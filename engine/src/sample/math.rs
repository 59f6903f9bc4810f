//! Exponentials, logarithms and noise that are the same on every machine.
//!
//! A draw is repeated by those who check it, so no bit of it may depend on the machine. The standard library takes
//! `exp` and `ln` from the platform's mathematics library, whose last bits differ between systems and versions. These
//! here use only additions, multiplications and divisions in a written order, which IEEE 754 rounds alike everywhere
//! and which the compiler may not fuse. Masses are integers, whose sum depends on no order at all, so loops over them
//! may run on any vector unit.

use crate::model::vector::fast;

/// The mass of the likeliest token. Sums stay below 2^63 up to 2^19 tokens, and a token counts for nothing only below
/// 2^-45 of the likeliest one.
pub(super) const ONE: f64 = (1u64 << 44) as f64;

const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// `e^x` to 4 units in the last place, for `x` from -700 to 700; beyond, as at these.
#[inline(always)]
pub(crate) fn exp(x: f64) -> f64 {
    // Adding 1.5 * 2^52 leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    // Taylor's series: r stays within ln(2) / 2, where the first term left out is below 2^-56.
    const TERMS: [f64; 13] = [
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
    ];
    let x = x.clamp(-700.0, 700.0);
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let power = shifted - ROUND;
    let r = (x - power * LN2_HIGH) - power * LN2_LOW;
    let mut sum = 0.0;
    for term in TERMS {
        sum = sum * r + term;
    }
    let sum = sum * r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    sum * f64::from_bits(exponent.wrapping_add(1023) << 52)
}

/// Natural logarithm of a positive normal number, to 1 unit in the last place, as in FreeBSD's `e_log.c`.
pub(crate) fn ln(x: f64) -> f64 {
    const ROOT_HALF: u64 = 0x3fe6_a09e << 32;
    const ONE: u64 = 0x3ff0_0000 << 32;
    const EVEN: [f64; 3] = [
        1.531_383_769_920_937_3e-1,
        2.222_219_843_214_978_4e-1,
        3.999_999_999_940_942e-1,
    ];
    const ODD: [f64; 4] = [
        1.479_819_860_511_658_6e-1,
        1.818_357_216_161_805e-1,
        2.857_142_874_366_239e-1,
        6.666_666_666_666_735e-1,
    ];
    debug_assert!(x.is_normal() && x > 0.0);
    // x = m 2^k with m from sqrt(1/2) to sqrt(2).
    let shifted = x.to_bits() + (ONE - ROOT_HALF);
    let k = (shifted >> 52) as f64 - 1023.0;
    let m = f64::from_bits((shifted & ((1 << 52) - 1)) + ROOT_HALF);
    let f = m - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let series = |terms: &[f64]| terms.iter().fold(0.0, |sum, term| sum * w + term);
    let rest = z * series(&ODD) + w * series(&EVEN);
    let half = 0.5 * f * f;
    s * (half + rest) + k * LN2_LOW - half + f + k * LN2_HIGH
}

/// `e^x` as an integer, in units of 1 / [`ONE`]. For `x` up to 0.
#[inline(always)]
pub(super) fn mass(x: f64) -> u64 {
    // Adding 2^52 rounds to an integer and leaves it in the mantissa.
    const ROUND: f64 = (1u64 << 52) as f64;
    (exp(x) * ONE + ROUND).to_bits() & ((1 << 52) - 1)
}

/// Sum of the masses of `(score - most) / temperature`, given the inverse of the temperature.
pub(super) fn total(scores: &[f32], most: f32, inverse: f64) -> u64 {
    fast(
        #[inline(always)]
        || {
            let mut sum = 0u64;
            for score in scores {
                // Never wraps (see `ONE`); a check for it would keep the loop off the vector units.
                sum = sum.wrapping_add(mass(tempered(*score, most, inverse)));
            }
            sum
        },
    )
}

/// The same over [`key`]s.
pub(super) fn total_of_keys(keys: &[u64], most: f32, inverse: f64) -> u64 {
    fast(
        #[inline(always)]
        || {
            let mut sum = 0u64;
            for key in keys {
                sum = sum.wrapping_add(mass(tempered(score_of(*key), most, inverse)));
            }
            sum
        },
    )
}

/// A score as the logarithm of its probability over that of the likeliest.
#[inline(always)]
pub(super) fn tempered(score: f32, most: f32, inverse: f64) -> f64 {
    (f64::from(score) - f64::from(most)) * inverse
}

/// Orders tokens by score, then by smaller number: larger keys are better.
#[inline(always)]
pub(super) fn key(score: f32, token: u32) -> u64 {
    // Adding zero makes the negative zero a positive one.
    let bits = (score + 0.0).to_bits();
    let ordered = bits ^ ((((bits as i32) >> 31) as u32) | 0x8000_0000);
    (u64::from(ordered) << 32) | u64::from(!token)
}

/// The score in a [`key`].
#[inline(always)]
pub(super) fn score_of(key: u64) -> f32 {
    let ordered = (key >> 32) as u32;
    f32::from_bits(ordered ^ ((!((ordered as i32) >> 31) as u32) | 0x8000_0000))
}

/// The token in a [`key`].
#[inline(always)]
pub(super) fn token_of(key: u64) -> u32 {
    !(key as u32)
}

/// Gumbel noise for each token of one draw. It follows from seed, position and token alone, whatever the order in which
/// it is asked for. The hash spreads well and hides nothing: those who know the seed know the noise, as they must.
#[derive(Clone, Copy)]
pub(super) struct Noise(u64);

impl Noise {
    /// Of the draw at `position` under `seed`.
    pub(super) fn new(seed: u64, position: u64) -> Self {
        Self(mix(mix(seed.wrapping_add(GOLDEN)) ^ position))
    }

    /// 52 bits.
    #[inline(always)]
    fn bits(self, token: u32) -> u64 {
        mix((self.0).wrapping_add((u64::from(token) + 1).wrapping_mul(GOLDEN))) >> 12
    }

    /// `-ln(-ln(u))` with `u` between 0 and 1.
    pub(super) fn of(self, token: u32) -> f64 {
        noise(self.bits(token))
    }

    /// The noise where it may reach `least`, otherwise nothing. Two logarithms for each of 50,000 tokens would take a
    /// millisecond; hardly any is needed.
    #[inline(always)]
    pub(super) fn reaching(self, token: u32, least: f64) -> Option<f64> {
        // -ln(u) >= 1 - u, and 1 - u >= 2^-(z + 1) when its 52 bits begin with z zeros. A little is added for rounding.
        const LN2_ABOVE: f64 = 0.693_147_19;
        let bits = self.bits(token);
        let rest = (1 << 52) - 1 - bits;
        let most = f64::from(rest.leading_zeros() - 11) * LN2_ABOVE;
        (most >= least).then(|| noise(bits))
    }
}

fn noise(bits: u64) -> f64 {
    // 52 bits and a half have an exact f64, and neither 0 nor 1 among them.
    let u = (bits as f64 + 0.5) * (1.0 / (1u64 << 52) as f64);
    -ln(-ln(u))
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's finaliser (Steele, Lea, Flood 2014).
#[inline(always)]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_and_logarithm_are_accurate_over_their_ranges() {
        for i in -69_990..=69_990 {
            let x = f64::from(i) / 100.0;
            assert!((exp(x) - x.exp()).abs() <= 2e-15 * x.exp(), "{x}");
        }
        for i in -400..400 {
            for j in 1..50 {
                let x = 2f64.powi(i) * (1.0 + f64::from(j) / 50.0);
                let exact = x.ln();
                assert!((ln(x) - exact).abs() <= 1e-15 * exact.abs(), "{x}");
            }
        }
        let near_one = 1.0 - 2f64.powi(-53);
        assert_eq!(ln(near_one), -(2f64.powi(-53)));
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn known_bits_stay_as_they_are() {
        // Whoever checks an answer must draw the same noise; these values are part of what an answer says.
        assert_eq!(exp(-1.0).to_bits(), 0x3fd7_8b56_362c_ef38);
        assert_eq!(ln(10.0).to_bits(), 0x4002_6bb1_bbb5_5516);
        assert_eq!(mass(0.0), 1 << 44);
        assert_eq!(mass(-1.0), 6_471_803_571_004);
        assert_eq!(mass(f64::NEG_INFINITY), 0);
        let noise = Noise::new(7, 3);
        let bits: Vec<u64> = (0..3).map(|token| noise.bits(token)).collect();
        assert_eq!(
            bits,
            [
                2_637_222_360_971_365,
                1_420_126_765_256_488,
                3_403_234_260_590_559
            ]
        );
    }

    #[test]
    fn keys_order_by_score_then_by_smaller_token_and_give_both_back() {
        let scores = [-3.5f32, -1e-40, 0.0, 1e-40, 2.0, 1e30, -1e30];
        for a in scores {
            for b in scores {
                assert_eq!(key(a, 5).cmp(&key(b, 5)), a.partial_cmp(&b).unwrap());
            }
            assert!(key(a, 4) > key(a, 5));
            assert_eq!(score_of(key(a, 9)), a);
            assert_eq!(token_of(key(a, 9)), 9);
        }
        assert_eq!(key(0.0, 1), key(-0.0, 1));
    }

    #[test]
    fn masses_add_up_alike_on_every_vector_unit() {
        let scores: Vec<f32> = (0..10_007)
            .map(|i| (i * 7919 % 4001) as f32 / -97.0)
            .collect();
        let keys: Vec<u64> = (0..).zip(&scores).map(|(t, s)| key(*s, t)).collect();
        for inverse in [0.01, 1.0, 7.3] {
            // One at a time, compiled for no vector unit.
            let plain = scores.iter().fold(0u64, |sum, score| {
                sum + std::hint::black_box(mass(tempered(*score, 0.0, inverse)))
            });
            assert_eq!(total(&scores, 0.0, inverse), plain);
            assert_eq!(total_of_keys(&keys, 0.0, inverse), plain);
        }
    }

    #[test]
    fn noise_is_left_out_only_where_it_cannot_reach() {
        for position in 0..50 {
            let noise = Noise::new(1, position);
            for token in 0..1000 {
                let exact = noise.of(token);
                assert_eq!(noise.reaching(token, exact), Some(exact));
                if let Some(given) = noise.reaching(token, exact + 0.5) {
                    assert_eq!(given, exact);
                }
            }
        }
        // Even the extremes.
        for bits in [0, 1, (1 << 52) - 1] {
            assert!(super::noise(bits).abs() < 37.0);
        }
    }

    #[test]
    fn noise_has_the_mean_and_spread_of_gumbels_distribution() {
        let count = 400_000;
        let values: Vec<f64> = (0..count)
            .map(|i| Noise::new(11, i / 100).of((i % 100) as u32))
            .collect();
        let mean = values.iter().sum::<f64>() / count as f64;
        let spread = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count as f64;
        assert!((mean - 0.577_215_66).abs() < 0.01, "{mean}");
        let exact = std::f64::consts::PI.powi(2) / 6.0;
        assert!((spread - exact).abs() < 0.03, "{spread}");
    }
}
