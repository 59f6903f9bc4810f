//! Tables that more than one command shows.

use tributary_ledger::view::{CreditView, short};

use crate::terminal::output::{Align, Table};

/// What a positive score that does not count is marked with.
pub(crate) fn not_yet(score_nanonats: i64, beyond_luck: bool) -> &'static str {
    match score_nanonats > 0 && !beyond_luck {
        true => "not yet beyond luck",
        false => "",
    }
}

/// Contributors and what they earned.
pub(crate) fn credits_table(credits: &[CreditView]) -> String {
    let mut table = Table::new(&[
        ("contributor", Align::Left),
        ("name", Align::Left),
        ("score (mnat)", Align::Right),
        ("interval", Align::Right),
        ("luck", Align::Right),
        ("credit", Align::Right),
        ("micro-OPEN", Align::Right),
        ("", Align::Left),
    ]);
    let millinats = |n: i64| n as f64 * 1e-6;
    for c in credits {
        table.row([
            short(&c.peer),
            c.name.clone(),
            format!("{:+.3}", millinats(c.score_nanonats)),
            format!(
                "{:+.3} .. {:+.3}",
                millinats(c.low_nanonats),
                millinats(c.high_nanonats)
            ),
            format!("{:.3}", c.luck_nanonats as f64 * 1e-6),
            format!("{:.4}", c.credit as f64 * 1e-9),
            c.micro_open.to_string(),
            not_yet(c.score_nanonats, c.beyond_luck).to_owned(),
        ]);
    }
    table.render()
}
