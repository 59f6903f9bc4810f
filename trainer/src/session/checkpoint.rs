//! A training on disk, from which it goes on bit for bit.
//!
//! One safetensors file of four flat vectors (the adapter at the start and now, and AdamW's two
//! moments) whose metadata holds a JSON header: version, base, data, shape, settings, steps done. A
//! BLAKE3 seal covers header and numbers. The order of windows is not stored: it follows from the seed
//! and the number of windows drawn. A checkpoint is taken up only by the training that wrote it; what
//! differs is named.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use tributary_protocol::adapter::{Adapter, AdapterError, AdapterShape, Module};
use tributary_protocol::hash;
use tributary_protocol::limits::MAX_ADAPTER_PARAMETERS;

use super::{Session, SessionError, TrainConfig};
use crate::base::BaseModel;
use crate::data::Windows;
use crate::input;
use crate::model::files::{self, SaveError};

/// Version of the layout described above.
pub(crate) const CHECKPOINT_VERSION: u32 = 1;
/// Largest checkpoint, in bytes: four vectors of the largest adapter, and a header.
const MAX_CHECKPOINT_BYTES: u64 = 4 * 4 * MAX_ADAPTER_PARAMETERS + (8 << 20);

/// The stored vectors, in the order in which the seal covers them.
const VECTORS: [&str; 4] = ["start", "adapter", "mean", "square"];

/// Why a training does not go on from a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file could not be read.
    #[error("cannot read the checkpoint {path}: {source}; start without it, or give another")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is cut short, damaged, or something else.
    #[error(
        "the checkpoint {path} is damaged or not one: {why}; delete it and start again, or give \
         an earlier one"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// Another version of this program wrote it.
    #[error(
        "the checkpoint {path} has version {found}, this program reads {CHECKPOINT_VERSION}; \
         finish it with the program that wrote it"
    )]
    Version {
        /// The file.
        path: String,
        /// Its version.
        found: u32,
    },
    /// It belongs to another training.
    #[error(
        "the checkpoint {path} belongs to another training: its {what} is {stored}, this one's is \
         {asked}; use the same, or start without the checkpoint"
    )]
    Differs {
        /// The file.
        path: String,
        /// What differs.
        what: String,
        /// What the checkpoint says.
        stored: String,
        /// What was asked for.
        asked: String,
    },
    /// The stored adapter is refused.
    #[error("the checkpoint {path} holds no usable adapter: {source}; start without it")]
    Adapter {
        /// The file.
        path: String,
        /// The cause.
        source: AdapterError,
    },
    /// The training cannot start at all.
    #[error(transparent)]
    Session(#[from] SessionError),
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    base: String,
    data: String,
    rank: u32,
    alpha: u32,
    /// Name, inputs, outputs.
    modules: Vec<(String, u32, u32)>,
    settings: BTreeMap<String, String>,
    done: u32,
    updates: u64,
    predicted: u64,
}

/// Every setting by its name. Rust writes a float in the fewest digits that give it back.
fn settings(config: &TrainConfig) -> BTreeMap<String, String> {
    let TrainConfig {
        steps,
        batch,
        accumulate,
        learning_rate,
        schedule,
        warm_up,
        trainable,
        seed,
        adamw,
        clip_norm,
    } = config;
    let named = [
        ("number of steps", steps.to_string()),
        ("batch", batch.to_string()),
        ("accumulation", accumulate.to_string()),
        ("learning rate", format!("{learning_rate:?}")),
        ("schedule", schedule.to_string()),
        ("warm-up", warm_up.to_string()),
        ("choice of trained factors", format!("{trainable:?}")),
        ("seed", seed.to_string()),
        ("optimiser", format!("{adamw:?}")),
        ("clipping", format!("{clip_norm:?}")),
    ];
    named.map(|(name, value)| (name.to_string(), value)).into()
}

impl Session {
    /// Writes the training as it stands, whole or not at all.
    ///
    /// # Errors
    /// See [`SaveError`].
    pub fn save(&self, path: &Path) -> Result<(), SaveError> {
        let shape = self.current.shape();
        let module = |m: &Module| (m.name.clone(), m.inputs, m.outputs);
        let header = Header {
            version: CHECKPOINT_VERSION,
            base: self.base.to_string(),
            data: self.windows.digest().to_string(),
            rank: shape.rank,
            alpha: shape.alpha,
            modules: shape.modules.iter().map(module).collect(),
            settings: settings(&self.config),
            done: self.done,
            updates: self.adam.steps,
            predicted: self.predicted,
        };
        let layout = |why: String| SaveError::Layout {
            path: path.display().to_string(),
            why,
        };
        let header = serde_json::to_string(&header).map_err(|e| layout(e.to_string()))?;
        let vectors = [
            self.start.values(),
            self.current.values(),
            &self.adam.mean,
            &self.adam.square,
        ];
        let bytes = vectors.map(|v| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        let mut views = Vec::with_capacity(VECTORS.len());
        for (name, bytes) in VECTORS.iter().zip(&bytes) {
            let view = TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes);
            views.push((*name, view.map_err(|e| layout(e.to_string()))?));
        }
        let seal = seal(&header, bytes.each_ref().map(Vec::as_slice));
        let metadata = HashMap::from([("tributary".into(), header), ("blake3".into(), seal)]);
        let file = safetensors::serialize(views, Some(metadata));
        files::write_file(path, &file.map_err(|e| layout(e.to_string()))?)
    }

    /// Goes on from [`Session::save`]: every further step gives the bytes it would have given.
    ///
    /// # Errors
    /// See [`CheckpointError`]; another base, other windows or another setting is refused by name.
    pub fn resume(
        base: &BaseModel,
        windows: Windows,
        config: TrainConfig,
        path: &Path,
    ) -> Result<Self, CheckpointError> {
        let shown = path.display().to_string();
        let bytes = read(path, &shown)?;
        let (header, [start, current, mean, square]) = open(&bytes, &shown)?;
        compare(&header, base, &windows, &config, &shown)?;
        let module = |(name, inputs, outputs)| Module {
            name,
            inputs,
            outputs,
        };
        let shape = Arc::new(AdapterShape {
            rank: header.rank,
            alpha: header.alpha,
            modules: header.modules.into_iter().map(module).collect(),
        });
        let adapter = |values| {
            Adapter::new(shape.clone(), values).map_err(|source| CheckpointError::Adapter {
                path: shown.clone(),
                source,
            })
        };
        let mut session = Self::new(base, &adapter(start)?, windows, config)?;
        session.current = adapter(current)?;
        if mean.len() != session.adam.mean.len() || square.len() != session.adam.square.len() {
            let why = "its moments are not of the adapter's length".into();
            return Err(CheckpointError::Damaged { path: shown, why });
        }
        session.adam.mean = mean;
        session.adam.square = square;
        session.adam.steps = header.updates;
        session.done = header.done;
        session.predicted = header.predicted;
        session
            .draw
            .skip(u64::from(header.done) * session.windows_per_step());
        Ok(session)
    }
}

fn read(path: &Path, shown: &str) -> Result<Vec<u8>, CheckpointError> {
    let error = |source| CheckpointError::Read {
        path: shown.into(),
        source,
    };
    let bytes = input::finite(path).map_err(error)?.len();
    if bytes > MAX_CHECKPOINT_BYTES {
        return Err(CheckpointError::Damaged {
            path: shown.into(),
            why: format!("it has {bytes} bytes, more than any checkpoint"),
        });
    }
    std::fs::read(path).map_err(error)
}

/// Header and vectors of a file whose seal holds.
fn open(bytes: &[u8], path: &str) -> Result<(Header, [Vec<f32>; 4]), CheckpointError> {
    let damaged = |why: String| CheckpointError::Damaged {
        path: path.into(),
        why,
    };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(e.to_string()))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| damaged(e.to_string()))?;
    let entry = |name: &str| {
        let entries = metadata.metadata().as_ref();
        let found = entries.and_then(|entries| entries.get(name));
        found.ok_or_else(|| damaged(format!("its header lacks {name:?}")))
    };
    let header_text = entry("tributary")?;
    // Before anything else is believed; a later version may name other fields.
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let json = |e: serde_json::Error| damaged(e.to_string());
    let Version { version } = serde_json::from_str(header_text).map_err(json)?;
    if version != CHECKPOINT_VERSION {
        return Err(CheckpointError::Version {
            path: path.into(),
            found: version,
        });
    }
    let mut data: [&[u8]; 4] = [&[]; 4];
    for (slot, name) in data.iter_mut().zip(VECTORS) {
        let view = tensors.tensor(name).map_err(|e| damaged(e.to_string()))?;
        if view.dtype() != Dtype::F32 {
            return Err(damaged(format!("{name} is not f32")));
        }
        *slot = view.data();
    }
    if seal(header_text, data) != *entry("blake3")? {
        return Err(damaged("its BLAKE3 seal does not fit its content".into()));
    }
    let numbers = |bytes: &[u8]| {
        (bytes.chunks_exact(4))
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    };
    let header = serde_json::from_str(header_text).map_err(json)?;
    Ok((header, data.map(numbers)))
}

/// Hash of the header's hash and of each vector's.
fn seal(header: &str, vectors: [&[u8]; 4]) -> String {
    let parts = std::iter::once(header.as_bytes()).chain(vectors);
    let digests: Vec<u8> = parts.flat_map(|p| *hash::blob(p).as_bytes()).collect();
    hash::blob(&digests).to_string()
}

/// Refuses another base, other windows or other settings.
fn compare(
    header: &Header,
    base: &BaseModel,
    windows: &Windows,
    config: &TrainConfig,
    path: &str,
) -> Result<(), CheckpointError> {
    let same = |what: &str, stored: &str, asked: &str| match stored == asked {
        true => Ok(()),
        false => Err(CheckpointError::Differs {
            path: path.into(),
            what: what.into(),
            stored: stored.into(),
            asked: asked.into(),
        }),
    };
    same("base model", &header.base, &base.hash().to_string())?;
    same("data", &header.data, &windows.digest().to_string())?;
    for (name, asked) in settings(config) {
        let stored = header.settings.get(&name).map_or("missing", String::as_str);
        same(&name, stored, &asked)?;
    }
    match header.done <= config.steps {
        true => Ok(()),
        false => Err(CheckpointError::Damaged {
            path: path.into(),
            why: format!("it has done {} of {} steps", header.done, config.steps),
        }),
    }
}
