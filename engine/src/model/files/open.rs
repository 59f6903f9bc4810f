//! Opening a file that somebody else may have made.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Why a file was not opened.
#[derive(Debug)]
pub enum OpenError {
    /// What the system said.
    Io(io::Error),
    /// Larger than the caller reads.
    TooLarge {
        /// The file's size.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Opens a regular file of at most `limit` bytes and says how long it is. Links are followed: a
/// downloaded model is often a folder of links into a store.
pub fn open(path: &Path, limit: u64) -> Result<(File, u64), OpenError> {
    // Opening a pipe would wait for somebody to write to it, so its kind is asked for first.
    regular(&std::fs::metadata(path)?)?;
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    regular(&metadata)?;
    match metadata.len() {
        bytes if bytes > limit => Err(OpenError::TooLarge { bytes, limit }),
        bytes => Ok((file, bytes)),
    }
}

fn regular(metadata: &std::fs::Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let what = match metadata.is_dir() {
        true => "it is a folder, not a file",
        false => "it is a pipe or a device, not a file",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

/// The bytes of a regular file of at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, OpenError> {
    let (file, bytes) = open(path, limit)?;
    let mut out = Vec::with_capacity(bytes as usize);
    // A file that grows meanwhile is read as long as it was.
    file.take(bytes).read_to_end(&mut out)?;
    Ok(out)
}
