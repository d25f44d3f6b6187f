//! Hooks that are programs: `hook.toml` with `[command]` or `[container]` in place of passes.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::check::{
    FIELDS_MAX, GIB, INPUT_BYTES, INPUT_BYTES_DEFAULT, MEMORY, MIB, RETRIES, RETRIES_DEFAULT,
    Reader,
};
use super::error::Document;
use super::file::{Head, JsonOutput, Param, Size};
use super::{Hook, HookError, InputSpec, Limits, OutputSpec, Work, params};

const TIME_MS_DEFAULT: u64 = 60_000;
const CPU_SECONDS_DEFAULT: u64 = 60;
const CPU_SECONDS: RangeInclusive<u64> = 1..=3_600;
const MEMORY_DEFAULT: u64 = GIB;
const PROCESSES_DEFAULT: u32 = 32;
const PROCESSES: RangeInclusive<u64> = 1..=4_096;
const OUTPUT_DEFAULT: u64 = 64 * MIB;
const OUTPUT: RangeInclusive<u64> = 4_096..=4 * GIB;
const OUTPUT_FILES_DEFAULT: u32 = 16;
const OUTPUT_FILES: RangeInclusive<u64> = 1..=1_024;
const ARGUMENTS_MAX: usize = 64;
const ENVIRONMENT_MAX: usize = 64;
/// Most fields of a program's result.
pub(crate) const FIELDS_OF_RESULT_MAX: usize = FIELDS_MAX;
/// Names of variables that fsd sets itself begin with this.
pub(crate) const OWN_VARIABLES: &str = "FSD_";
/// Where a sandbox shows programs of the host.
const HOST_PROGRAMS: &[&str] = &["/usr", "/bin", "/sbin"];

/// A program of this machine or of the hook folder, in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What is started.
    pub program: Program,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What holds it in.
    pub bounds: Bounds,
}

/// What a sandbox starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A file of the hook folder.
    OfHook(String),
    /// An absolute path of the host.
    OfHost(PathBuf),
}

/// A program in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The files that it sees.
    pub image: Image,
    /// What starts it.
    pub runtime: Runtime,
    /// The program and its arguments; of a named image, may be empty: then the image says it.
    pub command: Vec<String>,
    /// What holds it in.
    pub bounds: Bounds,
}

/// Where the files of a container come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// A folder of the host that is its root.
    Root(PathBuf),
    /// An image that the runtime knows by name.
    Named(String),
}

/// What starts containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// Podman.
    Podman,
    /// Docker.
    Docker,
    /// Runc, for a root folder.
    Runc,
    /// Runc for a root folder; for a name the first of podman and docker that is there.
    Auto,
}

/// What holds a program in, beside the [`Limits`] of every hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Whether it has the network of the host, or none.
    pub network: bool,
    /// Variables of its own.
    pub environment: BTreeMap<String, String>,
    /// Processor time of each of its processes.
    pub cpu_seconds_max: u64,
    /// Its processes and threads at one time.
    pub processes_max: u32,
    /// All it writes to its output folder.
    pub output_bytes_max: u64,
    /// The files in there, `result.json` not counted.
    pub output_files_max: u32,
}

#[cfg(test)]
impl Bounds {
    /// Numbers that are all unlike, for tests.
    pub(crate) fn small(network: bool) -> Self {
        Self {
            network,
            environment: BTreeMap::new(),
            cpu_seconds_max: 7,
            processes_max: 8,
            output_bytes_max: 9_000,
            output_files_max: 1,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Kind {
    command: Option<IgnoredAny>,
    container: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProgramFile {
    hook: Head,
    #[serde(default)]
    input: Input,
    #[serde(default)]
    params: BTreeMap<String, Spanned<Param>>,
    command: Option<Spanned<CommandTable>>,
    container: Option<Spanned<ContainerTable>>,
    #[serde(default)]
    output: Output,
    #[serde(default)]
    limits: LimitsTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    max_bytes: Option<Spanned<Size>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandTable {
    program: Spanned<String>,
    #[serde(default)]
    args: Vec<Spanned<String>>,
    #[serde(default)]
    network: bool,
    #[serde(default)]
    environment: BTreeMap<Spanned<String>, Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContainerTable {
    image: Spanned<String>,
    #[serde(default)]
    runtime: Option<Spanned<String>>,
    #[serde(default)]
    command: Vec<Spanned<String>>,
    #[serde(default)]
    network: bool,
    #[serde(default)]
    environment: BTreeMap<Spanned<String>, Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Output {
    json: Option<Spanned<JsonOutput>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    time_ms: Option<Spanned<u64>>,
    cpu_seconds: Option<Spanned<u64>>,
    memory: Option<Spanned<Size>>,
    processes: Option<Spanned<u32>>,
    output: Option<Spanned<Size>>,
    output_files: Option<Spanned<u32>>,
    retries: Option<Spanned<u32>>,
}

/// Whether a `hook.toml` is of a program. One that is no TOML at all is of none.
pub(super) fn is_one(text: &str) -> bool {
    toml::from_str(text).is_ok_and(|kind: Kind| kind.command.is_some() || kind.container.is_some())
}

/// Reads a hook that is a program.
pub(super) fn hook(reader: &Reader<'_>, settings: Option<Document<'_>>) -> Result<Hook, HookError> {
    let document = reader.document;
    let written: ProgramFile =
        toml::from_str(document.text).map_err(|error| document.parse_error(&error))?;
    reader.head(&written.hook)?;
    let work = match (&written.command, &written.container) {
        (Some(command), None) => Work::Command(reader.command(command.get_ref(), &written)?),
        (None, Some(container)) => {
            Work::Container(reader.container(container.get_ref(), &written)?)
        }
        (_, both) => {
            let at = both.as_ref().map_or(0..0, Spanned::span);
            let (problem, remedy) = ("is a second kind of hook", "leave [command] or it out");
            return Err(document.error(at, "container", problem, remedy));
        }
    };
    let bytes = written.input.max_bytes.as_ref();
    let bytes = bytes.map(|bytes| reader.size("input.max_bytes", bytes, INPUT_BYTES));
    let bytes_max = bytes.transpose()?.unwrap_or(INPUT_BYTES_DEFAULT);
    Ok(Hook {
        version: reader.source.version(),
        name: written.hook.name.get_ref().clone(),
        release: written.hook.version.clone(),
        description: written.hook.description.clone(),
        globs: written.hook.globs.get_ref().clone(),
        input: InputSpec { bytes_max, pixels_max: u64::MAX },
        kind: super::Kind::Bytes,
        tiles: None,
        params: params::read(document, &written.params, settings)?,
        output: reader.program_output(&written.output)?,
        limits: reader.program_limits(&written.limits)?,
        work,
        source: reader.source.clone(),
    })
}

impl Reader<'_> {
    fn command(&self, written: &CommandTable, file: &ProgramFile) -> Result<Command, HookError> {
        Ok(Command {
            program: self.program(&written.program)?,
            arguments: self.words("command.args", &written.args)?,
            bounds: self.bounds("command", written.network, &written.environment, file)?,
        })
    }

    fn program(&self, written: &Spanned<String>) -> Result<Program, HookError> {
        let (name, path) = (written.get_ref(), Path::new(written.get_ref()));
        if self.source.files().contains_key(name) {
            return Ok(Program::OfHook(name.clone()));
        }
        let is_plain = path.components().all(|part| !matches!(part, Component::ParentDir));
        if is_plain && HOST_PROGRAMS.iter().any(|folder| path.starts_with(folder)) {
            return Ok(Program::OfHost(path.to_owned()));
        }
        let remedy = "name a file of the hook folder, or a program below /usr, /bin or /sbin";
        Err(self.wrong(written, "command.program", "is nothing that a sandbox shows", remedy))
    }

    fn container(
        &self,
        written: &ContainerTable,
        file: &ProgramFile,
    ) -> Result<Container, HookError> {
        let command = self.words("container.command", &written.command)?;
        let text = written.image.get_ref();
        let image = match Path::new(text).is_absolute() {
            true => Image::Root(text.into()),
            false => Image::Named(text.clone()),
        };
        let of_image = |remedy| {
            Err(self.wrong(
                &written.image,
                "container.image",
                "is no image of that runtime",
                remedy,
            ))
        };
        let sound = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
        if text.is_empty() || text.starts_with('-') || !text.chars().all(sound) {
            return of_image(
                "write an absolute path, or a name such as \"docker.io/library/alpine:3\"",
            );
        }
        let runtime = match written.runtime.as_ref().map(|runtime| runtime.get_ref().as_str()) {
            None | Some("auto") => Runtime::Auto,
            Some("podman") => Runtime::Podman,
            Some("docker") => Runtime::Docker,
            Some("runc") => Runtime::Runc,
            Some(_) => {
                let at = written.runtime.as_ref().unwrap_or(&written.image);
                let remedy = "write \"podman\", \"docker\", \"runc\" or \"auto\"";
                return Err(self.wrong(at, "container.runtime", "is not known", remedy));
            }
        };
        match (&image, runtime) {
            (Image::Root(_), Runtime::Podman | Runtime::Docker) => {
                return of_image("a root folder is for runc: write runtime = \"runc\"");
            }
            (Image::Named(_), Runtime::Runc) => {
                return of_image("runc takes the absolute path of a root folder");
            }
            (Image::Root(_), Runtime::Runc | Runtime::Auto) if command.is_empty() => {
                return of_image("a root folder says no command: write container.command");
            }
            (Image::Root(_) | Image::Named(_), _) => {}
        }
        let bounds = self.bounds("container", written.network, &written.environment, file)?;
        Ok(Container { image, runtime, command, bounds })
    }

    /// Arguments reach a program as they are written, so that they hold no NUL.
    fn words(&self, key: &str, words: &[Spanned<String>]) -> Result<Vec<String>, HookError> {
        let wrong = words.iter().enumerate();
        let mut wrong =
            wrong.filter(|(at, word)| *at >= ARGUMENTS_MAX || word.get_ref().contains('\0'));
        if let Some((_, word)) = wrong.next() {
            let remedy = format!("write at most {ARGUMENTS_MAX} texts without NUL");
            return Err(self.wrong(word, key, "can't be an argument", remedy));
        }
        Ok(words.iter().map(|word| word.get_ref().clone()).collect())
    }

    fn bounds(
        &self,
        table: &str,
        network: bool,
        environment: &BTreeMap<Spanned<String>, Spanned<String>>,
        file: &ProgramFile,
    ) -> Result<Bounds, HookError> {
        let limits = &file.limits;
        let key = format!("{table}.environment");
        for (name, value) in environment {
            let sound = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let text = name.get_ref();
            let is_name = !text.is_empty()
                && text.chars().all(sound)
                && !text.starts_with(OWN_VARIABLES)
                && !text.starts_with(|first: char| first.is_ascii_digit());
            if !is_name || value.get_ref().contains('\0') || environment.len() > ENVIRONMENT_MAX {
                let remedy = format!(
                    "write at most {ENVIRONMENT_MAX}, with names of A-Z, a-z, 0-9 and _ that do not begin with \
                     {OWN_VARIABLES}, and values without NUL"
                );
                return Err(self.wrong(name, key, "can't be a variable", remedy));
            }
        }
        let plain = |(name, value): (&Spanned<String>, &Spanned<String>)| {
            (name.get_ref().clone(), value.get_ref().clone())
        };
        let whole = |key: &str, value: &Option<Spanned<u32>>, bounds, default| {
            let given = value.as_ref().map(|value| self.bounded(key, value, bounds));
            Ok::<_, HookError>(given.transpose()?.unwrap_or(default))
        };
        let cpu = limits.cpu_seconds.as_ref();
        let cpu = cpu.map(|cpu| self.bounded("limits.cpu_seconds", cpu, CPU_SECONDS));
        let output = limits.output.as_ref();
        let output = output.map(|output| self.size("limits.output", output, OUTPUT));
        Ok(Bounds {
            network,
            environment: environment.iter().map(plain).collect(),
            cpu_seconds_max: cpu.transpose()?.unwrap_or(CPU_SECONDS_DEFAULT),
            processes_max: whole(
                "limits.processes",
                &limits.processes,
                PROCESSES,
                PROCESSES_DEFAULT,
            )?,
            output_bytes_max: output.transpose()?.unwrap_or(OUTPUT_DEFAULT),
            output_files_max: whole(
                "limits.output_files",
                &limits.output_files,
                OUTPUT_FILES,
                OUTPUT_FILES_DEFAULT,
            )?,
        })
    }

    fn program_output(&self, written: &Output) -> Result<OutputSpec, HookError> {
        let json = written.json.as_ref().map(Spanned::get_ref);
        let fields = self.fields(json)?;
        self.no_combine(json)?;
        if let Some(json) = written.json.as_ref().filter(|_| fields.len() > FIELDS_MAX) {
            let remedy = format!("{FIELDS_MAX} are allowed");
            return Err(self.wrong(json, "output.json.fields", "are too many", remedy));
        }
        Ok(OutputSpec { image: None, table: None, fields })
    }

    fn program_limits(&self, limits: &LimitsTable) -> Result<Limits, HookError> {
        let memory = limits.memory.as_ref();
        let memory = memory.map(|memory| self.size("limits.memory", memory, MEMORY));
        let retries = limits.retries.as_ref();
        let retries = retries.map(|retries| self.bounded("limits.retries", retries, RETRIES));
        Ok(Limits {
            run_max: self.time("limits.time_ms", &limits.time_ms, TIME_MS_DEFAULT)?,
            memory_bytes_max: memory.transpose()?.unwrap_or(MEMORY_DEFAULT),
            retries_max: retries.transpose()?.unwrap_or(RETRIES_DEFAULT),
        })
    }
}
