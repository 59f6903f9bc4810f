//! A model's weights as named arrays in host memory.
//!
//! Names and shapes are those of Hugging Face, in one canonical order, so that files, random
//! initialisation, the optimiser and the tensors of a forward pass agree on what exists. Arithmetic
//! belongs to the model.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::Config;

/// One weight: `values` is row-major in `shape`.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Hugging Face name, such as `model.layers.0.mlp.up_proj.weight`.
    pub name: String,
    /// One or two dimensions; a linear is `[outputs, inputs]`.
    pub shape: Vec<usize>,
    /// The numbers.
    pub values: Vec<f32>,
}

/// What a weight is for; decides how it is initialised and whether it decays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The token table.
    Embedding,
    /// A linear whose output is added to the residual stream.
    Residual,
    /// Any other linear.
    Linear,
    /// What a linear adds to each row of its output.
    Bias,
    /// The gain of a norm.
    Norm,
}

/// One weight that a model of some configuration must have.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Hugging Face name.
    pub name: String,
    /// One or two dimensions.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
}

/// The seven linears of a layer, as Hugging Face names them, in canonical order.
pub const LINEARS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// The norms of query and key heads, where a model has them.
const HEAD_NORMS: [&str; 2] = ["self_attn.q_norm", "self_attn.k_norm"];

/// `[outputs, inputs]` of each of [`LINEARS`].
pub fn linear_shapes(config: &Config) -> [[usize; 2]; 7] {
    let (hidden, ffn) = (config.hidden, config.ffn);
    let (query, kv) = (config.query_width(), config.kv_width());
    [
        [query, hidden],
        [kv, hidden],
        [kv, hidden],
        [hidden, query],
        [ffn, hidden],
        [ffn, hidden],
        [hidden, ffn],
    ]
}

/// Every weight of a model, in canonical order: table, layers, final norm, untied head. In a layer:
/// norms, head norms, then each linear followed by its bias.
pub fn slots(config: &Config) -> Vec<Slot> {
    let slot = |name: String, shape: &[usize], role| Slot {
        name,
        shape: shape.to_vec(),
        role,
    };
    let table = [config.vocab, config.hidden];
    let mut out = vec![slot(
        "model.embed_tokens.weight".into(),
        &table,
        Role::Embedding,
    )];
    for layer in 0..config.layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let mut norms = vec![
            ("input_layernorm", config.hidden),
            ("post_attention_layernorm", config.hidden),
        ];
        if config.head_norms {
            norms.extend(HEAD_NORMS.map(|part| (part, config.head_dim)));
        }
        for (part, width) in norms {
            out.push(slot(name(part), &[width], Role::Norm));
        }
        for (index, (part, shape)) in LINEARS.iter().zip(linear_shapes(config)).enumerate() {
            let residual = part.ends_with("o_proj") || part.ends_with("down_proj");
            let role = if residual {
                Role::Residual
            } else {
                Role::Linear
            };
            out.push(slot(name(part), &shape, role));
            if config.biases.of(index) {
                let name = format!("model.layers.{layer}.{part}.bias");
                out.push(slot(name, &shape[..1], Role::Bias));
            }
        }
    }
    out.push(slot(
        "model.norm.weight".into(),
        &[config.hidden],
        Role::Norm,
    ));
    if !config.tied {
        out.push(slot("lm_head.weight".into(), &table, Role::Linear));
    }
    out
}

/// Fresh weights: normal with deviation 0.02, residual linears divided by `sqrt(2 layers)` so that
/// the residual stream keeps its size with depth (GPT-2, section 2.3), norms one, biases zero.
pub fn initialise(config: &Config, seed: u64) -> Vec<Parameter> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let residual = 0.02 / (2.0 * config.layers as f32).sqrt();
    let fill = |slot: Slot| {
        let count = slot.shape.iter().product();
        let values = match slot.role {
            Role::Norm => vec![1.0; count],
            Role::Bias => vec![0.0; count],
            Role::Residual => normal(&mut rng, count, residual),
            Role::Embedding | Role::Linear => normal(&mut rng, count, 0.02),
        };
        Parameter {
            name: slot.name,
            shape: slot.shape,
            values,
        }
    };
    slots(config).into_iter().map(fill).collect()
}

/// `count` draws of a normal distribution (Box-Muller).
fn normal(rng: &mut ChaCha8Rng, count: usize, deviation: f32) -> Vec<f32> {
    let mut out = Vec::with_capacity(count + 1);
    while out.len() < count {
        let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt() * deviation;
        let angle = std::f32::consts::TAU * rng.random::<f32>();
        out.push(radius * angle.cos());
        out.push(radius * angle.sin());
    }
    out.truncate(count);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_utils::every_family;

    #[test]
    fn parameter_count_matches_the_configuration() {
        for config in every_family() {
            let count: usize = initialise(&config, 1).iter().map(|p| p.values.len()).sum();
            assert_eq!(count, config.parameters());
        }
    }

    #[test]
    fn fresh_weights_have_the_intended_spread() {
        let values = normal(&mut ChaCha8Rng::seed_from_u64(3), 10_001, 0.02);
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let square = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 1e-3 && (square.sqrt() - 0.02).abs() < 1e-3);
    }
}
