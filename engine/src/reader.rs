//! One text after the other, token by token: the forward pass for callers that bring their own loop.

use crate::adapter::LoadedAdapter;
use crate::attend::PAGE;
use crate::base::BaseInfo;
use crate::engine::Precision;
use crate::forward::{Forward, Span};
use crate::model::parameters::Parameter;
use crate::weights::PackedParameter;

/// Tokens that are read in one step of a long prompt.
const CHUNK: usize = 256;

/// A model that reads one text at a time.
pub struct Reader {
    forward: Forward,
    pages: Vec<u32>,
    position: usize,
}

impl Reader {
    /// Packs a base, whose parameters come in canonical order, for texts of up to `positions` tokens.
    ///
    /// # Panics
    /// If `parameters` are not those of the base.
    pub fn new(
        info: &BaseInfo,
        parameters: impl Iterator<Item = Parameter>,
        precision: Precision,
        threads: usize,
        positions: usize,
    ) -> Self {
        let pages = positions.div_ceil(PAGE);
        let size = (positions, pages);
        // One after the other: what was packed is freed.
        let parameters = parameters.map(|p| PackedParameter::new(p, precision));
        Self {
            forward: Forward::new(info, parameters, precision, threads, size),
            pages: (0..pages as u32).collect(),
            position: 0,
        }
    }

    /// Begins another text.
    pub fn clear(&mut self) {
        self.position = 0;
    }

    /// Reads more tokens of the text, all of it with the same adapter; gives the logits of what follows.
    ///
    /// # Panics
    /// When there are no tokens, one is not in the vocabulary, or the text becomes too long.
    pub fn read(&mut self, tokens: &[u32], adapter: Option<&LoadedAdapter>) -> &[f32] {
        assert!(!tokens.is_empty(), "something to read");
        for (at, chunk) in tokens.chunks(CHUNK).enumerate() {
            let last = (at + 1) * CHUNK >= tokens.len();
            self.forward.step(&[Span {
                tokens: chunk,
                position: self.position,
                pages: &self.pages,
                adapter,
                logits: usize::from(last),
            }]);
            self.position += chunk.len();
        }
        self.forward.logits(0)
    }
}
