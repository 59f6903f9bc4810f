//! Weights in and out of safetensors files.
//!
//! A folder holds one `model.safetensors`, or shards that `model.safetensors.index.json` lists (`files/shards.rs`).
//! Reading checks every name and shape against the configuration before a number is read, and every number before it
//! is used, so a damaged or foreign file is an error that names the tensor, and never a model that produces nonsense.
//! Files are read tensor by tensor (`files/stream.rs`): the peak is what the caller keeps of each, the f32 numbers of the
//! largest tensor, one megabyte of buffer and the headers, whatever the precision of the files. Writing is bf16, the usual precision of published
//! weights. What an adapter's tensors mean is left to `peft`.

pub mod header;
pub mod open;
mod shards;
pub mod stream;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::Config;
use crate::model::parameters::{self, Parameter};
use open::OpenError;
use stream::{Observer, TensorFile};

pub use shards::{INDEX, MAX_INDEX_BYTES, shard_names};
pub use write::{Precision, unfinished_folder, write, write_file, write_whole};

/// The one file of an unsharded model.
const SINGLE: &str = "model.safetensors";
/// The token table's place among the slots.
const TABLE: usize = 0;
/// The output layer of a model that does not tie it to the table.
const HEAD: &str = "lm_head.weight";
/// What stands before the names of the decoder's tensors in a model with a head.
const DECODER: &str = "model.";
/// Pickle files, which run code when they are read.
const PICKLES: [&str; 3] = [
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.bin",
];
/// Most bytes of a model's weights: 8 billion numbers in f32.
pub const MAX_WEIGHTS_BYTES: u64 = 32 << 30;
/// Largest header of a weights file, in bytes: 1,024 layers of 14 tensors at 200 bytes each, and room.
const MAX_HEADER_BYTES: u64 = 4 << 20;

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
    /// A file is larger than any model's.
    #[error("{path} has {bytes} bytes, more than the {limit} allowed; use a smaller model")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// Weights in a format that runs code when it is read.
    #[error(
        "{path} is a pickle file, which runs code when it is read; convert it where you trust it, with \
         python -c \"import sys; from transformers import AutoModelForCausalLM as M; \
         M.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])\" FOLDER NEW_FOLDER"
    )]
    Pickle {
        /// The file.
        path: String,
    },
    /// The index of a sharded model is damaged, or does not agree with the shards.
    #[error("{file}: {why}; fetch the model again")]
    Index {
        /// The index.
        file: String,
        /// What is wrong with it.
        why: String,
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
    /// The configuration ties the head to the token table, and the file has another head.
    #[error(
        "{file} holds an lm_head.weight that differs from the token table, although config.json ties the two; set \
         tie_word_embeddings to false to use it, or fetch the model again"
    )]
    TwoHeads {
        /// The file.
        file: String,
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

/// Reads the weights in `folder` as `config` needs them: `model.safetensors`, or else the shards of
/// `model.safetensors.index.json`.
///
/// # Errors
/// See [`WeightsError`].
pub fn read_dir(folder: &Path, config: &Config) -> Result<Vec<Parameter>, WeightsError> {
    read_folder(folder, config, &mut |_| (), |parameter| parameter)
}

/// As [`read_dir`]; `seen` is shown the exact bytes of the single file, or of the index and then of
/// each shard in the order of their names, and `keep` is called with each parameter as soon as it is read.
pub fn read_folder<T>(
    folder: &Path,
    config: &Config,
    seen: &mut Observer<'_>,
    keep: impl FnMut(Parameter) -> T,
) -> Result<Vec<T>, WeightsError> {
    let path = folder.join(SINGLE);
    if !path.exists() {
        if let Some(shards) = shards::open(folder, seen)? {
            return assemble(shards, shards::INDEX, config, seen, keep);
        }
        let pickle = PICKLES.map(|name| folder.join(name));
        if let Some(pickle) = pickle.iter().find(|pickle| pickle.exists()) {
            return Err(WeightsError::Pickle {
                path: pickle.display().to_string(),
            });
        }
    }
    let (file, size) = opened(&path, MAX_WEIGHTS_BYTES)?;
    let file = TensorFile::new(file, size, SINGLE, MAX_HEADER_BYTES)?;
    assemble(vec![file], SINGLE, config, seen, keep)
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
    read_slice(bytes, file, config, &mut |_| ())
}

/// As [`read_bytes`]; `seen` is shown the bytes as they are read.
pub fn read_slice(
    bytes: &[u8],
    file: &str,
    config: &Config,
    seen: &mut Observer<'_>,
) -> Result<Vec<Parameter>, WeightsError> {
    let tensors = TensorFile::new(bytes, bytes.len() as u64, file, MAX_HEADER_BYTES)?;
    assemble(vec![tensors], file, config, seen, |parameter| parameter)
}

/// The weights files of `folder` that [`read_dir`] reads: the single one, or the index and its shards.
///
/// # Errors
/// When there are none, or the index is damaged.
pub fn weight_names(folder: &Path) -> Result<Vec<String>, WeightsError> {
    let index = folder.join(INDEX);
    if folder.join(SINGLE).exists() || !index.exists() {
        opened(&folder.join(SINGLE), MAX_WEIGHTS_BYTES)?;
        return Ok(vec![SINGLE.to_owned()]);
    }
    let limit = shards::MAX_INDEX_BYTES;
    let bytes = open::read(&index, limit).map_err(|error| not_opened(&index, error))?;
    let mut names = shard_names(&bytes)?;
    names.push(INDEX.to_owned());
    Ok(names)
}

/// Opens a weights file and says how long it is.
fn opened(path: &Path, limit: u64) -> Result<(std::fs::File, u64), WeightsError> {
    open::open(path, limit).map_err(|error| not_opened(path, error))
}

fn not_opened(path: &Path, error: OpenError) -> WeightsError {
    let path = path.display().to_string();
    match error {
        OpenError::Io(source) => WeightsError::Read { path, source },
        OpenError::TooLarge { bytes, limit } => WeightsError::TooLarge { path, bytes, limit },
    }
}

/// Reads every weight of `config` from `files`, in the order in which they hold them, and gives what `keep` made of them
/// in canonical order; `whole` names the files together in errors.
fn assemble<R: std::io::Read, T>(
    files: Vec<TensorFile<R>>,
    whole: &str,
    config: &Config,
    seen: &mut Observer<'_>,
    mut keep: impl FnMut(Parameter) -> T,
) -> Result<Vec<T>, WeightsError> {
    let slots = parameters::slots(config);
    let places = places(&files, &slots, config.tied)?;
    let mut kept: Vec<Option<T>> = slots.iter().map(|_| None).collect();
    // Of the table and of the head that a file of a tied model may repeat.
    let mut tied = [None; 2];
    let found: std::collections::BTreeSet<usize> =
        places.iter().flatten().flatten().copied().collect();
    if let Some(missing) = (0..slots.len()).find(|slot| !found.contains(slot)) {
        return Err(WeightsError::Missing {
            file: whole.into(),
            tensor: slots[missing].name.clone(),
        });
    }
    let is_repeated = found.contains(&slots.len());
    for (file, places) in files.into_iter().zip(&places) {
        let wanted = |entry: usize| places[entry].is_some();
        file.tensors(Some(seen), wanted, |entry, numbers| {
            let Some(slot) = places[entry] else { return };
            if slot == TABLE && is_repeated {
                tied[0] = Some(numbers_hash(&numbers));
            }
            match slots.get(slot) {
                Some(parameters::Slot { name, shape, .. }) => {
                    kept[slot] = Some(keep(Parameter {
                        name: name.clone(),
                        shape: shape.clone(),
                        values: numbers,
                    }));
                }
                None => tied[1] = Some(numbers_hash(&numbers)),
            }
        })?;
    }
    if is_repeated && tied[0] != tied[1] {
        return Err(WeightsError::TwoHeads { file: whole.into() });
    }
    let every = |kept: Option<T>| kept.expect("every slot was found in a header");
    Ok(kept.into_iter().map(every).collect())
}

/// What two tensors have in common when their numbers are the same; both zeros are.
fn numbers_hash(numbers: &[f32]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for numbers in numbers.chunks(1 << 10) {
        let bytes = numbers
            .iter()
            .flat_map(|number| (number + 0.0).to_le_bytes());
        hasher.update(&bytes.collect::<Vec<u8>>());
    }
    hasher.finalize()
}

/// For each tensor of each file the slot it fills, or None for those that nothing reads.
fn places<R>(
    files: &[TensorFile<R>],
    slots: &[parameters::Slot],
    tied: bool,
) -> Result<Vec<Vec<Option<usize>>>, WeightsError> {
    let by_name: BTreeMap<&str, usize> = (slots.iter().enumerate())
        .map(|(at, slot)| (slot.name.as_str(), at))
        .collect();
    // A decoder that was saved without its head lacks the first component of every name.
    let mut names =
        (files.iter()).flat_map(|file| file.header.entries.iter().map(|e| e.name.as_str()));
    let bare = !names.any(|name| name.starts_with(DECODER));
    let found = |tensor: &str| match by_name.get(tensor) {
        Some(at) => Some(*at),
        None if bare => by_name.get(format!("{DECODER}{tensor}").as_str()).copied(),
        None => None,
    };
    let place = |file: &str, entry: &header::Entry| {
        let (file, tensor) = (file.to_string(), entry.name.clone());
        let (at, expected) = match found(&entry.name) {
            Some(at) => (at, &slots[at].shape),
            // Some writers repeat the table as a tied head.
            None if tied && tensor == HEAD => (slots.len(), &slots[TABLE].shape),
            // Old writers store the rotary table, which follows from the configuration.
            None if tensor.ends_with("rotary_emb.inv_freq") => return Ok(None),
            None => return Err(WeightsError::Unmatched { file, tensor }),
        };
        if entry.shape != *expected {
            return Err(WeightsError::Shape {
                file,
                tensor,
                expected: expected.clone(),
                found: entry.shape.clone(),
            });
        }
        if let header::Kind::Other(found, _) = &entry.kind {
            let found = found.clone();
            return Err(WeightsError::Dtype {
                file,
                tensor,
                found,
            });
        }
        Ok(Some(at))
    };
    (files.iter())
        .map(|file| {
            let entries = file.header.entries.iter();
            entries.map(|entry| place(&file.name, entry)).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests;
