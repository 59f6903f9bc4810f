//! An aggregation rule of one's own: only the half of the updates that lies closest to all others is heard.
//!
//! A study names it; a run cannot, because the rules that a certificate rests on are named in signed bytes. This
//! program is `tributary-lab` with that name added:
//!
//!     cargo run -p tributary-experiments --example rule -- attacks --rules mean,nearest_half --out result

use std::process::ExitCode;

use tributary_experiments::Lab;
use tributary_protocol::aggregate::{Rule, Updates};

struct NearestHalf;

impl Rule for NearestHalf {
    fn coefficients(&self, updates: &Updates<'_>) -> Vec<f64> {
        let all = || 0..updates.len();
        let far = |at| all().map(|other| updates.distance(at, other)).sum();
        let far: Vec<f64> = all().map(far).collect();
        let mut sorted = far.clone();
        sorted.sort_by(f64::total_cmp);
        let hears = |at: &usize| far[*at] <= sorted[(updates.len() - 1) / 2];
        let heard: f64 = all().filter(hears).map(|at| updates.shares()[at]).sum();
        let share = |at| updates.shares()[at] / heard;
        let coefficient = |at| if hears(&at) { share(at) } else { 0.0 };
        all().map(coefficient).collect()
    }
}

fn lab() -> Lab {
    let about = "the mean of the half that lies closest to all others";
    Lab::default().rule("nearest_half", about, NearestHalf)
}

fn main() -> ExitCode {
    lab().main()
}

#[test]
fn an_update_far_from_all_others_is_not_heard() {
    use tributary_protocol::aggregate::{Weighted, combine_by};
    use tributary_protocol::{hash::Digest, id::PeerId};
    let numbers = [[1.0, 0.9], [1.1, 1.0], [0.9, 1.1], [-50.0, 80.0]];
    let weighted = |(update, name): (&[f32; 2], u8)| Weighted {
        peer: PeerId(Digest::from_bytes([name; 32])),
        weight: 10,
        update: update.to_vec(),
    };
    let updates: Vec<Weighted> = numbers.iter().zip(1..).map(weighted).collect();
    let lab = lab();
    let rule = lab
        .catalogue
        .rules
        .get("nearest half")
        .expect("it is there");
    let heard = combine_by(&*rule.thing, &updates);
    let step: f32 = heard.iter().map(|(_, vector)| vector[0]).sum();
    assert!((0.9..1.2).contains(&step) && heard[3].1 == [0.0, 0.0]);
}
