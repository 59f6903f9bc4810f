//! Joins with the sketch of a text that it does not have: of all the smallest prints that there are, or of somebody
//! else's text with one print changed.
//!
//! It follows the run without joining until it has seen a sketch opened that it can copy.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tributary_protocol::entry::Entry;
use tributary_protocol::event::{Candidate, Command, Input};
use tributary_protocol::id::PeerId;
use tributary_protocol::limits;
use tributary_protocol::sketch::Sketch;

use super::{Behaviour, Stage};

/// See the module.
pub(super) struct LieSketch {
    copies: bool,
    /// The join that its owner asked for, while it waits for somebody to copy from.
    waiting: Option<Candidate>,
}

impl LieSketch {
    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        Self {
            copies: rng.random(),
            waiting: None,
        }
    }

    /// The sketch that it joins with, once it has one.
    fn sketch(&self, stage: &Stage<'_>) -> Option<Sketch> {
        if !self.copies {
            return Some(smallest());
        }
        let entries = stage.view()?.log().all();
        let friends = stage.friends();
        let mut sketches = entries.filter_map(|(at, entry)| match entry {
            Entry::Opening(sketch) if !friends.contains(&at.author) => Some(sketch),
            _ => None,
        });
        let theirs = sketches.find(|sketch| !sketch.is_empty())?;
        Some(copied(theirs, &stage.me))
    }
}

/// As many prints as a sketch may have, and no smaller ones.
fn smallest() -> Sketch {
    Sketch::keeping(0..limits::MAX_SKETCH as u64)
}

/// Another's prints, the last of them changed to one of its own.
fn copied(theirs: &Sketch, me: &PeerId) -> Sketch {
    let (_, kept) = theirs.prints().split_last().unwrap_or((&0, &[]));
    let (own, _) = me.as_bytes().split_at(8);
    let own = u64::from_le_bytes(own.try_into().expect("eight bytes"));
    Sketch::keeping(kept.iter().copied().chain([own]))
}

impl Behaviour for LieSketch {
    fn input(&mut self, stage: &mut Stage<'_>, input: Input) -> Option<Input> {
        let Input::Command(Command::Follow {
            run,
            join: Some(mut candidate),
        }) = input
        else {
            return Some(input);
        };
        let sketch = self.sketch(stage);
        let join = match sketch {
            Some(sketch) => {
                candidate.sketch = Some(sketch);
                Some(candidate)
            }
            None => {
                self.waiting = Some(candidate);
                None
            }
        };
        Some(Input::Command(Command::Follow { run, join }))
    }

    fn tick(&mut self, stage: &mut Stage<'_>) {
        let Some(sketch) = self.waiting.as_ref().and_then(|_| self.sketch(stage)) else {
            return;
        };
        if let Some(mut candidate) = self.waiting.take() {
            candidate.sketch = Some(sketch);
            let run = stage.scene.run;
            stage.tell(Input::Command(Command::Follow {
                run,
                join: Some(candidate),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_sketches_are_well_formed_and_hold_what_the_author_never_had() {
        let theirs = Sketch::keeping((1..=40).map(|n| n << 40));
        let me = PeerId(tributary_protocol::hash::blob(b"liar"));
        let copy = copied(&theirs, &me);
        let same = |print: &&u64| theirs.prints().contains(print);
        assert_eq!(copy.prints().iter().filter(same).count(), 39);
        assert_eq!(copy.prints().len(), 40);
        assert_eq!(copy.check(), Ok(()));
        assert_eq!(smallest().prints().len(), limits::MAX_SKETCH);
        assert_eq!(smallest().check(), Ok(()));
    }
}
