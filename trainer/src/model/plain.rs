//! Every operation of the decoder written with whole-tensor arithmetic.
//!
//! These are the slow, obvious twins of `ops`, and what runs on a device that `ops` has no fused
//! form for. Their gradients are autodiff's, so they also check the fused backward passes.

use burn::tensor::{Device, Tensor, activation};

use crate::config::Config;
use crate::lora::Pair;
use crate::model::rope::RopeTable;
use crate::model::{Batch, upload};

/// `x / sqrt(mean(x^2) + eps) * gain`, per row of `[rows, width]`.
pub(crate) fn rms_norm(x: Tensor<2>, gain: Tensor<1>, eps: f64) -> Tensor<2> {
    let mean_square = x.clone().square().mean_dim(1);
    let inverse = (mean_square + eps).sqrt().recip();
    x * inverse * gain.unsqueeze::<2>()
}

/// `x W^T`, plus `scale (x A^T) B^T` where there is a pair.
pub(crate) fn linear(x: Tensor<2>, weight: Tensor<2>, pair: Option<&Pair>) -> Tensor<2> {
    let base = x.clone().matmul(weight.transpose());
    match pair {
        Some(pair) => {
            let narrow = x.matmul(pair.a.clone().transpose());
            base + narrow.matmul(pair.b.clone().transpose()) * pair.scale
        }
        None => base,
    }
}

/// `silu(gate) * up`.
pub(crate) fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    activation::silu(gate) * up
}

/// Turns every head of `[batch, heads, context, head_dim]` by its position's angle.
fn rotate(x: Tensor<4>, table: &RopeTable) -> Tensor<4> {
    let [batch, heads, context, dim] = x.dims();
    let half = dim / 2;
    let shape = [1, 1, context, half];
    let device = x.device();
    let part = |numbers: &[f32]| upload(numbers[..context * half].to_vec(), shape, &device);
    let (cos, sin) = (part(&table.cos), part(&table.sin));
    let first = x.clone().slice([0..batch, 0..heads, 0..context, 0..half]);
    let second = x.slice([0..batch, 0..heads, 0..context, half..dim]);
    let turned_first = first.clone() * cos.clone() - second.clone() * sin.clone();
    let turned_second = second * cos + first * sin;
    Tensor::cat(vec![turned_first, turned_second], 3)
}

/// Causal grouped-query attention with rotary positions inside each window of `batch`, from the
/// first position that each row may attend to.
///
/// # Shapes
/// `q` `[rows, heads * head_dim]`, `k` and `v` `[rows, kv_heads * head_dim]`, output as `q`;
/// `rows = windows * context`.
pub(crate) fn attention(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    table: &RopeTable,
    config: &Config,
    batch: &Batch,
) -> Tensor<2> {
    let Batch {
        windows, context, ..
    } = *batch;
    let rows = windows * context;
    let (heads, groups, dim) = (config.heads, config.kv_heads, config.head_dim);
    let per_group = heads / groups;
    let split =
        |x: Tensor<2>, heads: usize| x.reshape([windows, context, heads, dim]).swap_dims(1, 2);
    let q = rotate(split(q, heads), table);
    // The query heads that share a key head lie one after the other: no repeats are needed.
    let q = q.reshape([windows, groups, per_group * context, dim]);
    let k = rotate(split(k, groups), table);
    let v = split(v, groups);
    let scores = q.matmul(k.swap_dims(2, 3)) * (dim as f64).powf(-0.5);
    let scores = scores.reshape([windows, heads, context, context]);
    let weights = activation::softmax(scores + attention_bias(batch, &v.device()), 3);
    let mixed = (weights.reshape([windows, groups, per_group * context, context])).matmul(v);
    mixed
        .reshape([windows, heads, context, dim])
        .swap_dims(1, 2)
        .reshape([rows, heads * dim])
}

/// Zero where a query may look, a very small number where it may not.
fn attention_bias(batch: &Batch, device: &Device) -> Tensor<4> {
    let context = batch.context;
    // Without documents of their own all windows look alike.
    let windows = if batch.firsts.is_some() {
        batch.windows
    } else {
        1
    };
    let mut bias = vec![0.0; windows * context * context];
    for (row, line) in bias.chunks_exact_mut(context).enumerate() {
        let first = batch.firsts.as_ref().map_or(0, |f| f[row] as usize);
        line[..first].fill(-1e30);
        line[row % context + 1..].fill(-1e30);
    }
    upload(bias, [windows, 1, context, context], device)
}

/// Sum over the targets of `-log softmax(hidden head^T)[target]`, all logits at once. Only a twin:
/// devices without fused operations run `sliced`.
#[cfg(test)]
pub(crate) fn cross_entropy_sum(hidden: Tensor<2>, head: Tensor<2>, targets: &[i32]) -> Tensor<1> {
    use crate::model::{NO_TARGET, ops};
    let device = hidden.device();
    let rows = targets.len();
    let logits = hidden.matmul(head.transpose());
    let log_likelihoods = activation::log_softmax(logits, 1);
    let known: Vec<i32> = targets.iter().map(|t| (*t).max(0)).collect();
    let weights = targets.iter().map(|t| f32::from(*t != NO_TARGET));
    let ids = ops::int_tensor(&known, &device).reshape([rows, 1]);
    let picked = log_likelihoods.gather(1, ids);
    -(picked * upload(weights.collect(), [rows, 1], &device)).sum()
}
