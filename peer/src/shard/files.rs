//! Files of a shard: adding, listing, reading.

use std::fs::{self, TryLockError};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tributary_trainer::data::{Dataset, DatasetError, Format, ReadOptions};

use super::{Committed, MAX_FILE_BYTES, ShardError, io, passages};
use crate::home::{HomePaths, disk};
use crate::view::{RemovedView, ShardView};
use tributary_protocol::hash;
use tributary_trainer::input;

fn folder(home: &HomePaths, name: &str) -> Result<PathBuf, ShardError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let usable = !name.is_empty()
        && name.len() <= tributary_protocol::limits::MAX_NAME_BYTES
        && !name.starts_with('.')
        && name != "committed"
        && name.chars().all(fits);
    if !usable {
        return Err(ShardError::Name(name.to_owned()));
    }
    Ok(home.shards().join(name).join("files"))
}

/// Copies `files` into the shard of the Datanet `name`, after reading each as `train` would. All or
/// none are added. The same file again is no error.
///
/// # Errors
/// See [`ShardError`]; each names the file and the mend.
pub fn add(home: &HomePaths, name: &str, files: &[PathBuf]) -> Result<ShardView, ShardError> {
    add_telling(home, name, files, &mut |_| ())
}

/// As [`add`], and tells of each file that is no running text what was read of it, in a line for its owner.
///
/// # Errors
/// See [`add`].
pub fn add_telling(
    home: &HomePaths,
    name: &str,
    files: &[PathBuf],
    tell: &mut dyn FnMut(&str),
) -> Result<ShardView, ShardError> {
    let folder = folder(home, name)?;
    let _held = hold(home)?;
    let mut copies = Vec::new();
    for file in files {
        let bytes = checked_bytes(file)?;
        let dataset = dataset_of(file, &bytes)?;
        if dataset.format() != Format::Text {
            let (format, rows) = (dataset.format(), dataset.report());
            tell(&format!("{} read as {format}: {rows}", file.display()));
        }
        passages_of(file, dataset)?;
        if disk::is_unfinished(file) {
            return Err(ShardError::File {
                path: file.clone(),
                why: "is named as what is not written to its end; rename it".to_owned(),
            });
        }
        let name = remember_name(file)?;
        let place = folder.join(stored_name(&bytes, &name));
        let there = files_of(&folder)?;
        if there.contains(&place) {
            continue;
        }
        if there.iter().any(|other| plain_name(other) == name) {
            return Err(ShardError::File {
                path: file.clone(),
                why: "has the name of another file that is in the shard already; rename it"
                    .to_owned(),
            });
        }
        copies.push((place, bytes));
    }
    disk::make_folder(&folder).map_err(io("make the folder", &folder))?;
    for (place, bytes) in copies {
        write_whole(&place, &bytes)?;
    }
    view(&folder, name)
}

/// Removes this peer's copies of files from its shard of the Datanet `name`, by the names that their owner gave; all of
/// them when none is named. What a join committed to stays.
///
/// # Errors
/// [`ShardError`]; nothing is removed where a name is wrong.
pub fn remove(home: &HomePaths, name: &str, files: &[String]) -> Result<RemovedView, ShardError> {
    let folder = folder(home, name)?;
    let _held = hold(home)?;
    let there = files_of(&folder)?;
    if there.is_empty() {
        return Err(ShardError::Missing {
            name: name.to_owned(),
        });
    }
    let names: Vec<String> = there.iter().map(|file| plain_name(file)).collect();
    if let Some(wrong) = files.iter().find(|file| !names.contains(file)) {
        return Err(ShardError::NoFile {
            datanet: name.to_owned(),
            name: wrong.clone(),
            there: names.join(", "),
        });
    }
    let (removed, left): (Vec<_>, Vec<_>) = (names.into_iter())
        .zip(there)
        .partition(|(name, _)| files.is_empty() || files.contains(name));
    for (_, file) in &removed {
        fs::remove_file(file).map_err(io("remove", file))?;
    }
    disk::sync_folder(&folder).map_err(io("make the removal durable in", &folder))?;
    let names = |files: Vec<(String, PathBuf)>| files.into_iter().map(|(name, _)| name).collect();
    Ok(RemovedView {
        datanet: name.to_owned(),
        removed: names(removed),
        left: names(left),
    })
}

/// How long a command waits for another one that changes the shards: as long as reading a gibibyte may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps other commands from changing the shards until the file is closed: two that looked at once would both find a
/// name free.
fn hold(home: &HomePaths) -> Result<fs::File, ShardError> {
    let path = home.shards().join(".lock");
    disk::make_folder(&home.shards()).map_err(io("make the folder", &home.shards()))?;
    let lock =
        (disk::private().create(true).truncate(false).open(&path)).map_err(io("open", &path))?;
    let began = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                std::thread::sleep(PATIENCE / 300);
            }
            Err(TryLockError::WouldBlock) => return Err(ShardError::Busy(home.shards())),
            Err(TryLockError::Error(e)) => return Err(io("lock", &path)(e)),
        }
    }
}

/// A stored file is called by its hash and its name, so that its bytes are covered.
fn stored_name(bytes: &[u8], name: &str) -> String {
    format!("{}.{name}", hash::blob(bytes))
}

/// The name that the owner gave.
fn plain_name(stored: &Path) -> String {
    let name = stored.file_name().unwrap_or_default().to_string_lossy();
    name.split_once('.')
        .map_or_else(String::new, |(_, name)| name.to_owned())
}

/// Reads a stored file and checks it against its name.
fn read_stored(path: &Path) -> Result<Vec<u8>, ShardError> {
    let bytes = fs::read(path).map_err(io("read", path))?;
    if stored_name(&bytes, &plain_name(path))
        != path.file_name().unwrap_or_default().to_string_lossy()
    {
        return Err(ShardError::Damaged {
            path: path.to_owned(),
            why: "its content does not have the hash in its name".to_owned(),
        });
    }
    Ok(bytes)
}

/// Checks every file of every shard and every committed shard of a home.
///
/// # Errors
/// The first that is damaged.
pub fn check_all(home: &HomePaths) -> Result<(), ShardError> {
    for shard in list(home)? {
        for file in files_of(&home.shards().join(&shard.datanet).join("files"))? {
            read_stored(&file)?;
        }
    }
    Committed::check_all(home).map(drop)
}

/// The name that the owner gave a file.
fn remember_name(file: &Path) -> Result<String, ShardError> {
    let name = file.file_name().and_then(|n| n.to_str());
    (name.filter(|n| !n.starts_with('.')))
        .map(str::to_owned)
        .ok_or_else(|| ShardError::File {
            path: file.to_owned(),
            why: "has no plain file name; rename it".to_owned(),
        })
}

/// Writes a file so that a reader finds all of it or nothing, also after a crash.
pub(super) fn write_whole(place: &Path, bytes: &[u8]) -> Result<(), ShardError> {
    disk::write_whole(place, bytes).map_err(io("write", place))
}

/// Shards on this machine, by name.
///
/// # Errors
/// [`ShardError::Io`].
pub fn list(home: &HomePaths) -> Result<Vec<ShardView>, ShardError> {
    let root = home.shards();
    let mut names = Vec::new();
    match fs::read_dir(&root) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(io("list", &root)(e)),
        Ok(entries) => {
            for entry in entries {
                let entry = entry.map_err(io("list", &root))?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if name != "committed" && entry.path().join("files").is_dir() {
                    names.push(name);
                }
            }
        }
    }
    names.sort();
    (names.iter())
        .map(|name| view(&root.join(name).join("files"), name))
        .collect()
}

fn view(folder: &Path, name: &str) -> Result<ShardView, ShardError> {
    let files = files_of(folder)?;
    let mut bytes = 0;
    for file in &files {
        bytes += fs::metadata(file).map_err(io("look at", file))?.len();
    }
    Ok(ShardView {
        datanet: name.to_owned(),
        files: (files.iter()).map(|f| plain_name(f)).collect(),
        bytes,
    })
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>, ShardError> {
    let mut files = Vec::new();
    match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(io("list", folder)(e)),
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(io("list", folder))?.path();
                if !disk::is_unfinished(&path) {
                    files.push(path);
                }
            }
        }
    }
    files.sort();
    Ok(files)
}

/// All passages of the shard of the Datanet `name`, files in order of their names.
pub(super) fn shard_passages(home: &HomePaths, name: &str) -> Result<Vec<String>, ShardError> {
    let files = files_of(&folder(home, name)?)?;
    if files.is_empty() {
        return Err(ShardError::Missing {
            name: name.to_owned(),
        });
    }
    let mut out = Vec::new();
    for file in files {
        out.extend(cut(&file, &read_stored(&file)?)?);
    }
    Ok(out)
}

/// The passages of one file: running text is cut, and of a file of rows each row by itself. What is text and what
/// is a row, the content decides, as everywhere.
///
/// # Errors
/// See [`ShardError`].
pub fn read_passages(file: &Path) -> Result<Vec<String>, ShardError> {
    cut(file, &checked_bytes(file)?)
}

/// The bytes of a file of bearable size.
fn checked_bytes(file: &Path) -> Result<Vec<u8>, ShardError> {
    let metadata = input::finite(file).map_err(io("read", file))?;
    if metadata.is_dir() {
        return Err(refused(file, "is a folder; name the files in it"));
    }
    // The length is that of what is read: a pipe that the shell opened has none.
    let mut bytes = Vec::new();
    let source = fs::File::open(file).map_err(io("read", file))?;
    (source.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)).map_err(io("read", file))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(refused(
            file,
            "has more than 1 GiB; split it and add a part",
        ));
    }
    Ok(bytes)
}

fn refused(file: &Path, why: impl Into<String>) -> ShardError {
    ShardError::File {
        path: file.to_owned(),
        why: why.into(),
    }
}

fn unusable(file: &Path, error: DatasetError) -> ShardError {
    let why = match error {
        DatasetError::Bad { row, .. } => format!("{row}; mend or remove it"),
        DatasetError::Malformed { format, why, .. } => format!("cannot be read as {format}: {why}"),
        DatasetError::TooLarge { .. } => {
            "unpacks to more than 1 GiB; split it and add a part".to_owned()
        }
        DatasetError::Damaged { why, .. } => format!(
            "cannot be unpacked or decoded: {why}; pack or fetch it again, or save it as UTF-8"
        ),
        other => format!("cannot be used: {other}"),
    };
    refused(file, why)
}

fn dataset_of(file: &Path, bytes: &[u8]) -> Result<Dataset, ShardError> {
    // A shard is committed to whole: a row that cannot be used is mended first, not left out.
    let options = ReadOptions {
        strict: true,
        ..ReadOptions::default()
    };
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    Dataset::from_bytes(&name, bytes, &options).map_err(|error| unusable(file, error))
}

fn cut(file: &Path, bytes: &[u8]) -> Result<Vec<String>, ShardError> {
    passages_of(file, dataset_of(file, bytes)?)
}

fn passages_of(file: &Path, dataset: Dataset) -> Result<Vec<String>, ShardError> {
    let running = dataset.format() == Format::Text;
    let mut out = Vec::new();
    for text in dataset.texts().map_err(|error| unusable(file, error))? {
        match running {
            true => out.extend(passages(&text)),
            // Passages are read one after the other: the blank line keeps documents apart.
            false => out.extend(passages(&format!("{text}\n\n"))),
        }
    }
    Ok(out)
}
