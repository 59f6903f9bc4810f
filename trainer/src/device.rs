//! Which device computes, and why.
//!
//! The CPU is the default: burn's `flex` back end in pure Rust, with AVX-512 where the processor has it.
//! The cargo features `wgpu`, `vulkan` and `cuda` add GPU back ends for the same model code; operations
//! that are fused on the CPU then run as whole-tensor arithmetic (`model::ops`).
//!
//! A user that names a GPU gets that GPU or a [`DeviceError`]: a silent fallback would cost hours of slow training.
//! Only [`Request::Auto`] falls back to the CPU, and says so with a [`Warning`]. Either way a GPU is used only after
//! it multiplied two matrices correctly (`probe`).

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

mod probe;

/// The environment variable that [`Request::from_env`] reads.
pub const DEVICE_VARIABLE: &str = "TRIBUTARY_DEVICE";

/// What the caller wants to compute on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Request {
    /// `auto`: a real GPU where this build and the machine have one, otherwise the CPU.
    #[default]
    Auto,
    /// `cpu`.
    Cpu,
    /// `wgpu`: a GPU of any vendor through the graphics API of the system.
    Wgpu,
    /// `vulkan`: as `wgpu`, on Vulkan with SPIR-V kernels.
    Vulkan,
    /// `cuda`: an NVIDIA GPU through CUDA.
    Cuda,
    /// `wgpu-software`: the kernels of `wgpu` on a driver that runs on the processor, such as Mesa's
    /// llvmpipe. Slower than `cpu`; it exists to check the GPU code on machines without a GPU.
    WgpuSoftware,
}

impl Request {
    /// Every request, in the order that messages list them.
    pub const ALL: [Self; 6] = [
        Self::Auto,
        Self::Cpu,
        Self::Wgpu,
        Self::Vulkan,
        Self::Cuda,
        Self::WgpuSoftware,
    ];

    /// The word that people write.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Cuda => "cuda",
            Self::WgpuSoftware => "wgpu-software",
        }
    }

    /// The request in [`DEVICE_VARIABLE`]; [`Request::Auto`] when it is unset or empty.
    ///
    /// # Errors
    /// [`DeviceError::Unknown`] when the variable holds another word.
    pub fn from_env() -> Result<Self, DeviceError> {
        match std::env::var_os(DEVICE_VARIABLE) {
            Some(word) if !word.is_empty() => word.to_string_lossy().parse(),
            _ => Ok(Self::Auto),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Request {
    type Err = DeviceError;

    fn from_str(word: &str) -> Result<Self, DeviceError> {
        (Self::ALL.into_iter())
            .find(|request| request.name().eq_ignore_ascii_case(word.trim()))
            .ok_or_else(|| DeviceError::Unknown(word.into()))
    }
}

/// The back end that computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// burn's `flex`.
    Cpu,
    /// burn's `wgpu`: WGSL kernels, on any graphics API.
    Wgpu,
    /// burn's `wgpu` on Vulkan: SPIR-V kernels.
    Vulkan,
    /// burn's `cuda`.
    Cuda,
}

impl Kind {
    /// The GPU back ends of this build, the preferred first.
    pub fn built() -> Vec<Self> {
        let all = [
            (Self::Cuda, cfg!(feature = "cuda")),
            (Self::Vulkan, cfg!(feature = "vulkan")),
            (Self::Wgpu, cfg!(feature = "wgpu")),
        ];
        let built = all.into_iter().filter(|(_, built)| *built);
        built.map(|(kind, _)| kind).collect()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "CPU",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Cuda => "cuda",
        })
    }
}

/// Why a back end of this build cannot be used on this machine, from the mildest to the gravest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Obstacle {
    /// No adapter answers.
    #[error("no GPU was found")]
    NoAdapter,
    /// Only a driver that computes on the processor.
    #[error("only a software adapter was found, which is slower than the CPU back end")]
    SoftwareOnly,
    /// The driver failed, panicked or computed wrongly.
    #[error("the driver failed: {0}")]
    Driver(String),
}

/// Why a request cannot be met.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// A word that names no device.
    #[error(
        "{0:?} is no device; use auto, cpu, wgpu, vulkan, cuda or wgpu-software \
         (an option, or the variable {DEVICE_VARIABLE})"
    )]
    Unknown(String),
    /// The back end is not compiled in.
    #[error(
        "{asked} was asked for, but this build has no {kind} back end; build with \
         `--features {kind}`, or ask for auto or cpu"
    )]
    NotBuilt {
        /// What was asked for.
        asked: Request,
        /// The back end that it needs.
        kind: Kind,
    },
    /// The back end is there and the device is not.
    #[error("{asked} was asked for, but {found}; mend the driver, or ask for auto or cpu")]
    Unavailable {
        /// What was asked for.
        asked: Request,
        /// What was found instead.
        found: Obstacle,
    },
}

/// A device that is not the one that this build prefers. Not an error: the work goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Code `no-gpu`.
    NoGpu {
        /// What was looked for.
        wanted: Kind,
        /// What computes instead.
        used: Kind,
    },
    /// Code `software-gpu`.
    SoftwareGpu {
        /// What was looked for.
        wanted: Kind,
        /// What computes instead.
        used: Kind,
    },
    /// Code `gpu-driver`.
    GpuDriver {
        /// What was looked for.
        wanted: Kind,
        /// What computes instead.
        used: Kind,
        /// What the driver said.
        why: String,
    },
}

impl Warning {
    fn new(wanted: Kind, found: Obstacle, used: Kind) -> Self {
        match found {
            Obstacle::NoAdapter => Self::NoGpu { wanted, used },
            Obstacle::SoftwareOnly => Self::SoftwareGpu { wanted, used },
            Obstacle::Driver(why) => Self::GpuDriver { wanted, used, why },
        }
    }

    /// A word that stays the same whatever the text becomes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoGpu { .. } => "no-gpu",
            Self::SoftwareGpu { .. } => "software-gpu",
            Self::GpuDriver { .. } => "gpu-driver",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wanted, used, found) = match self {
            Self::NoGpu { wanted, used } => (wanted, used, Obstacle::NoAdapter),
            Self::SoftwareGpu { wanted, used } => (wanted, used, Obstacle::SoftwareOnly),
            Self::GpuDriver { wanted, used, why } => (wanted, used, Obstacle::Driver(why.clone())),
        };
        write!(
            f,
            "auto looked for a GPU through {wanted}; {found}; using {used}"
        )
    }
}

/// A device and the reason for it.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Where tensors live.
    pub(crate) device: Device,
    /// What computes.
    pub kind: Kind,
    /// One sentence for people: the device, and why it is this one.
    pub reason: String,
    /// Set when `auto` could not use what this build prefers.
    pub warning: Option<Warning>,
}

/// A GPU that computes correctly.
#[derive(Clone, Debug)]
struct Found {
    device: Device,
    /// As the driver names it.
    name: String,
}

/// The CPU, which is always there.
pub(crate) fn cpu() -> Device {
    Device::flex()
}

/// Picks the device. A GPU is opened and tried once per process; later calls return the same one.
///
/// # Errors
/// See [`DeviceError`]; never for [`Request::Auto`] and [`Request::Cpu`].
pub fn choose(request: Request) -> Result<Choice, DeviceError> {
    decide(request, &Kind::built(), probe::find)
}

/// As [`choose`], given the back ends of the build and how to look for a GPU: back end, and whether a
/// software adapter is what is wanted.
fn decide(
    request: Request,
    built: &[Kind],
    find: impl Fn(Kind, bool) -> Result<Found, Obstacle>,
) -> Result<Choice, DeviceError> {
    let kind = match request {
        Request::Auto => return Ok(automatic(built, find)),
        Request::Cpu => return Ok(on_cpu("as asked", None)),
        Request::Wgpu | Request::WgpuSoftware => Kind::Wgpu,
        Request::Vulkan => Kind::Vulkan,
        Request::Cuda => Kind::Cuda,
    };
    if !built.contains(&kind) {
        return Err(DeviceError::NotBuilt {
            asked: request,
            kind,
        });
    }
    match find(kind, request == Request::WgpuSoftware) {
        Ok(found) => Ok(on_gpu(kind, found, "as asked", None)),
        Err(found) => Err(DeviceError::Unavailable {
            asked: request,
            found,
        }),
    }
}

/// The first back end with a real GPU, else the CPU; the gravest obstacle on the way is the warning.
fn automatic(built: &[Kind], find: impl Fn(Kind, bool) -> Result<Found, Obstacle>) -> Choice {
    let mut worst: Option<(Obstacle, Kind)> = None;
    for kind in built.iter().copied() {
        let warning = |used| {
            let (found, wanted) = worst.clone()?;
            Some(Warning::new(wanted, found, used))
        };
        match find(kind, false) {
            Ok(found) => return on_gpu(kind, found, "the best that was found", warning(kind)),
            Err(obstacle) if worst.as_ref().is_none_or(|(w, _)| obstacle > *w) => {
                worst = Some((obstacle, kind));
            }
            Err(_) => {}
        }
    }
    match worst {
        None => on_cpu("this build has no GPU back end", None),
        Some((found, wanted)) => {
            let why = found.to_string();
            on_cpu(&why, Some(Warning::new(wanted, found, Kind::Cpu)))
        }
    }
}

fn on_cpu(why: &str, warning: Option<Warning>) -> Choice {
    let vectors = if has_avx512() {
        "AVX-512"
    } else {
        "the processor's vector units"
    };
    let threads = rayon::current_num_threads();
    let plural = if threads == 1 { "" } else { "s" };
    Choice {
        device: cpu(),
        kind: Kind::Cpu,
        reason: format!("CPU with {threads} thread{plural} and {vectors}: {why}"),
        warning,
    }
}

fn on_gpu(kind: Kind, found: Found, why: &str, warning: Option<Warning>) -> Choice {
    Choice {
        device: found.device,
        kind,
        reason: format!("{} through {kind}: {why}", found.name),
        warning,
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

#[cfg(test)]
mod tests;
