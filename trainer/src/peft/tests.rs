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
    assert!(
        extra.contains("layers.5") && extra.contains("no linear"),
        "{extra}"
    );
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
    let many: serde_json::Map<_, _> = (0..3000).map(|i| (format!("x{i}"), json!(1))).collect();
    for (field, value) in [
        ("use_dora", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("bias", json!("all")),
        ("peft_type", json!("IA3")),
        ("lora_alpha", json!(-1)),
        ("alpha_pattern", json!({"q_proj": 0})),
        ("rank_pattern", json!({"q_(proj": 3})),
        ("rank_pattern", json!({"x".repeat(5000): 3})),
        ("rank_pattern", json!(many)),
        ("target_modules", json!("*q_proj")),
        ("target_modules", json!("(a+)+$(?<=b)".repeat(9))),
        ("target_modules", json!(["q_proj", "lm_head"])),
        ("target_modules", json!(["embed_tokens"])),
        ("target_modules", json!(["c_attn"])),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("alora_invocation_tokens", json!([1, 2])),
        ("trainable_token_indices", json!([1])),
        ("target_parameters", json!(["x"])),
        // Not known here, and set.
        ("use_mixora", json!(true)),
        ("mixora_groups", json!(4)),
    ] {
        let before = config(folder.path())[field].clone();
        set(folder.path(), field, value);
        let error = import_peft(folder.path(), &base).unwrap_err().to_string();
        assert!(error.contains(field), "{field}: {error}");
        set(folder.path(), field, before);
    }
    // Not known either, but says that it is off.
    set(folder.path(), "use_later", json!(false));
    assert!(import_peft(folder.path(), &base).is_ok());
    set(folder.path(), "target_modules", json!(".*_proj"));
    set(folder.path(), "layers_to_transform", json!([0]));
    let error = import_peft(folder.path(), &base).unwrap_err().to_string();
    assert!(error.contains("layers_to_transform"), "{error}");
}

#[test]
fn an_adapter_that_names_another_base_is_told() {
    let base = tiny_base();
    let folder = exported(&random_adapter(&base, 3, 1));
    let named = |name: Value| {
        set(folder.path(), "base_model_name_or_path", name);
        other_base(folder.path(), &base)
    };
    let same = format!("/somewhere/else/{}/", base.name());
    for name in [
        json!(base.name().to_uppercase()),
        json!(same),
        json!("."),
        Value::Null,
    ] {
        assert_eq!(named(name.clone()), None, "{name}");
    }
    let other = Some("someone/Other-1B".to_owned());
    assert_eq!(named(json!("someone/Other-1B")), other);
    let verified = verify(folder.path(), &base).unwrap();
    assert!(verified.to_string().ends_with("someone/Other-1B"));
    assert_eq!(verified.named_base, other);
}

#[test]
fn a_pattern_that_never_ends_is_given_up() {
    let base = tiny_base();
    let folder = exported(&random_adapter(&base, 3, 1));
    set(folder.path(), "target_modules", json!("(?:(?=.)(.+)+)+x"));
    let start = std::time::Instant::now();
    let error = import_peft(folder.path(), &base).unwrap_err();
    assert!(matches!(error, ImportError::Pattern { .. }), "{error}");
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn the_name_of_an_adapter_inside_tensor_names_is_skipped() {
    let base = tiny_base();
    let adapter = random_adapter(&base, 3, 1);
    let folder = exported(&adapter);
    let path = folder.path().join(TENSOR_FILE);
    let mut tensors = tensors(&adapter);
    for tensor in &mut tensors {
        tensor.name = tensor.name.replace(".weight", ".default.weight");
    }
    files::write(&path, &tensors, Precision::F32).unwrap();
    assert_eq!(import_peft(folder.path(), &base).unwrap(), adapter);
    // A second adapter in the same file would be read over the first.
    let mut other = tensors[0].clone();
    other.name = other.name.replace("default", "other");
    tensors.push(other);
    files::write(&path, &tensors, Precision::F32).unwrap();
    let error = import_peft(folder.path(), &base).unwrap_err();
    assert!(matches!(error, ImportError::Twice { .. }), "{error}");
}

#[test]
fn only_a_pickle_is_refused_with_the_way_to_convert_it() {
    let base = tiny_base();
    let folder = exported(&random_adapter(&base, 3, 1));
    std::fs::rename(
        folder.path().join(TENSOR_FILE),
        folder.path().join("adapter_model.bin"),
    )
    .unwrap();
    let error = import_peft(folder.path(), &base).unwrap_err().to_string();
    assert!(
        error.contains("adapter_model.bin is a pickle file"),
        "{error}"
    );
    assert!(error.contains("{k: v.contiguous()"), "{error}");
}

#[test]
fn an_adapter_whose_product_is_zero_is_not_verified() {
    let base = tiny_base();
    let adapter = random_adapter(&base, 3, 1);
    let folder = exported(&adapter);
    let report = verify(folder.path(), &base).unwrap();
    assert_eq!(
        (report.tensors, report.modules.len(), report.rank),
        (28, 14, 3)
    );
    assert_eq!(report.parameters as usize, adapter.values().len());
    let text = report.to_string();
    assert!(
        text.contains("all 28 tensors") && text.contains("14 linears"),
        "{text}"
    );

    let mut tensors = tensors(&adapter);
    let a = tensors.iter_mut().filter(|t| t.name.contains("lora_A"));
    a.for_each(|t| t.values.fill(0.0));
    files::write(&folder.path().join(TENSOR_FILE), &tensors, Precision::F32).unwrap();
    let error = verify(folder.path(), &base).unwrap_err();
    assert!(matches!(error, ImportError::NoChange), "{error}");
}

#[test]
fn the_norm_of_an_update_is_that_of_the_product() {
    let base = tiny_base();
    let adapter = random_adapter(&base, 3, 1);
    let report = verify(exported(&adapter).path(), &base).unwrap();
    let segments = adapter.shape().segments();
    for (module, pair) in report.modules.iter().zip(segments.chunks_exact(2)) {
        let (a, b) = (adapter.segment(&pair[0]), adapter.segment(&pair[1]));
        let mut square = 0.0;
        for row in b.chunks_exact(3) {
            for col in 0..pair[0].cols {
                let product: f64 = (row.iter().enumerate())
                    .map(|(r, b)| f64::from(*b) * f64::from(a[r * pair[0].cols + col]))
                    .sum();
                square += (product * module.scale).powi(2);
            }
        }
        assert!((module.update_norm - square.sqrt()).abs() < 1e-9 * square.sqrt());
    }
}

/// Linears of the tiny base have different ranks and scales.
fn uneven(base: &BaseModel) -> tempfile::TempDir {
    let shape = base.adapter_shape(1, 1);
    let ranks: Vec<usize> = (shape.modules.iter().enumerate())
        .map(|(at, module)| match module.name.ends_with("q_proj") {
            // The first pattern that matches counts.
            _ if at >= 7 => 1,
            true => 4,
            false => 2,
        })
        .collect();
    let mut tensors = Vec::new();
    for (module, rank) in shape.modules.iter().zip(ranks) {
        let (inputs, outputs) = (module.inputs as usize, module.outputs as usize);
        for (letter, shape) in [("A", vec![rank, inputs]), ("B", vec![outputs, rank])] {
            let count = shape.iter().product();
            tensors.push(Parameter {
                name: format!("{PREFIX}{}.lora_{letter}.weight", module.name),
                values: (0..count)
                    .map(|i| 0.2 * (i as f32 * 0.7 + 0.3).sin())
                    .collect(),
                shape,
            });
        }
    }
    let folder = exported(&random_adapter(base, 2, 1));
    files::write(&folder.path().join(TENSOR_FILE), &tensors, Precision::F32).unwrap();
    set(folder.path(), "r", json!(2));
    set(
        folder.path(),
        "rank_pattern",
        json!({r"model\.layers\.1\..*": 1, "q_proj": 4}),
    );
    set(folder.path(), "alpha_pattern", json!({"mlp.up_proj": 7.5}));
    folder
}

#[test]
fn padding_of_smaller_ranks_stays_zero_in_training() {
    let base = tiny_base();
    let folder = uneven(&base);
    let adapter = import_peft(folder.path(), &base).unwrap();
    assert_eq!((adapter.shape().rank, adapter.shape().alpha), (4, 4));
    let windows = Windows::from_text(&base, "how much wood would a woodchuck", 16).unwrap();
    let config = crate::TrainConfig {
        adamw: crate::optimizer::AdamWConfig {
            weight_decay: 0.1,
            ..Default::default()
        },
        ..Default::default()
    };
    let mut session = crate::Session::new(&base, &adapter, windows, config).unwrap();
    for _ in 0..3 {
        session.step().unwrap();
    }
    let (mut padding, mut moved) = (0, 0);
    for (before, after) in adapter.values().iter().zip(session.adapter().values()) {
        if *before == 0.0 {
            assert_eq!(after.to_bits(), 0);
            padding += 1;
        } else {
            moved += usize::from(before != after);
        }
    }
    // Of 14 linears 13 are padded, and no number of the folder itself is zero.
    assert!(padding > 500 && moved > 500, "{padding} {moved}");
}

#[test]
fn an_adapter_of_uneven_ranks_is_exported_as_a_plain_one() {
    let base = tiny_base();
    let adapter = import_peft(uneven(&base).path(), &base).unwrap();
    let folder = exported(&adapter);
    let written = config(folder.path());
    assert_eq!(
        (&written["rank_pattern"], &written["r"]),
        (&json!({}), &json!(4))
    );
    assert_eq!(import_peft(folder.path(), &base).unwrap(), adapter);
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
