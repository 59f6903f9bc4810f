//! The decoder against a scalar one, written from the formulas with loops.

use super::*;
use crate::data::dense_batch;
use crate::testing::tiny_config;

/// Everything in f64, one position at a time.
struct Slow<'a> {
    config: &'a Config,
    parameters: &'a [Parameter],
}

impl Slow<'_> {
    fn get(&self, name: &str) -> &[f32] {
        &self
            .parameters
            .iter()
            .find(|p| p.name == name)
            .unwrap()
            .values
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        (self.get(name).chunks_exact(x.len()))
            .map(|row| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum())
            .collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        let inverse = 1.0 / (mean + self.config.norm_eps).sqrt();
        (x.iter().zip(self.get(name)))
            .map(|(v, g)| v * inverse * f64::from(*g))
            .collect()
    }

    fn rotate(&self, x: &mut [f64], position: usize) {
        let dim = self.config.head_dim;
        for head in x.chunks_exact_mut(dim) {
            for pair in 0..dim / 2 {
                let theta = f64::from(self.config.rope_theta);
                let angle = position as f64 * theta.powf(-2.0 * pair as f64 / dim as f64);
                let (a, b) = (head[pair], head[pair + dim / 2]);
                head[pair] = a * angle.cos() - b * angle.sin();
                head[pair + dim / 2] = b * angle.cos() + a * angle.sin();
            }
        }
    }

    /// Logits after every position of one window.
    fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let c = self.config;
        let table = self.get("model.embed_tokens.weight");
        let mut xs: Vec<Vec<f64>> = (tokens.iter())
            .map(|t| {
                let row = *t as usize * c.hidden;
                table[row..row + c.hidden]
                    .iter()
                    .map(|v| f64::from(*v))
                    .collect()
            })
            .collect();
        for layer in 0..c.layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for (position, x) in xs.iter_mut().enumerate() {
                let normed = self.norm(&name("input_layernorm"), x);
                let mut q = self.linear(&name("self_attn.q_proj"), &normed);
                let mut k = self.linear(&name("self_attn.k_proj"), &normed);
                self.rotate(&mut q, position);
                self.rotate(&mut k, position);
                keys.push(k);
                values.push(self.linear(&name("self_attn.v_proj"), &normed));
                let mixed = self.attend(&q, &keys, &values);
                let out = self.linear(&name("self_attn.o_proj"), &mixed);
                x.iter_mut().zip(out).for_each(|(x, o)| *x += o);
                let normed = self.norm(&name("post_attention_layernorm"), x);
                let gate = self.linear(&name("mlp.gate_proj"), &normed);
                let up = self.linear(&name("mlp.up_proj"), &normed);
                let inner: Vec<f64> = (gate.iter().zip(up))
                    .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
                    .collect();
                let out = self.linear(&name("mlp.down_proj"), &inner);
                x.iter_mut().zip(out).for_each(|(x, o)| *x += o);
            }
        }
        let head = if c.tied {
            "model.embed_tokens.weight"
        } else {
            "lm_head.weight"
        };
        (xs.iter())
            .map(|x| self.linear(head, &self.norm("model.norm.weight", x)))
            .collect()
    }

    fn attend(&self, q: &[f64], keys: &[Vec<f64>], values: &[Vec<f64>]) -> Vec<f64> {
        let c = self.config;
        let mut out = Vec::new();
        for head in 0..c.heads {
            let group = head / (c.heads / c.kv_heads) * c.head_dim;
            let q = &q[head * c.head_dim..(head + 1) * c.head_dim];
            let scores: Vec<f64> = (keys.iter())
                .map(|k| {
                    let k = &k[group..group + c.head_dim];
                    let dot: f64 = q.iter().zip(k).map(|(a, b)| a * b).sum();
                    (dot / (c.head_dim as f64).sqrt()).exp()
                })
                .collect();
            let total: f64 = scores.iter().sum();
            for i in 0..c.head_dim {
                let weighted = scores.iter().zip(values).map(|(s, v)| s * v[group + i]);
                out.push(weighted.sum::<f64>() / total);
            }
        }
        out
    }

    fn loss_sum(&self, tokens: &[u32], windows: usize, context: usize) -> f64 {
        let mut sum = 0.0;
        for window in tokens.chunks_exact(context).take(windows) {
            for (logits, target) in self.logits(window).iter().zip(&window[1..]) {
                let total: f64 = logits.iter().map(|l| l.exp()).sum();
                sum += total.ln() - logits[*target as usize];
            }
        }
        sum
    }
}

#[test]
fn loss_equals_that_of_a_scalar_decoder() {
    for (tied, kv_heads) in [(false, 2), (true, 4), (true, 1)] {
        let config = Config {
            tied,
            kv_heads,
            ..tiny_config()
        };
        let parameters: Vec<Parameter> = parameters::initialise(&config, 5)
            .into_iter()
            .map(|mut p| {
                // Larger weights make attention and gates far from uniform.
                p.values.iter_mut().for_each(|v| *v *= 8.0);
                p
            })
            .collect();
        let tokens: Vec<u32> = (0..3 * 9).map(|i| (i * 29 + i * i * 3) % 48).collect();
        let slow = Slow {
            config: &config,
            parameters: &parameters,
        }
        .loss_sum(&tokens, 3, 9);
        let device = crate::device::choose().device;
        let model = Model::new(config.clone(), parameters, &device);
        let batch = dense_batch(&tokens, 3, 9, config.vocab).unwrap();
        let fast = f64::from(download(model.loss_sum(None, &batch))[0]);
        assert!((fast - slow).abs() < 1e-4 * slow, "{fast} {slow}");
    }
}

#[test]
fn weights_come_in_canonical_order() {
    let config = tiny_config();
    let parameters = parameters::initialise(&config, 5);
    let model = Model::new(config, parameters.clone(), &crate::device::choose().device);
    let weights = model.weights();
    assert_eq!(weights.len(), parameters.len());
    for (weight, parameter) in weights.iter().zip(&parameters) {
        let values = match weight {
            Weight::Matrix(t) => download((*t).clone()),
            Weight::Vector(t) => download((*t).clone()),
        };
        assert_eq!(values, parameter.values, "{}", parameter.name);
    }
}
