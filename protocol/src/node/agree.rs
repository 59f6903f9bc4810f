//! A seat in the committee: what the node answers when its height asks for a value, for a judgement,
//! for a timer.

use std::collections::BTreeSet;

use super::NodeContext;
use super::certified::Certified;
use super::known::{Known, Ledger};
use super::run::OpenRun;
use crate::beacon::Chain;
use crate::certificate::Certificate;
use crate::committee::Committee;
use crate::consensus::{ConsensusMessage, Height, Output, Setting};
use crate::event::{ConsensusStep, Effect, Notice, Record, Timer, Verdict};
use crate::id::{PeerId, Round, RunId};
use crate::reject::Rejection;
use crate::round::RoundValue;
use crate::state::{self, MissingEntry, Selection};
use crate::wire::Message;

/// This peer's seat in the open height.
pub(super) struct Seat {
    height: Height,
    /// Proposed values not judged yet.
    pub(super) judging: Vec<RoundValue>,
    /// What this peer chose to propose, and in which attempt, while the adapter that it leads to is computed.
    draft: Option<(u32, Selection)>,
}

impl Seat {
    /// Takes the seat of the open height, if this peer has one: anew, or where its record ends. Also returns what
    /// follows from the record.
    fn take(
        cx: &mut NodeContext,
        certified: &Certified,
        committee: &Committee,
        record: Option<&[Vec<u8>]>,
    ) -> Option<(Self, Vec<Output>)> {
        if !committee.contains(&cx.me) {
            return None;
        }
        let round = certified.next();
        let setting = Setting {
            network: cx.config.network,
            run: certified.id,
            round,
            committee: committee.clone(),
            deadlines: certified.manifest.plan.deadlines,
        };
        let key = cx.key.clone();
        let (height, outputs) = match record {
            None => (Height::new(setting, key).ok()?, Vec::new()),
            Some(steps) => match Height::restore(setting, key, steps) {
                Ok(restored) => restored,
                Err(why) => {
                    // Without its record this member could contradict itself: it stays silent.
                    cx.notify(Notice::CommandFailed {
                        run: Some(certified.id),
                        why: format!(
                            "round {round}: the record of this committee seat is damaged ({why}); \
                             this peer does not vote in this round"
                        ),
                    });
                    return None;
                }
            },
        };
        let seat = Self {
            height,
            judging: Vec::new(),
            draft: None,
        };
        Some((seat, outputs))
    }

    /// Members of the committee that have said nothing at this height.
    pub(super) fn silent(&self) -> Vec<PeerId> {
        let heard: BTreeSet<&PeerId> = self.height.heard().collect();
        let members = self.height.setting().committee.members().iter();
        members
            .filter(|member| !heard.contains(member))
            .copied()
            .collect()
    }

    /// Starts, where the height may be proposed here, or others have begun to: what they propose can be judged.
    fn start(&mut self, is_closed: bool) -> Vec<Output> {
        if self.height.is_started() || !(is_closed || self.height.has_heard()) {
            return Vec::new();
        }
        let outputs = self.height.start();
        assert!(self.height.is_started(), "a height starts once");
        outputs
    }

    /// Carries out what the height asks for, up to a decision, which is returned.
    fn carry_out(
        &mut self,
        cx: &mut NodeContext,
        run: RunId,
        outputs: Vec<Output>,
    ) -> Option<Certificate> {
        let round = self.height.setting().round;
        for output in outputs {
            match output {
                Output::Persist(bytes) => {
                    cx.persist(vec![Record::Consensus { run, round, bytes }]);
                }
                Output::Broadcast(bytes) => cx.gossip(run, &Message::Consensus(bytes)),
                Output::SetTimer { attempt, step, ms } => {
                    let timer = Timer::Consensus {
                        run,
                        round,
                        attempt,
                        step,
                    };
                    let at = cx.now.monotonic.after_ms(ms);
                    cx.emit(Effect::SetTimer { timer, at });
                }
                // Asked for again by `propose`, which looks at `Height::wants_value`.
                Output::NeedValue { .. } => {}
                Output::Validate(value) => self.judging.push(value),
                Output::Decided(certificate) => {
                    assert_eq!(certificate.round(), round, "a seat decides its height");
                    return Some(certificate);
                }
                Output::Equivocation(author) => cx.notify(Notice::Equivocation { run, author }),
            }
        }
        None
    }

    /// Repeats what this seat said, for members whose link lost it: flooded, and to each member by
    /// itself, because a flood that others remember is not carried again.
    pub(super) fn rebroadcast(&self, cx: &mut NodeContext, run: RunId) {
        let members = self.height.setting().committee.members();
        for bytes in self.height.rebroadcast() {
            let message = Message::Consensus(bytes);
            for member in members {
                cx.send(*member, &message);
            }
            cx.gossip(run, &message);
        }
    }

    /// Asserts that the seat is of the height of this round.
    pub(super) fn assert_invariants(&self, open: Round) {
        let setting = self.height.setting();
        assert_eq!(setting.round, open, "a seat decides the open height");
        assert!(
            self.judging.iter().all(|value| value.round == open),
            "only values of the open height are judged"
        );
        assert!(
            (self.draft.iter()).all(|(attempt, selection)| selection.attempt == *attempt),
            "a draft is of its attempt"
        );
        assert!(
            self.draft.is_none() || self.height.is_started(),
            "only a height that has started is proposed"
        );
    }
}

impl OpenRun {
    /// Takes this peer's seat in the open height, and does what its record leads to.
    pub(super) fn sit(&mut self, cx: &mut NodeContext, ledger: &mut Ledger) {
        let round = self.height.round;
        let record = self.replay.remove(&round);
        self.replay.retain(|at, _| *at > round);
        if record.is_none() && self.is_silenced(cx) {
            return;
        }
        let committee = self.height.committee(&self.certified);
        let taken = Seat::take(cx, &self.certified, committee, record.as_deref());
        let Some((seat, outputs)) = taken else {
            return;
        };
        self.height.seat = Some(seat);
        self.carry_out(cx, ledger, outputs);
    }

    /// Starts, proposes and judges as far as the facts allow. Returns whether the head moved.
    pub(super) fn decide(&mut self, cx: &mut NodeContext, ledger: &mut Ledger) -> bool {
        let before = self.height.round;
        self.start_deciding(cx, ledger);
        if self.height.round == before {
            self.propose(cx, ledger);
        }
        if self.height.round == before && !self.settling.steps.is_computing() {
            self.judge(cx, ledger);
        }
        self.height.round != before
    }

    fn start_deciding(&mut self, cx: &mut NodeContext, ledger: &mut Ledger) {
        let known = Known::new(&self.certified, ledger);
        let is_closed = self.height.is_closed(known, cx.now.monotonic);
        if let Some(seat) = &mut self.height.seat {
            let outputs = seat.start(is_closed);
            self.carry_out(cx, ledger, outputs);
        }
    }

    fn propose(&mut self, cx: &mut NodeContext, ledger: &mut Ledger) {
        assert!(
            !self.settling.steps.is_computing(),
            "nothing is proposed while a step is computed"
        );
        let now = cx.now.monotonic;
        let known = Known::new(&self.certified, ledger);
        let seat = self.height.seat.as_ref();
        let Some(attempt) = seat.and_then(|seat| seat.height.wants_value()) else {
            return;
        };
        if !self.height.is_closed(known, now) {
            return;
        }
        let drafted = self.height.seat.as_mut().and_then(|seat| seat.draft.take());
        let selection = match drafted {
            Some((at, selection)) if at == attempt => selection,
            _ => {
                let closing = known.manifest().closing_round();
                let link = Chain::new(&cx.key, &known.id(), closing).link(self.height.round);
                let selection = self.height.choose(known, now, link);
                Selection {
                    attempt,
                    ..selection
                }
            }
        };
        let Some(seat) = &mut self.height.seat else {
            return;
        };
        // Not allowed to be built yet (too few contributions, adapter not at hand): the attempt times
        // out and another member proposes.
        let (manifest, head) = (known.manifest(), known.head());
        let sources = self.settling.evidence(known);
        let draft = state::draft(manifest, known.id(), head, selection.clone(), &sources);
        let Ok(draft) = draft else { return };
        let adapter = match self.settling.step_outcome(cx, known, &draft) {
            Some(Ok(stepped)) => stepped.blob,
            Some(Err(_)) => return,
            None => {
                assert!(seat.draft.is_none(), "one draft at a time");
                seat.draft = Some((attempt, selection));
                return;
            }
        };
        if let Ok(value) = state::finish(manifest, head, draft, adapter) {
            assert_eq!(
                value.round, self.height.round,
                "the open height is proposed"
            );
            assert_eq!(value.attempt, attempt, "a value is of its attempt");
            let outputs = seat.height.propose(attempt, value);
            self.carry_out(cx, ledger, outputs);
        }
    }

    fn judge(&mut self, cx: &mut NodeContext, ledger: &mut Ledger) {
        let round = self.height.round;
        let Some(seat) = &mut self.height.seat else {
            return;
        };
        for value in std::mem::take(&mut seat.judging) {
            let verdict = match self.settling.steps.is_computing() {
                true => None,
                false => self.verdict(cx, ledger, &value),
            };
            // An answer may have decided the height and opened the next one.
            if self.height.round != round {
                return;
            }
            let seat = self.height.seat.as_mut();
            let seat = seat.expect("a seat is kept as long as its height");
            match verdict {
                Some(valid) => {
                    let outputs = seat.height.validated(value.id(), valid);
                    self.carry_out(cx, ledger, outputs);
                }
                None => seat.judging.push(value),
            }
        }
    }

    /// Whether a proposed value is valid; `None` while something it rests on is missing, came too late or was left out.
    fn verdict(
        &mut self,
        cx: &mut NodeContext,
        ledger: &mut Ledger,
        value: &RoundValue,
    ) -> Option<bool> {
        let Ok(after) = self.certified.follow(value) else {
            return Some(false);
        };
        assert_eq!(value.round, self.height.round, "the open height is judged");
        let is_seen =
            (value.anchor.iter()).all(|anchor| ledger.chain.supports(anchor, &after.roster));
        if !is_seen && !self.height.seat.as_ref()?.height.has_polka(value.id()) {
            return None;
        }
        let head = self.certified.head();
        if head.is_some() && !self.settling.has_adapter(&self.certified) {
            return None;
        }
        let mut updates = value.included.iter().map(|i| i.update.hash);
        if updates.any(|hash| self.height.receipts.is_spoiled(&hash)) {
            return Some(false);
        }
        ledger.rely_on_forked(value);
        let known = Known::new(&self.certified, ledger);
        let sources = self.settling.evidence(known);
        let missing = state::missing(head, value, &sources);
        let seat = self.height.seat.as_ref()?;
        if missing.is_empty() {
            if self.height.is_unfair(known, value, seat.height.attempt()) {
                return None;
            }
            if state::check(known.manifest(), head, value, &sources).is_err() {
                return Some(false);
            }
            let stepped = self.settling.step_outcome(cx, known, value)?;
            return Some(stepped.is_ok_and(|stepped| stepped.blob == value.adapter));
        }
        let proposers = seat.height.proposers_of(value.id());
        let mut blocks = Vec::new();
        for lack in missing {
            match lack {
                MissingEntry::Blob(blob, author) => {
                    let others = proposers.iter().filter(|peer| **peer != author);
                    let providers = std::iter::once(&author).chain(others).copied().collect();
                    ledger.want(cx, blob, providers);
                }
                MissingEntry::Entry(at) => blocks.push((at.author, at.block)),
            }
        }
        ledger.ask_for_blocks(cx, blocks);
        None
    }

    /// A message of the open height.
    pub(super) fn on_consensus(
        &mut self,
        cx: &mut NodeContext,
        ledger: &mut Ledger,
        message: ConsensusMessage,
        bytes: &[u8],
    ) -> Result<Verdict, Rejection> {
        let Some(seat) = &mut self.height.seat else {
            return self.height.relay(cx, &self.certified, &message, bytes);
        };
        let attempt = seat.height.attempt();
        let received = seat.height.receive(message)?;
        let moved = seat.height.attempt() != attempt;
        ledger.changes_seen += u64::from(received.fresh || moved);
        self.carry_out(cx, ledger, received.outputs);
        Ok(match received.fresh {
            true => Verdict::Accept,
            false => Verdict::Ignore,
        })
    }

    pub(super) fn on_consensus_timeout(
        &mut self,
        cx: &mut NodeContext,
        ledger: &mut Ledger,
        (round, attempt): (Round, u32),
        step: ConsensusStep,
    ) {
        if self.height.round != round {
            return;
        }
        if let Some(seat) = &mut self.height.seat {
            let outputs = seat.height.timeout(attempt, step);
            self.carry_out(cx, ledger, outputs);
        }
    }

    fn carry_out(&mut self, cx: &mut NodeContext, ledger: &mut Ledger, outputs: Vec<Output>) {
        let run = self.certified.id;
        let Some(seat) = &mut self.height.seat else {
            return;
        };
        // The value was judged before it was voted for; a quorum of liars may still
        // decide one that does not follow, which halts this run here and nowhere else.
        if let Some(certificate) = seat.carry_out(cx, run, outputs)
            && let Err(why) = self.certify(cx, ledger, certificate)
        {
            cx.notify(Notice::Refused { from: cx.me, why });
        }
    }
}
