//! A derived table as a file.

use serde_json::Value;

use super::{Table, over};
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

/// Writes rows of words, as a shader leaves them. A row that names a column or a row which `table` does not have is
/// left out.
pub(crate) fn write(
    output: &TableOutput,
    words: &[u32],
    table: &Table,
) -> Result<Vec<u8>, Failure> {
    let rows = words.chunks_exact(output.columns.len().max(1));
    let cells = |row: &[u32]| -> Option<Vec<Value>> {
        let columns = output.columns.iter().zip(row);
        columns.map(|((_, kind), word)| cell(*kind, *word, table)).collect()
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

/// The value of a word; none if it names what is not there.
fn cell(kind: CellType, word: u32, table: &Table) -> Option<Value> {
    Some(match kind {
        CellType::U32 => word.into(),
        CellType::I32 => word.cast_signed().into(),
        // Not a number turns null here, the missing of JSON.
        CellType::F32 => short(f32::from_bits(word)),
        CellType::Bool => (word != 0).into(),
        CellType::Column => table.columns.get(word as usize)?.name.as_str().into(),
        CellType::Time => time(word, table)?,
    })
}

/// The time of a row, or its number where rows have no time.
fn time(row: u32, table: &Table) -> Option<Value> {
    if row >= table.rows {
        return None;
    }
    let Some(times) = &table.times else { return Some(row.into()) };
    let text = times.text(row as usize)?;
    let number = times.are_numbers().then(|| serde_json::from_str(&text).ok()).flatten();
    Some(number.unwrap_or(Value::String(text)))
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
