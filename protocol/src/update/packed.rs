//! An update as it travelled, read where it stands.
//!
//! The updates of a round are kept as the bytes that came, shared by everything that looks at them: a sparse one is a
//! hundredth of the vector that it stands for. Code that adds or multiplies an update visits its numbers chunk by
//! chunk.

use bytes::Bytes;

use super::{CHUNK, dense, density, encoded_len, in_range, sparse};
use crate::manifest::UpdateCodec;
use crate::reject::Rejection;

/// An encoded update of known length. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    bytes: Bytes,
    len: usize,
    /// The variant of the run's codec that it is written in.
    codec: UpdateCodec,
}

impl Packed {
    /// An update of `len` numbers, in `codec` or a thinner variant, which the length tells. Looks at the length only;
    /// [`Packed::check`] reads the rest.
    ///
    /// # Errors
    /// [`Rejection::Blob`] for another length.
    pub fn new(bytes: Bytes, len: usize, codec: UpdateCodec) -> Result<Self, Rejection> {
        match density(bytes.len() as u64, len, codec) {
            Some(codec) => Ok(Self { bytes, len, codec }),
            None => Err(Rejection::Blob("an update of another length")),
        }
    }

    /// As [`Packed::new`], with every byte checked.
    ///
    /// # Errors
    /// As [`super::decode`].
    pub fn read(bytes: Bytes, len: usize, codec: UpdateCodec) -> Result<Self, Rejection> {
        let packed = Self::new(bytes, len, codec)?;
        packed.check()?;
        Ok(packed)
    }

    /// Whether [`super::encode`] writes such bytes.
    ///
    /// # Errors
    /// As [`super::decode`].
    pub fn check(&self) -> Result<(), Rejection> {
        self.visit(|_, _| {})
    }

    /// Numbers that it stands for.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it stands for nothing; no round trains nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Chunks that it is written in.
    pub fn chunks(&self) -> usize {
        self.len.div_ceil(CHUNK)
    }

    /// Tells its numbers in the order of their places; those that it does not tell are zero.
    ///
    /// # Errors
    /// [`Rejection::Blob`] for bytes that [`super::encode`] never writes; what was told before means nothing then.
    pub fn visit(&self, mut tell: impl FnMut(usize, f32)) -> Result<(), Rejection> {
        (0..self.chunks()).try_for_each(|chunk| {
            self.visit_chunk(chunk, |at, value| tell(chunk * CHUNK + at, value))
        })
    }

    /// Tells the numbers of one chunk, by their places in it.
    ///
    /// # Errors
    /// As [`Packed::visit`].
    pub fn visit_chunk(
        &self,
        chunk: usize,
        mut tell: impl FnMut(usize, f32),
    ) -> Result<(), Rejection> {
        let m = (self.len - chunk * CHUNK).min(CHUNK);
        let from = chunk * encoded_len(CHUNK, self.codec);
        let bytes = &self.bytes[from..from + encoded_len(m, self.codec)];
        let mut odd = false;
        let mut ranged = |at, value: f32| {
            odd |= !in_range(value);
            tell(at, value);
        };
        match self.codec {
            UpdateCodec::DenseF32 => dense::visit_f32(bytes, &mut ranged),
            UpdateCodec::DenseInt8 => dense::visit_int8(bytes, &mut ranged),
            UpdateCodec::Sparse { top, .. } => sparse::visit(bytes, top, m, &mut ranged),
        }
        .map_err(Rejection::Blob)?;
        match odd {
            true => Err(Rejection::Blob("an update with a number out of range")),
            false => Ok(()),
        }
    }

    /// Euclidean length; squares added one after the other in f64.
    pub(crate) fn norm(&self) -> Result<f64, Rejection> {
        let mut sum = 0.0;
        self.visit(|_, value| sum += f64::from(value) * f64::from(value))?;
        Ok(sum.sqrt())
    }
}
