//! From cells, row by row, to columns of numbers.

use super::time::{TimeReader, Times};
use super::{Cell, Column, Table, bad, over};
use crate::hook::TableSpec;
use crate::protocol::Failure;

/// A number beyond it counts as missing: sums and differences of two that are within it are numbers.
const NUMBER_MAX: f64 = 1e37;

/// A table in the making.
pub(super) struct Builder<'a> {
    spec: &'a TableSpec,
    memory_bytes_max: u64,
    memory_bytes: u64,
    rows: usize,
    drafts: Vec<Draft>,
    time: Option<(usize, TimeReader)>,
    /// Whether a comma may stand for the point of a number.
    pub(super) decimal_comma: bool,
}

/// A column in the making. It is as long as the last row in which it has a cell.
struct Draft {
    name: String,
    /// Whether it is one that the hook asks for.
    wanted: bool,
    values: Vec<f32>,
    numbers: usize,
    strangers: usize,
}

impl<'a> Builder<'a> {
    pub(super) fn new(spec: &'a TableSpec, memory_bytes_max: u64) -> Self {
        Self {
            spec,
            memory_bytes_max,
            memory_bytes: 0,
            rows: 0,
            drafts: Vec::new(),
            time: None,
            decimal_comma: false,
        }
    }

    /// How many columns there are.
    pub(super) fn columns(&self) -> usize {
        self.drafts.len()
    }

    /// Refuses a file that says it holds too much, before any of it is read.
    pub(super) fn check_claim(&mut self, rows: i64, unpacked_bytes: i64) -> Result<(), Failure> {
        let (Ok(rows), Ok(bytes)) = (u64::try_from(rows), u64::try_from(unpacked_bytes)) else {
            return Err(bad("the table says that it has less than no rows"));
        };
        if rows > u64::from(self.spec.rows_max) {
            let max = self.spec.rows_max;
            return Err(over(format!("the table has {rows} rows; input.max_rows = {max}")));
        }
        self.take_memory(bytes)
    }

    /// Adds a column, on the right.
    pub(super) fn column(&mut self, name: &str) -> Result<usize, Failure> {
        let index = self.drafts.len();
        if index >= self.spec.columns_max {
            let max = self.spec.columns_max;
            return Err(over(format!("the table has more than input.max_columns = {max} columns")));
        }
        let name = match name.trim() {
            "" => format!("column_{}", index + 1),
            name => name.to_owned(),
        };
        let rank = self.spec.time_rank(&name);
        let best =
            self.time.as_ref().and_then(|(at, _)| self.spec.time_rank(&self.drafts[*at].name));
        if rank.is_some() && self.rows == 0 && best.is_none_or(|best| rank < Some(best)) {
            self.time = Some((index, TimeReader::default()));
        }
        let wanted = self.spec.wants(&name);
        self.take_memory(name.len() as u64 + size_of::<Draft>() as u64)?;
        self.drafts.push(Draft { name, wanted, values: Vec::new(), numbers: 0, strangers: 0 });
        Ok(index)
    }

    /// Begins the next row.
    pub(super) fn row(&mut self) -> Result<(), Failure> {
        if self.rows >= self.spec.rows_max as usize {
            let max = self.spec.rows_max;
            return Err(over(format!("the table has more than input.max_rows = {max} rows")));
        }
        self.rows += 1;
        if let Some((_, reader)) = &mut self.time {
            reader.row();
            self.take_memory(16)?;
        }
        Ok(())
    }

    /// Sets a cell of the row that was begun last.
    pub(super) fn cell(&mut self, column: usize, cell: Cell<'_>) -> Result<(), Failure> {
        if let Some((at, reader)) = &mut self.time
            && *at == column
        {
            reader.set(cell);
            return Ok(());
        }
        let rows = self.rows;
        let Some(draft) = self.drafts.get_mut(column).filter(|draft| draft.wanted) else {
            return Ok(());
        };
        let number = match cell {
            Cell::Missing => return Ok(()),
            Cell::Number(number) => Some(number),
            Cell::Integer(number) => Some(number as f64),
            Cell::Text(text) if text.trim().is_empty() => return Ok(()),
            Cell::Text(text) => number(text, self.decimal_comma),
            Cell::Instant(_) | Cell::Other => None,
        };
        match number {
            Some(_) => draft.numbers += 1,
            None => draft.strangers += 1,
        }
        let added = rows - draft.values.len().min(rows);
        draft.values.resize(rows, f32::NAN);
        if let Some(last) = draft.values.last_mut() {
            *last = number.map_or(f32::NAN, narrow);
        }
        // Twice: a vector that grows is copied, and the columns are packed for the GPU.
        self.take_memory(added as u64 * 8)
    }

    fn take_memory(&mut self, bytes: u64) -> Result<(), Failure> {
        self.memory_bytes = self.memory_bytes.saturating_add(bytes);
        if self.memory_bytes <= self.memory_bytes_max {
            return Ok(());
        }
        Err(over(format!(
            "the table needs more than the {} bytes of memory that the hook and its worker leave for it",
            self.memory_bytes_max
        )))
    }

    /// The table. Without a wish for certain columns, those are taken that hold more numbers than other things.
    pub(super) fn finish(mut self) -> Result<Table, Failure> {
        if self.rows == 0 {
            return Err(bad("the table has no rows"));
        }
        let time = self.time.take();
        let at = time.as_ref().map(|(at, _)| *at);
        let all = self.spec.columns.is_empty();
        let mut columns = Vec::new();
        for (index, draft) in self.drafts.drain(..).enumerate() {
            if Some(index) == at || !draft.wanted || (all && draft.numbers <= draft.strangers) {
                continue;
            }
            let Draft { name, mut values, .. } = draft;
            self.memory_bytes += (self.rows - values.len()) as u64 * 8;
            values.resize(self.rows, f32::NAN);
            columns.push(Column { name, values });
        }
        self.take_memory(0)?;
        if columns.is_empty() {
            return Err(bad(match all {
                true => "the table has no column of numbers",
                false => "the table has none of the columns that input.columns names",
            }));
        }
        let mut table = Table {
            rows: u32::try_from(self.rows).unwrap_or(u32::MAX),
            columns,
            times: None,
            untimed: 0,
        };
        if let Some((_, reader)) = time {
            in_order_of_time(&mut table, reader)?;
        }
        Ok(table)
    }
}

/// Sorts a table by its times and leaves out what has none.
fn in_order_of_time(table: &mut Table, reader: TimeReader) -> Result<(), Failure> {
    let Some((times, order)) = Times::sorted(reader) else {
        return Err(bad("the time column holds no time; write RFC 3339 or seconds since 1970"));
    };
    let sorted = order.iter().enumerate().all(|(to, from)| to == *from);
    if !sorted || order.len() < table.rows as usize {
        for column in &mut table.columns {
            column.values = order.iter().map(|from| column.values[*from]).collect();
        }
    }
    let rows = u32::try_from(order.len()).unwrap_or(u32::MAX);
    table.untimed = table.rows - rows;
    table.rows = rows;
    table.times = Some(times);
    Ok(())
}

/// A number as people write them; with a comma for the point where the comma does not part cells.
fn number(text: &str, decimal_comma: bool) -> Option<f64> {
    let text = text.trim();
    let parsed = text.parse();
    let parsed =
        if decimal_comma { parsed.or_else(|_| text.replace(',', ".").parse()) } else { parsed };
    parsed.ok()
}

/// As shaders take it: missing if it is no finite number within bounds, zero if it is too small for a normal one, which
/// drivers may take for zero.
fn narrow(number: f64) -> f32 {
    if number.is_nan() || number.abs() > NUMBER_MAX {
        return f32::NAN;
    }
    #[expect(clippy::cast_possible_truncation, reason = "within bounds, to the nearest")]
    let narrow = number as f32;
    if narrow.abs() < f32::MIN_POSITIVE { 0.0 } else { narrow }
}
