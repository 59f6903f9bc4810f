//! Which device computes, and why.
//!
//! Today that is always burn's `flex`, a CPU backend in pure Rust. The choice has one place so that
//! GPU back ends can be added behind features without touching the model.

use burn::tensor::Device;

/// A device and the reason for it.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Where tensors live.
    pub(crate) device: Device,
    /// One sentence for people.
    pub reason: String,
}

/// Picks the device.
pub fn choose() -> Choice {
    let vectors = if has_avx512() {
        "AVX-512"
    } else {
        "the processor's vector units"
    };
    Choice {
        device: Device::flex(),
        reason: format!(
            "CPU with {} threads and {vectors}: this build has no GPU back end",
            rayon::current_num_threads()
        ),
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}
