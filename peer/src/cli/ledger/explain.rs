//! `tributary ledger explain`, as people read it: station by station, each with how it was checked.

use tributary_ledger::view::explain::{CertificatePart, Explanation, StepPart};
use tributary_ledger::view::short;

use crate::terminal::output::{Align, Table, bytes};
use crate::view::tables::not_yet;

/// Columns that sentences are broken at.
const WIDTH: usize = 100;

pub(super) fn text(e: &Explanation) -> String {
    let mut out = format!(
        "round {} of run {} ({}), contribution of {} ({})\n",
        e.round,
        short(&e.run),
        e.run_name,
        e.name,
        short(&e.peer)
    );
    for (at, step) in e.steps.iter().enumerate() {
        let (title, body) = match step.station.as_str() {
            "payout" => (payout(e), String::new()),
            "split" => split(e),
            "score" => score(e),
            "certificate" => certificates(e),
            "vector" => (vector(e), String::new()),
            "receipt" => receipt(e),
            _ => shard(e),
        };
        out.push_str(&format!(
            "\n{}  {:<12} {title}\n{body}{}",
            at + 1,
            step.station,
            checked(step)
        ));
    }
    let missing = e.steps.iter().filter(|step| !step.checked).count();
    out.push_str(&match missing {
        0 => format!("\nall {} stations checked just now\n", e.steps.len()),
        _ => format!(
            "\n{} of {} stations checked just now, {missing} NOT CHECKED\n",
            e.steps.len() - missing,
            e.steps.len()
        ),
    });
    out
}

fn checked(step: &StepPart) -> String {
    let word = if step.checked {
        "checked:"
    } else {
        "NOT CHECKED:"
    };
    let mut out = wrapped(&format!("{word} {}", step.how));
    if let Some(mend) = &step.mend {
        out.push_str(&wrapped(&format!("to check it: {mend}")));
    }
    out
}

/// A sentence in lines below a station's title.
fn wrapped(sentence: &str) -> String {
    let mut lines = vec![String::new()];
    for word in sentence.split_whitespace() {
        let line = lines.last_mut().expect("one line");
        if !line.is_empty() && line.chars().count() + word.chars().count() + 4 > WIDTH {
            lines.push(word.to_owned());
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.iter().map(|line| format!("   {line}\n")).collect()
}

fn open(micro: i64) -> String {
    let sign = if micro < 0 { "-" } else { "" };
    let micro = micro.unsigned_abs();
    format!("{sign}{}.{:06}", micro / 1_000_000, micro % 1_000_000)
}

fn paid(micro: u64) -> String {
    open(i64::try_from(micro).unwrap_or(i64::MAX))
}

fn millinats(nano: i64) -> String {
    format!("{:+.6}", nano as f64 * 1e-6)
}

fn payout(e: &Explanation) -> String {
    let p = &e.payout;
    let own = e.split.iter().find(|line| line.peer == e.peer);
    let why = match p.outcome.as_str() {
        "no-gain" => ": the scores of the round add up to no gain",
        "unscored" => ": the round has no final scores",
        _ if p.micro_open > 0 => "",
        _ if own.is_none_or(|own| own.score_nanonats <= 0) => ": the score is not positive",
        _ => ": its scores so far are not yet beyond luck",
    };
    let arrived = match p.arrived_ppb {
        1_000_000_000 => String::new(),
        part => format!(
            ", for the {:.1} % of the committed weight that arrived",
            f64::from(part) / 1e7
        ),
    };
    format!(
        "{} OPEN of the {} that the round is worth, {} millinats at {} OPEN a nat and at most {} OPEN{arrived}{why}; its \
         account went from {} to {} OPEN",
        paid(p.micro_open),
        paid(p.worth_micro_open),
        millinats(p.gain_nanonats),
        paid(p.price_per_nat_micro_open),
        paid(p.budget_micro_open),
        open(p.account_before_micro_open),
        open(p.account_after_micro_open)
    )
}

fn split(e: &Explanation) -> (String, String) {
    let own = e.split.iter().find(|line| line.peer == e.peer);
    let Some(own) = own else {
        return ("nothing to split by".to_owned(), String::new());
    };
    let counts = if own.beyond_luck {
        own.score_nanonats.max(0)
    } else {
        0
    };
    let title = format!(
        "credit {:.9} of the round: {} of {} millinats above zero",
        own.credit as f64 * 1e-9,
        millinats(counts),
        millinats(i64::try_from(e.positive_nanonats).unwrap_or(i64::MAX))
    );
    let beyond = wrapped(&format!(
        "its scores up to this round add up to {} millinats, {} three times their luck, {}",
        millinats(own.shown_nanonats),
        if own.beyond_luck {
            "more than"
        } else {
            "NOT more than"
        },
        millinats(i64::try_from(own.bar_nanonats).unwrap_or(i64::MAX))
    ));
    let mut table = Table::new(&[
        ("contributor", Align::Left),
        ("peer", Align::Left),
        ("score (mnat)", Align::Right),
        ("luck", Align::Right),
        ("credit", Align::Right),
        ("OPEN", Align::Right),
        ("", Align::Left),
    ]);
    for line in &e.split {
        let rounded = match (line.credit_rounded_up, line.micro_open_rounded_up) {
            (true, true) => "credit and OPEN rounded up",
            (true, false) => "credit rounded up",
            (false, true) => "OPEN rounded up",
            (false, false) => "",
        };
        let this = if line.peer == e.peer { "<- this" } else { "" };
        let held = not_yet(line.score_nanonats, line.beyond_luck);
        let notes: Vec<&str> = [held, rounded, this]
            .into_iter()
            .filter(|s| !s.is_empty())
            .collect();
        table.row([
            line.name.clone(),
            short(&line.peer),
            millinats(line.score_nanonats),
            format!("{:.6}", line.luck_nanonats as f64 * 1e-6),
            format!("{:.9}", line.credit as f64 * 1e-9),
            paid(line.micro_open),
            notes.join(" "),
        ]);
    }
    (title, beyond + &indented(&table))
}

fn indented(table: &Table) -> String {
    let lines = table.render();
    lines.lines().map(|line| format!("  {line}\n")).collect()
}

fn score(e: &Explanation) -> (String, String) {
    let s = &e.score;
    let title = match s.score_nanonats {
        Some(score) => format!(
            "{} millinats a token: the median of {} sheets, by {} evaluators",
            millinats(score),
            s.sheets.len(),
            s.evaluators
        ),
        None => format!(
            "none: {} sheets of {} evaluators, and {} are needed",
            s.sheets.len(),
            s.evaluators,
            s.needed
        ),
    };
    let mut table = Table::new(&[
        ("evaluator", Align::Left),
        ("peer", Align::Left),
        ("score (mnat)", Align::Right),
        ("interval", Align::Right),
        ("luck", Align::Right),
        ("tokens", Align::Right),
        ("sheet in block", Align::Left),
        ("", Align::Left),
    ]);
    for sheet in &s.sheets {
        table.row([
            sheet.name.clone(),
            short(&sheet.evaluator),
            millinats(sheet.score_nanonats),
            format!(
                "{:+.3} .. {:+.3}",
                sheet.low_nanonats as f64 * 1e-6,
                sheet.high_nanonats as f64 * 1e-6
            ),
            format!("{:.3}", sheet.luck_nanonats as f64 * 1e-6),
            sheet.predicted.to_string(),
            format!("{} (sequence {})", short(&sheet.block), sheet.sequence),
            if sheet.middle { "<- median" } else { "" }.to_owned(),
        ]);
    }
    let body = if s.sheets.is_empty() {
        String::new()
    } else {
        indented(&table)
    };
    (title, body)
}

fn certificates(e: &Explanation) -> (String, String) {
    let signed = e
        .certificate
        .committee
        .iter()
        .filter(|seat| seat.signed)
        .count();
    let title = format!(
        "{signed} of {} seats signed value {}, {} are enough",
        e.certificate.committee.len(),
        short(&e.certificate.value),
        e.certificate.quorum
    );
    let line = |word: &str, c: &CertificatePart| {
        let names = |signed: bool| {
            let seats = c.committee.iter().filter(|seat| seat.signed == signed);
            seats
                .map(|seat| seat.name.clone())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let silent = match names(false) {
            none if none.is_empty() => String::new(),
            names => format!("; without {names}"),
        };
        wrapped(&format!(
            "height {} {word}: state {}, signed by {}{silent}",
            c.round,
            short(&c.state),
            names(true)
        ))
    };
    let body = line("includes the contribution", &e.certificate)
        + &line("carries its score", &e.scored_by);
    (title, body)
}

fn vector(e: &Explanation) -> String {
    let Some(v) = &e.vector else {
        return "what it added to the adapter is not known here".to_owned();
    };
    format!(
        "{:.6} x update: {:.4} of the round's weight, times {:.6} by the rule ({})\n   length {:.6} of the \
         update, {:.6} of the vector; it moved {} of {} numbers",
        v.coefficient,
        v.token_share,
        v.factor,
        v.rule,
        v.update_norm,
        v.vector_norm,
        v.moved,
        v.parameters
    )
}

fn receipt(e: &Explanation) -> (String, String) {
    let r = &e.receipt;
    let title = format!("block {} (sequence {}) of {}", r.block, r.sequence, e.name);
    let body = wrapped(&format!(
        "{} tokens from state {}, update {} of {}",
        r.tokens,
        short(&r.base_state),
        short(&r.update),
        bytes(r.update_bytes)
    ));
    (title, body)
}

fn shard(e: &Explanation) -> (String, String) {
    let s = &e.shard;
    let title = format!("root {}", s.root);
    let body = wrapped(&format!(
        "joined as {} with {} tokens, {} its own, block {} (sequence {}), member from round {}",
        s.role,
        s.tokens,
        s.own_tokens,
        short(&s.block),
        s.sequence,
        s.since
    ));
    (title, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_ledger::view::explain::SplitPart;

    #[test]
    fn a_score_that_does_not_count_yet_says_by_how_much() {
        let own = SplitPart {
            score_nanonats: 2_000_000,
            luck_nanonats: 1_000_000,
            shown_nanonats: 2_500_000,
            bar_nanonats: 4_000_000,
            ..SplitPart::default()
        };
        let e = Explanation {
            split: vec![own],
            positive_nanonats: 9_000_000,
            ..Explanation::default()
        };
        let (title, body) = split(&e);
        assert!(title.contains("+0.000000 of +9.000000"), "{title}");
        let words: Vec<&str> = body.split_whitespace().collect();
        let said = "add up to +2.500000 millinats, NOT more than three times their luck, +4.000000";
        assert!(words.join(" ").contains(said), "{body}");
        assert!(body.contains("not yet beyond luck <- this"), "{body}");
        assert!(payout(&e).contains("not yet beyond luck"), "{}", payout(&e));
    }
}
