//! What a vote is worth: seats by weight, how far a draw can be influenced, and what absence does to decisions.
//!
//! Everything here is the protocol's own draw, beacon and roster; only updates and networks are left out. An attacker
//! may choose keys, joins, leaves, contents and silence. What it puts into a value moves no draw at all
//! (`protocol/tests/federation/strangers.rs`, `a_proposer_does_not_choose_the_next_committee`), so this study plays the rest:
//! silence of the member in turn, which exchanges its own link for the next member's, and keys ground against
//! everything that is known when they are made.

use std::error::Error;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use tributary_protocol::beacon;
use tributary_protocol::committee::Committee;
use tributary_protocol::hash::{self, Digest, Domain};
use tributary_protocol::id::{PeerId, Round, RunId};

use crate::study::{Outcome, Study, Work};

mod absence;

pub use absence::{Absence, absences};

/// Seats that are drawn.
const SEATS: usize = 16;
/// Draws behind every mean.
const DRAWS: u32 = 100_000;
/// Members that the attacker is measured against.
const OTHERS: u32 = 80;
/// Names of the attacker where it has a fifth of the weight.
const NAMES: u32 = 20;
/// Keys that it tries for each of its names.
const TRIES: u32 = 500;

/// Expected seats of a weight that is held under some names.
#[derive(Clone, Debug, Serialize)]
pub struct Split {
    /// Names.
    pub names: u32,
    /// Mean seats of all names together.
    pub seats: f64,
    /// Mean seats over the share of the weight.
    pub of_share: f64,
}

/// Expected seats of an attacker with a fifth of the weight, over its share.
#[derive(Clone, Debug, Serialize)]
pub struct Grinding {
    /// What it plays.
    pub plays: &'static str,
    /// All names, equal.
    pub members: u32,
    /// Seats that are drawn.
    pub seats: usize,
    /// Heights played.
    pub heights: u32,
    /// Mean seats over the share of the weight.
    pub of_share: f64,
    /// Part of the first turns in proposing, over the share of the weight.
    pub first_turns: f64,
}

/// Everything that the page shows.
#[derive(Clone, Debug, Serialize)]
pub struct Votes {
    /// One weight under several names.
    pub splits: Vec<Split>,
    /// An attacker that grinds.
    pub ground: Vec<Grinding>,
    /// Members that vanish.
    pub absences: Vec<Absence>,
}

/// What is a voice worth?
pub struct VotesStudy;

impl Study for VotesStudy {
    fn name(&self) -> &'static str {
        "votes"
    }

    fn about(&self) -> &'static str {
        "Seats by weight, what grinding and silence gain, and what absence does to decisions"
    }

    fn run(&self, work: &Work<'_>) -> Result<Option<Outcome>, Box<dyn Error>> {
        let found = measure(|line| work.say(line));
        let markdown = markdown(&found, &work.command());
        Ok(Some(Outcome::new(&found, markdown)))
    }
}

/// Measures all of it.
pub fn measure(mut say: impl FnMut(&str)) -> Votes {
    let splits = [1, 2, 16, 64].map(|names| {
        say(&format!("seats of {names} names"));
        split(names)
    });
    say("an attacker that grinds");
    let ground = vec![silence(16, 1), silence(64, 5), keys()];
    say("members that vanish");
    Votes {
        splits: splits.into(),
        ground,
        absences: absences(),
    }
}

fn name(kind: &[u8], nth: u32) -> PeerId {
    let bytes = [kind, &nth.to_le_bytes()].concat();
    PeerId(hash::digest(Domain::Simulation, &bytes))
}

fn random(rng: &mut ChaCha8Rng) -> Digest {
    Digest::from_bytes(rng.random())
}

fn draw(round: u32, beacon: &Digest, members: &[(PeerId, u64)]) -> Committee {
    draw_of(SEATS, round, beacon, members)
}

fn draw_of(seats: usize, round: u32, beacon: &Digest, members: &[(PeerId, u64)]) -> Committee {
    let members = members.iter().copied();
    Committee::draw(
        &RunId::default(),
        Round(round),
        beacon,
        members,
        |_| true,
        seats,
    )
}

/// 640 of 2,640, under `names` names, against 100 members of 20.
fn split(names: u32) -> Split {
    let ours = (0..names).map(|nth| (name(b"ours", nth), u64::from(640 / names)));
    let others = (0..100).map(|nth| (name(b"other", nth), 20));
    let members: Vec<_> = ours.chain(others).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(names.into());
    let seats: u64 = (0..DRAWS)
        .map(|round| {
            let committee = draw(round, &random(&mut rng), &members);
            committee.votes_of((0..names).map(|nth| name(b"ours", nth)))
        })
        .sum();
    let seats = seats as f64 / f64::from(DRAWS);
    Split {
        names,
        seats,
        of_share: seats / (SEATS as f64 * 640.0 / 2_640.0),
    }
}

/// Seats of the attacker's names in a committee, and whether it is first in turn.
fn held(committee: &Committee, names: &[PeerId]) -> (u64, bool) {
    let seats = committee.votes_of(names.iter().copied());
    (seats, names.contains(&committee.proposer(0)))
}

/// The member in turn knows its own link, and so the next draw. The attacker lets its turns pass until one gives it
/// more seats than its share, or an honest member's turn comes, whose link nobody knows.
fn silence(seats: usize, times: u32) -> Grinding {
    let (heights, drawn) = (DRAWS / 5 / times, seats);
    let (names, honest) = (NAMES * times, OTHERS * times);
    let ours: Vec<PeerId> = (0..names).map(|nth| name(b"ours", nth)).collect();
    let others = (0..honest).map(|nth| name(b"other", nth));
    let members: Vec<_> = (ours.iter().copied().chain(others))
        .map(|peer| (peer, 1))
        .collect();
    let share = drawn as f64 * f64::from(names) / f64::from(names + honest);
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (mut beacon, mut seats, mut turns) = (random(&mut rng), 0, 0);
    for round in 0..heights {
        let committee = draw_of(drawn, round, &beacon, &members);
        let (held_now, first) = held(&committee, &ours);
        seats += held_now;
        turns += u32::from(first);
        let mut next = None;
        for attempt in 0.. {
            let link = random(&mut rng);
            let offered = beacon::follow(&RunId::default(), Round(round), &beacon, &link);
            let is_ours = ours.contains(&committee.proposer(attempt));
            let then = draw_of(drawn, round + 1, &offered, &members);
            if !is_ours || held(&then, &ours).0 as f64 > share {
                next = Some(offered);
                break;
            }
        }
        beacon = next.expect("somebody proposes");
    }
    Grinding {
        plays: "silence of its names in turn, until a draw suits it",
        members: names + honest,
        seats: drawn,
        heights,
        of_share: seats as f64 / f64::from(heights) / share,
        first_turns: f64::from(turns)
            / f64::from(heights)
            / (f64::from(names) / f64::from(names + honest)),
    }
}

/// Makes keys whose tickets are the smallest under the beacon that is known when they join. They vote two heights
/// later, under another.
fn keys() -> Grinding {
    let heights = 200u32;
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let (mut seats, mut turns) = (0, 0);
    for round in 0..heights {
        let known = random(&mut rng);
        let others: Vec<_> = (0..OTHERS).map(|nth| (name(b"other", nth), 1)).collect();
        // The best of many keys for each name, judged by the draw that is known: they come first in its order.
        let tried = (0..NAMES * TRIES).map(|nth| name(&round.to_le_bytes(), nth));
        let mut tried: Vec<(PeerId, u64)> = tried.map(|peer| (peer, 1)).collect();
        let known_order = |members: &[(PeerId, u64)]| draw(round, &known, members);
        tried = best(&tried, &known_order);
        let ours: Vec<PeerId> = tried.iter().map(|(peer, _)| *peer).collect();
        let members: Vec<_> = tried.iter().chain(&others).copied().collect();
        for later in 0..100 {
            let committee = draw(round + 2 + later, &random(&mut rng), &members);
            let (held_now, first) = held(&committee, &ours);
            seats += held_now;
            turns += u32::from(first);
        }
    }
    let (played, share) = (heights * 100, f64::from(NAMES) / f64::from(NAMES + OTHERS));
    Grinding {
        plays: "keys ground against the beacon that is known when they join",
        members: NAMES + OTHERS,
        seats: SEATS,
        heights: played,
        of_share: seats as f64 / f64::from(played) / (SEATS as f64 * share),
        first_turns: f64::from(turns) / f64::from(played) / share,
    }
}

/// The keys that would have seats if the known beacon drew among all that were tried, filled up to [`NAMES`].
fn best(
    tried: &[(PeerId, u64)],
    draw: &impl Fn(&[(PeerId, u64)]) -> Committee,
) -> Vec<(PeerId, u64)> {
    let seated = draw(tried);
    let mut out: Vec<PeerId> = seated.members().to_vec();
    let rest = tried
        .iter()
        .map(|(peer, _)| *peer)
        .filter(|peer| !seated.contains(peer));
    out.extend(rest);
    out.truncate(NAMES as usize);
    out.into_iter().map(|peer| (peer, 1)).collect()
}

/// The tables of the page.
pub fn markdown(votes: &Votes, command: &str) -> String {
    let mut out = format!("From `{command}`.\n\n");
    out += &format!(
        "One weight, 640 of 2,640, under several names; {SEATS} seats, {DRAWS} draws:\n\n\
         | names | seats | of its share |\n|---|---|---|\n"
    );
    for split in &votes.splits {
        let Split {
            names,
            seats,
            of_share,
        } = split;
        out += &format!("| {names} | {seats:.3} | {of_share:.4} |\n");
    }
    out += "\nAn attacker with a fifth of equal names:\n\n\
         | it plays | members | seats | heights | seats of its share | first turns of its share |\n\
         |---|---|---|---|---|---|\n";
    for row in &votes.ground {
        let (plays, members, seats, heights) = (row.plays, row.members, row.seats, row.heights);
        let (of_share, turns) = (row.of_share, row.first_turns);
        out += &format!(
            "| {plays} | {members} | {seats} | {heights} | {of_share:.3} | {turns:.3} |\n"
        );
    }
    out += "\nMembers that vanish. A height halts for good if those present hold no quorum of it:\n\n\
         | members | vanish | heights decided | heights that halted |\n|---|---|---|---|\n";
    for row in &votes.absences {
        let Absence {
            members,
            vanish,
            decided,
            halted,
        } = row;
        out += &format!("| {members} | {vanish} | {decided} | {halted} |\n");
    }
    out
}
