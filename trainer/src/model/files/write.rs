//! Weights and other files out to disk, whole or not at all.

use std::path::Path;

use half::bf16;
use safetensors::tensor::{Dtype, TensorView};

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

/// Writes beside the target and renames, so that a crash leaves the old file or the new one.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), SaveError> {
    let error = |path: &Path| {
        let path = path.display().to_string();
        move |source| SaveError::Write { path, source }
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(error(folder))?;
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    let written = std::fs::File::create(part).and_then(|mut file| {
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    });
    if written.is_err() {
        // What was written of it only keeps a full disk full.
        let _ = std::fs::remove_file(part);
    }
    written.map_err(error(part))?;
    std::fs::rename(part, path).map_err(error(path))
}
