//! The decoder against a scalar one, written from the formulas with loops.

use super::*;
use crate::data::dense_batch;
use crate::testing::{every_family, tiny_config};

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
        let mut out: Vec<f64> = (self.get(name).chunks_exact(x.len()))
            .map(|row| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum())
            .collect();
        let bias = name.replace(".weight", ".bias");
        if let Some(bias) = self.parameters.iter().find(|p| p.name == bias) {
            (out.iter_mut().zip(&bias.values)).for_each(|(o, b)| *o += f64::from(*b));
        }
        out
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
                if c.head_norms {
                    for (x, part) in [(&mut q, "self_attn.q_norm"), (&mut k, "self_attn.k_norm")] {
                        let heads = x.chunks_exact(c.head_dim);
                        *x = heads.flat_map(|h| self.norm(&name(part), h)).collect();
                    }
                }
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

/// Larger weights than a fresh model's, so that attention and gates are far from uniform, and biases
/// and gains that are not all alike.
fn lively(config: &Config) -> Vec<Parameter> {
    let mut parameters = parameters::initialise(config, 5);
    for parameter in &mut parameters {
        let flat = parameter.shape.len() == 1;
        for (at, value) in parameter.values.iter_mut().enumerate() {
            *value = match flat {
                true => *value + 0.3 * ((at * 7 % 5) as f32 - 2.0) / 2.0,
                false => *value * 8.0,
            };
        }
    }
    parameters
}

#[test]
fn loss_equals_that_of_a_scalar_decoder_in_every_family() {
    for config in every_family() {
        let parameters = lively(&config);
        let tokens: Vec<u32> = (0..3 * 9).map(|i| (i * 29 + i * i * 3) % 48).collect();
        let slow = Slow {
            config: &config,
            parameters: &parameters,
        }
        .loss_sum(&tokens, 3, 9);
        let device = crate::device::cpu();
        let model = Model::new(config.clone(), parameters, &device);
        let batch = dense_batch(&tokens, 3, 9, config.vocab).unwrap();
        let fast = f64::from(download(model.loss_sum(None, &batch))[0]);
        assert!(
            (fast - slow).abs() < 1e-4 * slow,
            "{fast} {slow} {config:?}"
        );
    }
}

#[test]
fn decoding_step_by_step_gives_the_logits_of_the_whole_in_every_family() {
    for config in every_family() {
        let parameters = lively(&config);
        let tokens: Vec<u32> = (0..9).map(|i| (i * 29 + 3) % 48).collect();
        let slow = Slow {
            config: &config,
            parameters: &parameters,
        }
        .logits(&tokens);
        let device = crate::device::cpu();
        let model = Model::new(config.clone(), parameters, &device);
        let mut cache = decode::Cache::new(&model, tokens.len());
        let ids: Vec<i32> = tokens.iter().map(|t| *t as i32).collect();
        let mut steps = vec![(3, model.decode(None, &ids[..4], &mut cache))];
        steps.extend((4..9).map(|at| (at, model.decode(None, &ids[at..=at], &mut cache))));
        for (at, logits) in steps {
            for (ours, theirs) in logits.iter().zip(&slow[at]) {
                let gap = (f64::from(*ours) - theirs).abs();
                assert!(gap < 1e-4 * theirs.abs().max(1.0), "{at} {ours} {theirs}");
            }
        }
    }
}

#[test]
fn every_weight_of_every_family_has_the_slope_of_the_loss() {
    for config in every_family() {
        let parameters = lively(&config);
        let device = crate::device::cpu();
        let tokens: Vec<u32> = (0..2 * 7).map(|i| (i * 31 + i * i) % 48).collect();
        let batch = dense_batch(&tokens, 2, 7, config.vocab).unwrap();
        let model = Model::new(config.clone(), parameters.clone(), &device).trainable();
        let mut gradients = model.loss_sum(None, &batch).backward();
        for (index, weight) in model.weights().iter().enumerate() {
            let gradient = weight.gradient(&mut gradients).expect("takes part");
            let largest = (0..gradient.len())
                .max_by(|a, b| gradient[*a].abs().total_cmp(&gradient[*b].abs()))
                .unwrap();
            let loss = |by: f32| {
                let mut moved = parameters.clone();
                moved[index].values[largest] += by;
                let slow = Slow {
                    config: &config,
                    parameters: &moved,
                };
                slow.loss_sum(&tokens, 2, 7)
            };
            let slope = (loss(1e-3) - loss(-1e-3)) / 2e-3;
            let ours = f64::from(gradient[largest]);
            let name = &parameters[index].name;
            assert!(
                (ours - slope).abs() < 2e-3 * slope.abs().max(0.01),
                "{name}: {ours} {slope}"
            );
        }
    }
}

#[test]
fn documents_packed_in_one_window_lose_what_they_lose_apart() {
    let config = tiny_config();
    let parameters: Vec<Parameter> = parameters::initialise(&config, 5)
        .into_iter()
        .map(|mut p| {
            p.values.iter_mut().for_each(|v| *v *= 8.0);
            p
        })
        .collect();
    let model = Model::new(config, parameters, &crate::device::cpu());
    let loss = |batch: &Batch| f64::from(download(model.loss_sum(None, batch))[0]);
    let tokens: Vec<u32> = (0..20).map(|i| (i * 29 + i * i * 3) % 48).collect();
    let (one, two) = tokens.split_at(7);
    let apart = [one, two].map(|part| dense_batch(part, 1, part.len(), 48).unwrap());
    let mut packed = dense_batch(&tokens, 1, 20, 48).unwrap();
    packed.targets[6] = NO_TARGET;
    let crossing = loss(&packed);
    packed.firsts = Some((0..20).map(|row| if row < 7 { 0 } else { 7 }).collect());
    let expected = apart.iter().map(loss).sum::<f64>();
    assert!((loss(&packed) - expected).abs() < 1e-5 * expected);
    assert!((crossing - expected).abs() > 1e-3 * expected);
}

#[test]
fn weights_come_in_canonical_order() {
    for config in every_family() {
        let parameters = lively(&config);
        let model = Model::new(config, parameters.clone(), &crate::device::cpu());
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
}
