//! Datasets from files: which format, which rows, and what was wrong with the others.
//!
//! Files come from strangers and from other programs. Everything that reads a person's data reads it here:
//! trainings, evaluations, and the shards of a Datanet. Packed files are unpacked (`unpack`), the content says what
//! the format is (`sniff`), a byte order mark and Windows line ends are taken off, everything is bounded, and a row
//! that cannot be used is counted with its line and the reason. How a record becomes tokens belongs to `encode`.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::limits::{BAD_ROW_EXAMPLES, MAX_DATA_BYTES};
use super::record::record_of;
use super::row::{BadRow, Place, Record, Row, RowReport};
use super::{csv_rows, json_rows, sniff, unpack};
use crate::input;
use crate::json::Fields;

/// Bytes of the pieces of a running text of which only a share is kept.
const PIECE_BYTES: usize = 64 << 10;

/// How a file holds its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One running text.
    Text,
    /// One JSON object per line.
    Jsonl,
    /// One JSON array of objects.
    Json,
    /// A table with a header row, its fields between commas, semicolons or tabs.
    Csv,
    /// A table of typed columns.
    Parquet,
}

impl Format {
    /// The format that a file's name claims, an ending such as `.gz` left aside.
    fn of(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "gz" | "zst" => Self::of(Path::new(path.file_stem()?)),
            ending => ending.parse().ok(),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Jsonl => "lines of JSON",
            Self::Json => "an array of JSON",
            Self::Csv => "a table",
            Self::Parquet => "Parquet",
        })
    }
}

/// A word that names no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a data format; use text, jsonl, json, csv or parquet")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, UnknownFormat> {
        match word.to_ascii_lowercase().as_str() {
            "text" | "txt" | "md" => Ok(Self::Text),
            "jsonl" | "ndjson" => Ok(Self::Jsonl),
            "json" => Ok(Self::Json),
            "csv" | "tsv" => Ok(Self::Csv),
            "parquet" => Ok(Self::Parquet),
            _ => Err(UnknownFormat(word.into())),
        }
    }
}

/// How to read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// None goes by the content.
    pub format: Option<Format>,
    /// Whether the first bad row is an error.
    pub strict: bool,
    /// Bad rows kept as examples.
    pub examples: usize,
}

impl Default for ReadOptions {
    /// By content, lenient.
    fn default() -> Self {
        Self {
            format: None,
            strict: false,
            examples: BAD_ROW_EXAMPLES,
        }
    }
}

/// Why a file gave no dataset.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}; check that the file exists and may be read")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is cut short, or is not what its first bytes say.
    #[error(
        "{path} cannot be unpacked or decoded: {why}; pack or fetch it again, or save it as UTF-8"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The file is too large.
    #[error("{path} has more than the {MAX_DATA_BYTES} bytes read at once; split it")]
    TooLarge {
        /// The file.
        path: String,
    },
    /// The file as a whole is not what its format says.
    #[error(
        "{path} cannot be read as {format}: {why}; mend the file or name another format with --data-format"
    )]
    Malformed {
        /// The file.
        path: String,
        /// What it was taken for.
        format: Format,
        /// What is wrong.
        why: String,
    },
    /// A row is bad, and none may be.
    #[error("{path}, {row}; mend or remove it, or allow bad rows")]
    Bad {
        /// The file.
        path: String,
        /// The row.
        row: BadRow,
    },
    /// No row is good.
    #[error("no row of {path} can be used: {report}")]
    NoRows {
        /// The file.
        path: String,
        /// What was wrong.
        report: RowReport,
    },
}

impl DatasetError {
    /// What failed while a file was read: the system, or what unpacks and decodes.
    fn of_io(path: &str, source: std::io::Error) -> Self {
        use std::io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
        let path = path.to_owned();
        match source.kind() {
            InvalidData | InvalidInput | Other | UnexpectedEof => Self::Damaged {
                path,
                why: source.to_string(),
            },
            _ => Self::Read { path, source },
        }
    }
}

/// The usable rows of a file, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// For messages.
    pub(crate) path: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) report: RowReport,
    pub(crate) strict: bool,
    format: Format,
}

impl Dataset {
    /// Reads a whole file.
    ///
    /// # Errors
    /// See [`DatasetError`].
    pub fn read(path: &Path, options: &ReadOptions) -> Result<Self, DatasetError> {
        let shown = path.display().to_string();
        let read = |source| DatasetError::Read {
            path: shown.clone(),
            source,
        };
        // Opening a pipe would wait for somebody to write to it.
        let is_dir = input::finite(path).map_err(read)?.is_dir();
        let file = File::open(path).map_err(read)?;
        if is_dir {
            return Err(read(std::io::ErrorKind::IsADirectory.into()));
        }
        Self::from_source(&shown, file, options)
    }

    /// Reads bytes as if they were the file `name`.
    ///
    /// # Errors
    /// See [`DatasetError`].
    pub fn from_bytes(
        name: &str,
        bytes: &[u8],
        options: &ReadOptions,
    ) -> Result<Self, DatasetError> {
        Self::from_source(name, bytes, options)
    }

    fn from_source(
        name: &str,
        source: impl Read,
        options: &ReadOptions,
    ) -> Result<Self, DatasetError> {
        let opened = unpack::open(source).map_err(|source| DatasetError::of_io(name, source))?;
        let format = options.format.unwrap_or_else(|| {
            sniff::format_of(&opened.head, opened.whole, Format::of(Path::new(name)))
        });
        // The length is that of what is read, not what the system says: a pipe has none, and what is packed
        // says little of what comes out.
        let mut source = opened.source.take(MAX_DATA_BYTES + 1);
        let dataset = Sink::new(name, format, options).fill(&mut source)?;
        match source.limit() {
            0 => Err(DatasetError::TooLarge { path: name.into() }),
            _ => Ok(dataset),
        }
    }

    /// The usable rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What the file was read as.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Every row as running text, with its place.
    ///
    /// # Errors
    /// [`DatasetError::Bad`] at the first row that has no text of its own.
    pub fn texts(self) -> Result<Vec<String>, DatasetError> {
        let path = self.path;
        let text = |row: Row| {
            let place = row.place;
            row.record.plain().map_err(|reason| DatasetError::Bad {
                path: path.clone(),
                row: BadRow { place, reason },
            })
        };
        self.rows.into_iter().map(text).collect()
    }

    /// Keeps a share of the rows, or of one running text a share of its pieces, drawn by `seed` and in their order.
    /// Gives the bytes kept, and of how many.
    pub(crate) fn thin(&mut self, share: f64, seed: u64) -> (u64, u64) {
        if let [
            Row {
                place,
                record: Record::Passage(text),
            },
        ] = &self.rows[..]
        {
            let pieces = pieces(text).map(|piece| Row {
                place: *place,
                record: Record::Passage(piece.into()),
            });
            self.rows = pieces.collect();
        }
        let bytes = |rows: &[Row]| rows.iter().map(|row| row.record.bytes() as u64).sum();
        let of = bytes(&self.rows);
        let count = (self.rows.len() as f64 * share).ceil() as usize;
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        let mut draws = ChaCha8Rng::seed_from_u64(seed);
        let (drawn, _) = order.partial_shuffle(&mut draws, count);
        let kept: BTreeSet<usize> = drawn.iter().copied().collect();
        let mut at = 0;
        self.rows.retain(|_| {
            at += 1;
            kept.contains(&(at - 1))
        });
        self.report.good = self.rows.len() as u64;
        (bytes(&self.rows), of)
    }

    /// How many were usable, and what was wrong with the others.
    pub fn report(&self) -> &RowReport {
        &self.report
    }
}

/// Collects what a reader finds.
pub(super) struct Sink {
    dataset: Dataset,
}

impl Sink {
    fn new(path: &str, format: Format, options: &ReadOptions) -> Self {
        Self {
            dataset: Dataset {
                path: path.into(),
                rows: Vec::new(),
                report: RowReport::keeping(options.examples),
                strict: options.strict,
                format,
            },
        }
    }

    fn fill(mut self, source: &mut impl std::io::BufRead) -> Result<Dataset, DatasetError> {
        match self.dataset.format {
            Format::Text => self.text(source)?,
            Format::Jsonl => json_rows::lines(source, &mut self)?,
            Format::Json => json_rows::array(source, &mut self)?,
            Format::Csv => csv_rows::read(source, &mut self)?,
            #[cfg(feature = "parquet")]
            Format::Parquet => super::parquet_rows::read(source, &mut self)?,
            #[cfg(not(feature = "parquet"))]
            Format::Parquet => {
                let why =
                    "this build reads no Parquet (cargo feature `parquet` of tributary-trainer)";
                return Err(self.malformed(why));
            }
        }
        match self.dataset.rows.is_empty() {
            true => Err(DatasetError::NoRows {
                path: self.dataset.path,
                report: self.dataset.report,
            }),
            false => Ok(self.dataset),
        }
    }

    /// Takes one row in by its fields.
    pub(super) fn row(&mut self, place: Place, mut fields: Fields) -> Result<(), DatasetError> {
        let record = record_of(&mut fields);
        if record.is_ok() {
            fields.iter().for_each(|(name, _)| self.unused(name));
        }
        self.add(place, record)
    }

    /// Counts something that a row holds and that is not used.
    pub(super) fn unused(&mut self, what: &str) {
        self.dataset.report.unused(what);
    }

    /// Takes one row in.
    pub(super) fn add(
        &mut self,
        place: Place,
        record: Result<Record, String>,
    ) -> Result<(), DatasetError> {
        match record {
            Ok(record) => {
                self.dataset.report.good += 1;
                self.dataset.rows.push(Row { place, record });
                Ok(())
            }
            Err(reason) => {
                let row = BadRow { place, reason };
                if self.dataset.strict {
                    return Err(DatasetError::Bad {
                        path: self.dataset.path.clone(),
                        row,
                    });
                }
                self.dataset.report.bad(row);
                Ok(())
            }
        }
    }

    pub(super) fn io(&self, source: std::io::Error) -> DatasetError {
        DatasetError::of_io(&self.dataset.path, source)
    }

    pub(super) fn malformed(&self, why: impl ToString) -> DatasetError {
        DatasetError::Malformed {
            path: self.dataset.path.clone(),
            format: self.dataset.format,
            why: why.to_string(),
        }
    }

    fn text(&mut self, source: &mut impl Read) -> Result<(), DatasetError> {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).map_err(|e| self.io(e))?;
        let text = match std::str::from_utf8(without_mark(&bytes)) {
            Ok(text) if text.contains('\r') => text.replace("\r\n", "\n"),
            Ok(text) => text.to_owned(),
            Err(e) => {
                let before = &without_mark(&bytes)[..e.valid_up_to()];
                let line = 1 + before.iter().filter(|b| **b == b'\n').count();
                return Err(self.malformed(format!("line {line} is not UTF-8")));
            }
        };
        if let Some(at) = text.find('\0') {
            let line = 1 + text[..at].matches('\n').count();
            let why = format!(
                "line {line} holds a NUL byte, as UTF-16 without a mark or a program's own format does; save it as UTF-8"
            );
            return Err(self.malformed(why));
        }
        match text.trim().is_empty() {
            true => Err(self.malformed("it is empty")),
            false => self.add(Place::Line(1), Ok(Record::Passage(text))),
        }
    }
}

/// Pieces of a text, of about [`PIECE_BYTES`], cut behind line ends or where there are none between characters.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let from = (PIECE_BYTES.min(rest.len())..=rest.len()).find(|at| rest.is_char_boundary(*at));
        let from = from.unwrap_or(rest.len());
        let end = rest[from..]
            .find('\n')
            .map_or(rest.len(), |at| from + at + 1);
        let end = if end > 2 * PIECE_BYTES { from } else { end };
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

/// Without the byte order mark that some programs put before UTF-8.
pub(super) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

#[cfg(test)]
mod tests;
