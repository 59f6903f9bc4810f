//! An adapter as the engine computes with it.

use tributary_protocol::adapter::Adapter;
use tributary_protocol::hash::Digest;

use crate::config::Config;
use crate::lora::{LoraError, places};

/// An adapter in memory, named by its content.
#[derive(Debug)]
pub struct LoadedAdapter {
    content: Digest,
    pub(crate) adapter: Adapter,
}

impl LoadedAdapter {
    /// Lays out `adapter`, whose content hash is `content`, for a base of `config`.
    ///
    /// # Errors
    /// When it does not fit the base.
    pub fn new(config: &Config, adapter: &Adapter, content: Digest) -> Result<Self, LoraError> {
        places(config, adapter.shape())?;
        Ok(Self {
            content,
            adapter: adapter.clone(),
        })
    }

    /// Hash of what it is.
    pub fn content(&self) -> Digest {
        self.content
    }

    /// Bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        4 * self.adapter.values().len()
    }
}
