//! A base model's `config.json`, checked.
//!
//! Hugging Face folders spell the same facts in two ways: version 4 of transformers writes
//! `rope_theta` and `rope_scaling`, version 5 nests both in `rope_parameters`. This file reads either
//! and refuses what would silently compute something else (no theta, an unknown rotary type, an
//! unknown architecture). It knows nothing of weights or tensors.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

/// Decoder layers; eight times the deepest published Llama.
const MAX_LAYERS: usize = 1024;

/// Why a `config.json` is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}; give a Hugging Face model folder")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not JSON, or a field of the wrong type, or a required field missing.
    #[error("config.json is not a model configuration: {0}")]
    Json(#[from] serde_json::Error),
    /// An architecture that this trainer does not compute.
    #[error(
        "config.json asks for the architecture {0:?}, which is not supported; use a Llama model"
    )]
    Architecture(String),
    /// The rotary base is nowhere. Guessing 10,000 would load most models and ruin their output.
    #[error(
        "config.json holds neither rope_theta nor rope_parameters.rope_theta; \
         add the value the model was trained with"
    )]
    MissingTheta,
    /// A field's value cannot be computed with.
    #[error("config.json: {field} {why}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// Frequencies of the rotary embedding beyond the plain base.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Plain `theta^(-2i/d)`.
    None,
    /// Llama 3.1: low frequencies are stretched by `factor`, with a smooth band in between.
    Llama3 {
        /// How much the low frequencies are stretched.
        factor: f32,
        /// Wavelengths above `original_context / low` are stretched.
        low_freq_factor: f32,
        /// Wavelengths below `original_context / high` are kept.
        high_freq_factor: f32,
        /// Context the model was pre-trained with, in tokens.
        original_context: usize,
    },
}

/// Shape and constants of a Llama model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside the feed-forward block.
    pub ffn: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; `heads` is a multiple of it.
    pub kv_heads: usize,
    /// Width of one head; need not be `hidden / heads`.
    pub head_dim: usize,
    /// Epsilon inside the root of RMSNorm.
    pub norm_eps: f64,
    /// Base of the rotary embedding.
    pub rope_theta: f32,
    /// Stretching of the rotary embedding.
    pub rope_scaling: RopeScaling,
    /// Whether the output head is the embedding table.
    pub tied: bool,
    /// Longest context the model was made for, in tokens.
    pub max_context: usize,
    /// Token that opens a text, if the model has one.
    pub bos: Option<u32>,
    /// Tokens that end a generation.
    pub eos: Vec<u32>,
}

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
    tie_word_embeddings: Option<bool>,
    max_position_embeddings: Option<usize>,
    bos_token_id: Option<Value>,
    eos_token_id: Option<Value>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
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
}

impl Config {
    /// Reads `config.json` in `folder`.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn from_dir(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join("config.json");
        let bytes = std::fs::read(&path).map_err(|source| ConfigError::Read {
            path: path.display().to_string(),
            source,
        })?;
        Self::from_json(&bytes)
    }

    /// Parses and checks the bytes of a `config.json`.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, ConfigError> {
        let raw: Raw = serde_json::from_slice(bytes)?;
        refuse_unsupported(&raw)?;
        let rope_theta = (raw.rope_parameters.as_ref())
            .and_then(|r| r.rope_theta)
            .or(raw.rope_theta)
            .ok_or(ConfigError::MissingTheta)?;
        let scaling = raw.rope_parameters.as_ref().or(raw.rope_scaling.as_ref());
        let config = Self {
            vocab: raw.vocab_size,
            hidden: raw.hidden_size,
            ffn: raw.intermediate_size,
            layers: raw.num_hidden_layers,
            heads: raw.num_attention_heads,
            kv_heads: raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
            head_dim: (raw.head_dim).unwrap_or(raw.hidden_size / raw.num_attention_heads.max(1)),
            norm_eps: raw.rms_norm_eps.unwrap_or(1e-6),
            rope_theta,
            rope_scaling: rope_scaling(scaling)?,
            tied: raw.tie_word_embeddings.unwrap_or(false),
            max_context: raw.max_position_embeddings.unwrap_or(2048),
            bos: token_ids("bos_token_id", raw.bos_token_id.as_ref())?
                .first()
                .copied(),
            eos: token_ids("eos_token_id", raw.eos_token_id.as_ref())?,
        };
        config.check()?;
        Ok(config)
    }

    /// Checks that the numbers make a computable model. Needed only for a configuration made by hand.
    ///
    /// # Errors
    /// [`ConfigError::Field`] names the field.
    pub fn check(&self) -> Result<(), ConfigError> {
        let field = |field, why: &str| {
            Err(ConfigError::Field {
                field,
                why: why.into(),
            })
        };
        // 2^24 is above every published width and keeps every product of two of them in 64 bits.
        let widths = [
            ("vocab_size", self.vocab),
            ("hidden_size", self.hidden),
            ("intermediate_size", self.ffn),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_context),
        ];
        for (name, value) in widths {
            if value == 0 || value > 1 << 24 {
                return field(name, "must be between 1 and 16777216");
            }
        }
        // Names of every layer's tensors are made before the file is compared with them.
        if self.layers > MAX_LAYERS {
            return field("num_hidden_layers", "must be at most 1024");
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return field(
                "num_attention_heads",
                "must be a multiple of num_key_value_heads",
            );
        }
        if !self.head_dim.is_multiple_of(2) {
            return field("head_dim", "must be even: rotary embeddings turn pairs");
        }
        if !(self.rope_theta.is_finite() && self.rope_theta > 0.0) {
            return field("rope_theta", "must be a positive number");
        }
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0) {
            return field("rms_norm_eps", "must be a number of zero or more");
        }
        Ok(())
    }

    /// Width of all query heads together.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Number of parameters of the whole model.
    pub fn parameters(&self) -> usize {
        let attention = self.hidden * (2 * self.query_width() + 2 * self.kv_width());
        let layer = attention + 3 * self.hidden * self.ffn + 2 * self.hidden;
        let tables = if self.tied { 1 } else { 2 };
        self.layers * layer + tables * self.vocab * self.hidden + self.hidden
    }

    /// The `config.json` that transformers 4 and 5 both read.
    pub fn to_json(&self) -> String {
        let mut rope = json!({"rope_type": "default", "rope_theta": self.rope_theta});
        let mut old = Value::Null;
        if let RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context,
        } = &self.rope_scaling
        {
            old = json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_context,
            });
            rope = old.clone();
            rope["rope_theta"] = json!(self.rope_theta);
        }
        let eos = match self.eos.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            many => json!(many),
        };
        let value = json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "attention_bias": false,
            "mlp_bias": false,
            "attention_dropout": 0.0,
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": old,
            "rope_parameters": rope,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": self.max_context,
            "bos_token_id": self.bos,
            "eos_token_id": eos,
            "torch_dtype": "bfloat16",
            "dtype": "bfloat16",
        });
        format!("{value:#}\n")
    }
}

fn refuse_unsupported(raw: &Raw) -> Result<(), ConfigError> {
    let llama = match raw.architectures.first() {
        Some(name) => name == "LlamaForCausalLM",
        None => raw.model_type.as_deref() == Some("llama"),
    };
    if !llama {
        let name = raw.architectures.first().or(raw.model_type.as_ref());
        let name = name.cloned().unwrap_or_else(|| "(none named)".into());
        return Err(ConfigError::Architecture(name));
    }
    let field = |field, why: &str| {
        Err(ConfigError::Field {
            field,
            why: why.into(),
        })
    };
    if raw.hidden_act.as_deref().is_some_and(|act| act != "silu") {
        return field(
            "hidden_act",
            "is not \"silu\", the only activation supported",
        );
    }
    if raw.attention_bias == Some(true) {
        return field("attention_bias", "is true, which is not supported");
    }
    if raw.mlp_bias == Some(true) {
        return field("mlp_bias", "is true, which is not supported");
    }
    Ok(())
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

#[cfg(test)]
mod tests;
