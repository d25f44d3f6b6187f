//! `hook.toml` as it is written. What the words mean is checked in [`super::check`].

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HookFile {
    pub(super) hook: Head,
    pub(super) input: Input,
    #[serde(default)]
    pub(super) params: BTreeMap<String, Spanned<Param>>,
    #[serde(default)]
    pub(super) buffers: BTreeMap<String, Spanned<Buffer>>,
    #[serde(default)]
    pub(super) pass: Vec<Pass>,
    pub(super) output: Spanned<Output>,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) fallback: Option<Fallback>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) name: Spanned<String>,
    pub(super) api: Spanned<u32>,
    #[serde(rename = "match")]
    pub(super) globs: Spanned<Vec<String>>,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default)]
    pub(super) version: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    pub(super) kind: Spanned<String>,
    pub(super) max_bytes: Option<Spanned<Size>>,
    pub(super) max_pixels: Option<Spanned<u64>>,
    pub(super) max_rows: Option<Spanned<u32>>,
    pub(super) max_columns: Option<Spanned<u32>>,
    pub(super) columns: Option<Spanned<Vec<String>>>,
    pub(super) time: Option<Spanned<Names>>,
    pub(super) delimiter: Option<Spanned<String>>,
    pub(super) channels: Option<Spanned<String>>,
    pub(super) max_seconds: Option<Spanned<u64>>,
    pub(super) tiles: Option<Tiles>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tiles {
    pub(super) size: Spanned<Size>,
    pub(super) overlap: Option<Spanned<Size>>,
}

/// A name, or several, the best first.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Names {
    One(String),
    Many(Vec<String>),
}

/// A number of bytes: `4096` or `"64MiB"`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Size {
    Bytes(u64),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Param {
    #[serde(rename = "type")]
    pub(super) kind: Spanned<String>,
    pub(super) default: Spanned<toml::Value>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Buffer {
    #[serde(rename = "type")]
    pub(super) kind: Spanned<String>,
    pub(super) len: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pass {
    pub(super) shader: Spanned<String>,
    pub(super) entry: Spanned<String>,
    pub(super) dispatch: [Spanned<String>; 2],
    #[serde(default)]
    pub(super) reads: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) writes: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Output {
    pub(super) image: Option<ImageOutput>,
    pub(super) json: Option<JsonOutput>,
    pub(super) table: Option<TableOutput>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageOutput {
    pub(super) suffix: Spanned<String>,
    pub(super) format: Spanned<String>,
    pub(super) quality: Option<Spanned<u8>>,
    pub(super) width: Option<Spanned<String>>,
    pub(super) height: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableOutput {
    pub(super) suffix: Spanned<String>,
    pub(super) format: Spanned<String>,
    pub(super) rows: Spanned<String>,
    pub(super) columns: Spanned<Vec<TableColumn>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableColumn {
    pub(super) name: Spanned<String>,
    #[serde(rename = "type")]
    pub(super) kind: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JsonOutput {
    pub(super) fields: BTreeMap<String, Spanned<Field>>,
}

/// A field of the JSON result: its type, or a table with its type and more.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) kind: String,
    pub(super) combine: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldTable {
    #[serde(rename = "type")]
    kind: String,
    combine: Option<Spanned<String>>,
}

// Not an untagged enumeration, which would know neither places nor names of what is wrong in it.
impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a type, or { type = .., combine = .. }")
    }

    fn visit_str<E: de::Error>(self, kind: &str) -> Result<Field, E> {
        Ok(Field { kind: kind.to_owned(), combine: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Field, A::Error> {
        let FieldTable { kind, combine } =
            FieldTable::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Field { kind, combine })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) gpu_ms: Option<Spanned<u64>>,
    pub(super) compile_ms: Option<Spanned<u64>>,
    pub(super) memory: Option<Spanned<Size>>,
    pub(super) retries: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fallback {
    pub(super) cpu: Spanned<String>,
}
