//! Studies that train real adapters. Their tables are in `docs/numbers/`.
//!
//! ```text
//!   lab ── the command `tributary-lab STUDY`
//!    │
//!   study ── what all studies share: options, results folder, tables, page
//!    │
//!   studies/* ── learning, attacks, attribution, luck, gaming, cost, votes, texts
//!    │
//!   learner ── real LoRA for tributary_simulations::federation
//! ```
//!
//! The simulator itself needs no trainer and is a crate of its own; everything that trains a base model is here.
//! Modules: [`lab`], [`study`], [`studies`], [`learner`].

pub mod lab;
pub mod learner;
pub mod studies;
pub mod study;

pub use lab::Lab;
