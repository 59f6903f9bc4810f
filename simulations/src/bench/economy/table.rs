//! What was played, for people and for programs.

use serde_json::{Value, json};

use super::{Bound, Case, Plan, Played, Stage};

/// A part of one in per cent, with its sign.
fn percent(part: Option<f64>) -> String {
    part.map_or("none".to_owned(), |part| format!("{:+.2} %", 100.0 * part))
}

/// The table: a heading, then a row for each strategy.
pub fn rows(cases: &[Case]) -> Vec<Vec<String>> {
    let heading = [
        "strategy", "members", "honest", "paid", "median", "worst", "others", "bound",
    ];
    let mut out = vec![heading.map(str::to_owned).to_vec()];
    for case in cases {
        let middle = |of: fn(&Played) -> i128| {
            let mut all: Vec<i128> = case.seeds.iter().map(of).collect();
            all.sort_unstable();
            let middle = all.get(all.len() / 2);
            middle.map_or(String::new(), |micro| format!("{:.6}", *micro as f64 / 1e6))
        };
        let bound = match case.strategy.bound {
            Bound::Within(most) | Bound::Known(most, _) => percent(Some(most)),
            Bound::Beyond(_) => "none".to_owned(),
        };
        out.push(vec![
            case.strategy.name.to_owned(),
            case.members.to_string(),
            middle(|seed| seed.honest),
            middle(|seed| seed.paid),
            percent(case.median()),
            percent(case.worst()),
            percent(case.others()),
            bound,
        ]);
    }
    out
}

/// Everything, seed by seed; amounts are micro-OPEN, profits parts of one.
pub fn json(plan: &Plan, cases: &[Case]) -> Value {
    // A run's amounts are far below what a number of JSON holds exactly.
    let micro = |amount: i128| i64::try_from(amount).unwrap_or(i64::MAX);
    let seed = |played: &Played| {
        json!({
            "seed": played.seed,
            "digest": played.digest,
            "honest_micro_open": micro(played.honest),
            "paid_micro_open": micro(played.paid),
            "profit": played.profit(),
            "others_honest_micro_open": micro(played.others_honest),
            "others_paid_micro_open": micro(played.others),
            "others_change": played.others_change(),
            "honest_loss": played.loss.map(|(honest, _)| honest),
            "loss": played.loss.map(|(_, own)| own),
            "violations": played.broken,
        })
    };
    let case = |case: &Case| {
        let (bound, reason) = match case.strategy.bound {
            Bound::Within(most) => (Some(most), None),
            Bound::Known(most, why) => (Some(most), Some(why)),
            Bound::Beyond(why) => (None, Some(why)),
        };
        json!({
            "strategy": case.strategy.name,
            "about": case.strategy.about,
            "scenario": case.strategy.stage.scenario(),
            "members": case.members,
            "bound": bound,
            "reason": reason,
            "within_bound": case.is_bounded(),
            "median": case.median(),
            "worst": case.worst(),
            "others_median": case.others(),
            "seeds": case.seeds.iter().map(seed).collect::<Vec<_>>(),
        })
    };
    json!({
        "schema": "sim-economy/1",
        "scenario": Stage::Invited.scenario(),
        "rounds": plan.rounds,
        "strategies": cases.iter().map(case).collect::<Vec<_>>(),
    })
}
