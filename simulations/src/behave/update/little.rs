//! Hides in the variance: every number of the honest mean moved by `z` standard deviations, where `z` is such
//! that enough honest members lie further out to look like the outliers. Baruch, Baruch and Goldberg 2019,
//! "A little is enough", section 3.

use super::AttackerView;

pub(super) fn update(view: &AttackerView<'_>) -> Vec<f32> {
    let mean = view.honest_mean();
    let z = deviations(view.members, view.attackers);
    let count = view.honest.len().max(1) as f64;
    (mean.iter().enumerate())
        .map(|(at, mean)| {
            let mean = f64::from(*mean);
            let squares = (view.honest.iter()).map(|update| (f64::from(update[at]) - mean).powi(2));
            (mean - z * (squares.sum::<f64>() / count).sqrt()) as f32
        })
        .collect()
}

/// `s = floor(n/2 + 1) - m` supporters are needed among the `n - m` honest; `z` is the normal quantile of the
/// share that may be missing.
pub(super) fn deviations(members: usize, attackers: usize) -> f64 {
    let honest = (members - attackers) as f64;
    let supporters = ((members / 2 + 1) as f64 - attackers as f64).max(0.0);
    normal_quantile(((honest - supporters) / honest).clamp(0.5, 0.999))
}

/// By bisection of the distribution function: once a round, and beyond doubt.
fn normal_quantile(share: f64) -> f64 {
    let (mut low, mut high) = (0.0, 8.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        match distribution(middle) < share {
            true => low = middle,
            false => high = middle,
        }
    }
    low
}

/// The standard normal distribution function for `x >= 0`: one half and Simpson's rule on the density.
fn distribution(x: f64) -> f64 {
    const PIECES: usize = 200;
    let step = x / PIECES as f64;
    let density = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    let sum: f64 = (0..PIECES)
        .map(|piece| {
            let from = piece as f64 * step;
            density(from) + 4.0 * density(from + step / 2.0) + density(from + step)
        })
        .sum();
    0.5 + sum * step / 6.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        assert!((normal_quantile(0.975) - 1.959_964).abs() < 1e-5);
        assert!((normal_quantile(0.841_345) - 1.0).abs() < 1e-5);
        assert!(normal_quantile(0.5) < 1e-9);
    }

    #[test]
    fn supporters_are_counted_as_in_the_paper() {
        // 50 members, 24 attackers: two supporters are missing of 26 honest, the quantile of 24/26.
        assert!((deviations(50, 24) - normal_quantile(24.0 / 26.0)).abs() < 1e-9);
        assert!((deviations(50, 24) - 1.426).abs() < 1e-3);
        // With few attackers the quantile is below one half, and they stay at the mean.
        assert_eq!(deviations(15, 1), normal_quantile(0.5));
    }
}
