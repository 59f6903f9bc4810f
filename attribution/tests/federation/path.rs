//! The path integral beside exact Shapley values and beside itself with a thousand points.

use proptest::prelude::*;
use tributary_attribution::novelty::Public;
use tributary_attribution::path::{self, PathError};
use tributary_attribution::utility::LossDrop;
use tributary_attribution::{MeasureError, PathScores, reference, shapley};
use tributary_protocol::id::{NanoNats, PeerId, Round, StateHash};

use crate::toy::{
    Bowl, CLASSES, Counted, Draw, Example, FEATURES, Given, Loss, NET, Net, Power, Quadratic,
    named, peer, widen,
};

fn score<L: Loss>(loss: L, before: &[f32], given: &[(PeerId, Vec<f32>)]) -> PathScores {
    path::score(before, given, &[], &mut Counted::new(loss)).expect("a good hold-out")
}

fn values(scores: &PathScores) -> Vec<f64> {
    scores.scores.iter().map(|s| s.score).collect()
}

fn exact<L: Loss>(loss: L, before: &[f32], given: &[(PeerId, Vec<f32>)]) -> Vec<f64> {
    let mut hold_out = Counted::new(loss);
    let mut game = LossDrop::new(before, given, &mut hold_out).expect("a good hold-out");
    shapley::exact(&mut game).expect("few players")
}

fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= tolerance,
            "{found} where {expected} was expected"
        );
    }
}

fn bowls(seed: u64) -> (Quadratic, Vec<f32>, Given) {
    let mut draw = Draw::new(seed);
    let loss = Quadratic::around(&mut draw, &[0.8, -0.4, 0.3, 0.0, 0.6], 3, 0.3);
    let before = draw.vector(5, 1.0);
    let vectors: Vec<Vec<f32>> = (0..6).map(|_| draw.vector(5, 0.5)).collect();
    (loss, before, named(&vectors))
}

/// Of the part that was not public, under the mean gradient over all batches and the whole line: the middle
/// of it, for a bowl.
#[test]
fn luck_is_that_of_the_new_part_under_the_mean_gradient() {
    let (loss, before, given) = bowls(3);
    let public = vec![Draw::new(8).vector(5, 0.5), given[2].1.clone()];
    let mut middle = widen(&before);
    for (_, vector) in &given {
        (middle.iter_mut().zip(vector)).for_each(|(m, v)| *m += f64::from(*v) / 2.0);
    }
    let tokens = loss.tokens();
    let all: f64 = tokens.iter().map(|t| *t as f64).sum();
    let mut gradient = [0.0; 5];
    for (batch, tokens) in tokens.iter().enumerate() {
        let (_, found) = loss.at(batch, &middle);
        (gradient.iter_mut().zip(found)).for_each(|(g, f)| *g += *tokens as f64 / all * f);
    }
    let expected: Vec<f64> = (given.iter())
        .map(|(_, vector)| {
            let new = Public::new(public.clone()).new_part(vector);
            let squares = new.iter().zip(&gradient).map(|(n, g)| (n * g).powi(2));
            squares.sum::<f64>().sqrt()
        })
        .collect();
    let scores = path::score(&before, &given, &public, &mut Counted::new(loss)).expect("good");
    let found: Vec<f64> = scores.scores.iter().map(|s| s.luck).collect();
    close(&found, &expected, 1e-5);
    assert!(expected[0] > 0.01 && found[2] < 1e-5, "{found:?}");
}

#[test]
fn a_linear_loss_scores_each_contribution_by_its_own_drop() {
    let given = named(&[vec![0.5, 0.25], vec![-1.0, 0.0]]);
    let scores = score(Power(1), &[0.0, 0.0], &given);
    close(&values(&scores), &[-0.75, 1.0], 1e-6);
    close(&exact(Power(1), &[0.0, 0.0], &given), &[-0.75, 1.0], 1e-6);
}

#[test]
fn two_points_are_exact_up_to_the_fourth_power() {
    let given = named(&[vec![1.0], vec![2.0]]);
    for power in 1..=4 {
        let scores = score(Power(power), &[-0.5], &given);
        assert!(scores.gap().abs() < 1e-4, "power {power}: {}", scores.gap());
    }
    let fifth = score(Power(5), &[-0.5], &given).gap().abs();
    assert!(
        fifth > 0.1,
        "the gap must show what two points miss: {fifth}"
    );
}

#[test]
fn with_cubic_terms_the_path_integral_is_not_the_shapley_value() {
    let given = named(&[vec![1.0], vec![2.0]]);
    let scores = values(&score(Power(3), &[0.0], &given));
    close(&scores, &[-9.0, -18.0], 1e-4);
    close(&exact(Power(3), &[0.0], &given), &[-10.0, -17.0], 1e-4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_quadratic_loss_is_scored_by_its_exact_shapley_value(seed in any::<u64>()) {
        let (loss, before, given) = bowls(seed);
        let shapley = exact(loss, &before, &given);
        let (loss, ..) = bowls(seed);
        close(&values(&score(loss, &before, &given)), &shapley, 1e-5);
    }

    #[test]
    fn scores_add_up_to_the_measured_drop(seed in any::<u64>()) {
        let (loss, before, given) = bowls(seed);
        let scores = score(loss, &before, &given);
        prop_assert!(scores.gap().abs() < 1e-5);
        let sheet = scores.sheet(Round(3), StateHash::default());
        let drop = sheet.loss_before.0 - sheet.loss_after.0;
        let sum: i64 = sheet.scores.iter().map(|s| s.score.0).sum();
        prop_assert!((drop - sum).abs() < 10_000, "{} nanonats", drop - sum);
        prop_assert_eq!((sheet.round, sheet.predicted), (Round(3), 180));
    }

    #[test]
    fn what_was_public_is_nobodys_and_the_rest_adds_up(seed in any::<u64>()) {
        let (loss, before, given) = bowls(seed);
        // The first one sends back what was public, twice as long; nobody else does.
        let public = [given[0].1.iter().map(|v| v / 2.0).collect()];
        let mut hold_out = Counted::new(loss);
        let found = path::score(&before, &given, &public, &mut hold_out).expect("good");
        prop_assert!(found.scores[0].score.abs() < 1e-4, "{:?}", found.scores[0]);
        prop_assert!(found.gap().abs() < 1e-5);
        let others: f64 = found.scores[1..].iter().map(|s| s.score).sum();
        prop_assert!((found.drop() - found.public - others).abs() < 1e-4);
        let foreign = [vec![1.0; 4]];
        let error = path::score(&before, &given, &foreign, &mut hold_out).expect_err("foreign");
        let is_named = matches!(
            error,
            PathError::Measure(MeasureError::Public { at: 0, expected: 5 })
        );
        prop_assert!(is_named, "{error:?}");
    }

    #[test]
    fn splitting_a_contribution_changes_nobodys_score(seed in any::<u64>(), part in 0.0f32..1.0) {
        let mut draw = Draw::new(seed);
        let (before, mut vectors) = (draw.vector(NET, 1.0), Vec::new());
        for _ in 0..4 {
            vectors.push(draw.vector(NET, 0.2));
        }
        let whole = values(&score(task(seed, 2), &before, &named(&vectors)));
        let piece: Vec<f32> = vectors[0].iter().map(|v| v * part).collect();
        let rest = vectors[0].iter().zip(&piece).map(|(v, p)| v - p).collect();
        let split = [&[piece, rest], &vectors[1..]].concat();
        let pieces = values(&score(task(seed, 2), &before, &named(&split)));
        close(&[pieces[0] + pieces[1]], &whole[..1], 1e-5);
        close(&pieces[2..], &whole[1..], 1e-5);
    }
}

/// A classification task whose examples depend on `seed`, the first class favoured by none.
fn task(seed: u64, batches: usize) -> Net {
    let mut draw = Draw::new(seed ^ 0x7461_736b);
    let batches = (0..batches)
        .map(|_| examples(&mut draw, 40, None))
        .collect();
    Net { batches }
}

/// Examples labelled by three fixed directions; `skew` keeps one class only.
fn examples(draw: &mut Draw, count: usize, skew: Option<usize>) -> Vec<Example> {
    let mut out = Vec::new();
    while out.len() < count {
        let features: Vec<f64> = (0..FEATURES).map(|_| draw.unit()).collect();
        let along = |class: usize| features[class] - 0.3 * features[FEATURES - 1];
        let class = (0..CLASSES)
            .max_by(|&a, &b| along(a).total_cmp(&along(b)))
            .expect("classes");
        if skew.is_none_or(|only| only == class) {
            out.push(Example { features, class });
        }
    }
    out
}

/// What peers contribute after some steps on their own data; every peer sees mostly one class.
fn trained(seed: u64, before: &[f32], peers: usize) -> Given {
    let vectors: Vec<Vec<f32>> = (0..peers)
        .map(|n| {
            let mut draw = Draw::new(seed + 100 + n as u64);
            let mut own = examples(&mut draw, 20, Some(n % CLASSES));
            own.extend(examples(&mut draw, 20, None));
            let data = Net { batches: vec![own] };
            let start = widen(before);
            let mut at = start.clone();
            for _ in 0..20 {
                let (_, gradient) = data.at(0, &at);
                at.iter_mut().zip(gradient).for_each(|(x, g)| *x -= 0.3 * g);
            }
            (at.iter().zip(start))
                .map(|(x, s)| ((x - s) / peers as f64) as f32)
                .collect()
        })
        .collect();
    named(&vectors)
}

#[test]
fn the_nets_gradient_is_that_of_its_loss() {
    let net = task(5, 1);
    let at = widen(&Draw::new(9).vector(NET, 1.0));
    let (_, gradient) = net.at(0, &at);
    for k in 0..NET {
        let moved = |by: f64| {
            let mut x = at.clone();
            x[k] += by;
            net.at(0, &x).0
        };
        let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((slope - gradient[k]).abs() < 1e-8, "parameter {k}");
    }
}

#[test]
fn two_points_score_a_trained_net_like_a_thousand() {
    for seed in 0..5 {
        let before = Draw::new(seed).vector(NET, 0.5);
        let given = trained(seed, &before, 6);
        let scores = score(task(seed, 4), &before, &given);
        let mut hold_out = Counted::new(task(seed, 4));
        let fine =
            reference::path_integral(&before, &given, &mut hold_out, 1000).expect("infallible");
        assert!(scores.drop() > 0.1, "training must help: {}", scores.drop());
        assert!(scores.gap().abs() < 0.002 * scores.drop());
        close(&values(&scores), &fine, 0.002 * scores.drop());
    }
}

#[test]
fn a_trained_net_is_scored_close_to_its_exact_shapley_value() {
    for seed in 0..5 {
        let before = Draw::new(seed).vector(NET, 0.5);
        let given = trained(seed, &before, 6);
        let scores = score(task(seed, 4), &before, &given);
        let shapley = exact(task(seed, 4), &before, &given);
        // The part of the drop that is credited to another than Shapley would.
        let moved: f64 = (values(&scores).iter().zip(&shapley))
            .map(|(path, shapley)| (path - shapley).abs() / 2.0)
            .sum();
        assert!(moved < 0.02 * scores.drop(), "seed {seed}: {moved}");
    }
}

#[test]
fn two_gradients_a_batch_whatever_the_number_of_peers() {
    for peers in [1, 8, 64, 256] {
        let mut draw = Draw::new(peers as u64);
        let batches = 3;
        let mut hold_out = Counted::new(Quadratic::around(&mut draw, &[0.5; 7], batches, 0.1));
        let vectors: Vec<Vec<f32>> = (0..peers).map(|_| draw.vector(7, 0.1)).collect();
        let scores = path::score(&[0.0; 7], &named(&vectors), &[], &mut hold_out).expect("good");
        assert_eq!(scores.scores.len(), peers);
        assert_eq!(hold_out.gradients.get(), 2 * batches);
        assert_eq!(hold_out.losses.get(), 2 * batches);
    }
}

#[test]
fn an_idle_contribution_scores_nothing_with_certainty() {
    let (loss, before, mut given) = bowls(1);
    given[2].1 = vec![0.0; 5];
    let idle = score(loss, &before, &given).scores[2];
    assert_eq!((idle.score, idle.low, idle.high), (0.0, 0.0, 0.0));
    assert_eq!(idle.luck, 0.0);
    assert_eq!(idle.quantise().score, NanoNats(0));
}

/// Round bowls whose centres scatter by `spread` around one in every coordinate.
fn scattered(seed: u64, batches: usize, spread: f64) -> Quadratic {
    let mut draw = Draw::new(seed);
    let identity = |row: usize| (0..4).map(|k| f64::from(u8::from(k == row))).collect();
    let bowl = |draw: &mut Draw| Bowl {
        tokens: 64,
        centre: (0..4).map(|_| 1.0 + spread * draw.unit()).collect(),
        rows: (0..4).map(identity).collect(),
    };
    Quadratic {
        batches: (0..batches).map(|_| bowl(&mut draw)).collect(),
    }
}

#[test]
fn intervals_widen_with_the_variation_between_batches() {
    let width = |spread: f64| {
        let given = named(&[vec![0.2; 4]]);
        let only = score(scattered(4, 6, spread), &[0.0; 4], &given).scores[0];
        assert!(only.low < only.score && only.score < only.high);
        only.high - only.low
    };
    // The score is linear in the centres here, so the width is linear in their scatter.
    let ratio = width(0.5) / width(0.05);
    assert!((9.9..=10.1).contains(&ratio), "{ratio}");
}

/// The hold-out is a sample of 6 batches; the truth is the mean over 3,000 more.
#[test]
fn about_95_of_100_intervals_hold_the_score_on_all_text() {
    let given = named(&[vec![0.3, 0.0, 0.1, 0.2], vec![0.0, 0.4, 0.0, -0.1]]);
    let truth = values(&score(scattered(1, 3000, 1.0), &[0.0; 4], &given));
    let (mut held, trials) = (0, 500);
    for seed in 0..trials {
        let scores = score(scattered(1000 + seed, 6, 1.0), &[0.0; 4], &given);
        held += (scores.scores.iter().zip(&truth))
            .filter(|(s, truth)| s.low <= **truth && **truth <= s.high)
            .count();
    }
    let percent = 100.0 * held as f64 / (2 * trials) as f64;
    assert!((92.5..=97.5).contains(&percent), "{percent} % held");
}

#[test]
fn what_cannot_be_scored_is_named() {
    struct Broken(Vec<u64>, f64, usize);
    impl Loss for Broken {
        fn tokens(&self) -> Vec<u64> {
            self.0.clone()
        }
        fn at(&self, _: usize, _: &[f64]) -> (f64, Vec<f64>) {
            (self.1, vec![self.1; self.2])
        }
    }
    let ask = |tokens: &[u64], loss: f64, len: usize, given: &[(PeerId, Vec<f32>)]| {
        let mut hold_out = Counted::new(Broken(tokens.to_vec(), loss, len));
        path::score(&[0.0, 0.0], given, &[], &mut hold_out).expect_err("cannot be scored")
    };
    let good = named(&[vec![1.0, 1.0]]);
    let measure = |error| match error {
        PathError::Measure(error) => error,
        PathError::TooFewBatches { .. } => panic!("batches suffice"),
    };
    assert!(matches!(
        ask(&[5], 1.0, 2, &good),
        PathError::TooFewBatches { found: 1 }
    ));
    assert!(matches!(
        measure(ask(&[], 1.0, 2, &good)),
        MeasureError::Empty
    ));
    let empty = measure(ask(&[3, 0], 1.0, 2, &good));
    assert!(matches!(empty, MeasureError::EmptyBatch { batch: 1 }));
    let nan = measure(ask(&[1, 1], f64::NAN, 2, &good));
    assert!(matches!(nan, MeasureError::NotFinite { what: "loss", .. }));
    let length = measure(ask(&[1, 1], 1.0, 3, &good));
    assert!(matches!(
        length,
        MeasureError::GradientLength {
            expected: 2,
            found: 3,
            ..
        }
    ));
    let short = measure(ask(&[1, 1], 1.0, 2, &named(&[vec![1.0]])));
    assert!(matches!(
        short,
        MeasureError::ContributionLength { found: 1, .. }
    ));
    let infinite = measure(ask(&[1, 1], 1.0, 2, &named(&[vec![f32::NAN, 1.0]])));
    assert!(matches!(
        infinite,
        MeasureError::ContributionNotFinite { .. }
    ));
    let twice = [good[0].clone(), good[0].clone()];
    assert!(matches!(
        measure(ask(&[1, 1], 1.0, 2, &twice)),
        MeasureError::Order { .. }
    ));
    assert_eq!(peer(0), good[0].0);
}
