//! The shards of a model in several files, as `model.safetensors.index.json` lists them.
//!
//! The index comes from strangers: it names files, so only plain names in the same folder are opened,
//! and what it says about tensors must be what the files say about themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use serde::Deserialize;

use super::open;
use super::stream::{Observer, Seen, TensorFile};
use super::{MAX_HEADER_BYTES, MAX_WEIGHTS_BYTES, WeightsError, not_opened, opened};
use crate::json;

/// The index.
pub const INDEX: &str = "model.safetensors.index.json";
/// Largest index, in bytes: a line of 200 for each of 1,024 layers' 14 tensors, and room.
pub const MAX_INDEX_BYTES: u64 = 4 << 20;
/// Most shards; published models of our size have four, the largest there are under 200.
const MAX_SHARDS: usize = 256;

#[derive(Deserialize)]
struct Index {
    weight_map: Map,
}

/// Tensor to file name.
struct Map(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Map {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::pairs(deserializer, |_| false).map(Self)
    }
}

/// The shards of `folder` with their headers read, or None when it has no index. `seen` is shown the
/// index.
///
/// # Errors
/// When the index is damaged, leads out of the folder, or does not agree with the shards.
pub(super) fn open(
    folder: &Path,
    seen: &mut Observer<'_>,
) -> Result<Option<Vec<TensorFile<File>>>, WeightsError> {
    let path = folder.join(INDEX);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = open::read(&path, MAX_INDEX_BYTES).map_err(|error| not_opened(&path, error))?;
    seen(Seen::File(bytes.len() as u64));
    seen(Seen::Bytes(&bytes));
    let by_tensor = weight_map(&bytes)?;
    let names = names(&by_tensor)?;
    let mut left = MAX_WEIGHTS_BYTES;
    let mut shards = Vec::with_capacity(names.len());
    for name in names {
        let (file, size) = opened(&folder.join(name), left)?;
        left -= size;
        shards.push(TensorFile::new(file, size, name, MAX_HEADER_BYTES)?);
    }
    agree(&by_tensor, &shards)?;
    Ok(Some(shards))
}

/// The files that an index lists, in ascending order.
///
/// # Errors
/// When the index is damaged or leads out of its folder.
pub fn shard_names(index: &[u8]) -> Result<Vec<String>, WeightsError> {
    let by_tensor = weight_map(index)?;
    Ok(names(&by_tensor)?.into_iter().cloned().collect())
}

/// Tensor to file.
fn weight_map(index: &[u8]) -> Result<BTreeMap<String, String>, WeightsError> {
    let index: Index = serde_json::from_slice(index)
        .map_err(|why| wrong(format!("it is not an index of shards: {why}")))?;
    Ok(index.weight_map.0.into_iter().collect())
}

/// The plain names of the files.
fn names(by_tensor: &BTreeMap<String, String>) -> Result<BTreeSet<&String>, WeightsError> {
    let names: BTreeSet<&String> = by_tensor.values().collect();
    if names.is_empty() || names.len() > MAX_SHARDS {
        let why = format!(
            "it lists {} shards; 1 to {MAX_SHARDS} are read",
            names.len()
        );
        return Err(wrong(why));
    }
    for name in &names {
        plain(name)?;
    }
    Ok(names)
}

fn wrong(why: String) -> WeightsError {
    WeightsError::Index {
        file: INDEX.into(),
        why,
    }
}

/// Refuses whatever is not the plain name of a safetensors file.
fn plain(name: &str) -> Result<(), WeightsError> {
    let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match name.ends_with(".safetensors") && name.len() <= 200 && name.chars().all(usual) {
        true => Ok(()),
        false => Err(wrong(format!(
            "it leads to {name:?}, which is not the plain name of a safetensors file in this folder"
        ))),
    }
}

/// Every tensor lies in the one file that the index names.
fn agree(
    by_tensor: &BTreeMap<String, String>,
    shards: &[TensorFile<File>],
) -> Result<(), WeightsError> {
    let mut found = BTreeSet::new();
    for shard in shards {
        for entry in &shard.header.entries {
            let (tensor, name) = (entry.name.as_str(), &shard.name);
            match by_tensor.get(tensor) {
                Some(file) if file == name => found.insert(tensor),
                Some(file) => {
                    let why = format!("it says that {tensor} is in {file}, and {name} holds it");
                    return Err(wrong(why));
                }
                None => {
                    let why = format!("it does not list {tensor}, which {name} holds");
                    return Err(wrong(why));
                }
            };
        }
    }
    let lost = by_tensor.iter().find(|(t, _)| !found.contains(t.as_str()));
    match lost {
        None => Ok(()),
        Some((tensor, file)) => Err(wrong(format!(
            "it says that {tensor:?} is in {file}, which does not hold it"
        ))),
    }
}
