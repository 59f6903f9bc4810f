//! Rows of a Parquet table, the format in which most published datasets are stored.
//!
//! Only the columns that rows are made of are decoded, and each row takes the same way as one of JSON.
//! Uncompressed, snappy and gzip pages are read; others would need a C library.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use super::limits::{MAX_COLUMNS, MAX_DATA_BYTES};
use super::read::{DatasetError, Sink};
use super::row::{Place, record_of};

/// The columns that are read, where a table has them.
const COLUMNS: [&str; 4] = ["messages", "prompt", "completion", "text"];

/// Reads the rows of every group in order.
pub(super) fn read(source: &mut impl Read, sink: &mut Sink) -> Result<(), DatasetError> {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).map_err(|e| sink.io(e))?;
    // The library checks files in many places and trusts them in some. A file it trips over is as
    // damaged as one it refuses.
    let read = catch_unwind(AssertUnwindSafe(|| rows(Bytes::from(bytes), sink)));
    match read {
        Ok(done) => done,
        Err(_) => Err(sink.malformed("its content contradicts its header")),
    }
}

fn rows(bytes: Bytes, sink: &mut Sink) -> Result<(), DatasetError> {
    let damaged = |sink: &Sink, e: ParquetError| sink.malformed(e);
    let reader = SerializedFileReader::new(bytes).map_err(|e| damaged(sink, e))?;
    let metadata = reader.metadata();
    let groups = metadata.row_groups().iter();
    let unpacked: u64 = groups
        .map(RowGroupMetaData::total_byte_size)
        .map(|n| n.max(0) as u64)
        .sum();
    if unpacked > MAX_DATA_BYTES {
        let why = format!("unpacked it has {unpacked} bytes, more than {MAX_DATA_BYTES}");
        return Err(sink.malformed(why));
    }
    let schema = metadata.file_metadata().schema();
    let projection = project(schema).map_err(|why| sink.malformed(why))?;
    let rows = reader
        .get_row_iter(Some(projection))
        .map_err(|e| damaged(sink, e))?;
    for (index, row) in rows.enumerate() {
        let row = row.map_err(|e| damaged(sink, e))?;
        sink.add(Place::Row(index as u64 + 1), record_of(object(&row)))?;
    }
    Ok(())
}

/// The schema of the columns that are read.
fn project(schema: &Type) -> Result<Type, String> {
    let fields = schema.get_fields();
    if fields.len() > MAX_COLUMNS {
        return Err(format!("it has more than {MAX_COLUMNS} columns"));
    }
    let wanted: Vec<_> = (fields.iter())
        .filter(|field| COLUMNS.contains(&field.name()))
        .cloned()
        .collect();
    if wanted.is_empty() {
        let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
        let shown: String = names.join(", ").chars().take(200).collect();
        return Err(format!(
            "its columns ({shown}) are neither \"messages\", \"prompt\" and \"completion\", nor \
             \"text\""
        ));
    }
    let builder = Type::group_type_builder(schema.name()).with_fields(wanted);
    builder.build().map_err(|e| e.to_string())
}

fn object(row: &Row) -> Map<String, Value> {
    let columns = row.get_column_iter();
    columns
        .map(|(name, field)| (name.clone(), value(field)))
        .collect()
}

/// What `record_of` needs to know of a field: strings, lists, groups, and the kind of anything else.
fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(yes) => Value::Bool(*yes),
        Field::Str(text) => Value::String(text.clone()),
        // Some writers do not mark their strings as such.
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Value::String(text.into()),
            Err(_) => Value::from(0),
        },
        Field::Group(row) => Value::Object(object(row)),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        _ => Value::from(0),
    }
}
