//! Files that a person names: whether reading one can come to an end.
//!
//! Opening a pipe waits for somebody to write to it, and a device may give bytes for ever. Both are refused before they
//! are opened. What the shell hands over itself (`/dev/stdin`, `<(..)`) has somebody at its other end and is read.

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;

/// Where a shell shows what it opened itself.
const HANDED_OVER: [&str; 3] = ["/dev/stdin", "/dev/fd", "/proc/self/fd"];

/// Refuses what cannot be read to its end. Gives what the system says of the file.
///
/// # Errors
/// When there is no such file, and for pipes, sockets and devices.
pub fn finite(path: &Path) -> io::Result<Metadata> {
    let metadata = fs::metadata(path)?;
    let handed_over = HANDED_OVER.iter().any(|place| path.starts_with(place));
    if metadata.is_file() || metadata.is_dir() || handed_over {
        return Ok(metadata);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "it is a pipe, a socket or a device, which may never end; save it as a file first",
    ))
}

/// The text of such a file.
///
/// # Errors
/// As [`finite`], and when it cannot be read as text.
pub fn text(path: &Path) -> io::Result<String> {
    finite(path)?;
    fs::read_to_string(path)
}

/// The bytes of such a file.
///
/// # Errors
/// As [`finite`], and when it cannot be read.
pub fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    finite(path)?;
    fs::read(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_pipe_and_a_device_are_refused_before_they_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for path in [pipe.as_path(), Path::new("/dev/zero")] {
            let error = bytes(path).unwrap_err();
            assert!(error.to_string().contains("may never end"), "{error}");
        }
        let file = dir.path().join("file");
        fs::write(&file, "words").unwrap();
        assert_eq!(text(&file).unwrap(), "words");
        let missing = finite(&dir.path().join("none")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
