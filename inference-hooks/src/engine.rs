//! What runs hooks within a worker: the GPU if there is one, the CPU twin if not or if the file is too large for it.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;

use image::RgbaImage;
use serde_json::{Map, Value};

use crate::decode::decode;
use crate::encode::{Written, encode};
#[cfg(feature = "gpu")]
use crate::gpu::{self, Compiled, Gpu, GpuError, Subject};
use crate::hook::{ExprError, Hook, ImageFormat, Shape};
use crate::kernels::{CpuInput, CpuOutput, CpuTwin, Run, TableInput};
use crate::protocol::{AdapterInfo, DerivedInfo, Done, Engine, Failure, FailureKind};
use crate::table::{Table, check_rows, write};

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
    rows: Vec<u32>,
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
        if let Some(spec) = hook.table() {
            let table = Table::decode(&bytes, spec, memory)?;
            drop(bytes);
            return self.run_table(loaded, table, memory);
        }
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

    fn run_table(
        &self,
        loaded: &Loaded,
        table: Table,
        memory: u64,
    ) -> Result<(Done, Vec<Vec<u8>>), Failure> {
        let hook = &loaded.hook;
        let [_, out_rows] = hook.output_size(table.shape()).map_err(output_size)?;
        check_rows(out_rows)?;
        let made = match self.make_on_gpu(loaded, &table)? {
            Ok(made) => made,
            Err(note) => make_table_on_cpu(hook, &table, out_rows, memory, note)?,
        };
        let (mut derived, mut files) = (Vec::new(), Vec::new());
        if let Some(output) = &hook.output().table {
            let media_type = output.format.media_type().to_owned();
            derived.push(DerivedInfo { suffix: output.suffix.clone(), media_type });
            files.push(write(output, &made.rows, &table)?);
        }
        let width = u32::try_from(table.columns.len()).unwrap_or(u32::MAX);
        let Made { engine, note, fields, .. } = made;
        Ok((Done { engine, note, width, height: table.rows, fields, derived }, files))
    }

    fn make(&self, loaded: &Loaded, image: RgbaImage, memory: u64) -> Result<Made, Failure> {
        match self.make_on_gpu(loaded, &image)? {
            Ok(made) => Ok(made),
            Err(note) => make_on_cpu(&loaded.hook, &image, memory, note),
        }
    }

    /// What the shaders give, or why the CPU twin has to do it.
    #[cfg(feature = "gpu")]
    fn make_on_gpu(
        &self,
        loaded: &Loaded,
        input: &impl Subject,
    ) -> Result<Result<Made, String>, Failure> {
        match (&self.gpu, &loaded.compiled) {
            (Ok(gpu), Some(compiled)) => {
                match gpu.run(&loaded.hook, compiled, std::slice::from_ref(input)) {
                    Ok(mut outputs) => {
                        let output = outputs.pop().ok_or_else(|| {
                            Failure::new(FailureKind::DeviceLost, "the GPU gave no result")
                        })?;
                        let gpu::GpuOutput { image, rows, fields } = output;
                        Ok(Ok(Made { engine: Engine::Gpu, note: None, image, rows, fields }))
                    }
                    Err(error @ (GpuError::TooLarge(_) | GpuError::OutOfMemory(_)))
                        if loaded.hook.cpu_twin().is_some() =>
                    {
                        Ok(Err(error.to_string()))
                    }
                    Err(error) => Err(failure(error)),
                }
            }
            (Err(why), _) => Ok(Err(why.clone())),
            (Ok(_), None) => unreachable!("a hook is loaded with its pipelines"),
        }
    }

    #[cfg(not(feature = "gpu"))]
    fn make_on_gpu<T>(
        &self,
        _loaded: &Loaded,
        _input: &T,
    ) -> Result<Result<Made, String>, Failure> {
        Ok(Err(self.adapter().err().unwrap_or_default()))
    }
}

fn output_size(error: ExprError) -> Failure {
    Failure::new(FailureKind::HookBroken, format!("the size of its output {error}"))
}

fn make_on_cpu(hook: &Hook, image: &RgbaImage, memory: u64, note: String) -> Result<Made, Failure> {
    let Some((twin, Run::Image(run))) = hook.cpu_twin().map(|twin| (twin, twin.run)) else {
        return Err(Failure::new(FailureKind::NoEngine, note));
    };
    let (width, height) = image.dimensions();
    let shape = Shape::Image { size: [width, height] };
    let output_size = hook.output_size(shape).map_err(output_size)?;
    check_memory(&twin, image, output_size, memory)?;
    let mut output = run(&CpuInput { image, params: hook.params(), output_size });
    let image = output.image.take().filter(|_| hook.output().image.is_some());
    Ok(Made { image, ..of_twin(hook, output, note) })
}

fn make_table_on_cpu(
    hook: &Hook,
    table: &Table,
    out_rows: u32,
    memory: u64,
    note: String,
) -> Result<Made, Failure> {
    let Some((twin, Run::Table(run))) = hook.cpu_twin().map(|twin| (twin, twin.run)) else {
        return Err(Failure::new(FailureKind::NoEngine, note));
    };
    let cells = u64::from(table.rows) * table.columns.len() as u64;
    let words = u64::from(out_rows) * twin.columns.len() as u64;
    // The times beside the cells; the result as words, and again, longer, as text.
    let bytes = cells * (4 + twin.bytes_per_pixel) + u64::from(table.rows) * 16 + words * 24;
    if bytes > memory {
        return Err(Failure::new(
            FailureKind::OverLimit,
            format!(
                "{cells} cells need {bytes} bytes of memory; the hook and its worker allow {memory}"
            ),
        ));
    }
    let output = run(&TableInput { table, params: hook.params(), out_rows });
    Ok(of_twin(hook, output, note))
}

/// What this hook asks for of all that the twin knows.
fn of_twin(hook: &Hook, output: CpuOutput, note: String) -> Made {
    let CpuOutput { image, rows, mut fields } = output;
    fields.retain(|name, _| hook.output().fields.iter().any(|(asked, _)| asked == name));
    Made { engine: Engine::Cpu, note: Some(note), image, rows, fields }
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
