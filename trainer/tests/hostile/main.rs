//! Models and adapters from strangers: whatever is wrong with a file is an error that names the file and
//! the tensor or field. Nothing panics, and memory is bounded by the files' true size.
//!
//! A table of faults, each with the words its error must hold; then thousands of mutated headers,
//! configurations and indices from a fixed seed. A counting allocator sees every byte that is asked for.

mod faults;
mod files;
mod mutate;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use peak_alloc::PeakAlloc;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tributary_trainer::peft::verify;
use tributary_trainer::{BaseModel, GenerateConfig, Windows, evaluate, import_peft};

use faults::{ADAPTER, Fault, INDEX, MODEL};
use files::{Parts, copy_of, golden};
use mutate::mutated;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;
/// The counter counts all threads, so only one test measures at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What loading may hold at once besides a multiple of the files: the tokenizer's tables and patterns,
/// and one buffer.
const SMALL_BYTES: usize = 6 << 20;
/// Times the files' true size: numbers of two bytes become four, and their names are held twice.
const TIMES: usize = 4;

fn bytes_in(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_file() => metadata.len() as usize,
        _ => 0,
    };
    entries.map(|entry| size(entry.expect("an entry"))).sum()
}

/// The most that `work` held at once.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    MEMORY.reset_peak_usage();
    let start = MEMORY.current_usage();
    let out = work();
    (out, MEMORY.peak_usage().saturating_sub(start))
}

/// Each fault in a fresh copy of `case`; `load` gives the error.
fn refuses(case: &str, faults: &[Fault], load: impl Fn(&Path) -> Result<(), String>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let whole = copy_of(case);
    assert_eq!(load(whole.path()), Ok(()), "{case} is not damaged");
    for (name, damage, says) in faults {
        let folder = copy_of(case);
        damage(folder.path());
        let limit = TIMES * bytes_in(folder.path()) + SMALL_BYTES;
        let (loaded, held) = peak(|| load(folder.path()));
        let error = loaded.expect_err(name);
        for word in *says {
            assert!(error.contains(word), "{name}: {error}");
        }
        assert!(held <= limit, "{name}: {held} bytes held, {limit} allowed");
    }
}

fn load(folder: &Path) -> Result<(), String> {
    BaseModel::from_dir(folder)
        .map(|_| ())
        .map_err(|e| e.to_string())
}

#[test]
fn weights_that_lie_about_themselves_are_refused_by_tensor() {
    refuses("grouped", faults::WEIGHTS, load);
}

#[test]
fn a_missing_tensor_is_named() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = copy_of("grouped");
    // The last tensor, so that no gap is left.
    let mut parts = Parts::read(&folder.path().join(MODEL));
    let header: Value = serde_json::from_str(&parts.header).expect("JSON");
    let tensors = header.as_object().expect("an object").iter();
    let (last, entry) = tensors
        .filter(|(_, entry)| entry["data_offsets"].is_array())
        .max_by_key(|(_, entry)| entry["data_offsets"][1].as_u64())
        .expect("a tensor");
    let from = entry["data_offsets"][0].as_u64().expect("a number") as usize;
    let mut without = header.clone();
    without.as_object_mut().expect("an object").remove(last);
    parts.header = without.to_string();
    parts.data.truncate(from);
    parts.write(&folder.path().join(MODEL));
    let error = load(folder.path()).expect_err("a tensor is missing");
    assert!(
        error.contains(MODEL) && error.contains(last) && error.contains("lacks"),
        "{error}"
    );
}

#[test]
fn configurations_that_cannot_be_meant_are_refused_by_field() {
    refuses("grouped", faults::CONFIGURATIONS, load);
}

#[test]
fn an_index_that_lies_or_leads_away_is_refused() {
    refuses("qwen2-sharded-bf16", faults::INDICES, load);
}

#[test]
fn adapters_that_lie_about_themselves_are_refused() {
    let base = BaseModel::from_dir(&golden("grouped")).expect("the base loads");
    refuses("grouped/adapters/suffix", faults::ADAPTERS, |folder| {
        verify(folder, &base).map(|_| ()).map_err(|e| e.to_string())
    });
}

/// Loads `count` mutations of `file` (of a safetensors file only the header is mutated) and hands
/// those that pass to `load` as well.
fn survives(case: &str, file: &str, count: usize, load: impl Fn(&Path) -> bool) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = copy_of(case);
    assert!(load(folder.path()), "{case} loads");
    let path = folder.path().join(file);
    let whole = std::fs::read(&path).expect("reads");
    let parts = file.ends_with(".safetensors").then(|| Parts::read(&path));
    let mut rng = ChaCha8Rng::seed_from_u64(0x7472_6962);
    let (mut taken, mut most) = (0, 0);
    for _ in 0..count {
        let bytes = match &parts {
            Some(parts) => {
                let header = mutated(parts.header.as_bytes(), &mut rng);
                [
                    &(header.len() as u64).to_le_bytes()[..],
                    &header,
                    &parts.data,
                ]
                .concat()
            }
            None => mutated(&whole, &mut rng),
        };
        std::fs::write(&path, bytes).expect("writes");
        let (loaded, held) = peak(|| load(folder.path()));
        taken += usize::from(loaded);
        most = most.max(held);
    }
    let limit = TIMES * bytes_in(folder.path()) + SMALL_BYTES;
    println!(
        "{case}/{file}: {count} mutations, {taken} load, {} KiB held",
        most / 1024
    );
    assert!(most <= limit, "{most} bytes held, {limit} allowed");
}

/// Loads, and computes with what loads.
fn used(folder: &Path) -> bool {
    let Ok(base) = BaseModel::from_dir(folder) else {
        return false;
    };
    let windows = Windows::from_tokens(vec![vec![4, 5, 6, 7]], 4, base.config().vocab);
    if let Ok(windows) = windows {
        let _ = evaluate(&base, None, &windows).expect("there is no adapter to refuse");
    }
    let config = GenerateConfig {
        max_tokens: 2,
        ..GenerateConfig::default()
    };
    let _ = tributary_trainer::generate::generate_ids(&base, None, &[4, 5], &config);
    true
}

#[test]
fn mutated_headers_never_panic() {
    survives("grouped", MODEL, 700, used);
}

#[test]
fn mutated_configurations_never_panic() {
    survives("grouped", "config.json", 500, used);
    survives("qwen3", "config.json", 300, used);
}

#[test]
fn mutated_indices_never_panic() {
    survives("qwen2-sharded-bf16", INDEX, 300, used);
}

#[test]
fn mutated_adapters_never_panic() {
    let base = BaseModel::from_dir(&golden("biased-f16")).expect("the base loads");
    let load = |folder: &Path| match import_peft(folder, &base) {
        Ok(_) => {
            let _ = verify(folder, &base);
            true
        }
        Err(_) => false,
    };
    survives("biased-f16/adapters/patterns", ADAPTER, 700, load);
    survives(
        "biased-f16/adapters/patterns",
        "adapter_config.json",
        500,
        load,
    );
}
