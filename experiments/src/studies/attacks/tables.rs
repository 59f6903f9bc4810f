//! The tables of the page.

use std::fmt::Write as _;

use serde::Serialize;
use tributary_attribution::interval::Interval;

use super::{
    BATCH, CLEAN, CONTEXT, HELD, Lie, Plan, RANK, ROUNDS, Results, SEEDS, STEPS, Withstood,
};
use tributary_simulations::behave::update::Attack;
use tributary_simulations::catalogue::TOLERATE;
use tributary_simulations::markdown::{over_seeds, table, with_half};

/// One attack against one rule, means over seeds with half widths of 95 % intervals.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    rule: String,
    attack: Option<String>,
    attackers: usize,
    /// Loss above that of the plain mean without attackers and with the same seed, per cent of it.
    worse_percent: Option<[f64; 2]>,
    /// How much of what is learnt without attackers is lost, per cent.
    lost_percent: Option<[f64; 2]>,
    /// The attackers' credit, per cent of a fair share.
    credit_percent: Option<[f64; 2]>,
    /// The least that an honest member keeps of its weight, per cent, least over seeds.
    least_voice_percent: f64,
    /// Backdoor: probability of the phrase's tokens after the trigger, per cent.
    phrase_percent: Option<[f64; 2]>,
    /// Updates refused, all seeds together.
    refused: u32,
}

/// A rule and an attack's cells by seed, once all are there.
fn by_seed<'a>(
    plan: &Plan,
    results: &'a Results<Withstood>,
    rule: &str,
    attack: Option<(Lie, usize)>,
) -> Option<Vec<&'a Withstood>> {
    SEEDS
        .map(|seed| results.get(&plan.cell_name(rule, attack, seed)))
        .into_iter()
        .collect()
}

fn pair(figures: Vec<Option<f64>>) -> Option<[f64; 2]> {
    over_seeds(&figures).map(|found| [found.mean, found.half])
}

fn figure(
    plan: &Plan,
    results: &Results<Withstood>,
    rule: &str,
    attack: Option<(Lie, usize)>,
) -> Option<Figure> {
    let cells = by_seed(plan, results, rule, attack)?;
    let clean = by_seed(plan, results, CLEAN, None)?;
    let with_clean = |of: &dyn Fn(f64, f64, f64) -> f64| {
        let pairs = cells.iter().zip(&clean);
        pair(
            pairs
                .map(|(cell, clean)| Some(of(cell.loss?, clean.loss?, cell.base_loss)))
                .collect(),
        )
    };
    let percent = |of: &dyn Fn(&Withstood) -> Option<f64>| {
        pair(cells.iter().map(|cell| Some(100.0 * of(cell)?)).collect())
    };
    let voices = cells.iter().map(|cell| cell.least_voice);
    Some(Figure {
        rule: rule.to_owned(),
        attack: attack.map(|(lie, _)| lie.name()),
        attackers: attack.map_or(0, |(_, attackers)| attackers),
        worse_percent: with_clean(&|loss, clean, _| 100.0 * (loss / clean - 1.0)),
        lost_percent: with_clean(&|loss, clean, base| 100.0 * (loss - clean) / (base - clean)),
        credit_percent: percent(&|cell| cell.credit),
        least_voice_percent: 100.0 * voices.fold(f64::INFINITY, f64::min),
        phrase_percent: percent(&|cell| cell.phrase),
        refused: cells.iter().map(|cell| cell.refused).sum(),
    })
}

/// Every figure that is complete.
pub fn figures(plan: &Plan, results: &Results<Withstood>, rules: &[&str]) -> Vec<Figure> {
    let mut attacks = vec![None];
    for attackers in &plan.attackers {
        attacks.extend(Lie::all().into_iter().map(|lie| Some((lie, *attackers))));
    }
    (attacks.into_iter())
        .flat_map(|attack| {
            rules
                .iter()
                .filter_map(move |rule| figure(plan, results, rule, attack))
        })
        .collect()
}

/// The figures as Markdown.
pub fn markdown(
    plan: &Plan,
    results: &Results<Withstood>,
    rules: &[&str],
    command: &str,
) -> String {
    let figures = figures(plan, results, rules);
    let members = plan.members;
    let mut out = format!("From `{command}`. {}\n", setting(plan, results));
    for attackers in plan.attackers.iter().copied() {
        let here: Vec<&Figure> = figures
            .iter()
            .filter(|f| f.attackers == attackers)
            .collect();
        if here.is_empty() {
            continue;
        }
        let _ = write!(
            out,
            "\n### {attackers} attackers of {members} ({:.0} %)\n\nLoss above clean, %:\n\n",
            100.0 * attackers as f64 / members as f64
        );
        out.push_str(&crossed(&here, rules, |f| {
            of_pair(f.worse_percent, 1, "diverged")
        }));
        out.push_str("\nCredit of the attackers, % of a fair share:\n\n");
        out.push_str(&crossed(&here, rules, |f| {
            of_pair(f.credit_percent, 0, "none paid")
        }));
    }
    out.push_str("\n### Success\n\n");
    out.push_str(&success(plan, &figures, rules));
    out.push_str("\n### Rules\n\n");
    out.push_str(&worst(plan, &figures, rules));
    out
}

fn setting(plan: &Plan, results: &Results<Withstood>) -> String {
    let clean = by_seed(plan, results, CLEAN, None);
    let losses = clean.map_or(String::new(), |clean| {
        let losses: Vec<Option<f64>> = clean.iter().map(|cell| cell.loss).collect();
        let loss = over_seeds(&losses).map_or(f64::NAN, |found| found.mean);
        format!(
            " Without attackers the mean takes the loss from {:.3} to {loss:.3} nats per token.",
            clean[0].base_loss
        )
    });
    format!(
        "{} members, {ROUNDS} rounds of {STEPS} steps of {BATCH} windows of {CONTEXT} tokens, {HELD} windows \
         each from a Dirichlet(0.5) mix of {} of rank {RANK}, factors in turns, 256 numbers of \
         a chunk. Robust rules are told to tolerate {:.0} %. Seeds {}; intervals are Student's 95 % over them. \
         *Clean* is the plain mean of the same members, all honest, with the same seed.{losses}",
        plan.members,
        plan.ground.words("seven domains", "a tiny model"),
        100.0 * TOLERATE.as_f64(),
        SEEDS.map(|seed| seed.to_string()).join(", "),
    )
}

fn of_pair(pair: Option<[f64; 2]>, digits: usize, otherwise: &str) -> String {
    let interval = pair.map(|[mean, half]| Interval { mean, half });
    with_half(interval, digits, otherwise)
}

/// Attacks down, rules across.
fn crossed(figures: &[&Figure], rules: &[&str], cell: impl Fn(&Figure) -> String) -> String {
    let rows: Vec<Vec<String>> = (Lie::all().iter())
        .map(|lie| {
            let name = lie.name();
            let mut row = vec![name.clone()];
            row.extend(rules.iter().map(|rule| {
                let found =
                    (figures.iter()).find(|f| f.attack.as_ref() == Some(&name) && f.rule == *rule);
                found.map_or("not run".to_owned(), |figure| cell(figure))
            }));
            row
        })
        .collect();
    let mut heads = vec!["attack"];
    heads.extend(rules);
    table(&heads, &rows)
}

/// How far the attackers got with what they wanted, at a fifth and a third.
fn success(plan: &Plan, figures: &[Figure], rules: &[&str]) -> String {
    let mut rows = Vec::new();
    for attackers in plan.attackers.iter().copied() {
        for lie in Lie::all().into_iter().filter(|lie| lie.attack.is_hostile()) {
            let name = lie.name();
            let of = |rule: &str| {
                figures.iter().find(|f| {
                    f.attackers == attackers && f.attack.as_ref() == Some(&name) && f.rule == rule
                })
            };
            let what = match lie.attack {
                Attack::Backdoor => "probability of the phrase, %",
                Attack::NotFinite => "updates that got in",
                _ => "learning undone, %",
            };
            let sent = attackers as u32 * ROUNDS * SEEDS.len() as u32;
            let cell = |f: &Figure| match lie.attack {
                Attack::Backdoor => of_pair(f.phrase_percent, 1, "none"),
                Attack::NotFinite => format!("{} of {sent}", sent - f.refused.min(sent)),
                _ => of_pair(f.lost_percent, 0, "all"),
            };
            let mut row = vec![attackers.to_string(), name.clone(), what.to_owned()];
            row.extend((rules.iter()).map(|rule| of(rule).map_or("not run".to_owned(), cell)));
            rows.push(row);
        }
    }
    let mut heads = vec!["attackers", "attack", "success"];
    heads.extend(rules);
    table(&heads, &rows)
}

/// Each rule at its worst.
fn worst(plan: &Plan, figures: &[Figure], rules: &[&str]) -> String {
    let rows: Vec<Vec<String>> = (rules.iter())
        .map(|rule| {
            let of = |attackers: usize| {
                figures
                    .iter()
                    .filter(move |f| f.rule == *rule && f.attackers == attackers)
            };
            let clean = of(0).next();
            let mut row = vec![(*rule).to_owned()];
            row.push(clean.map_or(String::new(), |f| of_pair(f.worse_percent, 2, "diverged")));
            row.push(clean.map_or(String::new(), |f| format!("{:.0}", f.least_voice_percent)));
            for attackers in plan.attackers.iter().copied() {
                let worst = of(attackers).max_by(|a, b| {
                    let worse =
                        |f: &Figure| f.worse_percent.map_or(f64::INFINITY, |[mean, _]| mean);
                    worse(a).total_cmp(&worse(b))
                });
                row.push(worst.map_or(String::new(), |f| {
                    let worse = of_pair(f.worse_percent, 1, "diverged");
                    format!("{worse} ({})", f.attack.as_deref().unwrap_or_default())
                }));
            }
            let attacked = figures
                .iter()
                .filter(|f| f.rule == *rule && f.attackers > 0);
            let least = attacked
                .map(|f| f.least_voice_percent)
                .fold(f64::INFINITY, f64::min);
            row.push(if least.is_finite() {
                format!("{least:.0}")
            } else {
                String::new()
            });
            row
        })
        .collect();
    let mut heads = vec![
        "rule".to_owned(),
        "without attackers: loss above clean, %".to_owned(),
        "least voice of a member, %".to_owned(),
    ];
    let numbers = plan.attackers.iter();
    heads.extend(numbers.map(|attackers| format!("worst with {attackers} attackers, %")));
    heads.push("least voice of an honest member, any attack, %".to_owned());
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    table(&heads, &rows)
}
