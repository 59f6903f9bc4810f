//! What a file holds, by its content.
//!
//! People rename files, and programs write other endings than they mean. The same rows must give the same training
//! whatever the file is called, so the beginning of a file decides. Its name is asked only where the beginning is
//! plain text: a file that claims to hold rows and does not is refused rather than learned as text.

use serde::de::IgnoredAny;

use super::csv_rows;
use super::read::{Format, without_mark};

/// The format of a file that begins with `head`; `whole` says that nothing follows.
pub(super) fn format_of(head: &[u8], whole: bool, named: Option<Format>) -> Format {
    if head.starts_with(b"PAR1") {
        return Format::Parquet;
    }
    let text = without_mark(head).trim_ascii_start();
    if is_array_of_objects(text) {
        return Format::Json;
    }
    if is_lines_of_objects(text, whole) {
        return Format::Jsonl;
    }
    if csv_rows::has_header(text) {
        return Format::Csv;
    }
    named.unwrap_or(Format::Text)
}

/// `[{"`, white space aside: a text may well begin with a bracket.
fn is_array_of_objects(text: &[u8]) -> bool {
    let list = text.strip_prefix(b"[").map(<[u8]>::trim_ascii_start);
    let object = list.and_then(|list| list.strip_prefix(b"{"));
    object.is_some_and(|object| object.trim_ascii_start().starts_with(b"\""))
}

/// At least half of the lines are objects: a damaged row or two must not turn rows into text, nor an example
/// in a manual text into rows.
fn is_lines_of_objects(text: &[u8], whole: bool) -> bool {
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    if !whole {
        let cut = lines.pop().unwrap_or_default();
        if lines.is_empty() {
            // One row longer than the beginning.
            return cut.starts_with(b"{\"");
        }
    }
    let filled = lines
        .into_iter()
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty());
    let (mut objects, mut others) = (0, 0);
    for line in filled {
        let object = line.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(line).is_ok();
        match object {
            true => objects += 1,
            false => others += 1,
        }
    }
    objects > 0 && objects >= others
}
