//! Tables: measurements in rows and columns, as CSV, JSON lines or Parquet. Whatever a file's bytes are, the result is
//! a table within the limits or an error.

mod build;
mod csv;
mod json;
mod parquet;
mod time;
mod write;

#[cfg(test)]
mod tests;

use crate::hook::{Shape, TableSpec};
use crate::protocol::{Failure, FailureKind};

use build::Builder;
use time::Times;

pub(crate) use write::{Labels, check_rows, write};

/// A decoded table: numbers by column, in order of time if there is a time column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    pub(crate) rows: u32,
    pub(crate) columns: Vec<Column>,
    times: Option<Times>,
    /// Rows left out because their time cannot be read.
    pub(crate) untimed: u32,
}

/// A column of numbers; what is missing is not a number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) values: Vec<f32>,
}

/// One cell as a format has it.
#[derive(Clone, Copy, Debug)]
enum Cell<'a> {
    Missing,
    Number(f64),
    Integer(i64),
    Text(&'a str),
    /// Nanoseconds since 1970.
    Instant(i128),
    /// A list, a boolean: nothing that is a number.
    Other,
}

impl Table {
    /// Reads a table of any format, by its content.
    pub(crate) fn decode(
        bytes: &[u8],
        spec: &TableSpec,
        memory_bytes_max: u64,
    ) -> Result<Self, Failure> {
        let memory = memory_bytes_max.saturating_sub(bytes.len() as u64);
        let builder = Builder::new(spec, memory);
        if bytes.starts_with(b"PAR1") {
            return parquet::read(bytes, builder);
        }
        let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let start = text.iter().find(|byte| !byte.is_ascii_whitespace());
        match start {
            None => Err(bad("the table is empty")),
            // No text has such a byte; a text in UTF-16 is full of them.
            Some(_) if text.iter().take(SNIFFED_BYTES).any(|byte| *byte == 0) => {
                Err(bad("the file is neither CSV, JSON lines nor Parquet; a text must be in UTF-8"))
            }
            Some(b'{') => json::read(text, builder),
            Some(_) => csv::read(text, spec.delimiter, builder),
        }
    }

    /// One cell: what hooks are tried on.
    #[cfg(feature = "gpu")]
    pub(crate) fn smallest() -> Self {
        let column = Column { name: "value".to_owned(), values: vec![0.0] };
        Self { rows: 1, columns: vec![column], times: None, untimed: 0 }
    }

    /// Readings that are the same each time: waves, noise, gaps and spikes.
    #[cfg(feature = "gpu")]
    pub(crate) fn readings(rows: u32, cols: u32) -> Self {
        let reading = |row: u32, col: u32| {
            let noise =
                (row.wrapping_mul(2_654_435_761) ^ col.wrapping_mul(2_246_822_519)).rotate_left(13);
            let noise = (noise.wrapping_mul(3_266_489_917) >> 16) as f32 / 65_536.0;
            let wave = (row as f32 / 500.0).sin() * 10.0 + noise;
            match row % 997 {
                13 => f32::NAN,
                600 => wave + 50.0,
                _ => wave,
            }
        };
        let column = |col| Column {
            name: format!("sensor_{col}"),
            values: (0..rows).map(|row| reading(row, col)).collect(),
        };
        Self { rows, columns: (0..cols).map(column).collect(), times: None, untimed: 0 }
    }

    /// Its size, as expressions see it.
    pub(crate) fn shape(&self) -> Shape {
        let cols = u32::try_from(self.columns.len()).unwrap_or(u32::MAX);
        Shape::Table { rows: self.rows, cols, seconds: self.seconds_max() }
    }

    /// The size of some of its rows.
    #[cfg(feature = "gpu")]
    pub(crate) fn shape_of_rows(&self, start: u32, rows: u32) -> Shape {
        let cols = u32::try_from(self.columns.len()).unwrap_or(u32::MAX);
        let range = start as usize..(start + rows) as usize;
        let seconds = self.times.as_ref().map(|times| times.seconds_of(range));
        Shape::Table { rows, cols, seconds }
    }

    /// Some of its rows.
    #[cfg(feature = "gpu")]
    pub(crate) fn with_rows(&self, start: u32, rows: u32) -> Self {
        let range = start as usize..(start + rows) as usize;
        let column = |column: &Column| Column {
            name: column.name.clone(),
            values: column.values.get(range.clone()).unwrap_or_default().to_vec(),
        };
        let times = self.times.as_ref().map(|times| times.with_rows(range.clone()));
        Self {
            rows,
            columns: self.columns.iter().map(column).collect(),
            times,
            untimed: self.untimed,
        }
    }

    /// Seconds from the first row to each row.
    pub(crate) fn seconds(&self) -> Option<Vec<f32>> {
        self.times.as_ref().map(Times::seconds)
    }

    /// Seconds from the first row to the last.
    fn seconds_max(&self) -> Option<f32> {
        self.times.as_ref().map(Times::last_second)
    }

    /// What the shaders see: the values column by column, then a bit for each that is there, each column from a new
    /// word, then the seconds.
    #[cfg(feature = "gpu")]
    pub(crate) fn words(&self) -> Vec<u32> {
        let values = self.columns.iter().flat_map(|column| &column.values);
        let there = self.columns.iter().flat_map(|column| column.values.chunks(32).map(bits));
        let seconds = self.seconds().unwrap_or_default();
        let values = values.map(|value| if value.is_nan() { 0 } else { value.to_bits() });
        values.chain(there).chain(seconds.iter().map(|second| second.to_bits())).collect()
    }
}

/// How much of a file decides what it is.
const SNIFFED_BYTES: usize = 8 << 10;

#[cfg(feature = "gpu")]
fn bits(values: &[f32]) -> u32 {
    (0..).zip(values).fold(0, |word, (at, value): (u32, _)| word | u32::from(!value.is_nan()) << at)
}

fn bad(detail: impl ToString) -> Failure {
    Failure::new(FailureKind::BadInput, detail)
}

fn over(detail: impl ToString) -> Failure {
    Failure::new(FailureKind::OverLimit, detail)
}
