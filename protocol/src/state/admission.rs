//! Who is admitted, with how much text of its own, and what its updates weigh.

use crate::entry::{Entry, Join};
use crate::id::{PeerId, Ppb};
use crate::limits;
use crate::logset::LogSet;
use crate::manifest::{Manifest, Weights};
use crate::roster::{Member, Roster};
use crate::round::{EntryRef, Joined};
use crate::sketch::{self, Sketch};
use crate::state::Head;

/// What an update of `author` weighs among the others of its round: the tokens it was trained on; where own text
/// counts, in proportion to the author's own tokens up to the full number, and no less than one. A stranger's
/// weighs nothing.
pub fn weigh(manifest: &Manifest, roster: &Roster, author: &PeerId, tokens: u64) -> u64 {
    match (roster.get(author), manifest.weights) {
        (None, _) => 0,
        (Some(_), Weights::Trained) => tokens,
        (Some(member), Weights::Own { full }) => {
            let own = u128::from(member.own.min(full));
            let weight = u128::from(tokens) * own / u128::from(full.max(1));
            u64::try_from(weight).unwrap_or(u64::MAX).max(1)
        }
    }
}

/// What a member's voice weighs in decisions: its own text up to full weight where own text counts, the same for all
/// where members are invited. None for who left its work undone ([`crate::roster::Member::is_idle`]).
pub fn votes(manifest: &Manifest, member: &Member) -> u64 {
    match manifest.weights {
        _ if member.is_idle() => 0,
        Weights::Trained => 1,
        Weights::Own { full } => member.own.min(full).max(1),
    }
}

/// Whether a join could be admitted at all, whoever is a member: its author may have the role, and brings text where
/// own text weighs. What never can be admitted must not take a place in any draw.
pub fn is_eligible(manifest: &Manifest, author: &PeerId, join: &Join) -> bool {
    let may_score = !join.role.evaluates() || manifest.evaluators.binary_search(author).is_ok();
    let has_text = join
        .sketch
        .as_ref()
        .is_some_and(|sketch| !sketch.is_empty());
    let needs_text = manifest.weights != Weights::Trained && join.role.contributes();
    may_score && (has_text || !needs_text)
}

/// What admission after `head` makes of join entries, in their order. Left out are those whose author may not
/// have the role, and where own text weighs, contributors without any.
pub fn admit(
    manifest: &Manifest,
    head: Option<&Head>,
    joins: &[(EntryRef, &Join)],
    log: &LogSet,
) -> Vec<Joined> {
    let may = |(at, join): &&(EntryRef, &Join)| is_eligible(manifest, &at.author, join);
    let joins: Vec<(EntryRef, &Join)> = joins.iter().filter(may).copied().collect();
    let parts = match manifest.weights {
        Weights::Trained => vec![Ppb::ONE; joins.len()],
        Weights::Own { .. } => own_parts(head, &joins, log),
    };
    (joins.iter().zip(parts))
        .filter(|(_, part)| *part > Ppb(0))
        .map(|((entry, join), part)| {
            let own =
                u128::from(held(manifest, join)) * u128::from(part.0) / u128::from(Ppb::ONE.0);
            Joined {
                entry: *entry,
                role: join.role,
                root: join.root,
                tokens: join.tokens,
                own: u64::try_from(own).unwrap_or(u64::MAX).max(1),
                beacon: join.beacon,
            }
        })
        .collect()
}

/// Tokens of a join's text: what it claims, and where own text weighs, no more than its sketch has words for.
fn held(manifest: &Manifest, join: &Join) -> u64 {
    match (&join.sketch, manifest.weights) {
        (Some(sketch), Weights::Own { .. }) if join.role.contributes() => {
            let words = sketch.runs().saturating_mul(limits::MAX_TOKENS_PER_WORD);
            join.tokens.min(words)
        }
        _ => join.tokens,
    }
}

/// What part of each joining text is the author's own. Who only evaluates brings no text to train on.
fn own_parts(head: Option<&Head>, joins: &[(EntryRef, &Join)], log: &LogSet) -> Vec<Ppb> {
    let rejoins = |entry: &EntryRef| joins.iter().any(|(at, _)| at.author == entry.author);
    let admissions = head.iter().flat_map(|head| head.roster.admissions());
    let before: Vec<&Sketch> = (admissions.filter(|entry| !rejoins(entry)))
        .filter_map(|entry| match log.entry(&entry) {
            Some(Entry::Join(join)) if join.role.contributes() => join.sketch.as_ref(),
            _ => None,
        })
        .collect();
    let none = Sketch::default();
    let joining: Vec<&Sketch> = (joins.iter())
        .map(|(_, join)| match join.role.contributes() {
            true => join.sketch.as_ref().unwrap_or(&none),
            false => &none,
        })
        .collect();
    let parts = sketch::own_parts(&before, &joining);
    (joins.iter().zip(parts))
        .map(|((_, join), part)| match join.role.contributes() {
            true => part,
            false => Ppb::ONE,
        })
        .collect()
}

/// The earlier joins that are not at hand, without which nobody can tell what text of new ones is their own.
pub fn unknown_admissions(manifest: &Manifest, head: Option<&Head>, log: &LogSet) -> Vec<EntryRef> {
    let counts = manifest.weights != Weights::Trained;
    let admissions = head.iter().flat_map(|head| head.roster.admissions());
    (admissions.filter(|entry| counts && log.entry(entry).is_none())).collect()
}
