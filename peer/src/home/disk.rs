//! How anything in a home gets onto the disk: for its owner alone, whole or not at all, durable with its name.
//!
//! ```text
//!   write_whole:  NAME.RANDOM.tributary-part (mode 0600 from its first byte) ──sync──▶ rename ──▶ sync the folder
//!   adopt:        at every start: sync all folders (a life that was cut short may not have), close what others can read,
//!                 remove what a life that was cut short had not finished
//! ```
//! Files and folders are private when they are made: a mode that is set afterwards leaves a moment in which others
//! can open them. Every writer of a home goes through here; a test reads the sources and holds them to it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use tempfile::{NamedTempFile, PersistError};

/// Mode of a folder: its owner lists, enters and changes it, nobody else does anything.
#[cfg(unix)]
const FOLDER_MODE: u32 = 0o700;
/// Mode of a file.
#[cfg(unix)]
const FILE_MODE: u32 = 0o600;
/// Bits of those who are not the owner.
#[cfg(unix)]
const OTHERS: u32 = 0o077;

/// How a file is called until it is whole; nobody calls a file of their own so.
pub(crate) const UNFINISHED: &str = "tributary-part";
/// After so long nobody is still writing it.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Options of every file that is made in a home.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, FILE_MODE);
    options
}

/// Makes folders for their owner alone.
pub(crate) fn private_folders() -> DirBuilder {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, FOLDER_MODE);
    builder
}

/// Makes a new file in place of one that was left unfinished.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    private().create_new(true).open(path)
}

/// Makes a folder and those above it that are missing, and their names durable.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|at| !at.exists()).collect();
    private_folders().recursive(true).create(path)?;
    (missing.into_iter()).try_for_each(|made| sync_folder(parent(made)))
}

/// Writes a file so that a reader finds all of it or what was there before, also after a crash. Of a failed try
/// nothing stays: it would keep a full disk full. Writers that meet each write a file of their own, and the last to
/// rename stays.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, |part| part.persist(path))
}

/// As [`write_whole`], and fails with [`io::ErrorKind::AlreadyExists`] where there is a file already.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, |part| part.persist_noclobber(path))
}

fn write(
    path: &Path,
    bytes: &[u8],
    name: impl FnOnce(NamedTempFile) -> Result<File, PersistError>,
) -> io::Result<()> {
    let mut prefix = path.file_name().unwrap_or_default().to_owned();
    prefix.push(".");
    // Made exclusively and with mode 0600; removes itself unless it gets its name.
    let mut builder = tempfile::Builder::new();
    let suffix = format!(".{UNFINISHED}");
    let mut part = (builder.prefix(&prefix).suffix(&suffix)).tempfile_in(parent(path))?;
    part.write_all(bytes)?;
    part.as_file().sync_all()?;
    name(part).map_err(|failed| failed.error)?;
    sync_folder(parent(path))
}

/// Renames within a folder, and makes the new name durable.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(parent(to))
}

/// The folder that holds `path`.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes new names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    tests::note(path);
    // Windows cannot open folders; names are durable there with the file.
    match cfg!(unix) {
        true => File::open(path)?.sync_all(),
        false => Ok(()),
    }
}

/// Takes over what an earlier life left: what it renamed last becomes durable before anything relies on it, what
/// others on this machine could read is closed, and what it had not finished is removed. Gives how many files and folders
/// were open.
pub(crate) fn adopt(root: &Path) -> io::Result<usize> {
    let mut open = usize::from(close(root, true)?);
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            // What a link leads to is not the home's.
            let kind = entry.file_type()?;
            if kind.is_file() && is_abandoned(&entry.path()) {
                // What cannot be removed now is tried again at the next start.
                let _ = fs::remove_file(entry.path());
                continue;
            }
            if kind.is_dir() || kind.is_file() {
                open += usize::from(close(&entry.path(), kind.is_dir())?);
            }
            if kind.is_dir() {
                folders.push(entry.path());
            }
        }
        sync_folder(&folder)?;
    }
    Ok(open)
}

/// Whether a file is one that somebody began to write, long ago, and did not finish.
pub(crate) fn is_abandoned(path: &Path) -> bool {
    let age = fs::metadata(path).and_then(|file| file.modified());
    let age = age.ok().and_then(|written| written.elapsed().ok());
    is_unfinished(path) && age.is_some_and(|age| age > ABANDONED)
}

/// Whether a file is not whole yet.
pub(crate) fn is_unfinished(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == UNFINISHED)
}

/// Takes the rights of others away; true if there were any.
#[cfg(unix)]
fn close(path: &Path, folder: bool) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = match fs::metadata(path) {
        // A running command removes its own unfinished files.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let open = metadata.permissions().mode() & OTHERS != 0;
    if open {
        let mode = if folder { FOLDER_MODE } else { FILE_MODE };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(open)
}

#[cfg(not(unix))]
fn close(_: &Path, _: bool) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
pub(crate) mod tests;
