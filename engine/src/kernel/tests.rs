//! Every index once, every part once, and every form of a product the same.

use std::sync::atomic::AtomicU32;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::panel::{narrowed, widened};

#[test]
fn every_index_is_worked_on_once_however_many_tasks_follow_each_other() {
    for threads in [1, 2, 3, 5] {
        let mut team = Team::new(threads);
        assert_eq!(team.threads(), threads);
        for task in 0..3_000usize {
            let count = task % 17;
            let calls: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
            team.for_each(count, |index| {
                calls[index].fetch_add(1, Ordering::Relaxed);
            });
            assert!(calls.iter().all(|calls| calls.load(Ordering::Relaxed) == 1));
        }
    }
}

#[test]
fn a_team_that_slept_wakes_for_the_next_task() {
    let mut team = Team::new(3);
    for _ in 0..5 {
        thread::sleep(std::time::Duration::from_millis(20));
        let mut squares = vec![0.0f32; 1000];
        team.parts([(&mut squares, 7)], (&mut [], 1), |index, [part], _| {
            for (at, value) in part.iter_mut().enumerate() {
                *value = ((index * 7 + at) * 2) as f32;
            }
        });
        assert!(
            squares
                .iter()
                .enumerate()
                .all(|(at, v)| *v == 2.0 * at as f32)
        );
    }
}

#[test]
fn parts_of_several_slices_go_to_one_call_and_cuts_may_be_of_any_length() {
    let mut team = Team::new(2);
    let (mut one, mut two, mut bytes) = (vec![0.0f32; 10], vec![0.0f32; 5], vec![0i8; 4]);
    let floats = [(&mut one[..], 2), (&mut two[..], 1)];
    team.parts(floats, (&mut bytes, 1), |index, [one, two], bytes| {
        one.fill(index as f32);
        two.fill(10.0 + index as f32);
        bytes.fill(index as i8);
    });
    assert_eq!(bytes, [0, 1, 2, 3]);
    assert_eq!(one, [0., 0., 1., 1., 2., 2., 3., 3., 4., 4.]);
    assert_eq!(two, [10., 11., 12., 13., 14.]);
    let mut cut = vec![0u8; 9];
    team.cut(&mut cut, &[0, 4, 4, 5, 9], |index, part| {
        part.fill(index as u8)
    });
    assert_eq!(cut, [0, 0, 0, 0, 2, 3, 3, 3, 3]);
}

#[test]
fn a_panic_of_one_thread_is_a_panic_of_the_caller_and_the_team_goes_on() {
    let mut team = Team::new(3);
    let caught = catch_unwind(AssertUnwindSafe(|| {
        team.for_each(50, |index| assert!(index != 31, "for the test"));
    }));
    assert!(caught.is_err());
    let calls = AtomicU32::new(0);
    team.for_each(50, |_| {
        calls.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(calls.load(Ordering::Relaxed), 50);
}

#[test]
fn all_forms_of_a_byte_product_agree_at_every_number_of_rows() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for count in 0..14 {
        let weights: Vec<u8> = (0..BLOCK_BYTES)
            .map(|_| rng.random_range(1..=255))
            .collect();
        let mut rows = vec![[0i8; BLOCK]; count];
        for value in rows.iter_mut().flatten() {
            *value = rng.random_range(-127..=127);
        }
        // The largest sums there are.
        if let Some(first) = rows.first_mut() {
            first.fill(-127);
        }
        let mut expected = vec![[0i32; BLOCK]; count];
        by_hand(weights[..].try_into().unwrap(), &rows, &mut expected);
        for (row, sums) in rows.iter().zip(&expected) {
            let one = (0..BLOCK)
                .map(|i| i32::from(weights[i / 4 * 4 * BLOCK + 5 * 4 + i % 4]) * i32::from(row[i]));
            assert_eq!(sums[5], one.sum::<i32>());
        }
        let mut found = vec![[1i32; BLOCK]; count];
        bytes_product(&weights, &rows, &mut found);
        assert_eq!(found, expected);
        #[cfg(target_arch = "x86_64")]
        if x86::has_avx2() {
            let mut found = vec![[1i32; BLOCK]; count];
            // SAFETY: the processor has the instructions.
            unsafe { x86::by_avx2(weights[..].try_into().unwrap(), &rows, &mut found) };
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn products_of_halves_are_lane_by_lane_sums_of_each_row_alone() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for (panels, step) in [(1, 1), (3, 1), (9, 5)] {
        let numbers = (0..panels * RANKS * PANEL).map(|_| narrowed(rng.random::<f32>() - 0.5));
        let numbers: Vec<u16> = numbers.collect();
        let draw = |_| std::array::from_fn(|_| rng.random::<f32>());
        let x: Vec<Lanes> = (0..panels * step).map(draw).collect();
        let first = step - 1;
        let found = halves_products(numbers.as_chunks().0, &x, first, step);
        for (rank, found) in found.iter().enumerate() {
            let mut sums: Lanes = [0.0; PANEL];
            for panel in 0..panels {
                let row = &numbers[(panel * RANKS + rank) * PANEL..];
                for lane in 0..PANEL {
                    let x = x[first + panel * step][lane];
                    sums[lane] = widened(row[lane]).mul_add(x, sums[lane]);
                }
            }
            assert_eq!(*found, sums);
        }
    }
}
