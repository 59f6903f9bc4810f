//! Which rounds are in which stage, and that stages survive being written.

use tributary_protocol::adapter::Module;
use tributary_protocol::hash::Digest;

use super::*;

fn shape() -> Arc<AdapterShape> {
    Arc::new(AdapterShape {
        rank: 1,
        alpha: 2,
        modules: vec![Module {
            name: "m".into(),
            inputs: 2,
            outputs: 2,
        }],
    })
}

fn at(value: f32) -> Adapter {
    Adapter::new(shape(), vec![value; 4]).unwrap()
}

/// A run that moves by one in each of its rounds.
fn run(rounds: u32) -> Vec<Stage> {
    let mut staging = Staging::new(rounds);
    staging.add::<Vec<f32>>(&at(0.0), &[]).unwrap();
    for round in 1..=rounds {
        let moved = [(PeerId(Digest::from_bytes([7; 32])), vec![1.0f32; 4])];
        staging.add(&at(round as f32), &moved).unwrap();
    }
    staging.finish().unwrap()
}

#[test]
fn rounds_fall_in_four_stages_at_most_each_with_its_middle() {
    let middles = |rounds: u32| -> Vec<f32> {
        let stages = run(rounds);
        stages.iter().map(|s| s.middle.values()[0]).collect()
    };
    assert!(middles(0).is_empty());
    assert_eq!(middles(1), [0.5]);
    assert_eq!(middles(4), [0.5, 1.5, 2.5, 3.5]);
    assert_eq!(middles(8), [1.0, 3.0, 5.0, 7.0]);
    // The last stage is shorter.
    assert_eq!(middles(5), [1.0, 3.0, 4.5]);
    for rounds in 1..40 {
        assert!(run(rounds).len() <= STAGES);
    }
}

#[test]
fn what_the_stages_moved_is_what_the_run_moved() {
    for rounds in 1..12 {
        let moved: f64 = (run(rounds).iter())
            .map(|stage| stage.moved.influences(&[&[-1.0, 0.0, 0.0, 0.0]]).unwrap()[0].1[0])
            .sum();
        assert_eq!(moved, f64::from(rounds));
    }
}

#[test]
fn a_round_without_contributions_is_in_no_stage() {
    let mut staging = Staging::new(1);
    staging.add::<Vec<f32>>(&at(0.0), &[]).unwrap();
    staging.add::<Vec<f32>>(&at(2.0), &[]).unwrap();
    assert_eq!(staging.finish().unwrap(), []);
}

#[test]
fn stages_are_read_as_they_were_written_and_no_beginning_of_them_is() {
    let stages = run(6);
    let mut bytes = Vec::new();
    write(&stages, &mut bytes);
    let mut rest = &[bytes.as_slice(), &[9]].concat()[..];
    assert_eq!(read(&mut rest, &shape()), Some(stages));
    assert_eq!(rest, [9]);
    for length in 0..bytes.len() {
        assert_eq!(read(&mut &bytes[..length], &shape()), None, "{length}");
    }
}
