//! What the driver keeps of compiled shaders, so that the next worker need not compile them again.

use std::sync::{Mutex, PoisonError};

use super::device::Gpu;

/// The driver's pipeline cache, where it has one.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) cache: wgpu::PipelineCache,
    /// What of it is known outside.
    told: Mutex<Vec<u8>>,
}

impl Kept {
    /// With `data` of an earlier one, which the driver looks at before it uses it; none if the adapter has no such thing.
    pub(super) fn new(device: &wgpu::Device, data: Option<&[u8]>) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let descriptor =
            wgpu::PipelineCacheDescriptor { label: Some("fsd hooks"), data, fallback: true };
        // SAFETY: the data is what `get_data` gave to another worker with the same key; the header says so, and is checked. What else the
        // driver makes of it happens in this process, which has nothing.
        #[expect(unsafe_code, reason = "there is no safe interface to pipeline caches")]
        let cache = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(Self { cache, told: Mutex::new(data.unwrap_or_default().to_vec()) })
    }
}

impl Gpu {
    /// Goes on with what another worker's driver has kept.
    pub(crate) fn warm(&mut self, data: &[u8]) {
        self.kept = Kept::new(&self.device, Some(data));
    }

    /// What the driver keeps, if that is not what was asked for last, or given to [`Gpu::warm`].
    pub(crate) fn kept(&self) -> Option<Vec<u8>> {
        let kept = self.kept.as_ref()?;
        let data = kept.cache.get_data()?;
        let mut told = kept.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told == data {
            return None;
        }
        told.clone_from(&data);
        Some(data)
    }
}
