//! Tables of the rotary position embedding, in the `rotate_half` layout of Hugging Face.
//!
//! Element `i` of a head's first half turns together with element `i` of its second half. Angles are
//! computed in f32 in the order of operations that transformers uses, so that long contexts agree.
//!
//! The last bits of the sines and powers that a system brings differ between systems, and the bits of every answer would
//! with them: [`RopeTable::new`] is the same on every machine. Training has used the system's so far, and the bits of what
//! it made follow from them, the coalition bank's base among them: [`RopeTable::of_system`] stays until that is made anew.

use crate::config::{Config, RopeScaling};
use crate::sample::math::{exp, ln};

/// Cosines and sines, each `[positions, head_dim / 2]` row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeTable {
    /// Cosines.
    pub cos: Vec<f32>,
    /// Sines.
    pub sin: Vec<f32>,
    /// `head_dim / 2`.
    pub half: usize,
}

impl RopeTable {
    /// Positions `0..positions`.
    pub fn new(config: &Config, positions: usize) -> Self {
        let logarithm = ln(f64::from(config.rope_theta));
        let power = |exponent: f32| exp(f64::from(exponent) * logarithm) as f32;
        let turned = |angle: f32| sine_and_cosine(f64::from(angle)).map(|value| value as f32);
        Self::of(&frequencies(config, power), positions, turned)
    }

    /// As [`RopeTable::new`], by the functions that the system brings.
    pub fn of_system(config: &Config, positions: usize) -> Self {
        let power = |exponent: f32| config.rope_theta.powf(exponent);
        let turned = |angle: f32| [angle.sin(), angle.cos()];
        Self::of(&frequencies(config, power), positions, turned)
    }

    fn of(frequencies: &[f32], positions: usize, turned: impl Fn(f32) -> [f32; 2]) -> Self {
        let half = frequencies.len();
        let mut cos = Vec::with_capacity(positions * half);
        let mut sin = Vec::with_capacity(positions * half);
        for position in 0..positions {
            for frequency in frequencies {
                let [sine, cosine] = turned(position as f32 * frequency);
                cos.push(cosine);
                sin.push(sine);
            }
        }
        Self { cos, sin, half }
    }
}

/// Radians per position of each pair; `power` raises the base of the embedding.
fn frequencies(config: &Config, power: impl Fn(f32) -> f32) -> Vec<f32> {
    let dim = config.head_dim;
    let plain = |pair: usize| 1.0 / power((2 * pair) as f32 / dim as f32);
    let scale = |frequency: f32| match config.rope_scaling {
        RopeScaling::None => frequency,
        RopeScaling::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_context,
        } => {
            let context = original_context as f32;
            let wavelength = std::f32::consts::TAU / frequency;
            if wavelength < context / high {
                frequency
            } else if wavelength > context / low {
                frequency / factor
            } else {
                let smooth = (context / wavelength - low) / (high - low);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        }
    };
    (0..dim / 2).map(plain).map(scale).collect()
}

/// Sine and cosine of an angle below a million, to 1e-16, by the polynomials of FreeBSD's `k_sin.c` and `k_cos.c`, written
/// so that IEEE 754 rounds alike everywhere.
fn sine_and_cosine(angle: f64) -> [f64; 2] {
    /// A quarter turn in three parts, of which two have so few bits that their products with a count are exact.
    const QUARTER: [f64; 3] = [
        1.570_796_326_734_125_6,
        6.077_100_506_303_966e-11,
        2.022_266_248_795_950_6e-21,
    ];
    const SINE: [f64; 6] = [
        -0.166_666_666_666_666_32,
        0.008_333_333_333_322_49,
        -0.000_198_412_698_298_579_5,
        2.755_731_370_707_006_8e-6,
        -2.505_076_025_340_686_3e-8,
        1.589_690_995_211_55e-10,
    ];
    const COSINE: [f64; 6] = [
        0.041_666_666_666_666_6,
        -0.001_388_888_888_887_411,
        2.480_158_728_947_673e-5,
        -2.755_731_435_139_066_3e-7,
        2.087_572_321_298_175e-9,
        -1.135_964_755_778_819_5e-11,
    ];
    let turns = (angle * std::f64::consts::FRAC_2_PI).round();
    let rest = QUARTER.iter().fold(angle, |rest, part| rest - turns * part);
    let square = rest * rest;
    let series = |terms: &[f64]| terms.iter().rfold(0.0, |sum, term| sum * square + term);
    let sine = rest + rest * square * series(&SINE);
    let cosine = 1.0 - (0.5 * square - square * square * series(&COSINE));
    match turns as i64 & 3 {
        0 => [sine, cosine],
        1 => [cosine, -sine],
        2 => [-sine, -cosine],
        _ => [-cosine, sine],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_utils::tiny_config;

    #[test]
    fn sines_and_cosines_are_those_of_the_system_but_for_the_last_bit() {
        for at in 0..200_000 {
            let angle = f64::from(at as f32 * 0.65);
            let [sine, cosine] = sine_and_cosine(angle);
            assert!((sine - angle.sin()).abs() < 3e-16, "{angle}");
            assert!((cosine - angle.cos()).abs() < 3e-16, "{angle}");
        }
        let config = tiny_config();
        let frequencies = frequencies(&config, |exponent| config.rope_theta.powf(exponent));
        assert_eq!(frequencies, [1.0, 1.0 / 10_000f32.powf(0.5)]);
    }

    #[test]
    fn both_tables_differ_in_the_last_bits_at_most() {
        let config = Config {
            head_dim: 64,
            ..tiny_config()
        };
        let [own, system] = [RopeTable::new, RopeTable::of_system].map(|made| made(&config, 500));
        let pairs = own
            .sin
            .iter()
            .chain(&own.cos)
            .zip(system.sin.iter().chain(&system.cos));
        assert!(
            pairs
                .clone()
                .all(|(own, system)| (own - system).abs() < 1e-4)
        );
        assert_eq!(pairs.count(), 2 * 500 * 32);
    }

    #[test]
    fn first_pair_turns_one_radian_per_position() {
        let table = RopeTable::new(&tiny_config(), 4);
        let angle = table.sin[3 * table.half].atan2(table.cos[3 * table.half]);
        assert!((angle - 3.0).abs() < 1e-5);
    }

    #[test]
    fn llama3_keeps_high_frequencies_and_stretches_low_ones() {
        let plain = Config {
            head_dim: 64,
            rope_theta: 500_000.0,
            ..tiny_config()
        };
        let scaled = Config {
            rope_scaling: RopeScaling::Llama3 {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_context: 8192,
            },
            ..plain.clone()
        };
        let power = |exponent: f32| plain.rope_theta.powf(exponent);
        let [plain, scaled] = [&plain, &scaled].map(|config| frequencies(config, power));
        assert_eq!(plain[0], scaled[0]);
        assert!((plain[31] / scaled[31] - 8.0).abs() < 1e-4);
        assert!(plain.iter().zip(&scaled).all(|(p, s)| p >= s));
    }
}
