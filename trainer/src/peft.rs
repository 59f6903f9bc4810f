//! Adapters as PEFT folders: `adapter_config.json` and `adapter_model.safetensors`; and as files of llama.cpp.
//!
//! What is written loads in PEFT, vLLM and llama.cpp's converter. What is read is proven to be used:
//! every tensor must find its linear and every adapted linear its tensors, or the folder is refused
//! with the name of the tensor at fault.

mod config;
mod error;
mod export;
mod gguf;
mod import;
mod targets;
mod verify;

pub use error::ImportError;
pub use export::export_peft;
pub use gguf::{GgufError, export_gguf};
pub use import::{import_for, import_peft, other_base};
pub use verify::{Verified, VerifiedModule, verify};

/// What PEFT puts before the module path in tensor names.
const PREFIX: &str = "base_model.model.";
const CONFIG_FILE: &str = "adapter_config.json";
const TENSOR_FILE: &str = "adapter_model.safetensors";

#[cfg(test)]
mod tests;
