//! Answers over HTTP from one base and many adapters.

pub mod adapters;
