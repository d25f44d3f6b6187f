//! CSV with a row of names: quoted or plain, whatever parts the cells, whatever ends the lines.

use csv::{ByteRecord, ReaderBuilder};

use super::build::Builder;
use super::{Cell, SNIFFED_BYTES, Table, bad};
use crate::protocol::Failure;

const DELIMITERS: [u8; 4] = *b",;\t|";

/// Cells that rows lack are missing; cells beyond the last name are left out.
pub(super) fn read(
    text: &[u8],
    delimiter: Option<u8>,
    mut builder: Builder<'_>,
) -> Result<Table, Failure> {
    let delimiter = delimiter.unwrap_or_else(|| sniff(text));
    builder.decimal_comma = delimiter != b',';
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .has_headers(false)
        .from_reader(text);
    let failed = |error| bad(format!("the CSV cannot be read: {error}"));
    let mut record = ByteRecord::new();
    if !reader.read_byte_record(&mut record).map_err(failed)? {
        return Err(bad("the table is empty"));
    }
    for name in &record {
        builder.column(&String::from_utf8_lossy(name))?;
    }
    let is_number =
        |cell: &[u8]| str::from_utf8(cell).is_ok_and(|cell| cell.trim().parse::<f64>().is_ok());
    if record.iter().all(is_number) {
        return Err(bad(
            "the first row of the CSV holds numbers; the names of the columns must stand there",
        ));
    }
    while reader.read_byte_record(&mut record).map_err(failed)? {
        builder.row()?;
        for (column, cell) in record.iter().enumerate().take(builder.columns()) {
            let cell = str::from_utf8(cell).map_or(Cell::Other, Cell::Text);
            builder.cell(column, cell)?;
        }
    }
    builder.finish()
}

/// The delimiter that stands most often in the first line, outside of quotes.
fn sniff(text: &[u8]) -> u8 {
    let mut counts = [0_usize; DELIMITERS.len()];
    let mut quoted = false;
    for byte in text.iter().take(SNIFFED_BYTES) {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted && counts != [0; DELIMITERS.len()] => break,
            byte if !quoted => {
                let which = DELIMITERS.iter().position(|delimiter| delimiter == byte);
                which.into_iter().for_each(|which| counts[which] += 1);
            }
            _ => {}
        }
    }
    let most = counts.iter().max().copied().unwrap_or_default();
    let first = counts.iter().position(|count| *count == most).unwrap_or_default();
    DELIMITERS[first]
}
