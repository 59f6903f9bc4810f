//! `tributary status`: what the daemon of this home is doing.

use tributary_ledger::view::short;

use super::Context;
use crate::api::client::Client;
use crate::terminal::Failure;
use crate::terminal::output::{Align, Table, bytes};
use crate::view::{RunBrief, StatusView};

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let status: StatusView = Client::open(&context.home)?.get("/v1/status").await?;
    context.out.answer(&status, text)
}

fn text(status: &StatusView) -> String {
    let mut out = format!(
        "peer       {}\nname       {}\nhome       {}\nconnected  {}\ntraffic    {} up, {} down\n",
        status.peer,
        status.name,
        status.home,
        status.connected.len(),
        bytes(status.bytes_up),
        bytes(status.bytes_down),
    );
    for address in &status.addresses {
        out.push_str(&format!("address    {address}\n"));
    }
    for warning in &status.warnings {
        out.push_str(&format!("warning    {warning}\n"));
    }
    out.push('\n');
    out.push_str(&runs_table(&status.runs));
    out
}

/// Runs, a line each.
pub(super) fn runs_table(runs: &[RunBrief]) -> String {
    if runs.is_empty() {
        return "no runs; `tributary run create FILE.toml` opens one, `tributary run join ID` joins \
                one\n"
            .to_owned();
    }
    let mut table = Table::new(&[
        ("run", Align::Left),
        ("name", Align::Left),
        ("base", Align::Left),
        ("round", Align::Right),
        ("members", Align::Right),
        ("phase", Align::Left),
    ]);
    for run in runs {
        let certified = run
            .certified
            .map_or("-".to_owned(), |r| r.min(run.rounds).to_string());
        table.row([
            short(&run.run),
            run.name.clone(),
            run.base.clone(),
            format!("{certified}/{}", run.rounds),
            run.members.to_string(),
            run.phase.clone(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_names_the_address_that_others_need() {
        let status = StatusView {
            peer: "ab".repeat(32),
            addresses: vec!["/ip4/127.0.0.1/tcp/4001/p2p/12D3".to_owned()],
            runs: vec![RunBrief {
                run: "cd".repeat(32),
                name: "poets".to_owned(),
                certified: Some(7),
                rounds: 6,
                phase: "finished".to_owned(),
                ..RunBrief::default()
            }],
            ..StatusView::default()
        };
        let text = text(&status);
        assert!(
            text.contains("address    /ip4/127.0.0.1/tcp/4001/p2p/12D3"),
            "{text}"
        );
        assert!(text.contains("cdcdcdcdcd  poets"), "{text}");
        assert!(
            text.contains("6/6"),
            "the closing height is no round: {text}"
        );
    }
}
