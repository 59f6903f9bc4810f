//! Models of the Llama family without a tensor library: what they are, how they read and write text, and batched
//! generation with many adapters at once.
//!
//! Synchronous; it knows no network, no clock and no money. The trainer reads models here and computes with them in
//! its own way; a peer serves them from here.

pub mod adapter;
pub mod base;
pub mod brook;
pub mod chat;
pub mod config;
mod engine;
pub mod input;
pub mod json;
pub mod lora;
pub mod model;
pub mod reference;
pub mod registry;
pub mod request;
pub mod sample;
#[cfg(any(test, feature = "test-utils"))]
pub mod test_utils;
pub mod tokenizer;

pub use adapter::LoadedAdapter;
pub use base::{Base, BaseInfo, LoadError};
pub use engine::{Engine, EngineOptions, Precision};
pub use request::{Event, Finish, Micros, Refused, Request, RequestId};
pub use sample::Sampling;
