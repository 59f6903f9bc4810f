//! Who takes part, with which key, clock and speed, and the manifest that they all agree on.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tributary_protocol::adapter::{AdapterShape, Module};
use tributary_protocol::entry::Role;
use tributary_protocol::hash::{self, Domain, Hasher};
use tributary_protocol::id::{MicroOpen, PeerId, Ppb};
use tributary_protocol::limits;
use tributary_protocol::manifest::{
    Base, Deadlines, Manifest, Membership, Model, Payment, Privacy, RevenueSplit, RoundPlan,
    Scoring, Training, Updates, Version,
};
use tributary_protocol::sign::SecretKey;

use crate::machine::Machine;
use crate::scenario::{RunPlan, Scenario};

/// Peer 0 creates the run and trains; the evaluators follow; then everyone else; late joiners last.
pub(super) fn machines(scenario: &Scenario, seed: u64, rng: &mut ChaCha8Rng) -> Vec<Machine> {
    let mut out = Vec::with_capacity(scenario.peers);
    for at in 0..scenario.peers {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"key").update(&seed.to_le_bytes());
        hasher.update(&(at as u64).to_le_bytes());
        let key_seed = *hasher.finalize().as_bytes();
        let id = SecretKey::from_seed(key_seed).peer_id();
        let role = match (1..=scenario.evaluators).contains(&at) {
            true => Role::Evaluator,
            false => Role::Contributor,
        };
        let mut machine = Machine::new(key_seed, id, role);
        let spread = (scenario.learner.train_spread * 1_000.0) as i64;
        machine.slowness = (1_000 + rng.random_range(-spread..=spread)).max(50) as u64;
        let drift = scenario.clock.drift_ppm as i64;
        machine.drift_ppm = rng.random_range(-drift..=drift);
        let skew = scenario.clock.skew_s as i64 * 1_000;
        machine.skew_ms = rng.random_range(-skew..=skew);
        out.push(machine);
    }
    out
}

pub(super) fn manifest(scenario: &Scenario, seed: u64, machines: &[Machine]) -> Manifest {
    let half = (scenario.learner.dimension / 2) as u32;
    let mut evaluators: Vec<PeerId> = (machines.iter())
        .filter(|m| m.role == Role::Evaluator)
        .map(|m| m.id)
        .collect();
    evaluators.sort_unstable();
    let run = &scenario.run;
    Manifest {
        version: Version::V1,
        name: scenario.name.clone(),
        creator: machines[0].id,
        nonce: seed,
        datanet: "bowls".into(),
        training: Training {
            local_steps: scenario.learner.steps,
            batch: 1,
            context: 16,
            learning_rate: Ppb((scenario.learner.learning_rate * 1e9) as u32),
            schedule: run.schedule.schedule(),
        },
        model: Model {
            base: Base {
                name: "quadratic".into(),
                hash: hash::digest(Domain::Simulation, b"quadratic"),
            },
            adapter: AdapterShape {
                rank: 1,
                alpha: 1,
                modules: vec![Module {
                    name: "bowl".into(),
                    inputs: half,
                    outputs: half,
                }],
            },
        },
        plan: RoundPlan {
            rounds: scenario.rounds,
            min_contributions: run.min_contributions,
            participants: run.participants,
            deadlines: Deadlines {
                round_ms: run.round_ms,
                grace_ms: run.grace_ms,
                propose_ms: run.propose_ms,
                vote_ms: run.vote_ms,
            },
        },
        updates: Updates {
            codec: run.codec.codec(),
            aggregation: run.aggregation.aggregation(),
            weights: run.weights.weights(),
            privacy: Privacy::Open,
        },
        scoring: Scoring {
            evaluators,
            windows: 4,
        },
        membership: Membership {
            committee: run.committee,
            min_members: run.min_members,
        },
        payment: payment(run),
    }
}

fn payment(run: &RunPlan) -> Payment {
    Payment {
        budget_per_round: MicroOpen(u128::from(run.budget_per_round)),
        price_per_nat: match run.price_per_nat {
            0 => MicroOpen(limits::MAX_PRICE_MICRO_OPEN),
            price => MicroOpen(u128::from(price)),
        },
        revenue: RevenueSplit {
            contributors: Ppb(700_000_000),
            base_author: Ppb(100_000_000),
            server: Ppb(100_000_000),
            committee: Ppb(50_000_000),
            stakers: Ppb(50_000_000),
        },
    }
}
