//! The decoder one step at a time, with keys and values kept from earlier steps.
//!
//! Positions come in pieces: the whole prompt first, then one token after the other. Linears run as
//! tensors like everywhere else; attention reads a preallocated cache in host memory, so nothing
//! grows or is copied as a text gets longer.

use rayon::prelude::*;

use crate::lora::Factors;
use crate::model::rope::RopeTable;
use crate::model::vector::{add_scaled, dot, exp, fast, max, sum};
use crate::model::{Model, download, ops, upload};

/// Keys and values of every layer for up to `capacity` positions.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    /// Per layer, rotated keys `[capacity, kv_width]`.
    keys: Vec<Vec<f32>>,
    /// Per layer, values `[capacity, kv_width]`.
    values: Vec<Vec<f32>>,
    table: RopeTable,
    capacity: usize,
    length: usize,
}

impl Cache {
    /// Room for `capacity` positions.
    pub(crate) fn new(model: &Model, capacity: usize) -> Self {
        let config = model.config();
        let empty = || vec![vec![0.0; capacity * config.kv_width()]; config.layers];
        Self {
            keys: empty(),
            values: empty(),
            table: RopeTable::of_system(config, capacity),
            capacity,
            length: 0,
        }
    }

    /// Positions that more tokens can take.
    pub(crate) fn room(&self) -> usize {
        self.capacity - self.length
    }
}

impl Model {
    /// Appends `tokens` to the cached text and returns the logits after the last of them.
    ///
    /// # Panics
    /// If `tokens` is empty or does not fit the cache.
    pub(crate) fn decode(
        &self,
        adapter: Option<&Factors>,
        tokens: &[i32],
        cache: &mut Cache,
    ) -> Vec<f32> {
        assert!(!tokens.is_empty() && tokens.len() <= cache.room());
        let mut x = self.embed(tokens);
        for (index, layer) in self.layers.iter().enumerate() {
            let [q, k, v] = self.queries_keys_values(index, adapter, x.clone());
            let mixed = self.attend_cached(index, download(q), download(k), download(v), cache);
            let shape = [tokens.len(), self.config.query_width()];
            let mixed = upload(mixed, shape, &self.device);
            x = x + self.linear(index, 3, adapter, mixed);
            x = x.clone() + self.feed_forward(index, adapter, self.normed(x, &layer.post_norm));
        }
        cache.length += tokens.len();
        let last = x.slice([tokens.len() - 1..tokens.len(), 0..self.config.hidden]);
        let last = self.normed(last, &self.norm);
        download(ops::linear(last, self.head_matrix(), None))
    }

    /// Stores the new keys and values of one layer and attends from the new queries.
    fn attend_cached(
        &self,
        layer: usize,
        mut q: Vec<f32>,
        mut k: Vec<f32>,
        v: Vec<f32>,
        cache: &mut Cache,
    ) -> Vec<f32> {
        let (query_width, kv_width) = (self.config.query_width(), self.config.kv_width());
        let (dim, from) = (self.config.head_dim, cache.length);
        let scale = 1.0 / (dim as f32).sqrt();
        rotate(&mut q, query_width, &cache.table, from, scale);
        rotate(&mut k, kv_width, &cache.table, from, 1.0);
        cache.keys[layer][from * kv_width..][..k.len()].copy_from_slice(&k);
        cache.values[layer][from * kv_width..][..v.len()].copy_from_slice(&v);
        let (keys, values) = (&cache.keys[layer], &cache.values[layer]);
        let per_group = self.config.heads / self.config.kv_heads;
        let heads = self.config.heads;
        let mut out = vec![0.0; q.len()];
        // One task a head: a single row still has work for every thread.
        (out.par_chunks_mut(dim).enumerate())
            .zip(q.par_chunks(dim))
            .for_each_init(Vec::new, |scores, ((at, out), q)| {
                let (row, head) = (at / heads, at % heads);
                let seen = from + row + 1;
                let lanes = Lanes {
                    from: head / per_group * dim,
                    width: kv_width,
                };
                scores.resize(seen, 0.0);
                fast(
                    #[inline(always)]
                    || attend(out, q, lanes, &keys[..seen * kv_width], values, scores),
                );
            });
        out
    }
}

/// Where a head lies in a row of keys or values.
#[derive(Clone, Copy)]
struct Lanes {
    from: usize,
    width: usize,
}

/// One query over the positions it may look at, as many as there are `scores`.
#[inline(always)]
fn attend(
    out: &mut [f32],
    q: &[f32],
    lanes: Lanes,
    keys: &[f32],
    values: &[f32],
    scores: &mut [f32],
) {
    // A plain loop into a buffer: a closure under `collect` is compiled for no vector unit.
    for (score, key) in scores.iter_mut().zip(keys.chunks_exact(lanes.width)) {
        *score = dot(q, &key[lanes.from..lanes.from + q.len()]);
    }
    let largest = max(scores);
    for score in scores.iter_mut() {
        *score = exp(*score - largest);
    }
    let inverse = 1.0 / sum(scores);
    for (score, value) in scores.iter().zip(values.chunks_exact(lanes.width)) {
        add_scaled(
            out,
            score * inverse,
            &value[lanes.from..lanes.from + q.len()],
        );
    }
}

/// Turns every head of `[positions, width]` rows and scales it.
fn rotate(rows: &mut [f32], width: usize, table: &RopeTable, from: usize, scale: f32) {
    let half = table.half;
    for (row, values) in rows.chunks_exact_mut(width).enumerate() {
        let at = (from + row) * half;
        for head in values.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for (pair, (a, b)) in first.iter_mut().zip(second).enumerate() {
                let (cos, sin) = (table.cos[at + pair] * scale, table.sin[at + pair] * scale);
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}
