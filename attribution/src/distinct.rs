//! How much text each of several shards adds: what k names hold counts once.
//!
//! A name is free, text is not. Every run of a few tokens of a shard has a fingerprint; those below a fixed
//! threshold, one in [`ONE_IN`], are the shard's **sketch** (a scaled MinHash: everybody keeps the same ones,
//! so that sketches overlap as the texts do). A fingerprint that `h` shards hold counts `1/h` for each:
//!
//! ```text
//!   own_i = 1/|S_i| sum over f in S_i of 1 / holders(f)        sum over i of own_i |S_i| = |union of S_i|
//! ```
//!
//! So no set of names weighs more than the text that it holds together, however the text is cut, copied or
//! overlapped between them. Text that was reworded has other fingerprints and passes for new; nothing here
//! can tell it from new text (`docs/numbers/gaming.md`). How runs become fingerprints is the caller's matter.

use std::collections::{BTreeMap, BTreeSet};

/// Of so many fingerprints one is kept.
pub const ONE_IN: u64 = 8;

/// The kept fingerprints of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch(BTreeSet<u64>);

impl Sketch {
    /// Of all fingerprints of a shard; hashes, so that one in [`ONE_IN`] lies below the threshold.
    pub fn of(prints: impl IntoIterator<Item = u64>) -> Self {
        Self::keeping(prints, ONE_IN)
    }

    /// With `one_in` 1 it is the exact twin.
    fn keeping(prints: impl IntoIterator<Item = u64>, one_in: u64) -> Self {
        let kept = prints
            .into_iter()
            .filter(|print| *print <= u64::MAX / one_in);
        Self(kept.collect())
    }

    /// Number of fingerprints.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none: a shard of hardly any text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The part of each shard that is its own, between zero and one; a fingerprint of `h` holders is `1/h` of each
/// one's own. A shard without fingerprints has nothing of its own.
pub fn own_parts(sketches: &[Sketch]) -> Vec<f64> {
    let mut holders: BTreeMap<u64, u32> = BTreeMap::new();
    for print in sketches.iter().flat_map(|sketch| &sketch.0) {
        *holders.entry(*print).or_default() += 1;
    }
    (sketches.iter())
        .map(|sketch| {
            let own = sketch.0.iter().map(|print| 1.0 / f64::from(holders[print]));
            own.sum::<f64>() / sketch.len().max(1) as f64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    use tributary_protocol::hash::{self, Domain};

    /// Fingerprints of runs that occur nowhere else.
    fn text(from: u32, runs: u32) -> Vec<u64> {
        let print = |run: u32| {
            let digest = hash::digest(Domain::Simulation, &run.to_le_bytes());
            u64::from_le_bytes(digest.as_bytes()[..8].try_into().expect("eight bytes"))
        };
        (from..from + runs).map(print).collect()
    }

    #[test]
    fn k_names_with_one_text_weigh_as_one() {
        let sketch = Sketch::of(text(0, 4000));
        let other = Sketch::of(text(10_000, 4000));
        for names in [2, 4, 16] {
            let mut held = vec![sketch.clone(); names];
            held.push(other.clone());
            let own = own_parts(&held);
            let together: f64 = own[..names].iter().sum();
            assert!((together - 1.0).abs() < 1e-9);
            assert!((own[names] - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn a_piece_of_anothers_text_is_half_its_own_however_long_the_other_is() {
        let own = own_parts(&[Sketch::of(text(0, 16_000)), Sketch::of(text(4000, 2000))]);
        assert!((own[1] - 0.5).abs() < 1e-9);
        assert!((own[0] - (1.0 - 0.5 / 8.0)).abs() < 0.02, "{}", own[0]);
    }

    proptest! {
        #[test]
        fn names_weigh_no_more_than_their_union(
            cuts in prop::collection::vec((0u32..3000, 64u32..2000), 1..10),
        ) {
            let texts: Vec<Vec<u64>> = cuts.iter().map(|(from, long)| text(*from, *long)).collect();
            let sketches: Vec<Sketch> = texts.iter().cloned().map(Sketch::of).collect();
            let own = own_parts(&sketches);
            let together: f64 = own.iter().zip(&sketches).map(|(o, s)| o * s.len() as f64).sum();
            let union = Sketch::of(texts.concat());
            prop_assert!((together - union.len() as f64).abs() < 1e-6);
        }

        #[test]
        fn sketched_parts_are_near_the_exact_ones(overlap in 0u32..4000) {
            let texts = [text(0, 4000), text(4000 - overlap, 4000)];
            let parts = |one_in| own_parts(&texts.clone().map(|t| Sketch::keeping(t, one_in)));
            for (sketched, exact) in parts(ONE_IN).into_iter().zip(parts(1)) {
                prop_assert!((sketched - exact).abs() < 0.06, "{sketched} {exact}");
            }
        }
    }
}
