//! Small random models for this crate's tests.

use crate::config::{Config, RopeScaling};

/// Two layers, grouped queries, an untied head.
pub(crate) fn tiny_config() -> Config {
    Config {
        vocab: 48,
        hidden: 16,
        ffn: 24,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        tied: false,
        max_context: 64,
        bos: Some(1),
        eos: vec![2],
    }
}
