//! Looks for a GPU and tries it before anything relies on it.
//!
//! Drivers fail in every way: they are missing, they panic while they are asked, or they list a device
//! that then computes nonsense. Each of these becomes an [`Obstacle`]. What this cannot catch is a
//! driver that ends the process by a signal.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{Device, Tensor, TensorData};
use parking_lot::Mutex;

use super::{Found, Kind, Obstacle};

/// What earlier looks found: a runtime can be opened once per process only.
static SEEN: Mutex<BTreeMap<(Kind, bool), Result<Found, Obstacle>>> = Mutex::new(BTreeMap::new());

/// A GPU of `kind` that computes; a software adapter instead where `software`.
pub(super) fn find(kind: Kind, software: bool) -> Result<Found, Obstacle> {
    // Held while looking: two threads must not open one driver at the same time.
    let mut seen = SEEN.lock();
    let look = || {
        let found = guarded(|| open(kind, software))?;
        guarded(|| try_out(&found.device))?;
        Ok(found)
    };
    seen.entry((kind, software)).or_insert_with(look).clone()
}

/// Runs driver code and turns a panic into an obstacle.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Obstacle>) -> Result<T, Obstacle> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = (panic.downcast_ref::<String>().map(String::as_str))
            .or_else(|| panic.downcast_ref::<&str>().copied());
        let first = text.and_then(|t| t.lines().next()).unwrap_or("no message");
        Err(Obstacle::Driver(format!("it panicked ({first})")))
    })
}

/// Multiplies two matrices of small whole numbers, whose product is exact in any order.
pub(super) fn try_out(device: &Device) -> Result<(), Obstacle> {
    const SIZE: usize = 32;
    let numbers = |step: usize| -> Vec<f32> {
        let whole = (0..SIZE * SIZE).map(|i| (i * step % 7) as f32 - 3.0);
        whole.collect()
    };
    let (a, b) = (numbers(5), numbers(11));
    let cell = |row: usize, col: usize| -> f32 {
        let products = (0..SIZE).map(|k| a[row * SIZE + k] * b[k * SIZE + col]);
        products.sum()
    };
    let expected: Vec<f32> = (0..SIZE * SIZE).map(|i| cell(i / SIZE, i % SIZE)).collect();
    let tensor =
        |v: &[f32]| Tensor::<2>::from_data(TensorData::new(v.to_vec(), [SIZE, SIZE]), device);
    let product = tensor(&a).matmul(tensor(&b)).into_data();
    match product.try_into_vec::<f32>() {
        Ok(product) if product == expected => Ok(()),
        Ok(_) => Err(Obstacle::Driver("it multiplies matrices wrongly".into())),
        Err(why) => Err(Obstacle::Driver(why.to_string())),
    }
}

fn open(kind: Kind, software: bool) -> Result<Found, Obstacle> {
    match kind {
        #[cfg(feature = "wgpu")]
        Kind::Wgpu => graphics::open(graphics::Api::Auto, software),
        #[cfg(feature = "vulkan")]
        Kind::Vulkan => graphics::open(graphics::Api::Vulkan, software),
        #[cfg(feature = "cuda")]
        Kind::Cuda => cuda(),
        // Not reached by `choose`, which asks for what is built only.
        _ => {
            let _ = software;
            Err(Obstacle::NoAdapter)
        }
    }
}

/// The first NVIDIA GPU, or the one that `CUDA_VISIBLE_DEVICES` leaves.
#[cfg(feature = "cuda")]
fn cuda() -> Result<Found, Obstacle> {
    use burn::tensor::DeviceType;
    let device = (Device::enumerate(DeviceType::Cuda).into_iter()).next();
    let device = device.ok_or(Obstacle::NoAdapter)?;
    let name = device.identity().map_or("a GPU".into(), |i| i.name);
    Ok(Found { device, name })
}

#[cfg(feature = "wgpu")]
mod graphics {
    //! Adapters of the system's graphics API.

    use burn::tensor::wgpu::WgpuInitError;
    use burn::tensor::{Device, DeviceKind, DeviceType};

    pub(super) use burn::tensor::wgpu::WgpuBackend as Api;

    use super::{Found, Obstacle};

    /// With this variable of burn's a person names one of several adapters, as in `DiscreteGpu(1)`.
    const ADAPTER_VARIABLE: &str = "CUBECL_WGPU_DEFAULT_DEVICE";

    /// Opens the strongest adapter on `api` that is not a processor, or one that is where `software`.
    pub(super) fn open(api: Api, software: bool) -> Result<Found, Obstacle> {
        let kinds = match (software, std::env::var_os(ADAPTER_VARIABLE)) {
            (true, _) => vec![DeviceKind::Cpu],
            (false, Some(_)) => vec![DeviceKind::DefaultDevice],
            (false, None) => vec![
                DeviceKind::DiscreteGpu(0),
                DeviceKind::IntegratedGpu(0),
                DeviceKind::VirtualGpu(0),
            ],
        };
        for kind in kinds {
            let options = Device::wgpu_options().device_kind(kind).graphics_api(api);
            match options.init_with_setup() {
                Ok((device, setup)) => {
                    let info = setup.adapter.get_info();
                    let name = format!("{} ({})", info.name, setup.backend);
                    return Ok(Found { device, name });
                }
                Err(WgpuInitError::AdapterUnavailable { .. }) => {}
                Err(why) => return Err(Obstacle::Driver(why.to_string())),
            }
        }
        // Every other adapter was tried, so what is left computes on the processor.
        match Device::enumerate(DeviceType::Wgpu).is_empty() || software {
            true => Err(Obstacle::NoAdapter),
            false => Err(Obstacle::SoftwareOnly),
        }
    }
}
