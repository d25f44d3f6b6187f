//! From `hook.toml` as written to a [`Hook`]. Every default and every bound of the format is here.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;

use super::error::Document;
use super::file::{self, HookFile, Size};
use super::program;
use super::{
    API, Buffer, Element, Expr, FieldType, Hook, HookError, HookSource, ImageFormat, ImageOutput,
    InputSpec, Kind, Limits, OutputSpec, ParamType, Params, Pass, RESERVED_NAMES, Shaders, Work,
    check_identifier, params,
};
use crate::kernels::{self, CpuTwin};

pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

pub(super) const INPUT_BYTES_DEFAULT: u64 = 128 * MIB;
pub(super) const INPUT_BYTES: RangeInclusive<u64> = 1..=4 * GIB;
/// Two hundred megapixels take 800 MB decoded: more than most adapters bind at once, so such a file runs on the CPU
/// twin.
const INPUT_PIXELS_DEFAULT: u64 = 200_000_000;
const INPUT_PIXELS: RangeInclusive<u64> = 1..=1 << 30;
const GPU_MS_DEFAULT: u64 = 2_000;
const COMPILE_MS_DEFAULT: u64 = 5_000;
const MILLISECONDS: RangeInclusive<u64> = 1..=600_000;
const MEMORY_DEFAULT: u64 = 2 * GIB;
pub(super) const MEMORY: RangeInclusive<u64> = MIB..=64 * GIB;
const _: () = assert!(
    INPUT_BYTES_DEFAULT + INPUT_PIXELS_DEFAULT * (3 + 4) <= MEMORY_DEFAULT,
    "the largest photograph that is let in can be decoded"
);
pub(super) const RETRIES_DEFAULT: u32 = 1;
pub(super) const RETRIES: RangeInclusive<u64> = 0..=20;
const JPEG_QUALITY_DEFAULT: u8 = 85;
const JPEG_QUALITY: RangeInclusive<u64> = 1..=100;
const PASSES_MAX: usize = 32;
/// With the six fixed bindings this stays within what every adapter binds.
const BUFFERS_MAX: usize = 16;
pub(super) const FIELDS_MAX: usize = 256;
const NAME_CHARS_MAX: usize = 64;
const SUFFIX_CHARS_MAX: usize = 64;

pub(super) fn hook(source: HookSource) -> Result<Hook, HookError> {
    let text = source.text("hook.toml")?.ok_or(HookError::NoHookFile)?;
    let document = Document { file: "hook.toml", text };
    let settings = source.text("params.toml")?;
    let settings = settings.map(|text| Document { file: "params.toml", text });
    let reader = Reader { document, source: &source };
    if program::is_one(text) {
        return program::hook(&reader, settings);
    }
    let written: HookFile = toml::from_str(text).map_err(|error| document.parse_error(&error))?;

    reader.head(&written.hook)?;
    let params = params::read(document, &written.params, settings)?;
    reader.no_shared_names(&written)?;
    let kind = reader.kind(&written.input)?;
    let names = Names::of(&params, &kind);
    reader.no_hidden_names(&written, &kind, &names)?;
    let output = reader.output(&written.output, &kind, &names)?;
    let tiles = reader.tiles(&written, &kind, &output)?;
    let buffers = reader.buffers(&written.buffers, &names)?;
    let passes = reader.passes(&written, &names, &output)?;
    let fallback = written.fallback.as_ref();
    let fallback = fallback.map(|fallback| reader.fallback(fallback, &params, &output, &kind));
    Ok(Hook {
        version: source.version(),
        name: written.hook.name.get_ref().clone(),
        release: written.hook.version.clone(),
        description: written.hook.description.clone(),
        globs: written.hook.globs.get_ref().clone(),
        input: reader.input(&written.input)?,
        kind,
        tiles,
        limits: reader.limits(&written.limits)?,
        work: Work::Shaders(Shaders {
            compile_max: reader.compile_max(&written.limits)?,
            buffers,
            passes,
            fallback: fallback.transpose()?,
        }),
        params,
        output,
        source,
    })
}

/// The names that expressions may use.
struct Names {
    /// Of the kind of input: their values come from `Shape::values`.
    fixed: &'static [&'static str],
    /// In the size of what is derived; their values come from `Hook::input_values`.
    input: Vec<String>,
    /// In dispatches and buffers; their values come from `Hook::pass_values`.
    pass: Vec<String>,
}

impl Names {
    fn of(params: &Params, kind: &Kind) -> Self {
        let (fixed, outputs) = (kind.names(), kind.output_names());
        let params = params.iter().map(|(name, value)| match value.kind() {
            ParamType::Rects => format!("{name}_count"),
            ParamType::U32 | ParamType::I32 | ParamType::F32 | ParamType::Bool => name.clone(),
        });
        let input: Vec<_> = fixed.iter().map(|name| (*name).to_owned()).chain(params).collect();
        let mut pass = input.clone();
        pass.extend(outputs.iter().map(|name| (*name).to_owned()));
        Self { fixed, input, pass }
    }
}

pub(super) struct Reader<'a> {
    pub(super) document: Document<'a>,
    pub(super) source: &'a HookSource,
}

impl Reader<'_> {
    pub(super) fn wrong<T>(
        &self,
        at: &Spanned<T>,
        key: impl Into<String>,
        problem: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> HookError {
        self.document.error(at.span(), key, problem, remedy)
    }

    pub(super) fn head(&self, head: &file::Head) -> Result<(), HookError> {
        if *head.api.get_ref() != API {
            let remedy = format!("this fsd speaks api = {API}");
            return Err(self.wrong(&head.api, "hook.api", "is not known", remedy));
        }
        let name = head.name.get_ref();
        let sound = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(sound) {
            let remedy = format!("use 1 to {NAME_CHARS_MAX} letters, digits, `-` and `_`");
            return Err(self.wrong(&head.name, "hook.name", "is no hook name", remedy));
        }
        if head.globs.get_ref().is_empty() {
            let remedy = "write at least one glob, such as \"*.jpg\"";
            return Err(self.wrong(&head.globs, "hook.match", "matches no file", remedy));
        }
        Ok(())
    }

    fn input(&self, input: &file::Input) -> Result<InputSpec, HookError> {
        let bytes = input.max_bytes.as_ref();
        let bytes = bytes.map(|bytes| self.size("input.max_bytes", bytes, INPUT_BYTES));
        let pixels = input.max_pixels.as_ref();
        let pixels = pixels.map(|pixels| self.bounded("input.max_pixels", pixels, INPUT_PIXELS));
        Ok(InputSpec {
            bytes_max: bytes.transpose()?.unwrap_or(INPUT_BYTES_DEFAULT),
            pixels_max: pixels.transpose()?.unwrap_or(INPUT_PIXELS_DEFAULT),
        })
    }

    fn limits(&self, limits: &file::Limits) -> Result<Limits, HookError> {
        let memory = limits.memory.as_ref();
        let memory = memory.map(|memory| self.size("limits.memory", memory, MEMORY));
        let retries = limits.retries.as_ref();
        let retries = retries.map(|retries| self.bounded("limits.retries", retries, RETRIES));
        Ok(Limits {
            run_max: self.time("limits.gpu_ms", &limits.gpu_ms, GPU_MS_DEFAULT)?,
            memory_bytes_max: memory.transpose()?.unwrap_or(MEMORY_DEFAULT),
            retries_max: retries.transpose()?.unwrap_or(RETRIES_DEFAULT),
        })
    }

    fn compile_max(&self, limits: &file::Limits) -> Result<Duration, HookError> {
        self.time("limits.compile_ms", &limits.compile_ms, COMPILE_MS_DEFAULT)
    }

    pub(super) fn time(
        &self,
        key: &str,
        time: &Option<Spanned<u64>>,
        default: u64,
    ) -> Result<Duration, HookError> {
        let given = time.as_ref().map(|time| self.bounded(key, time, MILLISECONDS));
        Ok(Duration::from_millis(given.transpose()?.unwrap_or(default)))
    }

    pub(super) fn bounded<T: Copy + Into<u64>>(
        &self,
        key: &str,
        value: &Spanned<T>,
        bounds: RangeInclusive<u64>,
    ) -> Result<T, HookError> {
        if bounds.contains(&(*value.get_ref()).into()) {
            return Ok(*value.get_ref());
        }
        let remedy = format!("use {} to {}", bounds.start(), bounds.end());
        Err(self.wrong(value, key, "is out of range", remedy))
    }

    pub(super) fn size(
        &self,
        key: &str,
        size: &Spanned<Size>,
        bounds: RangeInclusive<u64>,
    ) -> Result<u64, HookError> {
        let bytes = match size.get_ref() {
            Size::Bytes(bytes) => Some(*bytes),
            Size::Text(text) => parse_size(text),
        };
        bytes.filter(|bytes| bounds.contains(bytes)).ok_or_else(|| {
            let (min, max) = (bounds.start(), bounds.end());
            let remedy = format!("write \"64MiB\" or so, from {min} to {max} bytes");
            self.wrong(size, key, "is no size that can be used", remedy)
        })
    }

    fn output(
        &self,
        written: &Spanned<file::Output>,
        kind: &Kind,
        names: &Names,
    ) -> Result<OutputSpec, HookError> {
        let output = written.get_ref();
        let of_images = matches!(kind, Kind::Image);
        let image = output.image.as_ref();
        if let Some(image) = image.filter(|_| !of_images) {
            let problem = format!("is not made of {}", kind.plural());
            let remedy = "write [output.table] or [output.json]";
            return Err(self.wrong(&image.suffix, "output.image", problem, remedy));
        }
        let image = image.map(|image| self.image(image, names)).transpose()?;
        let table = output.table.as_ref();
        if let Some(table) = table.filter(|_| of_images) {
            let remedy = "write another kind in [input], or leave it out";
            let problem = "is not made of pictures";
            return Err(self.wrong(&table.suffix, "output.table", problem, remedy));
        }
        let table = table.map(|table| self.table_output(table, kind, &names.input)).transpose()?;
        let fields = self.fields(output.json.as_ref())?;
        if fields.len() > FIELDS_MAX {
            let remedy = format!("{FIELDS_MAX} are allowed");
            return Err(self.wrong(written, "output.json.fields", "are too many", remedy));
        }
        if image.is_none() && table.is_none() && fields.is_empty() {
            let remedy = "add [output.image], or [output.json] with fields, or, of all but pictures, [output.table]";
            return Err(self.wrong(written, "output", "gives nothing", remedy));
        }
        Ok(OutputSpec { image, table, fields })
    }

    pub(super) fn fields(
        &self,
        json: Option<&file::JsonOutput>,
    ) -> Result<Vec<(String, FieldType)>, HookError> {
        let mut fields = Vec::new();
        for (name, written) in json.iter().flat_map(|json| &json.fields) {
            let key = format!("output.json.fields.{name}");
            check_identifier(self.document, written.span(), key.clone(), name, &[])?;
            let field = FieldType::parse(&written.get_ref().kind).ok_or_else(|| {
                let remedy = "the types are u32, i32, f32 and bool";
                self.wrong(written, key, "is not a type", remedy)
            })?;
            fields.push((name.clone(), field));
        }
        Ok(fields)
    }

    pub(super) fn suffix(&self, key: &str, suffix: &Spanned<String>) -> Result<String, HookError> {
        let text = suffix.get_ref();
        let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if text.len() < 2
            || text.len() > SUFFIX_CHARS_MAX
            || !text.starts_with('.')
            || !text.chars().all(sound)
        {
            let remedy = "write \".thumb.png\" or so: a dot, then letters, digits, `.`, `-`, `_`";
            return Err(self.wrong(suffix, key, "is no suffix", remedy));
        }
        Ok(text.clone())
    }

    fn image(&self, image: &file::ImageOutput, names: &Names) -> Result<ImageOutput, HookError> {
        let suffix = self.suffix("output.image.suffix", &image.suffix)?;
        let quality = image.quality.as_ref();
        let quality = quality
            .map(|quality| self.bounded("output.image.quality", quality, JPEG_QUALITY))
            .transpose()?;
        let format = match (image.format.get_ref().as_str(), quality) {
            ("png", None) => ImageFormat::Png,
            ("jpeg", quality) => {
                ImageFormat::Jpeg { quality: quality.unwrap_or(JPEG_QUALITY_DEFAULT) }
            }
            ("same", quality) => {
                ImageFormat::Same { quality: quality.unwrap_or(JPEG_QUALITY_DEFAULT) }
            }
            ("png", Some(_)) => {
                let remedy = "leave it out: PNG keeps every bit";
                return Err(self.wrong(
                    &image.format,
                    "output.image.format",
                    "has no quality",
                    remedy,
                ));
            }
            _ => {
                let remedy = "the formats are \"png\", \"jpeg\" and \"same\"";
                let key = "output.image.format";
                return Err(self.wrong(&image.format, key, "cannot be written", remedy));
            }
        };
        let size = |key, text: &Option<Spanned<String>>, default| match text {
            Some(text) => self.expr(key, text, &names.input),
            None => Ok(Expr::variable(default)),
        };
        Ok(ImageOutput {
            suffix,
            format,
            width: size("output.image.width", &image.width, 0)?,
            height: size("output.image.height", &image.height, 1)?,
        })
    }

    pub(super) fn expr(
        &self,
        key: &str,
        text: &Spanned<String>,
        names: &[String],
    ) -> Result<Expr, HookError> {
        Expr::parse(text.get_ref(), names).map_err(|problem| self.wrong(text, key, problem, ""))
    }

    fn buffers(
        &self,
        written: &BTreeMap<String, Spanned<file::Buffer>>,
        names: &Names,
    ) -> Result<Vec<Buffer>, HookError> {
        let mut buffers = Vec::new();
        for (name, buffer) in written {
            let key = format!("buffers.{name}");
            check_identifier(self.document, buffer.span(), key, name, RESERVED_NAMES)?;
            if buffers.len() == BUFFERS_MAX {
                let remedy = format!("{BUFFERS_MAX} are allowed");
                return Err(self.wrong(buffer, "buffers", "are too many", remedy));
            }
            let buffer = buffer.get_ref();
            let element = Element::ALL.into_iter().find(|e| e.name() == buffer.kind.get_ref());
            let element = element.ok_or_else(|| {
                let key = format!("buffers.{name}.type");
                let remedy =
                    format!("the types are {}", Element::ALL.map(Element::name).join(", "));
                self.wrong(&buffer.kind, key, "is not a type", remedy)
            })?;
            let len = self.expr(&format!("buffers.{name}.len"), &buffer.len, &names.pass)?;
            buffers.push(Buffer { name: name.clone(), element, len });
        }
        Ok(buffers)
    }

    /// A buffer and a list of rectangles are both global names in the shader.
    fn no_shared_names(&self, written: &HookFile) -> Result<(), HookError> {
        let shared = written.buffers.iter().find(|(name, _)| written.params.contains_key(*name));
        let Some((name, buffer)) = shared else { return Ok(()) };
        let remedy = "rename one of the two";
        Err(self.wrong(buffer, format!("buffers.{name}"), "is a parameter, too", remedy))
    }

    /// A parameter of the name of a size could not be said in an expression, and a function's name is no other's.
    fn no_hidden_names(
        &self,
        written: &HookFile,
        kind: &Kind,
        names: &Names,
    ) -> Result<(), HookError> {
        let taken = |name: &String| kind.functions().contains(&name.as_str());
        let buffers = written.buffers.iter().map(|(name, buffer)| ("buffers", name, buffer.span()));
        let params = written.params.iter().map(|(name, param)| ("params", name, param.span()));
        if let Some((table, name, span)) = buffers.chain(params).find(|(_, name, _)| taken(name)) {
            let problem = "has the name of a function of the shader";
            let key = format!("{table}.{name}");
            return Err(self.document.error(span, key, problem, "rename it"));
        }

        let hidden = written.params.iter().find(|(name, _)| names.fixed.contains(&name.as_str()));
        let Some((name, param)) = hidden else { return Ok(()) };
        let problem = "has the name of a size of the input";
        Err(self.wrong(param, format!("params.{name}"), problem, "rename it"))
    }

    fn passes(
        &self,
        written: &HookFile,
        names: &Names,
        output: &OutputSpec,
    ) -> Result<Vec<Pass>, HookError> {
        let count = written.pass.len();
        if count == 0 || count > PASSES_MAX {
            let remedy = format!("write 1 to {PASSES_MAX} [[pass]] tables");
            let problem = format!("has {count} passes");
            return Err(self.wrong(&written.hook.name, "hook.name", problem, remedy));
        }
        let buffers = || written.buffers.keys().map(String::as_str);
        let derived = (output.image.is_some() || output.table.is_some()).then_some("output");
        let report = (!output.fields.is_empty()).then_some("report");
        let writable: Vec<_> = buffers().chain(derived).chain(report).collect();
        let readable: Vec<_> = writable.iter().copied().chain(["input"]).collect();
        let pass = |(index, pass): (usize, &file::Pass)| {
            let key = |name: &str| format!("pass[{index}].{name}");
            let shader = pass.shader.get_ref();
            if !shader.ends_with(".wgsl") || self.source.text(shader)?.is_none() {
                let remedy = "name a .wgsl file of the hook folder";
                return Err(self.wrong(&pass.shader, key("shader"), "does not exist", remedy));
            }
            self.known(&key("reads"), &pass.reads, &readable)?;
            self.known(&key("writes"), &pass.writes, &writable)?;
            let owned =
                |list: &[Spanned<String>]| list.iter().map(|name| name.get_ref().clone()).collect();
            let [x, y] = &pass.dispatch;
            Ok(Pass {
                shader: shader.clone(),
                entry: pass.entry.get_ref().clone(),
                dispatch: [
                    self.expr(&key("dispatch[0]"), x, &names.pass)?,
                    self.expr(&key("dispatch[1]"), y, &names.pass)?,
                ],
                reads: owned(&pass.reads),
                writes: owned(&pass.writes),
            })
        };
        written.pass.iter().enumerate().map(pass).collect()
    }

    fn known(&self, key: &str, names: &[Spanned<String>], known: &[&str]) -> Result<(), HookError> {
        let stranger = names.iter().find(|name| !known.contains(&name.get_ref().as_str()));
        let Some(stranger) = stranger else { return Ok(()) };
        let remedy = format!("known here are {}", known.join(", "));
        Err(self.wrong(stranger, key, "is not declared", remedy))
    }

    fn fallback(
        &self,
        fallback: &file::Fallback,
        params: &Params,
        output: &OutputSpec,
        kind: &Kind,
    ) -> Result<CpuTwin, HookError> {
        let wrong = |problem: String, remedy: String| {
            self.wrong(&fallback.cpu, "fallback.cpu", problem, remedy)
        };
        let name = fallback.cpu.get_ref().strip_prefix("builtin:").unwrap_or_default();
        let twin = kernels::TWINS.iter().find(|twin| twin.name == name).ok_or_else(|| {
            let known = kernels::TWINS.iter().map(|twin| format!("builtin:{}", twin.name));
            let known: Vec<_> = known.collect();
            wrong("does not exist".to_owned(), format!("there are {}", known.join(", ")))
        })?;
        if !twin.run.is_of(kind) {
            let remedy = "take one for the same input.kind".to_owned();
            return Err(wrong("is for another kind of input".to_owned(), remedy));
        }
        for (param, kind) in twin.params {
            if params.get(*param).map(|value| value.kind()) != Some(*kind) {
                let remedy = format!("declare {param} = {{ type = \"{kind}\", .. }} in [params]");
                return Err(wrong(format!("needs the parameter `{param}`"), remedy));
            }
        }
        let stranger = output.fields.iter().find(|field| {
            !twin.fields.iter().any(|(name, kind)| (*name, *kind) == (field.0.as_str(), field.1))
        });
        if let Some((field, _)) = stranger {
            let known: Vec<_> = twin.fields.iter().map(|(name, _)| *name).collect();
            let remedy = format!("its fields are {}", known.join(", "));
            return Err(wrong(format!("gives no field `{field}` of that type"), remedy));
        }
        if let Some(table) = &output.table
            && !table
                .columns
                .iter()
                .map(|(name, kind)| (name.as_str(), *kind))
                .eq(twin.columns.iter().copied())
        {
            let known: Vec<_> = twin.columns.iter().map(|(name, _)| *name).collect();
            let remedy = format!("declare {}, in this order", known.join(", "));
            return Err(wrong("gives other columns in its table".to_owned(), remedy));
        }
        if output.image.is_some() && !twin.image {
            let remedy = "leave [output.image] out".to_owned();
            return Err(wrong("gives no picture".to_owned(), remedy));
        }
        Ok(*twin)
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => MIB,
        "GiB" => GIB,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}
