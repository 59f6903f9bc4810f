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
fn written_configuration_reads_back() {
    let mut config = parse(&v4()).unwrap();
    assert_eq!(
        config,
        Config::from_json(config.to_json().as_bytes()).unwrap()
    );
    config.rope_scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 64,
    };
    assert_eq!(
        config,
        Config::from_json(config.to_json().as_bytes()).unwrap()
    );
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
        ("attention_bias", json!(true), "attention_bias"),
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
