//! Reading a PEFT folder, refusing by name whatever would silently be ignored.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::TensorView;
use serde::Deserialize;
use serde_json::Value;

use tributary_protocol::adapter::{Adapter, AdapterError, AdapterShape, Factor, Module};
use tributary_protocol::limits;

use super::{CONFIG_FILE, PREFIX, TENSOR_FILE};
use crate::base::BaseModel;
use crate::lora;
use crate::model::files::{self, WeightsError};

/// Largest `adapter_config.json` that is read, in bytes; real ones have about a thousand.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Largest header of an adapter file, in bytes: 1,024 modules of two tensors at 200 bytes each.
const MAX_HEADER_BYTES: u64 = 512 << 10;

/// Why an adapter folder is refused.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file could not be read.
    #[error(
        "cannot read {path}: {source}; give a PEFT folder with adapter_config.json and \
         adapter_model.safetensors"
    )]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is larger than any adapter.
    #[error("{path} has {bytes} bytes, more than the {limit} an adapter can have")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// The configuration is not JSON of the right form.
    #[error("adapter_config.json is not a LoRA configuration: {0}")]
    Json(#[from] serde_json::Error),
    /// The configuration asks for something that would be ignored.
    #[error("adapter_config.json: {field} is {value}, which is not supported; {advice}")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What to do.
        advice: &'static str,
    },
    /// The tensor file.
    #[error(transparent)]
    Tensors(#[from] WeightsError),
    /// A tensor that no linear of the base takes.
    #[error("adapter_model.safetensors: {tensor} belongs to no linear of the base model {base}")]
    Unmatched {
        /// The tensor.
        tensor: String,
        /// The base's name.
        base: String,
    },
    /// A linear that the configuration adapts has no tensor.
    #[error("adapter_model.safetensors lacks {tensor}, which adapter_config.json asks for")]
    Missing {
        /// The tensor.
        tensor: String,
    },
    /// A tensor has another shape than its linear and the rank ask for.
    #[error("adapter_model.safetensors: {tensor} has shape {found:?} where {expected:?} is needed")]
    Shape {
        /// The tensor.
        tensor: String,
        /// What is needed.
        expected: Vec<usize>,
        /// What the file holds.
        found: Vec<usize>,
    },
    /// Every `lora_B` is zero, so the adapter does nothing.
    #[error("every lora_B of the adapter is zero: it changes nothing; export it after training")]
    NoEffect,
    /// The numbers do not make an adapter.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}

#[derive(Deserialize)]
struct RawConfig {
    peft_type: Option<String>,
    r: u32,
    lora_alpha: f64,
    target_modules: Option<Value>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// Reads the PEFT folder `folder` as an adapter of `base`.
///
/// # Errors
/// See [`ImportError`].
pub fn import_peft(folder: &Path, base: &BaseModel) -> Result<Adapter, ImportError> {
    let config = read(&folder.join(CONFIG_FILE), MAX_CONFIG_BYTES)?;
    let config: RawConfig = serde_json::from_slice(&config)?;
    refuse_unsupported(&config)?;
    let limit = limits::MAX_ADAPTER_PARAMETERS * 4 + MAX_HEADER_BYTES;
    let path = folder.join(TENSOR_FILE);
    let bytes = read(&path, limit)?;
    if let Some(header) = bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b)) {
        // The library allows 100 MB of header; an adapter from a stranger gets less.
        if header > MAX_HEADER_BYTES && header <= bytes.len() as u64 {
            return Err(ImportError::TooLarge {
                path: format!("the header of {}", path.display()),
                bytes: header,
                limit: MAX_HEADER_BYTES,
            });
        }
    }
    let tensors = files::parse(&bytes, TENSOR_FILE)?;
    let views: BTreeMap<String, TensorView<'_>> = tensors.tensors().into_iter().collect();
    build(&config, views, base)
}

fn build(
    config: &RawConfig,
    mut views: BTreeMap<String, TensorView<'_>>,
    base: &BaseModel,
) -> Result<Adapter, ImportError> {
    let (alpha, fold) = scale(config);
    let mut modules = Vec::new();
    let mut values = Vec::new();
    let mut effect = false;
    for module in lora::modules(base.config()) {
        let name = |letter: &str| format!("{PREFIX}{}.lora_{letter}.weight", module.name);
        let (a, b) = (views.remove(&name("A")), views.remove(&name("B")));
        let asked = targets(config.target_modules.as_ref(), &module.name);
        let (a, b) = match (a, b) {
            (Some(a), Some(b)) => (a, b),
            (None, None) if !asked => continue,
            (None, _) => return Err(ImportError::Missing { tensor: name("A") }),
            (_, None) => return Err(ImportError::Missing { tensor: name("B") }),
        };
        for (view, factor, name) in [(a, Factor::A, name("A")), (b, Factor::B, name("B"))] {
            let mut numbers = tensor(&view, factor, &name, config.r, &module)?;
            if factor == Factor::B {
                effect |= numbers.iter().any(|v| *v != 0.0);
                numbers.iter_mut().for_each(|v| *v *= fold);
            }
            values.extend(numbers);
        }
        modules.push(module);
    }
    if let Some((tensor, _)) = views.pop_first() {
        return Err(ImportError::Unmatched {
            tensor,
            base: base.name().into(),
        });
    }
    let shape = AdapterShape {
        rank: config.r,
        alpha,
        modules,
    };
    shape.check()?;
    match effect {
        true => Ok(Adapter::new(Arc::new(shape), values)?),
        false => Err(ImportError::NoEffect),
    }
}

/// A tensor's numbers, when it has the shape that its linear and the rank ask for.
fn tensor(
    view: &TensorView<'_>,
    factor: Factor,
    name: &str,
    rank: u32,
    module: &Module,
) -> Result<Vec<f32>, ImportError> {
    let expected = match factor {
        Factor::A => [rank as usize, module.inputs as usize],
        Factor::B => [module.outputs as usize, rank as usize],
    };
    if view.shape() != expected {
        return Err(ImportError::Shape {
            tensor: name.into(),
            expected: expected.to_vec(),
            found: view.shape().to_vec(),
        });
    }
    Ok(files::numbers(view, TENSOR_FILE, name)?)
}

/// An integer alpha, and what `B` is multiplied by so that the product is scaled as PEFT scales it:
/// `alpha / r`, or `alpha / sqrt(r)` with rsLoRA.
fn scale(config: &RawConfig) -> (u32, f32) {
    let rank = f64::from(config.r);
    let whole = config.lora_alpha.fract() == 0.0
        && (1.0..=f64::from(limits::MAX_ALPHA)).contains(&config.lora_alpha);
    if whole && !config.use_rslora {
        return (config.lora_alpha as u32, 1.0);
    }
    let wanted = match config.use_rslora {
        true => config.lora_alpha / rank.sqrt(),
        false => config.lora_alpha / rank,
    };
    (config.r, wanted as f32)
}

/// Whether the configuration's list names this module, by suffix as PEFT does.
fn targets(list: Option<&Value>, module: &str) -> bool {
    let names = list.and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).any(|name| {
        let rest = module.strip_suffix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

fn refuse_unsupported(config: &RawConfig) -> Result<(), ImportError> {
    let refuse = |field, value: String, advice| {
        Err(ImportError::Unsupported {
            field,
            value,
            advice,
        })
    };
    if config.peft_type.as_deref() != Some("LORA") {
        let value = config.peft_type.clone().unwrap_or("missing".into());
        return refuse("peft_type", value, "use a LoRA adapter");
    }
    if !(config.lora_alpha.is_finite() && config.lora_alpha > 0.0) {
        return refuse(
            "lora_alpha",
            config.lora_alpha.to_string(),
            "it must be positive",
        );
    }
    let empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text == "none",
        _ => false,
    };
    // Each of these changes what the adapter computes.
    let fields = [
        ("use_dora", "merge the adapter and extract a plain LoRA"),
        ("modules_to_save", "train without extra modules"),
        ("bias", "train with bias \"none\""),
        ("fan_in_fan_out", "only linears of Llama models are adapted"),
        ("rank_pattern", "train with one rank for all modules"),
        ("alpha_pattern", "train with one alpha for all modules"),
        ("alora_invocation_tokens", "use a plain LoRA"),
        ("trainable_token_indices", "train without extra tokens"),
        ("layer_replication", "use the base's own layers"),
        ("lora_bias", "train without LoRA biases"),
        ("target_parameters", "adapt linears only"),
    ];
    for (field, advice) in fields {
        if let Some(value) = config.rest.get(field).filter(|v| !empty(v)) {
            return refuse(field, value.to_string(), advice);
        }
    }
    match config.target_modules.as_ref() {
        Some(Value::String(pattern)) if pattern != "all-linear" => {
            let advice = "list the modules by name";
            refuse("target_modules", format!("the pattern {pattern:?}"), advice)
        }
        _ => Ok(()),
    }
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ImportError> {
    let error = |source| ImportError::Read {
        path: path.display().to_string(),
        source,
    };
    let bytes = std::fs::metadata(path).map_err(error)?.len();
    if bytes > limit {
        return Err(ImportError::TooLarge {
            path: path.display().to_string(),
            bytes,
            limit,
        });
    }
    std::fs::read(path).map_err(error)
}
