//! A seat in the committee: what the node answers when its height asks for a value, for a judgement,
//! for a timer.

use super::Desk;
use super::run::{Deciding, Run};
use crate::beacon::Chain;
use crate::committee::Committee;
use crate::consensus::{ConsensusMessage, Height, Output, Setting};
use crate::event::{ConsensusStep, Effect, Record, Timer, Verdict};
use crate::id::{PeerId, Round};
use crate::manifest::Manifest;
use crate::reject::Rejection;
use crate::round::RoundValue;
use crate::state::{self, MissingEntry, Selection};
use crate::time::Instant;
use crate::wire::Message;

/// Milliseconds between two requests for blocks by name: an answer takes a round trip.
const ASK_EVERY_MS: u64 = 1_000;

impl Run {
    /// Takes the seat of the open height, if this peer has one: anew, or where its record ends.
    pub(super) fn sit(&mut self, desk: &mut Desk) {
        let Some(manifest) = &self.manifest else {
            return;
        };
        let round = self.next();
        let steps = self.replay.remove(&round);
        self.replay.retain(|at, _| *at > round);
        let committee = self.committee(manifest);
        if !committee.contains(&desk.me) {
            return;
        }
        let committee = committee.clone();
        let setting = Setting {
            network: desk.config.network,
            run: self.id,
            round,
            committee,
            deadlines: manifest.plan.deadlines,
        };
        let key = desk.key.clone();
        let (height, outputs) = match &steps {
            None => match Height::new(setting, key) {
                Ok(height) => (height, Vec::new()),
                Err(_) => return,
            },
            Some(steps) => match Height::restore(setting, key, steps) {
                Ok(restored) => restored,
                Err(why) => {
                    // Without its record this member could contradict itself: it stays silent.
                    desk.notify(crate::event::Notice::CommandFailed {
                        run: Some(self.id),
                        why: format!(
                            "round {round}: the record of this committee seat is damaged ({why}); \
                             this peer does not vote in this round"
                        ),
                    });
                    return;
                }
            },
        };
        self.height = Some(Deciding {
            round,
            height,
            judging: Vec::new(),
            draft: None,
        });
        self.carry_out(desk, outputs);
    }

    /// Who decides the open height. Drawn once for each: of a thousand members that is a thousand hashes.
    pub(super) fn committee(&self, manifest: &Manifest) -> &Committee {
        let draw = || state::committee(manifest, &self.id, self.head.as_ref());
        self.seated.get_or_init(draw)
    }

    /// Starts, proposes and judges as far as the facts allow. Returns whether the head moved.
    pub(super) fn decide(&mut self, desk: &mut Desk) -> bool {
        let before = self.next();
        self.start_height(desk);
        if self.next() == before {
            self.propose(desk);
        }
        if self.next() == before && !self.steps.is_computing() {
            self.judge(desk);
        }
        self.next() != before
    }

    fn start_height(&mut self, desk: &mut Desk) {
        let closed = self.is_closed(desk.now.monotonic);
        let Some(deciding) = &mut self.height else {
            return;
        };
        if deciding.height.is_started() {
            return;
        }
        // Others that already speak have closed their collection: what they propose can be judged.
        if closed || deciding.height.has_heard() {
            let outputs = deciding.height.start();
            self.carry_out(desk, outputs);
        }
    }

    fn propose(&mut self, desk: &mut Desk) {
        let Some(attempt) = self.height.as_ref().and_then(|d| d.height.wants_value()) else {
            return;
        };
        if !self.is_closed(desk.now.monotonic) {
            return;
        }
        let Some(manifest) = self.manifest.clone() else {
            return;
        };
        let drafted = self
            .height
            .as_mut()
            .and_then(|deciding| deciding.draft.take());
        let selection = match drafted {
            Some((at, selection)) if at == attempt => selection,
            _ => {
                let chain = Chain::new(&desk.key, &self.id, manifest.closing_round());
                let selection = self.choose(desk.now.monotonic, chain.link(self.next()));
                Selection {
                    attempt,
                    ..selection
                }
            }
        };
        // Not allowed to be built yet (too few contributions, adapter not at hand): the attempt times
        // out and another member proposes.
        let head = self.head.as_ref();
        let draft = state::draft(&manifest, self.id, head, selection.clone(), &self.sources());
        let Ok(draft) = draft else { return };
        let adapter = match self.stepped_to(desk, &draft) {
            Some(Ok(stepped)) => stepped.blob,
            Some(Err(_)) => return,
            None => {
                if let Some(deciding) = &mut self.height {
                    deciding.draft = Some((attempt, selection));
                }
                return;
            }
        };
        let value = state::finish(&manifest, self.head.as_ref(), draft, adapter);
        if let (Ok(value), Some(deciding)) = (value, &mut self.height) {
            let outputs = deciding.height.propose(attempt, value);
            self.carry_out(desk, outputs);
        }
    }

    fn judge(&mut self, desk: &mut Desk) {
        let Some(deciding) = &mut self.height else {
            return;
        };
        let waiting = std::mem::take(&mut deciding.judging);
        let round = deciding.round;
        for value in waiting {
            let verdict = match self.steps.is_computing() {
                true => None,
                false => self.verdict(desk, &value),
            };
            // An answer may have decided the height and opened the next one.
            let Some(deciding) = self.height.as_mut().filter(|d| d.round == round) else {
                return;
            };
            match verdict {
                Some(valid) => {
                    let outputs = deciding.height.validated(value.id(), valid);
                    self.carry_out(desk, outputs);
                }
                None => deciding.judging.push(value),
            }
        }
    }

    /// Whether a proposed value is valid; `None` while something it rests on is missing, came too late or was left out.
    fn verdict(&mut self, desk: &mut Desk, value: &RoundValue) -> Option<bool> {
        let manifest = self.manifest.clone()?;
        if state::follow(&manifest, self.id, self.head.as_ref(), value).is_err() {
            return Some(false);
        }
        if self.head.is_some() && !self.has_adapter() {
            return None;
        }
        if value
            .included
            .iter()
            .any(|i| self.spoiled.contains(&i.update.hash))
        {
            return Some(false);
        }
        self.rely_on_forked(value);
        let head = self.head.as_ref();
        let missing = state::missing(head, value, &self.sources());
        if missing.is_empty() {
            let attempt = self.height.as_ref().map_or(0, |d| d.height.attempt());
            if self.is_unfair(value, attempt) {
                return None;
            }
            let head = self.head.as_ref();
            if state::check(&manifest, head, value, &self.sources()).is_err() {
                return Some(false);
            }
            let stepped = self.stepped_to(desk, value)?;
            return Some(stepped.is_ok_and(|stepped| stepped.blob == value.adapter));
        }
        let proposers = self
            .height
            .as_ref()
            .map(|d| d.height.proposers_of(value.id()));
        let mut blocks = Vec::new();
        for lack in missing {
            match lack {
                MissingEntry::Blob(blob, author) => {
                    let others = proposers.iter().flatten().filter(|peer| **peer != author);
                    let providers = std::iter::once(&author).chain(others).copied().collect();
                    self.want(desk, blob, providers);
                }
                MissingEntry::Entry(at) => blocks.push((at.author, at.block)),
            }
        }
        self.ask_for_blocks(desk, blocks);
        None
    }

    /// Judges a proposal as if its authors had not equivocated.
    ///
    /// Whether a value is valid may depend on the value alone, never on which forks this peer has heard
    /// of: members that judge one value differently can each be locked where the others cannot follow,
    /// and the height never ends. Honest proposers leave equivocators out; a dishonest one that does not
    /// gives an equivocator nothing that it could not have had by writing one history.
    pub(super) fn rely_on_forked(&mut self, value: &RoundValue) {
        let lacking: Vec<_> = state::relied(value)
            .filter(|at| self.log.is_equivocator(at.author) && self.log.entry(at).is_none())
            .collect();
        lacking.iter().for_each(|at| self.log.certify(at));
    }

    /// Asks a neighbour for blocks that a proposal names, once a second.
    pub(super) fn ask_for_blocks(
        &mut self,
        desk: &mut Desk,
        mut blocks: Vec<(PeerId, crate::id::BlockId)>,
    ) {
        let now = desk.now.monotonic;
        let lately = |asked: Instant| now.since_ms(asked) < ASK_EVERY_MS;
        if blocks.is_empty() || self.asked_blocks.is_some_and(lately) {
            return;
        }
        self.asked_blocks = Some(now);
        blocks.sort_unstable();
        blocks.dedup();
        blocks.truncate(crate::limits::MAX_WANTED_BLOCKS);
        for peer in desk.draw_neighbours(2) {
            let blocks = blocks.clone();
            desk.send(
                peer,
                &Message::WantBlocks {
                    run: self.id,
                    blocks,
                },
            );
        }
    }

    pub(super) fn on_consensus(
        &mut self,
        desk: &mut Desk,
        from: PeerId,
        bytes: &[u8],
    ) -> Result<Verdict, Rejection> {
        let message = ConsensusMessage::decode(bytes)?;
        if self.refuted.is_some() {
            return Ok(Verdict::Ignore);
        }
        let round = message.round();
        let next = self.next();
        if round > next {
            // They are ahead: what they decided is on its way, or asked for here.
            self.open_exchange(desk, from);
            return Ok(Verdict::Ignore);
        }
        if round < next {
            // They missed a certificate.
            if message.author() == from {
                self.send_certificates(desk, from, round);
            }
            return Ok(Verdict::Ignore);
        }
        if let Some(deciding) = &mut self.height {
            let attempt = deciding.height.attempt();
            let received = deciding.height.receive(message)?;
            let moved = deciding.height.attempt() != attempt;
            self.facts += u64::from(received.fresh || moved);
            self.carry_out(desk, received.outputs);
            let fresh = received.fresh;
            return Ok(if fresh {
                Verdict::Accept
            } else {
                Verdict::Ignore
            });
        }
        self.relay_consensus(desk, &message, bytes)
    }

    /// Without a seat: pass on what a member of the committee would take.
    fn relay_consensus(
        &mut self,
        desk: &mut Desk,
        message: &ConsensusMessage,
        bytes: &[u8],
    ) -> Result<Verdict, Rejection> {
        let Some(manifest) = &self.manifest else {
            return Ok(Verdict::Ignore);
        };
        let committee =
            (self.seated).get_or_init(|| state::committee(manifest, &self.id, self.head.as_ref()));
        message.admit(committee)?;
        if !self.relay.is_worth_a_check(message, bytes, committee) {
            return Ok(Verdict::Ignore);
        }
        message.check(committee, desk.config.network)?;
        let author = message.author();
        let heard = self.relay.hear(message, bytes, committee);
        if heard.contradicts {
            let run = self.id;
            desk.notify(crate::event::Notice::Equivocation { run, author });
        }
        Ok(if heard.is_near {
            Verdict::Accept
        } else {
            Verdict::Ignore
        })
    }

    pub(super) fn on_consensus_timeout(
        &mut self,
        desk: &mut Desk,
        round: Round,
        attempt: u32,
        step: ConsensusStep,
    ) {
        if let Some(deciding) = self.height.as_mut().filter(|d| d.round == round) {
            let outputs = deciding.height.timeout(attempt, step);
            self.carry_out(desk, outputs);
        }
    }

    /// Repeats what this seat said, for members whose link lost it: flooded, and to each member by
    /// itself, because a flood that others remember is not carried again.
    pub(super) fn rebroadcast(&mut self, desk: &mut Desk) {
        let Some(deciding) = &self.height else {
            return;
        };
        let members = deciding.height.setting().committee.members();
        for bytes in deciding.height.rebroadcast() {
            let message = Message::Consensus(bytes);
            for member in members {
                desk.send(*member, &message);
            }
            desk.gossip(self.id, &message);
        }
    }

    fn carry_out(&mut self, desk: &mut Desk, outputs: Vec<Output>) {
        let Some(round) = self.height.as_ref().map(|d| d.round) else {
            return;
        };
        for output in outputs {
            match output {
                Output::Persist(bytes) => {
                    desk.persist(vec![Record::Consensus {
                        run: self.id,
                        round,
                        bytes,
                    }]);
                }
                Output::Broadcast(bytes) => desk.gossip(self.id, &Message::Consensus(bytes)),
                Output::SetTimer { attempt, step, ms } => {
                    let timer = Timer::Consensus {
                        run: self.id,
                        round,
                        attempt,
                        step,
                    };
                    let at = desk.now.monotonic.after_ms(ms);
                    desk.emit(Effect::SetTimer { timer, at });
                }
                // Asked for again by `propose`, which looks at `Height::wants_value`.
                Output::NeedValue { .. } => {}
                Output::Validate(value) => {
                    if let Some(deciding) = &mut self.height {
                        deciding.judging.push(value);
                    }
                }
                Output::Decided(certificate) => {
                    // The value was judged before it was voted for; a quorum of liars may still
                    // decide one that does not follow, which halts this run here and nowhere else.
                    if let Err(why) = self.certify(desk, certificate) {
                        desk.notify(crate::event::Notice::Refused { from: desk.me, why });
                    }
                    return;
                }
                Output::Equivocation(author) => {
                    let notice = crate::event::Notice::Equivocation {
                        run: self.id,
                        author,
                    };
                    desk.notify(notice);
                }
            }
        }
    }
}
