//! Which receipt is meant, and why one is not paid (yet).
//!
//! A receipt is named by the first digits of the block that carries it, as `ledger statement` prints
//! them, with `.INDEX` where the block holds several, or by its place, `RUN/ROUND` or `RUN/ROUND/PEER`.

use tributary_protocol::certificate::Certificate;
use tributary_protocol::entry::{Contribution, Entry};
use tributary_protocol::id::{PeerId, Round};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::round::{EntryRef, Included};
use tributary_protocol::state::{self, Head};

use super::{ExplainError, heads};
use crate::account::{receipt_id, short_receipt};
use crate::archive::{Archive, ArchivedRun};

/// How many receipts an error lists.
const CANDIDATES: usize = 3;

/// A receipt of an archive.
pub(crate) struct Found<'a> {
    pub(crate) run: &'a ArchivedRun,
    pub(crate) at: EntryRef,
    pub(crate) receipt: Contribution,
}

/// The receipt that `wanted` names.
pub(crate) fn receipt<'a>(
    archive: &'a Archive,
    me: PeerId,
    wanted: &str,
) -> Result<Found<'a>, ExplainError> {
    let wanted = wanted.trim().to_lowercase();
    let all = receipts(archive);
    let named: Vec<&Found<'a>> = match wanted.contains('/') {
        true => by_place(&all, me, &wanted)?,
        false => {
            let (block, index) = wanted.split_once('.').unwrap_or((&wanted, ""));
            let fits = |f: &&Found<'a>| {
                f.at.block.to_string().starts_with(block)
                    && (index.is_empty() || f.at.index.to_string() == index)
            };
            all.iter().filter(fits).collect()
        }
    };
    match named[..] {
        [found] => Ok(Found { ..*found }),
        [] => Err(unknown(&all, me, &wanted)),
        _ => Err(ExplainError::Ambiguous {
            count: named.len(),
            listed: list(named.iter().copied()),
            wanted,
        }),
    }
}

/// Every receipt of every run, those behind a fork included where a certificate relies on them.
fn receipts(archive: &Archive) -> Vec<Found<'_>> {
    let mut out = Vec::new();
    for run in &archive.runs {
        let counted = run.log.all().map(|(at, entry)| (at, Some(entry)));
        let values = run.certificates.iter().map(|c| &c.value);
        let relied = values.flat_map(|v| v.included.iter().map(|i| i.receipt));
        let behind = relied.filter(|at| run.log.is_equivocator(at.author));
        let behind = behind.map(|at| (at, run.log.entry(&at)));
        let mut all: Vec<(EntryRef, Contribution)> = (counted.chain(behind))
            .filter_map(|(at, entry)| match entry {
                Some(Entry::Contribution(receipt)) => Some((at, *receipt)),
                _ => None,
            })
            .collect();
        all.sort_by_key(|(at, _)| *at);
        all.dedup_by_key(|(at, _)| *at);
        out.extend(
            all.into_iter()
                .map(|(at, receipt)| Found { run, at, receipt }),
        );
    }
    out
}

/// `RUN/ROUND` of the home's owner, or `RUN/ROUND/PEER`, ids by their first digits, the peer also by name.
fn by_place<'a, 'b>(
    all: &'b [Found<'a>],
    me: PeerId,
    wanted: &str,
) -> Result<Vec<&'b Found<'a>>, ExplainError> {
    let parts: Vec<&str> = wanted.split('/').collect();
    let (run, round, peer) = match parts[..] {
        [run, round] => (run, round, me.to_string()),
        [run, round, peer] => (run, round, peer.to_owned()),
        _ => return Err(ExplainError::Form(wanted.to_owned())),
    };
    let round: u32 = (round.parse()).map_err(|_| ExplainError::Form(wanted.to_owned()))?;
    let fits = |f: &&Found<'a>| {
        f.run.id.to_string().starts_with(run)
            && f.receipt.round == Round(round)
            && (f.peer().to_string().starts_with(&peer) || f.name().to_lowercase() == peer)
    };
    let found: Vec<&Found<'a>> = all.iter().filter(fits).collect();
    // Of several receipts of one author for one round only the certified one can be meant.
    let certified: Vec<&Found<'a>> = (found.iter().copied())
        .filter(|f| f.included().is_some())
        .collect();
    Ok(if certified.is_empty() {
        found
    } else {
        certified
    })
}

/// The nearest receipts: those that share the most leading digits, the owner's first among equals.
fn unknown(all: &[Found<'_>], me: PeerId, wanted: &str) -> ExplainError {
    if all.is_empty() {
        return ExplainError::NoReceipts;
    }
    let shared = |f: &Found<'_>| {
        let block = f.at.block.to_string();
        let same = block.chars().zip(wanted.chars());
        same.take_while(|(a, b)| a == b).count()
    };
    let mut near: Vec<&Found<'_>> = all.iter().collect();
    near.sort_by_key(|f| {
        (
            std::cmp::Reverse((shared(f), f.peer() == me, f.receipt.round)),
            f.at,
        )
    });
    let listed = list(near.into_iter().take(CANDIDATES));
    ExplainError::Unknown {
        count: all.len(),
        wanted: wanted.to_owned(),
        listed,
    }
}

fn list<'a>(found: impl Iterator<Item = &'a Found<'a>>) -> String {
    let words = found.map(|f| {
        format!(
            "{} (round {} of run {}, {})",
            short_receipt(&receipt_id(&f.at)),
            f.receipt.round,
            f.run.id.short(),
            f.name()
        )
    });
    words.collect::<Vec<_>>().join(", ")
}

impl<'a> Found<'a> {
    pub(crate) fn peer(&self) -> PeerId {
        self.at.author
    }

    fn name(&self) -> String {
        let joins = self.run.log.entries(self.at.author);
        let name = joins.filter_map(|(_, entry)| match entry {
            Entry::Join(join) => Some(join.name.clone()),
            _ => None,
        });
        name.last().unwrap_or_else(|| self.at.author.short())
    }

    fn certificate(&self, round: Round) -> Option<&'a Certificate> {
        let mut certificates = self.run.certificates.iter();
        certificates.find(|c| c.value.round == round)
    }

    fn included(&self) -> Option<&'a Included> {
        let value = &self.certificate(self.receipt.round)?.value;
        value.included.iter().find(|i| i.receipt == self.at)
    }

    /// The certified contribution, its round's certificate and the next, which makes its scores final.
    pub(super) fn certified(
        &self,
        manifest: &Manifest,
    ) -> Result<(&'a Included, &'a Certificate, &'a Certificate), ExplainError> {
        let round = self.receipt.round;
        let run = self.run.id;
        let Some(certificate) = self.certificate(round) else {
            return Err(ExplainError::Open { run, round });
        };
        let Some(included) = self.included() else {
            return Err(self.left_out(manifest, certificate));
        };
        let Some(next) = self.certificate(round.next()) else {
            return Err(ExplainError::NotFinal { run, round });
        };
        Ok((included, certificate, next))
    }

    /// Why the committee did not include it, as far as the ledger tells.
    fn left_out(&self, manifest: &Manifest, certificate: &Certificate) -> ExplainError {
        let round = self.receipt.round;
        let heads = match heads(manifest, self.run) {
            Ok(heads) => heads,
            Err(error) => return error,
        };
        let before = round.previous().and_then(|r| heads.get(r.0 as usize));
        let value = &certificate.value;
        let other = value
            .included
            .iter()
            .find(|i| i.receipt.author == self.peer());
        let why = match (before, other) {
            (Some(_), Some(other)) => format!(
                "{} said something else for the same round, and receipt {} was included instead",
                self.name(),
                other.receipt.block.short()
            ),
            (Some(head), None) => self.refused(manifest, head, value.included.len()),
            (None, _) => "it is for a round that trains nothing".to_owned(),
        };
        ExplainError::LeftOut {
            block: self.at.block,
            round,
            included: value.included.len(),
            why,
        }
    }

    fn refused(&self, manifest: &Manifest, head: &Head, included: usize) -> String {
        let (peer, receipt) = (self.peer(), &self.receipt);
        let Some(member) = head.roster.get(&peer).filter(|m| m.role.contributes()) else {
            return format!("refused: {} was no contributing member then", self.name());
        };
        if receipt.base != head.hash {
            return "refused: it was trained from another state than the one before the round"
                .to_owned();
        }
        if receipt.shard != member.root {
            return "refused: it names another shard than the certified join".to_owned();
        }
        if !state::receipt_fits(manifest, receipt, &peer, Some(head)) {
            return format!(
                "refused: {} tokens and an update of {} bytes do not fit the manifest",
                receipt.tokens, receipt.update.size
            );
        }
        if !head.is_participant(&peer) {
            return format!(
                "not drawn: {} of {} contributors were drawn for the round, and others count only where \
                 fewer than {} of those drawn contribute",
                head.participants.len(),
                head.roster.contributors().count(),
                manifest.plan.min_contributions
            );
        }
        format!(
            "late: nothing in it speaks against it, so it or its update reached the committee after the \
             round was closed with {included} contributions"
        )
    }
}
