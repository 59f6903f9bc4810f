//! Joins with the sketch of a text that it does not have: of all the smallest prints that there are, or of somebody
//! else's text with one print changed.
//!
//! No sketch is opened before the liar's own join is certified or called. So the liar joins with the smallest prints
//! first, leaves when it has seen a sketch, and joins again with a copy of it.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tributary_protocol::entry::Entry;
use tributary_protocol::event::{Command, Input, JoinRequest};
use tributary_protocol::id::PeerId;
use tributary_protocol::limits;
use tributary_protocol::sketch::Sketch;

use super::{Behaviour, LiarContext};

/// The sketch of a text that it does not have.
pub(super) struct LieSketch {
    /// How far it is with copying, if it does.
    copies: Option<Copying>,
    /// The join that its owner asked for.
    wish: Option<JoinRequest>,
}

#[derive(Clone, Copy, PartialEq)]
enum Copying {
    Waits,
    Leaves,
    Done,
}

impl LieSketch {
    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        Self {
            copies: rng.random::<bool>().then_some(Copying::Waits),
            wish: None,
        }
    }
}

/// The first sketch of somebody else's that is open, with one print of its own.
fn copy_seen(cx: &LiarContext<'_>) -> Option<Sketch> {
    let entries = cx.view()?.log().all();
    let friends = cx.friends();
    let mut sketches = entries.filter_map(|(at, entry)| match entry {
        Entry::Opening(sketch) if !friends.contains(&at.author) && at.author != cx.me => {
            Some(sketch)
        }
        _ => None,
    });
    let theirs = sketches.find(|sketch| !sketch.is_empty())?;
    Some(copied(theirs, &cx.me))
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
    fn input(&mut self, cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        let Input::Command(Command::Follow {
            run,
            join: Some(mut candidate),
        }) = input
        else {
            return Some(input);
        };
        candidate.sketch = match self.copies {
            Some(Copying::Done) => copy_seen(cx),
            _ => Some(smallest()),
        };
        self.wish = Some(candidate.clone());
        let join = Some(candidate);
        Some(Input::Command(Command::Follow { run, join }))
    }

    fn tick(&mut self, cx: &mut LiarContext<'_>) {
        let me = cx.me;
        let run = cx.world.run;
        let head = cx.view().and_then(|view| view.head());
        let is_member = head.is_some_and(|head| head.roster.get(&me).is_some());
        match self.copies {
            Some(Copying::Waits) if is_member && copy_seen(cx).is_some() => {
                self.copies = Some(Copying::Leaves);
                cx.tell(Input::Command(Command::Leave(run)));
            }
            Some(Copying::Leaves) if !is_member => {
                let (Some(mut candidate), Some(sketch)) = (self.wish.take(), copy_seen(cx)) else {
                    return;
                };
                self.copies = Some(Copying::Done);
                candidate.sketch = Some(sketch);
                let join = Some(candidate);
                cx.tell(Input::Command(Command::Follow { run, join }));
            }
            _ => {}
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
