//! Parquet, flat: columns within columns are left out.

use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

use super::build::Builder;
use super::{Cell, Table, bad};
use crate::protocol::Failure;

pub(super) fn read(bytes: &[u8], builder: Builder<'_>) -> Result<Table, Failure> {
    // The decoder trusts lengths here and there, and panics where they lie.
    let read = AssertUnwindSafe(|| read_trusting(bytes, builder));
    catch_unwind(read).unwrap_or_else(|_| Err(bad("the Parquet file is damaged")))
}

fn read_trusting(bytes: &[u8], mut builder: Builder<'_>) -> Result<Table, Failure> {
    let failed = |error: ParquetError| bad(format!("the Parquet file cannot be read: {error}"));
    let reader = SerializedFileReader::new(bytes::Bytes::copy_from_slice(bytes)).map_err(failed)?;
    let metadata = reader.metadata();
    let unpacked = metadata.row_groups().iter().map(|group| group.total_byte_size());
    builder.check_claim(metadata.file_metadata().num_rows(), unpacked.max().unwrap_or_default())?;
    for field in metadata.file_metadata().schema_descr().root_schema().get_fields() {
        builder.column(field.name())?;
    }
    for row in reader.get_row_iter(None).map_err(failed)? {
        let row = row.map_err(failed)?;
        builder.row()?;
        for (column, (_, field)) in row.get_column_iter().enumerate() {
            builder.cell(column, cell(field))?;
        }
    }
    builder.finish()
}

fn cell(field: &Field) -> Cell<'_> {
    const DAY_NANOS: i128 = 86_400_000_000_000;
    match field {
        Field::Null => Cell::Missing,
        Field::Byte(number) => Cell::Integer((*number).into()),
        Field::Short(number) => Cell::Integer((*number).into()),
        Field::Int(number) => Cell::Integer((*number).into()),
        Field::Long(number) => Cell::Integer(*number),
        Field::UByte(number) => Cell::Integer((*number).into()),
        Field::UShort(number) => Cell::Integer((*number).into()),
        Field::UInt(number) => Cell::Integer((*number).into()),
        Field::ULong(number) => Cell::Number(*number as f64),
        Field::Float16(number) => Cell::Number(number.to_f64()),
        Field::Float(number) => Cell::Number((*number).into()),
        Field::Double(number) => Cell::Number(*number),
        Field::Str(text) => Cell::Text(text),
        Field::Date(days) => Cell::Instant(i128::from(*days) * DAY_NANOS),
        Field::TimestampMillis(millis) => Cell::Instant(i128::from(*millis) * 1_000_000),
        Field::TimestampMicros(micros) => Cell::Instant(i128::from(*micros) * 1_000),
        Field::Bool(_)
        | Field::Decimal(_)
        | Field::Bytes(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::Group(_)
        | Field::ListInternal(_)
        | Field::MapInternal(_) => Cell::Other,
    }
}
