//! Methods that score members by what they did to a hold-out, round by round.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tributary_attribution::{Coalition, path, shapley};
use tributary_protocol::limits;
use tributary_simulations::Named;

use super::tables::CEILING;
use super::{Line, Method, Round, Scores, Trial};
use tributary_simulations::federation::Closed;

/// Hold-out windows that a round is scored on.
pub(super) const SCORE_WINDOWS: usize = 32;
/// Orders of members that the Monte-Carlo estimate draws for a round, and the part of the round's drop below
/// which the rest of an order is taken to add nothing (GTG-Shapley, arXiv:2109.02053).
const ORDERS: usize = 6;
const TRUNCATE: f64 = 0.05;
/// The path integral, whatever was public before.
const PATH: &str = "path integral";
/// What evaluators sign.
pub(super) const OURS: &str = "path integral of what was not public (ours)";

/// What became of the rounds.
pub(super) struct Scored {
    pub(super) lines: Vec<Line>,
    /// Path integral scores, summed over rounds: what credit follows.
    pub(super) path: Vec<f64>,
}

/// The methods that are compared, in the order of the table.
pub fn methods() -> Named<dyn Method> {
    let mut methods: Named<dyn Method> = Named::new("attribution method");
    let mut add =
        |name: &str, about: &str, method: Arc<dyn Method>| methods.add(name, about, method);
    add(
        PATH,
        "Aumann-Shapley along the step of a round",
        by_rounds(SCORE_WINDOWS, by_path),
    );
    add(
        OURS,
        "the same, of what the rounds before did not show: what evaluators sign",
        by_rounds(SCORE_WINDOWS, by_new_path),
    );
    add(
        "path integral, five times the hold-out",
        "with all the windows that there are",
        Arc::new(|trial: &Trial<'_>| trial.sum_rounds(trial.hold_out(), by_path)),
    );
    for (name, about, method) in [
        (
            "exact Shapley of each round",
            "the values of all coalitions of a round",
            exactly as OfRound,
        ),
        (
            "truncated Monte-Carlo (GTG)",
            "some orders of the members (arXiv:2109.02053)",
            by_orders,
        ),
        (
            "leave one out, each round",
            "what the round loses without a member",
            left_out,
        ),
        (
            "solo loss drop, each round",
            "what a member gains alone",
            solo,
        ),
    ] {
        add(name, about, by_rounds(SCORE_WINDOWS, method));
    }
    retrained(&mut add);
    add(
        "DataInf (reads the data)",
        "influence by the members' own text, which a network does not see",
        Arc::new(|trial: &Trial<'_>| {
            super::answers::data_inf_hold_out(trial, &trial.drawn(0, SCORE_WINDOWS))
        }),
    );
    add(
        "cosine to the aggregate (CGSV)",
        "how far an update points where the round went",
        by_rounds(SCORE_WINDOWS, cosines),
    );
    add(
        "update norm",
        "the length of the updates",
        by_rounds(SCORE_WINDOWS, norms),
    );
    without_looking(&mut add);
    methods
}

/// A method of one round.
type OfRound = fn(&mut Round<'_>) -> Scores;

fn by_rounds(windows: usize, method: OfRound) -> Arc<dyn Method> {
    Arc::new(move |trial: &Trial<'_>| trial.sum_rounds(windows, method))
}

/// What any method must beat: it looks at no round.
fn without_looking(add: &mut impl FnMut(&str, &str, Arc<dyn Method>)) {
    add(
        "by size",
        "the text that a member holds",
        Arc::new(|trial: &Trial<'_>| trial.held().into_iter().map(|held| held as f64).collect()),
    );
    add(
        "equal",
        "the same for everyone",
        Arc::new(|trial: &Trial<'_>| vec![1.0; trial.members()]),
    );
}

/// What retraining with the same seed would tell of each member.
fn retrained(add: &mut impl FnMut(&str, &str, Arc<dyn Method>)) {
    let bit = |member: usize| 1usize << member;
    add(
        "solo, retrained",
        "a run of the member alone",
        Arc::new(move |trial: &Trial<'_>| {
            let worths = trial.retrained();
            (0..trial.members())
                .map(|member| worths[bit(member)])
                .collect()
        }),
    );
    add(
        "leave one out, retrained",
        "a run without the member",
        Arc::new(move |trial: &Trial<'_>| {
            let worths = trial.retrained();
            let all = worths.len() - 1;
            let without = |member: usize| worths[all] - worths[all & !bit(member)];
            (0..trial.members()).map(without).collect()
        }),
    );
}

/// Runs the methods that are asked for, behind the ceiling.
pub(super) fn measure(trial: &Trial<'_>, methods: &Named<dyn Method>) -> Scored {
    let (own, ms) = timed(|| trial.own(None));
    let mut lines = vec![trial.line(CEILING, None, &own, ms)];
    let mut path = None;
    for entry in methods.iter().filter(|entry| trial.wants(&entry.name)) {
        let (scores, ms) = timed(|| entry.thing.scores(trial));
        lines.push(trial.line(&entry.name, None, &scores, ms));
        if entry.name == PATH {
            path = Some(scores);
        }
    }
    // Answers use the path integral as well; it is not computed twice.
    let path = path.unwrap_or_else(|| trial.sum_rounds(SCORE_WINDOWS, by_path));
    Scored { lines, path }
}

fn timed<R>(work: impl FnOnce() -> R) -> (R, f64) {
    let started = Instant::now();
    let result = work();
    (result, 1e3 * started.elapsed().as_secs_f64())
}

fn by_path(round: &mut Round<'_>) -> Scores {
    path_integral(round, &[])
}

/// Contributions count as far as they were not public before, as in the daemon.
fn by_new_path(round: &mut Round<'_>) -> Scores {
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

fn exactly(round: &mut Round<'_>) -> Scores {
    let players = round.players();
    let worths: Vec<f64> = round.game(|worth| {
        let coalitions = (0..1u64 << players).map(Coalition::from_bits);
        coalitions.map(worth).collect()
    });
    let values = shapley::of_worths::<Infallible>(players, &worths).expect("a full table");
    round.scores(|at| values[at])
}

fn by_orders(round: &mut Round<'_>) -> Scores {
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

fn left_out(round: &mut Round<'_>) -> Scores {
    let full = Coalition::full(round.players());
    let drops: Vec<f64> = round.game(|worth| {
        let all = worth(full);
        full.members()
            .map(|m| all - worth(full.without(m)))
            .collect()
    });
    round.scores(|at| drops[at])
}

fn solo(round: &mut Round<'_>) -> Scores {
    let full = Coalition::full(round.players());
    let drops: Vec<f64> = round.game(|worth| {
        let alone = full.members().map(|m| Coalition::from_bits(0).with(m));
        alone.map(worth).collect()
    });
    round.scores(|at| drops[at])
}

fn cosines(round: &mut Round<'_>) -> Scores {
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

fn norms(round: &mut Round<'_>) -> Scores {
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
    use crate::studies::attribution::bank::Bank;
    use crate::studies::attribution::federations::FEDERATIONS;
    use crate::studies::attribution::recipe::Setup;
    use crate::studies::attribution::{Losses, MEMBERS, QUERIES};
    use tributary_simulations::learner::Learner as _;

    /// The path integral is held against the exact values of the same game, on a real federation.
    #[test]
    fn path_scores_are_nearly_the_exact_values_of_a_round() {
        let setup = Setup::own().unwrap();
        let bank = Bank::pack(setup.fingerprint(), MEMBERS, |_, _, bits| {
            let loss = 4.0 - 0.01 * bits.count_ones() as f32;
            Some(Losses {
                hold_out: loss,
                queries: vec![loss; QUERIES],
            })
        });
        let bank = bank.unwrap();
        let stage = setup.stage(&FEDERATIONS[1], 1);
        let played = stage.play(Coalition::full(MEMBERS));
        let trial = Trial {
            federation: 1,
            seed: 0,
            bank: &bank,
            stage: &stage,
            played: &played,
            only: "",
        };
        let (path, exact) = (trial.sum_rounds(32, by_path), trial.sum_rounds(32, exactly));
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
