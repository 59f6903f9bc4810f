//! What each participant was doing at every moment, read from the moments of a history.

use tributary_protocol::event::{Notice, Phase};

use crate::clock::Micros;
use crate::record::{History, What};

/// What a participant is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// Its owner has not asked it to take part yet.
    Absent,
    /// The process is dead.
    Down,
    /// A phase of its node.
    Phase(Phase),
}

/// A stretch of time with one occupation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// From this time on,
    pub(super) from: Micros,
    /// until this.
    pub(super) to: Micros,
    /// doing this.
    pub(super) doing: Doing,
}

/// One participant's time.
#[derive(Clone, Debug, Default)]
pub(super) struct Lane {
    /// Without gaps, from the start to the end of the run.
    pub(super) spans: Vec<Span>,
    /// When it stood on the smaller side of a split.
    pub(super) apart: Vec<(Micros, Micros)>,
    /// When it crashed.
    pub(super) crashes: Vec<Micros>,
}

impl Lane {
    /// Time spent on what `is` names, within a window.
    pub(super) fn spent(&self, window: (Micros, Micros), is: impl Fn(Doing) -> bool) -> Micros {
        let spans = self.spans.iter().filter(|span| is(span.doing));
        spans
            .map(|span| overlap((span.from, span.to), window))
            .sum()
    }

    /// Time spent cut off, within a window.
    pub(super) fn cut_off(&self, window: (Micros, Micros)) -> Micros {
        self.apart.iter().map(|span| overlap(*span, window)).sum()
    }

    /// What it is doing at a time.
    pub(super) fn doing(&self, at: Micros) -> Doing {
        let span = self
            .spans
            .iter()
            .find(|span| span.from <= at && at < span.to);
        span.or(self.spans.last())
            .map_or(Doing::Absent, |s| s.doing)
    }
}

fn overlap((a, b): (Micros, Micros), (c, d): (Micros, Micros)) -> Micros {
    b.min(d).saturating_sub(a.max(c))
}

/// The lanes of all participants, up to `end`.
pub(super) fn lanes(history: &History, end: Micros) -> Vec<Lane> {
    let mut lanes = vec![Lane::default(); history.participants.len()];
    let mut since: Vec<(Micros, Doing)> = vec![(0, Doing::Absent); lanes.len()];
    let mut splits: Vec<(usize, Micros, Vec<usize>)> = Vec::new();
    let mut change = |lanes: &mut Vec<Lane>, peer: usize, at: Micros, doing: Doing| {
        let (from, before) = since[peer];
        if before != doing {
            lanes[peer].spans.push(Span {
                from,
                to: at,
                doing: before,
            });
            since[peer] = (at, doing);
        }
    };
    for moment in &history.moments {
        let at = moment.at;
        match (&moment.what, moment.peer) {
            (What::Invited, Some(peer)) if lanes[peer].spans.is_empty() => {
                change(&mut lanes, peer, at, Doing::Phase(Phase::Gather));
            }
            (What::Crash { .. }, Some(peer)) => {
                lanes[peer].crashes.push(at);
                change(&mut lanes, peer, at, Doing::Down);
            }
            (What::Restart, Some(peer)) => {
                change(&mut lanes, peer, at, Doing::Phase(Phase::CatchUp));
            }
            (What::Notice(Notice::Phase { phase, .. }), Some(peer)) => {
                change(&mut lanes, peer, at, Doing::Phase(*phase));
            }
            (What::Split { nth, apart, .. }, _) => splits.push((*nth, at, apart.clone())),
            (What::Heal { nth }, _) => {
                let healed = splits.iter().position(|split| split.0 == *nth);
                if let Some(place) = healed {
                    close(&mut lanes, splits.remove(place), at);
                }
            }
            (What::Calm, _) => splits.drain(..).for_each(|s| close(&mut lanes, s, at)),
            _ => {}
        }
    }
    splits.into_iter().for_each(|s| close(&mut lanes, s, end));
    for (peer, (from, doing)) in since.into_iter().enumerate() {
        let to = end.max(from);
        lanes[peer].spans.push(Span { from, to, doing });
    }
    lanes
}

fn close(lanes: &mut [Lane], (_, from, apart): (usize, Micros, Vec<usize>), at: Micros) {
    for peer in apart {
        lanes[peer].apart.push((from, at));
    }
}
