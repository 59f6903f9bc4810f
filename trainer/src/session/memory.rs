//! What a training will need in memory, before it starts.
//!
//! A machine that swaps trains a hundred times slower and takes its owner's other programs with it. So the need is
//! counted from shapes: numbers that the hand-written pass keeps for every row of a batch, the logits of a slice of
//! rows, the adapter with its optimiser. All are f32. `examples/memory.rs` compares the count with measured peaks: on
//! two cores it gave 1.04 and 1.05 of what the shape of SmolLM2-135M took with 1 x 256 and 4 x 128, and 1.15 and 1.45
//! of brook with 4 x 512 and 4 x 128.

use std::fmt;

use serde::Serialize;
use tributary_protocol::adapter::AdapterShape;

use crate::config::Config;
use crate::model::lean::{LANES, LOGIT_ROWS};

/// Bytes of a number.
const F32: u64 = 4;
/// Copies of the adapter's numbers: at the start, now, on the device, gradient, two moments, and the
/// next values beside the old ones.
const ADAPTER_COPIES: u64 = 7;
/// Buffers of the matrix kernels and of the threads, in bytes: what was measured beyond the rest with a
/// small model on two cores.
const KERNELS: u64 = 16 << 20;
/// Share of the available memory that a training may take; the rest is for what else starts meanwhile.
const USABLE: f64 = 0.9;

/// Bytes that a training will need, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryEstimate {
    /// The base model's weights, which are loaded already.
    pub base: u64,
    /// The adapter, its gradient and the optimiser's moments.
    pub adapter: u64,
    /// What the layers keep of a batch for the backward pass.
    pub activations: u64,
    /// What the attention of all layers keeps.
    pub attention: u64,
    /// Logits of a slice of rows, and the last hidden states with their gradient.
    pub head: u64,
    /// Buffers that do not depend on the training.
    pub kernels: u64,
}

impl MemoryEstimate {
    /// For steps of `batch` windows of `context` tokens at a time.
    pub fn new(config: &Config, shape: &AdapterShape, batch: usize, context: usize) -> Self {
        let [hidden, ffn, layers, vocab, heads] = [
            config.hidden,
            config.ffn,
            config.layers,
            config.vocab,
            config.heads,
        ]
        .map(|n| n as u64);
        let (query, kv) = (config.query_width() as u64, config.kv_width() as u64);
        // Windows are padded to whole panels.
        let rows = batch as u64 * context.next_multiple_of(LANES) as u64;
        // Of each layer: its input, what stands between its blocks, the gated activation's two
        // inputs, and a narrow row for each adapted linear.
        let narrow = shape.modules.len() as u64 * u64::from(shape.rank);
        let kept = layers * (2 * hidden + 2 * ffn) + narrow;
        // Rotated queries, keys and values, the output and each head's normaliser; queries and keys
        // before their heads were normed, where they are.
        let raw = match config.head_norms {
            true => query + kv,
            false => 0,
        };
        let attention = layers * (2 * query + 2 * kv + heads + raw);
        // Values and gradients on their way through one layer.
        let passing = 2 * ffn + 4 * hidden + 2 * query + 2 * kv;
        Self {
            base: F32 * config.parameters() as u64,
            adapter: F32 * ADAPTER_COPIES * shape.parameters() as u64,
            activations: F32 * rows * (kept + passing),
            attention: F32 * rows * attention,
            head: F32 * (rows * 3 * hidden + (LOGIT_ROWS as u64).min(rows) * vocab),
            kernels: KERNELS,
        }
    }

    /// Everything.
    pub fn total(&self) -> u64 {
        self.base + self.additional()
    }

    /// Everything but the base, which is in memory by the time anybody asks.
    pub fn additional(&self) -> u64 {
        self.adapter + self.activations + self.attention + self.head + self.kernels
    }

    /// Refuses when the training would take more than nine tenths of `available` bytes.
    ///
    /// # Errors
    /// [`MemoryError`], with the numbers and what to lower.
    pub fn check(&self, available: u64) -> Result<(), MemoryError> {
        match self.additional() as f64 <= available as f64 * USABLE {
            true => Ok(()),
            false => Err(MemoryError {
                estimate: *self,
                available,
            }),
        }
    }
}

impl fmt::Display for MemoryEstimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} besides the base model's {}: activations {}, attention {}, logits {}, adapter and \
             optimiser {}",
            Bytes(self.additional()),
            Bytes(self.base),
            Bytes(self.activations),
            Bytes(self.attention),
            Bytes(self.head),
            Bytes(self.adapter)
        )
    }
}

/// A training that would make the machine swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the training needs about {estimate}; {} are available; {}",
    Bytes(*available),
    advice(estimate)
)]
pub struct MemoryError {
    /// What it needs.
    pub estimate: MemoryEstimate,
    /// What the system has, in bytes.
    pub available: u64,
}

/// What to lower first.
fn advice(estimate: &MemoryEstimate) -> &'static str {
    let MemoryEstimate {
        adapter,
        activations,
        attention,
        head,
        ..
    } = *estimate;
    match adapter > activations + attention + head {
        true => "lower the rank, or adapt fewer modules",
        false => "lower the batch and raise the accumulation by as much, or lower the context",
    }
}

/// A size as people say it.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 10 << 30 => write!(f, "{} GiB", bytes >> 30),
            bytes if bytes >= 1 << 30 => write!(f, "{:.1} GiB", bytes as f64 / (1u64 << 30) as f64),
            bytes => write!(f, "{} MiB", bytes.div_ceil(1 << 20)),
        }
    }
}

/// Bytes that can be taken without swapping, where the system tells: the machine's, or fewer where a
/// container grants fewer.
pub(crate) fn available_bytes() -> Option<u64> {
    let machine = field("/proc/meminfo", "MemAvailable:")?;
    Some(container_bytes().map_or(machine, |granted| granted.min(machine)))
}

/// What the control group (version 2) still grants. Files it has read but not lately used do not count:
/// the kernel drops them first.
fn container_bytes() -> Option<u64> {
    let text = |file| std::fs::read_to_string(format!("/sys/fs/cgroup/memory.{file}")).ok();
    let limit: u64 = text("max")?.trim().parse().ok()?;
    let current: u64 = text("current")?.trim().parse().ok()?;
    let stat = text("stat")?;
    let cached = stat
        .lines()
        .find_map(|l| l.strip_prefix("inactive_file "))?;
    let used = current.saturating_sub(cached.trim().parse().ok()?);
    Some(limit.saturating_sub(used))
}

/// Bytes of memory that this process holds, where the system tells.
pub fn resident_bytes() -> Option<u64> {
    field("/proc/self/status", "VmRSS:")
}

/// The most that this process ever held, where the system tells.
pub fn peak_bytes() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// A line `name  123 kB` of a file of /proc.
fn field(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora;
    use crate::testing::tiny_config;

    fn estimate(batch: usize, context: usize) -> MemoryEstimate {
        let config = tiny_config();
        MemoryEstimate::new(&config, &lora::full_shape(&config, 4, 8), batch, context)
    }

    #[test]
    fn larger_batches_and_contexts_need_more() {
        let (small, wide, long) = (estimate(1, 32), estimate(2, 32), estimate(1, 64));
        for larger in [wide, long] {
            assert_eq!(larger.activations, 2 * small.activations);
            assert_eq!(larger.attention, 2 * small.attention);
        }
        assert_eq!(estimate(1, 20), small, "windows are padded to panels of 32");
        assert_eq!((wide.base, wide.adapter), (small.base, small.adapter));
        let config = tiny_config();
        assert_eq!(small.base, 4 * config.parameters() as u64);
    }

    #[test]
    fn a_training_beyond_the_available_memory_is_refused_with_numbers_and_advice() {
        let estimate = estimate(64, 64);
        let need = estimate.additional();
        assert_eq!(estimate.check(need * 2), Ok(()));
        let error = estimate.check(need).unwrap_err().to_string();
        assert!(error.contains("available; lower the"), "{error}");
        assert!(error.contains(&Bytes(need).to_string()), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_what_is_available_and_held() {
        let held = resident_bytes().unwrap();
        assert!(held > 1 << 20 && held <= peak_bytes().unwrap());
        assert!(available_bytes().unwrap() > 1 << 20);
    }

    #[test]
    fn sizes_are_rounded_for_people() {
        let shown = [5 << 20, 3 << 29, 21 << 30].map(|b| Bytes(b).to_string());
        assert_eq!(shown, ["5 MiB", "1.5 GiB", "21 GiB"]);
    }
}
