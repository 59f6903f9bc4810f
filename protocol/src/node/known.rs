//! What is known of a run at one moment, to be read: what peers have said, and what of it is certified.
//!
//! Machines of an open run decide by it and change only their own state, so what each of them may change is said by
//! its type.

use std::collections::{BTreeMap, BTreeSet};

use super::NodeContext;
use super::anchors::ChainView;
use super::certified::Certified;
use crate::entry::{Contribution, Entry, Join, SheetSeal, ShownSheet};
use crate::event::{Effect, Notice, Record, Timer};
use crate::hash::{Digest, Domain};
use crate::id::{BlobHash, BlobRef, BlockId, PeerId, Round, RunId, Scope, Seq};
use crate::log::Block;
use crate::logset::LogSet;
use crate::manifest::Manifest;
use crate::replica::{Admission, Appended, Replica, Room};
use crate::round::{EntryRef, RoundValue};
use crate::sortition::Sortition;
use crate::state::Head;
use crate::time::Instant;
use crate::wire::Message;
use crate::{limits, state};

/// Entries of the run's logs by what they are for. A view: rebuilt from the logs at any time.
#[derive(Default)]
pub(super) struct Index {
    /// Receipts by round and author. The first of an author counts.
    pub(super) receipts: BTreeMap<Round, BTreeMap<PeerId, (EntryRef, Contribution)>>,
    /// Sheets by judged round and author, with the seals that their authors had seen: those that an author's seal stands
    /// behind. The first of an author counts.
    pub(super) sheets: BTreeMap<Round, BTreeMap<PeerId, (EntryRef, u32)>>,
    /// Seals of sheets by judged round and author. The first of an author counts.
    seals: BTreeMap<Round, BTreeMap<PeerId, SheetSeal>>,
    /// The last join of an author.
    pub(super) joins: BTreeMap<PeerId, (EntryRef, Join)>,
    /// The last opening of an author.
    pub(super) openings: BTreeMap<PeerId, EntryRef>,
    /// Where calls stand, in the order of each log. Only the creator's mean anything.
    pub(super) calls: Vec<EntryRef>,
    /// The last leave of an author.
    pub(super) leaves: BTreeMap<PeerId, EntryRef>,
    /// Filings, in the order of each log.
    pub(super) filings: BTreeSet<EntryRef>,
    /// How far each author's log is sorted in.
    sorted: BTreeMap<PeerId, Seq>,
}

impl Index {
    fn add(&mut self, at: EntryRef, entry: &Entry) {
        let author = at.author;
        match entry {
            Entry::Contribution(receipt) => {
                let round = self.receipts.entry(receipt.round).or_default();
                round.entry(author).or_insert((at, *receipt));
            }
            Entry::SheetSeal(seal) => {
                let round = self.seals.entry(seal.round).or_default();
                round.entry(author).or_insert(*seal);
            }
            Entry::ScoreSheet(ShownSheet { sheet, seals }) => {
                if self.seal(&author, sheet.round) == Some(&sheet.seal(&author)) {
                    let round = self.sheets.entry(sheet.round).or_default();
                    round.entry(author).or_insert((at, *seals));
                }
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
            Entry::Bind(_)
            | Entry::RootSignature(_)
            | Entry::Transaction(_)
            | Entry::Answers(_)
            | Entry::Confirm(_)
            | Entry::Dispute(_) => {
                self.filings.insert(at);
            }
            Entry::Create(_) | Entry::Publish(_) => {}
        }
    }

    /// Takes a stranger out that was dropped.
    fn forget(&mut self, author: &PeerId) {
        self.joins.remove(author);
        self.openings.remove(author);
        self.leaves.remove(author);
        self.filings.retain(|at| at.author != *author);
        self.sorted.remove(author);
    }

    /// Whether an author has committed to an update of a round.
    pub(super) fn has_receipt(&self, author: &PeerId, round: Round) -> bool {
        (self.receipts.get(&round)).is_some_and(|r| r.contains_key(author))
    }

    /// Whether an author has judged a round.
    pub(super) fn has_sheet(&self, author: &PeerId, round: Round) -> bool {
        (self.sheets.get(&round)).is_some_and(|s| s.contains_key(author))
    }

    /// What an author has sealed of a round.
    pub(super) fn seal(&self, author: &PeerId, round: Round) -> Option<&SheetSeal> {
        self.seals.get(&round)?.get(author)
    }

    /// Asserts that everything stands under the name of its author.
    pub(super) fn assert_invariants(&self) {
        let mut receipts = self.receipts.iter();
        assert!(
            receipts.all(|(round, of)| of.values().all(|(_, receipt)| receipt.round == *round)),
            "a receipt stands under its round"
        );
        let receipts = self.receipts.values().flatten();
        let receipts = receipts.map(|(peer, (at, _))| (peer, at));
        let sheets = self.sheets.values().flatten();
        let sheets = sheets.map(|(peer, (at, _))| (peer, at));
        assert!(
            receipts.chain(sheets).all(|(peer, at)| at.author == *peer),
            "receipts and sheets stand under their authors"
        );
        let joins = self.joins.iter().map(|(peer, (at, _))| (peer, at));
        let mut last = joins.chain(&self.openings).chain(&self.leaves);
        assert!(
            last.all(|(peer, at)| at.author == *peer && self.sorted.get(peer) >= Some(&at.seq)),
            "the last word of an author is its own, and sorted in"
        );
    }
}

/// What peers have said in a run.
pub(super) struct Ledger {
    pub(super) id: RunId,
    pub(super) replica: Replica,
    pub(super) index: Index,
    /// What this peer's client reads of the run's chain.
    pub(super) chain: ChainView,
    /// Grows with everything from others that [`super::run::Run::advance`] may act on.
    pub(super) changes_seen: u64,
}

impl Ledger {
    pub(super) fn new(id: RunId, cx: &NodeContext) -> Self {
        let (network, tick_ms) = (cx.config.network, cx.config.tick_ms);
        let now = cx.now.monotonic;
        Self {
            id,
            replica: Replica::new(network, Scope::Run(id), cx.me, now, tick_ms),
            index: Index::default(),
            chain: ChainView::default(),
            changes_seen: 0,
        }
    }

    /// The manifest, once the creator's first block is here.
    pub(super) fn manifest(&self) -> Option<Box<Manifest>> {
        let mut entries = self.replica.log().all();
        entries.find_map(|(_, entry)| match entry {
            Entry::Create(manifest) if manifest.run_id() == self.id => Some(manifest.clone()),
            _ => None,
        })
    }

    /// Sorts entries of `author` that count now and did not at the last call.
    pub(super) fn reindex(&mut self, author: PeerId) {
        let done = self.index.sorted.get(&author).copied();
        for (at, entry) in self.replica.log().entries(author) {
            if done.is_none_or(|done| at.seq > done) {
                let before = self.index.sorted.insert(author, at.seq);
                assert!(
                    before <= Some(at.seq),
                    "logs are sorted in from their start"
                );
                self.index.add(at, entry);
            }
        }
    }

    pub(super) fn reindex_all(&mut self) {
        let authors: Vec<PeerId> = self.replica.log().authors().collect();
        for author in authors {
            self.reindex(author);
        }
    }

    /// Forgets what strangers said whose logs were dropped.
    pub(super) fn forget(&mut self, dropped: &[PeerId]) {
        for peer in dropped {
            self.index.forget(peer);
        }
    }

    /// Appends to this peer's own log: signs, persists, then floods. Returns whether the log has grown.
    pub(super) fn append(
        &mut self,
        cx: &mut NodeContext,
        standing: &Standing<'_>,
        entries: Vec<Entry>,
        mut records: Vec<Record>,
    ) -> bool {
        let (key, draws) = (&cx.key, &mut cx.draws);
        let appended = (self.replica).append(key, cx.now, entries, standing, draws);
        let Appended { bytes, dropped } = match appended {
            Ok(Some(appended)) => appended,
            Ok(None) => return false,
            Err(why) => {
                let why = format!("an entry of this peer could not be signed: {why}");
                let run = Some(self.id);
                cx.notify(Notice::CommandFailed { run, why });
                return false;
            }
        };
        self.forget(&dropped);
        self.reindex(cx.me);
        records.push(Record::Block(bytes.clone()));
        cx.persist(records);
        cx.gossip(self.id, &Message::Block(bytes));
        true
    }

    /// Asks for a blob unless it is on its way.
    pub(super) fn want(&mut self, cx: &mut NodeContext, blob: BlobRef, providers: Vec<PeerId>) {
        let fetch = self.replica.blobs.want(cx.now.monotonic, blob, providers);
        cx.out.extend(fetch);
    }

    /// Asks two neighbours for blocks by name, once a second.
    pub(super) fn ask_for_blocks(&mut self, cx: &mut NodeContext, blocks: Vec<(PeerId, BlockId)>) {
        let Some(blocks) = self.replica.ask(cx.now.monotonic, blocks) else {
            return;
        };
        for peer in cx.draw_neighbours(2) {
            let (scope, blocks) = (self.id.into(), blocks.clone());
            cx.send(peer, &Message::WantBlocks { scope, blocks });
        }
    }

    /// Begins to compare ledgers with a peer.
    pub(super) fn open_exchange(&self, cx: &mut NodeContext, to: PeerId, certified: Option<Round>) {
        let (scope, ranges) = (self.id.into(), self.replica.summary());
        let summary = Message::Summary {
            scope,
            ranges,
            certified,
        };
        cx.send(to, &summary);
    }

    /// Entries that a value names count, whatever their authors do later.
    pub(super) fn rely_on(&mut self, value: &RoundValue) {
        for at in state::relied(value) {
            self.replica.certify(&at);
        }
    }

    /// Judges a proposal as if its authors had not equivocated.
    ///
    /// Whether a value is valid may depend on the value alone, never on which forks this peer has heard
    /// of: members that judge one value differently can each be locked where the others cannot follow,
    /// and the height never ends. Honest proposers leave equivocators out; a dishonest one that does not
    /// gives an equivocator nothing that it could not have had by writing one history.
    pub(super) fn rely_on_forked(&mut self, value: &RoundValue) {
        let log = self.replica.log();
        let lacking: Vec<_> = state::relied(value)
            .filter(|at| log.is_equivocator(at.author) && log.entry(at).is_none())
            .collect();
        lacking.iter().for_each(|at| self.replica.certify(at));
    }
}

/// Whose logs belong to the run: those of the creator, and of everyone a certificate has admitted.
pub(super) struct Standing<'a> {
    pub(super) certified: Option<&'a Certified>,
    /// Proposed values that are judged: what strangers said that they name may not be dropped.
    pub(super) judging: &'a [RoundValue],
}

impl Admission for Standing<'_> {
    /// The creator needs no certificate.
    fn admits(&self, author: &PeerId) -> bool {
        self.certified.is_some_and(|certified| {
            let roster = certified.head().map(|head| &head.roster);
            roster.is_some_and(|roster| roster.has_known(author))
                || certified.manifest.creator == *author
        })
    }

    /// The block with the manifest says by itself that it is the creator's.
    fn opens(&self, said: &Block) -> bool {
        matches!(said.entries.first(), Some(Entry::Create(_)))
    }

    /// What certified rounds let a member have something to say about.
    fn room(&self) -> Room {
        let rounds = self.certified.map_or(0, |c| c.chain().len() as u64);
        Room {
            blocks: limits::FREE_BLOCKS + limits::BLOCKS_PER_ROUND * rounds,
            bytes: limits::FREE_LOG_BYTES + limits::LOG_BYTES_PER_ROUND * rounds,
        }
    }

    fn spares(&self, author: &PeerId) -> bool {
        let mut named = self.judging.iter().flat_map(|value| &value.joins);
        named.any(|joined| joined.entry.author == *author)
    }
}

/// Seals of a round: which evaluators sealed, and how many seats they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seals {
    /// As a sheet names them.
    pub(super) mask: u32,
    /// Seats of those who sealed.
    pub(super) given: usize,
    /// Seats of those who may.
    pub(super) expected: usize,
}

/// What is known of an open run.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) certified: &'a Certified,
    pub(super) ledger: &'a Ledger,
}

impl<'a> Known<'a> {
    pub(super) fn new(certified: &'a Certified, ledger: &'a Ledger) -> Self {
        Self { certified, ledger }
    }

    pub(super) fn id(self) -> RunId {
        self.certified.id
    }

    pub(super) fn manifest(self) -> &'a Manifest {
        &self.certified.manifest
    }

    pub(super) fn head(self) -> Option<&'a Head> {
        self.certified.head()
    }

    pub(super) fn next(self) -> Round {
        self.certified.next()
    }

    pub(super) fn log(self) -> &'a LogSet {
        self.ledger.replica.log()
    }

    pub(super) fn chain_view(self) -> &'a ChainView {
        &self.ledger.chain
    }

    pub(super) fn index(self) -> &'a Index {
        &self.ledger.index
    }

    pub(super) fn has_blob(self, hash: &BlobHash) -> bool {
        self.ledger.replica.blobs.has(hash)
    }

    /// Begins to compare ledgers with a peer.
    pub(super) fn open_exchange(self, cx: &mut NodeContext, to: PeerId) {
        let certified = self.certified.round();
        self.ledger.open_exchange(cx, to, certified);
    }

    /// Keeps at most `most`, drawn by lot of the open height: by id, whoever makes itself a small one
    /// would always come first and could keep others out for ever. So would whoever knows what the lot is
    /// drawn by when it makes its key.
    pub(super) fn draw<T>(
        self,
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
            run: &self.certified.id,
            round: self.next(),
            beacon,
        };
        list.sort_by_cached_key(|item| lot.rank(&peer(item)));
        list.truncate(most);
    }

    /// Filings that no certificate has put in order yet, of everybody who may file, in the order of each log.
    pub(super) fn waiting_filings(self) -> impl Iterator<Item = EntryRef> + 'a {
        let may = move |author| state::may_file(self.manifest(), self.head(), author);
        let filings = self.index().filings.iter();
        let waits = filings.filter(move |at| !self.certified.has_filed(at) && may(&at.author));
        (waits.filter(move |at| self.log().entry(at).is_some())).copied()
    }

    /// What of them the open height would put in order. Whoever was served last at one height is first at another.
    pub(super) fn next_filings(self, beacon: &Digest) -> Vec<EntryRef> {
        let waiting: Vec<EntryRef> = self.waiting_filings().collect();
        let authors: BTreeSet<PeerId> = waiting.iter().map(|at| at.author).collect();
        let mut authors: Vec<PeerId> = authors.into_iter().collect();
        let lot = Sortition {
            domain: Domain::Filings,
            run: &self.certified.id,
            round: self.next(),
            beacon,
        };
        authors.sort_by_cached_key(|peer| lot.rank(peer));
        state::choose_filings(waiting, authors)
    }

    /// Sheets that judge the last round and were sealed in time, and how many there could be.
    pub(super) fn sheets(self) -> (Vec<EntryRef>, usize) {
        let expected = self.judges();
        let (Some(head), Some(last)) = (self.head(), self.certified.last_value()) else {
            return (Vec::new(), 0);
        };
        let Some(sheets) = self.index().sheets.get(&head.round) else {
            return (Vec::new(), expected.count());
        };
        let fits = |at: &EntryRef| match self.log().entry(at) {
            Some(Entry::ScoreSheet(ShownSheet { sheet, seals })) => {
                seals & !head.panel.all_seals() == 0
                    && state::sheet_fits(sheet, &at.author, Some(head), Some(last))
            }
            _ => false,
        };
        let shown = sheets.iter().filter(|(_, (at, _))| fits(at));
        let shown = shown.map(|(peer, (_, seals))| (*peer, *seals)).collect();
        let timely = state::timely_sheets(&head.panel, &shown);
        let expected = expected.count();
        assert!(timely.len() <= expected, "one sheet of each evaluator");
        (timely.iter().map(|peer| sheets[peer].0).collect(), expected)
    }

    /// Seals of the last round that are here.
    pub(super) fn seals(self) -> Seals {
        let mut seals = Seals::default();
        for (place, peer, seats) in self.judges() {
            let head = self.head().filter(|head| {
                let seal = self.index().seal(peer, head.round);
                seal.is_some_and(|seal| seal.state == head.hash)
            });
            seals.expected += seats;
            if head.is_some() {
                seals.given += seats;
                seals.mask |= 1 << place;
            }
        }
        seals
    }

    /// The evaluators that may judge the last round, each with its place and seats in the panel.
    fn judges(self) -> impl Iterator<Item = (usize, &'a PeerId, usize)> {
        let last = self.certified.last_value();
        let head = (self.head()).filter(|_| last.is_some_and(|last| !last.included.is_empty()));
        let seats = (head.into_iter()).flat_map(|head| {
            let evaluates = move |peer: &PeerId| {
                (head.roster.get(peer)).is_some_and(|member| member.role.evaluates())
            };
            let seats = head.panel.iter().enumerate();
            seats.filter(move |(_, (peer, _))| evaluates(peer))
        });
        seats.map(|(place, (peer, seats))| (place, peer, seats as usize))
    }
}

/// Makes [`super::run::Run::advance`] look at the clock again.
pub(super) fn wake(cx: &mut NodeContext, id: RunId, round: Round, at: Instant) {
    let timer = Timer::Grace(id, round);
    cx.emit(Effect::SetTimer { timer, at });
}
