//! `adapter_config.json`, checked: what of it would be ignored is refused by name.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::ImportError;
use crate::json;

/// Most patterns or names in one list: two for each of the modules that an adapter can have.
const MAX_NAMES: usize = 2048;
/// Longest pattern or name, in bytes; published ones have a few hundred.
const MAX_PATTERN_BYTES: usize = 4096;
/// What a published configuration without `target_modules` means in all families that are read (PEFT,
/// `TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING`).
const DEFAULT_TARGETS: [&str; 2] = ["q_proj", "v_proj"];
/// Initialisations that leave the base's weights alone. Others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA)
/// change them whenever the adapter is loaded.
const KNOWN_INITIALISATIONS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// Fields that change nothing of what an adapter computes once it is trained. A field that is neither here nor read
/// may change it, and is refused where it is set.
const HARMLESS: [&str; 20] = [
    "auto_mapping",
    "corda_config",
    "ensure_weight_tying",
    "ephemeral_gpu_offload",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
    // Written by other trainers for themselves.
    "lora_dtype",
    "lorap_emb_lr",
    "lorap_lr_ratio",
    "unsloth_fixed",
];

/// Names as PEFT takes them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Names {
    /// A regular expression for the whole module path.
    Pattern(String),
    /// Full paths or last components.
    List(Vec<String>),
}

/// A LoRA configuration.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LoraConfig {
    pub(super) rank: u32,
    pub(super) alpha: f64,
    /// Scale by `alpha / sqrt(rank)`.
    pub(super) stabilised: bool,
    /// None adapts every linear ("all-linear").
    pub(super) targets: Option<Names>,
    pub(super) excluded: Option<Names>,
    /// Layers that suffixes are confined to.
    pub(super) layers: Option<Vec<u64>>,
    pub(super) layers_pattern: Vec<String>,
    /// In the order of the file: the first that matches counts.
    pub(super) rank_pattern: Vec<(String, u32)>,
    pub(super) alpha_pattern: Vec<(String, f64)>,
    /// The base that the adapter says it was trained on: a name of the hub, or a folder where it was trained.
    pub(super) base: Option<String>,
}

#[derive(Deserialize)]
struct Raw {
    peft_type: Option<String>,
    r: u32,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    target_modules: Option<OneOrMany<String>>,
    exclude_modules: Option<OneOrMany<String>>,
    layers_to_transform: Option<OneOrMany<u64>>,
    layers_pattern: Option<OneOrMany<String>>,
    rank_pattern: Option<Pairs<u32>>,
    alpha_pattern: Option<Pairs<f64>>,
    init_lora_weights: Option<Value>,
    base_model_name_or_path: Option<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn list(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// An object in its order.
struct Pairs<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::pairs(deserializer, |_| false).map(Self)
    }
}

impl LoraConfig {
    /// Parses and checks the bytes of an `adapter_config.json`.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, ImportError> {
        let raw: Raw = serde_json::from_slice(bytes)?;
        refuse_unsupported(&raw)?;
        let all_linear = |names: &OneOrMany<String>| match names {
            OneOrMany::One(text) => text.eq_ignore_ascii_case("all-linear"),
            OneOrMany::Many(_) => false,
        };
        let targets = match raw.target_modules {
            Some(names) if all_linear(&names) => None,
            Some(names) => Some(checked("target_modules", names)?),
            None => Some(Names::List(DEFAULT_TARGETS.map(String::from).to_vec())),
        };
        let layers = raw.layers_to_transform.map(OneOrMany::list);
        let layers_pattern = raw.layers_pattern.map_or(Vec::new(), OneOrMany::list);
        if layers.is_some() && !matches!(targets, Some(Names::List(_))) {
            let advice =
                "it cannot be combined with a pattern in target_modules (PEFT refuses it too)";
            return unsupported("layers_to_transform", "set", advice);
        }
        let config = Self {
            rank: raw.r,
            alpha: raw.lora_alpha,
            stabilised: raw.use_rslora,
            targets,
            excluded: match raw.exclude_modules {
                Some(names) => Some(checked("exclude_modules", names)?),
                None => None,
            },
            layers: layers.filter(|layers| !layers.is_empty()),
            layers_pattern,
            rank_pattern: raw.rank_pattern.map_or(Vec::new(), |pairs| pairs.0),
            alpha_pattern: raw.alpha_pattern.map_or(Vec::new(), |pairs| pairs.0),
            base: raw.base_model_name_or_path,
        };
        config.check()?;
        Ok(config)
    }

    /// Numbers can be computed with, and no list or pattern is longer than any real one.
    fn check(&self) -> Result<(), ImportError> {
        let of_patterns = self
            .alpha_pattern
            .iter()
            .map(|(_, alpha)| ("alpha_pattern", *alpha));
        for (field, alpha) in of_patterns.chain([("lora_alpha", self.alpha)]) {
            if !(alpha.is_finite() && alpha > 0.0) {
                return unsupported(field, &alpha.to_string(), "alpha must be positive");
            }
        }
        let of_patterns = self
            .rank_pattern
            .iter()
            .map(|(_, rank)| ("rank_pattern", *rank));
        for (field, rank) in of_patterns.chain([("r", self.rank)]) {
            if rank == 0 {
                return unsupported(field, "0", "the rank must be positive");
            }
        }
        let rank_keys = self.rank_pattern.iter().map(|(key, _)| key);
        let alpha_keys = self.alpha_pattern.iter().map(|(key, _)| key);
        bounded("rank_pattern", rank_keys)?;
        bounded("alpha_pattern", alpha_keys)?;
        bounded("layers_pattern", &self.layers_pattern)
    }
}

fn checked(field: &'static str, names: OneOrMany<String>) -> Result<Names, ImportError> {
    match names {
        OneOrMany::One(pattern) => {
            bounded(field, [&pattern])?;
            Ok(Names::Pattern(pattern))
        }
        OneOrMany::Many(list) => {
            bounded(field, &list)?;
            Ok(Names::List(list))
        }
    }
}

fn bounded<'a>(
    field: &'static str,
    names: impl IntoIterator<Item = &'a String>,
) -> Result<(), ImportError> {
    for (count, name) in names.into_iter().enumerate() {
        if count == MAX_NAMES || name.len() > MAX_PATTERN_BYTES {
            let advice = "at most 2,048 names or patterns of at most 4,096 bytes are read";
            return unsupported(field, "too long", advice);
        }
    }
    Ok(())
}

fn unsupported<T>(field: &str, value: &str, advice: &'static str) -> Result<T, ImportError> {
    Err(ImportError::Unsupported {
        field: field.into(),
        value: value.into(),
        advice,
    })
}

fn refuse_unsupported(raw: &Raw) -> Result<(), ImportError> {
    if raw.peft_type.as_deref() != Some("LORA") {
        let value = raw.peft_type.as_deref().unwrap_or("missing");
        return unsupported("peft_type", value, "use a LoRA adapter");
    }
    let empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text == "none",
        Value::Bool(true) | Value::Number(_) => false,
    };
    let plain = "use a plain LoRA";
    // Each of these changes what the adapter computes.
    let fields = [
        ("use_dora", "merge the adapter and extract a plain LoRA"),
        ("modules_to_save", "train without extra modules"),
        ("bias", "train with bias \"none\""),
        (
            "fan_in_fan_out",
            "only linears of Llama and Qwen models are adapted",
        ),
        ("alora_invocation_tokens", plain),
        ("trainable_token_indices", "train without extra tokens"),
        ("layer_replication", "use the base's own layers"),
        ("lora_bias", "train without LoRA biases"),
        ("target_parameters", "adapt linears only"),
        ("use_qalora", plain),
        ("use_bdlora", plain),
        ("arrow_config", plain),
        ("kasa_config", plain),
        ("monteclora_config", plain),
        ("velora_config", plain),
    ];
    for (field, advice) in fields {
        if let Some(value) = raw.rest.get(field).filter(|v| !empty(v)) {
            return unsupported(field, &value.to_string(), advice);
        }
    }
    let known =
        |name: &str| HARMLESS.contains(&name) || fields.iter().any(|(field, _)| *field == name);
    if let Some((field, value)) = raw
        .rest
        .iter()
        .find(|(name, value)| !known(name) && !empty(value))
    {
        let advice = "this program does not know it, and it may change what the adapter computes; remove it from \
                      adapter_config.json if it does not";
        return unsupported(field, &value.to_string(), advice);
    }
    match &raw.init_lora_weights {
        None | Some(Value::Null | Value::Bool(_)) => Ok(()),
        Some(Value::String(name)) if KNOWN_INITIALISATIONS.contains(&name.as_str()) => Ok(()),
        Some(other) => unsupported(
            "init_lora_weights",
            &other.to_string(),
            "it changes the base's own weights; save the adapter in PEFT with \
             path_initial_model_for_weight_conversion, which makes it a plain LoRA",
        ),
    }
}
