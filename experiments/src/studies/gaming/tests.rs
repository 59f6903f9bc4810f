//! Tests of the plan, the accounts and the tables; a few federations are really run.

use std::collections::BTreeSet;

use tributary_attribution::path;

use super::payments::TODAY;
use super::*;
use crate::study::Part;

fn cell(strategy: Strategy) -> Cell {
    Cell {
        strategy,
        tied: false,
        seed: 1,
    }
}

#[test]
fn every_cell_has_a_name_of_its_own() {
    let cells = Cell::all();
    let names: BTreeSet<String> = cells.iter().map(Cell::name).collect();
    assert_eq!(names.len(), cells.len());
}

#[test]
fn zeros_are_paid_nothing_and_a_name_that_is_cut_in_two_holds_its_text_once() {
    let setup = Setup::quick(MEMBERS);
    let idle = compute(&cell(Strategy::Zero), &setup);
    assert!(idle.paid.values().all(|paid| paid.cheater == 0.0));
    let sum = |paid: &Paid| paid.cheater + paid.honest.iter().sum::<f64>();
    assert!(
        idle.paid
            .values()
            .all(|paid| sum(paid) <= f64::from(ROUNDS) + 1e-9)
    );
    let dealt = setup.deal(MEMBERS, HELD, 1);
    let parts = Strategy::Cut(2).holds(&setup, &dealt, 1);
    let held: usize = parts.iter().map(Windows::len).sum();
    assert_eq!((parts.len(), held), (2, HELD));
    let whole = Strategy::Whole(4).holds(&setup, &dealt, 1);
    let together: f64 = claims(&whole).iter().sum();
    assert!((together - 1.0).abs() < 1e-9, "{together}");
}

#[test]
fn another_number_of_members_pays_so_many_honest_ones_and_one_cheater() {
    let setup = Setup::quick(4);
    let played = compute(&cell(Strategy::Published(2)), &setup);
    for paid in played.paid.values() {
        assert_eq!(paid.honest.len(), 3);
    }
    let today = &played.paid[TODAY];
    assert!(
        today.cheater + today.honest.iter().sum::<f64>() > 1.0,
        "{today:?}"
    );
    let names = played.likeness.round.names;
    assert!(
        names.is_some(),
        "the cheater's two names are not among the honest"
    );
}

/// Random numbers are paid when they happen to help, unless more than that is asked of them.
#[test]
fn today_pays_no_free_rider_and_the_honest_from_their_first_rounds() {
    let setup = Setup::quick(MEMBERS);
    let played = compute(&cell(Strategy::Random), &setup);
    let (today, before) = (&played.paid[TODAY], &played.paid["updates, 4 rounds"]);
    assert_eq!(today.cheater, 0.0);
    assert!(before.cheater > 0.0, "{before:?}");
    let sum = |paid: &Paid| paid.honest.iter().sum::<f64>();
    // Of twelve rounds the first may be too early to tell.
    assert!(sum(today) >= f64::from(ROUNDS) - 1.0 - 1e-9, "{today:?}");
    assert!(today.honest.iter().all(|paid| *paid > 0.0), "{today:?}");
}

/// The experiment's slope gives what an evaluator's sheet says, and novelty in both means the same.
#[test]
fn scores_of_the_experiment_are_those_of_an_evaluator() {
    let setup = Setup::quick(MEMBERS);
    let dealt = setup.deal(3, HELD, 1);
    let held = dealt.into_iter().map(|holding| holding.windows).collect();
    let learner = setup.learner(held, 1);
    let mut federation = Federation::new(learner.shape().clone(), 1, 3, terms());
    let mut history: Vec<Closed> = Vec::new();
    for _ in 0..4 {
        let closed = federation.play(&learner, |_| STEPS);
        let slope = slope(&learner, &closed);
        let round = Round {
            closed: &closed,
            slope: &slope,
            history: &history,
        };
        for (rule, rounds) in [(PAYMENT_RULES[0], 0), (PAYMENT_RULES[2], 2)] {
            let from = history.len().saturating_sub(rounds);
            let public: Vec<Vec<f32>> = (history[from..].iter())
                .flat_map(|closed| closed.contributions.iter().map(|(_, c)| c.clone()))
                .collect();
            let mut measure = learner.measure_round(&closed.contributions, learner.scored());
            let (before, contributions) = (closed.before.values(), &closed.contributions);
            let sheet = path::score(before, contributions, &public, &mut measure).unwrap();
            for (found, line) in rule
                .scores(&round, &mut Significance::default())
                .iter()
                .zip(&sheet.scores)
            {
                assert!((found - line.score).abs() < 1e-6, "{found} {}", line.score);
            }
        }
        history.push(closed);
    }
}

#[test]
fn tables_hold_a_cheater_against_itself_when_honest() {
    let folder = tempfile::tempdir().unwrap();
    let mut results = Results::open(&folder.path().join("results.jsonl")).unwrap();
    let pairs = || likeness::Pairs {
        strangers: [0.25, 0.5],
        names: Some([0.75, 0.875]),
    };
    let compute = |cell: &Cell| {
        let paid = Paid {
            rounds: 12,
            cheater: if cell.strategy == Strategy::Honest {
                1.5
            } else {
                3.0
            },
            honest: vec![1.5; MEMBERS - 1],
        };
        Ok::<_, ResultsError>(Played {
            paid: PAYMENT_RULES
                .map(|rule| (rule.name.to_owned(), paid.clone()))
                .into(),
            likeness: Likeness {
                round: pairs(),
                run: pairs(),
            },
            asked: None,
            wall_s: 0.0,
        })
    };
    (results.fill(&Cell::all(), Cell::name, Part::ALL, None, compute)).unwrap();
    let figures = serde_json::to_value(figures(&results)).unwrap();
    let copied = (figures.as_array().unwrap().iter())
        .find(|f| f["strategy"] == "copy, updates open" && f["rule"] == "none")
        .unwrap();
    assert_eq!(copied["gain"][0], 2.0);
    // An eighth of twelve budgets would be fair.
    assert_eq!(copied["fair_percent"][0], 200.0);
    let page = markdown(&results, "the command", MEMBERS, "texts; LoRA on a model");
    assert!(page.contains("| copy, updates open | 200.0 ± 0.0") && page.contains("0.88 ± 0.00"));
}
