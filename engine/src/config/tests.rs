//! Both spellings of the configuration, and everything that is refused.

use super::*;

fn v4() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": null,
        "tie_word_embeddings": true, "max_position_embeddings": 128,
        "bos_token_id": 1, "eos_token_id": [2, 3], "hidden_act": "silu",
    })
}

fn parse(value: &Value) -> Result<Config, ConfigError> {
    Config::from_json(value.to_string().as_bytes())
}

#[test]
fn both_spellings_give_the_same_configuration() {
    let mut v5 = v4();
    v5.as_object_mut().unwrap().remove("rope_theta");
    v5["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 10000.0});
    let config = parse(&v4()).unwrap();
    assert_eq!(config, parse(&v5).unwrap());
    assert_eq!(
        (config.head_dim, config.eos.as_slice()),
        (4, [2, 3].as_slice())
    );
}

#[test]
fn missing_theta_is_an_error() {
    let mut value = v4();
    value.as_object_mut().unwrap().remove("rope_theta");
    assert!(matches!(parse(&value), Err(ConfigError::MissingTheta)));
}

#[test]
fn written_configuration_reads_back_in_every_family() {
    let mut configs = crate::test_utils::every_family();
    configs[0].rope_scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 64,
    };
    for config in configs {
        let read = Config::from_json(config.to_json().as_bytes()).unwrap();
        assert_eq!(config, read);
    }
}

#[test]
fn two_spellings_in_one_file_must_agree() {
    let mut value = v4();
    value["rope_scaling"] = json!({"type": "default"});
    value["rope_parameters"] = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8});
    let error = parse(&value).unwrap_err().to_string();
    assert!(error.contains("differs from rope_parameters"), "{error}");
    value["rope_scaling"] = Value::Null;
    let config = parse(&value).unwrap();
    assert!(matches!(config.rope_scaling, RopeScaling::Llama3 { .. }));
}

#[test]
fn each_family_brings_its_biases_norms_and_defaults() {
    let parse = |architecture: &str, change: &[(&str, Value)]| {
        let mut value = v4();
        value["architectures"] = json!([architecture]);
        for (field, new) in change {
            value[*field] = new.clone();
        }
        Config::from_json(value.to_string().as_bytes()).unwrap()
    };
    let (yes, no) = (json!(true), json!(false));
    let biases = |config: &Config| {
        let Biases { qkv, output, ffn } = config.biases;
        (qkv, output, ffn, config.head_norms)
    };
    let llama = parse("LlamaForCausalLM", &[("attention_bias", yes.clone())]);
    assert_eq!(biases(&llama), (true, true, false, false));
    let llama = parse(
        "LlamaForCausalLM",
        &[("mlp_bias", yes.clone()), ("head_dim", json!(6))],
    );
    assert_eq!(
        (biases(&llama), llama.head_dim),
        ((false, false, true, false), 6)
    );
    let qwen2 = parse("Qwen2ForCausalLM", &[("use_sliding_window", no)]);
    assert_eq!(
        (biases(&qwen2), qwen2.head_dim),
        ((true, false, false, false), 4)
    );
    let qwen3 = parse("Qwen3ForCausalLM", &[]);
    assert_eq!(
        (biases(&qwen3), qwen3.head_dim),
        ((false, false, false, true), 128)
    );
    let qwen3 = parse("Qwen3ForCausalLM", &[("attention_bias", yes)]);
    assert_eq!(biases(&qwen3), (true, true, false, true));

    let mut silent = v4();
    silent["architectures"] = json!([]);
    silent["model_type"] = json!("qwen2");
    assert_eq!(
        Config::from_json(silent.to_string().as_bytes())
            .unwrap()
            .family,
        Family::Qwen2
    );
    silent
        .as_object_mut()
        .unwrap()
        .remove("num_key_value_heads");
    let error = Config::from_json(silent.to_string().as_bytes()).unwrap_err();
    assert!(error.to_string().contains("num_key_value_heads"), "{error}");
}

#[test]
fn what_cannot_be_computed_is_refused_by_name() {
    for (field, value, named) in [
        (
            "architectures",
            json!(["MambaForCausalLM"]),
            "MambaForCausalLM",
        ),
        ("hidden_act", json!("gelu"), "hidden_act"),
        ("use_sliding_window", json!(true), "use_sliding_window"),
        (
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
            "sliding_attention",
        ),
        (
            "quantization_config",
            json!({"bits": 4}),
            "quantization_config",
        ),
        ("partial_rotary_factor", json!(0.5), "partial_rotary_factor"),
        ("rope_parameters", json!({"rope_theta": 5.0}), "rope_theta"),
        (
            "rope_scaling",
            json!({"type": "llama3", "factor": 8.0, "low_freq_factor": 4.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8}),
            "high_freq_factor",
        ),
        ("vocab_size", json!(1u64 << 60), "vocab_size"),
        (
            "num_hidden_layers",
            json!(1_000_000_000),
            "num_hidden_layers",
        ),
        ("vocab_size", json!(-1), "invalid value"),
        (
            "rope_scaling",
            json!({"type": "yarn", "factor": 2.0}),
            "yarn",
        ),
        ("rope_scaling", json!({"rope_type": "llama3"}), "factor"),
        ("num_key_value_heads", json!(3), "num_key_value_heads"),
        ("num_attention_heads", json!(0), "num_attention_heads"),
        ("hidden_size", json!(0), "hidden_size"),
        ("num_hidden_layers", json!(1 << 20), "num_hidden_layers"),
        ("head_dim", json!(5), "head_dim"),
        ("rope_theta", json!(-1.0), "rope_theta"),
        ("eos_token_id", json!("x"), "eos_token_id"),
    ] {
        let mut config = v4();
        config[field] = value;
        let error = parse(&config).expect_err(field).to_string();
        assert!(error.contains(named), "{field}: {error}");
    }
}

#[test]
fn a_written_configuration_has_its_keys_in_order_whatever_map_the_parser_was_built_with() {
    let text = Config::from_json(v4().to_string().as_bytes())
        .unwrap()
        .to_json();
    let keys: Vec<&str> = (text.lines())
        .filter_map(|line| line.strip_prefix("  \"")?.split('"').next())
        .collect();
    assert!(keys.len() > 20 && keys.is_sorted(), "{keys:?}");
}
