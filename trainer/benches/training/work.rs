//! The model, the adapter and the windows that both sides train on.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tributary_protocol::adapter::Adapter;
use tributary_protocol::hash::Digest;
use tributary_trainer::config::Config;
use tributary_trainer::full::{FullConfig, FullTrainer};
use tributary_trainer::{BaseModel, Windows, export_peft};

use crate::Failure;

/// The model's folder.
pub(crate) const MODEL: &str = "model";
/// The adapter's folder.
pub(crate) const ADAPTER: &str = "adapter";
/// Rank of the adapter.
pub(crate) const RANK: usize = 8;

const CONFIG: &str = r#"{
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 49152,
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "hidden_act": "silu",
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
    "max_position_embeddings": 2048, "bos_token_id": 1, "eos_token_id": 2
}"#;

/// Writes a random model of SmolLM2-135M's shape and a fresh adapter on all its linears.
pub(crate) fn prepare(folder: &Path) -> Result<(), Failure> {
    let model = folder.join(MODEL);
    std::fs::create_dir(&model)?;
    let config = Config::from_json(CONFIG.as_bytes())?;
    FullTrainer::new(config, FullConfig::default(), 1)?.save(&model)?;
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                            "use_regex": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": byte_level, "post_processor": null,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": false, "byte_fallback": false, "vocab": {"a": 0}, "merges": []},
    });
    std::fs::write(model.join("tokenizer.json"), tokenizer.to_string())?;
    let base = BaseModel::from_dir(&model)?;
    let adapter = folder.join(ADAPTER);
    std::fs::create_dir(&adapter)?;
    export_peft(&adapter, MODEL, &fresh_adapter(&base))?;
    Ok(())
}

/// What both sides start from.
pub(crate) fn fresh_adapter(base: &BaseModel) -> Adapter {
    let shape = base.adapter_shape(RANK as u32, 2 * RANK as u32);
    Adapter::init(Arc::new(shape), &Digest::default())
}

/// The windows of every step, as in `peft_child.py`.
pub(crate) fn windows(vocab: usize, windows: usize, context: usize) -> Result<Windows, Failure> {
    let tokens = (0..windows * context).map(|at| ((at * at * 31 + at * 7) % (vocab - 7)) as u32);
    let tokens = vec![tokens.collect()];
    Ok(Windows::from_tokens(tokens, context, vocab)?)
}

/// Numbers of the shape of `CONFIG` that operations are counted from.
struct Counts {
    /// Weights of all linears and of the head.
    weights: f64,
    /// Those of the first layer's queries, keys and values: nothing below them is trained.
    first: f64,
    /// Numbers of the adapter.
    factors: f64,
    /// Operations of one of attention's products.
    product: f64,
}

fn counts(windows: usize, context: usize) -> Counts {
    let (layers, hidden, ffn, vocab) = (30, 576, 1536, 49_152);
    let (heads, kv_heads, dim) = (9, 3, 64);
    let attention = hidden * dim * 2 * (heads + kv_heads);
    let widths = 2 * (hidden + heads * dim) + 2 * (hidden + kv_heads * dim) + 3 * (hidden + ffn);
    let pairs = windows * context * (context + 1) / 2;
    Counts {
        weights: (layers * (attention + 3 * hidden * ffn) + vocab * hidden) as f64,
        first: (hidden * dim * (heads + 2 * kv_heads)) as f64,
        factors: (layers * RANK * widths) as f64,
        product: (2 * layers * heads * dim * pairs) as f64,
    }
}

/// Floating-point operations of one step, by the formula that the page states.
pub(crate) fn operations(windows: usize, context: usize) -> f64 {
    let c = counts(windows, context);
    let rows = (windows * context) as f64;
    rows * (4.0 * c.weights - 2.0 * c.first + 6.0 * c.factors) + 6.0 * c.product
}

/// As [`operations`], of a forward pass alone.
pub(crate) fn forward_operations(windows: usize, context: usize) -> f64 {
    let c = counts(windows, context);
    let rows = (windows * context) as f64;
    rows * 2.0 * (c.weights + c.factors) + 2.0 * c.product
}
