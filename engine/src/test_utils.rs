//! Small random models for tests of this crate and others (feature `test-utils`).

use serde_json::json;

use crate::config::{Biases, Config, Family, RopeScaling};
use crate::model::files::{self, Precision};
use crate::model::parameters::{Parameter, initialise};

/// Two layers, grouped queries, an untied head.
pub fn tiny_config() -> Config {
    Config {
        family: Family::Llama,
        vocab: 48,
        hidden: 16,
        ffn: 24,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
        biases: Biases::default(),
        head_norms: false,
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        tied: false,
        max_context: 64,
        bos: Some(1),
        eos: vec![2],
    }
}

/// [`tiny_config`] and what else a configuration can ask for: a tied head, biases, head norms, heads
/// of another width than `hidden / heads`.
pub fn every_family() -> Vec<Config> {
    let llama = tiny_config();
    let qkv = Biases {
        qkv: true,
        ..Biases::default()
    };
    let all = Biases {
        output: true,
        ffn: true,
        ..qkv
    };
    vec![
        Config {
            tied: true,
            kv_heads: 4,
            ..llama.clone()
        },
        Config {
            biases: all,
            head_dim: 6,
            ..llama.clone()
        },
        Config {
            family: Family::Qwen2,
            tied: true,
            biases: qkv,
            kv_heads: 1,
            ..llama.clone()
        },
        Config {
            family: Family::Qwen3,
            head_norms: true,
            head_dim: 8,
            ..llama.clone()
        },
        llama,
    ]
}

/// Parameters as the exact bytes of a safetensors file.
///
/// # Panics
/// If no folder can be made.
pub fn encoded(parameters: &[Parameter]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    files::write(&path, parameters, Precision::F32).unwrap();
    std::fs::read(path).unwrap()
}

/// Configuration, weights and tokenizer of a random model whose tokens are the letters and the space.
///
/// # Panics
/// If no folder can be made.
pub fn tiny_files() -> [Vec<u8>; 3] {
    files_of(&tiny_config())
}

/// As [`tiny_files`], of another configuration.
///
/// # Panics
/// If no folder can be made.
pub fn files_of(config: &Config) -> [Vec<u8>; 3] {
    let mut parameters = initialise(config, 11);
    // Larger weights than a fresh model's: attention and gates far from uniform.
    for value in parameters.iter_mut().flat_map(|p| &mut p.values) {
        *value *= 6.0;
    }
    let letters = ('a'..='z').enumerate().map(|(i, c)| (c.to_string(), i + 4));
    let mut vocab: serde_json::Map<_, _> = letters.map(|(c, i)| (c, json!(i))).collect();
    for (id, name) in ["<unk>", "<s>", "</s>", "\u{120}"].into_iter().enumerate() {
        vocab.insert(name.into(), json!(id));
    }
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": true})
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                          "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                    "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>",
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []},
    });
    [
        config.to_json().into_bytes(),
        encoded(&parameters),
        tokenizer.to_string().into_bytes(),
    ]
}
