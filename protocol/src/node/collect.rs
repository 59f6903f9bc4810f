//! What arrives for the open height: which receipts may be included, which updates can be read, and what this peer
//! would put into a value.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::NodeContext;
use super::certified::Certified;
use super::height::OpenHeight;
use super::known::{Known, Ledger};
use crate::entry::Contribution;
use crate::event::Notice;
use crate::hash::{Digest, Domain};
use crate::id::{BlobHash, BlobRef, PeerId};
use crate::reject::Rejection;
use crate::roster::Roster;
use crate::round::{EntryRef, Included, Missed};
use crate::state::{self, Selection};
use crate::time::Instant;
use crate::update::Packed;

/// A receipt that may be included in the open height: author, place, content.
pub(super) type EligibleReceipt = (PeerId, EntryRef, Contribution);

/// The receipts of the open height, and what is known of their updates.
#[derive(Default)]
pub(super) struct Receipts {
    /// Receipts that may be included; a view, see [`Receipts::refit`].
    eligible: Vec<EligibleReceipt>,
    /// Openings that were looked into: whether they show text of their author's own.
    opening_is_novel: BTreeMap<EntryRef, bool>,
    /// Updates that arrived and are none.
    invalid_updates: BTreeSet<BlobHash>,
    /// Updates that were read, and whether they are any.
    update_validity: BTreeMap<BlobHash, bool>,
}

impl Receipts {
    /// Receipts that may be included, by author.
    pub(super) fn eligible(&self) -> &[EligibleReceipt] {
        &self.eligible
    }

    /// Whether an update arrived and is none.
    pub(super) fn is_spoiled(&self, update: &BlobHash) -> bool {
        self.invalid_updates.contains(update)
    }

    /// Looks again which receipts may be included in the open height. To be called when log or head
    /// moved; everything else reads [`Receipts::fitting`].
    pub(super) fn refresh_eligible(&mut self, known: Known<'_>) {
        self.eligible.clear();
        let receipts = known.index().receipts.get(&known.next());
        for (peer, (at, receipt)) in receipts.into_iter().flatten() {
            if self.weighs(known, peer)
                && state::receipt_fits(known.manifest(), receipt, peer, known.head())
                && !self.invalid_updates.contains(&receipt.update.hash)
                && known.log().entry(at).is_some()
            {
                self.eligible.push((*peer, *at, *receipt));
            }
        }
    }

    /// Whether an update of a member can weigh anything: its sketch is open, or could be by the same value.
    fn weighs(&mut self, known: Known<'_>, peer: &PeerId) -> bool {
        let Some(member) = known.head().and_then(|head| head.roster.get(peer)) else {
            return false;
        };
        if member.own_tokens > 0 {
            return state::counts(known.manifest(), member);
        }
        let Some(at) = known.index().openings.get(peer) else {
            return false;
        };
        if let Some(shows) = self.opening_is_novel.get(at) {
            return *shows;
        }
        let Some(shows) = known.shows_text(at) else {
            return false;
        };
        self.opening_is_novel.insert(*at, shows);
        shows
    }

    /// An update of the open round arrived.
    ///
    /// # Errors
    /// Why its bytes are no update, if they are none; its receipt may not be included then.
    pub(super) fn read(
        &mut self,
        known: Known<'_>,
        hash: BlobHash,
        bytes: &Bytes,
    ) -> Result<(), Rejection> {
        let read = read(known, bytes);
        self.update_validity.insert(hash, read.is_ok());
        if read.is_err() {
            self.invalid_updates.insert(hash);
            self.refresh_eligible(known);
        }
        read
    }

    /// Reads the updates that are here and were not read yet.
    fn read_all(&mut self, known: Known<'_>) {
        let blobs = &known.ledger.replica.blobs;
        for (_, _, receipt) in &self.eligible {
            let hash = receipt.update.hash;
            if let (Some(bytes), None) = (blobs.get(&hash), self.update_validity.get(&hash)) {
                self.update_validity
                    .insert(hash, read(known, bytes).is_ok());
            }
        }
    }

    /// Asserts that what may be included is of the open round, and was not found spoiled.
    pub(super) fn assert_invariants(&self, known: Known<'_>) {
        let eligible = || self.eligible.iter();
        assert!(
            eligible().all(|(_, _, receipt)| receipt.round == known.next()),
            "receipts of the open round"
        );
        assert!(
            self.eligible.windows(2).all(|pair| pair[0].0 < pair[1].0),
            "one receipt of an author, by author"
        );
        assert!(
            eligible().all(|(peer, at, _)| at.author == *peer && known.certified.is_member(peer)),
            "a receipt is a member's own"
        );
        assert!(
            eligible().all(|(_, _, receipt)| !self.invalid_updates.contains(&receipt.update.hash)),
            "nothing spoiled may be included"
        );
        let base = known.head().map(|head| head.hash);
        assert!(
            eligible().all(|(_, _, receipt)| Some(receipt.base) == base),
            "receipts start from the certified state"
        );
        let mut invalid_updates = self.invalid_updates.iter();
        assert!(
            invalid_updates.all(|hash| self.update_validity.get(hash) != Some(&true)),
            "what is spoiled cannot be read"
        );
    }
}

/// Reads bytes as an update of the open round.
fn read(known: Known<'_>, bytes: &Bytes) -> Result<(), Rejection> {
    let manifest = known.manifest();
    let len = state::update_len(manifest, known.next());
    Packed::read(bytes.clone(), len, manifest.updates.codec).map(drop)
}

impl OpenHeight {
    /// Asks for the updates behind the receipts that count, once they are revealed.
    pub(super) fn gather_updates(
        &self,
        cx: &mut NodeContext,
        certified: &Certified,
        ledger: &mut Ledger,
    ) {
        if !self.needs_updates(cx, certified) {
            return;
        }
        let known = Known::new(certified, ledger);
        let lacking: Vec<(PeerId, BlobRef)> = (self.counting(known, cx.now.monotonic))
            .filter(|(_, _, receipt)| !known.has_blob(&receipt.update.hash))
            .map(|(peer, _, receipt)| (*peer, receipt.update))
            .collect();
        for (peer, blob) in lacking {
            ledger.want(cx, blob, vec![peer]);
        }
    }

    /// What this peer would put into the open height, with this link.
    pub(super) fn choose(&mut self, known: Known<'_>, now: Instant, link: Digest) -> Selection {
        let beacon = state::next_beacon(known.id(), known.head(), &link);
        assert_eq!(self.round, known.next(), "the open height is chosen for");
        // Nothing changes the roster at the closing height.
        let changes = self.round < known.manifest().closing_round();
        let (mut joins, mut openings, mut leaves) = (Vec::new(), Vec::new(), Vec::new());
        if changes {
            joins = known.admissible(&beacon);
            openings = known.openings(&mut joins, &beacon);
            leaves = known.leavers(&joins, &beacon);
        }
        let anchor = known.next_anchor(&joins, &leaves, &beacon);
        let judges = self.round <= known.manifest().closing_round();
        let sheets = if judges { known.sheets().0 } else { Vec::new() };
        let head = known.head();
        let head = head.filter(|_| known.certified.is_training_round(self.round));
        let members = head.and_then(|head| head.roster.opened(&openings).ok());
        let (included, missed) = match members {
            Some(members) => self.complete(known, now, &members),
            None => (Vec::new(), Vec::new()),
        };
        Selection {
            included,
            missed,
            joins,
            call: known.last_call(),
            openings,
            leaves,
            sheets,
            filings: known.next_filings(&beacon),
            anchor,
            attempt: 0,
            link,
        }
    }

    /// What may be included: receipts of the drawn whose update is at hand and decodes, and where those are
    /// too few, others in the order of the draw. And what of the drawn was committed to in time and is not at hand.
    /// `members` have the open sketches that the value is to open.
    fn complete(
        &mut self,
        known: Known<'_>,
        now: Instant,
        members: &Roster,
    ) -> (Vec<Included>, Vec<Missed>) {
        self.receipts.read_all(known);
        let Some(head) = known.head() else {
            return (Vec::new(), Vec::new());
        };
        let manifest = known.manifest();
        let update_validity = &self.receipts.update_validity;
        let is_here =
            |receipt: &Contribution| update_validity.get(&receipt.update.hash) == Some(&true);
        let weight = |peer: &PeerId, tokens| state::weigh(manifest, members, peer, tokens);
        let counting = self.counting(known, now);
        let counting = counting.filter(|(peer, _, c)| weight(peer, c.tokens) > 0);
        let (here, missing): (Vec<&EligibleReceipt>, Vec<&EligibleReceipt>) =
            counting.partition(|(_, _, receipt)| is_here(receipt));
        let missed = missing
            .into_iter()
            .filter(|(peer, _, _)| head.is_participant(peer));
        let missed = missed.map(|(peer, receipt, c)| Missed {
            receipt: *receipt,
            tokens: c.tokens,
            weight: weight(peer, c.tokens),
        });
        let all = here.into_iter().map(|(peer, receipt, c)| Included {
            receipt: *receipt,
            update: c.update,
            tokens: c.tokens,
            weight: weight(peer, c.tokens),
        });
        let (mut out, mut others): (Vec<Included>, Vec<Included>) =
            all.partition(|i| head.is_participant(&i.receipt.author));
        if out.len() < manifest.plan.min_contributions as usize {
            let most = head.participants.len() - out.len();
            let by = (Domain::Participants, &head.beacon);
            known.draw(by, &mut others, most, |i| i.receipt.author);
            out.append(&mut others);
        }
        assert!(
            out.len() <= head.participants.len(),
            "no more are included than were drawn"
        );
        (out, missed.collect())
    }

    /// Contributions complete here and contributions expected.
    pub(super) fn arrived(&self, known: Known<'_>) -> (usize, usize) {
        let Some(head) = known.head() else {
            let expected = known.manifest().membership.min_members as usize;
            return (known.index().joins.len(), expected);
        };
        if !known.certified.is_training_round(self.round) {
            return (0, 0);
        }
        let eligible = self.receipts.eligible.iter();
        let arrived = eligible.filter(|(_, _, receipt)| known.has_blob(&receipt.update.hash));
        (arrived.count(), head.participants.len())
    }

    /// Authors drawn for the open height whose contribution is not complete here.
    pub(super) fn lacking(&self, known: Known<'_>) -> Vec<PeerId> {
        let training = known.certified.is_training_round(self.round);
        let Some(head) = known.head().filter(|_| training) else {
            return Vec::new();
        };
        let eligible = self.receipts.eligible.iter();
        let complete = eligible.filter(|(_, _, receipt)| known.has_blob(&receipt.update.hash));
        let complete: BTreeSet<&PeerId> = complete.map(|(peer, _, _)| peer).collect();
        let drawn = head.participants.iter();
        drawn
            .filter(|peer| !complete.contains(peer))
            .copied()
            .collect()
    }

    /// Tells the owner that an update of `peer` is here.
    pub(super) fn notify_arrival(&self, cx: &mut NodeContext, known: Known<'_>, peer: PeerId) {
        let (arrived, expected) = self.arrived(known);
        cx.notify(Notice::Contributed {
            run: known.id(),
            round: self.round,
            peer,
            arrived: arrived as u32,
            expected: expected as u32,
        });
    }
}
