//! Who becomes a member, opens its sketch and leaves: what this peer asks for, and what the next value grants.
//!
//! A join commits to a sketch and nobody sees it. Once a certificate has admitted the join, whoever copies the sketch
//! commits later and counts later, so its author opens it. Before the genesis no certificate can say who came first:
//! there the creator calls the joins that it has heard, and whoever is called opens.

use std::collections::BTreeMap;

use super::NodeContext;
use super::height::OpenHeight;
use super::known::{Known, wake};
use crate::beacon::Chain;
use crate::entry::{Entry, Join};
use crate::hash::{Digest, Domain};
use crate::id::PeerId;
use crate::limits;
use crate::roster::Roster;
use crate::round::{EntryRef, Joined, Opened};
use crate::sketch::Sketch;
use crate::state::{self, Opening};
use crate::time::Instant;

/// Joins, and sketches opened, that this peer puts into one value, so that each kind has its room there.
pub(super) const MAX_JOINS: usize = limits::MAX_CHANGES_PER_ROUND * 3 / 8;
/// Leaves that it puts in beside them.
const MAX_LEAVES: usize = limits::MAX_CHANGES_PER_ROUND - 2 * MAX_JOINS;

/// Joins that were called, with the number of the first call that names each.
pub(super) type CalledJoins = BTreeMap<EntryRef, u32>;

/// What the owner of this peer asked for.
#[derive(Default)]
pub(super) struct Membership {
    /// Membership this peer asked for.
    pub(super) join: Option<Join>,
    /// The sketch that it commits to.
    pub(super) sketch: Option<Sketch>,
    /// The owner asked to leave.
    pub(super) leaving: bool,
}

impl Membership {
    /// The join to append, if this peer wants to be a member and has not said so.
    pub(super) fn ask_to_join(&mut self, cx: &NodeContext, known: Known<'_>) -> Option<Entry> {
        let join = self.join.as_mut()?;
        if join.beacon == Digest::default() {
            let closing = known.manifest().closing_round();
            join.beacon = Chain::new(&cx.key, &known.id(), closing).commitment();
        }
        if self.leaving || known.certified.is_member(&cx.me) {
            return None;
        }
        let index = known.index();
        let last_leave = index.leaves.get(&cx.me).map(EntryRef::position);
        let asked = index.joins.get(&cx.me).map(|(at, _)| at.position());
        if asked > last_leave || (asked.is_some() && last_leave.is_none()) {
            return None;
        }
        assert_ne!(
            join.beacon,
            Digest::default(),
            "a join commits to what its author will reveal"
        );
        Some(Entry::Join(join.clone()))
    }

    /// The leave to append, if the owner wants to leave and this peer has not said so.
    pub(super) fn ask_to_leave(&self, cx: &NodeContext, known: Known<'_>) -> Option<Entry> {
        if !self.leaving || !known.certified.is_member(&cx.me) {
            return None;
        }
        let index = known.index();
        let joined = index.joins.get(&cx.me).map(|(at, _)| at.position());
        let asked = index.leaves.get(&cx.me).map(EntryRef::position);
        (asked.is_none() || asked < joined).then_some(Entry::Leave)
    }

    /// The opening to append, once this peer's join is certified or called.
    pub(super) fn open_sketch(&self, cx: &NodeContext, known: Known<'_>) -> Option<Entry> {
        let sketch = self.sketch.as_ref()?;
        let (at, join) = known.index().joins.get(&cx.me)?;
        let may_open = match known.head() {
            Some(head) => {
                (head.roster.get(&cx.me)).is_some_and(|m| m.own_tokens == 0 && m.joined == *at)
            }
            None => known.called().contains_key(at),
        };
        let said = known.index().openings.get(&cx.me);
        let is_said = said.is_some_and(|opening| opening.position() > at.position());
        if !may_open || is_said || known.certified.is_finished() {
            return None;
        }
        let is_committed = join.sketch == Some(sketch.commit(&cx.me));
        is_committed.then(|| Entry::Opening(sketch.clone()))
    }

    /// Whether this peer's sketch is open and shows nothing that is its own.
    pub(super) fn lacks_own_text(&self, known: Known<'_>) -> bool {
        let (Some(join), Some(head)) = (&self.join, known.head()) else {
            return false;
        };
        let mut members = head.roster.iter().filter(|member| member.own_tokens == 0);
        let is_mine = |at: &EntryRef| {
            let join_of = known.index().joins.get(&at.author);
            join_of.is_some_and(|(_, said)| said == join)
        };
        let Some(member) = members.find(|member| is_mine(&member.joined)) else {
            return false;
        };
        let at = known.index().openings.get(&member.peer);
        at.is_some_and(|at| known.shows_text(at) == Some(false))
    }
}

impl Known<'_> {
    /// Join entries that the next value may admit: what `Roster::apply` takes, by its own predicate, and no more
    /// than the roster has room for. One entry that it refuses would make every honest proposal of the height fail.
    ///
    /// Places are drawn by what nobody else knows while joins are made: the beacon after this height, as it will be
    /// with this peer's link.
    pub(super) fn admissible(self, beacon: &Digest) -> Vec<Joined> {
        let nobody = Roster::default();
        let roster = self.head().map_or(&nobody, |head| &head.roster);
        let may_join =
            |(at, _): &(EntryRef, &Join)| roster.may_join(at) && self.has_stake_to_join(&at.author);
        let mut joins: Vec<(EntryRef, &Join)> = self.gathered().filter(may_join).collect();
        if self.head().is_none() {
            let called = self.called();
            joins.retain(|(at, join)| self.is_ready(&called, at, join));
        }
        // Nobody leaves before the genesis: it may admit as many as a round may change.
        let most = match self.head() {
            Some(_) => MAX_JOINS,
            None => limits::MAX_CHANGES_PER_ROUND,
        };
        self.draw((Domain::Committee, beacon), &mut joins, most, |(at, _)| {
            at.author
        });
        assert!(joins.len() <= most, "no more join than a round may change");
        let mut room = roster.room();
        joins.retain(|(at, _)| {
            let returns = roster.has_known(&at.author);
            let fits = returns || room > 0;
            room -= usize::from(fits && !returns);
            fits
        });
        let new = joins.iter().filter(|(at, _)| !roster.has_known(&at.author));
        assert!(new.count() <= roster.room(), "the roster holds who is new");
        state::admit(self.manifest(), &joins)
    }

    /// Leave entries that the next value may carry out beside `joins`; see [`Known::admissible`].
    pub(super) fn leavers(self, joins: &[Joined], beacon: &Digest) -> Vec<EntryRef> {
        let Some(roster) = self.head().map(|head| &head.roster) else {
            return Vec::new();
        };
        let mut out: Vec<_> = (self.index().leaves.iter())
            .filter(|(peer, at)| {
                let join = self.index().joins.get(peer);
                let rejoined = join.is_some_and(|(join, _)| join.position() > at.position());
                !rejoined && roster.may_leave(at) && self.log().entry(at).is_some()
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
        assert!(
            out.len() < roster.len() || !joins.is_empty() || out.is_empty(),
            "somebody stays"
        );
        out
    }

    /// Whether sketches are opened in this run: updates weigh by own text.
    fn opens_sketches(self) -> bool {
        self.manifest().opens_sketches()
    }

    /// The creator's last call, while it matters.
    pub(super) fn last_call(self) -> Option<EntryRef> {
        if !self.opens_sketches() {
            return None;
        }
        let calls = self.index().calls.iter().rev();
        let mut counting = calls.filter(|at| self.log().entry(at).is_some());
        let last = counting.find(|at| at.author == self.manifest().creator)?;
        self.head().is_none().then_some(*last)
    }

    /// Whether the author of a join has to be called for the genesis.
    fn is_to_be_called(self, join: &Join) -> bool {
        self.opens_sketches() && join.role.contributes()
    }

    /// Whether the genesis may admit a join: its author was called and has opened, or shows no text.
    fn is_ready(self, called: &CalledJoins, at: &EntryRef, join: &Join) -> bool {
        let is_open = self.index().openings.contains_key(&at.author);
        !self.is_to_be_called(join) || (called.contains_key(at) && is_open)
    }

    /// Joins that the creator has called for the genesis.
    pub(super) fn called(self) -> CalledJoins {
        let called = |call| state::called(self.log(), &call);
        self.last_call().map(called).unwrap_or_default()
    }

    /// Whether the genesis would have so many members now. Sketches are held against each other only when enough of them
    /// are open: this is asked at every message that arrives.
    pub(super) fn is_ready_for_genesis(self, least: usize) -> bool {
        let mut joins = self.admissible(&Digest::default());
        if joins.len() >= least {
            self.openings(&mut joins, &Digest::default());
        }
        joins.len() >= least
    }

    /// Openings that the next value may carry out, by the predicate that it is checked with. Joins of the genesis
    /// whose authors have opened nothing of their own are taken out.
    pub(super) fn openings(self, joins: &mut Vec<Joined>, beacon: &Digest) -> Vec<Opened> {
        if !self.opens_sketches() {
            return Vec::new();
        }
        let head = self.head();
        let may_open = |peer: &PeerId| match head {
            Some(head) => (head.roster.get(peer))
                .is_some_and(|member| member.own_tokens == 0 && member.role.contributes()),
            None => joins.iter().any(|joined| joined.entry.author == *peer),
        };
        let mut entries: Vec<EntryRef> = (self.index().openings.iter())
            .filter(|(peer, at)| may_open(peer) && self.log().entry(at).is_some())
            .map(|(_, at)| *at)
            .collect();
        let openers: Vec<PeerId> = entries.iter().map(|at| at.author).collect();
        if !state::unknown_sketches(head, openers, self.log()).is_empty() {
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
                manifest: self.manifest(),
                head,
                joins,
                call: self.last_call(),
                log: self.log(),
            };
            let opened = state::open(&opening, &entries);
            if head.is_none() {
                let is_open = |joined: &Joined| {
                    joined.own_tokens > 0
                        || opened.iter().any(|o| o.entry.author == joined.entry.author)
                };
                joins.retain(is_open);
            }
            assert!(
                opened.len() <= entries.len(),
                "only what was said is opened"
            );
            if opened.len() == entries.len() {
                return opened;
            }
            entries = opened.iter().map(|opened| opened.entry).collect();
        }
    }

    /// All openings that the next value could carry out; none where they are more than one value holds.
    pub(super) fn all_openings(self) -> Vec<EntryRef> {
        let opened = self.openings(&mut Vec::new(), &Digest::default());
        let all = Some(opened).filter(|opened| opened.len() < MAX_JOINS);
        all.into_iter().flatten().map(|o| o.entry).collect()
    }

    /// Whether an opening of a member shows text of its own; `None` where that cannot be told yet.
    pub(super) fn shows_text(self, at: &EntryRef) -> Option<bool> {
        let head = self.head()?;
        let opening = Opening {
            manifest: self.manifest(),
            head: Some(head),
            joins: &[],
            call: None,
            log: self.log(),
        };
        let is_known = state::unknown_sketches(Some(head), [at.author], self.log()).is_empty();
        is_known.then(|| !state::open(&opening, &[*at]).is_empty())
    }
}

impl<'a> Known<'a> {
    /// Joins that a value could admit, whoever is a member.
    fn gathered(self) -> impl Iterator<Item = (EntryRef, &'a Join)> {
        (self.index().joins.iter())
            .filter(move |(peer, (at, join))| {
                let leave = self.index().leaves.get(peer);
                let left = leave.is_some_and(|leave| leave.position() > at.position());
                let is_eligible = state::is_eligible(self.manifest(), peer, join);
                !left && is_eligible && self.log().entry(at).is_some()
            })
            .map(|(_, (at, join))| (*at, join))
    }
}

impl OpenHeight {
    /// The creator calls those who have joined, once they are enough; again when not enough of them open. Returns
    /// whom to call now.
    pub(super) fn call_for_openings(
        &mut self,
        cx: &mut NodeContext,
        known: Known<'_>,
    ) -> Option<Vec<EntryRef>> {
        let manifest = known.manifest();
        let creates = manifest.creator == cx.me && known.opens_sketches();
        let calls = known.index().calls.iter().filter(|at| at.author == cx.me);
        let calls = calls.count();
        if known.head().is_some() || !creates || calls >= limits::MAX_CALLS {
            return None;
        }
        let now = cx.now.monotonic;
        let round_ms = u64::from(manifest.plan.deadlines.round_ms);
        if self.called_at.is_none() && calls > 0 {
            // In an earlier life of this peer.
            self.called_at = Some(now);
            wake(cx, known.id(), self.round, now.after_ms(round_ms));
        }
        let least = manifest.membership.min_members as usize;
        if known.gathered().count() < least {
            return None;
        }
        let called = known.called();
        let is_fresh = |(at, join): &(EntryRef, &Join)| {
            known.is_to_be_called(join) && !called.contains_key(at)
        };
        let fresh = known.gathered().filter(is_fresh);
        let mut fresh: Vec<EntryRef> = fresh.map(|(at, _)| at).collect();
        let patience_ms = round_ms << calls.saturating_sub(1);
        let waits = fresh.is_empty() || self.awaits_openings(known, now, patience_ms);
        if waits || known.is_ready_for_genesis(least) {
            return None;
        }
        // By what nobody else knows yet, or keys ground for it would come first in every call.
        let chain = Chain::new(&cx.key, &known.id(), manifest.closing_round());
        let beacon = state::next_beacon(known.id(), None, &chain.link(self.round));
        let by = (Domain::Committee, &beacon);
        known.draw(by, &mut fresh, limits::MAX_CALLED, |at| at.author);
        fresh.sort_unstable();
        assert!(!fresh.is_empty(), "a call names somebody");
        assert!(fresh.len() <= limits::MAX_CALLED, "a call fits a block");
        self.called_at = Some(now);
        Some(fresh)
    }

    /// Whether somebody who was called has not opened yet and still has time to.
    pub(super) fn awaits_openings(&self, known: Known<'_>, now: Instant, patience_ms: u64) -> bool {
        let called = known.called();
        let is_open = |at: &EntryRef| known.index().openings.contains_key(&at.author);
        let over = |since: Instant| now.since_ms(since) >= patience_ms;
        !called.keys().all(is_open) && !self.called_at.is_some_and(over)
    }
}
