//! How well scores agree with the truth.

/// Agreement of six scores with six true values; `None` where one side says nothing to compare.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agreement {
    pub(super) pearson: Option<f64>,
    pub(super) spearman: Option<f64>,
    /// Half the sum of differences between the shares that follow, negative ones paid nothing.
    pub(super) payout_error: Option<f64>,
    /// Whether the first of one is the first of the other.
    pub(super) top: f64,
    /// Of members that do harm, the part that is said to.
    pub(super) harm_seen: Option<f64>,
    /// Rank correlation of summed scores with the worths of coalitions (linear datamodelling score).
    pub(super) coalitions: Option<f64>,
}

/// Harm below this part of the largest value is noise.
const HARM: f64 = 0.05;

impl Agreement {
    /// `worths` of all coalitions, by their bits.
    pub(super) fn of(scores: &[f64], truth: &[f64], worths: &[f64]) -> Self {
        let most = truth.iter().map(|t| t.abs()).fold(0.0, f64::max);
        let harmful: Vec<usize> = (0..truth.len())
            .filter(|at| truth[*at] < -HARM * most)
            .collect();
        let seen = harmful.iter().filter(|at| scores[**at] < 0.0).count();
        let summed: Vec<f64> = (0..worths.len())
            .map(|bits| {
                let members = (0..scores.len()).filter(|at| bits >> at & 1 == 1);
                members.map(|at| scores[at]).sum()
            })
            .collect();
        Self {
            pearson: pearson(scores, truth),
            spearman: spearman(scores, truth),
            payout_error: payout_error(scores, truth),
            top: f64::from(u8::from(first(scores) == first(truth))),
            harm_seen: (!harmful.is_empty()).then(|| seen as f64 / harmful.len() as f64),
            coalitions: spearman(&summed, worths),
        }
    }
}

/// Element by element. Zero-length for none.
pub(super) fn mean_of(vectors: impl Iterator<Item = Vec<f64>>) -> Vec<f64> {
    let all: Vec<Vec<f64>> = vectors.collect();
    let Some(first) = all.first() else {
        return Vec::new();
    };
    let at = |i: usize| all.iter().map(|vector| vector[i]).sum::<f64>() / all.len() as f64;
    (0..first.len()).map(at).collect()
}

fn first(values: &[f64]) -> Option<usize> {
    (0..values.len()).max_by(|a, b| values[*a].total_cmp(&values[*b]).then(b.cmp(a)))
}

/// `None` when one side is constant.
pub(super) fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len() as f64;
    let (ma, mb) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        ab += (x - ma) * (y - mb);
        aa += (x - ma).powi(2);
        bb += (y - mb).powi(2);
    }
    // Equal numbers can leave a rounding error of a variance.
    let varies = |sum: f64, mean: f64| sum > 1e-20 * n * (1e-12 + mean * mean);
    (varies(aa, ma) && varies(bb, mb)).then(|| ab / (aa * bb).sqrt())
}

fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    pearson(&ranks(a), &ranks(b))
}

/// Ranks, equal values sharing the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut out = vec![0.0; values.len()];
    let mut at = 0;
    while at < order.len() {
        let mut end = at + 1;
        while end < order.len() && values[order[end]] == values[order[at]] {
            end += 1;
        }
        for place in &order[at..end] {
            out[*place] = (at + end - 1) as f64 / 2.0;
        }
        at = end;
    }
    out
}

/// Shares paid for scores: of the positive ones, each its part.
fn shares(scores: &[f64]) -> Option<Vec<f64>> {
    let sum: f64 = scores.iter().map(|s| s.max(0.0)).sum();
    (sum > 0.0).then(|| scores.iter().map(|s| s.max(0.0) / sum).collect())
}

fn payout_error(scores: &[f64], truth: &[f64]) -> Option<f64> {
    let truth = shares(truth)?;
    // Who pays nobody is as wrong as can be.
    let Some(paid) = shares(scores) else {
        return Some(1.0);
    };
    let differences = paid.iter().zip(&truth).map(|(a, b)| (a - b).abs());
    Some(differences.sum::<f64>() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_truth_agrees_with_itself_and_its_opposite_does_not() {
        let truth = [0.3, -0.1, 0.2, 0.0, 0.5, 0.1];
        let worth = |bits: usize| {
            (0..6)
                .filter(move |at| bits >> at & 1 == 1)
                .map(|at| truth[at])
        };
        let worths: Vec<f64> = (0..64).map(|bits| worth(bits).sum()).collect();
        let same = Agreement::of(&truth, &truth, &worths);
        let close = |a: Option<f64>, b: f64| (a.unwrap() - b).abs() < 1e-12;
        assert!(close(same.pearson, 1.0) && close(same.spearman, 1.0));
        assert!(close(same.payout_error, 0.0) && close(same.coalitions, 1.0));
        assert_eq!((same.top, same.harm_seen), (1.0, Some(1.0)));
        let opposite = truth.map(|t| -t);
        let wrong = Agreement::of(&opposite, &truth, &worths);
        assert!(close(wrong.pearson, -1.0) && close(wrong.payout_error, 1.0));
        assert_eq!((wrong.top, wrong.harm_seen), (0.0, Some(0.0)));
        let flat = Agreement::of(&[1.0; 6], &truth, &worths);
        assert!(flat.pearson.is_none() && flat.payout_error.is_some());
    }

    #[test]
    fn equal_values_share_their_ranks() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [2.5, 0.0, 2.5, 1.0]);
    }
}
