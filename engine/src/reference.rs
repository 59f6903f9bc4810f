//! The decoder as its equations say, one token after the other: the slow twin of the batched forward pass.
//!
//! ```text
//! embed -> [ norm -> q, k, v -> rotate -> attend -> o -> + -> norm -> down(silu(gate) up) -> + ] x layers -> norm -> head
//! ```
//! Weights and sums are f32; keys, values and adapters are rounded to bf16, as the engine keeps them; nothing is packed,
//! shared or reordered. Tests compare the engine with it.

use tributary_protocol::adapter::Adapter;

use crate::base::Base;
use crate::config::Config;
use crate::lora::{LoraError, places};
use crate::model::rope::RopeTable;

/// Places of a layer's parameters: norms, head norms, then each linear and its bias.
struct Layer {
    norms: [usize; 2],
    head_norms: Option<[usize; 2]>,
    linears: [usize; 7],
    biases: [Option<usize>; 7],
}

/// A text that is being read.
pub struct Reference<'a> {
    base: &'a Base,
    adapter: Option<(&'a Adapter, Vec<Option<usize>>)>,
    layers: Vec<Layer>,
    norm: usize,
    head: usize,
    table: RopeTable,
    /// Keys and values of each layer, position after position.
    cache: Vec<[Vec<f32>; 2]>,
    position: usize,
}

impl<'a> Reference<'a> {
    /// An empty text of at most `positions` tokens.
    ///
    /// # Errors
    /// When the adapter does not fit the base.
    pub fn new(
        base: &'a Base,
        adapter: Option<&'a Adapter>,
        positions: usize,
    ) -> Result<Self, LoraError> {
        let config = &base.info.config;
        let mut next = 1;
        let mut take = || {
            next += 1;
            next - 1
        };
        let layers = (0..config.layers).map(|_| {
            let norms = [take(), take()];
            let head_norms = config.head_norms.then(|| [take(), take()]);
            let mut biases = [None; 7];
            let linears = std::array::from_fn(|which| {
                let weight = take();
                biases[which] = config.biases.of(which).then(&mut take);
                weight
            });
            Layer {
                norms,
                head_norms,
                linears,
                biases,
            }
        });
        let layers = layers.collect();
        let norm = take();
        let adapter = match adapter {
            Some(adapter) => Some((adapter, places(config, adapter.shape())?)),
            None => None,
        };
        Ok(Self {
            base,
            adapter,
            layers,
            norm,
            head: if config.tied { 0 } else { norm + 1 },
            table: RopeTable::new(config, positions),
            cache: vec![Default::default(); config.layers],
            position: 0,
        })
    }

    /// Reads one token; gives the logits of what follows.
    ///
    /// # Panics
    /// When the token is not in the vocabulary or the text is full.
    pub fn read(&mut self, token: u32) -> Vec<f32> {
        let config = &self.base.info.config;
        let mut x = self.row(0, token as usize, config.hidden).to_vec();
        for at in 0..self.layers.len() {
            let layer = &self.layers[at];
            let normed = self.normed(&x, layer.norms[0]);
            let [mut q, mut k, v] = [0, 1, 2].map(|which| self.linear(at, which, &normed));
            if let Some([of_q, of_k]) = layer.head_norms {
                for (heads, gain) in [(&mut q, of_q), (&mut k, of_k)] {
                    for head in heads.chunks_exact_mut(config.head_dim) {
                        head.copy_from_slice(&self.normed(head, gain));
                    }
                }
            }
            self.rotate(&mut q);
            self.rotate(&mut k);
            self.cache[at][0].extend(k.into_iter().map(rounded));
            self.cache[at][1].extend(v.into_iter().map(rounded));
            let mixed = self.attend(at, &q);
            add(&mut x, &self.linear(at, 3, &mixed));
            let normed = self.normed(&x, self.layers[at].norms[1]);
            let [gate, up] = [4, 5].map(|which| self.linear(at, which, &normed));
            let product: Vec<f32> = (gate.iter().zip(&up))
                .map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up)
                .collect();
            add(&mut x, &self.linear(at, 6, &product));
        }
        self.position += 1;
        let normed = self.normed(&x, self.norm);
        let head = &self.base.parameters[self.head].values;
        head.chunks_exact(config.hidden)
            .map(|row| dot(row, &normed))
            .collect()
    }

    fn row(&self, parameter: usize, row: usize, width: usize) -> &[f32] {
        &self.base.parameters[parameter].values[row * width..][..width]
    }

    fn normed(&self, x: &[f32], gain: usize) -> Vec<f32> {
        let mean = dot(x, x) / x.len() as f32;
        let factor = 1.0 / (mean + self.base.info.config.norm_eps as f32).sqrt();
        let gain = &self.base.parameters[gain].values;
        x.iter().zip(gain).map(|(x, g)| x * factor * g).collect()
    }

    /// `W x + b + scale B (A x)`.
    fn linear(&self, layer: usize, which: usize, x: &[f32]) -> Vec<f32> {
        let weight = &self.base.parameters[self.layers[layer].linears[which]].values;
        let mut out: Vec<f32> = (weight.chunks_exact(x.len()))
            .map(|row| dot(row, x))
            .collect();
        if let Some(bias) = self.layers[layer].biases[which] {
            add(&mut out, &self.base.parameters[bias].values);
        }
        let pair = self.adapter.as_ref().and_then(|(adapter, places)| {
            let module = places[layer * 7 + which]?;
            let segments = adapter.shape().segments();
            let [a, b] = [2 * module, 2 * module + 1].map(|at| adapter.segment(&segments[at]));
            Some((a, b, adapter.shape().scale()))
        });
        if let Some((a, b, scale)) = pair {
            let halves = |row: &[f32]| -> Vec<f32> { row.iter().map(|v| rounded(*v)).collect() };
            let narrow: Vec<f32> = (a.chunks_exact(x.len()))
                .map(|row| dot(&halves(row), x))
                .collect();
            for (out, row) in out.iter_mut().zip(b.chunks_exact(narrow.len())) {
                *out += scale * dot(&halves(row), &narrow);
            }
        }
        out
    }

    fn rotate(&self, heads: &mut [f32]) {
        let half = self.table.half;
        let at = self.position * half;
        for head in heads.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for (pair, (a, b)) in first.iter_mut().zip(second).enumerate() {
                let (cos, sin) = (self.table.cos[at + pair], self.table.sin[at + pair]);
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }

    fn attend(&self, layer: usize, q: &[f32]) -> Vec<f32> {
        let config: &Config = &self.base.info.config;
        let (dim, width) = (config.head_dim, config.kv_width());
        let [keys, values] = &self.cache[layer];
        let mut out = vec![0.0; q.len()];
        let heads = out.chunks_exact_mut(dim).zip(q.chunks_exact(dim));
        for (head, (out, q)) in heads.enumerate() {
            let from = head / (config.heads / config.kv_heads) * dim;
            let scores = keys
                .chunks_exact(width)
                .map(|k| dot(q, &k[from..from + dim]) / (dim as f32).sqrt());
            let scores: Vec<f32> = scores.collect();
            let largest = scores.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
            let weights: Vec<f32> = scores.iter().map(|s| (s - largest).exp()).collect();
            let sum: f32 = weights.iter().sum();
            for (weight, value) in weights.iter().zip(values.chunks_exact(width)) {
                for (out, value) in out.iter_mut().zip(&value[from..from + dim]) {
                    *out += weight / sum * value;
                }
            }
        }
        out
    }
}

/// The nearest bf16.
fn rounded(value: f32) -> f32 {
    half::bf16::from_f32(value).to_f32()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}
