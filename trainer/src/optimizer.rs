//! AdamW and gradient clipping on flat host vectors.
//!
//! The update is that of PyTorch's `torch.optim.AdamW` (Loshchilov and Hutter, algorithm 2), element
//! after element in one order, so that the same gradients give the same bytes. Which elements decay
//! is the caller's choice.

/// Constants of AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root in the denominator.
    pub eps: f64,
    /// Share of a weight that is removed per unit of learning rate.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    /// PyTorch's defaults, except that nothing decays.
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
        }
    }
}

/// Moments of one flat vector of weights.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AdamW {
    config: AdamWConfig,
    pub(crate) steps: u64,
    pub(crate) mean: Vec<f32>,
    pub(crate) square: Vec<f32>,
}

impl AdamW {
    /// Zero moments for `count` weights.
    pub(crate) fn new(config: AdamWConfig, count: usize) -> Self {
        Self {
            config,
            steps: 0,
            mean: vec![0.0; count],
            square: vec![0.0; count],
        }
    }

    /// Opens a step: every [`AdamW::update`] until the next belongs to it.
    pub(crate) fn begin_step(&mut self) {
        self.steps += 1;
    }

    /// Moves `weights`, whose moments start at `offset`, against `gradient`.
    pub(crate) fn update(
        &mut self,
        offset: usize,
        weights: &mut [f32],
        gradient: &[f32],
        learning_rate: f64,
        decays: bool,
    ) {
        let AdamWConfig {
            beta1,
            beta2,
            eps,
            weight_decay,
        } = self.config;
        let time = self.steps.min(i32::MAX as u64) as i32;
        let step_size = (learning_rate / (1.0 - beta1.powi(time))) as f32;
        let root_correction = (1.0 - beta2.powi(time)).sqrt() as f32;
        let keep = if decays {
            1.0 - learning_rate * weight_decay
        } else {
            1.0
        } as f32;
        let (beta1, beta2, eps) = (beta1 as f32, beta2 as f32, eps as f32);
        let range = offset..offset + weights.len();
        let moments = self.mean[range.clone()]
            .iter_mut()
            .zip(&mut self.square[range]);
        for ((weight, g), (mean, square)) in weights.iter_mut().zip(gradient).zip(moments) {
            *mean += (g - *mean) * (1.0 - beta1);
            *square = *square * beta2 + g * g * (1.0 - beta2);
            let denominator = square.sqrt() / root_correction + eps;
            *weight = *weight * keep - step_size * (*mean / denominator);
        }
    }
}

/// Length of the gradient as one vector, summed in f64.
pub(crate) fn norm<'a>(pieces: impl IntoIterator<Item = &'a [f32]>) -> f64 {
    let squares = |piece: &[f32]| {
        piece
            .iter()
            .map(|g| f64::from(*g) * f64::from(*g))
            .sum::<f64>()
    };
    pieces.into_iter().map(squares).sum::<f64>().sqrt()
}

/// What a gradient of length `norm` is multiplied by so that it is at most `limit` long.
pub(crate) fn clip_factor(norm: f64, limit: Option<f64>) -> f32 {
    match limit {
        // The constant is PyTorch's `clip_grad_norm_`.
        Some(limit) => (limit / (norm + 1e-6)).min(1.0) as f32,
        None => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three steps of `torch.optim.AdamW(lr=0.1, weight_decay=0.1)` on gradients 1, -2, 0.5 from 1.0,
    /// by the formulas of its documentation in f64.
    #[test]
    fn follows_the_documented_formulas() {
        let config = AdamWConfig {
            weight_decay: 0.1,
            ..AdamWConfig::default()
        };
        let mut adam = AdamW::new(config, 1);
        let mut weights = [1.0f32];
        let (mut w, mut m, mut v) = (1.0f64, 0.0f64, 0.0f64);
        for (t, g) in [1.0f64, -2.0, 0.5].into_iter().enumerate() {
            adam.begin_step();
            adam.update(0, &mut weights, &[g as f32], 0.1, true);
            let t = t as i32 + 1;
            w -= 0.1 * 0.1 * w;
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            w -=
                0.1 * (m / (1.0 - 0.9f64.powi(t))) / ((v / (1.0 - 0.999f64.powi(t))).sqrt() + 1e-8);
            assert!(
                (f64::from(weights[0]) - w).abs() < 1e-6,
                "{} {w}",
                weights[0]
            );
        }
    }

    #[test]
    fn decay_is_left_out_where_asked() {
        let config = AdamWConfig {
            weight_decay: 0.5,
            ..AdamWConfig::default()
        };
        let mut adam = AdamW::new(config, 2);
        let mut weights = [1.0f32, 1.0];
        adam.begin_step();
        adam.update(0, &mut weights[..1], &[0.0], 0.1, true);
        adam.update(1, &mut weights[1..], &[0.0], 0.1, false);
        assert_eq!(weights, [0.95, 1.0]);
    }

    #[test]
    fn long_gradients_are_cut_to_the_limit_and_short_ones_kept() {
        let length = norm([[3.0f32].as_slice(), [4.0].as_slice()]);
        assert_eq!(length, 5.0);
        assert!((f64::from(clip_factor(length, Some(1.0))) * length - 1.0).abs() < 1e-5);
        assert_eq!(clip_factor(length, Some(9.0)), 1.0);
        assert_eq!(clip_factor(length, None), 1.0);
    }
}
