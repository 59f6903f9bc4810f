//! Reading files that somebody names.
//!
//! A pipe may wait for ever and a device may never end, so only regular files are read, and none beyond a bound.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Bytes of a scenario; the longest built-in one has four thousand.
pub const MAX_SCENARIO_BYTES: u64 = 1 << 20;
/// Bytes of a result: some hundred for each participant and round of the largest run.
pub const MAX_RESULT_BYTES: u64 = 256 << 20;
/// Bytes of a page into which figures are put.
pub const MAX_PAGE_BYTES: u64 = 16 << 20;

/// Whether `path` is a file that can be read to its end; links are followed.
///
/// # Errors
/// What the system says, and [`ErrorKind::InvalidInput`] for pipes and devices.
pub fn check(path: &Path) -> io::Result<()> {
    // Opening a pipe waits until somebody writes to it, so its kind is asked for first.
    regular(&std::fs::metadata(path)?)
}

/// The bytes of a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`check`], and [`ErrorKind::InvalidData`] for a file beyond the limit.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    check(path)?;
    let file = File::open(path)?;
    regular(&file.metadata()?)?;
    let mut out = Vec::new();
    file.take(limit + 1).read_to_end(&mut out)?;
    match out.len() as u64 > limit {
        true => Err(io::Error::new(
            ErrorKind::InvalidData,
            format!("it has more than the {limit} bytes that are read of such a file"),
        )),
        false => Ok(out),
    }
}

/// [`read`] of a text.
///
/// # Errors
/// As [`read`], and [`ErrorKind::InvalidData`] for what is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// The text of a page that is going to be written: empty while there is none.
///
/// # Errors
/// As [`read_text`]: what cannot be read is not overwritten.
pub fn read_page(path: &Path) -> io::Result<String> {
    match read_text(path, MAX_PAGE_BYTES) {
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

fn regular(metadata: &std::fs::Metadata) -> io::Result<()> {
    match (metadata.is_file(), metadata.is_dir()) {
        (true, _) => Ok(()),
        (_, true) => Err(io::Error::new(
            ErrorKind::IsADirectory,
            "it is a folder, not a file",
        )),
        _ => Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is a pipe or a device, not a file; write its content into a file first",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound_and_neither_devices_nor_folders_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        assert_eq!(read_page(&path).unwrap(), "");
        std::fs::write(&path, "four").unwrap();
        assert_eq!(read_text(&path, 4).unwrap(), "four");
        let why = read(&path, 3).unwrap_err();
        assert_eq!(why.kind(), ErrorKind::InvalidData);
        let why = read(folder.path(), 4).unwrap_err();
        assert_eq!(why.kind(), ErrorKind::IsADirectory);
        let why = read(Path::new("/dev/zero"), 4).unwrap_err();
        assert!(why.to_string().contains("pipe or a device"), "{why}");
    }
}
