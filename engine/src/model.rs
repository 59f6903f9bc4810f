//! A model's weights in files and in memory, and the arithmetic that every form of the decoder shares.

pub mod files;
pub mod parameters;
pub mod rope;
pub mod vector;
