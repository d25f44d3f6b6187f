//! `[input.tiles]`: files that are looked at piece by piece, and how what is said of the pieces becomes one.

use std::ops::RangeInclusive;

use toml::Spanned;

use super::check::{GIB, Reader};
use super::file::{self, Size};
use super::{Expr, FieldType, HookError, Kind, OutputSpec};

/// Bounds of `size`, and what it counts.
const PIXELS: (RangeInclusive<u64>, &str) = (16..=16_384, "pixels of a side");
const ROWS: (RangeInclusive<u64>, &str) = (16..=1 << 28, "rows");
const FRAMES: (RangeInclusive<u64>, &str) = (256..=1 << 28, "frames");
const BYTES: (RangeInclusive<u64>, &str) = (1_024..=GIB, "bytes");
const _: () = assert!(3 * GIB < 1 << 32, "a tile with what overlaps on both sides can be counted");

/// How a file is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// Pixels of a side, rows, frames or bytes, without what overlaps.
    pub size: u32,
    /// So many more are seen on each side where the file has them.
    pub overlap: u32,
    /// How the fields of the JSON result become one, in their order.
    pub combine: Vec<Combine>,
}

/// How the values of all tiles become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// Their sum.
    Sum,
    /// The lowest.
    Min,
    /// The highest.
    Max,
    /// Whether one of them is true.
    Any,
    /// Whether all of them are true.
    All,
}

impl Combine {
    const KNOWN: [(&str, Self); 5] = [
        ("sum", Self::Sum),
        ("min", Self::Min),
        ("max", Self::Max),
        ("any", Self::Any),
        ("all", Self::All),
    ];

    fn is_for(self, field: FieldType) -> bool {
        let of_bools = matches!(self, Self::Any | Self::All);
        of_bools == (field == FieldType::Bool)
    }

    fn names_for(field: FieldType) -> String {
        let known = Self::KNOWN.iter().filter(|(_, combine)| combine.is_for(field));
        known.map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(" or ")
    }
}

impl Reader<'_> {
    /// How files are cut; none if they are looked at as a whole.
    pub(super) fn tiles(
        &self,
        written: &file::HookFile,
        kind: &Kind,
        output: &OutputSpec,
    ) -> Result<Option<Tiles>, HookError> {
        let json = written.output.get_ref().json.as_ref();
        let Some(tiles) = &written.input.tiles else {
            return self.no_combine(json).map(|()| None);
        };
        let (bounds, unit) = match kind {
            Kind::Image => PIXELS,
            Kind::Table(_) => ROWS,
            Kind::Audio(_) => FRAMES,
            Kind::Bytes => BYTES,
        };
        let size = self.tile_size("input.tiles.size", &tiles.size, kind, bounds, unit)?;
        let overlap = tiles.overlap.as_ref().map(|overlap| {
            let bounds = 0..=u64::from(size);
            self.tile_size("input.tiles.overlap", overlap, kind, bounds, unit)
        });
        self.is_as_large_as_a_tile(&written.output.get_ref().image, output)?;
        if let Some(fallback) = &written.fallback {
            let remedy = "leave it or [input.tiles] out";
            let problem = "looks at whole files";
            return Err(self.wrong(&fallback.cpu, "fallback.cpu", problem, remedy));
        }
        let combine = self.combine(json, &output.fields)?;
        Ok(Some(Tiles { size, overlap: overlap.transpose()?.unwrap_or(0), combine }))
    }

    fn tile_size(
        &self,
        key: &str,
        size: &Spanned<Size>,
        kind: &Kind,
        bounds: RangeInclusive<u64>,
        unit: &str,
    ) -> Result<u32, HookError> {
        let count = match (size.get_ref(), kind) {
            (Size::Bytes(count), _) if bounds.contains(count) => u32::try_from(*count).ok(),
            (Size::Text(_), Kind::Bytes) => {
                return self
                    .size(key, size, bounds)
                    .map(|count| u32::try_from(count).unwrap_or(u32::MAX));
            }
            (Size::Bytes(_) | Size::Text(_), _) => None,
        };
        count.ok_or_else(|| {
            let remedy = format!("use {} to {} {unit}", bounds.start(), bounds.end());
            self.wrong(size, key, "is out of range", remedy)
        })
    }

    /// A picture is put together of tiles, each of which gives its own part and nothing else.
    fn is_as_large_as_a_tile(
        &self,
        written: &Option<file::ImageOutput>,
        output: &OutputSpec,
    ) -> Result<(), HookError> {
        let (Some(written), Some(image)) = (written, &output.image) else { return Ok(()) };
        let sides = [
            ("width", &written.width, &image.width, 0),
            ("height", &written.height, &image.height, 1),
        ];
        for (side, text, expr, position) in sides {
            if let Some(text) = text.as_ref().filter(|_| *expr != Expr::variable(position)) {
                let key = format!("output.image.{side}");
                let remedy = "leave it out: what is made of tiles is as large as the whole";
                return Err(self.wrong(text, key, "is not the size of a tile", remedy));
            }
        }
        Ok(())
    }

    fn combine(
        &self,
        json: Option<&file::JsonOutput>,
        fields: &[(String, FieldType)],
    ) -> Result<Vec<Combine>, HookError> {
        let written = json.iter().flat_map(|json| &json.fields);
        let combine = written.zip(fields).map(|((name, field), (_, kind))| {
            let key = format!("output.json.fields.{name}");
            let names = Combine::names_for(*kind);
            let Some(combine) = &field.get_ref().combine else {
                let problem = "does not say how the values of all tiles become one";
                let remedy = format!(
                    "write {{ type = \"{}\", combine = .. }} with {names}",
                    field.get_ref().kind
                );
                return Err(self.wrong(field, key, problem, remedy));
            };
            let known = Combine::KNOWN.iter().find(|(known, _)| known == combine.get_ref());
            known.map(|(_, combine)| *combine).filter(|combine| combine.is_for(*kind)).ok_or_else(
                || {
                    let problem = format!("makes no {} of several", field.get_ref().kind);
                    self.wrong(combine, format!("{key}.combine"), problem, format!("use {names}"))
                },
            )
        });
        combine.collect()
    }

    /// Without tiles there is nothing to combine.
    pub(super) fn no_combine(&self, json: Option<&file::JsonOutput>) -> Result<(), HookError> {
        let fields = json.iter().flat_map(|json| &json.fields);
        let mut combined =
            fields.filter_map(|(name, field)| Some((name, field.get_ref().combine.as_ref()?)));
        let Some((name, combine)) = combined.next() else { return Ok(()) };
        let key = format!("output.json.fields.{name}.combine");
        let remedy = "leave it out, or write [input.tiles]";
        Err(self.wrong(combine, key, "is for hooks with tiles only", remedy))
    }
}
