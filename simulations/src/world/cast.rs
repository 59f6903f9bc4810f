//! Who takes part, with which key, clock and speed, and the manifest that they all agree on.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tributary_attribution::run_books::test_terms;
use tributary_protocol::entry::Role;
use tributary_protocol::hash::{Domain, Hasher};
use tributary_protocol::manifest::{Manifest, RoundSplit, Weights};
use tributary_protocol::sign::SecretKey;

use crate::learner::Learner;
use crate::machine::Machine;
use crate::scenario::{self, ChainName, Scenario};

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
            false if at + scenario.names() >= scenario.peers => Role::Both,
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

/// What they all agree on.
pub(super) fn manifest(
    scenario: &Scenario,
    seed: u64,
    machines: &[Machine],
    learner: &dyn Learner,
) -> Manifest {
    let evaluators = (machines.iter())
        .filter(|m| m.role == Role::Evaluator)
        .map(|m| m.id)
        .collect();
    let subject = learner.subject(&scenario.learner);
    let creator = &machines[0];
    let mut manifest =
        scenario::manifest::manifest(scenario, subject, seed, creator.id, evaluators);
    if scenario.run.chain != ChainName::None {
        let sponsor = super::settle::account(creator.seed).address();
        manifest.payment.round = RoundSplit::default();
        manifest.payment.settlement = Some(test_terms(sponsor, &manifest));
    }
    if let (ChainName::Modelled, Some(settlement)) =
        (scenario.run.chain, &mut manifest.payment.settlement)
    {
        settlement.chain = super::modelled::chain();
        let least = super::modelled::LEAST;
        manifest.updates.weights = Weights::Stake { least };
    }
    manifest
}
