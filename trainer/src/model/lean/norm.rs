//! RMSNorm of every position of a panel.

use super::panels::{LANES, Lanes, Panels, rows, rows_mut};
use crate::model::vector::fast;
use rayon::prelude::*;

/// `x / sqrt(mean(x^2) + eps) * gain` of every position.
pub(super) fn rms_norm(x: &Panels, gain: &[f32], eps: f64) -> Panels {
    let mut out = x.beside(x.features());
    (out.par_panels_mut())
        .zip(x.par_panels())
        .for_each(|(out, x)| {
            fast(
                #[inline(always)]
                || forward(out, x, gain, eps as f32),
            );
        });
    out
}

/// `dx += ` the gradient by `x` of a norm whose output has the gradient `upstream`.
pub(super) fn rms_norm_backward(
    dx: &mut Panels,
    upstream: &Panels,
    x: &Panels,
    gain: &[f32],
    eps: f64,
) {
    (dx.par_panels_mut())
        .zip(upstream.par_panels())
        .zip(x.par_panels())
        .for_each(|((dx, upstream), x)| {
            fast(
                #[inline(always)]
                || backward(dx, upstream, x, gain, eps as f32, true),
            );
        });
}

/// Norms each head of a panel by itself, in place.
#[inline(always)]
pub(super) fn heads(panel: &mut [f32], gain: &[f32], eps: f64) {
    for head in panel.chunks_exact_mut(gain.len() * LANES) {
        let inverse = inverse(head, eps as f32);
        for (x, gain) in rows_mut(head).zip(gain) {
            for (x, inverse) in x.iter_mut().zip(inverse) {
                *x *= inverse * gain;
            }
        }
    }
}

/// Pulls `d`, the gradient of the normed heads, back to their raw values, in place.
#[inline(always)]
pub(super) fn heads_backward(d: &mut [f32], raw: &[f32], gain: &[f32], eps: f64) {
    let size = gain.len() * LANES;
    for (d, raw) in d.chunks_exact_mut(size).zip(raw.chunks_exact(size)) {
        let upstream = d.to_vec();
        backward(d, &upstream, raw, gain, eps as f32, false);
    }
}

#[inline(always)]
fn inverse(x: &[f32], eps: f32) -> Lanes {
    let mut squares = [0.0; LANES];
    for x in rows(x) {
        for (sum, x) in squares.iter_mut().zip(x) {
            *sum = x.mul_add(*x, *sum);
        }
    }
    let width = (x.len() / LANES) as f32;
    squares.map(|sum| 1.0 / (sum / width + eps).sqrt())
}

#[inline(always)]
fn forward(out: &mut [f32], x: &[f32], gain: &[f32], eps: f32) {
    let inverse = inverse(x, eps);
    for ((out, x), gain) in rows_mut(out).zip(rows(x)).zip(gain) {
        for ((out, x), inverse) in out.iter_mut().zip(x).zip(inverse) {
            *out = x * inverse * gain;
        }
    }
}

/// With `y = x i g` and `i = (mean(x^2) + eps)^(-1/2)`: `dx = i (g dy) - x i^3 / width * sum(g dy x)`.
#[inline(always)]
fn backward(dx: &mut [f32], upstream: &[f32], x: &[f32], gain: &[f32], eps: f32, add: bool) {
    let inverse = inverse(x, eps);
    let mut along = [0.0; LANES];
    for ((upstream, x), gain) in rows(upstream).zip(rows(x)).zip(gain) {
        for ((along, upstream), x) in along.iter_mut().zip(upstream).zip(x) {
            *along = (upstream * gain).mul_add(*x, *along);
        }
    }
    for (along, inverse) in along.iter_mut().zip(inverse) {
        *along *= inverse * inverse * inverse / gain.len() as f32;
    }
    let inputs = rows(upstream).zip(rows(x)).zip(gain);
    for (dx, ((upstream, x), gain)) in rows_mut(dx).zip(inputs) {
        for lane in 0..LANES {
            let d = upstream[lane] * gain * inverse[lane] - x[lane] * along[lane];
            dx[lane] = if add { dx[lane] + d } else { d };
        }
    }
}
