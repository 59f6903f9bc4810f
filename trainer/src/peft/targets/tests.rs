//! PEFT's rules for names and patterns, on the paths of two layers.

use serde_json::{Value, json};

use super::*;
use crate::lora;
use crate::testing::tiny_config;

fn read(change: &Value) -> Result<Vec<Target>, ImportError> {
    let mut config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4});
    for (field, value) in change.as_object().unwrap() {
        config[field] = value.clone();
    }
    let config = LoraConfig::from_json(config.to_string().as_bytes())?;
    targets(&config, lora::modules(&tiny_config()))
}

/// Layer and last component of each adapted linear.
fn names(change: Value) -> Vec<String> {
    let short = |target: Target| {
        let parts: Vec<&str> = target.module.name.split('.').collect();
        format!("{}.{}", parts[2], parts[4].trim_end_matches("_proj"))
    };
    read(&change).unwrap().into_iter().map(short).collect()
}

#[test]
fn names_are_ends_of_paths_or_whole_paths() {
    assert_eq!(names(json!({"target_modules": ["q_proj"]})), ["0.q", "1.q"]);
    assert_eq!(
        names(json!({"target_modules": ["mlp.up_proj"]})),
        ["0.up", "1.up"]
    );
    assert_eq!(names(json!({"target_modules": ["proj", "up"]})), [""; 0]);
    let whole = json!({"target_modules": ["model.layers.1.mlp.up_proj"]});
    assert_eq!(names(whole), ["1.up"]);
    // What PEFT takes for these families when nothing is said.
    assert_eq!(names(json!({})), ["0.q", "0.v", "1.q", "1.v"]);
    assert_eq!(names(json!({"target_modules": "all-linear"})).len(), 14);
}

#[test]
fn a_pattern_is_for_the_whole_path() {
    assert_eq!(names(json!({"target_modules": "q_proj"})), [""; 0]);
    assert_eq!(names(json!({"target_modules": ".*q_proj"})), ["0.q", "1.q"]);
    let either = json!({"target_modules": r".*\.0\..*k_proj|.*\.1\..*(?<!g)ate_proj|.*1.*up_proj"});
    assert_eq!(names(either), ["0.k", "1.up"]);
    assert_eq!(
        names(json!({"target_modules": r".*(?P<x>o)_pr(?P=x)j"})),
        ["0.o", "1.o"]
    );
}

#[test]
fn layers_confine_ends_but_not_whole_paths() {
    let layers = |layers: Value, pattern: Value| {
        names(json!({
            "target_modules": ["q_proj", "model.layers.0.mlp.up_proj"],
            "layers_to_transform": layers, "layers_pattern": pattern,
        }))
    };
    assert_eq!(layers(json!([1]), Value::Null), ["0.up", "1.q"]);
    assert_eq!(layers(json!(0), json!("layers")), ["0.q", "0.up"]);
    assert_eq!(
        layers(json!([0, 1]), json!(["h", "layers"])),
        ["0.q", "0.up", "1.q"]
    );
    assert_eq!(layers(json!([0, 1]), json!(["h"])), ["0.up"]);
    assert_eq!(layers(json!([]), Value::Null), ["0.q", "0.up", "1.q"]);
}

#[test]
fn exclusions_win() {
    let change =
        |excluded: Value| json!({"target_modules": ".*[qk]_proj", "exclude_modules": excluded});
    assert_eq!(names(change(json!(["k_proj"]))), ["0.q", "1.q"]);
    assert_eq!(names(change(json!(r".*\.0\..*"))), ["1.q", "1.k"]);
    assert_eq!(names(change(json!([]))), ["0.q", "0.k", "1.q", "1.k"]);
}

#[test]
fn the_first_pattern_that_matches_gives_rank_and_alpha() {
    let change = json!({
        "target_modules": ["q_proj", "up_proj"],
        "rank_pattern": {"up": 9, r"layers\.0.*": 3, "q_proj": 5, "mlp.up_proj": 7},
        "alpha_pattern": {"model.layers.1.self_attn.q_proj": 10.0},
    });
    let found: Vec<(u32, f64)> = (read(&change).unwrap().iter())
        .map(|target| (target.rank, target.scale))
        .collect();
    assert_eq!(
        found,
        [(3, 4.0 / 3.0), (3, 4.0 / 3.0), (5, 2.0), (7, 4.0 / 7.0)]
    );
    let mut stabilised = change;
    stabilised["use_rslora"] = json!(true);
    let scales = read(&stabilised).unwrap();
    assert_eq!(scales[2].scale, 10.0 / 5f64.sqrt());
}
