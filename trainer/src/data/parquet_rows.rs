//! Rows of a Parquet table, the format in which most published datasets are stored.
//!
//! Only the columns that rows are made of are decoded, and each row takes the same way as one of JSON.
//! Uncompressed, snappy, gzip, brotli and Zstandard pages are read (the last by `pages`, since the library would
//! build C for them).

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use super::limits::{MAX_COLUMNS, MAX_DATA_BYTES};
use super::parquet_pages::Group;
use super::read::{DatasetError, Sink};
use super::record::{FIELDS, nearest, usable};
use super::row::Place;
use crate::json::{Fields, Json};

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
    let damaged = |sink: &Sink, e: ParquetError| sink.malformed(shown(&e));
    let reader = SerializedFileReader::new(bytes.clone()).map_err(|e| damaged(sink, e))?;
    let metadata = reader.metadata();
    let groups = metadata.row_groups();
    let unpacked: u64 = (groups.iter())
        .map(RowGroupMetaData::total_byte_size)
        .map(|n| n.max(0) as u64)
        .sum();
    if unpacked > MAX_DATA_BYTES {
        let why = format!("unpacked it has {unpacked} bytes, more than {MAX_DATA_BYTES}");
        return Err(sink.malformed(why));
    }
    let schema = metadata.file_metadata().schema();
    let (projection, others) = project(schema).map_err(|why| sink.malformed(why))?;
    let mut number = 0;
    for group in groups {
        let group = Group::new(bytes.clone(), group);
        let rows = RowIter::from_row_group(Some(projection.clone()), &group);
        for row in rows.map_err(|e| damaged(sink, e))? {
            let row = row.map_err(|e| damaged(sink, e))?;
            number += 1;
            sink.row(Place::Row(number), object(&row))?;
            others.iter().for_each(|name| sink.unused(name));
        }
    }
    Ok(())
}

/// What the library says, and where the file is only packed in a way that is not read, the way out.
fn shown(error: &ParquetError) -> String {
    let text = error.to_string();
    match text.to_ascii_lowercase().contains("disabled feature") {
        true => format!(
            "{text}; its pages are packed in a way that is not read: write them with zstd, snappy, gzip or brotli"
        ),
        false => text,
    }
}

/// The schema of the columns that are read, and the names of the others.
fn project(schema: &Type) -> Result<(Type, Vec<String>), String> {
    let fields = schema.get_fields();
    if fields.len() > MAX_COLUMNS {
        return Err(format!("it has more than {MAX_COLUMNS} columns"));
    }
    let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
    if !usable(&names) {
        let shown: String = names.join(", ").chars().take(200).collect();
        return Err(format!("of its columns ({shown}): {}", nearest(&names)));
    }
    let (wanted, others): (Vec<_>, Vec<_>) =
        (fields.iter().cloned()).partition(|field| FIELDS.contains(&field.name()));
    let others = others.iter().map(|field| field.name().to_owned()).collect();
    let builder = Type::group_type_builder(schema.name()).with_fields(wanted);
    Ok((builder.build().map_err(|e| e.to_string())?, others))
}

fn object(row: &Row) -> Fields {
    let columns = row.get_column_iter();
    columns
        .map(|(name, field)| (name.clone(), value(field)))
        .collect()
}

/// What a record needs to know of a field: strings, lists, groups, numbers, and the kind of anything else.
fn value(field: &Field) -> Json {
    let number =
        |number: f64| serde_json::Number::from_f64(number).map_or(Json::Null, Json::Number);
    match field {
        Field::Null => Json::Null,
        Field::Bool(yes) => Json::Bool(*yes),
        Field::Int(n) => Json::Number((*n).into()),
        Field::Long(n) => Json::Number((*n).into()),
        Field::Float(n) => number(f64::from(*n)),
        Field::Double(n) => number(*n),
        Field::Str(text) => Json::String(text.clone()),
        // Some writers do not mark their strings as such.
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Json::String(text.into()),
            Err(_) => Json::Number(0.into()),
        },
        Field::Group(row) => Json::Object(object(row)),
        Field::ListInternal(list) => Json::Array(list.elements().iter().map(value).collect()),
        _ => Json::Number(0.into()),
    }
}
