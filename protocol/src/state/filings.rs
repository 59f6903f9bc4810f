//! Which filings a height may put in order: those of whoever is or was a member, a few of each.

use std::collections::{BTreeMap, VecDeque};

use super::Head;
use crate::entry::Entry;
use crate::id::PeerId;
use crate::limits;
use crate::logset::LogSet;
use crate::manifest::Manifest;
use crate::reject::Rejection;
use crate::round::{EntryRef, RoundValue};

/// Whether a peer may file at the height after `head`: the creator, and who is or was a member.
pub fn may_file(manifest: &Manifest, head: Option<&Head>, author: &PeerId) -> bool {
    *author == manifest.creator || head.is_some_and(|head| head.roster.has_known(author))
}

/// Of what waits, in the order of each author's log, what the next height puts in order: one of each author, then a
/// second of each and so on. `authors` is the order in which they are served, which should not always be the same.
pub fn choose_filings(
    waiting: impl IntoIterator<Item = EntryRef>,
    authors: impl IntoIterator<Item = PeerId>,
) -> Vec<EntryRef> {
    let mut queues: BTreeMap<PeerId, VecDeque<EntryRef>> = BTreeMap::new();
    for at in waiting {
        queues.entry(at.author).or_default().push_back(at);
    }
    let authors: Vec<PeerId> = authors.into_iter().collect();
    let mut chosen = Vec::new();
    for _ in 0..limits::MAX_FILINGS_PER_AUTHOR {
        for author in &authors {
            let next = queues.get_mut(author).and_then(VecDeque::pop_front);
            chosen.extend(next.filter(|_| chosen.len() < limits::MAX_FILINGS));
        }
    }
    chosen
}

/// Checks that each filing of a value is one, by somebody who may file, and that no author has too many.
pub(super) fn check(
    manifest: &Manifest,
    head: Option<&Head>,
    value: &RoundValue,
    log: &LogSet,
) -> Result<(), Rejection> {
    let of_author = value.filings.chunk_by(|a, b| a.author == b.author);
    for filings in of_author {
        if filings.len() > limits::MAX_FILINGS_PER_AUTHOR {
            return Err(Rejection::Limit("filings of one author"));
        }
        let author = &filings[0].author;
        if !may_file(manifest, head, author) {
            return Err(Rejection::Contradiction("a filing of no member"));
        }
        if !(filings.iter()).all(|at| log.entry(at).is_some_and(Entry::is_filing)) {
            return Err(Rejection::Contradiction(
                "an entry that is no filing, among filings",
            ));
        }
    }
    Ok(())
}
