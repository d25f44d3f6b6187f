//! A hook: a folder with `hook.toml` and the shaders or programs it names, read and checked once into values that
//! cannot be wrong. What a shader contains is checked later and elsewhere, in the worker, because compiling is a risk.

#![cfg_attr(
    not(feature = "gpu"),
    expect(dead_code, reason = "passes and buffers are checked everywhere and run on a GPU")
)]

mod check;
mod error;
mod expr;
mod file;
mod kind;
mod params;
mod program;
mod shape;
mod source;
mod table;
mod tiles;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::time::Duration;

pub use error::{HookError, ValueError};
pub use expr::{Expr, ExprError};
pub use kind::{AudioSpec, Channels, Kind};
pub use params::{ParamType, ParamValue, Params, RECTS_MAX, Rect};
pub use program::{Bounds, Command, Container, Image, Program, Runtime};
pub(crate) use program::{FIELDS_OF_RESULT_MAX, OWN_VARIABLES};
pub use source::{FILE_BYTES_MAX, FILES_MAX, HookSource, HookVersion};
pub use table::{TableFormat, TableOutput, TableSpec};
pub use tiles::{Combine, Tiles};

pub(crate) use shape::Shape;
pub(crate) use table::CellType;

use crate::kernels::CpuTwin;
use error::Document;

/// The interface between hooks and fsd that this build speaks: `api = 1`.
pub const API: u32 = 1;

/// Names that mean something in expressions or in the generated part of a shader.
const RESERVED_NAMES: &[&str] = &[
    "batch",
    "files",
    "height",
    "input",
    "len",
    "out_height",
    "out_width",
    "output",
    "params",
    "report",
    "width",
];

/// A hook that has been read and checked.
#[derive(Clone)]
pub struct Hook {
    source: HookSource,
    version: HookVersion,
    name: String,
    release: String,
    description: String,
    globs: Vec<String>,
    input: InputSpec,
    kind: Kind,
    tiles: Option<Tiles>,
    params: Params,
    output: OutputSpec,
    limits: Limits,
    work: Work,
}

/// How a hook does its work.
#[derive(Clone, Debug)]
pub enum Work {
    /// Shaders, in the worker process.
    Shaders(Shaders),
    /// A program of this machine, in a sandbox.
    Command(Command),
    /// A program that brings its own files, in a container.
    Container(Container),
}

/// What runs on the GPU, or on the CPU in its stead.
#[derive(Clone, Debug)]
pub struct Shaders {
    pub(crate) compile_max: Duration,
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) passes: Vec<Pass>,
    pub(crate) fallback: Option<CpuTwin>,
}

/// What a hook takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputSpec {
    /// Largest file.
    pub bytes_max: u64,
    /// Largest picture, width times height; a program gets the file as it is, so that this does not bind it.
    pub pixels_max: u64,
}

/// What a hook may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time for one job: of shaders on the GPU, of a program from its start to its end.
    pub run_max: Duration,
    /// Memory for one job: the decoded picture, every buffer and the result; or what a program takes.
    pub memory_bytes_max: u64,
    /// How often a job is tried again after a crash, a lost device or a timeout.
    pub retries_max: u32,
}

/// What a hook gives.
#[derive(Clone, Debug)]
pub struct OutputSpec {
    /// A derived picture.
    pub image: Option<ImageOutput>,
    /// A derived table.
    pub table: Option<TableOutput>,
    /// The fields of its JSON result, in the order of the generated `Report` structure.
    pub fields: Vec<(String, FieldType)>,
}

/// A derived picture.
#[derive(Clone, Debug)]
pub struct ImageOutput {
    /// What its name ends with, in place of the extension of the original.
    pub suffix: String,
    /// How it is written.
    pub format: ImageFormat,
    /// Its width, over the values of [`Hook::output_size`].
    pub(crate) width: Expr,
    /// Its height.
    pub(crate) height: Expr,
}

/// How a derived picture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// Without loss, with transparency.
    Png,
    /// With loss; transparency turns white.
    Jpeg {
        /// From 1 to 100.
        quality: u8,
    },
    /// As the file that it is made of; of an animation, its first picture.
    Same {
        /// Of a JPEG, from 1 to 100.
        quality: u8,
    },
}

/// The type of a field of a JSON result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// A whole number from 0.
    U32,
    /// A whole number.
    I32,
    /// A number.
    F32,
    /// `true` or `false`; a `u32` in the shader.
    Bool,
}

/// Working memory of a hook on the GPU: so many elements for each file.
#[derive(Clone, Debug)]
pub(crate) struct Buffer {
    pub(crate) name: String,
    pub(crate) element: Element,
    pub(crate) len: Expr,
}

/// What a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    U32,
    I32,
    F32,
    Vec4F32,
    AtomicU32,
}

impl FieldType {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "u32" => Some(Self::U32),
            "i32" => Some(Self::I32),
            "f32" => Some(Self::F32),
            "bool" => Some(Self::Bool),
            _ => None,
        }
    }
}

impl Element {
    pub(crate) const ALL: [Self; 5] =
        [Self::U32, Self::I32, Self::F32, Self::Vec4F32, Self::AtomicU32];

    /// Its name, in `hook.toml` and in WGSL.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Vec4F32 => "vec4<f32>",
            Self::AtomicU32 => "atomic<u32>",
        }
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::U32 | Self::I32 | Self::F32 | Self::AtomicU32 => 4,
            Self::Vec4F32 => 16,
        }
    }
}

/// One compute pass. The third dimension of its dispatch is the file in the batch.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    pub(crate) shader: String,
    pub(crate) entry: String,
    pub(crate) dispatch: [Expr; 2],
    pub(crate) reads: Vec<String>,
    pub(crate) writes: Vec<String>,
}

impl Hook {
    /// Checks a hook folder's files.
    ///
    /// # Errors
    /// Names the file, line, key and value that cannot be used, and what to write instead.
    pub fn parse(source: HookSource) -> Result<Self, HookError> {
        check::hook(source)
    }

    /// The name by which people call it. Two hooks of one gateway have two names.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its content is: another version means another result.
    pub fn version(&self) -> &HookVersion {
        &self.version
    }

    /// Its version as its author writes it; may be empty.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// What it does, in its author's words.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The globs that files must match, as they are written.
    pub fn globs(&self) -> &[String] {
        &self.globs
    }

    /// What it takes.
    pub fn input(&self) -> InputSpec {
        self.input
    }

    /// What kind of file it takes, and how.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// How it takes tables; none if it takes something else.
    pub fn table(&self) -> Option<&TableSpec> {
        match &self.kind {
            Kind::Table(spec) => Some(spec),
            Kind::Image | Kind::Audio(_) | Kind::Bytes => None,
        }
    }

    /// How it cuts files; none if it looks at them as a whole.
    pub fn tiles(&self) -> Option<&Tiles> {
        self.tiles.as_ref()
    }

    /// What it gives.
    pub fn output(&self) -> &OutputSpec {
        &self.output
    }

    /// What the names of the files that it makes may end with.
    pub fn suffixes(&self) -> Vec<String> {
        let mut suffixes =
            Vec::from_iter(self.output.table.iter().map(|table| table.suffix.clone()));
        let Some(image) = &self.output.image else { return suffixes };
        match image.format {
            ImageFormat::Png | ImageFormat::Jpeg { .. } => suffixes.push(image.suffix.clone()),
            ImageFormat::Same { .. } => {
                // The extension is that of the format which the file came in.
                let formats = image::ImageFormat::all();
                let extensions = formats.filter_map(|format| format.extensions_str().first());
                suffixes.extend(extensions.map(|ext| format!("{}.{ext}", image.suffix)));
            }
        }
        suffixes
    }

    /// How it does its work.
    pub fn work(&self) -> &Work {
        &self.work
    }

    /// What it may use up.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The parameters that hold.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Its files.
    pub fn source(&self) -> &HookSource {
        &self.source
    }

    /// The name of the CPU code that stands in for its shaders where there is no GPU.
    pub fn fallback(&self) -> Option<&'static str> {
        self.cpu_twin().map(|twin| twin.name)
    }

    /// None of a hook that is a program.
    pub(crate) fn shaders(&self) -> Option<&Shaders> {
        match &self.work {
            Work::Shaders(shaders) => Some(shaders),
            Work::Command(_) | Work::Container(_) => None,
        }
    }

    pub(crate) fn cpu_twin(&self) -> Option<CpuTwin> {
        self.shaders()?.fallback
    }

    pub(crate) fn buffers(&self) -> &[Buffer] {
        self.shaders().map_or(&[], |shaders| &shaders.buffers)
    }

    pub(crate) fn passes(&self) -> &[Pass] {
        self.shaders().map_or(&[], |shaders| &shaders.passes)
    }

    /// The values behind the names of the expressions for the size of what is derived.
    fn input_values(&self, input: Shape) -> Vec<f64> {
        let params = self.params.values().map(ParamValue::number);
        input.values().into_iter().chain(params).collect()
    }

    /// The values behind the names of the expressions for dispatches and buffers.
    pub(crate) fn pass_values(&self, input: Shape, output: [u32; 2]) -> Vec<f64> {
        let mut values = self.input_values(input);
        match input {
            Shape::Image { .. } => values.extend(output.map(f64::from)),
            Shape::Table { .. } | Shape::Audio { .. } | Shape::Bytes { .. } => {
                values.push(output[1].into());
            }
        }
        values
    }

    /// The size of what is derived: of a picture, width and height, the input's if there is none; of all else, the columns
    /// and rows of a table, none if there is no table.
    pub(crate) fn output_size(&self, input: Shape) -> Result<[u32; 2], ExprError> {
        match (input, &self.output.image, &self.output.table) {
            (Shape::Image { size }, None, _) => Ok(size),
            (Shape::Image { .. }, Some(image), _) => {
                let values = self.input_values(input);
                Ok([image.width.count(&values)?.max(1), image.height.count(&values)?.max(1)])
            }
            (_, _, None) => Ok([0, 0]),
            (_, _, Some(table)) => {
                let columns = u32::try_from(table.columns.len()).unwrap_or(u32::MAX);
                Ok([columns, table.rows.count(&self.input_values(input))?])
            }
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Names in `hook.toml` become names in WGSL: of members, and, where `reserved` names some, of global variables.
fn check_identifier(
    document: Document<'_>,
    span: Range<usize>,
    key: String,
    name: &str,
    reserved: &[&str],
) -> Result<(), HookError> {
    let mut chars = name.chars();
    let sound = chars.next().is_some_and(|first| first.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !name.contains("__")
        && name.len() <= 64;
    if sound && !reserved.contains(&name) {
        return Ok(());
    }
    let mut remedy = "use a-z, 0-9 and single `_`, from a letter".to_owned();
    if !reserved.is_empty() {
        remedy = format!("{remedy}, and none of {}", reserved.join(", "));
    }
    Err(document.error(span, key, "has a name that no shader can use", remedy))
}
