//! What runs hooks within a worker: the GPU if there is one, the CPU twin if not or if a file is too large for it. A file is decoded, looked
//! at and written; [`crate::batch`] has several go these ways together.

#[cfg(feature = "gpu")]
mod tiled;

#[cfg(feature = "gpu")]
#[cfg(test)]
mod tests;

#[cfg(feature = "gpu")]
use std::borrow::Cow;
use std::fs::File;

use image::RgbaImage;
use serde_json::{Map, Value};

use crate::audio::{Audio, Format, Opened};
use crate::decode::decode;
use crate::derived;
#[cfg(feature = "gpu")]
use crate::gpu::{self, Compiled, Gpu, GpuError, Subject};
use crate::hook::{ExprError, Hook, Kind, Shape};
use crate::kernels::{CpuInput, CpuOutput, CpuTwin, Run, TableInput};
use crate::protocol::{AdapterInfo, Done, Engine, Failure, FailureKind};
use crate::raw::Raw;
use crate::source::Source;
use crate::table::{Labels, Table, check_rows};

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
    pub(crate) hook: Hook,
    #[cfg(feature = "gpu")]
    compiled: Option<Compiled>,
}

/// A decoded file.
#[derive(Debug)]
pub(crate) enum Decoded {
    Picture { pixels: RgbaImage, came: image::ImageFormat },
    Table(Table),
    Audio(Audio),
    Bytes(Raw),
}

/// What a hook gives for one file, before it is written as files.
#[derive(Debug)]
pub(crate) struct Made {
    engine: Engine,
    note: Option<String>,
    image: Option<RgbaImage>,
    rows: Vec<u32>,
    fields: Map<String, Value>,
}

/// What came of a file on the GPU.
#[derive(Debug)]
pub(crate) enum Looked {
    #[cfg(feature = "gpu")]
    Made(Made),
    /// The CPU twin has to do it; why.
    Twin(String),
    #[cfg(feature = "gpu")]
    Failed(Failure),
}

/// What is said of a file, and the derived files.
pub(crate) type Output = (Done, Vec<Vec<u8>>);

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

    /// Goes on with what another worker's driver has kept of compiled shaders.
    #[cfg(feature = "gpu")]
    pub(crate) fn warm(&mut self, data: &[u8]) {
        if let Ok(gpu) = &mut self.gpu {
            gpu.warm(data);
        }
    }

    #[cfg(not(feature = "gpu"))]
    pub(crate) fn warm(&mut self, _data: &[u8]) {}

    /// What the driver keeps of compiled shaders, if that is news.
    #[cfg(feature = "gpu")]
    pub(crate) fn kept(&self) -> Option<Vec<u8>> {
        self.gpu.as_ref().ok()?.kept()
    }

    #[cfg(not(feature = "gpu"))]
    pub(crate) fn kept(&self) -> Option<Vec<u8>> {
        None
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

    /// What the shaders give for each of these files, in one dispatch of each pass for all that are of a size.
    #[cfg(feature = "gpu")]
    pub(crate) fn look(&self, loaded: &Loaded, inputs: &[&Decoded]) -> Vec<Looked> {
        let (gpu, compiled) = match (&self.gpu, &loaded.compiled) {
            (Ok(gpu), Some(compiled)) => (gpu, compiled),
            (Err(why), _) => return inputs.iter().map(|_| Looked::Twin(why.clone())).collect(),
            (Ok(_), None) => unreachable!("a hook is loaded with its pipelines"),
        };
        let mut looked: Vec<_> = inputs.iter().map(|_| None).collect();
        let mut waiting = gpu::alike(&loaded.hook, inputs.iter().map(|input| input.shape()));
        while let Some(mut numbers) = waiting.pop() {
            let alike: Vec<_> = numbers.iter().map(|number| inputs[*number]).collect();
            match gpu.run(&loaded.hook, compiled, &alike) {
                Ok(outputs) => {
                    for (number, output) in numbers.into_iter().zip(outputs) {
                        looked[number] = Some(Looked::Made(Made::on_gpu(output)));
                    }
                }
                Err(error) if error.is_the_end() => {
                    let ended = failure(error);
                    let ended = |none: Option<_>| none.unwrap_or(Looked::Failed(ended.clone()));
                    return looked.into_iter().map(ended).collect();
                }
                // Too much for one dispatch, or one of them makes no sense to the hook.
                Err(_) if numbers.len() > 1 => {
                    waiting.push(numbers.split_off(numbers.len() / 2));
                    waiting.push(numbers);
                }
                Err(error) => {
                    let is_too_large =
                        matches!(error, GpuError::TooLarge(_) | GpuError::OutOfMemory(_));
                    looked[numbers[0]] = Some(match loaded.hook.cpu_twin() {
                        Some(_) if is_too_large => Looked::Twin(error.to_string()),
                        Some(_) | None => Looked::Failed(failure(error)),
                    });
                }
            }
        }
        let none = || Failure::new(FailureKind::DeviceLost, "the GPU gave no result");
        looked.into_iter().map(|one| one.unwrap_or_else(|| Looked::Failed(none()))).collect()
    }

    #[cfg(not(feature = "gpu"))]
    pub(crate) fn look(&self, _loaded: &Loaded, inputs: &[&Decoded]) -> Vec<Looked> {
        let why = self.adapter().err().unwrap_or_default();
        inputs.iter().map(|_| Looked::Twin(why.clone())).collect()
    }
}

impl Decoded {
    /// Reads and decodes a file, from its start.
    pub(crate) fn read(hook: &Hook, file: &File, memory: u64) -> Result<Self, Failure> {
        let bytes_max = hook.input().bytes_max;
        let (decoded, shape) = match hook.kind() {
            Kind::Image => {
                let bytes = Source::new(file, bytes_max)?.read_all()?;
                let (pixels, came) = decode(&bytes, hook.input().pixels_max, memory)?;
                return Ok(Self::Picture { pixels, came });
            }
            Kind::Table(spec) => {
                let table =
                    Table::decode(&Source::new(file, bytes_max)?.read_all()?, spec, memory)?;
                let shape = table.shape();
                (Self::Table(table), shape)
            }
            Kind::Audio(spec) => {
                let audio = Opened::new(Source::new(file, bytes_max)?, spec)?.read(memory)?;
                let shape = audio.shape();
                (Self::Audio(audio), shape)
            }
            Kind::Bytes => {
                let raw = Raw::read(&Source::new(file, bytes_max)?, memory)?;
                let shape = raw.shape();
                (Self::Bytes(raw), shape)
            }
        };
        let [_, out_rows] = hook.output_size(shape).map_err(output_size)?;
        check_rows(out_rows)?;
        Ok(decoded)
    }

    /// What it has in memory.
    pub(crate) fn memory_bytes(&self) -> u64 {
        match self {
            Self::Picture { pixels, .. } => pixels.as_raw().len() as u64,
            // The times beside the cells.
            Self::Table(Table { rows, columns, .. }) => {
                u64::from(*rows) * (4 * columns.len() as u64 + 16)
            }
            Self::Audio(audio) => audio.samples().len() as u64,
            Self::Bytes(raw) => raw.padded().len() as u64,
        }
    }

    /// What the CPU twin gives; `note` says why it has to.
    pub(crate) fn on_cpu(&self, hook: &Hook, memory: u64, note: String) -> Result<Made, Failure> {
        match self {
            Self::Picture { pixels, .. } => make_on_cpu(hook, pixels, memory, note),
            Self::Table(table) => make_table_on_cpu(hook, table, memory, note),
            Self::Audio(_) | Self::Bytes(_) => Err(Failure::new(FailureKind::NoEngine, note)),
        }
    }

    /// What is said of it, and the derived files.
    pub(crate) fn written(&self, hook: &Hook, made: Made) -> Result<Output, Failure> {
        let Made { engine, note, image, rows, fields } = made;
        let table = |labels: &dyn Labels| {
            let output = hook.output().table.as_ref();
            output.map(|output| derived::table(output, &rows, labels)).transpose()
        };
        let (width, height, derived) = match self {
            Self::Picture { pixels, came } => {
                let derived = image.zip(hook.output().image.as_ref());
                let derived = derived.map(|(image, output)| derived::picture(output, image, *came));
                (pixels.width(), pixels.height(), derived.transpose()?)
            }
            Self::Table(found) => {
                let columns = u32::try_from(found.columns.len()).unwrap_or(u32::MAX);
                (columns, found.rows, table(found)?)
            }
            Self::Audio(audio) => {
                let Format { channels, frames, .. } = audio.format();
                (channels, frames, table(&audio.format())?)
            }
            Self::Bytes(raw) => (1, raw.length(), table(&raw.length())?),
        };
        let (derived, files) = derived.into_iter().unzip();
        Ok((Done { engine, note, width, height, fields, derived }, files))
    }
}

#[cfg(feature = "gpu")]
impl Subject for Decoded {
    fn shape(&self) -> Shape {
        match self {
            Self::Picture { pixels, .. } => pixels.shape(),
            Self::Table(table) => table.shape(),
            Self::Audio(audio) => audio.shape(),
            Self::Bytes(raw) => raw.shape(),
        }
    }

    fn left_out(&self) -> u32 {
        match self {
            Self::Picture { pixels, .. } => pixels.left_out(),
            Self::Table(table) => table.left_out(),
            Self::Audio(_) | Self::Bytes(_) => 0,
        }
    }

    fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Picture { pixels, .. } => pixels.bytes(),
            Self::Table(table) => Subject::bytes(table),
            Self::Audio(audio) => Subject::bytes(audio),
            Self::Bytes(raw) => Subject::bytes(raw),
        }
    }
}

#[cfg(feature = "gpu")]
impl Made {
    fn on_gpu(gpu::GpuOutput { image, rows, fields }: gpu::GpuOutput) -> Self {
        Self { engine: Engine::Gpu, note: None, image, rows, fields }
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
    memory: u64,
    note: String,
) -> Result<Made, Failure> {
    let Some((twin, Run::Table(run))) = hook.cpu_twin().map(|twin| (twin, twin.run)) else {
        return Err(Failure::new(FailureKind::NoEngine, note));
    };
    let [_, out_rows] = hook.output_size(table.shape()).map_err(output_size)?;
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
