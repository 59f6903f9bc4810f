//! Models of the Llama family without a tensor library: what they are, how they read and write text, and batched
//! generation with many adapters at once.
//!
//! Synchronous; it knows no network, no clock and no money. The trainer reads models here and computes with them in
//! its own way; a peer serves them from here.
//!
//! ```text
//! config.json, safetensors, tokenizer.json -> Base        names -> registry -> LoadedAdapter
//!                                              |                                  |
//!          Request -> Engine { schedule -> forward pass over pages of keys and values -> sampler } -> Event -> Text
//!                                              |
//!                                   Replay: is an answer what its request gives?
//! ```
//! Rooms: [`base`], [`config`], [`model`], [`tokenizer`], [`chat`] say what a model is; `engine` joins [`schedule`],
//! [`pages`] and [`sample`] with the forward pass (`forward`, on `panel`, `weights`, `attend`, [`adapter`], `kernel`);
//! [`registry`] keeps adapters by name; [`grammar`] and [`tools`] hold answers to a form; [`text`] shows them;
//! [`replay`] checks them; [`mod@reference`] is the slow twin of the pass.

pub mod adapter;
mod attend;
pub mod base;
pub mod bench;
pub mod brook;
pub mod chat;
pub mod config;
mod engine;
mod forward;
pub mod grammar;
pub mod input;
pub mod json;
#[expect(
    unsafe_code,
    reason = "what the compiler cannot check, and nothing else"
)]
mod kernel;
pub mod lora;
pub mod model;
pub mod pages;
mod panel;
mod reader;
pub mod reference;
pub mod registry;
pub mod replay;
pub mod request;
pub mod sample;
pub mod schedule;
#[cfg(any(test, feature = "test-utils"))]
pub mod test_utils;
pub mod text;
pub mod tokenizer;
pub mod tools;
mod weights;

pub use adapter::LoadedAdapter;
pub use base::{Base, BaseInfo, LoadError};
pub use engine::{Engine, EngineOptions, Precision};
pub use grammar::{GrammarError, ResponseFormat, Vocabulary};
pub use reader::Reader;
pub use replay::{Claim, Progress, Replay, ReplayError, Rule, Verdict};
pub use request::{Event, Finish, Micros, Refused, Request, RequestId};
pub use sample::Sampling;
pub use tools::{CallParser, Tools};
