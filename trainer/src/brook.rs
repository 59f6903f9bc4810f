//! The embedded base model, ready to compute with.
//!
//! Its bytes are the engine's; `pretrain` makes them again.

pub use tributary_engine::brook::{
    CONFIG, FILES, HELD_OUT_SAMPLE, NAME, TOKENIZER, WEIGHTS, config, tokenizer, write_to,
};

use crate::base::{BaseError, BaseModel};
use crate::device::Request;

/// The model on the device of [`Request::from_env`], ready to use. Loading takes a fraction of a second;
/// share the result.
///
/// # Errors
/// Only if the embedded files were changed, or the device cannot be had.
pub fn load() -> Result<BaseModel, BaseError> {
    load_on(Request::from_env()?)
}

/// As [`load`], on a device of the caller's choice.
///
/// # Errors
/// Only if the embedded files were changed, or the device cannot be had.
pub(crate) fn load_on(request: Request) -> Result<BaseModel, BaseError> {
    BaseModel::from_bytes_on(NAME, CONFIG, WEIGHTS, TOKENIZER, request)
}

#[cfg(test)]
mod tests;
