//! Rows of a CSV table with a header, as RFC 4180 and most programs write it.

use std::io::BufRead;

use csv::{ByteRecord, ReaderBuilder};

use super::limits::MAX_ROW_BYTES;
use super::read::{Columns, DatasetError, Sink};
use super::row::{Place, Record, completion_of, text_of};

/// Reads the columns `prompt` and `completion`, or else `text`. The line of a row is its first: quoted
/// fields may hold line ends. The `csv` crate takes a byte order mark off.
pub(super) fn read(source: &mut impl BufRead, sink: &mut Sink) -> Result<(), DatasetError> {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).map_err(|e| sink.io(e))?;
    drop_returns(&mut bytes);
    // Rows of another length than the header are told apart here, to be counted instead of fatal.
    let mut reader = ReaderBuilder::new()
        .flexible(true)
        .from_reader(bytes.as_slice());
    let header = reader.byte_headers().map_err(|e| failed(sink, e))?.clone();
    let names: Option<Vec<&str>> = header.iter().map(|n| std::str::from_utf8(n).ok()).collect();
    let names = names.ok_or_else(|| sink.malformed("its header is not UTF-8"))?;
    let columns = Columns::find(&names).map_err(|why| sink.malformed(why))?;
    let mut row = ByteRecord::new();
    while reader
        .read_byte_record(&mut row)
        .map_err(|e| failed(sink, e))?
    {
        let line = row.position().map_or(0, csv::Position::line);
        sink.add(Place::Line(line), record(&row, names.len(), columns))?;
    }
    Ok(())
}

fn record(row: &ByteRecord, width: usize, columns: Columns) -> Result<Record, String> {
    if row.as_slice().len() > MAX_ROW_BYTES {
        return Err(format!(
            "it is longer than {MAX_ROW_BYTES} bytes; a quote may not be closed"
        ));
    }
    if row.len() != width {
        return Err(format!(
            "it has {} fields where the header has {width}",
            row.len()
        ));
    }
    let field = |at: usize| match std::str::from_utf8(&row[at]) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(format!("its field {} is not UTF-8", at + 1)),
    };
    match columns {
        Columns::Text(text) => text_of(field(text)?),
        Columns::Completion { prompt, completion } => {
            completion_of(field(prompt)?, field(completion)?)
        }
    }
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
        other => sink.malformed(format!("{other:?}")),
    }
}
