//! Results of an experiment, cell by cell, in a file that outlives an interruption.
//!
//! A cell is one federation with one seed; its name says everything that it depends on. Each finished
//! cell is one line of JSON, appended at once. What is in the file is not computed again, so an experiment
//! of an hour can be done in pieces, by several processes that each take a part of the cells.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tributary_simulations::files;

/// Bytes of a results file: a thousand for each cell of ten times the largest study.
const MAX_RESULTS_BYTES: u64 = 256 << 20;

/// Why results cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The file cannot be read or written.
    #[error("cannot use the results file {path}: {source}; give another place to --out")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is not a result of this experiment.
    #[error(
        "line {line} of {path} is no result of this experiment ({why}); give another file to --out, \
         or remove the line and that cell is computed again"
    )]
    Line {
        /// The file.
        path: String,
        /// Counted from one.
        line: usize,
        /// What the parser said.
        why: String,
    },
}

/// Which cells a process takes: those whose place is `part` modulo `of`, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    part: usize,
    of: usize,
}

impl Part {
    /// Every cell.
    pub const ALL: Self = Self { part: 1, of: 1 };

    fn takes(self, place: usize) -> bool {
        place % self.of == self.part - 1
    }
}

/// A part that is none, such as 3/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a part is written 1/2 or 2/2: which one, of how many")]
pub struct NoPart;

impl FromStr for Part {
    type Err = NoPart;

    fn from_str(text: &str) -> Result<Self, NoPart> {
        let (part, of) = text.split_once('/').ok_or(NoPart)?;
        let number = |text: &str| text.parse().map_err(|_| NoPart);
        match (number(part)?, number(of)?) {
            (part, of) if (1..=of).contains(&part) => Ok(Self { part, of }),
            _ => Err(NoPart),
        }
    }
}

/// The finished cells of one study, by name.
pub struct Results<T> {
    path: PathBuf,
    done: BTreeMap<String, T>,
}

#[derive(Serialize, Deserialize)]
struct Line<N, T> {
    cell: N,
    result: T,
}

impl<T: Serialize + DeserializeOwned> Results<T> {
    /// Reads what is there; a file that does not exist holds nothing.
    ///
    /// # Errors
    /// See [`ResultsError`].
    pub fn open(path: &Path) -> Result<Self, ResultsError> {
        let text = match files::read_text(path, MAX_RESULTS_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(file_error(path, source)),
        };
        let mut done = BTreeMap::new();
        for (at, line) in text.lines().enumerate() {
            let line: Line<String, T> =
                serde_json::from_str(line).map_err(|why| ResultsError::Line {
                    path: path.display().to_string(),
                    line: at + 1,
                    why: why.to_string(),
                })?;
            done.insert(line.cell, line.result);
        }
        Ok(Self {
            path: path.to_owned(),
            done,
        })
    }

    /// A cell's result, once there is one.
    pub fn get(&self, cell: &str) -> Option<&T> {
        self.done.get(cell)
    }

    /// Computes this process's part of the `cells` that are missing, in order, and returns how many are
    /// left of it. No cell is begun after `limit`.
    ///
    /// # Errors
    /// What `compute` could not do, and when a result cannot be kept.
    pub fn fill<C, E: From<ResultsError>>(
        &mut self,
        cells: &[C],
        name: impl Fn(&C) -> String,
        part: Part,
        limit: Option<Duration>,
        mut compute: impl FnMut(&C) -> Result<T, E>,
    ) -> Result<usize, E> {
        let started = Instant::now();
        let missing = self.missing_cells(cells, name, part);
        let mut left = missing.len();
        for (name, cell) in missing {
            if limit.is_some_and(|limit| started.elapsed() >= limit) {
                break;
            }
            let result = compute(cell)?;
            self.keep(&name, &result)?;
            self.done.insert(name, result);
            left -= 1;
        }
        Ok(left)
    }

    /// How many cells of this process's part have no result.
    pub(crate) fn missing<C>(&self, cells: &[C], name: impl Fn(&C) -> String, part: Part) -> usize {
        self.missing_cells(cells, name, part).len()
    }

    fn missing_cells<'c, C>(
        &self,
        cells: &'c [C],
        name: impl Fn(&C) -> String,
        part: Part,
    ) -> Vec<(String, &'c C)> {
        let named = cells.iter().map(|cell| (name(cell), cell)).enumerate();
        named
            .filter(|(place, (name, _))| part.takes(*place) && !self.done.contains_key(name))
            .map(|(_, cell)| cell)
            .collect()
    }

    fn keep(&self, cell: &str, result: &T) -> Result<(), ResultsError> {
        let mut line =
            serde_json::to_string(&Line { cell, result }).expect("plain figures are JSON");
        line.push('\n');
        let mut file = (OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path))
        .map_err(|source| file_error(&self.path, source))?;
        // One write: lines of two processes do not mix.
        (file.write_all(line.as_bytes())).map_err(|source| file_error(&self.path, source))
    }
}

pub(super) fn file_error(path: &Path, source: std::io::Error) -> ResultsError {
    ResultsError::File {
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exactly(figure: f64) -> Result<f64, ResultsError> {
        Ok(figure)
    }

    #[test]
    fn a_second_process_goes_on_where_the_first_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        let name = |cell: &u32| format!("cell {cell}");
        let cells = [1, 2, 3, 4];
        let mut first = Results::<f64>::open(&path).unwrap();
        let part: Part = "2/2".parse().unwrap();
        let left = first.fill(&cells, name, part, None, |cell| exactly(f64::from(*cell)));
        assert_eq!(left.unwrap(), 0);
        let none = first.fill(&cells, name, Part::ALL, Some(Duration::ZERO), |_| {
            exactly(0.0)
        });
        assert_eq!(none.unwrap(), 2);

        let mut second = Results::<f64>::open(&path).unwrap();
        let mut computed = Vec::new();
        let left = second.fill(&cells, name, Part::ALL, None, |cell| {
            computed.push(*cell);
            exactly(0.5)
        });
        assert_eq!((left.unwrap(), computed), (0, vec![1, 3]));
        assert_eq!(second.get("cell 4"), Some(&4.0));
        let third = Results::<f64>::open(&path).unwrap();
        assert_eq!(third.get("cell 1"), Some(&0.5));
    }

    #[test]
    fn a_line_that_is_no_result_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        std::fs::write(&path, "{\"cell\":\"a\",\"result\":1}\nnonsense\n").unwrap();
        let error = Results::<f64>::open(&path).err().expect("a broken line");
        assert!(error.to_string().starts_with("line 2 of"), "{error}");
    }

    #[test]
    fn parts_are_counted_from_one() {
        assert!("0/2".parse::<Part>().is_err() && "3/2".parse::<Part>().is_err());
        assert!("half".parse::<Part>().is_err());
        let first: Part = "1/3".parse().unwrap();
        let taken: Vec<usize> = (0..7).filter(|place| first.takes(*place)).collect();
        assert_eq!(taken, [0, 3, 6]);
    }
}
