//! The slow, obvious twin: one number at a time, straight from the formulas.

use crate::id::PeerId;
use crate::manifest::Aggregation;

use super::Weighted;

pub(super) fn combine(rule: Aggregation, updates: &[Weighted]) -> Vec<(PeerId, Vec<f32>)> {
    let mut peers: Vec<PeerId> = updates.iter().map(|w| w.peer).collect();
    peers.sort();
    let of = |peer: &PeerId| updates.iter().find(|w| w.peer == *peer).expect("listed");
    let norm = |peer: &PeerId| {
        (of(peer).update.iter())
            .fold(0.0f64, |sum, v| sum + f64::from(*v) * f64::from(*v))
            .sqrt()
    };
    let norms: Vec<f64> = peers.iter().map(norm).collect();
    let total: u64 = updates.iter().map(|w| w.weight).sum();
    // The smallest norm that at least half of the weight does not exceed.
    let upto = |n: &f64| -> u64 {
        let short = peers.iter().zip(&norms).filter(|(_, norm)| *norm <= n);
        short.map(|(peer, _)| of(peer).weight).sum()
    };
    let median = (norms.iter().copied())
        .filter(|n| upto(n) * 2 >= total)
        .fold(f64::INFINITY, f64::min);
    (peers.iter().zip(&norms))
        .map(|(peer, norm)| {
            let clip = match rule {
                Aggregation::ClippedMean if *norm > median => median / norm,
                _ => 1.0,
            };
            let weight = of(peer).weight as f64 / total as f64 * clip;
            let mut vector = Vec::new();
            for value in &of(peer).update {
                vector.push((weight * f64::from(*value)) as f32);
            }
            (*peer, vector)
        })
        .collect()
}

pub(super) fn step(before: &[f32], contributions: &[(PeerId, Vec<f32>)]) -> Vec<f32> {
    (0..before.len())
        .map(|at| {
            let mut sum = f64::from(before[at]);
            for (_, contribution) in contributions {
                sum += f64::from(contribution[at]);
            }
            sum as f32
        })
        .collect()
}
