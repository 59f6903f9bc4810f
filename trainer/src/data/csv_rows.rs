//! Rows of a table with a header: CSV as RFC 4180 and most programs write it, also between semicolons or tabs.

use std::io::BufRead;

use csv::{ByteRecord, ReaderBuilder};

use super::limits::{MAX_COLUMNS, MAX_ROW_BYTES};
use super::read::{DatasetError, Sink};
use super::record::{FIELDS, usable};
use super::row::Place;
use crate::json::{Fields, Json};

/// What stands between fields; a spreadsheet writes semicolons where the comma is the decimal point.
const SEPARATORS: [u8; 3] = [b',', b';', b'\t'];

/// Whether a text begins with a header that names what rows are made of.
pub(super) fn has_header(text: &[u8]) -> bool {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    SEPARATORS
        .iter()
        .any(|separator| names_usable(line, *separator))
}

fn names_usable(header: &[u8], separator: u8) -> bool {
    let Ok(header) = std::str::from_utf8(header) else {
        return false;
    };
    let names = header.trim_end().split(char::from(separator));
    let names: Vec<&str> = names
        .map(|name| name.trim().trim_matches('"').trim())
        .collect();
    usable(&names)
}

/// Reads the columns that rows are made of. The line of a row is its first: quoted fields may hold line ends.
/// The `csv` crate takes a byte order mark off.
pub(super) fn read(source: &mut impl BufRead, sink: &mut Sink) -> Result<(), DatasetError> {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).map_err(|e| sink.io(e))?;
    drop_returns(&mut bytes);
    // Rows of another length than the header are told apart here, to be counted instead of fatal.
    let mut reader = ReaderBuilder::new()
        .flexible(true)
        .delimiter(separator(&bytes))
        .from_reader(bytes.as_slice());
    let header = reader.byte_headers().map_err(|e| failed(sink, e))?.clone();
    let names: Option<Vec<&str>> = header.iter().map(|n| std::str::from_utf8(n).ok()).collect();
    let names = names.ok_or_else(|| sink.malformed("its header is not UTF-8"))?;
    let names: Vec<&str> = names.into_iter().map(str::trim).collect();
    check_names(&names).map_err(|why| sink.malformed(why))?;
    let mut row = ByteRecord::new();
    while reader
        .read_byte_record(&mut row)
        .map_err(|e| failed(sink, e))?
    {
        let place = Place::Line(row.position().map_or(0, csv::Position::line));
        match fields(&row, &names) {
            Ok(fields) => sink.row(place, fields)?,
            Err(why) => sink.add(place, Err(why))?,
        }
    }
    Ok(())
}

/// The separator with which the header names what is needed; otherwise the one it has most of.
fn separator(bytes: &[u8]) -> u8 {
    let header = super::read::without_mark(bytes)
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let names = SEPARATORS
        .iter()
        .find(|separator| names_usable(header, **separator));
    let count = |separator: &&u8| header.iter().filter(|byte| byte == separator).count();
    let most = SEPARATORS.iter().rev().max_by_key(count);
    *names.or(most).unwrap_or(&b',')
}

fn check_names(names: &[&str]) -> Result<(), String> {
    if names.len() > MAX_COLUMNS {
        return Err(format!("it has more than {MAX_COLUMNS} columns"));
    }
    match usable(names) {
        true => Ok(()),
        false => {
            let shown: String = names.join(", ").chars().take(200).collect();
            let nearest = super::record::nearest(names);
            Err(format!("of its header ({shown}): {nearest}"))
        }
    }
}

/// The fields of a row. Columns that rows are not made of stay as names, so that they are counted as not used.
fn fields(row: &ByteRecord, names: &[&str]) -> Result<Fields, String> {
    if row.as_slice().len() > MAX_ROW_BYTES {
        return Err(format!(
            "it is longer than {MAX_ROW_BYTES} bytes; a quote may not be closed"
        ));
    }
    if row.len() != names.len() {
        return Err(format!(
            "it has {} fields where the header has {}",
            row.len(),
            names.len()
        ));
    }
    let mut fields = Fields::new();
    for (at, (name, bytes)) in names.iter().zip(row).enumerate() {
        let value = match (FIELDS.contains(name), std::str::from_utf8(bytes)) {
            (false, _) => Json::Bool(true),
            (true, Ok(text)) if text.contains('\0') => {
                return Err(format!("its field {} holds a NUL byte", at + 1));
            }
            (true, Ok(text)) => Json::String(text.to_owned()),
            (true, Err(_)) => return Err(format!("its field {} is not UTF-8", at + 1)),
        };
        fields.push(((*name).to_owned(), value));
    }
    Ok(fields)
}

/// Leaves `\n` of every `\r\n`. The `csv` crate counts the lines of a file with both one too low.
fn drop_returns(bytes: &mut Vec<u8>) {
    let mut kept = 0;
    for at in 0..bytes.len() {
        if bytes[at] != b'\r' || bytes.get(at + 1) != Some(&b'\n') {
            bytes[kept] = bytes[at];
            kept += 1;
        }
    }
    bytes.truncate(kept);
}

fn failed(sink: &Sink, error: csv::Error) -> DatasetError {
    match error.into_kind() {
        csv::ErrorKind::Io(source) => sink.io(source),
        _ => sink.malformed("it is not a table"),
    }
}
