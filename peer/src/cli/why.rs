//! `tributary why`: whose data shaped an answer.

use std::path::Path;

use tributary_ledger::view::short;
use tributary_protocol::limits::MIN_SPAN_WORDS;

use super::Context;
use super::args::WhyArgs;
use crate::api::Reader;
use crate::api::local::Local;
use crate::model;
use crate::terminal::Failure;
use crate::terminal::output::{Align, Table, one_line};
use crate::why::{self, Outcome, Question, Why};

pub(super) async fn run(context: &Context, args: WhyArgs) -> Result<(), Failure> {
    let question = Question {
        id: id_of(&args.adapter, &args.base)?,
        prompt: args.prompt,
        answer: args.answer,
        max_tokens: args.max_tokens,
        tokens: None,
    };
    let found = Local::of(&context.home).await?.why(question).await?;
    context.out.answer(&found, text)
}

/// An id as it is given, or that of the adapter in a folder.
fn id_of(adapter: &str, base: &str) -> Result<String, Failure> {
    let folder = Path::new(adapter);
    if adapter.is_empty() || !folder.is_dir() {
        return Ok(adapter.to_owned());
    }
    Ok(why::id_of_folder(folder, &model::open(base)?)?.to_string())
}

fn text(why: &Why) -> String {
    let mut table = Table::new(&[
        ("contributor", Align::Left),
        ("share", Align::Right),
        ("95 % interval", Align::Right),
        ("influence (mnat/token)", Align::Right),
        ("peer", Align::Left),
    ]);
    let percent = |ppb: u32| f64::from(ppb) * 1e-7;
    for share in &why.shares {
        table.row([
            share.name.clone(),
            format!("{:.1} %", percent(share.share_ppb)),
            format!(
                "{:.1} .. {:.1} %",
                percent(share.low_ppb),
                percent(share.high_ppb)
            ),
            format!("{:+.3}", share.influence_nanonats as f64 * 1e-6),
            short(&share.peer),
        ]);
    }
    table.row([
        "nobody (the base knew it)".to_owned(),
        format!("{:.1} %", percent(why.nobody_ppb)),
        String::new(),
        String::new(),
        String::new(),
    ]);
    format!(
        "prompt   {}\nanswer   {}\nloss     {:.4} nats a token by the base, {:.4} by the adapter {} of run {}\n\n{}\n\
         {}\n\
         method {}: an estimate; the interval covers which tokens were said, not the method\n\
         took {:.0} ms beyond the answer, evidence {:.0} ms\n",
        one_line(&why.prompt),
        one_line(&why.answer),
        why.base_nats,
        why.adapter_nats,
        short(&why.adapter),
        short(&why.run),
        table.render(),
        evidence(why),
        why.method,
        why.cost_ms,
        why.evidence_ms,
    )
}

/// Under the shares: what stands word for word in whose text, and of whom nothing is known.
fn evidence(why: &Why) -> String {
    let mut lines = "what stands in their text, word for word (it changes no share)\n".to_owned();
    for share in &why.shares {
        let name = one_line(&share.name);
        for found in &share.evidence {
            let span = one_line(&found.span);
            let line = format!(
                "  {name} holds \"{span}\" ({} words, proven)\n",
                found.words
            );
            lines.push_str(&line);
        }
        let asked = &share.asked;
        let line = match asked.outcome {
            Outcome::Answered if asked.boilerplate > 0 => format!(
                "  {name} holds {} proven spans that say nothing: {}\n",
                asked.boilerplate, asked.why
            ),
            Outcome::Answered if share.evidence.is_empty() => format!(
                "  {name} says that it holds no {MIN_SPAN_WORDS} words in a row of the answer\n"
            ),
            Outcome::Answered => continue,
            Outcome::Declined => format!("  {name} declined: {}\n", asked.why),
            Outcome::Silent => format!("  {name} did not answer: {}\n", asked.why),
            Outcome::FalseProof => format!("  {name} is not believed: {}\n", asked.why),
            Outcome::NotAsked => format!("  {name} was not asked: {}\n", asked.why),
        };
        lines.push_str(&line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::why::{Asked, ProvenSpan, Share};

    fn share(name: &str, outcome: Outcome, spans: &[&str], boilerplate: u32) -> Share {
        let evidence = spans.iter().map(|span| ProvenSpan {
            span: (*span).to_owned(),
            kind: String::new(),
            words: 8,
            surprise_nats: 40.0,
        });
        Share {
            peer: String::new(),
            name: name.to_owned(),
            datanet: String::new(),
            share_ppb: 0,
            low_ppb: 0,
            high_ppb: 0,
            influence_nanonats: 0,
            evidence: evidence.collect(),
            asked: Asked {
                outcome,
                why: "reason".to_owned(),
                boilerplate,
            },
        }
    }

    #[test]
    fn each_contributor_has_a_line_and_only_who_answered_is_said_to_hold_nothing() {
        let why = Why {
            schema: String::new(),
            run: String::new(),
            adapter: String::new(),
            prompt: String::new(),
            answer: String::new(),
            base_nats: 0.0,
            adapter_nats: 0.0,
            nobody_ppb: 0,
            shares: vec![
                share("amy", Outcome::Answered, &["eight words\nin a row"], 0),
                share("ben", Outcome::Answered, &[], 0),
                share("cyd", Outcome::Answered, &[], 2),
                share("dan", Outcome::Declined, &[], 0),
                share("eve", Outcome::Silent, &[], 0),
                share("fay", Outcome::FalseProof, &[], 0),
                share("gus", Outcome::NotAsked, &[], 0),
            ],
            method: String::new(),
            cost_ms: 0.0,
            evidence_ms: 0.0,
        };
        let text = evidence(&why);
        let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap();
        assert!(line("amy").contains("eight words"), "{text}");
        assert!(
            line("cyd").contains("2 proven spans that say nothing: reason"),
            "{text}"
        );
        for name in ["dan", "eve", "fay", "gus"] {
            assert!(line(name).ends_with("reason"), "{text}");
            assert!(!line(name).contains("holds"), "{text}");
        }
        assert!(
            line("ben").contains("says that it holds no 16 words"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 8, "{text}");
    }
}
