//! A derived table as a file.

use serde_json::Value;

use super::{Table, over};
use crate::audio::Format;
use crate::hook::{CellType, TableFormat, TableOutput};
use crate::protocol::{Failure, FailureKind};

/// Most rows of a derived table.
const ROWS_MAX: u32 = 1 << 20;

/// Whether a derived table may have so many rows.
pub(crate) fn check_rows(rows: u32) -> Result<(), Failure> {
    if rows <= ROWS_MAX {
        return Ok(());
    }
    Err(over(format!(
        "output.table.rows gives {rows} rows for this file; at most {ROWS_MAX} are written: use larger windows"
    )))
}

/// What the words of a derived table point into, and what stands there; nothing beyond its end.
pub(crate) trait Labels {
    /// How many rows, frames or bytes there are.
    fn positions(&self) -> u32;

    /// The name of a column.
    fn column(&self, _at: u32) -> Option<Value> {
        None
    }

    /// The time of a row or frame.
    fn time(&self, _at: u32) -> Option<Value> {
        None
    }
}

impl Labels for Table {
    fn positions(&self) -> u32 {
        self.rows
    }

    fn column(&self, at: u32) -> Option<Value> {
        Some(self.columns.get(at as usize)?.name.as_str().into())
    }

    /// The number of the row where rows have no time.
    fn time(&self, at: u32) -> Option<Value> {
        if at >= self.rows {
            return None;
        }
        let Some(times) = &self.times else { return Some(at.into()) };
        let text = times.text(at as usize)?;
        let number = times.are_numbers().then(|| serde_json::from_str(&text).ok()).flatten();
        Some(number.unwrap_or(Value::String(text)))
    }
}

impl Labels for Format {
    fn positions(&self) -> u32 {
        self.frames
    }

    /// In seconds, to the microsecond.
    fn time(&self, at: u32) -> Option<Value> {
        let micros = f64::from(at) * 1e6 / f64::from(self.sample_rate);
        (at < self.frames).then(|| (micros.round() / 1e6).into())
    }
}

/// Bytes, so many.
impl Labels for u32 {
    fn positions(&self) -> u32 {
        *self
    }
}

/// Writes rows of words, as a shader leaves them. A row that points to what is not there is left out.
pub(crate) fn write(
    output: &TableOutput,
    words: &[u32],
    labels: &dyn Labels,
) -> Result<Vec<u8>, Failure> {
    let rows = words.chunks_exact(output.columns.len().max(1));
    let cells = |row: &[u32]| -> Option<Vec<Value>> {
        let columns = output.columns.iter().zip(row);
        columns.map(|((_, kind), word)| cell(*kind, *word, labels)).collect()
    };
    let rows = rows.filter_map(cells);
    let failed = |error: &dyn std::error::Error| {
        Failure::new(
            FailureKind::Unreadable,
            format!("the derived table cannot be written: {error}"),
        )
    };
    match output.format {
        TableFormat::Csv => {
            let mut writer = csv::Writer::from_writer(Vec::new());
            let names = output.columns.iter().map(|(name, _)| name);
            writer.write_record(names).map_err(|error| failed(&error))?;
            for row in rows {
                writer.write_record(row.iter().map(plain)).map_err(|error| failed(&error))?;
            }
            writer.into_inner().map_err(|error| failed(&error))
        }
        TableFormat::JsonLines => {
            let mut text = String::new();
            for row in rows {
                let named = output.columns.iter().zip(row);
                let cells = named.map(|((name, _), cell)| format!("\"{name}\":{cell}"));
                text.push_str(&format!("{{{}}}\n", cells.collect::<Vec<_>>().join(",")));
            }
            Ok(text.into_bytes())
        }
    }
}

/// The value of a word; none if it points to what is not there.
fn cell(kind: CellType, word: u32, labels: &dyn Labels) -> Option<Value> {
    Some(match kind {
        CellType::U32 => word.into(),
        CellType::I32 => word.cast_signed().into(),
        // Not a number turns null here, the missing of JSON.
        CellType::F32 => short(f32::from_bits(word)),
        CellType::Bool => (word != 0).into(),
        CellType::Column => labels.column(word)?,
        CellType::Time => labels.time(word)?,
        CellType::Position => (word < labels.positions()).then(|| word.into())?,
    })
}

/// A number with the digits that tell it from its neighbours in 32 bits, and no more.
fn short(number: f32) -> Value {
    number.to_string().parse::<f64>().ok().filter(|number| number.is_finite()).into()
}

fn plain(cell: &Value) -> String {
    match cell {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => cell.to_string(),
    }
}
