//! The parts of `hook.toml` that are about tables: `[input]` with `kind = "table"` and `[output.table]`.

use std::ops::RangeInclusive;

use toml::Spanned;

use super::check::Reader;
use super::{Expr, HookError, Kind, check_identifier, file};

const ROWS_DEFAULT: u32 = 1_000_000;
const ROWS: RangeInclusive<u64> = 1..=1 << 28;
const COLUMNS_DEFAULT: u32 = 256;
const COLUMNS: RangeInclusive<u64> = 1..=16_384;
const CELLS_OF_A_ROW: RangeInclusive<usize> = 1..=64;

/// How a hook takes tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSpec {
    /// Most rows.
    pub rows_max: u32,
    /// Most columns, of any type.
    pub columns_max: usize,
    /// Globs of the columns it looks at; all that hold numbers if there is none.
    pub columns: Vec<String>,
    /// Names of the column with the times, the best first.
    pub time: Vec<String>,
    /// What parts the cells of CSV, if the file is not to tell.
    pub delimiter: Option<u8>,
}

/// A derived table.
#[derive(Clone, Debug)]
pub struct TableOutput {
    /// What its name ends with, in place of the extension of the original.
    pub suffix: String,
    /// How it is written.
    pub format: TableFormat,
    /// How many rows it has at most.
    pub(crate) rows: Expr,
    /// Its columns, from the left.
    pub(crate) columns: Vec<(String, CellType)>,
}

/// How a derived table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// With a row of names.
    Csv,
    /// An object a line.
    JsonLines,
}

impl TableFormat {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::JsonLines => "application/x-ndjson",
        }
    }
}

/// What a shader's word in a derived table means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CellType {
    U32,
    I32,
    F32,
    Bool,
    /// The position of an input's column, written as its name.
    Column,
    /// The position of an input's row or frame, written as its time.
    Time,
    /// The position of an input's row, frame or byte, written as its number.
    Position,
}

impl CellType {
    /// Its type in WGSL.
    #[cfg(feature = "gpu")]
    pub(crate) fn wgsl(self) -> &'static str {
        match self {
            Self::U32 | Self::Bool | Self::Column | Self::Time | Self::Position => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
        }
    }

    const ALL: [(&str, Self); 7] = [
        ("u32", Self::U32),
        ("i32", Self::I32),
        ("f32", Self::F32),
        ("bool", Self::Bool),
        ("column", Self::Column),
        ("time", Self::Time),
        ("position", Self::Position),
    ];

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, cell)| *cell)
    }

    /// Whether the word of such a cell can point into an input of that kind.
    fn is_of(self, kind: &Kind) -> bool {
        match self {
            Self::U32 | Self::I32 | Self::F32 | Self::Bool | Self::Position => true,
            Self::Column => matches!(kind, Kind::Table(_)),
            Self::Time => matches!(kind, Kind::Table(_) | Kind::Audio(_)),
        }
    }
}

impl TableSpec {
    /// Whether the hook looks at a column, if it holds numbers.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.columns.is_empty() || self.columns.iter().any(|glob| matches(glob, name))
    }

    /// How good a name this is for the column with the times; the lower the better.
    pub(crate) fn time_rank(&self, name: &str) -> Option<usize> {
        self.time.iter().position(|time| time.eq_ignore_ascii_case(name))
    }
}

/// Whether a name is what a glob says, in which `*` stands for any characters.
fn matches(glob: &str, name: &str) -> bool {
    let Some((start, rest)) = glob.split_once('*') else { return glob == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return name.ends_with(part);
        }
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    true
}

impl Reader<'_> {
    /// What is special to tables in `[input]`.
    pub(super) fn table_input(&self, input: &file::Input) -> Result<TableSpec, HookError> {
        let bounded = |key: &str, value: &Option<Spanned<u32>>, bounds, default| {
            let value = value.as_ref().map(|value| self.bounded(key, value, bounds)).transpose()?;
            Ok::<_, HookError>(value.unwrap_or(default))
        };
        let delimiter = input.delimiter.as_ref().map(|text| match text.get_ref().as_bytes() {
            [byte] if byte.is_ascii() && !b"\"\r\n".contains(byte) => Ok(*byte),
            _ => {
                let remedy = "write one character, such as \";\" or \"\\t\"";
                Err(self.wrong(text, "input.delimiter", "parts no cells", remedy))
            }
        });
        let columns = input.columns.as_ref();
        if let Some(columns) = columns.filter(|columns| columns.get_ref().is_empty()) {
            let remedy = "name columns, or leave it out for all that hold numbers";
            return Err(self.wrong(columns, "input.columns", "names no column", remedy));
        }
        let time = input.time.as_ref().map(|time| match time.get_ref() {
            file::Names::One(name) => vec![name.clone()],
            file::Names::Many(names) => names.clone(),
        });
        Ok(TableSpec {
            rows_max: bounded("input.max_rows", &input.max_rows, ROWS, ROWS_DEFAULT)?,
            columns_max: bounded("input.max_columns", &input.max_columns, COLUMNS, COLUMNS_DEFAULT)?
                as usize,
            columns: columns.map(|columns| columns.get_ref().clone()).unwrap_or_default(),
            time: time.unwrap_or_default(),
            delimiter: delimiter.transpose()?,
        })
    }

    /// `[output.table]`.
    pub(super) fn table_output(
        &self,
        table: &file::TableOutput,
        kind: &Kind,
        names: &[String],
    ) -> Result<TableOutput, HookError> {
        let key = "output.table.suffix";
        let suffix = self.suffix(key, &table.suffix)?;
        let format = match table.format.get_ref().as_str() {
            "csv" => TableFormat::Csv,
            "jsonl" => TableFormat::JsonLines,
            _ => {
                let remedy = "the formats are \"csv\" and \"jsonl\"";
                let key = "output.table.format";
                return Err(self.wrong(&table.format, key, "cannot be written", remedy));
            }
        };
        let count = table.columns.get_ref().len();
        if !CELLS_OF_A_ROW.contains(&count) {
            let remedy = format!("write 1 to {}", CELLS_OF_A_ROW.end());
            let key = "output.table.columns";
            return Err(self.wrong(&table.columns, key, "are too few or too many", remedy));
        }
        let mut columns: Vec<(String, CellType)> = Vec::new();
        for column in table.columns.get_ref() {
            let name = column.name.get_ref();
            let key = format!("output.table.columns.{name}");
            check_identifier(self.document, column.name.span(), key.clone(), name, &[])?;
            if columns.iter().any(|(other, _)| other == name) {
                return Err(self.wrong(
                    &column.name,
                    key,
                    "is there twice",
                    "rename one of the two",
                ));
            }
            let cell = CellType::parse(column.kind.get_ref()).filter(|cell| cell.is_of(kind));
            let cell = cell.ok_or_else(|| {
                let of_kind = CellType::ALL.iter().filter(|(_, cell)| cell.is_of(kind));
                let known: Vec<_> = of_kind.map(|(name, _)| *name).collect();
                let remedy = format!("the types are {}", known.join(", "));
                let problem = format!("is not a type of what is made of {}", kind.plural());
                self.wrong(&column.kind, key, problem, remedy)
            })?;
            columns.push((name.clone(), cell));
        }
        let rows = self.expr("output.table.rows", &table.rows, names)?;
        Ok(TableOutput { suffix, format, rows, columns })
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (glob, name, expected) in [
            ("temperature", "temperature", true),
            ("temperature", "temperature_2", false),
            ("temp*", "temp", true),
            ("*_c", "inlet_c", true),
            ("*_c", "inlet_k", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(glob, name), expected, "{glob} {name}");
        }
    }
}
