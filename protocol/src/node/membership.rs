//! Who becomes a member, opens its sketch and leaves: what this peer asks for, and what the next value grants.
//!
//! A join commits to a sketch and nobody sees it. Once a certificate has admitted the join, whoever copies the sketch
//! commits later and counts later, so its author opens it. Before the genesis no certificate can say who came first:
//! there the creator calls the joins that it has heard, and whoever is called opens.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Desk;
use super::run::Run;
use crate::beacon::Chain;
use crate::entry::{Entry, Join};
use crate::hash::{Digest, Domain};
use crate::id::PeerId;
use crate::limits;
use crate::manifest::{Manifest, Weights};
use crate::roster::Roster;
use crate::round::{EntryRef, Joined, Opened};
use crate::state::{self, Opening};
use crate::time::Instant;

/// Joins, and sketches opened, that this peer puts into one value, so that each kind has its room there.
pub(super) const MAX_JOINS: usize = limits::MAX_CHANGES_PER_ROUND * 3 / 8;
/// Leaves that it puts in beside them.
const MAX_LEAVES: usize = limits::MAX_CHANGES_PER_ROUND - 2 * MAX_JOINS;

/// Joins that were called, with the number of the first call that names each.
pub(super) type Called = BTreeMap<EntryRef, u32>;

impl Run {
    pub(super) fn ask_to_join(&mut self, desk: &mut Desk) {
        let (Some(join), Some(manifest)) = (&mut self.join, &self.manifest) else {
            return;
        };
        if join.beacon == Digest::default() {
            let chain = Chain::new(&desk.key, &self.id, manifest.closing_round());
            join.beacon = chain.commitment();
        }
        let Some(join) = &self.join else { return };
        if self.leaving || self.is_member(&desk.me) {
            return;
        }
        let last_leave = self.index.leaves.get(&desk.me).map(EntryRef::position);
        let asked = self.index.joins.get(&desk.me).map(|(at, _)| at.position());
        if asked > last_leave || (asked.is_some() && last_leave.is_none()) {
            return;
        }
        self.append(desk, vec![Entry::Join(join.clone())], Vec::new());
    }

    pub(super) fn ask_to_leave(&mut self, desk: &mut Desk) {
        if !self.leaving || !self.is_member(&desk.me) {
            return;
        }
        let joined = self.index.joins.get(&desk.me).map(|(at, _)| at.position());
        let asked = self.index.leaves.get(&desk.me).map(EntryRef::position);
        if asked.is_none() || asked < joined {
            self.append(desk, vec![Entry::Leave], Vec::new());
        }
    }

    /// Join entries that the next value may admit: what `Roster::apply` takes, by its own predicate, and no more
    /// than the roster has room for. One entry that it refuses would make every honest proposal of the height fail.
    ///
    /// Places are drawn by what nobody else knows while joins are made: the beacon after this height, as it will be
    /// with this peer's link.
    pub(super) fn admissible(&self, beacon: &Digest) -> Vec<Joined> {
        let Some(manifest) = &self.manifest else {
            return Vec::new();
        };
        let head = self.head.as_ref();
        let nobody = Roster::default();
        let roster = head.map_or(&nobody, |head| &head.roster);
        let may_join = |(at, _): &(EntryRef, &Join)| roster.may_join(at);
        let mut joins: Vec<(EntryRef, &Join)> = self.gathered().filter(may_join).collect();
        if head.is_none() {
            let called = self.called();
            joins.retain(|(at, join)| self.is_ready(&called, at, join));
        }
        // Nobody leaves before the genesis: it may admit as many as a round may change.
        let most = match head {
            Some(_) => MAX_JOINS,
            None => limits::MAX_CHANGES_PER_ROUND,
        };
        self.draw((Domain::Committee, beacon), &mut joins, most, |(at, _)| {
            at.author
        });
        let mut room = roster.room();
        joins.retain(|(at, _)| {
            let returns = roster.has_known(&at.author);
            let fits = returns || room > 0;
            room -= usize::from(fits && !returns);
            fits
        });
        state::admit(manifest, &joins)
    }

    /// Leave entries that the next value may carry out beside `joins`; see [`Run::admissible`].
    pub(super) fn leavers(&self, joins: &[Joined], beacon: &Digest) -> Vec<EntryRef> {
        let Some(roster) = self.head.as_ref().map(|head| &head.roster) else {
            return Vec::new();
        };
        let mut out: Vec<_> = (self.index.leaves.iter())
            .filter(|(peer, at)| {
                let join = self.index.joins.get(peer);
                let rejoined = join.is_some_and(|(join, _)| join.position() > at.position());
                !rejoined && roster.may_leave(at) && self.log.entry(at).is_some()
            })
            .map(|(_, at)| *at)
            .collect();
        self.draw((Domain::Committee, beacon), &mut out, MAX_LEAVES, |at| {
            at.author
        });
        if joins.is_empty() && out.len() == roster.len() {
            // Somebody has to certify what comes.
            out.pop();
        }
        out
    }

    /// The creator's last call, while it matters.
    pub(super) fn last_call(&self) -> Option<EntryRef> {
        let manifest =
            (self.manifest.as_ref()).filter(|m| m.updates.weights != Weights::Trained)?;
        let calls = self.index.calls.iter().rev();
        let mut counting = calls.filter(|at| self.log.entry(at).is_some());
        let last = counting.find(|at| at.author == manifest.creator)?;
        self.head.is_none().then_some(*last)
    }

    /// Whether the author of a join has to be called for the genesis.
    fn is_to_be_called(&self, join: &Join) -> bool {
        let manifest = self.manifest.as_ref();
        manifest.is_some_and(|m| m.updates.weights != Weights::Trained) && join.role.contributes()
    }

    /// Whether the genesis may admit a join: its author was called and has opened, or shows no text.
    pub(super) fn is_ready(&self, called: &Called, at: &EntryRef, join: &Join) -> bool {
        let is_open = self.index.openings.contains_key(&at.author);
        !self.is_to_be_called(join) || (called.contains_key(at) && is_open)
    }

    /// Joins that the creator has called for the genesis.
    pub(super) fn called(&self) -> Called {
        let called = |call| state::called(&self.log, &call);
        self.last_call().map(called).unwrap_or_default()
    }

    /// Joins that a value could admit, whoever is a member.
    fn gathered(&self) -> impl Iterator<Item = (EntryRef, &Join)> {
        let manifest = self.manifest.as_ref();
        (self.index.joins.iter())
            .filter(move |(peer, (at, join))| {
                let leave = self.index.leaves.get(peer);
                let left = leave.is_some_and(|leave| leave.position() > at.position());
                let is_eligible = |m: &Arc<Manifest>| state::is_eligible(m, peer, join);
                !left && manifest.is_some_and(is_eligible) && self.log.entry(at).is_some()
            })
            .map(|(_, (at, join))| (*at, join))
    }

    /// The creator calls those who have joined, once they are enough; again when not enough of them open.
    pub(super) fn call_for_openings(&mut self, desk: &mut Desk) {
        let Some(manifest) = self.manifest.clone() else {
            return;
        };
        let creates = manifest.creator == desk.me && manifest.updates.weights != Weights::Trained;
        let calls = self.index.calls.iter().filter(|at| at.author == desk.me);
        let calls = calls.count();
        if self.head.is_some() || !creates || calls >= limits::MAX_CALLS {
            return;
        }
        let now = desk.now.monotonic;
        let round_ms = u64::from(manifest.plan.deadlines.round_ms);
        if self.called_at.is_none() && calls > 0 {
            // In an earlier life of this peer.
            self.called_at = Some(now);
            self.wake(desk, now.after_ms(round_ms));
        }
        let least = manifest.membership.min_members as usize;
        if self.gathered().count() < least {
            return;
        }
        let called = self.called();
        let fresh =
            |(at, join): &(EntryRef, &Join)| self.is_to_be_called(join) && !called.contains_key(at);
        let mut fresh: Vec<EntryRef> = self.gathered().filter(fresh).map(|(at, _)| at).collect();
        let patience_ms = round_ms << calls.saturating_sub(1);
        let waits = fresh.is_empty() || self.awaits_openings(now, patience_ms);
        if waits || self.is_ready_for_genesis(least) {
            return;
        }
        // By what nobody else knows yet, or keys ground for it would come first in every call.
        let chain = Chain::new(&desk.key, &self.id, manifest.closing_round());
        let beacon = state::next_beacon(self.id, None, &chain.link(self.next()));
        let by = (Domain::Committee, &beacon);
        self.draw(by, &mut fresh, limits::MAX_CALLED, |at| at.author);
        fresh.sort_unstable();
        self.called_at = Some(now);
        self.append(desk, vec![Entry::Call(fresh)], Vec::new());
        self.wake(desk, now.after_ms(round_ms));
    }

    /// Whether the genesis would have so many members now. Sketches are held against each other only when enough of them
    /// are open: this is asked at every message that arrives.
    pub(super) fn is_ready_for_genesis(&self, least: usize) -> bool {
        let mut joins = self.admissible(&Digest::default());
        if joins.len() >= least {
            self.openings(&mut joins, &Digest::default());
        }
        joins.len() >= least
    }

    /// Whether somebody who was called has not opened yet and still has time to.
    pub(super) fn awaits_openings(&self, now: Instant, patience_ms: u64) -> bool {
        let called = self.called();
        let is_open = |at: &EntryRef| self.index.openings.contains_key(&at.author);
        let over = |since: Instant| now.since_ms(since) >= patience_ms;
        !called.keys().all(is_open) && !self.called_at.is_some_and(over)
    }

    /// Opens this peer's sketch once its join is certified or called.
    pub(super) fn open_sketch(&mut self, desk: &mut Desk) {
        let Some(sketch) = &self.sketch else { return };
        let Some((at, join)) = self.index.joins.get(&desk.me) else {
            return;
        };
        let may_open = match &self.head {
            Some(head) => {
                (head.roster.get(&desk.me)).is_some_and(|m| m.own_tokens == 0 && m.joined == *at)
            }
            None => self.called().contains_key(at),
        };
        let said = self.index.openings.get(&desk.me);
        let is_said = said.is_some_and(|opening| opening.position() > at.position());
        if !may_open || is_said || self.is_finished() {
            return;
        }
        if join.sketch == Some(sketch.commit(&desk.me)) {
            self.append(desk, vec![Entry::Opening(sketch.clone())], Vec::new());
        }
    }

    /// Openings that the next value may carry out, by the predicate that it is checked with. Joins of the genesis
    /// whose authors have opened nothing of their own are taken out.
    pub(super) fn openings(&self, joins: &mut Vec<Joined>, beacon: &Digest) -> Vec<Opened> {
        let Some(manifest) = self.manifest.as_ref() else {
            return Vec::new();
        };
        if manifest.updates.weights == Weights::Trained {
            return Vec::new();
        }
        let head = self.head.as_ref();
        let may_open = |peer: &PeerId| match head {
            Some(head) => (head.roster.get(peer))
                .is_some_and(|member| member.own_tokens == 0 && member.role.contributes()),
            None => joins.iter().any(|joined| joined.entry.author == *peer),
        };
        let mut entries: Vec<EntryRef> = (self.index.openings.iter())
            .filter(|(peer, at)| may_open(peer) && self.log.entry(at).is_some())
            .map(|(_, at)| *at)
            .collect();
        let openers: Vec<PeerId> = entries.iter().map(|at| at.author).collect();
        if !state::unknown_sketches(head, openers, &self.log).is_empty() {
            entries.clear();
        }
        let most = match head {
            Some(_) => MAX_JOINS,
            None => limits::MAX_CHANGES_PER_ROUND,
        };
        let by = (Domain::Committee, beacon);
        self.draw(by, &mut entries, most, |at| at.author);
        loop {
            // Whoever opens together shares what it holds together, so who drops out changes the others' parts.
            let opening = Opening {
                manifest,
                head,
                joins,
                call: self.last_call(),
                log: &self.log,
            };
            let opened = state::open(&opening, &entries);
            if head.is_none() {
                let is_open = |joined: &Joined| {
                    joined.own_tokens > 0
                        || opened.iter().any(|o| o.entry.author == joined.entry.author)
                };
                joins.retain(is_open);
            }
            if opened.len() == entries.len() {
                return opened;
            }
            entries = opened.iter().map(|opened| opened.entry).collect();
        }
    }

    /// All openings that the next value could carry out; none where they are more than one value holds.
    pub(super) fn all_openings(&self) -> Vec<EntryRef> {
        let opened = self.openings(&mut Vec::new(), &Digest::default());
        let all = Some(opened).filter(|opened| opened.len() < MAX_JOINS);
        all.into_iter().flatten().map(|o| o.entry).collect()
    }

    /// Whether an update of a member can weigh anything in the open height: its sketch is open, or could be by the same
    /// value.
    pub(super) fn weighs(&mut self, peer: &PeerId) -> bool {
        let head = self.head.as_ref();
        let Some(member) = head.and_then(|head| head.roster.get(peer)) else {
            return false;
        };
        if member.own_tokens > 0 {
            return true;
        }
        let Some(at) = self.index.openings.get(peer).copied() else {
            return false;
        };
        if let Some(shows) = self.shows.get(&at) {
            return *shows;
        }
        let Some(shows) = self.shows_text(&at) else {
            return false;
        };
        self.shows.insert(at, shows);
        shows
    }

    /// Whether an opening of a member shows text of its own; `None` where that cannot be told yet.
    fn shows_text(&self, at: &EntryRef) -> Option<bool> {
        let (manifest, head) = (self.manifest.as_ref()?, self.head.as_ref()?);
        let opening = Opening {
            manifest,
            head: Some(head),
            joins: &[],
            call: None,
            log: &self.log,
        };
        let is_known = state::unknown_sketches(Some(head), [at.author], &self.log).is_empty();
        is_known.then(|| !state::open(&opening, &[*at]).is_empty())
    }

    /// Whether this peer's sketch is open and shows nothing that is its own.
    pub(super) fn lacks_own_text(&self) -> bool {
        let (Some(join), Some(head)) = (&self.join, &self.head) else {
            return false;
        };
        let mut members = head.roster.iter().filter(|member| member.own_tokens == 0);
        let is_mine = |at: &EntryRef| {
            let join_of = self.index.joins.get(&at.author);
            join_of.is_some_and(|(_, said)| said == join)
        };
        let Some(member) = members.find(|member| is_mine(&member.joined)) else {
            return false;
        };
        let at = self.index.openings.get(&member.peer);
        at.is_some_and(|at| self.shows_text(at) == Some(false))
    }
}
