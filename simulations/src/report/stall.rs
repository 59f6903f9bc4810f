//! Why a contribution is missing from a round, and what a round waited for.
//!
//! Causes are read from what the simulator did to a participant and from what its node said, never guessed from the
//! outcome; where several things happened to it, the first in the order of [`Cause`] counts.

use std::collections::{BTreeMap, BTreeSet};

use tributary_protocol::event::{Notice, Phase};

use super::lanes::{Doing, Lane};
use crate::clock::Micros;
use crate::record::{History, RoundFacts, What};

/// What became of one participant in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its contribution is part of the round.
    Included,
    /// It scores instead of contributing.
    Evaluator,
    /// It was not a member yet, or no longer.
    NotAMember,
    /// Others were drawn for the round.
    NotDrawn,
    /// Its process died while the round was open, before its update was out.
    Crashed,
    /// A split kept it from the others while the round was open.
    CutOff,
    /// It was still fetching the state that the round starts from.
    CatchingUp,
    /// It was still training when the round closed.
    StillTraining,
    /// Its update was made, and was not with the committee when the round closed.
    TooLate,
    /// None of these.
    Unexplained,
}

impl Cause {
    /// In the words of tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Included => "included",
            Self::Evaluator => "evaluator",
            Self::NotAMember => "not a member",
            Self::NotDrawn => "not drawn",
            Self::Crashed => "crashed",
            Self::CutOff => "cut off",
            Self::CatchingUp => "catching up",
            Self::StillTraining => "still training",
            Self::TooLate => "too late",
            Self::Unexplained => "unexplained",
        }
    }

    /// Whether a contribution was expected and is missing.
    pub(super) fn is_missing(self) -> bool {
        !matches!(
            self,
            Self::Included | Self::Evaluator | Self::NotAMember | Self::NotDrawn
        )
    }
}

/// When things happened in one round. Rounds that were never certified have none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    /// The round before was certified: this one is open.
    pub(super) opened: Micros,
    /// The first peer stopped waiting for updates.
    pub(super) closed: Micros,
    /// The first peer held the certificate.
    pub(super) certified: Micros,
    /// The last of the peers that ever learnt of it held the certificate.
    pub(super) everywhere: Micros,
}

/// What one participant waited for in one round.
#[derive(Clone, Debug)]
pub(super) struct Wait {
    /// The participant that waited.
    pub(super) peer: usize,
    /// The round.
    pub(super) round: u32,
    /// How long, from its own update to the end of the collection.
    pub(super) waited: Micros,
    /// The participant whose update came last before it stopped waiting, if one came.
    pub(super) last: Option<usize>,
    /// The participants whose updates it went on without.
    pub(super) missing: Vec<usize>,
}

/// The courses of all certified rounds, by their place in the chain.
pub(super) fn courses(history: &History) -> Vec<Course> {
    let count = history.rounds.len();
    let mut first = vec![None; count];
    let mut last = vec![0; count];
    let mut closed = vec![None; count];
    for moment in &history.moments {
        match &moment.what {
            What::Notice(Notice::Certified { round, .. }) => {
                let at = round.0 as usize;
                if at < count {
                    first[at].get_or_insert(moment.at);
                    last[at] = moment.at;
                }
            }
            What::Notice(Notice::Phase { round, phase, .. }) if *phase == Phase::Agree => {
                let at = round.0 as usize;
                if at < count {
                    closed[at].get_or_insert(moment.at);
                }
            }
            _ => {}
        }
    }
    let mut opened = 0;
    (0..count)
        .map(|at| {
            let certified = first[at].unwrap_or(opened);
            let course = Course {
                opened,
                closed: closed[at].unwrap_or(certified).clamp(opened, certified),
                certified,
                everywhere: last[at].max(certified),
            };
            opened = certified;
            course
        })
        .collect()
}

/// What became of everybody in one round.
pub(super) fn causes(
    history: &History,
    lanes: &[Lane],
    facts: &RoundFacts,
    course: &Course,
) -> Vec<Cause> {
    let published = published(history, facts.round);
    let included: BTreeSet<usize> = facts.included.iter().map(|i| i.peer).collect();
    let of = |(peer, participant): (usize, &crate::record::Participant)| {
        if included.contains(&peer) {
            return Cause::Included;
        }
        if participant.role == "evaluator" {
            return Cause::Evaluator;
        }
        if !facts.contributors.contains(&peer) {
            return Cause::NotAMember;
        }
        if !facts.expected.contains(&peer) {
            return Cause::NotDrawn;
        }
        missing(&lanes[peer], published.get(&peer).copied(), course)
    };
    history.participants.iter().enumerate().map(of).collect()
}

fn missing(lane: &Lane, published: Option<Micros>, course: &Course) -> Cause {
    let window = (course.opened, course.certified);
    let published = published.filter(|at| *at < course.certified);
    let before = published.map_or(window, |at| (course.opened, at));
    if lane.cut_off(window) > 0 {
        return Cause::CutOff;
    }
    if published.is_some() {
        return Cause::TooLate;
    }
    if lane.spent(before, |doing| doing == Doing::Down) > 0 {
        return Cause::Crashed;
    }
    match lane.doing(course.certified.saturating_sub(1)) {
        Doing::Phase(Phase::CatchUp | Phase::Gather) => Cause::CatchingUp,
        Doing::Phase(Phase::Train) => Cause::StillTraining,
        _ => Cause::Unexplained,
    }
}

/// When each participant had made its own update of a round.
fn published(history: &History, of: u32) -> BTreeMap<usize, Micros> {
    let mut out = BTreeMap::new();
    for moment in &history.moments {
        if let (What::Notice(Notice::Contributed { round, peer, .. }), Some(at)) =
            (&moment.what, moment.peer)
            && round.0 == of
            && history.index.get(peer) == Some(&at)
        {
            out.entry(at).or_insert(moment.at);
        }
    }
    out
}

/// Which participant waited for which others: one for each participant and round in which it collected updates.
pub(super) fn waits(history: &History) -> Vec<Wait> {
    let mut open: BTreeMap<(usize, u32), Micros> = BTreeMap::new();
    let mut arrived: BTreeMap<(usize, u32), Vec<usize>> = BTreeMap::new();
    let mut out = Vec::new();
    for moment in &history.moments {
        let Some(peer) = moment.peer else { continue };
        match &moment.what {
            What::Notice(Notice::Phase { round, phase, .. }) => match phase {
                Phase::Collect => {
                    open.entry((peer, round.0)).or_insert(moment.at);
                }
                Phase::Agree => {
                    let key = (peer, round.0);
                    let Some(since) = open.remove(&key) else {
                        continue;
                    };
                    let here = arrived.get(&key).map_or(&[][..], Vec::as_slice);
                    let facts = history.rounds.get(round.0 as usize);
                    let expected = facts.map_or(&[][..], |f| f.expected.as_slice());
                    let missing = expected.iter().filter(|c| !here.contains(c));
                    out.push(Wait {
                        peer,
                        round: round.0,
                        waited: moment.at - since,
                        last: here.last().copied(),
                        missing: missing.copied().collect(),
                    });
                }
                _ => {}
            },
            What::Notice(Notice::Contributed {
                round, peer: whose, ..
            }) => {
                if let Some(whose) = history.index.get(whose) {
                    let here = arrived.entry((peer, round.0)).or_default();
                    if !here.contains(whose) {
                        here.push(*whose);
                    }
                }
            }
            _ => {}
        }
    }
    out
}
