//! Who decides and who contributes at a height, and who is a member after it.

use super::{Head, contributes, counts, next_round, votes};
use crate::beacon;
use crate::committee::Committee;
use crate::hash::{Digest, Domain, Hasher};
use crate::id::{PeerId, Round, RunId};
use crate::manifest::Manifest;
use crate::panel::Panel;
use crate::reject::Rejection;
use crate::roster::{Member, Roster, Work};
use crate::round::RoundValue;
use crate::sortition::Sortition;

/// The draw of contributors for the round after `round`, by rank. While all are drawn, those who have just been
/// admitted are. Whoever has not opened its sketch in its first round is not waited for, nor is who has no stake where that
/// weighs.
pub(super) fn draw(
    manifest: &Manifest,
    (run, round): (&RunId, Round),
    beacon: &Digest,
    roster: &Roster,
    most: usize,
) -> Vec<PeerId> {
    let lot = Sortition {
        domain: Domain::Participants,
        run,
        round: round.next(),
        beacon,
    };
    if roster.contributors().count() <= most {
        let may_open =
            |m: &&Member| counts(manifest, m) || m.own_tokens == 0 && m.since == round.next();
        let contributors = roster.contributors().filter(may_open);
        return lot.draw(contributors.map(|member| member.peer), most);
    }
    let seated = roster.seated(round.next());
    let contributors =
        seated.filter(|member| member.role.contributes() && counts(manifest, member));
    lot.draw(contributors.map(|member| member.peer), most)
}

/// The committee that decides the height after `head` (`None`: the genesis, decided by the creator).
pub fn committee(manifest: &Manifest, run: &RunId, head: Option<&Head>) -> Committee {
    let Some(head) = head else {
        return Committee::genesis(manifest.creator);
    };
    let round = head.round.next();
    let size = manifest.membership.committee as usize;
    let present = |peer: &PeerId| (head.roster.get(peer)).is_some_and(|m| votes(manifest, m) > 0);
    if head.electorate.iter().any(|(peer, _)| present(peer)) {
        let electorate = head.electorate.iter().copied();
        return Committee::draw(run, round, &head.beacon, electorate, present, size);
    }
    let electorate = electorate(manifest, &head.roster);
    Committee::draw(run, round, &head.beacon, electorate, |_| true, size)
}

/// The beacon after the height that follows `head`, when its value reveals `link`.
pub fn next_beacon(run: RunId, head: Option<&Head>, link: &Digest) -> Digest {
    let before = head.map_or_else(Digest::default, |head| head.beacon);
    beacon::follow(&run, next_round(head), &before, link)
}

/// The roster after a value: who made it is told by the attempt in which it was put up first. Epochs change stakes alone.
pub(super) fn roster_after(
    manifest: &Manifest,
    head: Option<&Head>,
    value: &RoundValue,
) -> Result<Roster, Rejection> {
    if let Some(head) = head.filter(|_| value.round > manifest.closing_round()) {
        let roster = head.roster.clone();
        return match &value.anchor {
            Some(anchor) => roster.anchor(anchor),
            None => Ok(roster),
        };
    }
    let proposer = committee(manifest, &value.run, head).proposer(value.attempt);
    match head {
        None => Roster::default().apply(value, &proposer, &Work::default()),
        Some(head) => head.roster.apply(value, &proposer, &work(head, value)),
    }
}

/// What the height after `head` asked for: an update of everybody who was drawn, and a sheet of evaluators that send
/// no updates. Where it certifies no contributions, it asked for none.
fn work(head: &Head, value: &RoundValue) -> Work {
    let mut work = Work::default();
    if !value.included.is_empty() {
        work.asked.extend(&head.participants);
        (work.done).extend(value.included.iter().map(|i| i.receipt.author));
    }
    if !value.sheets.is_empty() {
        let evaluators = head.roster.evaluators().map(|member| member.peer);
        let only = |peer: &PeerId| !contributes(&head.roster, peer);
        (work.asked).extend(evaluators.filter(|peer| head.panel.contains(peer) && only(peer)));
        work.done
            .extend(value.sheets.iter().map(|sheet| sheet.author));
    }
    work
}

/// Members with a vote and what it weighs; all of them equally where nobody has one.
pub(super) fn electorate(manifest: &Manifest, roster: &Roster) -> Vec<(PeerId, u64)> {
    let weights = roster
        .iter()
        .map(|member| (member.peer, votes(manifest, member)));
    let voting: Vec<(PeerId, u64)> = weights.filter(|(_, weight)| *weight > 0).collect();
    match voting.is_empty() {
        true => roster.iter().map(|member| (member.peer, 1)).collect(),
        false => voting,
    }
}

/// Who judges a round: whom the manifest names, or, where members are bonded, seats drawn by weight among those who had
/// joined as evaluators before the round's beacon was known. Whoever has left since loses its seats and moves nobody else's,
/// so that a proposer cannot choose a panel by whom it lets go.
pub(super) fn panel(
    manifest: &Manifest,
    before: &Roster,
    after: &Roster,
    (round, beacon): (Round, &Digest),
) -> Panel {
    if !manifest.is_bonded() {
        return Panel::equal(manifest.scoring.evaluators.iter().copied());
    }
    let run = manifest.run_id();
    let lot = Sortition {
        domain: Domain::Evaluators,
        run: &run,
        round,
        beacon,
    };
    let evaluates = |roster: &Roster, peer: &PeerId| {
        (roster.get(peer)).is_some_and(|member| member.role.evaluates())
    };
    let electorate = electorate(manifest, before);
    let weights = (electorate.into_iter()).filter(|(peer, _)| evaluates(before, peer));
    let seats = lot.seats(weights, manifest.scoring.seats as usize);
    let present = (seats.into_iter()).filter(|(peer, _)| evaluates(after, peer));
    Panel::new(present.map(|(peer, seats)| (peer, u32::try_from(seats).unwrap_or(u32::MAX))))
}

/// Who judges what is disputed, as bytes that name it and nothing else: seats drawn by votes among those who were members
/// before the last certificate's beacon was known, without those `concerned`. Whoever opens a dispute must not know that
/// beacon yet.
pub fn jury(
    manifest: &Manifest,
    head: &Head,
    matter: &[u8],
    concerned: impl Fn(&PeerId) -> bool,
    seats: usize,
) -> Panel {
    let run = manifest.run_id();
    let mut hasher = Hasher::new(Domain::Jury);
    hasher.update(head.beacon.as_bytes());
    hasher.update(matter);
    let lot = Sortition {
        domain: Domain::Jury,
        run: &run,
        round: head.round,
        beacon: &hasher.finalize(),
    };
    let weights = head.electorate.iter().copied();
    let seats = lot.seats(weights.filter(|(peer, _)| !concerned(peer)), seats);
    let seats = seats.into_iter();
    Panel::new(seats.map(|(peer, seats)| (peer, u32::try_from(seats).unwrap_or(u32::MAX))))
}

#[cfg(test)]
mod tests;
