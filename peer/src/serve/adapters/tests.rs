//! Folders and ids, as a server is asked to load them.

use std::path::Path;

use tributary_engine::config::Config;
use tributary_engine::lora::full_shape;
use tributary_engine::test_utils::tiny_config;
use tributary_protocol::adapter::Adapter;
use tributary_protocol::hash::{Domain, digest};
use tributary_protocol::id::{PeerId, Round};
use tributary_protocol::manifest::Manifest;
use tributary_trainer::export_peft;

use super::*;
use crate::model::card::{Card, Known};

/// Long enough for a small folder on a busy machine.
const SOON: Duration = Duration::from_secs(20);

struct Bench {
    dir: tempfile::TempDir,
    adapters: Adapters,
}

fn base() -> ServedBase {
    ServedBase {
        name: "tiny".to_owned(),
        hash: digest(Domain::BaseModel, b"tiny"),
        config: tiny_config(),
    }
}

fn bench() -> Bench {
    bench_of(Fetch::Nobody)
}

fn bench_of(fetch: Fetch) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let options = AdapterOptions {
        limits: RegistryLimits::default(),
        cache: dir.path().join("cache"),
        fetch_unnamed: true,
        fetch_timeout_s: 1,
    };
    let adapters = Adapters::new(base(), options, fetch);
    Bench { dir, adapters }
}

fn numbers(config: &Config, seed: u32) -> Adapter {
    let shape = Arc::new(full_shape(config, 2, 4));
    let value = |at: usize| ((at as u32 * 37 + seed * 11) % 101) as f32 / 64.0 - 0.7;
    let values = (0..shape.parameters()).map(value).collect();
    Adapter::new(shape, values).unwrap()
}

impl Bench {
    /// A folder with the adapter of a seed.
    fn folder(&self, name: &str, seed: u32) -> String {
        let folder = self.dir.path().join(name);
        export_peft(&folder, "tiny", &numbers(&tiny_config(), seed)).unwrap();
        folder.display().to_string()
    }

    async fn content(&self, model: &str) -> Digest {
        let got = tokio::time::timeout(SOON, self.adapters.get(model)).await;
        got.unwrap().unwrap().expect("it is no base").content()
    }
}

fn code<T>(outcome: Result<T, AdapterError>) -> &'static str {
    outcome.err().expect("should be refused").code()
}

/// A run of the example that adapts `base`, with the shape of [`numbers`].
fn manifest(base: &ServedBase) -> Manifest {
    let file = crate::config::RunFile::parse(crate::config::example(), "x").unwrap();
    let facts = crate::model::facts(crate::model::BROOK).unwrap();
    let mut manifest = file.manifest(PeerId::default(), 1, &facts).unwrap();
    manifest.model.base.name.clone_from(&base.name);
    manifest.model.base.hash = base.hash;
    manifest.model.adapter = full_shape(&base.config, 2, 4);
    manifest
}

/// A folder as `adapter get` writes it.
fn certified(folder: &Path, base: &ServedBase, seed: u32) -> Card {
    let (manifest, adapter) = (manifest(base), numbers(&base.config, seed));
    let card = Card::of(&manifest, &adapter, Round(3), Known::default());
    crate::model::export(folder, &manifest, &adapter, Some(&card)).unwrap();
    card
}

#[tokio::test]
async fn the_base_has_no_adapter_and_an_unknown_name_is_an_error() {
    let bench = bench();
    assert!(bench.adapters.get("tiny").await.unwrap().is_none());
    assert_eq!(code(bench.adapters.get("poet").await), "adapter_not_found");
    assert_eq!(
        code(bench.adapters.load("tiny", "x", false).await),
        "adapter_name_taken"
    );
    assert_eq!(code(bench.adapters.unload("tiny")), "adapter_not_found");
}

#[tokio::test]
async fn a_folder_is_loaded_under_a_name_and_listed_with_its_base() {
    let bench = bench();
    let folder = bench.folder("a", 1);
    let loaded = bench.adapters.load("poet", &folder, true).await.unwrap();
    assert_eq!(
        (loaded.id.as_str(), loaded.parent.as_deref()),
        ("poet", Some("tiny"))
    );
    assert!(loaded.pinned && loaded.bytes_in_memory > Some(0));
    let content = numbers(&tiny_config(), 1).content();
    assert_eq!(loaded.content, Some(content.to_string()));
    assert_eq!(bench.content("poet").await, content);
    let names: Vec<String> = bench.adapters.list().into_iter().map(|m| m.id).collect();
    assert_eq!(names, ["tiny", "poet"]);
    bench.adapters.unload("poet").unwrap();
    assert_eq!(code(bench.adapters.get("poet").await), "adapter_not_found");
}

#[tokio::test]
async fn a_registered_folder_is_read_by_the_first_request_and_once_for_all() {
    let bench = bench();
    let folder = bench.folder("a", 1);
    bench.adapters.register("poet", &folder).unwrap();
    assert_eq!(bench.adapters.list()[1].content, None);
    let all = (0..50).map(|_| bench.content("poet"));
    let all = futures::future::join_all(all).await;
    assert!(all.iter().all(|content| *content == all[0]));
    assert_eq!(bench.adapters.usage().1.loads, 1);
}

#[tokio::test]
async fn a_name_stands_for_what_was_loaded_last_and_a_running_request_for_what_it_began_with() {
    let bench = bench();
    let (one, two) = (bench.folder("a", 1), bench.folder("b", 2));
    bench.adapters.load("poet", &one, false).await.unwrap();
    let running = bench.adapters.get("poet").await.unwrap().unwrap();
    bench.adapters.load("poet", &two, false).await.unwrap();
    assert_eq!(
        bench.content("poet").await,
        numbers(&tiny_config(), 2).content()
    );
    assert_eq!(running.content(), numbers(&tiny_config(), 1).content());
    let missing = bench.adapters.load("poet", "/nowhere", false).await;
    assert_eq!(code(missing), "adapter_not_found");
    assert_eq!(
        bench.content("poet").await,
        numbers(&tiny_config(), 2).content()
    );
}

#[tokio::test]
async fn an_abandoned_request_does_not_abandon_the_load() {
    let bench = bench();
    let folder = bench.folder("a", 1);
    bench.adapters.register("poet", &folder).unwrap();
    {
        let asking = bench.adapters.get("poet");
        // Polled once: the load has begun.
        let gone = tokio::time::timeout(Duration::ZERO, asking).await;
        drop(gone);
    }
    assert_eq!(
        bench.content("poet").await,
        numbers(&tiny_config(), 1).content()
    );
    assert_eq!(bench.adapters.usage().1.loads, 1);
}

#[tokio::test]
async fn folders_that_cannot_be_served_say_why() {
    let bench = bench();
    let other = Config {
        ffn: tiny_config().ffn + 8,
        ..tiny_config()
    };
    let folder = |name: &str| bench.dir.path().join(name);
    export_peft(&folder("wide"), "tiny", &numbers(&other, 1)).unwrap();
    let still = Adapter::init(numbers(&tiny_config(), 1).shape().clone(), &base().hash);
    export_peft(&folder("still"), "tiny", &still).unwrap();
    std::fs::create_dir(folder("empty")).unwrap();
    bench.folder("cut", 1);
    let tensors = folder("cut/adapter_model.safetensors");
    let bytes = std::fs::read(&tensors).unwrap();
    std::fs::write(&tensors, &bytes[..bytes.len() - 4]).unwrap();
    for (name, expected) in [
        ("none", "adapter_not_found"),
        ("empty", "adapter_unreadable"),
        ("cut", "adapter_unreadable"),
        ("wide", "adapter_of_another_base"),
        ("still", "adapter_without_effect"),
    ] {
        let path = folder(name).display().to_string();
        let refused = bench.adapters.load("poet", &path, false).await;
        assert_eq!(code(refused), expected, "{name}");
        assert_eq!(bench.adapters.list().len(), 1, "{name} left its name");
    }
}

#[tokio::test]
async fn a_card_of_another_base_or_of_other_numbers_is_not_served() {
    let bench = bench();
    let folder = |name: &str| bench.dir.path().join(name);
    certified(&folder("good"), &base(), 1);
    let foreign = ServedBase {
        hash: digest(Domain::BaseModel, b"another of the same shape"),
        ..base()
    };
    certified(&folder("foreign"), &foreign, 1);
    certified(&folder("changed"), &base(), 1);
    let donor = folder("donor");
    export_peft(&donor, "tiny", &numbers(&tiny_config(), 2)).unwrap();
    let tensors = "adapter_model.safetensors";
    std::fs::copy(donor.join(tensors), folder("changed").join(tensors)).unwrap();
    let load = async |name: &str| {
        let path = folder(name).display().to_string();
        bench.adapters.load(name, &path, false).await
    };
    assert!(load("good").await.is_ok());
    let error = load("foreign").await.unwrap_err();
    assert_eq!(error.code(), "adapter_of_another_base");
    assert!(error.to_string().contains("serve its own base"), "{error}");
    assert_eq!(code(load("changed").await), "adapter_damaged");
}

#[tokio::test]
async fn an_id_that_nobody_has_is_refused_and_not_asked_for_again_at_once() {
    let bench = bench();
    let id = "ab".repeat(32);
    let error = bench.adapters.get(&id).await.unwrap_err();
    assert_eq!(error.code(), "adapter_not_found");
    assert!(error.to_string().contains("fetches nothing"), "{error}");
    let again = bench.adapters.get(&id).await;
    assert_eq!(again.unwrap_err(), error);
    assert_eq!(bench.adapters.usage().1.failures, 1);
    assert_eq!(bench.adapters.list().len(), 1);
}

#[tokio::test]
async fn an_id_that_was_fetched_before_comes_from_the_cache() {
    let bench = bench();
    let made = bench.dir.path().join("made");
    let card = certified(&made, &base(), 5);
    let cache = bench.dir.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    std::fs::rename(made, cache.join(&card.adapter)).unwrap();
    assert_eq!(bench.content(&card.adapter).await.to_string(), card.content);
}

/// Names with contents of their own, loaded, reloaded and unloaded while others ask for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_loads_and_unloads_under_traffic_serve_nobody_anothers_adapter() {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    const CHANGES: usize = 1_000;
    let dir = tempfile::tempdir().unwrap();
    let one = numbers(&tiny_config(), 0);
    let laid_out = LoadedAdapter::new(&tiny_config(), &one, one.content()).unwrap();
    let options = AdapterOptions {
        // Room for two of eight, so that they leave memory and come back as well.
        limits: RegistryLimits {
            most_bytes: 2 * laid_out.bytes(),
            ..RegistryLimits::default()
        },
        cache: dir.path().join("cache"),
        fetch_unnamed: false,
        fetch_timeout_s: 1,
    };
    let adapters = Adapters::new(base(), options, Fetch::Nobody);
    let bench = Arc::new(Bench { dir, adapters });
    let folders: Vec<String> = (0..8)
        .map(|seed| bench.folder(&format!("seed-{seed}"), seed))
        .collect();
    // Name 0 stands for seeds 0 and 1 and nothing else, name 1 for 2 and 3, and so on.
    let contents: Arc<Vec<Digest>> = Arc::new(
        (0..8)
            .map(|seed| numbers(&tiny_config(), seed).content())
            .collect(),
    );
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asking = (0..8).map(|reader: usize| {
        let (bench, contents, done) = (bench.clone(), contents.clone(), done.clone());
        tokio::spawn(async move {
            let (name, mut answered) = (reader % NAMES.len(), 0);
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                match bench.adapters.get(NAMES[name]).await {
                    Ok(adapter) => {
                        let content = adapter.expect("never the base").content();
                        assert!(contents[2 * name..2 * name + 2].contains(&content));
                        answered += 1;
                    }
                    // What comes back from disk under a name is what the name stands for, or nothing.
                    Err(error) => assert_eq!(error.code(), "adapter_not_found"),
                }
                tokio::task::yield_now().await;
            }
            answered
        })
    });
    let asking: Vec<_> = asking.collect();
    for change in 0..CHANGES {
        let name = change * 7 % NAMES.len();
        match change % 5 {
            4 => drop(bench.adapters.unload(NAMES[name])),
            _ => {
                let folder = &folders[2 * name + change / 3 % 2];
                bench
                    .adapters
                    .load(NAMES[name], folder, false)
                    .await
                    .unwrap();
            }
        }
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    for task in asking {
        assert!(task.await.unwrap() > 0, "a reader got no answer at all");
    }
    assert!(bench.adapters.usage().1.evictions > 0);
}

/// How long an adapter of rank 16 of SmolLM2-135M takes from its folder into memory.
#[test]
#[ignore = "measures: prints the milliseconds"]
fn an_adapter_of_smollm2_loads_within_25_ms() {
    let config = Config {
        vocab: 49_152,
        hidden: 576,
        ffn: 1_536,
        layers: 30,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        ..tiny_config()
    };
    let base = ServedBase { config, ..base() };
    let shape = Arc::new(full_shape(&base.config, 16, 32));
    let values = (0..shape.parameters()).map(|at| (at % 101) as f32 / 640.0 - 0.07);
    let adapter = Adapter::new(shape, values.collect()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut manifest = manifest(&base);
    manifest.model.adapter = (**adapter.shape()).clone();
    let card = Card::of(&manifest, &adapter, Round(1), Known::default());
    crate::model::export(&dir.path().join("card"), &manifest, &adapter, Some(&card)).unwrap();
    export_peft(&dir.path().join("plain"), "tiny", &adapter).unwrap();
    let began = Instant::now();
    let folder = dir.path().join("plain");
    let read = tributary_trainer::peft::import_for(&folder, "tiny", &base.config).unwrap();
    let imported = began.elapsed();
    let content = read.content();
    let hashed = began.elapsed() - imported;
    LoadedAdapter::new(&base.config, &read, content).unwrap();
    let laid_out = began.elapsed() - imported - hashed;
    println!(
        "reading {} us, hashing {} us, laying out {} us",
        imported.as_micros(),
        hashed.as_micros(),
        laid_out.as_micros()
    );
    for name in ["plain", "card"] {
        let mut took: Vec<f64> = (0..21)
            .map(|_| {
                let began = Instant::now();
                bring::read(&dir.path().join(name), &base).unwrap();
                began.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        took.sort_by(f64::total_cmp);
        println!(
            "{name}: {} bytes, median {:.1} ms, least {:.1} ms",
            adapter.as_bytes().len(),
            took[10],
            took[0]
        );
        assert!(took[10] <= 25.0, "{name} takes {:.1} ms", took[10]);
    }
}
