//! Who is admitted, with how much text of its own, and what its updates weigh.

use std::collections::{BTreeMap, BTreeSet};

use crate::entry::{Entry, Join, Role};
use crate::id::{PeerId, Ppb};
use crate::limits;
use crate::logset::LogSet;
use crate::manifest::{Manifest, Weights};
use crate::reject::Rejection;
use crate::roster::{Member, Roster};
use crate::round::{EntryRef, Joined, Opened, RoundValue};
use crate::sketch::{self, Sketch};
use crate::state::Head;

/// What an update of `author` weighs among the others of its round: the tokens it was trained on; where own text
/// counts, in proportion to the author's own tokens up to the full number, and no less than one. Nothing where the
/// author is a stranger or its sketch is not open.
pub fn weigh(manifest: &Manifest, roster: &Roster, author: &PeerId, tokens: u64) -> u64 {
    let part = |part: u64, whole: u64| {
        let weight = u128::from(tokens) * u128::from(part) / u128::from(whole.max(1));
        u64::try_from(weight).unwrap_or(u64::MAX).max(1)
    };
    match (roster.get(author), manifest.updates.weights) {
        (None, _) => 0,
        (Some(member), _) if member.own_tokens == 0 => 0,
        (Some(_), Weights::Trained) => tokens,
        (Some(member), Weights::Own { full }) => part(member.own_tokens.min(full), full),
        (Some(member), Weights::Stake { least }) => match stake(member, least) {
            None => tokens,
            Some(0) => 0,
            Some(own) => {
                let most = roster.iter().filter_map(|member| stake(member, least));
                part(own, most.max().unwrap_or(own))
            }
        },
    }
}

/// A member's stake that counts: nothing of less than `least`; where that is 0, a micro-OPEN at least, so that a run whose
/// chain moves by its own heights never waits for stake. None before the run's first anchor: all count the same.
fn stake(member: &Member, least: u64) -> Option<u64> {
    let stake = member.stake?.counting();
    Some(if stake < least {
        0
    } else {
        stake.max(u64::from(least == 0))
    })
}

/// Whether what a member does can weigh anything: its sketch is open, and it has stake where that weighs.
pub fn counts(manifest: &Manifest, member: &Member) -> bool {
    let is_bonded = match manifest.updates.weights {
        Weights::Stake { least } => stake(member, least) != Some(0),
        Weights::Trained | Weights::Own { .. } => true,
    };
    is_bonded && member.own_tokens > 0
}

/// What a member's voice weighs in decisions: its own text up to full weight where own text counts, the same for all
/// where members are invited. None for who left its work undone ([`crate::roster::Member::is_idle`]) or has not opened its
/// sketch.
pub fn votes(manifest: &Manifest, member: &Member) -> u64 {
    match manifest.updates.weights {
        _ if member.is_idle() || member.own_tokens == 0 => 0,
        Weights::Trained => 1,
        Weights::Own { full } => member.own_tokens.min(full).max(1),
        Weights::Stake { least } => stake(member, least).unwrap_or(1),
    }
}

/// Whether members of this role show a sketch of their text.
fn shows_text(manifest: &Manifest, role: Role) -> bool {
    manifest.opens_sketches() && role.contributes()
}

/// Whether a join could be admitted at all, whoever is a member: its author may have the role, and commits to a sketch
/// where own text weighs, and names an account where stake is asked for. What never can be admitted must not take a place in any draw.
pub fn is_eligible(manifest: &Manifest, author: &PeerId, join: &Join) -> bool {
    let may_score = !join.role.evaluates() || manifest.may_evaluate(author);
    let needs_stake = matches!(manifest.updates.weights, Weights::Stake { least: 1.. });
    may_score
        && (join.sketch.is_some() || !shows_text(manifest, join.role))
        && (join.bind.is_some() || !needs_stake)
}

/// What admission makes of join entries, in their order. Left out are those that are not eligible.
pub fn admit(manifest: &Manifest, joins: &[(EntryRef, &Join)]) -> Vec<Joined> {
    (joins.iter())
        .filter(|(at, join)| is_eligible(manifest, &at.author, join))
        .map(|(entry, join)| Joined {
            entry: *entry,
            role: join.role,
            root: join.root,
            tokens: join.tokens,
            own_tokens: initial_own_tokens(manifest, join.role, join.tokens),
            beacon: join.beacon,
        })
        .collect()
}

fn initial_own_tokens(manifest: &Manifest, role: Role, tokens: u64) -> u64 {
    match shows_text(manifest, role) {
        true => 0,
        false => tokens,
    }
}

/// What of a value's joins, call and openings can be told without any log.
pub(super) fn check(manifest: &Manifest, value: &RoundValue) -> Result<(), Rejection> {
    let contradiction = |what| Err(Rejection::Contradiction(what));
    let begins = |j: &Joined| j.own_tokens == initial_own_tokens(manifest, j.role, j.tokens);
    if !value.joins.iter().all(begins) {
        return contradiction("a join has text of its own before its sketch is open");
    }
    let is_genesis = value.round.0 == 0;
    let showing = |j: &&Joined| shows_text(manifest, j.role);
    if !manifest.opens_sketches() && !value.openings.is_empty() {
        return contradiction("a sketch where text does not weigh");
    }
    if is_genesis && value.joins.iter().filter(showing).count() != value.openings.len() {
        return contradiction("the genesis admits whoever has opened its sketch");
    }
    let calls = is_genesis && manifest.opens_sketches();
    let by_creator = |at: EntryRef| at.author == manifest.creator;
    if value.call.is_some() != calls || !value.call.is_none_or(by_creator) {
        return contradiction("the call is the creator's, for a genesis where own text weighs");
    }
    check_anchor(manifest, value)
}

/// Only bonded runs have anchors; where stake is asked for, whoever is admitted has it by an anchor of the same value.
fn check_anchor(manifest: &Manifest, value: &RoundValue) -> Result<(), Rejection> {
    let contradiction = |what| Err(Rejection::Contradiction(what));
    if let Some(anchor) = &value.anchor {
        anchor.check()?;
    }
    let Weights::Stake { least } = manifest.updates.weights else {
        return match value.anchor {
            Some(_) => contradiction("an anchor where nobody is bonded"),
            None => Ok(()),
        };
    };
    let stakes = value.anchor.iter().flat_map(|anchor| &anchor.stakes);
    let bonded = |joined: &Joined| {
        let mut stakes = stakes.clone();
        stakes.any(|(peer, stake)| *peer == joined.entry.author && *stake >= least)
    };
    match least == 0 || value.joins.iter().all(bonded) {
        true => Ok(()),
        false => contradiction("a join without the stake that the manifest asks for"),
    }
}

/// What openings are judged by.
pub struct Opening<'a> {
    /// The run's manifest.
    pub manifest: &'a Manifest,
    /// The state before.
    pub head: Option<&'a Head>,
    /// Who is admitted by the same value. Counts for the genesis alone: later members open what was certified before.
    pub joins: &'a [Joined],
    /// The creator's last call, for the genesis.
    pub call: Option<EntryRef>,
    /// The run's logs.
    pub log: &'a LogSet,
}

/// Joins that the creator called, up to this call, each with the number of the first call that names it.
pub fn called(log: &LogSet, call: &EntryRef) -> BTreeMap<EntryRef, u32> {
    let upto = log
        .entries(call.author)
        .filter(|(at, _)| at.position() < call.position());
    let earlier = upto.map(|(_, entry)| entry);
    let calls = earlier
        .chain(log.entry(call))
        .filter_map(|entry| match entry {
            Entry::Call(joins) => Some(joins),
            _ => None,
        });
    let mut out = BTreeMap::new();
    for (nth, joins) in (0u32..).zip(calls) {
        for at in joins {
            out.entry(*at).or_insert(nth);
        }
    }
    out
}

/// A sketch that may be opened.
struct OpeningCheck<'a> {
    entry: EntryRef,
    sketch: &'a Sketch,
    tokens: u64,
    /// Whoever committed earlier has a smaller one: the round since which the author is a member, or of the genesis the
    /// number of the call.
    turn: u32,
}

/// How much text of its own each of these entries shows, in their order. Left out are those that open nothing: no
/// sketch that their author committed to before, or nothing in it that was not committed to earlier.
///
/// Text counts for whoever committed to it first, by rounds; who committed in one round and opens in one shares.
pub fn open(opening: &Opening<'_>, entries: &[EntryRef]) -> Vec<Opened> {
    let shown: Vec<OpeningCheck<'_>> = entries.iter().filter_map(|at| opening.show(at)).collect();
    let turns: BTreeSet<u32> = shown.iter().map(|shown| shown.turn).collect();
    let mut out = Vec::with_capacity(shown.len());
    for turn in turns {
        let joining: Vec<&OpeningCheck<'_>> = shown.iter().filter(|s| s.turn == turn).collect();
        let opens = |at: &EntryRef| shown.iter().any(|s| s.entry.author == at.author);
        let roster = opening.head.iter().flat_map(|head| head.roster.sketches());
        let before = (roster.filter(|(since, at)| since.0 <= turn && !opens(at)))
            .filter_map(|(_, at)| sketch_at(opening.log, &at));
        let with = (shown.iter().filter(|s| s.turn < turn)).map(|s| s.sketch);
        let before: Vec<&Sketch> = before.chain(with).collect();
        let sketches: Vec<&Sketch> = joining.iter().map(|s| s.sketch).collect();
        let parts = sketch::own_parts(&before, &sketches);
        out.extend((joining.iter().zip(parts)).filter_map(|(shown, part)| shown.count(part)));
    }
    out.sort();
    out
}

impl Opening<'_> {
    /// The sketch of an entry, if its author committed to it and may open it now.
    fn show(&self, at: &EntryRef) -> Option<OpeningCheck<'_>> {
        let sketch = sketch_at(self.log, at).filter(|sketch| !sketch.is_empty())?;
        let (joined, role, tokens, turn) = match self.head {
            Some(head) => {
                let member = head.roster.get(&at.author).filter(|m| m.own_tokens == 0)?;
                (member.joined, member.role, member.tokens, member.since.0)
            }
            None => {
                let joined = (self.joins.iter()).find(|j| j.entry.author == at.author)?;
                let turn = *called(self.log, &self.call?).get(&joined.entry)?;
                (joined.entry, joined.role, joined.tokens, turn)
            }
        };
        let Some(Entry::Join(join)) = self.log.entry(&joined) else {
            return None;
        };
        let is_committed = join.sketch == Some(sketch.commit(&at.author));
        let may = shows_text(self.manifest, role) && at.position() > joined.position();
        (is_committed && may).then_some(OpeningCheck {
            entry: *at,
            sketch,
            tokens,
            turn,
        })
    }
}

impl OpeningCheck<'_> {
    /// Tokens of its own: of those claimed, no more than the sketch has words for.
    fn count(&self, part: Ppb) -> Option<Opened> {
        let words = self
            .sketch
            .runs()
            .saturating_mul(limits::MAX_TOKENS_PER_WORD);
        let held = u128::from(self.tokens.min(words));
        let own_tokens = held * u128::from(part.0) / u128::from(Ppb::ONE.0);
        let own_tokens = u64::try_from(own_tokens).unwrap_or(u64::MAX).max(1);
        (part > Ppb(0)).then_some(Opened {
            entry: self.entry,
            own_tokens,
        })
    }
}

fn sketch_at<'a>(log: &'a LogSet, at: &EntryRef) -> Option<&'a Sketch> {
    match log.entry(at) {
        Some(Entry::Opening(sketch)) => Some(sketch),
        _ => None,
    }
}

/// Entries that are not at hand and without which nobody can tell what text of these members is their own: the joins of
/// those among them who are members, and all earlier sketches.
pub fn unknown_sketches(
    head: Option<&Head>,
    openers: impl IntoIterator<Item = PeerId>,
    log: &LogSet,
) -> Vec<EntryRef> {
    let Some(head) = head else {
        return Vec::new();
    };
    let joined = |peer: PeerId| head.roster.get(&peer).map(|member| member.joined);
    let joins: Vec<EntryRef> = openers.into_iter().filter_map(joined).collect();
    if joins.is_empty() {
        return joins;
    }
    let sketches = head.roster.sketches().map(|(_, at)| at);
    (joins.into_iter().chain(sketches))
        .filter(|entry| log.entry(entry).is_none())
        .collect()
}
