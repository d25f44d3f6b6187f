//! The kinds of input that shaders look at, and what each of them brings along: options, names in expressions and
//! functions.

use std::ops::RangeInclusive;

use toml::Spanned;

use super::check::Reader;
use super::shape::{AUDIO_NAMES, BYTES_NAMES, IMAGE_NAMES, TABLE_NAMES};
use super::{HookError, TableSpec, file};

const SECONDS_DEFAULT: u64 = 3_600;
const SECONDS: RangeInclusive<u64> = 1..=1_000_000;

/// What kind of file a hook takes, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A picture, decoded.
    Image,
    /// A table, decoded.
    Table(TableSpec),
    /// Sound, decoded.
    Audio(AudioSpec),
    /// Any file, as it is.
    Bytes,
}

/// How a hook takes sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioSpec {
    /// Which channels it looks at.
    pub channels: Channels,
    /// The longest that is taken.
    pub seconds_max: u64,
}

/// Which channels of a sound a hook looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// All, each by itself.
    All,
    /// One, the mean of all.
    Mono,
}

impl Kind {
    /// What a file of this kind is called where many are meant.
    pub(super) fn plural(&self) -> &'static str {
        match self {
            Self::Image => "pictures",
            Self::Table(_) => "tables",
            Self::Audio(_) => "sound",
            Self::Bytes => "bytes",
        }
    }

    /// The first names of its expressions.
    pub(super) fn names(&self) -> &'static [&'static str] {
        match self {
            Self::Image => IMAGE_NAMES,
            Self::Table(_) => TABLE_NAMES,
            Self::Audio(_) => AUDIO_NAMES,
            Self::Bytes => BYTES_NAMES,
        }
    }

    /// The last names of its expressions for dispatches and buffers.
    pub(super) fn output_names(&self) -> &'static [&'static str] {
        match self {
            Self::Image => &["out_width", "out_height"],
            Self::Table(_) | Self::Audio(_) | Self::Bytes => &["out_rows"],
        }
    }

    /// The generated functions of its shaders that have no name of the hook's own.
    pub(super) fn functions(&self) -> &'static [&'static str] {
        match self {
            Self::Image | Self::Table(_) => &[],
            Self::Audio(_) => &["sample"],
            Self::Bytes => &["byte"],
        }
    }
}

impl Reader<'_> {
    /// `input.kind` and the options that go with it.
    pub(super) fn kind(&self, input: &file::Input) -> Result<Kind, HookError> {
        let name = input.kind.get_ref().as_str();
        let kind = match name {
            "image" => Kind::Image,
            "table" => Kind::Table(self.table_input(input)?),
            "audio" => Kind::Audio(self.audio_input(input)?),
            "bytes" => Kind::Bytes,
            _ => {
                let remedy = "the kinds are \"image\", \"table\", \"audio\" and \"bytes\"";
                return Err(self.wrong(&input.kind, "input.kind", "is not supported", remedy));
            }
        };
        self.no_strange_options(input, name)?;
        Ok(kind)
    }

    fn audio_input(&self, input: &file::Input) -> Result<AudioSpec, HookError> {
        let channels = input.channels.as_ref().map(|channels| match channels.get_ref().as_str() {
            "all" => Ok(Channels::All),
            "mono" => Ok(Channels::Mono),
            _ => {
                let remedy = "write \"all\", or \"mono\" for the mean of all";
                Err(self.wrong(channels, "input.channels", "is no choice of channels", remedy))
            }
        });
        let seconds = input.max_seconds.as_ref();
        let seconds = seconds.map(|seconds| self.bounded("input.max_seconds", seconds, SECONDS));
        Ok(AudioSpec {
            channels: channels.transpose()?.unwrap_or(Channels::All),
            seconds_max: seconds.transpose()?.unwrap_or(SECONDS_DEFAULT),
        })
    }

    /// Options that mean something for another kind only.
    fn no_strange_options(&self, input: &file::Input, kind: &str) -> Result<(), HookError> {
        let options = [
            ("max_pixels", "image", "pictures", input.max_pixels.as_ref().map(Spanned::span)),
            ("max_rows", "table", "tables", input.max_rows.as_ref().map(Spanned::span)),
            ("max_columns", "table", "tables", input.max_columns.as_ref().map(Spanned::span)),
            ("columns", "table", "tables", input.columns.as_ref().map(Spanned::span)),
            ("time", "table", "tables", input.time.as_ref().map(Spanned::span)),
            ("delimiter", "table", "tables", input.delimiter.as_ref().map(Spanned::span)),
            ("channels", "audio", "sound", input.channels.as_ref().map(Spanned::span)),
            ("max_seconds", "audio", "sound", input.max_seconds.as_ref().map(Spanned::span)),
        ];
        let strange = options.into_iter().filter(|(_, of, ..)| *of != kind);
        let found = strange.filter_map(|(key, of, many, span)| Some((key, of, many, span?))).next();
        let Some((key, of, many, span)) = found else { return Ok(()) };
        let problem = format!("is for {many} only");
        let remedy = format!("leave it out, or write kind = \"{of}\"");
        Err(self.document.error(span, format!("input.{key}"), problem, remedy))
    }
}
