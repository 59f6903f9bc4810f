//! Scoring and collecting: what this peer owes the open height, and what it would put into it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Desk;
use super::run::Run;
use crate::entry::{Contribution, Entry, Join, ScoreSheet};
use crate::event::{Effect, Notice, ScoreTask};
use crate::hash::{Digest, Domain};
use crate::id::{BlobRef, PeerId, Round, Seq};
use crate::roster::Roster;
use crate::round::{EntryRef, Included, Missed};
use crate::sortition::Sortition;
use crate::state::{self, RoundSources, Selection};
use crate::time::Instant;
use crate::update::Packed;

/// A receipt that may be included in the open height: author, place, content.
pub(super) type Fitting = (PeerId, EntryRef, Contribution);

/// Entries of the run's logs by what they are for. A view: rebuilt from the logs at any time.
#[derive(Default)]
pub(super) struct Index {
    /// Receipts by round and author. The first of an author counts.
    pub(super) receipts: BTreeMap<Round, BTreeMap<PeerId, (EntryRef, Contribution)>>,
    /// Sheets by judged round and author. The first of an author counts.
    pub(super) sheets: BTreeMap<Round, BTreeMap<PeerId, EntryRef>>,
    /// The last join of an author.
    pub(super) joins: BTreeMap<PeerId, (EntryRef, Join)>,
    /// The last opening of an author.
    pub(super) openings: BTreeMap<PeerId, EntryRef>,
    /// Where calls stand, in the order of each log. Only the creator's mean anything.
    pub(super) calls: Vec<EntryRef>,
    /// The last leave of an author.
    pub(super) leaves: BTreeMap<PeerId, EntryRef>,
    /// How far each author's log is sorted in.
    pub(super) sorted: BTreeMap<PeerId, Seq>,
}

impl Index {
    fn add(&mut self, at: EntryRef, entry: &Entry) {
        let author = at.author;
        match entry {
            Entry::Contribution(receipt) => {
                let round = self.receipts.entry(receipt.round).or_default();
                round.entry(author).or_insert((at, *receipt));
            }
            Entry::ScoreSheet(sheet) => {
                self.sheets
                    .entry(sheet.round)
                    .or_default()
                    .entry(author)
                    .or_insert(at);
            }
            Entry::Join(join) => {
                self.joins.insert(author, (at, join.clone()));
            }
            Entry::Leave => {
                self.leaves.insert(author, at);
            }
            Entry::Opening(_) => {
                self.openings.insert(author, at);
            }
            Entry::Call(_) => self.calls.push(at),
            Entry::Create(_) => {}
        }
    }
}

impl Run {
    /// Sorts entries of `author` that count now and did not at the last call.
    pub(super) fn reindex(&mut self, author: PeerId) {
        let done = self.index.sorted.get(&author).copied();
        let entries: Vec<(EntryRef, &Entry)> = (self.log.entries(author))
            .filter(|(at, _)| done.is_none_or(|done| at.seq > done))
            .collect();
        for (at, entry) in entries {
            self.index.sorted.insert(author, at.seq);
            self.index.add(at, entry);
        }
        self.refit();
    }

    pub(super) fn reindex_all(&mut self) {
        let authors: Vec<PeerId> = self.log.authors().collect();
        for author in authors {
            self.reindex(author);
        }
    }

    /// Asks for membership, trains, scores: what this peer owes the open height.
    pub(super) fn take_part(&mut self, desk: &mut Desk) {
        self.ask_to_join(desk);
        self.call_for_openings(desk);
        self.open_sketch(desk);
        self.ask_to_leave(desk);
        if !self.has_adapter() || self.is_finished() {
            return;
        }
        self.train(desk);
        self.score(desk);
    }

    pub(super) fn is_training_round(&self, round: Round) -> bool {
        let manifest = self.manifest.as_ref();
        round.0 >= 1 && manifest.is_some_and(|m| round < m.closing_round())
    }

    fn score(&mut self, desk: &mut Desk) {
        let (Some(manifest), Some(head), Some(scorable)) =
            (&self.manifest, &self.head, &self.scorable)
        else {
            return;
        };
        let evaluates = manifest.scoring.evaluators.binary_search(&desk.me).is_ok()
            && head
                .roster
                .get(&desk.me)
                .is_some_and(|m| m.role.evaluates());
        let done = (self.index.sheets.get(&head.round)).is_some_and(|s| s.contains_key(&desk.me));
        if !evaluates || done || self.scoring == Some(head.round) || scorable.round != head.round {
            return;
        }
        let Some(value) = self.last_value() else {
            return;
        };
        if value.included.is_empty() {
            return;
        }
        let mut task = ScoreTask {
            run: self.id,
            round: head.round,
            state: head.hash,
            before: Arc::clone(&scorable.before),
            trainable: manifest.training.schedule.trainable(head.round),
            contributions: Arc::clone(&scorable.contributions),
            public: Vec::new(),
            seed: value.score_seed(),
            windows: manifest.scoring.windows,
        };
        match self.public_before(desk, task.round) {
            Some(public) => task.public = public,
            None => return,
        }
        self.scoring = Some(task.round);
        desk.emit(Effect::Score(Box::new(task)));
    }

    pub(super) fn on_scored(&mut self, desk: &mut Desk, sheet: ScoreSheet) {
        let fits = match (&self.manifest, &self.head) {
            (Some(manifest), head) => {
                state::sheet_fits(manifest, &sheet, &desk.me, head.as_ref(), self.last_value())
            }
            _ => false,
        };
        let done = (self.index.sheets.get(&sheet.round)).is_some_and(|s| s.contains_key(&desk.me));
        if fits && !done {
            self.append(desk, vec![Entry::ScoreSheet(sheet)], Vec::new());
        }
    }

    /// Asks for the updates behind the receipts that count, once they are revealed.
    pub(super) fn gather_updates(&mut self, desk: &mut Desk) {
        if !self.needs_updates(desk) {
            return;
        }
        let lacking: Vec<(PeerId, BlobRef)> = (self.counting(desk.now.monotonic))
            .filter(|(_, _, receipt)| !self.blobs.contains_key(&receipt.update.hash))
            .map(|(peer, _, receipt)| (*peer, receipt.update))
            .collect();
        for (peer, blob) in lacking {
            self.want(desk, blob, vec![peer]);
        }
    }

    /// Looks again which receipts may be included in the open height. To be called when log or head
    /// moved; everything else reads `fitting`.
    pub(super) fn refit(&mut self) {
        self.fitting.clear();
        let senders = self.index.receipts.get(&self.next()).into_iter().flatten();
        let senders: Vec<PeerId> = senders.map(|(peer, _)| *peer).collect();
        let weighing: BTreeSet<PeerId> = (senders.into_iter())
            .filter(|peer| self.weighs(peer))
            .collect();
        let Some(manifest) = &self.manifest else {
            return;
        };
        let receipts = self.index.receipts.get(&self.next());
        for (peer, (at, receipt)) in receipts.into_iter().flatten() {
            if state::receipt_fits(manifest, receipt, peer, self.head.as_ref())
                && weighing.contains(peer)
                && !self.spoiled.contains(&receipt.update.hash)
                && self.log.entry(at).is_some()
            {
                self.fitting.push((*peer, *at, *receipt));
            }
        }
    }

    /// What may be included: receipts of the drawn whose update is at hand and decodes, and where those are
    /// too few, others in the order of the draw. And what of the drawn was committed to in time and is not at hand.
    /// `members` have the open sketches that the value is to open.
    fn complete(&mut self, now: Instant, members: &Roster) -> (Vec<Included>, Vec<Missed>) {
        self.read_updates();
        let (Some(manifest), Some(head)) = (&self.manifest, &self.head) else {
            return (Vec::new(), Vec::new());
        };
        let is_here =
            |receipt: &Contribution| self.readable.get(&receipt.update.hash) == Some(&true);
        let weight = |peer: &PeerId, tokens| state::weigh(manifest, members, peer, tokens);
        let counting = (self.counting(now)).filter(|(peer, _, c)| weight(peer, c.tokens) > 0);
        let (here, missing): (Vec<&Fitting>, Vec<&Fitting>) =
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
            self.draw(by, &mut others, most, |i| i.receipt.author);
            out.append(&mut others);
        }
        (out, missed.collect())
    }

    /// Reads the updates of the open round that are here and were not read yet.
    fn read_updates(&mut self) {
        let Some(manifest) = &self.manifest else {
            return;
        };
        let len = state::update_len(manifest, state::next_round(self.head.as_ref()));
        for (_, _, receipt) in &self.fitting {
            let hash = receipt.update.hash;
            if let (Some(bytes), None) = (self.blobs.get(&hash), self.readable.get(&hash)) {
                let read = Packed::read(bytes.clone(), len, manifest.updates.codec);
                self.readable.insert(hash, read.is_ok());
            }
        }
    }

    /// Keeps at most `most`, drawn by lot of the open height: by id, whoever makes itself a small one
    /// would always come first and could keep others out for ever. So would whoever knows what the lot is
    /// drawn by when it makes its key.
    pub(super) fn draw<T>(
        &self,
        (domain, beacon): (Domain, &Digest),
        list: &mut Vec<T>,
        most: usize,
        peer: impl Fn(&T) -> PeerId,
    ) {
        if list.len() <= most {
            return;
        }
        let lot = Sortition {
            domain,
            run: &self.id,
            round: self.next(),
            beacon,
        };
        list.sort_by_cached_key(|item| lot.ticket(&peer(item)));
        list.truncate(most);
    }

    /// Contributions complete here and contributions expected.
    pub(super) fn arrived(&self) -> (usize, usize) {
        let Some(head) = &self.head else {
            let expected = self
                .manifest
                .as_ref()
                .map_or(0, |m| m.membership.min_members as usize);
            return (self.index.joins.len(), expected);
        };
        let round = self.next();
        if !self.is_training_round(round) {
            return (0, 0);
        }
        let arrived = (self.fitting.iter())
            .filter(|(_, _, receipt)| self.blobs.contains_key(&receipt.update.hash))
            .count();
        (arrived, head.participants.len())
    }

    pub(super) fn notify_arrival(&mut self, desk: &mut Desk, peer: PeerId) {
        let (arrived, expected) = self.arrived();
        desk.notify(Notice::Contributed {
            run: self.id,
            round: self.next(),
            peer,
            arrived: arrived as u32,
            expected: expected as u32,
        });
    }

    /// Sheets that judge the last round, and how many there could be.
    pub(super) fn sheets(&self) -> (Vec<EntryRef>, usize) {
        let (Some(manifest), Some(head)) = (&self.manifest, &self.head) else {
            return (Vec::new(), 0);
        };
        if self
            .last_value()
            .is_none_or(|value| value.included.is_empty())
        {
            return (Vec::new(), 0);
        }
        let expected = (manifest.scoring.evaluators.iter())
            .filter(|peer| head.roster.get(peer).is_some_and(|m| m.role.evaluates()))
            .count();
        let Some(sheets) = self.index.sheets.get(&head.round) else {
            return (Vec::new(), expected);
        };
        let fits = |at: &&EntryRef| match self.log.entry(at) {
            Some(Entry::ScoreSheet(sheet)) => {
                state::sheet_fits(manifest, sheet, &at.author, Some(head), self.last_value())
            }
            _ => false,
        };
        (sheets.values().filter(fits).copied().collect(), expected)
    }

    /// What this peer would put into the open height, with this link.
    pub(super) fn choose(&mut self, now: Instant, link: Digest) -> Selection {
        let beacon = state::next_beacon(self.id, self.head.as_ref(), &link);
        let trains = self.is_training_round(self.next());
        let changes = self
            .manifest
            .as_ref()
            .is_some_and(|m| self.next() < m.closing_round());
        let mut joins = match changes {
            true => self.admissible(&beacon),
            false => Vec::new(),
        };
        let openings = match changes {
            true => self.openings(&mut joins, &beacon),
            false => Vec::new(),
        };
        let leaves = match changes {
            true => self.leavers(&joins, &beacon),
            false => Vec::new(),
        };
        let head = self.head.as_ref().filter(|_| trains);
        let members = head.and_then(|head| head.roster.opened(&openings).ok());
        let (included, missed) = match members {
            Some(members) => self.complete(now, &members),
            None => (Vec::new(), Vec::new()),
        };
        Selection {
            included,
            missed,
            joins,
            call: self.last_call(),
            openings,
            leaves,
            sheets: self.sheets().0,
            attempt: 0,
            link,
        }
    }

    /// What is at hand to build or check a value of the open height.
    pub(super) fn sources(&self) -> RoundSources<'_> {
        RoundSources {
            log: &self.log,
            before: if self.has_adapter() {
                self.adapter.as_ref().map(|(_, a)| a)
            } else {
                None
            },
            blobs: &self.blobs,
            judged: self.last_value(),
        }
    }
}
