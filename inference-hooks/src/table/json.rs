//! JSON lines: an object a line, whose keys name the columns.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::build::Builder;
use super::{Cell, Table, bad, over};
use crate::protocol::Failure;

/// A parsed line takes several times its length.
const LINE_BYTES_MAX: usize = 1 << 20;

pub(super) fn read(text: &[u8], mut builder: Builder<'_>) -> Result<Table, Failure> {
    let mut columns = BTreeMap::new();
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if line.len() > LINE_BYTES_MAX {
            let max = LINE_BYTES_MAX;
            return Err(over(format!(
                "line {number} of the JSON lines is longer than {max} bytes"
            )));
        }
        let object: Map<String, Value> = serde_json::from_slice(line).map_err(|error| {
            bad(format!("line {number} of the JSON lines is no object: {error}"))
        })?;
        // Names that come with the first row are known before the row begins: one of them may be the time.
        for name in object.keys() {
            if !columns.contains_key(name) {
                columns.insert(name.clone(), builder.column(name)?);
            }
        }
        builder.row()?;
        for (name, value) in &object {
            builder.cell(columns[name], cell(value))?;
        }
    }
    builder.finish()
}

fn cell(value: &Value) -> Cell<'_> {
    match value {
        Value::Null => Cell::Missing,
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Cell::Integer(whole),
            (None, Some(number)) => Cell::Number(number),
            (None, None) => Cell::Other,
        },
        Value::String(text) => Cell::Text(text),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => Cell::Other,
    }
}
