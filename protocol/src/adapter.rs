//! LoRA factors as checked plain data.
//!
//! The protocol moves, sums and hashes adapters without knowing what a model is. An [`AdapterShape`]
//! lists the adapted linear modules in canonical order; an [`Adapter`] is one flat `f32` vector laid
//! out by that shape. How the numbers are used in a forward pass belongs to the trainer.

use std::sync::Arc;

use bincode::{Decode, Encode};
use bytes::Bytes;

use crate::codec;
use crate::hash::{Digest, Domain, Hasher};
use crate::limits;

/// One adapted linear module: `y = x W + (alpha / rank) (x A^T) B^T`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct Module {
    /// Path inside the base model, as Hugging Face names it: `model.layers.0.self_attn.q_proj`.
    pub name: String,
    /// Width of the input, columns of `A`.
    pub inputs: u32,
    /// Width of the output, rows of `B`.
    pub outputs: u32,
}

/// Which half of a low-rank product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub enum Factor {
    /// `lora_A.weight`, shape `[rank, inputs]`, initialised uniform in `+-1/sqrt(inputs)`.
    A,
    /// `lora_B.weight`, shape `[outputs, rank]`, initialised to zero.
    B,
}

/// Which factors a round trains. The others stay exactly as certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub enum Trainable {
    /// Only `A`.
    A,
    /// Only `B`.
    B,
    /// Both factors (FedIT).
    Both,
}

impl Trainable {
    /// Whether some factor moves in rounds of both kinds.
    pub fn overlaps(self, other: Self) -> bool {
        self == other || self == Self::Both || other == Self::Both
    }

    /// Whether `factor` moves in such a round.
    pub fn includes(self, factor: Factor) -> bool {
        matches!(
            (self, factor),
            (Self::Both, _) | (Self::A, Factor::A) | (Self::B, Factor::B)
        )
    }
}

/// Rank, scale and the ordered list of adapted modules.
///
/// The flat layout is: for each module in order, `A` row-major (`rank * inputs`), then `B` row-major
/// (`outputs * rank`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct AdapterShape {
    /// Rank `r` of every module.
    pub rank: u32,
    /// LoRA alpha; the product is scaled by `alpha / rank`.
    pub alpha: u32,
    /// Adapted modules, in canonical order (the base model's layer order).
    pub modules: Vec<Module>,
}

/// A contiguous piece of the flat vector: one factor of one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Index in [`AdapterShape::modules`].
    pub module: usize,
    /// Which factor.
    pub factor: Factor,
    /// First element in the flat vector.
    pub offset: usize,
    /// Rows of the stored matrix.
    pub rows: usize,
    /// Columns of the stored matrix.
    pub cols: usize,
}

impl Segment {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// True when the segment holds nothing (never for a checked shape).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements' place in the flat vector.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// Why a shape or an adapter is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdapterError {
    /// Zero rank, no modules, zero width, or more than the limits allow.
    #[error("adapter shape refused: {0}")]
    Shape(&'static str),
    /// The flat vector has another length than the shape asks for.
    #[error("adapter holds {found} numbers where its shape needs {expected}")]
    Length {
        /// What the shape asks for.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// A number is NaN or infinite.
    #[error("adapter holds a number that is not finite, at flat position {0}")]
    NotFinite(usize),
}

impl AdapterShape {
    /// Checks every bound of the shape.
    ///
    /// # Errors
    /// [`AdapterError::Shape`] names the bound that failed.
    pub fn check(&self) -> Result<(), AdapterError> {
        let refuse = |why| Err(AdapterError::Shape(why));
        if self.rank == 0 || self.rank > limits::MAX_RANK {
            return refuse("rank must be between 1 and MAX_RANK");
        }
        if self.alpha == 0 || self.alpha > limits::MAX_ALPHA {
            return refuse("alpha must be between 1 and MAX_ALPHA");
        }
        if self.modules.is_empty() || self.modules.len() > limits::MAX_MODULES {
            return refuse("the number of modules must be between 1 and MAX_MODULES");
        }
        let mut total = 0u64;
        for module in &self.modules {
            if module.name.is_empty() || module.name.len() > limits::MAX_MODULE_NAME_BYTES {
                return refuse("a module name is empty or longer than MAX_MODULE_NAME_BYTES");
            }
            if module.inputs == 0 || module.outputs == 0 {
                return refuse("a module has a width of zero");
            }
            let widths = u64::from(module.inputs) + u64::from(module.outputs);
            total += widths * u64::from(self.rank);
        }
        let mut names: Vec<&str> = self.modules.iter().map(|m| m.name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return refuse("two modules carry the same name");
        }
        if total > limits::MAX_ADAPTER_PARAMETERS {
            return refuse("more parameters than MAX_ADAPTER_PARAMETERS");
        }
        Ok(())
    }

    /// Number of parameters in the flat vector.
    pub fn parameters(&self) -> usize {
        let widths: usize = (self.modules.iter())
            .map(|m| m.inputs as usize + m.outputs as usize)
            .sum();
        widths * self.rank as usize
    }

    /// Every factor's place in the flat vector, in layout order.
    pub fn segments(&self) -> Vec<Segment> {
        let rank = self.rank as usize;
        let mut offset = 0;
        let mut out = Vec::with_capacity(self.modules.len() * 2);
        for (module, m) in self.modules.iter().enumerate() {
            let sizes = [
                (Factor::A, rank, m.inputs as usize),
                (Factor::B, m.outputs as usize, rank),
            ];
            for (factor, rows, cols) in sizes {
                out.push(Segment {
                    module,
                    factor,
                    offset,
                    rows,
                    cols,
                });
                offset += rows * cols;
            }
        }
        out
    }

    /// The segments that a round with `trainable` moves, in layout order.
    pub fn trainable_segments(&self, trainable: Trainable) -> Vec<Segment> {
        let mut segments = self.segments();
        segments.retain(|s| trainable.includes(s.factor));
        segments
    }

    /// `alpha / rank`.
    pub fn scale(&self) -> f32 {
        self.alpha as f32 / self.rank as f32
    }

    /// The shape of the first `rank` components, scaled as the whole is. `None` where no whole alpha gives that
    /// scale, or there are no fewer components.
    pub fn narrow(&self, rank: u32) -> Option<Self> {
        let alpha = self.alpha * rank;
        (rank >= 1 && rank < self.rank && alpha.is_multiple_of(self.rank)).then(|| Self {
            rank,
            alpha: alpha / self.rank,
            modules: self.modules.clone(),
        })
    }

    /// Where each number of the narrow shape's flat layout stands in this one, row by row: start there, start
    /// here, length.
    fn runs(&self, narrow: &Self) -> Vec<(usize, usize, usize)> {
        let mut runs = Vec::new();
        for (wide, thin) in self.segments().iter().zip(narrow.segments()) {
            // A's first rows, and the first columns of B.
            for row in 0..thin.rows {
                let (from, to) = (thin.offset + row * thin.cols, wide.offset + row * wide.cols);
                runs.push((from, to, thin.cols));
            }
        }
        runs
    }

    /// A narrow shape's numbers in this layout, zeros elsewhere.
    pub fn widen(&self, narrow: &Self, values: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; self.parameters()];
        for (from, to, len) in self.runs(narrow) {
            out[to..to + len].copy_from_slice(&values[from..from + len]);
        }
        out
    }
}

/// LoRA factors: a shape and its flat numbers, all finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    shape: Arc<AdapterShape>,
    values: Vec<f32>,
}

impl Adapter {
    /// Checks the length and that every number is finite.
    ///
    /// # Errors
    /// See [`AdapterError`].
    pub fn new(shape: Arc<AdapterShape>, values: Vec<f32>) -> Result<Self, AdapterError> {
        let expected = shape.parameters();
        if values.len() != expected {
            return Err(AdapterError::Length {
                expected,
                found: values.len(),
            });
        }
        // Without an early end the loop runs on vectors.
        if values.iter().fold(true, |all, v| all & v.is_finite()) {
            return Ok(Self { shape, values });
        }
        let at = values.iter().position(|v| !v.is_finite());
        Err(AdapterError::NotFinite(at.unwrap_or(0)))
    }

    /// The starting point of a run: `A` uniform in `+-1/sqrt(inputs)` drawn from `seed`, `B` zero
    /// (the initialisation of PEFT). The same seed gives the same bytes everywhere.
    pub fn init(shape: Arc<AdapterShape>, seed: &Digest) -> Self {
        let mut values = vec![0.0; shape.parameters()];
        let mut hasher = Hasher::new(Domain::AdapterInit);
        hasher.update(seed.as_bytes());
        let mut stream = hasher.finalize_xof();
        for segment in shape.segments() {
            if segment.factor == Factor::A {
                let bound = 1.0 / (segment.cols as f32).sqrt();
                for value in &mut values[segment.range()] {
                    let mut bytes = [0u8; 4];
                    stream.fill(&mut bytes);
                    // 24 random bits give every representable step of [-1, 1).
                    let unit = (u32::from_le_bytes(bytes) >> 8) as f32 / (1 << 23) as f32 - 1.0;
                    *value = unit * bound;
                }
            }
        }
        Self { shape, values }
    }

    /// The first components alone: what a member trains that cannot hold all.
    ///
    /// # Panics
    /// If `narrow` is not a narrowing of this adapter's shape.
    pub fn narrowed(&self, narrow: Arc<AdapterShape>) -> Self {
        assert_eq!(self.shape.narrow(narrow.rank).as_ref(), Some(&*narrow));
        let mut values = vec![0.0; narrow.parameters()];
        for (to, from, len) in self.shape.runs(&narrow) {
            values[to..to + len].copy_from_slice(&self.values[from..from + len]);
        }
        Self {
            shape: narrow,
            values,
        }
    }

    /// The shape.
    pub fn shape(&self) -> &Arc<AdapterShape> {
        &self.shape
    }

    /// The flat numbers, in layout order.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Takes the flat numbers out.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// The numbers of one segment, row-major.
    pub fn segment(&self, segment: &Segment) -> &[f32] {
        &self.values[segment.range()]
    }

    /// Canonical bytes: every number as little-endian IEEE 754, in layout order.
    pub fn as_bytes(&self) -> &[u8] {
        numbers_as_bytes(&self.values)
    }

    /// Identity of what it computes. A certificate names an adapter by the hash of its canonical bytes alone, because
    /// the run's manifest fixes the shape; equal numbers under another alpha are another adapter.
    pub fn content(&self) -> Digest {
        let shape = codec::encode(&*self.shape);
        let mut hasher = Hasher::new(Domain::Adapter);
        hasher.update(&(shape.len() as u64).to_le_bytes());
        hasher.update(&shape).update(self.as_bytes()).finalize()
    }

    /// A copy of [`Adapter::as_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    /// The canonical bytes, shared with the adapter: nothing is copied.
    pub fn share(self: &Arc<Self>) -> Bytes {
        struct Shared(Arc<Adapter>);
        impl AsRef<[u8]> for Shared {
            fn as_ref(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }
        Bytes::from_owner(Shared(Arc::clone(self)))
    }

    /// Reads [`Adapter::to_bytes`] back.
    ///
    /// # Errors
    /// See [`AdapterError`].
    pub fn from_bytes(shape: Arc<AdapterShape>, bytes: &[u8]) -> Result<Self, AdapterError> {
        let expected = shape.parameters();
        if bytes.len() != expected * 4 {
            return Err(AdapterError::Length {
                expected,
                found: bytes.len() / 4,
            });
        }
        let values = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        Self::new(shape, values)
    }
}

/// Numbers as they are written: little-endian, as this machine keeps them.
pub(crate) fn numbers_as_bytes(values: &[f32]) -> &[u8] {
    const { assert!(cfg!(target_endian = "little"), "written as kept in memory") };
    bytemuck::cast_slice(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(rank: u32) -> AdapterShape {
        let module = |name: &str, inputs, outputs| Module {
            name: name.to_owned(),
            inputs,
            outputs,
        };
        AdapterShape {
            rank,
            alpha: 2 * rank,
            modules: vec![module("q", 3, 5), module("v", 4, 2)],
        }
    }

    /// `B A` of a module, entry by entry.
    fn product(adapter: &Adapter, module: usize) -> Vec<f32> {
        let segments = adapter.shape().segments();
        let (a, b) = (&segments[2 * module], &segments[2 * module + 1]);
        let (va, vb) = (adapter.segment(a), adapter.segment(b));
        let entry = |row: usize, col: usize| -> f32 {
            (0..a.rows)
                .map(|k| vb[row * b.cols + k] * va[k * a.cols + col])
                .sum()
        };
        let rows = (0..b.rows).flat_map(|row| (0..a.cols).map(move |col| (row, col)));
        rows.map(|(row, col)| entry(row, col)).collect()
    }

    #[test]
    fn equal_numbers_under_another_alpha_are_another_adapter() {
        let (plain, mut louder) = (shape(2), shape(2));
        louder.alpha += 1;
        let of = |shape: AdapterShape| {
            let values = vec![0.5; shape.parameters()];
            Adapter::new(Arc::new(shape), values).expect("finite")
        };
        let (plain, louder) = (of(plain), of(louder));
        assert_eq!(plain.as_bytes(), louder.as_bytes());
        assert_ne!(plain.content(), louder.content());
        assert_eq!(plain.content(), of(shape(2)).content());
    }

    /// Cutting components off leaves the product of those that are kept.
    #[test]
    fn the_first_components_are_an_adapter_and_lie_where_they_came_from() {
        let wide = Arc::new(shape(4));
        let narrow = Arc::new(wide.narrow(2).expect("two of four"));
        assert_eq!(narrow.scale(), wide.scale());
        let values: Vec<f32> = (0..wide.parameters()).map(|n| n as f32 - 7.0).collect();
        let whole = Adapter::new(wide.clone(), values).expect("finite");
        let part = whole.narrowed(narrow.clone());
        let back = Adapter::new(wide.clone(), wide.widen(&narrow, part.values())).expect("finite");
        for module in 0..2 {
            assert_eq!(product(&part, module), product(&back, module));
        }
        let kept = (back.values().iter().zip(whole.values())).filter(|(v, _)| **v != 0.0);
        assert!(kept.clone().all(|(v, w)| v == w));
        let zeros = part.values().iter().filter(|v| **v == 0.0).count();
        assert_eq!(kept.count(), narrow.parameters() - zeros);
    }

    #[test]
    fn only_fewer_components_with_a_whole_alpha_are_a_narrowing() {
        let odd = AdapterShape {
            alpha: 3,
            ..shape(4)
        };
        assert!(odd.narrow(2).is_none(), "the scale would change");
        for rank in [0, 4, 5] {
            assert!(shape(4).narrow(rank).is_none(), "{rank}");
        }
    }
}
