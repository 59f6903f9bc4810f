//! Small random models for tests of this crate and others (feature `test-utils`).

use serde_json::json;

use crate::config::{Biases, Config, Family, RopeScaling};
use crate::model::files::{self, Precision};
use crate::model::parameters::{Parameter, initialise};
use crate::tokenizer::Tokenizer;

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

/// A small tokenizer of SentencePiece's kind: printable ASCII, some pairs, spaces as U+2581, and single bytes for the
/// rest. It ends texts with `</s>`.
///
/// # Panics
/// Never, but for a defect.
pub fn sentencepiece_tokenizer() -> Tokenizer {
    let specials = ["<unk>", "<s>", "</s>"].map(str::to_owned);
    let bytes = (0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>"));
    let letters = ('!'..='~').map(String::from);
    let pairs = ["\u{2581}", "\u{2581}\"", "\":", "\","];
    let names = specials.iter().cloned().chain(bytes).chain(letters);
    let names = names.chain(pairs.map(str::to_owned));
    let vocab: serde_json::Map<_, _> = names.enumerate().map(|(id, n)| (n, json!(id))).collect();
    let special = |id: usize| {
        json!({"id": id, "content": specials[id], "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": true})
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0), special(1), special(2)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u{2581}"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>",
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
                  "merges": [["\u{2581}", "\""], ["\"", ":"], ["\"", ","]]},
    });
    Tokenizer::from_bytes(tokenizer.to_string().as_bytes()).expect("it is a tokenizer")
}
