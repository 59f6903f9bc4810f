//! Writing an adapter as llama.cpp reads it: one GGUF file.
//!
//! The format is that of version 3 (`docs/gguf.md` of ggml): a header, metadata, the list of tensors, their numbers, each
//! aligned. Names and metadata are those of llama.cpp's `convert_lora_to_gguf.py`. Numbers stay f32, so that the file
//! computes what the adapter does. Only adapters are written, and nothing is read.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tributary_protocol::adapter::{Adapter, Factor, Segment};

use crate::config::{Config, Family};
use crate::lora::{self, LoraError};
use crate::model::files::{SaveError, write_whole};

const MAGIC: &[u8; 4] = b"GGUF";
const VERSION: u32 = 3;
/// Where numbers may begin, in bytes; what a file without `general.alignment` means.
const ALIGNMENT: u64 = 32;
/// Types of metadata.
const TYPE_F32: u32 = 6;
const TYPE_STRING: u32 = 8;
/// Four bytes a number, among ggml's types of tensors.
const GGML_F32: u32 = 0;

/// What llama.cpp calls the linears of a layer.
const LINEARS: [(&str, &str); 7] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Why an adapter was not written as GGUF.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The adapter is another base's.
    #[error(transparent)]
    Base(#[from] LoraError),
    /// The file could not be written.
    #[error(transparent)]
    Save(#[from] SaveError),
}

/// One tensor of the file.
struct Tensor<'a> {
    name: String,
    rows: usize,
    cols: usize,
    values: &'a [f32],
    /// Heads whose rows llama.cpp keeps in another order than Hugging Face; zero leaves rows as they are.
    heads: usize,
}

/// Writes `adapter`, which adapts a base of `config`, as the file `path`, whole or not at all.
///
/// # Errors
/// When the adapter does not fit the base, or the file cannot be written.
pub fn export_gguf(path: &Path, config: &Config, adapter: &Adapter) -> Result<(), GgufError> {
    lora::places(config, adapter.shape())?;
    let failed = |source| SaveError::Write {
        path: path.display().to_string(),
        source,
    };
    write_whole(path, failed, |file: &mut File| {
        let mut out = BufWriter::new(file);
        write(&mut out, config, adapter)
            .and_then(|()| out.flush())
            .map_err(failed)
    })?;
    Ok(())
}

/// The whole file. The adapter fits the configuration.
fn write(out: &mut impl Write, config: &Config, adapter: &Adapter) -> io::Result<()> {
    let tensors = tensors(config, adapter);
    let head = head(config.family, adapter.shape().alpha, &tensors);
    out.write_all(&head)?;
    pad(out, head.len() as u64)?;
    for tensor in &tensors {
        for row in 0..tensor.rows {
            let from = tensor.source(row) * tensor.cols;
            for value in &tensor.values[from..from + tensor.cols] {
                out.write_all(&value.to_le_bytes())?;
            }
        }
        pad(out, tensor.bytes())?;
    }
    Ok(())
}

fn tensors<'a>(config: &Config, adapter: &'a Adapter) -> Vec<Tensor<'a>> {
    let shape = adapter.shape();
    let tensor = |segment: Segment| {
        let (name, linear) = renamed(&shape.modules[segment.module].name);
        let (letter, heads) = match segment.factor {
            Factor::A => ("a", 0),
            Factor::B => ("b", reordered(config, linear)),
        };
        Tensor {
            name: format!("{name}.weight.lora_{letter}"),
            rows: segment.rows,
            cols: segment.cols,
            values: adapter.segment(&segment),
            heads,
        }
    };
    shape.segments().into_iter().map(tensor).collect()
}

/// llama.cpp's name of a linear, without its last part, and which of [`LINEARS`] it is.
fn renamed(module: &str) -> (String, usize) {
    let path = module.strip_prefix("model.layers.");
    let (layer, part) = path
        .and_then(|path| path.split_once('.'))
        .expect("the adapter was checked against its base");
    let linear = LINEARS.iter().position(|(name, _)| *name == part);
    let linear = linear.expect("the adapter was checked against its base");
    (format!("blk.{layer}.{}", LINEARS[linear].1), linear)
}

/// Heads of a linear whose rows are reordered: llama.cpp rotates neighbouring numbers of a Llama's queries and keys,
/// Hugging Face the two halves of a head (`permute` in `convert_hf_to_gguf.py`). Of a Qwen both rotate halves.
fn reordered(config: &Config, linear: usize) -> usize {
    match (config.family, linear) {
        (Family::Llama, 0) => config.heads,
        (Family::Llama, 1) => config.kv_heads,
        _ => 0,
    }
}

impl Tensor<'_> {
    /// Which row of the adapter stands in `row` of the file.
    fn source(&self, row: usize) -> usize {
        if self.heads == 0 {
            return row;
        }
        let head = self.rows / self.heads;
        let (first, within) = (row / head * head, row % head);
        first + within % 2 * (head / 2) + within / 2
    }

    fn bytes(&self) -> u64 {
        4 * self.values.len() as u64
    }
}

/// All before the numbers, without the padding behind it.
fn head(family: Family, alpha: u32, tensors: &[Tensor<'_>]) -> Vec<u8> {
    let architecture = match family {
        Family::Llama => "llama",
        Family::Qwen2 => "qwen2",
        Family::Qwen3 => "qwen3",
    };
    let texts = [
        ("general.architecture", architecture),
        ("general.type", "adapter"),
        ("adapter.type", "lora"),
    ];
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((texts.len() as u64 + 1).to_le_bytes());
    for (key, value) in texts {
        text(&mut out, key);
        out.extend(TYPE_STRING.to_le_bytes());
        text(&mut out, value);
    }
    text(&mut out, "adapter.lora.alpha");
    out.extend(TYPE_F32.to_le_bytes());
    out.extend((alpha as f32).to_le_bytes());
    let mut offset = 0;
    for tensor in tensors {
        text(&mut out, &tensor.name);
        out.extend(2u32.to_le_bytes());
        // The dimension whose numbers are neighbours comes first.
        out.extend((tensor.cols as u64).to_le_bytes());
        out.extend((tensor.rows as u64).to_le_bytes());
        out.extend(GGML_F32.to_le_bytes());
        out.extend(u64::to_le_bytes(offset));
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Fills up what is `written` to a multiple of the alignment.
fn pad(out: &mut impl Write, written: u64) -> io::Result<()> {
    let missing = written.next_multiple_of(ALIGNMENT) - written;
    out.write_all(&[0; ALIGNMENT as usize][..missing as usize])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::tiny_config;

    /// The adapter that `trainer/tests/gguf/make.py` writes with llama.cpp's own package.
    fn ramp(config: &Config) -> Adapter {
        let shape = Arc::new(lora::full_shape(config, 2, 6));
        let values = (0..shape.parameters()).map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0);
        let values = values.collect();
        Adapter::new(shape, values).unwrap()
    }

    #[test]
    fn files_are_those_of_the_package_of_llama_cpp_byte_for_byte() {
        let llama = tiny_config();
        let qwen = Config {
            family: Family::Qwen2,
            ..llama.clone()
        };
        let goldens: [(&Config, &[u8]); 2] = [
            (&llama, include_bytes!("../../tests/gguf/llama.gguf")),
            (&qwen, include_bytes!("../../tests/gguf/qwen2.gguf")),
        ];
        for (config, golden) in goldens {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("adapter.gguf");
            export_gguf(&path, config, &ramp(config)).unwrap();
            assert!(
                std::fs::read(path).unwrap() == golden,
                "{}",
                config.to_json()
            );
        }
    }

    #[test]
    fn an_adapter_of_another_base_is_not_written() {
        let llama = tiny_config();
        let wider = Config {
            ffn: llama.ffn + 8,
            ..llama.clone()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adapter.gguf");
        let error = export_gguf(&path, &wider, &ramp(&llama)).unwrap_err();
        assert!(
            error.to_string().contains("use the base it was made for"),
            "{error}"
        );
        assert!(!path.exists());
    }
}
