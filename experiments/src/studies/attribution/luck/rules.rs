//! Ways of paying that differ in what they take for luck.
//!
//! All use the ledger's own arithmetic. A *bar* is what the sum of an author's scores has to exceed before its scores
//! count, three times what luck is said to be. Rules that *share* keep the shipped bar, and share out what luck
//! explains of the differences between those beyond it (after James and Stein), to each name alike or by text:
//!
//! ```text
//!   score' = m w + f (score - m w)     m = sum of scores / sum of w     w = 1, or the author's own tokens
//!   f = max(0, 1 - mean of (luck / w)^2 / variance of (sum of scores / w))
//! ```

use tributary_attribution::credit::{self, Offer, Served};
use tributary_attribution::significance::{CumulativeScore, Significance, TestedScore};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{MicroOpen, NanoNats, PeerId};
use tributary_protocol::round::FinalScore;

use super::{mean, variance};

/// What a run offers unless its creator says otherwise.
const OFFER: Offer = Offer {
    budget: MicroOpen(1_000_000),
    price_per_nat: MicroOpen(50_000_000),
    ..Offer::WHOLE
};

/// One contribution as evaluators judge it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) score: FinalScore,
    /// Half of what the scores on the two halves of the windows differ by, nanonats.
    pub(super) halves: f64,
    /// Tokens of its author's text.
    pub(super) tokens: f64,
}

/// Lines of each round of a run, of the same authors and ordered by peer.
pub(super) type Run = Vec<Vec<Line>>;

/// What is taken for luck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Luck {
    /// That of drawn signs, within the run.
    Signs,
    /// What scores on halves of the windows differ by.
    Halves,
    /// The spread of the sums over other runs of the same federation.
    Spread,
}

/// By what is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Each name gets as much.
    Names,
    /// Each token gets as much.
    Text,
}

/// A way of paying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Every positive score counts.
    Scores,
    /// Scores count beyond three times this luck.
    Bar(Luck),
    /// Beyond the shipped bar, what this luck explains is shared.
    Shared(Luck, By),
    /// Beyond the shipped bar, everything is.
    All(By),
}

/// What the ledger does.
pub(super) const SHIPPED: Rule = Rule::Bar(Luck::Signs);

pub(super) const RULES: [Rule; 11] = [
    SHIPPED,
    Rule::Scores,
    Rule::Bar(Luck::Halves),
    Rule::Bar(Luck::Spread),
    Rule::Shared(Luck::Signs, By::Names),
    Rule::Shared(Luck::Halves, By::Names),
    Rule::Shared(Luck::Spread, By::Names),
    Rule::Shared(Luck::Signs, By::Text),
    Rule::Shared(Luck::Halves, By::Text),
    Rule::All(By::Names),
    Rule::All(By::Text),
];

impl Luck {
    fn name(self) -> &'static str {
        match self {
            Self::Signs => "drawn signs",
            Self::Halves => "halves of the windows",
            Self::Spread => "the spread over other runs",
        }
    }
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Names => "by names",
            Self::Text => "by text",
        }
    }
}

impl Rule {
    /// For people.
    pub(super) fn name(self) -> String {
        match self {
            SHIPPED => "bar by drawn signs (shipped)".into(),
            Self::Scores => "no bar".into(),
            Self::Bar(luck) => format!("bar by {}", luck.name()),
            Self::Shared(luck, by) => {
                format!(
                    "shipped bar, luck by {} is shared {}",
                    luck.name(),
                    by.name()
                )
            }
            Self::All(by) => format!("shipped bar, everything is shared {}", by.name()),
        }
    }

    /// What each author is paid over a run, micro-OPEN. `others` are runs of the same federation with other seeds.
    pub(super) fn payouts(self, run: &Run, others: &[&Run]) -> Vec<f64> {
        let mut paid = vec![0.0; run.first().map_or(0, Vec::len)];
        let mut significance = Significance::default();
        for (round, lines) in run.iter().enumerate() {
            assert_eq!(lines.len(), paid.len(), "the same authors in each round");
            let scores: Vec<FinalScore> = lines.iter().map(|line| line.score).collect();
            let mut tested = significance.round(&scores);
            let squares = |luck: Luck| squares(luck, &run[..=round], others, &tested);
            match self {
                SHIPPED => {}
                Self::Scores => bar(&mut tested, &vec![0.0; lines.len()]),
                Self::Bar(luck) => {
                    let squares = squares(luck);
                    bar(&mut tested, &squares);
                }
                Self::Shared(luck, by) => {
                    let squares = squares(luck);
                    share(&mut tested, &weights(by, lines), Some(&squares));
                }
                Self::All(by) => share(&mut tested, &weights(by, lines), None),
            }
            let assigned = credit::assign(&tested, &OFFER, &Served::default())
                .expect("scores ordered by peer");
            for (paid, line) in paid.iter_mut().zip(&assigned.lines) {
                *paid += line.amount.0 as f64;
            }
        }
        paid
    }
}

fn weights(by: By, lines: &[Line]) -> Vec<f64> {
    let weight = |line: &Line| match by {
        By::Names => 1.0,
        By::Text => line.tokens,
    };
    lines.iter().map(weight).collect()
}

/// The same run with the author at this place under two names, each with half of its text and of its updates.
pub(super) fn split(run: &Run, at: usize) -> Run {
    let cut = |lines: &Vec<Line>| {
        let mut lines = lines.clone();
        let half = |nano: NanoNats| NanoNats(nano.0 / 2);
        let line = &mut lines[at];
        line.score.score = half(line.score.score);
        line.score.luck = half(line.score.luck);
        line.halves /= 2.0;
        line.tokens /= 2.0;
        let mut second = *line;
        let mut id = *second.score.peer.as_bytes();
        // The next id: nobody's, and in its place among the others.
        id[31] = id[31]
            .checked_add(1)
            .expect("an id that does not end in 255");
        second.score.peer = PeerId(Digest::from_bytes(id));
        lines.insert(at + 1, second);
        lines
    };
    run.iter().map(cut).collect()
}

/// The square of what luck is in the sum of each author's scores up to a round, the last of `rounds`.
fn squares(luck: Luck, rounds: &[Vec<Line>], others: &[&Run], tested: &[TestedScore]) -> Vec<f64> {
    let of = |at: usize| match luck {
        Luck::Signs => tested[at].shown.squares as f64,
        Luck::Halves => rounds.iter().map(|lines| lines[at].halves.powi(2)).sum(),
        Luck::Spread => {
            let sums = others.iter().map(|run| sum(&run[..rounds.len()], at));
            variance(&sums.collect::<Vec<_>>())
        }
    };
    (0..tested.len()).map(of).collect()
}

/// Sum of the scores of one author, by its place among all.
pub(super) fn sum(rounds: &[Vec<Line>], at: usize) -> f64 {
    let scores = rounds.iter().map(|lines| lines[at].score.score.0 as f64);
    scores.sum()
}

/// Puts another luck in the place of that of signs.
fn bar(tested: &mut [TestedScore], squares: &[f64]) {
    for (tested, squares) in tested.iter_mut().zip(squares) {
        let scores = match squares {
            // Without luck nothing is held back, not even after harm.
            0.0 => 1,
            _ => tested.shown.scores,
        };
        tested.shown = CumulativeScore {
            scores,
            squares: *squares as u128,
        };
    }
}

/// Moves the scores that count towards what they would be by weight: as far as luck explains how their authors' sums
/// differ, or all the way.
fn share(tested: &mut [TestedScore], weights: &[f64], squares: Option<&[f64]>) {
    let counting: Vec<usize> = (0..tested.len())
        .filter(|at| tested[*at].counts() > 0)
        .collect();
    if counting.len() < 2 {
        return;
    }
    let each =
        |of: &dyn Fn(usize) -> f64| -> Vec<f64> { counting.iter().map(|at| of(*at)).collect() };
    let rates = each(&|at| tested[at].shown.scores as f64 / weights[at]);
    let kept = squares.map_or(0.0, |squares| {
        let luck = mean(&each(&|at| squares[at] / weights[at].powi(2)));
        (1.0 - luck / variance(&rates).max(f64::MIN_POSITIVE)).max(0.0)
    });
    let scores = each(&|at| tested[at].score.score.0 as f64);
    let rate = scores.iter().sum::<f64>() / each(&|at| weights[at]).iter().sum::<f64>();
    for (at, score) in counting.into_iter().zip(scores) {
        let middle = rate * weights[at];
        tested[at].score.score = NanoNats((middle + kept * (score - middle)).round() as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORES: [i64; 6] = [1, 2, 3, 1, 2, 3];

    /// Four rounds in which authors with a thousand tokens each have these scores, in thousandths of a nat, and luck is a
    /// hundredth of a score.
    fn run(scores: [i64; 6], halves: f64) -> Run {
        let line = |(nth, score): (u8, i64)| {
            let score = NanoNats(score * 1_000_000);
            let score = FinalScore {
                peer: PeerId(Digest::from_bytes([nth; 32])),
                score,
                low: score,
                high: score,
                luck: NanoNats(score.0.abs() / 100),
            };
            Line {
                score,
                halves,
                tokens: 1_000.0,
            }
        };
        vec![(1..).zip(scores).map(line).collect(); 4]
    }

    #[test]
    fn without_luck_nothing_is_shared_and_with_much_everything_is() {
        let (sure, vague) = (run(SCORES, 0.0), run(SCORES, 1e7));
        let pays = |rule: Rule, run: &Run| rule.payouts(run, &[]);
        let shared = Rule::Shared(Luck::Halves, By::Names);
        let all = Rule::All(By::Names);
        assert_eq!(pays(shared, &sure), pays(SHIPPED, &sure));
        assert_eq!(pays(shared, &vague), pays(all, &vague));
        let equal = pays(all, &sure);
        assert!(equal.iter().all(|paid| (paid - equal[0]).abs() <= 4.0));
        let total = |paid: &[f64]| paid.iter().sum::<f64>();
        let shipped = pays(SHIPPED, &sure);
        assert!((total(&equal) - total(&shipped)).abs() <= 24.0);
        assert!(shipped[2] > 2.9 * shipped[0]);
    }

    #[test]
    fn a_bar_holds_back_what_its_luck_explains() {
        let others = [run([0; 6], 0.0), run([6; 6], 0.0)];
        let others: Vec<&Run> = others.iter().collect();
        let run = run(SCORES, 1e7);
        let nobody = |paid: Vec<f64>| paid.iter().all(|paid| *paid == 0.0);
        assert!(nobody(Rule::Bar(Luck::Halves).payouts(&run, &others)));
        assert!(nobody(Rule::Bar(Luck::Spread).payouts(&run, &others)));
        assert!(!nobody(SHIPPED.payouts(&run, &others)));
    }

    #[test]
    fn harm_is_paid_nothing_by_any_rule() {
        let run = run([-1, 2, 3, 4, 5, 6], 1e5);
        let others = [&run, &run];
        for rule in RULES {
            assert_eq!(rule.payouts(&run, &others)[0], 0.0, "{}", rule.name());
        }
    }

    #[test]
    fn a_second_name_earns_where_names_share_and_not_where_text_does() {
        let whole = run(SCORES, 1e7);
        let gain = |rule: Rule| {
            let two = rule.payouts(&split(&whole, 0), &[]);
            (two[0] + two[1]) / rule.payouts(&whole, &[])[0]
        };
        assert!((gain(SHIPPED) - 1.0).abs() < 1e-3);
        assert!((gain(Rule::All(By::Names)) - 12.0 / 7.0).abs() < 1e-3);
        assert!((gain(Rule::Shared(Luck::Halves, By::Text)) - 1.0).abs() < 1e-3);
    }
}
