//! Cutting, drawing, refusing.

use super::*;
use crate::testing::tiny_base;

#[test]
fn windows_follow_each_other_and_the_first_token_of_each_is_not_predicted() {
    let base = tiny_base();
    let windows = Windows::from_text(&base, "abcdefghij", 4).unwrap();
    let lengths: Vec<usize> = windows.iter().map(<[u32]>::len).collect();
    assert_eq!(lengths, [4, 4, 2]);
    assert_eq!((windows.tokens(), windows.predicted()), (10, 7));
    let batch = windows.batch(&[0, 2]);
    let ids = |text: &str| -> Vec<i32> {
        base.encode(text)
            .unwrap()
            .into_iter()
            .map(|t| t as i32)
            .collect()
    };
    assert_eq!(batch.tokens, [ids("abcd"), ids("ij"), vec![0, 0]].concat());
    let none = vec![NO_TARGET];
    let expected = [ids("bcd"), none.clone(), ids("j"), none.repeat(3)].concat();
    assert_eq!(batch.targets, expected);
    assert_eq!(batch.predicted(), 4);
}

#[test]
fn a_last_window_of_one_token_predicts_nothing_and_is_left_out() {
    let windows = Windows::from_text(&tiny_base(), "abcde", 4).unwrap();
    assert_eq!((windows.len(), windows.predicted()), (1, 3));
}

#[test]
fn useless_data_is_refused() {
    let base = tiny_base();
    assert!(matches!(
        Windows::from_text(&base, "a", 4),
        Err(DataError::Empty { tokens: 1 })
    ));
    assert!(matches!(
        Windows::from_text(&base, "abc", 1),
        Err(DataError::Context(1))
    ));
    let beyond = Windows::from_tokens(vec![vec![3, 48]], 4, 48);
    assert!(matches!(beyond, Err(DataError::Batch(_))));
}

#[test]
fn draws_repeat_no_window_before_all_were_drawn() {
    let mut draw = Draw::new(7, 3);
    for _ in 0..4 {
        let mut seen = draw.next(7);
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
    }
    assert_eq!(Draw::new(7, 3).next(20), Draw::new(7, 3).next(20));
    assert_ne!(Draw::new(7, 3).next(20), Draw::new(7, 4).next(20));
}

#[test]
fn held_out_windows_and_samples_are_disjoint_parts() {
    let windows = Windows::from_text(&tiny_base(), &"abcdefgh".repeat(25), 4).unwrap();
    let (kept, held) = windows.clone().hold_out(10);
    assert_eq!((kept.len(), held.len()), (45, 5));
    let two = Windows::from_text(&tiny_base(), "abcdefgh", 4).unwrap();
    let (kept, held) = two.hold_out(10);
    assert_eq!((kept.len(), held.len()), (1, 1));
    let sample = windows.sample(&[5; 32], 8);
    assert_eq!(sample, windows.sample(&[5; 32], 8));
    assert_eq!((sample.len(), windows.sample(&[5; 32], 999).len()), (8, 50));
}
