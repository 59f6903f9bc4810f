//! Weights and other files out to disk, whole or not at all.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use half::bf16;
use safetensors::tensor::{Dtype, TensorView};
use tempfile::{Builder, TempDir};

use super::SaveError;
use crate::model::parameters::Parameter;

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 16 bits with the exponent of f32.
    Bf16,
    /// Exact.
    F32,
}

/// Writes `parameters` to the safetensors file `path`, whole or not at all.
///
/// # Errors
/// See [`SaveError`].
pub fn write(path: &Path, parameters: &[Parameter], precision: Precision) -> Result<(), SaveError> {
    let encoded: Vec<Vec<u8>> = (parameters.iter())
        .map(|p| encode(&p.values, precision))
        .collect();
    let dtype = match precision {
        Precision::Bf16 => Dtype::BF16,
        Precision::F32 => Dtype::F32,
    };
    let layout = |why: safetensors::SafeTensorError| SaveError::Layout {
        path: path.display().to_string(),
        why: why.to_string(),
    };
    let mut views = Vec::with_capacity(parameters.len());
    for (parameter, bytes) in parameters.iter().zip(&encoded) {
        let view = TensorView::new(dtype, parameter.shape.clone(), bytes).map_err(layout)?;
        views.push((parameter.name.as_str(), view));
    }
    // transformers refuses a file without this entry.
    let metadata = Some([("format".to_string(), "pt".to_string())].into());
    let bytes = safetensors::serialize(views, metadata).map_err(layout)?;
    write_file(path, &bytes)
}

fn encode(values: &[f32], precision: Precision) -> Vec<u8> {
    match precision {
        Precision::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Precision::Bf16 => (values.iter())
            .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
            .collect(),
    }
}

/// Writes a file as [`write_whole`] does, and makes the folders above it.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), SaveError> {
    let error = |path: &Path, source| SaveError::Write {
        path: path.display().to_string(),
        source,
    };
    let folder = beside(path);
    std::fs::create_dir_all(folder).map_err(|source| error(folder, source))?;
    let broken = |source| error(path, source);
    write_whole(path, broken, |file| file.write_all(bytes).map_err(broken))
}

/// Writes beside the target and renames, durably, so that a crash leaves the old file or the new one, and a failure
/// nothing else: what was written of it would only keep a full disk full. Writers that meet, also of several
/// processes, each write a file of their own, and the last to rename stays.
pub fn write_whole<E>(
    path: &Path,
    failed: impl Fn(io::Error) -> E,
    write: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    let folder = beside(path);
    let part = unfinished(path, ".part", 0o666, |builder| builder.tempfile_in(folder));
    // Removes itself unless it is renamed.
    let mut part = part.map_err(&failed)?;
    write(part.as_file_mut())?;
    let synced = part.as_file().sync_all();
    let renamed = synced.and_then(|()| part.persist(path).map_err(|e| e.error));
    // Windows cannot open folders; names are durable there with the file.
    let durable = renamed.and_then(|_| match cfg!(unix) {
        true => File::open(folder)?.sync_all(),
        false => Ok(()),
    });
    durable.map_err(failed)
}

fn beside(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A folder beside `path` that nobody else uses, to be filled and renamed to `path`; removed with what is in it
/// when it is dropped before.
pub fn unfinished_folder(path: &Path) -> io::Result<TempDir> {
    unfinished(path, ".new", 0o777, |builder| {
        builder.tempdir_in(beside(path))
    })
}

/// Makes something named `NAME.RANDOM` and the suffix, exclusively; others may do with it what the process's
/// mask leaves of `mode`.
fn unfinished<T>(
    path: &Path,
    suffix: &str,
    mode: u32,
    make: impl FnOnce(&Builder) -> io::Result<T>,
) -> io::Result<T> {
    let mut prefix = path.file_name().unwrap_or_default().to_owned();
    prefix.push(".");
    let mut builder = Builder::new();
    builder.prefix(&prefix).suffix(suffix);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    make(&builder)
}
