//! The effects that a node wants carried out, in the order in which they may be.
//!
//! An [`Effect::Persist`] is a barrier: nothing after it may be seen by anybody before its records are durable. It
//! does not stop the node from handling inputs. Records go to the disk as soon as they are pushed, the effects behind
//! them wait here, and barriers of later inputs join the same commit. Everything that drives a node (daemon,
//! simulator, tests) drives it through this queue, so that all of them keep the same promise.

use std::collections::VecDeque;

use crate::event::{Effect, Record};
use crate::work::Work;

/// The queue between a node and the program that carries out its effects.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Queued>,
    /// Barriers pushed so far.
    pushed: u64,
    /// How many of them are durable, in order.
    durable: u64,
}

#[derive(Debug)]
enum Queued {
    Do(Effect),
    /// Until so many barriers are durable.
    Wait(u64),
}

impl Outbox {
    /// Appends what a node wants done. `persist` gets the records of each barrier, in order; each of these calls is to be
    /// answered by one of [`Outbox::durable`] once they are on the disk. `compute` gets what is to be computed, which
    /// begins at once.
    pub fn push(
        &mut self,
        effects: Vec<Effect>,
        mut persist: impl FnMut(Vec<Record>),
        mut compute: impl FnMut(Box<Work>),
    ) {
        for effect in effects {
            let step = match effect {
                Effect::Persist(records) => {
                    persist(records);
                    self.pushed += 1;
                    Queued::Wait(self.pushed)
                }
                Effect::Compute(work) => {
                    compute(work);
                    continue;
                }
                other => Queued::Do(other),
            };
            self.queue.push_back(step);
        }
    }

    /// The oldest barrier that was not durable is durable now.
    ///
    /// # Panics
    /// When none was on its way: a commit that nobody asked for would let something out too early.
    pub fn durable(&mut self) {
        assert!(self.durable < self.pushed, "a commit that nobody waits for");
        self.durable += 1;
    }

    /// What may be done next; `None` when nothing is left or the next thing waits for the disk. A barrier that is passed
    /// comes out as well, without its records.
    pub fn pop(&mut self) -> Option<Effect> {
        let durable = self.durable;
        let ready = |step: &mut Queued| match step {
            Queued::Do(_) => true,
            Queued::Wait(upto) => *upto <= durable,
        };
        match self.queue.pop_front_if(ready)? {
            Queued::Do(effect) => Some(effect),
            Queued::Wait(_) => Some(Effect::Persist(Vec::new())),
        }
    }

    /// Barriers pushed so far: what happened until now is durable once [`Outbox::has_reached`] as many.
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Whether so many barriers are durable.
    pub fn has_reached(&self, barriers: u64) -> bool {
        self.durable >= barriers
    }

    /// Effects and barriers that are not out yet.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether everything is out.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{BlobHash, RunId};

    fn offer(n: u8) -> Effect {
        Effect::OfferBlob(BlobHash(crate::test_utils::fixture::any_digest(n)))
    }

    fn offered(outbox: &mut Outbox) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(effect) = outbox.pop() {
            match effect {
                Effect::OfferBlob(hash) => out.push(hash.as_bytes()[0]),
                Effect::Persist(records) => assert!(records.is_empty(), "its records are out"),
                other => panic!("{other:?}"),
            }
        }
        out
    }

    fn record(round: u32) -> Record {
        Record::ConsensusDone {
            run: RunId::default(),
            round: crate::id::Round(round),
        }
    }

    #[test]
    fn nothing_behind_a_barrier_comes_out_before_it_is_durable() {
        let mut outbox = Outbox::default();
        let mut disk = Vec::new();
        let first = vec![offer(1), Effect::Persist(vec![record(1)]), offer(2)];
        outbox.push(first, |records| disk.push(records), |_| {});
        outbox.push(
            vec![Effect::Persist(vec![record(2)]), offer(3)],
            |records| disk.push(records),
            |_| {},
        );
        assert_eq!(
            disk,
            [vec![record(1)], vec![record(2)]],
            "on their way at once"
        );
        assert_eq!(offered(&mut outbox), [1]);
        assert_eq!(outbox.len(), 4);
        outbox.durable();
        assert_eq!(offered(&mut outbox), [2]);
        outbox.durable();
        assert_eq!(offered(&mut outbox), [3]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn one_commit_of_several_barriers_frees_all_of_them() {
        let mut outbox = Outbox::default();
        for n in 0..3 {
            outbox.push(vec![Effect::Persist(vec![record(1)]), offer(n)], drop, drop);
        }
        (0..3).for_each(|_| outbox.durable());
        assert_eq!(offered(&mut outbox), [0, 1, 2]);
    }

    #[test]
    #[should_panic(expected = "a commit that nobody waits for")]
    fn a_commit_too_many_is_a_fault_of_whoever_drives() {
        Outbox::default().durable();
    }
}
