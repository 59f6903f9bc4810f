//! LoRA fine-tuning, evaluation, gradients and generation for Llama-family models.
//!
//! Synchronous and without a network: a peer calls this crate from worker threads. It turns a base
//! model, an adapter as plain data and local text into losses, gradients and moved factors.

pub mod config;
pub mod data;
pub mod device;
pub mod evaluate;
pub mod full;
pub mod lora;
pub mod model;
pub mod optimizer;
pub mod pretrain;
pub mod shards;
mod tokenizer;

pub use tokenizer::{MAX_TOKENIZER_BYTES, Tokenizer, TokenizerError};

#[cfg(test)]
mod testing;
