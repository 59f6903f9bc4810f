//! The largest numbers of a chunk: where they are, their sign, and one of two levels.
//!
//! Follows SparseLoCo (arXiv:2508.15706): top k of 4,096, 12-bit index, 2-bit value. Its two value
//! bits are a sign and one of two magnitudes; here both magnitudes are fitted per chunk.
//!
//! - Magnitudes below the least normal f32 count as zero, so that a mean is zero only of zeros.
//! - A chunk of `m` numbers keeps `k = ceil(top * m / 4096)` of them, at least one, at most `m`: those
//!   of greatest magnitude; of equal magnitudes the one with the lower index.
//! - Levels: the kept magnitudes, sorted, are split in a high and a low group, each written as its
//!   mean. The split is the one with the least squared error; of equal ones the one with the larger
//!   high group. With one group only, the low level is zero and unused. In f64, rounded to f32 once.
//! - Code: bits 0..12 index, bit 12 level (1: high), bit 13 sign (1: negative); the codes in order of
//!   index fill the bytes from the least significant bit.
//!
//! The decoder takes only what this can write: indices strictly increasing within the chunk, levels
//! `0 <= low < high` (both zero: a chunk of zeros), no unused low level other than zero, no minus zero,
//! kept zeros only before the first number that is left out, zero padding.

use super::CHUNK;

const INDEX_BITS: u32 = 12;
const CODE_BITS: usize = 14;
const HIGH: u16 = 1 << INDEX_BITS;
const MINUS: u16 = 1 << (INDEX_BITS + 1);
const LEVELS_BYTES: usize = 8;

/// Numbers kept of a chunk of `m`.
pub(super) fn kept(m: usize, top: u16) -> usize {
    (usize::from(top) * m).div_ceil(CHUNK).clamp(1, m)
}

/// Bytes of a chunk of `m` numbers.
pub(super) fn chunk_len(m: usize, top: u16) -> usize {
    LEVELS_BYTES + (kept(m, top) * CODE_BITS).div_ceil(8)
}

pub(super) fn write(chunk: &[f32], top: u16, bytes: &mut Vec<u8>) {
    let mut order: Vec<u16> = (0..chunk.len() as u16).collect();
    let magnitude = |i: u16| match chunk[usize::from(i)].abs() {
        tiny if tiny < f32::MIN_POSITIVE => 0.0,
        magnitude => magnitude,
    };
    let by_size = |a: &u16, b: &u16| magnitude(*b).total_cmp(&magnitude(*a)).then(a.cmp(b));
    let k = kept(chunk.len(), top);
    if k < order.len() {
        order.select_nth_unstable_by(k, by_size);
        order.truncate(k);
    }
    order.sort_unstable_by(by_size);
    let magnitudes: Vec<f32> = order.iter().map(|i| magnitude(*i)).collect();
    let levels = fit(&magnitudes);
    bytes.extend(levels.low.to_le_bytes());
    bytes.extend(levels.high.to_le_bytes());
    let mut codes: Vec<u16> = (order.iter().enumerate())
        .map(|(rank, &i)| {
            let is_high = rank < levels.high_count;
            let level = if is_high { levels.high } else { levels.low };
            let minus = chunk[usize::from(i)] < 0.0 && level > 0.0;
            i | if is_high { HIGH } else { 0 } | if minus { MINUS } else { 0 }
        })
        .collect();
    codes.sort_unstable_by_key(|code| code % HIGH);
    pack(&codes, bytes);
}

/// Two levels for magnitudes sorted from greatest to least.
struct Levels {
    low: f32,
    high: f32,
    /// The first so many magnitudes take the high level.
    high_count: usize,
}

fn fit(magnitudes: &[f32]) -> Levels {
    let k = magnitudes.len();
    // tails[i]: sum of magnitudes[i..], added from the least up; no difference of sums is ever taken.
    let mut tails = vec![0.0; k + 1];
    for at in (0..k).rev() {
        tails[at] = tails[at + 1] + f64::from(magnitudes[at]);
    }
    // The squared error of a split is the sum of squares minus, for each group, sum^2 / count: the
    // least error is the greatest gain.
    let part = |sum: f64, count: usize| sum * sum / count as f64;
    let mut best = (part(tails[0], k), k);
    let mut head = 0.0;
    let mut split = (0.0, k);
    for (at, magnitude) in magnitudes[..k - 1].iter().enumerate() {
        head += f64::from(*magnitude);
        let count = at + 1;
        let gain = part(head, count) + part(tails[count], k - count);
        // Of equal splits the larger high group; one group alone wins every tie.
        if gain > best.0 || (gain == best.0 && best.1 < k) {
            best = (gain, count);
            split = (head, count);
        }
    }
    let one_group = Levels {
        low: 0.0,
        high: (tails[0] / k as f64) as f32,
        high_count: k,
    };
    let (head, high_count) = split;
    if high_count == k {
        return one_group;
    }
    let high = (head / high_count as f64) as f32;
    let low = (tails[high_count] / (k - high_count) as f64) as f32;
    if low < high {
        Levels {
            low,
            high,
            high_count,
        }
    } else {
        one_group
    }
}

pub(super) fn pack(codes: &[u16], bytes: &mut Vec<u8>) {
    let (mut window, mut held) = (0u32, 0);
    for code in codes {
        window |= u32::from(*code) << held;
        held += CODE_BITS;
        while held >= 8 {
            bytes.push(window as u8);
            window >>= 8;
            held -= 8;
        }
    }
    if held > 0 {
        bytes.push(window as u8);
    }
}

pub(super) fn read(bytes: &[u8], top: u16, chunk: &mut [f32]) -> Result<(), &'static str> {
    visit(bytes, top, chunk.len(), |at, value| chunk[at] = value)
}

/// Tells the kept numbers of a chunk of `m` in the order of their places. What it told before an error means nothing.
pub(super) fn visit(
    bytes: &[u8],
    top: u16,
    m: usize,
    mut tell: impl FnMut(usize, f32),
) -> Result<(), &'static str> {
    let (levels, packed) = bytes.split_at(LEVELS_BYTES);
    let level = |at: usize| {
        let b = &levels[at..at + 4];
        f32::from_le_bytes([b[0], b[1], b[2], b[3]])
    };
    let (low, high) = (level(0), level(4));
    let positive = |level: f32| level.is_finite() && level.is_sign_positive();
    if !positive(low) || !positive(high) {
        return Err("a level that is negative or not finite");
    }
    let k = kept(m, top);
    let (mut window, mut held, mut source) = (0u32, 0, packed.iter());
    let (mut next, mut highs) = (0usize, 0usize);
    for rank in 0..k {
        while held < CODE_BITS {
            let byte = *source.next().expect("the length was checked");
            window |= u32::from(byte) << held;
            held += 8;
        }
        let code = window as u16 & ((1 << CODE_BITS) - 1);
        window >>= CODE_BITS;
        held -= CODE_BITS;
        let at = usize::from(code % HIGH);
        if at < next || at >= m {
            return Err("indices out of order or beyond the chunk");
        }
        next = at + 1;
        let is_high = code & HIGH != 0;
        highs += usize::from(is_high);
        let level = if is_high { high } else { low };
        let minus = code & MINUS != 0;
        if level == 0.0 && (minus || at != rank) {
            return Err("a zero that is not written as a zero");
        }
        tell(at, if minus { -level } else { level });
    }
    if window != 0 {
        return Err("padding that is not zero");
    }
    let one_group = highs == k && low == 0.0;
    let two_groups = highs > 0 && highs < k && low < high;
    if one_group || two_groups {
        Ok(())
    } else {
        Err("levels that do not fit their codes")
    }
}
