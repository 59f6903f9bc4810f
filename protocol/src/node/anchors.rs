//! What the chain of a run's money says, as this peer's client reads it: what a value takes over of it, and which values of
//! others say something else.

use std::collections::BTreeMap;

use super::known::Known;
use crate::anchor::{Anchor, ChainFacts};
use crate::hash::{Digest, Domain};
use crate::id::PeerId;
use crate::limits;
use crate::manifest::Weights;
use crate::roster::{Member, Roster};
use crate::round::{EntryRef, Joined};
use crate::time::Instant;

/// What was read of the chain at its last blocks. Nothing without a client.
#[derive(Default)]
pub(super) struct ChainView {
    facts: BTreeMap<u64, ChainFacts>,
    /// When the newest of them was read first.
    since: Option<(u64, Instant)>,
    /// The newest block that this peer may name: others have read it as well, as far as can be told.
    ripe: Option<u64>,
}

impl ChainView {
    /// Takes what the client read; the newest blocks are kept.
    pub(super) fn take(&mut self, facts: ChainFacts) {
        self.facts.insert(facts.block.number, facts);
        while self.facts.len() > limits::MAX_CHAIN_FACTS {
            self.facts.pop_first();
        }
    }

    /// A block is named once a later one was read, or after [`limits::ANCHOR_AGE_MS`]: a value that names what others read
    /// a moment later is left unanswered until they have.
    pub(super) fn ripen(&mut self, now: Instant) {
        let mut numbers = self.facts.keys().rev().copied();
        let Some(newest) = numbers.next() else { return };
        let since = match self.since {
            Some((number, since)) if number == newest => since,
            _ => now,
        };
        self.since = Some((newest, since));
        let is_old = now.since_ms(since) >= limits::ANCHOR_AGE_MS;
        let ripe = if is_old { Some(newest) } else { numbers.next() };
        self.ripe = self.ripe.max(ripe);
    }

    fn ripe(&self) -> Option<&ChainFacts> {
        self.facts.get(&self.ripe?)
    }

    /// Whether this peer answers a value with this anchor, after which the roster is `after`: its client says the same of
    /// that block and of every member, or it has none. An anchor that is full may leave some for the next.
    pub(super) fn supports(&self, anchor: &Anchor, after: &Roster) -> bool {
        let is_full = anchor.stakes.len() == limits::MAX_ANCHORED_STAKES;
        let is_whole = |facts: &ChainFacts| {
            let same = |member: &Member| {
                member.stake.unwrap_or_default().last == facts.stake(&member.peer)
            };
            is_full || after.iter().all(same)
        };
        let seen = self.facts.get(&anchor.block.number);
        self.facts.is_empty() || seen.is_some_and(|facts| facts.agrees(anchor) && is_whole(facts))
    }
}

impl<'a> Known<'a> {
    /// What the client read that a value may take over: of a block after that of the last anchor.
    fn fresh_facts(self) -> Option<&'a ChainFacts> {
        let facts = self.chain_view().ripe()?;
        let anchored = self.head().and_then(|head| head.roster.anchored());
        let is_later = anchored.is_none_or(|(block, _)| facts.block.number > block.number);
        (is_later && self.manifest().is_bonded()).then_some(facts)
    }

    /// Whether the next value may admit a peer by its stake.
    pub(super) fn has_stake_to_join(self, peer: &PeerId) -> bool {
        let Weights::Stake { least } = self.manifest().updates.weights else {
            return true;
        };
        let stake = || self.fresh_facts().map(|facts| facts.stake(peer));
        least == 0 || stake().is_some_and(|stake| stake >= least)
    }

    /// What the next value takes over of the chain, where it admits and lets go these: nothing where that would change
    /// nothing.
    pub(super) fn next_anchor(
        self,
        joins: &[Joined],
        leaves: &[EntryRef],
        beacon: &Digest,
    ) -> Option<Anchor> {
        let facts = self.fresh_facts()?;
        let nobody = Roster::default();
        let roster = self.head().map_or(&nobody, |head| &head.roster);
        let mut stakes: Vec<(PeerId, u64)> = (joins.iter())
            .map(|joined| joined.entry.author)
            .map(|peer| (peer, facts.stake(&peer)))
            .filter(|(_, stake)| *stake > 0)
            .collect();
        stakes.truncate(limits::MAX_ANCHORED_STAKES);
        let stays = |peer: &PeerId| leaves.iter().all(|leave| leave.author != *peer);
        let members = roster.iter().filter(|member| stays(&member.peer));
        let mut changed: Vec<(PeerId, u64)> = members
            .map(|member| (member, facts.stake(&member.peer)))
            .filter(|(member, stake)| member.stake.unwrap_or_default().last != *stake)
            .map(|(member, stake)| (member.peer, stake))
            .collect();
        let room = limits::MAX_ANCHORED_STAKES - stakes.len();
        let by = (Domain::Evaluators, beacon);
        self.draw(by, &mut changed, room, |(peer, _)| *peer);
        stakes.extend(changed);
        stakes.sort_unstable();
        let claimed = facts.channels.iter();
        let fresh = claimed.filter(|one| self.certified.claimed(&one.channel) < one.claimed);
        let channels = fresh.copied().take(limits::MAX_ANCHORED_CHANNELS).collect();
        let anchor = Anchor {
            block: facts.block,
            money: facts.money,
            stakes,
            channels,
        };
        let may = roster.anchored().is_some() || mostly_bonded(facts, roster, joins);
        (may && changes(roster, &anchor)).then_some(anchor)
    }

    /// Whether an epoch has an anchor to take over.
    pub(super) fn awaits_anchor(self) -> bool {
        self.next_anchor(&[], &[], &Digest::default()).is_some()
    }
}

/// Whether more than two thirds of those who are members with the next value have stake.
fn mostly_bonded(facts: &ChainFacts, roster: &Roster, joins: &[Joined]) -> bool {
    let joining = joins.iter().map(|joined| joined.entry.author);
    let all = roster.iter().map(|member| member.peer).chain(joining);
    let (mut members, mut bonded) = (0, 0);
    for peer in all {
        members += 1;
        bonded += usize::from(facts.stake(&peer) > 0);
    }
    3 * bonded > 2 * members
}

/// Whether a roster, or the books, are other after an anchor than before. A change of stake counts from the second anchor
/// on, so there is one.
fn changes(roster: &Roster, anchor: &Anchor) -> bool {
    let counts = |member: &Member| {
        let stake = member.stake.unwrap_or_default();
        stake.last == stake.before
    };
    let money = roster.anchored().map(|(_, money)| money);
    !anchor.stakes.is_empty()
        || !anchor.channels.is_empty()
        || money != Some(anchor.money)
        || !roster.iter().all(counts)
}
