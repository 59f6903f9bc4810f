//! A statement for other programs: a line a posting as CSV, or a ledger that Beancount reads.
//!
//! Days are those that the authors of a round's receipts claim (UTC). OPEN of the test chain is a commodity of its own, so
//! that nobody adds it to money.

use std::fmt::Write as _;

use clap::ValueEnum;
use tributary_ledger::view::{PostingView, RunStatementView, StatementView, short};
use tributary_protocol::id::MicroOpen;

use crate::terminal::utc;

/// What a statement is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Export {
    /// Comma-separated values, a line a posting.
    Csv,
    /// A ledger for Beancount 3.
    Beancount,
}

pub(super) fn text(statement: &StatementView, export: Export) -> String {
    match export {
        Export::Csv => csv(statement),
        Export::Beancount => beancount(statement),
    }
}

fn csv(statement: &StatementView) -> String {
    let mut out = String::from("day,run,name,chain,round,capacity,receipt,micro_open\n");
    for run in &statement.runs {
        for posting in &run.postings {
            let _ = writeln!(
                out,
                "{},{},{},{},{},{},{},{}",
                day(posting.time_ms),
                run.run,
                field(&run.name),
                chain_of(run),
                posting.round,
                posting.capacity,
                posting.receipt,
                posting.micro_open,
            );
        }
    }
    out
}

/// A field in quotes: names are anything that shows, and a spreadsheet takes what begins with `=`, `+`, `-` or `@` for a
/// formula.
fn field(text: &str) -> String {
    let guard = match text.starts_with(['=', '+', '-', '@']) {
        true => "'",
        false => "",
    };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

fn chain_of(run: &RunStatementView) -> &str {
    match run.chain.as_str() {
        "" => "none",
        chain => chain,
    }
}

fn beancount(statement: &StatementView) -> String {
    let mut out = format!(
        ";; Statement of peer {}. Written by `tributary ledger statement --export beancount`.\n",
        statement.peer
    );
    let postings = statement.runs.iter().flat_map(|run| &run.postings);
    let Some(first) = postings.clone().map(|posting| posting.time_ms).min() else {
        out.push_str(";; Nothing was earned or paid yet.\n");
        return out;
    };
    for unit in ["OPEN", "TEST-OPEN"] {
        if statement.runs.iter().any(|run| unit_of(run) == unit) {
            let _ = writeln!(out, "{} commodity {unit}", day(first));
        }
    }
    for run in &statement.runs {
        ledger(&mut out, run);
    }
    out
}

/// One run: the accounts that its postings name, a transaction a posting, and what they come to.
fn ledger(out: &mut String, run: &RunStatementView) {
    let times = run.postings.iter().map(|posting| posting.time_ms);
    let (Some(first), Some(last)) = (times.clone().min(), times.max()) else {
        return;
    };
    let (unit, held) = (
        unit_of(run),
        format!("Assets:Tributary:Run-{}", short(&run.run)),
    );
    let mut others: Vec<String> = run.postings.iter().map(|p| other(run, p)).collect();
    others.sort_unstable();
    others.dedup();
    out.push('\n');
    for account in std::iter::once(&held).chain(&others) {
        let _ = writeln!(out, "{} open {account} {unit}", day(first));
    }
    for posting in &run.postings {
        let _ = writeln!(
            out,
            "\n{} * \"{}\" \"round {}, as {}\"",
            day(posting.time_ms),
            run.name.replace('\\', "\\\\").replace('"', "\\\""),
            posting.round,
            posting.capacity,
        );
        if !posting.receipt.is_empty() {
            let _ = writeln!(out, "  receipt: \"{}\"", posting.receipt);
        }
        let amount = open(i128::from(posting.micro_open));
        let opposite = open(-i128::from(posting.micro_open));
        let _ = writeln!(out, "  {held}  {amount} {unit}");
        let _ = writeln!(out, "  {}  {opposite} {unit}", other(run, posting));
    }
    let sum: i128 = run.postings.iter().map(|p| i128::from(p.micro_open)).sum();
    let after = day(last.saturating_add(86_400_000));
    let _ = writeln!(out, "\n{after} balance {held}  {} {unit}", open(sum));
}

/// What a posting comes from or goes to.
fn other(run: &RunStatementView, posting: &PostingView) -> String {
    let root = match posting.micro_open {
        ..0 => "Expenses",
        _ => "Income",
    };
    let capacity = posting.capacity.as_str();
    let (head, tail) = capacity.split_at(capacity.len().min(1));
    let capacity = format!("{}{tail}", head.to_uppercase());
    format!("{root}:Tributary:Run-{}:{capacity}", short(&run.run))
}

fn unit_of(run: &RunStatementView) -> &'static str {
    match run.chain.as_str() {
        "test" => "TEST-OPEN",
        _ => "OPEN",
    }
}

fn open(micro: i128) -> String {
    let sign = if micro < 0 { "-" } else { "" };
    format!("{sign}{}", MicroOpen(micro.unsigned_abs()))
}

fn day(time_ms: u64) -> String {
    utc::day(time_ms / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> StatementView {
        let posting = |day: u64, round, capacity: &str, micro_open| PostingView {
            time_ms: day * 86_400_000,
            round,
            capacity: capacity.to_owned(),
            receipt: "ab".repeat(32),
            micro_open,
        };
        let run = RunStatementView {
            run: "07".repeat(32),
            name: "=poets \"and\" others".to_owned(),
            chain: "test".to_owned(),
            postings: vec![
                posting(20_000, 1, "contributor", 1_500_000),
                posting(20_001, 2, "base-author", 1),
                posting(20_001, 2, "sponsor", -2_000_000),
            ],
            ..RunStatementView::default()
        };
        StatementView {
            peer: "cd".repeat(32),
            runs: vec![run],
            total_micro_open: -499_999,
        }
    }

    #[test]
    fn a_posting_is_a_line_of_csv_whose_names_are_no_formulas() {
        let text = text(&statement(), Export::Csv);
        let mut lines = text.lines();
        assert_eq!(
            lines.next(),
            Some("day,run,name,chain,round,capacity,receipt,micro_open")
        );
        let first = lines.next().expect("a posting");
        assert!(first.starts_with("2024-10-04,0707"), "{first}");
        assert!(first.contains(",\"'=poets \"\"and\"\" others\",test,1,contributor,"));
        assert!(first.ends_with(",1500000"));
        assert_eq!(lines.count(), 2);
    }

    #[test]
    fn transactions_of_a_beancount_ledger_sum_to_zero_and_end_with_a_balance() {
        let text = text(&statement(), Export::Beancount);
        let expected = [
            "2024-10-04 commodity TEST-OPEN",
            "2024-10-04 open Assets:Tributary:Run-0707070707 TEST-OPEN",
            "2024-10-04 open Income:Tributary:Run-0707070707:Base-author TEST-OPEN",
            "2024-10-04 * \"=poets \\\"and\\\" others\" \"round 1, as contributor\"",
            "  Income:Tributary:Run-0707070707:Contributor  -1.500000 TEST-OPEN",
            "  Expenses:Tributary:Run-0707070707:Sponsor  2.000000 TEST-OPEN",
            "2024-10-06 balance Assets:Tributary:Run-0707070707  -0.499999 TEST-OPEN",
        ];
        for line in expected {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_statement_without_postings_is_a_comment() {
        let empty = StatementView::default();
        assert!(
            text(&empty, Export::Beancount)
                .lines()
                .all(|line| line.starts_with(";;"))
        );
    }
}
