//! What a peer earned in one part of a run and in the next, and what caused the difference.
//!
//! Rounds are put in periods of equal length. The change from one period to the next is broken down into causes that
//! add up to it, to the micro-OPEN:
//!
//! 1. Earned is rounds taken part in times pay a round, `T m`. `T2 m2 - T1 m1` is
//!    `(T2 - T1) (m1 + m2)/2 + (m2 - m1) (T1 + T2)/2`: the number of rounds and the pay a round, each at
//!    the mean of the other. The number itself is a sum: rounds of the period, minus those that nobody
//!    scored, that gained nothing, that the peer was absent from, and in which its score was not beyond luck.
//! 2. A round pays `w s / (s + o)`: what contributors have of what the round is worth (its gain at the price, within the funded
//!    budget), the peer's own score and the others' positive ones. The pay a round of two periods differs by the mean over all pairs of their rounds, and each
//!    pair's difference is given to the three by their Shapley value, the mean over the orders in which they
//!    can be exchanged.
//!
//! Exchanging the periods turns every sign; a cause that did not change gets nothing. It says what the arithmetic of
//! pay did, and not why a score fell.

use tributary_protocol::id::{MicroOpen, NanoNats, PeerId, Round, RunId};

use crate::credit::{Outcome, RoundCredits};
use crate::fold::Books;
use crate::money::Balance;

/// Periods that a run has unless something else is asked for.
pub const PERIODS: u32 = 4;

/// Causes that are told apart.
const CAUSES: usize = 8;

/// Rounds of a period of a run of `rounds` rounds: a quarter, rounded up.
pub fn period_of(rounds: u32) -> u32 {
    rounds.div_ceil(PERIODS).max(1)
}

/// A peer's part of some consecutive rounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// First round.
    pub first: Round,
    /// Last round that is final.
    pub last: Round,
    /// Rounds without final scores.
    pub unscored: u32,
    /// Rounds that gained nothing.
    pub without_gain: u32,
    /// Rounds in which a positive score of this peer, or everybody's, was not beyond luck yet.
    pub held: u32,
    /// Rounds that were paid to others without a contribution of this peer.
    pub absent: u32,
    /// Rounds that were paid, with a contribution of this peer that was not held back.
    pub taken: u32,
    /// What it earned.
    pub earned: MicroOpen,
    /// Its mean score in the rounds it took part in, negative ones included; zero without any.
    pub score: NanoNats,
    /// Mean over the same rounds of the others' positive scores, together.
    pub others: NanoNats,
    rounds: Vec<Pay>,
}

/// What decided one round's pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pay {
    worth: MicroOpen,
    own_score: i64,
    /// Sum of the others' positive scores.
    others: u64,
}

/// Why a peer earned more or less than in the period before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The period has more or fewer final rounds.
    Length,
    /// More or fewer of them had no final scores.
    Unscored,
    /// More or fewer of them gained nothing.
    NoGain,
    /// In more or fewer of them its score, or everybody's, was not beyond luck yet.
    NotBeyondLuck,
    /// The peer was absent from more or fewer of those that were paid.
    Absent,
    /// Its own scores.
    OwnScore,
    /// The others' scores, which share the round's worth with its own.
    OthersScores,
    /// What a round is worth: its gain at the price, within the budget.
    Worth,
}

impl Cause {
    /// All, in the order of reports.
    pub const ALL: [Self; CAUSES] = [
        Self::Length,
        Self::Unscored,
        Self::NoGain,
        Self::NotBeyondLuck,
        Self::Absent,
        Self::OwnScore,
        Self::OthersScores,
        Self::Worth,
    ];

    /// In a word, stable.
    pub fn word(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Unscored => "unscored",
            Self::NoGain => "no-gain",
            Self::NotBeyondLuck => "not-beyond-luck",
            Self::Absent => "absent",
            Self::OwnScore => "own-score",
            Self::OthersScores => "others-scores",
            Self::Worth => "worth",
        }
    }
}

/// What changed from one period to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Earned in the later period minus earned in the earlier.
    pub total: Balance,
    /// What each cause did to it, in the order of [`Cause::ALL`]; they add up to `total`.
    pub parts: [(Cause, Balance); CAUSES],
}

/// `peer`'s final rounds of a run in periods of `by` rounds, counted from round 1. The last may be shorter.
///
/// # Panics
/// If `by` is zero.
pub fn periods(books: &Books, run: RunId, peer: PeerId, by: u32) -> Vec<Period> {
    assert!(by > 0, "a period has rounds");
    let mut periods: Vec<Period> = Vec::new();
    for (round, credits) in books.rounds(run) {
        let first = Round((round.round.0.max(1) - 1) / by * by + 1);
        if periods.last().is_none_or(|period| period.first != first) {
            periods.push(Period::empty(first));
        }
        let period = periods.last_mut().expect("just pushed");
        period.last = round.round;
        period.add(credits, peer);
    }
    periods
}

impl Period {
    fn empty(first: Round) -> Self {
        Self {
            first,
            last: first,
            unscored: 0,
            without_gain: 0,
            held: 0,
            absent: 0,
            taken: 0,
            earned: MicroOpen(0),
            score: NanoNats(0),
            others: NanoNats(0),
            rounds: Vec::new(),
        }
    }

    fn add(&mut self, credits: &RoundCredits, peer: PeerId) {
        match credits.outcome {
            Outcome::Unscored => self.unscored += 1,
            Outcome::NoGain => self.without_gain += 1,
            Outcome::NotBeyondLuck => self.held += 1,
            // An unfunded round is one that is worth nothing.
            Outcome::Paid | Outcome::Unfunded => {
                match credits.lines.iter().find(|line| line.peer() == peer) {
                    None => self.absent += 1,
                    Some(own) if own.tested.is_held_back() => self.held += 1,
                    Some(own) => {
                        let others = credits.lines.iter().filter(|line| line.peer() != peer);
                        let others = others.map(|line| line.tested.positive()).sum();
                        self.taken += 1;
                        self.earned = MicroOpen(self.earned.0 + own.amount.0);
                        self.rounds.push(Pay {
                            worth: credits.contributors,
                            own_score: own.tested.score.score.0,
                            others,
                        });
                        self.score = self.mean(|pay| i128::from(pay.own_score));
                        self.others = self.mean(|pay| i128::from(pay.others));
                    }
                }
            }
        }
    }

    fn mean(&self, of: fn(&Pay) -> i128) -> NanoNats {
        let sum: i128 = self.rounds.iter().map(of).sum();
        let mean = sum.div_euclid((self.rounds.len() as i128).max(1));
        NanoNats(i64::try_from(mean).unwrap_or(i64::MAX))
    }

    /// Final rounds.
    pub fn rounds(&self) -> u32 {
        self.unscored + self.without_gain + self.held + self.absent + self.taken
    }

    /// What changed since `before`.
    pub fn since(&self, before: &Self) -> Change {
        let paid = |period: &Self| match period.taken {
            0 => None,
            taken => Some(period.earned.0 as f64 / f64::from(taken)),
        };
        // Without a paid round of one's own there is no pay a round; that of the other period stands in.
        let (earlier, later) = (paid(before), paid(self));
        let pay = (earlier.or(later).unwrap_or(0.0) + later.or(earlier).unwrap_or(0.0)) / 2.0;
        let more = |of: fn(&Self) -> u32| f64::from(of(self)) - f64::from(of(before));
        let taken = f64::midpoint(f64::from(before.taken), f64::from(self.taken));
        let [worth, own, others] = by_pairs(&before.rounds, &self.rounds).map(|part| part * taken);
        let found = [
            more(Self::rounds) * pay,
            -more(|period| period.unscored) * pay,
            -more(|period| period.without_gain) * pay,
            -more(|period| period.held) * pay,
            -more(|period| period.absent) * pay,
            own,
            others,
            worth,
        ];
        let total = self.earned.0 as i128 - before.earned.0 as i128;
        let parts = whole(found, total);
        let mut causes = Cause::ALL.iter().zip(parts);
        Change {
            total: Balance(total),
            parts: std::array::from_fn(|_| {
                let (cause, part) = causes.next().expect("one part a cause");
                (*cause, Balance(part))
            }),
        }
    }
}

/// What worth, own score and others' scores did to the pay of a round, as the mean over all pairs.
fn by_pairs(before: &[Pay], after: &[Pay]) -> [f64; 3] {
    let mut sums = [0.0; 3];
    for earlier in before {
        for later in after {
            for (sum, part) in sums.iter_mut().zip(exchanged(earlier, later)) {
                *sum += part;
            }
        }
    }
    let pairs = (before.len() * after.len()).max(1) as f64;
    sums.map(|sum| sum / pairs)
}

/// The Shapley value of exchanging worth, own score and others' scores of one round for another's.
fn exchanged(from: &Pay, to: &Pay) -> [f64; 3] {
    let pay = |worth: &Pay, own: &Pay, others: &Pay| {
        let (own, others) = (own.own_score.max(0) as f64, others.others as f64);
        match own > 0.0 {
            true => worth.worth.0 as f64 * (own / (own + others)),
            false => 0.0,
        }
    };
    // `at(s)` has the factors of the bits of `s` exchanged.
    let at = |set: usize| {
        let of = |bit: usize| if set >> bit & 1 == 1 { to } else { from };
        pay(of(0), of(1), of(2))
    };
    std::array::from_fn(|factor| {
        let bit = 1 << factor;
        let others: Vec<usize> = (0..3).filter(|f| *f != factor).map(|f| 1 << f).collect();
        let gain = |set: usize| at(set | bit) - at(set);
        let both = others[0] | others[1];
        gain(0) / 3.0 + (gain(others[0]) + gain(others[1])) / 6.0 + gain(both) / 3.0
    })
}

/// The nearest whole numbers that add up to `total`. What rounding leaves goes to the largest part, where it
/// shows least.
fn whole(parts: [f64; CAUSES], total: i128) -> [i128; CAUSES] {
    let mut rounded = parts.map(|part| part.round() as i128);
    let left = total - rounded.iter().sum::<i128>();
    let mut largest = 0;
    for at in 1..parts.len() {
        if parts[at].abs() > parts[largest].abs() {
            largest = at;
        }
    }
    rounded[largest] += left;
    rounded
}

#[cfg(test)]
mod tests;
