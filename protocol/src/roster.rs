//! The members of a run after a certified round.
//!
//! A pure fold over round values: joins and leaves are the only things that change it. It also keeps where each
//! member's admission stands, and where former members said that they leave, because a join or leave entry stays in
//! its author's log forever and must not count a second time.

use std::collections::BTreeSet;

use bincode::{Decode, Encode};

use crate::anchor::{Anchor, ChainBlock, ChainMoney};
use crate::beacon;
use crate::codec;
use crate::entry::Role;
use crate::hash::{self, Digest, Domain};
use crate::id::{MerkleRoot, PeerId, Round, Seq};
use crate::limits;
use crate::reject::Rejection;
use crate::round::{EntryRef, Opened, RoundValue};

/// One member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Member {
    /// The member.
    pub peer: PeerId,
    /// What it does.
    pub role: Role,
    /// Root of its shard or hold-out.
    pub root: MerkleRoot,
    /// Tokens behind the root.
    pub tokens: u64,
    /// How many of them count as its own: none of a text whose sketch is not open yet.
    pub own_tokens: u64,
    /// First round it takes part in: the one after it was admitted.
    pub since: Round,
    /// The join entry that admitted it.
    pub joined: EntryRef,
    /// The entry that opened its sketch.
    pub opened: Option<EntryRef>,
    /// The last link that it revealed, or what it committed to ([`crate::beacon`]).
    pub link: Digest,
    /// The first height whose link is not revealed.
    pub open: Round,
    /// Requests for work since it last did any, counted up to [`limits::IDLE_REQUESTS`].
    pub idle: u8,
    /// What anchors say of its stake; none before the run's first anchor.
    pub stake: Option<AnchoredStake>,
}

/// What the last two anchors say of a member's stake, in micro-OPEN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct AnchoredStake {
    /// The last one.
    pub last: u64,
    /// The one before; of a run with one anchor, the same.
    pub before: u64,
}

impl AnchoredStake {
    /// What counts: the lesser, so that nobody jumps in for one draw.
    pub fn counting(&self) -> u64 {
        self.last.min(self.before)
    }
}

impl Member {
    /// Whether it left so many requests for work unanswered that it has no vote until it works again.
    pub fn is_idle(&self) -> bool {
        self.idle >= limits::IDLE_REQUESTS
    }
}

/// What a height asked members to do, and what it got. Counts who works.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// The members that were asked.
    pub asked: BTreeSet<PeerId>,
    /// The members that did something, asked or not.
    pub done: BTreeSet<PeerId>,
}

/// A peer that was a member and left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Departed {
    peer: PeerId,
    /// Where its sketch stands: the text behind it stays taken.
    opened: Option<EntryRef>,
    /// The first round it took part in.
    since: Round,
    /// Its leave entry; only a join after it counts.
    seq: Seq,
    index: u8,
}

/// Members sorted by id. The default is the roster before the genesis: nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Roster {
    members: Vec<Member>,
    departed: Vec<Departed>,
    anchored: Option<(ChainBlock, ChainMoney)>,
}

impl Roster {
    /// Members ordered by id.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Members ordered by id.
    pub fn iter(&self) -> std::slice::Iter<'_, Member> {
        self.members.iter()
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody is a member (only before the genesis).
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The member with this id.
    pub fn get(&self, peer: &PeerId) -> Option<&Member> {
        let at = self.members.binary_search_by_key(peer, |m| m.peer).ok()?;
        Some(&self.members[at])
    }

    /// The block of the last anchor, and the run's money there.
    pub fn anchored(&self) -> Option<(ChainBlock, ChainMoney)> {
        self.anchored
    }

    /// Whether this peer is a member or has been one.
    pub fn has_known(&self, peer: &PeerId) -> bool {
        let left = self.departed.binary_search_by_key(peer, |d| d.peer);
        self.get(peer).is_some() || left.is_ok()
    }

    /// Members that send updates, ordered by id.
    pub fn contributors(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|m| m.role.contributes())
    }

    /// The open sketches of present and former members, each with the round since which its author was one.
    pub fn sketches(&self) -> impl Iterator<Item = (Round, EntryRef)> {
        let present = self.members.iter().map(|m| (m.since, m.opened));
        let departed = self.departed.iter().map(|d| (d.since, d.opened));
        (present.chain(departed)).filter_map(|(since, opened)| Some((since, opened?)))
    }

    /// Members that can be drawn for a height, ordered by id: those that had been admitted before the last link of
    /// its beacon was revealed, so that nobody joins with a key ground for a draw. Everybody where nobody had.
    pub fn seated(&self, round: Round) -> impl Iterator<Item = &Member> {
        let may = move |member: &&Member| member.since < round || member.since == Round(1);
        let none = !self.members.iter().any(|member| may(&member));
        self.members
            .iter()
            .filter(move |member| none || may(member))
    }

    /// Members that score, ordered by id.
    pub fn evaluators(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|m| m.role.evaluates())
    }

    /// Hash of the canonical bytes; part of the state hash.
    pub fn digest(&self) -> Digest {
        hash::digest(Domain::Roster, &codec::encode(self))
    }

    /// Whether a join entry may admit its author now: no member yet, and not an entry from before
    /// the author last left.
    pub fn may_join(&self, entry: &EntryRef) -> bool {
        let position = (entry.seq, entry.index);
        let left = (self.departed).binary_search_by_key(&entry.author, |d| d.peer);
        let stale = left.is_ok_and(|at| position <= self.departed[at].position());
        !stale && self.get(&entry.author).is_none()
    }

    /// Whether a leave entry ends its author's membership: a member, and said after it joined.
    pub fn may_leave(&self, entry: &EntryRef) -> bool {
        self.get(&entry.author)
            .is_some_and(|m| (entry.seq, entry.index) > (m.joined.seq, m.joined.index))
    }

    /// How many peers that were never a member may still be admitted.
    pub fn room(&self) -> usize {
        limits::MAX_MEMBERS.saturating_sub(self.members.len() + self.departed.len())
    }

    /// The roster after `value`: `proposer` has revealed its link, work is counted, leavers are gone, and joiners are
    /// members from the next round on. The genesis has a proposer that is not a member.
    ///
    /// # Errors
    /// [`Rejection::Contradiction`] when a joiner is a member, a leaver is not, or an entry is older
    /// than the membership it would change; [`Rejection::Limit`] beyond `limits::MAX_MEMBERS`.
    pub fn apply(
        &self,
        value: &RoundValue,
        proposer: &PeerId,
        work: &Work,
    ) -> Result<Self, Rejection> {
        let contradiction = |what| Err(Rejection::Contradiction(what));
        let mut after = self.clone();
        if !after.reveal(proposer, value) {
            return contradiction("the link is not on the chain that the proposer committed to");
        }
        after.count(work);
        if !self.is_empty() {
            after.open(&value.openings)?;
        }
        after = after.left(value)?;
        for joined in &value.joins {
            if !self.may_join(&joined.entry) {
                return contradiction("a join entry of a member, or from before it left");
            }
            let peer = joined.entry.author;
            after.departed.retain(|d| d.peer != peer);
            after.members.push(Member {
                peer,
                role: joined.role,
                root: joined.root,
                tokens: joined.tokens,
                own_tokens: joined.own_tokens,
                since: value.round.next(),
                joined: joined.entry,
                opened: None,
                link: joined.beacon,
                open: Round(0),
                idle: 0,
                stake: self.anchored.map(|_| AnchoredStake::default()),
            });
        }
        after.members.sort_unstable_by_key(|m| m.peer);
        if self.is_empty() {
            after.open(&value.openings)?;
        }
        after.departed.sort_unstable_by_key(|d| d.peer);
        let twice = |pair: &[Member]| pair[0].peer == pair[1].peer;
        if after.members.windows(2).any(twice) {
            return contradiction("two joins of one peer");
        }
        if after.members.is_empty() {
            return contradiction("the last members leave, nobody could certify another round");
        }
        if after.members.len() + after.departed.len() > limits::MAX_MEMBERS {
            return Err(Rejection::Limit("members of a run"));
        }
        match &value.anchor {
            Some(anchor) => after.anchor(anchor),
            None => Ok(after),
        }
    }

    /// The roster without those who leave with a value.
    ///
    /// # Errors
    /// [`Rejection::Contradiction`] when somebody is no member, or said so before it joined.
    pub(crate) fn left(mut self, value: &RoundValue) -> Result<Self, Rejection> {
        let contradiction = |what| Err(Rejection::Contradiction(what));
        for entry in &value.leaves {
            if !self.may_leave(entry) {
                return contradiction("a leave entry of no member, or from before it joined");
            }
            let Some(at) = (self.members.iter()).position(|m| m.peer == entry.author) else {
                return contradiction("a leave entry given twice");
            };
            let member = self.members.remove(at);
            self.departed.push(Departed {
                peer: entry.author,
                opened: member.opened,
                since: member.since,
                seq: entry.seq,
                index: entry.index,
            });
        }
        Ok(self)
    }

    /// The roster with what an anchor says of stakes.
    ///
    /// # Errors
    /// [`Rejection::Contradiction`] when its block is not after that of the anchor before, or it names who is no member.
    pub fn anchor(mut self, anchor: &Anchor) -> Result<Self, Rejection> {
        let is_first = self.anchored.is_none();
        if (self.anchored).is_some_and(|(block, _)| anchor.block.number <= block.number) {
            return Err(Rejection::Contradiction(
                "an anchor at no later block than the one before",
            ));
        }
        self.anchored = Some((anchor.block, anchor.money));
        let mut stakes = anchor.stakes.iter().copied().peekable();
        for member in &mut self.members {
            let changed = stakes.next_if(|(peer, _)| *peer == member.peer);
            let before = member.stake.unwrap_or_default().last;
            let last = changed.map_or(before, |(_, stake)| stake);
            let before = if is_first { last } else { before };
            member.stake = Some(AnchoredStake { last, before });
        }
        if stakes.next().is_some() {
            return Err(Rejection::Contradiction(
                "an anchor with stake of no member",
            ));
        }
        match is_first && !self.is_mostly_bonded() {
            false => Ok(self),
            true => Err(Rejection::Contradiction(
                "a first anchor in which a third of the members have no stake",
            )),
        }
    }

    /// Whether more than two thirds of the members have stake: from then on it weighs. Before, the first to bond would
    /// decide alone.
    fn is_mostly_bonded(&self) -> bool {
        let bonded = |member: &&Member| member.stake.unwrap_or_default().last > 0;
        3 * self.members.iter().filter(bonded).count() > 2 * self.members.len()
    }
}

impl Roster {
    /// The members with these sketches open: what their text weighs counts at once.
    ///
    /// # Errors
    /// [`Rejection::Contradiction`] when somebody has nothing to open, or has opened it before.
    pub fn opened(&self, openings: &[Opened]) -> Result<Self, Rejection> {
        let mut after = self.clone();
        after.open(openings)?;
        Ok(after)
    }

    fn open(&mut self, openings: &[Opened]) -> Result<(), Rejection> {
        for opened in openings {
            let author = opened.entry.author;
            let at = self.members.binary_search_by_key(&author, |m| m.peer);
            let Ok(at) = at else {
                return Err(Rejection::Contradiction("a sketch of no member"));
            };
            let member = &mut self.members[at];
            let follows = opened.entry.position() > member.joined.position();
            if member.own_tokens > 0
                || !follows
                || !(1..=member.tokens).contains(&opened.own_tokens)
            {
                return Err(Rejection::Contradiction(
                    "a sketch that is not to be opened",
                ));
            }
            member.own_tokens = opened.own_tokens;
            member.opened = Some(opened.entry);
        }
        Ok(())
    }

    /// Takes the proposer's link. False when it is none. Before the genesis nobody has committed to anything.
    fn reveal(&mut self, proposer: &PeerId, value: &RoundValue) -> bool {
        if self.members.is_empty() {
            return true;
        }
        let Ok(at) = (self.members).binary_search_by_key(proposer, |m| m.peer) else {
            return false;
        };
        let member = &mut self.members[at];
        if !beacon::is_link(&member.link, member.open, &value.link, value.round) {
            return false;
        }
        (member.link, member.open) = (value.link, value.round.next());
        true
    }

    fn count(&mut self, work: &Work) {
        for member in &mut self.members {
            if work.done.contains(&member.peer) {
                member.idle = 0;
            } else if work.asked.contains(&member.peer) && !member.is_idle() {
                member.idle += 1;
            }
        }
    }
}

impl<'a> IntoIterator for &'a Roster {
    type Item = &'a Member;
    type IntoIter = std::slice::Iter<'a, Member>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Departed {
    fn position(&self) -> (Seq, u8) {
        (self.seq, self.index)
    }
}

#[cfg(test)]
mod tests;
