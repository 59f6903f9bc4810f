//! Error feedback: what a lossy update left out is not lost.
//!
//! `residual <- decay * residual + delta`, then the residual is encoded and `residual <- residual -
//! decoded`. A number too small to travel this round adds up until it travels. The residual covers the
//! whole flat vector: where a round trains one factor only, the other factor's residual waits
//! unchanged for its turn. It is this peer's private memory; nobody else ever computes it.

use std::sync::Arc;

use bytes::Bytes;

use super::{CHUNK, Packed, UpdateError, encoded_len, in_range, read_chunk, write_chunk};
use crate::adapter::{Segment, numbers_as_bytes};
use crate::aggregate::Layout;
use crate::manifest::UpdateCodec;
use crate::reject::Rejection;

/// One's own residual, flat layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Feedback {
    /// Shared with a record that is on its way to the disk, for as long as that takes.
    residual: Arc<Vec<f32>>,
}

impl Feedback {
    /// No residual yet, for an adapter of `parameters` numbers.
    pub fn new(parameters: usize) -> Self {
        Self {
            residual: Arc::new(vec![0.0; parameters]),
        }
    }

    /// What was not sent so far, flat layout.
    pub fn residual(&self) -> &[f32] {
        &self.residual
    }

    /// Encodes `delta` (flat layout) together with what earlier rounds left out, for a round that
    /// moves `segments`, and keeps what the encoding leaves out. On an error nothing has changed.
    ///
    /// # Errors
    /// [`UpdateError`] when `delta` has another length than the residual, or their sum is out of
    /// range.
    pub fn prepare(
        &mut self,
        delta: &[f32],
        segments: &[Segment],
        codec: UpdateCodec,
    ) -> Result<Vec<u8>, UpdateError> {
        if delta.len() != self.residual.len() {
            return Err(UpdateError::Length {
                expected: self.residual.len(),
                found: delta.len(),
            });
        }
        let decay = match codec {
            UpdateCodec::Sparse { feedback, .. } => feedback.as_f64() as f32,
            UpdateCodec::DenseF32 | UpdateCodec::DenseInt8 => 1.0,
        };
        let wish = |residual: f32, delta: f32| decay * residual + delta;
        let places = || segments.iter().flat_map(|segment| segment.range());
        let out_of_range = |at: usize| !in_range(wish(self.residual[at], delta[at]));
        if let Some(at) = places().position(out_of_range) {
            return Err(UpdateError::OutOfRange(at));
        }
        let layout = Layout::of(segments.to_vec(), delta.len());
        let mut bytes = Vec::with_capacity(encoded_len(layout.len(), codec));
        let (mut sum, mut sent) = (Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK));
        let residual = Arc::make_mut(&mut self.residual);
        for ranges in layout.chunks() {
            let flat = || ranges.iter().cloned().flatten();
            sum.clear();
            sum.extend(flat().map(|at| wish(residual[at], delta[at])));
            let from = bytes.len();
            write_chunk(&sum, codec, &mut bytes);
            sent.clear();
            sent.resize(sum.len(), 0.0);
            read_chunk(&bytes[from..], codec, &mut sent).expect("we decode what we encode");
            for ((at, sum), sent) in flat().zip(&sum).zip(&sent) {
                residual[at] = sum - sent;
            }
        }
        Ok(bytes)
    }

    /// Keeps work that came too late for any update of its round (`delta` in flat layout).
    ///
    /// # Panics
    /// If `delta` has another length than the residual.
    pub fn add(&mut self, delta: &[f32]) {
        assert_eq!(
            delta.len(),
            self.residual.len(),
            "a delta of the flat layout"
        );
        let residual = Arc::make_mut(&mut self.residual);
        for (residual, delta) in residual.iter_mut().zip(delta) {
            *residual += delta;
        }
    }

    /// Takes an update back that was sent but not included.
    ///
    /// # Panics
    /// If the residual is not of this layout. What of the update cannot be read is left out.
    pub fn restore(&mut self, update: &Packed, layout: &Layout) {
        assert_eq!(self.residual.len(), layout.parameters(), "of one adapter");
        let residual = Arc::make_mut(&mut self.residual);
        let mut places = layout.places();
        let read = update.visit(|at, sent| residual[places.stretch(at).0] += sent);
        debug_assert!(read.is_ok(), "of an update that was checked");
    }

    /// Bytes for the store: every number as little-endian f32. They are shared with the residual until it changes.
    pub fn share(&self) -> Bytes {
        struct Shared(Arc<Vec<f32>>);
        impl AsRef<[u8]> for Shared {
            fn as_ref(&self) -> &[u8] {
                numbers_as_bytes(&self.0)
            }
        }
        Bytes::from_owner(Shared(Arc::clone(&self.residual)))
    }

    /// Reads [`Feedback::share`] back.
    ///
    /// # Errors
    /// [`Rejection::Blob`] when the bytes are not finite numbers.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Rejection> {
        if !bytes.len().is_multiple_of(4) {
            return Err(Rejection::Blob("a residual with a broken number"));
        }
        let residual: Vec<f32> = (bytes.chunks_exact(4))
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        if residual.iter().any(|v| !v.is_finite()) {
            return Err(Rejection::Blob("a residual that is not finite"));
        }
        Ok(Self {
            residual: Arc::new(residual),
        })
    }
}
