//! Contribution vectors as they are kept: an update as it travelled, and one coefficient.
//!
//! A round's vectors together are as small as what was sent. They are shared by everything that looks at them, and
//! never written out at the length of the adapter.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{Weighted, coefficients};
use crate::adapter::{AdapterShape, Segment, Trainable};
use crate::id::PeerId;
use crate::manifest::{Aggregation, UpdateCodec};
use crate::update::{CHUNK, Packed};

/// Where the numbers of a round's updates stand in the adapter. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    segments: Arc<[Segment]>,
    /// Numbers of an update.
    len: usize,
    /// Numbers of the adapter.
    parameters: usize,
}

impl Layout {
    /// Of a round that trains these factors.
    pub fn new(shape: &AdapterShape, trainable: Trainable) -> Self {
        Self::of(shape.trainable_segments(trainable), shape.parameters())
    }

    pub(crate) fn of(segments: Vec<Segment>, parameters: usize) -> Self {
        Self {
            len: segments.iter().map(Segment::len).sum(),
            segments: segments.into(),
            parameters,
        }
    }

    /// Of updates that stand for whole vectors of `parameters` numbers.
    pub fn whole(parameters: usize) -> Self {
        let all = Segment {
            module: 0,
            factor: crate::adapter::Factor::A,
            offset: 0,
            rows: 1,
            cols: parameters,
        };
        Self {
            segments: Arc::new([all]),
            len: parameters,
            parameters,
        }
    }

    /// Numbers of an update.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the round trains nothing; no checked shape allows that.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Numbers of the adapter.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// The trained segments, in layout order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// A reader that turns positions in updates, asked for in rising order, into positions in the adapter.
    pub(crate) fn places(&self) -> Places<'_> {
        Places {
            left: &self.segments,
            before: 0,
        }
    }

    /// The stretches of the adapter that chunk after chunk of an update moves.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Vec<Range<usize>>> + '_ {
        let mut places = self.places();
        (0..self.len).step_by(CHUNK).map(move |from| {
            let to = (from + CHUNK).min(self.len);
            let (mut at, mut ranges) = (from, Vec::with_capacity(1));
            while at < to {
                let (flat, left) = places.stretch(at);
                let take = left.min(to - at);
                ranges.push(flat..flat + take);
                at += take;
            }
            ranges
        })
    }
}

/// Turns positions in an update, asked for in rising order, into positions in the adapter.
pub(crate) struct Places<'a> {
    left: &'a [Segment],
    /// Numbers of the segments that are behind.
    before: usize,
}

impl Places<'_> {
    /// Where number `at` of an update stands, and how many of its segment follow from there.
    pub(crate) fn stretch(&mut self, at: usize) -> (usize, usize) {
        while let Some((first, rest)) = self.left.split_first() {
            if at < self.before + first.len() {
                let within = at - self.before;
                return (first.offset + within, first.len() - within);
            }
            self.before += first.len();
            self.left = rest;
        }
        panic!("number {at} lies beyond the trained segments")
    }
}

/// What one peer moved the adapter by: `c_i = a_i * u_i`, each number rounded to f32 once, zero where the round trains
/// nothing. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct ContributionVector {
    update: Packed,
    coefficient: f64,
    layout: Layout,
}

impl ContributionVector {
    /// An update times a coefficient.
    ///
    /// # Panics
    /// If the update is not of this layout.
    pub fn new(update: Packed, coefficient: f64, layout: Layout) -> Self {
        assert_eq!(update.len(), layout.len(), "an update of the layout");
        Self {
            update,
            coefficient,
            layout,
        }
    }

    /// A vector that is given number by number.
    pub fn of(values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let update = Packed::new(Bytes::from(bytes), values.len(), UpdateCodec::DenseF32);
        let update = update.expect("four bytes a number");
        Self::new(update, 1.0, Layout::whole(values.len()))
    }

    /// Numbers of the adapter.
    pub fn len(&self) -> usize {
        self.layout.parameters()
    }

    /// Whether the adapter has no numbers; no checked shape allows that.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where its numbers stand.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Tells its numbers in the order of their places in the adapter; those that it does not tell are zero. What its
    /// committee checked is told whole.
    pub fn visit(&self, mut tell: impl FnMut(usize, f32)) {
        let mut places = self.layout.places();
        let told = self.update.visit(|at, value| {
            tell(places.stretch(at).0, scaled(self.coefficient, value));
        });
        debug_assert!(told.is_ok(), "of an update that was checked");
    }

    /// Number by number, zeros included.
    pub fn to_vec(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.len()];
        self.visit(|at, value| out[at] = value);
        out
    }
}

fn scaled(coefficient: f64, value: f32) -> f32 {
    (coefficient * f64::from(value)) as f32
}

/// Contribution vectors, ordered by peer, of updates that were checked.
///
/// # Panics
/// As [`coefficients`].
pub fn vectors(
    rule: Aggregation,
    updates: &[Weighted<Packed>],
    layout: &Layout,
) -> Vec<(PeerId, ContributionVector)> {
    let coefficients = coefficients(rule, updates);
    (coefficients.into_iter())
        .map(|(peer, _, coefficient)| {
            let of = updates.iter().find(|weighted| weighted.peer == peer);
            let update = of.expect("a coefficient for each").update.clone();
            (
                peer,
                ContributionVector::new(update, coefficient, layout.clone()),
            )
        })
        .collect()
}

/// The adapter after a step: as [`super::step`], for vectors of one layout. What the round does not train keeps its bits;
/// what it trains never is minus zero. Works in place.
///
/// # Panics
/// If a vector is of another layout than the first, or of another length than `before`.
pub fn advance(before: Vec<f32>, vectors: &[&ContributionVector]) -> Vec<f32> {
    let mut values = before;
    let Some(layout) = common_layout(values.len(), vectors) else {
        return values;
    };
    let mut sums = vec![0.0f64; CHUNK];
    for (chunk, ranges) in layout.chunks().enumerate() {
        add_chunk(&values, &ranges, vectors, chunk, &mut sums);
        for (sum, at) in sums.iter().zip(ranges.into_iter().flatten()) {
            values[at] = *sum as f32;
        }
    }
    values
}

/// Tells the numbers of [`advance`], stretch by stretch from first to last, without making a second adapter.
///
/// # Panics
/// As [`advance`].
pub fn foresee(before: &[f32], vectors: &[&ContributionVector], mut tell: impl FnMut(&[f32])) {
    let Some(layout) = common_layout(before.len(), vectors) else {
        return tell(before);
    };
    let (mut sums, mut after) = (vec![0.0f64; CHUNK], Vec::with_capacity(CHUNK));
    let mut told = 0;
    for (chunk, ranges) in layout.chunks().enumerate() {
        add_chunk(before, &ranges, vectors, chunk, &mut sums);
        let mut sums = sums.iter();
        for range in ranges {
            tell(&before[told..range.start]);
            told = range.end;
            after.clear();
            after.extend(sums.by_ref().take(range.len()).map(|sum| *sum as f32));
            tell(&after);
        }
    }
    tell(&before[told..]);
}

/// The layout of vectors of one round; `None` where there are none.
fn common_layout<'a>(len: usize, vectors: &[&'a ContributionVector]) -> Option<&'a Layout> {
    let first = vectors.first()?;
    let layout = &first.layout;
    assert!(
        vectors.iter().all(|vector| vector.layout == *layout) && len == first.len(),
        "vectors of one round, as long as the adapter"
    );
    Some(layout)
}

/// The numbers of one chunk after the step, before they are rounded.
fn add_chunk(
    before: &[f32],
    ranges: &[Range<usize>],
    vectors: &[&ContributionVector],
    chunk: usize,
    sums: &mut [f64],
) {
    let flat = ranges.iter().cloned().flatten();
    for (sum, at) in sums.iter_mut().zip(flat) {
        *sum = f64::from(before[at]);
    }
    for vector in vectors {
        let told = vector.update.visit_chunk(chunk, |at, value| {
            sums[at] += f64::from(scaled(vector.coefficient, value));
        });
        told.expect("it was checked");
    }
    // As the sum with all the zeros that sparse vectors leave out: plus zero.
    sums.iter_mut().for_each(|sum| *sum += 0.0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::adapter::Module;
    use crate::hash::Digest;
    use crate::id::Ppb;
    use crate::manifest::UpdateCodec;
    use crate::{aggregate, update};

    fn shape() -> AdapterShape {
        let module = |name: &str, inputs, outputs| Module {
            name: name.into(),
            inputs,
            outputs,
        };
        AdapterShape {
            rank: 3,
            alpha: 3,
            modules: vec![
                module("q", 700, 900),
                module("v", 11, 1200),
                module("w", 5, 2),
            ],
        }
    }

    fn rules() -> impl Strategy<Value = Aggregation> {
        let tolerate = Ppb(250_000_000);
        prop_oneof![
            Just(Aggregation::Mean),
            Just(Aggregation::ClippedMean),
            Just(Aggregation::Agreement { tolerate }),
            Just(Aggregation::MultiKrum { tolerate }),
            Just(Aggregation::CentredClip { tolerate }),
            Just(Aggregation::GeometricMedian { tolerate }),
        ]
    }

    fn codecs() -> impl Strategy<Value = UpdateCodec> {
        let sparse = |top| UpdateCodec::Sparse {
            top,
            feedback: Ppb(950_000_000),
        };
        prop_oneof![
            Just(UpdateCodec::DenseF32),
            Just(UpdateCodec::DenseInt8),
            Just(sparse(64)),
            Just(sparse(4096)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// What is certified by vectors as they travel is what plain arithmetic makes of them.
        #[test]
        fn packed_steps_have_the_bits_of_plain_ones(
            rule in rules(),
            codec in codecs(),
            trainable in prop_oneof![
                Just(Trainable::A), Just(Trainable::B), Just(Trainable::Both)
            ],
            seeds in prop::collection::vec((any::<u32>(), 1u64..9), 1..6),
        ) {
            let shape = shape();
            let layout = Layout::new(&shape, trainable);
            let number = |seed: u32, at: usize| {
                let mixed = (at as u32 ^ seed).wrapping_mul(2_654_435_761) >> 7;
                (mixed % 2001) as f32 / 1000.0 - 1.0
            };
            let (mut plain, mut packed) = (Vec::new(), Vec::new());
            for (nth, (seed, weight)) in seeds.iter().enumerate() {
                let peer = PeerId(Digest::from_bytes([nth as u8; 32]));
                let wish: Vec<f32> = (0..layout.len()).map(|at| number(*seed, at)).collect();
                let bytes = update::encode(&wish, codec).expect("in range");
                let numbers = update::decode(&bytes, wish.len(), codec).expect("our own");
                let read = Packed::read(bytes.into(), wish.len(), codec).expect("our own");
                plain.push(Weighted { peer, weight: *weight, update: numbers });
                packed.push(Weighted { peer, weight: *weight, update: read });
            }
            prop_assert_eq!(
                aggregate::coefficients(rule, &plain),
                aggregate::coefficients(rule, &packed)
            );
            let vectors = vectors(rule, &packed, &layout);
            let scattered: Vec<(PeerId, Vec<f32>)> = (aggregate::combine(rule, &plain).into_iter())
                .map(|(peer, c)| {
                    (peer, update::scatter(&c, layout.segments(), shape.parameters()))
                })
                .collect();
            for ((peer, vector), (other, numbers)) in vectors.iter().zip(&scattered) {
                prop_assert_eq!((peer, &vector.to_vec()), (other, numbers));
            }
            let before: Vec<f32> = (0..shape.parameters()).map(|at| number(7, at)).collect();
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            let after = bits(aggregate::step(&before, &scattered));
            let vectors: Vec<&ContributionVector> = vectors.iter().map(|(_, v)| v).collect();
            let mut foreseen = Vec::new();
            foresee(&before, &vectors, |stretch| foreseen.extend_from_slice(stretch));
            prop_assert_eq!(&bits(foreseen), &after);
            prop_assert_eq!(bits(advance(before, &vectors)), after);
        }
    }

    #[test]
    fn a_vector_given_by_its_numbers_tells_them() {
        let vector = ContributionVector::of(&[0.5, -0.25, 0.0]);
        assert_eq!(vector.to_vec(), [0.5, -0.25, 0.0]);
    }
}
