//! A peer's statement: what it did, what that was worth and what it was paid, round by round.
//!
//! Plain data from the books, so that a page or `--format json` renders it as it likes; `Display` is
//! the text that the command line prints. Everything in it follows from certified facts.

pub mod compare;

use std::fmt;

use tributary_protocol::id::{MicroOpen, NanoNats, PeerId, Ppb, Round, RunId};

use crate::account::Account;
use crate::credit::Outcome;
use crate::fold::Books;
use crate::money::Balance;

/// What the books say about one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The peer.
    pub peer: PeerId,
    /// One part per run that it was scored in or holds an account of, ordered.
    pub runs: Vec<RunStatement>,
    /// Sum over its accounts in all runs: earned minus paid.
    pub total: Balance,
}

/// One run's part of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStatement {
    /// The run.
    pub run: RunId,
    /// One line per round that this peer was scored in, ordered.
    pub lines: Vec<Line>,
    /// Rounds of the run without final scores: no contribution to them was judged.
    pub unscored: Vec<Round>,
    /// Sum of the lines' scores: total loss drop by this peer, nats per predicted token.
    pub score: NanoNats,
    /// Sum of the lines' amounts.
    pub earned: MicroOpen,
    /// Its part of what had waited, given out when the run closed.
    pub closing: MicroOpen,
    /// The peer's accounts of this run in every capacity, ordered.
    pub accounts: Vec<(Account, Balance)>,
}

/// One round's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The round.
    pub round: Round,
    /// The final score, nats per predicted token.
    pub score: NanoNats,
    /// Lower end of its interval.
    pub low: NanoNats,
    /// Upper end of its interval.
    pub high: NanoNats,
    /// Standard deviation of the score were signs drawn by lot.
    pub luck: NanoNats,
    /// Whether the peer's scores up to this round are beyond luck; before, none counts.
    pub is_beyond_luck: bool,
    /// Part of the round.
    pub credit: Ppb,
    /// What that paid.
    pub amount: MicroOpen,
    /// What became of the round's budget.
    pub outcome: Outcome,
}

impl Statement {
    /// Draws `peer`'s statement from the books.
    pub fn of(books: &Books, peer: PeerId) -> Self {
        let runs: Vec<RunStatement> = (books.runs().into_iter())
            .filter_map(|run| RunStatement::of(books, run, peer))
            .collect();
        let accounts = runs.iter().flat_map(|run| &run.accounts);
        let total = accounts.map(|(_, balance)| balance.0).sum();
        Self {
            peer,
            runs,
            total: Balance(total),
        }
    }
}

impl RunStatement {
    /// `None` when the run's books do not mention the peer.
    fn of(books: &Books, run: RunId, peer: PeerId) -> Option<Self> {
        let (mut lines, mut unscored) = (vec![], vec![]);
        for (round, credits) in books.rounds(run) {
            if credits.outcome == Outcome::Unscored {
                unscored.push(round.round);
            }
            let own = credits.lines.iter().find(|line| line.peer() == peer);
            lines.extend(own.map(|own| Line {
                round: round.round,
                score: own.tested.score.score,
                low: own.tested.score.low,
                high: own.tested.score.high,
                luck: own.tested.score.luck,
                is_beyond_luck: own.tested.shown.is_beyond_luck(),
                credit: own.credit,
                amount: own.amount,
                outcome: credits.outcome,
            }));
        }
        let accounts: Vec<(Account, Balance)> = (books.balances_of(run))
            .filter(|(account, _)| account.holder() == Some(peer))
            .collect();
        if lines.is_empty() && accounts.is_empty() {
            return None;
        }
        let score = (lines.iter()).fold(0i64, |sum, line| sum.saturating_add(line.score.0));
        let earned = lines.iter().map(|line| line.amount.0).sum();
        let closing = books.closing(run);
        Some(Self {
            closing: closing.map_or(MicroOpen(0), |closing| closing.part(&peer)),
            run,
            lines,
            unscored,
            score: NanoNats(score),
            earned: MicroOpen(earned),
            accounts,
        })
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Statement of peer {}", self.peer)?;
        if self.runs.is_empty() {
            writeln!(f, "\nNo scored round and no paid answer yet.")?;
        }
        for run in &self.runs {
            write!(f, "\n{run}")?;
        }
        writeln!(f, "\nAll runs together: {} OPEN", self.total)
    }
}

impl fmt::Display for RunStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Run {}", self.run.short())?;
        if !self.lines.is_empty() {
            writeln!(
                f,
                "{:>7}  {:>12}  {:>27}  {:>9}  {:>9}  {:>18}",
                "round", "score", "95 % interval", "luck", "credit", "OPEN"
            )?;
            for line in &self.lines {
                writeln!(f, "{line}")?;
            }
            let earned = self.earned.to_string();
            let score = nats(self.score);
            writeln!(
                f,
                "{:>7}  {score:>12}  {:>27}  {:>9}  {:>9}  {earned:>18}",
                "sum", "", "", ""
            )?;
        }
        if !self.unscored.is_empty() {
            let rounds: Vec<String> = self.unscored.iter().map(Round::to_string).collect();
            writeln!(
                f,
                "Not scored, too few evaluators answered: {}",
                rounds.join(", ")
            )?;
        }
        if self.closing > MicroOpen(0) {
            writeln!(
                f,
                "of what had waited, when the run closed: {} OPEN",
                self.closing
            )?;
        }
        for (account, balance) in &self.accounts {
            writeln!(f, "as {:<12} {balance:>18} OPEN", account.capacity())?;
        }
        Ok(())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interval = format!("{} to {}", nats(self.low), nats(self.high));
        let credit = format!("{:.2} %", self.credit.as_f64() * 100.0);
        write!(
            f,
            "{:>7}  {:>12}  {interval:>27}  {:>9.6}  {credit:>9}  {:>18}",
            self.round.to_string(),
            nats(self.score),
            self.luck.as_nats(),
            self.amount.to_string(),
        )?;
        match self.outcome {
            Outcome::NoGain => write!(
                f,
                "  the round gained nothing: the sponsor keeps the budget"
            ),
            Outcome::Unfunded => write!(f, "  unfunded: no deposit covers the round"),
            Outcome::Paid | Outcome::NotBeyondLuck if self.score <= NanoNats(0) => {
                write!(f, "  no help: earns nothing")
            }
            Outcome::Paid | Outcome::NotBeyondLuck if !self.is_beyond_luck => {
                write!(f, "  not yet beyond luck: its part waits")
            }
            Outcome::Paid | Outcome::NotBeyondLuck | Outcome::Unscored => Ok(()),
        }
    }
}

/// Signed, to the millionth of a nat, as tables show scores.
fn nats(value: NanoNats) -> String {
    format!("{:+.6}", value.as_nats())
}

#[cfg(test)]
mod tests {
    use tributary_protocol::hash::Digest;
    use tributary_protocol::round::FinalScore;

    use super::*;
    use crate::credit::{Offer, Served};
    use crate::fold::{CertifiedRound, Fact};
    use crate::significance::{CumulativeScore, TestedScore};

    fn peer(n: u8) -> PeerId {
        PeerId(Digest::from_bytes([n; 32]))
    }

    fn round(round: u32, scores: &[(u8, i64)]) -> Fact {
        let score = |&(n, score): &(u8, i64)| TestedScore {
            score: FinalScore {
                peer: peer(n),
                score: NanoNats(score),
                low: NanoNats(score - 1_000_000),
                high: NanoNats(score + 1_000_000),
                luck: NanoNats(2_000_000),
            },
            // Beyond luck is what scores more than six million.
            shown: CumulativeScore {
                scores: score.into(),
                squares: 4_000_000_000_000,
            },
        };
        Fact::Round(CertifiedRound {
            run: RunId(Digest::from_bytes([7; 32])),
            round: Round(round),
            sponsor: peer(9),
            offer: Offer {
                budget: MicroOpen(10_000_000),
                price_per_nat: MicroOpen(1_000_000_000),
                ..Offer::WHOLE
            },
            scores: scores.iter().map(score).collect(),
            served: Served::default(),
        })
    }

    fn books() -> Books {
        Books::of([
            round(1, &[(1, 30_000_000), (2, 10_000_000)]),
            round(2, &[(1, -2_000_000), (2, 10_000_000)]),
            round(3, &[]),
            round(4, &[(1, -1), (2, -5)]),
            round(5, &[(1, 5_000_000), (2, 10_000_000)]),
            round(6, &[(1, 5_000_000), (2, -5)]),
        ])
        .expect("good facts")
    }

    #[test]
    fn a_contributor_reads_its_rounds_and_sums() {
        let statement = Statement::of(&books(), peer(1));
        let run = &statement.runs[0];
        assert_eq!(run.lines.len(), 5);
        assert_eq!(run.score, NanoNats(37_999_999));
        assert_eq!(run.earned, MicroOpen(7_500_000));
        assert_eq!(run.unscored, [Round(3)]);
        assert_eq!(
            run.accounts,
            [(Account::Contributor(peer(1)), Balance(7_500_000))]
        );
        assert_eq!(statement.total, Balance(7_500_000));
    }

    #[test]
    fn a_sponsor_reads_what_it_paid() {
        let statement = Statement::of(&books(), peer(9));
        assert!(statement.runs[0].lines.is_empty());
        // Rounds 1, 3 and 5 in full, 8 and nearly 5 millinats at one OPEN each for 2 and 6, nothing for round 4.
        assert_eq!(statement.total, Balance(-42_999_995));
    }

    #[test]
    fn a_stranger_reads_that_there_is_nothing_yet() {
        let statement = Statement::of(&books(), peer(3));
        assert!(statement.runs.is_empty());
        assert!(statement.to_string().contains("No scored round"));
    }

    #[test]
    fn the_text_is_as_expected() {
        let text = Statement::of(&books(), peer(1)).to_string();
        let expected = format!(
            "Statement of peer {}

Run 0707070707
  round         score                95 % interval       luck     credit                OPEN
      1     +0.030000       +0.029000 to +0.031000   0.002000    75.00 %            7.500000
      2     -0.002000       -0.003000 to -0.001000   0.002000     0.00 %            0.000000  no help: earns nothing
      4     -0.000000       -0.001000 to +0.001000   0.002000     0.00 %            0.000000  the round gained nothing: the sponsor keeps the budget
      5     +0.005000       +0.004000 to +0.006000   0.002000     0.00 %            0.000000  not yet beyond luck: its part waits
      6     +0.005000       +0.004000 to +0.006000   0.002000     0.00 %            0.000000  not yet beyond luck: its part waits
    sum     +0.038000                                                               7.500000
Not scored, too few evaluators answered: 3
as contributor            7.500000 OPEN

All runs together: 7.500000 OPEN
",
            peer(1)
        );
        assert_eq!(text, expected);
    }
}
