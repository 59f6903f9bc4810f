//! A base model's `config.json`, checked.
//!
//! Hugging Face folders spell the same facts in two ways: version 4 of transformers writes
//! `rope_theta` and `rope_scaling`, version 5 nests both in `rope_parameters`. This file reads either
//! and refuses what would silently compute something else (no theta, an unknown rotary type, an
//! unknown architecture). How the fields of a file become one is in `config/read.rs`; this file knows
//! nothing of weights or tensors.

mod read;

use std::path::Path;

use serde_json::{Value, json};

use crate::input;

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
        "config.json asks for the architecture {0:?}, which is not supported; use a Llama (SmolLM2 \
         is one), Qwen2 (2.5 is one) or Qwen3 model"
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

/// Which published architecture a model is.
///
/// The decoder is one; a family says what a file of it leaves unsaid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama, and what is one by another name (SmolLM2).
    Llama,
    /// Qwen2 and Qwen2.5: the query, key and value linears have a bias.
    Qwen2,
    /// Qwen3: RMSNorm on each query and key head before the rotation.
    Qwen3,
}

/// Which linears add a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// `q_proj`, `k_proj` and `v_proj`.
    pub qkv: bool,
    /// `o_proj`.
    pub output: bool,
    /// `gate_proj`, `up_proj` and `down_proj`.
    pub ffn: bool,
}

impl Family {
    /// `architectures[0]` and `model_type` of a `config.json`.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Llama => ("LlamaForCausalLM", "llama"),
            Self::Qwen2 => ("Qwen2ForCausalLM", "qwen2"),
            Self::Qwen3 => ("Qwen3ForCausalLM", "qwen3"),
        }
    }
}

impl Biases {
    /// Whether a linear of [`LINEARS`](crate::model::parameters::LINEARS) adds a bias.
    pub fn of(self, linear: usize) -> bool {
        match linear {
            0..3 => self.qkv,
            3 => self.output,
            _ => self.ffn,
        }
    }
}

/// Shape and constants of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Which architecture it is.
    pub family: Family,
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
    /// Which linears add a bias.
    pub biases: Biases,
    /// Whether queries and keys are normed head by head before they are rotated.
    pub head_norms: bool,
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

impl Config {
    /// Reads `config.json` in `folder`.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn from_dir(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join("config.json");
        let bytes = input::bytes(&path).map_err(|source| ConfigError::Read {
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
        let config = read::config(bytes)?;
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
        if let RopeScaling::Llama3 {
            low_freq_factor: low,
            high_freq_factor: high,
            ..
        } = self.rope_scaling
            && low >= high
        {
            // The band between them would be divided by zero or turned around.
            return field(
                "rope_scaling",
                "needs a high_freq_factor above low_freq_factor",
            );
        }
        let bad_biases = match self.family {
            Family::Llama => self.biases.qkv != self.biases.output,
            Family::Qwen2 => !self.biases.qkv || self.biases.output || self.biases.ffn,
            Family::Qwen3 => self.biases.qkv != self.biases.output || self.biases.ffn,
        };
        if bad_biases || self.head_norms != (self.family == Family::Qwen3) {
            return field(
                "model_type",
                "does not have these biases or norms in this architecture",
            );
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
        let mut layer = attention + 3 * self.hidden * self.ffn + 2 * self.hidden;
        layer += if self.head_norms {
            2 * self.head_dim
        } else {
            0
        };
        let shapes = crate::model::parameters::linear_shapes(self);
        layer += (shapes.iter().enumerate())
            .filter(|(linear, _)| self.biases.of(*linear))
            .map(|(_, [outputs, _])| outputs)
            .sum::<usize>();
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
        let (architecture, model_type) = self.family.names();
        let mut value = json!({
            "architectures": [architecture],
            "model_type": model_type,
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "attention_bias": self.biases.qkv,
            "mlp_bias": self.biases.ffn,
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
        // The bytes are part of the base's hash: in one order, whatever map the parser was built with.
        value.sort_all_objects();
        format!("{value:#}\n")
    }
}

#[cfg(test)]
mod tests;
