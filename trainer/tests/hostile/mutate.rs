//! Small damages from a seed.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// One to four small damages: bits, numbers, brackets, quotes, pieces doubled or taken out.
pub(crate) fn mutated(bytes: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    const PIECES: [&str; 14] = [
        "0",
        "-1",
        "18446744073709551615",
        "1e308",
        "null",
        "true",
        "[]",
        "{}",
        "\"",
        ",",
        ":",
        "[[[[[[",
        "\"__metadata__\":{}",
        "\\u0000",
    ];
    let mut out = bytes.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        let at = rng.random_range(0..out.len());
        let end = (at + rng.random_range(1..40)).min(out.len());
        match rng.random_range(0..5) {
            0 => out[at] ^= 1 << rng.random_range(0..8),
            1 => drop(out.drain(at..end)),
            2 => {
                let piece = PIECES[rng.random_range(0..PIECES.len())];
                out.splice(at..at, piece.bytes());
            }
            3 => {
                let piece = out[at..end].to_vec();
                out.splice(at..at, piece);
            }
            _ => {
                let digits = (0..out.len()).filter(|i| out[*i].is_ascii_digit());
                let digits: Vec<usize> = digits.collect();
                if let Some(at) = digits.get(rng.random_range(0..digits.len().max(1))) {
                    out[*at] = b'0' + rng.random_range(0..10);
                }
            }
        }
        if out.is_empty() {
            out.push(b'{');
        }
    }
    out
}
