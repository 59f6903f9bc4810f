//! The fields of a `config.json`, in either spelling, to a [`Config`].

use serde::Deserialize;
use serde_json::Value;

use super::{Biases, Config, ConfigError, Family, RopeScaling};

/// Width of a Qwen3 head when the file does not say: transformers' default, not `hidden / heads`.
const QWEN3_HEAD_DIM: usize = 128;

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    architectures: Vec<String>,
    model_type: Option<String>,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f32>,
    rope_scaling: Option<RawRope>,
    rope_parameters: Option<RawRope>,
    partial_rotary_factor: Option<f64>,
    tie_word_embeddings: Option<bool>,
    max_position_embeddings: Option<usize>,
    bos_token_id: Option<Value>,
    eos_token_id: Option<Value>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    use_sliding_window: Option<bool>,
    layer_types: Option<Vec<String>>,
    quantization_config: Option<Value>,
}

#[derive(Deserialize)]
struct RawRope {
    rope_theta: Option<f32>,
    rope_type: Option<String>,
    #[serde(rename = "type")]
    old_type: Option<String>,
    factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<usize>,
    partial_rotary_factor: Option<f64>,
}

/// Parses the bytes of a `config.json`. Bounds are left to [`Config::check`].
pub(super) fn config(bytes: &[u8]) -> Result<Config, ConfigError> {
    let raw: Raw = serde_json::from_slice(bytes)?;
    let family = family(&raw)?;
    refuse_unsupported(&raw)?;
    let default_head_dim = match family {
        Family::Qwen3 => QWEN3_HEAD_DIM,
        Family::Llama | Family::Qwen2 => raw.hidden_size / raw.num_attention_heads.max(1),
    };
    let bos = token_ids("bos_token_id", raw.bos_token_id.as_ref())?;
    Ok(Config {
        family,
        vocab: raw.vocab_size,
        hidden: raw.hidden_size,
        ffn: raw.intermediate_size,
        layers: raw.num_hidden_layers,
        heads: raw.num_attention_heads,
        kv_heads: kv_heads(&raw, family)?,
        head_dim: raw.head_dim.unwrap_or(default_head_dim),
        biases: biases(&raw, family),
        head_norms: family == Family::Qwen3,
        norm_eps: raw.rms_norm_eps.unwrap_or(1e-6),
        rope_theta: rope_theta(&raw)?,
        rope_scaling: either(&raw)?,
        tied: raw.tie_word_embeddings.unwrap_or(false),
        max_context: raw.max_position_embeddings.unwrap_or(2048),
        bos: bos.first().copied(),
        eos: token_ids("eos_token_id", raw.eos_token_id.as_ref())?,
    })
}

fn family(raw: &Raw) -> Result<Family, ConfigError> {
    let families = [Family::Llama, Family::Qwen2, Family::Qwen3];
    let named = |family: &&Family| {
        let (architecture, model_type) = family.names();
        match raw.architectures.first() {
            Some(name) => name == architecture,
            None => raw.model_type.as_deref() == Some(model_type),
        }
    };
    families.iter().find(named).copied().ok_or_else(|| {
        let name = raw.architectures.first().or(raw.model_type.as_ref());
        ConfigError::Architecture(name.cloned().unwrap_or_else(|| "(none named)".into()))
    })
}

/// Llama's `attention_bias` covers all four linears of the attention, Qwen2 has three without asking.
fn biases(raw: &Raw, family: Family) -> Biases {
    let attention = raw.attention_bias.unwrap_or(false);
    match family {
        Family::Llama => Biases {
            qkv: attention,
            output: attention,
            ffn: raw.mlp_bias.unwrap_or(false),
        },
        Family::Qwen2 => Biases {
            qkv: true,
            ..Biases::default()
        },
        Family::Qwen3 => Biases {
            qkv: attention,
            output: attention,
            ffn: false,
        },
    }
}

/// A Qwen file that does not say would get 32 from transformers, whatever its heads: ask instead.
fn kv_heads(raw: &Raw, family: Family) -> Result<usize, ConfigError> {
    match (raw.num_key_value_heads, family) {
        (Some(heads), _) => Ok(heads),
        (None, Family::Llama) => Ok(raw.num_attention_heads),
        (None, Family::Qwen2 | Family::Qwen3) => Err(ConfigError::Field {
            field: "num_key_value_heads",
            why: "is missing; add the model's number".into(),
        }),
    }
}

fn refuse_unsupported(raw: &Raw) -> Result<(), ConfigError> {
    let refuse = |field, why: String| Err(ConfigError::Field { field, why });
    if let Some(act) = raw.hidden_act.as_deref().filter(|act| *act != "silu") {
        return refuse(
            "hidden_act",
            format!("is {act:?}; only \"silu\" is supported"),
        );
    }
    if raw.use_sliding_window == Some(true) {
        let why = "is true: attention within a window is not supported; use a model without it";
        return refuse("use_sliding_window", why.into());
    }
    let types = raw.layer_types.iter().flatten();
    if let Some(other) = types.into_iter().find(|kind| *kind != "full_attention") {
        let why = format!("names {other:?}; only \"full_attention\" is supported");
        return refuse("layer_types", why);
    }
    if raw
        .quantization_config
        .as_ref()
        .is_some_and(|q| !q.is_null())
    {
        let why = "is set: weights are read in f32, f16 or bf16; use the model's original files";
        return refuse("quantization_config", why.into());
    }
    let rope = [&raw.rope_parameters, &raw.rope_scaling];
    let nested = rope.into_iter().flatten().map(|r| r.partial_rotary_factor);
    let partial = nested.chain([raw.partial_rotary_factor]).flatten();
    match partial.into_iter().find(|share| *share != 1.0) {
        Some(share) => refuse(
            "partial_rotary_factor",
            format!("is {share}; only heads that are turned whole are supported"),
        ),
        None => Ok(()),
    }
}

/// Version 5 nests the base, version 4 does not; a file that does both must say the same.
fn rope_theta(raw: &Raw) -> Result<f32, ConfigError> {
    let nested = raw.rope_parameters.as_ref().and_then(|r| r.rope_theta);
    match (nested, raw.rope_theta) {
        (Some(new), Some(old)) if new != old => Err(ConfigError::Field {
            field: "rope_theta",
            why: format!("is {old} but rope_parameters.rope_theta is {new}; keep the right one"),
        }),
        (new, old) => new.or(old).ok_or(ConfigError::MissingTheta),
    }
}

/// The scaling of `rope_parameters` (version 5) or `rope_scaling` (version 4), which must not differ.
fn either(raw: &Raw) -> Result<RopeScaling, ConfigError> {
    let new = rope_scaling(raw.rope_parameters.as_ref())?;
    let old = rope_scaling(raw.rope_scaling.as_ref())?;
    match raw.rope_parameters.is_some() && raw.rope_scaling.is_some() && new != old {
        true => Err(ConfigError::Field {
            field: "rope_scaling",
            why: "differs from rope_parameters; keep the right one".into(),
        }),
        false if raw.rope_parameters.is_some() => Ok(new),
        false => Ok(old),
    }
}

fn rope_scaling(raw: Option<&RawRope>) -> Result<RopeScaling, ConfigError> {
    let Some(raw) = raw else {
        return Ok(RopeScaling::None);
    };
    let kind = raw.rope_type.as_deref().or(raw.old_type.as_deref());
    let refuse = |why: String| ConfigError::Field {
        field: "rope_scaling",
        why,
    };
    let need = |value: Option<f32>, name: &str| {
        let usable = value.filter(|v| v.is_finite() && *v > 0.0);
        usable.ok_or_else(|| refuse(format!("of type llama3 needs a positive {name}")))
    };
    match kind.unwrap_or("default") {
        "default" => Ok(RopeScaling::None),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: need(raw.factor, "factor")?,
            low_freq_factor: need(raw.low_freq_factor, "low_freq_factor")?,
            high_freq_factor: need(raw.high_freq_factor, "high_freq_factor")?,
            original_context: (raw.original_max_position_embeddings).ok_or_else(|| {
                refuse("of type llama3 needs original_max_position_embeddings".into())
            })?,
        }),
        other => Err(refuse(format!(
            "has the type {other:?}; \"default\" and \"llama3\" are supported"
        ))),
    }
}

/// One id, a list of ids, or nothing.
fn token_ids(field: &'static str, value: Option<&Value>) -> Result<Vec<u32>, ConfigError> {
    let one = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| ConfigError::Field {
            field,
            why: format!("holds {value}, which is not a token id"),
        })
    };
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(one).collect(),
        Some(id) => Ok(vec![one(id)?]),
    }
}
