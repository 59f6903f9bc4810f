//! The data of a fine-tuning: files to windows, and a share of them set aside.

use std::fs;
use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::summary::Enough;
use super::{
    DataSummary, FileSummary, FinetuneError, FinetuneEvent, FinetuneOptions, HeldOut, Length,
};
use crate::base::BaseModel;
use crate::chat::ChatTemplate;
use crate::data::{Dataset, Document, Format, PackReport, Packing, Windows};
use crate::progress::Progress;
use crate::session::memory;

/// Bytes of memory for each byte of a file while it becomes windows: its text, its tokens, the documents and the
/// windows. With a vocabulary of 600 tokens 6.4 were measured on 20 MB of running text and 8.2 on rows of 300 bytes;
/// short rows need more.
const MEMORY_PER_BYTE: u64 = 12;
/// What a packed file grows to, about, when it is unpacked.
const UNPACKED: u64 = 4;
/// Bytes of a file that give a token at the least, about: four of text, twice that in tables with other columns, and
/// four times that so that windows need not repeat.
const BYTES_PER_TOKEN: f64 = 32.0;
/// Bytes of data below which all of it is encoded: that takes seconds.
const WORTH_THINNING: f64 = (8 << 20) as f64;
/// Share of the available memory that the data may take.
const USABLE: f64 = 0.9;

/// Windows to train on and to hold against.
pub(super) struct Data {
    pub(super) train: Windows,
    pub(super) held_out: Option<Windows>,
    pub(super) summary: DataSummary,
}

/// Reads, encodes and packs everything. None when `progress` says stop.
///
/// # Errors
/// See [`FinetuneError`].
pub(super) fn load(
    base: &BaseModel,
    template: Option<&ChatTemplate>,
    files: &[PathBuf],
    options: &FinetuneOptions,
    progress: &mut impl Progress<FinetuneEvent>,
) -> Result<Option<Data>, FinetuneError> {
    if files.is_empty() {
        return Err(FinetuneError::NoData);
    }
    if options.check_memory {
        check_size(files, options)?;
    }
    let template = match (template, options.date) {
        (Some(template), Some(date)) => Some(template.clone().on(date)),
        (template, _) => template.cloned(),
    };
    let mut reading = Reading {
        base,
        template,
        options,
        share: share_needed(files, options),
        summaries: Vec::new(),
        progress,
    };
    let (mut train, mut held) = (Vec::new(), Vec::new());
    for path in files {
        let Some((mut documents, is_text)) = reading.read(path)? else {
            return Ok(None);
        };
        if documents.len() == 1 || is_text {
            // Running text: its windows are told apart instead of its rows.
            documents = (documents.into_iter())
                .flat_map(|document| document.cut(options.context))
                .collect();
        }
        train.extend(documents);
    }
    match &options.held_out {
        HeldOut::None => {}
        HeldOut::File(path) => match reading.read(path)? {
            Some((documents, _)) => held = documents,
            None => return Ok(None),
        },
        HeldOut::Share(share) => held = set_aside(&mut train, *share, options.seed),
    }
    let pack = |documents, packing| Windows::pack(documents, options.context, packing);
    let (train, packed) = pack(train, options.packing)?;
    // A share of almost nothing may hold nothing to predict; a file must.
    let held = match (&options.held_out, held.is_empty()) {
        (HeldOut::File(_), _) => Some(pack(held, Packing::Fit)?),
        (_, false) => pack(held, Packing::Fit).ok(),
        (_, true) => None,
    };
    let (held_out, held_packed): (Option<Windows>, Option<PackReport>) = held.unzip();
    Ok(Some(Data {
        train,
        held_out,
        summary: DataSummary {
            files: reading.summaries,
            train: packed,
            held_out: held_packed,
        },
    }))
}

/// Reads one file after the other.
struct Reading<'a, P> {
    base: &'a BaseModel,
    template: Option<ChatTemplate>,
    options: &'a FinetuneOptions,
    /// Of each file, what is encoded.
    share: f64,
    summaries: Vec<FileSummary>,
    progress: &'a mut P,
}

impl<P: Progress<FinetuneEvent>> Reading<'_, P> {
    /// The documents of a file, and whether it is running text; None when somebody says stop.
    fn read(&mut self, path: &Path) -> Result<Option<(Vec<Document>, bool)>, FinetuneError> {
        let shown = path.display().to_string();
        let mut tell = |done, of| {
            let what = format!("reading {shown}");
            (self.progress).report(&FinetuneEvent::Working { what, done, of })
        };
        tell(0, 0);
        let mut dataset = Dataset::read(path, &self.options.read)?;
        let format = dataset.format();
        let enough = (self.share < 1.0).then(|| {
            let (kept, of) = dataset.thin(self.share, self.options.seed);
            Enough { kept, of }
        });
        let progress = &mut |(done, of): &(u64, u64)| tell(*done, *of);
        let template = self.template.as_ref();
        let Some(encoded) = dataset.encode_with(self.base, template, progress)? else {
            return Ok(None);
        };
        self.summaries.push(FileSummary {
            path: shown,
            format,
            rows: encoded.report,
            enough,
        });
        Ok(Some((encoded.documents, format == Format::Text)))
    }
}

/// The share of the data that so few steps can see at most, generously: encoding a large file whole for three steps
/// would take hours and change nothing. All of it where that is not much, or is needed.
fn share_needed(files: &[PathBuf], options: &FinetuneOptions) -> f64 {
    let Length::Steps(steps) = options.length else {
        return 1.0;
    };
    let windows = f64::from(steps) * options.batch as f64 * options.accumulate as f64;
    let kept = match options.held_out {
        HeldOut::Share(share) => 1.0 - share,
        _ => 1.0,
    };
    let wanted = windows * options.context as f64 * BYTES_PER_TOKEN / kept;
    let bytes: u64 = files
        .iter()
        .map(|path| fs::metadata(path).map_or(0, |m| m.len()))
        .sum();
    match wanted.max(WORTH_THINNING) / bytes as f64 {
        share if share < 0.5 => share,
        _ => 1.0,
    }
}

/// Refuses files that would make the machine swap before a training begins. What cannot be looked at is refused
/// when it is read.
fn check_size(files: &[PathBuf], options: &FinetuneOptions) -> Result<(), FinetuneError> {
    let held_out = match &options.held_out {
        HeldOut::File(path) => Some(path),
        _ => None,
    };
    let size = |path: &PathBuf| {
        let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
        let packed = path.extension().is_some_and(|e| e == "gz" || e == "zst");
        bytes * if packed { UNPACKED } else { 1 }
    };
    let bytes: u64 = files.iter().chain(held_out).map(size).sum();
    let needed = bytes.saturating_mul(MEMORY_PER_BYTE);
    match memory::available_bytes() {
        Some(available) if needed as f64 > available as f64 * USABLE => {
            Err(FinetuneError::TooMuchData {
                bytes,
                needed,
                available,
            })
        }
        _ => Ok(()),
    }
}

/// Takes a share of the documents out, drawn by `seed`; at least one stays and, unless the share is
/// zero, one goes if another remains.
fn set_aside(documents: &mut Vec<Document>, share: f64, seed: u64) -> Vec<Document> {
    if documents.len() < 2 || share <= 0.0 {
        return Vec::new();
    }
    let wanted = (documents.len() as f64 * share).round() as usize;
    let count = wanted.clamp(1, documents.len() - 1);
    let mut order: Vec<usize> = (0..documents.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut out = vec![false; documents.len()];
    order[..count].iter().for_each(|at| out[*at] = true);
    let (mut kept, mut held) = (Vec::new(), Vec::new());
    for (document, out) in documents.drain(..).zip(out) {
        match out {
            true => held.push(document),
            false => kept.push(document),
        }
    }
    *documents = kept;
    held
}
