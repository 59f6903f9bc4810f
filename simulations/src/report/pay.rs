//! Why OPEN does not follow the score, in a run's own numbers.
//!
//! A score is summed over the rounds; OPEN is paid round by round. So what a contributor earned differs from what its
//! score alone would give for two reasons that add up: each round pays for its own gain and no more than its budget, and
//! what an author earned before it had shown more than luck waits.

use std::collections::BTreeMap;

use tributary_attribution::Outcome;

use super::{Run, counted};
use crate::plot::number;
use crate::record::{History, RoundFacts};

/// What one training round paid.
#[derive(Clone, Debug, PartialEq)]
pub struct PayRound {
    /// The round.
    pub round: u32,
    /// Sum of its final scores.
    pub gain: f64,
    /// What the sponsor paid in, in OPEN.
    pub worth_open: f64,
    /// What of that waits for nobody.
    pub waiting_open: f64,
    /// What became of its budget, in words.
    pub what: &'static str,
}

/// What one contributor earned, and why it is not its part of all scores.
#[derive(Clone, Debug, PartialEq)]
pub struct PayRow {
    /// Its name.
    pub name: String,
    /// Sum of its final scores.
    pub score: f64,
    /// Its part of what all rounds were worth, by the positive sums of scores.
    pub by_score_open: f64,
    /// Its part round by round, whether it was held back or not.
    pub by_round_open: f64,
    /// What of that waits because its author had not shown more than luck.
    pub held_back_open: f64,
    /// What it was paid.
    pub earned_open: f64,
}

/// What a run paid, and why.
#[derive(Clone, Debug)]
pub struct Pay {
    /// Training rounds whose pay is certified.
    pub rounds: Vec<PayRound>,
    /// Contributors with a score, the best first.
    pub people: Vec<PayRow>,
    /// The paragraph.
    pub sentences: Vec<String>,
}

fn open(micro: u128) -> f64 {
    micro as f64 / 1e6
}

fn what(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Paid => "paid by credit",
        Outcome::NoGain => "the scores add up to no gain: the sponsor keeps the budget",
        Outcome::NotBeyondLuck => "a gain, and nobody who has shown more than luck yet: it waits",
        Outcome::Unfunded => "no deposit covers the round",
        Outcome::Unscored => "not scored in time: the budget waits",
    }
}

impl Pay {
    /// Reads what a run paid.
    pub fn of(run: &Run<'_>) -> Self {
        let rounds: Vec<PayRound> = (run.history.rounds.iter())
            .filter_map(|facts| {
                let pay = facts.pay?;
                Some(PayRound {
                    round: facts.round,
                    gain: pay.gain,
                    worth_open: open(pay.worth.0),
                    waiting_open: open(pay.waiting.0),
                    what: what(pay.outcome),
                })
            })
            .collect();
        let people = people(run.history);
        let budget = open(u128::from(run.scenario.run.budget_per_round));
        let sentences = sentences(budget, run.scenario.run.price_per_nat, &rounds, &people);
        Self {
            rounds,
            people,
            sentences,
        }
    }
}

/// What a round's positive scores would each get of its worth, with whether it is held back.
fn parts(facts: &RoundFacts) -> Vec<(usize, f64, bool)> {
    let Some(pay) = facts.pay.filter(|pay| pay.gain > 0.0) else {
        return Vec::new();
    };
    let positive = |score: f64| score.max(0.0);
    let all: f64 = facts
        .scores
        .iter()
        .map(|s| positive(s.score.as_nats()))
        .sum();
    let part = |score: f64| match all > 0.0 {
        true => open(pay.worth.0) * positive(score) / all,
        false => 0.0,
    };
    (facts.scores.iter())
        .map(|s| (s.peer, part(s.score.as_nats()), s.is_held_back))
        .collect()
}

fn people(history: &History) -> Vec<PayRow> {
    let mut rows: BTreeMap<usize, PayRow> = BTreeMap::new();
    let mut worth = 0.0;
    for facts in &history.rounds {
        for scored in &facts.scores {
            let row = rows.entry(scored.peer).or_insert_with(|| PayRow {
                name: history.participants[scored.peer].name.clone(),
                score: 0.0,
                by_score_open: 0.0,
                by_round_open: 0.0,
                held_back_open: 0.0,
                earned_open: 0.0,
            });
            row.score += scored.score.as_nats();
            row.earned_open += open(scored.amount.0);
        }
        for (peer, part, is_held_back) in parts(facts) {
            worth += part;
            let row = rows.get_mut(&peer).expect("it has a score in this round");
            row.by_round_open += part;
            row.held_back_open += if is_held_back { part } else { 0.0 };
        }
    }
    let all: f64 = rows.values().map(|row| row.score.max(0.0)).sum();
    let mut rows: Vec<PayRow> = rows.into_values().collect();
    for row in &mut rows {
        row.by_score_open = match all > 0.0 {
            true => worth * row.score.max(0.0) / all,
            false => 0.0,
        };
    }
    rows.sort_by(|a, b| b.score.total_cmp(&a.score));
    rows
}

fn sentences(budget: f64, price: u64, rounds: &[PayRound], people: &[PayRow]) -> Vec<String> {
    let sum = |of: fn(&PayRound) -> f64| rounds.iter().map(of).sum::<f64>();
    let (worth, waiting) = (sum(|r| r.worth_open), sum(|r| r.waiting_open));
    let held_back: f64 = people.iter().map(|row| row.held_back_open).sum();
    let mut out = vec![format!(
        "OPEN follows the scores of each round, not their sum: {} offered {budget:.4} OPEN each, of which {worth:.4} \
         were paid in, {:.4} paid out, and {waiting:.4} wait. The rest, {:.4}, stays with the sponsor: of rounds that \
         gained too little, and for updates that were announced and did not arrive.",
        counted(rounds.len(), "round", "rounds"),
        worth - waiting,
        (budget * rounds.len() as f64 - worth).max(0.0),
    )];
    let gained = || rounds.iter().filter(|r| r.gain > 0.0 && r.worth_open > 0.0);
    let rate = |round: &&PayRound| round.worth_open / round.gain;
    let dear = gained().max_by(|a, b| rate(a).total_cmp(&rate(b)));
    let cheap = gained().min_by(|a, b| rate(a).total_cmp(&rate(b)));
    if let Some((dear, cheap)) = dear.zip(cheap).filter(|(d, c)| d.round != c.round) {
        let why = match price {
            0 => "no price is set, so that any gain pays the whole budget",
            _ => "a round pays its gain at the price, and no more than its budget",
        };
        out.push(format!(
            "A score of 1 brought {} OPEN in round {} and {} in round {}: {why}, and scores below zero take from a \
             round's gain and cost their authors nothing.",
            number(rate(&dear)),
            dear.round,
            number(rate(&cheap)),
            cheap.round,
        ));
    }
    if held_back > 0.0 {
        let held = people.iter().filter(|row| row.held_back_open > 0.0);
        out.push(format!(
            "{held_back:.4} OPEN were held back from {}, whose scores until then were not beyond three standard \
             deviations of luck; nobody else gets them.",
            counted(held.count(), "contributor", "contributors")
        ));
    }
    let turned = |a: &PayRow, b: &PayRow| a.score > b.score && a.earned_open + 5e-5 < b.earned_open;
    let pairs = || {
        people
            .iter()
            .flat_map(|a| people.iter().map(move |b| (a, b)))
    };
    let widest = pairs().filter(|(a, b)| turned(a, b)).max_by(|x, y| {
        (x.1.earned_open - x.0.earned_open).total_cmp(&(y.1.earned_open - y.0.earned_open))
    });
    if let Some((more, less)) = widest {
        out.push(format!(
            "{} has the higher score ({} against {}) and earned less ({:.4} against {:.4} OPEN) than {}.",
            more.name,
            number(more.score),
            number(less.score),
            more.earned_open,
            less.earned_open,
            less.name,
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::load;
    use crate::world::World;

    #[test]
    fn what_was_earned_is_what_the_columns_add_up_to_and_what_rounds_paid() {
        let scenario = load("smoke").unwrap();
        let outcome = World::new(&scenario, 1, None).recorded().run();
        let run = Run::of(&scenario, &outcome, 0.0).expect("recorded");
        let pay = Pay::of(&run);
        assert!(!pay.people.is_empty() && !pay.rounds.is_empty());
        for row in &pay.people {
            let sum = row.by_round_open - row.held_back_open;
            assert!((sum - row.earned_open).abs() < 1e-5, "{row:?}");
        }
        let of = |amount: fn(&PayRow) -> f64| pay.people.iter().map(amount).sum::<f64>();
        // Both ways of splitting split the same.
        assert!((of(|r| r.by_score_open) - of(|r| r.by_round_open)).abs() < 1e-9);
        let paid: f64 = pay
            .rounds
            .iter()
            .map(|r| r.worth_open - r.waiting_open)
            .sum();
        assert!((of(|r| r.earned_open) - paid).abs() < 1e-5);
        assert!(
            of(|r| r.held_back_open) > 0.0,
            "a first round is luck to some"
        );
        let told = pay.sentences.join(" ");
        assert!(told.contains("4 rounds offered 1.0000 OPEN each"), "{told}");
        assert!(told.contains("held back from"), "{told}");
    }

    #[test]
    fn who_has_more_score_and_less_open_is_named() {
        let row = |name: &str, score, earned_open| PayRow {
            name: name.into(),
            score,
            by_score_open: 0.0,
            by_round_open: earned_open,
            held_back_open: 0.0,
            earned_open,
        };
        let people = [row("a", 3.0, 0.5), row("b", 2.0, 0.75), row("c", 1.0, 0.1)];
        let told = sentences(1.0, 0, &[], &people).join(" ");
        assert!(
            told.contains("a has the higher score (3 against 2)"),
            "{told}"
        );
        assert!(told.ends_with("than b."), "{told}");
        assert_eq!(sentences(1.0, 0, &[], &people[2..]).len(), 1);
    }
}
