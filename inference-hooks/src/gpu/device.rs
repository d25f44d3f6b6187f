//! The adapter and the device.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::pipeline_cache::Kept;
use crate::protocol::{AdapterInfo, AdapterReport};

/// An open device. There is one in a worker, for all its hooks.
#[derive(Debug)]
pub(crate) struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) limits: wgpu::Limits,
    /// What the driver keeps of compiled shaders.
    pub(super) kept: Option<Kept>,
    info: AdapterInfo,
    lost: Arc<Mutex<Option<String>>>,
}

/// All adapters of this machine, those that would be taken first.
pub(crate) fn adapters() -> Vec<AdapterReport> {
    enumerate().iter().map(report).collect()
}

fn enumerate() -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN;
    let instance = wgpu::Instance::new(descriptor);
    let mut adapters = ready(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    adapters.sort_by_key(|adapter| rank(adapter.get_info().device_type));
    adapters
}

fn report(adapter: &wgpu::Adapter) -> AdapterReport {
    let (limits, features) = (adapter.limits(), adapter.features());
    AdapterReport {
        adapter: info_of(adapter.get_info()),
        buffer_bytes_max: limits.max_buffer_size,
        binding_bytes_max: limits.max_storage_buffer_binding_size,
        workgroup_invocations_max: limits.max_compute_invocations_per_workgroup,
        workgroup_bytes_max: limits.max_compute_workgroup_storage_size,
        f16: features.contains(wgpu::Features::SHADER_F16),
        subgroups: features.contains(wgpu::Features::SUBGROUP),
    }
}

fn info_of(info: wgpu::AdapterInfo) -> AdapterInfo {
    AdapterInfo {
        cache_key: wgpu::util::pipeline_cache_key(&info),
        name: info.name,
        kind: format!("{:?}", info.device_type),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        software: info.device_type == wgpu::DeviceType::Cpu,
    }
}

impl Gpu {
    /// Opens the most capable adapter. A software adapter is none, unless `allow_software` says so, for tests: it is
    /// slower than the CPU twins.
    ///
    /// # Errors
    /// Says why there is no GPU.
    pub(crate) fn open(allow_software: bool) -> Result<Self, String> {
        let mut adapters = enumerate();
        let found = adapters.len();
        adapters.retain(|adapter| {
            allow_software || adapter.get_info().device_type != wgpu::DeviceType::Cpu
        });
        let Some(adapter) = adapters.into_iter().next() else {
            return Err(match found {
                0 => "no Vulkan driver found an adapter".to_owned(),
                _ => "only a software adapter was found, which is not used".to_owned(),
            });
        };
        let info = adapter.get_info();
        let limits = adapter.limits();
        let opened = ready(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("fsd hooks"),
            required_limits: limits.clone(),
            required_features: adapter.features() & wgpu::Features::PIPELINE_CACHE,
            ..Default::default()
        }));
        let (device, queue) =
            opened.map_err(|error| format!("`{}` gives no device: {error}", info.name))?;
        let lost = Arc::new(Mutex::new(None));
        let note = Arc::clone(&lost);
        device.set_device_lost_callback(move |reason, message| {
            let mut lost = note.lock().unwrap_or_else(PoisonError::into_inner);
            lost.get_or_insert(format!("{reason:?}: {message}"));
        });
        // An error outside of a scope would panic by default; what it broke reports by itself.
        device.on_uncaptured_error(Arc::new(|_| {}));
        let kept = Kept::new(&device, None);
        Ok(Self { device, queue, limits, kept, info: info_of(info), lost })
    }

    /// What it runs on.
    pub(crate) fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// Why the device is gone, if it is.
    pub(super) fn lost(&self) -> Option<String> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn rank(kind: wgpu::DeviceType) -> u8 {
    match kind {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

/// The value of a future of wgpu. On Vulkan they are ready when they are made.
pub(super) fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}
