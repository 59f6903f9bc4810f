//! Folders to damage, and safetensors files taken apart so that they can be put together wrongly.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// A copy of a golden case, or of one of its adapters, in a folder of its own.
pub(crate) fn copy_of(case: &str) -> tempfile::TempDir {
    let from = golden(case);
    let to = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(from).expect("the golden case") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            std::fs::copy(&path, to.path().join(path.file_name().expect("a name")))
                .expect("copies");
        }
    }
    to
}

pub(crate) fn golden(case: &str) -> PathBuf {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    cases.join(case)
}

/// A safetensors file as header and numbers.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) header: String,
    pub(crate) data: Vec<u8>,
}

impl Parts {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).expect("a file");
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        let header = String::from_utf8(bytes[8..8 + length].to_vec()).expect("text");
        Self {
            header,
            data: bytes[8 + length..].to_vec(),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = (self.header.len() as u64).to_le_bytes();
        [&length, self.header.as_bytes(), &self.data].concat()
    }

    pub(crate) fn write(&self, path: &Path) {
        std::fs::write(path, self.bytes()).expect("writes");
    }

    /// Changes what the header says of a tensor; null takes it out.
    pub(crate) fn set(&mut self, tensor: &str, field: &str, value: Value) {
        let mut header: Value = serde_json::from_str(&self.header).expect("JSON");
        assert!(header[tensor].is_object(), "{tensor}");
        header[tensor][field] = value;
        self.header = header.to_string();
    }

    /// Where a tensor's bytes lie.
    pub(crate) fn range(&self, tensor: &str) -> [usize; 2] {
        let header: Value = serde_json::from_str(&self.header).expect("JSON");
        let at = |i: usize| {
            header[tensor]["data_offsets"][i]
                .as_u64()
                .expect("a number") as usize
        };
        [at(0), at(1)]
    }

    pub(crate) fn rename(&mut self, tensor: &str, to: &str) {
        assert!(self.header.contains(tensor), "{tensor}");
        self.header = self
            .header
            .replace(&format!("\"{tensor}\""), &format!("\"{to}\""));
    }
}

/// Rewrites a JSON file of a folder.
pub(crate) fn set(folder: &Path, file: &str, field: &str, value: Value) {
    let path = folder.join(file);
    let mut all: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
    match value {
        Value::Null => drop(all.as_object_mut().expect("an object").remove(field)),
        value => all[field] = value,
    }
    std::fs::write(path, all.to_string()).expect("writes");
}

/// JSON of arrays in arrays.
pub(crate) fn deep() -> String {
    "[".repeat(200_000) + &"]".repeat(200_000)
}

/// An object in an object, 100,000 times.
pub(crate) fn deep_object(around: &str) -> String {
    format!(
        "{around}{}1{}{}",
        "{\"a\":".repeat(100_000),
        "}".repeat(100_000),
        "}"
    )
}

/// A named pipe in place of a file.
#[cfg(unix)]
pub(crate) fn pipe(path: &Path) {
    std::fs::remove_file(path).expect("removes");
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo runs").success());
}

/// A folder in place of a file.
pub(crate) fn folder(path: &Path) {
    std::fs::remove_file(path).expect("removes");
    std::fs::create_dir(path).expect("makes a folder");
}

/// An index that maps every tensor of a sharded case, with some entries replaced.
pub(crate) fn remap(folder: &Path, tensor: &str, file: Value) {
    let path = folder.join("model.safetensors.index.json");
    let mut index: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("the index")).expect("JSON");
    match file {
        Value::Null => drop(
            index["weight_map"]
                .as_object_mut()
                .expect("map")
                .remove(tensor),
        ),
        file => index["weight_map"][tensor] = file,
    }
    std::fs::write(path, json!({"weight_map": index["weight_map"]}).to_string()).expect("writes");
}
