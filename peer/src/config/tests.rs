//! Run files: defaults, bounds, and the mends that refusals offer.

use tributary_protocol::adapter::Module;
use tributary_protocol::hash::{Domain, digest};
use tributary_protocol::id::MicroOpen;

use super::*;

const MINIMAL: &str = "name = \"poets\"\nbase = \"brook\"\ndatanet = \"poems\"\nrounds = 6\n";

fn base() -> BaseFacts {
    BaseFacts {
        name: "brook".to_owned(),
        hash: digest(Domain::BaseModel, b"brook"),
        files: None,
        modules: vec![Module {
            name: "model.layers.0.self_attn.q_proj".to_owned(),
            inputs: 64,
            outputs: 32,
        }],
    }
}

fn creator() -> PeerId {
    PeerId(digest(Domain::Simulation, b"creator"))
}

fn refused(extra: &str) -> String {
    let text = format!("{MINIMAL}{extra}");
    match RunFile::parse(&text, "run.toml") {
        Err(e) => e.to_string(),
        Ok(file) => match file.manifest(creator(), 1, &base()) {
            Err(e) => e.to_string(),
            Ok(_) => panic!("accepted: {extra}"),
        },
    }
}

#[test]
fn four_keys_make_a_manifest() {
    let file = RunFile::parse(MINIMAL, "run.toml").unwrap();
    let manifest = file.manifest(creator(), 7, &base()).unwrap();
    assert_eq!(manifest.plan.rounds, 6);
    assert_eq!(manifest.scoring.evaluators, vec![creator()]);
    assert_eq!(manifest.model.adapter.rank, 8);
    assert_eq!(manifest.payment.budget_per_round, MicroOpen(1_000_000));
    assert_eq!(manifest.payment.price_per_nat, MicroOpen(50_000_000));
    assert_eq!(manifest.training.learning_rate, Ppb(2_000_000));
}

#[test]
fn a_nat_has_the_price_that_the_file_says_and_else_fifty_budgets() {
    let price = |extra: &str| {
        let file = RunFile::parse(&format!("{MINIMAL}{extra}"), "run.toml").unwrap();
        let manifest = file.manifest(creator(), 7, &base()).unwrap();
        manifest.check().unwrap();
        manifest.payment.price_per_nat.0
    };
    assert_eq!(price("budget_per_round_open = 3\n"), 150_000_000);
    assert_eq!(price("price_per_nat_open = \"0.25\"\n"), 250_000);
    assert_eq!(price("budget_per_round_open = 0\n"), 0);
}

#[test]
fn the_example_states_exactly_the_defaults() {
    let example = RunFile::parse(example(), "examples/run.toml").unwrap();
    let minimal = RunFile::parse(MINIMAL, "run.toml").unwrap();
    let with_names = RunFile {
        name: example.name.clone(),
        datanet: example.datanet.clone(),
        ..minimal
    };
    assert_eq!(example, with_names);
}

#[test]
fn the_example_holds_every_known_key() {
    let table: toml::Table = example().parse().unwrap();
    for (name, known) in keys::KEYS {
        let inner = if name.is_empty() {
            &table
        } else {
            table[name].as_table().unwrap()
        };
        for key in known {
            assert!(inner.contains_key(*key), "[{name}] {key} is missing");
        }
        assert_eq!(
            inner.len(),
            known.len(),
            "[{name}] has keys beyond the list"
        );
    }
}

#[test]
fn a_misspelt_key_is_refused_with_the_meant_one() {
    let text = refused("score_window = 3\n");
    assert!(text.contains("Did you mean `score_windows`?"), "{text}");
    let text = refused("[training]\nlocal_step = 3\n");
    assert!(
        text.contains("Did you mean `training.local_steps`?"),
        "{text}"
    );
}

#[test]
fn a_key_in_the_wrong_table_is_told_its_place() {
    let text = refused("rank = 4\n");
    assert!(text.contains("`rank` belongs in [adapter]"), "{text}");
    let text = refused("[codec]\ncommittee = 4\n");
    assert!(text.contains("top of the file"), "{text}");
}

#[test]
fn a_key_like_no_other_lists_what_is_known() {
    let text = refused("zzz = 1\n");
    assert!(text.contains("Known keys here: name, base"), "{text}");
}

#[test]
fn a_missing_key_is_named() {
    let error = RunFile::parse("name = \"x\"\n", "run.toml").unwrap_err();
    assert!(error.to_string().contains("base"), "{error}");
}

#[test]
fn a_value_of_the_wrong_kind_points_at_its_line() {
    let text = refused("committee = \"four\"\n");
    assert!(text.contains("line 5"), "{text}");
}

#[test]
fn values_out_of_bounds_are_refused_by_name() {
    for (extra, key) in [
        ("committee = 0\n", "committee"),
        ("[adapter]\nrank = 0\n", "adapter.rank"),
        ("[adapter]\nrank = 257\n", "adapter.rank"),
        ("[adapter]\nalpha = 5000\n", "adapter.alpha"),
        ("[training]\ncontext = 1\n", "training.context"),
        (
            "[training]\nlearning_rate = 0.0\n",
            "training.learning_rate",
        ),
        ("[codec]\ntop = 5000\n", "codec.top"),
        ("[codec]\nfeedback = 1.5\n", "codec.feedback"),
        ("[revenue]\nserver = 0.5\n", "revenue"),
        ("budget_per_round_open = -1\n", "budget_per_round_open"),
        ("price_per_nat_open = -1\n", "price_per_nat_open"),
        ("evaluators = [\"bob\"]\n", "evaluators"),
        (
            "weights = \"trained\"\nfull_weight_tokens = 9\n",
            "full_weight_tokens",
        ),
    ] {
        let text = refused(extra);
        assert!(text.contains(&format!("`{key}`")), "{extra}: {text}");
    }
}

#[test]
fn an_evaluator_named_twice_counts_once() {
    let twice = format!("{MINIMAL}evaluators = [\"self\", \"{}\"]\n", creator());
    let file = RunFile::parse(&twice, "run.toml").unwrap();
    let manifest = file.manifest(creator(), 1, &base()).unwrap();
    assert_eq!(manifest.scoring.evaluators, vec![creator()]);
}
