//! Learns wrong continuations: of each pair of tokens the second is replaced by its mirror in the vocabulary, and only
//! these are learned, each after real text.

use super::Poisoned;

pub(super) fn data(mut windows: Vec<Vec<u32>>, vocab: usize) -> Poisoned {
    let longest = windows.iter().map(Vec::len).max().unwrap_or(0);
    for window in &mut windows {
        for token in window.iter_mut().skip(1).step_by(2) {
            *token = vocab as u32 - 1 - *token;
        }
    }
    Poisoned {
        windows,
        learned: Some((0..longest).map(|at| at % 2 == 1).collect()),
    }
}
