//! The slow twins: obvious, unbounded in cost, and what the quick rules are tested against.
//!
//! Nothing here is called by the daemon. Each function names the rule that it checks.

use tributary_protocol::id::PeerId;

use crate::coalition::Coalition;
use crate::utility::Gradient;

/// Players whose orders can be walked: 8! = 40,320 orders of 8 steps.
pub const MAX_PERMUTED_PLAYERS: usize = 8;

/// Twin of [`crate::shapley::of_worths`]: the mean over all orders of what a player adds to those
/// before it.
///
/// # Panics
/// If there are more than [`MAX_PERMUTED_PLAYERS`] players or the table is not of 2^players worths.
pub fn shapley_by_permutations(players: usize, worths: &[f64]) -> Vec<f64> {
    assert!(
        players <= MAX_PERMUTED_PLAYERS,
        "n! orders are walked: at most 8 players"
    );
    assert_eq!(worths.len(), 1 << players, "one worth per coalition");
    let mut values = vec![0.0; players];
    let orders = walk(Coalition::EMPTY, players, worths, &mut values);
    values.iter().map(|value| value / orders as f64).collect()
}

/// Adds what each player gains in every order that continues `before`; returns how many there are.
fn walk(before: Coalition, players: usize, worths: &[f64], values: &mut [f64]) -> u64 {
    if before.len() == players {
        return 1;
    }
    let mut orders = 0;
    for player in (0..players).filter(|&player| !before.contains(player)) {
        let after = before.with(player);
        let continued = walk(after, players, worths, values);
        let gain = worths[after.bits() as usize] - worths[before.bits() as usize];
        values[player] += continued as f64 * gain;
        orders += continued;
    }
    orders
}

/// Twin of [`crate::path::score`]: the path integral by the midpoint rule with `points` points, the
/// scores alone. Costs `points` backward passes a batch.
///
/// # Errors
/// Whatever `hold_out` fails with.
pub fn path_integral<G: Gradient>(
    before: &[f32],
    contributions: &[(PeerId, Vec<f32>)],
    hold_out: &mut G,
    points: u32,
) -> Result<Vec<f64>, G::Error> {
    let tokens = hold_out.batches();
    let predicted: f64 = tokens.iter().map(|&t| t as f64).sum();
    let mut scores = vec![0.0; contributions.len()];
    for (batch, &tokens) in tokens.iter().enumerate() {
        for k in 0..points {
            let s = (f64::from(k) + 0.5) / f64::from(points);
            let mut point = vec![0.0f32; before.len()];
            for (at, value) in point.iter_mut().enumerate() {
                let step: f64 = contributions.iter().map(|(_, c)| f64::from(c[at])).sum();
                *value = (f64::from(before[at]) + s * step) as f32;
            }
            let gradient = hold_out.loss_gradient(batch, &point)?.gradient;
            let gradient: Vec<f64> = gradient.iter().map(|&g| f64::from(g)).collect();
            let weight = tokens as f64 / predicted / f64::from(points);
            for (score, (_, c)) in scores.iter_mut().zip(contributions) {
                *score -= weight * dot(&gradient, c);
            }
        }
    }
    Ok(scores)
}

/// Twin of the laned inner product: left to right.
pub fn dot(a: &[f64], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * f64::from(*y)).sum()
}

/// Twin of [`crate::novelty::Public::new_part`]: Gram and Schmidt, twice, without a ridge; what is left of a
/// public vector after those before it counts as nothing below a hundred-thousandth of its length.
pub fn new_part(public: &[Vec<f32>], contribution: &[f32]) -> Vec<f64> {
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let without = |mut vector: Vec<f64>, basis: &[Vec<f64>]| {
        for direction in basis.iter().chain(basis) {
            let along = product(&vector, direction);
            (vector.iter_mut().zip(direction)).for_each(|(v, d)| *v -= along * d);
        }
        vector
    };
    for vector in public {
        let vector: Vec<f64> = vector.iter().map(|&v| f64::from(v)).collect();
        let length = product(&vector, &vector).sqrt();
        let left = without(vector, &basis);
        let left_length = product(&left, &left).sqrt();
        if left_length > 1e-5 * length {
            basis.push(left.iter().map(|v| v / left_length).collect());
        }
    }
    let contribution = contribution.iter().map(|&v| f64::from(v)).collect();
    without(contribution, &basis)
}

/// Twin of [`crate::money::split`]: quotas as fractions of one multiplication, then the whole units
/// that are left go one at a time to the largest remainder, the least id among equals.
///
/// # Panics
/// If `amount` times the sum of weights leaves `u128`, or all weights are zero.
pub fn split<I: Ord>(amount: u128, weights: &[(I, u64)]) -> Vec<u128> {
    let total: u128 = weights.iter().map(|(_, w)| u128::from(*w)).sum();
    let mut parts = vec![0; weights.len()];
    let mut remainders = vec![0; weights.len()];
    for (at, (_, weight)) in weights.iter().enumerate() {
        let quota = amount * u128::from(*weight);
        parts[at] = quota / total;
        remainders[at] = quota % total;
    }
    let mut left = amount - parts.iter().sum::<u128>();
    while left > 0 {
        let mut best = 0;
        for at in 1..weights.len() {
            let larger = remainders[at] > remainders[best];
            let tie = remainders[at] == remainders[best] && weights[at].0 < weights[best].0;
            if larger || tie {
                best = at;
            }
        }
        parts[best] += 1;
        remainders[best] = 0;
        left -= 1;
    }
    parts
}

/// Twin of [`crate::interval::t_quantile`]: integrates Student's density by Simpson's rule and
/// bisects for the point with 97.5 % below it.
pub fn t_quantile(degrees: usize) -> f64 {
    let nu = degrees as f64;
    let density = |x: f64| (1.0 + x * x / nu).powf(-(nu + 1.0) / 2.0);
    // Substituting x = tan(u) * sqrt(nu) makes the whole half line finite.
    let mass = |up_to: f64| {
        let steps = 4000;
        let width = up_to / f64::from(steps);
        let at = |u: f64| density(nu.sqrt() * u.tan()) * nu.sqrt() / (u.cos() * u.cos());
        let inner: f64 = (1..steps)
            .map(|k| at(width * f64::from(k)) * if k % 2 == 1 { 4.0 } else { 2.0 })
            .sum();
        (at(0.0) + inner + at(up_to)) * width / 3.0
    };
    let half = mass(std::f64::consts::FRAC_PI_2 - 1e-9);
    let (mut low, mut high) = (0.0, std::f64::consts::FRAC_PI_2 - 1e-9);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if mass(middle) / half < 0.95 {
            low = middle;
        } else {
            high = middle;
        }
    }
    nu.sqrt() * low.tan()
}

/// Twin of [`crate::lexical::matches`]: word by word, (first word, words) of runs of `least` words or more that
/// `text` and whole blocks of `shard` have in common, the longest first and then what is left on both its sides.
pub fn common_spans(
    text: &[String],
    shard: &[String],
    (block, least): (usize, usize),
) -> Vec<(usize, usize)> {
    let mut best = (0, 0);
    for from in 0..text.len() {
        for place in (0..shard.len()).step_by(block) {
            let both = text[from..].iter().zip(&shard[place..]);
            let words = both.take_while(|(a, b)| a == b).count() / block * block;
            if words > best.1 {
                best = (from, words);
            }
        }
    }
    let (from, words) = best;
    if words < least || least == 0 {
        return Vec::new();
    }
    let mut spans = common_spans(&text[..from], shard, (block, least));
    spans.push(best);
    let behind = common_spans(&text[from + words..], shard, (block, least));
    spans.extend(
        behind
            .iter()
            .map(|(at, words)| (from + best.1 + at, *words)),
    );
    spans
}
