//! Every setting has bounds, and every refusal says which setting and what to do.

use super::*;
use crate::id::MicroOpen;
use crate::test_utils::fixture::{manifest, peer};

fn refusal(change: impl FnOnce(&mut Manifest)) -> ManifestError {
    let mut manifest = manifest();
    change(&mut manifest);
    manifest.check().expect_err("must be refused")
}

#[test]
fn a_sound_manifest_passes() {
    assert_eq!(manifest().check(), Ok(()));
    let mut without_judges = manifest();
    without_judges.scoring.evaluators.clear();
    assert_eq!(without_judges.check(), Ok(()));
}

#[test]
fn every_setting_out_of_bounds_is_named() {
    type Change = fn(&mut Manifest);
    let cases: [(&str, Change); 29] = [
        ("name", |m| m.name.clear()),
        ("name", |m| m.name = "tab\there".into()),
        ("base.name", |m| m.model.base.name = "b".repeat(65)),
        ("datanet", |m| m.datanet.clear()),
        ("adapter", |m| m.model.adapter.rank = 0),
        ("rounds", |m| m.plan.rounds = 0),
        ("rounds", |m| m.plan.rounds = u32::MAX),
        ("training.local_steps", |m| m.training.local_steps = 0),
        ("training.batch", |m| m.training.batch = 0),
        ("training.context", |m| m.training.context = 1),
        ("training.learning_rate", |m| {
            m.training.learning_rate = Ppb(0)
        }),
        ("codec.top", |m| {
            m.updates.codec = UpdateCodec::Sparse {
                top: 0,
                feedback: Ppb(0),
            }
        }),
        ("codec.top", |m| {
            m.updates.codec = UpdateCodec::Sparse {
                top: 4097,
                feedback: Ppb(0),
            }
        }),
        ("codec.feedback", |m| {
            m.updates.codec = UpdateCodec::Sparse {
                top: 1,
                feedback: Ppb(1_000_000_001),
            };
        }),
        ("evaluators", |m| m.scoring.evaluators.reverse()),
        ("evaluators", |m| m.scoring.evaluators = vec![peer(2); 2]),
        ("evaluators", |m| {
            m.scoring.evaluators = (0..33).map(peer).collect()
        }),
        ("score_windows", |m| m.scoring.windows = 0),
        ("committee", |m| m.membership.committee = 0),
        ("min_members", |m| m.membership.min_members = 0),
        ("min_contributions", |m| m.plan.min_contributions = 0),
        ("min_contributions", |m| {
            m.plan.min_contributions = m.membership.min_members + 1
        }),
        ("participants", |m| m.plan.participants = 0),
        ("participants", |m| m.plan.participants = 65),
        ("min_contributions", |m| {
            (
                m.membership.min_members,
                m.plan.min_contributions,
                m.plan.participants,
            ) = (8, 8, 7)
        }),
        ("deadlines.vote_ms", |m| m.plan.deadlines.vote_ms = 0),
        ("budget_per_round", |m| {
            m.payment.budget_per_round = MicroOpen(u128::MAX)
        }),
        ("price_per_nat", |m| m.payment.price_per_nat = MicroOpen(0)),
        ("price_per_nat", |m| {
            m.payment.price_per_nat = MicroOpen(u128::MAX)
        }),
    ];
    for (field, change) in cases {
        assert_eq!(refusal(change).field(), field);
    }
}

#[test]
fn a_revenue_split_that_misses_the_whole_says_by_how_much() {
    let error = refusal(|m| m.payment.revenue.server.0 -= 5);
    assert_eq!(error, ManifestError::Revenue { sum: 999_999_995 });
    assert!(error.to_string().ends_with("stakers by 5"), "{error}");
    let error = refusal(|m| m.payment.revenue.server.0 += 5);
    assert!(error.to_string().ends_with("stakers by -5"), "{error}");
}

#[test]
fn messages_say_what_to_do() {
    let shown = refusal(|m| m.plan.rounds = 0).to_string();
    assert_eq!(
        shown,
        "`rounds` is 0, but must lie between 1 and 100000; change it in the run's file"
    );
}

#[test]
fn a_run_that_pays_nothing_needs_no_price() {
    let mut unpaid = manifest();
    (
        unpaid.payment.budget_per_round,
        unpaid.payment.price_per_nat,
    ) = (MicroOpen(0), MicroOpen(0));
    assert_eq!(unpaid.check(), Ok(()));
}

/// A run whose updates are masked, with nothing that looks at a single one.
fn masked(m: &mut Manifest) {
    m.updates.privacy = Privacy::Masked { cohort: 3 };
    m.updates.aggregation = Aggregation::Mean;
    m.updates.codec = UpdateCodec::DenseInt8;
    m.scoring.evaluators.clear();
    (m.membership.min_members, m.plan.min_contributions) = (3, 3);
    m.plan.participants = 3;
    m.payment.budget_per_round = MicroOpen(0);
    let revenue = &mut m.payment.revenue;
    revenue.server.0 += std::mem::take(&mut revenue.contributors.0);
}

#[test]
fn masked_updates_go_with_nothing_that_looks_at_a_single_one() {
    type Change = fn(&mut Manifest);
    let cases: [(&str, Change); 7] = [
        ("aggregation", |m| {
            m.updates.aggregation = Aggregation::ClippedMean
        }),
        ("codec", |m| {
            m.updates.codec = UpdateCodec::Sparse {
                top: 64,
                feedback: Ppb(0),
            }
        }),
        ("evaluators", |m| m.scoring.evaluators = vec![peer(2)]),
        ("budget_per_round", |m| {
            m.payment.budget_per_round = MicroOpen(1)
        }),
        ("revenue.contributors", |m| {
            (m.payment.revenue.contributors.0, m.payment.revenue.server.0) = (1, 0);
            m.payment.revenue.base_author = Ppb(0);
            m.payment.revenue.committee = Ppb(0);
            m.payment.revenue.stakers.0 = Ppb::ONE.0 - 1;
        }),
        ("min_contributions", |m| {
            m.updates.privacy = Privacy::Masked { cohort: 4 }
        }),
        ("privacy.cohort", |m| {
            m.updates.privacy = Privacy::Masked { cohort: 2 }
        }),
    ];
    for (field, change) in cases {
        let error = refusal(|m| {
            masked(m);
            change(m);
        });
        assert_eq!(error.field(), field, "{error}");
    }
    assert_eq!(refusal(masked), ManifestError::Unbuilt);
}

#[test]
fn a_manifest_too_long_for_a_block_is_refused() {
    let error = refusal(|m| {
        let module = m.model.adapter.modules[0].clone();
        m.model.adapter.modules = (0..600)
            .map(|n| crate::adapter::Module {
                name: format!("{:0>100}", n),
                ..module.clone()
            })
            .collect();
    });
    assert!(
        matches!(error, ManifestError::TooLong { found } if found > 60_000),
        "{error}"
    );
}
