//! Tests of the plan and the tables, on made-up losses: no model is trained here.

use std::collections::BTreeSet;

use super::method::{CENTRAL_FEW, CENTRAL_MANY, FEDIT};
use super::*;
use crate::study::Part;

/// Results in which every cell's loss is what `loss` says of it.
fn filled(loss: impl Fn(&Cell) -> f64) -> (tempfile::TempDir, Results<Learned>) {
    let folder = tempfile::tempdir().unwrap();
    let mut results = Results::open(&folder.path().join("results.jsonl")).unwrap();
    let compute = |cell: &Cell| -> Result<Learned, ResultsError> {
        Ok(Learned {
            losses: vec![Some(loss(cell)); 8],
            own: Some(loss(cell)),
            upload_bytes: if cell.method.name == FEDIT { 2e6 } else { 1e4 },
            tokens: 1,
            wall_s: 0.0,
        })
    };
    results
        .fill(&tuning(), Cell::name, Part::ALL, None, compute)
        .unwrap();
    let cells = measured(&results);
    results
        .fill(&cells, Cell::name, Part::ALL, None, compute)
        .unwrap();
    (folder, results)
}

#[test]
fn each_method_is_measured_at_its_best_rate_and_every_cell_has_a_name_of_its_own() {
    let (_folder, results) = filled(|cell| 5.0 - cell.rate);
    let cells = measured(&results);
    let names: BTreeSet<String> = cells.iter().map(Cell::name).collect();
    assert_eq!(names.len(), cells.len());
    for cell in &cells {
        let all = Method::all();
        let tuned = (all.iter().find(|m| m.name == cell.method.tuned_as)).expect("a method");
        let highest = tuned.rates.iter().copied().fold(0.0, f64::max);
        assert_eq!(cell.rate, highest, "{}", cell.method.name);
    }
}

#[test]
fn nothing_is_measured_before_its_rates_were_tried() {
    let folder = tempfile::tempdir().unwrap();
    let results = Results::open(&folder.path().join("none.jsonl")).unwrap();
    assert!(measured(&results).is_empty());
}

#[test]
fn gaps_are_to_the_better_centralised_training_of_the_same_seed() {
    let (_folder, results) = filled(|cell| {
        let seed = cell.seed as f64;
        match cell.method.name {
            // Which of the two is better changes with the seed.
            CENTRAL_MANY => 4.0 + 0.1 * seed,
            CENTRAL_FEW => 4.2,
            _ => 1.01 * (4.0 + 0.1 * seed).min(4.2),
        }
    });
    let figures = serde_json::to_value(figures(&results)).unwrap();
    let of = |method: &str| {
        (figures.as_array().unwrap().iter())
            .find(|f| f["method"] == method && f["mix"] == "domains")
            .unwrap()
            .clone()
    };
    let fedit = of(FEDIT);
    assert!((fedit["gap_percent"][0].as_f64().unwrap() - 1.0).abs() < 1e-9);
    assert!(fedit["gap_percent"][1].as_f64().unwrap() < 1e-9);
    assert!((of("alternate, sparse")["less_than_dense"].as_f64().unwrap() - 200.0).abs() < 1e-9);
    let setting = Setting {
        members: MEMBERS,
        what: "texts; LoRA on brook".into(),
        shape: BaseModel::brook().unwrap().adapter_shape(RANK, 2 * RANK),
    };
    let page = markdown(&results, "the command", &setting);
    assert!(page.contains("of texts; LoRA on brook with rank 8"));
    assert!(page.contains("One domain a member") && page.contains("1.00 ± 0.00"));
}
