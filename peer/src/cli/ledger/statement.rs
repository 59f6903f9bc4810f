//! `tributary ledger statement`, as people read it.

use tributary_ledger::account::short_receipt;
use tributary_ledger::view::{ChangeView, PeriodView, RunStatementView, StatementView, short};

use crate::terminal::output::{Align, Table};
use crate::view::tables::not_yet;

pub(super) fn text(statement: &StatementView, call: &str) -> String {
    let mut out = format!("peer   {}\n", statement.peer);
    for run in &statement.runs {
        out.push_str(&format!("\nrun {} ({})\n", short(&run.run), run.name));
        if !run.lines.is_empty() {
            out.push_str(&lines(run));
        }
        if !run.unscored.is_empty() {
            let rounds: Vec<String> = run.unscored.iter().map(u32::to_string).collect();
            out.push_str(&format!(
                "  not scored, too few evaluators answered: round {}\n",
                rounds.join(", ")
            ));
        }
        if run.periods.len() > 1 {
            out.push_str(&periods(&run.periods));
        }
        if run.closing_micro_open > 0 {
            out.push_str(&format!(
                "  of what had waited, when the run closed: {} micro-OPEN\n",
                run.closing_micro_open
            ));
        }
        for account in &run.accounts {
            out.push_str(&format!(
                "  as {:<12} {} micro-OPEN\n",
                account.capacity, account.micro_open
            ));
        }
    }
    out.push_str(&format!(
        "\ntotal  {} micro-OPEN\n",
        statement.total_micro_open
    ));
    if let Some(line) = statement
        .runs
        .iter()
        .flat_map(|run| run.lines.last())
        .last()
    {
        out.push_str(&format!(
            "\nwhy a round paid what it did: {call} ledger explain {}\n",
            short_receipt(&line.receipt)
        ));
    }
    out
}

fn milli(nano: i64) -> f64 {
    nano as f64 * 1e-6
}

fn lines(run: &RunStatementView) -> String {
    let mut table = Table::new(&[
        ("round", Align::Right),
        ("score (mnat)", Align::Right),
        ("interval", Align::Right),
        ("luck", Align::Right),
        ("credit", Align::Right),
        ("micro-OPEN", Align::Right),
        ("receipt", Align::Left),
        ("", Align::Left),
    ]);
    for line in &run.lines {
        table.row([
            line.round.to_string(),
            format!("{:+.3}", milli(line.score_nanonats)),
            format!(
                "{:+.3} .. {:+.3}",
                milli(line.low_nanonats),
                milli(line.high_nanonats)
            ),
            format!("{:.3}", milli(line.luck_nanonats)),
            format!("{:.4}", line.credit as f64 * 1e-9),
            line.micro_open.to_string(),
            short_receipt(&line.receipt),
            match line.unfunded {
                true => "unfunded".to_owned(),
                false => not_yet(line.score_nanonats, line.beyond_luck).to_owned(),
            },
        ]);
    }
    table.render()
}

/// The periods, and below them what changed from each to the next.
fn periods(periods: &[PeriodView]) -> String {
    let mut table = Table::new(&[
        ("rounds", Align::Left),
        ("took part", Align::Right),
        ("own score a round (mnat)", Align::Right),
        ("others, positive", Align::Right),
        ("micro-OPEN", Align::Right),
        ("change", Align::Right),
    ]);
    for period in periods {
        let paid = period.taken + period.absent + period.not_beyond_luck;
        let all = paid + period.unscored + period.without_gain;
        let change = period.change.as_ref();
        table.row([
            span(period),
            format!("{} of {all}", period.taken),
            format!("{:+.3}", milli(period.score_nanonats)),
            format!("{:+.3}", milli(period.others_nanonats)),
            period.micro_open.to_string(),
            change.map_or_else(String::new, |change| format!("{:+}", change.micro_open)),
        ]);
    }
    let mut out = format!("\n{}", table.render());
    for pair in periods.windows(2) {
        if let Some(change) = &pair[1].change {
            out.push_str(&format!(
                "  {} after {}: {}\n",
                span(&pair[1]),
                span(&pair[0]),
                causes(change)
            ));
        }
    }
    out.push('\n');
    out
}

fn span(period: &PeriodView) -> String {
    match period.first == period.last {
        true => period.first.to_string(),
        false => format!("{} to {}", period.first, period.last),
    }
}

/// The causes that did something, the largest first.
fn causes(change: &ChangeView) -> String {
    let mut found: Vec<_> = change.causes.iter().filter(|c| c.micro_open != 0).collect();
    found.sort_by_key(|cause| std::cmp::Reverse(cause.micro_open.unsigned_abs()));
    if found.is_empty() {
        return "no change".to_owned();
    }
    let words = found.into_iter().map(|cause| {
        let word = match cause.cause.as_str() {
            "length" => "rounds in the period",
            "unscored" => "rounds nobody scored",
            "no-gain" => "rounds without a gain",
            "not-beyond-luck" => "rounds not beyond luck yet",
            "absent" => "rounds without a contribution",
            "own-score" => "own scores",
            "others-scores" => "others' scores",
            _ => "what a round is worth",
        };
        format!("{word} {:+}", cause.micro_open)
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_ledger::view::{CauseView, LineView};

    #[test]
    fn lines_and_causes_name_luck_where_it_decides() {
        let line = |beyond_luck| LineView {
            score_nanonats: 2_000_000,
            luck_nanonats: 750_000,
            beyond_luck,
            ..LineView::default()
        };
        let table = lines(&RunStatementView {
            lines: vec![line(false), line(true)],
            ..RunStatementView::default()
        });
        assert_eq!(table.matches("not yet beyond luck").count(), 1, "{table}");
        assert!(table.contains("0.750"), "{table}");
        let change = ChangeView {
            micro_open: -7,
            causes: vec![CauseView {
                cause: "not-beyond-luck".to_owned(),
                micro_open: -7,
            }],
        };
        assert_eq!(causes(&change), "rounds not beyond luck yet -7");
    }
}
