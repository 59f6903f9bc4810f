//! Methods that score members by what they did to a hold-out, round by round.

use std::convert::Infallible;
use std::time::Instant;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tributary_attribution::utility::{LossDrop, Utility as _};
use tributary_attribution::{Coalition, path, shapley};
use tributary_protocol::id::PeerId;
use tributary_protocol::limits;
use tributary_trainer::Windows;

use super::tables::CEILING;
use super::{COALITIONS, Line, MEMBERS, View};
use crate::federation::{Closed, peer};
use crate::learner::Measure;

/// Hold-out windows that a round is scored on.
pub(super) const SCORE_WINDOWS: usize = 32;
/// Orders of members that the Monte-Carlo estimate draws for a round, and the part of the round's drop below
/// which the rest of an order is taken to add nothing (GTG-Shapley, arXiv:2109.02053).
const ORDERS: usize = 6;
const TRUNCATE: f64 = 0.05;
/// What evaluators sign.
pub(super) const OURS: &str = "path integral of what was not public (ours)";

/// What became of the rounds.
pub(super) struct Scored {
    pub(super) lines: Vec<Line>,
    /// Path integral scores, summed over rounds: what credit follows.
    pub(super) path: Vec<f64>,
}

pub(super) fn measure(view: &View) -> Scored {
    let mut lines = Vec::new();
    let mut add = |method, work: &dyn Fn() -> Vec<f64>| {
        if view.wants(method) {
            let (scores, ms) = timed(work);
            lines.push(view.line(method, None, &scores, ms));
        }
    };
    let (path, path_ms) = timed(|| sum_rounds(view, SCORE_WINDOWS, by_path));
    let whole = view.stage.learner.scored().len();
    let some = SCORE_WINDOWS;
    add(CEILING, &|| view.own(None));
    add("path integral", &|| path.clone());
    add(OURS, &|| sum_rounds(view, some, by_new_path));
    add("path integral, five times the hold-out", &|| {
        sum_rounds(view, whole, by_path)
    });
    add("exact Shapley of each round", &|| {
        sum_rounds(view, some, exactly)
    });
    add("truncated Monte-Carlo (GTG)", &|| {
        sum_rounds(view, some, by_orders)
    });
    add("leave one out, each round", &|| {
        sum_rounds(view, some, left_out)
    });
    add("solo loss drop, each round", &|| {
        sum_rounds(view, some, solo)
    });
    let worths = view.bank.worths(view.federation, view.seed, None);
    let bits = |member: usize| 1usize << member;
    let all = COALITIONS - 1;
    add("solo, retrained", &|| {
        (0..MEMBERS).map(|m| worths[bits(m)]).collect()
    });
    let without = |m: usize| worths[all] - worths[all & !bits(m)];
    add("leave one out, retrained", &|| {
        (0..MEMBERS).map(without).collect()
    });
    add("DataInf (reads the data)", &|| {
        super::answers::data_inf_hold_out(view, &drawn(view, 0, some))
    });
    add("cosine to the aggregate (CGSV)", &|| {
        sum_rounds(view, some, cosines)
    });
    add("update norm", &|| sum_rounds(view, some, norms));
    add("by size", &|| {
        view.stage.held.iter().map(|w| w.len() as f64).collect()
    });
    add("equal", &|| vec![1.0; MEMBERS]);
    // Answers use the path integral as well; it is not computed twice.
    (lines
        .iter_mut()
        .filter(|line| line.method == "path integral"))
    .for_each(|line| line.ms = path_ms);
    Scored { lines, path }
}

fn timed<R>(work: impl FnOnce() -> R) -> (R, f64) {
    let started = Instant::now();
    let result = work();
    (result, 1e3 * started.elapsed().as_secs_f64())
}

fn drawn(view: &View, round: usize, windows: usize) -> Windows {
    view.stage.drawn(&view.played.rounds[round], windows)
}

/// One round as methods see it.
struct Round<'a> {
    /// The rounds before, oldest first.
    before: &'a [Closed],
    closed: &'a Closed,
    measure: Measure<'a>,
    /// For what a method draws.
    nth: u64,
}

type Scores = Vec<(PeerId, f64)>;

/// A method's scores of every round, summed, by member.
fn sum_rounds(view: &View, windows: usize, method: impl Fn(&mut Round) -> Scores) -> Vec<f64> {
    let mut sums = vec![0.0; MEMBERS];
    for (nth, closed) in view.played.rounds.iter().enumerate() {
        let mut round = Round {
            before: &view.played.rounds[..nth],
            closed,
            measure: (view.stage.learner)
                .measure_round(&closed.contributions, &drawn(view, nth, windows)),
            nth: nth as u64,
        };
        for (who, score) in method(&mut round) {
            let member = (0..MEMBERS).find(|member| peer(*member) == who);
            sums[member.expect("a member")] += score;
        }
    }
    sums
}

impl Round<'_> {
    fn players(&self) -> usize {
        self.closed.contributions.len()
    }

    fn scores(&self, score: impl Fn(usize) -> f64) -> Scores {
        (self.closed.contributions.iter().enumerate())
            .map(|(at, (peer, _))| (*peer, score(at)))
            .collect()
    }

    /// Runs `play` with the game of this round: a coalition's worth is the drop of the loss when only its
    /// vectors are added.
    fn game<R>(&mut self, play: impl FnOnce(&mut dyn FnMut(Coalition) -> f64) -> R) -> R {
        let Self {
            closed, measure, ..
        } = self;
        let mut game = LossDrop::new(closed.before.values(), &closed.contributions, measure)
            .expect("the round was played");
        play(&mut |coalition| game.value(coalition).expect("the round was played"))
    }
}

fn by_path(round: &mut Round) -> Scores {
    path_integral(round, &[])
}

/// Contributions count as far as they were not public before, as in the daemon.
fn by_new_path(round: &mut Round) -> Scores {
    path_integral(round, &public(round.before))
}

/// What was public before a round: the updates of the last turns of its factors.
pub(super) fn public(before: &[Closed]) -> Vec<Vec<f32>> {
    // Factors take turns.
    let from = before.len().saturating_sub(2 * limits::PUBLIC_TURNS);
    (before[from..].iter())
        .flat_map(|closed| closed.contributions.iter().map(|(_, c)| c.clone()))
        .collect()
}

fn path_integral(round: &mut Round, public: &[Vec<f32>]) -> Scores {
    let before = round.closed.before.values();
    let found = path::score(
        before,
        &round.closed.contributions,
        public,
        &mut round.measure,
    );
    let scores = found.expect("the round was played").scores;
    scores.iter().map(|line| (line.peer, line.score)).collect()
}

fn exactly(round: &mut Round) -> Scores {
    let players = round.players();
    let worths: Vec<f64> = round.game(|worth| {
        let coalitions = (0..1u64 << players).map(Coalition::from_bits);
        coalitions.map(worth).collect()
    });
    let values = shapley::of_worths::<Infallible>(players, &worths).expect("a full table");
    round.scores(|at| values[at])
}

fn by_orders(round: &mut Round) -> Scores {
    let players = round.players();
    let mut rng = ChaCha8Rng::seed_from_u64(round.nth);
    let mut values = vec![0.0; players];
    round.game(|worth| {
        let all = worth(Coalition::full(players));
        for _ in 0..ORDERS {
            let mut order: Vec<usize> = (0..players).collect();
            order.shuffle(&mut rng);
            let (mut coalition, mut reached) = (Coalition::from_bits(0), 0.0);
            for player in order {
                if (all - reached).abs() < TRUNCATE * all.abs() {
                    break;
                }
                coalition = coalition.with(player);
                let next = worth(coalition);
                values[player] += (next - reached) / ORDERS as f64;
                reached = next;
            }
        }
    });
    round.scores(|at| values[at])
}

fn left_out(round: &mut Round) -> Scores {
    let full = Coalition::full(round.players());
    let drops: Vec<f64> = round.game(|worth| {
        let all = worth(full);
        full.members()
            .map(|m| all - worth(full.without(m)))
            .collect()
    });
    round.scores(|at| drops[at])
}

fn solo(round: &mut Round) -> Scores {
    let full = Coalition::full(round.players());
    let drops: Vec<f64> = round.game(|worth| {
        let alone = full.members().map(|m| Coalition::from_bits(0).with(m));
        alone.map(worth).collect()
    });
    round.scores(|at| drops[at])
}

fn cosines(round: &mut Round) -> Scores {
    let step = &round.closed.step;
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    let cosine = |vector: &[f32]| {
        let norms = (dot(vector, vector) * dot(step, step)).sqrt();
        if norms > 0.0 {
            dot(vector, step) / norms
        } else {
            0.0
        }
    };
    round.scores(|at| cosine(&round.closed.contributions[at].1))
}

fn norms(round: &mut Round) -> Scores {
    let norm = |vector: &[f32]| {
        vector
            .iter()
            .map(|v| f64::from(*v).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    round.scores(|at| norm(&round.closed.contributions[at].1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::attribution::bank::Bank;
    use crate::bench::attribution::cast::FEDERATIONS;
    use crate::bench::attribution::recipe::Ground;
    use crate::bench::attribution::{Losses, QUERIES};
    use crate::learner::Learner as _;

    /// The path integral is held against the exact values of the same game, on a real federation.
    #[test]
    fn path_scores_are_nearly_the_exact_values_of_a_round() {
        let ground = Ground::new().unwrap();
        let bank = Bank::pack(ground.fingerprint(), |_, _, bits| {
            let loss = 4.0 - 0.01 * bits.count_ones() as f32;
            Some(Losses {
                hold_out: loss,
                queries: vec![loss; QUERIES],
            })
        });
        let bank = bank.unwrap();
        let stage = ground.stage(&FEDERATIONS[1], 1);
        let played = stage.play(Coalition::full(MEMBERS));
        let view = View {
            federation: 1,
            seed: 0,
            bank: &bank,
            stage: &stage,
            played: &played,
            only: "",
        };
        let (path, exact) = (
            sum_rounds(&view, 32, by_path),
            sum_rounds(&view, 32, exactly),
        );
        let total: f64 = exact.iter().sum();
        assert!(total > 0.0, "nothing was learnt: {exact:?}");
        for (path, exact) in path.iter().zip(&exact) {
            assert!((path - exact).abs() < 0.02 * total, "{path} {exact}");
        }
        let loss = |values| stage.learner.loss(values);
        let drop = loss(played.first.values()) - loss(played.adapter.values());
        assert!(drop > 0.0, "the federation learns: {drop}");
    }
}
