//! Splits are exact: nothing is lost, nothing is made.

use proptest::prelude::*;

use super::*;
use crate::reference;

fn named(weights: Vec<u64>) -> Vec<(usize, u64)> {
    weights.into_iter().enumerate().collect()
}

/// 256-bit product as (high, low), by 64-bit limbs.
fn wide(a: u128, b: u128) -> (u128, u128) {
    let mask = u128::from(u64::MAX);
    let (a1, a0, b1, b0) = (a >> 64, a & mask, b >> 64, b & mask);
    let low = a0 * b0;
    let mid = a1 * b0 + (low >> 64);
    let (mid, carry) = mid.overflowing_add(a0 * b1);
    let high = a1 * b1 + (mid >> 64) + (u128::from(carry) << 64);
    (high, (mid << 64) | (low & mask))
}

#[test]
fn ties_go_to_the_least_id_wherever_it_stands() {
    let parts = apportion(4, &[("c", 1), ("a", 1), ("b", 1)]).expect("weights");
    assert_eq!(parts, [1, 2, 1]);
}

#[test]
fn nobody_to_give_to_is_said() {
    assert_eq!(split(MicroOpen(7), &named(vec![0, 0])), None);
    assert_eq!(split::<u8>(MicroOpen(7), &[]), None);
    assert_eq!(split_equal(MicroOpen(7), 0), None);
}

#[test]
fn the_largest_amounts_and_weights_split_exactly() {
    let parts = apportion(u128::MAX, &named(vec![u64::MAX, u64::MAX, 1])).expect("weights");
    assert_eq!(parts.iter().sum::<u128>(), u128::MAX);
    assert!(parts[0].abs_diff(parts[1]) <= 1);
    assert_eq!(parts[2], u128::MAX / (2 * u128::from(u64::MAX) + 1));
}

#[test]
fn equal_parts_leave_dust() {
    let (each, dust) = split_equal(MicroOpen(10), 3).expect("heads");
    assert_eq!((each, dust), (MicroOpen(3), MicroOpen(1)));
}

#[test]
fn balances_check_their_range() {
    let large = MicroOpen(MAX_AMOUNT.0 + 1);
    assert_eq!(Balance::plus(large), Err(MoneyError::TooLarge(large)));
    assert_eq!(Balance::minus(large), Err(MoneyError::TooLarge(large)));
    let full = Balance(i128::MAX).checked_add(Balance(1));
    assert_eq!(full, Err(MoneyError::Overflow));
    assert_eq!(Balance(-1_500_000).to_string(), "-1.500000");
    assert_eq!(format!("{:>10}", Balance(2)), "  0.000002");
}

proptest! {
    #[test]
    fn parts_equal_the_slow_twins(
        amount in 0u128..1_000_000, weights in prop::collection::vec(0u64..50, 1..12),
    ) {
        prop_assume!(weights.iter().any(|&w| w > 0));
        let weights = named(weights);
        let parts = apportion(amount, &weights).expect("a weight");
        prop_assert_eq!(parts, reference::split(amount, &weights));
    }

    #[test]
    fn parts_add_up_and_are_fair(
        amount in any::<u128>(), weights in prop::collection::vec(any::<u64>(), 1..12),
    ) {
        prop_assume!(weights.iter().any(|&w| w > 0));
        let weights = named(weights);
        let parts = apportion(amount, &weights).expect("a weight");
        prop_assert_eq!(parts.iter().sum::<u128>(), amount);
        for a in 0..parts.len() {
            prop_assert!(weights[a].1 > 0 || parts[a] == 0);
            for b in 0..parts.len() {
                if weights[a].1 >= weights[b].1 {
                    prop_assert!(parts[a] + 1 >= parts[b], "more weight, less money");
                }
            }
        }
    }

    #[test]
    fn wide_quotas_are_exact(amount in any::<u128>(), weight in any::<u64>(), more in any::<u64>()) {
        let total = u128::from(weight) + u128::from(more) + 1;
        let (quotient, remainder) = quota(amount, weight, total);
        prop_assert!(remainder < total);
        let (high, low) = wide(quotient, total);
        let (low, carry) = low.overflowing_add(remainder);
        prop_assert_eq!((high + u128::from(carry), low), wide(amount, u128::from(weight)));
    }

    #[test]
    fn the_order_of_payees_does_not_matter(
        amount in any::<u128>(), mut weights in prop::collection::vec(0u64..9, 1..12),
    ) {
        weights.push(1);
        let straight = named(weights);
        let mut turned = straight.clone();
        turned.reverse();
        let mut back = apportion(amount, &turned).expect("a weight");
        back.reverse();
        prop_assert_eq!(apportion(amount, &straight).expect("a weight"), back);
    }

    #[test]
    fn equal_parts_and_dust_add_up(amount in any::<u128>(), heads in 1usize..1000) {
        let (each, dust) = split_equal(MicroOpen(amount), heads).expect("heads");
        prop_assert!(dust.0 < heads as u128);
        prop_assert_eq!(each.0 * heads as u128 + dust.0, amount);
    }
}
