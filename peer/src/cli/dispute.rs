//! `tributary dispute ...`: scores that somebody holds to be wrong, shares that were drawn to be checked, and what juries say.

use std::fmt::Write as _;

use tributary_ledger::view::disputes::{DisputeView, DisputesView};
use tributary_ledger::view::short;

use super::Context;
use super::args::DisputeCommand;
use crate::api::Reader;
use crate::api::client::Client;
use crate::api::local::Local;
use crate::api::types::DisputeRequest;
use crate::terminal::Failure;

pub(super) async fn run(context: &Context, command: DisputeCommand) -> Result<(), Failure> {
    let root = &context.home;
    let found = match command {
        DisputeCommand::List { run } => Local::of(root).await?.disputes(&run).await?,
        DisputeCommand::Open {
            run,
            round,
            evaluator,
            peer,
            reason,
        } => {
            let request = DisputeRequest {
                round,
                evaluator,
                peer,
                reason,
            };
            Client::open(root).await?.dispute(&run, request).await?
        }
        DisputeCommand::Appeal { run, dispute } => {
            Client::open(root).await?.appeal(&run, &dispute).await?
        }
    };
    context.out.answer(&found, table)
}

fn table(found: &DisputesView) -> String {
    let mut out = format!(
        "run {}, height {} comes next\n",
        short(&found.run),
        found.expected
    );
    if found.disputes.is_empty() {
        out.push_str("nothing is disputed\n");
    }
    for dispute in &found.disputes {
        describe(&mut out, dispute);
    }
    if !found.disputable.is_empty() {
        out.push_str("sheets that can be disputed:\n");
    }
    for sheet in &found.disputable {
        let scored: Vec<String> = sheet.scored.iter().map(|peer| short(peer)).collect();
        let _ = writeln!(
            out,
            "  round {} by {}, scores of {}",
            sheet.round,
            short(&sheet.evaluator),
            scored.join(", ")
        );
    }
    out.truncate(out.trim_end().len());
    out
}

fn describe(out: &mut String, dispute: &DisputeView) {
    let until = dispute.until.unwrap_or_default();
    let loser = dispute.loser.as_deref().map(short).unwrap_or_default();
    let stage = match dispute.stage.as_str() {
        "called" => "the next height draws its jury".to_owned(),
        "sitting" => format!("its jury sits until height {until}"),
        "appealable" => format!("{loser} lost, and may appeal until height {until}"),
        "over" => match &dispute.sentence {
            Some(sentence) => format!(
                "{loser} lost, and loses stake; {} members have signed that",
                sentence.signatures.len()
            ),
            None => format!("{loser} lost"),
        },
        "upheld" => "they are right, and count".to_owned(),
        "unproven" => format!(
            "most jurors could not reach {}, so its word pays nobody",
            short(&dispute.author)
        ),
        _ => "too few jurors said the same, so nobody pays".to_owned(),
    };
    let (id, author) = (short(&dispute.id), short(&dispute.author));
    let _ = match &dispute.score {
        Some(score) => writeln!(
            out,
            "{id}: the score of {} in round {} by {author}\n  {} says: {}",
            short(&score.peer),
            score.round,
            short(&score.challenger),
            score.reason
        ),
        None => writeln!(
            out,
            "{id}: shares of {} of {author}'s answers were drawn, and are computed again",
            dispute.answers.len()
        ),
    };
    let _ = writeln!(out, "  {stage}");
    for juror in &dispute.jury {
        let _ = writeln!(
            out,
            "  juror {}, {} {}: {}",
            short(&juror.peer),
            juror.seats,
            if juror.seats == 1 { "seat" } else { "seats" },
            juror.finding.as_deref().unwrap_or("nothing yet")
        );
    }
}

#[cfg(test)]
mod tests {
    use tributary_ledger::view::disputes::{DisputedScoreView, JurorView, SheetView};

    use super::*;

    #[test]
    fn disputes_are_told_with_who_says_what_and_how_far_they_are() {
        let id = |digit: &str| digit.repeat(64);
        let mut found = DisputesView {
            run: id("a"),
            expected: 9,
            disputes: vec![DisputeView {
                id: format!("{}-0", id("d")),
                author: id("e"),
                score: Some(DisputedScoreView {
                    round: 7,
                    peer: id("c"),
                    reason: "twice what my windows say".to_owned(),
                    challenger: id("b"),
                }),
                stage: "sitting".to_owned(),
                until: Some(17),
                jury: vec![JurorView {
                    peer: id("f"),
                    seats: 11,
                    finding: Some("fails".to_owned()),
                }],
                ..DisputeView::default()
            }],
            disputable: vec![SheetView {
                round: 8,
                evaluator: id("e"),
                scored: vec![id("c")],
            }],
        };
        let told = table(&found);
        assert_eq!(
            told,
            "run aaaaaaaaaa, height 9 comes next\n\
             dddddddddd: the score of cccccccccc in round 7 by eeeeeeeeee\n  \
             bbbbbbbbbb says: twice what my windows say\n  \
             its jury sits until height 17\n  \
             juror ffffffffff, 11 seats: fails\n\
             sheets that can be disputed:\n  \
             round 8 by eeeeeeeeee, scores of cccccccccc"
        );
        found.disputes[0].stage = "lapsed".to_owned();
        assert!(table(&found).contains("nobody pays"));
        found.disputes.clear();
        assert!(table(&found).contains("nothing is disputed"));
    }
}
