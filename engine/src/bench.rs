//! The forward pass alone, for benchmarks: texts of made-up tokens, without requests, sampling or a cache of prefixes.

use std::path::Path;
use std::sync::Arc;

use tributary_protocol::adapter::{Adapter, AdapterShape, Factor};
use tributary_protocol::hash::Digest;

use crate::adapter::LoadedAdapter;
use crate::base::Base;
use crate::config::Config;
use crate::engine::Precision;
use crate::forward::{Forward, Span};
use crate::lora::modules;
use crate::model::files::stream::TensorFile;
use crate::weights::PackedParameter;

/// Most tokens of one text.
const POSITIONS: usize = 2048;
/// Pages of all texts together.
const PAGES: usize = 32 * 16;
/// Rows of a step of a long prompt.
const CHUNK: usize = 512;

/// A model and texts that it reads.
pub struct Bench {
    config: Config,
    forward: Forward,
    /// Tokens that each text holds.
    lengths: Vec<usize>,
    pages: Vec<Vec<u32>>,
}

impl Bench {
    /// Packs a base.
    pub fn new(base: Base, precision: Precision, threads: usize) -> Self {
        let config = base.info.config.clone();
        let size = (POSITIONS, PAGES);
        let parameters = base.parameters.into_iter();
        let parameters = parameters.map(|p| PackedParameter::new(p, precision));
        Self {
            forward: Forward::new(&base.info, parameters, precision, threads, size),
            config,
            lengths: Vec::new(),
            pages: Vec::new(),
        }
    }

    /// Bytes of weights that one step reads.
    pub fn weight_bytes(&self) -> usize {
        self.forward.weight_bytes()
    }

    /// Forgets all texts; begins `rows` new ones.
    pub fn clear(&mut self, rows: usize) {
        self.lengths = vec![0; rows];
        let each = PAGES / rows.max(8);
        let pages = |row: usize| (row * each..(row + 1) * each).map(|page| page as u32);
        self.pages = (0..rows).map(|row| pages(row).collect()).collect();
    }

    /// Reads so many tokens of every text.
    pub fn read(&mut self, tokens: usize, adapters: &[Arc<LoadedAdapter>]) {
        for row in 0..self.lengths.len() {
            let text: Vec<u32> = (0..tokens).map(|at| self.token(row, at)).collect();
            for chunk in text.chunks(CHUNK) {
                let last = self.lengths[row] + chunk.len() == tokens;
                self.forward.step(&[Span {
                    tokens: chunk,
                    position: self.lengths[row],
                    pages: &self.pages[row],
                    adapter: adapter(adapters, row),
                    logits: usize::from(last),
                }]);
                self.lengths[row] += chunk.len();
            }
        }
    }

    /// Reads one more token of every text in one step.
    pub fn decode(&mut self, adapters: &[Arc<LoadedAdapter>]) {
        let next = self.lengths.iter().enumerate();
        let next: Vec<u32> = next.map(|(row, at)| self.token(row, *at)).collect();
        let span = |row: usize| Span {
            tokens: &next[row..=row],
            position: self.lengths[row],
            pages: &self.pages[row],
            adapter: adapter(adapters, row),
            logits: 1,
        };
        let spans: Vec<Span> = (0..next.len()).map(span).collect();
        self.forward.step(&spans);
        self.lengths.iter_mut().for_each(|length| *length += 1);
    }

    /// An adapter of a PEFT folder whose alpha is twice its rank.
    ///
    /// # Errors
    /// When the folder holds none for this model.
    pub fn adapter(&self, folder: &Path) -> Result<Arc<LoadedAdapter>, Box<dyn std::error::Error>> {
        let path = folder.join("adapter_model.safetensors");
        let file = std::fs::File::open(&path)?;
        let size = file.metadata()?.len();
        let file = TensorFile::new(file, size, "adapter_model.safetensors", 1 << 20)?;
        let entries = file.header.entries.clone();
        let mut tensors = std::collections::BTreeMap::new();
        file.tensors(
            None,
            |_| true,
            |entry, values| {
                tensors.insert(
                    entries[entry].name.clone(),
                    (entries[entry].shape[0], values),
                );
            },
        )?;
        let name = |module: &str, factor| {
            let factor = if factor == Factor::A {
                "lora_A"
            } else {
                "lora_B"
            };
            format!("base_model.model.{module}.{factor}.weight")
        };
        let modules = modules(&self.config);
        let rank = tensors
            .get(&name(&modules[0].name, Factor::A))
            .ok_or("no adapter of all linears")?
            .0 as u32;
        let shape = Arc::new(AdapterShape {
            rank,
            alpha: 2 * rank,
            modules,
        });
        let mut values = Vec::with_capacity(shape.parameters());
        for segment in shape.segments() {
            let module = &shape.modules[segment.module].name;
            let found = tensors.remove(&name(module, segment.factor));
            values.extend(found.ok_or("a factor is missing")?.1);
        }
        let adapter = Adapter::new(shape, values)?;
        let loaded = LoadedAdapter::new(&self.config, &adapter, Digest::default())?;
        Ok(Arc::new(loaded))
    }

    fn token(&self, row: usize, at: usize) -> u32 {
        ((7919 * at + 104_729 * row + 17) % self.config.vocab) as u32
    }
}

fn adapter(adapters: &[Arc<LoadedAdapter>], row: usize) -> Option<&LoadedAdapter> {
    let at = row.checked_rem(adapters.len())?;
    Some(&adapters[at])
}
