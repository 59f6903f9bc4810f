//! The manifest of a scenario's run: what all its members agree on.

use tributary_attribution::run_books::test_terms;
use tributary_attribution::settlement::Address;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{MicroOpen, PeerId, Ppb};
use tributary_protocol::limits;
use tributary_protocol::manifest::{
    Deadlines, Manifest, ManifestError, Membership, Model, Payment, Privacy, RevenueSplit,
    RoundPlan, RoundSplit, Scoring, Training, Updates, Version,
};

use super::{ChainName, RunPlan, Scenario, WeightsName};
use crate::learner::Subject;

/// The manifest of a run of `creator` by a seed. `evaluators` come in any order.
pub(crate) fn manifest(
    scenario: &Scenario,
    subject: Subject,
    seed: u64,
    creator: PeerId,
    mut evaluators: Vec<PeerId>,
) -> Manifest {
    evaluators.sort_unstable();
    let run = &scenario.run;
    Manifest {
        version: Version::V1,
        name: scenario.name.clone(),
        creator,
        nonce: seed,
        datanet: subject.datanet,
        training: Training {
            local_steps: scenario.learner.steps,
            batch: subject.batch,
            context: subject.context,
            learning_rate: Ppb((scenario.learner.learning_rate * 1e9) as u32),
            schedule: run.schedule.schedule(),
        },
        model: Model {
            base: subject.base,
            adapter: subject.adapter,
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
            aggregation: run.aggregation.aggregation(run.tolerate),
            weights: run.weights.weights(run.full_weight_tokens),
            privacy: Privacy::Open,
        },
        scoring: Scoring {
            evaluators: match run.weights {
                WeightsName::Stake => Vec::new(),
                WeightsName::Trained | WeightsName::Own => evaluators,
            },
            windows: subject.windows,
            seats: run.evaluator_seats,
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
        // What a scenario compares are contributors.
        round: RoundSplit::CONTRIBUTORS,
        revenue: RevenueSplit {
            contributors: Ppb(700_000_000),
            base_author: Ppb(100_000_000),
            server: Ppb(100_000_000),
            committee: Ppb(50_000_000),
            stakers: Ppb(50_000_000),
        },
        base_account: None,
        settlement: None,
    }
}

/// Whether peers would open a run with these settings: a manifest that they refuse begins no run at all.
pub(super) fn check(scenario: &Scenario, subject: Subject) -> Result<(), String> {
    let named = |nth: usize| PeerId(Digest::from_bytes([nth as u8; 32]));
    let evaluators = (1..=scenario.evaluators).map(named).collect();
    let mut manifest = manifest(scenario, subject, scenario.seed, named(0), evaluators);
    if scenario.run.chain != ChainName::None {
        let sponsor = Address([1; 20]);
        manifest.payment.settlement = Some(test_terms(sponsor, &manifest));
    }
    manifest.check().map_err(|why| match why {
        ManifestError::Range {
            field,
            found,
            min,
            max,
        } => format!(
            "`{}` is {found}, but must lie between {min} and {max}",
            key(field)
        ),
        other => other.to_string(),
    })
}

/// The scenario's key for a setting of a manifest.
fn key(field: &str) -> String {
    match field {
        "name" | "rounds" | "evaluators" => field.to_owned(),
        "training.local_steps" => "learner.steps".to_owned(),
        "score_windows" => "learner.windows".to_owned(),
        _ => match field.split_once('.') {
            Some(("training", rest)) => format!("learner.{rest}"),
            Some(("deadlines", rest)) => format!("run.{rest}"),
            _ => format!("run.{field}"),
        },
    }
}
