//! Error feedback: what a lossy update left out is not lost.
//!
//! `residual <- decay * residual + delta`, then the residual is encoded and `residual <- residual -
//! decoded`. A number too small to travel this round adds up until it travels. The residual covers the
//! whole flat vector: where a round trains one factor only, the other factor's residual waits
//! unchanged for its turn. It is this peer's private memory; nobody else ever computes it.

use super::{UpdateError, decode, encode, gather};
use crate::adapter::Segment;
use crate::manifest::UpdateCodec;
use crate::reject::Rejection;

/// One's own residual, flat layout. See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Feedback {
    residual: Vec<f32>,
}

impl Feedback {
    /// No residual yet, for an adapter of `parameters` numbers.
    pub fn new(parameters: usize) -> Self {
        Self {
            residual: vec![0.0; parameters],
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
        let mut sum = gather(&self.residual, segments);
        for (sum, delta) in sum.iter_mut().zip(gather(delta, segments)) {
            *sum = decay * *sum + delta;
        }
        let bytes = encode(&sum, codec)?;
        let decoded = decode(&bytes, sum.len(), codec).expect("we decode what we encode");
        for (sum, sent) in sum.iter_mut().zip(&decoded) {
            *sum -= sent;
        }
        self.put(&sum, segments, |residual, left| *residual = left);
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
        for (residual, delta) in self.residual.iter_mut().zip(delta) {
            *residual += delta;
        }
    }

    /// Takes an update back that was sent but not included: `decoded` from its bytes.
    ///
    /// # Panics
    /// If `decoded` is not of these segments.
    pub fn restore(&mut self, decoded: &[f32], segments: &[Segment]) {
        self.put(decoded, segments, |residual, sent| *residual += sent);
    }

    fn put(&mut self, values: &[f32], segments: &[Segment], change: impl Fn(&mut f32, f32)) {
        let mut values = values.iter();
        for segment in segments {
            for residual in &mut self.residual[segment.range()] {
                let value = values.next().expect("a value for each number");
                change(residual, *value);
            }
        }
        assert!(values.next().is_none(), "more values than segments hold");
    }

    /// Bytes for the store: every number as little-endian f32.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.residual.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    /// Reads [`Feedback::to_bytes`] back.
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
        Ok(Self { residual })
    }
}
