//! `tributary ledger ...`: check the account, or read one's own part of it.

mod explain;
mod export;
mod holdout;
mod proof;
mod statement;

pub(super) use export::Export;
use tributary_ledger::view::short;
use tributary_ledger::{Fault, Report, RunReport};

use super::Context;
use super::args::LedgerCommand;
use crate::api::Reader;
use crate::api::local::Local;
use crate::api::types::{ExplainRequest, ProveRequest, StatementRequest};
use crate::terminal::Failure;
use crate::terminal::output::{Align, Table, raw};
use crate::verify::Depth;

pub(super) async fn run(context: &Context, command: LedgerCommand) -> Result<(), Failure> {
    if let LedgerCommand::Check { file } = command {
        return proof::check(context, &file);
    }
    let local = Local::of(&context.home).await?;
    match command {
        LedgerCommand::Verify { full } => {
            let depth = if full { Depth::Full } else { Depth::Marked };
            let report = local.checking(depth).verify().await?;
            context.out.answer(&report, text)?;
            outcome(&report)
        }
        LedgerCommand::Statement { id, by, export } => {
            let asked = StatementRequest { run: id, by };
            let statement = local.statement(asked).await?;
            if let Some(export) = export {
                return raw(export::text(&statement, export).as_bytes());
            }
            (context.out).answer(&statement, |s| statement::text(s, &context.call))
        }
        LedgerCommand::Explain { receipt } => {
            let explanation = local.explain(ExplainRequest { receipt }).await?;
            context.out.answer(&explanation, explain::text)
        }
        LedgerCommand::Proof {
            receipt,
            file,
            force,
        } => proof::write(context, &local, ExplainRequest { receipt }, (&file, force)).await,
        LedgerCommand::Check { .. } => unreachable!("answered without a home"),
        LedgerCommand::ProveHoldout {
            run,
            round,
            file,
            force,
        } => {
            let request = ProveRequest { run, round };
            holdout::prove(context, &local, request, (&file, force)).await
        }
        LedgerCommand::CheckHoldout { file } => holdout::check(context, &local, &file).await,
    }
}

/// How `ledger verify` ends: well, with faults (exit code 1), or with proof against others (exit code 5).
fn outcome(report: &Report) -> Result<(), Failure> {
    let first = |found: &[Fault]| found.first().map_or_else(String::new, Fault::to_string);
    if report.runs.is_empty() && !report.verified {
        return Err(
            Failure::check(format!("nothing was verified: {}", first(&report.faults)))
                .hint("`--home DIR` names another home; if this one followed runs, restore it from a backup"),
        );
    }
    if !report.verified {
        return Err(Failure::check(format!(
            "the ledger does not hold, {} faults: {}",
            report.faults.len(),
            first(&report.faults)
        ))
        .hint("restore the home from a backup, or fetch the run again from an honest peer"));
    }
    if report.findings.is_empty() {
        return Ok(());
    }
    Err(Failure::finding(format!(
        "the ledger holds, and proves misconduct, {} findings: {}",
        report.findings.len(),
        first(&report.findings)
    ))
    .hint("tell the members of the run; statements and exports of this home go on"))
}

fn text(report: &Report) -> String {
    let mut table = Table::new(&[
        ("home", Align::Left),
        ("run", Align::Left),
        ("rounds", Align::Right),
        ("blocks", Align::Right),
        ("signatures", Align::Right),
        ("aggregates", Align::Right),
        ("accounts", Align::Right),
    ]);
    for run in &report.runs {
        table.row([
            run.home.clone(),
            short(&run.run),
            run.rounds.to_string(),
            run.blocks.to_string(),
            run.signatures.to_string(),
            format!("{} of {}", run.aggregates, run.trained),
            run.accounts.to_string(),
        ]);
    }
    let mut out = if report.runs.is_empty() {
        "no runs in this home\n".to_owned()
    } else {
        table.render()
    };
    for fault in &report.faults {
        out.push_str(&format!("FAULT {fault}\n"));
    }
    for finding in &report.findings {
        out.push_str(&format!("FINDING {finding}\n"));
    }
    for note in &report.notes {
        out.push_str(&format!("note: {note}\n"));
    }
    let sum = |of: fn(&RunReport) -> u32| report.runs.iter().map(of).sum::<u32>();
    out.push_str(&if report.verified {
        format!(
            "\nverified: {} signatures, {} rounds with {} of {} aggregates, and every link, certificate, state hash, \
             score, credit and balance of {} runs\n",
            sum(|run| run.signatures),
            sum(|run| run.rounds),
            sum(|run| run.aggregates),
            sum(|run| run.trained),
            report.runs.len()
        )
    } else {
        "\nNOT VERIFIED\n".to_owned()
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_and_findings_end_with_codes_of_their_own() {
        let clean = Report {
            verified: true,
            runs: vec![RunReport::default()],
            ..Report::default()
        };
        assert!(outcome(&clean).is_ok());
        let proves = Report {
            findings: vec![Fault::of("certified twice")],
            ..clean
        };
        let code = |report: &Report| outcome(report).map_err(|failure| failure.exit_code());
        assert_eq!(code(&proves), Err(5));
        assert!(text(&proves).contains("FINDING certified twice"));
        let broken = Report {
            verified: false,
            faults: vec![Fault::of("a flipped bit")],
            ..proves
        };
        assert_eq!(code(&broken), Err(1));
    }
}
