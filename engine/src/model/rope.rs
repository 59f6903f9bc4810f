//! Tables of the rotary position embedding, in the `rotate_half` layout of Hugging Face.
//!
//! Element `i` of a head's first half turns together with element `i` of its second half. Angles are
//! computed in f32 in the order of operations that transformers uses, so that long contexts agree.

use crate::config::{Config, RopeScaling};

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
        let frequencies = frequencies(config);
        let half = frequencies.len();
        let mut cos = Vec::with_capacity(positions * half);
        let mut sin = Vec::with_capacity(positions * half);
        for position in 0..positions {
            for frequency in &frequencies {
                let angle = position as f32 * frequency;
                cos.push(angle.cos());
                sin.push(angle.sin());
            }
        }
        Self { cos, sin, half }
    }
}

/// Radians per position of each pair.
fn frequencies(config: &Config) -> Vec<f32> {
    let dim = config.head_dim;
    let plain = |pair: usize| 1.0 / config.rope_theta.powf((2 * pair) as f32 / dim as f32);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_utils::tiny_config;

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
        let (plain, scaled) = (frequencies(&plain), frequencies(&scaled));
        assert_eq!(plain[0], scaled[0]);
        assert!((plain[31] / scaled[31] - 8.0).abs() < 1e-4);
        assert!(plain.iter().zip(&scaled).all(|(p, s)| p >= s));
    }
}
