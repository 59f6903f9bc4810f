//! Writing a PEFT folder.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use tributary_protocol::adapter::{Adapter, AdapterShape, Factor};

use super::{CONFIG_FILE, PREFIX, TENSOR_FILE};
use crate::model::files::{self, Precision, SaveError};
use crate::model::parameters::Parameter;

/// Writes `adapter` into `folder`; `base_name` is the name or path under which PEFT finds the base.
/// Numbers are f32, so an import gives the same bytes back.
///
/// # Errors
/// See [`SaveError`].
pub fn export_peft(folder: &Path, base_name: &str, adapter: &Adapter) -> Result<(), SaveError> {
    let shape = adapter.shape();
    let tensor = |segment: tributary_protocol::adapter::Segment| {
        let letter = match segment.factor {
            Factor::A => "A",
            Factor::B => "B",
        };
        let module = &shape.modules[segment.module].name;
        Parameter {
            name: format!("{PREFIX}{module}.lora_{letter}.weight"),
            shape: vec![segment.rows, segment.cols],
            values: adapter.segment(&segment).to_vec(),
        }
    };
    let tensors: Vec<Parameter> = shape.segments().into_iter().map(tensor).collect();
    files::write(&folder.join(TENSOR_FILE), &tensors, Precision::F32)?;
    let config = config(base_name, shape);
    files::write_file(&folder.join(CONFIG_FILE), config.as_bytes())
}

/// The keys that every PEFT since 0.6 reads; newer ones are left to their defaults.
fn config(base_name: &str, shape: &AdapterShape) -> String {
    let mut value = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "revision": "main",
        "inference_mode": true,
        "r": shape.rank,
        "lora_alpha": shape.alpha,
        "lora_dropout": 0.0,
        "target_modules": target_modules(shape),
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "layers_to_transform": null,
        "layers_pattern": null,
        "modules_to_save": null,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_rslora": false,
        "use_dora": false,
    });
    // The same bytes, whatever map the parser was built with.
    value.sort_all_objects();
    format!("{value:#}\n")
}

/// Last components, when every layer adapts the same ones; full paths otherwise.
fn target_modules(shape: &AdapterShape) -> Vec<String> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_string();
    let layer = |name: &str| name.split('.').nth(2).unwrap_or("").to_string();
    let names = || shape.modules.iter().map(|m| m.name.as_str());
    let suffixes: BTreeSet<String> = names().map(last).collect();
    let layers: BTreeSet<String> = names().map(layer).collect();
    let contiguous = (0..layers.len()).all(|i| layers.contains(&i.to_string()));
    match contiguous && suffixes.len() * layers.len() == shape.modules.len() {
        true => suffixes.into_iter().collect(),
        false => names().map(String::from).collect(),
    }
}
