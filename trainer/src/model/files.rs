//! Weights in and out of `model.safetensors`.
//!
//! Reading checks every name, shape and number against the configuration before anything is used, so
//! a damaged or foreign file is an error that names the tensor, never a model that babbles. Writing
//! is bf16, the usual precision of published weights. Adapters have a file format of their own.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::config::Config;
use crate::model::parameters::{self, Parameter};

/// Why weights could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}; give a Hugging Face model folder")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not safetensors, or is cut short.
    #[error("{file} is not a complete safetensors file: {why}; fetch it again")]
    Format {
        /// The file.
        file: String,
        /// What the parser said.
        why: String,
    },
    /// A tensor that the model needs is not there.
    #[error("{file} lacks the tensor {tensor}, which config.json asks for")]
    Missing {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// A tensor that the model has no place for.
    #[error("{file} holds the tensor {tensor}, which this architecture has no place for")]
    Unmatched {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// A tensor has another shape than the model needs.
    #[error("{file}: {tensor} has shape {found:?} where {expected:?} is needed")]
    Shape {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What the configuration asks for.
        expected: Vec<usize>,
        /// What the file holds.
        found: Vec<usize>,
    },
    /// A tensor holds numbers of a kind that is not read.
    #[error("{file}: {tensor} is {found}; only f32, f16 and bf16 are read")]
    Dtype {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What the file holds.
        found: String,
    },
    /// A tensor holds NaN or an infinity.
    #[error("{file}: {tensor} holds a number that is not finite, at position {at}")]
    NotFinite {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Position in row-major order.
        at: usize,
    },
}

/// Why weights could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The folder or a file could not be written.
    #[error("cannot write {path}: {source}; check the folder's permissions and free space")]
    Write {
        /// The file or folder.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The tensors could not be laid out.
    #[error("cannot lay out {path} as safetensors: {why}")]
    Layout {
        /// The file.
        path: String,
        /// What the writer said.
        why: String,
    },
}

/// Reads `model.safetensors` in `folder` as `config` needs it.
///
/// # Errors
/// See [`WeightsError`].
pub fn read_dir(folder: &Path, config: &Config) -> Result<Vec<Parameter>, WeightsError> {
    let path = folder.join("model.safetensors");
    let bytes = std::fs::read(&path).map_err(|source| WeightsError::Read {
        path: path.display().to_string(),
        source,
    })?;
    read_bytes(&bytes, "model.safetensors", config)
}

/// Reads the bytes of a safetensors file; `file` is its name in errors.
///
/// # Errors
/// See [`WeightsError`].
pub fn read_bytes(
    bytes: &[u8],
    file: &str,
    config: &Config,
) -> Result<Vec<Parameter>, WeightsError> {
    let tensors = parse(bytes, file)?;
    let mut views: BTreeMap<String, TensorView<'_>> = tensors.tensors().into_iter().collect();
    if config.tied {
        // Some writers repeat the table; the tied head never reads the copy.
        views.remove("lm_head.weight");
    }
    let mut out = Vec::new();
    for slot in parameters::slots(config) {
        let view = views
            .remove(&slot.name)
            .ok_or_else(|| WeightsError::Missing {
                file: file.into(),
                tensor: slot.name.clone(),
            })?;
        if view.shape() != slot.shape {
            return Err(WeightsError::Shape {
                file: file.into(),
                tensor: slot.name,
                expected: slot.shape,
                found: view.shape().to_vec(),
            });
        }
        out.push(Parameter {
            values: numbers(&view, file, &slot.name)?,
            name: slot.name,
            shape: slot.shape,
        });
    }
    // Old writers stored the rotary table; it follows from the configuration.
    views.retain(|name, _| !name.ends_with("rotary_emb.inv_freq"));
    match views.into_keys().next() {
        Some(tensor) => Err(WeightsError::Unmatched {
            file: file.into(),
            tensor,
        }),
        None => Ok(out),
    }
}

/// Parses the header; bounds and offsets are checked by the library.
pub(crate) fn parse<'a>(bytes: &'a [u8], file: &str) -> Result<SafeTensors<'a>, WeightsError> {
    SafeTensors::deserialize(bytes).map_err(|why| WeightsError::Format {
        file: file.into(),
        why: why.to_string(),
    })
}

/// A tensor's numbers as f32, all finite.
pub(crate) fn numbers(
    view: &TensorView<'_>,
    file: &str,
    tensor: &str,
) -> Result<Vec<f32>, WeightsError> {
    let data = view.data();
    let pairs = || data.chunks_exact(2).map(|b| [b[0], b[1]]);
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => (data.chunks_exact(4))
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        Dtype::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
        other => {
            return Err(WeightsError::Dtype {
                file: file.into(),
                tensor: tensor.into(),
                found: format!("{other:?}"),
            });
        }
    };
    match values.iter().position(|v| !v.is_finite()) {
        Some(at) => Err(WeightsError::NotFinite {
            file: file.into(),
            tensor: tensor.into(),
            at,
        }),
        None => Ok(values),
    }
}

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
    written.map_err(error(part))?;
    std::fs::rename(part, path).map_err(error(path))
}

#[cfg(test)]
mod tests;
