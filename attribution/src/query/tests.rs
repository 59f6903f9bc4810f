//! What is a share of an answer and what is nobody's, and that both are the whole.

use proptest::prelude::*;
use tributary_protocol::hash::Digest;

use super::*;

fn peer(n: u8) -> PeerId {
    PeerId(Digest::from_bytes([n; 32]))
}

/// An answer of one token to which the adapter gives twice the base's probability.
fn twice() -> Vec<TokenLoss> {
    vec![TokenLoss {
        base: 3.0,
        adapter: 3.0 - std::f64::consts::LN_2,
    }]
}

fn of(gradient: &[f32], moved: &[Vec<f32>], tokens: &[TokenLoss]) -> AnswerShares {
    let moved = (moved.iter().enumerate()).map(|(n, v)| (peer(n as u8), &v[..]));
    shares(gradient, moved, tokens).expect("good input")
}

#[test]
fn what_the_base_already_knew_is_nobodys() {
    let half = of(&[-1.0], &[vec![1.0]], &twice());
    assert_eq!(half.nobody, Ppb(500_000_000));
    assert_eq!(half.shares[0].share, Ppb(500_000_000));
    let same = TokenLoss {
        base: 2.0,
        adapter: 2.0,
    };
    assert_eq!(of(&[-1.0], &[vec![1.0]], &[same]).nobody, Ppb::ONE);
}

#[test]
fn an_adapter_that_made_the_answer_less_likely_has_no_part_in_it() {
    let worse = TokenLoss {
        base: 1.0,
        adapter: 5.0,
    };
    let found = of(&[-1.0], &[vec![1.0]], &[worse]);
    assert_eq!((found.nobody, found.shares[0].share), (Ppb::ONE, Ppb(0)));
}

#[test]
fn harmful_influence_is_recorded_and_gets_no_share() {
    let found = of(&[-1.0, 0.0], &[vec![0.5, 1.0], vec![-0.25, 1.0]], &twice());
    assert_eq!(found.shares[0].influence, NanoNats(500_000_000));
    assert_eq!(found.shares[1].influence, NanoNats(-250_000_000));
    assert_eq!(found.shares[0].share, Ppb(500_000_000));
    assert_eq!(found.shares[1].share, Ppb(0));
}

#[test]
fn without_any_positive_influence_all_is_nobodys() {
    let found = of(&[1.0], &[vec![1.0], vec![0.0]], &twice());
    assert_eq!(found.nobody, Ppb::ONE);
    assert!(found.shares.iter().all(|s| s.share == Ppb(0)));
    assert_eq!(of(&[1.0], &[], &twice()).nobody, Ppb::ONE);
}

#[test]
fn vanishing_gradients_keep_their_proportions() {
    let found = of(&[-1e-20], &[vec![3.0], vec![1.0]], &twice());
    assert_eq!(found.shares[0].influence, NanoNats(0));
    assert_eq!(found.shares[0].share, Ppb(375_000_000));
    assert_eq!(found.shares[1].share, Ppb(125_000_000));
}

#[test]
fn equal_vectors_get_equal_shares_and_an_idle_one_none() {
    let moved = [vec![1.0, 2.0], vec![1.0, 2.0], vec![0.0, 0.0]];
    let found = of(&[-1.0, -0.5], &moved, &twice());
    assert!(found.shares[0].share > Ppb(0));
    assert!(
        found.shares[0].share.0.abs_diff(found.shares[1].share.0) <= 1,
        "{found:?}"
    );
    assert_eq!(found.shares[0].influence, found.shares[1].influence);
    assert_eq!(found.shares[2].share, Ppb(0));
}

#[test]
fn bad_input_is_named() {
    let one = [1.0f32];
    let good = twice();
    let ask = |gradient: &[f32], vector: &[f32], tokens: &[TokenLoss]| {
        shares(gradient, [(peer(1), vector)], tokens).expect_err("bad input")
    };
    assert_eq!(ask(&one, &one, &[]), QueryError::Empty);
    let nan = [
        good[0],
        TokenLoss {
            base: f64::NAN,
            adapter: 1.0,
        },
    ];
    assert_eq!(ask(&one, &one, &nan), QueryError::Loss(1));
    assert_eq!(ask(&[f32::NAN], &one, &good), QueryError::Gradient);
    assert_eq!(
        ask(&one, &[f32::INFINITY], &good),
        QueryError::Vector(peer(1))
    );
    let length = QueryError::Length {
        peer: peer(1),
        expected: 1,
        found: 2,
    };
    assert_eq!(ask(&one, &[1.0, 1.0], &good), length);
}

#[test]
fn a_round_that_does_not_fit_adds_nothing() {
    let mut moved = Moved::default();
    moved.add(&[(peer(1), vec![1.0, 2.0])]).expect("first");
    let odd = [(peer(1), vec![1.0, 1.0]), (peer(2), vec![1.0])];
    assert!(moved.add(&odd).is_err());
    let all: Vec<_> = moved.iter().collect();
    assert_eq!(all, [(peer(1), &[1.0f32, 2.0][..])]);
}

fn vectors() -> impl Strategy<Value = Vec<Vec<f32>>> {
    prop::collection::vec(prop::collection::vec(-2.0f32..2.0, 5), 1..8)
}

fn tokens() -> impl Strategy<Value = Vec<TokenLoss>> {
    let token = (0.0f64..9.0, 0.0f64..9.0).prop_map(|(base, adapter)| TokenLoss { base, adapter });
    prop::collection::vec(token, 1..20)
}

proptest! {
    #[test]
    fn shares_and_nobodys_part_are_the_whole(
        gradient in prop::collection::vec(-1.0f32..1.0, 5), moved in vectors(), tokens in tokens(),
    ) {
        let found = of(&gradient, &moved, &tokens);
        let given: u64 = found.shares.iter().map(|s| u64::from(s.share.0)).sum();
        prop_assert_eq!(given + u64::from(found.nobody.0), u64::from(Ppb::ONE.0));
        let base = base_part(&tokens).expect("good losses");
        prop_assert!(found.nobody.as_f64() >= base - 1e-9);
        for one in &found.shares {
            prop_assert!(one.influence >= NanoNats(0) || one.share == Ppb(0));
        }
    }

    #[test]
    fn splitting_a_vector_in_proportion_earns_nothing_more(
        gradient in prop::collection::vec(-1.0f32..1.0, 5), moved in vectors(),
    ) {
        let whole = of(&gradient, &moved, &twice());
        let half: Vec<f32> = moved[0].iter().map(|v| v / 2.0).collect();
        let mut halves = vec![half.clone(), half];
        halves.extend_from_slice(&moved[1..]);
        let split = of(&gradient, &halves, &twice());
        let together = split.shares[0].share.0 + split.shares[1].share.0;
        prop_assert!(together.abs_diff(whole.shares[0].share.0) <= 2);
    }

    #[test]
    fn rounds_add_up(moved in vectors(), again in vectors()) {
        let named = |vectors: &[Vec<f32>]| -> Vec<(PeerId, Vec<f32>)> {
            (vectors.iter().enumerate()).map(|(n, v)| (peer(n as u8), v.clone())).collect()
        };
        let mut sum = Moved::default();
        sum.add(&named(&moved)).expect("fits");
        sum.add(&named(&again)).expect("fits");
        prop_assert_eq!(sum.iter().count(), moved.len().max(again.len()));
        for (n, (_, found)) in sum.iter().enumerate() {
            for at in 0..5 {
                let parts = [moved.get(n), again.get(n)].map(|v| v.map_or(0.0, |v| v[at]));
                prop_assert!((found[at] - (parts[0] + parts[1])).abs() < 1e-6);
            }
        }
    }
}
