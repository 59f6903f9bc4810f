//! The tables of the page.

use super::super::recipe::{BATCH, CONTEXT, ROUNDS, STEPS};
use super::super::{COALITIONS, MEMBERS};
use super::{Luck, REPETITIONS, SCORE_WINDOWS};
use tributary_simulations::markdown::table;

fn percent(part: f64) -> String {
    format!("{:.1}", 100.0 * part)
}

fn times(part: f64, of: f64) -> String {
    format!("{:.2}", part / of)
}

fn members(luck: &Luck) -> String {
    let heads = [
        "member",
        "payout, OPEN",
        "varies by, %",
        "Shapley value, nats",
        "varies by, %",
        "ratio",
    ];
    let row = |(at, member): (usize, &super::Member)| {
        vec![
            (at + 1).to_string(),
            format!("{:.3}", member.payout.mean / 1e6),
            percent(member.payout.variation),
            format!("{:.4}", member.shapley.mean),
            percent(member.shapley.variation),
            times(member.payout.variation, member.shapley.variation),
        ]
    };
    let rows: Vec<_> = luck.members.iter().enumerate().map(row).collect();
    table(&heads, &rows)
}

fn rules(luck: &Luck) -> String {
    let heads = [
        "rule",
        "equal members differ by, %",
        "of Shapley's",
        "from run to run, %",
        "of Shapley's",
        "payout error in the bank, %",
        "two names are paid",
    ];
    let mut rows = vec![vec![
        "Shapley values by retraining".to_owned(),
        percent(luck.between),
        "1.00".to_owned(),
        percent(luck.runs),
        "1.00".to_owned(),
        percent(luck.ceiling),
        "-".to_owned(),
    ]];
    rows.extend(luck.rules.iter().map(|paying| {
        vec![
            paying.rule.clone(),
            percent(paying.between),
            times(paying.between, luck.between),
            percent(paying.runs),
            times(paying.runs, luck.runs),
            paying.error.map_or("-".to_owned(), percent),
            format!("{:.3}", paying.split),
        ]
    }));
    table(&heads, &rows)
}

fn said(luck: &Luck) -> String {
    let row = |name: &str, nats: f64| vec![name.to_owned(), format!("{nats:.5}")];
    let said = luck.said;
    table(
        &["of a member over a run", "nats"],
        &[
            row("sum of scores, mean", said.score),
            row("luck by drawn signs", said.signs),
            row("luck by halves of the windows", said.halves),
            row(
                "standard deviation of the sum over repetitions",
                said.spread,
            ),
            row(
                "standard deviation of the Shapley value over repetitions",
                said.shapley,
            ),
        ],
    )
}

/// The tables as Markdown.
pub fn markdown(luck: &Luck, command: &str) -> String {
    format!(
        "From `{command}`. The bank's federation `alike`, {MEMBERS} members, repeated with {REPETITIONS} seeds; each of \
         {} retrainings has {ROUNDS} rounds of {STEPS} steps of {BATCH} windows of {CONTEXT} tokens. Rounds are scored on \
         {SCORE_WINDOWS} windows and paid by the ledger's arithmetic, up to 1 OPEN a round, 50 OPEN a nat.\n\n\
         Each member over the repetitions, under the shipped rule:\n\n{}\n\
         Ways of paying. Differences are standard deviations over means: of the members of one repetition (mean over \
         repetitions), and of one member's repetitions (mean over members). The payout error is that of \
         [`attribution.md`](attribution.md), over its twelve federations and five seeds. What two names are paid is over what one \
         would be, when a member gives each of them half of its text and of its updates:\n\n{}\n\
         What luck is said to be, and what it is:\n\n{}",
        REPETITIONS as usize * COALITIONS,
        members(luck),
        rules(luck),
        said(luck),
    )
}
