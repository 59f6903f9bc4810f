//! The slow, obvious twin of the sparse codec: full sorts, every split tried, bits one by one.

use super::CHUNK;

/// What a reader of [`super::sparse`]'s documentation would decode, without any bytes between.
pub(super) fn sparse(chunk: &[f32], top: u16) -> Vec<f32> {
    let (kept, levels) = choose(chunk, top);
    let mut out = vec![0.0; chunk.len()];
    for (at, level) in kept.iter().zip(levels) {
        let minus = chunk[*at] < 0.0 && level > 0.0;
        out[*at] = if minus { -level } else { level };
    }
    out
}

fn magnitude(value: f32) -> f32 {
    if value.is_normal() { value.abs() } else { 0.0 }
}

/// Kept positions from greatest magnitude to least, and the level of each.
fn choose(chunk: &[f32], top: u16) -> (Vec<usize>, Vec<f32>) {
    let m = chunk.len();
    let k = usize::from(top) * m;
    let k = (k / CHUNK + usize::from(!k.is_multiple_of(CHUNK)))
        .max(1)
        .min(m);
    let mut order: Vec<usize> = (0..m).collect();
    // A stable sort keeps the lower index first among equals.
    order.sort_by(|a, b| magnitude(chunk[*b]).total_cmp(&magnitude(chunk[*a])));
    order.truncate(k);
    let kept: Vec<f64> = (order.iter())
        .map(|at| f64::from(magnitude(chunk[*at])))
        .collect();
    // From the least up, as the sum of the whole is taken.
    let mean = |part: &[f64]| part.iter().rev().sum::<f64>() / part.len() as f64;
    let mut best = vec![mean(&kept) as f32; k];
    let mut least = error(&kept, &best);
    for split in 1..k {
        let (high, low) = kept.split_at(split);
        let (high, low) = (mean(high) as f32, mean(low) as f32);
        let levels: Vec<f32> = (0..k)
            .map(|at| if at < split { high } else { low })
            .collect();
        let found = error(&kept, &levels);
        if found < least && low < high {
            (best, least) = (levels, found);
        }
    }
    (order, best)
}

pub(super) fn error(kept: &[f64], levels: &[f32]) -> f64 {
    (kept.iter().zip(levels))
        .map(|(kept, level)| (kept - f64::from(*level)).powi(2))
        .sum()
}

/// Bits of `codes`, 14 each, least significant first.
pub(super) fn pack(codes: &[u16]) -> Vec<u8> {
    let bits: Vec<bool> = (codes.iter())
        .flat_map(|code| (0..14).map(move |bit| code >> bit & 1 == 1))
        .collect();
    (bits.chunks(8))
        .map(|byte| (0..byte.len()).fold(0, |sum, bit| sum | u8::from(byte[bit]) << bit))
        .collect()
}
