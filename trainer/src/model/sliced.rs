//! Cross entropy with its gradient a slice of rows at a time, in tensors of any device.
//!
//! Autodiff would keep the logits of every row until the backward pass: rows times vocabulary, the
//! largest array of the program. Here each slice of logits becomes a loss and a gradient at once and is
//! dropped, as in `fused::head`, but with whole-tensor operations. `plain` holds the slow twin.
//!
//! The known gradient enters autodiff's record without an operation of its own: the sum over
//! `hidden * gradient`, with `gradient` constant, has exactly that gradient. Its value is taken off
//! again, and the loss put in its place.

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, activation};

use crate::model::{NO_TARGET, download, ops, upload};

/// Logits that exist at the same time: 64 MiB as f32. A few arrays of this size live at once, and
/// many drivers bind no more than 128 MiB as one buffer.
const LOGITS: usize = 1 << 24;

/// Sum over the targets of `-log softmax(hidden head^T)[target]`, shape `[1]`.
///
/// # Shapes
/// `hidden` `[rows, width]`, `head` `[vocab, width]`, one target per row.
pub(crate) fn cross_entropy_sum(hidden: Tensor<2>, head: Tensor<2>, targets: &[i32]) -> Tensor<1> {
    let slice = (LOGITS / head.dims()[0]).max(1);
    in_slices(hidden, head, targets, slice)
}

/// `-log softmax(hidden head^T)[target]` of every target, zero where there is none. Not recorded.
///
/// # Shapes
/// As [`cross_entropy_sum`], one number per row.
pub(crate) fn cross_entropies(hidden: Tensor<2>, head: Tensor<2>, targets: &[i32]) -> Vec<f32> {
    let slice = (LOGITS / head.dims()[0]).max(1);
    let width = hidden.dims()[1];
    let of = |(index, targets): (usize, &[i32])| {
        let start = index * slice;
        let rows = (hidden.clone()).slice([start..start + targets.len(), 0..width]);
        let logits = rows.matmul(head.clone().transpose());
        let picked = picked(&activation::log_softmax(logits, 1), targets);
        download(-picked)
    };
    targets.chunks(slice).enumerate().flat_map(of).collect()
}

/// As [`cross_entropy_sum`], with the number of rows of a slice.
pub(super) fn in_slices(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: &[i32],
    slice: usize,
) -> Tensor<1> {
    let constant = |t: &Tensor<2>| t.clone().without_autodiff();
    let (rows, weights) = (constant(&hidden), constant(&head));
    let width = rows.dims()[1];
    let mut total: Option<Tensor<1>> = None;
    let (mut dhidden, mut dhead) = (Vec::new(), None);
    for (index, targets) in targets.chunks(slice).enumerate() {
        let start = index * slice;
        let rows = (rows.clone()).slice([start..start + targets.len(), 0..width]);
        let (loss, dlogits) = losses(rows.clone().matmul(weights.clone().transpose()), targets);
        total = Some(match total {
            Some(total) => total + loss,
            None => loss,
        });
        if hidden.is_tracked() {
            dhidden.push(dlogits.clone().matmul(weights.clone()));
        }
        if head.is_tracked() {
            let part = dlogits.transpose().matmul(rows);
            dhead = Some(match dhead {
                Some(sum) => sum + part,
                None => part,
            });
        }
    }
    let total = total.unwrap_or_else(|| Tensor::zeros([1], &rows.device()));
    let dhidden = (!dhidden.is_empty()).then(|| Tensor::cat(dhidden, 0));
    let parts = [(hidden, dhidden), (head, dhead)];
    (parts.into_iter()).fold(total, |total, (input, gradient)| match gradient {
        Some(gradient) => with_gradient(total, input, gradient),
        None => total,
    })
}

/// The loss of a slice, `[1]`, and its gradient `softmax - onehot`, zero where nothing is predicted.
fn losses(logits: Tensor<2>, targets: &[i32]) -> (Tensor<1>, Tensor<2>) {
    let device = logits.device();
    let likelihoods = activation::log_softmax(logits, 1);
    let ids = ids(targets, &device);
    let counts = counts(targets, &device);
    let loss = -picked(&likelihoods, targets).sum();
    let softmax = likelihoods.exp() * counts.clone();
    (
        loss,
        softmax.scatter(1, ids, -counts, IndexingUpdateOp::Add),
    )
}

/// The log likelihoods of the targets, `[rows, 1]`, zero where there is none.
fn picked(likelihoods: &Tensor<2>, targets: &[i32]) -> Tensor<2> {
    let device = likelihoods.device();
    likelihoods.clone().gather(1, ids(targets, &device)) * counts(targets, &device)
}

/// One where something is predicted, else zero, `[rows, 1]`.
fn counts(targets: &[i32], device: &Device) -> Tensor<2> {
    let counts = targets.iter().map(|t| f32::from(*t != NO_TARGET));
    upload(counts.collect(), [targets.len(), 1], device)
}

/// Targets as columns to pick, `[rows, 1]`; any column where there is none.
fn ids(targets: &[i32], device: &Device) -> Tensor<2, Int> {
    let known: Vec<i32> = targets.iter().map(|t| (*t).max(0)).collect();
    ops::int_tensor(&known, device).reshape([targets.len(), 1])
}

/// The value of `total`, whose gradient by `input` is `gradient`.
fn with_gradient(total: Tensor<1>, input: Tensor<2>, gradient: Tensor<2>) -> Tensor<1> {
    let along = (input * gradient.autodiff()).sum();
    total.autodiff() + (along.clone() - along.detach())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::plain;

    /// Loss and gradients by hidden rows and head, of the inputs that are tracked.
    fn run(
        loss: impl Fn(Tensor<2>, Tensor<2>) -> Tensor<1>,
        tracked: [bool; 2],
    ) -> (f32, [Option<Vec<f32>>; 2]) {
        let device = crate::device::cpu();
        let numbers = |count: usize, step: usize| -> Vec<f32> {
            (0..count)
                .map(|i| (i * step % 23) as f32 / 8.0 - 1.4)
                .collect()
        };
        let leaf = |values: Vec<f32>, shape: [usize; 2], tracked: bool| {
            let tensor = upload(values, shape, &device).autodiff();
            if tracked {
                tensor.require_grad()
            } else {
                tensor
            }
        };
        let hidden = leaf(numbers(11 * 5, 7), [11, 5], tracked[0]);
        let head = leaf(numbers(19 * 5, 13), [19, 5], tracked[1]);
        // Scaled, so that a gradient which ignores what follows is caught.
        let loss = loss(hidden.clone(), head.clone()) / 3.0;
        let mut gradients = loss.backward();
        let pulled = [hidden, head].map(|t| t.grad_remove(&mut gradients).map(download));
        (download(loss)[0], pulled)
    }

    #[test]
    fn slices_of_any_size_give_the_loss_and_gradients_of_the_twin() {
        let targets: Vec<i32> = (0..11)
            .map(|i| if i % 4 == 2 { NO_TARGET } else { i * 7 % 19 })
            .collect();
        for tracked in [[true, true], [true, false], [false, true]] {
            let (expected, gradients) = run(
                |hidden, head| plain::cross_entropy_sum(hidden, head, &targets),
                tracked,
            );
            for slice in [1, 4, 11, 64] {
                let (loss, ours) = run(
                    |hidden, head| in_slices(hidden, head, &targets, slice),
                    tracked,
                );
                assert!(
                    (loss - expected).abs() < 1e-5 * expected,
                    "{slice}: {loss} {expected}"
                );
                for (ours, theirs) in ours.iter().zip(&gradients) {
                    assert_eq!(ours.is_some(), theirs.is_some());
                    let pairs = ours.iter().flatten().zip(theirs.iter().flatten());
                    assert!(
                        pairs.clone().all(|(a, b)| (a - b).abs() < 1e-5),
                        "{slice}: {ours:?} {theirs:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn without_gradients_nothing_is_recorded() {
        let device = crate::device::cpu();
        let hidden = upload(vec![0.5; 6], [2, 3], &device);
        let head = upload(vec![0.25; 12], [4, 3], &device);
        let loss = cross_entropy_sum(hidden, head, &[1, NO_TARGET]);
        assert!(!loss.is_autodiff());
        // Equal logits: one prediction among four.
        assert!((download(loss)[0] - 4f32.ln()).abs() < 1e-6);
    }
}
