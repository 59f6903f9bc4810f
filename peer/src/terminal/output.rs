//! Answers on stdout: tables and lines for people, one JSON object for programs.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use super::{Failure, Format};

/// Where and how answers go.
#[derive(Clone, Debug)]
pub struct Out {
    format: Format,
}

impl Out {
    /// Answers in `format`.
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// The format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether progress may move the cursor: stderr is a terminal.
    pub fn live(&self) -> bool {
        std::io::stderr().is_terminal()
    }

    /// Prints the answer: `value` as JSON, or what `text` makes of it.
    ///
    /// # Errors
    /// When stdout cannot be written; a closed pipe is not an error.
    pub fn answer<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let mut line = match self.format {
            Format::Json => serde_json::to_string(value)
                .map_err(|e| Failure::environment(format!("cannot write JSON: {e}")))?,
            Format::Text => text(value),
        };
        if !line.ends_with('\n') {
            line.push('\n');
        }
        raw(line.as_bytes())
    }
}

/// Writes bytes to stdout as they are.
///
/// # Errors
/// When stdout cannot be written; a closed pipe is not an error.
pub fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::environment(format!(
            "cannot write the answer to stdout: {e}"
        ))
        .hint("the disk may be full, or the reader of the pipe gone")),
        _ => Ok(()),
    }
}

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table for people: a header, rows, columns padded by their widest cell.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        Self {
            columns: (columns.iter())
                .map(|(name, align)| ((*name).to_owned(), *align))
                .collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells beyond the columns are dropped, missing ones are empty.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// The table as lines, each indented by two spaces.
    pub fn render(&self) -> String {
        let width = |i: usize| {
            let cells = self.rows.iter().map(|r| r[i].chars().count());
            cells.fold(self.columns[i].0.chars().count(), usize::max)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let header: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let mut out = String::new();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::from(" ");
            for (i, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[i] - cell.chars().count());
                line.push(' ');
                match self.columns[i].1 {
                    Align::Left => line.extend([cell, pad.as_str()]),
                    Align::Right => line.extend([pad.as_str(), cell]),
                }
                line.push(' ');
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// A count of bytes for people: three digits and a unit.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.95 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A duration for people.
pub fn duration(ms: u64) -> String {
    match ms {
        0..=999 => format!("{ms} ms"),
        1_000..=59_999 => format!("{:.1} s", ms as f64 / 1000.0),
        60_000..=10_799_999 => format!("{} min {:02} s", ms / 60_000, ms % 60_000 / 1000),
        10_800_000..=172_799_999 => {
            format!("{} h {:02} min", ms / 3_600_000, ms % 3_600_000 / 60_000)
        }
        _ => format!("{} days {} h", ms / 86_400_000, ms % 86_400_000 / 3_600_000),
    }
}

/// A text without its line breaks, for a line of its own.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("name", Align::Left), ("n", Align::Right)]);
        table.row(["bo", "1"]);
        table.row(["carolina", "200"]);
        assert_eq!(
            table.render(),
            "  name        n\n  bo          1\n  carolina  200\n"
        );
    }

    #[test]
    fn byte_counts_have_three_digits() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (99_949, "99.9 kB"),
            (123_456, "123 kB"),
            (999_600, "1.0 MB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn durations_change_their_unit() {
        assert_eq!(duration(12), "12 ms");
        assert_eq!(duration(1_500), "1.5 s");
        assert_eq!(duration(61_000), "1 min 01 s");
    }
}
