//! The proof that a PEFT folder is used whole: what matched, and what it changes.

use std::fmt;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use tributary_protocol::adapter::{Adapter, Segment};

use super::error::ImportError;
use super::import;
use crate::base::BaseModel;
use crate::data::dense_batch;
use crate::gradient::dot;
use crate::lora::{Factors, LoraError};
use crate::model::{download, ops};

/// What both models read; plain enough for any tokenizer.
const PROMPT: &str = "The quick brown fox jumps over the lazy dog, and the river runs to the sea.";
/// Most tokens of the prompt.
const PROMPT_TOKENS: usize = 32;

/// One adapted linear.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VerifiedModule {
    /// Path inside the base model.
    pub name: String,
    /// Rank in the folder.
    pub rank: u32,
    /// What the product of its factors is multiplied by.
    pub scale: f64,
    /// Frobenius norm of its update `scale B A`.
    pub update_norm: f64,
}

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verified {
    /// The base model's name.
    pub base: String,
    /// The base model's hash.
    pub base_hash: String,
    /// The base that the folder names, where that is another.
    pub named_base: Option<String>,
    /// Tensors of the file; every one was matched with its linear.
    pub tensors: usize,
    /// Numbers of the file.
    pub parameters: u64,
    /// Rank after padding: the largest in the folder.
    pub rank: u32,
    /// Frobenius norm of the whole update.
    pub update_norm: f64,
    /// Tokens of the prompt on which outputs were compared.
    pub prompt_tokens: usize,
    /// Largest absolute difference of a logit on the prompt.
    pub largest_logit_difference: f64,
    /// Mean Kullback-Leibler divergence from the base's next-token distributions to the adapted ones,
    /// in nats.
    pub divergence_nats: f64,
    /// The base's mean loss on the prompt, in nats per token.
    pub base_nll: f64,
    /// The adapted model's mean loss on the prompt, in nats per token.
    pub adapter_nll: f64,
    /// Each adapted linear, in the model's order.
    pub modules: Vec<VerifiedModule>,
}

/// Reads the PEFT folder `folder` and proves that every tensor of it is used and that it changes the
/// output of `base`.
///
/// # Errors
/// As [`import_peft`](super::import_peft), and when no output changes or one is not finite.
pub fn verify(folder: &Path, base: &BaseModel) -> Result<Verified, ImportError> {
    let imported = import::read(folder, base.name(), base.config())?;
    let adapter = &imported.adapter;
    let squares = update_squares(adapter);
    let modules: Vec<VerifiedModule> = (imported.targets.iter().zip(&squares))
        .map(|(target, square)| VerifiedModule {
            name: target.module.name.clone(),
            rank: target.rank,
            scale: target.scale,
            update_norm: square.sqrt(),
        })
        .collect();
    let tokens = prompt(base);
    let plain = logits(base, None, &tokens)?;
    let adapted = logits(base, Some(adapter), &tokens)?;
    let change = Change::between(&plain, &adapted, &tokens);
    if ![change.largest, change.divergence, change.after]
        .iter()
        .all(|v| v.is_finite())
    {
        return Err(ImportError::OutputNotFinite);
    }
    if change.largest == 0.0 {
        return Err(ImportError::NoChange);
    }
    let numbers = imported
        .targets
        .iter()
        .map(|t| u64::from(t.rank) * (u64::from(t.module.inputs) + u64::from(t.module.outputs)));
    Ok(Verified {
        base: base.name().into(),
        base_hash: base.hash().to_string(),
        named_base: import::other_base(folder, base),
        tensors: imported.tensors,
        parameters: numbers.sum(),
        rank: adapter.shape().rank,
        update_norm: squares.iter().sum::<f64>().sqrt(),
        prompt_tokens: tokens.len(),
        largest_logit_difference: change.largest,
        divergence_nats: change.divergence,
        base_nll: change.before,
        adapter_nll: change.after,
        modules,
    })
}

/// Squared Frobenius norm of each linear's update: `|s B A|^2 = s^2 tr((B^T B) (A A^T))`.
fn update_squares(adapter: &Adapter) -> Vec<f64> {
    let shape = adapter.shape();
    let rank = shape.rank as usize;
    let scale = f64::from(shape.scale());
    let square = |pair: &[Segment]| {
        let b = adapter.segment(&pair[1]).chunks_exact(rank);
        let mut columns = vec![0.0; rank * rank];
        for row in b {
            add_outer(&mut columns, row);
        }
        let a: Vec<&[f32]> = adapter
            .segment(&pair[0])
            .chunks_exact(pair[0].cols)
            .collect();
        let rows = (0..rank * rank).map(|at| dot(a[at / rank], a[at % rank]));
        let trace: f64 = rows.zip(&columns).map(|(a, b)| a * b).sum();
        // Rounding can leave a zero a little below zero.
        (scale * scale * trace).max(0.0)
    };
    // Every linear has its A and then its B.
    shape.segments().par_chunks_exact(2).map(square).collect()
}

/// `to += row^T row`.
fn add_outer(to: &mut [f64], row: &[f32]) {
    for (to, x) in to.chunks_exact_mut(row.len()).zip(row) {
        for (to, y) in to.iter_mut().zip(row) {
            *to += f64::from(*x) * f64::from(*y);
        }
    }
}

/// The prompt's tokens, or some of the vocabulary where it cannot be expressed.
fn prompt(base: &BaseModel) -> Vec<u32> {
    let vocab = base.config().vocab;
    let mut ids = base.encode(PROMPT).unwrap_or_default();
    ids.truncate(PROMPT_TOKENS);
    if ids.len() < 2 || ids.iter().any(|id| *id as usize >= vocab) {
        ids = (0..8).map(|i| (i * 7919 % vocab) as u32).collect();
    }
    ids
}

/// Logits after each token, row after row.
fn logits(
    base: &BaseModel,
    adapter: Option<&Adapter>,
    tokens: &[u32],
) -> Result<Vec<Vec<f32>>, LoraError> {
    let model = base.model();
    let factors = match adapter {
        Some(adapter) => Some(Factors::new(model.config(), adapter, None, model.device())?),
        None => None,
    };
    let vocab = base.config().vocab;
    let batch = dense_batch(tokens, 1, tokens.len(), vocab).expect("ids are below the vocabulary");
    let hidden = model.hidden(factors.as_ref(), &batch);
    let logits = download(ops::linear(hidden, model.head_matrix(), None));
    Ok(logits.chunks_exact(vocab).map(<[f32]>::to_vec).collect())
}

/// How two outputs differ.
struct Change {
    largest: f64,
    divergence: f64,
    before: f64,
    after: f64,
}

impl Change {
    fn between(plain: &[Vec<f32>], adapted: &[Vec<f32>], tokens: &[u32]) -> Self {
        let mut out = Self {
            largest: 0.0,
            divergence: 0.0,
            before: 0.0,
            after: 0.0,
        };
        let predicted = (tokens.len() - 1) as f64;
        for (row, (plain, adapted)) in plain.iter().zip(adapted).enumerate() {
            let gaps = plain
                .iter()
                .zip(adapted)
                .map(|(p, a)| f64::from(*p) - f64::from(*a));
            // `max` would drop a NaN; a sum keeps it.
            for gap in gaps {
                out.largest = if gap.is_nan() {
                    gap
                } else {
                    out.largest.max(gap.abs())
                };
            }
            let (p, q) = (log_softmax(plain), log_softmax(adapted));
            let terms = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q));
            out.divergence += terms.sum::<f64>() / tokens.len() as f64;
            if let Some(next) = tokens.get(row + 1) {
                out.before -= p[*next as usize] / predicted;
                out.after -= q[*next as usize] / predicted;
            }
        }
        out
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().fold(f64::MIN, |m, l| m.max(f64::from(*l)));
    let total: f64 = logits.iter().map(|l| (f64::from(*l) - largest).exp()).sum();
    let log_total = total.ln() + largest;
    logits.iter().map(|l| f64::from(*l) - log_total).collect()
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "all {} tensors ({} numbers) belong to {} linears of {} ({})",
            self.tensors,
            self.parameters,
            self.modules.len(),
            self.base,
            self.base_hash.get(..16).unwrap_or(&self.base_hash),
        )?;
        let mut groups: Vec<(u32, f64, usize, f64)> = Vec::new();
        for module in &self.modules {
            let square = module.update_norm * module.update_norm;
            match (groups.iter_mut()).find(|g| (g.0, g.1) == (module.rank, module.scale)) {
                Some(group) => {
                    group.2 += 1;
                    group.3 += square;
                }
                None => groups.push((module.rank, module.scale, 1, square)),
            }
        }
        for (rank, scale, count, square) in groups {
            let norm = square.sqrt();
            writeln!(
                f,
                "  rank {rank}, scale {scale:.4}: {count} linears, update norm {norm:.4}"
            )?;
        }
        write!(
            f,
            "the output changes: on {} tokens of prompt logits move by up to {:.4}, the divergence is \
             {:.3e} nats, the loss goes from {:.4} to {:.4} nats per token",
            self.prompt_tokens,
            self.largest_logit_difference,
            self.divergence_nats,
            self.base_nll,
            self.adapter_nll,
        )?;
        match &self.named_base {
            Some(other) => write!(
                f,
                "\nthe folder says that it was trained on another base: {other}"
            ),
            None => Ok(()),
        }
    }
}
