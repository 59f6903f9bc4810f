//! Reading a PEFT folder, refusing by name whatever would silently be ignored.
//!
//! PEFT lets every linear have its own rank and scale; the protocol's adapter has one of each. Where
//! they differ, factors are padded with zeros to the largest rank (the gradient of a zero row of `A` is
//! a multiple of the zero column of `B` and the other way round, so the padding stays zero in training)
//! and the scale is multiplied into `B`. Both leave the product as it was. Padding is bounded by the
//! protocol's largest adapter; without it memory is bounded by the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use tributary_protocol::adapter::{Adapter, AdapterShape, Factor};
use tributary_protocol::limits;

use super::config::LoraConfig;
use super::error::ImportError;
use super::targets::{Target, targets};
use super::{CONFIG_FILE, PREFIX, TENSOR_FILE};
use crate::base::BaseModel;
use crate::config::Config;
use crate::lora;
use crate::model::files::WeightsError;
use crate::model::files::header::{Entry, Kind};
use crate::model::files::open::{self, OpenError};
use crate::model::files::stream::TensorFile;

/// Largest `adapter_config.json` that is read, in bytes; real ones have about a thousand.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Largest header of an adapter file, in bytes: 1,024 modules of two tensors at 200 bytes each.
const MAX_HEADER_BYTES: u64 = 512 << 10;
/// PEFT's old format.
const PICKLE: &str = "adapter_model.bin";

/// An adapter and what the folder said of each linear.
pub(super) struct Imported {
    pub(super) adapter: Adapter,
    /// In the adapter's module order.
    pub(super) targets: Vec<Target>,
    /// Tensors read.
    pub(super) tensors: usize,
}

/// Reads the PEFT folder `folder` as an adapter of `base`.
///
/// # Errors
/// See [`ImportError`].
pub fn import_peft(folder: &Path, base: &BaseModel) -> Result<Adapter, ImportError> {
    import_for(folder, base.name(), base.config())
}

/// As [`import_peft`], for a base of which only the name and the configuration are at hand.
///
/// # Errors
/// See [`ImportError`].
pub fn import_for(folder: &Path, base: &str, config: &Config) -> Result<Adapter, ImportError> {
    read(folder, base, config).map(|imported| imported.adapter)
}

/// The base that the folder says its adapter was trained on, where that is another than `base` by its name. Folders
/// are told apart by their last component: the same model stands elsewhere on another machine.
pub fn other_base(folder: &Path, base: &BaseModel) -> Option<String> {
    let named = config(folder).ok()?.base?;
    let last = named
        .trim_end_matches(['/', '\\'])
        .rsplit(['/', '\\'])
        .next()?;
    let other = !matches!(last, "" | "." | "..") && !last.eq_ignore_ascii_case(base.name());
    other.then_some(named)
}

fn config(folder: &Path) -> Result<LoraConfig, ImportError> {
    let path = folder.join(CONFIG_FILE);
    let config = open::read(&path, MAX_CONFIG_BYTES).map_err(|e| not_opened(&path, e))?;
    LoraConfig::from_json(&config)
}

/// As [`import_peft`], with what the folder said of each linear.
pub(super) fn read(folder: &Path, base: &str, model: &Config) -> Result<Imported, ImportError> {
    let config = config(folder)?;
    let targets = targets(&config, lora::modules(model))?;
    if targets.is_empty() {
        return Err(ImportError::NoTarget { base: base.into() });
    }
    let path = folder.join(TENSOR_FILE);
    let pickle = folder.join(PICKLE);
    if !path.exists() && pickle.exists() {
        return Err(ImportError::Pickle {
            path: pickle.display().to_string(),
        });
    }
    let limit = limits::MAX_ADAPTER_PARAMETERS * 4 + MAX_HEADER_BYTES;
    let (file, size) = open::open(&path, limit).map_err(|e| not_opened(&path, e))?;
    let file = TensorFile::new(file, size, TENSOR_FILE, MAX_HEADER_BYTES)?;
    build(file, &config, targets, base)
}

fn not_opened(path: &Path, error: OpenError) -> ImportError {
    let path = path.display().to_string();
    match error {
        OpenError::Io(source) => ImportError::Read { path, source },
        OpenError::TooLarge { bytes, limit } => ImportError::TooLarge { path, bytes, limit },
    }
}

fn build(
    file: TensorFile<File>,
    config: &LoraConfig,
    targets: Vec<Target>,
    base: &str,
) -> Result<Imported, ImportError> {
    let places = places(&file.header.entries, &targets, base)?;
    let (shape, folds) = shape(config, &targets);
    shape.check()?;
    let segments = shape.segments();
    let mut values = vec![0.0; shape.parameters()];
    let mut effect = false;
    file.tensors(
        None,
        |_| true,
        |entry, mut numbers| {
            let (target, factor) = places[entry];
            let segment = &segments[2 * target + usize::from(factor == Factor::B)];
            if factor == Factor::B {
                effect |= numbers.iter().any(|v| *v != 0.0);
                numbers.iter_mut().for_each(|v| *v *= folds[target]);
            }
            let rank = targets[target].rank as usize;
            let to = &mut values[segment.range()];
            match factor {
                // Rows that the padding adds come last.
                Factor::A => to[..numbers.len()].copy_from_slice(&numbers),
                Factor::B => (to.chunks_exact_mut(segment.cols))
                    .zip(numbers.chunks_exact(rank))
                    .for_each(|(to, row)| to[..rank].copy_from_slice(row)),
            }
        },
    )?;
    if !effect {
        return Err(ImportError::NoEffect);
    }
    Ok(Imported {
        adapter: Adapter::new(Arc::new(shape), values)?,
        tensors: places.len(),
        targets,
    })
}

/// The protocol's shape, and what each linear's `B` is multiplied by so that products stay the same.
fn shape(config: &LoraConfig, targets: &[Target]) -> (AdapterShape, Vec<f32>) {
    let rank = targets.iter().map(|t| t.rank).max().unwrap_or(config.rank);
    let first = &targets[0];
    let one_scale = targets
        .iter()
        .all(|t| t.scale == first.scale && t.rank == rank);
    let whole =
        first.alpha.fract() == 0.0 && (1.0..=f64::from(limits::MAX_ALPHA)).contains(&first.alpha);
    let plain = one_scale && whole && !config.stabilised;
    let shape = AdapterShape {
        rank,
        // Alpha and rank the same is a scale of one, which leaves all of it to `B`.
        alpha: if plain { first.alpha as u32 } else { rank },
        modules: targets.iter().map(|t| t.module.clone()).collect(),
    };
    let fold = |t: &Target| if plain { 1.0 } else { t.scale as f32 };
    (shape, targets.iter().map(fold).collect())
}

/// The linear and the factor of each tensor; every factor of every linear must be there once.
fn places(
    entries: &[Entry],
    targets: &[Target],
    base: &str,
) -> Result<Vec<(usize, Factor)>, ImportError> {
    let by_name: BTreeMap<&str, usize> = (targets.iter().enumerate())
        .map(|(at, target)| (target.module.name.as_str(), at))
        .collect();
    let mut found: BTreeMap<(usize, Factor), &str> = BTreeMap::new();
    let mut places = Vec::with_capacity(entries.len());
    for entry in entries {
        let place =
            split(&entry.name).and_then(|(module, factor)| Some((*by_name.get(module)?, factor)));
        let Some(place) = place else {
            return Err(ImportError::Unmatched {
                tensor: entry.name.clone(),
                base: base.into(),
            });
        };
        if let Some(first) = found.insert(place, &entry.name) {
            return Err(ImportError::Twice {
                first: first.into(),
                second: entry.name.clone(),
            });
        }
        usable(entry, &targets[place.0], place.1)?;
        places.push(place);
    }
    for (at, target) in targets.iter().enumerate() {
        for (factor, letter) in [(Factor::A, "A"), (Factor::B, "B")] {
            if !found.contains_key(&(at, factor)) {
                return Err(ImportError::Missing {
                    tensor: format!("{PREFIX}{}.lora_{letter}.weight", target.module.name),
                });
            }
        }
    }
    Ok(places)
}

/// Module and factor of a tensor's name. PEFT writes `MODULE.lora_A.weight`; a raw state, as some
/// trainers save it, has the adapter's name before the last component: `MODULE.lora_A.default.weight`.
fn split(tensor: &str) -> Option<(&str, Factor)> {
    let path = tensor.strip_prefix(PREFIX)?.strip_suffix(".weight")?;
    for (mark, factor) in [(".lora_A", Factor::A), (".lora_B", Factor::B)] {
        if let Some((module, name)) = path.rsplit_once(mark) {
            let name = name.strip_prefix('.').unwrap_or(name);
            let whole = path.len() == module.len() + mark.len() || !name.is_empty();
            return (whole && !name.contains('.')).then_some((module, factor));
        }
    }
    None
}

/// The tensor has the shape that its linear and its rank ask for, and a kind that is read.
fn usable(entry: &Entry, target: &Target, factor: Factor) -> Result<(), ImportError> {
    let (rank, module) = (target.rank as usize, &target.module);
    let expected = match factor {
        Factor::A => [rank, module.inputs as usize],
        Factor::B => [module.outputs as usize, rank],
    };
    if entry.shape != expected {
        return Err(ImportError::Shape {
            tensor: entry.name.clone(),
            expected: expected.to_vec(),
            found: entry.shape.clone(),
        });
    }
    match &entry.kind {
        Kind::Other(found, _) => Err(ImportError::Tensors(WeightsError::Dtype {
            file: TENSOR_FILE.into(),
            tensor: entry.name.clone(),
            found: found.clone(),
        })),
        _ => Ok(()),
    }
}
