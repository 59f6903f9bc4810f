//! The certified state of a run, and the one rule by which a round moves it.
//!
//! [`Head`] is what certificates alone prove: round, roster, hashes. It follows a chain of round
//! values without any log or blob, which is how a newcomer catches up. [`RoundSources`] lends the logs
//! and updates behind a value; with it [`derive()`] recomputes everything a committee member signs for
//! and an auditor re-checks, so there is exactly one implementation of "what this round makes of the
//! adapter". [`build`] chooses the same fields from what has arrived, so that a proposal is valid by
//! construction.

mod admission;
mod bounds;
mod filings;
mod membership;
mod result;
mod sheets;
mod step;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::adapter::Adapter;
use crate::anchor::Anchor;
use crate::entry::{Contribution, Entry};
use crate::hash::Digest;
use crate::id::{BlobHash, BlobRef, PeerId, Round, RunId, StateHash};
use crate::limits;
use crate::logset::LogSet;
use crate::manifest::Manifest;
use crate::panel::Panel;
use crate::reject::Rejection;
use crate::roster::Roster;
use crate::round::{EntryRef, Included, Joined, Missed, Opened, RoundValue, state_hash};

pub use admission::{
    Opening, admit, called, counts, is_eligible, open, unknown_sketches, votes, weigh,
};
use bounds::{check_bounds, check_contributions};
pub use bounds::{round_tokens, update_fits, update_len, update_size};
pub use filings::{choose_filings, may_file};
pub use membership::{committee, jury, next_beacon};
use membership::{draw, electorate, panel, roster_after};
pub use result::RoundResult;
pub use sheets::{sheet_fits, timely_sheets};
pub use step::{Derived, Step, StepKey, Stepped, advanced};

/// What certificates alone prove of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The run.
    pub run: RunId,
    /// The last certified round.
    pub round: Round,
    /// The state's name.
    pub hash: StateHash,
    /// The adapter of that state.
    pub adapter: BlobRef,
    /// What everything at the next height is drawn by.
    pub beacon: Digest,
    /// Members after that round.
    pub roster: Roster,
    /// Who the next height's committee is drawn from, with weights: members before that round, ordered by id. They were
    /// fixed before the beacon was known to anybody.
    pub electorate: Vec<(PeerId, u64)>,
    /// Contributors drawn for the next round, ordered by id.
    pub participants: Vec<PeerId>,
    /// Whether there are contributors that were not drawn.
    pub is_sampled: bool,
    /// Who judges that round, once the next height is open: named, or drawn by a beacon that contributors did not know.
    pub panel: Panel,
}

impl Head {
    /// Whether `peer` was drawn to contribute to the next round.
    pub fn is_participant(&self, peer: &PeerId) -> bool {
        self.participants.binary_search(peer).is_ok()
    }

    /// The `most` contributors that come first in the draw for the next round.
    pub fn first_drawn(&self, manifest: &Manifest, most: usize) -> Vec<PeerId> {
        let at = (&self.run, self.round);
        draw(manifest, at, &self.beacon, &self.roster, most)
    }
}

/// The height after `head`.
pub fn next_round(head: Option<&Head>) -> Round {
    head.map_or(Round(0), |head| head.round.next())
}

/// Checks a value against the state before it, by the value's own bytes: order, bounds, roster and
/// state hash. Does not look at logs, updates or signatures.
///
/// # Errors
/// [`Rejection::Contradiction`] or [`Rejection::Limit`] naming the field.
pub fn follow(
    manifest: &Manifest,
    run: RunId,
    head: Option<&Head>,
    value: &RoundValue,
) -> Result<Head, Rejection> {
    let contradiction = |what| Err(Rejection::Contradiction(what));
    if value.run != run {
        return contradiction("value is of another run");
    }
    let round = next_round(head);
    if value.round != round || round.0 > limits::MAX_HEIGHT {
        return contradiction("value is not of the next round");
    }
    if value.previous != head.map_or(StateHash::default(), |head| head.hash) {
        return contradiction("value does not follow the certified state");
    }
    check_bounds(manifest, value)?;
    let ordered = strictly_ordered(value.included.iter().map(|i| i.receipt.author))
        && strictly_ordered(value.missed.iter().map(|m| m.receipt.author))
        && strictly_ordered(value.openings.iter().map(|o| o.entry.author))
        && strictly_ordered(value.joins.iter().map(|j| j.entry.author))
        && strictly_ordered(value.leaves.iter().map(|l| l.author))
        && strictly_ordered(value.sheets.iter().map(|s| s.author))
        && strictly_ordered(value.seals.iter().map(|s| s.author))
        && strictly_ordered(value.scores.iter().map(|s| s.peer))
        && value.filings.windows(2).all(|pair| pair[0] < pair[1]);
    if !ordered {
        return contradiction("a list of the value is not ordered by peer");
    }
    admission::check(manifest, value)?;
    check_contributions(manifest, head, value)?;
    if next_beacon(run, head, &value.link) != value.beacon {
        return contradiction("the beacon does not follow from the link");
    }
    let roster = roster_after(manifest, head, value)?;
    let hash = state_hash(run, round, value.adapter, roster.digest(), value.beacon);
    if hash != value.state {
        return contradiction("state hash does not follow from adapter, roster and beacon");
    }
    // The genesis has nobody before it.
    let before = head.map_or(&roster, |head| &head.roster);
    let electorate = electorate(manifest, before);
    let most = manifest.plan.participants as usize;
    let is_sampled = roster.contributors().count() > most;
    let panel = panel(manifest, before, &roster, (round, &value.beacon));
    let mut participants = draw(manifest, (&run, round), &value.beacon, &roster, most);
    participants.sort_unstable();
    Ok(Head {
        run,
        round,
        hash,
        adapter: value.adapter,
        beacon: value.beacon,
        roster,
        electorate,
        participants,
        is_sampled,
        panel,
    })
}

fn contributes(roster: &Roster, peer: &PeerId) -> bool {
    roster
        .get(peer)
        .is_some_and(|member| member.role.contributes())
}

fn strictly_ordered(mut peers: impl Iterator<Item = PeerId>) -> bool {
    let Some(mut last) = peers.next() else {
        return true;
    };
    peers.all(|peer| {
        let after = last < peer;
        last = peer;
        after
    })
}

/// What stands behind a value: the run's logs, the adapter before, and update blobs.
pub struct RoundSources<'a> {
    /// All logs of the run.
    pub log: &'a LogSet,
    /// The adapter of the state before; `None` only for the genesis.
    pub before: Option<&'a Arc<Adapter>>,
    /// Update blobs by hash.
    pub blobs: &'a BTreeMap<BlobHash, Bytes>,
    /// The value certified before (its contributions are what the sheets judge).
    pub judged: Option<&'a RoundValue>,
}

/// What is still to be fetched before a value can be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MissingEntry {
    /// An entry of a log that has not arrived.
    Entry(EntryRef),
    /// An update blob, with the peer that made it.
    Blob(BlobRef, PeerId),
}

/// The log entries that a value names: receipts, joins, the call, openings, leaves, score sheets, their seals, and
/// filings.
pub fn relied(value: &RoundValue) -> impl Iterator<Item = EntryRef> + '_ {
    let receipts = value.included.iter().map(|i| i.receipt);
    let missed = value.missed.iter().map(|m| m.receipt);
    let joins = value.joins.iter().map(|j| j.entry);
    let openings = value.openings.iter().map(|o| o.entry);
    let sheets = value.sheets.iter().chain(&value.seals);
    let others = value.leaves.iter().chain(sheets).copied();
    (receipts.chain(missed).chain(joins))
        .chain(value.call)
        .chain(openings)
        .chain(others)
        .chain(value.filings.iter().copied())
}

/// Everything that [`derive()`] would need and `evidence` lacks.
pub fn missing(
    head: Option<&Head>,
    value: &RoundValue,
    sources: &RoundSources<'_>,
) -> Vec<MissingEntry> {
    let entries = relied(value).filter(|entry| sources.log.entry(entry).is_none());
    let mut out: Vec<MissingEntry> = entries.map(MissingEntry::Entry).collect();
    let openers = value.openings.iter().map(|o| o.entry.author);
    let sketches = unknown_sketches(head, openers, sources.log);
    out.extend(sketches.into_iter().map(MissingEntry::Entry));
    for included in &value.included {
        if !sources.blobs.contains_key(&included.update.hash) {
            out.push(MissingEntry::Blob(included.update, included.receipt.author));
        }
    }
    out
}

/// Recomputes a value from the evidence behind it and compares every field.
///
/// # Errors
/// [`Rejection`] names the first field that does not follow from the evidence. Evidence that has not
/// arrived is an error too; ask [`missing`] first.
pub fn derive(
    manifest: &Arc<Manifest>,
    head: Option<&Head>,
    value: &RoundValue,
    sources: &RoundSources<'_>,
) -> Result<Derived, Rejection> {
    check(manifest, head, value, sources)?;
    recompute(manifest, value, sources)
}

/// Everything that [`derive()`] compares except the adapter: for auditors that do not hold the updates.
///
/// # Errors
/// As [`derive()`].
pub fn check(
    manifest: &Manifest,
    head: Option<&Head>,
    value: &RoundValue,
    sources: &RoundSources<'_>,
) -> Result<(), Rejection> {
    follow(manifest, value.run, head, value)?;
    check_entries(manifest, head, value, sources)?;
    if sheets::final_scores(head, value, sources) != value.scores {
        return Err(Rejection::Contradiction(
            "final scores do not follow from the sheets",
        ));
    }
    Ok(())
}

/// Recomputes a certified value's adapter from the adapter before and the updates alone, for peers
/// that trust its certificate for everything else.
///
/// # Errors
/// [`Rejection`] when an update is missing or the outcome is not the certified adapter.
pub fn recompute(
    manifest: &Arc<Manifest>,
    value: &RoundValue,
    sources: &RoundSources<'_>,
) -> Result<Derived, Rejection> {
    let derived = Step::of(manifest, value, sources)?.take()?;
    match derived.blob == value.adapter {
        true => Ok(derived),
        false => Err(OTHER_ADAPTER),
    }
}

/// What is wrong with a value whose updates lead to another adapter.
pub const OTHER_ADAPTER: Rejection =
    Rejection::Contradiction("adapter does not follow from the contributions");

fn check_entries(
    manifest: &Manifest,
    head: Option<&Head>,
    value: &RoundValue,
    sources: &RoundSources<'_>,
) -> Result<(), Rejection> {
    let contradiction = |what| Err(Rejection::Contradiction(what));
    let included = (value.included.iter()).map(|i| (&i.receipt, i.tokens, Some(i.update)));
    let missed = (value.missed.iter()).map(|m| (&m.receipt, m.tokens, None));
    for (at, tokens, update) in included.chain(missed) {
        let Some(Entry::Contribution(receipt)) = sources.log.entry(at) else {
            return contradiction("a contribution has no receipt");
        };
        let is_same = update.is_none_or(|update| receipt.update == update);
        let matches = is_same && receipt.tokens == tokens;
        if !matches || !receipt_fits(manifest, receipt, &at.author, head) {
            return contradiction("a receipt is not for this round and state");
        }
        let same =
            |entry: &Entry| matches!(entry, Entry::Contribution(c) if c.round == receipt.round);
        if !is_first(sources.log, at, same) {
            return contradiction("a receipt is not its author's first for the round");
        }
    }
    let mut joins = Vec::with_capacity(value.joins.len());
    for joined in &value.joins {
        let Some(Entry::Join(join)) = sources.log.entry(&joined.entry) else {
            return contradiction("a new member has no join entry");
        };
        joins.push((joined.entry, join));
    }
    if admit(manifest, &joins) != value.joins {
        return contradiction("a member is admitted with what its join entry does not say");
    }
    let openings: Vec<EntryRef> = value.openings.iter().map(|o| o.entry).collect();
    let opening = Opening {
        manifest,
        head,
        joins: &value.joins,
        call: value.call,
        log: sources.log,
    };
    if open(&opening, &openings) != value.openings {
        return contradiction("a sketch is opened with what its entries do not say");
    }
    for leave in &value.leaves {
        if sources.log.entry(leave) != Some(&Entry::Leave) {
            return contradiction("a member is removed without its leave entry");
        }
    }
    filings::check(manifest, head, value, sources.log)?;
    sheets::check(head, value, sources)
}

/// Whether nothing of the `same` kind by the same author stands before an entry: whoever committed in time may not
/// commit again once others have shown theirs. What stands before an entry follows from the entry alone, whatever forks
/// are known.
fn is_first(log: &LogSet, at: &EntryRef, same: impl Fn(&Entry) -> bool) -> bool {
    let before = (log.entries(at.author)).take_while(|(place, _)| place.position() < at.position());
    !before.into_iter().any(|(_, entry)| same(entry))
}

/// Whether a receipt may be included in the height after `head`.
pub fn receipt_fits(
    manifest: &Manifest,
    receipt: &Contribution,
    author: &PeerId,
    head: Option<&Head>,
) -> bool {
    head.is_some_and(|head| {
        receipt.round == head.round.next()
            && receipt.base == head.hash
            && update_fits(manifest, receipt.round, receipt.update.size)
            && (1..=round_tokens(manifest)).contains(&receipt.tokens)
            && (head.roster.get(author))
                .is_some_and(|m| m.role.contributes() && m.root == receipt.shard)
    })
}

/// What a proposer chose to put into a round.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Contributions, any order.
    pub included: Vec<Included>,
    /// Contributions that were committed to in time and did not come, any order.
    pub missed: Vec<Missed>,
    /// New members, any order.
    pub joins: Vec<Joined>,
    /// The creator's last call, for the genesis.
    pub call: Option<EntryRef>,
    /// Sketches opened, any order.
    pub openings: Vec<Opened>,
    /// Leave entries, any order.
    pub leaves: Vec<EntryRef>,
    /// Score sheets, any order.
    pub sheets: Vec<EntryRef>,
    /// Filings, any order.
    pub filings: Vec<EntryRef>,
    /// What the chain said.
    pub anchor: Option<Anchor>,
    /// The attempt that the value is put up in.
    pub attempt: u32,
    /// The proposer's link for the height.
    pub link: Digest,
}

/// Builds the value that follows from a choice, with the adapter it leads to.
///
/// # Errors
/// [`Rejection`] when the choice itself is not allowed; the same checks as [`derive()`].
pub fn build(
    manifest: &Arc<Manifest>,
    run: RunId,
    head: Option<&Head>,
    selection: Selection,
    sources: &RoundSources<'_>,
) -> Result<(RoundValue, Derived), Rejection> {
    let draft = draft(manifest, run, head, selection, sources)?;
    let derived = Step::of(manifest, &draft, sources)?.take()?;
    let value = finish(manifest, head, draft, derived.blob)?;
    Ok((value, derived))
}

/// The value that follows from a choice, but for the adapter, which takes a [`Step`], and what is named by it.
///
/// # Errors
/// [`Rejection`] when the choice itself is not allowed.
pub fn draft(
    manifest: &Manifest,
    run: RunId,
    head: Option<&Head>,
    mut selection: Selection,
    sources: &RoundSources<'_>,
) -> Result<RoundValue, Rejection> {
    selection.included.sort();
    selection.missed.sort();
    selection.joins.sort();
    selection.openings.sort();
    selection.leaves.sort();
    selection.sheets.sort();
    selection.filings.sort();
    let mut value = RoundValue {
        run,
        round: next_round(head),
        previous: head.map_or(StateHash::default(), |head| head.hash),
        state: StateHash::default(),
        adapter: BlobRef::default(),
        attempt: selection.attempt,
        link: selection.link,
        beacon: Digest::default(),
        included: selection.included,
        missed: selection.missed,
        joins: selection.joins,
        call: selection.call,
        openings: selection.openings,
        leaves: selection.leaves,
        seals: sheets::seals_of(&selection.sheets, sources.log),
        sheets: selection.sheets,
        scores: Vec::new(),
        filings: selection.filings,
        anchor: selection.anchor,
    };
    check_entries(manifest, head, &value, sources)?;
    value.scores = sheets::final_scores(head, &value, sources);
    Ok(value)
}

/// A [`draft`] with the adapter that its updates lead to.
///
/// # Errors
/// As [`follow`].
pub fn finish(
    manifest: &Manifest,
    head: Option<&Head>,
    mut draft: RoundValue,
    adapter: BlobRef,
) -> Result<RoundValue, Rejection> {
    draft.adapter = adapter;
    conclude(manifest, head, &mut draft)?;
    follow(manifest, draft.run, head, &draft)?;
    Ok(draft)
}

/// Fills in what follows from the rest of a value: the beacon and the state's name.
///
/// # Errors
/// [`Rejection`] when the roster cannot change as the value says.
pub fn conclude(
    manifest: &Manifest,
    head: Option<&Head>,
    value: &mut RoundValue,
) -> Result<(), Rejection> {
    value.beacon = next_beacon(value.run, head, &value.link);
    let roster = roster_after(manifest, head, value)?.digest();
    value.state = state_hash(value.run, value.round, value.adapter, roster, value.beacon);
    Ok(())
}
