//! One followed run: what is known of it and what to do next.
//!
//! Inputs only record facts; [`Run::advance`] then looks at all facts and does whatever has become
//! possible. A lost, late or repeated message therefore changes when something happens, never what.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::Desk;
use super::alarm::{Awaited, Refuted};
use super::bounds::Excess;
use super::close::Closed;
use super::collect::{Fitting, Index};
use super::publish::Publishing;
use super::relay::Relay;
use super::steps::Steps;
use crate::adapter::Adapter;
use crate::aggregate::ContributionVector;
use crate::certificate::Certificate;
use crate::committee::Committee;
use crate::consensus::Height;
use crate::entry::{Entry, Join};
use crate::event::{Effect, Notice, Phase, Record, Timer};
use crate::id::{BlobHash, BlobRef, PeerId, Round, RunId, Scope, Seq};
use crate::log::{Block, SignedBlock};
use crate::logset::{LogHead, LogSet};
use crate::manifest::Manifest;
use crate::round::{EntryRef, RoundValue};
use crate::sketch::Sketch;
use crate::state::{self, Head, Selection};
use crate::time::Instant;

/// Ticks after which a fetch that nothing was heard of is tried again.
const TICKS_OF_SILENCE: u64 = 24;
/// Ticks at most between two attempts for a blob that nobody had.
const TICKS_BETWEEN_FETCHES: u64 = 3;
/// Milliseconds before the second attempt; each further one waits twice as long. What was certified or
/// committed to a moment ago is elsewhere a moment later.
const RETRY_MS: u64 = 250;

/// Everything that one peer knows and wants in one run.
pub struct Run {
    pub(super) id: RunId,
    pub(super) manifest: Option<Arc<Manifest>>,
    pub(super) log: LogSet,
    pub(super) index: Index,
    /// Membership this peer asked for.
    pub(super) join: Option<Join>,
    /// The sketch that it commits to.
    pub(super) sketch: Option<Sketch>,
    /// When the creator, this peer, last called for openings.
    pub(super) called_at: Option<Instant>,
    /// The owner asked to leave.
    pub(super) leaving: bool,
    /// Verified certificates from round 0 on, without gaps.
    pub(super) chain: Vec<Certificate>,
    /// Who decided each of them.
    pub(super) committees: Vec<Committee>,
    /// Who decides the open height, once somebody asked.
    pub(super) seated: OnceCell<Committee>,
    /// Members whose contradiction of a certificate is kept, by round.
    pub(super) exposed: BTreeSet<(Round, PeerId)>,
    /// What the chain proves.
    pub(super) head: Option<Head>,
    /// The newest adapter derived or fetched here, and its round.
    pub(super) adapter: Option<(Round, Arc<Adapter>)>,
    /// What is computed of steps.
    pub(super) steps: Steps,
    /// Contribution vectors of `adapter`'s round and the adapter before, for evaluators.
    pub(super) scorable: Option<Scorable>,
    /// Blobs at hand that the current height may need.
    pub(super) blobs: BTreeMap<BlobHash, Bytes>,
    /// Updates of the last turns, for evaluators; see `public`.
    pub(super) published: BTreeMap<BlobHash, Bytes>,
    /// Blobs asked for and not here yet.
    pub(super) wanted: BTreeMap<BlobHash, Wanted>,
    /// Blobs of earlier rounds that are durable here.
    pub(super) archived: BTreeSet<BlobHash>,
    /// The height after `head`, when this peer sits in its committee.
    pub(super) height: Option<Deciding>,
    /// Whether this peer had a seat in the height before: it keeps that round's adapter for those who are
    /// drawn next, and who else would?
    pub(super) decided: bool,
    /// Consensus records of an undecided height, given back by the store.
    pub(super) replay: BTreeMap<Round, Vec<Vec<u8>>>,
    /// The own updates.
    pub(super) own: Publishing,
    /// The last round whose scoring was asked for.
    pub(super) scoring: Option<Round>,
    /// When the current height began here.
    pub(super) began: Instant,
    /// When enough had committed for the grace window to start.
    pub(super) grace: Option<Instant>,
    /// Whether half of that window is over: what trains now must end soon.
    pub(super) hurried: bool,
    /// The receipts of the open round, once they are closed here.
    pub(super) closed: Option<Closed>,
    /// After how many deadlines it was last drawn whether this peer stands in, and whether it does.
    stands_in: (u32, bool),
    pub(super) phase: Option<Phase>,
    /// Grows with everything from others that [`Run::advance`] may act on.
    pub(super) facts: u64,
    /// Receipts of the open height that may be included; a view, see `refit`.
    pub(super) fitting: Vec<Fitting>,
    /// Openings of the open height that were looked into: whether they show text of their author's own.
    pub(super) shows: BTreeMap<EntryRef, bool>,
    /// What of the open height's consensus messages was passed on, without a seat.
    pub(super) relay: Relay,
    /// Updates of the open height that arrived and are none.
    pub(super) spoiled: BTreeSet<BlobHash>,
    /// Updates of the open height that were read, and whether they are any.
    pub(super) readable: BTreeMap<BlobHash, bool>,
    /// When blocks were last asked for by name.
    pub(super) asked_blocks: Option<Instant>,
    /// The certificate that waits for entries it names.
    pub(super) awaited: Option<Awaited>,
    /// Why this peer does not follow the run: its manifest is known, and asks for too much.
    pub(super) declined: Option<Excess>,
    /// Why this peer goes no further in the run.
    pub(super) refuted: Option<Refuted>,
    /// When the own join was last flooded again.
    pub(super) repeated: Instant,
    pub(super) ticking: bool,
}

/// A derived round, kept for scoring.
pub(super) struct Scorable {
    pub(super) round: Round,
    pub(super) before: Arc<Adapter>,
    pub(super) contributions: Arc<[(PeerId, ContributionVector)]>,
}

/// An outstanding fetch.
pub(super) struct Wanted {
    pub(super) blob: BlobRef,
    pub(super) providers: Vec<PeerId>,
    /// When it is asked for again.
    due: Instant,
    /// Attempts that failed.
    failures: u32,
}

impl Wanted {
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// Nobody gave it in some seconds of asking.
    pub(super) fn is_hopeless(&self) -> bool {
        self.failures >= 5
    }
}

/// A height in the committee's hands.
pub(super) struct Deciding {
    pub(super) round: Round,
    pub(super) height: Height,
    /// Proposed values not judged yet.
    pub(super) judging: Vec<RoundValue>,
    /// What this peer chose to propose, and in which attempt, while the adapter that it leads to is computed.
    pub(super) draft: Option<(u32, Selection)>,
}

/// When a fetch that was just begun is given up, should nothing be heard of it.
fn silence(desk: &Desk) -> Instant {
    let ms = TICKS_OF_SILENCE * desk.config.tick_ms;
    desk.now.monotonic.after_ms(ms)
}

/// What outsiders may see of a run.
#[derive(Clone, Copy)]
pub struct RunView<'a>(&'a Run);

impl<'a> RunView<'a> {
    /// The run.
    pub fn id(&self) -> RunId {
        self.0.id
    }
    /// The manifest, once the creator's first block arrived.
    pub fn manifest(&self) -> Option<&'a Arc<Manifest>> {
        self.0.manifest.as_ref()
    }
    /// What the certificates prove so far.
    pub fn head(&self) -> Option<&'a Head> {
        self.0.head.as_ref()
    }
    /// The newest adapter at hand, with its round.
    pub fn adapter(&self) -> Option<&'a (Round, Arc<Adapter>)> {
        self.0.adapter.as_ref()
    }
    /// Verified certificates from round 0 on.
    pub fn chain(&self) -> &'a [Certificate] {
        &self.0.chain
    }
    /// All logs of the run.
    pub fn log(&self) -> &'a LogSet {
        &self.0.log
    }
    /// The membership that the owner asked for, if any.
    pub fn join(&self) -> Option<&'a Join> {
        self.0.join.as_ref()
    }
    /// Whether this peer's membership waits for text of its own: a member committed to all of it before.
    pub fn lacks_own_text(&self) -> bool {
        self.0.lacks_own_text()
    }
    /// What this peer is doing in the run.
    pub fn phase(&self) -> Option<Phase> {
        self.0.phase
    }
    /// Contributions for the next round that are complete here, and how many are expected.
    pub fn arrived(&self) -> (usize, usize) {
        self.0.arrived()
    }
    /// Authors drawn for the open round whose receipts arrived before receipts closed here and whose updates are here.
    pub fn timely(&self) -> impl Iterator<Item = PeerId> + 'a {
        self.0.timely().map(|(peer, _, _)| *peer)
    }
    /// Whether the closing height is certified and its adapter at hand.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished() && self.0.has_adapter()
    }
    /// What the run's manifest asks for beyond this peer's means. Nothing of the run is fetched.
    pub fn declined(&self) -> Option<&'a Excess> {
        self.0.declined.as_ref()
    }
    /// The certified value that this peer's own evidence refutes, where it stopped.
    pub fn refuted(&self) -> Option<&'a Refuted> {
        self.0.refuted.as_ref()
    }
    /// Blobs that are asked for and have not arrived.
    pub fn awaited_blobs(&self) -> usize {
        self.0.wanted.len()
    }
}

impl Run {
    pub(super) fn new(id: RunId, desk: &Desk) -> Self {
        Self {
            id,
            manifest: None,
            log: LogSet::new(desk.config.network, Scope::Run(id)),
            index: Index::default(),
            join: None,
            sketch: None,
            called_at: None,
            leaving: false,
            chain: Vec::new(),
            committees: Vec::new(),
            seated: OnceCell::new(),
            exposed: BTreeSet::new(),
            head: None,
            adapter: None,
            scorable: None,
            published: BTreeMap::new(),
            blobs: BTreeMap::new(),
            wanted: BTreeMap::new(),
            archived: BTreeSet::new(),
            height: None,
            decided: false,
            replay: BTreeMap::new(),
            own: Publishing::default(),
            steps: Steps::default(),
            scoring: None,
            began: desk.now.monotonic,
            grace: None,
            hurried: false,
            closed: None,
            stands_in: (0, false),
            phase: None,
            facts: 0,
            shows: BTreeMap::new(),
            fitting: Vec::new(),
            relay: Relay::default(),
            spoiled: BTreeSet::new(),
            readable: BTreeMap::new(),
            asked_blocks: None,
            awaited: None,
            declined: None,
            refuted: None,
            repeated: desk.now.monotonic,
            ticking: false,
        }
    }

    pub(super) fn view(&self) -> RunView<'_> {
        RunView(self)
    }

    /// The height that is open.
    pub(super) fn next(&self) -> Round {
        state::next_round(self.head.as_ref())
    }

    pub(super) fn is_finished(&self) -> bool {
        let closing = self.manifest.as_ref().map(|m| m.closing_round());
        self.head
            .as_ref()
            .is_some_and(|head| Some(head.round) == closing)
    }

    /// Whether the adapter of the newest certificate is at hand.
    pub(super) fn has_adapter(&self) -> bool {
        match (&self.head, &self.adapter) {
            (Some(head), Some((round, _))) => head.round == *round,
            _ => false,
        }
    }

    /// Whether the open height asks anything of this peer: to train, to decide or to score. Where all
    /// contributors are drawn, every member follows every step. In a larger run a member off duty
    /// follows certificates alone, so that no peer's work grows with the membership: not its own, and
    /// not that of the authors who would have to send everybody their updates.
    pub(super) fn is_on_duty(&self, desk: &Desk) -> bool {
        self.trains(desk) || self.is_finished() || self.needs_updates(desk)
    }

    /// Whether this peer is to contribute to the open round: it was drawn, or stands in for those that were.
    pub(super) fn trains(&self, desk: &Desk) -> bool {
        let drawn = |head: &Head| head.is_participant(&desk.me);
        self.head.as_ref().is_some_and(drawn) || self.stands_in.1
    }

    /// Where those that were drawn let the deadline pass, as many again may stand in for them, after two
    /// deadlines twice as many, and so on: a draw of the absent cannot stop a run. Drawn once a deadline: it
    /// takes a hash of every member.
    fn draw_stand_ins(&mut self, desk: &Desk) {
        let passed = self.deadlines_passed(desk.now.monotonic);
        let Some(head) = &self.head else { return };
        if passed == self.stands_in.0 {
            return;
        }
        let contributes = (head.roster.get(&desk.me)).is_some_and(|m| m.role.contributes());
        let drawn = head.participants.len() << passed.min(8);
        let stands_in = passed > 0
            && contributes
            && !head.is_participant(&desk.me)
            && head.first_drawn(drawn).contains(&desk.me);
        self.stands_in = (passed, stands_in);
    }

    /// At the start of a height nobody stands in for anybody.
    pub(super) fn forget_stand_ins(&mut self) {
        self.stands_in = (0, false);
    }

    /// How often the open round's deadline has passed since it began here.
    pub(super) fn deadlines_passed(&self, now: Instant) -> u32 {
        let Some(manifest) = &self.manifest else {
            return 0;
        };
        let passed = now.since_ms(self.began) / u64::from(manifest.plan.deadlines.round_ms).max(1);
        u32::try_from(passed).unwrap_or(u32::MAX)
    }

    /// Whether this peer needs the updates of others in the open height: to decide, to score, or,
    /// where all contributors are drawn, to follow.
    pub(super) fn needs_updates(&self, desk: &Desk) -> bool {
        let (Some(manifest), Some(head)) = (&self.manifest, &self.head) else {
            return true;
        };
        !head.is_sampled
            || self.height.is_some()
            || manifest.scoring.evaluators.binary_search(&desk.me).is_ok()
    }

    /// Whether this peer keeps the updates of all rounds, to check the whole run again from bytes.
    pub(super) fn archives(&self, desk: &Desk) -> bool {
        desk.config.archive && self.head.as_ref().is_some_and(|head| !head.is_sampled)
    }

    /// The value certified last.
    pub(super) fn last_value(&self) -> Option<&RoundValue> {
        self.chain.last().map(|certificate| &certificate.value)
    }

    pub(super) fn is_member(&self, peer: &PeerId) -> bool {
        (self.head.as_ref()).is_some_and(|head| head.roster.get(peer).is_some())
    }

    /// Appends to this peer's own log: signs, persists, then floods.
    pub(super) fn append(
        &mut self,
        desk: &mut Desk,
        entries: Vec<Entry>,
        mut records: Vec<Record>,
    ) {
        if self.log.is_equivocator(desk.me) {
            // Somebody else writes with this key, or its disk lost what it had said. Nothing more of this
            // log counts for anybody.
            return;
        }
        let last = self.log.last(desk.me).map(SignedBlock::head);
        let (seq, prev) = last.map_or((Seq(0), None), |head| {
            (Seq(head.seq.0 + 1), Some(head.block))
        });
        let block = Block {
            network: desk.config.network,
            author: desk.me,
            scope: Scope::Run(self.id),
            seq,
            prev,
            seen: self.seen(desk.me),
            time: desk.now.wall,
            entries,
        };
        let signed = match SignedBlock::sign(block, &desk.key) {
            Ok(signed) => signed,
            Err(why) => {
                let why = format!("an entry of this peer could not be signed: {why}");
                desk.notify(Notice::CommandFailed {
                    run: Some(self.id),
                    why,
                });
                return;
            }
        };
        let bytes = signed.bytes().to_vec();
        self.keep_own(desk, signed);
        records.push(Record::Block(bytes.clone()));
        desk.persist(records);
        desk.gossip(self.id, &crate::wire::Message::Block(bytes));
    }

    /// Heads of other logs, for the block's `seen` list: as many as fit, those after our own id first
    /// so that a large roster is covered by all authors together.
    fn seen(&self, me: PeerId) -> Vec<LogHead> {
        let others = self
            .log
            .heads()
            .into_iter()
            .filter(|head| head.author != me);
        let (mut after, before): (Vec<LogHead>, Vec<LogHead>) = others.partition(|h| h.author > me);
        after.extend(before);
        after.truncate(crate::limits::MAX_SEEN_HEADS);
        after.sort_unstable_by_key(|head| head.author);
        after
    }

    /// Asks for a blob unless it is here or on its way.
    pub(super) fn want(&mut self, desk: &mut Desk, blob: BlobRef, mut providers: Vec<PeerId>) {
        providers.retain(|peer| *peer != desk.me);
        if let Some(wanted) = self.wanted.get_mut(&blob.hash) {
            providers.retain(|peer| !wanted.providers.contains(peer));
            let is_news = !providers.is_empty();
            wanted.providers.extend(providers);
            if is_news && wanted.has_failed() {
                // Before it was put up or certified, it may have been sealed: that nobody gave it says nothing now.
                (wanted.failures, wanted.due) = (0, silence(desk));
                let providers = wanted.providers.clone();
                desk.emit(Effect::FetchBlob { blob, providers });
            }
            return;
        }
        desk.emit(Effect::FetchBlob {
            blob,
            providers: providers.clone(),
        });
        let wanted = Wanted {
            blob,
            providers,
            due: silence(desk),
            failures: 0,
        };
        self.wanted.insert(blob.hash, wanted);
    }

    /// Nobody who was asked had it: soon again, and less and less often.
    pub(super) fn on_blob_failed(&mut self, desk: &mut Desk, hash: &BlobHash) {
        let Some(wanted) = self.wanted.get_mut(hash) else {
            return;
        };
        let most = TICKS_BETWEEN_FETCHES * desk.config.tick_ms;
        let wait = (RETRY_MS << wanted.failures.min(16)).min(most);
        wanted.failures = wanted.failures.saturating_add(1);
        wanted.due = desk.now.monotonic.after_ms(wait);
        self.schedule_fetch(desk);
    }

    /// Wakes at the next attempt that is due.
    fn schedule_fetch(&self, desk: &mut Desk) {
        let failed = self.wanted.values().filter(|wanted| wanted.has_failed());
        if let Some(at) = failed.map(|wanted| wanted.due).min() {
            let timer = Timer::Fetch(self.id);
            desk.emit(Effect::SetTimer { timer, at });
        }
    }

    /// Asks again for what is due: whoever was named, and after the second failure some neighbours too.
    fn fetch_again(&mut self, desk: &mut Desk) {
        let now = desk.now.monotonic;
        let (again, neighbours) = (silence(desk), desk.draw_neighbours(2));
        for wanted in self.wanted.values_mut().filter(|w| now >= w.due) {
            wanted.due = again;
            let mut providers = wanted.providers.clone();
            if wanted.failures != 1 {
                providers.extend(neighbours.iter().filter(|p| !wanted.providers.contains(p)));
            }
            let blob = wanted.blob;
            desk.out.push(Effect::FetchBlob { blob, providers });
        }
        self.schedule_fetch(desk);
    }

    pub(super) fn on_timer(&mut self, desk: &mut Desk, timer: Timer) {
        match timer {
            _ if self.declined.is_some() => {}
            Timer::Consensus { .. } if self.refuted.is_some() => {}
            Timer::Tick(_) => self.tick(desk),
            Timer::Fetch(_) => self.fetch_again(desk),
            Timer::Consensus {
                round,
                attempt,
                step,
                ..
            } => {
                self.on_consensus_timeout(desk, round, attempt, step);
            }
            // Both only wake `advance`, which looks at the clock itself.
            Timer::RoundDeadline(..) | Timer::Grace(..) => {}
        }
    }

    /// Repeats what others may have missed and compares heads with a neighbour.
    fn tick(&mut self, desk: &mut Desk) {
        if self.refuted.is_none() && (self.manifest.is_none() || !self.is_finished()) {
            self.rebroadcast(desk);
        }
        for peer in desk.draw_neighbours(1) {
            self.open_exchange(desk, peer);
            self.repeat_strangers(desk, peer);
        }
        self.fetch_again(desk);
        self.schedule_tick(desk);
    }

    pub(super) fn schedule_tick(&mut self, desk: &mut Desk) {
        self.ticking = true;
        // A finished run only serves newcomers, once its adapter is here: it compares heads eight times
        // less often.
        let serves = self.is_finished() && self.has_adapter();
        let factor = if serves { 8 } else { 1 };
        let at = desk.now.monotonic.after_ms(desk.config.tick_ms * factor);
        desk.emit(Effect::SetTimer {
            timer: Timer::Tick(self.id),
            at,
        });
    }

    /// Does everything that the facts at hand allow. Called after every input.
    pub(super) fn advance(&mut self, desk: &mut Desk) {
        if self.declined.is_some() {
            return;
        }
        if !self.ticking {
            self.schedule_tick(desk);
        }
        if self.manifest.is_none() && !self.learn_manifest(desk) {
            return;
        }
        self.retry_awaited(desk);
        while self.refuted.is_none() && !self.steps.is_computing() {
            self.draw_stand_ins(desk);
            self.settle_adapter(desk);
            if self.refuted.is_some() || self.steps.is_computing() {
                break;
            }
            self.take_part(desk);
            self.close_receipts(desk);
            self.gather_updates(desk);
            if !self.decide(desk) {
                break;
            }
        }
        if !self.steps.is_computing() {
            self.show_phase(desk);
        }
        if cfg!(debug_assertions) {
            self.assert_invariants();
        }
    }
}
