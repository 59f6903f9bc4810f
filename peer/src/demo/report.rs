//! What the demo ends with: one JSON object (`demo/1`), or tables for people.

use serde::{Deserialize, Serialize};
use tributary_ledger::view::{CreditView, SettlementView, short};

use crate::terminal::output::{Align, Table, bytes, duration, one_line};
use crate::view::tables::credits_table;

/// Rounds that are shown to people, about.
const SHOWN_ROUNDS: usize = 10;
/// Characters of an answer that are shown.
const SHOWN_CHARACTERS: usize = 72;
/// Shares of an answer that are shown to people, at least and at most so many.
const SHOWN_SHARE: f64 = 0.005;
const SHOWN_SHARES: usize = 3;

/// `demo/1`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `demo/1`.
    pub schema: String,
    /// The run's id.
    pub run: String,
    /// Training rounds.
    pub rounds: Vec<RoundLine>,
    /// Held-out loss of each contributor's domain.
    pub domains: Vec<DomainLine>,
    /// What each contributor earned.
    pub credits: Vec<CreditLine>,
    /// Prompts, what base and adapter say to them, and whose text shaped it.
    pub answers: Vec<Answer>,
    /// Where the run's money lies.
    pub settlement: SettlementLine,
    /// The certified adapter.
    pub adapter: AdapterLine,
    /// Whether all peers ended with the same state.
    pub state_hashes_equal: bool,
    /// Whether every peer's ledger passed `ledger verify`.
    pub ledger_verified: bool,
    /// The demo's folder.
    pub home: String,
    /// Seconds this process took.
    pub wall_s: f64,
    /// Shown to people only.
    #[serde(skip)]
    pub extra: Extra,
}

/// A training round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundLine {
    /// The round.
    pub round: u32,
    /// Contributions included.
    pub included: u32,
    /// Its certified state.
    pub state_hash: String,
    /// Median over evaluators before the round, nats per token.
    pub loss_before: Option<f64>,
    /// And after it.
    pub loss_after: Option<f64>,
    /// Bytes that the busiest peer sent during the round.
    pub bytes_up_max: u64,
    /// Bytes that the busiest peer received.
    pub bytes_down_max: u64,
    /// From the certificate before, median over peers.
    pub certificate_ms: u64,
}

/// A contributor's domain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DomainLine {
    /// The contributor.
    pub peer: String,
    /// Its name.
    pub name: String,
    /// Held-out loss of the base model, nats per token.
    pub loss_base: f64,
    /// With the certified adapter.
    pub loss_adapter: f64,
}

/// What a contributor earned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CreditLine {
    /// The contributor.
    pub peer: String,
    /// Its name.
    pub name: String,
    /// Sum of its final scores.
    pub score_nanonats: i64,
    /// Earned.
    pub micro_open: u64,
}

/// Where the run's money lies, in millionths of an OPEN.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SettlementLine {
    /// `test`: the test chain.
    pub chain: String,
    /// What the sponsor deposited.
    pub deposited: u64,
    /// What the last root promises to accounts.
    pub paid: u64,
    /// What they took.
    pub claimed: u64,
    /// Deposited and not promised; the sponsor's again.
    pub left: u64,
    /// Digest of the last root.
    pub root: String,
    /// Whether books and chain add up to the last unit.
    pub conserved: bool,
}

/// The adapter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AdapterLine {
    /// Its id.
    pub id: String,
    /// Its PEFT folder.
    pub path: String,
}

/// Parts for people.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extra {
    /// Credits with intervals.
    pub credits: Vec<CreditView>,
    /// Where the money lies, in a line.
    pub money: String,
    /// How to call this program again.
    pub program: String,
    /// Home of the first contributor.
    pub first_home: String,
}

/// A prompt answered twice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The prompt.
    pub prompt: String,
    /// By the base model alone.
    pub base: String,
    /// With the adapter.
    pub adapter: String,
    /// What the one text that answers it says; none where no text does, or nobody knows.
    pub expected: Option<String>,
    /// Whose text that is.
    pub taught_by: Option<String>,
    /// Whether the adapter says what is expected.
    pub says_it: Option<bool>,
    /// Contributors' shares of the adapter's answer, largest first.
    pub shares: Vec<ShareLine>,
    /// What the base would have said anyway, a fraction of one.
    pub nobody: f64,
}

/// A contributor's share of an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShareLine {
    /// The contributor.
    pub name: String,
    /// A fraction of one.
    pub share: f64,
}

impl CreditLine {
    /// Of a contributor's credits.
    pub fn of(credit: &CreditView) -> Self {
        Self {
            peer: credit.peer.clone(),
            name: credit.name.clone(),
            score_nanonats: credit.score_nanonats,
            micro_open: credit.micro_open,
        }
    }
}

impl SettlementLine {
    /// Of where the money lies.
    pub fn of(money: &SettlementView) -> Self {
        Self {
            chain: money.chain.clone(),
            deposited: money.deposited_micro_open,
            paid: money.paid_micro_open,
            claimed: money.claimed_micro_open,
            left: money.left_micro_open,
            root: money.root.clone(),
            conserved: money.conserved,
        }
    }
}

impl Report {
    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::from("\nRounds\n");
        out.push_str(&self.rounds_table());
        out.push_str("\nHeld-out loss by domain (nats per token)\n");
        out.push_str(&self.domains_table());
        out.push_str("\nContributors\n");
        out.push_str(&credits_table(&self.extra.credits));
        out.push_str("\nAsked for what base and adapter know\n");
        for answer in &self.answers {
            out.push_str(&answer.text());
        }
        if let Some(line) = self.answers_line() {
            out.push_str(&line);
        }
        out.push_str(&format!(
            "\nmoney     {}\nadapter   {}\nfolder    {}\nledger    {}\nstates    {}\ntime      {}\n",
            self.extra.money,
            self.adapter.id,
            self.adapter.path,
            if self.ledger_verified {
                "verified for every peer"
            } else {
                "NOT VERIFIED"
            },
            if self.state_hashes_equal {
                "equal on every peer"
            } else {
                "DIFFERENT"
            },
            duration((self.wall_s * 1000.0) as u64),
        ));
        out.push_str(&self.next_commands());
        out
    }

    fn rounds_table(&self) -> String {
        let mut table = Table::new(&[
            ("round", Align::Right),
            ("included", Align::Right),
            ("loss before", Align::Right),
            ("after", Align::Right),
            ("max up", Align::Right),
            ("max down", Align::Right),
            ("certificate", Align::Right),
            ("state", Align::Left),
        ]);
        let loss = |l: Option<f64>| l.map_or("-".to_owned(), |l| format!("{l:.4}"));
        let last = self.rounds.len().saturating_sub(1);
        let step = self.rounds.len().div_ceil(SHOWN_ROUNDS).max(1);
        let shown = self.rounds.iter().enumerate();
        for (_, r) in shown.filter(|(at, _)| at % step == 0 || *at == last) {
            table.row([
                r.round.to_string(),
                r.included.to_string(),
                loss(r.loss_before),
                loss(r.loss_after),
                bytes(r.bytes_up_max),
                bytes(r.bytes_down_max),
                duration(r.certificate_ms),
                short(&r.state_hash),
            ]);
        }
        table.render()
    }

    fn domains_table(&self) -> String {
        let mut table = Table::new(&[
            ("domain", Align::Left),
            ("base", Align::Right),
            ("adapter", Align::Right),
            ("change", Align::Right),
        ]);
        for d in &self.domains {
            table.row([
                d.name.clone(),
                format!("{:.4}", d.loss_base),
                format!("{:.4}", d.loss_adapter),
                format!("{:+.4}", d.loss_adapter - d.loss_base),
            ]);
        }
        table.render()
    }

    /// How many answers are right, and paid to the right contributor.
    fn answers_line(&self) -> Option<String> {
        let taught: Vec<&Answer> = (self.answers.iter())
            .filter(|answer| answer.says_it.is_some())
            .collect();
        let right = taught.iter().filter(|a| a.says_it == Some(true)).count();
        let paid = taught.iter().filter(|a| a.is_paid_right()).count();
        (!taught.is_empty()).then(|| {
            format!(
                "\n  {right} of {all} answers are what one contributor's text says, and in {paid} of {all} that \
                 contributor has the largest share\n",
                all = taught.len()
            )
        })
    }

    fn next_commands(&self) -> String {
        let program = &self.extra.program;
        let prompt = (self.answers.first()).map_or("Once".to_owned(), |a| one_line(&a.prompt));
        format!(
            "\nNext\n  {program} ledger verify --home {home}\n  {program} ledger statement --home \
             {first}\n  {program} generate --adapter {folder} --prompt \"{prompt}\" --max-tokens 12\n",
            home = self.home,
            first = self.extra.first_home,
            folder = self.adapter.path,
        )
    }
}

impl Answer {
    /// Whether the contributor whose text answers it has the largest share.
    pub fn is_paid_right(&self) -> bool {
        self.taught_by.is_some() && self.shares.first().map(|s| &s.name) == self.taught_by.as_ref()
    }

    /// What was asked, without the words around it that the texts have.
    fn question(&self) -> String {
        let prompt = one_line(&self.prompt);
        let question = prompt.strip_prefix("Question: ");
        let question = question.and_then(|rest| rest.strip_suffix(" Answer:"));
        question.map_or(format!("{prompt} ..."), str::to_owned)
    }

    fn text(&self) -> String {
        let mut shares: Vec<String> = (self.shares.iter())
            .filter(|share| share.share >= SHOWN_SHARE)
            .take(SHOWN_SHARES)
            .map(|share| format!("{} {:.0} %", share.name, share.share * 100.0))
            .collect();
        if self.nobody >= SHOWN_SHARE {
            shares.push(format!("nobody {:.0} %", self.nobody * 100.0));
        }
        format!(
            "\n  {}\n    base       {}\n    adapter    {}\n    shaped by  {}\n",
            self.question(),
            shortened(&self.base),
            shortened(&self.adapter),
            match shares.is_empty() {
                true => "nobody: it says nothing".to_owned(),
                false => shares.join(", "),
            },
        )
    }
}

/// A line of what a model said.
fn shortened(text: &str) -> String {
    let line = one_line(text);
    match line.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            schema: "demo/1".to_owned(),
            run: "ab".repeat(32),
            rounds: vec![RoundLine {
                round: 1,
                included: 6,
                state_hash: "cd".repeat(32),
                loss_before: Some(4.5),
                loss_after: Some(4.25),
                bytes_up_max: 120_000,
                bytes_down_max: 90_000,
                certificate_ms: 8_100,
            }],
            domains: vec![DomainLine {
                name: "amy".to_owned(),
                loss_base: 4.0,
                loss_adapter: 3.5,
                ..DomainLine::default()
            }],
            credits: vec![CreditLine {
                score_nanonats: -5,
                micro_open: 1,
                ..CreditLine::default()
            }],
            ledger_verified: true,
            answers: vec![Answer {
                prompt: "Question: Who? Answer:".to_owned(),
                base: "upon\na time".to_owned(),
                adapter: " Amy.".to_owned(),
                expected: Some("Amy".to_owned()),
                taught_by: Some("amy".to_owned()),
                says_it: Some(true),
                shares: vec![
                    ShareLine {
                        name: "amy".to_owned(),
                        share: 0.625,
                    },
                    ShareLine {
                        name: "bo".to_owned(),
                        share: 0.001,
                    },
                ],
                nobody: 0.374,
            }],
            ..Report::default()
        }
    }

    #[test]
    fn json_has_exactly_the_fields_of_the_schema() {
        let json = serde_json::to_value(report()).unwrap();
        let keys = |v: &serde_json::Value| {
            let mut keys: Vec<String> = v.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys.join(" ")
        };
        assert_eq!(
            keys(&json),
            "adapter answers credits domains home ledger_verified rounds run schema settlement state_hashes_equal wall_s"
        );
        assert_eq!(
            keys(&json["settlement"]),
            "chain claimed conserved deposited left paid root"
        );
        assert_eq!(
            keys(&json["rounds"][0]),
            "bytes_down_max bytes_up_max certificate_ms included loss_after loss_before round state_hash"
        );
        assert_eq!(
            keys(&json["domains"][0]),
            "loss_adapter loss_base name peer"
        );
        assert_eq!(
            keys(&json["credits"][0]),
            "micro_open name peer score_nanonats"
        );
        assert_eq!(
            keys(&json["answers"][0]),
            "adapter base expected nobody prompt says_it shares taught_by"
        );
        assert_eq!(keys(&json["answers"][0]["shares"][0]), "name share");
        assert_eq!(keys(&json["adapter"]), "id path");
        assert_eq!(json["schema"], "demo/1");
    }

    #[test]
    fn the_text_shows_losses_answers_and_shares() {
        let text = report().text();
        for part in [
            "4.5000  4.2500  120 kB",
            "amy     4.0000   3.5000  -0.5000",
            "base       upon a time",
            "shaped by  amy 62 %, nobody 37 %",
            "1 of 1 answers are what one contributor's text says, and in 1 of 1",
            "\n  Who?\n",
            "verified for every peer",
            "DIFFERENT",
        ] {
            assert!(text.contains(part), "{part:?} is missing in:{text}");
        }
    }
}
