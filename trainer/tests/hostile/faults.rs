//! Every fault, how it comes about, and the words that its error must hold.

use std::path::Path;

use serde_json::{Value, json};

use crate::files::{self, Parts, deep, deep_object, remap, set};

pub(crate) const MODEL: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";
pub(crate) const ADAPTER: &str = "adapter_model.safetensors";
const CONFIG: &str = "config.json";
const ADAPTER_CONFIG: &str = "adapter_config.json";
const UP: &str = "model.layers.1.mlp.up_proj.weight";
const NORM: &str = "model.norm.weight";
const LORA: &str = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight";

/// A fault, how it comes about, and what its error says.
pub(crate) type Fault = (&'static str, fn(&Path), &'static [&'static str]);

fn parts(folder: &Path, file: &str, change: impl FnOnce(&mut Parts)) {
    let path = folder.join(file);
    let mut parts = Parts::read(&path);
    change(&mut parts);
    parts.write(&path);
}

fn write(folder: &Path, file: &str, bytes: impl AsRef<[u8]>) {
    std::fs::write(folder.join(file), bytes).expect("writes");
}

fn cut(folder: &Path, file: &str, keep: usize) {
    let bytes = std::fs::read(folder.join(file)).expect("reads");
    write(folder, file, &bytes[..keep.min(bytes.len() - 1)]);
}

fn put(f: &Path, field: &str, value: Value) {
    set(f, CONFIG, field, value);
}

/// Weights that do not hold what they say.
pub(crate) const WEIGHTS: &[Fault] = &[
    ("empty", |f| write(f, MODEL, []), &[MODEL, "0 bytes"]),
    (
        "cut in the length",
        |f| cut(f, MODEL, 5),
        &[MODEL, "5 bytes"],
    ),
    (
        "cut in the header",
        |f| cut(f, MODEL, 300),
        &[MODEL, "claims"],
    ),
    (
        "cut in the numbers",
        |f| cut(f, MODEL, usize::MAX),
        &[MODEL, "numbers"],
    ),
    (
        "bytes at the end",
        |f| parts(f, MODEL, |p| p.data.push(0)),
        &[MODEL, "numbers"],
    ),
    (
        "endless header",
        |f| write(f, MODEL, u64::MAX.to_le_bytes()),
        &[MODEL, "claims 18446744073709551615 bytes"],
    ),
    (
        "long header",
        |f| {
            write(
                f,
                MODEL,
                [&(5u64 << 20).to_le_bytes()[..], &vec![b' '; 6 << 20]].concat(),
            )
        },
        &[MODEL, "its header has 5242880 bytes"],
    ),
    (
        "no JSON",
        |f| parts(f, MODEL, |p| p.header = "{{".into()),
        &[MODEL, "not a list"],
    ),
    (
        "deep JSON",
        |f| parts(f, MODEL, |p| p.header = deep_object("{")),
        &[MODEL, "not a list"],
    ),
    (
        "deep metadata",
        |f| parts(f, MODEL, |p| p.header = deep_object("{\"__metadata__\":")),
        &[MODEL, "numbers"],
    ),
    (
        "huge shape",
        |f| {
            parts(f, MODEL, |p| {
                p.set(UP, "shape", json!([1u64 << 40, 1u64 << 40]))
            })
        },
        &[MODEL, UP, "1099511627776"],
    ),
    (
        "many dimensions",
        |f| parts(f, MODEL, |p| p.set(UP, "shape", json!(vec![1; 100_000]))),
        &[MODEL, "at most 8"],
    ),
    (
        "beyond the end",
        |f| {
            parts(f, MODEL, |p| {
                let [from, _] = p.range(UP);
                p.set(UP, "data_offsets", json!([from, u64::MAX]));
            })
        },
        &[MODEL, UP, "18446744073709551615"],
    ),
    (
        "backwards",
        |f| {
            parts(f, MODEL, |p| {
                let [from, to] = p.range(UP);
                p.set(UP, "data_offsets", json!([to, from]));
            })
        },
        &[MODEL, "byte"],
    ),
    (
        "overlap",
        |f| {
            parts(f, MODEL, |p| {
                let [from, to] = p.range(UP);
                p.set(UP, "data_offsets", json!([from - 4, to - 4]));
            })
        },
        &[MODEL, UP, "overlaps"],
    ),
    (
        "two of one name",
        |f| {
            parts(f, MODEL, |p| {
                p.rename("model.layers.0.mlp.up_proj.weight", UP)
            })
        },
        &[MODEL, UP, "twice"],
    ),
    (
        "control characters",
        |f| parts(f, MODEL, |p| p.rename(UP, "\\u001b[2J")),
        &[MODEL, "no tensor's name"],
    ),
    (
        "unmatched",
        |f| parts(f, MODEL, |p| p.rename(UP, "x.y")),
        &[MODEL, "x.y", "no place"],
    ),
    (
        "wrong shape",
        |f| parts(f, MODEL, |p| p.set(UP, "shape", json!([16, 24]))),
        &[MODEL, UP, "[16, 24]", "[24, 16]"],
    ),
    (
        "integers",
        |f| parts(f, MODEL, |p| p.set(UP, "dtype", json!("I32"))),
        &[MODEL, UP, "I32"],
    ),
    (
        "unknown kind",
        |f| parts(f, MODEL, |p| p.set(UP, "dtype", json!("F7"))),
        &[MODEL, UP, "F7"],
    ),
    (
        "NaN",
        |f| {
            parts(f, MODEL, |p| {
                let [from, _] = p.range(UP);
                p.data[from + 12..from + 16].copy_from_slice(&f32::NAN.to_le_bytes());
            })
        },
        &[MODEL, UP, "position 3"],
    ),
    (
        "folder",
        |f| files::folder(&f.join(MODEL)),
        &[MODEL, "a folder"],
    ),
    #[cfg(unix)]
    ("pipe", |f| files::pipe(&f.join(MODEL)), &[MODEL, "a pipe"]),
    (
        "pickle",
        |f| std::fs::rename(f.join(MODEL), f.join("pytorch_model.bin")).expect("renames"),
        &["pytorch_model.bin is a pickle", "save_pretrained"],
    ),
    (
        "missing file",
        |f| std::fs::remove_file(f.join(MODEL)).expect("removes"),
        &[MODEL],
    ),
];

/// Configurations and tokenizers that no model can mean.
pub(crate) const CONFIGURATIONS: &[Fault] = &[
    (
        "no theta",
        |f| put(f, "rope_parameters", Value::Null),
        &[CONFIG, "rope_theta"],
    ),
    (
        "mamba",
        |f| put(f, "architectures", json!(["MambaForCausalLM"])),
        &[CONFIG, "Mamba"],
    ),
    (
        "vocabulary",
        |f| put(f, "vocab_size", json!(1u64 << 60)),
        &[CONFIG, "vocab_size"],
    ),
    (
        "layers",
        |f| put(f, "num_hidden_layers", json!(1_000_000_000)),
        &[CONFIG, "num_hidden"],
    ),
    (
        "more layers",
        |f| put(f, "num_hidden_layers", json!(1024)),
        &["layers.2.", "lacks"],
    ),
    (
        "wide",
        |f| put(f, "hidden_size", json!(1 << 24)),
        &[MODEL, "16777216"],
    ),
    (
        "wide heads",
        |f| put(f, "head_dim", json!(1 << 24)),
        &[MODEL, "33554432"],
    ),
    (
        "no heads",
        |f| put(f, "num_attention_heads", json!(0)),
        &[CONFIG, "num_attention_heads"],
    ),
    (
        "beyond integers",
        |f| put(f, "vocab_size", json!(1e30)),
        &[CONFIG],
    ),
    (
        "yarn",
        |f| {
            put(
                f,
                "rope_parameters",
                json!({"rope_theta": 1.0, "rope_type": "yarn"}),
            )
        },
        &[CONFIG, "yarn"],
    ),
    (
        "not JSON",
        |f| write(f, CONFIG, "{\"vocab_size\": 1e99999}"),
        &[CONFIG],
    ),
    (
        "deep",
        |f| write(f, CONFIG, deep_object("{\"x\":")),
        &[CONFIG, "vocab_size"],
    ),
    ("deep lists", |f| write(f, CONFIG, deep()), &[CONFIG]),
    (
        "long",
        |f| write(f, CONFIG, vec![b' '; 2 << 20]),
        &[CONFIG, "2097152"],
    ),
    (
        "folder",
        |f| files::folder(&f.join(CONFIG)),
        &[CONFIG, "a folder"],
    ),
    #[cfg(unix)]
    (
        "pipe",
        |f| files::pipe(&f.join(CONFIG)),
        &[CONFIG, "a pipe"],
    ),
    (
        "tokenizer cut",
        |f| cut(f, "tokenizer.json", 400),
        &["tokenizer.json"],
    ),
    (
        "tokenizer deep",
        |f| write(f, "tokenizer.json", deep()),
        &["tokenizer.json"],
    ),
    (
        "other tokenizer",
        |f| put(f, "vocab_size", json!(8)),
        &["tokenizer.json", "8"],
    ),
];

/// Indices that lie, or lead out of the folder.
pub(crate) const INDICES: &[Fault] = &[
    (
        "above",
        |f| remap(f, NORM, json!("../model.safetensors")),
        &[INDEX, "../model"],
    ),
    (
        "absolute",
        |f| remap(f, NORM, json!("/etc/x.safetensors")),
        &[INDEX, "/etc/x"],
    ),
    (
        "backslash",
        |f| remap(f, NORM, json!("..\\x.safetensors")),
        &[INDEX, "plain name"],
    ),
    (
        "drive",
        |f| remap(f, NORM, json!("C:x.safetensors")),
        &[INDEX, "plain name"],
    ),
    (
        "other kind",
        |f| remap(f, NORM, json!("config.json")),
        &[INDEX, "config.json"],
    ),
    (
        "no shard",
        |f| remap(f, NORM, json!("model-9.safetensors")),
        &["model-9.safetensors"],
    ),
    (
        "wrong shard",
        |f| remap(f, NORM, json!("model-00001-of-00004.safetensors")),
        &[INDEX, NORM, "model-00001-of-00004.safetensors"],
    ),
    (
        "unlisted",
        |f| remap(f, NORM, Value::Null),
        &[INDEX, NORM, "does not list"],
    ),
    (
        "nowhere",
        |f| remap(f, "x.y", json!("model-00001-of-00004.safetensors")),
        &[INDEX, "x.y", "does not hold"],
    ),
    (
        "in two shards",
        |f| {
            let from = f.join("model-00001-of-00004.safetensors");
            std::fs::copy(from, f.join("model-00005-of-00004.safetensors")).expect("copies");
            remap(f, "x.y", json!("model-00005-of-00004.safetensors"));
        },
        &[INDEX, "model-00005-of-00004.safetensors holds it"],
    ),
    (
        "listed twice",
        |f| {
            write(
                f,
                INDEX,
                r#"{"weight_map": {"a": "b.safetensors", "a": "c.safetensors"}}"#,
            )
        },
        &[INDEX, "\"a\" is listed twice"],
    ),
    (
        "empty",
        |f| write(f, INDEX, r#"{"weight_map": {}}"#),
        &[INDEX, "0 shards"],
    ),
    (
        "many shards",
        |f| {
            let name = |i| (format!("t{i}"), json!(format!("{i}.safetensors")));
            let map: serde_json::Map<_, _> = (0..300).map(name).collect();
            write(f, INDEX, json!({"weight_map": map}).to_string());
        },
        &[INDEX, "300 shards"],
    ),
    (
        "deep",
        |f| write(f, INDEX, deep_object("{\"metadata\":")),
        &[INDEX],
    ),
    (
        "long",
        |f| write(f, INDEX, vec![b' '; 5 << 20]),
        &[INDEX, "5242880"],
    ),
    (
        "a shard is a folder",
        |f| files::folder(&f.join("model-00003-of-00004.safetensors")),
        &["model-00003-of-00004.safetensors", "a folder"],
    ),
    (
        "a shard is cut",
        |f| cut(f, "model-00003-of-00004.safetensors", usize::MAX),
        &["model-00003-of-00004.safetensors"],
    ),
];

/// Adapters that do not hold what they say, or ask for what is not computed.
pub(crate) const ADAPTERS: &[Fault] = &[
    (
        "cut",
        |f| cut(f, ADAPTER, usize::MAX),
        &[ADAPTER, "numbers"],
    ),
    (
        "endless header",
        |f| write(f, ADAPTER, u64::MAX.to_le_bytes()),
        &[ADAPTER, "claims"],
    ),
    (
        "long header",
        |f| {
            write(
                f,
                ADAPTER,
                [&(1u64 << 20).to_le_bytes()[..], &vec![b' '; 2 << 20]].concat(),
            )
        },
        &[ADAPTER, "its header has 1048576 bytes"],
    ),
    (
        "two of one name",
        |f| {
            parts(f, ADAPTER, |p| {
                p.rename(&LORA.replace("layers.1", "layers.0"), LORA)
            })
        },
        &[ADAPTER, LORA, "twice"],
    ),
    (
        "unmatched",
        |f| {
            parts(f, ADAPTER, |p| {
                p.rename(LORA, &LORA.replace("layers.1", "layers.7"))
            })
        },
        &[ADAPTER, "layers.7"],
    ),
    (
        "magnitude of DoRA",
        |f| {
            parts(f, ADAPTER, |p| {
                p.rename(LORA, &LORA.replace("lora_B", "lora_magnitude_vector"))
            })
        },
        &[ADAPTER, "lora_magnitude_vector"],
    ),
    (
        "wrong shape",
        |f| parts(f, ADAPTER, |p| p.set(LORA, "shape", json!([4, 24]))),
        &[ADAPTER, LORA, "[4, 24]"],
    ),
    (
        "infinite",
        |f| {
            parts(f, ADAPTER, |p| {
                let [from, _] = p.range(LORA);
                p.data[from..from + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
            })
        },
        &[ADAPTER, LORA, "position 0"],
    ),
    (
        "other rank",
        |f| set(f, ADAPTER_CONFIG, "r", json!(256)),
        &[ADAPTER, "256"],
    ),
    (
        "endless rank",
        |f| set(f, ADAPTER_CONFIG, "r", json!(u32::MAX)),
        &[ADAPTER, "4294967295"],
    ),
    (
        "beyond integers",
        |f| set(f, ADAPTER_CONFIG, "r", json!(1u64 << 40)),
        &[ADAPTER_CONFIG],
    ),
    (
        "fewer targets",
        |f| set(f, ADAPTER_CONFIG, "target_modules", json!(["q_proj"])),
        &[ADAPTER, "no linear"],
    ),
    (
        "dora",
        |f| set(f, ADAPTER_CONFIG, "use_dora", json!(true)),
        &[ADAPTER_CONFIG, "use_dora"],
    ),
    (
        "deep",
        |f| write(f, ADAPTER_CONFIG, deep_object("{\"x\":")),
        &[ADAPTER_CONFIG],
    ),
    (
        "long",
        |f| write(f, ADAPTER_CONFIG, vec![b' '; 2 << 20]),
        &[ADAPTER_CONFIG, "2097152"],
    ),
    (
        "pattern bomb",
        |f| {
            set(
                f,
                ADAPTER_CONFIG,
                "target_modules",
                json!("(?:a{1,1000}){1,1000}"),
            )
        },
        &[ADAPTER_CONFIG, "target_modules"],
    ),
    (
        "folder",
        |f| files::folder(&f.join(ADAPTER)),
        &[ADAPTER, "a folder"],
    ),
    #[cfg(unix)]
    (
        "pipe",
        |f| files::pipe(&f.join(ADAPTER_CONFIG)),
        &[ADAPTER_CONFIG, "a pipe"],
    ),
    (
        "pickle",
        |f| std::fs::rename(f.join(ADAPTER), f.join("adapter_model.bin")).expect("renames"),
        &["adapter_model.bin is a pickle", "save_file"],
    ),
    (
        "overflow",
        |f| {
            parts(f, ADAPTER, |p| {
                let large = 1e38f32.to_le_bytes();
                p.data
                    .chunks_exact_mut(4)
                    .for_each(|b| b.copy_from_slice(&large));
            })
        },
        &["not finite"],
    ),
];
