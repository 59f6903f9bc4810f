//! What a value may hold, as far as it can be told from the value and the state before it.

use super::{Head, contributes, weigh};
use crate::hash::Digest;
use crate::id::{PeerId, Round};
use crate::limits;
use crate::manifest::Manifest;
use crate::reject::Rejection;
use crate::round::{Included, Joined, Missed, RoundValue};
use crate::update;

/// Which contributions a value may include, and with what weight.
pub(super) fn check_contributions(
    manifest: &Manifest,
    head: Option<&Head>,
    value: &RoundValue,
) -> Result<(), Rejection> {
    let contradiction = |what| Err(Rejection::Contradiction(what));
    let round = value.round;
    let trains = round.0 >= 1 && round < manifest.closing_round();
    if !trains && !value.included.is_empty() {
        return contradiction("genesis and closing include no contributions");
    }
    if !trains && head.is_some_and(|head| head.adapter != value.adapter) {
        return contradiction("closing does not change the adapter");
    }
    if trains && value.included.len() < manifest.plan.min_contributions as usize {
        return contradiction("fewer contributions than the manifest's minimum");
    }
    if !trains && !value.missed.is_empty() {
        return contradiction("genesis and closing miss no contributions");
    }
    if round > manifest.closing_round() {
        check_epoch(value)?;
    }
    let Some(head) = head.filter(|_| trains) else {
        return Ok(());
    };
    let opened = match value.openings.is_empty() {
        true => None,
        false => Some(head.roster.opened(&value.openings)?),
    };
    let before = opened.as_ref().unwrap_or(&head.roster);
    if (value.included.iter()).any(|i| !contributes(before, &i.receipt.author)) {
        return contradiction("a contribution by no contributor");
    }
    let is_drawn = |i: &&Included| head.is_participant(&i.receipt.author);
    let drawn = value.included.iter().filter(is_drawn).count();
    if drawn < value.included.len() && drawn >= manifest.plan.min_contributions as usize {
        return contradiction("a substitute where enough of the drawn contributed");
    }
    let weighs = |peer: &PeerId, tokens| weigh(manifest, before, peer, tokens);
    let included = |i: &Included| weighs(&i.receipt.author, i.tokens) == i.weight && i.weight > 0;
    if !value.included.iter().all(included) {
        return contradiction("a weight does not follow from tokens and roster");
    }
    let is_included = |peer: &PeerId| {
        let by = |i: &Included| i.receipt.author;
        value.included.binary_search_by_key(peer, by).is_ok()
    };
    let missed = |m: &Missed| {
        let author = &m.receipt.author;
        let weight = weighs(author, m.tokens);
        head.is_participant(author) && !is_included(author) && weight == m.weight && weight > 0
    };
    if !value.missed.iter().all(missed) {
        return contradiction("a missed contribution that was not to be made");
    }
    Ok(())
}

/// An epoch puts filings in order, and changes nothing else. Nobody reveals a link in it: chains of links end with the
/// closing.
fn check_epoch(value: &RoundValue) -> Result<(), Rejection> {
    let changes = value.joins.len() + value.openings.len() + value.leaves.len();
    let judges = value.sheets.len() + value.seals.len() + value.scores.len();
    match changes + judges == 0 && value.call.is_none() && value.link == Digest::default() {
        true => Ok(()),
        false => Err(Rejection::Contradiction(
            "an epoch that does more than order filings",
        )),
    }
}

/// The bounds of a value. A quorum that signed more is corrupt, but must not make anybody overflow a
/// sum or fetch a blob that cannot be what it is said to be.
pub(super) fn check_bounds(manifest: &Manifest, value: &RoundValue) -> Result<(), Rejection> {
    if value.included.len() + value.missed.len() > limits::MAX_INCLUDED {
        return Err(Rejection::Limit("contributions included"));
    }
    // In the genesis each opening belongs to a join.
    let beside = if value.round.0 == 0 {
        0
    } else {
        value.openings.len()
    };
    let changes = value.joins.len() + value.leaves.len() + beside;
    if changes.max(value.openings.len()) > limits::MAX_CHANGES_PER_ROUND {
        return Err(Rejection::Limit("joins, openings and leaves of one round"));
    }
    let sheets = value.sheets.len().max(value.seals.len());
    if sheets > limits::MAX_EVALUATORS || value.scores.len() > limits::MAX_INCLUDED {
        return Err(Rejection::Limit("score sheets"));
    }
    if value.filings.len() > limits::MAX_FILINGS {
        return Err(Rejection::Limit("filings of one height"));
    }
    let most = round_tokens(manifest);
    let mut trained =
        (value.included.iter().map(|i| i.tokens)).chain(value.missed.iter().map(|m| m.tokens));
    let held =
        |j: &Joined| (1..=limits::MAX_TOKENS).contains(&j.tokens) && j.own_tokens <= j.tokens;
    if !(trained.all(|tokens| (1..=most).contains(&tokens)) && value.joins.iter().all(held)) {
        return Err(Rejection::Limit("tokens"));
    }
    let fits = |i: &Included| update_fits(manifest, value.round, i.update.size);
    if !value.included.iter().all(fits) {
        return Err(Rejection::Contradiction("an update of another size"));
    }
    if value.adapter.size != 4 * manifest.model.adapter.parameters() as u64 {
        return Err(Rejection::Contradiction("an adapter of another size"));
    }
    Ok(())
}

/// The most tokens that a member can train on in one round: what the manifest asks for. An update weighs by
/// its claim of tokens, so a claim beyond this would be a voice that nobody has.
pub fn round_tokens(manifest: &Manifest) -> u64 {
    let training = &manifest.training;
    let windows = u64::from(training.local_steps) * u64::from(training.batch);
    (windows * u64::from(training.context)).min(limits::MAX_TOKENS)
}

/// Numbers of every update of a round.
pub fn update_len(manifest: &Manifest, round: Round) -> usize {
    let trainable = manifest.training.schedule.trainable(round);
    let segments = manifest.model.adapter.trainable_segments(trainable);
    segments.iter().map(|s| s.len()).sum()
}

/// Whether an update of a round can have this size: shape and codec allow a handful, so a receipt that
/// names another is refused before anything is fetched.
pub fn update_fits(manifest: &Manifest, round: Round, size: u64) -> bool {
    update::density(size, update_len(manifest, round), manifest.updates.codec).is_some()
}

/// Bytes of an update of a round in the manifest's own density.
pub fn update_size(manifest: &Manifest, round: Round) -> u64 {
    update::encoded_len(update_len(manifest, round), manifest.updates.codec) as u64
}
