//! A learner of one's own, which a scenario names: `[learner] kind = "log_cosh"`.
//!
//! Its losses grow like a line far from the optimum. This program is `tributary-sim` with that name added:
//!
//!     cargo run -p tributary-simulations --example learner -- run smoke --set learner.kind=log_cosh

use std::process::ExitCode;

use tributary_protocol::entry::ScoreSheet;
use tributary_protocol::event::{ScoreTask, TrainTask, Trained};
use tributary_simulations::learner::{Learner, LearnerPlan, Members, descend, score_by_path};
use tributary_simulations::{Catalogue, cli};

/// `L_i(x) = sum_k ln cosh(x_k - o_i)`: each peer has one optimum for all numbers, around 1.
struct LogCosh {
    spread: f64,
}

impl Learner for LogCosh {
    fn train(&self, peer: usize, task: &TrainTask) -> Trained {
        let side = if peer.is_multiple_of(2) { 1.0 } else { -1.0 };
        let optimum = 1.0 + side * self.spread;
        descend(task, |at, values| (values[at] - optimum).tanh())
    }

    fn score(&self, _peer: usize, task: &ScoreTask) -> ScoreSheet {
        score_by_path(task, |_window, point| {
            let slopes = point.iter().map(|value| (value - 1.0).tanh());
            (self.loss(point), slopes.collect())
        })
    }

    fn loss(&self, values: &[f32]) -> f64 {
        let far = values.iter().map(|value| f64::from(*value) - 1.0);
        far.map(|far| far.cosh().ln()).sum()
    }
}

fn make(plan: &LearnerPlan, _members: Members, _seed: u64) -> Result<Box<dyn Learner>, String> {
    let spread = plan.spread;
    Ok(Box::new(LogCosh { spread }))
}

fn catalogue() -> Catalogue {
    Catalogue::default().learner("log_cosh", "ln cosh around one optimum for each peer", make)
}

fn main() -> ExitCode {
    cli::main_with(catalogue())
}

#[test]
fn the_federation_learns_what_nobody_in_it_was_taught() {
    use tributary_simulations::{World, scenario};
    let (catalogue, set) = (catalogue().into(), ["learner.kind=log_cosh".to_owned()]);
    let scenario = scenario::load_with(&catalogue, "smoke", &set).expect("accepted");
    let outcome = World::new(&scenario, 1, None).run();
    let (before, after) = outcome.loss.expect("certified adapters");
    assert!(outcome.violations.is_empty() && after < 0.2 * before);
}
