//! A convex quadratic for each peer, each with an optimum of its own.
//!
//! `L_i(x) = 1/2 sum_k h_ik (x_k - o_ik)^2`, with the optima drawn around a common one. It is the
//! smallest task on which peers truly disagree, gradients are exact, and scores can be checked by
//! hand, so a simulated round costs microseconds and still has something to attribute.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tributary_protocol::entry::ScoreSheet;
use tributary_protocol::event::{ScoreTask, TrainTask, Trained};
use tributary_protocol::hash::{Domain, Hasher};
use tributary_protocol::id::Round;

use super::{Learner, LearnerPlan, Members, descend, score_by_path};

/// The losses of all peers, drawn around a common one.
pub struct Quadratic {
    seed: u64,
    noise: f64,
    common: Vec<f64>,
    curvature: Vec<f64>,
    peers: Vec<Bowl>,
}

/// One peer's loss.
#[derive(Clone)]
struct Bowl {
    optimum: Vec<f64>,
    curvature: Vec<f64>,
}

impl Quadratic {
    /// Draws the losses of these peers; names of one owner have one.
    pub fn new(plan: &LearnerPlan, members: Members, seed: u64) -> Self {
        let mut rng = rng(seed, "optima", 0, Round(0));
        let common: Vec<f64> = (0..plan.dimension).map(|_| normal(&mut rng)).collect();
        let curvature = (0..plan.dimension).map(|_| rng.random_range(0.2..1.0));
        let curvature: Vec<f64> = curvature.collect();
        let mut draw = || Bowl {
            optimum: (common.iter())
                .map(|at| at + plan.spread * normal(&mut rng))
                .collect(),
            curvature: (curvature.iter())
                .map(|h| h * rng.random_range(0.5..1.5))
                .collect(),
        };
        let mut peers: Vec<Bowl> = Vec::with_capacity(members.peers);
        for at in 0..members.peers {
            let bowl = match members.text_of(at) {
                first if first < at => peers[first].clone(),
                _ => draw(),
            };
            peers.push(bowl);
        }
        Self {
            seed,
            noise: plan.noise,
            common,
            curvature,
            peers,
        }
    }
}

impl Learner for Quadratic {
    fn train(&self, peer: usize, task: &TrainTask) -> Trained {
        let bowl = &self.peers[peer];
        let mut rng = rng(self.seed, "train", peer, task.round);
        descend(task, |at, values| {
            let noise = self.noise * normal(&mut rng);
            bowl.curvature[at] * (values[at] - bowl.optimum[at]) + noise
        })
    }

    fn score(&self, peer: usize, task: &ScoreTask) -> ScoreSheet {
        let windows = self.hold_out(peer, task);
        score_by_path(task, |window, point| {
            let optimum = &windows[window];
            let terms = point.iter().zip(optimum).zip(&self.curvature);
            let gradient = terms
                .map(|((v, o), h)| (h * (f64::from(*v) - o)) as f32)
                .collect();
            (half_squares(point, optimum, &self.curvature), gradient)
        })
    }

    fn loss(&self, values: &[f32]) -> f64 {
        half_squares(values, &self.common, &self.curvature)
    }
}

impl Quadratic {
    /// An evaluator's hold-out: the optimum of the common loss, shaken a little for each window that the certificate's
    /// seed draws.
    fn hold_out(&self, peer: usize, task: &ScoreTask) -> Vec<Vec<f64>> {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(task.seed.as_bytes());
        hasher.update(&(peer as u64).to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(*hasher.finalize().as_bytes());
        let mut window = || {
            let shaken = self.common.iter();
            shaken
                .map(|at| at + self.noise * normal(&mut rng))
                .collect()
        };
        (0..task.windows).map(|_| window()).collect()
    }
}

fn half_squares(values: &[f32], optimum: &[f64], curvature: &[f64]) -> f64 {
    let terms = values.iter().zip(optimum).zip(curvature);
    terms
        .map(|((v, o), h)| 0.5 * h * (f64::from(*v) - o).powi(2))
        .sum()
}

/// A separate stream of random draws for every purpose, peer and round.
fn rng(seed: u64, purpose: &str, peer: usize, round: Round) -> ChaCha8Rng {
    let mut hasher = Hasher::new(Domain::Simulation);
    hasher.update(&seed.to_le_bytes());
    hasher.update(&(peer as u64).to_le_bytes());
    hasher.update(&round.0.to_le_bytes());
    hasher.update(purpose.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// A standard normal draw (Box and Muller, one of the pair).
pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::scenario::Scenario;
    use tributary_protocol::adapter::{Adapter, AdapterShape, Module, Trainable};
    use tributary_protocol::aggregate::ContributionVector;
    use tributary_protocol::hash::Digest;
    use tributary_protocol::id::{PeerId, Ppb, RunId, StateHash};
    use tributary_protocol::manifest::{FactorSchedule, Training};

    fn learner() -> (Scenario, Quadratic) {
        let scenario = crate::scenario::load("smoke").unwrap();
        let members = Members {
            peers: scenario.peers,
            evaluators: scenario.evaluators,
            names: 0,
        };
        let learner = Quadratic::new(&scenario.learner, members, 3);
        (scenario, learner)
    }

    fn task(scenario: &Scenario, trainable: Trainable) -> TrainTask {
        let half = (scenario.learner.dimension / 2) as u32;
        let module = Module {
            name: "bowl".into(),
            inputs: half,
            outputs: half,
        };
        let shape = Arc::new(AdapterShape {
            rank: 1,
            alpha: 1,
            modules: vec![module],
        });
        TrainTask {
            run: RunId::default(),
            round: Round(1),
            base: StateHash::default(),
            adapter: Adapter::init(Arc::clone(&shape), &Digest::default()).into(),
            shape,
            trainable,
            training: Training {
                local_steps: 4,
                batch: 1,
                context: 16,
                learning_rate: Ppb(300_000_000),
                schedule: FactorSchedule::Both,
            },
        }
    }

    #[test]
    fn training_lowers_the_common_loss_and_moves_only_what_the_round_trains() {
        let (scenario, learner) = learner();
        let both = task(&scenario, Trainable::Both);
        let start = both.adapter.values().to_vec();
        let trained = learner.train(5, &both);
        let moved: Vec<f32> = start
            .iter()
            .zip(&trained.delta)
            .map(|(v, d)| v + d)
            .collect();
        assert!(learner.loss(&moved) < learner.loss(&start));
        assert_eq!(trained.tokens, 64);
        assert_eq!(learner.train(5, &both).delta, trained.delta);

        let half = start.len() / 2;
        let only_b = learner.train(5, &task(&scenario, Trainable::B)).delta;
        assert!(only_b[..half].iter().all(|d| *d == 0.0));
        assert!(only_b[half..].iter().all(|d| *d != 0.0));
    }

    #[test]
    fn scores_add_up_to_the_measured_loss_drop() {
        let (scenario, learner) = learner();
        let task = task(&scenario, Trainable::Both);
        let vector = |peer| {
            let delta = learner.train(peer, &task).delta;
            let third: Vec<f32> = delta.iter().map(|d| d / 3.0).collect();
            ContributionVector::of(&third)
        };
        let mut contributions: Vec<(PeerId, ContributionVector)> = (4..7)
            .map(|peer| (PeerId(Digest::from_bytes([peer as u8; 32])), vector(peer)))
            .collect();
        contributions.sort_by_key(|(peer, _)| *peer);
        let sheet = learner.score(
            1,
            &ScoreTask {
                run: task.run,
                round: task.round,
                state: task.base,
                before: task.adapter.clone(),
                trainable: Trainable::Both,
                contributions: contributions.into(),
                public: Vec::new(),
                seed: Digest::default(),
                windows: 4,
            },
        );
        let sum: i64 = sheet.scores.iter().map(|s| s.score.0).sum();
        let drop = sheet.loss_before.0 - sheet.loss_after.0;
        assert!(drop > 0);
        assert!((sum - drop).abs() < drop / 10_000, "{sum} and {drop}");
    }
}
