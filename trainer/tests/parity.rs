//! The trainer against transformers and PEFT on golden cases made by `parity/make.py`.
//!
//! Files as those programs write them are loaded, and losses, greedy tokens and the gradients of a
//! training step must be theirs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use tributary_protocol::adapter::Factor;
use tributary_trainer::{
    BaseModel, GenerateConfig, Windows, evaluate, export_peft, generate, import_peft,
    loss_and_gradient,
};

/// Largest difference of a mean loss, in nats.
const NLL: f64 = 1e-4;
/// Largest difference of a gradient, as a share of its tensor's largest element.
const GRADIENT: f32 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    tokens: Vec<Vec<u32>>,
    prompt: Vec<u32>,
    base_nll: f64,
    base_greedy: Vec<u32>,
    adapter_nll: f64,
    adapter_greedy: Vec<u32>,
    gradients: BTreeMap<String, Vec<f32>>,
}

fn case(name: &str) -> (PathBuf, BaseModel, Golden, Windows) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/parity")
        .join(name);
    let base = BaseModel::from_dir(&folder).expect("the base loads");
    let golden = std::fs::read(folder.join("golden.json")).expect("golden.json");
    let golden: Golden = serde_json::from_slice(&golden).expect("golden.json parses");
    let context = golden.tokens[0].len();
    let windows = Windows::from_tokens(golden.tokens.clone(), context, base.config().vocab);
    (folder, base, golden, windows.expect("windows"))
}

fn same_greedy_tokens(name: &str) {
    let (folder, base, golden, _) = case(name);
    let adapter = import_peft(&folder.join("adapter"), &base).expect("the adapter loads");
    let config = GenerateConfig {
        max_tokens: 24,
        ..GenerateConfig::default()
    };
    let with = [
        (None, golden.base_greedy),
        (Some(&adapter), golden.adapter_greedy),
    ];
    for (adapter, expected) in with {
        let answer =
            tributary_trainer::generate::generate_ids(&base, adapter, &golden.prompt, &config);
        assert_eq!(answer.expect("generates").token_ids, expected, "{name}");
    }
    // The text front end goes the same way where the prompt's tokens have a text.
    let text = base.decode(&[4, 5, 6]).expect("decodes");
    assert_eq!(
        generate(&base, None, &text, &config)
            .expect("generates")
            .prompt_ids,
        [4, 5, 6]
    );
}

fn same_losses_and_gradients(name: &str) {
    let (folder, base, golden, windows) = case(name);
    let adapter = import_peft(&folder.join("adapter"), &base).expect("the adapter loads");
    let plain = evaluate(&base, None, &windows).expect("evaluates");
    assert!(
        (plain.nll - golden.base_nll).abs() < NLL,
        "{name}: {plain:?}"
    );
    let with = evaluate(&base, Some(&adapter), &windows).expect("evaluates");
    assert!(
        (with.nll - golden.adapter_nll).abs() < NLL,
        "{name}: {with:?}"
    );

    let gaps = [plain.nll - golden.base_nll, with.nll - golden.adapter_nll];
    let mut worst = 0.0f32;
    let step = loss_and_gradient(&base, &adapter, &windows).expect("differentiates");
    let shape = adapter.shape();
    assert_eq!(golden.gradients.len(), shape.modules.len() * 2);
    for segment in shape.segments() {
        let module = &shape.modules[segment.module].name;
        let key = format!("base_model.model.{module}.lora_{:?}.weight", segment.factor);
        let expected = &golden.gradients[&key];
        // Import folds rank-stabilised scaling into B, which divides B's gradient by the same.
        let folded = match (name, segment.factor) {
            ("tied-llama3", Factor::B) => 6.0 / 3f32.sqrt(),
            _ => 1.0,
        };
        let largest = expected.iter().fold(0.0f32, |m, g| m.max(g.abs()));
        for (ours, theirs) in step.gradient[segment.range()].iter().zip(expected) {
            let difference = (ours * folded - theirs).abs();
            assert!(
                difference <= GRADIENT * largest,
                "{name} {key}: {ours} {theirs}"
            );
            worst = worst.max(difference / largest);
        }
    }
    let [base_gap, adapter_gap] = gaps.map(f64::abs);
    println!(
        "{name}: loss differs by {base_gap:.1e} (base) and {adapter_gap:.1e} (adapter) nats, \
         gradients by at most {worst:.1e} of their tensor's largest"
    );
}

#[test]
fn grouped_queries_give_the_losses_and_gradients_of_pytorch() {
    same_losses_and_gradients("grouped");
}

#[test]
fn tied_llama3_scaling_and_rank_stabilised_lora_give_those_of_pytorch() {
    same_losses_and_gradients("tied-llama3");
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    same_greedy_tokens("grouped");
    same_greedy_tokens("tied-llama3");
}

#[test]
fn an_adapter_from_peft_survives_our_export() {
    let (folder, base, _, _) = case("grouped");
    let adapter = import_peft(&folder.join("adapter"), &base).expect("the adapter loads");
    let out = tempfile::tempdir().expect("folder");
    export_peft(out.path(), "grouped", &adapter).expect("exports");
    assert_eq!(import_peft(out.path(), &base).expect("imports"), adapter);
}
