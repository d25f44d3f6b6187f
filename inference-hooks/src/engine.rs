//! What runs hooks within a worker: the GPU if there is one, the CPU twin if not or if the file is too large for it.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;

use image::RgbaImage;
use serde_json::{Map, Value};

use crate::decode::decode;
use crate::encode::{Written, encode};
#[cfg(feature = "gpu")]
use crate::gpu::{self, Compiled, Gpu, GpuError};
use crate::hook::Hook;
use crate::hook::ImageFormat;
use crate::kernels::{CpuInput, CpuTwin};
use crate::protocol::{AdapterInfo, DerivedInfo, Done, Engine, Failure, FailureKind};

/// The engines of a worker.
#[derive(Debug)]
pub(crate) struct Engines {
    #[cfg(feature = "gpu")]
    gpu: Result<Gpu, String>,
    #[cfg(not(feature = "gpu"))]
    gpu: Result<std::convert::Infallible, String>,
}

/// A hook that is ready to run.
#[derive(Debug)]
pub(crate) struct Loaded {
    hook: Hook,
    #[cfg(feature = "gpu")]
    compiled: Option<Compiled>,
}

/// What a hook gives for one file, before it is written as files.
struct Made {
    engine: Engine,
    note: Option<String>,
    image: Option<RgbaImage>,
    fields: Map<String, Value>,
}

impl Engines {
    #[cfg(feature = "gpu")]
    pub(crate) fn open(allow_software_adapter: bool) -> Self {
        Self { gpu: Gpu::open(allow_software_adapter) }
    }

    #[cfg(not(feature = "gpu"))]
    pub(crate) fn open(_allow_software_adapter: bool) -> Self {
        Self { gpu: Err("this fsd is built without GPU support".to_owned()) }
    }

    /// The adapter, or why there is none.
    #[cfg(feature = "gpu")]
    pub(crate) fn adapter(&self) -> Result<AdapterInfo, String> {
        self.gpu.as_ref().map(|gpu| gpu.info().clone()).map_err(Clone::clone)
    }

    #[cfg(not(feature = "gpu"))]
    pub(crate) fn adapter(&self) -> Result<AdapterInfo, String> {
        match &self.gpu {
            Ok(never) => match *never {},
            Err(why) => Err(why.clone()),
        }
    }

    /// Makes a hook ready to run. Its shaders are looked at on machines without a GPU as well: a broken hook is
    /// broken everywhere.
    #[cfg(feature = "gpu")]
    pub(crate) fn load(&self, hook: Hook) -> Result<Loaded, Failure> {
        let compiled = match &self.gpu {
            Ok(gpu) => Some(gpu.compile(&hook).map_err(failure)?),
            Err(_) => {
                gpu::inspect_hook(&hook).map_err(|error| failure(error.into()))?;
                None
            }
        };
        self.check_engine(&hook, compiled.is_some())?;
        Ok(Loaded { hook, compiled })
    }

    #[cfg(not(feature = "gpu"))]
    pub(crate) fn load(&self, hook: Hook) -> Result<Loaded, Failure> {
        self.check_engine(&hook, false)?;
        Ok(Loaded { hook })
    }

    fn check_engine(&self, hook: &Hook, compiled: bool) -> Result<(), Failure> {
        match (&self.gpu, hook.cpu_twin()) {
            (Err(why), None) if !compiled => Err(Failure::new(
                FailureKind::NoEngine,
                format!("hook `{}` needs a GPU and has no [fallback]; here {why}", hook.name()),
            )),
            (Ok(_) | Err(_), Some(_) | None) => Ok(()),
        }
    }

    /// Runs a hook on an open file.
    pub(crate) fn run(
        &self,
        loaded: &Loaded,
        file: OwnedFd,
        memory_bytes_max: u64,
    ) -> Result<(Done, Vec<Vec<u8>>), Failure> {
        let hook = &loaded.hook;
        // An eighth of the process is for the drivers, the compiled hooks and ourselves.
        let memory = hook.limits().memory_bytes_max.min(memory_bytes_max / 8 * 7);
        let bytes = read(file, hook.input().bytes_max)?;
        let (image, came) = decode(&bytes, hook.input().pixels_max, memory)?;
        drop(bytes);
        let (width, height) = image.dimensions();
        let made = self.make(loaded, image, memory)?;
        let mut derived = Vec::new();
        let mut files = Vec::new();
        if let (Some(image), Some(output)) = (made.image, &hook.output().image) {
            let written = Written::of(output.format, came);
            let bytes = encode(image, written).map_err(|error| {
                let detail = format!("the derived picture cannot be written: {error}");
                Failure::new(FailureKind::OverLimit, detail)
            })?;
            let suffix = match output.format {
                ImageFormat::Same { .. } => format!("{}.{}", output.suffix, written.extension()),
                ImageFormat::Png | ImageFormat::Jpeg { .. } => output.suffix.clone(),
            };
            let media_type = written.media_type().to_owned();
            derived.push(DerivedInfo { suffix, media_type });
            files.push(bytes);
        }
        let (engine, note, fields) = (made.engine, made.note, made.fields);
        Ok((Done { engine, note, width, height, fields, derived }, files))
    }

    #[cfg(feature = "gpu")]
    fn make(&self, loaded: &Loaded, image: RgbaImage, memory: u64) -> Result<Made, Failure> {
        let images = [image];
        let note = match (&self.gpu, &loaded.compiled) {
            (Ok(gpu), Some(compiled)) => match gpu.run(&loaded.hook, compiled, &images) {
                Ok(mut outputs) => {
                    let output = outputs.pop().ok_or_else(|| {
                        Failure::new(FailureKind::DeviceLost, "the GPU gave no result")
                    })?;
                    let gpu::GpuOutput { image, fields } = output;
                    return Ok(Made { engine: Engine::Gpu, note: None, image, fields });
                }
                Err(error @ (GpuError::TooLarge(_) | GpuError::OutOfMemory(_))) => {
                    if loaded.hook.cpu_twin().is_none() {
                        return Err(failure(error));
                    }
                    error.to_string()
                }
                Err(error) => return Err(failure(error)),
            },
            (Err(why), _) => why.clone(),
            (Ok(_), None) => unreachable!("a hook is loaded with its pipelines"),
        };
        let [image] = images;
        make_on_cpu(&loaded.hook, &image, memory, note)
    }

    #[cfg(not(feature = "gpu"))]
    fn make(&self, loaded: &Loaded, image: RgbaImage, memory: u64) -> Result<Made, Failure> {
        make_on_cpu(&loaded.hook, &image, memory, self.adapter().err().unwrap_or_default())
    }
}

fn make_on_cpu(hook: &Hook, image: &RgbaImage, memory: u64, note: String) -> Result<Made, Failure> {
    let Some(twin) = hook.cpu_twin() else {
        return Err(Failure::new(FailureKind::NoEngine, note));
    };
    let (width, height) = image.dimensions();
    let size = hook.output_size(width, height);
    let output_size = size.map_err(|error| {
        Failure::new(FailureKind::HookBroken, format!("the size of output.image {error}"))
    })?;
    check_memory(&twin, image, output_size, memory)?;
    let mut output = (twin.run)(&CpuInput { image, params: hook.params(), output_size });
    // The twin may know more than this hook asks for.
    output.fields.retain(|name, _| hook.output().fields.iter().any(|(asked, _)| asked == name));
    let image = output.image.filter(|_| hook.output().image.is_some());
    Ok(Made { engine: Engine::Cpu, note: Some(note), image, fields: output.fields })
}

fn check_memory(
    twin: &CpuTwin,
    image: &RgbaImage,
    [width, height]: [u32; 2],
    memory: u64,
) -> Result<(), Failure> {
    let input = u64::from(image.width()) * u64::from(image.height());
    let output = if twin.image { u64::from(width) * u64::from(height) } else { 0 };
    // The result as pixels, and again, without its alpha or compressed, when it is written.
    let bytes = input.saturating_mul(4 + twin.bytes_per_pixel).saturating_add(output * 8);
    if bytes <= memory {
        return Ok(());
    }
    let detail = format!(
        "{} x {} pixels need {bytes} bytes of memory; the hook and its worker allow {memory}",
        image.width(),
        image.height()
    );
    Err(Failure::new(FailureKind::OverLimit, detail))
}

fn read(file: OwnedFd, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let mut file = File::from(file);
    let mut bytes = Vec::new();
    // The descriptor shares its position with the daemon's.
    let read = file.rewind().and_then(|()| file.take(bytes_max + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        let detail = format!("the file cannot be read: {error}");
        return Err(Failure::new(FailureKind::Unreadable, detail));
    }
    if bytes.len() as u64 > bytes_max {
        let detail = format!("the file is larger than input.max_bytes = {bytes_max}");
        return Err(Failure::new(FailureKind::OverLimit, detail));
    }
    Ok(bytes)
}

#[cfg(feature = "gpu")]
fn failure(error: GpuError) -> Failure {
    let kind = match &error {
        GpuError::Shader(_) | GpuError::Broken(_) => FailureKind::HookBroken,
        GpuError::TooLarge(_) | GpuError::OutOfMemory(_) => FailureKind::OverLimit,
        GpuError::Timeout(_) => FailureKind::GpuTimeout,
        GpuError::Lost(_) => FailureKind::DeviceLost,
    };
    Failure::new(kind, error)
}
