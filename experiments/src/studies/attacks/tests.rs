//! Tests of the plan, the accounts and the tables; one federation is really run.

use std::collections::BTreeSet;

use super::*;
use crate::study::Part;

fn plan() -> Plan {
    Plan::of(&Ground::default()).unwrap()
}

fn comparison() -> Comparison {
    let catalogue = tributary_simulations::Catalogue::default();
    let rule = |name: &str| {
        (
            name.to_owned(),
            catalogue.rules.get(name).unwrap().thing.clone(),
        )
    };
    Comparison {
        rules: RULES.map(rule).to_vec(),
        plan: plan(),
    }
}

fn cells() -> Vec<Cell> {
    let folder = tempfile::tempdir().unwrap();
    comparison().cells(&Results::open(&folder.path().join("none")).unwrap())
}

fn cell(attack: Attack) -> Cell {
    let (name, rule) = comparison().rules.remove(0);
    Cell {
        members: MEMBERS,
        rule,
        name,
        attack: Some((
            Lie {
                attack,
                sealed: false,
            },
            3,
        )),
        seed: 1,
    }
}

#[test]
fn every_cell_has_a_name_of_its_own() {
    let cells = cells();
    let names: BTreeSet<String> = cells
        .iter()
        .map(|cell| comparison().cell_name(cell))
        .collect();
    assert_eq!(names.len(), cells.len());
    let attacked = RULES.len() * SEEDS.len() * Lie::all().len() * 3;
    assert_eq!(plan().attackers, [2, 3, 5]);
    assert_eq!(cells.len(), attacked + RULES.len() * SEEDS.len());
}

#[test]
fn who_lies_under_sealed_updates_knows_those_of_the_factor_s_last_turn() {
    let update = |round: u8| vec![(vec![round], Vec::new())];
    let mut sealed = Seen::new(true);
    let found: Vec<Vec<Update>> = (1..=5).map(|round| sealed.newest(update(round))).collect();
    assert_eq!(found, [vec![], vec![], update(1), update(2), update(3)]);
    assert_eq!(Seen::new(false).newest(update(1)), update(1));
}

/// A quick setup: a tiny model that has hardly learnt anything and a text of a few pages.
#[test]
fn broken_numbers_are_refused_and_free_riders_earn_nothing() {
    let base = crate::learner::tiny_model(tributary_trainer::brook::HELD_OUT_SAMPLE, 20).unwrap();
    let corpus = Corpus::new(&base, CONTEXT, HOLD_OUT).unwrap();
    let mut setup = Setup {
        corpus: corpus.retain(|name| name == "opticks" || name == "atlas"),
        base,
        base_loss: None,
    };
    let broken = compute(&cell(Attack::NotFinite), &mut setup);
    assert_eq!(broken.refused, 3 * ROUNDS);
    assert_eq!(broken.credit, Some(0.0));
    assert!(broken.loss.unwrap() < broken.base_loss);
    let idle = compute(&cell(Attack::FreeRiderZero), &mut setup);
    assert_eq!((idle.refused, idle.credit), (0, Some(0.0)));
    assert!((idle.least_voice - 1.0).abs() < 1e-6, "the mean hears all");
}

#[test]
fn tables_compare_with_the_clean_mean_of_the_same_seed() {
    let folder = tempfile::tempdir().unwrap();
    let mut results = Results::open(&folder.path().join("results.jsonl")).unwrap();
    let compute = |cell: &Cell| {
        let clean = 4.0 + 0.1 * cell.seed as f64;
        Ok::<_, ResultsError>(Withstood {
            base_loss: 5.0,
            loss: Some(clean * if cell.attack.is_some() { 1.02 } else { 1.0 }),
            credit: cell.attack.map(|_| 0.5),
            paid_rounds: 1,
            least_voice: 0.75,
            refused: 0,
            phrase: None,
            wall_s: 0.0,
        })
    };
    results
        .fill(
            &cells(),
            |cell| comparison().cell_name(cell),
            Part::ALL,
            None,
            compute,
        )
        .unwrap();
    let figures = serde_json::to_value(figures(&plan(), &results, &RULES)).unwrap();
    let attacked = (figures.as_array().unwrap().iter())
        .find(|f| f["rule"] == "clipped mean" && f["attack"] == "sign flip")
        .unwrap();
    assert!((attacked["worse_percent"][0].as_f64().unwrap() - 2.0).abs() < 1e-9);
    assert!((attacked["credit_percent"][0].as_f64().unwrap() - 50.0).abs() < 1e-9);
    let page = markdown(&plan(), &results, &RULES, "the command");
    assert!(page.contains("3 attackers of 15 (20 %)") && page.contains("2.0 ± 0.0"));
    assert!(!page.contains("not run"));
}
