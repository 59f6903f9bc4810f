//! Rows of JSON: one object per line, or one array of objects.
//!
//! serde_json refuses more than 128 levels of nesting, which keeps the stack small.

use std::fmt;
use std::io::{BufRead, Read};

use serde::Deserializer as _;
use serde::de::{SeqAccess, Visitor};

use super::limits::MAX_ROW_BYTES;
use super::read::{DatasetError, Sink, without_mark};
use super::row::Place;
use crate::json::{Fields, Json};

/// One object per line; empty lines are skipped.
pub(super) fn lines(source: &mut impl BufRead, sink: &mut Sink) -> Result<(), DatasetError> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let limit = MAX_ROW_BYTES as u64 + 1;
        let read = (source.by_ref().take(limit)).read_until(b'\n', &mut line);
        if read.map_err(|e| sink.io(e))? == 0 {
            break;
        }
        let place = Place::Line(number);
        if line.len() > MAX_ROW_BYTES && !line.ends_with(b"\n") {
            source.skip_until(b'\n').map_err(|e| sink.io(e))?;
            let why = format!("it is longer than {MAX_ROW_BYTES} bytes");
            sink.add(place, Err(why))?;
            continue;
        }
        let bytes = match number {
            1 => without_mark(&line),
            _ => &line,
        };
        match std::str::from_utf8(bytes).map(str::trim) {
            Ok("") => {}
            Ok(text) => match parsed(text) {
                Ok(fields) => sink.row(place, fields)?,
                Err(why) => sink.add(place, Err(why))?,
            },
            Err(_) => sink.add(place, Err("it is not UTF-8".into()))?,
        }
    }
    Ok(())
}

fn parsed(line: &str) -> Result<Fields, String> {
    match serde_json::from_str::<Json>(line) {
        Ok(value) => element(value),
        // The line within the one-line document says nothing.
        Err(e) => {
            let why = e.to_string();
            let why = why.split(" at line ").next().unwrap_or_default();
            Err(format!("it is not JSON: {why} at column {}", e.column()))
        }
    }
}

fn element(value: Json) -> Result<Fields, String> {
    match value {
        Json::Object(fields) => Ok(fields),
        _ => Err("it is not a JSON object".into()),
    }
}

/// One array. What is not JSON at all ends the file; an element of the wrong shape is a bad row.
pub(super) fn array(source: &mut impl BufRead, sink: &mut Sink) -> Result<(), DatasetError> {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).map_err(|e| sink.io(e))?;
    let mut parser = serde_json::Deserializer::from_slice(without_mark(&bytes));
    let mut stopped = None;
    let walked = parser.deserialize_seq(Elements {
        sink: &mut *sink,
        stopped: &mut stopped,
    });
    if let Some(error) = stopped {
        return Err(error);
    }
    match walked.and_then(|()| parser.end()) {
        Ok(()) => Ok(()),
        Err(e) => Err(sink.malformed(e)),
    }
}

/// Hands each element to the sink as soon as it is parsed, so that only one is held.
struct Elements<'a> {
    sink: &'a mut Sink,
    stopped: &'a mut Option<DatasetError>,
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let mut number = 0;
        while let Some(value) = elements.next_element::<Json>()? {
            number += 1;
            let place = Place::Row(number);
            let added = match element(value) {
                Ok(fields) => self.sink.row(place, fields),
                Err(why) => self.sink.add(place, Err(why)),
            };
            if let Err(error) = added {
                *self.stopped = Some(error);
                return Err(serde::de::Error::custom("stopped at a bad row"));
            }
        }
        Ok(())
    }
}
