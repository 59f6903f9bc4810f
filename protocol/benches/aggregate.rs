//! Times the aggregation rules on dense updates.
//!
//! ```text
//! cargo bench -p tributary-protocol --bench aggregate -- [peers] [numbers]
//! ```
//! Prints seconds, the median of five runs of each rule in turn, on one thread: the rules use no other.

use std::time::Instant;

use tributary_protocol::aggregate::{Weighted, combine};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{PeerId, Ppb};
use tributary_protocol::manifest::Aggregation;

/// Runs of each rule.
const RUNS: usize = 5;

fn update(peer: u8, numbers: usize) -> Weighted {
    let mut state = u32::from(peer) * 2_654_435_761 + 1;
    let number = |_| {
        // Xorshift; any spread of numbers costs the same.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state as f32 / u32::MAX as f32 - 0.5) * 1e-3
    };
    Weighted {
        peer: PeerId(Digest::from_bytes([peer; 32])),
        weight: 1000,
        update: (0..numbers).map(number).collect(),
    }
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let peers = numbers.first().copied().unwrap_or(32).clamp(1, 255);
    let length = numbers.get(1).copied().unwrap_or(4_400_000);
    let updates: Vec<Weighted> = (0..peers).map(|i| update(i as u8, length)).collect();
    let tolerate = Ppb(200_000_000);
    let rules = [
        Aggregation::Mean,
        Aggregation::ClippedMean,
        Aggregation::MultiKrum { tolerate },
        Aggregation::CentredClip { tolerate },
        Aggregation::GeometricMedian { tolerate },
        Aggregation::Agreement { tolerate },
    ];
    let mut times = vec![Vec::new(); rules.len()];
    for _ in 0..RUNS {
        for (rule, times) in rules.iter().zip(&mut times) {
            let start = Instant::now();
            let combined = combine(*rule, &updates);
            times.push(start.elapsed().as_secs_f64());
            assert_eq!(combined.len(), peers);
        }
    }
    println!("{peers} updates of {length} numbers");
    for (rule, times) in rules.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        println!("{:.3} s  {rule:?}", times[RUNS / 2]);
    }
}
