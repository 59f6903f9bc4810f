//! An interval for a mean over few batches.
//!
//! The batches of a hold-out are a sample of the text that the evaluator cares about; another draw would give other
//! scores. The interval says how different they may be: the weighted mean, plus and minus Student's quantile times the
//! standard error. It covers the choice of batches and nothing else.

/// Student's t at 0.975 for 1 to 30 degrees of freedom: 95 % lie between minus and plus this.
const T_975: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// Batches without which no variation can be seen.
pub const MIN_BATCHES: usize = 2;

/// A mean and the half width of its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The weighted mean.
    pub mean: f64,
    /// Half of the width.
    pub half: f64,
}

/// Student's 0.975 quantile: a table up to 30 degrees of freedom, beyond it the expansion around the
/// normal quantile (Abramowitz and Stegun 26.7.5), good to 0.001.
///
/// # Panics
/// If `degrees` is zero.
pub fn t_quantile(degrees: usize) -> f64 {
    assert!(
        degrees > 0,
        "one observation has no degree of freedom for its variance"
    );
    if let Some(quantile) = T_975.get(degrees - 1) {
        return *quantile;
    }
    let (z, nu) = (1.959_964_f64, degrees as f64);
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    z + first / nu + second / (nu * nu)
}

/// The mean of `values` under `weights` (positive, adding up to one) and its interval. The standard
/// error is that of a weighted mean, `sqrt(n/(n-1) * sum w^2 (x - mean)^2)`; with equal weights it is
/// the textbook `s / sqrt(n)`.
///
/// # Panics
/// If there are fewer than [`MIN_BATCHES`] values, or not as many weights.
pub fn of(values: &[f64], weights: &[f64]) -> Interval {
    assert!(
        values.len() >= MIN_BATCHES,
        "variation needs two observations"
    );
    assert_eq!(values.len(), weights.len(), "one weight per value");
    let n = values.len() as f64;
    let mean: f64 = values.iter().zip(weights).map(|(x, w)| x * w).sum();
    let spread: f64 = (values.iter().zip(weights))
        .map(|(x, w)| (w * (x - mean)).powi(2))
        .sum();
    let error = (n / (n - 1.0) * spread).sqrt();
    Interval {
        mean,
        half: t_quantile(values.len() - 1) * error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn quantiles_equal_the_integrated_density() {
        for degrees in (1..=40).chain([60, 120, 1000]) {
            let slow = reference::t_quantile(degrees);
            let quick = t_quantile(degrees);
            assert!((quick - slow).abs() < 1e-3, "{degrees}: {quick} and {slow}");
        }
    }

    #[test]
    fn a_textbook_sample_has_its_textbook_interval() {
        // 1, 2, 3, 4, 5: s = sqrt(2.5), s / sqrt(5) = sqrt(0.5), t(4) = 2.776.
        let found = of(&[1.0, 2.0, 3.0, 4.0, 5.0], &[0.2; 5]);
        assert!((found.mean - 3.0).abs() < 1e-12);
        assert!((found.half - 2.776 * 0.5f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn about_95_of_100_intervals_hold_the_truth() {
        let mut hasher =
            tributary_protocol::hash::Hasher::new(tributary_protocol::hash::Domain::Simulation);
        let mut stream = hasher.update(b"interval coverage").finalize_xof();
        let mut uniform = || stream.next_u64() as f64 / u64::MAX as f64;
        // The sum of twelve uniforms is close to normal with variance one.
        let mut normal = || (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
        let trials = 4000;
        let held = (0..trials)
            .filter(|_| {
                let sample: Vec<f64> = (0..6).map(|_| normal()).collect();
                let found = of(&sample, &[1.0 / 6.0; 6]);
                found.mean.abs() <= found.half
            })
            .count();
        let percent = 100.0 * held as f64 / f64::from(trials);
        assert!((93.5..=96.5).contains(&percent), "{percent} % held");
    }
}
