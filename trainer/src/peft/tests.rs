//! Round trips, and every way a folder is refused.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use tributary_protocol::adapter::{Adapter, AdapterShape};
use tributary_protocol::hash::Digest;

use super::*;
use crate::base::BaseModel;
use crate::data::Windows;
use crate::evaluate::evaluate;
use crate::model::files::{self, Precision};
use crate::model::parameters::Parameter;
use crate::testing::{random_adapter, tiny_base};

fn exported(adapter: &Adapter) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    export_peft(folder.path(), "tiny", adapter).unwrap();
    folder
}

fn config(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join(CONFIG_FILE)).unwrap()).unwrap()
}

fn set(folder: &Path, field: &str, value: Value) {
    let mut config = config(folder);
    config[field] = value;
    std::fs::write(folder.join(CONFIG_FILE), config.to_string()).unwrap();
}

fn tensors(adapter: &Adapter) -> Vec<Parameter> {
    let shape = adapter.shape();
    let tensor = |s: tributary_protocol::adapter::Segment| Parameter {
        name: format!(
            "{PREFIX}{}.lora_{:?}.weight",
            shape.modules[s.module].name, s.factor
        ),
        shape: vec![s.rows, s.cols],
        values: adapter.segment(&s).to_vec(),
    };
    shape.segments().into_iter().map(tensor).collect()
}

fn error(base: &BaseModel, adapter: &Adapter, change: impl Fn(&mut Vec<Parameter>)) -> String {
    let folder = exported(adapter);
    let mut tensors = tensors(adapter);
    change(&mut tensors);
    files::write(&folder.path().join(TENSOR_FILE), &tensors, Precision::F32).unwrap();
    import_peft(folder.path(), base)
        .expect_err("should be refused")
        .to_string()
}

#[test]
fn an_exported_adapter_imports_with_the_same_bytes() {
    let base = tiny_base();
    let adapter = random_adapter(&base, 3, 1);
    let folder = exported(&adapter);
    assert_eq!(import_peft(folder.path(), &base).unwrap(), adapter);
    let suffixes = [
        "down_proj",
        "gate_proj",
        "k_proj",
        "o_proj",
        "q_proj",
        "up_proj",
        "v_proj",
    ];
    assert_eq!(config(folder.path())["target_modules"], json!(suffixes));
}

#[test]
fn an_adapter_of_some_modules_keeps_to_them() {
    let base = tiny_base();
    let all = base.adapter_shape(2, 4);
    let shape = AdapterShape {
        modules: vec![all.modules[1].clone(), all.modules[9].clone()],
        ..all
    };
    let values = (0..shape.parameters())
        .map(|i| i as f32 * 0.01 - 0.2)
        .collect();
    let adapter = Adapter::new(Arc::new(shape), values).unwrap();
    let folder = exported(&adapter);
    assert_eq!(import_peft(folder.path(), &base).unwrap(), adapter);
    let names: Vec<&str> = adapter
        .shape()
        .modules
        .iter()
        .map(|m| m.name.as_str())
        .collect();
    assert_eq!(config(folder.path())["target_modules"], json!(names));
}

#[test]
fn rank_stabilised_scale_is_folded_into_b() {
    let base = tiny_base();
    let adapter = random_adapter(&base, 4, 1);
    let folder = exported(&adapter);
    set(folder.path(), "use_rslora", json!(true));
    set(folder.path(), "lora_alpha", json!(4.0));
    // alpha / sqrt(r) = 2 is what alpha 8 at rank 4 gives without rsLoRA.
    let stabilised = import_peft(folder.path(), &base).unwrap();
    set(folder.path(), "use_rslora", json!(false));
    set(folder.path(), "lora_alpha", json!(8));
    let plain = import_peft(folder.path(), &base).unwrap();
    let windows = Windows::from_text(&base, "how much wood would a woodchuck", 16).unwrap();
    let loss = |adapter| evaluate(&base, Some(adapter), &windows).unwrap().nll;
    assert!((loss(&stabilised) - loss(&plain)).abs() < 1e-6);
}

#[test]
fn faults_are_named_by_tensor() {
    let base = tiny_base();
    let adapter = random_adapter(&base, 3, 1);
    let at = 6;
    let name = tensors(&adapter)[at].name.clone();
    let missing = error(&base, &adapter, |t| drop(t.remove(at)));
    assert!(
        missing.contains(&name) && missing.contains("lacks"),
        "{missing}"
    );
    let both = error(&base, &adapter, |t| drop(t.drain(at..at + 2)));
    assert!(both.contains(&name), "{both}");
    let shape = error(&base, &adapter, |t| t[at].shape.reverse());
    assert!(shape.contains(&name), "{shape}");
    let rank = error(&base, &adapter, |t| {
        t[at].shape[0] = 1;
        t[at].values.truncate(16);
    });
    assert!(rank.contains(&name), "{rank}");
    let nan = error(&base, &adapter, |t| t[at].values[2] = f32::NAN);
    assert!(nan.contains(&name) && nan.contains("position 2"), "{nan}");
    let extra = error(&base, &adapter, |t| {
        t[at].name = name.replace("layers.0", "layers.5")
    });
    assert!(extra.contains("lacks"), "{extra}");
    let unmatched = error(&base, &adapter, |t| {
        let mut more = t[at].clone();
        more.name = name.replace("layers.0", "layers.5");
        t.push(more);
    });
    assert!(unmatched.contains("layers.5"), "{unmatched}");
}

#[test]
fn what_would_be_ignored_is_refused_by_field() {
    let base = tiny_base();
    let folder = exported(&random_adapter(&base, 3, 1));
    for (field, value) in [
        ("use_dora", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("bias", json!("all")),
        ("rank_pattern", json!({"q_proj": 4})),
        ("alpha_pattern", json!({"q_proj": 4})),
        ("peft_type", json!("IA3")),
        ("lora_alpha", json!(-1)),
        ("target_modules", json!("model.*q_proj")),
    ] {
        let before = config(folder.path())[field].clone();
        set(folder.path(), field, value);
        let error = import_peft(folder.path(), &base).unwrap_err().to_string();
        assert!(error.contains(field), "{field}: {error}");
        set(folder.path(), field, before);
    }
    assert!(import_peft(folder.path(), &base).is_ok());
}

#[test]
fn an_untrained_adapter_and_damaged_files_are_refused() {
    let base = tiny_base();
    let fresh = Adapter::init(Arc::new(base.adapter_shape(2, 4)), &Digest::default());
    let folder = exported(&fresh);
    assert!(matches!(
        import_peft(folder.path(), &base),
        Err(ImportError::NoEffect)
    ));
    let path = folder.path().join(TENSOR_FILE);
    let bytes = std::fs::read(&path).unwrap();
    for cut in (0..bytes.len()).step_by(199) {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        assert!(import_peft(folder.path(), &base).is_err());
    }
    std::fs::remove_file(&path).unwrap();
    let error = import_peft(folder.path(), &base).unwrap_err().to_string();
    assert!(error.contains(TENSOR_FILE), "{error}");
}
