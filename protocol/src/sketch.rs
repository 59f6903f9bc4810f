//! How much text a member adds to a run: what was committed before it counts once.
//!
//! A name is free, text is not. Every eight words in a row of a shard have a **print**, a hash that belongs to the
//! run; the [`MAX_SKETCH`] smallest prints are the shard's **sketch**. A join commits to it, and its author opens it
//! once nobody can still commit to the same prints and count as early. Everybody keeps the smallest, so sketches
//! overlap as the texts do, and a peer that holds the sketches can tell what part of a text is new:
//!
//! ```text
//!   own part of i = 1/|S_i| sum over f in S_i of   0         if a member before holds f
//!                                                  1 / h     if h of those admitted with i do
//! ```
//! However a text is cut, copied or overlapped between names, together the names count as the text does. A member that
//! takes another's text (or only its prints, which are public once opened) gains nothing and takes nothing away.
//!
//! A sketch knows its text up to its greatest print only, its **reach**, and a long text's reach is short. So a text
//! is compared with the others several times: for every reach, its prints up to that reach are compared with all
//! sketches that reach as far, and the least part that is found new counts. A sketch with a very short reach, because
//! its text is long or because it is a lie, then removes only itself from these comparisons. Reworded text has other
//! prints and passes for new; so does invented text. An excerpt of less than three prints out of the longer text's
//! [`MAX_SKETCH`] cannot be told from new text.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};

use crate::codec;
use crate::fingerprint::{self, Shingle};
use crate::hash::{Digest, Domain, Hasher};
use crate::id::{PeerId, Ppb, RunId};
use crate::limits::MAX_SKETCH;
use crate::reject::Rejection;

/// Prints from which on a part is measured. Of fewer, only that all of them are held elsewhere says something.
const LEAST_COMPARED: usize = 8;
/// The fewest prints that say something.
const LEAST_HELD: usize = 3;

/// The smallest prints of a shard, ascending. All of them when there are fewer than [`MAX_SKETCH`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Sketch(Vec<u64>);

impl Sketch {
    /// Of the words that a member trains on.
    pub fn of(run: RunId, words: &[String]) -> Self {
        let print = |shingle: Shingle| {
            let mut hasher = Hasher::new(Domain::Sketch);
            hasher.update(run.as_bytes()).update(shingle.as_bytes());
            let digest = hasher.finalize();
            let (first, _) = digest.as_bytes().split_at(8);
            u64::from_le_bytes(first.try_into().expect("eight bytes"))
        };
        Self::keeping(fingerprint::shingles(words).map(print))
    }

    /// Of all prints of a shard, in any order, repeated or not.
    pub fn keeping(prints: impl IntoIterator<Item = u64>) -> Self {
        let mut prints: Vec<u64> = prints.into_iter().collect();
        prints.sort_unstable();
        prints.dedup();
        prints.truncate(MAX_SKETCH);
        Self(prints)
    }

    /// What `author` commits to when it joins with this sketch. It is worth nothing to anybody else.
    pub fn commit(&self, author: &PeerId) -> Digest {
        let mut hasher = Hasher::new(Domain::SketchCommitment);
        hasher.update(author.as_bytes());
        hasher.update(&codec::encode(self));
        hasher.finalize()
    }

    /// The prints.
    pub fn prints(&self) -> &[u64] {
        &self.0
    }

    /// Whether the text is too short to have a print.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The print up to which this sketch knows all of its text.
    fn reach(&self) -> u64 {
        match self.0.get(MAX_SKETCH - 1) {
            Some(last) => *last,
            None => u64::MAX,
        }
    }

    fn reaching(&self) -> impl Iterator<Item = (u64, u64)> {
        let reach = self.reach();
        self.0.iter().map(move |print| (*print, reach))
    }

    /// Runs of eight words in the text, as the sketch itself tells: exactly where it has all prints, to one part in
    /// thirty where it is full.
    pub fn runs(&self) -> u64 {
        match self.0.get(MAX_SKETCH - 1) {
            None => self.0.len() as u64,
            Some(last) => {
                let runs = ((MAX_SKETCH as u128) << 64) / (u128::from(*last) + 1);
                u64::try_from(runs).unwrap_or(u64::MAX)
            }
        }
    }

    /// Checks order and number.
    ///
    /// # Errors
    /// [`Rejection`] names what is wrong.
    pub fn check(&self) -> Result<(), Rejection> {
        if self.0.len() > MAX_SKETCH {
            return Err(Rejection::Limit("prints of a sketch"));
        }
        if self.0.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(Rejection::Contradiction("prints out of order"));
        }
        Ok(())
    }
}

/// The part of each joining text that is its own, when `before` holds the sketches of all members that were admitted
/// before. A text without prints has nothing of its own.
pub fn own_parts(before: &[&Sketch], joining: &[&Sketch]) -> Vec<Ppb> {
    let asked: BTreeSet<u64> = joining
        .iter()
        .flat_map(|sketch| &sketch.0)
        .copied()
        .collect();
    // Of each print: the farthest reach of an earlier sketch with it, and the reaches of the joining ones with it.
    let mut earlier: BTreeMap<u64, u64> = BTreeMap::new();
    for (print, reach) in before.iter().flat_map(|sketch| sketch.reaching()) {
        if asked.contains(&print) {
            let farthest = earlier.entry(print).or_default();
            *farthest = reach.max(*farthest);
        }
    }
    let mut together: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (print, reach) in joining.iter().flat_map(|sketch| sketch.reaching()) {
        together.entry(print).or_default().push(reach);
    }
    let all = before.iter().chain(joining);
    let mut reaches: Vec<u64> = all.map(|sketch| coarse(sketch.reach())).collect();
    reaches.sort_unstable();
    reaches.dedup();
    (joining.iter())
        .map(|sketch| {
            let own = reaches.iter().filter_map(|reach| {
                let within = sketch.0.partition_point(|print| print <= reach);
                let parts = sketch.0[..within].iter().map(|print| {
                    let held = earlier.get(print).is_some_and(|farthest| farthest >= reach);
                    let sharing = together[print].iter().filter(|other| *other >= reach);
                    // Its own reach may be the shorter one.
                    if held {
                        0
                    } else {
                        u64::from(Ppb::ONE.0) / sharing.count().max(1) as u64
                    }
                });
                own_part(parts, *reach == u64::MAX)
            });
            let whole = if sketch.is_empty() { Ppb(0) } else { Ppb::ONE };
            own.min().unwrap_or(whole).min(whole)
        })
        .collect()
}

/// A reach down to which all are rounded: its three leading bits. So few are tried, however many sketches there are.
fn coarse(reach: u64) -> u64 {
    match reach.checked_ilog2() {
        Some(leading @ 3..) if reach < u64::MAX => reach >> (leading - 2) << (leading - 2),
        _ => reach,
    }
}

/// The mean over the parts that are left of prints, if it says something. `whole` where they are all there are.
fn own_part(parts: impl Iterator<Item = u64>, whole: bool) -> Option<Ppb> {
    let (count, sum) = parts.fold((0u64, 0u64), |(count, sum), part| (count + 1, sum + part));
    let part = match count as usize {
        1.. if whole => sum / count,
        LEAST_COMPARED.. => sum / count,
        LEAST_HELD.. if sum == 0 => u64::from(Ppb::ONE.0) / (count + 1),
        _ => return None,
    };
    Some(Ppb(
        u32::try_from(part).expect("a mean of parts is no more than the whole")
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hash;

    /// Prints of runs of words that occur nowhere else.
    fn text(from: u32, runs: u32) -> Vec<u64> {
        let print = |run: u32| {
            let digest = hash::digest(Domain::Simulation, &run.to_le_bytes());
            u64::from_le_bytes(digest.as_bytes()[..8].try_into().expect("eight bytes"))
        };
        (from..from + runs).map(print).collect()
    }

    fn own(before: &[Vec<u64>], joining: &[Vec<u64>]) -> Vec<f64> {
        let keep = |texts: &[Vec<u64>]| -> Vec<Sketch> {
            texts.iter().cloned().map(Sketch::keeping).collect()
        };
        let (before, joining) = (keep(before), keep(joining));
        let parts = own_parts(
            &before.iter().collect::<Vec<_>>(),
            &joining.iter().collect::<Vec<_>>(),
        );
        parts.into_iter().map(Ppb::as_f64).collect()
    }

    /// The definition, on whole texts.
    fn exact(before: &[Vec<u64>], joining: &[Vec<u64>]) -> Vec<f64> {
        let part = |text: &Vec<u64>| {
            let sum: f64 = (text.iter())
                .filter(|print| !before.iter().any(|other| other.contains(print)))
                .map(|print| joining.iter().filter(|t| t.contains(print)).count())
                .map(|holders| 1.0 / holders as f64)
                .sum();
            sum / text.len() as f64
        };
        joining.iter().map(part).collect()
    }

    #[test]
    fn k_names_with_one_text_count_as_one() {
        for names in [2, 4, 16] {
            let mut held = vec![text(0, 4000); names];
            held.push(text(10_000, 4000));
            let own = own(&[], &held);
            let together: f64 = own[..names].iter().sum();
            assert!((together - 1.0).abs() < 1e-6, "{together}");
            assert_eq!(own[names], 1.0);
        }
    }

    #[test]
    fn what_a_member_committed_before_is_nobody_elses() {
        assert_eq!(own(&[text(0, 4000)], &[text(0, 4000)]), [0.0]);
        let half = own(&[text(0, 4000)], &[text(2000, 4000)])[0];
        assert!((half - 0.5).abs() < 0.1, "{half}");
    }

    #[test]
    fn a_piece_of_a_longer_text_is_known_for_a_piece() {
        // The long text's sketch ends at a sixteenth of the prints that the piece's has.
        assert_eq!(own(&[text(0, 64_000)], &[text(4000, 4000)]), [0.0]);
        assert_eq!(own(&[text(0, 64_000)], &[text(70_000, 4000)]), [1.0]);
    }

    #[test]
    fn an_excerpt_of_any_size_is_told_from_what_its_owner_committed_to() {
        // An owner of 70,000 words, others with as many, and excerpts down to 500 words.
        let before: Vec<_> = (0..5u32).map(|n| text(n * 100_000, 70_000)).collect();
        for words in [500, 1_000, 3_000, 10_000, 70_000] {
            let parts = own(&before, &[text(70_000 - words, words)]);
            assert!(parts[0] <= 0.25, "{words} words: {parts:?}");
        }
        let fresh = own(&before, &[text(900_000, 500), text(910_000, 70_000)]);
        assert_eq!(fresh, [1.0, 1.0]);
    }

    #[test]
    fn a_sketch_that_is_no_sketch_of_anything_blinds_no_comparison() {
        let victim = Sketch::keeping(text(0, 4000));
        let forged = Sketch::keeping(0..MAX_SKETCH as u64);
        let mut copy = victim.prints().to_vec();
        // Runs of words, ground until their prints are small.
        copy.splice(0..8, 1_000_000..1_000_008);
        let copy = Sketch::keeping(copy);
        let part = |before: &[&Sketch]| own_parts(before, &[&copy])[0].as_f64();
        assert!(part(&[&victim]) < 0.01);
        assert!((part(&[&victim, &forged]) - part(&[&victim])).abs() < 1e-9);
        assert_eq!(own_parts(&[&forged], &[&victim]), [Ppb::ONE]);
    }

    #[test]
    fn a_sketch_tells_how_long_its_text_is() {
        assert_eq!(Sketch::keeping(text(0, 700)).runs(), 700);
        for runs in [1_024, 5_000, 200_000] {
            let told = Sketch::keeping(text(0, runs)).runs() as f64;
            assert!(
                (told / f64::from(runs) - 1.0).abs() < 0.15,
                "{told} of {runs}"
            );
        }
    }

    #[test]
    fn too_little_text_for_a_print_is_nothing_of_ones_own() {
        assert_eq!(own(&[], &[vec![], text(0, 5)]), [0.0, 1.0]);
        let words: Vec<String> = (0..7).map(|n| n.to_string()).collect();
        assert!(Sketch::of(RunId::default(), &words).is_empty());
    }

    #[test]
    fn prints_belong_to_a_run() {
        let words: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
        let [here, there] = [1u8, 2].map(|n| {
            let run = RunId(hash::digest(Domain::Simulation, &[n]));
            Sketch::of(run, &words)
        });
        assert_eq!(here.prints().len(), MAX_SKETCH);
        assert!(here.prints().iter().all(|p| !there.prints().contains(p)));
    }

    #[test]
    fn disorder_and_excess_are_refused() {
        assert!(Sketch(vec![1, 2]).check().is_ok());
        assert!(Sketch(vec![2, 1]).check().is_err());
        assert!(Sketch(vec![1, 1]).check().is_err());
        assert!(Sketch((0..=MAX_SKETCH as u64).collect()).check().is_err());
    }

    proptest! {
        #[test]
        fn short_texts_are_compared_exactly(
            before in prop::collection::vec((0u32..300, 1u32..200), 0..4),
            joining in prop::collection::vec((0u32..300, 1u32..200), 1..5),
        ) {
            let texts = |cuts: Vec<(u32, u32)>| -> Vec<Vec<u64>> {
                cuts.into_iter().map(|(from, runs)| text(from, runs)).collect()
            };
            let (before, joining) = (texts(before), texts(joining));
            for (found, exact) in own(&before, &joining).into_iter().zip(exact(&before, &joining)) {
                prop_assert!((found - exact).abs() < 1e-6, "{found} {exact}");
            }
        }

        #[test]
        fn sketched_parts_are_near_the_exact_ones(overlap in 0u32..4000) {
            let (before, joining) = ([text(0, 4000)], [text(4000 - overlap, 4000)]);
            let found = own(&before, &joining)[0];
            let exact = 1.0 - f64::from(overlap) / 4000.0;
            // Four standard deviations of 256 draws.
            prop_assert!((found - exact).abs() < 0.13, "{found} {exact}");
        }
    }
}
