//! Every filter, the statistics of draws, margins, and the slow twin.

use proptest::prelude::*;

use super::reference::Case;
use super::*;

fn tempered_by(temperature: f32) -> Sampling {
    Sampling {
        temperature,
        ..Sampling::default()
    }
}

fn draw(sampling: &Sampling, logits: &[f32], position: u64) -> u32 {
    let mut sampler = Sampler::new(sampling.clone(), &[], logits.len());
    sampler.draw(logits, position, None, None).unwrap().id
}

/// Tokens that come out over many positions, ascending.
fn drawn(sampling: &Sampling, logits: &[f32], positions: u64) -> Vec<u32> {
    let mut all: Vec<u32> = (0..positions).map(|p| draw(sampling, logits, p)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Pearson's statistic of draws against probabilities.
fn chi_square(sampling: &Sampling, logits: &[f32], probabilities: &[f64]) -> f64 {
    let count = 40_000;
    let mut sampler = Sampler::new(sampling.clone(), &[], logits.len());
    let mut counts = vec![0u32; logits.len()];
    for position in 0..count {
        let token = sampler.draw(logits, position, None, None).unwrap();
        counts[token.id as usize] += 1;
    }
    let terms = counts.iter().zip(probabilities).map(|(n, p)| {
        if *p == 0.0 {
            assert_eq!(*n, 0);
            return 0.0;
        }
        let expected = p * count as f64;
        (f64::from(*n) - expected).powi(2) / expected
    });
    terms.sum()
}

fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let weights: Vec<f64> = (logits.iter())
        .map(|logit| (f64::from(*logit) / temperature).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| w / sum).collect()
}

const LOGITS: [f32; 8] = [0.3, -1.2, 2.0, 1.9, -0.4, 0.0, 1.0, -3.0];

/// With 7 degrees of freedom, 24.3 is exceeded once in 1,000 times.
const RARE: f64 = 24.3;

#[test]
fn draws_follow_the_probabilities_at_every_temperature_and_seed() {
    for (temperature, seed) in [(0.5, 1), (1.0, 2), (1.0, u64::MAX), (2.0, 4)] {
        let sampling = Sampling {
            seed,
            ..tempered_by(temperature)
        };
        let exact = softmax(&LOGITS, f64::from(temperature));
        let statistic = chi_square(&sampling, &LOGITS, &exact);
        assert!(statistic < RARE, "{temperature}: {statistic}");
    }
}

#[test]
fn draws_among_filtered_tokens_follow_their_renormalised_probabilities() {
    let sampling = Sampling {
        top_k: 4,
        seed: 5,
        ..tempered_by(1.0)
    };
    let mut exact = softmax(&LOGITS, 1.0);
    for token in [1, 4, 5, 7] {
        exact[token] = 0.0;
    }
    let sum: f64 = exact.iter().sum();
    exact.iter_mut().for_each(|p| *p /= sum);
    // 3 degrees of freedom.
    assert!(chi_square(&sampling, &LOGITS, &exact) < 16.3);
}

#[test]
fn a_test_of_draws_against_wrong_probabilities_fails() {
    let wrong = softmax(&LOGITS, 1.1);
    assert!(chi_square(&tempered_by(1.0), &LOGITS, &wrong) > RARE);
}

#[test]
fn draws_of_neighbouring_positions_and_seeds_are_independent() {
    // Two tokens, equally likely: pairs of draws fall into four equally likely cells.
    let logits = [0.0, 0.0];
    let of = |seed: u64, position: u64| {
        let sampling = Sampling {
            seed,
            ..tempered_by(1.0)
        };
        draw(&sampling, &logits, position) as usize
    };
    for (seeds, positions) in [(0, 1), (1, 0), (1, 1)] {
        let mut counts = [0f64; 4];
        for i in 0..20_000u64 {
            let (seed, position) = (i / 141, i % 141);
            counts[2 * of(seed, position) + of(seed + seeds, position + positions)] += 1.0;
        }
        let statistic: f64 = counts.iter().map(|n| (n - 5_000.0).powi(2) / 5_000.0).sum();
        assert!(statistic < 16.3, "{seeds} {positions}: {statistic}");
    }
}

#[test]
fn temperature_zero_takes_the_likeliest_and_the_smaller_of_equals() {
    assert_eq!(draw(&Sampling::default(), &[1.0, 3.0, 3.0, 2.0], 0), 1);
    assert_eq!(draw(&Sampling::default(), &[-1.0, -0.0, 0.0], 9), 1);
    let mut sampler = Sampler::new(Sampling::default(), &[], 4);
    let margin = sampler.margin(&[1.0, 3.0, 3.0, 2.0], 0, None, 3).unwrap();
    assert_eq!(margin, 1.0);
}

#[test]
fn the_smallest_temperature_is_as_good_as_none() {
    let sampling = tempered_by(f32::MIN_POSITIVE);
    assert_eq!(drawn(&sampling, &[0.0, 1.0, 0.999_999], 200), [1]);
}

#[test]
fn top_k_keeps_so_many_and_of_equals_the_smaller_ones() {
    let logits = [1.0, 2.0, 1.0, 1.0, 0.9];
    for (top_k, kept) in [
        (1, vec![1]),
        (2, vec![0, 1]),
        (3, vec![0, 1, 2]),
        (9, vec![0, 1, 2, 3, 4]),
    ] {
        let sampling = Sampling {
            top_k,
            ..tempered_by(1.0)
        };
        assert_eq!(drawn(&sampling, &logits, 400), kept);
    }
}

#[test]
fn top_p_keeps_the_fewest_tokens_that_reach_its_mass() {
    // Masses 1/2, 1/4, 1/8, 1/8.
    let two = std::f32::consts::LN_2;
    let logits = [-two, 0.0, -2.0 * two, -2.0 * two];
    for (top_p, kept) in [
        (1e-6, vec![1]),
        (0.49, vec![1]),
        (0.51, vec![0, 1]),
        (0.8, vec![0, 1, 2]),
        (0.9, vec![0, 1, 2, 3]),
    ] {
        let sampling = Sampling {
            top_p,
            ..tempered_by(1.0)
        };
        assert_eq!(drawn(&sampling, &logits, 600), kept, "{top_p}");
    }
}

#[test]
fn top_p_counts_the_mass_of_what_top_k_left() {
    // Of 1/2 and 1/4, the first has 2/3.
    let two = std::f32::consts::LN_2;
    let sampling = Sampling {
        top_k: 2,
        top_p: 0.6,
        ..tempered_by(1.0)
    };
    let logits = [0.0, -two, -2.0 * two, -2.0 * two];
    assert_eq!(drawn(&sampling, &logits, 400), [0]);
}

#[test]
fn min_p_keeps_tokens_near_the_likeliest_at_the_temperature_given() {
    let logits = [0.0, -1.0, -2.0];
    for (temperature, kept) in [(1.0, vec![0, 1]), (2.0, vec![0, 1, 2])] {
        let sampling = Sampling {
            // Between e^-1 and e^-2.
            min_p: 0.3,
            ..tempered_by(temperature)
        };
        assert_eq!(drawn(&sampling, &logits, 400), kept);
    }
    let sampling = Sampling {
        min_p: 1.0,
        ..tempered_by(1.0)
    };
    assert_eq!(drawn(&sampling, &[1.0, 1.0, 0.999], 400), [0, 1]);
}

#[test]
fn bias_and_mask_force_and_forbid_tokens() {
    let sampling = Sampling {
        logit_bias: vec![(0, 100.0), (2, -100.0)],
        ..tempered_by(1.0)
    };
    assert_eq!(drawn(&sampling, &[0.0, 2.0, 5.0], 100), [0]);
    let mut sampler = Sampler::new(tempered_by(1.0), &[], 70);
    let logits = vec![0.0; 70];
    let allowed = [1 << 31, 0, 1 << 5];
    let mut seen = [false; 70];
    for position in 0..100 {
        let token = sampler.draw(&logits, position, Some(&allowed), None);
        seen[token.unwrap().id as usize] = true;
    }
    let seen: Vec<usize> = (0..70).filter(|id| seen[*id]).collect();
    assert_eq!(seen, [31, 69]);
    // Beyond the end of the mask nothing is allowed.
    let token = sampler.draw(&logits, 0, Some(&[4]), None).unwrap();
    assert_eq!(token.id, 2);
    let margin = sampler.margin(&logits, 0, Some(&[4]), 69);
    assert_eq!(margin, Ok(f32::INFINITY));
    for empty in [&[][..], &[0, 0, 0], &[0, 0, 1 << 6]] {
        let token = sampler.draw(&logits, 0, Some(empty), None);
        assert_eq!(token, Err(DrawError::NothingAllowed));
    }
}

#[test]
fn penalties_count_what_the_answer_holds() {
    let sampling = Sampling {
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        ..Sampling::default()
    };
    // A prompt has no such penalties.
    let mut sampler = Sampler::new(sampling, &[1, 1, 1], 3);
    let logits = [0.0, 1.0, 0.1];
    let next = |sampler: &mut Sampler| sampler.draw(&logits, 0, None, None).unwrap().id;
    assert_eq!(next(&mut sampler), 1);
    sampler.accept(1);
    // 1 - 0.5 - 0.25
    assert_eq!(next(&mut sampler), 1);
    sampler.accept(1);
    // 1 - 0.5 - 2 * 0.25
    assert_eq!(next(&mut sampler), 2);
    sampler.accept(2);
    assert_eq!(next(&mut sampler), 0);
}

#[test]
fn a_repetition_penalty_pushes_down_tokens_of_prompt_and_answer_on_both_sides_of_zero() {
    let sampling = Sampling {
        repetition_penalty: 2.0,
        ..Sampling::default()
    };
    let mut sampler = Sampler::new(sampling.clone(), &[0], 2);
    assert_eq!(sampler.draw(&[1.0, 0.6], 0, None, None).unwrap().id, 1);
    assert_eq!(sampler.draw(&[-1.0, -1.9], 0, None, None).unwrap().id, 1);
    assert_eq!(sampler.draw(&[-1.0, -2.1], 0, None, None).unwrap().id, 0);
    sampler.accept(1);
    assert_eq!(sampler.draw(&[1.0, 0.6], 0, None, None).unwrap().id, 0);
    // After the bias: 1 + 1 is halved, to less than 1.5.
    let biased = Sampling {
        logit_bias: vec![(0, 1.0)],
        ..sampling
    };
    let mut sampler = Sampler::new(biased, &[0], 2);
    assert_eq!(sampler.draw(&[1.0, 1.5], 0, None, None).unwrap().id, 1);
}

#[test]
fn logits_that_are_no_numbers_say_that_the_weights_are_damaged() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e31] {
        let mut sampler = Sampler::new(Sampling::default(), &[], 3);
        let error = sampler.draw(&[0.0, bad, 0.0], 0, None, None).unwrap_err();
        assert_eq!(error, DrawError::Damaged { token: 1 });
        assert!(error.to_string().contains("damaged"));
    }
}

#[test]
fn reported_probabilities_are_the_models_own() {
    let sampling = Sampling {
        top_k: 1,
        logit_bias: vec![(5, 90.0)],
        presence_penalty: 1.0,
        ..tempered_by(0.1)
    };
    let mut sampler = Sampler::new(sampling, &[], LOGITS.len());
    let token = sampler.draw(&LOGITS, 3, None, Some(3)).unwrap();
    assert_eq!(token.id, 5);
    let exact = softmax(&LOGITS, 1.0);
    let near = |a: f32, id: u32| (f64::from(a) - exact[id as usize].ln()).abs() < 1e-6;
    assert!(near(token.logprob, 5));
    let ids: Vec<u32> = token.top.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [2, 3, 6]);
    assert!(token.top.iter().all(|(id, logprob)| near(*logprob, *id)));
    let none = sampler.draw(&LOGITS, 3, None, None).unwrap();
    assert_eq!((none.logprob, none.top.len()), (0.0, 0));
    let most = sampler.draw(&LOGITS, 3, None, Some(99)).unwrap();
    assert_eq!(most.top.len(), 8);
    let own = sampler.draw(&LOGITS, 3, None, Some(0)).unwrap();
    assert!(own.top.is_empty() && near(own.logprob, 5));
}

#[test]
fn constants_out_of_range_are_refused_by_name() {
    let sound = Sampling {
        temperature: 2.0,
        top_p: 0.5,
        min_p: 1.0,
        presence_penalty: -2.0,
        frequency_penalty: 2.0,
        repetition_penalty: 10.0,
        logit_bias: vec![(0, -100.0), (9, 100.0)],
        ..Sampling::default()
    };
    assert_eq!(sound.check(10), Ok(()));
    assert_eq!(Sampling::default().check(10), Ok(()));
    type Change = fn(&mut Sampling, f32);
    let cases: [(&str, Change, &[f32]); 7] = [
        ("temperature", |s, x| s.temperature = x, &[-0.1, 100.1]),
        ("top_p", |s, x| s.top_p = x, &[0.0, -1.0, 1.01]),
        ("min_p", |s, x| s.min_p = x, &[-0.1, 1.01]),
        (
            "presence_penalty",
            |s, x| s.presence_penalty = x,
            &[-2.1, 2.1],
        ),
        (
            "frequency_penalty",
            |s, x| s.frequency_penalty = x,
            &[-2.1, 2.1],
        ),
        (
            "repetition_penalty",
            |s, x| s.repetition_penalty = x,
            &[0.0, 10.1],
        ),
        ("logit_bias", |s, x| s.logit_bias[0].1 = x, &[-100.1, 100.1]),
    ];
    for (name, change, values) in cases {
        for value in values.iter().chain(&[f32::NAN, f32::INFINITY]) {
            let mut sampling = sound.clone();
            change(&mut sampling, *value);
            let refused = sampling.check(10).unwrap_err();
            let Refused::Sampling { field, .. } = &refused else {
                panic!("{refused}")
            };
            assert_eq!(*field, name);
            assert!(refused.to_string().contains("give"), "{refused}");
        }
    }
    let biases = [
        vec![(10, 1.0)],
        vec![(3, 1.0), (3, 1.0)],
        vec![(4, 1.0), (3, 1.0)],
    ];
    for logit_bias in biases {
        let sampling = Sampling {
            logit_bias,
            ..sound.clone()
        };
        assert!(sampling.check(10).is_err());
    }
    let long = |count: u32| Sampling {
        logit_bias: (0..count).map(|t| (t, 0.0)).collect(),
        ..sound.clone()
    };
    assert_eq!(long(1024).check(2000), Ok(()));
    assert!(long(1025).check(2000).is_err());
}

#[test]
fn a_token_right_behind_top_p_has_a_small_margin_and_one_far_behind_a_large_one() {
    // The first has all but just the mass that is asked for.
    let masses = [0.9501f32, 0.0299, 0.02];
    let logits = masses.map(f32::ln);
    let sampling = Sampling {
        top_p: 0.95,
        ..tempered_by(1.0)
    };
    let mut sampler = Sampler::new(sampling, &[], 3);
    // A position at which the second token's noise would win.
    let unfiltered = tempered_by(1.0);
    let position = (0..).find(|p| draw(&unfiltered, &logits, *p) == 1).unwrap();
    assert_eq!(sampler.draw(&logits, position, None, None).unwrap().id, 0);
    let second = sampler.margin(&logits, position, None, 1).unwrap();
    assert!(second > 0.0 && second < 0.01, "{second}");
    let third = sampler.margin(&logits, position, None, 2).unwrap();
    assert!(third > 0.3, "{third}");
}

#[test]
fn an_honest_token_is_forgiven_a_neighbour_that_the_other_side_dropped() {
    // Here the second token is just inside and wins; where the first had a little more, it was outside.
    let masses = [0.9499f32, 0.0301, 0.02];
    let logits = masses.map(f32::ln);
    let sampling = Sampling {
        top_p: 0.95,
        ..tempered_by(1.0)
    };
    let mut sampler = Sampler::new(sampling.clone(), &[], 3);
    let position = (0..).find(|p| draw(&sampling, &logits, *p) == 1).unwrap();
    let first = sampler.margin(&logits, position, None, 0).unwrap();
    assert!(first > 0.0 && first < 0.01, "{first}");
}

#[test]
fn other_seeds_and_other_temperatures_are_noticed_by_their_margins() {
    let logits: Vec<f32> = (0..500).map(|i| (i * 37 % 101) as f32 / 20.0).collect();
    let honest = Sampling {
        top_p: 0.9,
        seed: 1,
        ..tempered_by(1.0)
    };
    let mut sampler = Sampler::new(honest.clone(), &[], 500);
    let mut mean = |sampling: &Sampling| {
        let margins = (0..200).map(|position| {
            let token = draw(sampling, &logits, position);
            sampler.margin(&logits, position, None, token).unwrap()
        });
        margins.sum::<f32>() / 200.0
    };
    assert_eq!(mean(&honest), 0.0);
    let other_seed = Sampling {
        seed: 2,
        ..honest.clone()
    };
    assert!(mean(&other_seed) > 1.0);
    let colder = Sampling {
        temperature: 0.5,
        ..honest
    };
    assert!(mean(&colder) > 0.1);
}

#[test]
fn known_draws_stay_as_they_are_on_every_machine() {
    let logits: Vec<f32> = (0..1000u32)
        .map(|token| (token.wrapping_mul(2_654_435_761) >> 20) as f32 / 512.0)
        .collect();
    let full = Sampling {
        seed: 42,
        ..tempered_by(0.8)
    };
    let cases = [
        full.clone(),
        Sampling {
            top_p: 0.9,
            ..full.clone()
        },
        Sampling {
            top_k: 10,
            min_p: 0.1,
            ..full
        },
    ];
    let drawn = cases.map(|sampling| [0, 1, 2, 1 << 40].map(|p| draw(&sampling, &logits, p)));
    assert_eq!(
        drawn,
        [
            [618, 940, 464, 990],
            [618, 940, 419, 990],
            [377, 377, 432, 377]
        ]
    );
}

fn a_sampling() -> impl Strategy<Value = Sampling> {
    let filters = (
        prop_oneof![Just(0.0f32), 0.05f32..3.0],
        prop_oneof![Just(1.0f32), 0.01f32..1.0, Just(0.5), Just(0.999_999_9)],
        prop_oneof![Just(0usize), 1usize..80],
        prop_oneof![Just(0.0f32), 0.001f32..1.0, Just(1.0)],
    );
    let penalties = (
        prop_oneof![Just(0.0f32), -2.0f32..2.0],
        prop_oneof![Just(0.0f32), -2.0f32..2.0],
        prop_oneof![Just(1.0f32), 0.1f32..3.0],
        prop::collection::btree_map(0u32..20, -5.0f32..5.0, 0..4),
    );
    (filters, penalties, any::<u64>()).prop_map(|(filters, penalties, seed)| Sampling {
        temperature: filters.0,
        top_p: filters.1,
        top_k: filters.2,
        min_p: filters.3,
        presence_penalty: penalties.0,
        frequency_penalty: penalties.1,
        repetition_penalty: penalties.2,
        logit_bias: penalties.3.into_iter().collect(),
        seed,
    })
}

/// Smooth ones and such with many ties.
fn some_logits() -> impl Strategy<Value = Vec<f32>> {
    let smooth = prop::collection::vec(-8.0f32..8.0, 20..150);
    let coarse = prop::collection::vec((-4i32..4).prop_map(|i| i as f32 * 0.5), 20..150);
    prop_oneof![smooth, coarse]
}

fn some_tokens() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0u32..20, 0..12)
}

fn some_mask() -> impl Strategy<Value = Option<Vec<u32>>> {
    let word = prop_oneof![Just(0), Just(u32::MAX), any::<u32>()];
    prop::option::of(prop::collection::vec(word, 0..6))
}

proptest! {
    #[test]
    fn fast_draws_equal_those_of_the_definition(
        sampling in a_sampling(),
        logits in some_logits(),
        prompt in some_tokens(),
        answer in some_tokens(),
        allowed in some_mask(),
        position in 0u64..1000,
    ) {
        let case = Case {
            sampling: &sampling,
            prompt: &prompt,
            answer: &answer,
            logits: &logits,
            allowed: allowed.as_deref(),
        };
        let mut sampler = case.sampler();
        for position in position..position + 5 {
            let token = sampler.draw(&logits, position, case.allowed, None);
            let expected = case.draw(position).ok_or(DrawError::NothingAllowed);
            prop_assert_eq!(token.map(|token| token.id), expected);
            // The margin is 0 for what is drawn and, but for ties at an edge, for nothing else.
            let Ok(expected) = expected else { continue };
            let margin = sampler.margin(&logits, position, case.allowed, expected);
            prop_assert_eq!(margin, Ok(0.0));
            for token in 0..20 {
                let margin = sampler.margin(&logits, position, case.allowed, token).unwrap();
                prop_assert!(margin >= 0.0);
            }
        }
    }

    #[test]
    fn reported_alternatives_are_the_likeliest(logits in some_logits(), count in 0usize..200) {
        let mut sampler = Sampler::new(Sampling::default(), &[], logits.len());
        let token = sampler.draw(&logits, 0, None, Some(count)).unwrap();
        let exact = softmax(&logits, 1.0);
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|a, b| {
            logits[*b as usize].partial_cmp(&logits[*a as usize]).unwrap().then(a.cmp(b))
        });
        order.truncate(count);
        let ids: Vec<u32> = token.top.iter().map(|(id, _)| *id).collect();
        prop_assert_eq!(ids, order);
        for (id, logprob) in token.top {
            prop_assert!((f64::from(logprob) - exact[id as usize].ln()).abs() < 1e-5);
        }
    }

    #[test]
    fn small_differences_between_logits_make_small_margins(
        sampling in a_sampling(),
        logits in some_logits(),
        shifts in prop::collection::vec(-1.0f32..1.0, 150),
        size in prop_oneof![Just(1e-4f32), Just(1e-2), Just(0.3)],
        position in 0u64..1000,
    ) {
        // A penalty that multiplies logits multiplies their differences.
        let sampling = Sampling { repetition_penalty: 1.0, ..sampling };
        let theirs: Vec<f32> = logits.iter().zip(&shifts).map(|(l, s)| l + s * size).collect();
        let mut sampler = Sampler::new(sampling, &[], logits.len());
        for position in position..position + 20 {
            let token = sampler.draw(&theirs, position, None, None).unwrap().id;
            let margin = sampler.margin(&logits, position, None, token).unwrap();
            prop_assert!(margin <= 2.0 * size + 1e-5, "{margin}");
        }
    }
}

/// `cargo test -p tributary-engine --lib sample -- --ignored --nocapture`
#[test]
#[ignore = "prints times, for a quiet machine"]
fn times_of_draws_over_a_whole_vocabulary() {
    const VOCAB: usize = 49_152;
    let noise = Noise::new(3, 3);
    // Peaked as a model's are, and flat.
    let peaked: Vec<f32> = (0..VOCAB as u32)
        .map(|t| 2.5 * noise.of(t) as f32)
        .collect();
    let flat: Vec<f32> = (0..VOCAB as u32)
        .map(|t| 0.01 * noise.of(t) as f32)
        .collect();
    let full = tempered_by(1.0);
    let cases = [
        ("greedy", Sampling::default(), None),
        ("temperature", full.clone(), None),
        ("logprobs 5", full.clone(), Some(5)),
        (
            "top-k 40",
            Sampling {
                top_k: 40,
                ..full.clone()
            },
            None,
        ),
        (
            "top-p 0.95",
            Sampling {
                top_p: 0.95,
                ..full.clone()
            },
            None,
        ),
        (
            "min-p 0.05",
            Sampling {
                min_p: 0.05,
                ..full.clone()
            },
            None,
        ),
    ];
    for (name, sampling, logprobs) in cases {
        for (shape, logits) in [("peaked", &peaked), ("flat", &flat)] {
            let mut sampler = Sampler::new(sampling.clone(), &[], VOCAB);
            let mut times: Vec<u128> = (0..101)
                .map(|position| {
                    let start = std::time::Instant::now();
                    std::hint::black_box(sampler.draw(logits, position, None, logprobs)).unwrap();
                    start.elapsed().as_micros()
                })
                .collect();
            times.sort_unstable();
            println!("{name}, {shape}: {} us", times[50]);
        }
    }
}
